package processor

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"go.uber.org/goleak"

	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/eventlog"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

var _ Log = (*eventlog.Log)(nil)

func TestMain(m *testing.M) {
	flag.Parse()
	// The NATS server's clock of access times must run outside of any synctest
	// bubble, or its goroutine keeps the bubble's time from moving.
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

// policy has two value streams, one for each container.
func policy(t testing.TB) *flow.Policy {
	t.Helper()
	c, err := config.Parse("flow.yaml", []byte(`
sources:
  - {name: tracker, type: file, path: unused.jsonl}
workflows:
  - name: default
    statuses: {new: [Backlog], waiting: [Ready], active: [In Progress], done: [Done]}
    types: {feature: [Story]}
value_streams:
  - {name: payments, workflow: default, timezone: UTC, include: [{source: tracker, containers: [PAY]}]}
  - {name: platform, workflow: default, timezone: UTC, include: [{source: tracker, containers: [PLAT]}]}
windows: [7d]
`))
	if err != nil {
		t.Fatal(err)
	}
	return c.Policy()
}

// move returns the fact that an item entered a status.
func move(id, container, item, status string, at time.Time) flow.Change {
	return flow.Change{
		ID: id, Source: "tracker", Container: container, Item: item, At: at, Kind: flow.Updated,
		Fields: []flow.FieldChange{{Field: flow.FieldStatus, To: flow.Value{Name: status}}},
	}
}

// create returns the fact that an item was created in a status.
func create(id, container, item, status string, at time.Time) flow.Change {
	c := move(id, container, item, status, at)
	c.Kind = flow.Created
	return c
}

// fakeLog is a log in memory. What it holds comes first, then what is sent.
type fakeLog struct {
	stored []flow.Delivery
	coming chan flow.Delivery // a nil Changes and Rejected ends Follow with errBroken
	gate   chan struct{}      // where it is not nil, Follow waits for it before the last stored delivery

	lastErr   error
	rejectErr error
	mu        sync.Mutex
	rejected  []flow.Rejection
	calls     int // of Reject
}

var errBroken = errors.New("broken")

func newLog(deliveries ...[]flow.Change) *fakeLog {
	l := &fakeLog{coming: make(chan flow.Delivery)}
	for i, changes := range deliveries {
		l.stored = append(l.stored, flow.Delivery{
			Position: uint64(i + 1), Pending: uint64(len(deliveries) - i - 1), Changes: changes,
		})
	}
	return l
}

func (l *fakeLog) Follow(ctx context.Context, after uint64, f func(flow.Delivery) error) error {
	for i, d := range l.stored[after:] {
		if l.gate != nil && i == len(l.stored)-1 {
			<-l.gate
		}
		if err := f(d); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case d := <-l.coming:
			if d.Position == 0 {
				return errBroken
			}
			if err := f(d); err != nil {
				return err
			}
		}
	}
}

func (l *fakeLog) LastPosition(context.Context) (uint64, error) {
	return uint64(len(l.stored)), l.lastErr
}

func (l *fakeLog) Reject(_ context.Context, rejections []flow.Rejection) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	l.rejected = append(l.rejected, rejections...)
	return l.rejectErr
}

// running is a processor at work inside a bubble.
type running struct {
	*Processor
	stop   context.CancelFunc
	ended  chan error
	logged *strings.Builder

	mu   sync.Mutex
	seen []*flow.Snapshot
}

// snapshots returns those that came, in their order.
func (r *running) snapshots() []*flow.Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seen
}

func (r *running) see(s *flow.Snapshot) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, s)
}

// start runs a processor until stop or the end of the test. It returns when
// nothing moves any more before time does.
func start(t *testing.T, log Log) *running {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	r := &running{stop: stop, ended: make(chan error, 1), logged: new(strings.Builder)}
	busy := make(chan struct{}, 1) // two calls at once would find it full
	r.Processor = New(Config{
		Policy: policy(t), Log: log, Logger: slog.New(slog.NewTextHandler(r.logged, nil)),
		OnSnapshot: func(s *flow.Snapshot) {
			select {
			case busy <- struct{}{}:
			default:
				t.Error("OnSnapshot is called while it is running")
			}
			r.see(s)
			time.Sleep(time.Millisecond)
			<-busy
		},
	})
	go func() { r.ended <- r.Run(ctx) }()
	t.Cleanup(stop)
	synctest.Wait()
	return r
}

// end stops the processor and returns what Run returned.
func (r *running) end() error {
	r.stop()
	return <-r.ended
}

func (r *running) caughtUp() bool {
	select {
	case <-r.CaughtUp():
		return true
	default:
		return false
	}
}

func testLogger(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }
