package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// figures are what `flowmetrics measure` prints of a value stream as far as
// headlines show it.
type figures struct {
	Name string
	Load struct {
		Items      float64
		Oldest     *float64 `json:"oldest_age_seconds"`
		OverTarget float64  `json:"over_target_items"`
		Neglected  float64  `json:"neglected_items"`
	}
	Windows map[string]struct {
		Velocity struct{ Items float64 }
		Time     struct {
			Items float64
			P85   *float64 `json:"p85_seconds"`
		} `json:"flow_time"`
		Efficiency struct {
			Ratio    *float64
			InWindow *float64 `json:"in_window_ratio"`
		}
		Distribution map[string]float64
	}
}

// A reading is what a headline can be about: a value stream at an instant and one
// window before it, and what was agreed.
type reading struct {
	now, before figures
	window      string
	agreed      flow.Targets
}

// A headline computes what a panel has to show; nil is nothing.
type headline func(r reading) *float64

// headlines are the panels whose numbers `flowmetrics measure` tells as well: of
// each dashboard, by "title (refId)".
var headlines = map[string]map[string]headline{
	"weekly-operating-review.json": {
		"Flow time, p85 (A)":                       p85,
		"Flow time: before, target, signal, n (A)": before(p85),
		"Flow time: before, target, signal, n (B)": timeTarget,
		"Flow time: before, target, signal, n (D)": timed,
		"Flow efficiency (A)":                      efficiency,
		"Efficiency: before, in window, n (A)":     before(efficiency),
		"Efficiency: before, in window, n (B)":     func(r reading) *float64 { return r.now.Windows[r.window].Efficiency.InWindow },
		"Efficiency: before, in window, n (C)":     timed,
		"Flow load (A)":                            load,
		"Load: before, limit, signal (A)":          before(load),
		"Load: before, limit, signal (B)":          loadLimit,
		"Distribution, off the mix (A)":            offTheMix,
		"Distribution: before, tolerance, n (A)":   before(offTheMix),
		"Distribution: before, tolerance, n (C)":   velocity,
		"Flow velocity (A)":                        velocity,
		"Velocity: before, week, signal (A)":       before(velocity),
		"What is stuck (A)":                        func(r reading) *float64 { return inDays(r.now.Load.Oldest) },
		"What is stuck (B)":                        func(r reading) *float64 { return &r.now.Load.Neglected },
		"What is stuck (C)":                        func(r reading) *float64 { return &r.now.Load.OverTarget },
	},
	"monthly-portfolio-review.json": {
		"Scorecard (time)":              p85,
		"Scorecard (time_before)":       before(p85),
		"Scorecard (time_target)":       timeTarget,
		"Scorecard (timed)":             timed,
		"Scorecard (efficiency)":        efficiency,
		"Scorecard (efficiency_before)": before(efficiency),
		"Scorecard (load)":              load,
		"Scorecard (load_before)":       before(load),
		"Scorecard (load_limit)":        loadLimit,
		"Scorecard (mix)":               offTheMix,
		"Scorecard (mix_before)":        before(offTheMix),
		"Scorecard (velocity)":          velocity,
		"Scorecard (velocity_before)":   before(velocity),
	},
}

// unmeasured are the further numbers of these panels: signals, colours and agreed
// tolerances, which measure does not tell.
var unmeasured = []string{"signal (C)", "signal, n (C)", "tolerance, n (B)", "week, signal (B)", "stuck (D)", "_signal)", "_health)", "(mix_target)"}

func p85(r reading) *float64        { return inDays(r.now.Windows[r.window].Time.P85) }
func timed(r reading) *float64      { return new(r.now.Windows[r.window].Time.Items) }
func efficiency(r reading) *float64 { return r.now.Windows[r.window].Efficiency.Ratio }
func load(r reading) *float64       { return &r.now.Load.Items }
func velocity(r reading) *float64   { return new(r.now.Windows[r.window].Velocity.Items) }
func timeTarget(r reading) *float64 { return new(r.agreed.FlowTime.Hours() / 24) }
func loadLimit(r reading) *float64  { return new(float64(r.agreed.Load)) }

func offTheMix(r reading) *float64 {
	off := 0.
	for _, typ := range []flow.ItemType{flow.Feature, flow.Defect, flow.Risk, flow.Debt} {
		off += math.Abs(r.now.Windows[r.window].Distribution[typ.String()]-r.agreed.Distribution[typ]) / 2
	}
	return &off
}

func before(of headline) headline {
	return func(r reading) *float64 {
		r.now = r.before
		return of(r)
	}
}

func inDays(seconds *float64) *float64 {
	if seconds == nil {
		return nil
	}
	return new(*seconds / 86400)
}

// testHeadlines compares what the weekly review's numbers and the monthly
// review's table have shown at instants of the history with what `flowmetrics
// measure` says of the same instants.
func (w *world) testHeadlines(t *testing.T) {
	cfg, err := config.Load(w.config)
	if err != nil {
		t.Fatal(err)
	}
	changes := filepath.Join(t.TempDir(), "changes.jsonl")
	write(t, changes, flowmetrics(t, "changes", "--url", w.demo.URL))
	measure := func(at time.Time) (all []figures) {
		text := flowmetrics(t, "measure", "--config", w.config, "--changes", changes, "--at", at.Format(time.RFC3339))
		if err := json.Unmarshal([]byte(text), &struct {
			Streams *[]figures `json:"value_streams"`
		}{&all}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	compared := 0
	for window, ago := range map[string]time.Duration{"7d": 3 * units["d"], "30d": 101*units["d"] + 8*time.Hour, "90d": 215 * units["d"]} {
		length, err := parseInterval(window)
		if err != nil {
			t.Fatal(err)
		}
		at := w.seam.Add(-ago)
		now, previous := measure(at), measure(at.Add(-length))
		for _, d := range readDashboards(t) {
			expected := maps.Clone(headlines[d.file])
			for _, p := range d.Panels {
				for _, q := range p.Targets {
					name := fmt.Sprintf("%s (%s)", p.Title, q.RefID)
					want, known := expected[name]
					if !known {
						continue
					}
					delete(expected, name)
					expr, err := fill(q.Expr, map[string]string{"value_stream": ".+", "window": window})
					if err != nil {
						t.Fatal(err)
					}
					shown := map[string]float64{}
					for _, s := range w.query(t, expr, at) {
						shown[string(s.Metric["value_stream"])] = float64(s.Values[0].Value)
					}
					for i := range now {
						r := reading{now[i], previous[i], window, cfg.Policy().ValueStream(now[i].Name).Targets}
						number, there := shown[r.now.Name]
						// Measure rounds to six digits, of which a few are added up.
						if want := want(r); there != (want != nil) || there && math.Abs(number-*want) > 4e-6 {
							t.Errorf("%s, %s of %s over %s shows %v (%t) at %s, want %s", d.file, name, r.now.Name, window, number, there, at, text(want))
						}
						compared++
					}
				}
			}
			for name := range expected {
				t.Errorf("%s has no %s", d.file, name)
			}
		}
	}
	t.Logf("%d numbers compared", compared)
}

func text(number *float64) string {
	if number == nil {
		return "nothing"
	}
	return fmt.Sprint(*number)
}

// TestHeadlines sees that no number of these panels is forgotten: each is compared
// with what is measured, or listed as what measure does not tell.
func TestHeadlines(t *testing.T) {
	for _, d := range readDashboards(t) {
		titles := map[string]bool{}
		for name := range headlines[d.file] {
			title, _, _ := strings.Cut(name, " (")
			titles[title] = true
		}
		for _, p := range d.Panels {
			for _, q := range p.Targets {
				name := fmt.Sprintf("%s (%s)", p.Title, q.RefID)
				listed := headlines[d.file][name] != nil || slices.ContainsFunc(unmeasured, func(end string) bool { return strings.HasSuffix(name, end) })
				if titles[p.Title] && !listed {
					t.Errorf("%s: nothing is known of %s", d.file, name)
				}
			}
		}
	}
}
