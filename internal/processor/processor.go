// Package processor turns the event log into snapshots.
//
// A [Processor] replays the log from its first message into a [flow.Board],
// then follows it, and publishes an immutable [flow.Snapshot] soon after each
// change and at a steady pace as time goes on. It keeps nothing on the server:
// its state is a pure function of the log, the policy and the instant, so a
// restart, a second copy and a changed policy are the same computation.
//
//	log ── Follow ──► board (locked) ── Snapshot ──► atomic pointer ──► readers
//	                                                └► OnSnapshot (the exporter)
//
// What cannot be used never stops it: it is counted, and recorded in the log's
// stream of rejections.
package processor

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A Log is what the processor needs of the event log.
type Log interface {
	// Follow calls f for each message behind a position, first those that are
	// there and then those that come, until ctx ends or f returns an error.
	Follow(ctx context.Context, after uint64, f func(flow.Delivery) error) error
	// LastPosition returns the position of the last message, 0 for an empty log.
	LastPosition(ctx context.Context) (uint64, error)
	// Reject records what could not be used. Recording the same again, as a
	// replay does, changes nothing.
	Reject(ctx context.Context, rejections []flow.Rejection) error
}

// Config is what a processor works with.
type Config struct {
	Policy *flow.Policy
	Log    Log
	Logger *slog.Logger
	// OnSnapshot is called with each new snapshot, from one goroutine.
	OnSnapshot func(*flow.Snapshot)
}

const (
	// refreshEvery is the pace at which all value streams are measured as time
	// goes on: ages grow and items leave windows without any change.
	refreshEvery = 15 * time.Second
	// settleFor is how long changes are gathered before they are measured.
	settleFor = 200 * time.Millisecond
	// rejectionQueue is how many rejections may wait to be recorded before the
	// processing waits with them. None is left out.
	rejectionQueue = 4096
	// rejectionBatch is how many are recorded at once, and rejectionLines how many
	// of these get a line of their own in the program's log.
	rejectionBatch = 256
	rejectionLines = 10
)

// A Processor follows one log under one policy. All methods but Run are safe
// for concurrent use.
type Processor struct {
	cfg     Config
	changed chan struct{} // has room for one signal
	rejects chan flow.Rejection

	tightenCollector func() // sets the usual pace of collecting garbage, once

	mu       sync.RWMutex // guards board, and everything below it
	board    *flow.Board
	position uint64
	measured uint64
	pending  uint64
	changes  uint64
	rejected map[flow.Reason]uint64

	latest   atomic.Pointer[flow.Snapshot]
	duration atomic.Int64
	caughtUp chan struct{}
}

// New returns a processor. It starts nothing.
func New(cfg Config) *Processor {
	return &Processor{
		cfg:      cfg,
		changed:  make(chan struct{}, 1),
		rejects:  make(chan flow.Rejection, rejectionQueue),
		board:    flow.NewBoard(cfg.Policy, flow.NewLedger()),
		rejected: map[flow.Reason]uint64{},
		caughtUp: make(chan struct{}),

		tightenCollector: func() {},
	}
}

// Run replays and follows the log until ctx ends, and returns nil then. Any
// other return is an error after which the state can no longer be trusted to be
// complete. Run must be called once.
func (p *Processor) Run(ctx context.Context) error {
	if err := p.run(ctx); ctx.Err() == nil {
		return err
	}
	return nil
}

func (p *Processor) run(ctx context.Context) error {
	last, err := p.cfg.Log.LastPosition(ctx)
	if err != nil {
		return fmt.Errorf("read end of log: %w", err)
	}
	started := time.Now()
	p.relaxCollector()
	if last == 0 {
		p.arrive(started)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := p.cfg.Log.Follow(ctx, 0, func(d flow.Delivery) error {
			p.take(ctx, d)
			if d.Position >= last || d.Pending == 0 {
				p.arrive(started)
			}
			return nil
		})
		return fmt.Errorf("follow log: %w", err)
	})
	group.Go(func() error { return p.measure(ctx) })
	group.Go(func() error { return p.record(ctx) })
	defer p.tightenCollector()
	return group.Wait()
}

// arrive notes that the replay has reached what was the end of the log.
func (p *Processor) arrive(started time.Time) {
	select {
	case <-p.caughtUp:
	default:
		p.mu.RLock()
		facts, items := p.board.Ledger().Len(), p.board.Ledger().Items()
		p.mu.RUnlock()
		p.cfg.Logger.Info("log replayed", "facts", facts, "items", items, "duration", time.Since(started).Round(time.Millisecond))
		p.tightenCollector()
		close(p.caughtUp)
	}
}

// A replay allocates much that is garbage at once, while the facts are few and
// small: the usual pace of collecting, at twice what is alive, would take a good
// part of its time. Until the facts are relaxedFacts, which is about 100 MB, the
// heap may grow to five times what is alive. Whoever sets GOGC decides himself.
const (
	relaxedPercent = 400
	relaxedFacts   = 2_000_000
)

func (p *Processor) relaxCollector() {
	if os.Getenv("GOGC") == "" {
		usual := debug.SetGCPercent(relaxedPercent)
		p.tightenCollector = sync.OnceFunc(func() { debug.SetGCPercent(usual) })
	}
}

// take adds one message to the board.
func (p *Processor) take(ctx context.Context, d flow.Delivery) {
	p.mu.Lock()
	for i := range d.Changes {
		p.board.Add(&d.Changes[i])
	}
	if p.board.Ledger().Len() >= relaxedFacts {
		p.tightenCollector()
	}
	p.position, p.pending = d.Position, d.Pending
	p.changes += uint64(len(d.Changes))
	for _, r := range d.Rejected {
		p.rejected[r.Reason]++
	}
	p.mu.Unlock()
	for _, r := range d.Rejected {
		select {
		case p.rejects <- r:
		case <-ctx.Done(): // the next replay finds it again
		}
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// measure publishes snapshots: all value streams at a steady pace, those that
// changed soon after they did.
func (p *Processor) measure(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-p.caughtUp:
	}
	p.publish(true)
	full := time.NewTicker(refreshEvery)
	defer full.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-full.C:
			p.publish(true)
			continue
		case <-p.changed:
		}
		// Gather what comes together, and leave the processor to others for at
		// least as long as a measurement takes.
		gather := time.NewTimer(max(settleFor, time.Duration(p.duration.Load())))
		select {
		case <-ctx.Done():
			gather.Stop()
			return ctx.Err()
		case <-gather.C:
		}
		p.publish(false)
	}
}

func (p *Processor) publish(everything bool) {
	select {
	case <-p.changed: // what it signals is in this snapshot
	default:
	}
	started := time.Now()
	now := started
	if last := p.latest.Load(); last != nil && now.Before(last.At) {
		now = last.At // the clock was set back; snapshots do not go back with it
	}
	p.mu.Lock()
	s, position := p.board.Snapshot(now, everything), p.position
	p.mu.Unlock()
	p.latest.Store(s)
	p.duration.Store(int64(time.Since(started)))
	if p.cfg.OnSnapshot != nil {
		p.cfg.OnSnapshot(s)
	}
	p.mu.Lock()
	p.measured = position
	p.mu.Unlock()
}

// record writes rejections to the log, apart from the processing.
func (p *Processor) record(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r := <-p.rejects:
			batch := []flow.Rejection{r}
			for len(p.rejects) > 0 && len(batch) < rejectionBatch {
				batch = append(batch, <-p.rejects)
			}
			for _, r := range batch[:min(len(batch), rejectionLines)] {
				p.cfg.Logger.Warn("change rejected", "position", r.Position, "index", r.Index, "source", r.Source, "reason", r.Reason, "detail", r.Detail)
			}
			if more := len(batch) - rejectionLines; more > 0 {
				p.cfg.Logger.Warn("more changes rejected", "count", more)
			}
			if err := p.cfg.Log.Reject(ctx, batch); err != nil && ctx.Err() == nil {
				p.cfg.Logger.Error("rejections not recorded", "count", len(batch), "error", err)
			}
		}
	}
}

// Latest returns the newest snapshot, nil before the first. It never blocks.
func (p *Processor) Latest() *flow.Snapshot { return p.latest.Load() }

// At computes the numbers as of any instant.
func (p *Processor) At(ctx context.Context, t time.Time, items bool) (*flow.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	return flow.Measure(p.cfg.Policy, p.board.Ledger(), t, flow.Options{Items: items}), nil
}

// CaughtUp is closed once the replay has reached what was the end of the log
// when Run was called.
func (p *Processor) CaughtUp() <-chan struct{} { return p.caughtUp }

// Status tells how the processor is doing.
type Status struct {
	CaughtUp         bool
	Position         uint64 // of the last message taken
	Measured         uint64 // of the last message that is in the latest snapshot, which OnSnapshot has got
	Pending          uint64 // messages behind it when it was sent
	Changes          uint64 // usable changes in the log so far, repeats included
	Rejected         map[flow.Reason]uint64
	SnapshotAt       time.Time // zero before the first
	SnapshotDuration time.Duration
}

// Status tells how the processor is doing.
func (p *Processor) Status() Status {
	caughtUp := false
	select { // before the counts are looked at, so that they are whole where it is true
	case <-p.caughtUp:
		caughtUp = true
	default:
	}
	p.mu.RLock()
	s := Status{CaughtUp: caughtUp, Position: p.position, Measured: p.measured, Pending: p.pending, Changes: p.changes, Rejected: maps.Clone(p.rejected)}
	p.mu.RUnlock()
	if last := p.latest.Load(); last != nil {
		s.SnapshotAt, s.SnapshotDuration = last.At, time.Duration(p.duration.Load())
	}
	return s
}

// Known reports whether the log holds a change, as far as it has been read.
func (p *Processor) Known(source, id string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.board.Ledger().Known(source, id)
}

// ItemStatus returns the status that an item has and since when, as far as the log
// has been read. ok is false for an item that is not known or is deleted.
func (p *Processor) ItemStatus(source, item string) (status flow.Value, at time.Time, ok bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.board.Ledger().Status(source, item)
}

// Present calls f for each item of a source that is not deleted.
func (p *Processor) Present(source string, f func(item, key, container string) bool) {
	p.each(source, false, f)
}

// Absent calls f for each item of a source that is known as deleted.
func (p *Processor) Absent(source string, f func(item, key, container string) bool) {
	p.each(source, true, f)
}

func (p *Processor) each(source string, want bool, f func(item, key, container string) bool) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	p.board.Ledger().Each(source, func(item, key, container string, gone bool) bool {
		return gone != want || f(item, key, container)
	})
}
