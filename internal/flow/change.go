package flow

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// A Kind says what a [Change] tells about the life of its item.
type Kind uint8

// The kinds of a change. The zero value is no kind and is refused.
const (
	KindUnknown Kind = iota
	Created          // the item's birth
	Observed         // first seen, its earlier life unknown
	Updated          // something changed
	Deleted          // gone from the tracker or out of sight
)

var kindNames = [...]string{"", "CREATED", "OBSERVED", "UPDATED", "DELETED"}

// String returns the name used in the public formats, such as "CREATED".
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// MarshalText writes the name used in the public formats.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText reads the name used in the public formats. An unknown name
// becomes [KindUnknown], which [Change.Validate] refuses with its reason.
func (k *Kind) UnmarshalText(text []byte) error {
	*k = KindUnknown
	for i, name := range kindNames {
		if i > 0 && name == string(text) {
			*k = Kind(i)
		}
	}
	return nil
}

// A Field names what a [FieldChange] is about.
type Field uint8

// The fields of an item that a tracker can tell about. The zero value is no
// field and is refused.
const (
	FieldUnknown     Field = iota
	FieldStatus            // workflow or board status, with the tracker's own category
	FieldState             // open or closed, the category is the close reason
	FieldResolution        // Jira's resolution; an empty To means cleared
	FieldType              // issue type
	FieldLabel             // To is a label added, From a label removed
	FieldContainer         // moved between projects or repositories
	FieldParent            // parent item id
	FieldAssigned          // To.Name is "true" or "false"; never who
	FieldPullRequest       // a linked pull request as evidence
	FieldAlias             // the same unit of work as To.ID = source/item
)

var fieldNames = [...]string{
	"", "STATUS", "STATE", "RESOLUTION", "TYPE", "LABEL", "CONTAINER", "PARENT", "ASSIGNED", "PULL_REQUEST", "ALIAS",
}

// String returns the name used in the public formats, such as "STATUS".
func (f Field) String() string {
	if int(f) < len(fieldNames) {
		return fieldNames[f]
	}
	return fmt.Sprintf("Field(%d)", uint8(f))
}

// MarshalText writes the name used in the public formats.
func (f Field) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// UnmarshalText reads the name used in the public formats. An unknown name
// becomes [FieldUnknown], which [Change.Validate] refuses with its reason.
func (f *Field) UnmarshalText(text []byte) error {
	*f = FieldUnknown
	for i, name := range fieldNames {
		if i > 0 && name == string(text) {
			*f = Field(i)
		}
	}
	return nil
}

// A Value is what a field was or became, in the tracker's words. Each part is
// optional; the zero Value stands for an absent one.
type Value struct {
	ID       string `json:"id,omitempty"`
	Name     string `json:"name,omitempty"`
	Category string `json:"category,omitempty"` // the tracker's own: new, indeterminate, done, or a close reason
}

// IsZero reports whether the value is absent.
func (v Value) IsZero() bool { return v == Value{} }

// Text returns the name, or the id where there is no name.
func (v Value) Text() string {
	if v.Name != "" {
		return v.Name
	}
	return v.ID
}

// A FieldChange is one field's step from a value to another. Either side may be
// absent.
type FieldChange struct {
	Field Field `json:"field"`
	From  Value `json:"from,omitzero"`
	To    Value `json:"to,omitzero"`
}

// A Change is one immutable fact about one work item, in the tracker's own
// words. It never says who did something: no author, no assignee (invariant I6).
//
// Two changes with the same Source and ID are the same fact.
type Change struct {
	ID          string        `json:"id"`     // deterministic, unique within Source
	Source      string        `json:"source"` // the configured connector's name
	Container   string        `json:"container"`
	Item        string        `json:"item"` // the tracker's immutable id of the item
	Key         string        `json:"key,omitempty"`
	At          time.Time     `json:"at"`                   // the tracker's own time of the fact
	ObservedAt  time.Time     `json:"observed_at,omitzero"` // when the connector saw it
	Sequence    int64         `json:"sequence,omitempty"`   // the tracker's order among facts with the same At
	Kind        Kind          `json:"kind"`
	Fields      []FieldChange `json:"fields,omitempty"`      // happened together, applied atomically
	Approximate bool          `json:"approximate,omitempty"` // At is a detection time
	Title       string        `json:"title,omitempty"`
	URL         string        `json:"url,omitempty"`
}

// The bounds that [Change.Validate] holds a change to. They are far above what
// trackers send and keep one bad producer from filling memory.
const (
	MaxText   = 1024 // bytes of an id, name or key
	MaxTitle  = 4096 // bytes of a title or URL
	MaxFields = 1024 // field changes of one change
	// MaxAhead is how far after its reception a change may be dated: more is
	// clock skew (case 14).
	MaxAhead = 5 * time.Minute
)

// The first and the last instant that a change may be dated. Times outside are
// seconds mistaken for milliseconds or the like, never work.
var (
	MinTime = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	MaxTime = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
)

// A Reason says in one word why a change was rejected. Reasons are label values
// of a metric, so there are few of them.
type Reason string

// The reasons for rejecting a change or a whole batch.
const (
	ReasonMalformed    Reason = "malformed"     // cannot be decoded
	ReasonMissing      Reason = "missing"       // a required part is absent
	ReasonTime         Reason = "bad_time"      // outside MinTime and MaxTime
	ReasonFuture       Reason = "future"        // more than MaxAhead after its reception
	ReasonUnknownKind  Reason = "unknown_kind"  // kind is none of the four
	ReasonUnknownField Reason = "unknown_field" // field is none of the ten
	ReasonTooLarge     Reason = "too_large"     // over a bound
	ReasonText         Reason = "bad_text"      // not UTF-8, or a control character in an id
)

// An InvalidError says what is wrong with a change.
type InvalidError struct {
	Reason Reason
	Part   string // the part of the change, such as "fields[2].field"
	Detail string
}

func (e *InvalidError) Error() string {
	if e.Part == "" {
		return e.Detail
	}
	return e.Part + ": " + e.Detail
}

func invalid(reason Reason, part, format string, args ...any) error {
	return &InvalidError{Reason: reason, Part: part, Detail: fmt.Sprintf(format, args...)}
}

// Validate reports the first thing that makes the change unusable, as an
// [*InvalidError]. It does not read a clock: see [Change.ValidateAt].
func (c *Change) Validate() error {
	if c.ID == "" || c.Source == "" || c.Item == "" ||
		!plain(c.ID) || !plain(c.Source) || !plain(c.Item) || !plain(c.Container) || !plain(c.Key) {
		if err := c.validateNames(); err != nil {
			return err
		}
	}
	if err := checkText("title", c.Title, MaxTitle); err != nil {
		return err
	}
	if err := checkText("url", c.URL, MaxTitle); err != nil {
		return err
	}
	if c.At.IsZero() {
		return invalid(ReasonMissing, "at", "is required")
	}
	if c.At.Before(MinTime) || !c.At.Before(MaxTime) {
		return invalid(ReasonTime, "at", "%s is outside 1970 to 2199", c.At.UTC().Format(time.RFC3339))
	}
	if c.Kind == KindUnknown || int(c.Kind) >= len(kindNames) {
		return invalid(ReasonUnknownKind, "kind", "want CREATED, OBSERVED, UPDATED or DELETED")
	}
	return c.validateFields()
}

// validateNames says what is wrong with a part that names something, if it is.
func (c *Change) validateNames() error {
	for _, p := range [...]struct{ name, text string }{{"id", c.ID}, {"source", c.Source}, {"item", c.Item}} {
		if p.text == "" {
			return invalid(ReasonMissing, p.name, "is required")
		}
	}
	for _, p := range [...]struct{ name, text string }{
		{"id", c.ID}, {"source", c.Source}, {"item", c.Item}, {"container", c.Container}, {"key", c.Key},
	} {
		if err := checkText(p.name, p.text, MaxText); err != nil {
			return err
		}
		for i := range len(p.text) { // bytes, for control characters are single ones in UTF-8
			if b := p.text[i]; b < 0x20 || b == 0x7f {
				return invalid(ReasonText, p.name, "has a control character at byte %d", i)
			}
		}
	}
	return nil
}

// plain reports whether a text is short printable ASCII, as nearly all are, and
// so has nothing wrong with it. A replay asks this of every part of every change.
func plain(text string) bool {
	if len(text) > MaxText {
		return false
	}
	for i := range len(text) {
		if text[i]-0x20 >= 0x7f-0x20 {
			return false
		}
	}
	return true
}

func (c *Change) validateFields() error {
	if len(c.Fields) > MaxFields {
		return invalid(ReasonTooLarge, "fields", "%d field changes, the limit is %d", len(c.Fields), MaxFields)
	}
	for i := range c.Fields {
		f := &c.Fields[i]
		if f.Field == FieldUnknown || int(f.Field) >= len(fieldNames) {
			return invalid(ReasonUnknownField, fmt.Sprintf("fields[%d].field", i), "want one of %s", strings.Join(fieldNames[1:], ", "))
		}
		for _, v := range [...]*Value{&f.From, &f.To} {
			if plain(v.ID) && plain(v.Name) && plain(v.Category) {
				continue
			}
			for _, text := range [...]string{v.ID, v.Name, v.Category} {
				if len(text) > MaxText || !utf8.ValidString(text) {
					return checkText(fmt.Sprintf("fields[%d]", i), text, MaxText)
				}
			}
		}
	}
	return nil
}

// ValidateAt is [Change.Validate] for a change received at an instant: a change
// dated more than [MaxAhead] after it is refused (case 14).
func (c *Change) ValidateAt(received time.Time) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if c.At.After(received.Add(MaxAhead)) {
		return invalid(ReasonFuture, "at", "%s is more than %s after it was received at %s",
			c.At.UTC().Format(time.RFC3339), MaxAhead, received.UTC().Format(time.RFC3339))
	}
	return nil
}

func checkText(part, text string, limit int) error {
	if len(text) > limit {
		return invalid(ReasonTooLarge, part, "%d bytes, the limit is %d", len(text), limit)
	}
	if !utf8.ValidString(text) {
		return invalid(ReasonText, part, "is not UTF-8")
	}
	return nil
}

// DecodeJSON reads one change from a line of JSON and validates it. Unknown
// keys are ignored, so that a newer producer can be read; the error is an
// [*InvalidError].
func DecodeJSON(line []byte) (Change, error) {
	var c Change
	if !utf8.Valid(line) { // which decoding would mend in silence, so that two ids could become one
		return Change{}, invalid(ReasonText, "", "is not UTF-8")
	}
	if err := json.Unmarshal(line, &c); err != nil {
		return Change{}, invalid(ReasonMalformed, "", "not a change: %v", err)
	}
	c.normalise()
	if err := c.Validate(); err != nil {
		return Change{}, err
	}
	return c, nil
}

// normalise makes equal facts equal values: times in UTC without a monotonic
// reading.
func (c *Change) normalise() {
	c.At = c.At.UTC().Round(0)
	if !c.ObservedAt.IsZero() {
		c.ObservedAt = c.ObservedAt.UTC().Round(0)
	}
}
