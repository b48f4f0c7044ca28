package eventlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrStale says that a cursor was stored by somebody else meanwhile.
var ErrStale = errors.New("cursor was stored by somebody else")

// LoadCursor returns the stored cursor of a source and its revision; nil and 0
// where there is none.
func (l *Log) LoadCursor(ctx context.Context, source string) (cursor []byte, revision uint64, err error) {
	entry, err := l.cursors.Get(ctx, Token(source))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("load cursor of %s: %w", source, l.explain(err))
	}
	return entry.Value(), entry.Revision(), nil
}

// StoreCursor replaces the cursor of that revision (0: there is none) and
// returns the new revision. The error satisfies [ErrStale] where the stored
// revision is another. Call it only when what the cursor stands for is durable
// (invariant I1).
func (l *Log) StoreCursor(ctx context.Context, source string, cursor []byte, revision uint64) (uint64, error) {
	var next uint64
	var err error
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
