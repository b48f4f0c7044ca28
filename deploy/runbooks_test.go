package deploy

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
)

const (
	runbooks    = "https://github.com/flowmetrics/flowmetrics/blob/main/deploy/runbooks/"
	grafanaBase = `{{ or $externalLabels.grafana_url "http://127.0.0.1:3000" }}`
)

// sections are those that each runbook has, in order.
var sections = []string{
	"Meaning", "Condition, and why it is sound", "How often it is wrong", "Who acts", "First look",
	"What usually causes it", "What to do", "The threshold", "Silence",
}

// measured are the runbooks with figures from simulated value streams.
var measured = []string{"FlowLoadOverLimit", "FlowLoadRising", "PredictedFlowTimeOverSLE"}

var (
	heading    = regexp.MustCompile(`(?m)^## (.+)$`)
	metricName = regexp.MustCompile(`(?:^|[^.\w])(flow(?:metrics)?_[a-z0-9_]+)`)
	asked      = regexp.MustCompile("(?s)```promql\n(.*?)```")
	emphasis   = regexp.MustCompile(`(?:^|[^*])\*([^*]+)\*(?:[^*]|$)`)
	pageLink   = regexp.MustCompile(`\]\(([^)]+)\)`)
)

func readPage(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("runbooks/" + name + ".md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestRunbooks sees that each alert has a page and each page an alert, that the
// pages have one form, and that what they name exists.
func TestRunbooks(t *testing.T) {
	metrics := catalogue()
	pages := map[string]bool{}
	files, err := filepath.Glob("runbooks/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		pages[strings.TrimSuffix(filepath.Base(file), ".md")] = true
	}
	titles := []string{"in flow", "finished"} // these two are emphasised for what they mean
	for _, d := range readDashboards(t) {
		name := strings.ReplaceAll(strings.TrimSuffix(d.file, ".json"), "-", " ")
		titles = append(titles, strings.ToUpper(name[:1])+name[1:])
		for _, p := range d.Panels {
			titles = append(titles, p.Title)
		}
	}
	index := readPage(t, "README")
	checkLinks(t, "README", index)
	delete(pages, "README")
	row := 0 // where the index is, so that its rows have the order of the alerts
	for _, r := range readRules(t, alertsFile) {
		if !pages[r.Alert] {
			t.Errorf("%s has no runbook", r.Alert)
			continue
		}
		delete(pages, r.Alert)
		if have := r.Annotations["runbook_url"]; have != runbooks+r.Alert+".md" {
			t.Errorf("%s leads to the runbook %s", r.Alert, have)
		}
		entry := fmt.Sprintf("| [%s](%[1]s.md) | %s | %s |", r.Alert, r.Labels["severity"], r.Labels["audience"])
		if at := strings.Index(index[row:], entry); at < 0 {
			t.Errorf("README.md has no row %s after the one before", entry)
		} else {
			row += at
		}

		text := readPage(t, r.Alert)
		checkLinks(t, r.Alert, text)
		or := func(text string) string {
			if text == "" {
				return "at once"
			}
			return text
		}
		head := fmt.Sprintf("# %s\n\n| severity | audience | fires after | ends after |\n| --- | --- | --- | --- |\n| %s | %s | %s | %s |\n\n",
			r.Alert, r.Labels["severity"], r.Labels["audience"], or(r.For), or(r.KeepFiringFor))
		if !strings.HasPrefix(text, head) {
			t.Errorf("%s.md does not begin with\n%s", r.Alert, head)
		}
		var have []string
		for _, m := range heading.FindAllStringSubmatch(text, -1) {
			have = append(have, m[1])
		}
		if !slices.Equal(have, sections) {
			t.Errorf("%s.md has the sections %q, want %q", r.Alert, have, sections)
		}
		for i, part := range heading.Split(text, -1) {
			if strings.TrimSpace(part) == "" {
				t.Errorf("%s.md: section %d is empty", r.Alert, i)
			}
		}
		for _, m := range emphasis.FindAllStringSubmatch(withoutQueries(text), -1) {
			if name := strings.Join(strings.Fields(m[1]), " "); !slices.Contains(titles, name) {
				t.Errorf("%s.md names %q, which is neither a dashboard nor a panel", r.Alert, name)
			}
		}
		for _, m := range metricName.FindAllStringSubmatch(text, -1) {
			if _, known := metrics[m[1]]; !known {
				t.Errorf("%s.md names %s, which is not exported", r.Alert, m[1])
			}
		}
		queries := queriesOf(text)
		if len(queries) == 0 {
			t.Errorf("%s.md has nothing to ask Prometheus", r.Alert)
		}
		for _, line := range queries {
			expr, err := parser.ParseExpr(line)
			if err != nil {
				t.Errorf("%s.md: %v in %s", r.Alert, err, line)
				continue
			}
			resultLabels(expr, metrics, func(format string, args ...any) {
				t.Errorf("%s.md: %s in %s", r.Alert, fmt.Sprintf(format, args...), line)
			})
		}
		if want := slices.Contains(measured, r.Alert); hasFigures(text) != want {
			t.Errorf("%s.md: figures are to be there: %v", r.Alert, want)
		}
	}
	if !hasFigures(index) {
		t.Error("README.md has no figures")
	}
	for page := range pages {
		t.Errorf("%s.md is of no alert", page)
	}
}

// hasFigures tells whether a page has a place for what was measured.
func hasFigures(text string) bool {
	begin, end := strings.Index(text, "<!-- measured -->\n"), strings.Index(text, "<!-- /measured -->\n")
	return begin >= 0 && begin < end
}

// withoutQueries returns a page without what it asks Prometheus.
func withoutQueries(text string) string { return asked.ReplaceAllString(text, "") }

// queriesOf returns what a page asks Prometheus.
func queriesOf(text string) (queries []string) {
	for _, block := range asked.FindAllStringSubmatch(text, -1) {
		queries = append(queries, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	return queries
}

// checkLinks sees that the relative links of a page lead somewhere.
func checkLinks(t *testing.T, page, text string) {
	t.Helper()
	for _, m := range pageLink.FindAllStringSubmatch(text, -1) {
		file, anchor, _ := strings.Cut(m[1], "#")
		target, err := os.ReadFile(filepath.Join("runbooks", file))
		if err != nil {
			t.Errorf("%s.md: %v", page, err)
			continue
		}
		found := anchor == ""
		for _, h := range heading.FindAllStringSubmatch(string(target), -1) {
			found = found || strings.ReplaceAll(strings.ReplaceAll(strings.ToLower(h[1]), ",", ""), " ", "-") == anchor
		}
		if !found {
			t.Errorf("%s.md: %s has no section %s", page, file, anchor)
		}
	}
}

// TestAlertsLeadToDashboards sees that the dashboard of each alert exists, and has
// the variable that the link sets.
func TestAlertsLeadToDashboards(t *testing.T) {
	variables := map[string][]string{} // by uid
	for _, d := range readDashboards(t) {
		variables[d.UID] = []string{}
		for _, v := range d.Templating.List {
			variables[d.UID] = append(variables[d.UID], v.Name)
		}
	}
	shown := regexp.MustCompile(`\{\{ \$labels\.(\w+) \| urlquery \}\}`)
	for _, r := range readRules(t, alertsFile) {
		link := r.Annotations["dashboard_url"]
		rest, ok := strings.CutPrefix(link, grafanaBase)
		if !ok {
			t.Errorf("%s: %s does not begin with the address of Grafana", r.Alert, link)
			continue
		}
		u, err := url.Parse(shown.ReplaceAllString(rest, "$1"))
		if err != nil {
			t.Errorf("%s: %v", r.Alert, err)
			continue
		}
		known, ok := variables[strings.TrimPrefix(u.Path, "/d/")]
		if !ok {
			t.Errorf("%s: there is no dashboard %s", r.Alert, u.Path)
		}
		for name, values := range u.Query() {
			if variable := strings.TrimPrefix(name, "var-"); !slices.Contains(known, variable) || values[0] != variable {
				t.Errorf("%s: %s sets %s, where the variables are %q", r.Alert, link, name, known)
			}
		}
		if r.Labels["audience"] == "reviewer" && u.Query().Get("var-value_stream") == "" {
			t.Errorf("%s: %s does not lead to the value stream", r.Alert, link)
		}
	}
}
