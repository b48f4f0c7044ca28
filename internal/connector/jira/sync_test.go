package jira

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

var (
	_ connector.Source       = (*Source)(nil)
	_ connector.Checker      = (*Source)(nil)
	_ connector.StatusLister = (*Source)(nil)
	_ connector.TypeLister   = (*Source)(nil)
	_ connector.Censor       = (*Source)(nil)
	_ connector.Meter        = (*Source)(nil)
	_ connector.Receiver     = (*Source)(nil)
)

var update = flag.Bool("update", false, "rewrite the golden files")

const siteAddress = "https://jira.example.com"

// direct is a transport that calls a handler without a network, so that tests
// run inside a synctest bubble.
type direct struct{ http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

func newSource(t *testing.T, h http.Handler, change ...func(*Config)) *Source {
	t.Helper()
	c := Config{URL: siteAddress, Projects: []string{"PAY", "PLAT"}, Titles: true, Transport: direct{h}}
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// poll polls once.
func poll(s *Source, from connector.Cursor) (batches []connector.Batch, last connector.Cursor, err error) {
	last = from
	err = s.Poll(context.Background(), from, func(b connector.Batch) error {
		batches = append(batches, b)
		last = b.Cursor
		return nil
	})
	return batches, last, err
}

// drain polls until the source has caught up, going on after rate limits, and
// returns each change once and the last cursor.
func drain(t *testing.T, s *Source, from connector.Cursor) ([]flow.Change, connector.Cursor) {
	t.Helper()
	var all []flow.Change
	for range 2000 {
		batches, last, err := poll(s, from)
		for _, b := range batches {
			all = append(all, b.Changes...)
		}
		from = last
		if _, limited := errors.AsType[*connector.RateLimitError](err); limited {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		return unique(t, all), from
	}
	t.Fatal("the source never catches up")
	return nil, nil
}

// unique leaves out repeats and demands that they are equal.
func unique(t *testing.T, changes []flow.Change) []flow.Change {
	t.Helper()
	known := map[string]flow.Change{}
	var out []flow.Change
	for _, c := range changes {
		first, ok := known[c.ID]
		if !ok {
			known[c.ID] = c
			out = append(out, c)
		} else if diff := cmp.Diff(first, c); diff != "" {
			t.Fatalf("change %s read again is another:\n%s", c.ID, diff)
		}
	}
	return out
}

// lines renders changes as JSON Lines, by item and in the order of facts.
func lines(t *testing.T, changes []flow.Change) string {
	t.Helper()
	sorted := slices.Clone(changes)
	slices.SortStableFunc(sorted, func(a, b flow.Change) int {
		if c := strings.Compare(a.Item, b.Item); c != 0 {
			return c
		}
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return int(a.Sequence - b.Sequence)
	})
	var text bytes.Buffer
	for i := range sorted {
		c := sorted[i]
		c.Source = "jira"
		if err := c.Validate(); err != nil {
			t.Errorf("invalid change %s: %v", c.ID, err)
		}
		c.Source = ""
		line, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(append(line, '\n'))
	}
	return text.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) == got {
		return
	}
	wanted, gotten := strings.SplitAfter(string(want), "\n"), strings.SplitAfter(got, "\n")
	shown := 0
	for _, d := range []struct {
		what    string
		in, out []string
	}{{"missing", wanted, gotten}, {"unexpected", gotten, wanted}} {
		for _, line := range d.in {
			if !slices.Contains(d.out, line) && shown < 6 {
				t.Errorf("%s: %s: %s", path, d.what, line)
				shown++
			}
		}
	}
	if shown == 0 {
		t.Errorf("%s: the order differs", path)
	}
}

var day0 = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)

func day(n float64) time.Time { return day0.Add(time.Duration(n * 24 * float64(time.Hour))) }

// world fills a site with one of everything: reopened, moved, renamed status,
// more history than fits, many updates at one instant.
func world(f *Fake) *Fake {
	f.AddProject("PAY", "Payments")
	f.AddProject("PLAT", "Platform")
	f.AddProject("HR", "People")
	f.AddStatus("10000", "Backlog", "new")
	f.AddStatus("3", "In Development", "indeterminate")
	f.AddStatus("10002", "In Review", "indeterminate")
	f.AddStatus("10003", "Done", "done")
	f.AddStatus("10004", "Closed", "done")
	f.AddStatus("10005", "Parked", "undefined")
	f.AddStatus("10029", "Old Queue", "new")
	f.AddType("1", "Story")
	f.AddType("2", "Bug")

	plain := f.Create(day(0), "PAY", "Story", "Backlog", "Card\x00 pay\u200bments\n")
	f.Edit(day(1), plain, SetStatus("In Development"), SetAssigned(true))
	f.Edit(day(2), plain, SetLabels("blocked", "urgent"))
	f.Edit(day(3), plain, SetLabels("urgent", "ready"), SetFlagged(true))
	f.Edit(day(4), plain, SetStatus("Done"))
	f.RenameStatus("3", "In Progress")

	reopened := f.Create(day(0.5), "PAY", "Bug", "Old Queue", "Refund twice")
	f.Edit(day(1), reopened, SetStatus("In Progress"))
	f.Edit(day(2), reopened, SetStatus("Done"))
	f.Edit(day(3), reopened, SetStatus("In Progress"), SetSummary("Refund three times"))
	f.Edit(day(5), reopened, SetStatus("Done"), SetResolution("Won't Do"))
	f.Migrate(day(90), reopened, SetStatus("Closed"))
	f.DropStatus("10029")

	moved := f.Create(day(1), "PAY", "Story", "Backlog", "Ledger")
	f.Edit(day(2), moved, SetType("Bug"))
	f.Edit(day(3), moved, MoveTo("PLAT"), SetType("Story"), SetStatus("In Progress"))
	f.Edit(day(4), moved, MoveTo("PAY"), SetParent(plain))

	f.Create(day(2), "PLAT", "Story", "Done", "Imported")
	f.Create(day(2), "HR", "Story", "Backlog", "Not ours")

	long := f.Create(day(0), "PLAT", "Story", "Backlog", "Long history")
	for n := range 130 {
		status := "In Progress"
		if n%2 == 1 {
			status = "In Review"
		}
		f.Edit(day(0.1).Add(time.Duration(n/3)*time.Minute), long, SetStatus(status))
	}
	for n := range 8 { // one bulk edit: one time of update for all
		id := f.Create(day(3), "PAY", "Bug", "Backlog", fmt.Sprintf("Bulk %d", n))
		f.Edit(day(6), id, SetStatus("Parked"))
		f.Edit(day(6), id, SetLabels("bulk"))
	}
	return f
}

func TestBackfill(t *testing.T) {
	changes, cursor := drain(t, newSource(t, world(NewFake(FakeOptions{}))), nil)
	golden(t, "world.jsonl", lines(t, changes))
	if len(cursor) > 300 {
		t.Errorf("cursor has %d bytes: %s", len(cursor), cursor)
	}
}

// TestSameChanges checks that the limits and the kind of a site change nothing.
func TestSameChanges(t *testing.T) {
	kolkata, newfoundland := zone(t, "Asia/Kolkata"), zone(t, "America/St_Johns")
	for name, o := range map[string]FakeOptions{
		"data center":             {DataCenter: true},
		"data center, small":      {DataCenter: true, PageSize: 3, LimitEvery: 10},
		"data center, tiny":       {DataCenter: true, PageSize: 1},
		"cut":                     {InlineHistories: 40},
		"cut to nothing, small":   {InlineHistories: 1, PageSize: 3},
		"tiny":                    {InlineHistories: 1, PageSize: 1},
		"split bulk":              {InlineHistories: 2, BulkSize: 7},
		"split bulk, epoch":       {InlineHistories: 2, BulkSize: 7, EpochCreated: true, LimitEvery: 3},
		"no bulk":                 {InlineHistories: 40, NoBulkFetch: true},
		"limited":                 {InlineHistories: 40, PageSize: 3, LimitEvery: 10, NoBulkFetch: true},
		"every second refused":    {InlineHistories: 1, PageSize: 3, LimitEvery: 2, NoBulkFetch: true},
		"every second, bulk":      {InlineHistories: 1, PageSize: 3, LimitEvery: 2, BulkSize: 5},
		"owner in Kolkata":        {Location: kolkata, PageSize: 3},
		"owner in Newfoundland":   {Location: newfoundland, PageSize: 3, InlineHistories: 2},
		"data center, in Kolkata": {DataCenter: true, Location: kolkata, PageSize: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changes, _ := drain(t, newSource(t, world(NewFake(o))), nil)
			golden(t, "world.jsonl", lines(t, changes))
		})
	}
}

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestResume starts a new source from each cursor that was stored on the way:
// nothing is lost.
func TestResume(t *testing.T) {
	for name, o := range map[string]FakeOptions{
		"cloud":       {PageSize: 2, InlineHistories: 5},
		"data center": {PageSize: 2, DataCenter: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := world(NewFake(o))
			batches, _, err := poll(newSource(t, f), nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(batches) < 5 {
				t.Fatalf("%d batches", len(batches))
			}
			var before []flow.Change
			for _, b := range batches {
				before = append(before, b.Changes...)
				after, _ := drain(t, newSource(t, f), b.Cursor)
				golden(t, "world.jsonl", lines(t, unique(t, append(slices.Clone(before), after...))))
			}
		})
	}
}

// TestIncremental follows a site that moves on.
func TestIncremental(t *testing.T) {
	for name, o := range map[string]FakeOptions{
		"cloud":                        {PageSize: 3},
		"cloud, in Kolkata":            {PageSize: 3, Location: zone(t, "Asia/Kolkata")},
		"cloud, in Newfoundland":       {PageSize: 3, Location: zone(t, "America/St_Johns")},
		"data center":                  {PageSize: 3, DataCenter: true},
		"data center, in Newfoundland": {PageSize: 3, DataCenter: true, Location: zone(t, "America/St_Johns")},
	} {
		t.Run(name, func(t *testing.T) {
			f := world(NewFake(o))
			s := newSource(t, f)
			changes, cursor := drain(t, s, nil)
			requests := f.Requests()
			again, same := drain(t, s, cursor)
			if !bytes.Equal(cursor, same) {
				t.Errorf("cursor moved without an update: %s to %s", cursor, same)
			}
			if more := unique(t, append(slices.Clone(changes), again...)); len(more) != len(changes) {
				t.Errorf("%d new changes without an update", len(more)-len(changes))
			}
			if n := f.Requests() - requests; n > 10 {
				t.Errorf("%d requests for nothing new", n)
			}
			// An update dated a little before the newest, as clocks of several nodes
			// and late indexing make them.
			late := f.Create(day(6).Add(-9*time.Minute), "PAY", "Bug", "Backlog", "Late")
			f.Edit(day(7), late, SetStatus("In Progress"))
			f.Create(day(6).Add(-5*time.Minute), "PLAT", "Bug", "Backlog", "Later")
			got, _ := drain(t, s, cursor)
			if n := len(unique(t, append(slices.Clone(changes), got...))) - len(changes); n != 3 {
				t.Errorf("%d new changes, want 3", n)
			}
		})
	}
}

// TestUpdatesWhilePaging edits issues between the pages: none is skipped.
func TestUpdatesWhilePaging(t *testing.T) {
	for name, o := range map[string]FakeOptions{
		"cloud":       {PageSize: 2},
		"data center": {PageSize: 2, DataCenter: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := world(NewFake(o))
			var ids []string
			for n := range 20 {
				ids = append(ids, f.Create(day(10+float64(n)), "PAY", "Bug", "Backlog", "Issue"))
			}
			next := 0
			touching := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				f.ServeHTTP(w, r)
				if strings.Contains(r.URL.Path, "/search") && next < len(ids) && f.Requests()%2 == 0 {
					f.Edit(day(40+float64(next)), ids[next], SetLabels("touched"))
					next++
				}
			})
			changes, _ := drain(t, newSource(t, touching), nil)
			for _, id := range ids {
				if !slices.ContainsFunc(changes, func(c flow.Change) bool { return c.ID == id+":created" }) {
					t.Errorf("issue %s was skipped", id)
				}
			}
			if next < 5 {
				t.Errorf("only %d issues were touched", next)
			}
		})
	}
}

// TestProjectsChange makes sure that an added project is read from its
// beginning.
func TestProjectsChange(t *testing.T) {
	f := world(NewFake(FakeOptions{}))
	_, cursor := drain(t, newSource(t, f, func(c *Config) { c.Projects = []string{"PAY"} }), nil)
	changes, _ := drain(t, newSource(t, f), cursor)
	golden(t, "world.jsonl", lines(t, changes))
	all, _ := drain(t, newSource(t, f, func(c *Config) { c.Projects = nil }), nil)
	if n := len(all) - len(changes); n != 1 {
		t.Errorf("%d more changes without a list of projects, want the 1 of HR", n)
	}
}

func TestCursor(t *testing.T) {
	s := newSource(t, world(NewFake(FakeOptions{})))
	for _, text := range []string{
		`nonsense`, `{}`, `{"v":2,"scope":"x"}`, `{"v":1,"more":1}`, `{"v":1,"since":-1}`,
		fmt.Sprintf(`{"v":1,"since":%d}`, time.Now().Add(48*time.Hour).UnixMilli()),
	} {
		if _, _, err := poll(s, connector.Cursor(text)); !errors.Is(err, connector.ErrCursor) {
			t.Errorf("cursor %s: %v, want ErrCursor", text, err)
		}
	}
}

// TestExpiredToken continues from a cursor whose page token the site has
// forgotten, also where the site does not keep the order, or says 404.
func TestExpiredToken(t *testing.T) {
	for _, order := range []string{"updated ASC", "updated DESC", "404"} {
		site := world(NewFake(FakeOptions{PageSize: 3}))
		h := rewritten(site, func(q string) string { return strings.Replace(q, "updated ASC", order, 1) })
		if order == "404" {
			h = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Query().Get("nextPageToken") == "forgotten!" {
					w.WriteHeader(404)
					return
				}
				site.ServeHTTP(w, r)
			})
		}
		batches, _, err := poll(newSource(t, h), nil)
		if err != nil {
			t.Fatal(err)
		}
		var read []flow.Change
		tokens := 0
		for _, b := range batches[:len(batches)-1] {
			read = append(read, b.Changes...)
			var c cursor
			if err := json.Unmarshal(b.Cursor, &c); err != nil {
				t.Fatal(err)
			}
			if c.Token == "" {
				continue
			}
			tokens++
			c.Token = "forgotten!"
			after, _ := drain(t, newSource(t, h), c.encode())
			golden(t, "world.jsonl", lines(t, unique(t, slices.Concat(read, after))))
		}
		if tokens == 0 {
			t.Errorf("%s: no cursor has a token", order)
		}
	}
}

// TestClockAhead checks that an issue dated in the future does not hide the
// updates until then.
func TestClockAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFake(FakeOptions{})
		f.AddProject("PAY", "Payments")
		f.AddProject("PLAT", "Platform")
		f.AddStatus("1", "Backlog", "new")
		f.AddType("1", "Story")
		now := time.Now()
		f.Create(now.AddDate(1, 0, 0), "PAY", "Story", "Backlog", "From the future")
		s := newSource(t, f)
		_, cursor := drain(t, s, nil)
		time.Sleep(time.Hour)
		id := f.Create(now.Add(time.Minute), "PAY", "Story", "Backlog", "Ordinary")
		changes, _ := drain(t, s, cursor)
		if !slices.ContainsFunc(changes, func(c flow.Change) bool { return c.Item == id }) {
			t.Error("the ordinary issue was not found")
		}
	})
}

// TestNewStatus adds a status while the source runs: what moves through it has
// its category.
func TestNewStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := world(NewFake(FakeOptions{}))
		s := newSource(t, f)
		_, cursor := drain(t, s, nil)
		time.Sleep(2 * time.Minute)
		f.AddStatus("777", "Testing", "indeterminate")
		id := f.Create(day(20), "PAY", "Story", "Backlog", "Through it")
		f.Edit(day(21), id, SetStatus("Testing"))
		f.Edit(day(22), id, SetStatus("Done"))
		changes, _ := drain(t, s, cursor)
		found := false
		for _, c := range changes {
			for _, fc := range c.Fields {
				if fc.To.ID == "777" {
					found = true
					if fc.To.Category != "indeterminate" {
						t.Errorf("category of the new status: %+v", fc.To)
					}
				}
			}
		}
		if !found {
			t.Error("the new status was not seen")
		}
	})
}

// TestLivelock has one page that needs far more requests than the site allows
// in a row: 130 histories in pages of 3.
func TestLivelock(t *testing.T) {
	f := world(NewFake(FakeOptions{InlineHistories: 40, PageSize: 3, LimitEvery: 10, NoBulkFetch: true}))
	s := newSource(t, f)
	var cursor connector.Cursor
	polls, idle := 0, 0
	for {
		before := f.Requests()
		batches, last, err := poll(s, cursor)
		cursor, polls = last, polls+1
		if len(batches) == 0 {
			idle++
		}
		if err == nil {
			break
		}
		limit, ok := errors.AsType[*connector.RateLimitError](err)
		if !ok {
			t.Fatal(err)
		}
		if limit.Until.IsZero() {
			t.Error("the Retry-After was lost")
		}
		if n := f.Requests() - before; n > 10 {
			t.Fatalf("%d requests in a poll that was refused once", n)
		}
	}
	if polls < 5 || idle < 2 {
		t.Errorf("%d polls, %d without a batch: the test does not see what it should", polls, idle)
	}
	if f.Requests() > 110 {
		t.Errorf("%d requests: something is read twice", f.Requests())
	}
}

func TestEmitError(t *testing.T) {
	f := world(NewFake(FakeOptions{PageSize: 3}))
	s := newSource(t, f)
	broken := errors.New("broken")
	var first connector.Batch
	err := s.Poll(t.Context(), nil, func(b connector.Batch) error {
		first = b
		return broken
	})
	if !errors.Is(err, broken) {
		t.Fatalf("%v, want the error of emit", err)
	}
	batches, _, err := poll(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, batches[0]); diff != "" {
		t.Errorf("the batch comes again as another:\n%s", diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	calls := 0
	err = s.Poll(ctx, nil, func(connector.Batch) error {
		calls++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("%d calls after the end of the context, %v", calls, err)
	}
}

func TestProgress(t *testing.T) {
	for _, dataCenter := range []bool{false, true} {
		batches, cursor, err := poll(newSource(t, world(NewFake(FakeOptions{PageSize: 3, DataCenter: dataCenter}))), nil)
		if err != nil {
			t.Fatal(err)
		}
		done := 0
		for _, b := range batches {
			p := b.Progress
			if p.Total != 13 || p.Done < done || p.Done > p.Total {
				t.Errorf("data center %t: progress %+v after %d", dataCenter, p, done)
			}
			done = p.Done
		}
		if done != 13 {
			t.Errorf("data center %t: %d of 13 at the end", dataCenter, done)
		}
		batches, _, err = poll(newSource(t, world(NewFake(FakeOptions{DataCenter: dataCenter}))), cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range batches {
			if b.Progress != (connector.Progress{}) {
				t.Errorf("progress %+v after the backfill", b.Progress)
			}
		}
	}
}

func TestCensus(t *testing.T) {
	for name, o := range map[string]FakeOptions{
		"cloud":         {},
		"cloud, tiny":   {PageSize: 1, LimitEvery: 4},
		"data center":   {DataCenter: true, PageSize: 3},
		"every second ": {DataCenter: true, PageSize: 3, LimitEvery: 2},
	} {
		t.Run(name, func(t *testing.T) {
			f := world(NewFake(o))
			gone := f.Create(day(3), "PAY", "Bug", "Backlog", "Soon gone")
			f.Delete(gone)
			labelled := f.Create(day(3), "PAY", "Bug", "Backlog", "With labels")
			f.Edit(day(4), labelled, SetLabels("one", "two"))
			s := newSource(t, f)
			live := map[string]connector.Item{}
			for range 100 {
				err := s.Census(t.Context(), func(i connector.Item) { live[i.ID] = i })
				if _, limited := errors.AsType[*connector.RateLimitError](err); limited {
					if len(live) > 0 {
						t.Fatal("a census that failed has told of items")
					}
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				break
			}
			if len(live) != 14 {
				t.Errorf("%d items, want 14", len(live))
			}
			if _, ok := live[gone]; ok {
				t.Error("the deleted issue is live")
			}
			var deleted string
			for id, item := range live {
				deleted = id
				if item.Key != f.Key(id) || !strings.HasPrefix(item.Key, item.Container+"-") || item.Status.Name == "" || item.Type.ID == "" || item.Type.Name == "" {
					t.Errorf("item %+v", item)
				}
			}
			if labels := live[labelled].Labels; !slices.Equal(labels, []string{"one", "two"}) {
				t.Errorf("labels %q", labels)
			}
			f.Delete(deleted)
			clear(live)
			for len(live) == 0 {
				_ = s.Census(t.Context(), func(i connector.Item) { live[i.ID] = i }) // or again after a rate limit
			}
			if _, ok := live[deleted]; ok || len(live) != 13 {
				t.Errorf("%d items in the second census, want 13, the deleted one among them: %t", len(live), ok)
			}
		})
	}
}
