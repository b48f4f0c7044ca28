package exporter

import "github.com/flowmetrics/flowmetrics/internal/flow"

// signalFamilies are numbers for alerts and arrows that PromQL cannot say
// soundly, or not before it has scraped for months: all as of the snapshot, from
// the log.
var signalFamilies = []family[*flow.Snapshot]{
	{
		name: "flow_net_flow_items", kind: gauge, labels: byStream,
		help: "Entries into flow less exits from flow in the last 14 days. Always there.",
		from: eachStream(func(m *flow.Measures, out *samples) { out.count(m.Signals.NetFlow) }),
	},
	{
		name: "flow_net_flow_p_value", kind: gauge, labels: byStream,
		help: "Probability, 0 to 1, of a split at least as uneven as that of the entries and exits of the last 14 days if both were equally likely: the exact two-sided binomial test. No sample below 10 of them together.",
		from: signal(func(s *flow.Signals) flow.Number { return s.NetFlowP }),
	},
	{
		name: "flow_load_baseline_items", kind: gauge, labels: byStream,
		help: "Usual load, in items: the median of the time-weighted average loads of the 8 complete calendar weeks (Monday to Sunday in the zone of the value stream) before the current one. No sample until the value stream had its first entry before the oldest of them.",
		from: signal(func(s *flow.Signals) flow.Number { return s.LoadBaseline }),
	},
	{
		name: "flow_load_previous_items", kind: gauge, labels: byStream,
		help: "Items that were in flow 14 days before, as known now. Always there.",
		from: eachStream(func(m *flow.Measures, out *samples) { out.count(m.Signals.LoadPrevious) }),
	},
	{
		name: "flow_load_total_age_previous_seconds", kind: gauge, labels: byStream,
		help: "Ages, 14 days before, of all items that were in flow then, added up, in seconds; as known now. Always there.",
		from: eachStream(func(m *flow.Measures, out *samples) { out.add(m.Signals.TotalAgePrevious.Seconds()) }),
	},
	{
		name: "flow_predicted_time_low_seconds", kind: gauge, labels: byStream,
		help: "Optimistic end of the predicted flow time, in seconds: predicted × (1 − 1/√n) with the n items completed in the last 28 days. No sample below 10 of them.",
		from: signal(func(s *flow.Signals) flow.Number { return s.PredictedLow }),
	},
	{
		name: "flow_load_over_target_expected_items", kind: gauge, labels: byStream,
		help: "Items in flow that would be older than the flow time target if the process were stable: load × Σ max(0, flow time − target) / Σ flow time over the items completed in the last 30 days whose start is known. No sample without a target or below 5 of them.",
		from: signal(func(s *flow.Signals) flow.Number { return s.OverTargetExpected }),
	},
	{
		name: "flow_velocity_week_items", kind: gauge, labels: byStream,
		help: "Items completed in the last complete calendar week (Monday to Sunday in the zone of the value stream) and still done. Always there.",
		from: eachStream(func(m *flow.Measures, out *samples) { out.count(m.Signals.VelocityWeek) }),
	},
	{
		name: "flow_velocity_week_mean_items", kind: gauge, labels: byStream,
		help: "Mean number of items completed in a week of the baseline: the 13 complete weeks before the calendar quarter in which the last complete week began, without those that began before the first entry of the value stream. No sample below 6 weeks.",
		from: signal(func(s *flow.Signals) flow.Number { return s.VelocityMean }),
	},
	{
		name: "flow_velocity_week_lower_limit_items", kind: gauge, labels: byStream,
		help: "Number of items that the last complete week should not be below: XmR limit (mean − 2.66 × mean moving range, not below 0) of the weekly velocity in the baseline; with a mean under 4, the exact Poisson limit (0.5 percent). No sample where the mean has none.",
		from: signal(func(s *flow.Signals) flow.Number { return s.VelocityLower }),
	},
	{
		name: "flow_velocity_week_upper_limit_items", kind: gauge, labels: byStream,
		help: "Number of items that the last complete week should not be above: XmR limit (mean + 2.66 × mean moving range) of the weekly velocity in the baseline; with a mean under 4, the exact Poisson limit (0.5 percent). No sample where the mean has none.",
		from: signal(func(s *flow.Signals) flow.Number { return s.VelocityUpper }),
	},
	{
		name: "flow_time_week_p50_seconds", kind: gauge, labels: byStream,
		help: "Flow time that half of the items completed in the last complete calendar week did not exceed, in seconds. No sample below 3 items whose start is known.",
		from: signal(func(s *flow.Signals) flow.Number { return s.TimeWeek }),
	},
	{
		name: "flow_time_week_lower_limit_seconds", kind: gauge, labels: byStream,
		help: "Flow time, in seconds, that the median of the last complete week should not be below: XmR limit of the logarithms of the weekly medians in the baseline, weeks below 3 such items left out. No sample below 6 weeks.",
		from: signal(func(s *flow.Signals) flow.Number { return s.TimeLower }),
	},
	{
		name: "flow_time_week_upper_limit_seconds", kind: gauge, labels: byStream,
		help: "Flow time, in seconds, that the median of the last complete week should not be above: XmR limit of the logarithms of the weekly medians in the baseline, weeks below 3 such items left out. No sample below 6 weeks.",
		from: signal(func(s *flow.Signals) flow.Number { return s.TimeUpper }),
	},
	{
		name: "flow_reopened_items", kind: gauge, labels: byStream,
		help: "Reopenings of done or cancelled items in the last 7 days. Events, not items. Always there.",
		from: eachStream(func(m *flow.Measures, out *samples) { out.count(m.Signals.Reopened) }),
	},
	{
		name: "flow_reopened_limit_items", kind: gauge, labels: byStream,
		help: "Number of reopenings that the last 7 days should not be above: the 99 percent Poisson quantile of (reopenings + 0.5) / completions in the 77 days before × completions in the 7 days. No sample below 10 completions in the 77 days.",
		from: signal(func(s *flow.Signals) flow.Number { return s.ReopenedLimit }),
	},
}

// signal takes a signal where it is defined.
func signal(value func(*flow.Signals) flow.Number) func(*flow.Snapshot, *samples) {
	return eachStream(func(m *flow.Measures, out *samples) {
		n := value(&m.Signals)
		out.optional(n.Value, n.Defined)
	})
}
