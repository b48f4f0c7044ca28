package deploy

import (
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/prometheus/common/model"
)

// fires says, for the alerts about value streams, when the panel of the alert shows
// that its condition holds: of the series of its queries, by refId.
var fires = map[string]string{
	"FlowLoadOverLimit":        `A > 1.2`,
	"FlowLoadRising":           `A > 1.25 and on (value_stream) B == 1`,
	"PredictedFlowTimeOverSLE": `A > 1`,
	"WorkStarving":             `A > 0.2 and on (value_stream) abs(B) < 0.05`,
	"OverAgeShare":             `A > on (value_stream) B`,
	"NeglectedWIP":             `A >= on (value_stream) B`,
	"ThroughputSignal":         `A < on (value_stream) B`,
	"ReopenSpike":              `A > on (value_stream) B`,
	"LittleIdentityBroken":     `A > 0`,
	"UnmappedStatus":           `A > 0`,
}

var refID = regexp.MustCompile(`\b[AB]\b`)

// testLeading sees that the panel of each alert shows its condition: over all of the
// history, the one holds when the other does.
func (w *world) testLeading(t *testing.T) {
	panels := map[string]panel{}
	for _, d := range readDashboards(t) {
		if d.UID == "flow-leading" {
			for _, p := range d.Panels {
				panels[p.Title] = p
			}
		}
	}
	conditions := map[string]string{}
	for _, r := range w.rules(t) {
		if r.Type == "alerting" {
			conditions[r.Name] = r.Query
		}
	}
	const step = 12 * time.Hour
	from, to := w.from.Add(90*24*time.Hour).Truncate(step), w.seam.Add(-24*time.Hour).Truncate(step)
	held := 0
	for alert, statement := range fires {
		shown := refID.ReplaceAllStringFunc(statement, func(ref string) string {
			for _, target := range panels[alert].Targets {
				if target.RefID == ref {
					expr, err := fill(target.Expr, map[string]string{"value_stream": ".+"})
					if err != nil {
						t.Fatalf("%s: %v", alert, err)
					}
					return "(" + expr + ")"
				}
			}
			t.Fatalf("the panel %s has no query %s", alert, ref)
			return ""
		})
		want, got := w.instants(t, conditions[alert], from, to, step), w.instants(t, shown, from, to, step)
		held += len(want)
		differ := 0
		for key := range want {
			if !got[key] {
				differ++
			}
		}
		for key := range got {
			if !want[key] {
				differ++
			}
		}
		// What is exactly at a threshold is above it or not by the order of arithmetic.
		if differ > len(want)/100 {
			t.Errorf("%s: the condition holds at %d instants, by the panel at %d, %d of them not the same ones", alert, len(want), len(got), differ)
		}
	}
	if held < 100 {
		t.Errorf("conditions hold at %d instants of all of the history: there is nothing to compare", held)
	}
}

// instants are when an expression has a result, by labels and time.
func (w *world) instants(t *testing.T, expr string, from, to time.Time, step time.Duration) map[string]bool {
	t.Helper()
	at := map[string]bool{}
	for _, s := range w.queryRange(t, expr, from, to, step) {
		delete(s.Metric, model.MetricNameLabel)
		for _, v := range s.Values {
			at[fmt.Sprint(s.Metric, v.Timestamp)] = true
		}
	}
	return at
}
