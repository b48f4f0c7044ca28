package eventlog

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const (
	// readAhead is how many messages are on their way to a reader at once.
	readAhead = 500
	// readyMessages is how many of them are decoded before they are asked for, so
	// that decoding and what is done with the changes share two processors.
	readyMessages = 4
	heartbeat     = 2 * time.Second // two without one, and the reader begins anew

	firstRetry = 100 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// ErrGap says that messages after the position that a reader asked for are not
// in the log any more. The error in its chain is a [*GapError].
var ErrGap = errors.New("gap in the event log")

// A GapError tells what is missing. Who follows from First-1 gets what there
// is.
type GapError struct {
	After uint64 // the position asked for
	First uint64 // the first position that the log has; 0: the stream is gone
	Last  uint64 // the last
	// Recreated says that the log is not the one that After is a position of: its
	// stream was deleted and made again, or ends before After.
	Recreated bool
}

func (e *GapError) Error() string {
	if e.Recreated {
		return fmt.Sprintf("%v: position %d is of another log, this one holds %d to %d", ErrGap, e.After, e.First, e.Last)
	}
	return fmt.Sprintf("%v: positions %d to %d are gone", ErrGap, e.After+1, e.First-1)
}

// Is makes a GapError an [ErrGap].
func (e *GapError) Is(target error) bool { return target == ErrGap }

// Follow calls f for each message after a position, in order, first those that
// are stored and then those to come. It calls f from one goroutine and returns
// when ctx ends, with its cause, when f fails, with that error, or with
// [ErrClosed]. Anything else that happens to the connection or the server it
// outlives: it goes on after the last message that f took. It returns a
// [*GapError] where it cannot go on without leaving messages out. After 0 means
// from the first message that there is, also where earlier ones were removed.
func (l *Log) Follow(ctx context.Context, after uint64, f func(flow.Delivery) error) error {
	return l.deliver(ctx, reading{stream: changesStream, created: l.created, after: after, tail: true}, f)
}

// Changes calls f for each valid change after a position up to the present end
// of the log, in order: of one source, or of all where source is empty. The
// change is valid during the call only.
func (l *Log) Changes(ctx context.Context, after uint64, source string, f func(position uint64, c flow.Change) error) error {
	r := reading{stream: changesStream, created: l.created, after: after}
	if source != "" {
		r.filter = ChangesPrefix + Token(source) + ".>"
	}
	return l.deliver(ctx, r, func(d flow.Delivery) error {
		for i := range d.Changes {
			if err := f(d.Position, d.Changes[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// deliver calls f for each message, while another goroutine reads the next ones
// ahead. That one loses no message when it begins anew: what it has read waits
// here for f.
func (l *Log) deliver(ctx context.Context, r reading, f func(flow.Delivery) error) error {
	ctx, release, err := l.use(ctx)
	if err != nil {
		return err
	}
	defer release()
	ahead, stop := context.WithCancel(ctx)
	type delivery struct {
		flow.Delivery
		from *receiver
	}
	ready := make(chan delivery, readyMessages)
	free := make(chan *receiver, readyMessages)
	for range readyMessages {
		free <- new(receiver)
	}
	go func() {
		defer close(ready)
		err = l.read(ahead, r, func(msg jetstream.Msg, meta *jetstream.MsgMetadata) error {
			select {
			case rec := <-free:
				ready <- delivery{rec.receive(msg, meta), rec}
				return nil
			case <-ahead.Done():
				return context.Cause(ahead)
			}
		})
	}()
	defer func() {
		stop()
		for range ready { // until the other goroutine has ended
		}
	}()
	for d := range ready {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := f(d.Delivery); err != nil {
			return err
		}
		free <- d.from
	}
	return err
}

// A reading is what is to be read, and how far it has come.
type reading struct {
	stream  string
	created time.Time // of the stream; zero: whatever there is
	filter  string    // a subject, or empty for all
	after   uint64    // the position of the last message that was taken
	tail    bool      // go on at the end
	end     uint64    // without tail: where to stop, 0 before it is known
}

// final is an error that ends a reading; any other begins it anew.
type final struct{ error }

// read calls f for each message, over as many consumers as it takes. Its ctx is
// one of use.
func (l *Log) read(ctx context.Context, r reading, f func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		before := r.after
		err := l.consume(ctx, &r, f)
		var end final
		switch {
		case err == nil:
			return nil
		case errors.As(err, &end):
			return end.error
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		if r.after != before {
			wait = firstRetry
		}
		l.log.Warn("reading the event log begins anew", "stream", r.stream, "position", r.after, "error", err, "wait", wait)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// consume reads with one consumer. It is the client library's ordered consumer
// in small: no acknowledgement, and at the first sign of trouble the next one
// goes on behind the last message that was taken. The library's own neither
// looks whether the stream is still the same nor stops while it is disconnected.
func (l *Log) consume(ctx context.Context, r *reading, f func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	stream, err := l.js.Stream(ctx, r.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return final{&GapError{After: r.after, Recreated: true}}
	}
	if err != nil {
		return err
	}
	if err := r.check(stream.CachedInfo()); err != nil {
		return final{err}
	}
	consumer, err := stream.CreateConsumer(ctx, jetstream.ConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       r.after + 1,
		AckPolicy:         jetstream.AckNonePolicy,
		FilterSubject:     r.filter,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: 5 * time.Minute,
	})
	if err != nil {
		return err
	}
	name := consumer.CachedInfo().Name
	defer l.deleteConsumer(ctx, r.stream, name)
	if !r.tail && (r.after >= r.end || consumer.CachedInfo().NumPending == 0) {
		return nil
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(readAhead),
		jetstream.PullHeartbeat(heartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(true))
	if err != nil {
		return err
	}
	defer messages.Stop()
	for next := uint64(1); ; next++ {
		msg, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return err
		}
		meta, err := msg.Metadata()
		if err != nil {
			return err
		}
		if meta.Sequence.Consumer != next {
			return fmt.Errorf("message %d of the consumer came as %d", next, meta.Sequence.Consumer)
		}
		if err := f(msg, meta); err != nil {
			return final{err}
		}
		r.after = meta.Sequence.Stream
		if !r.tail && (meta.NumPending == 0 || r.after >= r.end) {
			return nil
		}
	}
}

// check reports whether the stream is the one that is being read, and holds all
// that comes next. It is called with every new consumer, because a stream can
// go while there is no connection.
func (r *reading) check(info *jetstream.StreamInfo) error {
	state := info.State
	gap := &GapError{After: r.after, First: state.FirstSeq, Last: state.LastSeq}
	if !r.created.IsZero() && !r.created.Equal(info.Created) {
		gap.Recreated = true
		return gap
	}
	if !r.tail {
		if r.end == 0 {
			r.end = state.LastSeq
		}
		return nil
	}
	if r.after > state.LastSeq {
		gap.Recreated = true
		return gap
	}
	if state.FirstSeq > r.after+1 && r.after > 0 {
		return gap
	}
	return nil
}

// deleteConsumer spares the server a consumer that nobody reads from. If it
// fails, the server deletes it by itself after some minutes.
func (l *Log) deleteConsumer(ctx context.Context, stream, name string) {
	if !l.nc.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = l.js.DeleteConsumer(ctx, stream, name)
}

// A receiver turns messages into deliveries. It uses its memory again.
type receiver struct {
	decoder
	source string // the last change's source ...
	token  string // ... and its token, so that it is not made again for each change
}

func (r *receiver) receive(msg jetstream.Msg, meta *jetstream.MsgMetadata) flow.Delivery {
	d := flow.Delivery{Position: meta.Sequence.Stream, Received: meta.Timestamp, Pending: meta.NumPending}
	token, ok := sourceToken(msg.Subject())
	if !ok {
		err := &flow.InvalidError{Reason: flow.ReasonMalformed, Part: "subject", Detail: "want " + ChangesPrefix + "<source>.<container>"}
		d.Rejected = []flow.Rejection{rejection(&d, msg, -1, flow.Change{}, err)}
		return d
	}
	if err := r.decode(contentType(msg), msg.Data()); err != nil {
		source, _ := Name(token)
		d.Rejected = []flow.Rejection{rejection(&d, msg, -1, flow.Change{Source: source}, err)}
		return d
	}
	kept := 0
	for i := range r.changes {
		c := &r.changes[i]
		err := r.errs[i]
		if err == nil {
			err = c.ValidateAt(d.Received)
		}
		if err == nil && r.tokenOf(c.Source) != token {
			err = &flow.InvalidError{Reason: flow.ReasonMalformed, Part: "source", Detail: "source does not match subject"}
		}
		if err != nil {
			d.Rejected = append(d.Rejected, rejection(&d, msg, i, *c, err))
			continue
		}
		if kept != i {
			r.changes[kept] = *c
		}
		kept++
	}
	d.Changes = r.changes[:kept]
	return d
}

func (r *receiver) tokenOf(source string) string {
	if source != r.source {
		r.source = strings.Clone(source) // not to keep the message
		r.token = Token(r.source)
	}
	return r.token
}

func contentType(msg jetstream.Msg) string {
	h := msg.Headers()
	for _, key := range [...]string{contentTypeHeader, "Content-Type", "content-type"} {
		if v := h[key]; len(v) > 0 {
			return v[0]
		}
	}
	return ""
}
