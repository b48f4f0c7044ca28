package connector_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// hooked is a source with webhooks. The header X-Event of a delivery says what
// it is: "items" names those of the body, "deleted" deletes those.
type hooked struct {
	sourceFunc
	refetch func(ctx context.Context, items []string, emit func(connector.Batch) error) error
}

func (h hooked) Receive(_ context.Context, header http.Header, body []byte) (connector.Notice, error) {
	if header.Get("X-Secret") != "" {
		return connector.Notice{}, fmt.Errorf("delivery: %w", connector.ErrSignature)
	}
	items := strings.Fields(string(body))
	switch header.Get("X-Event") {
	case "items":
		return connector.Notice{Items: items}, nil
	case "deleted":
		var n connector.Notice
		for _, item := range items {
			n.Changes = append(n.Changes, deletion(item))
		}
		return n, nil
	case "broken":
		return connector.Notice{}, errBroken
	case "unreadable":
		return connector.Notice{}, fmt.Errorf("delivery: %w", connector.ErrDelivery)
	case "panic":
		panic("out of range")
	}
	return connector.Notice{}, nil
}

func (h hooked) Refetch(ctx context.Context, items []string, emit func(connector.Batch) error) error {
	return h.refetch(ctx, items, emit)
}

// deletion is the fact that only a delivery tells.
func deletion(item string) flow.Change {
	return flow.Change{
		ID: item + ":deleted", Container: "PAY", Item: item, Kind: flow.Deleted,
		At: time.Date(2026, 6, 2, 0, 0, 0, 0, time.UTC),
	}
}

// deliver hands a delivery over and returns what became of it.
func deliver(t *testing.T, r *connector.Runner, event string, items ...string) (connector.Outcome, error) {
	t.Helper()
	return r.Receive(t.Context(), http.Header{"X-Event": {event}}, []byte(strings.Join(items, " ")))
}

// a refetcher remembers what was refetched, and when.
type refetcher struct {
	mu    sync.Mutex
	calls []string // "at items"
	fail  func(items []string) error
}

func (f *refetcher) refetch(_ context.Context, items []string, emit func(connector.Batch) error) error {
	f.mu.Lock()
	f.calls = append(f.calls, fmt.Sprintf("%.0f %s", since(), strings.Join(items, " ")))
	fail := f.fail
	f.mu.Unlock()
	if fail != nil {
		if err := fail(items); err != nil {
			return err
		}
	}
	var b connector.Batch
	for _, item := range items {
		n, _ := strconv.Atoi(item)
		b.Changes = append(b.Changes, change(n))
	}
	b.Cursor = connector.Cursor("never stored")
	return emit(b)
}

// told returns the calls so far.
func (f *refetcher) told() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// since returns the seconds since the clock of bubbles began.
func since() float64 {
	return time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).Seconds()
}

// begin runs a Runner in the background until the end of the bubble.
func begin(t *testing.T, r *connector.Runner) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

// What a webhook names is read at once, also within the second after a poll, and
// published once.
func TestHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newMemory(), &refetcher{}
		var polls atomic.Int64
		cfg := m.config(hooked{func(context.Context, connector.Cursor, func(connector.Batch) error) error { polls.Add(1); return nil }, f.refetch})
		cfg.PollInterval, cfg.Overlaps = time.Hour, true
		r := connector.NewRunner(cfg)
		stop := begin(t, r)
		synctest.Wait()
		for range 2 { // a delivery that is sent again
			if got, err := deliver(t, r, "items", "3", "4", "3"); got != connector.Taken || err != nil {
				t.Errorf("outcome %d: %v", got, err)
			}
		}
		synctest.Wait()
		if diff := cmp.Diff([]string{"3", "4"}, m.ids()); diff != "" {
			t.Errorf("published at once (-want +got):\n%s", diff)
		}
		time.Sleep(30 * time.Minute)
		_, _ = deliver(t, r, "items", "5")
		synctest.Wait()
		if diff := cmp.Diff([]string{"3", "4", "5"}, m.ids()); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
		if s := r.Status(); polls.Load() != 1 || s.Hints != 0 || s.RefetchError != "" || len(m.cursors) > 0 || s.Published != 3 {
			t.Errorf("%d polls, cursors %v, status %+v", polls.Load(), m.cursors, s)
		}
		time.Sleep(40 * time.Minute)
		if polls.Load() != 2 {
			t.Errorf("%d polls, want 2: hints do not move the schedule", polls.Load())
		}
		stop()
	})
}

// What only the delivery tells is durable when Receive returns, once however
// often it is delivered, and whether or not the Runner runs.
func TestReceiveIsDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		cfg := m.config(hooked{none, nil})
		cfg.Overlaps = true
		r := connector.NewRunner(cfg)
		m.onPublish = func([]flow.Change) (int, error) { return 0, errBroken }
		if got, err := deliver(t, r, "deleted", "1"); got != connector.Ignored || !errors.Is(err, errBroken) {
			t.Errorf("without a log: outcome %d: %v", got, err)
		}
		m.onPublish = nil
		cfg.Publisher = slow{m}
		r = connector.NewRunner(cfg)
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() {
				if got, err := deliver(t, r, "deleted", "1", "2"); got != connector.Taken || err != nil {
					t.Errorf("outcome %d: %v", got, err)
				}
			})
		}
		group.Wait()
		if diff := cmp.Diff([]string{"1:deleted", "2:deleted"}, m.ids()); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
		if c := m.published[0]; c.Source != "tracker" || c.ObservedAt.IsZero() || c.Approximate {
			t.Errorf("published %+v", c)
		}
		for event, want := range map[string]string{
			"ping": "", "broken": "broken", "panic": "source panicked: out of range", "unreadable": "delivery: delivery cannot be read",
		} {
			got, err := deliver(t, r, event, "1")
			if got != connector.Ignored || fmt.Sprint(err) != want && (err != nil || want != "") {
				t.Errorf("%s: outcome %d: %v", event, got, err)
			}
		}
		if _, err := connector.NewRunner(m.config(sourceFunc(none))).Receive(t.Context(), nil, nil); err == nil {
			t.Error("a source without webhooks takes a delivery")
		}
	})
}

// slow is a log that takes its time.
type slow struct{ connector.Publisher }

func (s slow) Publish(ctx context.Context, source string, changes []flow.Change) error {
	time.Sleep(time.Second)
	return s.Publisher.Publish(ctx, source, changes)
}

// A delivery does not wait for a poll, and a poll that tells the same at the
// same time does not publish it twice.
func TestReceiveDuringAPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newMemory(), &refetcher{}
		cfg := m.config(hooked{func(_ context.Context, _ connector.Cursor, emit func(connector.Batch) error) error {
			for range 60 {
				time.Sleep(time.Second)
				if err := emit(connector.Batch{Changes: []flow.Change{change(1), deletion("7")}}); err != nil {
					return err
				}
			}
			return nil
		}, f.refetch})
		cfg.Overlaps, cfg.PollInterval = true, time.Hour
		r := connector.NewRunner(cfg)
		stop := begin(t, r)
		time.Sleep(500 * time.Millisecond)
		_, _ = deliver(t, r, "deleted", "7")
		_, _ = deliver(t, r, "items", "1", "2")
		if diff := cmp.Diff([]string{"7:deleted"}, m.ids()); diff != "" {
			t.Errorf("published at once (-want +got):\n%s", diff)
		}
		time.Sleep(59 * time.Second)
		if len(f.told()) > 0 || r.Status().Hints != 2 {
			t.Errorf("refetched during the poll: %v", f.told())
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if diff := cmp.Diff([]string{"60 1 2"}, f.told()); diff != "" {
			t.Errorf("refetches (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"7:deleted", "1", "2"}, m.ids()); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
		stop()
	})
}

// A refetch that fails is tried again, later and with fewer items, and does not
// keep the polls from being made.
func TestRefetchFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var polls atomic.Int64
		f := &refetcher{fail: func(items []string) error {
			if slices.Contains(items, "150") && since() < 86400 {
				return errBroken
			}
			return nil
		}}
		var log bytes.Buffer
		cfg := m.config(hooked{func(context.Context, connector.Cursor, func(connector.Batch) error) error { polls.Add(1); return nil }, f.refetch})
		cfg.Overlaps, cfg.Logger = true, textLog(&log)
		r := connector.NewRunner(cfg)
		stop := begin(t, r)
		synctest.Wait()
		var items []string
		for n := range 200 {
			items = append(items, strconv.Itoa(n))
		}
		_, _ = deliver(t, r, "items", items...)
		synctest.Wait()
		if s := r.Status(); s.Hints != 100 || s.RefetchError != "broken" || s.LastError != "" || s.Lag != 0 {
			t.Errorf("status %+v", s)
		}
		time.Sleep(5 * time.Minute)
		ids := m.ids()
		slices.Sort(ids)
		if len(ids) != 199 || slices.Contains(ids, "150") || len(slices.Compact(ids)) != 199 {
			t.Errorf("published %d: %v", len(ids), ids)
		}
		if s := r.Status(); s.Hints != 0 || polls.Load() < 4 || polls.Load() > 6 {
			t.Errorf("%d polls, status %+v", polls.Load(), s)
		}
		alone := 0
		for _, call := range f.told() {
			if _, items, _ := strings.Cut(call, " "); items == "150" {
				alone++
			}
		}
		if alone != 5 || !strings.Contains(log.String(), "error=broken items=100 failures=1") {
			t.Errorf("tried alone %d times; log:\n%s", alone, &log)
		}
		time.Sleep(24 * time.Hour)
		_, _ = deliver(t, r, "items", "150")
		synctest.Wait()
		if s := r.Status(); len(m.ids()) != 200 || s.RefetchError != "" {
			t.Errorf("the tracker works again: %+v", s)
		}
		stop()
	})
}

// A tracker that asks for time gets it, from hints and from polls; however tight
// its limit is, all items are read in the end.
func TestRefetchHeedsALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, asked := newMemory(), 0
		var until time.Time
		early := 0
		ask := func() error { // one request; every tenth is refused
			if time.Now().Before(until) {
				early++
			}
			if asked++; asked%10 == 0 {
				until = time.Now().Add(7 * time.Second)
				return &connector.RateLimitError{Until: until, Err: errBroken}
			}
			return nil
		}
		f := &refetcher{fail: func(items []string) error {
			for range items {
				if err := ask(); err != nil {
					return err
				}
			}
			return nil
		}}
		cfg := m.config(hooked{func(context.Context, connector.Cursor, func(connector.Batch) error) error { return ask() }, f.refetch})
		cfg.Overlaps, cfg.PollInterval = true, time.Second
		r := connector.NewRunner(cfg)
		stop := begin(t, r)
		synctest.Wait()
		var items []string
		for n := range 150 {
			items = append(items, strconv.Itoa(n))
		}
		_, _ = deliver(t, r, "items", items...)
		time.Sleep(30 * time.Minute)
		if n := len(m.ids()); n != 150 || early > 0 || r.Status().Hints != 0 {
			t.Errorf("published %d, %d requests too early, status %+v", n, early, r.Status())
		}
		stop()
	})
}

// While polls fail, hints wait: the pause is the tracker's.
func TestHintsWaitForAFailedPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f := newMemory(), &refetcher{}
		var polls atomic.Int64
		cfg := m.config(hooked{func(context.Context, connector.Cursor, func(connector.Batch) error) error {
			if polls.Add(1) == 1 {
				return &connector.RateLimitError{Until: time.Now().Add(10 * time.Minute), Err: errBroken}
			}
			return nil
		}, f.refetch})
		r := connector.NewRunner(cfg)
		stop := begin(t, r)
		time.Sleep(time.Minute)
		_, _ = deliver(t, r, "items", "1")
		r.PollNow()
		time.Sleep(time.Hour)
		if diff := cmp.Diff([]string{"600 1"}, f.told()); diff != "" {
			t.Errorf("refetches (-want +got):\n%s", diff)
		}
		stop()
	})
}

// More hints than the queue holds are left to a poll, which is made at once; so
// are many that come during the backfill.
func TestHintsOverflow(t *testing.T) {
	items := func(n int) (names []string) {
		for i := range n {
			names = append(names, strconv.Itoa(i))
		}
		return names
	}
	synctest.Test(t, func(t *testing.T) {
		m, f, polls := newMemory(), &refetcher{}, &refetcher{}
		var quick atomic.Bool
		f.fail = func([]string) error { return errBroken }
		cfg := m.config(hooked{func(ctx context.Context, _ connector.Cursor, _ func(connector.Batch) error) error {
			_ = polls.refetch(ctx, nil, func(connector.Batch) error { return nil })
			if !quick.Load() {
				time.Sleep(time.Hour)
			}
			return nil
		}, f.refetch})
		cfg.PollInterval = 24 * time.Hour
		r := connector.NewRunner(cfg)
		stop := begin(t, r)
		time.Sleep(time.Minute)
		_, _ = deliver(t, r, "items", items(101)...) // during the backfill
		quick.Store(true)
		time.Sleep(time.Hour)
		if s := r.Status(); !slices.Equal(polls.told(), []string{"0 ", "3601 "}) || s.Hints != 0 || len(f.told()) > 0 {
			t.Errorf("polls at %v, refetches %v, status %+v", polls.told(), f.told(), s)
		}
		time.Sleep(time.Minute)
		_, _ = deliver(t, r, "items", items(10_000)...)
		time.Sleep(time.Minute)
		if s := r.Status(); len(polls.told()) != 2 || s.Hints != 10_000 {
			t.Errorf("polls at %v, status %+v", polls.told(), s)
		}
		_, _ = deliver(t, r, "items", "0", "10000")
		synctest.Wait()
		if s := r.Status(); len(polls.told()) != 3 || s.Hints != 10_000 {
			t.Errorf("polls at %v, status %+v", polls.told(), s)
		}
		stop()
	})
}

// A poll that is asked for does not wait for all hints to be read.
func TestPollNowBetweenHints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, f, polls := newMemory(), &refetcher{}, &refetcher{}
		f.fail = func([]string) error { time.Sleep(10 * time.Second); return nil }
		cfg := m.config(hooked{func(ctx context.Context, _ connector.Cursor, _ func(connector.Batch) error) error {
			return polls.refetch(ctx, nil, func(connector.Batch) error { return nil })
		}, f.refetch})
		cfg.PollInterval = time.Hour
		r := connector.NewRunner(cfg)
		stop := begin(t, r)
		synctest.Wait()
		var items []string
		for n := range 500 {
			items = append(items, strconv.Itoa(n))
		}
		_, _ = deliver(t, r, "items", items...)
		time.Sleep(15 * time.Second)
		r.PollNow()
		time.Sleep(time.Minute)
		if diff := cmp.Diff([]string{"0 ", "20 "}, polls.told()); diff != "" || len(f.told()) != 5 {
			t.Errorf("%d refetches, polls (-want +got):\n%s", len(f.told()), diff)
		}
		stop()
	})
}

// What came back by mistake of an index, or is deleted already, is not told by a
// census; what is there in truth is told by the next one.
func TestCensusAfterADeletionByWebhook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		for n := range 4 {
			m.present[strconv.Itoa(n)] = "PAY"
		}
		var r *connector.Runner
		var censuses atomic.Int64
		source := both{hooked{none, nil}, counted{none, func(_ context.Context, live func(connector.Item)) error {
			if censuses.Add(1) == 1 { // while it is taken: 1 was listed before, 2 is not any more
				_, _ = deliver(t, r, "deleted", "1", "2")
			}
			for _, id := range []string{"0", "1", "3"} {
				live(connector.Item{ID: id})
			}
			return nil
		}}}
		m.onPublish = func(cs []flow.Change) (int, error) { // the facts follow the log
			for _, c := range cs {
				delete(m.present, c.Item)
				m.absent[c.Item] = "PAY"
			}
			return len(cs), nil
		}
		cfg := m.config(source)
		cfg.CensusInterval, cfg.Overlaps = 10*time.Minute, true
		r = connector.NewRunner(cfg)
		stop := begin(t, r)
		for censuses.Load() < 1 {
			time.Sleep(time.Second)
		}
		_, _ = deliver(t, r, "deleted", "3") // listed by an index that lags behind
		if diff := cmp.Diff([]string{"1:deleted", "2:deleted", "3:deleted"}, m.ids()); diff != "" || censuses.Load() != 1 {
			t.Errorf("after %d censuses (-want +got):\n%s", censuses.Load(), diff)
		}
		for censuses.Load() < 2 {
			time.Sleep(time.Second)
		}
		if ids := m.ids(); len(ids) != 4 || !strings.HasPrefix(ids[3], "1:restored:") {
			t.Errorf("after %d censuses: %v", censuses.Load(), ids)
		}
		stop()
	})
}

// both has webhooks and a census.
type both struct {
	hooked
	census counted
}

func (b both) Census(ctx context.Context, live func(connector.Item)) error {
	return b.census.Census(ctx, live)
}
