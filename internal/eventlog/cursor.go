package eventlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrStale says that a cursor was stored by somebody else meanwhile.
var ErrStale = errors.New("cursor was stored by somebody else")

// A cursor is stored behind the identity of the log for which it stands: when
// the stream was made. One that outlived its log would be ahead of durable data.

// LoadCursor returns the stored cursor of a source and its revision; nil and 0
// where there is none, and nil with a revision where it is of another log.
func (l *Log) LoadCursor(ctx context.Context, source string) (cursor []byte, revision uint64, err error) {
	entry, err := l.cursors.Get(ctx, Token(source))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("load cursor of %s: %w", source, l.explain(err))
	}
	cursor, ok := bytes.CutPrefix(entry.Value(), l.identity())
	if !ok {
		l.log.Warn("stored cursor is of another log, the source is read from the beginning", "source", source)
		return nil, entry.Revision(), nil
	}
	return cursor, entry.Revision(), nil
}

func (l *Log) identity() []byte {
	return append(l.created.UTC().AppendFormat(nil, time.RFC3339Nano), '\n')
}

// StoreCursor replaces the cursor of that revision (0: there is none) and
// returns the new revision. The error satisfies [ErrStale] where the stored
// revision is another. Call it only when what the cursor stands for is durable
// (invariant I1).
func (l *Log) StoreCursor(ctx context.Context, source string, cursor []byte, revision uint64) (uint64, error) {
	var next uint64
	var err error
	cursor = append(l.identity(), cursor...)
	if revision == 0 {
		next, err = l.cursors.Create(ctx, Token(source), cursor)
	} else {
		next, err = l.cursors.Update(ctx, Token(source), cursor, revision)
	}
	if wrongSequence(err) {
		return 0, fmt.Errorf("store cursor of %s: %w", source, ErrStale)
	}
	if err != nil {
		return 0, fmt.Errorf("store cursor of %s: %w", source, l.explain(err))
	}
	return next, nil
}
