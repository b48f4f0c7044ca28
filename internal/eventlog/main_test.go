package eventlog

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"go.uber.org/goleak"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" { // this is the process that TestKill kills
		publishForever(dir)
	}
	flag.Parse()
	// The server's clock of access times must run outside of any synctest bubble,
	// or its goroutine keeps the bubble's time from moving.
	ats.Register()
	code := m.Run()
	ats.Unregister()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func openLog(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(t.Context(), cfg, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeLog(t, l) })
	return l
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}

// testChanges returns n changes of one container, from number first on.
func testChanges(source, container string, first, n int) []flow.Change {
	changes := make([]flow.Change, n)
	for i := range changes {
		number := first + i
		changes[i] = flow.Change{
			ID: fmt.Sprintf("%s-%d", container, number), Source: source, Container: container,
			Item: fmt.Sprint(10000 + number/5), Key: fmt.Sprintf("PAY-%d", number/5),
			At:   time.Date(2026, 6, 1, 0, 0, number, 5_000_000, time.UTC),
			Kind: flow.Updated,
			Fields: []flow.FieldChange{{
				Field: flow.FieldStatus,
				From:  flow.Value{ID: "10001", Name: "Backlog", Category: "new"},
				To:    flow.Value{ID: "10002", Name: "In Progress", Category: "indeterminate"},
			}},
		}
	}
	return changes
}

func publish(t testing.TB, l *Log, source string, changes []flow.Change) {
	t.Helper()
	if err := l.Publish(t.Context(), source, changes); err != nil {
		t.Fatal(err)
	}
}

// stored returns all changes of the log, of one source or of all.
func stored(t testing.TB, l *Log, source string) []flow.Change {
	t.Helper()
	var all []flow.Change
	err := l.Changes(t.Context(), 0, source, func(_ uint64, c flow.Change) error {
		c.Fields = append([]flow.FieldChange(nil), c.Fields...)
		all = append(all, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// followed is a copy of what Follow delivered.
type followed struct {
	flow.Delivery
	IDs []string
}

// follow follows in a goroutine until the test ends or stop is called, which
// returns what Follow returned.
func follow(t testing.TB, l *Log, after uint64) (got <-chan followed, stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan followed, 1000)
	result := make(chan error, 1)
	go func() {
		result <- l.Follow(ctx, after, func(d flow.Delivery) error {
			f := followed{Delivery: d}
			for _, c := range d.Changes {
				f.IDs = append(f.IDs, c.ID)
			}
			f.Changes = nil
			out <- f
			return nil
		})
		close(out)
	}()
	stopped := false
	var err error
	stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			err = <-result
		}
		return err
	}
	t.Cleanup(func() { _ = stop() })
	return out, stop
}

func receive(t testing.TB, got <-chan followed) followed {
	t.Helper()
	select {
	case d, ok := <-got:
		if !ok {
			t.Fatal("Follow has ended")
		}
		return d
	case <-time.After(20 * time.Second):
		t.Fatal("no delivery")
	}
	panic("unreachable")
}
