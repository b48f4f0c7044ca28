package eventlog

import (
	"bytes"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/flowmetrics/flowmetrics/internal/flowpb"
)

// decodeGenerated is the decoder that a reader without haste would use.
func decodeGenerated(payload []byte) ([]flow.Change, error) {
	var batch flowpb.ChangeBatch
	if err := proto.Unmarshal(payload, &batch); err != nil {
		return nil, err
	}
	changes := make([]flow.Change, len(batch.GetChanges()))
	for i, c := range batch.GetChanges() {
		changes[i] = fromProto(c)
	}
	return changes, nil
}

func fromProto(p *flowpb.Change) flow.Change {
	c := flow.Change{
		ID: p.GetId(), Source: p.GetSource(), Container: p.GetContainer(), Item: p.GetItem(), Key: p.GetKey(),
		At: fromTimestamp(p.GetAt()), ObservedAt: fromTimestamp(p.GetObservedAt()), Sequence: p.GetSequence(),
		Kind: flow.Kind(fromEnum(int32(p.GetKind()))), Approximate: p.GetApproximate(), Title: p.GetTitle(), URL: p.GetUrl(),
	}
	for _, f := range p.GetFields() {
		c.Fields = append(c.Fields, flow.FieldChange{
			Field: flow.Field(fromEnum(int32(f.GetField()))), From: fromValue(f.GetFrom()), To: fromValue(f.GetTo()),
		})
	}
	return c
}

func fromTimestamp(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}

func fromEnum(n int32) uint8 {
	if n < 0 || n > 255 {
		return 255
	}
	return uint8(n)
}

func fromValue(v *flowpb.Value) flow.Value {
	return flow.Value{ID: v.GetId(), Name: v.GetName(), Category: v.GetCategory()}
}

func encode(t testing.TB, changes []flow.Change) []byte {
	t.Helper()
	batch := &flowpb.ChangeBatch{}
	for i := range changes {
		batch.Changes = append(batch.Changes, toProto(&changes[i]))
	}
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(batch)
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

// fullChange has every part.
func fullChange() flow.Change {
	return flow.Change{
		ID: "5512", Source: "jira-main", Container: "PAY", Item: "10001", Key: "PAY-1",
		At:         time.Date(2026, 6, 5, 1, 2, 3, 4, time.UTC),
		ObservedAt: time.Date(2026, 6, 5, 1, 2, 9, 0, time.UTC),
		Sequence:   -7, Kind: flow.Observed, Approximate: true, Title: "Päy", URL: "https://example.com/PAY-1",
		Fields: []flow.FieldChange{
			{Field: flow.FieldStatus, From: flow.Value{ID: "1", Name: "Backlog", Category: "new"}, To: flow.Value{Name: "Ready"}},
			{Field: flow.FieldAlias, To: flow.Value{ID: "jira-main/10002"}},
			{Field: flow.FieldResolution},
		},
	}
}

func TestNumbersOfEnums(t *testing.T) {
	for n := flow.KindUnknown + 1; n <= flow.Deleted; n++ {
		if got := flowpb.Kind(n).String(); got != n.String() {
			t.Errorf("kind %d is %s in protobuf and %s in flow", n, got, n)
		}
	}
	for n := flow.FieldUnknown + 1; n <= flow.FieldAlias; n++ {
		if got := flowpb.Field(n).String(); got != n.String() {
			t.Errorf("field %d is %s in protobuf and %s in flow", n, got, n)
		}
	}
	if len(flowpb.Kind_name) != int(flow.Deleted)+1 || len(flowpb.Field_name) != int(flow.FieldAlias)+1 {
		t.Errorf("protobuf has %d kinds and %d fields", len(flowpb.Kind_name), len(flowpb.Field_name))
	}
}

func TestDecodeProtobuf(t *testing.T) {
	want := append([]flow.Change{fullChange(), {}}, testChanges("jira-main", "PAY", 0, 3)...)
	var d decoder
	for range 2 { // the second time in used memory
		if err := d.decode(protobufType, encode(t, want)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, d.changes); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(make([]error, len(want)), d.errs); diff != "" {
			t.Error(diff)
		}
	}
}

// What another producer may send: fields in parts, unknown fields, numbers that
// no enum has.
func TestDecodeOddProtobuf(t *testing.T) {
	a, b := fullChange(), flow.Change{ID: "second id", At: time.Unix(0, 9), Fields: []flow.FieldChange{{Field: flow.FieldType}}}
	merged := append(encodeChange(t, &a), encodeChange(t, &b)...)
	merged = append(merged, 0xc0, 0x3e, 5, 0x9b, 0x3f, 0x08, 1, 0x9c, 0x3f) // field 1000 varint 5; field 1011 a group
	merged = append(merged, 0x48, 0x81, 0x02)                               // kind 257
	payload := append([]byte{1<<3 | 2, byte(len(merged)), byte(len(merged) >> 7)}, merged...)
	payload[1] |= 0x80
	want, err := decodeGenerated(payload)
	if err != nil {
		t.Fatal(err)
	}
	var d decoder
	if err := d.decode("", payload); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, d.changes); diff != "" {
		t.Error(diff)
	}
	c := d.changes[0]
	if c.ID != "second id" || c.Item != a.Item || len(c.Fields) != 4 || c.At.Unix() != 0 && !c.At.Equal(a.At.Truncate(time.Second).Add(9)) {
		t.Errorf("not merged: %+v", c)
	}
	var invalid *flow.InvalidError
	if err := c.Validate(); !errors.As(err, &invalid) || invalid.Reason != flow.ReasonUnknownKind {
		t.Errorf("kind 257 gives %v", err)
	}
}

func encodeChange(t testing.TB, c *flow.Change) []byte {
	t.Helper()
	b, err := proto.Marshal(toProto(c))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A decoder remembers some field changes, and no message of theirs.
func TestDecodeKnown(t *testing.T) {
	var d decoder
	for i := range 3 * maxKnown {
		c := fullChange()
		c.Fields[0].To.ID = strconv.Itoa(i)
		c.Fields[1].To.ID = strings.Repeat("x", maxKnownSize)
		for range 2 {
			if err := d.decode(protobufType, encode(t, []flow.Change{c})); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]flow.Change{c}, d.changes); diff != "" {
				t.Fatal(diff)
			}
		}
		if n := len(d.known); n == 0 || n > maxKnown {
			t.Fatalf("%d field changes are known after %d", n, i+1)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	good := encode(t, testChanges("jira-main", "PAY", 0, 1))
	title := testChanges("jira-main", "PAY", 0, 1)[0]
	title.Title = "xyz"
	notUTF8 := append(bytes.Replace(encode(t, []flow.Change{title}), []byte("xyz"), []byte("x\xffz"), 1), good...)
	broken := append([]byte{1<<3 | 2, 2, 1<<3 | 2, 200}, good...)
	many := []byte(strings.Repeat("\x0a\x00", maxBatchChanges+1))
	manyFields := []byte(strings.Repeat("\x52\x00", maxBatchFields+1))
	size := len(manyFields)
	manyFields = append([]byte{1<<3 | 2, byte(size) | 0x80, byte(size>>7) | 0x80, byte(size >> 14)}, manyFields...)
	for _, tt := range []struct {
		name, contentType string
		payload           []byte
		reason            flow.Reason // of the batch
		changes           []flow.Reason
	}{
		{name: "good", payload: good, changes: []flow.Reason{""}},
		{name: "cut", payload: good[:len(good)-3], reason: flow.ReasonMalformed},
		{name: "empty", reason: flow.ReasonMissing},
		{name: "text", payload: []byte("hello, world"), reason: flow.ReasonMalformed},
		{name: "JSON taken for protobuf", payload: []byte(`{"changes":[]}`), reason: flow.ReasonMalformed},
		{name: "a text not UTF-8, then a good change", payload: notUTF8, changes: []flow.Reason{flow.ReasonText, ""}},
		{name: "a broken change, then a good one", payload: broken, changes: []flow.Reason{flow.ReasonMalformed, ""}},
		{name: "too many changes", payload: many, reason: flow.ReasonTooLarge},
		{name: "too many field changes", payload: manyFields, reason: flow.ReasonTooLarge},
		{name: "content type", contentType: "text/plain", payload: good, reason: flow.ReasonMalformed},
		{name: "JSON", contentType: "application/json; charset=utf-8", payload: []byte(`{"changes":[
			{"id":"1","source":"s","item":"i","at":"2026-06-01T02:00:00+02:00","kind":"CREATED","later":true},
			{"id":"2","source":"s","item":"i","at":"2026-06-01T00:00:00Z","kind":"BORN"},
			{"id":"3","source":"s","item":"i","at":"yesterday","kind":"CREATED"}, 7]}`),
			changes: []flow.Reason{"", flow.ReasonUnknownKind, flow.ReasonMalformed, flow.ReasonMalformed}},
		{name: "bare list", contentType: "Application/JSON", payload: []byte(` [{"id":"1","source":"s","item":"i","at":"2026-06-01T00:00:00Z","kind":"DELETED"}]`),
			changes: []flow.Reason{""}},
		{name: "one change", contentType: "application/json", payload: []byte(`{"id":"1"}`), reason: flow.ReasonMissing},
		{name: "not JSON", contentType: "application/json", payload: good, reason: flow.ReasonMalformed},
		{name: "too many in JSON", contentType: "application/json", payload: []byte("[" + strings.Repeat("1,", maxBatchChanges) + "1]"), reason: flow.ReasonTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var d decoder
			err := d.decode(tt.contentType, tt.payload)
			if got := reason(err); got != tt.reason {
				t.Fatalf("%v, want %q", err, tt.reason)
			}
			if err != nil {
				return
			}
			var got []flow.Reason
			for i, err := range d.errs {
				if err == nil {
					err = d.changes[i].Validate()
				}
				got = append(got, reason(err))
			}
			if diff := cmp.Diff(tt.changes, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func reason(err error) flow.Reason {
	var invalid *flow.InvalidError
	if errors.As(err, &invalid) {
		return invalid.Reason
	}
	if err != nil {
		return flow.Reason(err.Error())
	}
	return ""
}

// The two decoders read the same, or neither reads. Only the lean one has
// bounds.
func FuzzDecode(f *testing.F) {
	f.Add(encode(f, []flow.Change{fullChange(), {}}))
	f.Add(encode(f, testChanges("jira-main", "PAY", 0, 2)))
	f.Add([]byte{1<<3 | 2, 3, 1<<3 | 2, 1, 0xff})
	f.Add([]byte("\x0a\x04\x9b\x3f\x9c\x3f"))
	f.Add([]byte("\x0a\x03\x48\x81\x02"))
	f.Add([]byte("\x80\x80\x80\x80\x10\x00"))                             // field 1<<29
	f.Add([]byte("\x0a\x0b\x40\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02")) // a number over 64 bits
	f.Add([]byte("\x0a\x0b\x40\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")) // -1
	f.Fuzz(func(t *testing.T, payload []byte) {
		want, wantErr := decodeGenerated(payload)
		var d decoder
		_ = d.protobuf(encode(t, []flow.Change{fullChange()})) // used memory
		d.changes, d.errs, d.fields = d.changes[:0], d.errs[:0], d.fields[:0]
		err := d.protobuf(payload)
		if errors.Is(err, errTooMany) {
			return
		}
		first := slices.Clone(d.changes)
		for i := range first {
			first[i].Fields = slices.Clone(first[i].Fields)
		}
		d.changes, d.errs, d.fields = d.changes[:0], d.errs[:0], d.fields[:0]
		_ = d.protobuf(payload) // with all its field changes known
		if diff := cmp.Diff(first, d.changes); diff != "" {
			t.Fatal(diff)
		}
		if err == nil {
			err = errors.Join(d.errs...)
		}
		if wantErr != nil && err == nil && strings.Contains(wantErr.Error(), "invalid UTF-8") {
			return // left to Validate, which sees it unless a later text took its place
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("lean: %v; generated: %v", err, wantErr)
		}
		if err != nil {
			return
		}
		if diff := cmp.Diff(want, append([]flow.Change{}, d.changes...)); diff != "" {
			t.Fatal(diff)
		}
		for i := range d.changes {
			_ = d.changes[i].Validate() // whatever it is, it does not panic
		}
	})
}

// In steady state a batch costs the one string that its texts are parts of.
func TestDecodeAllocates(t *testing.T) {
	payload := encode(t, testChanges("jira-main", "PAY", 0, batchChanges))
	var d decoder
	allocs := testing.AllocsPerRun(100, func() {
		if err := d.decode(protobufType, payload); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 1 || len(d.changes) != batchChanges || len(d.fields) != batchChanges {
		t.Errorf("%v allocations a batch, %d changes, %d field changes held, want 1, %d and %d",
			allocs, len(d.changes), len(d.fields), batchChanges, batchChanges)
	}
}

func BenchmarkDecodeLean(b *testing.B) {
	payload := encode(b, testChanges("jira-main", "PAY", 0, batchChanges))
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	var d decoder
	for b.Loop() {
		if err := d.decode(protobufType, payload); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeGenerated(b *testing.B) {
	payload := encode(b, testChanges("jira-main", "PAY", 0, batchChanges))
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeGenerated(payload); err != nil {
			b.Fatal(err)
		}
	}
}
