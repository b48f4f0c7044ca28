package exporter

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

var update = flag.Bool("update", false, "rewrite the golden files and dashboards/METRICS.md")

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got):\n%s", path, diff)
	}
}

func text(t *testing.T, families []*dto.MetricFamily) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := encode(&b, expfmt.FmtText, families, true); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestGolden(t *testing.T) {
	golden(t, "testdata/flow.prom", text(t, gather(flowFamilies, snapshot(payments(), idle()))))
	own := text(t, gather(serviceFamilies, &scrape{build, service()}))
	golden(t, "testdata/service.prom", regexp.MustCompile(`goversion="[^"]*"`).ReplaceAll(own, []byte(`goversion="go"`)))
}

// TestCatalogue holds the names and labels that dashboards and alerts of other
// people rely on, and the document that describes them.
func TestCatalogue(t *testing.T) {
	const contract = `
flow_active_seconds value_stream,item_type,window
flow_discarded_items value_stream,window
flow_discarded_seconds value_stream,window
flow_distribution_ratio value_stream,item_type,window
flow_distribution_target_ratio value_stream,item_type
flow_efficiency_in_window_ratio value_stream,item_type,window *
flow_efficiency_ratio value_stream,item_type,window *
flow_entered_items value_stream,reason,window
flow_exited_items value_stream,reason,window
flow_health_status value_stream,measure
flow_invariant_violations value_stream,invariant
flow_items_cancelled_total value_stream,item_type
flow_items_completed_total value_stream,item_type
flow_items_entered_total value_stream,item_type
flow_items_reopened_total value_stream,item_type
flow_load_age_p50_seconds value_stream
flow_load_age_p85_seconds value_stream
flow_load_average_items value_stream,window
flow_load_items value_stream,item_type,state
flow_load_limit_items value_stream
flow_load_neglected_items value_stream
flow_load_oldest_age_seconds value_stream
flow_load_over_target_items value_stream
flow_load_total_age_seconds value_stream
flow_predicted_time_seconds value_stream
flow_status_load_items value_stream,status,state
flow_status_seconds value_stream,status,state,window
flow_time_items value_stream,item_type,window
flow_time_mean_seconds value_stream,item_type,window *
flow_time_p50_seconds value_stream,item_type,window *
flow_time_p85_seconds value_stream,item_type,window *
flow_time_p95_seconds value_stream,item_type,window *
flow_time_seconds value_stream,item_type
flow_time_target_attainment_ratio value_stream,window
flow_time_target_percentile value_stream
flow_time_target_seconds value_stream
flow_value_stream_info value_stream,title,timezone,policy
flow_velocity_items value_stream,item_type,window
flow_waiting_seconds value_stream,item_type,window
flowmetrics_build_info version,revision,goversion
flowmetrics_connector_backfill_progress_ratio source
flowmetrics_connector_lag_seconds source
flowmetrics_connector_last_success_timestamp_seconds source
flowmetrics_connector_rate_limit_remaining source
flowmetrics_connector_requests_total source,code
flowmetrics_items value_stream,quality
flowmetrics_log_bytes
flowmetrics_log_changes_total
flowmetrics_log_rejected_total reason
flowmetrics_processor_pending_messages
flowmetrics_processor_snapshot_duration_seconds
flowmetrics_processor_snapshot_timestamp_seconds
flowmetrics_unmapped_status_items source
flowmetrics_webhook_requests_total source,result
`
	var lines []string
	for _, m := range Catalogue() {
		line := m.Name
		if len(m.Labels) > 0 {
			line += " " + strings.Join(m.Labels, ",")
		}
		if m.RollUp {
			line += " *"
		}
		lines = append(lines, line)
		if !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s: help is no sentence: %s", m.Name, m.Help)
		}
		for suffix, unit := range map[string]string{"_seconds": "in seconds", "_ratio": "0 to 1", "_bytes": "in bytes"} {
			if strings.HasSuffix(m.Name, suffix) && !strings.Contains(m.Help, unit) {
				t.Errorf("%s: help does not name the unit: %s", m.Name, m.Help)
			}
		}
	}
	slices.Sort(lines)
	if diff := cmp.Diff(strings.TrimSpace(contract), strings.Join(lines, "\n")); diff != "" {
		t.Errorf("catalogue (-want +got):\n%s", diff)
	}
	golden(t, "../../dashboards/METRICS.md", Markdown())
}

func TestLint(t *testing.T) {
	e := New(build, service)
	e.Update(snapshot(payments(), idle(), saturated("platform")))
	problems, err := testutil.GatherAndLint(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	// Everything that is declared has been linted.
	families, err := e.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, f := range families {
		have[f.GetName()] = true
	}
	for _, m := range Catalogue() {
		if !have[m.Name] {
			t.Errorf("%s has no sample in the test", m.Name)
		}
	}
}

// TestSeriesBudget: a value stream with three windows, six statuses and four
// item types has at most 300 series, a histogram counted as one.
func TestSeriesBudget(t *testing.T) {
	count := func(streams ...*flow.Measures) (series, plain int) {
		for _, f := range gather(flowFamilies, snapshot(streams...)) {
			for _, m := range f.GetMetric() {
				series++
				plain++
				if h := m.GetHistogram(); h != nil {
					plain += len(h.GetBucket()) + 2 // +Inf, _sum and _count
				}
			}
		}
		return series, plain
	}
	base, basePlain := count()
	one, onePlain := count(saturated("a"))
	two, twoPlain := count(saturated("a"), saturated("b"))
	t.Logf("a saturated value stream has %d series, %d with each bucket counted", two-one, twoPlain-onePlain)
	if two-one > 300 {
		t.Errorf("%d series, want at most 300", two-one)
	}
	if one-base < 250 || onePlain <= one || basePlain != base {
		t.Errorf("%d series of which %d of no value stream: not what the budget is about", one, base)
	}
}

// series returns the values of a family by its label values.
func series(t *testing.T, s *flow.Snapshot, name string) map[string]float64 {
	t.Helper()
	values := map[string]float64{}
	for _, f := range gather(flowFamilies, s) {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			key := strings.Join(labels, "|")
			if _, twice := values[key]; twice {
				t.Errorf("%s: series %s twice", name, key)
			}
			values[key] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return values
}

// TestUndefined: what is undefined has no sample, what is zero has one.
func TestUndefined(t *testing.T) {
	s := snapshot(idle())
	for _, name := range []string{
		"flow_time_p50_seconds", "flow_time_mean_seconds", "flow_efficiency_ratio", "flow_efficiency_in_window_ratio",
		"flow_distribution_ratio", "flow_load_age_p50_seconds", "flow_load_oldest_age_seconds", "flow_load_over_target_items",
		"flow_load_limit_items", "flow_predicted_time_seconds", "flow_time_target_seconds", "flow_time_target_percentile",
		"flow_time_target_attainment_ratio", "flow_distribution_target_ratio",
	} {
		if got := series(t, s, name); len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
	for name, want := range map[string]int{
		"flow_velocity_items": 4 * 3, "flow_time_items": 4 * 3, "flow_load_items": 4 * 2, "flow_entered_items": 5 * 3,
		"flow_exited_items": 5 * 3, "flow_load_neglected_items": 1, "flow_load_total_age_seconds": 1,
		"flow_load_average_items": 3, "flow_discarded_items": 3, "flow_items_entered_total": 4, "flow_time_seconds": 4,
		"flow_invariant_violations": 2, "flowmetrics_items": 4,
	} {
		got := series(t, s, name)
		if len(got) != want {
			t.Errorf("%s has %d samples, want %d", name, len(got), want)
		}
		for labels, v := range got {
			if v != 0 {
				t.Errorf("%s{%s} = %v, want 0", name, labels, v)
			}
		}
	}
}

func TestUnclassified(t *testing.T) {
	for name, touch := range map[string]func(*flow.Measures){
		"total":  func(m *flow.Measures) { m.Totals[flow.Unclassified].Cancelled = 1 },
		"load":   func(m *flow.Measures) { m.Load.ByType[flow.Unclassified].Waiting = 1 },
		"window": func(m *flow.Measures) { m.Windows[2].ByType[flow.Unclassified].Presence = span(hour) },
	} {
		m := idle()
		touch(m)
		// Labels are in the order of their names: item_type, value_stream.
		if got := series(t, snapshot(m, payments()), "flow_items_entered_total"); len(got) != 9 {
			t.Errorf("%s: %v", name, got)
		} else if _, ok := got["unclassified|idle"]; !ok {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestManyStatuses: the 20 largest statuses are shown, the rest is added up, and
// nothing is lost or there twice, not even beside a status named other.
func TestManyStatuses(t *testing.T) {
	m := payments()
	m.Load.ByStatus = []flow.StatusLoad{{Status: "other", State: flow.Waiting, Items: 1000}}
	m.Windows[0].Status = []flow.StatusTime{{Status: "other", State: flow.Waiting, Time: span(1000 * time.Second)}}
	items, seconds := 1000.0, 1000.0
	for i := range 60 {
		state := []flow.State{flow.Active, flow.Waiting}[i%2]
		name := fmt.Sprintf("s%02d", i)
		m.Load.ByStatus = append(m.Load.ByStatus, flow.StatusLoad{Status: name, State: state, Items: i})
		m.Windows[0].Status = append(m.Windows[0].Status, flow.StatusTime{Status: name, State: state, Time: span(time.Duration(i) * time.Second)})
		items, seconds = items+float64(i), seconds+float64(i)
	}
	m.Windows[1].Status = m.Windows[0].Status[:5] // small ones, and so not shown
	m.Windows[2].Status = nil
	load := series(t, snapshot(m), "flow_status_load_items")
	times := series(t, snapshot(m), "flow_status_seconds")
	if len(load) != maxStatuses+1 || load["active|s40|payments"] != 0 || load["waiting|s41|payments"] != 41 {
		t.Errorf("load: %d samples %v", len(load), load)
	}
	sum := 0.0
	for _, v := range load {
		sum += v
	}
	if sum != items {
		t.Errorf("load adds up to %v, want %v", sum, items)
	}
	sum = 0
	for labels, v := range times {
		if strings.HasSuffix(labels, "|7d") {
			sum += v
		}
	}
	if sum != seconds {
		t.Errorf("times of 7d add up to %v, want %v: %v", sum, seconds, times)
	}
	if times["waiting|other|payments|30d"] != 1000+1+3 || times["active|other|payments|30d"] != 0+2 {
		t.Errorf("times: %v", times)
	}
}
