package main

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// schemaVersion is that of Grafana 9.3: older than the current one, so that later
// releases migrate what they have renamed since.
const schemaVersion = 37

// A page is a dashboard in the classic schema, which all releases of Grafana read:
// the one that replaces it is read by the newest only.
//
//lint:ignore SA1019 on purpose, as said.
type page = dashboard.Dashboard

// pages are all dashboards in the order of their links.
var pages = []struct{ uid, title string }{
	{"flow-weekly", "Flow: weekly operating review"},
	{"flow-monthly", "Flow: monthly portfolio review"},
	{"flow-quarterly", "Flow: quarterly review"},
	{"flow-leading", "Flow: leading indicators"},
	{"flow-service", "Flow: service health"},
}

// A frame is what the dashboards have in common.
type frame struct {
	uid, description string
	from             string // start of the default time range
	window           string // default of the variable window
	rows             []row
}

// A row is a line of panels, or a heading where it has a title.
type row struct {
	title  string
	repeat string // variable for whose values the heading and what is below it are repeated
	height uint32
	panels []*panel
}

func heading(title string) row { return row{title: title} }

func panels(height uint32, ps ...*panel) row { return row{height: height, panels: ps} }

// build lays out the rows, the data-quality strip first, and numbers the panels.
func (f frame) build() page {
	d := page{
		Uid: &f.uid, Description: &f.description, Tags: []string{"flowmetrics"}, Editable: new(false), Timezone: new("browser"),
		WeekStart: new("monday"), GraphTooltip: new(dashboard.DashboardCursorSyncCrosshair), Refresh: new("5m"), LiveNow: new(false),
		FiscalYearStartMonth: new(uint8(0)), Time: &dashboard.DashboardDashboardTime{From: f.from, To: "now"},
		Timepicker:    &dashboard.TimePickerConfig{RefreshIntervals: []string{"1m", "5m", "15m", "1h"}},
		SchemaVersion: schemaVersion, Version: new(uint32(1)), Templating: f.variables(), Annotations: annotations(), Links: f.links(),
	}
	for _, p := range pages {
		if p.uid == f.uid {
			d.Title = new(p.title)
		}
	}
	var id, y uint32
	for _, r := range append([]row{strip()}, f.rows...) {
		if r.title != "" {
			id++
			heading := &dashboard.RowPanel{Type: "row", Id: id, Title: new(r.title), Panels: []dashboard.Panel{}, GridPos: &dashboard.GridPos{H: 1, W: 24, Y: y}}
			if r.repeat != "" {
				heading.Repeat = &r.repeat
			}
			d.Panels = append(d.Panels, dashboard.PanelOrRowPanel{RowPanel: heading})
			y++
			continue
		}
		var x uint32
		for _, p := range r.panels {
			id++
			p.Id, p.GridPos = new(id), &dashboard.GridPos{X: x, Y: y, W: p.width, H: r.height}
			d.Panels = append(d.Panels, dashboard.PanelOrRowPanel{Panel: &p.Panel})
			x += p.width
		}
		if x != 24 {
			panic(fmt.Sprintf("%s: the row at %d is %d columns wide", f.uid, y, x))
		}
		y += r.height
	}
	return d
}

// variables are the same on all dashboards, so that links can hand them on.
func (f frame) variables() dashboard.DashboardDashboardTemplating {
	labels := func(name, label, description, metric string) dashboard.VariableModel {
		query := fmt.Sprintf("label_values(%s, %s)", metric, name)
		return dashboard.VariableModel{
			Type: dashboard.VariableTypeQuery, Name: name, Label: &label, Description: &description, Datasource: source(), Definition: &query,
			Query:   &dashboard.StringOrMap{Map: map[string]any{"query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"}},
			Refresh: new(dashboard.VariableRefreshOnTimeRangeChanged), Sort: new(dashboard.VariableSortAlphabeticalAsc),
			Multi: new(false), IncludeAll: new(false), Hide: new(dashboard.VariableHideDontHide), SkipUrlSync: new(false), Regex: new(""), Options: []dashboard.VariableOption{},
		}
	}
	streams := labels("value_stream", "Value stream", "The value streams that are shown.", "flow_velocity_items")
	streams.Multi, streams.IncludeAll, streams.AllValue = new(true), new(true), new(".+")
	if f.uid != "flow-weekly" {
		// Newer releases choose the first where nothing is said, older ones all of them.
		streams.Current = &dashboard.VariableOption{
			Selected: new(true), Text: dashboard.StringOrArrayOfString{ArrayOfString: []string{"All"}}, Value: dashboard.StringOrArrayOfString{ArrayOfString: []string{"$__all"}},
		}
	}
	window := labels("window", "Window", "The time back from now over which completed work is counted.", "flow_velocity_items")
	window.Sort = new(dashboard.VariableSortNumericalAsc)
	chosen := dashboard.StringOrArrayOfString{String: &f.window}
	window.Current = &dashboard.VariableOption{Selected: new(true), Text: chosen, Value: chosen}
	return dashboard.DashboardDashboardTemplating{List: []dashboard.VariableModel{
		{
			Type: dashboard.VariableTypeDatasource, Name: "datasource", Label: new("Data source"), Query: &dashboard.StringOrMap{String: new("prometheus")},
			Refresh: new(dashboard.VariableRefreshOnDashboardLoad), Multi: new(false), IncludeAll: new(false), Hide: new(dashboard.VariableHideDontHide),
			SkipUrlSync: new(false), Regex: new(""), Options: []dashboard.VariableOption{},
		},
		streams, window,
	}}
}

// links lead to the other dashboards with the same time range and variables.
func (f frame) links() (links []dashboard.DashboardLink) {
	for _, p := range pages {
		if p.uid != f.uid {
			links = append(links, dashboard.DashboardLink{
				Title: p.title, Type: dashboard.DashboardLinkTypeLink, Icon: "dashboard", Tooltip: "With the same time range, value streams and window",
				Url: new("/d/" + p.uid), Tags: []string{}, KeepTime: true, IncludeVars: true,
			})
		}
	}
	return links
}

// annotations are those that people write on a dashboard in Grafana: decisions, and
// what was changed when.
func annotations() dashboard.AnnotationContainer {
	return dashboard.AnnotationContainer{List: []dashboard.AnnotationQuery{{
		Name: "Annotations & Alerts", BuiltIn: new(1.0), Enable: true, Hide: new(true), IconColor: "rgba(0, 211, 255, 1)", Type: new("dashboard"),
		Datasource: &common.DataSourceRef{Type: new("grafana"), Uid: new("-- Grafana --")},
	}}}
}

// strip says on every dashboard how far the numbers can be trusted.
func strip() row {
	age := numbers("Data age", seconds,
		`Time since the numbers were computed, and since the source that was read longest ago was read to its end. Over 30 minutes (red) the alert FlowDataStale fires and nothing else on this page can be trusted: see Service health. A source that is polled seldom may be two and a half poll intervals old.`,
		now("numbers", `time() - min by () (last_over_time(flowmetrics_processor_snapshot_timestamp_seconds[40m]))`),
		now("oldest source", `time() - min by () (max by (source) (last_over_time(flowmetrics_connector_last_success_timestamp_seconds[40m])))`),
	).steps(green, step{900, amber}, step{1800, red}).decimals(0).empty("none for 40 minutes")
	coverage := numbers("Coverage", share,
		`Share of the items completed in the window whose start is known: flow time and efficiency are made of these alone. The lowest of the chosen value streams. Below 90 % ask why starts are missing (skipped statuses, items older than the history); below 70 % do not decide by flow time.`,
		now("coverage", fmt.Sprintf("min by () (%s / (%s > 0))", added("flow_time_items", inWindow), added("flow_velocity_items", inWindow))),
	).steps(red, step{0.7, amber}, step{0.9, green}).decimals(0).empty("nothing completed")
	unmapped := numbers("Unmapped", items,
		`Items in a status without a rule: they keep their previous state, so load and flow time are wrong for them. Any (red) fires the alert UnmappedStatus: add the status to the workflow in the configuration.`,
		now("unmapped", `sum by () (max by (source) (flowmetrics_unmapped_status_items))`),
	).steps(green, step{1, red}).decimals(0)
	censored := numbers("Left-censored", items,
		`Items that were already in flow when the history begins. Their flow time is unknown, so they are in load and velocity but not in flow time. They become fewer as they leave; an import of older history removes them.`,
		now("left-censored", `sum by () (`+fact("flowmetrics_items", `quality="left_censored"`)+`)`),
	).steps(green, step{1, amber}).decimals(0)
	violations := numbers("Invariant violations", number,
		`Windows in which load does not equal entries less exits, or the area under the load curve does not equal the time in flow. Anything but 0 (red) is a bug in the service (alert LittleIdentityBroken): do not use the numbers, report it.`,
		now("violations", `sum by () (`+fact("flow_invariant_violations by invariant")+`)`),
	).steps(green, step{1, red}).decimals(0)
	policy := numbers("Policy", number,
		`Short hash of the configuration that the numbers were computed under: statuses, types, value streams, targets. When it changes, numbers before and after are computed differently; two at once mean that replicas disagree.`,
		now("{{policy}}", `max by (policy) (flow_value_stream_info{value_stream=~"$value_stream"})`),
	).text(common.BigValueTextModeName)
	row := panels(3, age, coverage, unmapped, censored, violations, policy)
	for _, p := range row.panels {
		p.wide(4)
	}
	return row
}
