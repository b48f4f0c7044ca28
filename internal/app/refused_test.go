package app

import (
	"log/slog"
	"testing"

	"github.com/flowmetrics/flowmetrics/internal/eventlog"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// TestRefusedAgain: what is refused again is one rejection, and counted once,
// also by the next process.
func TestRefusedAgain(t *testing.T) {
	dir := t.TempDir()
	line := flow.Rejection{Index: 7, Subject: "file:changes.jsonl", Source: "events", Reason: flow.ReasonMalformed, Detail: "not a change"}
	other := line
	other.Index, other.Reason = 8, flow.ReasonTime
	for restart := range 2 {
		log, err := eventlog.Open(t.Context(), eventlog.Config{DataDir: dir, Sync: "2m"}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		r := &refused{log: log}
		if err := r.load(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := map[flow.Reason]uint64{}
		if r.addTo(before); restart == 1 && (before[flow.ReasonMalformed] != 1 || before[flow.ReasonTime] != 1) {
			t.Errorf("counts after a restart: %v", before)
		}
		for range 3 {
			if err := r.Reject(t.Context(), []flow.Rejection{line, other}); err != nil {
				t.Fatal(err)
			}
		}
		counts := map[flow.Reason]uint64{flow.ReasonTime: 5}
		r.addTo(counts)
		if counts[flow.ReasonMalformed] != 1 || counts[flow.ReasonTime] != 5+1 || len(counts) != 2 {
			t.Errorf("start %d: counts %v", restart, counts)
		}
		listed := 0
		err = log.Rejections(t.Context(), 0, 0, func(r flow.Rejection) error {
			listed++
			if r.Received.IsZero() || identity(r) != line && identity(r) != other {
				t.Errorf("listed %+v", r)
			}
			return nil
		})
		if err != nil || listed != 2 {
			t.Errorf("start %d: %d listed, %v", restart, listed, err)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
