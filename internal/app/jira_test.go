package app

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector/jira"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const jiraConfig = `
sources:
  - {name: jira-main, type: jira, url: %q, projects: [PAY, PLAT], poll_interval: 1s}
workflows:
  - name: default
    statuses: {new: [Backlog], waiting: [Ready, In Review, Blocked], active: [In Progress], done: [Done, Closed]}
    types: {feature: [Story], defect: [Bug]}
value_streams:
  - {name: payments, workflow: default, timezone: UTC, include: [{source: jira-main, containers: [PAY]}], targets: {flow_time: 12d}}
  - {name: platform, workflow: default, timezone: UTC, include: [{source: jira-main, containers: [PLAT]}]}
`

var (
	firstDay = time.Date(2025, 6, 2, 9, 0, 0, 0, time.UTC)
	asOf     = "2025-09-01T00:00:00Z" // after all of the history
)

// history gives an empty site a history of so many issues: some with more than
// a hundred entries, some reopened, some moved into, between and out of the
// projects that are read, and some deleted.
func history(f *jira.Fake, seed uint64, issues int) (ids []string) {
	for _, p := range [...]string{"PAY", "PLAT", "OLD"} {
		f.AddProject(p, "Project "+p)
	}
	open := []string{"Backlog", "Ready", "In Progress", "In Review", "Blocked"}
	for i, name := range open {
		f.AddStatus(fmt.Sprint(10+i), name, []string{"new", "indeterminate"}[min(i, 1)])
	}
	f.AddStatus("20", "Done", "done")
	f.AddStatus("21", "Closed", "done")
	f.AddType("1", "Story")
	f.AddType("2", "Bug")
	r := rand.New(rand.NewPCG(seed, 7))
	for i := range issues {
		at := firstDay.Add(time.Duration(i) * 5 * time.Hour)
		later := func() time.Time {
			at = at.Add(time.Duration(1+r.IntN(20*3600)) * time.Second)
			return at
		}
		project := []string{"PAY", "PLAT"}[i%2]
		if i%10 == 3 {
			project = "OLD"
		}
		id := f.Create(at, project, []string{"Story", "Bug"}[r.IntN(2)], "Backlog", fmt.Sprintf("Issue %d", i))
		ids = append(ids, id)
		if project == "OLD" {
			f.Edit(later(), id, jira.MoveTo("PAY"), jira.SetStatus("Ready"))
		}
		status, entries := 0, 2+r.IntN(5)
		if i%20 == 7 {
			entries, at = 110+r.IntN(20), at.Add(-24*time.Hour) // more than any site shows inline
			later = func() time.Time {
				at = at.Add(time.Duration(1+r.IntN(3600)) * time.Second)
				return at
			}
		}
		for range entries {
			switch r.IntN(8) {
			case 0:
				f.Edit(later(), id, jira.SetLabels("a", fmt.Sprint("l", r.IntN(3))))
			case 1:
				f.Edit(later(), id, jira.SetAssigned(r.IntN(2) == 0), jira.SetSummary("Another title"))
			default:
				status = (status + 1 + r.IntN(len(open)-1)) % len(open) // another one
				f.Edit(later(), id, jira.SetStatus(open[status]))
			}
		}
		if i%3 > 0 {
			f.Edit(later(), id, jira.SetStatus("Done"))
		}
		switch {
		case i%6 == 1: // reopened
			f.Edit(later(), id, jira.SetStatus("In Progress"))
			f.Edit(later(), id, jira.SetStatus("Closed"))
		case i%6 == 2: // a move between two done statuses is no second end
			f.Edit(later(), id, jira.SetStatus("Closed"))
		case i%10 == 4:
			f.Edit(later(), id, jira.MoveTo("PLAT"))
		case i%10 == 5:
			f.Edit(later(), id, jira.MoveTo("OLD"))
		case i%10 == 6:
			f.Delete(id)
		}
	}
	return ids
}

// A site is a fake Jira on a port.
type site struct {
	*jira.Fake
	url string
	ids []string // of all issues that ever were
}

func newSite(t testing.TB, issues int, opts jira.FakeOptions) *site {
	t.Helper()
	s := &site{Fake: jira.NewFake(opts)}
	s.ids = history(s.Fake, 1, issues)
	server := httptest.NewServer(s.Fake)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// finishes returns the end of each measured item, by its id.
func finishes(t testing.TB, s *service) map[string]time.Time {
	t.Helper()
	type document struct {
		Streams []struct {
			Items []struct {
				Item     string
				State    string
				Finished *time.Time `json:"finished_at"`
			}
		} `json:"value_streams"`
	}
	ends := map[string]time.Time{}
	for _, stream := range decode[document](t, s.ok(t, "/api/v1/value-streams?items=true&at="+asOf)).Streams {
		for _, item := range stream.Items {
			if item.Finished != nil {
				ends[item.Item] = *item.Finished
			}
		}
	}
	return ends
}

// resolutions returns the site's own dates of resolution.
func (s *site) resolutions(t testing.TB) map[string]time.Time {
	t.Helper()
	type answer struct {
		Fields struct {
			Project        struct{ Key string }
			ResolutionDate string
		}
	}
	dates := map[string]time.Time{}
	for _, id := range s.ids {
		w := httptest.NewRecorder()
		for w.Code = http.StatusTooManyRequests; w.Code == http.StatusTooManyRequests; {
			w = httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/rest/api/2/issue/"+id, nil))
		}
		if w.Code == http.StatusNotFound {
			continue
		}
		fields := decode[answer](t, w.Body.String()).Fields
		if fields.ResolutionDate == "" || fields.Project.Key == "OLD" {
			continue
		}
		at, err := time.Parse("2006-01-02T15:04:05.000-0700", fields.ResolutionDate)
		if err != nil {
			t.Fatal(err)
		}
		dates[id] = at.UTC()
	}
	return dates
}

// Whatever limits a site has, the log gets the same changes, and the numbers
// agree with the site's own. A second start reads on from where the first was,
// and adds nothing that is there.
func TestJira(t *testing.T) {
	const issues = 48
	free := newSite(t, issues, jira.FakeOptions{})
	dir := t.TempDir()
	text := fmt.Sprintf(jiraConfig, free.url)
	s := start(t, dir, text, func(o *Options) { o.CensusInterval = time.Second })
	reference := readLog(t, s.ok(t, "/api/v1/changes"))
	want := facts(t, reference, free.url)
	if len(want) < 500 {
		t.Fatalf("%d changes make no test", len(want))
	}

	for name, opts := range map[string]jira.FakeOptions{
		"limited":      {InlineHistories: 40, PageSize: 3, BulkSize: 70, LimitEvery: 10, RetryAfter: time.Second},
		"without bulk": {InlineHistories: 40, PageSize: 8, NoBulkFetch: true, LimitEvery: 10},
		"data center":  {DataCenter: true, PageSize: 3, LimitEvery: 10, RetryAfter: time.Second, Location: time.FixedZone("", -7*3600)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limited, dir := newSite(t, issues, opts), t.TempDir()
			text := fmt.Sprintf(jiraConfig, limited.url)
			s := start(t, dir, text)
			s.wantSample(t, `flowmetrics_connector_backfill_progress_ratio{source="jira-main"}`, 1)
			if n, _ := s.sample(t, `flowmetrics_connector_requests_total{code="429",source="jira-main"}`); n == 0 {
				t.Error("the site never refused a request")
			}
			before := s.ok(t, "/api/v1/changes")
			if diff := cmp.Diff(want, facts(t, readLog(t, before), limited.url)); diff != "" {
				t.Errorf("the limits change what is read: %s", diff)
			}
			s.wantSample(t, "flowmetrics_log_changes_total", float64(len(want)))
			if diff := cmp.Diff(limited.resolutions(t), finishes(t, s)); diff != "" {
				t.Errorf("ends differ from the dates of resolution: %s", diff)
			}
			s.end(t)

			first := limited.Requests()
			s = start(t, dir, text)
			if at, _ := s.sample(t, `flowmetrics_connector_last_success_timestamp_seconds{source="jira-main"}`); at == 0 {
				t.Error("ready without having read to the end")
			}
			if n := limited.Requests() - first; n > first/3 {
				t.Errorf("%d requests of the second start, %d of the first", n, first)
			}
			if after := s.ok(t, "/api/v1/changes"); after != before {
				t.Errorf("the second start changes the log: %s", cmp.Diff(before, after))
			}
		})
	}

	t.Run("unlimited", func(t *testing.T) {
		resolved := free.resolutions(t)
		if diff := cmp.Diff(resolved, finishes(t, s)); diff != "" || len(resolved) < issues/3 {
			t.Errorf("%d ends; they differ from the dates of resolution: %s", len(resolved), diff)
		}
		// What happens while the service runs: an edit, and an issue that vanishes.
		free.Edit(time.Now(), free.ids[0], jira.SetStatus("In Review"), jira.SetLabels("new"))
		free.Delete(free.ids[2])
		var fresh []flow.Change
		eventually(t, "edit and deletion", func() bool {
			fresh = readLog(t, s.ok(t, "/api/v1/changes"))[len(want):]
			return len(fresh) == 2
		})
		slices.SortFunc(fresh, func(a, b flow.Change) int { return strings.Compare(a.Item, b.Item) })
		if c := fresh[0]; c.Item != free.ids[0] || len(c.Fields) != 2 || c.Approximate {
			t.Errorf("read of the edit: %+v", c)
		}
		if c := fresh[1]; c.Item != free.ids[2] || c.Kind != flow.Deleted || !c.Approximate {
			t.Errorf("read of the deletion: %+v", c)
		}
		s.end(t)
		requests := free.Requests()
		s = start(t, dir, text)
		if n := free.Requests() - requests; n > 12 {
			t.Errorf("%d requests of an incremental poll", n)
		}
		if all := readLog(t, s.ok(t, "/api/v1/changes")); len(all) != len(want)+2 {
			t.Errorf("%d changes after a restart, want %d", len(all), len(want)+2)
		}
	})
}
