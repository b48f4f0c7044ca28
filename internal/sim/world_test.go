package sim

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/connector/github"
	"github.com/flowmetrics/flowmetrics/internal/connector/jira"
	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/google/go-cmp/cmp"
)

var start = time.Date(2026, 6, 10, 14, 30, 0, 0, time.UTC) // a Wednesday

// sites are what a world writes to.
type sites struct {
	jira   *jira.Fake
	github *github.Fake
}

// newSites makes two empty sites, of which Jira shows everything on one page.
func newSites() sites {
	return sites{jira.NewFake(jira.FakeOptions{DataCenter: true, PageSize: 1000}), github.NewFake(github.FakeOptions{Enterprise: true})}
}

// newWorld makes a world with half a year of history, which most that there is to
// see can be seen in.
func newWorld(seed uint64) (*World, sites) {
	s := newSites()
	return newOfWeeks(seed, start, 26, s.jira, s.github), s
}

// newFullWorld makes a world as the demonstration has it.
func newFullWorld(seed uint64) (*World, sites) {
	s := newSites()
	return New(seed, start, s.jira, s.github), s
}

// read translates everything that the sites tell into changes, by itself and not
// with the connectors.
func read(t *testing.T, s sites) []flow.Change {
	t.Helper()
	return append(readJira(t, s.jira), readGitHub(t, s.github)...)
}

// TestDeterminism checks that a seed makes one world, in however many steps time
// passes, and another seed another.
func TestDeterminism(t *testing.T) {
	end := start.Add(20 * time.Minute)
	once, fake := newWorld(1)
	once.Advance(end)
	want := read(t, fake)

	again, fake := newWorld(1)
	for at := start; at.Before(end); at = at.Add(7 * time.Second) {
		again.Advance(at)
	}
	again.Advance(end)
	again.Advance(start) // time does not go back
	if got := read(t, fake); !slices.EqualFunc(want, got, same) {
		t.Errorf("the same seed makes another world in other steps:\n%s", cmp.Diff(want, got))
	}

	other, fake := newWorld(2)
	other.Advance(end)
	if slices.EqualFunc(want, read(t, fake), same) {
		t.Error("another seed makes the same world")
	}
}

// TestTimes checks that no fact is dated in the future, that history fills
// fifteen months of working hours, and that it goes on after the start.
func TestTimes(t *testing.T) {
	w, fake := newFullWorld(1)
	history := read(t, fake)
	first := start
	for _, c := range history {
		if c.At.After(start) {
			t.Fatalf("%s happened at %s, after the start", c.ID, c.At)
		}
		if h := c.At.Hour(); c.At.Weekday() == time.Saturday || c.At.Weekday() == time.Sunday || h < 9 || h > 17 {
			t.Fatalf("%s happened at %s, outside of working hours", c.ID, c.At)
		}
		if c.At.Before(first) {
			first = c.At
		}
	}
	if weeks := start.Sub(first).Hours() / 24 / 7; weeks < 66 || weeks > 67 {
		t.Errorf("history is %.1f weeks long, want 66", weeks)
	}

	now := start.Add(10 * time.Minute)
	w.Advance(now)
	more, last := 0, start
	for _, c := range read(t, fake) {
		if c.At.After(now) {
			t.Fatalf("%s happened at %s, in the future", c.ID, c.At)
		}
		if c.At.After(last) {
			last = c.At
		}
		if c.At.After(start) {
			more++
		}
	}
	if more < 100 || more > 500 {
		t.Errorf("%d facts in ten minutes, want 10 to 50 a minute", more)
	}
	if now.Sub(last) > time.Minute {
		t.Errorf("the last fact is %s old", now.Sub(last))
	}
}

// TestPlausible checks, for several worlds, that the numbers are those of a
// stable and of an overloaded value stream. The bounds hold for nearly all seeds: of
// forty, three or four have a week that chance made a little odd.
func TestPlausible(t *testing.T) {
	for _, test := range [...]struct {
		seed     uint64
		newWorld func(uint64) (*World, sites)
		halves   float64 // of a year of history
	}{{0, newWorld, 1}, {1, newWorld, 1}, {2, newWorld, 1}, {1, newFullWorld, 66. / 26}} {
		t.Run(fmt.Sprintf("%d of %.1f halves of a year", test.seed, test.halves), func(t *testing.T) {
			w, fake := test.newWorld(test.seed)
			w.Advance(start.Add(5 * time.Minute))
			cfg, err := config.Parse("demo.yaml", w.Config("http://127.0.0.1:1", "http://127.0.0.1:2", "token"))
			if err != nil {
				t.Fatal(err)
			}
			ledger := flow.NewLedger()
			for _, c := range read(t, fake) {
				ledger.Add(&c)
			}
			measure := func(at time.Time) *flow.Snapshot {
				return flow.Measure(cfg.Policy(), ledger, at, flow.Options{})
			}
			within := func(what string, got, low, high float64) {
				t.Helper()
				if got < low || got > high {
					t.Errorf("%s is %.2f, want %.2f to %.2f", what, got, low, high)
				}
			}
			now, later := measure(start), measure(start.Add(5*time.Minute))
			for i, m := range now.ValueStreams {
				name, quarter := m.ValueStream.Name, &m.Windows[2]
				within(name+" velocity a week", float64(quarter.All.Completed)*7/90, 10, 15)
				within(name+" p50 in days", quarter.All.P50.Hours()/24, 7, 13)
				within(name+" p85 in days", quarter.All.P85.Hours()/24, 13, 22)
				efficiency, _ := quarter.All.Efficiency()
				within(name+" efficiency", efficiency, 0.35, 0.52)
				for typ := flow.Feature; typ <= flow.Debt; typ++ {
					share := float64(quarter.ByType[typ].Completed) / float64(quarter.All.Completed)
					within(name+" share of "+typ.String(), share, 0.02, 0.62)
				}
				for _, reason := range []flow.Exit{flow.ExitCancelled, flow.ExitReturned} {
					within(name+" exits "+reason.String(), float64(quarter.Exited[reason]), 2, 22)
				}
				within(name+" reopened", float64(quarter.ReopenEvents), 1, 18)
				within(name+" identities broken", float64(m.LoadMismatch+m.PresenceMismatch), 0, 0)
				went := later.ValueStreams[i].Totals
				for typ := range went {
					went[typ].Completed -= m.Totals[typ].Completed
				}
				completed := went[flow.Feature].Completed + went[flow.Defect].Completed + went[flow.Risk].Completed + went[flow.Debt].Completed
				within(name+" completed in five minutes", float64(completed), 1, 15)
			}
			var platform []float64 // average load by weeks ago
			for ago := range 14 {
				week := measure(start.AddDate(0, 0, -7*ago))
				within(fmt.Sprintf("payments load %d weeks ago", ago), week.ValueStream("payments").Windows[0].AverageLoad(), 17, 21.5)
				platform = append(platform, week.ValueStream("platform").Windows[0].AverageLoad())
			}
			for ago := range 5 {
				within(fmt.Sprintf("platform growth %d weeks ago", ago), platform[ago]-platform[ago+1], 0.5, 5.5)
			}
			for ago := 6; ago < 13; ago++ {
				within(fmt.Sprintf("platform load %d weeks ago", ago), platform[ago], 14, 19.5)
			}
			within("platform load", float64(now.ValueStream("platform").Load.Items), 30, 38)

			q := &now.Quality
			within("born done", float64(q.BornDone)/test.halves, 1, 20)
			within("completed without start", float64(q.CompletedWithoutStart)/test.halves, 5, 30)
			within("unmapped", float64(q.UnmappedStatuses["On Hold"])/test.halves, 4, 28)
			within("ignored", float64(q.IgnoredByType)/test.halves, 4, 32)
			within("left-censored, gaps and duplicates", float64(q.LeftCensored+q.HistoryGaps+q.Duplicates), 0, 0)
		})
	}
}

// TestLoad checks that what is measured from both trackers is what the teams have
// in flow.
func TestLoad(t *testing.T) {
	for seed := range uint64(3) {
		w, fake := newWorld(seed)
		cfg, err := config.Parse("demo.yaml", w.Config("http://127.0.0.1:1", "http://127.0.0.1:2", "token"))
		if err != nil {
			t.Fatal(err)
		}
		ledger := flow.NewLedger()
		onGitHub := map[string]bool{}
		for _, c := range read(t, fake) {
			ledger.Add(&c)
			if c.Source == "github-demo" {
				onGitHub[c.Item] = true
			}
		}
		m := flow.Measure(cfg.Policy(), ledger, start, flow.Options{})
		for k, v := range m.ValueStreams {
			if v.Load.Items != w.teams[k].inFlow {
				t.Errorf("seed %d: load of %s is %d, but the team has %d in flow", seed, v.ValueStream.Name, v.Load.Items, w.teams[k].inFlow)
			}
			if n := v.Totals[flow.Unclassified].Completed; n > 0 {
				t.Errorf("seed %d: %d items of %s are unclassified", seed, n, v.ValueStream.Name)
			}
		}
		if n := len(onGitHub); n < 120 || n > 260 {
			t.Errorf("seed %d: %d items are on GitHub", seed, n)
		}
	}
}

// TestKinds checks that each kind of fact that is told by one field occurs in some
// worlds, and that items disappear while a reader looks on.
func TestKinds(t *testing.T) {
	kinds, gone := map[string]int{}, map[string]int{}
	for seed := range uint64(4) {
		w, fake := newWorld(seed)
		before := read(t, fake)
		w.Advance(start.Add(time.Hour))
		alive := map[string]bool{}
		for _, c := range read(t, fake) {
			alive[c.Item] = true
			for _, f := range c.Fields {
				if c.Source == "github-demo" {
					kinds[fmt.Sprint("GitHub ", f.Field, " ", f.To.Name, f.To.Category)]++
					continue
				}
				kinds[c.Kind.String()+" "+f.Field.String()]++
				if f.Field == flow.FieldStatus || f.Field == flow.FieldResolution {
					kinds[f.To.Name]++
				}
			}
		}
		for _, c := range before {
			if !alive[c.Item] {
				gone[c.Source]++
			}
		}
	}
	for _, want := range []string{
		"CREATED STATUS", "UPDATED CONTAINER", "UPDATED TYPE", "UPDATED RESOLUTION", "Backlog", "Ready", "In Progress", "In Review", "Blocked",
		"On Hold", "Done", "Won't Do", "Duplicate",
		"GitHub STATE open", "GitHub STATE closedcompleted", "GitHub STATE closednot_planned", "GitHub STATE closedduplicate",
		"GitHub STATUS Ready", "GitHub STATUS In Review", "GitHub STATUS On Hold", "GitHub LABEL blocked", "GitHub LABEL ready", "GitHub LABEL backlog",
		"GitHub LABEL security", "GitHub LABEL tech-debt", "GitHub LABEL epic", "GitHub LABEL ", "GitHub TYPE Feature", "GitHub TYPE Bug",
		"GitHub ASSIGNED true", "GitHub ASSIGNED false", "GitHub CONTAINER acme/platform", "GitHub CONTAINER acme/tools",
		"GitHub PULL_REQUEST opened", "GitHub PULL_REQUEST review_requested", "GitHub PULL_REQUEST changes_requested",
		"GitHub PULL_REQUEST merged", "GitHub PULL_REQUEST closed",
	} {
		if kinds[want] == 0 {
			t.Errorf("nothing is %s; have %v", want, kinds)
		}
	}
	for _, source := range [...]string{"jira-demo", "github-demo"} {
		if gone[source] == 0 {
			t.Errorf("no item of %s was deleted in an hour of any world", source)
		}
	}
}

// TestBoard checks that the timelines hold every move of the board until the
// start, and not all of those since.
func TestBoard(t *testing.T) {
	w, fake := newWorld(1)
	unseen := func() (unseen, all int) {
		last := map[string]flow.Change{}
		for _, c := range readGitHub(t, fake.github) {
			if c.Fields[0].Field == flow.FieldStatus && !c.At.Before(last[c.Item].At) {
				last[c.Item] = c
			}
		}
		cards := readBoard(t, fake.github)
		for item, status := range cards {
			if c := last[item]; len(c.Fields) == 0 || c.Fields[0].To.Name != status {
				unseen++
			}
		}
		return unseen, len(cards)
	}
	if n, all := unseen(); n > 0 || all < 100 {
		t.Errorf("timelines lack the state of %d of %d cards at the start", n, all)
	}
	w.Advance(start.Add(20 * time.Minute))
	if n, all := unseen(); n < 5 || n > all/2 {
		t.Errorf("timelines lack the state of %d of %d cards 20 minutes later", n, all)
	}
}

func readJira(t *testing.T, fake *jira.Fake) []flow.Change {
	t.Helper()
	type issue struct {
		ID, Key string
		Fields  struct {
			Created string
			Project struct{ Key string }
			Status  struct {
				ID, Name       string
				StatusCategory struct{ Key string }
			}
			IssueType struct{ ID, Name string }
		}
		Changelog struct {
			Histories []struct {
				ID, Created string
				Items       []struct{ Field, From, FromString, To, ToString string }
			}
		}
	}
	var changes []flow.Change
	for n := 0; ; {
		var page struct {
			Total  int
			Issues []issue
		}
		query := url.Values{
			"jql": {"project in (PAY, PLAT) ORDER BY id ASC"}, "startAt": {fmt.Sprint(n)}, "maxResults": {"1000"}, "expand": {"changelog"},
		}
		answer := httptest.NewRecorder()
		fake.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/rest/api/2/search?"+query.Encode(), nil))
		if err := json.Unmarshal(answer.Body.Bytes(), &page); err != nil || answer.Code != http.StatusOK {
			t.Fatalf("search: status %d, %v", answer.Code, err)
		}
		for _, i := range page.Issues {
			f := i.Fields
			born := map[flow.Field]flow.Value{
				flow.FieldStatus:    {ID: f.Status.ID, Name: f.Status.Name},
				flow.FieldType:      {ID: f.IssueType.ID, Name: f.IssueType.Name},
				flow.FieldContainer: {Name: f.Project.Key},
			}
			var updates []flow.Change
			slices.Reverse(i.Changelog.Histories)
			for _, h := range i.Changelog.Histories { // newest first
				c := flow.Change{ID: h.ID, Source: "jira-demo", Item: i.ID, At: instant(t, h.Created), Kind: flow.Updated}
				c.Container = born[flow.FieldContainer].Name
				for _, item := range h.Items {
					fc := flow.FieldChange{From: flow.Value{ID: item.From, Name: item.FromString}, To: flow.Value{ID: item.To, Name: item.ToString}}
					switch item.Field {
					case "status":
						fc.Field = flow.FieldStatus
					case "issuetype":
						fc.Field = flow.FieldType
					case "resolution":
						fc.Field = flow.FieldResolution
					case "project":
						fc.Field, fc.From.Name, fc.To.Name = flow.FieldContainer, projects[item.FromString], projects[item.ToString]
					default:
						continue
					}
					born[fc.Field] = fc.From
					c.Fields = append(c.Fields, fc)
				}
				updates = append(updates, c)
			}
			changes = append(changes, flow.Change{
				ID: i.ID + ":created", Source: "jira-demo", Item: i.ID, At: instant(t, f.Created), Kind: flow.Created,
				Container: born[flow.FieldContainer].Name,
				Fields: []flow.FieldChange{
					{Field: flow.FieldStatus, To: born[flow.FieldStatus]}, {Field: flow.FieldType, To: born[flow.FieldType]},
				},
			})
			slices.Reverse(updates)
			changes = append(changes, updates...)
		}
		if n += len(page.Issues); n >= page.Total || len(page.Issues) == 0 {
			return changes
		}
	}
}

var projects = map[string]string{"Payments": "PAY", "Platform": "PLAT"}

func instant(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02T15:04:05.000-0700", text)
	if err != nil {
		t.Fatal(err)
	}
	return at.UTC()
}

func same(a, b flow.Change) bool { return reflect.DeepEqual(a, b) }
