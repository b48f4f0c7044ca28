package dashboards

import "strings"

// A wreck is a dashboard with one defect.
type wreck struct {
	name, uid, rule string
	mutate          func(map[string]any)
	more            bool // other rules find it too
}

// panelOf is a panel of a dashboard by its title.
func panelOf(d map[string]any, title string) map[string]any {
	for _, p := range d["panels"].([]any) {
		if p := p.(map[string]any); p["title"] == title {
			return p
		}
	}
	panic("no panel " + title)
}

// at is an object below others, by keys and indices.
func at(v any, path ...any) map[string]any {
	for _, step := range path {
		switch s := step.(type) {
		case string:
			v = v.(map[string]any)[s]
		case int:
			v = v.([]any)[s]
		}
	}
	return v.(map[string]any)
}

// set puts a value into an object, or deletes it where the value is nil.
func set(key string, to any, where func(map[string]any) map[string]any) func(map[string]any) {
	return func(d map[string]any) {
		if o := where(d); to == nil {
			delete(o, key)
		} else {
			o[key] = to
		}
	}
}

func itself(d map[string]any) map[string]any { return d }

// in is the place of a panel, and of what is below it.
func in(title string, path ...any) func(map[string]any) map[string]any {
	return func(d map[string]any) map[string]any { return at(panelOf(d, title), path...) }
}

// rewrite replaces a text in all expressions of a panel.
func rewrite(title, old, new string) func(map[string]any) {
	return func(d map[string]any) {
		for _, t := range panelOf(d, title)["targets"].([]any) {
			t := t.(map[string]any)
			if expr := t["expr"].(string); strings.Contains(expr, old) {
				t["expr"] = strings.ReplaceAll(expr, old, new)
				return
			}
		}
		panic(title + " has no " + old)
	}
}

func variableAt(i int) func(map[string]any) map[string]any {
	return func(d map[string]any) map[string]any { return at(d, "templating", "list", i) }
}

const (
	age    = "Age of the work in flow"
	trends = "Flow time, p50, p85 and p95"
)

// broken has at least one wreck for each rule.
var broken = []wreck{
	{"uid of another", "flow-weekly", "identity", set("uid", strings.Repeat("x", 41), itself), true},
	{"editable", "flow-weekly", "identity", set("editable", true, itself), false},
	{"no audience", "flow-weekly", "identity", set("description", "Flow metrics. Times are those of the browser.", itself), false},
	{"newer schema", "flow-weekly", "identity", set("schemaVersion", 42, itself), false},
	{"short range", "flow-weekly", "identity", set("time", map[string]any{"from": "now-6h", "to": "now"}, itself), false},
	{"no refresh", "flow-weekly", "identity", set("refresh", nil, itself), false},
	{"data source of a user", "flow-weekly", "variables", set("type", "constant", variableAt(0)), false},
	{"one value stream", "flow-monthly", "variables", set("multi", false, variableAt(1)), false},
	{"values of once", "flow-monthly", "variables", set("refresh", 1, variableAt(1)), false},
	{"no window", "flow-monthly", "variables", set("name", "period", variableAt(2)), false},
	{"hard-coded data source", "flow-weekly", "data source", set("datasource", map[string]any{"type": "prometheus", "uid": "abc"}, in(age)), false},
	{"hard-coded data source of a query", "flow-weekly", "data source", set("uid", "abc", in(age, "targets", 0, "datasource")), false},
	{"no title", "flow-weekly", "title and description", set("title", "", in(age)), false},
	{"no description", "flow-weekly", "title and description", set("description", nil, in(age)), false},
	{"no unit", "flow-weekly", "unit and thresholds", set("unit", nil, in(age, "fieldConfig", "defaults")), false},
	{"no thresholds", "flow-weekly", "unit and thresholds", set("thresholds", nil, in(age, "fieldConfig", "defaults")), false},
	{"legend of the library", "flow-weekly", "legend and tooltip", set("showLegend", false, in(age, "options", "legend")), false},
	{"id twice", "flow-weekly", "ids", set("id", 1, in(age)), false},
	{"no refId", "flow-weekly", "ids", set("refId", nil, in(age, "targets", 0)), false},
	{"overlap", "flow-weekly", "grid", set("y", 0, in(age, "gridPos")), false},
	{"hole", "flow-weekly", "grid", set("w", 6, in(age, "gridPos")), false},
	{"no strip", "flow-weekly", "grid", set("title", "Trust", in("Coverage")), false},
	{"link to nowhere", "flow-weekly", "links", set("url", "/d/flow-yearly", func(d map[string]any) map[string]any { return at(d, "links", 0) }), false},
	{"link forgets the time", "flow-weekly", "links", set("keepTime", false, func(d map[string]any) map[string]any { return at(d, "links", 0) }), false},
	{"no such runbook", "flow-leading", "links", set("url", runbooks+"Nothing.md", in("OverAgeShare", "links", 0)), true},
	{"no panel of an alert", "flow-leading", "alerts", set("title", "Old work", in("OverAgeShare")), false},
	{"runbook of another", "flow-leading", "alerts", set("url", runbooks+"NeglectedWIP.md", in("OverAgeShare", "links", 0)), false},
	{"alert left out of the table", "flow-weekly", "alerts", rewrite("Alerts", "|NeglectedWIP", ""), false},
	{"panel of later releases", "flow-weekly", "schema of 9.3", set("type", "xychart", in("Where it waits: time per status")), false},
	{"option of later releases", "flow-monthly", "schema of 9.3", set("cellHeight", "sm", in("Scorecard", "options")), false},
	{"setting of later releases", "flow-weekly", "schema of 9.3", set("insertNulls", 1, in(age, "fieldConfig", "defaults", "custom")), false},
	{"transformation of later releases", "flow-monthly", "schema of 9.3", set("id", "regression", in("Scorecard", "transformations", 0)), false},
	{"table of series", "flow-monthly", "schema of 9.3", set("format", "time_series", in("Scorecard", "targets", 0)), true},
	{"settings for nothing", "flow-weekly", "names of fields", set("legendFormat", "goal", in(age, "targets", 3)), false},
	{"legend without its label", "flow-service", "names of fields", set("legendFormat", "{{value_stream}}", in("First read of the history", "targets", 0)), false},
	{"column without its query", "flow-monthly", "names of fields", set("refId", "flow_time", in("Scorecard", "targets", 0)), false},
	{"not PromQL", "flow-weekly", "expressions", rewrite(trends, "and on", "and and on"), true},
	{"renamed metric", "flow-weekly", "expressions", rewrite(trends, "flow_time_p85_seconds", "flow_time_p84_seconds"), false},
	{"renamed label", "flow-weekly", "expressions", rewrite(trends, `window="`, `period="`), false},
	{"label of another", "flow-weekly", "expressions", rewrite(age, "by (value_stream)", "by (value_stream, item_type)"), false},
	{"unheard of value", "flow-weekly", "expressions", rewrite("Flow load", `measure="load"`, `measure="wip"`), false},
	{"fixed value stream", "flow-weekly", "expressions", rewrite(age, `=~"$value_stream"`, `="payments"`), false},
	{"all value streams", "flow-weekly", "expressions", rewrite(age, `{value_stream=~"$value_stream"}`, ``), false},
	{"fixed window", "flow-weekly", "expressions", rewrite(trends, `"$window"`, `"90d"`), false},
	{"types added", "flow-weekly", "expressions", rewrite(trends, `item_type="all", `, ``), false},
	{"roll-up of counts", "flow-weekly", "expressions", rewrite("Flow velocity", `{value_stream`, `{item_type="all", value_stream`), false},
	{"no aggregation", "flow-weekly", "expressions", rewrite(age, "max by (value_stream) ", ""), true},
	{"aggregation over everything", "flow-weekly", "expressions", rewrite("Unmapped", "sum by ()", "sum"), false},
	{"facts added", "flow-weekly", "expressions", rewrite(age, "max by", "sum by"), false},
	{"states lost in a maximum", "flow-weekly", "expressions", rewrite("Load by state, with limit and average", "item_type, state", "item_type"), true},
	{"fixed interval", "flow-service", "expressions", rewrite("Requests to trackers", "$__rate_interval", "5m"), false},
	{"counter as it is", "flow-service", "expressions", rewrite("Requests to trackers", "rate(flowmetrics_connector_requests_total[$__rate_interval])", "flowmetrics_connector_requests_total"), false},
	{"rate of a gauge", "flow-service", "expressions", rewrite("Requests to trackers", "flowmetrics_connector_requests_total", "flowmetrics_connector_lag_seconds"), true},
	{"all value streams at once in the weekly review", "flow-weekly", "variables", set("current", map[string]any{"text": []string{"All"}, "value": []string{"$__all"}}, variableAt(1)), false},
	{"one value stream in the portfolio", "flow-monthly", "variables", set("current", nil, variableAt(1)), false},
	{"heading of one value stream", "flow-weekly", "title and description", set("repeat", nil, in("$value_stream")), false},
	{"stat of a range", "flow-weekly", "schema of 9.3", func(d map[string]any) {
		set("instant", false, in("Flow velocity", "targets", 0))(d)
		set("range", true, in("Flow velocity", "targets", 0))(d)
	}, false},
	{"colour of no reason", "flow-weekly", "names of fields", set("options", "in: begun", in("Entries against exits by reason, a week", "fieldConfig", "overrides", 2, "matcher")), false},
	{"days in seconds", "flow-weekly", "units", set("unit", "s", in(age, "fieldConfig", "defaults")), false},
	{"unit that Grafana does not have", "flow-weekly", "units", set("unit", "suffix: d", in(age, "fieldConfig", "defaults")), false},
	{"seconds in days", "flow-weekly", "units", rewrite(age, " / 86400", ""), false},
	{"items in per cent", "flow-weekly", "units", set("unit", "percentunit", in("Over target and neglected", "fieldConfig", "defaults")), false},
	{"sample in days", "flow-weekly", "units", set("properties", []any{map[string]any{"id": "custom.axisPlacement", "value": "right"}}, in(trends, "fieldConfig", "overrides", 1)), false},
	{"p95 of few", "flow-weekly", "sample sizes", rewrite(trends, ">= 20", ">= 5"), false},
	{"p85 of any", "flow-monthly", "sample sizes", rewrite("Flow time p85 over time", ">= 5", ">= 0"), false},
	{"now before", "flow-monthly", "instants", rewrite("Scorecard", " offset $window", ""), true},
	{"wrong quarter", "flow-quarterly", "instants", rewrite("Flow load, five quarters", " offset 39w", " offset 26w"), true},
	{"before now", "flow-weekly", "instants", rewrite(age, "}", "} offset 7d"), false},
	{"week not over", "flow-quarterly", "instants", rewrite("Flow velocity, 13 weeks", " offset -5d", " offset -4d"), false},
	{"points within weeks", "flow-quarterly", "instants", set("interval", "1d", in("Flow velocity, 13 weeks")), false},
	{"window for a week", "flow-quarterly", "instants", rewrite("Flow load, 13 weeks", `"7d"`, `"$window"`), false},
	{"target like a result", "flow-weekly", "lines of comparison", set("properties", []any{map[string]any{"id": "color", "value": map[string]any{"mode": "fixed", "fixedColor": "red"}}}, in(age, "fieldConfig", "overrides", 0)), false},
	{"threshold of another alert", "flow-leading", "alerts", set("value", 1.1, in("FlowLoadOverLimit", "fieldConfig", "defaults", "thresholds", "steps", 1)), false},
	{"half of an alert", "flow-leading", "alerts", func(d map[string]any) {
		p := panelOf(d, "FlowLoadRising")
		p["targets"] = p["targets"].([]any)[:1]
		at(p, "fieldConfig")["overrides"] = []any{}
	}, false},
	{"green target", "flow-weekly", "colours", set("value", map[string]any{"mode": "fixed", "fixedColor": "green"}, in(age, "fieldConfig", "overrides", 0, "properties", 0)), false},
	{"health of another measure", "flow-weekly", "colours", rewrite("Flow time, p85", `measure="flow_time"`, `measure="load"`), false},
	{"health of another column", "flow-monthly", "colours", rewrite("Scorecard", `measure="distribution"`, `measure="load"`), true},
	{"red is good", "flow-monthly", "colours", set("color", "green", in("Worst health over time", "fieldConfig", "defaults", "mappings", 0, "options", "3")), false},
	{"sum of numbers", "flow-weekly", "shapes", set("calcs", []string{"sum"}, in("Flow load", "options", "reduceOptions")), false},
	{"13 days", "flow-quarterly", "shapes", set("timeFrom", "13d", in("Flow load, 13 weeks")), false},
	{"exits above the axis", "flow-weekly", "shapes", set("properties", []any{}, in("Entries against exits by reason, a week", "fieldConfig", "overrides", 0)), false},
	{"p85 twice", "flow-weekly", "ids", rewrite(age, "flow_load_age_p50_seconds", "flow_load_age_p85_seconds"), false},
	{"arrow the wrong way", "flow-monthly", "colours", set("text", "▼", in("Scorecard", "fieldConfig", "overrides", 5, "properties", 2, "value", 0, "options", "1")), false},
}
