package connector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A timetable says when the next census is due; the zero time means never.
type timetable struct {
	every time.Duration
	next  time.Time
}

// firstCensus puts the first census anywhere within the interval: sources that
// began together do not list at once, and a program that is restarted more
// often than the interval still gets its censuses.
func (r *Runner) firstCensus() *timetable {
	if !r.counts() {
		return &timetable{}
	}
	return &timetable{every: r.cfg.CensusInterval, next: time.Now().Add(rand.N(r.cfg.CensusInterval))}
}

// counts reports whether there are censuses.
func (r *Runner) counts() bool {
	_, able := r.cfg.Source.(Censor)
	return able && r.cfg.Facts != nil && r.cfg.CensusInterval > 0
}

func (t *timetable) due() bool { return !t.next.IsZero() && !time.Now().Before(t.next) }

// done sets the time of the next census, sooner after a failure.
func (t *timetable) done(err error) {
	wait := t.every
	if err != nil && len(listed(err)) == 0 {
		wait = min(wait, 15*time.Minute)
	}
	t.next = time.Now().Add(wait)
}

// errLostSight refuses a census.
var errLostSight = errors.New("looks like lost permission")

// census compares the items that exist with those that are known, publishes
// what vanished and what came back, and records the outcome.
//
// What webhooks have told to be deleted since the last census is left out: it may
// be listed still, by an index that lags behind or because it was listed before.
// Where it is there in truth, the next census finds it.
func (r *Runner) census(ctx context.Context) error {
	r.setBusy(true)
	defer r.setBusy(false)
	gone, back, err := r.compare(ctx)
	counts := err == nil || len(listed(err)) > 0
	r.mu.Lock()
	removed := maps.Clone(r.state.removed)
	r.mu.Unlock()
	if counts {
		known := func(c flow.Change) bool { _, ok := removed[c.Item]; return ok }
		gone, back = slices.DeleteFunc(gone, known), slices.DeleteFunc(back, known)
		t := &intake{Runner: r}
		if failed := t.take(ctx, Batch{Changes: slices.Concat(gone, back)}); failed != nil {
			counts, err = false, failed
		}
		t.end()
	}
	if err != nil {
		err = fmt.Errorf("census: %w", err)
	}
	if ctx.Err() != nil {
		return err
	}
	r.mu.Lock()
	r.state.censusError = ""
	if counts {
		r.state.lastCensus = time.Now()
		maps.DeleteFunc(r.state.removed, func(item string, _ struct{}) bool { _, ok := removed[item]; return ok })
	}
	if err != nil {
		r.state.censusError = shorten(err.Error())
	}
	r.mu.Unlock()
	switch {
	case !counts:
		r.cfg.Logger.Warn("census did not count", failure(err)...)
	case err != nil:
		r.cfg.Logger.Warn("census counts for a part", failure(err)...)
	}
	if counts && len(gone)+len(back) > 0 {
		r.cfg.Logger.Info("census found differences", "vanished", len(gone), "reappeared", len(back))
	}
	return err
}

// compare lists what exists and returns what vanished and what came back. With a
// [*PartialError] it does so for what was listed.
func (r *Runner) compare(ctx context.Context) (gone, back []flow.Change, err error) {
	// What is known is taken before the census begins, so that an item born
	// during it cannot seem to have vanished.
	present, absent := collect(r.cfg.Facts.Present, r.cfg.Name), collect(r.cfg.Facts.Absent, r.cfg.Name)
	live, err := r.list(ctx)
	if part := listed(err); len(part) > 0 {
		maps.DeleteFunc(present, func(_, container string) bool { return !slices.Contains(part, container) })
	} else if err != nil {
		return nil, nil, err
	}
	at := time.Now().UTC().Truncate(time.Millisecond)
	for item, container := range present {
		if _, ok := live[item]; !ok {
			gone = append(gone, r.found(at, "deleted", flow.Deleted, item, container))
		}
	}
	if len(present) > 0 && len(live) == 0 {
		return nil, nil, fmt.Errorf("no item in sight of %d known: %w", len(present), errLostSight)
	}
	if len(gone) > 20 && len(gone)*2 > len(present) {
		return nil, nil, fmt.Errorf("%d of %d known items vanished: %w", len(gone), len(present), errLostSight)
	}
	for id, container := range absent {
		item, ok := live[id]
		if !ok {
			continue
		}
		c := r.found(at, "restored", flow.Updated, id, cmp.Or(item.Container, container))
		c.Key = item.Key
		if !item.Status.IsZero() {
			c.Fields = append(c.Fields, flow.FieldChange{Field: flow.FieldStatus, To: item.Status})
		}
		if c.Container != container {
			c.Fields = append(c.Fields, flow.FieldChange{
				Field: flow.FieldContainer, From: flow.Value{Name: container}, To: flow.Value{Name: c.Container},
			})
		}
		back = append(back, c)
	}
	byItem := func(a, b flow.Change) int { return cmp.Compare(a.Item, b.Item) }
	slices.SortFunc(gone, byItem)
	slices.SortFunc(back, byItem)
	return gone, back, err
}

// found returns a change that a census detected.
func (r *Runner) found(at time.Time, what string, kind flow.Kind, item, container string) flow.Change {
	return flow.Change{
		ID:          fmt.Sprintf("%s:%s:%d", item, what, at.UnixMilli()),
		Source:      r.cfg.Name,
		Container:   container,
		Item:        item,
		At:          at,
		ObservedAt:  at,
		Kind:        kind,
		Approximate: true,
	}
}

// listed returns the containers that a census listed nevertheless.
func listed(err error) []string {
	if part, ok := errors.AsType[*PartialError](err); ok {
		return part.Listed
	}
	return nil
}

// list takes the census and turns a panic into an error.
func (r *Runner) list(ctx context.Context) (live map[string]Item, err error) {
	defer rescue(&err)
	live = map[string]Item{}
	err = r.cfg.Source.(Censor).Census(ctx, func(item Item) { live[item.ID] = item })
	return live, err
}

// collect returns the items that a method of [Facts] tells of, with their
// containers.
func collect(items func(string, func(item, container string) bool), source string) map[string]string {
	m := map[string]string{}
	items(source, func(item, container string) bool {
		m[item] = container
		return true
	})
	return m
}
