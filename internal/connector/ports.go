package connector

import (
	"context"
	"errors"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A Publisher appends changes to the event log. When Publish returns nil the
// changes are durable; on an error some of them may be. The changes are of one
// source, in the order in which the source emitted them.
type Publisher interface {
	Publish(ctx context.Context, source string, changes []flow.Change) error
}

// Cursors stores cursors with compare-and-set.
type Cursors interface {
	// LoadCursor returns a source's cursor and its revision; nil and 0 where
	// there is none.
	LoadCursor(ctx context.Context, source string) (cursor []byte, revision uint64, err error)
	// StoreCursor replaces the cursor of that revision and returns the new
	// revision, or [ErrStale] where somebody else stored one meanwhile.
	StoreCursor(ctx context.Context, source string, cursor []byte, revision uint64) (uint64, error)
}

// Rejections records what cannot be used, so that it can be listed.
type Rejections interface {
	// Reject returns nil once the rejections are durable. Rejecting the same again
	// changes nothing. Position and Received are filled in.
	Reject(ctx context.Context, rejections []flow.Rejection) error
}

// ErrStale says that a cursor was stored by somebody else meanwhile.
var ErrStale = errors.New("cursor was stored by somebody else")

// Facts is what the log is known to hold already. It lets the Runner leave out
// facts that an overlapping poll reads again, see which items have gone, and
// compare what is observed. It may lag behind what was published a moment ago.
// Its methods are safe for concurrent use.
type Facts interface {
	// Known reports whether the log holds the change.
	Known(source, id string) bool
	// Present calls f for each item of a source that is known and not deleted,
	// and Absent for each that is known as deleted, until f returns false. The key
	// is the latest one, empty where none is known.
	Present(source string, f func(item, key, container string) bool)
	Absent(source string, f func(item, key, container string) bool)
	// Status returns the status that an item has, the zero Value where it has
	// none, and since when. ok is false for an item that is not known or is deleted.
	Status(source, item string) (status flow.Value, at time.Time, ok bool)
}
