package main

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/common"
)

// inWeek says where the points of the panels over 13 weeks are.
const inWeek = ` Each point stands in the middle of its week.`

// quarterly is the dashboard of the quarterly review.
func quarterly() page {
	f := frame{uid: "flow-quarterly", from: "now-15M", window: "90d", description: `For executives, both sides of the partnership: 90 minutes a quarter, after outcomes. ` +
		`In the order of the meeting: the last 13 weeks and five quarters of each metric; what the quarter's capacity bought and what was thrown away; was the service level kept; then agree mix, flow times and load limits anew. ` +
		`A quarter here is the window up to now, and the windows before it 13 weeks apart. Colours compare with the agreed target, grey means too little data. Times are those of the browser.`}
	f.rows = []row{
		panels(8, weekly13("Flow time, 13 weeks", days, `Weekly median flow time with the limits of its baseline (dashed). Outside the limits something was different; inside it is chance. Choose one value stream to see its limits well.`,
			calendarWeek(inDays(fact("flow_time_week_p50_seconds"))), calendarWeek(inDays(fact("flow_time_week_lower_limit_seconds"))), calendarWeek(inDays(fact("flow_time_week_upper_limit_seconds")))).decimals(1),
			quarters("Flow time p85, five quarters", days, `Flow time that 85 % of the items completed in each window did not exceed. Lower is better; compare a value stream with itself.`,
				enough(inDays(fact("flow_time_p85_seconds", all, inWindow)))).decimals(1)),
		panels(8, weekly13("Flow efficiency, 13 weeks", share, `Share of active time in all time spent in flow inside each week, finished or not. No universal target. `+caveat,
			week(fact("flow_efficiency_in_window_ratio", all, `window="7d"`)), "", ""),
			quarters("Flow efficiency, five quarters", share, `Share of active time in the flow time of the items completed in each window. `+caveat, enough(fact("flow_efficiency_ratio", all, inWindow)))),
		panels(8, weekly13("Flow load, 13 weeks", items, `Average items in flow in each week, with the agreed limit (dashed). Averages of separate weeks, for load hangs together from day to day.`,
			week(fact("flow_load_average_items", `window="7d"`)), "", week(fact("flow_load_limit_items"))).decimals(0),
			quarters("Flow load, five quarters", items, `Time-weighted average of the items in flow in each window.`, fact("flow_load_average_items", inWindow)).decimals(0)),
		panels(8, mixWeeks(), mixQuarters()),
		panels(8, weekly13("Flow velocity, 13 weeks", items, `Items completed in each calendar week, with the limits of the baseline (dashed), the 13 weeks before the quarter. A signal in the last quarter is a reason to fix a new baseline and to say why. Never compare value streams by it.`,
			calendarWeek(fact("flow_velocity_week_items")), calendarWeek(fact("flow_velocity_week_lower_limit_items")), calendarWeek(fact("flow_velocity_week_upper_limit_items"))).decimals(0),
			quarters("Flow velocity, five quarters", items, `Items completed in each window. Never compare value streams by it.`, added("flow_velocity_items", inWindow)).decimals(0)),
		panels(8, capacity().wide(8), discarded().wide(8), discardedShare().wide(8)),
		panels(8, attainmentLong(), quarters("Service level attainment, five quarters", share, `Share of the items completed in each window within the agreed flow time. Below what was agreed in several quarters: the flow time agreed is not the one this system has. Agree another, or change the system.`,
			enough(fact("flow_time_target_attainment_ratio", inWindow))).most(1)),
	}
	return f.build()
}

// weekly13 is a point a week over the last 13 weeks, with limits where given.
func weekly13(title, unit, description, expr, lower, upper string) *panel {
	queries := []query{q("{{value_stream}}", expr)}
	for _, l := range []struct{ name, expr string }{{"lower limit", lower}, {"upper limit", upper}} {
		if l.expr != "" {
			name := l.name
			if lower == "" {
				name = "limit"
			}
			queries = append(queries, q("{{value_stream}} "+name, l.expr))
		}
	}
	p := lines(title, unit, description+inWeek, queries...).step("1w").decimals(0)
	if len(queries) > 1 {
		p.like(" limit$", limit("text")...)
	}
	p.TimeFrom = new("13w")
	p.custom.ShowPoints = new(common.VisibilityModeAlways)
	return p
}

// quarters are the names of the last five and how long ago they ended.
var quartersAgo = []struct{ ref, name, ago, colour string }{
	{"q4", "a year before", "52w", "#3d3d5c"}, {"q3", "39 weeks before", "39w", "#5a5a8c"}, {"q2", "26 weeks before", "26w", "#7878b8"}, {"q1", "13 weeks before", "13w", "#9696d8"}, {"q0", "now", "", blue},
}

// quarters are five windows, 13 weeks apart, as a group of bars for each value
// stream.
func quarters(title, unit, description, expr string) *panel {
	columns := []column{{field: "value_stream", title: "Value stream"}}
	var queries []query
	for _, quarter := range quartersAgo {
		columns = append(columns, column{field: value(quarter.ref), title: quarter.name, as: []property{colour(quarter.colour)}})
		queries = append(queries, cells(quarter.ref, before(expr, quarter.ago)))
	}
	return columnChart(title, unit, description+` Oldest first, the last bar is now; each covers the chosen window. Flow time, efficiency and attainment have no bar below 5 items.`, common.StackingModeNone, columns, queries...).decimals(0)
}

// mixWeeks is the share of each type among the completed items of each week.
func mixWeeks() *panel {
	p := lines("Flow distribution, 13 weeks", items, `Items completed in each week by type, over the chosen value streams: the height is the count, so a share of few is seen as such.`+inWeek,
		q("{{item_type}}", fmt.Sprintf("sum by (item_type) (%s)", week(fact("flow_velocity_items by item_type", `window="7d"`))))).
		bars().step("1w").decimals(0).typeColours()
	p.TimeFrom = new("13w")
	return p
}

// typeColours gives item types their colours.
func (p *panel) typeColours() *panel {
	for _, t := range itemTypes {
		p.named(t.name, colour(t.colour))
	}
	return p
}

// mixQuarters is the share of each type in five windows.
func mixQuarters() *panel {
	columns := []column{{field: "quarter", title: "Quarter"}}
	var queries []query
	for _, t := range itemTypes {
		expr := ""
		for i, quarter := range quartersAgo {
			if i > 0 {
				expr += "\nor "
			}
			typed := before(fact("flow_velocity_items", inWindow, fmt.Sprintf(`item_type="%s"`, t.name)), quarter.ago)
			none := before(fact("flow_velocity_items", inWindow, `item_type="feature"`), quarter.ago)
			whole := before(fact("flow_velocity_items by item_type", inWindow), quarter.ago)
			expr += fmt.Sprintf(`label_replace((sum by () (%s) or 0 * sum by () (%s)) / (sum by () (%s) > 0), "quarter", "%d. %s", "", "")`, typed, none, whole, i+1, quarter.name)
		}
		columns = append(columns, column{field: value(t.name), title: t.name, as: []property{colour(t.colour)}})
		queries = append(queries, cells(t.name, expr))
	}
	return columnChart("Flow distribution, five quarters", share,
		`Share of each item type among the items completed in each window, over the chosen value streams. It is slow to turn: a mix that was agreed a quarter ago should be seen by now.`,
		common.StackingModeNormal, columns, queries...).decimals(0).most(1)
}

// capacity is the active time that the completed items took, by type.
func capacity() *panel {
	columns := []column{{field: "value_stream", title: "Value stream"}}
	var queries []query
	for _, t := range itemTypes {
		columns = append(columns, column{field: value(t.name), title: t.name, as: []property{colour(t.colour)}})
		queries = append(queries, cells(t.name, fmt.Sprintf("%s or 0 * %s", inDays(fact("flow_active_seconds", inWindow, fmt.Sprintf(`item_type="%s"`, t.name))), fact("flow_value_stream_info"))))
	}
	return columnChart("Capacity by type", "suffix:item-days",
		`Active item-days of the items completed in the window, by type: the best answer here to what was the capacity spent on. Not person-hours: two people on one item are one item-day, one person on two items is two. `+caveat,
		common.StackingModeNormal, columns, queries...).decimals(0)
}

// discarded is what was thrown away.
func discarded() *panel {
	return lines("Discarded work", "suffix:item-days",
		`Time in flow of the items that were cancelled or deleted out of flow in the window, and their number on the right. Discarding early is cheap and right, discarding late is the cost of having started: ask what was known when it was started.`,
		q("{{value_stream}}", inDays(fact("flow_discarded_seconds", inWindow))), q("{{value_stream}} items", fact("flow_discarded_items", inWindow))).
		decimals(0).like(" items$", property{"custom.axisPlacement", "right"}, unit(items), property{"custom.lineStyle", map[string]any{"fill": "dash", "dash": []int{4, 6}}})
}

// discardedShare is the share of discarded time.
func discardedShare() *panel {
	gone := fact("flow_discarded_seconds", inWindow)
	return trend("Discarded share of the time in flow", share,
		`Time in flow of the discarded items as a share of that of all items that were completed or discarded in the window. Rising: work is started before it is decided.`,
		fmt.Sprintf("%s / on (value_stream) (%s + on (value_stream) %s + on (value_stream) %s > 0)", gone, gone, added("flow_active_seconds", inWindow), added("flow_waiting_seconds", inWindow)))
}

// attainmentLong is the attainment over five quarters.
func attainmentLong() *panel {
	return lines("Service level attainment", share,
		`Share of the items completed in the window within the agreed flow time, with the agreed share (dashed), drawn where there are at least 5 items. Neighbouring points share most of their items.`,
		q("{{value_stream}}", enough(fact("flow_time_target_attainment_ratio", inWindow))),
		q("{{value_stream}} agreed", fact("flow_time_target_percentile")+" / 100")).
		decimals(0).most(1).like(" agreed$", limit(red)...)
}
