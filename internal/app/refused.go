package app

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/eventlog"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// refused records and counts what is refused on the way to the log: lines of
// files and requests, changes of connectors. The processor does the same for what
// is in the log. What is refused again, as sources are read again, is one
// rejection, so that the counters are the same after a restart.
type refused struct {
	log *eventlog.Log

	mu     sync.Mutex
	counts map[flow.Reason]uint64
	seen   map[flow.Rejection]struct{} // without Position and Received
}

// maxRefused bounds the refusals that are remembered; the log keeps no more.
const maxRefused = 100_000

// load reads what was refused before.
func (r *refused) load(ctx context.Context) error {
	r.counts, r.seen = map[flow.Reason]uint64{}, map[flow.Rejection]struct{}{}
	err := r.log.Rejections(ctx, 0, 0, func(rejection flow.Rejection) error {
		if !strings.HasPrefix(rejection.Subject, eventlog.ChangesPrefix) {
			r.count(rejection)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read rejections: %w", err)
	}
	return nil
}

// identity is a rejection without what differs when it is refused again.
func identity(rejection flow.Rejection) flow.Rejection {
	rejection.Position, rejection.Received = 0, time.Time{}
	return rejection
}

// count counts a rejection that is new.
func (r *refused) count(rejection flow.Rejection) {
	id := identity(rejection)
	if _, known := r.seen[id]; known || len(r.seen) >= maxRefused {
		return
	}
	r.seen[id] = struct{}{}
	r.counts[rejection.Reason]++
}

// Reject implements [connector.Rejections] and [web.Rejections].
func (r *refused) Reject(ctx context.Context, rejections []flow.Rejection) error {
	position, err := r.log.LastPosition(ctx)
	if err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	var fresh []flow.Rejection
	r.mu.Lock()
	for _, rejection := range rejections {
		rejection.ID, rejection.Source, rejection.Detail = short(rejection.ID), short(rejection.Source), short(rejection.Detail)
		if _, known := r.seen[identity(rejection)]; !known {
			rejection.Position, rejection.Received = position, now
			fresh = append(fresh, rejection)
		}
	}
	r.mu.Unlock()
	if err := r.log.Reject(ctx, fresh); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rejection := range fresh {
		r.count(rejection)
	}
	return nil
}

// short cuts a text to what is worth keeping of a wrong one.
func short(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), 256)], "")
}

// addTo adds the counts.
func (r *refused) addTo(counts map[flow.Reason]uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for reason, n := range r.counts {
		counts[reason] += n
	}
}
