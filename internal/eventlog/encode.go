package eventlog

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/url"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/flowmetrics/flowmetrics/internal/flowpb"
)

// The bounds of one message. Batches of this size cost a fifteenth of single
// changes; a change that alone is over the size goes alone.
const (
	batchChanges = 50
	batchBytes   = 256 << 10
)

const (
	contentTypeHeader = "ce-datacontenttype"
	protobufType      = "application/protobuf"
)

// A batch is some changes of one container on their way into one message.
type batch struct {
	container string
	changes   []*flowpb.Change
	size      int
}

// split makes batches of changes. Changes keep their order within a container;
// containers come in the order of their first change. The order across
// containers means nothing, because facts are a set (invariant I2), and keeping
// it would leave batches of one change where a source reads several containers
// in turns. The same changes make the same batches.
func split(changes []flow.Change) []*batch {
	var batches []*batch
	open := make(map[string]*batch) // by container: the one that is not full yet
	for i := range changes {
		c := toProto(&changes[i])
		size := proto.Size(c) + 1 + binary.MaxVarintLen32
		b := open[c.GetContainer()]
		if b == nil || len(b.changes) == batchChanges || b.size+size > batchBytes {
			b = &batch{container: c.GetContainer()}
			open[b.container] = b
			batches = append(batches, b)
		}
		b.changes = append(b.changes, c)
		b.size += size
	}
	return batches
}

// message returns the batch as a CloudEvent in binary mode. Its id follows from
// the ids of the changes alone, so that the server drops a repetition.
func (b *batch) message(source string) (*nats.Msg, error) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(&flowpb.ChangeBatch{Changes: b.changes})
	if err != nil {
		return nil, fmt.Errorf("encode change %s and those after it: %w", b.changes[0].GetId(), err)
	}
	id := b.id(source)
	return &nats.Msg{
		Subject: Subject(source, b.container),
		Header: nats.Header{
			nats.MsgIdHdr:     {id},
			"ce-specversion":  {"1.0"},
			"ce-id":           {id},
			"ce-type":         {"flow.v1.changes"},
			"ce-source":       {"/flowmetrics/" + url.PathEscape(source)},
			"ce-dataschema":   {"flow.v1.ChangeBatch"},
			contentTypeHeader: {protobufType},
		},
		Data: data,
	}, nil
}

func (b *batch) id(source string) string {
	h := sha256.New()
	write := func(text string) { // with its length, so that no two lists read the same
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(text)))) // a hash returns no error
		_, _ = h.Write([]byte(text))
	}
	write(source)
	for _, c := range b.changes {
		write(c.GetId())
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

func toProto(c *flow.Change) *flowpb.Change {
	p := &flowpb.Change{
		Id: c.ID, Source: c.Source, Container: c.Container, Item: c.Item, Key: c.Key,
		At: toTimestamp(c.At), ObservedAt: toTimestamp(c.ObservedAt),
		Sequence: c.Sequence, Kind: flowpb.Kind(c.Kind), // the numbers are the same, by test
		Approximate: c.Approximate, Title: c.Title, Url: c.URL,
	}
	if len(c.Fields) > 0 {
		p.Fields = make([]*flowpb.FieldChange, len(c.Fields))
		for i, f := range c.Fields {
			p.Fields[i] = &flowpb.FieldChange{Field: flowpb.Field(f.Field), From: toValue(f.From), To: toValue(f.To)}
		}
	}
	return p
}

func toTimestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func toValue(v flow.Value) *flowpb.Value {
	if v.IsZero() {
		return nil
	}
	return &flowpb.Value{Id: v.ID, Name: v.Name, Category: v.Category}
}
