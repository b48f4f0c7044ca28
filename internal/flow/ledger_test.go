package flow_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// TestLedgerStatus: an item has the status of its last fact in the order of R2
// and R3, however the facts came in.
func TestLedgerStatus(t *testing.T) {
	fact := func(id string, kind flow.Kind, hour int, sequence int64, fields ...flow.FieldChange) flow.Change {
		return flow.Change{
			ID: id, Source: "s", Container: "P", Item: "1", Kind: kind,
			At: epoch.Add(time.Duration(hour) * time.Hour), Sequence: sequence, Fields: fields,
		}
	}
	to := func(name string) flow.FieldChange {
		return flow.FieldChange{Field: flow.FieldStatus, To: flow.Value{ID: "of " + name, Name: name}}
	}
	for _, test := range []struct {
		name  string
		facts []flow.Change
		want  string
		hour  int // since when; below zero: never
		ok    bool
	}{
		{"unknown", nil, "", -1, false},
		{"without a status", []flow.Change{fact("a", flow.Created, 1, 0)}, "", -1, true},
		{"born with one", []flow.Change{fact("a", flow.Created, 1, 0, to("Ready"))}, "Ready", 1, true},
		{"moved", []flow.Change{
			fact("a", flow.Created, 1, 0, to("Ready")), fact("b", flow.Updated, 2, 0, to("Done")),
			fact("c", flow.Updated, 3, 0, flow.FieldChange{Field: flow.FieldLabel, To: flow.Value{Name: "x"}}),
		}, "Done", 2, true},
		{"by sequence", []flow.Change{fact("b", flow.Updated, 2, 1, to("Ready")), fact("a", flow.Updated, 2, 2, to("Done"))}, "Done", 2, true},
		{"by id", []flow.Change{fact("a", flow.Updated, 2, 1, to("Ready")), fact("b", flow.Updated, 2, 1, to("Done"))}, "Done", 2, true},
		{"born late", []flow.Change{fact("a", flow.Updated, 1, 0, to("Done")), fact("b", flow.Created, 2, 0, to("Ready"))}, "Done", 1, true},
		{"lost", []flow.Change{
			fact("a", flow.Created, 1, 0, to("Ready")), fact("b", flow.Updated, 2, 0, flow.FieldChange{Field: flow.FieldStatus}),
		}, "", 2, true},
		{"deleted", []flow.Change{fact("a", flow.Created, 1, 0, to("Ready")), fact("b", flow.Deleted, 2, 0)}, "Ready", 1, false},
		{"restored", []flow.Change{
			fact("a", flow.Created, 1, 0, to("Ready")), fact("b", flow.Deleted, 2, 0), fact("c", flow.Updated, 3, 0),
		}, "Ready", 1, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 5 {
				l := flow.NewLedger()
				other := fact("x", flow.Created, 9, 0, to("Elsewhere"))
				other.Item = "2"
				l.Add(&other)
				rand.Shuffle(len(test.facts), func(i, k int) { test.facts[i], test.facts[k] = test.facts[k], test.facts[i] })
				for i := range test.facts {
					l.Add(&test.facts[i])
				}
				status, at, ok := l.Status("s", "1")
				wantAt := epoch.Add(time.Duration(test.hour) * time.Hour)
				if test.hour < 0 {
					wantAt = time.Time{}
				}
				if status.Name != test.want || !at.Equal(wantAt) || ok != test.ok || status.ID == "" != (test.want == "") {
					t.Errorf("%+v since %s (%v), want %s since %s (%v)", status, at, ok, test.want, wantAt, test.ok)
				}
			}
		})
	}
	if _, _, ok := flow.NewLedger().Status("s", "1"); ok {
		t.Error("an empty ledger knows an item")
	}
}
