package exporter

import (
	"slices"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// The labels, in the order in which samples give their values.
var (
	byStream           = []string{"value_stream"}
	byType             = []string{"value_stream", "item_type"}
	byWindow           = []string{"value_stream", "window"}
	byTypeWindow       = []string{"value_stream", "item_type", "window"}
	byTypeState        = []string{"value_stream", "item_type", "state"}
	byReasonWindow     = []string{"value_stream", "reason", "window"}
	byStatusState      = []string{"value_stream", "status", "state"}
	byStatusTimeWindow = []string{"value_stream", "status", "state", "window"}
)

// flowFamilies are the metrics of a snapshot.
var flowFamilies = slices.Concat(timeFamilies, loadFamilies, workFamilies, targetFamilies, signalFamilies, eventFamilies, qualityFamilies)

var timeFamilies = []family[*flow.Snapshot]{
	{
		name: "flow_time_p50_seconds", kind: gauge, labels: byTypeWindow, rollUp: true,
		help: "Flow time (active plus waiting time from the first start to the last completion) that half of the items completed in the window did not exceed, in seconds. Nearest-rank percentile; no sample without such items.",
		from: percentile(func(t *flow.TypeMeasures) time.Duration { return t.P50 }),
	},
	{
		name: "flow_time_p85_seconds", kind: gauge, labels: byTypeWindow, rollUp: true,
		help: "Flow time that 85 percent of the items completed in the window did not exceed, in seconds. Nearest-rank percentile; no sample without such items.",
		from: percentile(func(t *flow.TypeMeasures) time.Duration { return t.P85 }),
	},
	{
		name: "flow_time_p95_seconds", kind: gauge, labels: byTypeWindow, rollUp: true,
		help: "Flow time that 95 percent of the items completed in the window did not exceed, in seconds. Nearest-rank percentile; no sample without such items.",
		from: percentile(func(t *flow.TypeMeasures) time.Duration { return t.P95 }),
	},
	{
		name: "flow_time_mean_seconds", kind: gauge, labels: byTypeWindow, rollUp: true,
		help: "Mean flow time of the items completed in the window, in seconds. For comparison with load and throughput; the distribution is skewed, so a percentile says more.",
		from: rolledUp((*flow.TypeMeasures).MeanSeconds),
	},
	{
		name: "flow_time_items", kind: gauge, labels: byTypeWindow,
		help: "Items completed in the window whose start is known: the sample size behind the flow time and efficiency of the window.",
		from: additive(func(t *flow.TypeMeasures) float64 { return float64(t.Timed) }),
	},
	{
		name: "flow_active_seconds", kind: gauge, labels: byTypeWindow,
		help: "Time that the items completed in the window spent in active states over their whole life, in seconds. Numerator of the flow efficiency.",
		from: additive(func(t *flow.TypeMeasures) float64 { return t.Active.Seconds() }),
	},
	{
		name: "flow_waiting_seconds", kind: gauge, labels: byTypeWindow,
		help: "Time that the items completed in the window spent in waiting states over their whole life, in seconds. Flow time less active time.",
		from: additive(func(t *flow.TypeMeasures) float64 { return t.Waiting.Seconds() }),
	},
	{
		name: "flow_efficiency_ratio", kind: gauge, labels: byTypeWindow, rollUp: true,
		help: "Share of active time in the flow time of the items completed in the window, 0 to 1: the ratio of the sums over the items. No sample where there is no time to divide by.",
		from: rolledUp((*flow.TypeMeasures).Efficiency),
	},
	{
		name: "flow_efficiency_in_window_ratio", kind: gauge, labels: byTypeWindow, rollUp: true,
		help: "Share of active time in the time that all items, finished or not, were in flow inside the window, 0 to 1. No sample where nothing was in flow.",
		from: rolledUp((*flow.TypeMeasures).InWindowEfficiency),
	},
	{
		name: "flow_status_seconds", kind: gauge, labels: byStatusTimeWindow,
		help: "Time that the items completed in the window spent in a tracker status over their whole life, in seconds: where work waits. The 20 largest statuses of a value stream; the others are added up as \"other\".",
		from: statusTimes,
	},
}

// percentile takes a percentile of flow time, which is defined where there are
// timed items.
func percentile(value func(*flow.TypeMeasures) time.Duration) func(*flow.Snapshot, *samples) {
	return rolledUp(func(t *flow.TypeMeasures) (float64, bool) { return value(t).Seconds(), t.Timed > 0 })
}

var loadFamilies = []family[*flow.Snapshot]{
	{
		name: "flow_load_items", kind: gauge, labels: byTypeState,
		help: "Items in flow now (started and not finished), by state: active or waiting.",
		from: eachType(func(m *flow.Measures, t flow.ItemType, out *samples) {
			out.count(m.Load.ByType[t].Active, t.String(), flow.Active.String())
			out.count(m.Load.ByType[t].Waiting, t.String(), flow.Waiting.String())
		}),
	},
	{
		name: "flow_load_average_items", kind: gauge, labels: byWindow,
		help: "Items in flow on average over the window, weighted by time.",
		from: eachWindow(func(_ *flow.Measures, w *flow.WindowMeasures, out *samples) {
			out.add(w.AverageLoad(), w.Window.Name)
		}),
	},
	{
		name: "flow_load_age_p50_seconds", kind: gauge, labels: byStream,
		help: "Age (active plus waiting time so far) that half of the items in flow do not exceed, in seconds. No sample while nothing is in flow.",
		from: age(func(l *flow.Load) time.Duration { return l.AgeP50 }),
	},
	{
		name: "flow_load_age_p85_seconds", kind: gauge, labels: byStream,
		help: "Age that 85 percent of the items in flow do not exceed, in seconds. No sample while nothing is in flow.",
		from: age(func(l *flow.Load) time.Duration { return l.AgeP85 }),
	},
	{
		name: "flow_load_oldest_age_seconds", kind: gauge, labels: byStream,
		help: "Age of the oldest item in flow, in seconds. No sample while nothing is in flow.",
		from: age(func(l *flow.Load) time.Duration { return l.Oldest }),
	},
	{
		name: "flow_load_total_age_seconds", kind: gauge, labels: byStream,
		help: "Ages of all items in flow added up, in seconds. It rises by the number of items with each second and falls by the age of each item that leaves.",
		from: eachStream(func(m *flow.Measures, out *samples) { out.add(m.Load.TotalAge.Seconds()) }),
	},
	{
		name: "flow_load_over_target_items", kind: gauge, labels: byStream,
		help: "Items in flow that are older than the flow time target. No sample without a target.",
		from: eachStream(func(m *flow.Measures, out *samples) {
			out.optional(float64(m.Load.OverTarget), m.ValueStream.Targets.FlowTime > 0)
		}),
	},
	{
		name: "flow_load_neglected_items", kind: gauge, labels: byStream,
		help: "Items in flow about which the tracker has told nothing for the configured time (neglect_after).",
		from: eachStream(func(m *flow.Measures, out *samples) { out.count(m.Load.Neglected) }),
	},
	{
		name: "flow_load_limit_items", kind: gauge, labels: byStream,
		help: "Agreed limit of items in flow. No sample without one.",
		from: eachStream(func(m *flow.Measures, out *samples) {
			limit := m.ValueStream.Targets.Load
			out.optional(float64(limit), limit > 0)
		}),
	},
	{
		name: "flow_status_load_items", kind: gauge, labels: byStatusState,
		help: "Items in flow now by tracker status: the length of each queue. The 20 largest statuses of a value stream; the others are added up as \"other\".",
		from: statusLoad,
	},
	{
		name: "flow_predicted_time_seconds", kind: gauge, labels: byStream,
		help: "Flow time to expect of new work: items in flow divided by the throughput of the last 28 days, in seconds. No sample without a completion in that time.",
		from: eachStream(func(m *flow.Measures, out *samples) { out.optional(m.Predicted, m.Throughput28 > 0) }),
	},
}

// age takes an age, which is defined while something is in flow.
func age(value func(*flow.Load) time.Duration) func(*flow.Snapshot, *samples) {
	return eachStream(func(m *flow.Measures, out *samples) {
		out.optional(value(&m.Load).Seconds(), m.Load.Items > 0)
	})
}

var workFamilies = []family[*flow.Snapshot]{
	{
		name: "flow_velocity_items", kind: gauge, labels: byTypeWindow,
		help: "Items completed in the window and still done.",
		from: additive(func(t *flow.TypeMeasures) float64 { return float64(t.Completed) }),
	},
	{
		name: "flow_distribution_ratio", kind: gauge, labels: byTypeWindow,
		help: "Share of the item type in the items completed in the window, 0 to 1. No sample without a completed item.",
		from: eachType(func(m *flow.Measures, t flow.ItemType, out *samples) {
			for i := range m.Windows {
				w := &m.Windows[i]
				n := w.All.Completed
				if n > 0 {
					out.add(float64(w.ByType[t].Completed)/float64(n), t.String(), w.Window.Name)
				}
			}
		}),
	},
	{
		name: "flow_entered_items", kind: gauge, labels: byReasonWindow,
		help: "Entries of items into flow in the window, by reason: started, reopened, resumed, moved_in or observed.",
		from: eachWindow(func(_ *flow.Measures, w *flow.WindowMeasures, out *samples) {
			for _, reason := range flow.Entries() {
				out.count(w.Entered[reason], reason.String(), w.Window.Name)
			}
		}),
	},
	{
		name: "flow_exited_items", kind: gauge, labels: byReasonWindow,
		help: "Exits of items from flow in the window, by reason: completed, cancelled, returned, moved_out or deleted.",
		from: eachWindow(func(_ *flow.Measures, w *flow.WindowMeasures, out *samples) {
			for _, reason := range flow.Exits() {
				out.count(w.Exited[reason], reason.String(), w.Window.Name)
			}
		}),
	},
	{
		name: "flow_discarded_items", kind: gauge, labels: byWindow,
		help: "Items that were cancelled or deleted out of flow in the window.",
		from: eachWindow(func(_ *flow.Measures, w *flow.WindowMeasures, out *samples) {
			out.count(w.Discarded, w.Window.Name)
		}),
	},
	{
		name: "flow_discarded_seconds", kind: gauge, labels: byWindow,
		help: "Time that the items discarded in the window had spent in flow over their whole life, in seconds.",
		from: eachWindow(func(_ *flow.Measures, w *flow.WindowMeasures, out *samples) {
			out.add(w.DiscardedTime.Seconds(), w.Window.Name)
		}),
	},
}

var targetFamilies = []family[*flow.Snapshot]{
	{
		name: "flow_time_target_seconds", kind: gauge, labels: byStream,
		help: "Agreed flow time (the service level expectation), in seconds. No sample without one.",
		from: eachStream(func(m *flow.Measures, out *samples) {
			target := m.ValueStream.Targets.FlowTime
			out.optional(target.Seconds(), target > 0)
		}),
	},
	{
		name: "flow_time_target_percentile", kind: gauge, labels: byStream,
		help: "Share of the items, in percent, that is to be within the agreed flow time. No sample without a flow time target.",
		from: eachStream(func(m *flow.Measures, out *samples) {
			t := m.ValueStream.Targets
			out.optional(t.Percentile, t.FlowTime > 0)
		}),
	},
	{
		name: "flow_time_target_attainment_ratio", kind: gauge, labels: byWindow,
		help: "Share of the items completed in the window whose flow time is within the agreed one, 0 to 1. No sample without a target or an item.",
		from: eachWindow(func(m *flow.Measures, w *flow.WindowMeasures, out *samples) {
			ratio, defined := w.Attainment(m.ValueStream)
			out.optional(ratio, defined, w.Window.Name)
		}),
	},
	{
		name: "flow_distribution_target_ratio", kind: gauge, labels: byType,
		help: "Agreed share of the item type in completed items, 0 to 1. No sample without an agreed mix.",
		from: eachStream(func(m *flow.Measures, out *samples) {
			mix := m.ValueStream.Targets.Distribution
			for _, t := range []flow.ItemType{flow.Feature, flow.Defect, flow.Risk, flow.Debt} {
				out.optional(mix[t], len(mix) > 0, t.String())
			}
		}),
	},
	{
		name: "flow_health_status", kind: gauge, labels: []string{"value_stream", "measure"},
		help: "Comparison of a measure with its agreed target: 0 grey (no target or too little data), 1 green, 2 amber, 3 red.",
		from: eachStream(func(m *flow.Measures, out *samples) {
			for _, h := range m.Health {
				out.add(float64(h.Status), h.Measure)
			}
		}),
	},
}

var eventFamilies = []family[*flow.Snapshot]{
	{
		name: "flow_items_entered_total", kind: counter, labels: byType,
		help: "Entries of items into flow since the beginning of the log. Events, not items; computed from the log, so the same after a restart.",
		from: total(func(t *flow.Totals) int { return t.Entered }),
	},
	{
		name: "flow_items_completed_total", kind: counter, labels: byType,
		help: "Completions of items since the beginning of the log. Events, not items; computed from the log, so the same after a restart.",
		from: total(func(t *flow.Totals) int { return t.Completed }),
	},
	{
		name: "flow_items_reopened_total", kind: counter, labels: byType,
		help: "Reopenings of done or cancelled items since the beginning of the log. Events, not items; computed from the log, so the same after a restart.",
		from: total(func(t *flow.Totals) int { return t.Reopened }),
	},
	{
		name: "flow_items_cancelled_total", kind: counter, labels: byType,
		help: "Cancellations of items since the beginning of the log. Events, not items; computed from the log, so the same after a restart.",
		from: total(func(t *flow.Totals) int { return t.Cancelled }),
	},
	{
		name: "flow_time_seconds", kind: histogram, labels: byType,
		help: "Flow time at each completion since the beginning of the log, in seconds. Events, not items; computed from the log, so the same after a restart.",
		from: eachType(func(m *flow.Measures, t flow.ItemType, out *samples) {
			out.histogram(&m.Totals[t], t.String())
		}),
	},
}

func total(value func(*flow.Totals) int) func(*flow.Snapshot, *samples) {
	return eachType(func(m *flow.Measures, t flow.ItemType, out *samples) {
		out.count(value(&m.Totals[t]), t.String())
	})
}

var qualityFamilies = []family[*flow.Snapshot]{
	{
		name: "flow_value_stream_info", kind: gauge, labels: []string{"value_stream", "title", "timezone", "policy"},
		help: "Always 1. The label policy is a short hash of the policy that the numbers were computed under.",
		from: func(s *flow.Snapshot, out *samples) {
			for _, m := range s.ValueStreams {
				v := m.ValueStream
				out.add(1, v.Name, v.Title, v.Timezone, s.PolicyHash)
			}
		},
	},
	{
		name: "flow_invariant_violations", kind: gauge, labels: []string{"value_stream", "invariant"},
		help: "Windows in which a bookkeeping identity does not hold. load: items in flow at the end less those at the start = entries less exits; presence: area under the load curve = time that items were in flow. Anything but 0 is a bug.",
		from: eachStream(func(m *flow.Measures, out *samples) {
			out.count(m.LoadMismatch, "load")
			out.count(m.PresenceMismatch, "presence")
		}),
	},
	{
		name: "flowmetrics_items", kind: gauge, labels: []string{"value_stream", "quality"},
		help: "Items that make the numbers less certain: born_done (created in a done state, counted nowhere else), left_censored (start unknown), completed_without_start, never_active (completed without ever being active).",
		from: eachStream(func(m *flow.Measures, out *samples) {
			out.count(m.Quality.BornDone, "born_done")
			out.count(m.Quality.LeftCensored, "left_censored")
			out.count(m.Quality.CompletedWithoutStart, "completed_without_start")
			out.count(m.Quality.CompletedNeverActive, "never_active")
		}),
	},
	{
		name: "flowmetrics_unmapped_status_items", kind: gauge, labels: []string{"source"},
		help: "Items that are now in a status without a rule and without a category, and so hold their previous state.",
		from: func(s *flow.Snapshot, out *samples) {
			for _, source := range sources(s) {
				out.count(s.Quality.UnmappedItems[source], source)
			}
		},
	},
}
