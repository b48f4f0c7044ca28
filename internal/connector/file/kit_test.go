package file_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/connectortest"
	"github.com/flowmetrics/flowmetrics/internal/connector/file"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// TestKit holds the source to the promises of all connectors. The tracker is a
// program that appends a line for everything that happens.
func TestKit(t *testing.T) {
	const noTracker = "a file holds what was written into it, there is no tracker behind it"
	connectortest.Run(t, connectortest.Harness{
		Start:    appending,
		Statuses: []flow.Value{{Name: "Backlog"}, {Name: "In Progress"}, {Name: "Done"}},
		PageSize: 30, // which makes over 600 lines; batches have 500
		Without: map[connectortest.Ability]string{
			connectortest.HTTP:     noTracker,
			connectortest.Token:    noTracker,
			connectortest.Rename:   noTracker,
			connectortest.Delete:   noTracker,
			connectortest.Zones:    "times in a file have their offset",
			connectortest.People:   noTracker,
			connectortest.Webhooks: noTracker,
		},
	})
}

// appending returns a driver that writes into a file.
func appending(t testing.TB, _ *time.Location) *connectortest.Tracker {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	write(t, path, "")
	lines, items := 0, 0
	status, container := map[string]flow.Value{}, map[string]string{}
	tell := func(at time.Time, item string, kind flow.Kind, f flow.FieldChange) {
		lines++
		line, err := json.Marshal(flow.Change{
			ID: fmt.Sprint(lines), Source: "events", Container: container[item], Item: item, At: at, Sequence: int64(lines),
			Kind: kind, Fields: []flow.FieldChange{f},
		})
		if err != nil {
			t.Fatal(err)
		}
		appendTo(t, path, string(line)+"\n")
	}
	return &connectortest.Tracker{
		New: func(o connectortest.Options) connector.Source { return file.New("events", path, o.Logger) },
		Create: func(at time.Time, to flow.Value) string {
			items++
			item := fmt.Sprint(items)
			status[item], container[item] = to, "PAY"
			tell(at, item, flow.Created, flow.FieldChange{Field: flow.FieldStatus, To: to})
			return item
		},
		Move: func(at time.Time, item string, to flow.Value) {
			tell(at, item, flow.Updated, flow.FieldChange{Field: flow.FieldStatus, From: status[item], To: to})
			status[item] = to
		},
		Relocate: func(at time.Time, item string) (from, to string) {
			container[item] = "PLAT"
			tell(at, item, flow.Updated, flow.FieldChange{
				Field: flow.FieldContainer, From: flow.Value{Name: "PAY"}, To: flow.Value{Name: "PLAT"},
			})
			return "PAY", "PLAT"
		},
	}
}
