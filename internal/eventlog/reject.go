package eventlog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const (
	rejectedPrefix = "flow.v1.rejected."
	maxRejections  = 100_000 // kept; over it the oldest go
	maxRejected    = 256     // bytes kept of a text that may be anything
)

// Reject keeps rejections for [Log.Rejections] and returns nil once they are
// durable. A rejection of the same message and index that is kept already stays
// as it is, so a replay may reject the same again.
func (l *Log) Reject(ctx context.Context, rejections []flow.Rejection) error {
	var waiting []jetstream.PubAckFuture
	for i := range rejections {
		r := &rejections[i]
		data, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("reject position %d: %w", r.Position, err)
		}
		if len(waiting) == publishWindow {
			if err := l.awaitRejection(ctx, waiting[0]); err != nil {
				return err
			}
			waiting = waiting[1:]
		}
		msg := &nats.Msg{Subject: rejectedSubject(r), Data: data}
		ack, err := l.js.PublishMsgAsync(msg, jetstream.WithStallWait(stallWait), jetstream.WithExpectLastSequencePerSubject(0))
		if err != nil {
			return fmt.Errorf("reject position %d: %w", r.Position, l.explain(err))
		}
		waiting = append(waiting, ack)
	}
	for _, ack := range waiting {
		if err := l.awaitRejection(ctx, ack); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) awaitRejection(ctx context.Context, ack jetstream.PubAckFuture) error {
	if err := l.await(ctx, ack); err != nil && !wrongSequence(err) {
		return fmt.Errorf("keep rejection: %w", err)
	}
	return nil
}

// wrongSequence reports whether the server refused to store because there is
// something else already.
func wrongSequence(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) &&
		(api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// rejectedSubject gives each rejection a subject of its own: by the place in the
// log or, for what never got there, by all that was said of it.
func rejectedSubject(r *flow.Rejection) string {
	if !strings.HasPrefix(r.Subject, ChangesPrefix) {
		said := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %d %q %q", r.Subject, r.Source, r.ID, r.Index, r.Reason, r.Detail))
		return rejectedPrefix + "elsewhere." + hex.EncodeToString(said[:16])
	}
	index := "batch"
	if r.Index >= 0 {
		index = strconv.Itoa(r.Index)
	}
	return rejectedPrefix + strconv.FormatUint(r.Position, 10) + "." + index
}

// Rejections calls f for each rejection that is kept of the messages after a
// position, in the order in which they were rejected. It stops after limit of
// them (0: no limit), but never between two of the same message, so that the
// last position is where to go on.
func (l *Log) Rejections(ctx context.Context, after uint64, limit int, f func(flow.Rejection) error) error {
	ctx, release, err := l.use(ctx)
	if err != nil {
		return err
	}
	defer release()
	errEnough := errors.New("enough")
	count, last := 0, uint64(0)
	err = l.read(ctx, reading{stream: rejectedStream}, func(msg jetstream.Msg, _ *jetstream.MsgMetadata) error {
		var r flow.Rejection
		if err := json.Unmarshal(msg.Data(), &r); err != nil {
			return fmt.Errorf("read rejection at %s: %w", msg.Subject(), err)
		}
		if r.Position <= after && after > 0 {
			return nil
		}
		if limit > 0 && count >= limit && r.Position != last {
			return errEnough
		}
		count, last = count+1, r.Position
		return f(r)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// rejection makes a rejection of a change, or of the whole message for index
// -1. It keeps nothing of the message's memory.
func rejection(d *flow.Delivery, msg jetstream.Msg, index int, c flow.Change, err error) flow.Rejection {
	r := flow.Rejection{
		Position: d.Position, Index: index, Received: d.Received, Subject: msg.Subject(),
		Source: short(c.Source), ID: short(c.ID), Reason: flow.ReasonMalformed, Detail: short(err.Error()),
	}
	var invalid *flow.InvalidError
	if errors.As(err, &invalid) {
		r.Reason = invalid.Reason
	}
	return r
}

// short returns a copy of a text, cut to what is worth keeping of a wrong one.
func short(text string) string {
	text = text[:min(len(text), maxRejected)]
	return strings.ToValidUTF8(strings.Clone(text), "")
}
