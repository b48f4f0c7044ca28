package main

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/common"
)

// caveat is what the word active does not mean.
const caveat = `Active means in a status that is mapped active, not touched by a person: real work time is lower. Compare a value stream with its own past, not with others.`

// weekly is the dashboard of the weekly operating review. All of a value stream is
// below one heading, which is repeated, so that several can be looked at one after
// the other.
func weekly() page {
	f := frame{uid: "flow-weekly", from: "now-90d", window: "30d", description: `For the lead of a value stream and the business counterpart: 30 minutes a week. ` +
		`In the order of the meeting: can the data be trusted; which alerts fire; what is stuck; may anything be started; where does work wait. ` +
		`Choose one value stream; with several, their reviews follow each other. Colours compare with the agreed target, arrows tell a statistical signal, grey means too little data. Times are those of the browser.`}
	f.rows = append([]row{{title: "$value_stream", repeat: "value_stream"}}, headlines()...)
	f.rows = append(f.rows,
		panels(7, firing(12, `, value_stream=~"$value_stream"`), stuck()),
		panels(8, ages(), neglected()),
		panels(8, crossings(), load()),
		panels(8, waits(), queues(), efficiency().wide(8)),
		panels(8, flowTime(), velocity()),
		panels(8, mix(), predicted().wide(8), attainment().wide(8)),
	)
	return f.build()
}

// headlines are the five metrics, and below each what it is to be compared with.
func headlines() []row {
	timed, completed := added("flow_time_items", inWindow), added("flow_velocity_items", inWindow)
	p85 := inDays(fact("flow_time_p85_seconds", all, inWindow))
	efficiency := fact("flow_efficiency_ratio", all, inWindow)
	load := added("flow_load_items")
	now1 := []*panel{
		numbers("Flow time, p85", days,
			`85 % of the items completed in the window took no longer than this from first start to completion. Colour: the last 30 days against the agreed flow time (amber up to 1.25 times). Off target: look at what is stuck and where work waits before adding anything. Items in flow are not in it: see the ages.`,
			now("{{health}}", coloured(p85, "flow_time", timed))).decimals(1).empty("nothing timed"),
		numbers("Flow efficiency", share,
			`Active time divided by active and waiting time of the items completed in the window: ratio of the sums. It has no universal target, hence no colour. Low: most of the time work waits, see where. `+caveat,
			now("{{health}}", plain(efficiency, timed))).decimals(0).empty("nothing timed"),
		numbers("Flow load", items,
			`Items in flow now: started and not finished. Colour: against the agreed limit (red: above 1.2 times for three days); without a limit, predicted flow time against the target. Over the limit: finish before starting.`,
			now("{{health}}", coloured(load, "load", ""))).decimals(0),
		numbers("Distribution, off the mix", share,
			`Half the sum of the differences between the shares of item types among completed items and the agreed mix: 0 is as agreed. Colour: the last 30 days (green up to 10 %, amber up to 20 %, red beyond where it is not chance). Off: rebalance what is started next, see the mix below.`,
			now("{{health}}", coloured(offMix(), "distribution", completed))).decimals(0).empty("no agreed mix"),
		numbers("Flow velocity", items,
			`Items completed in the window. A count, no target and no colour: a target on it would be gamed. Never compare value streams by it. The arrow below says whether the last week differs from what the value stream normally does.`,
			now("{{health}}", plain(completed, completed))).decimals(0),
	}
	then := []*panel{
		numbers("Flow time: before, target, signal, n", days,
			`The window before, the agreed flow time, whether the median of the last complete week is outside the limits of its baseline (an arrow is a signal, no judgement), and the number of items behind the p85: below 5 it is grey.`,
			now("before", before(enough(p85), "$window")), now("target", inDays(fact("flow_time_target_seconds"))), now("signal", timeSignal()), now("n", timed)).decimals(1),
		numbers("Efficiency: before, in window, n", share,
			`The window before; the efficiency of all time spent in flow inside the window by all items, finished or not, which shows stuck work at once; and the number of items behind the completed one. `+caveat,
			now("before", before(enough(efficiency), "$window")), now("in window", fact("flow_efficiency_in_window_ratio", all, inWindow)), now("n", timed)).decimals(0),
		numbers("Load: before, limit, signal", items,
			`Load one window ago, the agreed limit, and whether entries and exits of the last 14 days are so uneven that chance does not explain it (at least 10 crossings, p below 0.05).`,
			now("before", before(load, "$window")), now("limit", fact("flow_load_limit_items")), now("signal", loadSignal())).decimals(0),
		numbers("Distribution: before, tolerance, n", share,
			`The distance from the agreed mix in the window before, the distance up to which it is on target, and the number of completed items: below 10 it is grey.`,
			now("before", before(offMix(), "$window")), now("tolerance", "0.10 + 0 * "+fact("flow_value_stream_info")), now("n", completed)).decimals(0),
		numbers("Velocity: before, week, signal", items,
			`The window before, the last complete calendar week, and whether that week is outside the limits of its baseline (13 weeks before the quarter).`,
			now("before", before(completed, "$window")), now("last week", fact("flow_velocity_week_items")), now("signal", velocitySignal())).decimals(0),
	}
	for i := range now1 {
		now1[i].filled().byHealth().text(common.BigValueTextModeValue)
		then[i].text(common.BigValueTextModeValueAndName)
		if then[i].has("n") {
			then[i].named("n", unit(items), property{"decimals", 0})
		}
		if then[i].has("signal") {
			then[i].named("signal", unit(number), property{"decimals", 0}, signalTexts())
		}
		width := uint32(5)
		if i == 4 {
			width = 4
		}
		now1[i].wide(width)
		then[i].wide(width)
	}
	return []row{panels(4, now1...), panels(4, then...)}
}

// offMix is the distance of the completed items from the agreed mix, in which there
// is nothing unclassified.
func offMix() string {
	ratio, agreed := fact("flow_distribution_ratio by item_type", inWindow), fact("flow_distribution_target_ratio by item_type")
	return fmt.Sprintf("0.5 * sum by (value_stream) (abs((%[1]s - on (value_stream, item_type) %[2]s or %[1]s) and on (value_stream) %[2]s))", ratio, agreed)
}

// stuck are the numbers that the ageing part of the meeting begins with.
func stuck() *panel {
	return numbers("What is stuck", items,
		`The oldest item in flow, the items untouched for longer than agreed (3 or more fire the alert NeglectedWIP), the items older than the agreed flow time, and how many of these a stable process of this kind would have anyway. For each item over the target decide one thing: swarm, split or drop. The items themselves are on the service's own review page.`,
		now("oldest", inDays(fact("flow_load_oldest_age_seconds"))), now("neglected", fact("flow_load_neglected_items")),
		now("over target", fact("flow_load_over_target_items")), now("expected over target", fact("flow_load_over_target_expected_items"))).
		decimals(0).text(common.BigValueTextModeValueAndName).empty("nothing in flow").
		named("oldest", unit(days)).named("expected over target", property{"decimals", 1}).
		named("neglected", property{"color", map[string]any{"mode": "thresholds"}}, property{"thresholds", thresholds(green, step{1, amber}, step{3, red})})
}

// crossings are the entries and exits of each week.
func crossings() *panel {
	entered, exited := week(fact("flow_entered_items by reason", `window="7d"`)), week(fact("flow_exited_items by reason", `window="7d"`))
	return lines("Entries against exits by reason, a week", items,
		`What came into flow (up) and left it (down) in each complete week (Monday to Monday, your time), by reason, and the difference as a line. Above zero for weeks: load grows, start less. Only a signal (see Load) is more than chance. Returns and cancellations are exits too, but no deliveries.`,
		q("in: {{reason}}", entered), q("out: {{reason}}", exited),
		q("net flow", fmt.Sprintf("sum by (value_stream) (%s) - sum by (value_stream) (%s)", entered, exited))).
		bars().step("1w").decimals(0).like("^out: ", property{"custom.transform", "negative-Y"}).named("net flow", line("text")...).
		reasons("in: ", "dark-blue", "moved_in", "observed").reasons("in: ", "light-blue", "reopened", "resumed").reasons("in: ", blue, "started").
		reasons("out: ", purple, "completed").reasons("out: ", yellow, "cancelled", "deleted").reasons("out: ", "light-purple", "moved_out", "returned")
}

// reasons gives entries or exits for these reasons a colour.
func (p *panel) reasons(direction, c string, names ...string) *panel {
	for _, name := range names {
		p.named(direction+name, colour(c))
	}
	return p
}

// load is the load by state.
func load() *panel {
	return lines("Load by state, with limit and average", items,
		`Items in flow, active and waiting, stacked; the agreed limit (dashed) and the time-weighted average of the window. Above 1.2 times the limit for 72 hours the alert FlowLoadOverLimit fires: stop starting. `+caveat,
		q("{{state}}", added("flow_load_items by state")), q("limit", fact("flow_load_limit_items")), q("average", fact("flow_load_average_items", inWindow))).
		stacked().decimals(0).named("limit", limit(red)...).named("average", line("text")...).named("active", colour(blue)).named("waiting", colour(yellow))
}

// flowTime is the trend of flow time.
func flowTime() *panel {
	timed := added("flow_time_items", inWindow)
	at := func(name string, least int) string {
		return fmt.Sprintf("%s and on (value_stream) %s >= %d", inDays(fact("flow_time_"+name+"_seconds", all, inWindow)), timed, least)
	}
	return lines("Flow time, p50, p85 and p95", days,
		`Flow time of the items completed in the window up to each instant, with the agreed flow time (dashed) and the sample size on the right. Nothing is drawn below 5 items, no p95 below 20. Neighbouring points share most of their items: a slope is slow by construction, use the arrow above for signals.`,
		q("p50", at("p50", 5)), q("p85", at("p85", 5)), q("p95", at("p95", 20)), q("target", inDays(fact("flow_time_target_seconds"))), q("n", timed)).
		decimals(1).named("target", limit(red)...).named("n", append(right(grey, items), property{"decimals", 0})...).
		named("p50", colour(blue)).named("p85", colour(purple)).named("p95", colour(yellow))
}

// velocity is the count of completed items of each week by type.
func velocity() *panel {
	return lines("Velocity by type, a week", items,
		`Items completed in each complete week (Monday to Monday, your time), by type, with the mean and the limits of the baseline (13 weeks before the quarter) for a whole week. A week outside the limits is a signal: ask what was different. Inside, it is chance: do not explain it.`,
		q("{{item_type}}", week(fact("flow_velocity_items by item_type", `window="7d"`))),
		q("upper limit", calendarWeek(fact("flow_velocity_week_upper_limit_items"))), q("mean", calendarWeek(fact("flow_velocity_week_mean_items"))),
		q("lower limit", calendarWeek(fact("flow_velocity_week_lower_limit_items")))).
		bars().step("1w").decimals(0).typeColours().named("upper limit", limit("text")...).named("lower limit", limit("text")...).named("mean", line("text")...)
}

// waits is the time per status.
func waits() *panel {
	return gauges("Where it waits: time per status", days,
		`Time that the items completed in the window spent in each status over their whole life, added up, largest first; waiting statuses are yellow, active ones blue. The longest waiting status is the place for one counter-measure. Items not finished are not in it: see the queues. `+caveat,
		now("{{status}} ({{state}})", fmt.Sprintf("sort_desc(sum by (status, state) (%s))", inDays(fact("flow_status_seconds by status, state", inWindow))))).
		wide(8).decimals(0).like(`\(waiting\)$`, colour(yellow)).like(`\(active\)$`, colour(blue)).empty("nothing timed")
}

// queues is the length of each queue.
func queues() *panel {
	return gauges("Queue length by status", items,
		`Items now in each status of flow, longest first; waiting statuses are yellow, active ones blue. A waiting queue that is long and also holds much time is the constraint: help there, start nothing before it.`,
		now("{{status}} ({{state}})", fmt.Sprintf("sort_desc(sum by (status, state) (%s))", fact("flow_status_load_items by status, state")))).
		wide(8).decimals(0).like(`\(waiting\)$`, colour(yellow)).like(`\(active\)$`, colour(blue)).empty("nothing in flow")
}

// efficiency is the trend of both efficiencies.
func efficiency() *panel {
	return lines("Efficiency, completed and in the window", share,
		`Share of active time: of the items completed in the window over their whole life, and of all items inside the window, finished or not. The second falls at once when work gets stuck, the first only when it is finished. There is no universal target. The first is not drawn below 5 items. `+caveat,
		q("completed", enough(fact("flow_efficiency_ratio", all, inWindow))), q("in the window", fact("flow_efficiency_in_window_ratio", all, inWindow))).
		named("completed", colour(blue)).named("in the window", colour(purple)).decimals(0)
}

// mix compares the distribution with the agreed mix.
func mix() *panel {
	inFlow := fact("flow_load_items by item_type, state")
	return columnChart("Distribution against the agreed mix", share,
		`Share of each item type among the items completed in the window, as agreed, and among the items in flow now. Completed off the mix but in flow on it: it is being corrected. Shares of fewer than 10 items say little.`,
		common.StackingModeNone,
		[]column{
			{field: "item_type", title: "Item type"},
			{field: value("completed"), title: "completed", as: []property{colour(blue)}},
			{field: value("agreed"), title: "agreed", as: []property{colour(grey)}},
			{field: value("in_flow"), title: "in flow", as: []property{colour(purple)}},
		},
		cells("completed", fmt.Sprintf("max by (item_type) (%s)", fact("flow_distribution_ratio by item_type", inWindow))),
		cells("agreed", fmt.Sprintf("max by (item_type) (%s)", fact("flow_distribution_target_ratio by item_type"))),
		cells("in_flow", fmt.Sprintf("sum by (item_type) (%s) / on () group_left () (sum by () (%s) > 0)", inFlow, inFlow)),
	).wide(8).decimals(0)
}

// predicted is the flow time to expect.
func predicted() *panel {
	return lines("Predicted flow time", days,
		`Load divided by the throughput of the last 28 days: what new work has to expect. It moves with load at once, flow time only on completion. When even its optimistic end (by the sample size) is over the target for 72 hours, the alert PredictedFlowTimeOverSLE fires: start less or agree another target.`,
		q("predicted", inDays(fact("flow_predicted_time_seconds"))), q("optimistic end", inDays(fact("flow_predicted_time_low_seconds"))), q("target", inDays(fact("flow_time_target_seconds")))).
		decimals(1).named("target", limit(red)...).named("predicted", colour(purple)).named("optimistic end", colour(blue))
}

// attainment is the share of items within the service level.
func attainment() *panel {
	return lines("Service level attainment", share,
		`Share of the items completed in the window within the agreed flow time, with the agreed share (dashed) and the sample size on the right. Not drawn below 5 items. Below the line by little and with few items it can be chance: the scorecard is red only where it is not.`,
		q("attained", enough(fact("flow_time_target_attainment_ratio", inWindow))), q("agreed", fact("flow_time_target_percentile")+" / 100"), q("n", added("flow_time_items", inWindow))).
		decimals(0).named("agreed", limit(red)...).named("n", append(right(grey, items), property{"decimals", 0})...).named("attained", colour(blue))
}

// ages is the trend of the ages of the work in flow.
func ages() *panel {
	return lines("Age of the work in flow", days,
		`Age of the items in flow: half, 85 % and all of them are no older than the lines, with the agreed flow time (dashed). Ages rise before flow time does. The oldest rising by a day each day is an item that nobody moves.`,
		q("p50", inDays(fact("flow_load_age_p50_seconds"))), q("p85", inDays(fact("flow_load_age_p85_seconds"))), q("oldest", inDays(fact("flow_load_oldest_age_seconds"))), q("target", inDays(fact("flow_time_target_seconds")))).
		decimals(1).named("target", limit(red)...).named("p50", colour(blue)).named("p85", colour(purple)).named("oldest", colour(yellow))
}

// neglected is the trend of over-age and neglected items.
func neglected() *panel {
	return lines("Over target and neglected", items,
		`Items in flow older than the agreed flow time, with the number that a stable process would have anyway (dashed), and items that nobody has touched for longer than agreed. Over target above twice the expected and 3 or more fires OverAgeShare; 3 neglected, or a fifth of the load, fires NeglectedWIP.`,
		q("over target", fact("flow_load_over_target_items")), q("expected over target", fact("flow_load_over_target_expected_items")), q("neglected", fact("flow_load_neglected_items"))).
		decimals(0).named("expected over target", limit(red)...).named("over target", colour(purple)).named("neglected", colour(yellow))
}
