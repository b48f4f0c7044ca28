package connector

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// An intake makes batches durable: those of one poll, refetch, observation or
// census, or the one of a webhook delivery. It is for one goroutine.
type intake struct {
	*Runner
	delivery bool             // of a webhook
	dropped  int              // invalid changes
	rejected []flow.Rejection // of the batch at hand
}

// take makes a batch durable, whatever its cursor.
func (t *intake) take(ctx context.Context, b Batch) error {
	t.rejected = b.Rejected
	if err := t.append(ctx, b.Changes); err != nil {
		return err
	}
	if len(t.rejected) > 0 && t.cfg.Rejections != nil {
		if err := t.cfg.Rejections.Reject(ctx, t.rejected); err != nil {
			return fmt.Errorf("record rejections: %w", err)
		}
	}
	return nil
}

// append publishes the changes that are to go to the log. Nobody else of this
// source does so meanwhile, so that each goes there once.
func (t *intake) append(ctx context.Context, changes []flow.Change) error {
	select {
	case t.writing <- struct{}{}:
		defer func() { <-t.writing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	return t.publish(ctx, t.admit(changes))
}

// end tells how many more were dropped than there are lines about.
func (t *intake) end() {
	if more := t.dropped - maxDropLines; more > 0 {
		t.cfg.Logger.Warn("more invalid changes were dropped", "changes", more)
	}
}

// maxDropLines bounds the log lines about invalid changes of one intake.
const maxDropLines = 20

// admit returns the changes that go to the log: complete, valid and, where the
// source overlaps, not known to be there.
func (t *intake) admit(changes []flow.Change) []flow.Change {
	now := time.Now().UTC().Truncate(time.Millisecond)
	admitted := make([]flow.Change, 0, len(changes))
	for _, c := range changes {
		if c.Source == "" {
			c.Source = t.cfg.Name
		}
		if c.ObservedAt.IsZero() {
			c.ObservedAt = now
		}
		if err := c.Validate(); err != nil {
			t.drop(&c, err)
			continue
		}
		if t.cfg.Overlaps && (t.recent.has(c.Source, c.ID) || t.cfg.Facts != nil && t.cfg.Facts.Known(c.Source, c.ID)) {
			continue
		}
		admitted = append(admitted, c)
	}
	return admitted
}

func (t *intake) drop(c *flow.Change, err error) {
	reason := flow.ReasonMalformed
	if invalid, ok := errors.AsType[*flow.InvalidError](err); ok {
		reason = invalid.Reason
	}
	t.rejected = append(t.rejected, flow.Rejection{
		Index: -1, Subject: "source:" + t.cfg.Name, Source: shorten(c.Source), ID: shorten(c.ID), Reason: reason, Detail: err.Error(),
	})
	t.countDropped(reason)
	if t.dropped++; t.dropped <= maxDropLines {
		t.cfg.Logger.Warn("invalid change was dropped", "change", shorten(c.ID), "item", shorten(c.Item), "reason", string(reason), "error", err)
	}
}

// publish appends changes to the log, those of each source together and in
// their order, and remembers them. The caller holds writing.
func (t *intake) publish(ctx context.Context, changes []flow.Change) error {
	for _, group := range bySource(changes) {
		if err := t.cfg.Publisher.Publish(ctx, group[0].Source, group); err != nil {
			return fmt.Errorf("publish changes: %w", err)
		}
		if t.cfg.Overlaps {
			for i := range group {
				t.recent.add(group[i].Source, group[i].ID)
			}
		}
		if _, observes := t.cfg.Source.(Observer); observes {
			t.lately.add(t.cfg.Name, group)
		}
		t.count(group)
	}
	return nil
}

// count counts what was published, and keeps which items deliveries took away.
func (t *intake) count(changes []flow.Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.state.published += int64(len(changes))
	if !t.delivery || !t.counts() {
		return
	}
	for i := range changes {
		if changes[i].Kind == flow.Deleted && changes[i].Source == t.cfg.Name {
			t.state.removed[changes[i].Item] = struct{}{}
		}
	}
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

// rescue turns a panic of the source into an error; it is deferred.
func rescue(err *error) {
	if v := recover(); v != nil {
		*err = &panicError{value: v, stack: debug.Stack()}
	}
}

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
