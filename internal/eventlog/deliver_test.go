package eventlog

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

var errEnough = errors.New("enough")

// followAhead follows a log of more messages than are read ahead, with f called
// once all that can be read before it returns has been read.
func followAhead(t *testing.T, f func(ctx context.Context, l *Log, cancel context.CancelCauseFunc, d flow.Delivery) error) (positions []uint64, err error) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { // fails, too, where a goroutine is left
		l := bubbleLog(t, dir)
		defer closeLog(t, l)
		for position := range uint64(3 * readyMessages) {
			publish(t, l, "s", changesAt(position+1))
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		err = l.Follow(ctx, 0, func(d flow.Delivery) error {
			synctest.Wait()
			positions = append(positions, d.Position)
			return f(ctx, l, cancel, d)
		})
		if errors.Is(err, ErrClosed) {
			return
		}
		if stream, err := l.js.Stream(t.Context(), changesStream); err != nil || stream.CachedInfo().State.Consumers != 0 {
			t.Errorf("the reading has not ended: %v", err)
		}
	})
	return positions, err
}

// changesAt returns some changes that differ from those at other positions, of
// before the bubble's time.
func changesAt(position uint64) []flow.Change {
	changes := testChanges("s", "c", 10*int(position), int(position)%3+1)
	for i := range changes {
		changes[i].At = changes[i].At.AddDate(-30, 0, 0)
		changes[i].Fields[0].To.ID = changes[i].ID
	}
	return changes
}

func TestDeliveryStaysValidDuringCall(t *testing.T) {
	positions, err := followAhead(t, func(_ context.Context, _ *Log, _ context.CancelCauseFunc, d flow.Delivery) error {
		if diff := cmp.Diff(changesAt(d.Position), d.Changes); diff != "" {
			t.Errorf("position %d: %s", d.Position, diff)
		}
		if d.Pending == 0 {
			return errEnough
		}
		return nil
	})
	if len(positions) != 3*readyMessages || err != errEnough {
		t.Errorf("positions %v, %v", positions, err)
	}
}

// What is read ahead is not delivered after the end.
func TestFollowEndsAtOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		want error
		end  func(context.CancelCauseFunc) error
	}{
		"function fails": {errEnough, func(context.CancelCauseFunc) error { return errEnough }},
		"context ends":   {errEnough, func(cancel context.CancelCauseFunc) error { cancel(errEnough); return nil }},
		"fails when the context has ended": {errEnough, func(cancel context.CancelCauseFunc) error {
			cancel(errors.New("not this"))
			return errEnough
		}},
	} {
		t.Run(name, func(t *testing.T) {
			positions, err := followAhead(t, func(_ context.Context, _ *Log, cancel context.CancelCauseFunc, d flow.Delivery) error {
				if d.Position == 2 {
					return tt.end(cancel)
				}
				return nil
			})
			if !slices.Equal(positions, []uint64{1, 2}) || err != tt.want {
				t.Errorf("positions %v, %v, want 1 and 2, %v", positions, err, tt.want)
			}
		})
	}
}

func TestFollowEndsAfterPanic(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) { // fails where a goroutine is left
		l := bubbleLog(t, dir)
		defer closeLog(t, l)
		for i := range 3 * readyMessages {
			publish(t, l, "s", testChanges("s", "c", i, 1))
		}
		defer func() {
			if recover() != errEnough {
				t.Error("no panic")
			}
		}()
		_ = l.Follow(t.Context(), 0, func(flow.Delivery) error { panic(errEnough) })
	})
}

// Close waits for the function, which may use the log, and ends the reading.
func TestCloseWhileDelivering(t *testing.T) {
	closed := make(chan error, 1)
	positions, err := followAhead(t, func(_ context.Context, l *Log, _ context.CancelCauseFunc, _ flow.Delivery) error {
		go func() { closed <- l.Close() }()
		synctest.Wait()
		if len(closed) != 0 {
			t.Error("closed before the function returned")
		}
		return nil
	})
	if !slices.Equal(positions, []uint64{1}) || !errors.Is(err, ErrClosed) {
		t.Errorf("positions %v, %v, want 1, ErrClosed", positions, err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// A reader that begins anew goes on behind what it has read ahead, and what it
// has read ahead is delivered before the error that ends it.
func TestTroubleWhileDelivering(t *testing.T) {
	const messages = readAhead + 100
	for _, purge := range []bool{false, true} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			l := bubbleLog(t, dir)
			defer closeLog(t, l)
			for i := range messages {
				publish(t, l, "s", testChanges("s", "c", i, 1))
			}
			var positions []uint64
			err := l.Follow(t.Context(), 0, func(d flow.Delivery) error {
				synctest.Wait()
				positions = append(positions, d.Position)
				if d.Position == 1 {
					stream, err := l.js.Stream(t.Context(), changesStream)
					if err != nil {
						return err
					}
					for name := range stream.ConsumerNames(t.Context()).Name() {
						if err := stream.DeleteConsumer(t.Context(), name); err != nil {
							return err
						}
					}
					if purge {
						return stream.Purge(t.Context(), jetstream.WithPurgeSequence(messages))
					}
				}
				if d.Position == messages {
					return errEnough
				}
				return nil
			})
			want := messages
			var gap *GapError
			switch {
			case !purge && err != errEnough:
				t.Errorf("Follow: %v", err)
			case purge:
				if want = readAhead; !errors.As(err, &gap) || gap.After != readAhead || gap.First != messages {
					t.Errorf("Follow: %v, want a gap after %d", err, readAhead)
				}
			}
			if len(positions) != want {
				t.Errorf("%d messages, want %d", len(positions), want)
			}
			for i, position := range positions {
				if position != uint64(i+1) {
					t.Fatalf("message %d is of position %d", i+1, position)
				}
			}
		})
	}
}
