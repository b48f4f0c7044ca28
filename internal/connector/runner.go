package connector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
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
// where the tracker asks for it. Between polls it reads what webhooks named, looks
// at boards and takes censuses. Its methods are safe for concurrent use.
type Runner struct {
	cfg     Config
	trigger chan struct{}
	hinted  chan struct{} // has room for one signal that items were named

	// Of Run alone: how many polls in a row failed without having advanced, and
	// that a bad cursor was reported.
	failures  int
	badCursor bool
	refetches refetches

	// writing is held to compare changes with the log and append what is new: poll
	// and webhook may tell the same at once. It guards what follows.
	writing chan struct{}
	recent  recent // ids that Facts may not have seen yet
	lately  lately // statuses likewise

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
	return &Runner{
		cfg: c, trigger: make(chan struct{}, 1), hinted: make(chan struct{}, 1),
		writing: make(chan struct{}, 1), state: state{dropped: map[flow.Reason]int64{}, removed: map[string]struct{}{}},
	}
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
		caughtUp := r.caughtUp()
		err := r.poll(ctx)
		if ctx.Err() != nil {
			return nil
		}
		pause := r.pause(err)
		if err == nil && !caughtUp {
			r.dropHints() // this poll has reached them
		}
		if err == nil || partial(err) {
			err = r.observe(ctx)
			if _, limited := errors.AsType[*RateLimitError](err); !limited && ctx.Err() == nil && census.due() {
				err = r.census(ctx)
				census.done(err)
			}
			if ctx.Err() != nil {
				return nil
			}
			pause.heed(r, err)
		}
		if !r.rest(ctx, pause) {
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
		if partial(err) {
			r.failures = 0
		}
		r.fail(err)
		return err
	}
	r.failures = 0
	r.succeed(start)
	return nil
}

// A poll is one call of [Source.Poll].
type poll struct {
	intake
	cursor   Cursor // the stored one
	revision uint64
	advanced bool  // the cursor has moved
	err      error // of the first batch that could not be taken
}

func (r *Runner) load(ctx context.Context) (*poll, error) {
	cursor, revision, err := r.cfg.Cursors.LoadCursor(ctx, r.cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("load cursor: %w", err)
	}
	return &poll{intake: intake{Runner: r}, cursor: cursor, revision: revision}, nil
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
	p.end()
	return err
}

// call calls the source and turns a panic into an error.
func (p *poll) call(ctx context.Context, from Cursor) (err error) {
	defer rescue(&err)
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
	if err := p.intake.take(ctx, b); err != nil {
		return err
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
