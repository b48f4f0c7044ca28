package flow_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// TestValidate: every part of a change is bounded, and what is wrong is named.
func TestValidate(t *testing.T) {
	long := strings.Repeat("x", flow.MaxText+1)
	field := func(to flow.Value) []flow.FieldChange {
		return []flow.FieldChange{{Field: flow.FieldStatus}, {Field: flow.FieldStatus, To: to}}
	}
	received := epoch
	for _, test := range []struct {
		name   string
		change func(c *flow.Change)
		reason flow.Reason // "": valid
		part   string
	}{
		{"plain", func(*flow.Change) {}, "", ""},
		{"other scripts", func(c *flow.Change) { c.ID, c.Key, c.Title = "已完成-1", "ÄÖ-1", "标题" }, "", ""},
		{"as long as may be", func(c *flow.Change) { c.ID, c.Item = long[1:], long[1:] }, "", ""},
		{"no id", func(c *flow.Change) { c.ID = "" }, flow.ReasonMissing, "id"},
		{"no source", func(c *flow.Change) { c.Source = "" }, flow.ReasonMissing, "source"},
		{"no item", func(c *flow.Change) { c.Item = "" }, flow.ReasonMissing, "item"},
		{"no time", func(c *flow.Change) { c.At = time.Time{} }, flow.ReasonMissing, "at"},
		{"long id", func(c *flow.Change) { c.ID = long }, flow.ReasonTooLarge, "id"},
		{"long container", func(c *flow.Change) { c.Container = long }, flow.ReasonTooLarge, "container"},
		{"long key", func(c *flow.Change) { c.Key = long }, flow.ReasonTooLarge, "key"},
		{"long title", func(c *flow.Change) { c.Title = strings.Repeat("x", flow.MaxTitle+1) }, flow.ReasonTooLarge, "title"},
		{"long address", func(c *flow.Change) { c.URL = strings.Repeat("x", flow.MaxTitle+1) }, flow.ReasonTooLarge, "url"},
		{"NUL", func(c *flow.Change) { c.Item = "a\x00" }, flow.ReasonText, "item"},
		{"new line", func(c *flow.Change) { c.Source = "a\nb" }, flow.ReasonText, "source"},
		{"DEL", func(c *flow.Change) { c.Key = "\x7f" }, flow.ReasonText, "key"},
		{"not UTF-8", func(c *flow.Change) { c.ID = "\xff" }, flow.ReasonText, "id"},
		{"before 1970", func(c *flow.Change) { c.At = flow.MinTime.Add(-1) }, flow.ReasonTime, "at"},
		{"1970", func(c *flow.Change) { c.At = flow.MinTime }, "", ""},
		{"year 58000", func(c *flow.Change) { c.At = time.Unix(received.UnixMilli(), 0) }, flow.ReasonTime, "at"},
		{"a little ahead", func(c *flow.Change) { c.At = received.Add(flow.MaxAhead) }, "", ""},
		{"too far ahead", func(c *flow.Change) { c.At = received.Add(flow.MaxAhead + 1) }, flow.ReasonFuture, "at"},
		{"no kind", func(c *flow.Change) { c.Kind = flow.KindUnknown }, flow.ReasonUnknownKind, "kind"},
		{"a fifth kind", func(c *flow.Change) { c.Kind = flow.Deleted + 1 }, flow.ReasonUnknownKind, "kind"},
		{"no field", func(c *flow.Change) { c.Fields = []flow.FieldChange{{}} }, flow.ReasonUnknownField, "fields[0].field"},
		{"an eleventh field", func(c *flow.Change) { c.Fields = []flow.FieldChange{{Field: flow.FieldAlias + 1}} }, flow.ReasonUnknownField, "fields[0].field"},
		{"many fields", func(c *flow.Change) { c.Fields = make([]flow.FieldChange, flow.MaxFields+1) }, flow.ReasonTooLarge, "fields"},
		{"field in another script", func(c *flow.Change) { c.Fields = field(flow.Value{Name: "完成"}) }, "", ""},
		{"long field", func(c *flow.Change) { c.Fields = field(flow.Value{Name: long}) }, flow.ReasonTooLarge, "fields[1]"},
		{"field not UTF-8", func(c *flow.Change) { c.Fields = field(flow.Value{Category: "\xff"}) }, flow.ReasonText, "fields[1]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := flow.Change{ID: "1", Source: "s", Item: "i", Container: "P", Key: "P-1", At: received, Kind: flow.Updated}
			test.change(&c)
			err := c.ValidateAt(received)
			if test.reason == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			invalid, ok := errors.AsType[*flow.InvalidError](err)
			if !ok || invalid.Reason != test.reason || invalid.Part != test.part || !strings.HasPrefix(err.Error(), test.part+": ") {
				t.Errorf("got %#v, want %s of %s", err, test.reason, test.part)
			}
		})
	}
}
