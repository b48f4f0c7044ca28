package connectortest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	diff "github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

var discard = slog.New(slog.DiscardHandler)

// patience is how long a poll may take that reads a small tracker or gets no
// answer that it could use. It is far more than it takes, and less than
// [retryAfter].
const patience = 20 * time.Second

// A reading is what one poll has told.
type reading struct {
	changes  []flow.Change          // in order
	facts    map[string]flow.Change // by id
	cursor   connector.Cursor       // as it would be stored
	cursors  []connector.Cursor     // after each batch
	upTo     []int                  // changes told up to each batch
	needless int                    // batches without changes or another cursor
	err      error
}

// errEmit is the failure of an emit.
var errEmit = errors.New("the log cannot be written")

// poll reads once, from a cursor to the end.
func (k *kit) poll(s connector.Source, from connector.Cursor) *reading {
	k.Helper()
	return k.pollWith(k.Context(), s, from, func(int) error { return nil })
}

// pollWith reads once. take is called before batch n counts as taken, and may
// refuse it.
func (k *kit) pollWith(ctx context.Context, s connector.Source, from connector.Cursor, take func(n int) error) *reading {
	k.Helper()
	return k.read(ctx, from, take, func(ctx context.Context, emit func(connector.Batch) error) error {
		return s.Poll(ctx, from, emit)
	})
}

// read calls a function that emits and holds it to what is demanded of all such.
func (k *kit) read(ctx context.Context, from connector.Cursor, take func(n int) error, f func(context.Context, func(connector.Batch) error) error) *reading {
	k.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &reading{facts: map[string]flow.Change{}, cursor: from}
	var problems []string
	refused := false
	done := make(chan error, 1)
	go func() {
		defer func() {
			if p := recover(); p != nil {
				done <- fmt.Errorf("%w: %v\n%s", errPanic, p, debug.Stack())
			}
		}()
		done <- f(ctx, func(b connector.Batch) error {
			if refused {
				problems = append(problems, "emit is called again after it failed")
			}
			if err := take(len(r.cursors)); err != nil {
				refused = true
				return err
			}
			problems = append(problems, r.add(b)...)
			return nil
		})
	}()
	patience := cmp.Or(k.h.patience, patience)
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case r.err = <-done:
	case <-limit.C:
		cancel()
		k.Fatalf("Poll has not returned after %s, and a small tracker takes milliseconds.\nThe usual cause: it waits or retries by itself, or never sees the end of a list. %s.", patience, k.cause)
	}
	if errors.Is(r.err, errPanic) {
		k.Fatalf("Poll must not panic, whatever the tracker answers: %v", r.err)
	}
	for _, p := range problems {
		k.fail("%s", p)
	}
	return r
}

var errPanic = errors.New("panic")

// add takes a batch and returns what is wrong with it by itself.
func (r *reading) add(b connector.Batch) (problems []string) {
	if n := len(b.Cursor); n > connector.MaxCursor {
		problems = append(problems, fmt.Sprintf("cursor has %d bytes, the limit is %d", n, connector.MaxCursor))
	}
	if len(b.Changes) == 0 && (b.Cursor == nil || bytes.Equal(b.Cursor, r.cursor)) {
		r.needless++
	}
	if b.Cursor != nil {
		r.cursor = append(connector.Cursor{}, b.Cursor...)
	}
	r.cursors = append(r.cursors, r.cursor)
	for _, c := range b.Changes {
		c.ObservedAt = time.Time{} // differs from one reading to the next
		checked := c
		if checked.Source == "" {
			checked.Source = "source" // the Runner fills it in
		}
		if err := checked.Validate(); err != nil {
			problems = append(problems, fmt.Sprintf("change %q is invalid: %v", c.ID, err))
		}
		if old, known := r.facts[c.ID]; !known {
			r.changes = append(r.changes, c)
		} else if d := diff.Diff(old, c); d != "" {
			problems = append(problems, fmt.Sprintf("two facts have the id %q, make ids of what is unique (-first +second):\n%s", c.ID, d))
		}
		r.facts[c.ID] = c
	}
	r.upTo = append(r.upTo, len(r.changes))
	for _, j := range b.Rejected {
		problems = append(problems, fmt.Sprintf("the tracker's own data was rejected: %s %s", j.Reason, j.Detail))
	}
	return problems
}

// all reads everything and demands success.
func (k *kit) all(o Options) *reading {
	k.Helper()
	return k.ok(k.poll(k.source(o), nil))
}

// ok demands that a poll was a success.
func (k *kit) ok(r *reading) *reading {
	k.Helper()
	if r.err != nil {
		k.Fatalf("want Poll to succeed, got %v", r.err)
	}
	return r
}

// head returns what was told up to and with batch n.
func (r *reading) head(n int) *reading {
	return &reading{changes: r.changes[:r.upTo[n]], cursor: r.cursors[n]}
}

// union returns each fact of some readings once, and reports those that differ.
func (k *kit) union(readings ...*reading) []flow.Change {
	k.Helper()
	facts := map[string]flow.Change{}
	var all []flow.Change
	for _, r := range readings {
		for _, c := range r.changes {
			if old, known := facts[c.ID]; !known {
				all = append(all, c)
			} else if d := diff.Diff(old, c); d != "" {
				k.fail("the fact %q read again is another (-first +second):\n%s", c.ID, d)
			}
			facts[c.ID] = c
		}
	}
	return all
}
