package github

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A logbook is a log in memory with what it knows, and a store of cursors.
type logbook struct {
	mu       sync.Mutex
	ledger   *flow.Ledger
	statuses []flow.Change // the changes about the status
	cursor   []byte
	revision uint64
}

func (l *logbook) Publish(_ context.Context, _ string, changes []flow.Change) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range changes {
		l.ledger.Add(&c)
		if len(c.Fields) == 1 && c.Fields[0].Field == flow.FieldStatus {
			l.statuses = append(l.statuses, c)
		}
	}
	return nil
}

func (l *logbook) LoadCursor(context.Context, string) ([]byte, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cursor, l.revision, nil
}

func (l *logbook) StoreCursor(_ context.Context, _ string, cursor []byte, _ uint64) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cursor = cursor
	l.revision++
	return l.revision, nil
}

func (l *logbook) Known(source, id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ledger.Known(source, id)
}

func (l *logbook) Status(source, item string) (flow.Value, time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ledger.Status(source, item)
}

func (l *logbook) Present(string, func(item, key, container string) bool) {}
func (l *logbook) Absent(string, func(item, key, container string) bool)  {}

// aMove is a move as it truly was.
type aMove struct {
	item, to string
	at       time.Time
	told     bool // its delivery arrived
}

// A story is a board with issues that move, deliveries that arrive late, twice
// or never, and a Runner that is started again now and then.
type story struct {
	t        *testing.T
	rand     *rand.Rand
	fake     *Fake
	log      *logbook
	runner   *connector.Runner
	stop     func()
	restless bool // the Runner is started again
	restarts int
	issues   []string
	now      map[string]string // the statuses
	moves    []*aMove
	late     []FakeDelivery
}

func (s *story) start() {
	source, _ := talk(s.t, s.fake)
	s.runner = connector.NewRunner(connector.Config{
		Name: "github-main", Source: source, PollInterval: time.Minute, Overlaps: true, Publisher: s.log, Cursors: s.log, Facts: s.log,
	})
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.runner.Run(ctx); err != nil {
			s.t.Error(err)
		}
	}()
	s.stop = func() {
		cancel()
		<-done
	}
}

func (s *story) deliver(d FakeDelivery) {
	if _, err := s.runner.Receive(s.t.Context(), d.Header, d.Body); err != nil {
		s.t.Error(err)
	}
}

// step lets something happen.
func (s *story) step() {
	time.Sleep(time.Second + time.Duration(s.rand.IntN(8))*time.Duration(s.rand.IntN(40))*time.Second)
	item := s.issues[s.rand.IntN(len(s.issues))]
	switch n := s.rand.IntN(20); {
	case n == 0 && s.restless:
		s.stop()
		s.restarts++
		s.start()
	case n < 4:
		s.fake.Comment(time.Now(), item, "so that the timeline is read")
		s.fake.Deliveries()
	default:
		s.move(item)
	}
	for _, d := range s.late {
		s.deliver(d)
	}
	s.late = nil
}

func (s *story) move(item string) {
	to := []string{"Todo", "Doing", "Done"}[s.rand.IntN(3)]
	// There and back within seconds may be one move that is dated twice.
	last := slices.IndexFunc(s.moves, func(m *aMove) bool { return m.item == item && time.Since(m.at) < 3*sameMove })
	if s.now[item] == to || last >= 0 {
		return
	}
	s.now[item] = to
	m := &aMove{item: item, to: to, at: time.Now().Truncate(time.Second)}
	s.moves = append(s.moves, m)
	s.fake.SetStatus(time.Now(), item, to, s.rand.IntN(2) == 0)
	arrives := s.rand.IntN(5)
	for _, d := range s.fake.Deliveries() {
		if m.told = arrives > 0; m.told && arrives < 4 {
			s.deliver(d)
		}
		if arrives == 3 || arrives == 4 { // again, or late
			s.late = append(s.late, d)
		}
	}
}

// check compares the log with what truly was.
func (s *story) check(seed uint64) {
	found := map[*aMove]int{}
	how := map[*aMove][]string{}
	for _, c := range s.log.statuses {
		known := false
		for _, m := range s.moves {
			if m.item == c.Item && m.to == c.Fields[0].To.Name && c.At.Sub(m.at).Abs() <= time.Millisecond {
				known = true
				found[m]++
				how[m] = append(how[m], c.ID)
			}
		}
		if !known {
			s.t.Errorf("seed %d: %s never came to be %s at %s (%s)", seed, c.Item, c.Fields[0].To.Name, c.At, c.ID)
		}
	}
	for _, m := range s.moves {
		if m.told && found[m] == 0 {
			s.t.Errorf("seed %d: that %s came to be %s at %s was delivered and is not in the log", seed, m.item, m.to, m.at)
		}
		if found[m] > 1 && s.restarts == 0 {
			s.t.Errorf("seed %d: that %s came to be %s at %s is in the log as %q", seed, m.item, m.to, m.at, how[m])
		}
	}
	for item, want := range s.now {
		if got, _, ok := s.log.Status("github-main", item); !ok || got.Name != want {
			s.t.Errorf("seed %d: %s is %s in the log and %s on the board", seed, item, got.Name, want)
		}
	}
}

// However the three places that tell of a board take turns, nothing is invented,
// nothing that was delivered is lost, each move is told once while the process
// lives, and in the end the log says what the board says.
func TestBoardStories(t *testing.T) {
	for seed := range uint64(12) {
		synctest.Test(t, func(t *testing.T) {
			f, _, _, _ := boardWorld(FakeOptions{WebhookSecret: testSecret})
			var issues []string
			for range 3 { // born by the clock of the bubble
				issues = append(issues, f.Create(time.Now(), "acme/api", "One", CreateOptions{}))
			}
			f.Deliveries()
			s := &story{
				t: t, rand: rand.New(rand.NewPCG(seed, 0)), fake: f, log: &logbook{ledger: flow.NewLedger()},
				issues: issues, now: map[string]string{}, restless: seed%2 == 1,
			}
			s.start()
			time.Sleep(15 * time.Minute) // a snapshot counts for more once the issues are known
			for range 60 {
				s.step()
			}
			time.Sleep(5 * time.Minute)
			s.stop()
			s.check(seed)
		})
		if t.Failed() {
			break
		}
	}
}
