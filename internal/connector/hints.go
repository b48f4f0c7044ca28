package connector

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// An Outcome says what became of a webhook delivery.
type Outcome uint8

// The outcomes of a delivery.
const (
	Ignored Outcome = iota // the event does not matter
	Taken                  // it is durable, or queued as a hint
)

// errNoReceiver refuses a delivery to a source that takes none.
var errNoReceiver = errors.New("the source takes no webhooks")

// Receive takes one webhook delivery, at any time, also during a poll. When it
// returns [Taken], the changes that only the delivery tells are durable, and the
// items that it names are read again as soon as no poll is under way. These may
// be lost with the process: the next poll reaches them anyway. An [ErrSignature]
// or [ErrDelivery] is the sender's mistake; after any other error the delivery
// should be sent again.
func (r *Runner) Receive(ctx context.Context, header http.Header, body []byte) (Outcome, error) {
	receiver, able := r.cfg.Source.(Receiver)
	if !able {
		return Ignored, errNoReceiver
	}
	notice, err := receive(ctx, receiver, header, body)
	if err != nil || len(notice.Items)+len(notice.Changes) == 0 {
		return Ignored, err
	}
	t := &intake{Runner: r, delivery: true}
	if err := t.take(ctx, Batch{Changes: notice.Changes}); err != nil {
		return Ignored, err
	}
	t.end()
	r.hint(notice.Items)
	return Taken, nil
}

func receive(ctx context.Context, source Receiver, header http.Header, body []byte) (n Notice, err error) {
	defer rescue(&err)
	return source.Receive(ctx, header, body)
}

// hints are items to be read again, each once, in the order in which they were
// named first.
type hints struct {
	queue  []string
	queued map[string]struct{}
}

// The bounds of hints.
const (
	maxHints   = 10_000 // in the queue
	maxRefetch = 100    // in one refetch
	maxAlone   = 5      // failures of an item that is refetched alone
)

// refetches is what is kept of the refetches so far.
type refetches struct {
	failures int            // in a row
	less     int            // how often the size was cut, so that fewer fail together
	alone    map[string]int // failures of items that were refetched alone
}

// add appends items that are not in the queue and reports whether there was room.
func (h *hints) add(items []string) bool {
	if h.queued == nil {
		h.queued = map[string]struct{}{}
	}
	for _, item := range items {
		if _, there := h.queued[item]; there {
			continue
		}
		if len(h.queue) >= maxHints {
			return false
		}
		h.queue = append(h.queue, item)
		h.queued[item] = struct{}{}
	}
	return true
}

// take takes up to n items out of the queue.
func (h *hints) take(n int) []string {
	n = min(n, len(h.queue))
	items := h.queue[:n:n]
	h.queue = h.queue[n:]
	for _, item := range items {
		delete(h.queued, item)
	}
	return items
}

// hint queues items to be read again. What finds no room is left to the next
// poll, which then comes at once.
func (r *Runner) hint(items []string) {
	if len(items) == 0 {
		return
	}
	r.mu.Lock()
	room := r.state.hints.add(items)
	r.mu.Unlock()
	if !room {
		r.PollNow()
	}
	select {
	case r.hinted <- struct{}{}:
	default: // it is known already
	}
}

// dropHints empties a long queue after the first poll that caught up: it began at
// the beginning of history or where the last process stopped, and went on until
// nothing newer was left, so it has read what was named before its end. Only what
// was named in the last moment may be missing, hence another poll.
func (r *Runner) dropHints() {
	r.mu.Lock()
	long := len(r.state.hints.queue) > maxRefetch
	if long {
		r.state.hints = hints{}
	}
	r.mu.Unlock()
	if long {
		r.PollNow()
	}
}

// rest waits for the next poll: for the pause, or until [Runner.PollNow], but at
// least minPause. Meanwhile it reads what webhooks name, at once, unless the
// pause is one that stands. It reports whether ctx still lasts.
//
// So a hint waits for a poll that is under way or has failed; also for a long
// one, since that reaches the item by itself.
func (r *Runner) rest(ctx context.Context, p pause) bool {
	if p.stands {
		return sleep(ctx, p.length)
	}
	now := time.Now()
	due, soonest, quiet := now.Add(p.length), now.Add(minPause), now
	timer := time.NewTimer(p.length)
	defer timer.Stop()
	for ctx.Err() == nil {
		now, until, wake := time.Now(), due, r.trigger
		if now.Before(soonest) {
			until, wake = soonest, nil
		}
		select {
		case <-wake: // before more hints, for it may be called because they are too many
			return true
		default:
		}
		if r.hasHints() {
			if !now.Before(quiet) {
				if err := r.refetch(ctx); err != nil {
					wait := r.delay(err, r.refetches.failures)
					quiet = time.Now().Add(wait)
					if _, limited := errors.AsType[*RateLimitError](err); limited {
						due, soonest = later(due, quiet), quiet
					}
				}
				if time.Now().Before(due) {
					continue
				}
				return ctx.Err() == nil // hints never keep a poll from being made
			}
			until = earlier(until, quiet)
		}
		if !now.Before(due) {
			return true
		}
		timer.Reset(time.Until(until))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-r.hinted:
		case <-wake:
			return true
		}
	}
	return false
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (r *Runner) hasHints() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.state.hints.queue) > 0
}

// refetch reads some of the items that webhooks named. After a failure it puts
// them back and reads fewer the next time, down to one, so that a tight rate
// limit slows it down and cannot stop it. An item that fails alone again and
// again is left to the next poll: it would keep the others waiting for ever.
func (r *Runner) refetch(ctx context.Context) error {
	r.mu.Lock()
	items := r.state.hints.take(max(1, maxRefetch>>r.refetches.less))
	r.mu.Unlock()
	t := &intake{Runner: r}
	err := t.refetch(ctx, items)
	t.end()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	back := r.refetches.judge(items, err)
	text := ""
	if err != nil {
		text = shorten(err.Error())
		r.cfg.Logger.Warn("items that webhooks named could not be read",
			append(failure(err), "items", len(items), "failures", r.refetches.failures)...)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.refetchError = text
	r.state.hints.add(back)
	return err
}

// judge takes the outcome of a refetch into account and returns the items that
// are to be tried again.
func (f *refetches) judge(items []string, err error) []string {
	if err == nil {
		f.failures, f.less = 0, max(0, f.less-1)
		for _, item := range items {
			delete(f.alone, item)
		}
		return nil
	}
	f.failures, f.less = f.failures+1, min(f.less+2, 7)
	if _, limited := errors.AsType[*RateLimitError](err); limited || len(items) > 1 {
		return items
	}
	if f.alone == nil {
		f.alone = map[string]int{}
	}
	if f.alone[items[0]]++; f.alone[items[0]] < maxAlone {
		return items
	}
	delete(f.alone, items[0])
	return nil
}

func (t *intake) refetch(ctx context.Context, items []string) (err error) {
	defer rescue(&err)
	var failed error // of the first batch that could not be taken
	err = t.cfg.Source.(Receiver).Refetch(ctx, items, func(b Batch) error {
		if failed == nil {
			failed = t.take(ctx, b)
		}
		return failed
	})
	if failed != nil {
		return failed
	}
	return err
}
