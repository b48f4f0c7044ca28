package flow_test

import (
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// TestHistoryGaps: case 13, a fact that does not follow from the one before is
// counted and believed.
func TestHistoryGaps(t *testing.T) {
	value := func(id, name string) flow.Value { return flow.Value{ID: id, Name: name} }
	for _, test := range []struct {
		name string
		from flow.Value
		want int
	}{
		{"follows", value("1", "Backlog"), 0},
		{"follows by id, renamed", value("1", "To do"), 0},
		{"follows by name, without an id", value("", "Backlog"), 0},
		{"says nothing", flow.Value{}, 0},
		{"another id of the same name", value("2", "Backlog"), 1},
		{"another name", value("", "Ready"), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := flow.NewLedger()
			for i, f := range []flow.FieldChange{
				{Field: flow.FieldStatus, To: value("1", "Backlog")},
				{Field: flow.FieldStatus, From: test.from, To: value("3", "In Progress")},
			} {
				l.Add(&flow.Change{
					ID: string(rune('a' + i)), Source: "s", Item: "1", Container: "P", Kind: flow.Created + flow.Kind(2*i),
					At: epoch.Add(time.Duration(i) * time.Hour), Fields: []flow.FieldChange{f},
				})
			}
			p := &flow.Policy{ValueStreams: []*flow.ValueStream{{Name: "v", Workflow: plainWorkflow(), Include: []flow.Include{{}}}}}
			s := flow.Measure(p, l, epoch.Add(day), flow.Options{})
			if s.Quality.HistoryGaps != test.want || s.ValueStreams[0].Load.Items != 1 {
				t.Errorf("%d gaps and %d items in flow, want %d and 1", s.Quality.HistoryGaps, s.ValueStreams[0].Load.Items, test.want)
			}
		})
	}
}
