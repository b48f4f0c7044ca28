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
	var became []flow.Change
	r.mu.Lock()
	removed := maps.Clone(r.state.removed)
	r.mu.Unlock()
	if counts {
		known := func(c flow.Change) bool { _, ok := removed[c.Item]; return ok }
		gone, back = slices.DeleteFunc(gone, known), slices.DeleteFunc(back, known)
		var failed error
		if became, gone, failed = r.trace(ctx, gone); failed != nil {
			err = errors.Join(err, failed)
		}
		t := &intake{Runner: r}
		if failed := t.take(ctx, Batch{Changes: slices.Concat(became, gone, back)}); failed != nil {
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
		r.cfg.Logger.Info("census found differences", "vanished", len(gone), "reappeared", len(back), "renamed", len(became))
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
		maps.DeleteFunc(present, func(_ string, i Item) bool { return !slices.Contains(part, i.Container) })
	} else if err != nil {
		return nil, nil, err
	}
	at := time.Now().UTC().Truncate(time.Millisecond)
	for id, item := range present {
		if _, ok := live[id]; !ok {
			gone = append(gone, r.found(at, "deleted", flow.Deleted, item))
		}
	}
	if len(present) > 0 && len(live) == 0 {
		return nil, nil, fmt.Errorf("no item in sight of %d known: %w", len(present), errLostSight)
	}
	if len(gone) > 20 && len(gone)*2 > len(present) {
		return nil, nil, fmt.Errorf("%d of %d known items vanished: %w", len(gone), len(present), errLostSight)
	}
	for id, was := range absent {
		item, ok := live[id]
		if !ok {
			continue
		}
		item.Key, item.Container = cmp.Or(item.Key, was.Key), cmp.Or(item.Container, was.Container)
		c := r.found(at, "restored", flow.Updated, item)
		if !item.Status.IsZero() {
			c.Fields = append(c.Fields, flow.FieldChange{Field: flow.FieldStatus, To: item.Status})
		}
		if c.Container != was.Container {
			c.Fields = append(c.Fields, flow.FieldChange{
				Field: flow.FieldContainer, From: flow.Value{Name: was.Container}, To: flow.Value{Name: c.Container},
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
func (r *Runner) found(at time.Time, what string, kind flow.Kind, item Item) flow.Change {
	return flow.Change{
		ID:          fmt.Sprintf("%s:%s:%d", item.ID, what, at.UnixMilli()),
		Source:      r.cfg.Name,
		Container:   item.Container,
		Item:        item.ID,
		Key:         item.Key,
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

// collect returns the items that a method of [Facts] tells of, by id.
func collect(items func(string, func(item, key, container string) bool), source string) map[string]Item {
	m := map[string]Item{}
	items(source, func(item, key, container string) bool {
		m[item] = Item{ID: item, Key: key, Container: container}
		return true
	})
	return m
}

// The bounds of asking what has become of items.
const (
	maxTraced   = 200 // items, in one census
	maxUntraced = 3   // that fail
)

// trace asks the source what has become of the items that have gone, where it can
// tell. It returns what they have become, and of which it is to be told that they
// have gone, those that go on as others included. An item that the source cannot
// tell of, or that is one too many, is left to the next census: which these are is
// up to chance, so that none is in the way of the others for ever.
func (r *Runner) trace(ctx context.Context, missed []flow.Change) (became, gone []flow.Change, err error) {
	tracer, ok := r.cfg.Source.(Tracer)
	if !ok {
		return nil, missed, nil
	}
	rand.Shuffle(len(missed), func(i, k int) { missed[i], missed[k] = missed[k], missed[i] })
	var failures []error
	for _, c := range missed[:min(len(missed), maxTraced)] {
		changes, err := become(ctx, tracer, Item{ID: c.Item, Key: c.Key, Container: c.Container})
		if err == nil {
			became, gone = append(became, changes...), append(gone, c)
			continue
		}
		failures = append(failures, err)
		if _, limited := errors.AsType[*RateLimitError](err); limited || ctx.Err() != nil || len(failures) == maxUntraced {
			break
		}
	}
	return became, gone, errors.Join(failures...)
}

// become asks for one item and turns a panic into an error.
func become(ctx context.Context, tracer Tracer, missed Item) (changes []flow.Change, err error) {
	defer rescue(&err)
	return tracer.Trace(ctx, missed)
}
