package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/barchart"
	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// Colours. Green, amber, red and grey are kept for comparisons with a target;
// what has none is blue or of the other colours.
const (
	green  = "green"
	amber  = "orange"
	red    = "red"
	grey   = "#8e8e8e"
	blue   = "blue"
	purple = "purple"
	yellow = "yellow"
	cyan   = "#6ed0e0" // Grafana has no name for it
)

// Units. Grafana's own units of time turn 18 days into 2.57 weeks. It puts a space
// before a suffix itself.
const (
	days    = "suffix:d"
	items   = "suffix:items"
	share   = "percentunit"
	seconds = "s"
	number  = "none"
)

// A query is a query of a panel.
type query = prometheus.Dataquery

// A panel is a panel and its width in the grid of 24 columns.
type panel struct {
	dashboard.Panel
	width  uint32
	custom *common.GraphFieldConfig // of a time series
}

// source is the data source that the user chose.
func source() *common.DataSourceRef {
	return &common.DataSourceRef{Type: new("prometheus"), Uid: new("${datasource}")}
}

func newPanel(kind, title, unit, description string, queries []query) *panel {
	p := &panel{width: 12, Panel: dashboard.Panel{
		Type: kind, Title: &title, Description: &description, Datasource: source(),
		FieldConfig: &dashboard.FieldConfigSource{
			Defaults: dashboard.FieldConfig{
				Unit:       &unit,
				Mappings:   []dashboard.ValueMapping{},
				Color:      &dashboard.FieldColor{Mode: dashboard.FieldColorModeIdThresholds},
				Thresholds: thresholds(blue),
			},
			Overrides: []dashboard.DashboardFieldConfigSourceOverrides{},
		},
	}}
	for i, q := range queries {
		q.RefId = new(cmp.Or(deref(q.RefId), fmt.Sprintf("%c", 'A'+i)))
		p.Targets = append(p.Targets, q)
	}
	return p
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// last is the reduction of stats and gauges: the last value that is a number.
func last() common.ReduceDataOptions {
	return common.ReduceDataOptions{Values: new(false), Calcs: []string{"lastNotNull"}, Fields: new("")}
}

// numbers shows the value of each query, with its name where there are several.
func numbers(title, unit, description string, queries ...query) *panel {
	p := newPanel("stat", title, unit, description, queries)
	p.Options = stat.Options{
		GraphMode: common.BigValueGraphModeNone, ColorMode: common.BigValueColorModeValue, JustifyMode: common.BigValueJustifyModeAuto,
		TextMode: common.BigValueTextModeAuto, WideLayout: true, ReduceOptions: last(), Orientation: common.VizOrientationAuto,
		PercentChangeColorMode: common.PercentChangeColorModeStandard,
	}
	return p
}

// filled makes a stat's background tell its colour.
func (p *panel) filled() *panel {
	o := p.Options.(stat.Options)
	o.ColorMode = common.BigValueColorModeBackground
	p.Options = o
	return p
}

// text says what a stat shows: the value, the name or both.
func (p *panel) text(mode common.BigValueTextMode) *panel {
	o := p.Options.(stat.Options)
	o.TextMode = mode
	p.Options = o
	return p
}

// lines shows the queries over time.
func lines(title, unit, description string, queries ...query) *panel {
	p := newPanel("timeseries", title, unit, description, queries)
	p.custom = &common.GraphFieldConfig{
		DrawStyle: new(common.GraphDrawStyleLine), LineWidth: new(2.0), FillOpacity: new(0.0), ShowPoints: new(common.VisibilityModeNever),
		LineInterpolation: new(common.LineInterpolationLinear), AxisPlacement: new(common.AxisPlacementAuto), AxisSoftMin: new(0.0),
		SpanNulls:       &common.BoolOrFloat64{Bool: new(false)},
		Stacking:        &common.StackingConfig{Mode: new(common.StackingModeNone), Group: new("A")},
		ThresholdsStyle: &common.GraphThresholdsStyleConfig{Mode: common.GraphThresholdsStyleModeOff},
	}
	p.FieldConfig.Defaults.Custom = p.custom
	p.FieldConfig.Defaults.Color.Mode = dashboard.FieldColorModeIdPaletteClassic
	p.Options = timeseries.Options{Legend: legend(), Tooltip: tooltip()}
	return p
}

func legend() common.VizLegendOptions {
	return common.VizLegendOptions{DisplayMode: common.LegendDisplayModeList, Placement: common.LegendPlacementBottom, ShowLegend: true, Calcs: []string{}}
}

func tooltip() common.VizTooltipOptions {
	return common.VizTooltipOptions{Mode: common.TooltipDisplayModeMulti, Sort: common.SortOrderNone}
}

// bars draws the series as bars, stacked upon each other.
func (p *panel) bars() *panel {
	p.custom.DrawStyle = new(common.GraphDrawStyleBars)
	p.custom.FillOpacity = new(70.0)
	p.custom.LineWidth = new(1.0)
	p.custom.Stacking.Mode = new(common.StackingModeNormal)
	return p
}

// stacked fills the series and stacks them.
func (p *panel) stacked() *panel {
	p.custom.FillOpacity = new(40.0)
	p.custom.LineWidth = new(1.0)
	p.custom.Stacking.Mode = new(common.StackingModeNormal)
	return p
}

// step sets the shortest time between two points.
func (p *panel) step(interval string) *panel {
	p.Interval = &interval
	return p
}

// table shows the rows that the queries have in common, with their values side by
// side. The queries are instant ones in table format with the same labels.
func tabular(title, unit, description string, columns []column, queries ...query) *panel {
	p := newPanel("table", title, unit, description, queries)
	p.FieldConfig.Defaults.Custom = map[string]any{"align": "auto", "displayMode": "auto", "filterable": false, "inspect": false}
	p.Options = table.Options{ShowHeader: true, Footer: &common.TableFooterOptions{Reducer: []string{"sum"}}}
	p.joined(columns)
	for _, c := range columns {
		var as []property
		if c.unit != "" {
			as = append(as, property{"unit", c.unit})
		}
		if c.width > 0 {
			as = append(as, property{"custom.width", c.width})
		}
		if as = append(as, c.as...); len(as) > 0 {
			p.named(c.title, as...)
		}
	}
	return p
}

// A column is a field of the joined rows: a label, or the value of the query with
// this reference.
type column struct {
	field, title, unit string
	width              int
	as                 []property
}

// value is the field that holds the value of a query.
func value(ref string) string { return "Value #" + ref }

// joined joins the answers into one row for each set of labels, and orders and
// names the fields.
func (p *panel) joined(columns []column) *panel {
	// With one query its value is called Value, with several Value #REF.
	hidden, index, names := map[string]bool{"Time": true, "Value": true}, map[string]int{}, map[string]string{}
	for i, c := range columns {
		index[c.field], names[c.field] = i, c.title
	}
	p.Transformations = append(p.Transformations,
		dashboard.DataTransformerConfig{Id: "merge", Options: struct{}{}},
		dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{
			"excludeByName": hidden, "indexByName": index, "renameByName": names,
		}})
	return p
}

// columnChart shows one group of bars for each value of the first column.
func columnChart(title, unit, description string, stacking common.StackingMode, columns []column, queries ...query) *panel {
	p := newPanel("barchart", title, unit, description, queries)
	p.FieldConfig.Defaults.Color.Mode = dashboard.FieldColorModeIdPaletteClassic
	p.FieldConfig.Defaults.Custom = barchart.FieldConfig{LineWidth: new(int32(1)), FillOpacity: new(int32(80)), AxisPlacement: new(common.AxisPlacementAuto), AxisSoftMin: new(0.0)}
	p.Options = barchart.Options{
		XField: new(columns[0].title), Orientation: common.VizOrientationAuto, XTickLabelMaxLength: 24, Stacking: stacking,
		ShowValue: common.VisibilityModeAuto, BarWidth: 0.9, GroupWidth: 0.75, Legend: legend(), Tooltip: tooltip(),
	}
	p.joined(columns)
	for _, c := range columns {
		if len(c.as) > 0 {
			p.named(c.title, c.as...)
		}
	}
	return p
}

// gauges shows one horizontal bar for each series.
func gauges(title, unit, description string, queries ...query) *panel {
	p := newPanel("bargauge", title, unit, description, queries)
	p.FieldConfig.Defaults.Min = new(0.0)
	p.Options = bargauge.Options{
		DisplayMode: common.BarGaugeDisplayModeBasic, ValueMode: common.BarGaugeValueModeText, NamePlacement: common.BarGaugeNamePlacementLeft,
		ShowUnfilled: true, Sizing: common.BarGaugeSizingAuto, MinVizWidth: 8, MinVizHeight: 16, MaxVizHeight: 40,
		Legend: legend(), ReduceOptions: last(), Orientation: common.VizOrientationHorizontal,
	}
	return p
}

// wide sets the width in columns.
func (p *panel) wide(columns uint32) *panel {
	p.width = columns
	return p
}

// decimals sets the decimals of all values.
func (p *panel) decimals(n float64) *panel {
	p.FieldConfig.Defaults.Decimals = &n
	return p
}

// empty says what stands where there is no number.
func (p *panel) empty(text string) *panel {
	p.FieldConfig.Defaults.NoValue = &text
	return p
}

// most sets the upper end of the scale.
func (p *panel) most(n float64) *panel {
	p.FieldConfig.Defaults.Max = &n
	return p
}

// A step is a colour from a value on.
type step struct {
	from   float64
	colour string
}

func thresholds(base string, steps ...step) *dashboard.ThresholdsConfig {
	t := &dashboard.ThresholdsConfig{Mode: dashboard.ThresholdsModeAbsolute, Steps: []dashboard.Threshold{{Color: base}}}
	for _, s := range steps {
		t.Steps = append(t.Steps, dashboard.Threshold{Value: new(s.from), Color: s.colour})
	}
	return t
}

// steps colours by value; a time series draws the limits as lines, and has room for
// them: what comes near one is to be seen coming.
func (p *panel) steps(base string, steps ...step) *panel {
	p.FieldConfig.Defaults.Thresholds = thresholds(base, steps...)
	if p.custom != nil {
		p.custom.ThresholdsStyle.Mode = common.GraphThresholdsStyleModeDashed
		p.custom.AxisSoftMax = new(1.05 * steps[len(steps)-1].from)
	}
	return p
}

// A property is one setting that a series or a column has of its own.
type property struct {
	id    string
	value any
}

func colour(c string) property {
	return property{"color", map[string]any{"mode": "fixed", "fixedColor": c}}
}

func unit(u string) property { return property{"unit", u} }

// limit draws a line that others are compared with.
func limit(c string) []property {
	return []property{
		colour(c), {"custom.drawStyle", "line"}, {"custom.lineStyle", map[string]any{"fill": "dash", "dash": []int{10, 10}}}, {"custom.fillOpacity", 0},
		{"custom.lineWidth", 1}, {"custom.stacking", map[string]any{"mode": "none", "group": "A"}},
	}
}

// line draws a series as a line among bars or areas.
func line(c string) []property {
	return []property{
		colour(c), {"custom.drawStyle", "line"}, {"custom.fillOpacity", 0}, {"custom.lineWidth", 2}, {"custom.stacking", map[string]any{"mode": "none", "group": "A"}},
	}
}

// right puts a series on an axis of its own.
func right(c, u string) []property {
	return []property{colour(c), unit(u), {"custom.axisPlacement", "right"}, {"custom.lineWidth", 1}, {"custom.fillOpacity", 0}}
}

// has reports whether a query is named so.
func (p *panel) has(legend string) bool {
	return slices.ContainsFunc(p.Targets, func(t variants.Dataquery) bool { return deref(t.(query).LegendFormat) == legend })
}

// named sets properties of one field.
func (p *panel) named(name string, properties ...property) *panel {
	return p.override("byName", name, properties)
}

// like sets properties of the fields whose name matches.
func (p *panel) like(regex string, properties ...property) *panel {
	return p.override("byRegexp", "/"+regex+"/", properties)
}

func (p *panel) override(matcher, option string, properties []property) *panel {
	o := dashboard.DashboardFieldConfigSourceOverrides{Matcher: dashboard.MatcherConfig{Id: matcher, Options: option}}
	for _, s := range properties {
		o.Properties = append(o.Properties, dashboard.DynamicConfigValue{Id: s.id, Value: s.value})
	}
	p.FieldConfig.Overrides = append(p.FieldConfig.Overrides, o)
	return p
}

// mapped is the property that shows texts and colours instead of numbers.
func mapped(results map[string]dashboard.ValueMappingResult) property {
	return property{"mappings", []dashboard.ValueMapping{{ValueMap: &dashboard.ValueMap{Type: dashboard.MappingTypeValueToText, Options: results}}}}
}

func shown(text, colour string, index int32) dashboard.ValueMappingResult {
	return dashboard.ValueMappingResult{Text: &text, Color: &colour, Index: &index}
}

// link adds a link to the panel; other dashboards open in its place.
func (p *panel) link(title, url string) *panel {
	p.Links = append(p.Links, dashboard.DashboardLink{
		Title: title, Type: dashboard.DashboardLinkTypeLink, Url: &url, Tags: []string{}, TargetBlank: !strings.HasPrefix(url, "/"),
	})
	return p
}
