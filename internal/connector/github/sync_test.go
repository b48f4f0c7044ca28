package github

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	gh "github.com/google/go-github/v60/github"
	"go.uber.org/goleak"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	_ connector.Source       = (*Source)(nil)
	_ connector.Checker      = (*Source)(nil)
	_ connector.StatusLister = (*Source)(nil)
	_ connector.TypeLister   = (*Source)(nil)
	_ connector.Censor       = (*Source)(nil)
	_ connector.Tracer       = (*Source)(nil)
	_ connector.Meter        = (*Source)(nil)
	_ connector.Rejecter     = (*Source)(nil)
)

// direct answers requests by a handler, without a network.
type direct struct {
	http.Handler
	before func(r *http.Request) // sees each request; may be nil
	mu     sync.Mutex
	log    []string // method and path of each request
}

func (d *direct) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.before != nil {
		d.before(r)
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	d.mu.Lock()
	d.log = append(d.log, r.Method+" "+r.URL.Path)
	d.mu.Unlock()
	w := httptest.NewRecorder()
	d.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// requests returns how many requests were made since it was called last.
func (d *direct) requests() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := len(d.log)
	d.log = nil
	return n
}

// A clock is the time of a simulated site.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, time.March, 2, 9, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

// after moves the clock and returns the new time.
func (c *clock) after(d time.Duration) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
	return c.at
}

// A bench is a source with the simulated site that it reads.
type bench struct {
	testing.TB
	fake   *Fake
	clock  *clock
	direct *direct
	config Config
}

func newBench(t testing.TB, o FakeOptions, repos ...string) *bench {
	t.Helper()
	if len(repos) == 0 {
		repos = []string{"acme/api"}
	}
	b := &bench{TB: t, clock: newClock()}
	o.Now = b.clock.now
	b.fake = NewFake(o)
	for _, r := range repos {
		b.fake.AddRepo(r)
	}
	b.direct = &direct{Handler: b.fake}
	b.config = Config{
		URL: "http://github.test", Repos: repos, Titles: true, PageSize: o.PageSize, Transport: b.direct,
		Token: func() (string, error) { return testToken, nil },
	}
	return b
}

// source returns a new source, as after a restart.
func (b *bench) source() *Source {
	b.Helper()
	s, err := New(b.config)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// A record is what a source has told, each fact once.
type record struct {
	cursor   connector.Cursor
	cursors  []connector.Cursor // all of them
	facts    map[string]flow.Change
	told     int // changes, repeated ones too
	rejected []flow.Rejection
	last     connector.Progress
}

func newRecord() *record { return &record{facts: make(map[string]flow.Change)} }

func (r *record) take(b connector.Batch) error {
	for _, c := range b.Changes {
		c.Source = "github"
		if err := c.Validate(); err != nil {
			return fmt.Errorf("change %s: %w", c.ID, err)
		}
		if _, known := r.facts[c.ID]; !known {
			r.facts[c.ID] = c
		}
		r.told++
	}
	r.rejected = append(r.rejected, b.Rejected...)
	if b.Cursor != nil {
		if len(b.Cursor) > connector.MaxCursor {
			return fmt.Errorf("cursor of %d bytes", len(b.Cursor))
		}
		r.cursor = slices.Clone(b.Cursor)
		r.cursors = append(r.cursors, r.cursor)
	}
	r.last = b.Progress
	return nil
}

// poll polls once.
func (b *bench) poll(s *Source, r *record) {
	b.Helper()
	if err := s.Poll(b.Context(), r.cursor, r.take); err != nil {
		b.Fatal(err)
	}
}

// lines returns the facts as text, in the order of an item's history.
func (r *record) lines() []string {
	var lines []string
	for _, c := range r.facts {
		for _, f := range append(c.Fields, flow.FieldChange{}) {
			if f.Field == flow.FieldUnknown && len(c.Fields) > 0 {
				continue
			}
			lines = append(lines, fmt.Sprintf("%s %s %s %v %v %v>%v", c.Item, c.At.Format(time.RFC3339), c.Container, c.Kind, f.Field, f.From, f.To))
		}
	}
	slices.Sort(lines)
	return lines
}

// want compares what was told with what another, fresh, complete and undisturbed
// reading of the site tells.
func (b *bench) want(r *record) {
	b.Helper()
	if diff := b.diff(r); diff != "" {
		b.Errorf("the facts differ (-want +got):\n%s", diff)
	}
}

// diff returns what want complains about.
func (b *bench) diff(r *record) string {
	b.Helper()
	config := b.config
	config.Transport = &direct{Handler: b.fake}
	s, err := New(config)
	if err != nil {
		b.Fatal(err)
	}
	truth := newRecord()
	b.poll(s, truth)
	return shortDiff(cmp.Diff(truth.lines(), r.lines()))
}

func shortDiff(diff string) string {
	lines := strings.Split(diff, "\n")
	return strings.Join(lines[:min(len(lines), 40)], "\n")
}

// world fills a repository with some issues that have a history.
func (b *bench) world(repo string, issues int) (ids []string) {
	b.fake.AddLabel(repo, "blocked")
	for k := range issues {
		id := b.fake.Create(b.clock.after(7*time.Second), repo, fmt.Sprintf("Issue %d", k), CreateOptions{})
		ids = append(ids, id)
		switch k % 4 {
		case 0:
			b.fake.Close(b.clock.after(time.Second), id, "completed")
		case 1:
			b.fake.Label(b.clock.after(time.Second), id, "blocked")
			b.fake.Assign(b.clock.after(0), id, "worker-five")
		case 2:
			b.fake.OpenPull(b.clock.after(time.Second), repo, []string{id}, nil)
		}
	}
	b.clock.after(time.Hour)
	return ids
}

func TestBackfillAndIdle(t *testing.T) {
	b := newBench(t, FakeOptions{Noise: true})
	const issues = 230
	b.world("acme/api", issues)
	s, r := b.source(), newRecord()
	b.poll(s, r)
	if n := b.direct.requests(); float64(n) > 1.1*issues {
		t.Errorf("backfill of %d issues took %d requests, want at most 1.1 an issue", issues, n)
	}
	if want := (connector.Progress{Done: 287, Total: 287}); r.last != want {
		t.Errorf("progress in the end is %+v, want %+v", r.last, want)
	}
	born := 0
	for _, c := range r.facts {
		if c.Kind == flow.Created {
			born++
		}
	}
	if born != issues {
		t.Errorf("%d items were born, want %d", born, issues)
	}
	b.want(r)
	told := r.told
	for range 3 {
		b.poll(s, r)
		if n := b.direct.requests(); n != 1 {
			t.Errorf("an idle poll took %d requests, want 1", n)
		}
	}
	// After a restart the labels are listed once more.
	again := b.source()
	b.poll(again, r)
	if n := b.direct.requests(); n != 2 {
		t.Errorf("an idle poll after a restart took %d requests, want 2", n)
	}
	if r.told != told {
		t.Errorf("idle polls told %d changes again", r.told-told)
	}
	if counts := s.Requests(); counts["304"] == 0 {
		t.Errorf("requests %v: none was answered from what is known", counts)
	}
}

func TestPollStopsWithContext(t *testing.T) {
	b := newBench(t, FakeOptions{})
	b.world("acme/api", 20)
	ctx, cancel := context.WithCancel(t.Context())
	b.direct.before = func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/timeline") {
			cancel()
		}
	}
	r := newRecord()
	if err := b.source().Poll(ctx, nil, r.take); err != context.Canceled {
		t.Errorf("got %v, want the error of the context", err)
	}
}

// forgetLimits makes the client forget what limits it has seen, so that a test
// need not wait for their end.
func (s *Source) forgetLimits() {
	s.client.gh = reset(s.client.gh)
}

func reset(c *gh.Client) *gh.Client {
	n := gh.NewClient(c.Client())
	n.BaseURL, n.UserAgent = c.BaseURL, c.UserAgent
	return n
}

// serveTexts answers paths with texts, and others with an empty list.
func serveTexts(texts map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, ok := texts[r.URL.Path]
		if !ok {
			text = "[]"
		}
		fmt.Fprint(w, text)
	}
}
