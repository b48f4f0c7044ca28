// Package connector is the contract between trackers and the event log.
//
// A [Source] reads one tracker; the [Runner] schedules it, publishes what it
// emits and only then stores its cursor (invariant I1). Sources decide nothing
// about time, retries or durability: they translate. A source lives in a
// package of its own below this one and is listed in the [Registry] that the
// program is built with. [Webhooks] takes what trackers deliver.
package connector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A Cursor is a source's own note of how far it has read: opaque to everybody
// else, versioned inside, at most [MaxCursor] bytes. An empty cursor means
// from the very beginning.
type Cursor []byte

// MaxCursor bounds a cursor, in bytes.
const MaxCursor = 64 << 10

// A Batch is some changes and the cursor that stands for having read them. One
// without changes stores a cursor; one that has neither changes nor another
// cursor than the stored one is of no use and need not be emitted.
type Batch struct {
	Changes []flow.Change
	// Cursor is stored once the changes are durable; nil leaves the stored one.
	Cursor Cursor
	// Rejected is what could not be used and so is not among the changes. It is
	// recorded before the cursor is stored; the same may be reported again.
	Rejected []flow.Rejection
	// Progress tells how far a backfill has come.
	Progress Progress
}

// Progress tells how far a backfill has come. The zero Progress is unknown.
type Progress struct {
	Done  int // items read so far
	Total int // items to read, 0 where the tracker does not say
	// Ratio is the share read so far, 0 to 1, where it is known by other means
	// than a total (by time, say); 0 where Total tells.
	Ratio float64
}

// A Source reads one tracker.
//
// Poll reads everything that the tracker has to tell since the cursor and calls
// emit for it, in order, some changes at a time. It returns nil when it has
// caught up. It calls emit from one goroutine; when emit fails, or ctx ends,
// Poll returns that error promptly. The same fact has the same id whenever it
// is read. Poll never sleeps and never retries: a [*RateLimitError], an
// [*AuthError], a [*ConfigError] or any other error (taken as temporary) goes
// to the Runner, which calls Poll again later from the last stored cursor.
//
// Before it returns the error of a request, Poll may emit what it has read, with
// a cursor that stands for that: then a tight rate limit slows a backfill down
// and never stops it. Where the tracker allows one request at a time, each call
// gets further, if only by what the source remembers in memory.
//
// A Poll that finds nothing new makes a few requests, after a restart too. What a
// list shows again because it begins a little before the cursor is not read again
// item by item unless its time of update has changed.
//
// The Runner never calls a Source from two goroutines at once.
type Source interface {
	Poll(ctx context.Context, from Cursor, emit func(Batch) error) error
}

// A Checker is a Source that can tell whether its credentials work. The error
// says what is missing.
type Checker interface {
	Check(ctx context.Context) error
}

// A StatusLister is a Source that knows the tracker's statuses.
type StatusLister interface {
	Statuses(ctx context.Context) ([]flow.Value, error)
}

// A TypeLister is a Source that knows the tracker's item types.
type TypeLister interface {
	Types(ctx context.Context) ([]flow.Value, error)
}

// A Censor is a Source that can list the items that exist now, so that the
// Runner sees which have gone.
type Censor interface {
	// Census calls live for each item that exists and is in sight. On an error
	// the census counts for nothing. A [*PartialError] that names what was listed
	// lets it count for the items of those containers; only a source whose items
	// never move to another container with the same id may return one.
	Census(ctx context.Context, live func(Item)) error
}

// A Tracer is a Censor whose tracker can give an item another id, so that what a
// census misses need not have gone.
type Tracer interface {
	// Trace tells what has become of an item that a census missed, in changes of the
	// item as it was, such as an ALIAS; none: it has gone. On an error, and where it
	// exists all the same, the item is not judged until the next census. The item has
	// an id, a container and, where the log holds one, a key.
	Trace(ctx context.Context, missed Item) ([]flow.Change, error)
}

// An Item is one item as the tracker shows it now, in a census or an observation.
type Item struct {
	ID        string
	Key       string
	Container string
	Status    flow.Value // where the tracker tells
	Type      flow.Value // likewise
	Labels    []string   // names, likewise
}

// An Observer is a Source whose tracker keeps no dependable history of a
// status, such as that of a project board. The Runner compares what it tells
// with what the log holds and publishes the differences, marked as approximate.
type Observer interface {
	// Observe calls seen for each item whose status is in sight now. The zero
	// status says that the item has none (any more): an item whose status cannot be
	// seen is left out. It decides by itself whether it is time to look again, and
	// otherwise returns nil at once. What is too much for one call is told by those
	// that follow, until one tells nothing.
	// The Runner calls it after each poll that succeeded, never during one.
	Observe(ctx context.Context, seen func(Observation)) error
}

// An Observation is an item with its status as it is seen now.
type Observation struct {
	Item
	// At is when the item got the status, where the tracker tells; zero: it does
	// not, and the time of the observation stands for it.
	At time.Time
}

// A Receiver is a Source whose tracker can call when something happens.
type Receiver interface {
	// Receive checks the signature of a delivery, an [ErrSignature] where it does
	// not fit or no secret is configured, and says what the delivery tells, an
	// [ErrDelivery] where it cannot be read. It is safe for concurrent use, also
	// during a poll, and may ask the tracker.
	Receive(ctx context.Context, header http.Header, body []byte) (Notice, error)
	// Refetch reads the items that notices named and emits what they tell as Poll
	// does, in batches without a cursor. An item that is gone is left out. The
	// Runner calls it between polls, never during one; after an error it names the
	// items again, fewer at a time.
	Refetch(ctx context.Context, items []string, emit func(Batch) error) error
}

// A Notice is what one webhook delivery tells. The zero Notice is of an event
// that does not matter.
type Notice struct {
	// Items are to be read again, in the source's own notation: a poll and a
	// webhook then yield the same facts with the same ids.
	Items []string
	// Changes are facts that nothing but the delivery tells, such as a deletion.
	// Their ids do not depend on the delivery, so that a replay repeats them.
	Changes []flow.Change
}

// ErrSignature says that a webhook delivery is not signed with the source's secret.
var ErrSignature = errors.New("signature is missing or wrong")

// ErrDelivery says that a webhook delivery is not what it claims to be, so that
// sending it again is of no use.
var ErrDelivery = errors.New("delivery cannot be read")

// A Meter is a Source that counts its requests. Its methods are safe for
// concurrent use, also during a poll.
type Meter interface {
	// Requests returns how many requests were answered, by status code; those
	// without an answer are under "error".
	Requests() map[string]int64
	// RateLimitRemaining returns how many requests the tracker still allows; ok
	// is false where it has not said.
	RateLimitRemaining() (requests int, ok bool)
}

// A Rejecter is a Source that refuses some of its input. Rejects is safe for
// concurrent use, also during a poll.
type Rejecter interface {
	// Rejects returns how many pieces of input could not be used, by reason.
	Rejects() map[flow.Reason]int64
}

// A RateLimitError says that the tracker wants no request before an instant: 429,
// and 403 or 5xx with Retry-After.
type RateLimitError struct {
	Until time.Time // zero: the tracker did not say
	Err   error
}

func (e *RateLimitError) Error() string {
	if e.Until.IsZero() {
		return fmt.Sprintf("rate limited: %v", e.Err)
	}
	return fmt.Sprintf("rate limited until %s: %v", e.Until.UTC().Format(time.RFC3339), e.Err)
}

func (e *RateLimitError) Unwrap() error { return e.Err }

// An AuthError says that the tracker refuses the credentials, or does not let
// them see what is asked for: 401, and 403 unless that is a rate limit. It is not
// retried quickly.
type AuthError struct{ Err error }

func (e *AuthError) Error() string { return fmt.Sprintf("credentials refused: %v", e.Err) }
func (e *AuthError) Unwrap() error { return e.Err }

// A ConfigError says that the source cannot work as configured: a project that
// does not exist (404 to a list), a secret that cannot be read. It is not retried
// quickly. A single item that is not there any more is no error but left out.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return fmt.Sprintf("configuration: %v", e.Err) }
func (e *ConfigError) Unwrap() error { return e.Err }

// A PartialError says that a part of what the source reads, such as one of its
// repositories, could not be read, and that everything else was. The Runner shows
// it as a failure and goes on at the poll interval; it is the source that asks
// for the part less often.
type PartialError struct {
	Err error
	// Listed are the containers that a census listed whole, by the names that
	// changes have; the items of others are not judged.
	Listed []string
}

func (e *PartialError) Error() string { return fmt.Sprintf("read in part: %v", e.Err) }
func (e *PartialError) Unwrap() error { return e.Err }

// ErrCursor says that a stored cursor cannot be used. The Runner reports it and
// starts over from the beginning, which repeats facts and loses none.
var ErrCursor = errors.New("cursor cannot be used")
