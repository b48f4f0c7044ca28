package dashboards

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// known are the panel types and their options that Grafana 9.3 knows. Those after
// the bar are newer, and there because the generator's library always writes
// them: an unknown option is passed over.
var known = map[string]string{
	"stat":           "colorMode graphMode justifyMode orientation reduceOptions text textMode | wideLayout showPercentChange percentChangeColorMode",
	"timeseries":     "legend tooltip timezone",
	"barchart":       "xField colorByField orientation barRadius xTickLabelRotation xTickLabelMaxLength xTickLabelSpacing stacking showValue barWidth groupWidth legend tooltip text | fullHighlight",
	"bargauge":       "displayMode orientation reduceOptions showUnfilled minVizWidth minVizHeight text | valueMode namePlacement sizing maxVizHeight legend",
	"table":          "frameIndex showHeader showTypeIcons sortBy footer",
	"state-timeline": "showValue rowHeight mergeValues alignValue legend tooltip timezone",
}

// knownCustom are the settings of fields by panel type.
var knownCustom = map[string]string{
	"timeseries":     "drawStyle gradientMode thresholdsStyle lineColor lineWidth lineInterpolation lineStyle fillColor fillOpacity showPoints pointSize axisPlacement axisLabel axisWidth axisSoftMin axisSoftMax axisGridShow axisCenteredZero axisColorMode scaleDistribution barAlignment stacking hideFrom spanNulls fillBelowTo transform",
	"barchart":       "lineWidth fillOpacity gradientMode axisPlacement axisLabel axisWidth axisSoftMin axisSoftMax axisGridShow hideFrom scaleDistribution thresholdsStyle",
	"state-timeline": "lineWidth fillOpacity hideFrom",
	"table":          "align displayMode filterable inspect width minWidth hidden",
}

// schema: nothing that Grafana 9.3 does not know.
func schema(b *board) (problems []string) {
	has := func(list, word string) bool { return slices.Contains(strings.Fields(list), word) }
	for _, p := range b.shown() {
		if known[p.Type] == "" {
			problems = append(problems, p.name()+" is of the unknown type "+p.Type)
		}
		for option := range p.Options {
			if !has(known[p.Type], option) {
				problems = append(problems, p.name()+" has the unknown option "+option)
			}
		}
		custom := slices.Collect(maps.Keys(p.FieldConfig.Defaults.Custom))
		for _, o := range p.FieldConfig.Overrides {
			if !has("byName byRegexp", o.Matcher.ID) {
				problems = append(problems, p.name()+" has the unknown matcher "+o.Matcher.ID)
			}
			for _, property := range o.Properties {
				if c, is := strings.CutPrefix(property.ID, "custom."); is {
					custom = append(custom, c)
				} else if !has("color unit decimals min max mappings thresholds links displayName noValue", property.ID) {
					problems = append(problems, p.name()+" has the unknown property "+property.ID)
				}
			}
		}
		for _, c := range custom {
			if !has(knownCustom[p.Type], c) {
				problems = append(problems, p.name()+" has the unknown setting "+c)
			}
		}
		for _, t := range p.Transformations {
			if !has("merge organize", t.ID) {
				problems = append(problems, p.name()+" has the unknown transformation "+t.ID)
			}
		}
		table := p.Type == "table" || p.Type == "barchart"
		for _, t := range p.Targets {
			if atOnce := table || p.Type == "stat" || p.Type == "bargauge"; table != (t.Format == "table") || atOnce != t.Instant || t.Instant == t.Range {
				problems = append(problems, p.name()+" "+t.RefID+" has not the format of its panel")
			}
		}
	}
	return problems
}

var inLegend = regexp.MustCompile(`\{\{(\w+)\}\}`)

// fields: overrides and columns are of fields that the queries give.
func fields(b *board) (problems []string) {
	for _, p := range b.shown() {
		names := map[string]bool{} // of series and columns
		values := map[string]bool{"Time": true, "Value": true}
		for _, t := range p.Targets {
			values["Value #"+t.RefID] = true
			for _, label := range labelsOf(t.Expr) {
				values[label] = true
			}
			for _, m := range inLegend.FindAllStringSubmatch(t.LegendFormat, -1) {
				if !slices.Contains(labelsOf(t.Expr), m[1]) {
					problems = append(problems, p.name()+": the legend of "+t.RefID+" has the label "+m[1]+", the expression not")
				}
			}
		}
		for _, t := range p.Transformations {
			for field, name := range t.Options.RenameByName {
				if names[name] = true; !values[field] {
					problems = append(problems, p.name()+" has a column of "+field+", which is not there")
				}
			}
		}
		if x, is := p.Options["xField"]; is && !names[x.(string)] {
			problems = append(problems, p.name()+" has no field "+x.(string))
		}
		for _, s := range p.series() {
			names[s.name] = true
		}
		for _, o := range p.FieldConfig.Overrides {
			there := names[o.Matcher.Options]
			if o.Matcher.ID == "byRegexp" {
				re := regexp.MustCompile(strings.Trim(o.Matcher.Options, "/"))
				there = slices.ContainsFunc(p.series(), func(s series) bool { return re.MatchString(s.name) })
			}
			if !there {
				problems = append(problems, p.name()+" has settings for "+o.Matcher.Options+", which is not there")
			}
		}
	}
	return problems
}
