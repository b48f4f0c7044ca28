package connector

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// sameStep is the time within which two tellings of one status are the same
// transition: a tracker stamps its event and its board a little apart.
const sameStep = 5 * time.Second

// unsettled is how long after a step a snapshot may still show the status before
// it. What it shows later is so.
const unsettled = 2 * time.Minute

// observe compares the statuses that are in sight with what the log says and
// publishes the differences. A failure is shown and logged; what was seen until
// then counts, for each item stands for itself.
func (r *Runner) observe(ctx context.Context) error {
	observer, able := r.cfg.Source.(Observer)
	if !able || r.cfg.Facts == nil {
		return nil
	}
	w := watch{intake: intake{Runner: r}, began: time.Now()}
	err := w.call(ctx, observer)
	if w.err == nil {
		w.flush(ctx)
	}
	w.end()
	if w.err != nil {
		err = w.err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	text := ""
	if err != nil {
		text = shorten(err.Error())
		r.cfg.Logger.Warn("statuses could not be observed", failure(err)...)
	}
	r.mu.Lock()
	r.state.observeError = text
	r.mu.Unlock()
	if w.found > 0 {
		r.cfg.Logger.Info("statuses differ from their history", "items", w.found)
	}
	return err
}

// A watch is one call of [Observer.Observe].
type watch struct {
	intake
	began   time.Time
	changes []flow.Change // that are not published yet
	found   int
	err     error // of the first batch that could not be taken
}

// watchBatch is how many differences are published at once.
const watchBatch = 500

func (w *watch) call(ctx context.Context, observer Observer) (err error) {
	defer rescue(&err)
	return observer.Observe(ctx, func(o Observation) {
		if w.err != nil {
			return
		}
		if c, ok := w.difference(o); ok {
			w.found++
			if w.changes = append(w.changes, c); len(w.changes) >= watchBatch {
				w.flush(ctx)
			}
		}
	})
}

func (w *watch) flush(ctx context.Context) {
	w.err = w.take(ctx, Batch{Changes: w.changes})
	w.changes = nil
}

// difference returns the step from the status that the log holds of an item to
// the one that is seen, which may be none: then it was cleared. There is no step
// where the log does not know the item, so that a later observation tells; and
// where what is known is newer than what is seen.
func (w *watch) difference(o Observation) (flow.Change, bool) {
	if o.ID == "" {
		return flow.Change{}, false
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	at := o.At.UTC().Round(0)
	if at.After(now) {
		at = now // the tracker's clock is ahead
	}
	known := w.known(o.ID)
	switch {
	case !known.exists || same(known.status, o.Status):
		return flow.Change{}, false
	case o.At.IsZero():
		// When it was seen is not told either: after the observation began.
		if at = now; !known.at.Before(w.began) {
			return flow.Change{}, false
		}
	case at.Before(known.at):
		return flow.Change{}, false
	case same(known.before, o.Status) && at.Sub(known.beforeAt).Abs() <= sameStep && now.Sub(known.at) < unsettled:
		return flow.Change{}, false // the next observation tells which it is
	}
	id := fmt.Sprintf("%s:observed:%s:%d", o.ID, cmp.Or(o.Status.ID, o.Status.Name, "none"), at.UnixMilli())
	if at.Equal(known.at) {
		at = at.Add(time.Millisecond) // what is seen now is the later of the two
	}
	return flow.Change{
		ID: id, Source: w.cfg.Name, Container: o.Container, Item: o.ID, Key: o.Key,
		At: at, ObservedAt: now, Kind: flow.Updated, Approximate: true,
		Fields: []flow.FieldChange{{Field: flow.FieldStatus, From: known.status, To: o.Status}},
	}, true
}

// same reports whether two statuses are one, by id where both have one.
func same(a, b flow.Value) bool {
	if a.ID != "" && b.ID != "" {
		return a.ID == b.ID
	}
	return a.Text() == b.Text()
}

// A standing is what is known of an item's status.
type standing struct {
	exists   bool // the item is known and not deleted
	status   flow.Value
	at       time.Time // since when
	sequence int64
	id       string // of the change that tells of it; empty: none does

	before   flow.Value // the status before it, as far as it is remembered
	beforeAt time.Time
}

// known returns what the log says about an item, and what was published so
// lately that the log's facts may lag behind it.
func (w *watch) known(item string) standing {
	w.writing <- struct{}{}
	defer func() { <-w.writing }()
	status, at, ok := w.cfg.Facts.Status(w.cfg.Name, item)
	late := w.lately.of(item)
	if late == nil {
		return standing{exists: ok, status: status, at: at}
	}
	s := *late
	if s.id == "" || s.at.Before(at) || w.cfg.Facts.Known(w.cfg.Name, s.id) {
		s.status, s.at = status, at
	}
	return s
}

// lately remembers the statuses of the items that were published last, at least
// recentIDs of them and at most twice as many.
type lately struct{ young, old map[string]*standing }

func (l *lately) of(item string) *standing {
	if s, ok := l.young[item]; ok {
		return s
	}
	return l.old[item]
}

// add takes in changes that were published. Those of other sources do not count.
func (l *lately) add(source string, changes []flow.Change) {
	for i := range changes {
		c := &changes[i]
		if c.Source != source {
			continue
		}
		s := l.of(c.Item)
		if s == nil {
			s = &standing{}
		}
		if l.young[c.Item] == nil {
			if l.young == nil || len(l.young) >= recentIDs {
				l.young, l.old = map[string]*standing{}, l.young
			}
			l.young[c.Item] = s
		}
		s.exists = c.Kind != flow.Deleted
		for _, f := range c.Fields {
			if f.Field == flow.FieldStatus && (s.id == "" || s.precedes(c)) {
				s.before, s.beforeAt = s.status, s.at
				s.status, s.at, s.sequence, s.id = f.To, c.At, c.Sequence, c.ID
			}
		}
	}
}

// precedes reports whether what is known comes before a change, in the order of
// facts.
func (s *standing) precedes(c *flow.Change) bool {
	return cmp.Or(s.at.Compare(c.At), cmp.Compare(s.sequence, c.Sequence), cmp.Compare(s.id, c.ID)) <= 0
}
