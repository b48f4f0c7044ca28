package eventlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// The bounds of a batch that is read, whoever made it. They keep a message of
// two-byte changes from filling memory.
const (
	maxBatchChanges = 10_000
	maxBatchFields  = 100_000
)

// The bounds of what a decoder remembers.
const (
	maxKnown     = 1024 // field changes
	maxKnownSize = 256  // bytes of one as the wire has it
)

// A decoder reads the payloads of messages. It uses its memory again: what it
// returns is valid until the next call.
type decoder struct {
	changes []flow.Change
	errs    []error            // for each change, why it cannot be read, or nil
	fields  []flow.FieldChange // of all changes
	// known are field changes that were read before, by their bytes. A workflow
	// has few steps, so nearly every one is among them, which saves reading it.
	known map[string]*flow.FieldChange
}

// decode reads a payload into d.changes and d.errs. An error means that nothing
// of it can be used.
func (d *decoder) decode(contentType string, payload []byte) error {
	d.changes, d.errs, d.fields = d.changes[:0], d.errs[:0], d.fields[:0]
	var err error
	switch mediaType(contentType) {
	case "", protobufType, "application/x-protobuf":
		err = d.protobuf(payload)
	case "application/json":
		err = d.json(payload)
	default:
		return &flow.InvalidError{Reason: flow.ReasonMalformed, Part: "content type", Detail: fmt.Sprintf("%.100q is neither %s nor application/json", contentType, protobufType)}
	}
	if err == nil && len(d.changes) == 0 {
		return &flow.InvalidError{Reason: flow.ReasonMissing, Part: "changes", Detail: "the batch has none"}
	}
	return err
}

func mediaType(contentType string) string {
	if contentType == protobufType { // nearly all
		return protobufType
	}
	if t, _, err := mime.ParseMediaType(contentType); err == nil {
		return t
	}
	return strings.ToLower(strings.TrimSpace(contentType))
}

func (d *decoder) json(payload []byte) error {
	var raw []json.RawMessage
	var err error
	if trimmed := bytes.TrimLeft(payload, " \t\r\n"); len(trimmed) > 0 && trimmed[0] == '[' {
		err = json.Unmarshal(payload, &raw)
	} else {
		var batch struct{ Changes []json.RawMessage }
		err = json.Unmarshal(payload, &batch)
		raw = batch.Changes
	}
	if err != nil {
		return &flow.InvalidError{Reason: flow.ReasonMalformed, Detail: "not a batch of changes: " + err.Error()}
	}
	if len(raw) > maxBatchChanges {
		return errTooMany
	}
	for _, r := range raw {
		c, err := flow.DecodeJSON(r)
		if err != nil {
			var named struct{ ID, Source string }
			_ = json.Unmarshal(r, &named) // what can be read of it
			c = flow.Change{ID: named.ID, Source: named.Source}
		}
		d.changes = append(d.changes, c)
		d.errs = append(d.errs, err)
	}
	return nil
}

var (
	errWire    error = &flow.InvalidError{Reason: flow.ReasonMalformed, Detail: "not a flow.v1.ChangeBatch in protobuf"}
	errChange  error = &flow.InvalidError{Reason: flow.ReasonMalformed, Detail: "not a flow.v1.Change in protobuf"}
	errTooMany error = &flow.InvalidError{Reason: flow.ReasonTooLarge, Part: "changes", Detail: fmt.Sprintf("the limit of a batch is %d changes and %d field changes", maxBatchChanges, maxBatchFields)}
)

// protobuf reads a ChangeBatch. Reading the wire by hand costs a fraction of
// generated code, which would take longer than the delivery of the message:
// texts are parts of the payload, turned into one string. Whether they are UTF-8
// is left to flow.Change.Validate, so that one wrong text costs one change and
// not its batch. A fuzz test holds the rest to what the generated code reads.
func (d *decoder) protobuf(payload []byte) error {
	var f wireField
	for rest := string(payload); rest != ""; {
		var ok bool
		if f, rest, ok = readField(rest); !ok {
			return errWire
		}
		if f.key != 1<<3|bytesType {
			continue
		}
		if len(d.changes) == maxBatchChanges {
			return errTooMany
		}
		d.changes = append(d.changes, flow.Change{})
		err := d.change(&d.changes[len(d.changes)-1], f.text)
		if errors.Is(err, errTooMany) {
			return err
		}
		d.errs = append(d.errs, err)
	}
	return nil
}

func (d *decoder) change(c *flow.Change, s string) error {
	var f wireField
	var at, observed timestamp
	first := len(d.fields)
	for s != "" {
		var ok bool
		if f, s, ok = readField(s); !ok {
			return errChange
		}
		switch f.key {
		case 1<<3 | bytesType:
			c.ID = f.text
		case 2<<3 | bytesType:
			c.Source = f.text
		case 3<<3 | bytesType:
			c.Container = f.text
		case 4<<3 | bytesType:
			c.Item = f.text
		case 5<<3 | bytesType:
			c.Key = f.text
		case 6<<3 | bytesType:
			ok = at.read(f.text)
		case 7<<3 | bytesType:
			ok = observed.read(f.text)
		case 8<<3 | varintType:
			c.Sequence = int64(f.number)
		case 9<<3 | varintType:
			c.Kind = flow.Kind(enum(f.number))
		case 10<<3 | bytesType:
			if len(d.fields) == maxBatchFields {
				return errTooMany
			}
			field, err := d.fieldChange(f.text)
			if err != nil {
				return err
			}
			d.fields = append(d.fields, *field)
		case 11<<3 | varintType:
			c.Approximate = f.number != 0
		case 12<<3 | bytesType:
			c.Title = f.text
		case 13<<3 | bytesType:
			c.URL = f.text
		}
		if !ok {
			return errChange
		}
	}
	c.At, c.ObservedAt = at.time(), observed.time()
	if last := len(d.fields); last > first {
		c.Fields = d.fields[first:last:last]
	}
	return nil
}

func (d *decoder) fieldChange(s string) (*flow.FieldChange, error) {
	if c := d.known[s]; c != nil {
		return c, nil
	}
	keep := len(s) <= maxKnownSize
	if keep {
		s = strings.Clone(s) // not to keep the message
	}
	c, err := readFieldChange(s)
	if err != nil || !keep {
		return c, err
	}
	if d.known == nil || len(d.known) == maxKnown {
		d.known = make(map[string]*flow.FieldChange)
	}
	d.known[s] = c
	return c, nil
}

func readFieldChange(s string) (*flow.FieldChange, error) {
	var f wireField
	c := new(flow.FieldChange)
	for s != "" {
		var ok bool
		if f, s, ok = readField(s); !ok {
			return nil, errChange
		}
		var err error
		switch f.key {
		case 1<<3 | varintType:
			c.Field = flow.Field(enum(f.number))
		case 2<<3 | bytesType:
			err = value(&c.From, f.text)
		case 3<<3 | bytesType:
			err = value(&c.To, f.text)
		}
		if err != nil {
			return nil, err
		}
	}
	return c, nil
}

func value(v *flow.Value, s string) error {
	var f wireField
	for s != "" {
		var ok bool
		if f, s, ok = readField(s); !ok {
			return errChange
		}
		switch f.key {
		case 1<<3 | bytesType:
			v.ID = f.text
		case 2<<3 | bytesType:
			v.Name = f.text
		case 3<<3 | bytesType:
			v.Category = f.text
		}
	}
	return nil
}

// enum keeps an unknown number unknown in the eight bits of flow's enums.
func enum(number uint64) uint8 {
	if n := int32(number); 0 <= n && n < 255 { // enums are 32 bits on the wire, the rest is dropped
		return uint8(n)
	}
	return 255
}

type timestamp struct {
	present bool
	seconds int64
	nanos   int32
}

func (t *timestamp) read(s string) (ok bool) {
	t.present = true
	var f wireField
	for s != "" {
		if f, s, ok = readField(s); !ok {
			return false
		}
		switch f.key {
		case 1<<3 | varintType:
			t.seconds = int64(f.number)
		case 2<<3 | varintType:
			t.nanos = int32(f.number)
		}
	}
	return true
}

func (t *timestamp) time() time.Time {
	if !t.present {
		return time.Time{}
	}
	return time.Unix(t.seconds, int64(t.nanos)).UTC()
}

const (
	varintType = uint64(protowire.VarintType)
	bytesType  = uint64(protowire.BytesType)
)

// A wireField is one field of a message as the wire has it.
type wireField struct {
	key    uint64 // number<<3 | wire type
	number uint64 // the value of a varint
	text   string // the value of a text, of bytes or of a message
}

// readField reads the field at the start of s and returns what is behind it.
func readField(s string) (f wireField, rest string, ok bool) {
	// Nearly all fields have a number under 16, so one byte of key, and are a
	// number or the size of a text under 128, so one byte, too.
	if len(s) >= 2 && 8 <= s[0] && s[0] < 0x80 && s[1] < 0x80 {
		switch end := 2 + int(s[1]); protowire.Type(s[0] & 7) {
		case protowire.VarintType:
			return wireField{key: uint64(s[0]), number: uint64(s[1])}, s[2:], true
		case protowire.BytesType:
			if end <= len(s) {
				return wireField{key: uint64(s[0]), text: s[2:end]}, s[end:], true
			}
		}
	}
	return readAnyField(s)
}

func readAnyField(s string) (f wireField, rest string, ok bool) {
	f.key, s, ok = varint(s)
	if num := f.key >> 3; !ok || num < uint64(protowire.MinValidNumber) || num > uint64(protowire.MaxValidNumber) {
		return f, "", false
	}
	switch protowire.Type(f.key & 7) {
	case protowire.VarintType:
		f.number, s, ok = varint(s)
		return f, s, ok
	case protowire.BytesType:
		var size uint64
		size, s, ok = varint(s)
		if !ok || size > uint64(len(s)) {
			return f, "", false
		}
		f.text = s[:size]
		return f, s[size:], true
	default: // none of ours has another type
		n := protowire.ConsumeFieldValue(protowire.Number(f.key>>3), protowire.Type(f.key&7), []byte(s))
		if n < 0 {
			return f, "", false
		}
		return f, s[n:], true
	}
}

func varint(s string) (v uint64, rest string, ok bool) {
	for i := range min(len(s), 10) {
		b := s[i]
		if i == 9 && b > 1 {
			break // over 64 bits
		}
		v |= uint64(b&0x7f) << (7 * i)
		if b < 0x80 {
			return v, s[i+1:], true
		}
	}
	return 0, "", false
}
