package deploy

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// A mutant is a rule with one mistake in it.
type mutant struct {
	mistake string
	rule    rule
}

// further are mistakes that are made by hand: of an alert, what to replace by what.
var further = map[string][][2]string{
	// Ranges that are long enough for a source or replica that is gone to be reported.
	"FlowDataStale": {
		{"snapshot_timestamp_seconds[40m]", "snapshot_timestamp_seconds[80m]"},
		{"max by (source) (last_over_time(flowmetrics_connector_last_success_timestamp_seconds[40m])", "max by (source) (last_over_time(flowmetrics_connector_last_success_timestamp_seconds[80m])"},
	},
	"FlowConnectorStalled": {{"timestamp_seconds[20m]", "timestamp_seconds[40m]"}},
	// What looks right, and takes a replay after a restart for news.
	"FlowChangesRejected": {
		{
			"max by (reason) (max_over_time(flowmetrics_log_rejected_total[1h])) - max by (reason) (max_over_time(flowmetrics_log_rejected_total[1h] offset 1h))",
			"max by (reason) (increase(flowmetrics_log_rejected_total[1h]))",
		},
		// And what takes a replica that has counted less, or begins later, for news.
		{
			"max by (reason) ( max_over_time(flowmetrics_log_rejected_total[1h]) - min_over_time(flowmetrics_log_rejected_total[1h]) )",
			"max by (reason) (max_over_time(flowmetrics_log_rejected_total[1h])) - min by (reason) (min_over_time(flowmetrics_log_rejected_total[1h]))",
		},
		{
			"max by (reason) ( max_over_time(flowmetrics_log_rejected_total[1h]) - min_over_time(flowmetrics_log_rejected_total[1h]) )",
			"max by (reason) (max_over_time(flowmetrics_log_rejected_total[1h])) - max by (reason) (min_over_time(flowmetrics_log_rejected_total[1h]))",
		},
	},
}

// TestMistakesAreFound makes mistakes in each alert, one at a time: another
// threshold, comparison or time, a metric or label that does not exist, a replica
// counted twice, a gap that is not bridged. The check against the catalogue or the
// alert's unit tests have to find every one.
func TestMistakesAreFound(t *testing.T) {
	metrics := catalogue()
	for _, r := range readRules(t, alertsFile) {
		t.Run(r.Alert, func(t *testing.T) {
			t.Parallel()
			tests := readSuite(t, r.Alert)
			mutants := mistakes(t, r, tests.step(t))
			subtle := []mutant{{"none", r}}
			for _, m := range mutants {
				if len(m.rule.problems(metrics)) == 0 {
					subtle = append(subtle, m)
				}
			}
			t.Logf("%d mistakes, %d of them left to the unit tests", len(mutants), len(subtle)-1)
			passed := tests.run(t, subtle)
			if !slices.Contains(passed, "none") {
				t.Fatal("the alert alone does not pass its tests")
			}
			if len(passed) == len(subtle) {
				t.Fatal("no mistake is found")
			}
			for _, mistake := range passed {
				if mistake != "none" {
					t.Errorf("no test finds this mistake: %s", mistake)
				}
			}
		})
	}
}

// A suite is a file of unit tests of rules, as far as it is needed here.
type suite struct {
	RuleFiles []string    `yaml:"rule_files"`
	Step      string      `yaml:"evaluation_interval"`
	Tests     []suiteTest `yaml:"tests"`
}

type suiteTest struct {
	Name           string            `yaml:"name,omitempty"`
	Interval       string            `yaml:"interval"`
	ExternalLabels map[string]string `yaml:"external_labels,omitempty"`
	Series         []any             `yaml:"input_series"`
	Alerts         []alertTest       `yaml:"alert_rule_test"`
}

type alertTest struct {
	At    string `yaml:"eval_time"`
	Alert string `yaml:"alertname"`
	Want  []any  `yaml:"exp_alerts,omitempty"`
}

// readSuite returns the unit tests of an alert.
func readSuite(t testing.TB, alert string) *suite {
	t.Helper()
	text, err := os.ReadFile("prometheus/tests/" + alert + ".yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := &suite{}
	if err := yaml.UnmarshalWithOptions(text, s, yaml.Strict()); err != nil {
		t.Fatalf("unit tests of %s: %v", alert, err)
	}
	if !slices.Equal(s.RuleFiles, []string{"../flowmetrics.alerts.yaml"}) {
		t.Fatalf("the unit tests of %s are of %q", alert, s.RuleFiles)
	}
	return s
}

// step is how exactly the tests know the time.
func (s *suite) step(t testing.TB) time.Duration { return duration(t, s.Step) }

var (
	failedAlert = regexp.MustCompile(`(?m)^\s*alertname: mutant (\d+), time: `)
	failedRule  = regexp.MustCompile(`(?m)^\s*rule: mutant (\d+), time: `)
)

// run runs the tests on all mutants, and returns the mistakes that they do not
// find. What one test finds, the next ones need not.
func (s *suite) run(t *testing.T, mutants []mutant) (passed []string) {
	t.Helper()
	left := mutants
	for i := range s.Tests {
		left = s.runTest(t, s.Tests[i], left)
	}
	for _, m := range left {
		passed = append(passed, m.mistake)
	}
	return passed
}

// runTest runs a test on mutants at once, each an alert with a name of its own,
// and returns those that it does not find.
func (s *suite) runTest(t *testing.T, test suiteTest, mutants []mutant) (passed []mutant) {
	t.Helper()
	group := ruleGroup{Name: "mutants", Interval: "1m"}
	for i, m := range mutants {
		m.rule.Alert = fmt.Sprintf("mutant %d", i)
		group.Rules = append(group.Rules, m.rule)
	}
	alerts := test.Alerts
	test.Alerts = nil
	for _, a := range alerts {
		for _, r := range group.Rules {
			a.Alert = r.Alert
			test.Alerts = append(test.Alerts, a)
		}
	}
	one := suite{RuleFiles: []string{"rules.yaml"}, Step: s.Step, Tests: []suiteTest{test}}
	dir := t.TempDir()
	for name, content := range map[string]any{"rules.yaml": ruleFile{Groups: []ruleGroup{group}}, "tests.yaml": one} {
		text, err := yaml.MarshalWithOptions(content, yaml.JSON())
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(text))
	}
	out, err := exec.CommandContext(t.Context(), tool(t, "FLOWMETRICS_PROMTOOL"), "test", "rules", filepath.Join(dir, "tests.yaml")).CombinedOutput()
	if m := failedRule.FindSubmatch(out); m != nil {
		i, _ := strconv.Atoi(string(m[1]))
		t.Fatalf("it cannot be computed: %s", mutants[i].mistake) // promtool then looks at no other
	}
	found := map[string]bool{}
	for _, m := range failedAlert.FindAllSubmatch(out, -1) {
		found[string(m[1])] = true
	}
	if err != nil && len(found) == 0 {
		t.Fatalf("promtool: %v\n%s", err, out)
	}
	for i, m := range mutants {
		if !found[strconv.Itoa(i)] {
			passed = append(passed, m)
		}
	}
	return passed
}

func duration(t testing.TB, text string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// mistakes returns a rule with one mistake each; step is how exactly its tests
// know the time.
func mistakes(t *testing.T, r rule, step time.Duration) (mutants []mutant) {
	add := func(mistake string, change func(*rule)) {
		m := r
		m.Labels, m.Annotations = maps.Clone(r.Labels), maps.Clone(r.Annotations)
		change(&m)
		mutants = append(mutants, mutant{mistake, m})
	}
	for name, at := range map[string]func(*rule) *string{
		"for":             func(r *rule) *string { return &r.For },
		"keep_firing_for": func(r *rule) *string { return &r.KeepFiringFor },
	} {
		now := time.Duration(0)
		if text := *at(&r); text != "" {
			now = duration(t, text)
			add(name+" is shorter", func(r *rule) { *at(r) = (now - step).String() })
		}
		add(name+" is longer", func(r *rule) { *at(r) = (now + step).String() })
	}
	add("another severity", func(r *rule) { r.Labels["severity"] = "info" })
	for name := range r.Annotations {
		add("no "+name, func(r *rule) { delete(r.Annotations, name) })
	}
	nodes := len(nodesOf(t, r.Expr))
	for i := range nodes {
		for mistake, change := range changesOf(nodesOf(t, r.Expr)[i]) {
			fresh := nodesOf(t, r.Expr)
			before := describe(fresh[i])
			change(fresh[i])
			expr := fresh[0].node.String()
			add(fmt.Sprintf("%s: %s", mistake, before), func(r *rule) { r.Expr = expr })
		}
	}
	for _, change := range further[r.Alert] {
		expr := strings.Join(strings.Fields(r.Expr), " ")
		if !strings.Contains(expr, change[0]) {
			t.Fatalf("there is no %s in %s", change[0], expr)
		}
		add(change[1]+" instead of "+change[0], func(r *rule) { r.Expr = strings.Replace(expr, change[0], change[1], 1) })
	}
	return mutants
}

// A place is a node of an expression, with what it stands in.
type place struct {
	node   parser.Node
	parent parser.Node // nil of the whole
}

// nodesOf returns all nodes of an expression, itself first, always in the same
// order.
func nodesOf(t *testing.T, expr string) (places []place) {
	t.Helper()
	whole, err := parser.ParseExpr(expr)
	if err != nil {
		t.Fatal(err)
	}
	parser.Inspect(whole, func(node parser.Node, path []parser.Node) error {
		if node != nil {
			p := place{node: node}
			if len(path) > 0 {
				p.parent = path[len(path)-1]
			}
			places = append(places, p)
		}
		return nil
	})
	return places
}

// describe says which node it is.
func describe(p place) string {
	text := strings.Join(strings.Fields(p.node.String()), " ")
	if len(text) < 30 && p.parent != nil {
		text += " in " + strings.Join(strings.Fields(p.parent.String()), " ")
	}
	return text
}

// otherOps are the operators that one may be mistaken for.
var otherOps = map[parser.ItemType][]parser.ItemType{
	parser.GTR: {parser.LSS, parser.GTE}, parser.GTE: {parser.LTE, parser.GTR},
	parser.LSS: {parser.GTR, parser.LTE}, parser.LTE: {parser.GTE, parser.LSS},
	parser.LAND: {parser.LOR}, parser.LOR: {parser.LAND}, parser.LUNLESS: {parser.LAND},
	parser.ADD: {parser.SUB}, parser.SUB: {parser.ADD}, parser.MUL: {parser.DIV}, parser.DIV: {parser.MUL},
}

// changesOf returns what can be mistaken at a node, by name.
func changesOf(p place) map[string]func(place) {
	changes := map[string]func(place){}
	switch node := p.node.(type) {
	case *parser.NumberLiteral:
		by := []float64{0.1 * node.Val, -0.1 * node.Val}
		if within, ok := p.parent.(*parser.BinaryExpr); ok && within.Op.IsComparisonOperator() && node.Val == float64(int(node.Val)) && node.Val < 100 {
			by = []float64{1, -1}
		}
		for _, by := range by {
			changes[fmt.Sprintf("%+g", by)] = func(p place) { p.node.(*parser.NumberLiteral).Val += by }
		}
	case *parser.BinaryExpr:
		for _, op := range otherOps[node.Op] {
			changes[node.Op.String()+" is "+op.String()] = func(p place) {
				node := p.node.(*parser.BinaryExpr)
				node.Op = op
			}
		}
	case *parser.AggregateExpr:
		op := parser.ItemType(parser.SUM)
		if node.Op != parser.MAX {
			op = parser.MAX
		}
		changes["is "+op.String()] = func(p place) { p.node.(*parser.AggregateExpr).Op = op }
		for i, label := range node.Grouping {
			changes["without label "+label] = func(p place) {
				node := p.node.(*parser.AggregateExpr)
				node.Grouping = slices.Delete(node.Grouping, i, i+1)
			}
			changes["wrong label "+label] = func(p place) { p.node.(*parser.AggregateExpr).Grouping[i] += "s" }
		}
	case *parser.MatrixSelector:
		changes["shorter range"] = func(p place) { p.node.(*parser.MatrixSelector).Range /= 4 }
	case *parser.VectorSelector:
		changes["wrong name"] = func(p place) {
			node := p.node.(*parser.VectorSelector)
			node.Name += "s"
			for _, m := range node.LabelMatchers {
				if m.Name == labels.MetricName {
					m.Value += "s"
				}
			}
		}
		changes["matches nothing"] = func(p place) {
			node := p.node.(*parser.VectorSelector)
			node.LabelMatchers = append(node.LabelMatchers, labels.MustNewMatcher(labels.MatchEqual, "job", "elsewhere"))
		}
	}
	return changes
}
