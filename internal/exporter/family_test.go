package exporter

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/google/go-cmp/cmp"
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
		"flow_net_flow_p_value", "flow_load_baseline_items", "flow_predicted_time_low_seconds", "flow_load_over_target_expected_items",
		"flow_velocity_week_mean_items", "flow_velocity_week_lower_limit_items", "flow_velocity_week_upper_limit_items",
		"flow_time_week_p50_seconds", "flow_time_week_lower_limit_seconds", "flow_time_week_upper_limit_seconds", "flow_reopened_limit_items",
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
		"flow_net_flow_items": 1, "flow_load_previous_items": 1, "flow_load_total_age_previous_seconds": 1, "flow_velocity_week_items": 1,
		"flow_reopened_items": 1,
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

// TestFewStatuses: a status is counted once, in however many windows it is, and
// apart from the same one in another state.
func TestFewStatuses(t *testing.T) {
	list := func(state flow.State, from, to int) (list []flow.StatusTime) {
		for i := from; i < to; i++ {
			list = append(list, flow.StatusTime{Status: fmt.Sprintf("s%02d", i), State: state})
		}
		return list
	}
	for _, test := range []struct {
		first, second []flow.StatusTime
		want          bool
	}{
		{nil, nil, true},
		{list(flow.Active, 0, maxStatuses), list(flow.Active, 0, maxStatuses), true},
		{list(flow.Active, 0, maxStatuses-1), list(flow.Active, 1, maxStatuses), true},
		{list(flow.Active, 0, maxStatuses+1), nil, false},
		{list(flow.Active, 0, maxStatuses-1), list(flow.Active, maxStatuses, maxStatuses+2), false},
		{list(flow.Active, 0, maxStatuses-1), list(flow.Waiting, 0, 2), false},
	} {
		if got := fewStatuses([]flow.WindowMeasures{{Status: test.first}, {Status: test.second}}); got != test.want {
			t.Errorf("%d and %d statuses: %v", len(test.first), len(test.second), got)
		}
	}
}
