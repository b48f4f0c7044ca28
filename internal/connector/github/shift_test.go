package github

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// TestShift: issues that are updated while the list is paged leave their places.
// Nobody else is passed over.
func TestShift(t *testing.T) {
	b := newBench(t, FakeOptions{PageSize: 5})
	ids := b.world("acme/api", 40)
	lists := 0
	b.direct.before = func(r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/issues") || lists >= 12 {
			return
		}
		// Those of the page just read go to the end, which pulls the rest up.
		for k := range 3 {
			b.fake.Comment(b.clock.after(time.Second), ids[(lists*3+k)%len(ids)], "bump")
		}
		lists++
	}
	s, r := b.source(), newRecord()
	b.poll(s, r)
	b.clock.after(time.Minute)
	b.poll(s, r)
	b.want(r)
}

// importAll fills a repository with issues of one second, more than a page holds.
func importAll(b *bench, issues int) (ids []string) {
	at := b.clock.after(time.Minute)
	for k := range issues {
		ids = append(ids, b.fake.Create(at, "acme/api", fmt.Sprintf("Imported %d", k), CreateOptions{}))
	}
	b.clock.after(time.Hour)
	return ids
}

func TestTies(t *testing.T) {
	for name, o := range map[string]FakeOptions{
		"page links":   {},
		"cursor links": {CursorAfter: 100},
		"small pages":  {PageSize: 7, CursorAfter: 21},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, o)
			b.world("acme/api", 10)
			importAll(b, 250)
			b.world2("acme/api", 10)
			s, r := b.source(), newRecord()
			b.poll(s, r)
			b.want(r)
			if len(r.facts) < 270 {
				t.Errorf("%d facts of 270 issues", len(r.facts))
			}
			if n := b.direct.requests(); n > 10+270+150 {
				t.Errorf("%d requests", n)
			}
			b.poll(s, r)
			if n := b.direct.requests(); n != 1 {
				t.Errorf("an idle poll took %d requests", n)
			}
		})
	}
}

// world2 adds issues without adding the label.
func (b *bench) world2(repo string, issues int) {
	for k := range issues {
		b.fake.Create(b.clock.after(time.Second), repo, fmt.Sprintf("Later %d", k), CreateOptions{})
	}
	b.clock.after(time.Hour)
}

// TestTieIsTheNewest: the second with many issues is the last thing that
// happened, so that it is within the overlap of each following poll.
func TestTieIsTheNewest(t *testing.T) {
	b := newBench(t, FakeOptions{})
	ids := importAll(b, 250)
	s, r := b.source(), newRecord()
	b.poll(s, r)
	b.direct.requests()
	for _, s := range []*Source{s, b.source()} {
		b.poll(s, r)
		b.direct.requests()
		b.poll(s, r)
		if n := b.direct.requests(); n != 1 {
			t.Errorf("an idle poll took %d requests, want 1", n)
		}
	}
	b.fake.Close(b.clock.after(time.Second), ids[17], "completed")
	b.clock.after(10 * time.Second)
	b.poll(s, r)
	if n := b.direct.requests(); n != 2 {
		t.Errorf("one change took %d requests, want 2", n)
	}
	b.want(r)
}

// TestTieShifts: issues leave the second with many issues while its pages are
// read by number.
func TestTieShifts(t *testing.T) {
	b := newBench(t, FakeOptions{PageSize: 10})
	ids := importAll(b, 45)
	lists := 0
	b.direct.before = func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/issues") {
			if lists++; lists == 3 {
				for _, id := range ids[:7] { // of the pages that were read
					b.fake.Close(b.clock.after(time.Second), id, "completed")
				}
			}
		}
	}
	r := newRecord()
	b.poll(b.source(), r)
	b.clock.after(time.Minute)
	b.poll(b.source(), r)
	b.want(r)
}

// TestResume: whichever cursor a program goes on from, nothing is lost.
func TestResume(t *testing.T) {
	b := newBench(t, FakeOptions{PageSize: 6, CursorAfter: 12}, "acme/api", "acme/web")
	b.world("acme/api", 14)
	importAll(b, 20)
	b.world("acme/web", 9)
	whole := newRecord()
	b.poll(b.source(), whole)
	if len(whole.cursors) < 10 {
		t.Fatalf("only %d cursors", len(whole.cursors))
	}
	for stop := range len(whole.cursors) {
		r := newRecord()
		enough := errors.New("enough")
		batches := 0
		err := b.source().Poll(t.Context(), nil, func(batch connector.Batch) error {
			if batches++; batches > stop {
				return enough
			}
			return r.take(batch)
		})
		if !errors.Is(err, enough) {
			t.Fatalf("stop %d: got %v, want the error of emit", stop, err)
		}
		b.poll(b.source(), r)
		b.want(r)
		if t.Failed() {
			t.Fatalf("after a stop at batch %d", stop)
		}
	}
}

// TestRefusedLink: a link that is not good any more is done without once, and a
// site that refuses each is not asked for ever.
func TestRefusedLink(t *testing.T) {
	for _, always := range []bool{false, true} {
		b := newBench(t, FakeOptions{PageSize: 10})
		importAll(b, 45)
		refusals := 0
		b.config.Transport = &direct{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("page") == "3" && (always || refusals == 0) {
				refusals++
				w.WriteHeader(http.StatusUnprocessableEntity)
				return
			}
			b.fake.ServeHTTP(w, r)
		})}
		r := newRecord()
		err := b.source().Poll(t.Context(), nil, r.take)
		if always && statusOf(err) != http.StatusUnprocessableEntity || !always && err != nil || refusals > 2 {
			t.Errorf("always %v: got %v after %d refusals", always, err, refusals)
		}
		if !always {
			b.want(r)
		}
	}
}

// TestRewind: the cursor decides where a source goes on from, not what it
// remembers.
func TestRewind(t *testing.T) {
	b := newBench(t, FakeOptions{PageSize: 8}, "acme/api", "acme/web")
	b.world("acme/api", 20)
	b.world("acme/web", 20)
	s, whole := b.source(), newRecord()
	b.poll(s, whole)
	for k, cursor := range append(whole.cursors, nil) {
		again, fresh := newRecord(), newRecord()
		again.cursor, fresh.cursor = cursor, cursor
		b.poll(s, again)
		b.poll(b.source(), fresh)
		if diff := cmp.Diff(fresh.lines(), again.lines()); diff != "" {
			t.Fatalf("from cursor %d (-fresh +used):\n%s", k, shortDiff(diff))
		}
	}
}

// TestLimits: however tight the limit, the scan comes to its end, in a program
// that goes on and in one that is restarted now and then.
func TestLimits(t *testing.T) {
	for _, o := range []FakeOptions{
		{LimitEvery: 3, PageSize: 10}, {LimitEvery: 2, PageSize: 20}, {LimitEvery: 5, Secondary: true, PageSize: 10},
		{FailEvery: 4, PageSize: 10}, {LimitEvery: 7, FailEvery: 4, PageSize: 30},
	} {
		t.Run(fmt.Sprintf("%+v", o.LimitEvery*10+o.FailEvery), synctested(func(t *testing.T) {
			o.LimitFor = time.Millisecond
			b := newBench(t, o)
			b.fake.opts.Now = time.Now
			b.clock.at = time.Now().Add(-100 * time.Hour).Truncate(time.Second)
			b.world("acme/api", 60)
			s, r := b.source(), newRecord()
			polls := 0
			for ; polls < 500; polls++ {
				err := s.Poll(t.Context(), r.cursor, r.take)
				if err == nil {
					break
				}
				limit, limited := errors.AsType[*connector.RateLimitError](err)
				if limited && (limit.Until.IsZero() || time.Until(limit.Until) > time.Hour) {
					t.Fatalf("wait until %v", limit.Until)
				}
				if !limited && o.FailEvery == 0 {
					t.Fatal(err)
				}
				if limited {
					s.forgetLimits()
				}
				if isError[*connector.PartialError](err) {
					time.Sleep(maxOutage)
					_ = s.Check(t.Context()) // else the failures keep step with the polls
				}
			}
			if polls == 500 || polls < 3 {
				t.Errorf("complete after %d polls", polls)
			}
			b.fake.opts.LimitEvery, b.fake.opts.FailEvery = 0, 0
			b.want(r)
		}))
	}
}

// synctested returns a test in a bubble with a clock of its own.
func synctested(test func(t *testing.T)) func(t *testing.T) {
	return func(t *testing.T) { synctest.Test(t, test) }
}

// TestRandomHistories: whatever happens while a source polls, is restarted and
// fails, in the end all is told.
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBench(t, FakeOptions{
			PageSize: rapid.IntRange(1, 9).Draw(rt, "page"), CursorAfter: rapid.IntRange(1, 40).Draw(rt, "cursors"),
		})
		b.fake.AddLabel("acme/api", "blocked")
		var ids []string
		blocked := map[string]bool{}
		closed := map[string]bool{}
		happen := func() {
			at := b.clock.after(time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 1, 5, 200}).Draw(rt, "gap")) * time.Second)
			what := rapid.IntRange(0, 5).Draw(rt, "what")
			if len(ids) == 0 || what < 2 {
				ids = append(ids, b.fake.Create(at, "acme/api", "New", CreateOptions{}))
				return
			}
			id := rapid.SampledFrom(ids).Draw(rt, "id")
			switch {
			case what == 2 && !closed[id]:
				b.fake.Close(at, id, "completed")
				closed[id] = true
			case what == 2:
				b.fake.Reopen(at, id)
				closed[id] = false
			case what == 3 && !blocked[id]:
				b.fake.Label(at, id, "blocked")
				blocked[id] = true
			case what == 3:
				b.fake.Unlabel(at, id, "blocked")
				blocked[id] = false
			default:
				b.fake.Comment(at, id, "words")
			}
		}
		for range rapid.IntRange(0, 60).Draw(rt, "before") {
			happen()
		}
		s, r := b.source(), newRecord()
		left := rapid.IntRange(0, 40).Draw(rt, "during")
		b.direct.before = func(q *http.Request) {
			if left > 0 && strings.HasSuffix(q.URL.Path, "/issues") {
				left--
				happen()
			}
		}
		refused := errors.New("refused")
		for range rapid.IntRange(0, 6).Draw(rt, "polls") {
			some := rapid.IntRange(0, 8).Draw(rt, "batches")
			err := s.Poll(t.Context(), r.cursor, func(batch connector.Batch) error {
				if some--; some < 0 {
					return refused
				}
				return r.take(batch)
			})
			if err != nil && !errors.Is(err, refused) {
				rt.Fatal(err)
			}
			if rapid.Bool().Draw(rt, "restart") {
				s = b.source()
			}
		}
		left = 0
		b.clock.after(10 * time.Second)
		b.poll(s, r)
		if diff := b.diff(r); diff != "" {
			rt.Fatalf("the facts differ (-want +got):\n%s", diff)
		}
	})
}

// TestTieShiftsAcrossRestart: the program stops in a second with many issues,
// and so many of them leave it that its last page is empty.
func TestTieShiftsAcrossRestart(t *testing.T) {
	b := newBench(t, FakeOptions{PageSize: 10})
	ids := importAll(b, 25)
	r := newRecord()
	enough := errors.New("enough")
	err := b.source().Poll(t.Context(), nil, func(batch connector.Batch) error {
		if strings.Contains(string(r.cursor), "page=3") {
			return enough
		}
		return r.take(batch)
	})
	if !errors.Is(err, enough) {
		t.Fatalf("got %v: the scan did not come to the third page", err)
	}
	for _, id := range ids[:6] {
		b.fake.Close(b.clock.after(time.Second), id, "completed")
	}
	b.clock.after(time.Hour)
	b.poll(b.source(), r)
	b.want(r)
}

// TestLateEvent: an event turns up only after the timeline was read, in the
// second of the issue's last update, and the scan goes on for long.
func TestLateEvent(t *testing.T) {
	b := newBench(t, FakeOptions{PageSize: 2})
	b.fake.AddLabel("acme/api", "blocked")
	at := b.clock.now()
	id := b.fake.Create(at, "acme/api", "Early", CreateOptions{})
	for range 4 {
		b.fake.Create(b.clock.after(time.Second), "acme/api", "Later", CreateOptions{})
	}
	b.clock.at = at.Add(time.Second)
	lists := 0
	b.direct.before = func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/issues") {
			if lists++; lists == 3 {
				b.fake.Label(at, id, "blocked")
				b.fake.Create(b.clock.after(time.Hour), "acme/api", "Last", CreateOptions{})
			}
		}
	}
	s, r := b.source(), newRecord()
	b.poll(s, r)
	b.clock.after(time.Minute)
	b.poll(s, r)
	b.want(r)
}

// TestTurns: with more repositories than a limit allows requests, each is read
// in its turn.
func TestTurns(t *testing.T) {
	repos := []string{"acme/a", "acme/b", "acme/c", "acme/d", "acme/e", "acme/f"}
	b := newBench(t, FakeOptions{LimitEvery: 5, LimitFor: time.Millisecond, Secondary: true}, repos...)
	b.fake.opts.Now = time.Now
	s, r := b.source(), newRecord()
	for range 20 {
		err := s.Poll(t.Context(), r.cursor, r.take)
		if _, limited := errors.AsType[*connector.RateLimitError](err); err != nil && !limited {
			t.Fatal(err)
		}
		s.forgetLimits()
	}
	b.direct.requests()
	id := b.fake.Create(time.Now().Add(-time.Minute), "acme/f", "Last", CreateOptions{})
	for range 4 {
		// The outcome does not matter: there is a limit in each.
		_ = s.Poll(t.Context(), r.cursor, r.take)
		s.forgetLimits()
	}
	if _, told := r.facts[id+":created"]; !told {
		t.Error("the last repository was never read again")
	}
}

// TestHeavyTimeline: what is too much for the site at once is asked for in
// smaller pages.
func TestHeavyTimeline(t *testing.T) {
	b := newBench(t, FakeOptions{})
	b.world("acme/api", 3)
	b.config.Transport = &direct{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if size := r.URL.Query().Get("per_page"); strings.HasSuffix(r.URL.Path, "/2/timeline") && len(size) == 3 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		b.fake.ServeHTTP(w, r)
	})}
	s, r := b.source(), newRecord()
	if err := s.Poll(t.Context(), nil, r.take); statusOf(err) != http.StatusBadGateway {
		t.Fatalf("got %v", err)
	}
	b.poll(s, r)
	b.want(r)
}
