package main

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
)

// toWeekly is the link from a value stream to its weekly review.
const toWeekly = "/d/flow-weekly?var-value_stream=${__value.raw}&${datasource:queryparam}&${window:queryparam}&${__url_time_range}"

// itemTypes are the types, unclassified last.
var itemTypes = []struct{ name, colour string }{{"feature", blue}, {"defect", purple}, {"risk", yellow}, {"debt", cyan}, {"unclassified", grey}}

// monthly is the dashboard of the monthly portfolio review.
func monthly() page {
	f := frame{uid: "flow-monthly", from: "now-6M", window: "30d", description: `For those who lead several value streams: 60 minutes a month. ` +
		`In the order of the meeting: the scorecard, then only the value streams with a signal (arrow) or off target (colour); is the mix as agreed, rebalance; bottlenecks that several share. ` +
		`Never compare value streams by velocity or efficiency: each has its own statuses. Colours compare with the agreed target, arrows tell a statistical signal, grey means too little data. Times are those of the browser.`}
	f.rows = []row{
		panels(9, scorecard()),
		panels(8, ofLimit().wide(8), ofTarget().wide(8), within().wide(8)),
		panels(8, mixBars("Distribution of completed work", "completed", "flow_distribution_ratio by item_type", inWindow),
			mixBars("Agreed mix", "agreed", "flow_distribution_target_ratio by item_type"), offMixes()),
		panels(8, trend("Load against limit over time", share, `Load as a share of the agreed limit, a line for each value stream that has one; the lines mark the limit and 1.2 times the limit (alert FlowLoadOverLimit after 72 hours). Rising for weeks: starting is not tied to finishing.`,
			ratio(added("flow_load_items"), fact("flow_load_limit_items"))).steps(green, step{1, amber}, step{1.2, red}),
			trend("Predicted flow time against target over time", share, `Predicted flow time as a share of the agreed one; the lines mark the target and 1.25 times the target. It leads flow time by weeks: act on this one.`,
				ratio(fact("flow_predicted_time_seconds"), fact("flow_time_target_seconds"))).steps(green, step{1, amber}, step{1.25, red})),
		panels(8, bottlenecks(), trend("Flow time p85 over time", days, `Flow time that 85 % of the items completed in the window did not exceed, drawn where there are at least 5. Compare a line with its own past, and with the target in the scorecard.`,
			enough(inDays(fact("flow_time_p85_seconds", all, inWindow)))).decimals(1)),
		panels(8, worst(), stuckNow()),
	}
	return f.build()
}

// trend is one line for each value stream.
func trend(title, unit, description, expr string) *panel {
	return lines(title, unit, description, q("{{value_stream}}", expr)).decimals(0)
}

func ratio(a, b string) string { return fmt.Sprintf("%s / on (value_stream) %s", a, b) }

// scorecard is the table with one row for each value stream.
func scorecard() *panel {
	solid := property{"custom.displayMode", "color-background-solid"}
	p85, efficiency := enough(inDays(fact("flow_time_p85_seconds", all, inWindow))), enough(fact("flow_efficiency_ratio", all, inWindow))
	load, velocity := added("flow_load_items"), added("flow_velocity_items", inWindow)
	var columns []column
	var queries []query
	add := func(ref, title, unit string, width int, expr string, as ...property) {
		columns = append(columns, column{value(ref), title, unit, width, as})
		queries = append(queries, cells(ref, expr))
	}
	columns = append(columns, column{field: "value_stream", title: "Value stream", width: 104, as: []property{
		{"links", []map[string]any{{"title": "Weekly review", "url": toWeekly}}},
	}})
	// All of it is to be seen without scrolling on a screen of 1440 pixels, hence the
	// short titles.
	decimal := property{"decimals", 1}
	add("time", "Time p85", days, 72, p85, decimal)
	add("time_before", "Time was", days, 70, before(p85, "$window"), decimal)
	add("time_target", "Target", days, 58, inDays(fact("flow_time_target_seconds")), decimal)
	add("time_health", "Time ok?", number, 68, health("flow_time"), solid, healthTexts())
	add("time_signal", "Time ▲▼", number, 66, timeSignal(), arrows())
	add("timed", "Time n", number, 55, added("flow_time_items", inWindow))
	add("efficiency", "Efficiency", share, 74, efficiency)
	add("efficiency_before", "Eff. was", share, 64, before(efficiency, "$window"))
	add("load", "Load", number, 48, load)
	add("load_before", "Load was", number, 70, before(load, "$window"))
	add("load_limit", "Limit", number, 48, fact("flow_load_limit_items"))
	add("load_health", "Load ok?", number, 68, health("load"), solid, healthTexts())
	add("load_signal", "Load ▲▼", number, 66, loadSignal(), arrows())
	add("mix", "Off mix", share, 62, offMix())
	add("mix_before", "Mix was", share, 64, before(offMix(), "$window"))
	add("mix_target", "Within", share, 56, "0.10 + 0 * "+fact("flow_value_stream_info"))
	add("mix_health", "Mix ok?", number, 66, health("distribution"), solid, healthTexts())
	add("velocity", "Velocity", number, 66, velocity)
	add("velocity_before", "Vel. was", number, 64, before(velocity, "$window"))
	add("velocity_signal", "Vel. ▲▼", number, 64, velocitySignal(), arrows())
	p := tabular("Scorecard", number,
		`One row a value stream: the five metrics in the window, in the window before ("was"), and what is agreed (target, limit, within). "ok?" is the colour: the last 30 days against what is agreed; "no data" is too little of it, or nothing agreed. ▲▼ is the signal: the last complete week, or 14 days of entries and exits, is higher or lower than chance explains, "–" it is not, "?" too little data. Time n counts the items behind time and efficiency, velocity those behind the mix; below 5 a time or an efficiency is empty, and mix and velocity are not to be read. Efficiency and velocity have no target. The name leads to the weekly review. Talk only about rows with a colour or an arrow. `+caveat,
		columns, queries...)
	return p.wide(24).decimals(0)
}

// ofLimit compares load with limit.
func ofLimit() *panel {
	return gauges("Load against limit", share,
		`Items in flow as a share of the agreed limit: amber above it, red above 1.2 times, where the alert FlowLoadOverLimit fires after 72 hours. Over the limit: finish before starting. Value streams without a limit are not in it; look at their predicted flow time.`,
		now("{{value_stream}}", fmt.Sprintf("sort_desc(%s)", ratio(added("flow_load_items"), fact("flow_load_limit_items"))))).
		steps(green, step{1.0001, amber}, step{1.2001, red}).decimals(0).empty("no limit agreed")
}

// ofTarget compares the predicted flow time with the target.
func ofTarget() *panel {
	return gauges("Predicted flow time against target", share,
		`Load divided by the throughput of the last 28 days, as a share of the agreed flow time: what new work has to expect. Amber above 1, red above 1.25. With few completions it is rough: its relative error is one over the square root of their number.`,
		now("{{value_stream}}", fmt.Sprintf("sort_desc(%s)", ratio(fact("flow_predicted_time_seconds"), fact("flow_time_target_seconds"))))).
		steps(green, step{1.0001, amber}, step{1.2501, red}).decimals(0).empty("no target agreed")
}

// within compares attainment with the agreed share.
func within() *panel {
	timed := added("flow_time_items", inWindow)
	return gauges("Service level attainment", share,
		`Share of the items completed in the window within the agreed flow time. Colour: the last 30 days against the agreed share (red only where it is more than chance, grey below 5 items).`,
		now("{{value_stream}}: {{health}}", coloured(fact("flow_time_target_attainment_ratio", inWindow), "attainment", timed))).
		like(": "+onTarget+"$", colour(green)).like(": "+offTarget+"$", colour(amber)).like(": "+farOff+"$", colour(red)).like(": "+tooFew+"$", colour(grey)).
		decimals(0).empty("no target agreed").most(1)
}

// mixBars is the share of each type, a bar for each value stream.
func mixBars(title, word, metric string, matchers ...string) *panel {
	columns := []column{{field: "value_stream", title: "Value stream"}}
	var queries []query
	for _, t := range itemTypes {
		expr := fact(metric, append(matchers, fmt.Sprintf(`item_type="%s"`, t.name))...)
		columns = append(columns, column{field: value(t.name), title: t.name, as: []property{colour(t.colour)}})
		// Unclassified is there only where there is such an item, and in no agreed mix.
		queries = append(queries, cells(t.name, fmt.Sprintf("sum by (value_stream) (%s) or 0 * %s", expr, fact("flow_value_stream_info"))))
	}
	p := columnChart(title, share,
		`Share of each item type, `+word+`: what the capacity went to beside what it was to go to. More unplanned defects than agreed are paid for by features: decide which, and change what is started next or the mix itself. Below 10 completed items shares say little.`,
		common.StackingModeNormal, columns, queries...)
	return p.wide(8).decimals(0).most(1)
}

// offMixes is the distance from the agreed mix.
func offMixes() *panel {
	return gauges("Distance from the agreed mix", share,
		`Half the sum of the differences between shares completed in the window and agreed: 0 is as agreed. Colour: the last 30 days (green up to 10 %, amber up to 20 %, red beyond where it is not chance, grey below 10 items or without an agreed mix).`,
		now("{{value_stream}}: {{health}}", coloured(offMix(), "distribution", added("flow_velocity_items", inWindow)))).
		like(": "+onTarget+"$", colour(green)).like(": "+offTarget+"$", colour(amber)).like(": "+farOff+"$", colour(red)).like(": "+tooFew+"$", colour(grey)).
		wide(8).decimals(0).empty("no agreed mix").most(1)
}

// bottlenecks are the waiting statuses of all chosen value streams.
func bottlenecks() *panel {
	return gauges("Shared bottlenecks: waiting time by status", days,
		`Waiting time of the items completed in the window in statuses of the same name, added up over the chosen value streams, longest first. A status in which several value streams wait is a dependency that they share: treat it once, not in each. Items not finished are not in it.`,
		now("{{status}}", fmt.Sprintf("topk by () (12, sum by (status) (%s))", inDays(fact("flow_status_seconds by status, state", inWindow, `state="waiting"`))))).
		decimals(0).empty("nothing timed")
}

// worst is the worst health of each value stream over time.
func worst() *panel {
	p := newPanel("state-timeline", "Worst health over time", number,
		`The worst of the measures with a target (attainment, flow time, load, distribution, predictability, over-age) of each value stream. A long stretch off target without a decision is what this meeting is for. Grey: no target or too little data for any of them.`,
		[]query{q("{{value_stream}}", fmt.Sprintf("max by (value_stream) (%s)", fact("flow_health_status by measure")))})
	p.FieldConfig.Defaults.Custom = statetimeline.FieldConfig{LineWidth: new(uint32(0)), FillOpacity: new(uint32(70))}
	p.FieldConfig.Defaults.Mappings = healthTexts().value.([]dashboard.ValueMapping)
	p.Options = statetimeline.Options{
		ShowValue: common.VisibilityModeAuto, RowHeight: 0.8, MergeValues: new(true), AlignValue: new(common.TimelineValueAlignmentLeft), Legend: legend(), Tooltip: tooltip(),
	}
	return p.step("6h")
}

// stuckNow is what is over target and neglected in each value stream.
func stuckNow() *panel {
	return columnChart("Over target, expected and neglected", items,
		`Items in flow older than the agreed flow time, the number that a stable process would have anyway, and items untouched for longer than agreed. Twice the expected and 3 or more fires OverAgeShare; 3 neglected, or a fifth of the load, fires NeglectedWIP.`,
		common.StackingModeNone,
		[]column{
			{field: "value_stream", title: "Value stream"},
			{field: value("over"), title: "over target", as: []property{colour(purple)}},
			{field: value("expected"), title: "expected over target", as: []property{colour(grey)}},
			{field: value("neglected"), title: "neglected", as: []property{colour(yellow)}},
		},
		cells("over", fact("flow_load_over_target_items")),
		cells("expected", fact("flow_load_over_target_expected_items")),
		cells("neglected", fact("flow_load_neglected_items")),
	).decimals(1)
}
