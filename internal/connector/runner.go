package connector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A Config says what one [Runner] polls, how often, and where it puts what it
// reads. Facts, Progress and Logger may be nil.
type Config struct {
	Name   string // of the source, as configured
	Source Source
	// PollInterval is the pause between two polls; it is at least a second.
	PollInterval time.Duration
	// CensusInterval is the time between two censuses; 0 means never. It counts
	// only where Source is a [Censor] and there are Facts to compare with.
	CensusInterval time.Duration
	// Overlaps says that the source reads some facts again and again, as
	// trackers do: the Runner leaves out what the log is known to hold. Without
	// it, repeats are kept.
	Overlaps  bool
	Publisher Publisher
	Cursors   Cursors
	Facts     Facts
	// Rejections gets what cannot be used; nil: it is counted and logged only.
	Rejections Rejections
	Progress   Reporter // is told of the first catching up
	Logger     *slog.Logger
}

// A Runner polls one source: it publishes what the source emits, only then
// stores its cursor (invariant I1), and calls again at the interval, or later
// where the tracker asks for it. Its methods are safe for concurrent use.
type Runner struct {
	cfg     Config
	trigger chan struct{}
	recent  recent // ids that Facts may not have seen yet
	// failures counts the polls in a row that failed without having advanced.
	failures  int
	badCursor bool // reported already

	mu    sync.Mutex
	state state
}

// NewRunner returns a Runner that does nothing until [Runner.Run].
func NewRunner(c Config) *Runner {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Logger = c.Logger.With("source", c.Name)
	c.PollInterval = max(c.PollInterval, minPause)
	return &Runner{cfg: c, trigger: make(chan struct{}, 1), state: state{dropped: map[flow.Reason]int64{}}}
}

// PollNow makes the Runner poll at once, or again after the poll that is under
// way. Any number of calls before that poll count as one, polls stay a second
// apart, and the pause after a failure stands.
func (r *Runner) PollNow() {
	select {
	case r.trigger <- struct{}{}:
	default: // one is waiting already
	}
}

// Run polls until ctx ends and then returns nil: a failing source is shown by
// [Runner.Status] and tried again for ever. It is called once.
func (r *Runner) Run(ctx context.Context) error {
	r.begin()
	census := r.firstCensus()
	for {
		select {
		case <-r.trigger: // this poll is the answer
		default:
		}
		err := r.poll(ctx)
		if ctx.Err() != nil {
			return nil
		}
		pause, wake := r.pause(err)
		if err == nil && census.due() {
			err := r.census(ctx)
			if ctx.Err() != nil {
				return nil
			}
			census.done(err)
			if _, limited := errors.AsType[*RateLimitError](err); limited {
				pause, wake = max(pause, r.delay(err)), nil
			}
		}
		if !sleep(ctx, minPause, nil) || !sleep(ctx, pause-minPause, wake) {
			return nil
		}
	}
}

// poll calls the source once from the stored cursor, again where the cursor was
// stored by somebody else meanwhile or cannot be used, and records the outcome.
func (r *Runner) poll(ctx context.Context) error {
	start := time.Now()
	r.setBusy(true)
	var p *poll
	err := ErrStale
	for attempt := 0; attempt < 3 && errors.Is(err, ErrStale); attempt++ {
		p, err = r.load(ctx)
		if err != nil {
			break
		}
		err = p.run(ctx)
	}
	if p != nil && p.advanced {
		r.failures = 0
	}
	if ctx.Err() != nil {
		r.setBusy(false)
		return ctx.Err()
	}
	if err != nil {
		r.failures++
		r.fail(err)
		return err
	}
	r.failures = 0
	r.succeed(start)
	return nil
}

// A poll is one call of [Source.Poll].
type poll struct {
	*Runner
	cursor   Cursor // the stored one
	revision uint64
	advanced bool             // the cursor has moved
	err      error            // of the first batch that could not be taken
	dropped  int              // invalid changes
	rejected []flow.Rejection // of the batch at hand
}

func (r *Runner) load(ctx context.Context) (*poll, error) {
	cursor, revision, err := r.cfg.Cursors.LoadCursor(ctx, r.cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("load cursor: %w", err)
	}
	return &poll{Runner: r, cursor: cursor, revision: revision}, nil
}

func (p *poll) run(ctx context.Context) error {
	err := p.call(ctx, p.cursor)
	if errors.Is(err, ErrCursor) && len(p.cursor) > 0 && !p.advanced {
		if !p.badCursor {
			p.badCursor = true
			p.cfg.Logger.Warn("stored cursor cannot be used, reading from the beginning", "error", err)
		}
		err = p.call(ctx, nil)
	}
	if more := p.dropped - maxDropLines; more > 0 {
		p.cfg.Logger.Warn("more invalid changes were dropped", "changes", more)
	}
	return err
}

// call calls the source and turns a panic into an error.
func (p *poll) call(ctx context.Context, from Cursor) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	err = p.cfg.Source.Poll(ctx, from, func(b Batch) error {
		// After a failure nothing more is taken, even from a source that goes on:
		// a later cursor would stand for a batch that is not durable (I1).
		if p.err == nil {
			p.err = p.take(ctx, b)
		}
		return p.err
	})
	if p.err != nil {
		return p.err
	}
	return err
}

// take makes a batch durable and then stores the cursor that stands for it.
func (p *poll) take(ctx context.Context, b Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(b.Cursor) > MaxCursor {
		return fmt.Errorf("cursor has %d bytes, the limit is %d", len(b.Cursor), MaxCursor)
	}
	p.rejected = b.Rejected
	if err := p.publish(ctx, p.admit(b.Changes)); err != nil {
		return err
	}
	if len(p.rejected) > 0 && p.cfg.Rejections != nil {
		if err := p.cfg.Rejections.Reject(ctx, p.rejected); err != nil {
			return fmt.Errorf("record rejections: %w", err)
		}
	}
	// Only now may the cursor stand for the batch (I1).
	if b.Cursor != nil && !bytes.Equal(b.Cursor, p.cursor) {
		revision, err := p.cfg.Cursors.StoreCursor(ctx, p.cfg.Name, b.Cursor, p.revision)
		if err != nil {
			return fmt.Errorf("store cursor: %w", err)
		}
		p.cursor, p.revision, p.badCursor = bytes.Clone(b.Cursor), revision, false
		p.advanced = true
	}
	p.progressed(b)
	return nil
}

// maxDropLines bounds the log lines about invalid changes of one poll.
const maxDropLines = 20

// admit returns the changes that go to the log: complete, valid and, where the
// source overlaps, not known to be there.
func (p *poll) admit(changes []flow.Change) []flow.Change {
	now := time.Now().UTC().Truncate(time.Millisecond)
	admitted := make([]flow.Change, 0, len(changes))
	for _, c := range changes {
		if c.Source == "" {
			c.Source = p.cfg.Name
		}
		if c.ObservedAt.IsZero() {
			c.ObservedAt = now
		}
		if err := c.Validate(); err != nil {
			p.drop(&c, err)
			continue
		}
		if p.cfg.Overlaps && (p.recent.has(c.Source, c.ID) || p.cfg.Facts != nil && p.cfg.Facts.Known(c.Source, c.ID)) {
			continue
		}
		admitted = append(admitted, c)
	}
	return admitted
}

func (p *poll) drop(c *flow.Change, err error) {
	reason := flow.ReasonMalformed
	if invalid, ok := errors.AsType[*flow.InvalidError](err); ok {
		reason = invalid.Reason
	}
	p.rejected = append(p.rejected, flow.Rejection{
		Index: -1, Subject: "source:" + p.cfg.Name, Source: shorten(c.Source), ID: shorten(c.ID), Reason: reason, Detail: err.Error(),
	})
	p.countDropped(reason)
	if p.dropped++; p.dropped <= maxDropLines {
		p.cfg.Logger.Warn("invalid change was dropped", "change", shorten(c.ID), "item", shorten(c.Item), "reason", string(reason), "error", err)
	}
}

// publish appends changes to the log, those of each source together and in
// their order, and remembers them.
func (r *Runner) publish(ctx context.Context, changes []flow.Change) error {
	for _, group := range bySource(changes) {
		if err := r.cfg.Publisher.Publish(ctx, group[0].Source, group); err != nil {
			return fmt.Errorf("publish changes: %w", err)
		}
		if r.cfg.Overlaps {
			for i := range group {
				r.recent.add(group[i].Source, group[i].ID)
			}
		}
		r.countPublished(len(group))
	}
	return nil
}

// bySource splits changes by source, keeping the order within each.
func bySource(changes []flow.Change) [][]flow.Change {
	var groups [][]flow.Change
	at := map[string]int{}
	for _, c := range changes {
		i, ok := at[c.Source]
		if !ok {
			i = len(groups)
			at[c.Source] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], c)
	}
	return groups
}

// A panicError is a panic of a source.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("source panicked: %v", e.value) }

// failure returns an error's attributes in the log.
func failure(err error) []any {
	attrs := []any{"error", err}
	if p, ok := errors.AsType[*panicError](err); ok {
		attrs = append(attrs, "stack", string(p.stack))
	}
	return attrs
}

// recent remembers the last ids, at least recentIDs of them and at most twice
// as many. It bridges the time until Facts has seen what was published.
type recent struct{ young, old map[fact]struct{} }

type fact struct{ source, id string }

const recentIDs = 1 << 14

func (r *recent) has(source, id string) bool {
	f := fact{source, id}
	_, young := r.young[f]
	_, old := r.old[f]
	return young || old
}

func (r *recent) add(source, id string) {
	if r.young == nil || len(r.young) >= recentIDs {
		r.young, r.old = map[fact]struct{}{}, r.young
	}
	r.young[fact{source, id}] = struct{}{}
}
