package connector_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// numbered is a source of numbered facts: its cursor is the number of the next.
func numbered(total, size int) sourceFunc {
	return func(_ context.Context, from connector.Cursor, emit func(connector.Batch) error) error {
		at := 0
		if len(from) > 0 {
			var err error
			if at, err = strconv.Atoi(string(from)); err != nil {
				return fmt.Errorf("%w: %v", connector.ErrCursor, err)
			}
		}
		for at < total {
			next := min(at+size, total)
			err := emit(connector.Batch{
				Changes: changes(at, next), Cursor: connector.Cursor(strconv.Itoa(next)),
				Progress: connector.Progress{Done: next, Total: total},
			})
			if err != nil {
				return err
			}
			at = next
		}
		return nil
	}
}

func TestRunnerCompletesChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		seen := time.Date(2026, 6, 2, 0, 0, 0, 0, time.UTC)
		own, foreign, bad, worse := change(1), change(2), change(3), change(4)
		foreign.Source, foreign.ObservedAt = "other", seen
		bad.ID, worse.Kind = "", flow.KindUnknown
		var log bytes.Buffer
		cfg := m.config(sourceFunc(func(_ context.Context, _ connector.Cursor, emit func(connector.Batch) error) error {
			return emit(connector.Batch{Changes: []flow.Change{own, foreign, bad, worse, change(5)}, Cursor: connector.Cursor("5")})
		}))
		cfg.Logger = textLog(&log)
		var refused rejections
		cfg.Rejections = &refused
		start := time.Now()
		r := connector.NewRunner(cfg)
		run(t, r, time.Second)

		want := []flow.Change{own, change(5), foreign} // by source, in order
		for i := range want[:2] {
			want[i].Source, want[i].ObservedAt = "tracker", start.UTC()
		}
		if diff := cmp.Diff(want, m.published); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"tracker", "other"}, m.sources); diff != "" {
			t.Errorf("calls of Publish (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"source:tracker  missing", "source:tracker 4 unknown_kind"}, refused.said); diff != "" {
			t.Errorf("rejections (-want +got):\n%s", diff)
		}
		s := r.Status()
		if diff := cmp.Diff(map[flow.Reason]int64{flow.ReasonMissing: 1, flow.ReasonUnknownKind: 1}, s.Dropped); diff != "" {
			t.Errorf("dropped (-want +got):\n%s", diff)
		}
		if s.Published != 3 || string(m.cursors["tracker"]) != "5" {
			t.Errorf("published %d, cursor %q", s.Published, m.cursors["tracker"])
		}
		for _, want := range []string{"reason=missing", "reason=unknown_kind", "source=tracker"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("log lacks %q:\n%s", want, &log)
			}
		}
	})
}

func TestRunnerLogsFewInvalidChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var log bytes.Buffer
		cfg := m.config(sourceFunc(func(_ context.Context, _ connector.Cursor, emit func(connector.Batch) error) error {
			return emit(connector.Batch{Changes: make([]flow.Change, 100)})
		}))
		cfg.Logger = textLog(&log)
		r := connector.NewRunner(cfg)
		run(t, r, time.Second)
		if lines := strings.Count(log.String(), "\n"); lines != 21 || !strings.Contains(log.String(), "changes=80") {
			t.Errorf("%d log lines:\n%s", lines, &log)
		}
		if n := r.Status().Dropped[flow.ReasonMissing]; n != 100 {
			t.Errorf("dropped %d, want 100", n)
		}
	})
}

func TestRunnerLeavesOutWhatIsKnown(t *testing.T) {
	for overlaps, want := range map[bool][]string{true: {"0", "2"}, false: {"0", "1", "2", "0", "1", "2"}} {
		t.Run(fmt.Sprintf("overlaps=%t", overlaps), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				m.known["tracker/1"] = true
				cfg := m.config(sourceFunc(func(_ context.Context, _ connector.Cursor, emit func(connector.Batch) error) error {
					return emit(connector.Batch{Changes: changes(0, 3), Cursor: connector.Cursor("x")})
				}))
				cfg.Overlaps = overlaps
				run(t, connector.NewRunner(cfg), 90*time.Second) // two polls
				if diff := cmp.Diff(want, m.ids()); diff != "" {
					t.Errorf("published (-want +got):\n%s", diff)
				}
				if m.revisions["tracker"] != 1 {
					t.Errorf("the same cursor was stored %d times", m.revisions["tracker"])
				}
			})
		})
	}
}

// A change whose Publish failed is not known: it is published again.
func TestRunnerRepeatsWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		calls := 0
		m.onPublish = func([]flow.Change) (int, error) {
			if calls++; calls == 2 {
				return 1, errBroken
			}
			return 2, nil
		}
		cfg := m.config(numbered(6, 2))
		cfg.Overlaps = true
		r := connector.NewRunner(cfg)
		run(t, r, 30*time.Second)
		if diff := cmp.Diff([]string{"0", "1", "2", "2", "3", "4", "5"}, m.ids()); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
	})
}

// A source that goes on after emit failed must not move the cursor (I1).
func TestRunnerStopsAtTheFirstFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.onPublish = func(cs []flow.Change) (int, error) {
			if cs[0].ID == "1" {
				return 0, errBroken
			}
			return len(cs), nil
		}
		r := connector.NewRunner(m.config(sourceFunc(func(_ context.Context, _ connector.Cursor, emit func(connector.Batch) error) error {
			for n := range 3 {
				_ = emit(connector.Batch{Changes: changes(n, n+1), Cursor: connector.Cursor(strconv.Itoa(n + 1))})
			}
			return nil
		})))
		run(t, r, 500*time.Millisecond)
		if got := string(m.cursors["tracker"]); got != "1" {
			t.Errorf("cursor is %q, want 1", got)
		}
		if s := r.Status(); s.LastError != "publish changes: broken" || !s.LastSuccess.IsZero() || !s.Polled {
			t.Errorf("status %+v", s)
		}
	})
}

func TestRunnerReloadsAStaleCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		polls := 0
		source := numbered(4, 2)
		r := connector.NewRunner(m.config(sourceFunc(func(ctx context.Context, from connector.Cursor, emit func(connector.Batch) error) error {
			if polls++; polls == 1 { // somebody else stores one meanwhile
				m.cursors["tracker"], m.revisions["tracker"] = []byte("2"), 9
			}
			return source(ctx, from, emit)
		})))
		run(t, r, 500*time.Millisecond)
		if polls != 2 || string(m.cursors["tracker"]) != "4" {
			t.Errorf("%d polls, cursor %q", polls, m.cursors["tracker"])
		}
		if diff := cmp.Diff([]string{"0", "1", "2", "3"}, m.ids()); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
	})
}

// Two that fight over a cursor do not spin.
func TestRunnerGivesWayWhenAlwaysStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		polls := 0
		r := connector.NewRunner(m.config(sourceFunc(func(ctx context.Context, from connector.Cursor, emit func(connector.Batch) error) error {
			polls++
			m.revisions["tracker"]++
			return emit(connector.Batch{Changes: changes(0, 1), Cursor: connector.Cursor(strconv.Itoa(polls))})
		})))
		run(t, r, time.Minute) // fails after 0, 1, 3, 7, 15 and 31 seconds and a little
		if polls < 15 || polls > 18 || !strings.Contains(r.Status().LastError, "somebody else") {
			t.Errorf("%d polls, error %q", polls, r.Status().LastError)
		}
	})
}

func TestRunnerStartsOverFromABadCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.cursors["tracker"], m.revisions["tracker"] = []byte("garbage"), 3
		fail := true
		m.onPublish = func(cs []flow.Change) (int, error) {
			if fail {
				return 0, errBroken
			}
			return len(cs), nil
		}
		var log bytes.Buffer
		cfg := m.config(numbered(3, 2))
		cfg.Logger = textLog(&log)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		time.AfterFunc(20*time.Second, func() {
			m.mu.Lock()
			defer m.mu.Unlock()
			fail = false
		})
		if err := connector.NewRunner(cfg).Run(ctx); err != nil {
			t.Error(err)
		}
		if string(m.cursors["tracker"]) != "3" {
			t.Errorf("cursor is %q", m.cursors["tracker"])
		}
		if strings.Count(log.String(), "reading from the beginning") != 1 {
			t.Errorf("want one line about the cursor:\n%s", &log)
		}
	})
}

func TestRunnerSurvivesAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		polls := 0
		var log bytes.Buffer
		cfg := m.config(sourceFunc(func(ctx context.Context, from connector.Cursor, emit func(connector.Batch) error) error {
			if polls++; polls == 1 {
				panic("out of range")
			}
			return nil
		}))
		cfg.Logger = textLog(&log)
		r := connector.NewRunner(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		synctest.Wait()
		if s := r.Status(); s.LastError != "source panicked: out of range" || s.Lag != 0 {
			t.Errorf("status %+v", s)
		}
		time.Sleep(2 * time.Second)
		if s := r.Status(); s.LastError != "" || s.LastSuccess.IsZero() {
			t.Errorf("after the panic: %+v", s)
		}
		cancel()
		if err := <-done; err != nil || polls != 2 {
			t.Errorf("Run: %v after %d polls", err, polls)
		}
		if !strings.Contains(log.String(), "runner_test.go") {
			t.Errorf("log has no stack:\n%s", &log)
		}
	})
}

func TestRunnerRefusesALargeCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		r := connector.NewRunner(m.config(sourceFunc(func(_ context.Context, _ connector.Cursor, emit func(connector.Batch) error) error {
			return emit(connector.Batch{Cursor: make(connector.Cursor, connector.MaxCursor+1)})
		})))
		run(t, r, 500*time.Millisecond)
		if s := r.Status(); !strings.Contains(s.LastError, "the limit is 65536") || m.revisions["tracker"] != 0 {
			t.Errorf("error %q, %d cursors stored", s.LastError, m.revisions["tracker"])
		}
	})
}

// A cursor that cannot be loaded is no reason to read from the beginning.
func TestRunnerWaitsForItsCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.cursors["tracker"], m.revisions["tracker"] = []byte("3"), 1
		loads := 0
		m.onLoad = func() error {
			if loads++; loads < 4 {
				return errBroken
			}
			return nil
		}
		var log bytes.Buffer
		cfg := m.config(numbered(5, 2))
		cfg.Logger = textLog(&log)
		run(t, connector.NewRunner(cfg), 30*time.Second)
		if diff := cmp.Diff([]string{"3", "4"}, m.ids()); diff != "" || loads != 4 {
			t.Errorf("%d loads, published (-want +got):\n%s", loads, diff)
		}
		for _, want := range []string{`error="load cursor: broken" failures=3`, "source works again"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("log lacks %q:\n%s", want, &log)
			}
		}
	})
}

func TestRunnerStopsDuringAPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		r := connector.NewRunner(m.config(sourceFunc(func(ctx context.Context, _ connector.Cursor, _ func(connector.Batch) error) error {
			<-ctx.Done()
			return fmt.Errorf("get page: %w", ctx.Err())
		})))
		run(t, r, time.Minute)
		if s := r.Status(); s.Polled || s.LastError != "" {
			t.Errorf("being stopped counts as an outcome: %+v", s)
		}
	})
}

// Whatever fails, and whether or not it took effect, the cursor never stands
// for a fact that is not durable (I1), and every fact arrives in the end.
func TestRunnerNeverGetsAheadOfTheLog(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		total := rapid.IntRange(1, 40).Draw(rt, "facts")
		size := rapid.IntRange(1, 9).Draw(rt, "batch")
		overlaps := rapid.Bool().Draw(rt, "overlaps")
		// What happens to the next calls: 0 works, 1 fails before it takes effect,
		// 2 after, 3 halfway or with somebody else's cursor stored.
		fates := rapid.SliceOfN(rapid.IntRange(0, 3), 0, 60).Draw(rt, "fates")
		var problem string
		synctest.Test(t, func(t *testing.T) { problem = survive(t, total, size, overlaps, fates) })
		if problem != "" {
			rt.Fatal(problem)
		}
	})
}

func survive(t *testing.T, total, size int, overlaps bool, fates []int) (problem string) {
	m := newMemory()
	fate := func() int {
		if len(fates) == 0 {
			return 0
		}
		f := fates[0]
		fates = fates[1:]
		return f
	}
	m.onPublish = func(cs []flow.Change) (int, error) {
		switch fate() {
		case 1:
			return 0, errBroken
		case 2:
			return len(cs), errBroken
		case 3:
			return len(cs) / 2, errBroken
		}
		return len(cs), nil
	}
	m.onStore = func(cursor []byte) error {
		covered, _ := strconv.Atoi(string(cursor))
		for n := range covered {
			if !slices.ContainsFunc(m.published, func(c flow.Change) bool { return c.ID == strconv.Itoa(n) }) {
				problem = fmt.Sprintf("cursor %d was stored while fact %d is not durable", covered, n)
			}
		}
		switch fate() {
		case 1:
			return errBroken
		case 2:
			m.cursors["tracker"] = slices.Clone(cursor)
			m.revisions["tracker"]++
			return errBroken
		case 3:
			m.revisions["tracker"]++
			return connector.ErrStale
		}
		return nil
	}
	cfg := m.config(numbered(total, size))
	cfg.Overlaps, cfg.PollInterval = overlaps, time.Hour
	run(t, connector.NewRunner(cfg), 20*time.Hour) // 60 failures take 7 at the most
	if problem == "" && string(m.cursors["tracker"]) != strconv.Itoa(total) {
		problem = fmt.Sprintf("cursor is %q in the end, want %d", m.cursors["tracker"], total)
	}
	return problem
}

// rejections keeps what is rejected, or fails.
type rejections struct {
	said []string
	err  error
}

func (r *rejections) Reject(_ context.Context, list []flow.Rejection) error {
	for _, x := range list {
		r.said = append(r.said, fmt.Sprintf("%s %s %s", x.Subject, x.ID, x.Reason))
	}
	return r.err
}

// TestRejectionsBeforeCursor: what cannot be listed is read again.
func TestRejectionsBeforeCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		cfg := m.config(sourceFunc(func(_ context.Context, _ connector.Cursor, emit func(connector.Batch) error) error {
			return emit(connector.Batch{
				Changes: []flow.Change{change(1)}, Cursor: connector.Cursor("1"),
				Rejected: []flow.Rejection{{Index: 2, Subject: "file:x", Reason: flow.ReasonMalformed}},
			})
		}))
		refused := rejections{err: errors.New("the log is away")}
		cfg.Rejections = &refused
		r := connector.NewRunner(cfg)
		run(t, r, 500*time.Millisecond)
		if len(refused.said) == 0 || len(m.cursors) != 0 || !strings.Contains(r.Status().LastError, "record rejections") {
			t.Errorf("rejected %q, cursor %q, error %q", refused.said, m.cursors, r.Status().LastError)
		}
	})
}
