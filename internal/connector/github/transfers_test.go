package github

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// places returns where each change is and what moved, in the order of the facts.
func places(changes []flow.Change) (lines []string) {
	slices.SortStableFunc(changes, func(a, b flow.Change) int {
		if d := a.At.Compare(b.At); d != 0 {
			return d
		}
		return int(a.Sequence - b.Sequence)
	})
	for _, c := range changes {
		what := c.Kind.String()
		for _, f := range c.Fields {
			if what = f.Field.String(); f.Field == flow.FieldContainer {
				what += fmt.Sprintf(" %s>%s", f.From.Name, f.To.Name)
			}
		}
		lines = append(lines, fmt.Sprintf("%s %s %s", c.At.Format("02T15"), c.Container, what))
	}
	return lines
}

// emitted returns what a poll from the beginning tells of an item.
func emitted(t testing.TB, s *Source, item string) (changes []flow.Change) {
	t.Helper()
	if err := s.Poll(t.Context(), nil, func(b connector.Batch) error {
		for _, c := range b.Changes {
			if c.Item == item {
				changes = append(changes, c)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return changes
}

// Each fact of an issue is of the repository that had it at the time, one that is
// not read included, whichever way it is read. What a pull request and the board
// tell is no exception. Where nothing tells from where it came, all is of where it
// is now.
func TestFormerRepositories(t *testing.T) {
	f := NewFake(FakeOptions{Token: testToken})
	for _, repo := range []string{"acme/api", "acme/web", "acme/old"} {
		f.AddRepo(repo)
		f.AddLabel(repo, "bug")
	}
	f.AddProject("acme", 3, "Todo", "Doing")
	id := f.Create(fakeDay(1), "acme/old", "One", CreateOptions{})
	f.Label(fakeDay(2), id, "bug")
	pull := f.OpenPull(fakeDay(3), "acme/api", []string{id}, nil)
	f.SetStatus(fakeDay(4), id, "Doing", true)
	id = f.Transfer(fakeDay(5), id, "acme/api")
	f.Unlabel(fakeDay(5), id, "bug") // in the same second
	f.RequestReview(fakeDay(6), pull)
	id = f.Transfer(fakeDay(7), id, "acme/web")
	f.Close(fakeDay(8), id, "completed")
	other := f.Create(fakeDay(8), "acme/web", "Stays", CreateOptions{})

	s, d := talk(t, f)
	want := []string{
		"01T09 acme/old STATE", "02T09 acme/old LABEL", "03T09 acme/old PULL_REQUEST", "04T09 acme/old STATUS",
		"05T09 acme/api CONTAINER acme/old>acme/api", "05T09 acme/api LABEL", "06T09 acme/api PULL_REQUEST",
		"07T09 acme/web CONTAINER acme/api>acme/web", "08T09 acme/web STATE",
	}
	changes := emitted(t, s, id)
	valid(t, changes)
	if diff := cmp.Diff(want, places(changes)); diff != "" {
		t.Error(diff)
	}
	if n := d.count("Transfers"); n != 2 {
		t.Errorf("asked %d times for the transfers, want once for the pull request and once for the issue", n)
	}
	whole := map[string]flow.Change{}
	for _, c := range changes {
		whole[c.ID] = c
	}
	again := 0
	hints := []string{f.Key(id), "acme/api" + pullMark + f.pull(pull).node()}
	if err := s.Refetch(t.Context(), hints, func(b connector.Batch) error {
		for _, c := range b.Changes {
			again++
			if diff := cmp.Diff(whole[c.ID], c); diff != "" {
				t.Errorf("read again (-poll +single):\n%s", diff)
			}
		}
		return nil
	}); err != nil || again != len(want)-1 { // the board tells of its moves in a poll alone
		t.Errorf("%d changes again, %v", again, err)
	}
	if o := observe(t, s)[id]; o.Container != "acme/old" || o.Status.Name != "Doing" {
		t.Errorf("seen on the board: %+v", o)
	}
	f.SetStatus(fakeDay(8), id, "Todo", false)
	if o := observe(t, func() *Source { s, _ := talk(t, f); return s }())[id]; o.Container != "acme/web" || o.Status.Name != "Todo" {
		t.Errorf("seen on the board: %+v", o)
	}
	d.count("")
	if _, err := s.readIssue(t.Context(), "acme/web", 2, maxPageSize); err != nil || d.count("Transfers") != 0 {
		t.Errorf("asked for the transfers of %s, which stayed (%v)", f.Key(other), err)
	}

	f.opts.NoGraphQL = true
	s, _ = talk(t, f, func(c *Config) { c.Project = connector.Project{} })
	for _, line := range places(emitted(t, s, id)) {
		if !strings.Contains(line, " acme/web ") || strings.Contains(line, "CONTAINER") && !strings.HasSuffix(line, " >acme/web") {
			t.Errorf("without GraphQL: %s", line)
		}
	}
}

// While GraphQL fails to tell from where an issue came, the poll fails and does
// not guess; a repository that is out of sight is none.
func TestTransfersFail(t *testing.T) {
	f := NewFake(FakeOptions{Token: testToken})
	f.AddRepo("acme/api")
	f.AddRepo("acme/old")
	id := f.Transfer(fakeDay(2), f.Create(fakeDay(1), "acme/old", "One", CreateOptions{}), "acme/api")
	answer := `{"errors":[{"message":"Something went wrong"}]}`
	s, _ := talk(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			f.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, answer)
	}), func(c *Config) { c.Repos, c.Project = []string{"acme/api"}, connector.Project{} })
	if err := s.Poll(t.Context(), nil, func(connector.Batch) error { t.Error("emitted"); return nil }); err == nil {
		t.Error("no error")
	}
	answer = fmt.Sprintf(`{"data":{"nodes":[{"id":"x","fullDatabaseId":%q,"timelineItems":{"nodes":[{"createdAt":%q,"fromRepository":null}]}}]}}`,
		id, fakeDay(2).Format(time.RFC3339))
	want := []string{"01T09 acme/api STATE", "02T09 acme/api CONTAINER >acme/api"}
	if diff := cmp.Diff(want, places(emitted(t, s, id))); diff != "" {
		t.Error(diff)
	}
}

// What a census misses is traced by the address that it had.
func TestTrace(t *testing.T) {
	f := NewFake(FakeOptions{Token: testToken, WebhookSecret: testSecret})
	for _, repo := range []string{"acme/api", "acme/web", "acme/old", "acme/renamed"} {
		f.AddRepo(repo)
	}
	create := func() (connector.Item, string) {
		id := f.Create(fakeDay(1), "acme/api", "One", CreateOptions{})
		return connector.Item{ID: id, Key: f.Key(id), Container: "acme/api"}, id
	}
	moved, id := create()
	to := f.Transfer(fakeDay(2), id, "acme/web")
	twice, id := create()
	end := f.Transfer(fakeDay(3), f.Transfer(fakeDay(2), id, "acme/old"), "acme/renamed")
	f.RenameRepo("acme/renamed", "acme/new")
	away, id := create()
	f.Transfer(fakeDay(2), id, "acme/old")
	deleted, id := create()
	f.Delete(fakeDay(2), id)
	there, _ := create()

	status := 0
	s, _ := talk(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status == 0 {
			f.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Location", "https://elsewhere.example/repos/acme/web/issues/1")
		w.WriteHeader(status)
	}), func(c *Config) { c.Repos = append(c.Repos, "acme/renamed") })
	if err := s.Census(t.Context(), func(connector.Item) {}); err != nil { // which learns the new name
		t.Fatal(err)
	}
	alias := func(item connector.Item, to string) string {
		return item.ID + ":transferred UPDATED " + item.Key + " > github-main/" + to
	}
	for name, test := range map[string]struct {
		item  connector.Item
		want  string
		fails bool
	}{
		"transferred":                        {moved, alias(moved, to), false},
		"transferred twice, to another name": {twice, alias(twice, end), false},
		"transferred out of sight":           {away, "", false},
		"deleted":                            {deleted, "", false},
		"never there":                        {connector.Item{ID: "1", Key: "acme/api#99"}, "", false},
		"of a repository no longer read":     {connector.Item{ID: "1", Key: "acme/old#1"}, "", false},
		"without a key":                      {connector.Item{ID: "1"}, "", false},
		"still there":                        {there, "", true},
	} {
		changes, err := s.Trace(t.Context(), test.item)
		valid(t, changes)
		got := ""
		for _, c := range changes {
			got += fmt.Sprintf("%s %s %s > %s", c.ID, c.Kind, c.Key, c.Fields[0].To.ID)
		}
		if got != test.want || (err != nil) != test.fails {
			t.Errorf("%s: %q, %v, want %q", name, got, err, test.want)
		}
	}

	// The webhook tells the same fact.
	found, _ := s.Trace(t.Context(), moved)
	told := 0
	for _, d := range f.Deliveries() {
		n, err := s.Receive(t.Context(), d.Header, d.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range n.Changes {
			if c.ID == found[0].ID {
				told++
				if diff := cmp.Diff(found[0], c); diff != "" {
					t.Errorf("(-traced +delivered):\n%s", diff)
				}
			}
		}
	}
	if told != 2 {
		t.Errorf("told %d times, want by both repositories", told)
	}

	for _, status = range []int{301, 401, 403, 429, 500, 502} {
		if changes, err := s.Trace(t.Context(), moved); err == nil || len(changes) > 0 {
			t.Errorf("status %d: %v, %v", status, changes, err)
		}
		s.forgetLimits()
	}
}
