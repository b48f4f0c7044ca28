// Package connectortest holds the promises that every [connector.Source] must
// keep, as one function in the manner of testing/fstest: [Test] tries a source
// against a tracker and returns everything that does not hold.
//
// It knows nothing about a tracker: what a status change or a deleted item
// looks like is for the connector's own tests.
package connectortest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A Harness is a small tracker, with a history of several batches.
type Harness struct {
	// New returns a source that remembers nothing, as after a restart.
	New func() connector.Source
	// Grow makes the tracker tell at least one fact more.
	Grow func() error
	// BornOnce says that each item has exactly one CREATED or OBSERVED, as those
	// of a tracker have.
	BornOnce bool
}

// Test returns what does not hold for the source, or nil. It polls about once
// for every batch of the tracker's history.
func Test(ctx context.Context, h Harness) error {
	all, err := read(ctx, h.New(), nil, -1)
	if err != nil {
		return fmt.Errorf("read everything: %w", err)
	}
	if all.batches < 2 {
		return fmt.Errorf("the tracker's history makes %d batches, too few to test with", all.batches)
	}
	return errors.Join(
		h.valid(all),
		h.repeats(ctx, all),
		h.resumes(ctx, all),
		h.stops(ctx),
		h.refuses(ctx),
		h.follows(ctx, all),
	)
}

// reading is what one poll has told.
type reading struct {
	facts    map[string]flow.Change // by id
	cursor   connector.Cursor       // as it would be stored
	batches  int
	problems []error
}

// errEmit is the failure of an emit.
var errEmit = errors.New("emit fails")

// read polls once. The emit of batch number failAt fails.
func read(ctx context.Context, s connector.Source, from connector.Cursor, failAt int) (*reading, error) {
	r := &reading{facts: map[string]flow.Change{}, cursor: from}
	failed := false
	err := s.Poll(ctx, from, func(b connector.Batch) error {
		if failed {
			r.problems = append(r.problems, errors.New("emit is called again after it failed"))
		}
		if r.batches == failAt {
			failed = true
			return errEmit
		}
		r.batches++
		r.take(b)
		return nil
	})
	return r, err
}

func (r *reading) take(b connector.Batch) {
	if n := len(b.Cursor); n > connector.MaxCursor {
		r.problems = append(r.problems, fmt.Errorf("cursor has %d bytes, the limit is %d", n, connector.MaxCursor))
	}
	if b.Cursor != nil {
		r.cursor = append(connector.Cursor{}, b.Cursor...)
	}
	for _, c := range b.Changes {
		c.ObservedAt = time.Time{} // differs from one reading to the next
		if old, ok := r.facts[c.ID]; ok {
			if diff := cmp.Diff(old, c); diff != "" {
				r.problems = append(r.problems, fmt.Errorf("two facts have the id %q:\n%s", c.ID, diff))
			}
		}
		r.facts[c.ID] = c
	}
}

// valid checks the facts themselves.
func (h *Harness) valid(all *reading) error {
	problems := all.problems
	births := map[string]int{}
	for _, c := range all.facts {
		births[c.Item] += 0
		if c.Kind == flow.Created || c.Kind == flow.Observed {
			births[c.Item]++
		}
		if c.Source == "" {
			c.Source = "source" // the Runner fills it in
		}
		if err := c.Validate(); err != nil {
			problems = append(problems, fmt.Errorf("change %q is invalid: %w", c.ID, err))
		}
	}
	for item, n := range births {
		if h.BornOnce && n != 1 {
			problems = append(problems, fmt.Errorf("item %q is born %d times", item, n))
		}
	}
	return errors.Join(problems...)
}

// repeats checks that the same facts have the same ids and content when they
// are read again.
func (h *Harness) repeats(ctx context.Context, all *reading) error {
	again, err := read(ctx, h.New(), connector.Cursor{}, -1)
	if err != nil {
		return fmt.Errorf("read everything again: %w", err)
	}
	if diff := cmp.Diff(all.facts, again.facts); diff != "" {
		return fmt.Errorf("facts differ when they are read again (-first +second):\n%s", diff)
	}
	return nil
}

// resumes checks, for every batch, that a failure to take it ends the poll, and
// that a restart from the cursor stored before it loses nothing.
func (h *Harness) resumes(ctx context.Context, all *reading) error {
	for n := range all.batches {
		first, err := read(ctx, h.New(), nil, n)
		if !errors.Is(err, errEmit) {
			return fmt.Errorf("emit failed at batch %d, Poll returned %v", n, err)
		}
		if len(first.problems) > 0 {
			return fmt.Errorf("batch %d: %w", n, errors.Join(first.problems...))
		}
		rest, err := read(ctx, h.New(), first.cursor, -1)
		if err != nil {
			return fmt.Errorf("resume at batch %d: %w", n, err)
		}
		if err := covers(all, first, rest); err != nil {
			return fmt.Errorf("resume at batch %d, cursor %s: %w", n, first.cursor, err)
		}
	}
	return nil
}

// covers checks that the parts together tell every fact, and tell it alike.
func covers(all *reading, parts ...*reading) error {
	for id, want := range all.facts {
		told := false
		for _, part := range parts {
			if got, ok := part.facts[id]; ok {
				told = true
				if diff := cmp.Diff(want, got); diff != "" {
					return fmt.Errorf("fact %q differs:\n%s", id, diff)
				}
			}
		}
		if !told {
			return fmt.Errorf("fact %q is lost", id)
		}
	}
	return nil
}

// stops checks that a poll ends with its context.
func (h *Harness) stops(ctx context.Context) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if r, err := read(ended, h.New(), nil, -1); !errors.Is(err, context.Canceled) || r.batches > 0 {
		return fmt.Errorf("the context has ended, Poll emitted %d batches and returned %v", r.batches, err)
	}
	return nil
}

// refuses checks that a cursor of somebody else's is no silent success.
func (h *Harness) refuses(ctx context.Context) error {
	for _, cursor := range []string{"\x00garbage", "{", `{"v":1000000}`, "0", "null"} {
		if _, err := read(ctx, h.New(), connector.Cursor(cursor), -1); !errors.Is(err, connector.ErrCursor) {
			return fmt.Errorf("cursor %q is not refused: Poll returned %v", cursor, err)
		}
	}
	return nil
}

// follows checks that what a tracker tells later is read from the last cursor.
func (h *Harness) follows(ctx context.Context, before *reading) error {
	if err := h.Grow(); err != nil {
		return fmt.Errorf("grow: %w", err)
	}
	later, err := read(ctx, h.New(), before.cursor, -1)
	if err != nil {
		return fmt.Errorf("read what is new: %w", err)
	}
	all, err := read(ctx, h.New(), nil, -1)
	if err != nil {
		return fmt.Errorf("read everything after growth: %w", err)
	}
	if len(all.facts) <= len(before.facts) {
		return errors.New("the tracker grew, and everything is no more than before")
	}
	if err := covers(all, before, later); err != nil {
		return fmt.Errorf("read what is new from cursor %s: %w", before.cursor, err)
	}
	return nil
}
