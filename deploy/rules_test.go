package deploy

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/flowmetrics/flowmetrics/internal/exporter"
	"github.com/goccy/go-yaml"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

const (
	alertsFile   = "prometheus/flowmetrics.alerts.yaml"
	recordedFile = "prometheus/flowmetrics.rules.yaml"
)

// A rule is one of a file of rules: an alert or a recorded series.
type rule struct {
	Alert         string            `yaml:"alert,omitempty"`
	Record        string            `yaml:"record,omitempty"`
	Expr          string            `yaml:"expr"`
	For           string            `yaml:"for,omitempty"`
	KeepFiringFor string            `yaml:"keep_firing_for,omitempty"`
	Labels        map[string]string `yaml:"labels,omitempty"`
	Annotations   map[string]string `yaml:"annotations,omitempty"`
}

// A ruleFile is a file of rules.
type ruleFile struct {
	Groups []ruleGroup `yaml:"groups"`
}

type ruleGroup struct {
	Name     string `yaml:"name"`
	Interval string `yaml:"interval"`
	Rules    []rule `yaml:"rules"`
}

// readRules returns the rules of a file, in its order.
func readRules(t testing.TB, file string) []rule {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var f ruleFile
	if err := yaml.UnmarshalWithOptions(text, &f, yaml.Strict()); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var rules []rule
	for _, g := range f.Groups {
		rules = append(rules, g.Rules...)
	}
	if len(rules) == 0 {
		t.Fatalf("%s has no rules", file)
	}
	return rules
}

// promtool runs it in the folder of the rules.
func promtool(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, "FLOWMETRICS_PROMTOOL"), args...)
	cmd.Dir = "prometheus"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestRulesAreValid(t *testing.T) {
	promtool(t, "check", "rules", filepath.Base(recordedFile), filepath.Base(alertsFile))
	promtool(t, "check", "config", "prometheus.yaml")
}

// TestRulesDo runs the unit tests of the rules: each alert fires with the very
// words, does not fire just under its threshold or too early, and recovers.
func TestRulesDo(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("prometheus/tests/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests of the rules: %v", err)
	}
	args := []string{"test", "rules"}
	var tested []string
	for _, file := range files {
		args = append(args, "tests/"+filepath.Base(file))
		tested = append(tested, strings.TrimSuffix(filepath.Base(file), ".yaml"))
	}
	promtool(t, args...)
	wanted := []string{"recorded"}
	for _, r := range readRules(t, alertsFile) {
		wanted = append(wanted, r.Alert)
	}
	slices.Sort(wanted)
	if !slices.Equal(tested, wanted) {
		t.Errorf("tests of %q, want one each of %q", tested, wanted)
	}
}

// TestAlertsAreAsAgreed holds the alerts to the table of leading indicators.
func TestAlertsAreAsAgreed(t *testing.T) {
	type agreed struct{ alert, wait, severity, audience string }
	want := []agreed{
		{"FlowLoadOverLimit", "72h", "ticket", "reviewer"},
		{"FlowLoadRising", "24h", "ticket", "reviewer"},
		{"PredictedFlowTimeOverSLE", "72h", "ticket", "reviewer"},
		{"WorkStarving", "24h", "review", "reviewer"},
		{"OverAgeShare", "24h", "ticket", "reviewer"},
		{"NeglectedWIP", "48h", "review", "reviewer"},
		{"ThroughputSignal", "", "review", "reviewer"},
		{"ReopenSpike", "24h", "review", "reviewer"},
		{"UnmappedStatus", "15m", "ticket", "operator"},
		{"FlowDataStale", "15m", "page", "operator"},
		{"LittleIdentityBroken", "", "page", "operator"},
		{"FlowChangesRejected", "", "ticket", "operator"},
		{"FlowConnectorStalled", "10m", "ticket", "operator"},
		{"FlowMetricsAbsent", "10m", "page", "operator"},
	}
	var have []agreed
	for _, r := range readRules(t, alertsFile) {
		have = append(have, agreed{r.Alert, r.For, r.Labels["severity"], r.Labels["audience"]})
		if len(r.Labels) != 2 {
			t.Errorf("%s has the labels %v, want severity and audience", r.Alert, r.Labels)
		}
		if first := strings.Contains(r.Expr, "flowmetrics_connector_backfill_progress_ratio[1h]"); first != (r.Labels["audience"] == "reviewer") {
			t.Errorf("%s is held back while a source is read for the first time: %v", r.Alert, first)
		}
		if have := slices.Sorted(maps.Keys(r.Annotations)); !slices.Equal(have, []string{"dashboard_url", "description", "runbook_url", "summary"}) {
			t.Errorf("%s has the annotations %q", r.Alert, have)
		}
	}
	if !slices.Equal(have, want) {
		t.Errorf("alerts are\n%v, want\n%v", have, want)
	}
}

// TestRulesUseTheCatalogue sees that each metric and label of each expression is
// exported, that no alert or recorded series is one a replica, and that alerts
// use nothing recorded.
func TestRulesUseTheCatalogue(t *testing.T) {
	metrics := catalogue()
	for _, r := range append(readRules(t, alertsFile), readRules(t, recordedFile)...) {
		for _, problem := range r.problems(metrics) {
			t.Errorf("%s%s: %s", r.Alert, r.Record, problem)
		}
	}
}

// TestProblemsAreFound sees that the test above can fail.
func TestProblemsAreFound(t *testing.T) {
	metrics := catalogue()
	for expr, want := range map[string]string{
		`max by (value_stream) (flow_load)`:                              "flow_load is not exported",
		`max by (value_stream) (flow_load_items{type="defect"})`:         "flow_load_items has no label type",
		`max by (stream) (flow_load_items)`:                              "no label stream to group by",
		`max by (value_stream) (sum without (window) (flow_load_items))`: "no label window to group by",
		`flow_load_items`: "one alert or series for each instance",
		`max without (instance) (flow_load_limit_items)`:                                                 "one alert or series for each job",
		`max by (value_stream, item_type) (flow_load_items)`:                                             "one alert or series for each item_type",
		`max by (value_stream) (flow_load_items) > max by (item_type) (flow_load_items)`:                 "labels differ",
		`max by (value_stream) (flow_load_items) > on (source) max(flow_load_items)`:                     "no label source to match on",
		`max by (value_stream) (flow_load_items) and max by (value_stream, item_type) (flow_load_items)`: "labels differ",
		`max by (value_stream) (`: "unclosed",
	} {
		r := rule{Alert: "Test", Expr: expr, Labels: map[string]string{"audience": "reviewer"}}
		if found := r.problems(metrics); !strings.Contains(strings.Join(found, "\n"), want) {
			t.Errorf("%s: found %q, want %q", expr, found, want)
		}
	}
	r := rule{Expr: "max by (value_stream) (flow_load_limit_items)", Labels: map[string]string{"audience": "reviewer"}, Annotations: map[string]string{
		"summary": `{{ $labels.source }}`, "description": `{{ with printf "max(flow_limit{value_stream=%q})" $labels.value_stream | query }}{{ end }}`,
	}}
	if found := strings.Join(r.problems(metrics), "\n"); !strings.Contains(found, "no label source to show") || !strings.Contains(found, "flow_limit is not exported") {
		t.Errorf("annotations: found %s", found)
	}
}

// catalogue returns the labels of each exported metric.
func catalogue() map[string][]string {
	metrics := map[string][]string{}
	for _, m := range exporter.Catalogue() {
		metrics[m.Name] = m.Labels
	}
	return metrics
}

var (
	shownLabel = regexp.MustCompile(`\$labels\.(\w+)`)
	shownQuery = regexp.MustCompile(`printf "((?:[^"\\]|\\.)*)" \$labels`)
)

// problems returns what is wrong with a rule, as far as it can be told from the
// metrics alone.
func (r *rule) problems(metrics map[string][]string) (problems []string) {
	say := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	expr, err := parser.ParseExpr(r.Expr)
	if err != nil {
		return []string{err.Error()}
	}
	have := resultLabels(expr, metrics, say)
	keep := []string{"invariant", "reason", "source", "value_stream"}
	switch {
	case r.Record != "":
		level, _, _ := strings.Cut(r.Record, ":")
		keep = nil
		for _, label := range have {
			if !strings.Contains("_"+level+"_", "_"+label+"_") {
				say("%s, which is none of the level %s", label, level)
			}
			keep = append(keep, label)
		}
	case r.Labels["audience"] == "reviewer":
		keep = []string{"value_stream"}
		if !slices.Equal(have, keep) {
			say("an alert about value streams has the labels %q", have)
		}
	}
	for _, label := range have {
		if !slices.Contains(keep, label) || label == "job" || label == "instance" {
			say("one alert or series for each %s", label)
		}
	}
	for _, text := range r.Annotations {
		for _, m := range shownLabel.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(have, m[1]) {
				say("no label %s to show", m[1])
			}
		}
		for _, m := range shownQuery.FindAllStringSubmatch(text, -1) {
			query, err := parser.ParseExpr(strings.ReplaceAll(m[1], "%q", `"x"`))
			if err != nil {
				say("%v", err)
				continue
			}
			if left := resultLabels(query, metrics, say); len(left) > 0 {
				say("an annotation's query has one value for each of %q", left)
			}
		}
	}
	return problems
}

// resultLabels returns the labels of what an expression comes to, sorted, and
// says which metrics and labels in it do not exist.
func resultLabels(expr parser.Expr, metrics map[string][]string, say func(format string, args ...any)) []string {
	need := func(have, want []string, what string) {
		for _, label := range want {
			if !slices.Contains(have, label) {
				say("no label %s to %s", label, what)
			}
		}
	}
	switch e := expr.(type) {
	case *parser.VectorSelector:
		known, ok := metrics[e.Name]
		if !ok {
			say("%s is not exported", e.Name)
		}
		have := append([]string{"instance", "job"}, known...)
		slices.Sort(have)
		for _, m := range e.LabelMatchers {
			if m.Name != labels.MetricName && !slices.Contains(have, m.Name) {
				say("%s has no label %s", e.Name, m.Name)
			}
		}
		return have
	case *parser.MatrixSelector:
		return resultLabels(e.VectorSelector, metrics, say)
	case *parser.ParenExpr:
		return resultLabels(e.Expr, metrics, say)
	case *parser.AggregateExpr:
		have := resultLabels(e.Expr, metrics, say)
		need(have, e.Grouping, "group by")
		return slices.DeleteFunc(have, func(label string) bool { return slices.Contains(e.Grouping, label) == e.Without })
	case *parser.Call:
		var have []string
		for _, arg := range e.Args {
			have = append(have, resultLabels(arg, metrics, say)...)
		}
		if e.Func.Name == "absent" {
			return nil
		}
		return have
	case *parser.BinaryExpr:
		left, right := resultLabels(e.LHS, metrics, say), resultLabels(e.RHS, metrics, say)
		if e.VectorMatching == nil { // one of them is a number
			return slices.Concat(left, right)
		}
		switch {
		case e.VectorMatching.On:
			need(left, e.VectorMatching.MatchingLabels, "match on")
			need(right, e.VectorMatching.MatchingLabels, "match on")
		case e.Op == parser.LOR:
			left = append(left, right...)
			slices.Sort(left)
			return slices.Compact(left)
		case !slices.Equal(left, right):
			say("the labels differ, so that nothing matches: %q and %q", left, right)
		}
		return left
	case *parser.NumberLiteral, *parser.StringLiteral:
		return nil
	default:
		say("an expression of type %T, which no rule has", e)
		return nil
	}
}
