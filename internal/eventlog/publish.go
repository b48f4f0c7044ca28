package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const (
	publishWindow = 64 // batches on their way at once, of one call of Publish
	ackTimeout    = 30 * time.Second
	stallWait     = time.Minute
)

// The errors of [Log.Publish] that are worth telling apart.
var (
	// ErrFull says that the log is as large as it may be. Nothing was dropped.
	ErrFull = errors.New("the event log is full; raise nats.max_bytes")
	// ErrDisconnected says that there is no connection to the NATS system now.
	ErrDisconnected = errors.New("no connection to the event log")
)

// Publish appends changes of one source and returns nil once all of them are
// durable. On an error some of them may be: publishing the same again is right,
// and within two minutes it stores nothing twice. Changes keep their order
// within a container.
func (l *Log) Publish(ctx context.Context, source string, changes []flow.Change) error {
	for i := range changes {
		if changes[i].Source != source {
			return fmt.Errorf("publish change %s: its source is %q, not %q", changes[i].ID, changes[i].Source, source)
		}
	}
	var waiting []jetstream.PubAckFuture
	for _, b := range split(changes) {
		msg, err := b.message(source)
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		if len(waiting) == publishWindow {
			if err := l.await(ctx, waiting[0]); err != nil {
				return fmt.Errorf("publish changes of %s: %w", source, err)
			}
			waiting = waiting[1:]
		}
		ack, err := l.js.PublishMsgAsync(msg, jetstream.WithStallWait(stallWait))
		if err != nil {
			return fmt.Errorf("publish changes of %s from %s on: %w", source, b.changes[0].GetId(), l.explain(err))
		}
		waiting = append(waiting, ack)
	}
	for _, ack := range waiting {
		if err := l.await(ctx, ack); err != nil {
			return fmt.Errorf("publish changes of %s: %w", source, err)
		}
	}
	return nil
}

func (l *Log) await(ctx context.Context, ack jetstream.PubAckFuture) error {
	select {
	case <-ack.Ok():
		return nil
	case err := <-ack.Err():
		return l.explain(err)
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.done:
		return ErrClosed
	}
}

// explain puts a cause that a person can act on before the client's own words.
func (l *Log) explain(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && strings.Contains(api.Description, "maximum bytes exceeded"):
		return fmt.Errorf("%w: %w", ErrFull, err)
	case errors.Is(err, nats.ErrConnectionClosed):
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrReconnectBufExceeded), !l.nc.IsConnected():
		return fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	return err
}
