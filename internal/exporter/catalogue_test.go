package exporter

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
)

// declaration is how testdata/catalogue.txt writes a metric.
func declaration(name, kind string, labels []string, rollUp bool) string {
	line := name + " " + kind
	if len(labels) > 0 {
		line += " " + strings.Join(labels, ",")
	}
	if rollUp {
		line += " *"
	}
	return line
}

// promised returns the lines of testdata/catalogue.txt in order of their names.
func promised(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile("testdata/catalogue.txt")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(raw)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

// compareCatalogue compares what somewhere is declared with what is promised.
func compareCatalogue(t *testing.T, where string, got []string) {
	t.Helper()
	slices.Sort(got)
	if diff := cmp.Diff(promised(t), got); diff != "" {
		t.Errorf("%s is not testdata/catalogue.txt (-want +got):\n%s", where, diff)
	}
}

// TestCatalogue holds the names, types and labels that dashboards and alerts of
// other people rely on, and the document that describes them.
func TestCatalogue(t *testing.T) {
	var lines []string
	for _, m := range Catalogue() {
		lines = append(lines, declaration(m.Name, m.Type, m.Labels, m.RollUp))
		if !strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s: help is no sentence: %s", m.Name, m.Help)
		}
		for suffix, unit := range map[string]string{
			"_seconds": "in seconds|, in seconds,", "_ratio": "0 to 1", "_p_value": "0 to 1", "_bytes": "in bytes",
			"_items": "[Ii]tems|Entries|Exits|[Rr]eopenings", "_messages": "Messages", "_limit_items": "limit|quantile",
		} {
			if strings.HasSuffix(m.Name, suffix) && !regexp.MustCompile(unit).MatchString(m.Help) {
				t.Errorf("%s: help does not name the unit: %s", m.Name, m.Help)
			}
		}
	}
	compareCatalogue(t, "the table of the code", lines)
	golden(t, "../../dashboards/METRICS.md", Markdown())
}

// TestDocument reads the document as people do: its tables.
func TestDocument(t *testing.T) {
	raw, err := os.ReadFile("../../dashboards/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(flow[a-z0-9_]*)`( \\*)? \\| ([a-z]+) \\| ([a-z_, ]*) \\| .+ \\|$").FindAllStringSubmatch(string(raw), -1) {
		var labels []string
		if row[4] != "" {
			labels = strings.Split(row[4], ", ")
		}
		lines = append(lines, declaration(row[1], row[3], labels, row[2] != ""))
	}
	compareCatalogue(t, "dashboards/METRICS.md", lines)
}

// everything is an exporter of ten months of work, in which each metric has a
// sample.
func everything() *Exporter {
	e := New(build, service)
	e.Update(flow.Measure(worldPolicy(2), world(1, 2, 43, 8), worldEnd, flow.Options{}))
	return e
}

// TestScrapeIsCatalogue scrapes over the network, in the plainest format.
func TestScrapeIsCatalogue(t *testing.T) {
	server := httptest.NewServer(everything())
	defer server.Close()
	resp, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	order := map[string][]string{} // labels as they are declared: a page has them by name
	for _, line := range promised(t) {
		if fields := strings.Fields(line); len(fields) > 2 {
			order[fields[0]] = strings.Split(fields[2], ",")
		}
	}
	var lines []string
	for name, family := range parse(t, body) {
		if strings.HasPrefix(name, "go_") {
			continue // of the runtime
		}
		labels, rollUp := labelsOf(t, family)
		if want := order[name]; slices.Equal(labels, slices.Sorted(slices.Values(want))) {
			labels = want
		}
		lines = append(lines, declaration(name, typeName(family.GetType()), labels, rollUp))
	}
	compareCatalogue(t, "/metrics", lines)
}

// labelsOf returns the labels of a family, which all its samples have, by name,
// and whether there is a roll-up over the item types.
func labelsOf(t *testing.T, family *dto.MetricFamily) (labels []string, rollUp bool) {
	t.Helper()
	for i, m := range family.GetMetric() {
		var names []string
		for _, l := range m.GetLabel() {
			names = append(names, l.GetName())
			rollUp = rollUp || l.GetName() == "item_type" && l.GetValue() == all
		}
		slices.Sort(names)
		if i > 0 && !slices.Equal(names, labels) {
			t.Errorf("%s has samples with labels %v and %v", family.GetName(), labels, names)
		}
		labels = names
	}
	return labels, rollUp
}

func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(everything())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}
