package dashboards

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A series is what a query of a panel gives, by the name under which its settings
// are looked up: its legend with one value for each label, or its column.
type series struct {
	name string
	of   target
}

// inLabels are the values of the labels in legends that settings speak of.
var inLabels = map[string][]string{
	"item_type": itemTypes, "state": states, "health": healths,
	"reason": {"started", "reopened", "resumed", "moved_in", "observed", "completed", "cancelled", "returned", "moved_out", "deleted"},
	"code":   {"200", "304", "401", "429", "500", "error"},
	"result": {"taken", "ignored", "unauthorized", "too_large", "invalid", "failed"},
}

// series are all that the queries of a panel can give.
func (p *panel) series() (all []series) {
	for _, t := range p.Targets {
		if t.Format == "table" {
			for _, transformation := range p.Transformations {
				if name := transformation.Options.RenameByName["Value #"+t.RefID]; name != "" {
					all = append(all, series{name, t})
				}
			}
			continue
		}
		names := []string{t.LegendFormat}
		for _, m := range inLegend.FindAllStringSubmatch(t.LegendFormat, -1) {
			values := inLabels[m[1]]
			if values == nil {
				values = []string{m[1]}
			}
			var more []string
			for _, name := range names {
				for _, value := range values {
					more = append(more, strings.ReplaceAll(name, m[0], value))
				}
			}
			names = more
		}
		for _, name := range names {
			all = append(all, series{name, t})
		}
	}
	return all
}

// setting is a property of a series of its own, nil where it has none.
func (p *panel) setting(s series, property string) (value any) {
	for _, o := range p.FieldConfig.Overrides {
		if o.Matcher.ID == "byName" && o.Matcher.Options != s.name ||
			o.Matcher.ID == "byRegexp" && !regexp.MustCompile(strings.Trim(o.Matcher.Options, "/")).MatchString(s.name) {
			continue
		}
		for _, setting := range o.Properties {
			if setting.ID == property {
				value = setting.Value
			}
		}
	}
	return value
}

var (
	unitNames = regexp.MustCompile(`^(s|bytes|reqps|percentunit|none|suffix:\S.*)$`)
	filler    = regexp.MustCompile(`\b0 \* \w+ by \(\w*\) \(\w+\)`) // of gaps
	quotient  = regexp.MustCompile(` / (?:[^8]|8[^6])`)
)

// units: what is divided by the seconds of a day is in days, what is a share or a
// quotient in per cent, and what counts items in items.
func units(b *board) (problems []string) {
	for _, p := range b.shown() {
		for _, s := range p.series() {
			unit := p.FieldConfig.Defaults.Unit
			if own, is := p.setting(s, "unit").(string); is {
				unit = own
			}
			if unit == "" {
				continue // which another rule finds
			}
			if !unitNames.MatchString(unit) {
				problems = append(problems, fmt.Sprintf("%s: Grafana has no unit %q", p.name(), unit))
			}
			expr := filler.ReplaceAllString(s.of.Expr, "")
			has := func(part string) bool { return strings.Contains(expr, part) }
			var want []string
			switch {
			case has("bool ") && has(" - (") || has("sgn("):
				want = []string{"none"} // a signal
			case has("/ 86400"):
				want = []string{"suffix:d", "suffix:item-days"}
			case has("_ratio{") || has("_ratio)") || quotient.MatchString(expr):
				want = []string{"percentunit"}
			case strings.HasPrefix(expr, "time() - ") || has("_seconds{"):
				want = []string{"s"}
			case has("_items{") && !has("health"):
				want = []string{"suffix:items", "none", "suffix:value streams"}
			default:
				continue
			}
			if !slices.Contains(want, unit) {
				problems = append(problems, fmt.Sprintf("%s: %s is in %q, want %q", p.name(), s.name, unit, want))
			}
		}
	}
	return problems
}

var (
	ofSample = regexp.MustCompile(`flow_(time_(p50|p85|p95|mean)_seconds|efficiency_ratio|time_target_attainment_ratio)\{`)
	guards   = []string{">= 5", ">= bool 5"}
)

// samples: no percentile or ratio of completed items where fewer than 5 are behind
// it, unless it is grey then, and no p95 of fewer than 20.
func samples(b *board) (problems []string) {
	for _, p := range b.shown() {
		for _, t := range p.Targets {
			for _, m := range ofSample.FindAllStringSubmatch(t.Expr, -1) {
				wanted := guards
				if m[2] == "p95" {
					wanted = []string{">= 20"}
				}
				if !slices.ContainsFunc(wanted, func(guard string) bool { return strings.Contains(t.Expr, guard) }) {
					problems = append(problems, p.name()+" "+t.RefID+" does not look at the sample")
				}
			}
		}
	}
	return problems
}

var (
	selectorText = regexp.MustCompile(`\w+\{[^}]*\}(\[\w+\])?( offset \S+?)?(?:[\s)]|$)`)
	quarterAgo   = map[string]string{"q4": " offset 52w", "q3": " offset 39w", "q2": " offset 26w", "q1": " offset 13w", "q0": ""}
)

// instants: what says that it is of the window before is, and the whole of it; so are
// quarters; points a week apart are at the ends of their weeks; all else is of now.
func instants(b *board) (problems []string) {
	for _, p := range b.shown() {
		for _, t := range p.Targets {
			for _, m := range selectorText.FindAllStringSubmatch(t.Expr, -1) {
				if !strings.HasPrefix(m[0], "flow_") {
					continue // about the service
				}
				want, window := "", m[1]
				quarter, ofQuarter := quarterAgo[t.RefID]
				switch {
				case t.LegendFormat == "before" || strings.HasSuffix(t.RefID, "_before"):
					want = " offset $window"
				case ofQuarter:
					want = quarter
				case strings.Contains(t.Expr, `"quarter"`):
					continue // has all of them
				case p.Interval == "1w" && window == "[1d]":
					want = " offset -5d"
				case p.Interval == "1w":
					want = " offset -4d"
				}
				if m[2] != want {
					problems = append(problems, fmt.Sprintf("%s %s: %s, want%s", p.name(), t.RefID, m[0], want))
				}
				if calendar := regexp.MustCompile(`^flow_(velocity|time)_week_`).MatchString(m[0]); p.Interval == "1w" && calendar != (window == "[1d]") {
					problems = append(problems, fmt.Sprintf("%s %s: %s and weeks of the calendar", p.name(), t.RefID, m[0]))
				}
				if p.Interval == "1w" && strings.Contains(m[0], "window=") && !strings.Contains(m[0], `window="7d"`) {
					problems = append(problems, fmt.Sprintf("%s %s: %s is not of the week", p.name(), t.RefID, m[0]))
				}
			}
		}
	}
	return problems
}

var compared = regexp.MustCompile(`(^|[ ])(target|limit|agreed|threshold)$`)

// comparisons: among lines, what others are compared with is dashed, and a sample
// size has an axis of its own.
func comparisons(b *board) (problems []string) {
	for _, p := range b.shown() {
		if p.Type != "timeseries" {
			continue
		}
		for _, s := range p.series() {
			dashed := p.setting(s, "custom.lineStyle") != nil
			if compared.MatchString(s.name) && s.name != "over target" && !dashed {
				problems = append(problems, p.name()+": "+s.name+" is not dashed")
			}
			if s.name == "n" && p.setting(s, "custom.axisPlacement") != "right" {
				problems = append(problems, p.name()+": the sample size is on the axis of the others")
			}
		}
	}
	return problems
}

// conditions are the numbers of the alerts that the panels about them draw as a
// line, and as the rules write them.
var conditions = map[string]struct {
	line float64
	rule string
}{
	"FlowLoadOverLimit":        {1.2, "1.2 * max by (value_stream) (last_over_time(flow_load_limit_items"},
	"FlowLoadRising":           {1.25, "1.25 * max by (value_stream) (last_over_time(flow_load_baseline_items"},
	"PredictedFlowTimeOverSLE": {1, "> max by (value_stream) (last_over_time(flow_time_target_seconds"},
	"WorkStarving":             {0.2, "> 1.2 and"},
	"UnmappedStatus":           {1, "> 0"},
	"FlowDataStale":            {1800, "> 1800"},
	"LittleIdentityBroken":     {1, "> 0"},
	"FlowChangesRejected":      {1, "> 0"},
	"FlowConnectorStalled":     {900, "> 900"},
}

var metricName = regexp.MustCompile(`\bflow(?:metrics)?_\w+`)

// sees are the problems of the panel about an alert: it shows every metric that the
// alert looks at, and its threshold. That a first read gets on only holds an alert
// back.
func sees(p *panel, alert, condition string) (problems []string) {
	var shown []string
	for _, t := range p.Targets {
		shown = append(shown, metricName.FindAllString(t.Expr, -1)...)
	}
	for _, metric := range metricName.FindAllString(condition, -1) {
		if !slices.Contains(shown, metric) && metric != "flowmetrics_connector_backfill_progress_ratio" {
			problems = append(problems, p.name()+" does not show "+metric)
		}
	}
	c, drawn := conditions[alert]
	if !drawn {
		return problems // a series of its own, or none
	}
	if !strings.Contains(strings.Join(strings.Fields(condition), " ")+" ", c.rule) {
		problems = append(problems, p.name()+": the alert has no longer "+c.rule)
	}
	steps := p.FieldConfig.Defaults.Thresholds.Steps
	if len(steps) == 0 || steps[len(steps)-1].Value == nil || *steps[len(steps)-1].Value != c.line {
		problems = append(problems, fmt.Sprintf("%s has no threshold of %v", p.name(), c.line))
	}
	return problems
}
