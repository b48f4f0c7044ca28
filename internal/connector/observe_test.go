package connector_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// board is a source whose statuses are seen.
type board struct {
	sourceFunc
	observe func(ctx context.Context, seen func(connector.Observation)) error
}

func (b board) Observe(ctx context.Context, seen func(connector.Observation)) error {
	return b.observe(ctx, seen)
}

// seen returns an observation of an item of PAY.
func seen(id, status string, at time.Time) connector.Observation {
	return connector.Observation{Item: connector.Item{ID: id, Key: "PAY-" + id, Container: "PAY", Status: named(status)}, At: at}
}

// without returns an observation of an item of PAY that has no status.
func without(id string, at time.Time) connector.Observation {
	return connector.Observation{Item: connector.Item{ID: id, Container: "PAY"}, At: at}
}

// cleared is a change after which an item has no status.
func cleared(id, item string, at time.Time) flow.Change {
	c := step(id, item, "", at)
	c.Fields[0].To = flow.Value{}
	return c
}

// named returns a status; its id is in upper case.
func named(status string) flow.Value {
	return flow.Value{ID: strings.ToUpper(status), Name: status}
}

// step is a change of status.
func step(id, item, status string, at time.Time) flow.Change {
	return flow.Change{
		ID: id, Container: "PAY", Item: item, At: at, Kind: flow.Updated,
		Fields: []flow.FieldChange{{Field: flow.FieldStatus, To: named(status)}},
	}
}

func TestObserve(t *testing.T) {
	at := time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC)
	begin := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // of the bubble's clock
	for _, test := range []struct {
		name      string
		log       *known        // what the facts say of item 1; nil: unknown
		published []flow.Change // by the poll, of which the facts know nothing
		seen      connector.Observation
		want      string // id at from → to; empty: nothing
	}{
		{"differs", &known{named("ready"), at}, nil, seen("1", "done", at.Add(time.Hour)), "1:observed:DONE:946602000000 1h ready → done"},
		{"without an id", &known{flow.Value{Name: "ready"}, at}, nil, connector.Observation{
			Item: connector.Item{ID: "1", Container: "PAY", Status: flow.Value{Name: "done"}}, At: at.Add(time.Hour),
		}, "1:observed:done:946602000000 1h ready → done"},
		{"without a time", &known{named("ready"), at}, nil, seen("1", "done", time.Time{}), "1:observed:DONE:946684800000 24h ready → done"},
		{"first status", &known{}, nil, seen("1", "ready", at), "1:observed:READY:946598400000 0s  → ready"},
		{"at the same instant", &known{named("ready"), at}, nil, seen("1", "done", at), "1:observed:DONE:946598400000 1ms ready → done"},
		{"from the future", &known{named("ready"), at}, nil, seen("1", "done", begin.Add(time.Hour)), "1:observed:DONE:946684800000 24h ready → done"},
		{"same", &known{named("ready"), at}, nil, seen("1", "ready", at.Add(time.Hour)), ""},
		{"renamed", &known{flow.Value{ID: "READY", Name: "to do"}, at}, nil, seen("1", "ready", at.Add(time.Hour)), ""},
		{"same by name", &known{flow.Value{Name: "ready"}, at}, nil, seen("1", "ready", at.Add(time.Hour)), ""},
		{"older than what is known", &known{named("ready"), at}, nil, seen("1", "done", at.Add(-time.Second)), ""},
		{"unknown item", nil, nil, seen("1", "done", at), ""},
		{"cleared", &known{named("ready"), at}, nil, without("1", at.Add(time.Hour)), "1:observed:none:946602000000 1h ready → "},
		{"cleared at an unknown time", &known{named("ready"), at}, nil, without("1", time.Time{}), "1:observed:none:946684800000 24h ready → "},
		{"cleared before what is known", &known{named("ready"), at}, nil, without("1", at.Add(-time.Second)), ""},
		{"never had one", &known{}, nil, without("1", at), ""},
		{"unknown item without one", nil, nil, without("1", at), ""},
		{"cleared lately", &known{named("ready"), at}, []flow.Change{cleared("a", "1", at.Add(time.Hour))}, without("1", at.Add(time.Hour)), ""},
		{"no item", &known{named("ready"), at}, nil, seen("", "done", at), ""},

		{"published lately", nil, []flow.Change{step("a", "1", "ready", at)}, seen("1", "done", at.Add(time.Hour)),
			"1:observed:DONE:946602000000 1h ready → done"},
		{"the same published lately", &known{named("ready"), at}, []flow.Change{step("a", "1", "done", at.Add(time.Hour))},
			seen("1", "done", at.Add(time.Hour)), ""},
		{"something older published lately", &known{named("ready"), at}, []flow.Change{step("a", "1", "done", at.Add(-time.Hour))},
			seen("1", "done", at.Add(time.Minute)), "1:observed:DONE:946598460000 1m ready → done"},
		{"deleted lately", &known{named("ready"), at}, []flow.Change{{ID: "a", Container: "PAY", Item: "1", At: at.Add(time.Minute), Kind: flow.Deleted}},
			seen("1", "done", at.Add(time.Hour)), ""},
		{"passed a moment before", nil, []flow.Change{step("a", "1", "ready", begin.Add(-4*time.Second)), step("b", "1", "done", begin.Add(-2*time.Second))},
			seen("1", "ready", begin), ""},
		{"came back to it at once, long ago", nil, []flow.Change{step("a", "1", "ready", at), step("b", "1", "done", at.Add(2*time.Second))},
			seen("1", "ready", at.Add(4*time.Second)), "1:observed:READY:946598404000 4s done → ready"},
		{"came back to it", nil, []flow.Change{step("a", "1", "ready", at), step("b", "1", "done", at.Add(2*time.Second))},
			seen("1", "ready", at.Add(6*time.Second)), "1:observed:READY:946598406000 6s done → ready"},
		{"published after it was seen", nil, []flow.Change{step("a", "1", "done", begin)}, seen("1", "ready", time.Time{}), ""},
		{"by sequence", nil, []flow.Change{sequenced(step("a", "1", "done", at), 2), sequenced(step("b", "1", "ready", at), 1)},
			seen("1", "done", at.Add(time.Hour)), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				if test.log != nil {
					m.statuses["1"] = *test.log
				}
				cfg := m.config(board{
					func(_ context.Context, _ connector.Cursor, emit func(connector.Batch) error) error {
						return emit(connector.Batch{Changes: test.published})
					},
					func(_ context.Context, seen func(connector.Observation)) error { seen(test.seen); return nil },
				})
				cfg.Overlaps, cfg.PollInterval = true, time.Second
				r := connector.NewRunner(cfg)
				length := 10 * time.Second // what was observed is not observed again
				if test.seen.At.IsZero() && test.want == "" {
					length = time.Second / 2 // the next observation would be a later one
				}
				run(t, r, length)
				got := m.published[len(test.published):]
				if test.want == "" {
					if len(got) > 0 {
						t.Errorf("published %+v", got)
					}
					return
				}
				if len(got) != 1 || len(got[0].Fields) != 1 {
					t.Fatalf("published %+v", got)
				}
				c, f := got[0], got[0].Fields[0]
				if text := fmt.Sprintf("%s %s %s → %s", c.ID, short(c.At.Sub(at)), f.From.Name, f.To.Name); text != test.want {
					t.Errorf("published %s, want %s", text, test.want)
				}
				if !c.Approximate || c.Kind != flow.Updated || c.Item != "1" || c.Container != "PAY" || c.Source != "tracker" || f.Field != flow.FieldStatus {
					t.Errorf("published %+v", c)
				}
			})
		})
	}
}

// What a snapshot shows of a moment before is of no account at first. Where it
// stays so, a delivery was lost.
func TestObservePersists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		start := time.Now()
		cfg := m.config(board{
			func(_ context.Context, _ connector.Cursor, emit func(connector.Batch) error) error {
				return emit(connector.Batch{Changes: []flow.Change{
					step("a", "1", "doing", start.Add(-2*time.Second)), step("b", "1", "done", start.Add(-time.Second)),
				}})
			},
			func(_ context.Context, see func(connector.Observation)) error {
				see(seen("1", "doing", start))
				return nil
			},
		})
		cfg.Overlaps, cfg.PollInterval = true, 30*time.Second
		stop := begin(t, connector.NewRunner(cfg))
		time.Sleep(time.Minute)
		if len(m.ids()) != 2 {
			t.Errorf("published %v", m.ids())
		}
		time.Sleep(2 * time.Minute)
		if ids := m.ids(); len(ids) != 3 || !strings.HasPrefix(ids[2], "1:observed:DOING:") {
			t.Errorf("published %v", ids)
		}
		stop()
	})
}

func sequenced(c flow.Change, n int64) flow.Change { c.Sequence = n; return c }

// short writes a duration without what is zero.
func short(d time.Duration) string {
	text := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, zero) {
			text = strings.TrimSuffix(text, zero[1:])
		}
	}
	return text
}

// Once the facts have caught up, what they say counts again.
func TestObserveFollowsTheFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		at := time.Now().Add(-time.Hour)
		m.statuses["1"] = known{named("ready"), at}
		var status atomic.Value
		status.Store("done")
		cfg := m.config(board{none, func(_ context.Context, see func(connector.Observation)) error {
			see(seen("1", status.Load().(string), at.Add(time.Minute)))
			return nil
		}})
		cfg.Overlaps = true
		r := connector.NewRunner(cfg)
		stop := begin(t, r)
		synctest.Wait()
		m.mu.Lock()
		m.known["tracker/"+m.published[0].ID] = true // and somebody else has told of a later step
		m.statuses["1"] = known{named("closed"), at.Add(time.Minute)}
		m.mu.Unlock()
		status.Store("closed")
		time.Sleep(5 * time.Minute)
		if len(m.ids()) != 1 {
			t.Errorf("published %v", m.ids())
		}
		stop()
	})
}

// An observation that fails is shown, counts for what was seen before, and
// neither fails the poll nor keeps the census from being taken; a limit is heeded.
func TestObserveFails(t *testing.T) {
	for name, fail := range map[string]func() error{
		"broken":                        func() error { return errBroken },
		"source panicked: out of range": func() error { panic("out of range") },
		"rate limited until 2000-01-01T00:40:00Z: broken": func() error {
			return &connector.RateLimitError{Until: time.Now().Add(40 * time.Minute), Err: errBroken}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				m.statuses["1"] = known{named("ready"), time.Now().Add(-time.Hour)}
				var polls atomic.Int64
				var works atomic.Bool
				var log bytes.Buffer
				cfg := m.config(board{
					func(context.Context, connector.Cursor, func(connector.Batch) error) error { polls.Add(1); return nil },
					func(_ context.Context, see func(connector.Observation)) error {
						see(seen("1", "done", time.Time{}))
						if !works.Load() {
							return fail()
						}
						return nil
					},
				})
				cfg.Logger = textLog(&log)
				r := connector.NewRunner(cfg)
				stop := begin(t, r)
				time.Sleep(10 * time.Second)
				if s := r.Status(); s.ObserveError != name || s.LastError != "" || s.LastSuccess.IsZero() || len(m.ids()) != 1 {
					t.Errorf("published %v, status %+v", m.ids(), s)
				}
				r.PollNow()
				time.Sleep(30 * time.Minute)
				if limited := strings.HasPrefix(name, "rate"); limited != (polls.Load() == 1) {
					t.Errorf("%d polls in half an hour", polls.Load())
				}
				works.Store(true)
				time.Sleep(30 * time.Minute)
				if s := r.Status(); s.ObserveError != "" || !strings.Contains(log.String(), "statuses could not be observed") {
					t.Errorf("status %+v, log:\n%s", s, &log)
				}
				stop()
			})
		})
	}
}

// What was seen and could not be made durable is seen again.
func TestObserveWithoutALog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		for n := range 600 {
			m.statuses[fmt.Sprint(n)] = known{named("ready"), time.Now().Add(-time.Hour)}
		}
		var works atomic.Bool
		m.onPublish = func(cs []flow.Change) (int, error) {
			if !works.Load() {
				return 0, errBroken
			}
			return len(cs), nil
		}
		cfg := m.config(board{none, func(_ context.Context, see func(connector.Observation)) error {
			for n := range 600 {
				see(seen(fmt.Sprint(n), "done", time.Now().Add(-time.Minute)))
			}
			return nil
		}})
		cfg.Overlaps = true
		r := connector.NewRunner(cfg)
		stop := begin(t, r)
		synctest.Wait()
		if s := r.Status(); s.ObserveError != "publish changes: broken" || s.LastError != "" {
			t.Errorf("status %+v", s)
		}
		works.Store(true)
		time.Sleep(5 * time.Minute)
		stop()
		want := map[string]bool{}
		for _, c := range m.published {
			want[c.Item] = true
		}
		if len(want) != 600 || len(m.published) != 600 || r.Status().ObserveError != "" {
			t.Errorf("published %d of %d items", len(m.published), len(want))
		}
		if diff := cmp.Diff([]string{"tracker", "tracker", "tracker"}, m.sources); diff != "" {
			t.Errorf("calls of Publish (-want +got):\n%s", diff)
		}
	})
}
