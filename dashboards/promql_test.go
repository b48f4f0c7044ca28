package dashboards

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"github.com/flowmetrics/flowmetrics/internal/exporter"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// What labels can have as values, where an expression names one.
var (
	windows   = []string{"7d", "30d", "90d"}
	itemTypes = []string{flow.Feature.String(), flow.Defect.String(), flow.Risk.String(), flow.Debt.String(), flow.Unclassified.String()}
	states    = []string{flow.Active.String(), flow.Waiting.String()}
	healths   = []string{"on target", "off target", "far off target", "too little data", "no target"}
	literals  = map[string][]string{
		"item_type": itemTypes, "state": states, "window": {"7d"},
		"measure":    {"attainment", "flow_time", "load", "distribution", "predictability", "over_age"},
		"quality":    {"born_done", "left_censored", "completed_without_start", "never_active"},
		"alertstate": {"firing", "pending"},
	}
)

// catalogue is every metric by name, and the alerts of Prometheus itself.
var catalogue = func() map[string]exporter.Metric {
	by := map[string]exporter.Metric{"ALERTS": {
		Name: "ALERTS", Type: "gauge", Labels: []string{"alertname", "alertstate", "severity", "value_stream", "source", "reason", "invariant"},
	}}
	for _, m := range exporter.Catalogue() {
		by[m.Name] = m
	}
	return by
}()

// inGrafana are the variables with values like those that Grafana puts in.
var inGrafana = strings.NewReplacer("$value_stream", "payments", "$window", "30d", "$__rate_interval", "5m")

var (
	ungrouped = regexp.MustCompile(`\b(sum|min|max|avg|count|topk|bottomk|stddev|stdvar|group|quantile|count_values)\s*\(`)
	rates     = regexp.MustCompile(`\b(rate|irate|increase)\([^\[]*\[([^\]]*)\]`)
)

// expressions: valid PromQL about metrics and labels that are served, with the
// variables, aggregated by named labels.
func expressions(b *board) (problems []string) {
	for _, p := range b.shown() {
		for _, t := range p.Targets {
			for _, problem := range expression(t.Expr) {
				problems = append(problems, p.name()+" "+t.RefID+": "+problem)
			}
		}
	}
	return problems
}

func expression(expr string) (problems []string) {
	tree, err := parser.ParseExpr(inGrafana.Replace(expr))
	if err != nil {
		return []string{err.Error()}
	}
	for _, m := range ungrouped.FindAllString(expr, -1) {
		problems = append(problems, m+"…) without by (…)")
	}
	for _, m := range rates.FindAllStringSubmatch(expr, -1) {
		if m[2] != "$__rate_interval" {
			problems = append(problems, m[1]+" over "+m[2]+" and not over $__rate_interval")
		}
	}
	written, used := map[string]bool{}, map[string]bool{} // labels that label_replace writes, and that the metrics have
	parser.Inspect(tree, func(node parser.Node, path []parser.Node) error {
		switch n := node.(type) {
		case *parser.Call:
			if n.Func.Name == "label_replace" {
				written[n.Args[1].(*parser.StringLiteral).Val] = true
			}
		case *parser.VectorSelector:
			for _, label := range catalogue[n.Name].Labels {
				used[label] = true
			}
			problems = append(problems, selector(expr, n, path)...)
		}
		return nil
	})
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		var named []string
		switch n := node.(type) {
		case *parser.AggregateExpr:
			if named = n.Grouping; n.Without {
				problems = append(problems, "without (…) keeps job and instance")
			}
		case *parser.BinaryExpr:
			if n.VectorMatching != nil {
				named = append(n.VectorMatching.MatchingLabels, n.VectorMatching.Include...)
			}
		}
		for _, label := range named {
			if !used[label] && !written[label] {
				problems = append(problems, "no metric of the expression has the label "+label)
			}
		}
		return nil
	})
	return problems
}

// selector are the problems of one metric where it stands.
func selector(expr string, s *parser.VectorSelector, path []parser.Node) (problems []string) {
	m, known := catalogue[s.Name]
	if !known {
		return []string{"no metric " + s.Name}
	}
	var function, aggregation string // the innermost ones around it
	var kept []string                // labels that the aggregation keeps
	for _, node := range slices.Backward(path) {
		switch n := node.(type) {
		case *parser.Call:
			if function == "" && aggregation == "" {
				function = n.Func.Name
			}
		case *parser.AggregateExpr:
			if aggregation == "" {
				aggregation, kept = n.Op.String(), n.Grouping
			}
		}
	}
	if aggregation == "" {
		problems = append(problems, s.Name+" is not aggregated")
	} else if strings.HasPrefix(s.Name, "flow_") && aggregation != "max" {
		problems = append(problems, s.Name+" is a fact that replicas may show twice: max by (…)")
	}
	if m.Type == "counter" != slices.Contains([]string{"rate", "irate", "increase", "resets", "max_over_time", "min_over_time"}, function) && (m.Type == "counter" || function == "rate" || function == "increase") {
		problems = append(problems, m.Type+" "+s.Name+" in "+function+"(…)")
	}
	if m.Type == "histogram" {
		problems = append(problems, s.Name+" is for the percentiles of others: the service's are exact")
	}
	matched := map[string]*labels.Matcher{}
	for _, matcher := range s.LabelMatchers {
		matched[matcher.Name] = matcher
		if matcher.Name == labels.MetricName || matcher.Name == "alertname" {
			continue
		}
		if !slices.Contains(m.Labels, matcher.Name) {
			problems = append(problems, s.Name+" has no label "+matcher.Name)
		}
		values, isLiteral := literals[matcher.Name]
		if matcher.Name == "item_type" && m.RollUp {
			values = []string{"all"}
		}
		variable := matcher.Name == "value_stream" && matcher.Type == labels.MatchRegexp || matcher.Name == "window" && matcher.Value == "30d"
		if !variable && (!isLiteral || matcher.Type != labels.MatchEqual || !slices.Contains(values, matcher.Value)) {
			problems = append(problems, fmt.Sprintf("%s: no such value: %s", s.Name, matcher))
		}
	}
	for _, label := range m.Labels {
		// The maximum is over replicas; over anything else it hides all but the largest.
		fixed := matched[label] != nil && matched[label].Type == labels.MatchEqual
		if aggregation == "max" && !fixed && !slices.Contains(kept, label) && s.Name != "ALERTS" && !strings.HasSuffix(s.Name, "_info") {
			problems = append(problems, s.Name+": the maximum hides the label "+label)
		}
	}
	for label, variable := range map[string]string{"value_stream": `value_stream=~"$value_stream"`, "window": `window="$window"`} {
		if slices.Contains(m.Labels, label) && s.Name != "ALERTS" && (matched[label] == nil || !strings.Contains(expr, variable) && matched[label].Value != "7d") {
			problems = append(problems, s.Name+" without "+variable)
		}
	}
	if m.RollUp && matched["item_type"] == nil {
		problems = append(problems, s.Name+` cannot be added over types: item_type="all"`)
	}
	return problems
}

// labelsOf are the labels that the answers to an expression can have.
func labelsOf(expr string) (names []string) {
	tree, err := parser.ParseExpr(inGrafana.Replace(expr))
	if err != nil {
		return nil // which the rule about expressions finds
	}
	parser.Inspect(tree, func(node parser.Node, path []parser.Node) error {
		switch n := node.(type) {
		case *parser.Call:
			if n.Func.Name == "label_replace" {
				names = append(names, n.Args[1].(*parser.StringLiteral).Val)
			}
		case *parser.AggregateExpr:
			// What an aggregation around it does not keep is gone.
			for _, outer := range path {
				if a, is := outer.(*parser.AggregateExpr); is && a.Op != parser.TOPK {
					return nil
				}
			}
			names = append(names, n.Grouping...)
		}
		return nil
	})
	return names
}
