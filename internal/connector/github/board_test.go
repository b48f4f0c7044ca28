package github

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// boardWorld is a board with three issues; one is of a repository that is not
// read, and there is another board.
func boardWorld(opts FakeOptions) (f *Fake, api, web, other string) {
	opts.Token = testToken
	f = NewFake(opts)
	for _, repo := range []string{"acme/api", "acme/web", "acme/other"} {
		f.AddRepo(repo)
	}
	f.AddProject("acme", 3, "Todo", "Doing", "Done")
	f.AddProject("acme", 4, "Todo", "Elsewhere")
	api = f.Create(fakeDay(1), "acme/api", "One", CreateOptions{})
	web = f.Create(fakeDay(1), "acme/web", "Two", CreateOptions{})
	other = f.Create(fakeDay(1), "acme/other", "Not read", CreateOptions{})
	return f, api, web, other
}

func optionID(f *Fake, name string) string { return f.boards[0].option(name).id }

func nodesOf(f *Fake, ids ...string) (page []issue) {
	for _, id := range ids {
		page = append(page, issue{NodeID: f.Node(id)})
	}
	return page
}

func TestBoardHistory(t *testing.T) {
	f, api, web, other := boardWorld(FakeOptions{})
	f.SetStatus(fakeDay(2), api, "Todo", true)
	f.SetStatusOn(fakeDay(2), 4, api, "Elsewhere", true)
	f.SetStatus(fakeDay(3), api, "Doing", true)
	f.SetStatus(fakeDay(3), api, "Todo", true) // in the same second
	f.SetStatus(fakeDay(4), api, "", true)
	f.SetStatus(fakeDay(5), web, "Doing", true)
	f.SetStatus(fakeDay(5), other, "Doing", true)
	f.RenameStatus("Doing", "In Progress")
	s, d := talk(t, f)
	changes, err := s.boardHistory(t.Context(), nodesOf(f, api, web, other))
	if err != nil {
		t.Fatal(err)
	}
	valid(t, changes)
	todo := optionID(f, "Todo")
	want := []string{
		"acme/api#1 03-02T09:00:00 STATUS >Todo", "acme/api#1 03-03T09:00:00 STATUS Todo>Doing",
		"acme/api#1 03-03T09:00:00 STATUS Doing>Todo", "acme/api#1 03-04T09:00:00 STATUS Todo>", "acme/web#1 03-05T09:00:00 STATUS >Doing",
	}
	if diff := cmp.Diff(want, lines(changes)); diff != "" {
		t.Error(diff)
	}
	if c := changes[0]; c.Fields[0].To.ID != todo || c.Sequence != 0 || !strings.HasPrefix(c.ID, api+":") || c.Item != api {
		t.Errorf("the first change is %+v", c)
	}
	if c := changes[1]; c.Fields[0].To.ID != "" || c.Fields[0].From.ID != todo || c.Sequence != 0 {
		t.Errorf("the change to a status that was renamed is %+v", c)
	}
	if changes[2].Sequence != 1 || changes[3].Sequence != 0 {
		t.Errorf("moves of one second have the sequences %d and %d", changes[1].Sequence, changes[2].Sequence)
	}
	if n := d.count("BoardHistory"); n != 1 {
		t.Errorf("asked %d times", n)
	}
	again, err := s.boardHistory(t.Context(), nodesOf(f, api, web, other))
	if diff := cmp.Diff(changes, again); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// A status that the board got meanwhile is found by its id as well.
func TestBoardHistoryKnowsNewStatuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, api, _, _ := boardWorld(FakeOptions{})
		f.SetStatus(fakeDay(2), api, "Todo", true)
		s, d := talk(t, f)
		read := func() []flow.Change {
			changes, err := s.boardHistory(t.Context(), nodesOf(f, api))
			if err != nil {
				t.Fatal(err)
			}
			return changes
		}
		read()
		f.RenameStatus("Doing", "Building")
		f.SetStatus(fakeDay(3), api, "Building", true)
		time.Sleep(2 * time.Minute)
		if c := read()[1]; c.Fields[0].To.ID != optionID(f, "Building") {
			t.Errorf("the new status is %+v", c.Fields[0].To)
		}
		if n := d.count("ProjectStatuses"); n != 2 {
			t.Errorf("asked %d times for the board", n)
		}
		read()
		if n := d.count("ProjectStatuses"); n != 0 {
			t.Errorf("asked %d times for a board that is known", n)
		}
	})
}

func TestBoardHistoryWhereThereIsNone(t *testing.T) {
	f, api, _, _ := boardWorld(FakeOptions{NoTimelineStatus: true})
	f.SetStatus(fakeDay(2), api, "Todo", true)
	s, d := talk(t, f)
	for range 3 {
		if changes, err := s.boardHistory(t.Context(), nodesOf(f, api)); err != nil || len(changes) != 0 {
			t.Errorf("got %v, %v", changes, err)
		}
	}
	if n := d.count("BoardHistory"); n != 1 {
		t.Errorf("asked %d times", n)
	}
	without, d := talk(t, f, func(c *Config) { c.Project = connector.Project{} })
	if changes, err := without.boardHistory(t.Context(), nodesOf(f, api)); err != nil || len(changes) != 0 {
		t.Errorf("without a project: %v, %v", changes, err)
	}
	if n := d.count("BoardHistory"); n != 0 {
		t.Errorf("asked %d times without a project", n)
	}
}

func TestProjectIsChecked(t *testing.T) {
	f, _, _, _ := boardWorld(FakeOptions{})
	s, _ := talk(t, f)
	if err := s.checkProject(t.Context()); err != nil {
		t.Error(err)
	}
	statuses, err := s.projectStatuses(t.Context())
	want := []flow.Value{{ID: optionID(f, "Todo"), Name: "Todo"}, {ID: optionID(f, "Doing"), Name: "Doing"}, {ID: optionID(f, "Done"), Name: "Done"}}
	if diff := cmp.Diff(want, statuses); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for name, test := range map[string]struct {
		opts    FakeOptions
		project connector.Project
		says    string
		is      func(error) bool
	}{
		"another number":  {project: connector.Project{Owner: "acme", Number: 99}, says: "project acme/99 does not exist", is: isError[*connector.ConfigError]},
		"another owner":   {project: connector.Project{Owner: "none", Number: 3}, says: "project none/3 does not exist", is: isError[*connector.ConfigError]},
		"no GraphQL":      {opts: FakeOptions{NoGraphQL: true}, says: "has no projects", is: isError[*connector.ConfigError]},
		"a missing scope": {opts: FakeOptions{Scopes: "repo"}, says: "lacks the scope read:project", is: isError[*connector.AuthError]},
		"a limit":         {opts: FakeOptions{LimitEvery: 1}, says: "rate limited", is: isError[*connector.RateLimitError]},
	} {
		f, _, _, _ := boardWorld(test.opts)
		s, _ := talk(t, f, func(c *Config) {
			if test.project.Number > 0 {
				c.Project = test.project
			}
		})
		err := s.checkProject(t.Context())
		if err == nil || !test.is(err) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := s.Observe(t.Context(), func(connector.Observation) {}); err == nil || !test.is(err) {
			t.Errorf("%s: observing gave %v", name, err)
		}
	}
	noField := says(200, "application/json", `{"data":{"repositoryOwner":{"projectV2":{"id":"PVT_1","field":null}}}}`)
	s, _ = talk(t, noField)
	if err := s.checkProject(t.Context()); !isError[*connector.ConfigError](err) || !strings.Contains(err.Error(), "no field Status") {
		t.Errorf("a board without the field gave %v", err)
	}
}

// observe returns what is seen now.
func observe(t testing.TB, s *Source) map[string]connector.Observation {
	t.Helper()
	seen := map[string]connector.Observation{}
	if err := s.Observe(t.Context(), func(o connector.Observation) { seen[o.ID] = o }); err != nil {
		t.Fatal(err)
	}
	return seen
}

func TestObserve(t *testing.T) {
	f, api, web, other := boardWorld(FakeOptions{})
	f.SetStatus(fakeDay(2), api, "Todo", false)
	f.SetStatus(fakeDay(3), api, "Doing", false)
	f.SetStatus(fakeDay(3), web, "Todo", false)
	f.SetStatus(fakeDay(4), web, "", false)
	f.SetStatus(fakeDay(4), other, "Doing", false)
	s, _ := talk(t, f)
	want := map[string]connector.Observation{
		api: {Item: connector.Item{ID: api, Key: "acme/api#1", Container: "acme/api", Status: flow.Value{ID: optionID(f, "Doing"), Name: "Doing"}}, At: fakeDay(3)},
		web: {Item: connector.Item{ID: web, Key: "acme/web#1", Container: "acme/web"}, At: fakeDay(4)},
	}
	if diff := cmp.Diff(want, observe(t, s)); diff != "" {
		t.Error(diff)
	}
	without, d := talk(t, f, func(c *Config) { c.Project = connector.Project{} })
	if seen := observe(t, without); len(seen) > 0 || d.count("ProjectItems") > 0 {
		t.Errorf("without a project it saw %v", seen)
	}
}

// On a board whose field Status is gone or has another name nothing says that the
// issues have no status.
func TestObserveWithoutTheField(t *testing.T) {
	const answer = `{"data":{"repositoryOwner":{"projectV2":{"field":%s,"items":{"nodes":[{"id":"a","updatedAt":"2026-03-02T09:00:00Z",` +
		`"content":{"__typename":"Issue","fullDatabaseId":"501","number":1,"repository":{"nameWithOwner":"acme/api"}},` +
		`"fieldValueByName":null}],"pageInfo":{"hasNextPage":false,"endCursor":null}}}}}}`
	for field, want := range map[string]int{"null": 0, "{}": 0, `{"id":"PVTSSF_1"}`: 1} {
		s, _ := talk(t, says(200, "application/json", fmt.Sprintf(answer, field)))
		if seen := observe(t, s); len(seen) != want {
			t.Errorf("with the field %s it saw %v", field, seen)
		}
	}
}

func TestWhatIsNoIssueIsNotSeen(t *testing.T) {
	items := `{"id":"a","content":{"__typename":"DraftIssue"},"fieldValueByName":{"optionId":"1","name":"Todo"}},` +
		`{"id":"b","content":{"__typename":"PullRequest"},"fieldValueByName":null},{"id":"c","content":null},null,` +
		`{"id":"d","content":{"__typename":"Issue","fullDatabaseId":null,"number":1,"repository":{"nameWithOwner":"acme/api"}}}`
	s, _ := talk(t, says(200, "application/json",
		`{"data":{"repositoryOwner":{"projectV2":{"items":{"nodes":[`+items+`],"pageInfo":{"hasNextPage":false,"endCursor":null}}}}}}`))
	if seen := observe(t, s); len(seen) > 0 {
		t.Errorf("saw %v", seen)
	}
}

// A listing costs a quarter of a minute a page, at least a minute; a long one is
// read in parts.
func TestObservePaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, api, _, _ := boardWorld(FakeOptions{PageSize: 2})
		f.SetStatus(fakeDay(2), api, "Todo", false)
		s, d := talk(t, f)
		passes := func(wait time.Duration, requests int) {
			t.Helper()
			time.Sleep(wait)
			observe(t, s)
			if n := d.count("ProjectItems"); n != requests {
				t.Errorf("%d requests, want %d", n, requests)
			}
		}
		passes(0, 1)
		passes(59*time.Second, 0)
		passes(time.Second, 1)
		for range 51 { // 52 items on pages of 2: 26 pages
			f.SetStatus(fakeDay(3), f.Create(fakeDay(3), "acme/api", "More", CreateOptions{}), "Todo", false)
		}
		passes(time.Minute, 20)
		passes(0, 6)
		passes(389*time.Second, 0)
		time.Sleep(time.Second)
		if seen := observe(t, s); len(seen) != 40 {
			t.Errorf("a part of the listing holds %d items", len(seen))
		}
		if seen := observe(t, s); len(seen) != 12 {
			t.Errorf("the rest of the listing holds %d items", len(seen))
		}
		if seen := observe(t, s); len(seen) != 0 {
			t.Errorf("a listing that is complete goes on with %d items", len(seen))
		}
	})
}

// A listing that was cut short by a limit goes on where it stopped.
func TestObserveGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, _, _ := boardWorld(FakeOptions{PageSize: 1, LimitEvery: 4})
		for range 12 {
			f.SetStatus(fakeDay(3), f.Create(fakeDay(3), "acme/api", "More", CreateOptions{}), "Todo", false)
		}
		s, d := talk(t, f)
		seen := map[string]bool{}
		limits := 0
		for range 20 {
			err := s.Observe(t.Context(), func(o connector.Observation) { seen[o.ID] = true })
			if err == nil {
				break
			}
			if !isError[*connector.RateLimitError](err) {
				t.Fatal(err)
			}
			limits++
			time.Sleep(2 * time.Minute)
		}
		if n := d.count("ProjectItems"); len(seen) != 12 || limits == 0 || n > 12+limits {
			t.Errorf("saw %d items with %d requests and %d limits", len(seen), n, limits)
		}
	})
}

// A place in the listing that GitHub has forgotten means beginning again.
func TestObserveBeginsAgain(t *testing.T) {
	s, d := talk(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(string(text), "forgotten") {
			fmt.Fprint(w, `{"data":null,"errors":[{"type":"INVALID_CURSOR_ARGUMENTS","message":"no such cursor"}]}`)
			return
		}
		fmt.Fprint(w, `{"data":{"repositoryOwner":{"projectV2":{"items":{"nodes":[],"pageInfo":{"hasNextPage":true,"endCursor":"forgotten"}}}}}}`)
	}))
	for range 2 {
		if err := s.Observe(t.Context(), func(connector.Observation) {}); err == nil {
			t.Error("an unknown place is no error")
		}
	}
	if n := d.count("ProjectItems"); n != 4 {
		t.Errorf("asked %d times, want from the beginning twice", n)
	}
}

// The same move is told by whichever place comes first.
func TestMovesAreToldOnce(t *testing.T) {
	now := time.Now()
	value := func(name string) flow.Value { return flow.Value{ID: "id-" + name, Name: name} }
	type step struct {
		by   origin
		id   string
		to   flow.Value
		at   time.Duration
		want bool // told already
	}
	for name, steps := range map[string][]step{
		"webhook, then timeline, again and again": {
			{fromWebhook, "w1", value("A"), 0, false}, {fromTimeline, "t1", value("A"), time.Second, true},
			{fromTimeline, "t1", value("A"), time.Second, true}, {fromWebhook, "w1", value("A"), 0, false}, {fromTimeline, "t2", value("A"), 2 * time.Second, false},
		},
		"timeline, then webhook": {{fromTimeline, "t1", value("A"), 0, false}, {fromWebhook, "w1", value("A"), -time.Second, true}},
		"a snapshot of before":   {{fromWebhook, "w1", value("B"), 0, false}, {fromNow, "n1", value("A"), -time.Minute, false}, {fromTimeline, "t1", value("A"), -time.Minute, false}},
		"snapshots, then both":   {{fromNow, "n1", value("A"), 0, false}, {fromNow, "n1", value("A"), 0, false}, {fromWebhook, "w1", value("A"), 0, true}, {fromTimeline, "t1", value("A"), 0, true}},
		"by name where an id is missing": {
			{fromWebhook, "w1", value("A"), 0, false}, {fromTimeline, "t1", flow.Value{Name: "A"}, 0, true},
		},
		"there and back within seconds": {
			{fromWebhook, "w1", value("A"), 0, false}, {fromWebhook, "w2", value("B"), time.Second, false}, {fromWebhook, "w3", value("A"), 2 * time.Second, false},
			{fromTimeline, "t1", value("A"), 0, true}, {fromTimeline, "t2", value("B"), time.Second, true}, {fromTimeline, "t3", value("A"), 2 * time.Second, true},
			{fromTimeline, "t4", value("A"), 3 * time.Second, false},
		},
		"another status":   {{fromWebhook, "w1", value("A"), 0, false}, {fromTimeline, "t1", value("B"), 0, false}},
		"the same again":   {{fromWebhook, "w1", value("A"), 0, false}, {fromTimeline, "t1", value("A"), 6 * time.Second, false}},
		"of another place": {{fromWebhook, "w1", value("A"), 0, false}, {fromWebhook, "w2", value("A"), time.Second, false}},
		"long ago":         {{fromWebhook, "w1", value("A"), -25 * time.Hour, false}, {fromTimeline, "t1", value("A"), -25 * time.Hour, false}},
	} {
		var m moves
		for k, st := range steps {
			c := flow.Change{ID: st.id, Item: "7", At: now.Add(st.at), Fields: []flow.FieldChange{{Field: flow.FieldStatus, To: st.to}}}
			if got := m.told(&c, st.by); got != st.want {
				t.Errorf("%s, step %d: told already is %t", name, k, got)
			}
			c.Item = "8"
			if k == 0 && m.told(&c, st.by) {
				t.Errorf("%s: another item's move counts", name)
			}
		}
	}
}

func TestMovesAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m moves
		tell := func(item string) {
			c := flow.Change{ID: item + time.Now().String(), Item: item, At: time.Now(), Fields: []flow.FieldChange{{}}}
			m.told(&c, fromWebhook)
		}
		for range 100 {
			tell("7")
			time.Sleep(time.Hour)
		}
		if n := len(m.byItem["7"]); n > 25 {
			t.Errorf("%d moves of one item are kept", n)
		}
		for k := range maxMoves + 10 {
			tell(fmt.Sprint(k))
		}
		if len(m.byItem) > maxMoves || m.count > maxMoves {
			t.Errorf("%d moves are kept", m.count)
		}
	})
}
