package connector_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// metered is a source that counts.
type metered struct {
	sourceFunc
	remaining int
}

func (metered) Requests() map[string]int64                                      { return map[string]int64{"200": 7, "error": 1} }
func (m metered) RateLimitRemaining() (int, bool)                               { return m.remaining, m.remaining >= 0 }
func (metered) Rejects() map[flow.Reason]int64                                  { return map[flow.Reason]int64{flow.ReasonMissing: 2} }
func none(context.Context, connector.Cursor, func(connector.Batch) error) error { return nil }

func TestStatusPassesOnWhatTheSourceCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := connector.NewRunner(newMemory().config(metered{none, 41}))
		begin := time.Now()
		if s := r.Status(); s.Polled || s.Backfill != 0 || s.Lag != 0 {
			t.Errorf("before Run: %+v", s)
		}
		run(t, r, time.Second)
		want := connector.Status{
			Name: "tracker", Polled: true, LastSuccess: begin, Backfill: 1,
			Dropped:  map[flow.Reason]int64{flow.ReasonMissing: 2},
			Requests: map[string]int64{"200": 7, "error": 1}, RateLimitRemaining: 41, RateLimitKnown: true,
		}
		if diff := cmp.Diff(want, r.Status()); diff != "" {
			t.Errorf("status (-want +got):\n%s", diff)
		}
		if s := connector.NewRunner(newMemory().config(metered{none, -1})).Status(); s.RateLimitKnown {
			t.Errorf("rate limit is known: %+v", s)
		}
	})
}

func TestStatusLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		r := connector.NewRunner(newMemory().config(sourceFunc(func(context.Context, connector.Cursor, func(connector.Batch) error) error {
			time.Sleep(10 * time.Second)
			if broken.Load() {
				return &connector.AuthError{Err: errBroken}
			}
			return nil
		})))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		lag := func(after, want time.Duration) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := r.Status().Lag; got != want {
				t.Errorf("lag is %s, want %s", got, want)
			}
		}
		lag(4*time.Second, 4*time.Second) // the first poll is under way
		lag(10*time.Second, 0)            // it has caught up
		broken.Store(true)
		lag(4*time.Minute, 14*time.Second+4*time.Minute) // since it began
		broken.Store(false)
		for range 6 * 60 { // refused credentials wait five minutes at most
			if r.Status().LastError != "" {
				time.Sleep(time.Second)
			}
		}
		lag(0, 0)
		s := r.Status()
		if s.LastError != "" || s.LastErrorAt.IsZero() {
			t.Errorf("after recovery: %+v", s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// The ratio of a backfill never falls and is 1 only once it has caught up.
func TestStatusBackfill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *connector.Runner
		var got []float64
		r = connector.NewRunner(newMemory().config(sourceFunc(func(_ context.Context, _ connector.Cursor, emit func(connector.Batch) error) error {
			for _, p := range []connector.Progress{{Done: 1, Total: 4}, {Done: 1, Total: 8}, {}, {Ratio: 0.5}, {Done: 9, Total: 8}, {Ratio: -1}} {
				if err := emit(connector.Batch{Progress: p}); err != nil {
					return err
				}
				got = append(got, r.Status().Backfill)
			}
			return nil
		})))
		run(t, r, 90*time.Second)
		got = append(got[:7], r.Status().Backfill)
		if diff := cmp.Diff([]float64{0.25, 0.25, 0.25, 0.5, 0.999, 0.999, 1, 1}, got); diff != "" {
			t.Errorf("ratios (-want +got):\n%s", diff)
		}
	})
}

// A first poll that a tracker interrupts for a moment is not over; one that
// waits for long, or gets nowhere, has failed.
func TestStatusPolled(t *testing.T) {
	for name, c := range map[string]struct {
		pause time.Duration
		after time.Duration // it is polled after this long, and not before
	}{
		"short": {2 * time.Second, 40 * time.Second},
		"long":  {2 * time.Minute, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := connector.NewRunner(newMemory().config(sourceFunc(func(context.Context, connector.Cursor, func(connector.Batch) error) error {
					return &connector.RateLimitError{Until: time.Now().Add(c.pause), Err: errBroken}
				})))
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- r.Run(ctx) }()
				if c.after > 0 {
					time.Sleep(c.after - time.Second)
					if s := r.Status(); s.Polled || s.LastError == "" {
						t.Errorf("before: %+v", s)
					}
					time.Sleep(time.Second)
				}
				synctest.Wait()
				if !r.Status().Polled {
					t.Errorf("after %s: %+v", c.after, r.Status())
				}
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestStatusErrorIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := connector.NewRunner(newMemory().config(sourceFunc(func(context.Context, connector.Cursor, func(connector.Batch) error) error {
			return errors.New("x" + strings.Repeat("é", 10_000))
		})))
		run(t, r, 100*time.Millisecond)
		if text := r.Status().LastError; len(text) > 510 || !utf8.ValidString(text) || !strings.HasSuffix(text, "é...") {
			t.Errorf("error of %d bytes: %q", len(text), text)
		}
	})
}

// What is read in part is shown as a failure, which neither slows the rest down
// nor fills the log.
func TestPartialFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines bytes.Buffer
		cfg := newMemory().config(sourceFunc(func(context.Context, connector.Cursor, func(connector.Batch) error) error {
			return &connector.PartialError{Err: &connector.ConfigError{Err: errBroken}}
		}))
		cfg.Logger = slog.New(slog.NewTextHandler(&lines, nil))
		r := connector.NewRunner(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		s := r.Status()
		if !s.Polled || !s.LastSuccess.IsZero() || s.Lag != 10*time.Minute || !strings.Contains(s.LastError, "read in part") {
			t.Errorf("got %+v", s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := strings.Count(lines.String(), "poll failed"); n != 1 {
			t.Errorf("%d log lines about it, want one:\n%s", n, &lines)
		}
	})
}
