package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
)

// Matchers of the variables.
const (
	inWindow = `window="$window"`
	all      = `item_type="all"`
)

// fact is a fact about each chosen value stream, by further labels where given:
// "metric by label,label". Replicas and a handover can show a fact twice, hence
// the maximum.
func fact(metric string, matchers ...string) string {
	metric, labels, _ := strings.Cut(metric, " by ")
	by := "value_stream"
	if labels != "" {
		by += ", " + labels
	}
	return fmt.Sprintf("max by (%s) (%s{%s})", by, metric, strings.Join(append([]string{`value_stream=~"$value_stream"`}, matchers...), ", "))
}

// added is the sum over item types of what can be added, by further labels where
// given. Load has a state besides, which the maximum must not take for a replica.
func added(metric string, matchers ...string) string {
	metric, labels, _ := strings.Cut(metric, " by ")
	by, parts := "value_stream", "item_type"
	if labels != "" {
		by += ", " + labels
	}
	if metric == "flow_load_items" {
		parts += ", state"
	}
	return fmt.Sprintf("sum by (%s) (%s)", by, fact(metric+" by "+parts, matchers...))
}

// before is the expression at a time before. Each selector of this program ends
// with a brace, and no variable is written with one. No time ago is now, for PromQL
// has no offset of 0.
func before(expr, ago string) string {
	if ago == "" {
		return expr
	}
	return strings.ReplaceAll(expr, "}", "} offset "+ago)
}

// Panels with a point a week. Grafana aligns points a week apart to Thursdays 00:00 in
// the time zone of the reader, for the year 1970 began on one. Each point is about the
// week around it, so it looks ahead: it is in the middle of its week, a week is there
// as soon as it is over, and the one under way is not.

// week is the expression at the end of the week around a point, for what counts in
// the seven days before any instant.
func week(expr string) string { return before(expr, "-4d") }

// calendarWeek is the expression after the end of the week around a point, for what is
// about the last complete week in the time zone of the value stream. It takes the last
// number of the Monday that follows: at its very beginning the week may not be over
// where the value stream is.
func calendarWeek(expr string) string {
	return selectors.ReplaceAllString(expr, "last_over_time($0[1d] offset -5d)")
}

// selectors are the selectors that this program writes.
var selectors = regexp.MustCompile(`\w+\{[^}]*\}`)

// inDays turns seconds into days.
func inDays(expr string) string { return expr + " / 86400" }

// q is a query over time whose series are named by the legend.
func q(legend, expr string) query {
	return query{
		Datasource: source(), Expr: expr, LegendFormat: &legend, EditorMode: new(prometheus.QueryEditorModeCode),
		Range: new(true), Instant: new(false), Format: new(prometheus.PromQueryFormatTimeSeries),
	}
}

// now is a query for the end of the time range alone.
func now(legend, expr string) query {
	at := q(legend, expr)
	at.Range, at.Instant = new(false), new(true)
	return at
}

// cells is a query for the end of the time range whose labels and value are
// fields of a row.
func cells(ref, expr string) query {
	row := now("", expr)
	row.RefId, row.Format = &ref, new(prometheus.PromQueryFormatTable)
	return row
}

// The names of the states of health, as the values of the label health.
const (
	onTarget  = "on target"
	offTarget = "off target"
	farOff    = "far off target"
	tooFew    = "too little data"
	noTarget  = "no target"
)

// health is the state of a measure: 0 too little data or no target, 1 on target, 2
// off, 3 far off.
func health(measure string) string { return fact("flow_health_status", `measure="`+measure+`"`) }

// coloured is the expression with its health as label, and too little data where
// the sample is under 5. A stat has no colour from another series, but it has one
// by name.
func coloured(expr, measure, sample string) string {
	status := health(measure)
	if sample != "" {
		status = fmt.Sprintf("%s * on (value_stream) (%s >= bool 5)", status, sample)
	}
	var parts []string
	for value, name := range []string{tooFew, onTarget, offTarget, farOff} {
		parts = append(parts, fmt.Sprintf(`label_replace(%s and on (value_stream) (%s) == %d, "health", "%s", "", "")`, expr, status, value, name))
	}
	return strings.Join(parts, "\nor ")
}

// enough is the expression where at least 5 items are behind it.
func enough(expr string) string {
	return fmt.Sprintf("%s and on (value_stream) %s >= 5", expr, added("flow_time_items", inWindow))
}

// plain is the expression of a measure without a target, with too little data as
// label where the sample is under 5.
func plain(expr, sample string) string {
	return fmt.Sprintf(`label_replace(%[1]s and on (value_stream) %[2]s >= 5, "health", "%[3]s", "", "")
or label_replace(%[1]s and on (value_stream) %[2]s < 5, "health", "%[4]s", "", "")`, expr, sample, noTarget, tooFew)
}

// byHealth gives the series that coloured and plain name their colours.
func (p *panel) byHealth() *panel {
	for _, s := range []struct{ name, colour string }{{onTarget, green}, {offTarget, amber}, {farOff, red}, {tooFew, grey}, {noTarget, blue}} {
		p.named(s.name, colour(s.colour))
	}
	return p
}

// healthTexts are the texts of health as a number.
func healthTexts() property {
	return mapped(map[string]dashboard.ValueMappingResult{
		"0": shown("no data", grey, 0), "1": shown("on", green, 1), "2": shown("off", amber, 2), "3": shown("far off", red, 3),
	})
}

// Signals: 1 above, -1 below what chance explains, 0 neither, 2 too little data.

// velocitySignal compares the last complete week with the limits of its baseline.
func velocitySignal() string {
	week := fact("flow_velocity_week_items")
	return orUnknown(fmt.Sprintf("(%s > bool %s) - (%s < bool %s)", week, fact("flow_velocity_week_upper_limit_items"), week, fact("flow_velocity_week_lower_limit_items")))
}

// loadSignal says whether entries and exits of 14 days are uneven beyond chance.
func loadSignal() string {
	return orUnknown(fmt.Sprintf("sgn(%s) * (%s < bool 0.05)", fact("flow_net_flow_items"), fact("flow_net_flow_p_value")))
}

// timeSignal compares the median of the last complete week with the limits of its
// baseline.
func timeSignal() string {
	week := fact("flow_time_week_p50_seconds")
	return orUnknown(fmt.Sprintf("(%s > bool %s) - (%s < bool %s)", week, fact("flow_time_week_upper_limit_seconds"), week, fact("flow_time_week_lower_limit_seconds")))
}

// orUnknown is 2 for the value streams without a signal.
func orUnknown(expr string) string {
	return expr + " or 2 + 0 * " + fact("flow_value_stream_info")
}

// signalTexts are the arrows. They have no colour of health: an arrow says that
// something has changed, not that it is good or bad.
func signalTexts() property {
	return mapped(map[string]dashboard.ValueMappingResult{
		"-1": shown("▼ lower", purple, 0), "0": shown("– steady", "text", 1), "1": shown("▲ higher", purple, 2), "2": shown("? too few", grey, 3),
	})
}

// arrows are the arrows alone, for a narrow column.
func arrows() property {
	return mapped(map[string]dashboard.ValueMappingResult{
		"-1": shown("▼", purple, 0), "0": shown("–", "text", 1), "1": shown("▲", purple, 2), "2": shown("?", grey, 3),
	})
}
