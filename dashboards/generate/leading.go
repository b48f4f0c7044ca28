package main

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/common"
)

// leading is the dashboard of the leading indicators: what the alerts see.
func leading() page {
	f := frame{uid: "flow-leading", from: "now-30d", window: "30d", description: `For operators and for those who answer an alert: what fires now, and for each alert its number over time with the threshold, so that it can be seen coming, judged and seen to recover. ` +
		`A panel is named after its alert and leads to its runbook. Red is the threshold of the alert; how long it must last is in the description. No alert of a value stream fires while a source is read for the first time. Times are those of the browser.`}
	f.rows = []row{
		panels(7, firing(12, ""), history()),
		heading("Value streams"),
		panels(8, overLimit(), rising(), predictedOver()),
		panels(8, starving(), overAge(), neglectedWork()),
		panels(8, throughput(), reopens(), violations()),
		heading("Data and service"),
		panels(8, unmapped(), stale().day(), stalled().day()),
		panels(8, rejected().day().wide(12), absent().wide(12)),
	}
	return f.build()
}

// alert makes a panel that of an alert.
func (p *panel) alert(name string) *panel {
	p.Title = &name
	return p.wide(8).link("Runbook of "+name, runbooks+name+".md")
}

// day makes a panel show a day by default: what it shows is a matter of minutes, and
// has no history from before the service was scraped.
func (p *panel) day() *panel {
	p.TimeFrom = new("24h")
	return p
}

// history is the number of firing alerts over time.
func history() *panel {
	return lines("Alerts over time", number,
		`How many alerts were firing, by name. Prometheus knows this only since it evaluates the rules; the panels below show the numbers for the time before as well. None at 0: none fired.`,
		q("{{alertname}}", fmt.Sprintf(`sum by (alertname) (max by (alertname, value_stream, source, reason, invariant) (ALERTS{alertstate="firing", alertname=~"%s"})) or on () label_replace(0 * sum by () (%s), "alertname", "none", "", "")`, alerts, fact("flow_value_stream_info")))).
		stacked().decimals(0)
}

// each is one line for each value stream, and one for what it is compared with.
func each(description, unit, expr, limits string) *panel {
	return lines("", unit, description, q("{{value_stream}}", expr), q("{{value_stream}} threshold", limits)).like(" threshold$", limit(red)...)
}

func overLimit() *panel {
	return lines("", share,
		`Items in flow as a share of the agreed limit. Above 120 % for 72 hours: ticket. Finish before you start. Value streams without a limit are not watched by this alert.`,
		q("{{value_stream}}", ratio(added("flow_load_items"), fact("flow_load_limit_items")))).
		steps(green, step{1.2, red}).decimals(0).alert("FlowLoadOverLimit")
}

func rising() *panel {
	return lines("", share,
		`Items in flow as a share of the usual load (median of the weekly averages of eight weeks), and on the right whether entries and exits of 14 days are uneven beyond chance: 1 more in, -1 more out. Above 125 % and 1 at once for 24 hours: ticket. Neither alone is one: load swings, and few crossings are uneven by chance.`,
		q("{{value_stream}}", ratio(added("flow_load_items"), fact("flow_load_baseline_items"))),
		q("{{value_stream}} net flow", fmt.Sprintf("sgn(%s) * (%s < bool 0.05) or 0 * %s", fact("flow_net_flow_items"), fact("flow_net_flow_p_value"), fact("flow_net_flow_items")))).
		steps(green, step{1.25, red}).decimals(0).
		like(" net flow$", property{"custom.axisPlacement", "right"}, unit(number), property{"min", -1}, property{"max", 1}, property{"custom.lineWidth", 1},
			property{"custom.lineInterpolation", "stepAfter"}, property{"custom.fillOpacity", 10}).
		alert("FlowLoadRising")
}

func predictedOver() *panel {
	return lines("", share,
		`The optimistic end of the predicted flow time (load by throughput of 28 days, less its sampling error) as a share of the agreed flow time. Above 100 % for 72 hours: ticket. Even with luck new work will be late: start less, or agree another flow time. Drawn from 10 completions on.`,
		q("{{value_stream}}", ratio(fact("flow_predicted_time_low_seconds"), fact("flow_time_target_seconds")))).
		steps(green, step{1, red}).decimals(0).alert("PredictedFlowTimeOverSLE")
}

func starving() *panel {
	load, before := added("flow_load_items"), fact("flow_load_previous_items")
	return lines("", share,
		`Growth in 14 days of the total age of the work in flow, and, thin, of the load. Age up by more than 20 % while load changes by less than 5 % for 24 hours: review. Old work waits: go through it from the oldest on.`,
		q("{{value_stream}}", ratio(fact("flow_load_total_age_seconds"), fact("flow_load_total_age_previous_seconds"))+" - 1"),
		q("{{value_stream}} load", ratio(load, "("+before+" > 0)")+" - 1")).
		steps(green, step{0.2, red}).decimals(0).like(" load$", property{"custom.lineWidth", 1}, property{"custom.lineStyle", map[string]any{"fill": "dash", "dash": []int{4, 6}}}).
		alert("WorkStarving")
}

func overAge() *panel {
	return each(`Items in flow older than the agreed flow time, and the threshold: twice the number that a stable process would have anyway. Above it, with 3 items or more, for 24 hours: ticket. Decide about each of them: finish, split or drop.`,
		items, fact("flow_load_over_target_items"), fmt.Sprintf("clamp_min(2 * %s, 2.99)", fact("flow_load_over_target_expected_items"))).
		decimals(0).alert("OverAgeShare")
}

func neglectedWork() *panel {
	return each(`Items in flow that nobody has touched in the tracker for longer than agreed, and the threshold: 3 items or a fifth of the load. At it for 48 hours: review. Take them up again, or out of flow.`,
		items, fact("flow_load_neglected_items"), fmt.Sprintf("clamp_min(clamp_max(0.2 * %s, 3), 1)", added("flow_load_items"))).
		decimals(0).alert("NeglectedWIP")
}

func throughput() *panel {
	return each(`Items completed in the last complete week, and the lower limit of the baseline: below it is not chance. Review: find out what was different in that week. Without a limit: fewer than six weeks to learn from.`,
		items, fact("flow_velocity_week_items"), fact("flow_velocity_week_lower_limit_items")).
		decimals(0).alert("ThroughputSignal")
}

func reopens() *panel {
	return each(`How often finished work was reopened in the last 7 days, and the threshold: what the 77 days before let expect in 99 weeks of 100, but at least 2. Above for 24 hours: review. Look at what came back, and why it had been thought done.`,
		items, fact("flow_reopened_items"), fmt.Sprintf("clamp_min(%s, 2)", fact("flow_reopened_limit_items"))).
		decimals(0).alert("ReopenSpike")
}

func violations() *panel {
	return lines("", number,
		`Windows in which load does not equal entries less exits (load) or the area under the load curve does not equal the time in flow (presence). Any: page, at once. It is a bug of the service, not of the work: do not trust the numbers of that value stream.`,
		q("{{value_stream}} {{invariant}}", fact("flow_invariant_violations by invariant"))).
		steps(green, step{1, red}).decimals(0).alert("LittleIdentityBroken")
}

func unmapped() *panel {
	return lines("", items,
		`Items in a status that no rule maps, the most in an hour, by source. Any for 15 minutes: ticket. Their state is that of before, so times and loads may be wrong: add the status to the configuration.`,
		q("{{source}}", `max by (source) (max_over_time(flowmetrics_unmapped_status_items[1h]))`)).
		steps(green, step{1, red}).decimals(0).alert("UnmappedStatus")
}

func stale() *panel {
	return lines("", seconds,
		`Time since the numbers were computed, and since each source was last read to its end; of one that never was, how far it is behind. Over 30 minutes, or two and a half poll intervals where these are longer (the threshold of each source), for 15 minutes: page. A first read that gets on is not stale. All other alerts of value streams are held back meanwhile, for they would speak of old numbers.`,
		q("numbers", `time() - min by () (last_over_time(flowmetrics_processor_snapshot_timestamp_seconds[40m]))`),
		q("{{source}}", `time() - max by (source) (last_over_time(flowmetrics_connector_last_success_timestamp_seconds[40m])) or max by (source) (last_over_time(flowmetrics_connector_lag_seconds[40m]))`),
		q("{{source}} threshold", `clamp_min(2.5 * max by (source) (last_over_time(flowmetrics_connector_poll_interval_seconds[40m])), 1800)`)).
		steps(green, step{1800, red}).decimals(0).named("numbers", colour(blue)).like(" threshold$", limit(red)...).alert("FlowDataStale")
}

func stalled() *panel {
	return lines("", seconds,
		`How old what has been read of each source is: the time since it was last read to its end, and how far the tracker is ahead (thin). Over 15 minutes for 10 minutes: ticket, before it is stale at 30; over two and a half poll intervals where these are longer (the threshold of each source). A first import that gets on is not stalled.`,
		q("{{source}}", `time() - max by (source) (last_over_time(flowmetrics_connector_last_success_timestamp_seconds[20m]))`),
		q("{{source}} behind", `max by (source) (max_over_time(flowmetrics_connector_lag_seconds[5m])) or 0 * max by (source) (flowmetrics_connector_last_success_timestamp_seconds)`),
		q("{{source}} threshold", `clamp_min(2.5 * max by (source) (last_over_time(flowmetrics_connector_poll_interval_seconds[20m])), 900)`)).
		steps(green, step{900, red}).decimals(0).like(" threshold$", limit(red)...).like(" behind$", property{"custom.lineWidth", 1}, property{"custom.lineStyle", map[string]any{"fill": "dash", "dash": []int{4, 6}}}).
		alert("FlowConnectorStalled")
}

func rejected() *panel {
	return lines("", "suffix:changes",
		`Changes and batches of the last hour that could not be used, by reason. Any: ticket. They are missing from the numbers: GET /api/v1/rejected of the service shows them. The counter is recounted from the log at a start, hence the comparison with the highest value of the hour before, or with the first one where there is none.`,
		q("{{reason}}", `max by (reason) (max_over_time(flowmetrics_log_rejected_total[1h])) - max by (reason) (max_over_time(flowmetrics_log_rejected_total[1h] offset 1h)) or max by (reason) (max_over_time(flowmetrics_log_rejected_total[1h]) - min_over_time(flowmetrics_log_rejected_total[1h]))`)).
		bars().steps(green, step{1, red}).decimals(0).alert("FlowChangesRejected")
}

func absent() *panel {
	p := lines("", "suffix:value streams",
		`Value streams that have flow metrics. None for 10 minutes: page. The service is not running, cannot be scraped or has no value stream; then neither dashboards nor alerts say anything.`,
		q("value streams", `count by () (`+added("flow_load_items")+`)`)).
		decimals(0).alert("FlowMetricsAbsent").named("value streams", colour(blue))
	p.FieldConfig.Defaults.Thresholds = thresholds(red, step{1, green})
	p.custom.ThresholdsStyle.Mode = common.GraphThresholdsStyleModeDashed
	return p
}
