package connector_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// pauses runs a source that always returns err and returns the times between
// the starts of its first polls.
func pauses(t *testing.T, cfg connector.Config, n int, err func() error) []time.Duration {
	t.Helper()
	var starts []time.Time
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Source = sourceFunc(func(context.Context, connector.Cursor, func(connector.Batch) error) error {
		starts = append(starts, time.Now())
		if len(starts) > n {
			cancel()
		}
		return err()
	})
	begin := time.Now()
	if err := connector.NewRunner(cfg).Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
	if !starts[0].Equal(begin) {
		t.Errorf("first poll after %s, want at once", starts[0].Sub(begin))
	}
	var between []time.Duration
	for i := range n {
		between = append(between, starts[i+1].Sub(starts[i]))
	}
	return between
}

func TestPauses(t *testing.T) {
	const s, m = time.Second, time.Minute
	for _, test := range []struct {
		name     string
		interval time.Duration
		err      func() error
		least    []time.Duration
		spread   float64 // how much longer than least, as a ratio
	}{
		{"success", m, func() error { return nil }, []time.Duration{m, m, m}, 0.1},
		{"at least a second", time.Millisecond, func() error { return nil }, []time.Duration{s, s}, 0.1},
		{"temporary", m, func() error { return errBroken }, []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 64 * s, 128 * s, 256 * s, 5 * m, 5 * m}, 0.25},
		{"rate limit", m, func() error {
			return fmt.Errorf("search: %w", &connector.RateLimitError{Until: time.Now().Add(17 * time.Minute), Err: errBroken})
		}, []time.Duration{17 * m, 17 * m}, 0},
		{"rate limit of unknown length", 5 * s, func() error { return &connector.RateLimitError{Err: errBroken} }, []time.Duration{4 * s, 8 * s, 16 * s}, 0.25},
		{"rate limit of absurd length", m, func() error {
			return &connector.RateLimitError{Until: time.Now().Add(1000 * time.Hour), Err: errBroken}
		}, []time.Duration{time.Hour, time.Hour}, 0},
		{"rate limit in the past", m, func() error {
			return &connector.RateLimitError{Until: time.Now().Add(-time.Hour), Err: errBroken}
		}, []time.Duration{s, 2 * s, 4 * s}, 0.25},
		{"credentials", m, func() error { return fmt.Errorf("search: %w", &connector.AuthError{Err: errBroken}) }, []time.Duration{15 * s, m, 4 * m, 5 * m, 5 * m}, 0.25},
		{"configuration", 20 * m, func() error { return &connector.ConfigError{Err: errBroken} }, []time.Duration{15 * s, m, 4 * m, 5 * m}, 0.25},
		{"a part", m, func() error {
			return &connector.PartialError{Err: &connector.ConfigError{Err: errBroken}}
		}, []time.Duration{m, m, m}, 0.1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := newMemory().config(nil)
				cfg.PollInterval = test.interval
				got := pauses(t, cfg, len(test.least), test.err)
				for i, least := range test.least {
					if most := least + time.Duration(float64(least)*test.spread); got[i] < least || got[i] > most {
						t.Errorf("pause %d is %s, want %s to %s", i, got[i], least, most)
					}
				}
			})
		})
	}
}

// A success, and a poll that got further before it failed, reset the pauses.
func TestPausesReset(t *testing.T) {
	for _, kind := range []string{"success", "advance"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var starts []time.Time
				ctx, cancel := context.WithCancel(t.Context())
				r := connector.NewRunner(newMemory().config(sourceFunc(func(_ context.Context, _ connector.Cursor, emit func(connector.Batch) error) error {
					starts = append(starts, time.Now())
					switch {
					case len(starts) == 8:
						cancel()
					case len(starts) == 6 && kind == "success":
						return nil
					case len(starts) == 7 && kind == "advance":
						if err := emit(connector.Batch{Cursor: connector.Cursor("1")}); err != nil {
							return err
						}
					}
					return errBroken
				})))
				if err := r.Run(ctx); err != nil {
					t.Error(err)
				}
				if got := starts[7].Sub(starts[6]); got > 2*time.Second {
					t.Errorf("pause of %s, want about a second", got)
				}
			})
		})
	}
}

func TestPollNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var starts []time.Duration
		begin := time.Now()
		var limit atomic.Pointer[connector.RateLimitError]
		cfg := newMemory().config(sourceFunc(func(context.Context, connector.Cursor, func(connector.Batch) error) error {
			mu.Lock()
			starts = append(starts, time.Since(begin))
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			if err := limit.Load(); err != nil {
				return err
			}
			return nil
		}))
		cfg.PollInterval = time.Hour
		r := connector.NewRunner(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		checked := 0
		step := func(d time.Duration, want ...time.Duration) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got := starts[checked:]; fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("polls at %v, want %v", got, want)
			}
			checked = len(starts)
		}
		step(10*time.Second, 0)
		for range 100 {
			r.PollNow()
		}
		step(50*time.Millisecond, 10*time.Second) // at once, and once
		for range 100 {
			r.PollNow() // during a poll: once more, a second after it
		}
		step(10*time.Second, 11100*time.Millisecond)
		limit.Store(&connector.RateLimitError{Until: time.Now().Add(time.Minute), Err: errBroken})
		limited := time.Since(begin)
		r.PollNow()
		step(time.Second, limited)
		r.PollNow()
		limit.Store(nil)
		step(50 * time.Second) // the tracker asked for time
		step(10*time.Minute, limited+time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
