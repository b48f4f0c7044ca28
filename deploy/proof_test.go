package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	shippedStep    = 4 * time.Minute // as shipped
	scrapeInterval = time.Second
)

// A world is all that an installation consists of: a service, its history in
// Prometheus' blocks, and a Prometheus that has loaded them, scrapes the service
// and computes the rules that are shipped.
type world struct {
	*prometheus
	demo       *service
	config     string    // file of the demo's configuration
	from, seam time.Time // of the history
	data       string    // folder of Prometheus
	now        time.Time // the instant at which tests look
}

func newWorld(t testing.TB) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{demo: serve(t, "demo", "--data-dir", dir), config: filepath.Join(dir, "demo.yaml"), data: t.TempDir()}
	w.seam = time.Now().UTC().Truncate(shippedStep)
	w.from = w.seam.AddDate(0, -15, 0)
	flowmetrics(t, "history", "--config", w.config, "--url", w.demo.URL, "--job", "flowmetrics", "--instance", w.demo.Address,
		"--from", w.from.Format(time.RFC3339), "--to", w.seam.Format(time.RFC3339), "--step", shippedStep.String(), "--out", w.data, "--format", "blocks")
	rules := t.TempDir()
	files, err := filepath.Glob("prometheus/flowmetrics.*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no rules: %v", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// Evaluated each second: nobody waits for a minute here.
		write(t, filepath.Join(rules, filepath.Base(file)), regexp.MustCompile(`(?m)^(\s+interval:) \w+`).ReplaceAllString(string(text), "$1 1s"))
	}
	w.prometheus = startPrometheus(t, w.data, fmt.Sprintf(`
global: {scrape_interval: %s}
rule_files: [%q]
scrape_configs: [{job_name: flowmetrics, static_configs: [{targets: [%q]}]}]
`, scrapeInterval, rules+"/*.yaml", w.demo.Address))
	eventually(t, "scrapes, and a round of all rules", func() bool {
		w.now = time.Now()
		n, _ := w.value(t, `count_over_time(up{job="flowmetrics"}[1m])`, w.now)
		return n >= 4 && !slices.ContainsFunc(w.rules(t), func(r loadedRule) bool { return r.Evaluated.IsZero() })
	})
	return w
}

// A loadedRule is a rule as Prometheus has loaded it.
type loadedRule struct {
	Name, Query, Type, Health, LastError string
	Evaluated                            time.Time `json:"lastEvaluation"`
}

func (p *prometheus) rules(t testing.TB) []loadedRule {
	t.Helper()
	var found struct {
		Groups []struct{ Rules []loadedRule }
	}
	p.must(t, "/api/v1/rules", nil, &found)
	var all []loadedRule
	for _, g := range found.Groups {
		all = append(all, g.Rules...)
	}
	return all
}

// TestProof starts everything as an installation has it, and sees that people see
// something, and that it is right.
func TestProof(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Run("every panel has data", func(t *testing.T) {
		c := newChecker(w.prometheus, w.now, scrapeInterval)
		for _, d := range readDashboards(t) {
			c.dashboard(t, d)
		}
		for _, p := range c.problems {
			t.Error(p)
		}
		t.Logf("%d questions", len(c.asked))
	})
	t.Run("every rule has data", w.testRules)
	t.Run("what runbooks ask is answered", w.testRunbooks)
	t.Run("headlines are what is measured", w.testHeadlines)
	t.Run("loaded and scraped are one", w.testSeam)
	t.Run("panels of alerts show their conditions", w.testLeading)
	t.Run("mistakes are found", w.testMutations)
	t.Run("blocks hold what was written", w.testBlocks)
}

// testRules checks that each rule can be evaluated, that each recording rule
// records and that each alert looks at something.
func (w *world) testRules(t *testing.T) {
	c := newChecker(w.prometheus, w.now, scrapeInterval)
	kinds := map[string]int{}
	for _, r := range w.rules(t) {
		kinds[r.Type]++
		if r.Health != "ok" {
			t.Errorf("%s is %s: %s", r.Name, r.Health, r.LastError)
		}
		selectors, err := selectorsOf(r.Query)
		if err != nil {
			t.Errorf("%s: %v", r.Name, err)
			continue
		}
		c.selectors(t, r.Name, selectors, w.now.Add(-time.Hour), w.now)
		if r.Type == "recording" && !shows(w.query(t, r.Query, w.now), w.now) {
			t.Errorf("%s records nothing: %s", r.Name, r.Query)
		}
	}
	for _, p := range c.problems {
		t.Error(p)
	}
	if kinds["recording"] < 5 || kinds["alerting"] < 14 {
		t.Errorf("rules: %v", kinds)
	}
}

// testRunbooks checks that what a runbook asks Prometheus, pasted as it is, has an
// answer, but for what is there only when something is wrong.
func (w *world) testRunbooks(t *testing.T) {
	for _, r := range readRules(t, alertsFile) {
		for _, query := range queriesOf(readPage(t, r.Alert)) {
			trouble := strings.HasSuffix(query, "> 0") || strings.Contains(query, "flowmetrics_connector_")
			if len(w.query(t, query, w.now)) == 0 && !trouble {
				t.Errorf("%s: no answer to %s", r.Alert, query)
			}
		}
	}
}

// testMutations makes one mistake at a time in a dashboard, which the check that
// the shipped ones have passed has to report.
func (w *world) testMutations(t *testing.T) {
	for _, m := range [...]struct{ file, old, mistake, want string }{
		{"weekly-operating-review.json", `flow_load_oldest_age_seconds`, `flow_load_oldest_seconds`, "no data"},
		{"weekly-operating-review.json", `measure=\"flow_time\"`, `measure=\"time\"`, "no series"},
		{"weekly-operating-review.json", `item_type=\"all\"`, `type=\"all\"`, "no data"},
		{"weekly-operating-review.json", `window=\"$window\"`, `window=\"$interval\"`, "$interval is no variable"},
		{"weekly-operating-review.json", `label_values(flow_velocity_items, window)`, `label_values(flow_velocity_items, windows)`, "variable window: no values"},
		{"monthly-portfolio-review.json", `sort_desc(`, `sort_desc((`, "parse error"},
		{"quarterly-review.json", `offset 52w`, `offset 152w`, "no data"},
		{"quarterly-review.json", `{value_stream=~\"$value_stream\"`, `{value_stream=\"$value_stream\"`, "no data"},
		{"leading-indicators.json", `flow_net_flow_p_value`, `flow_net_flow_p`, "no series"},
		{"leading-indicators.json", `"now-30d"`, `"now-5y"`, "nothing in the first half of the range"},
		{"service-health.json", `flowmetrics_log_bytes`, `flowmetrics_log_size_bytes`, "no data"},
		{"service-health.json", `$__rate_interval`, `500ms`, "no data"},
	} {
		text, err := os.ReadFile("../dashboards/" + m.file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), m.old) {
			t.Errorf("%s has no %s to make a mistake in", m.file, m.old)
			continue
		}
		d, err := parseDashboard(m.file, strings.ReplaceAll(string(text), m.old, m.mistake))
		if err != nil {
			t.Fatal(err)
		}
		c := newChecker(w.prometheus, w.now, scrapeInterval)
		c.opening = true
		c.dashboard(t, d)
		if !slices.ContainsFunc(c.problems, func(p string) bool { return strings.Contains(p, m.want) }) {
			t.Errorf("%s instead of %s in %s is not found: %q", m.mistake, m.old, m.file, c.problems)
		}
	}
}

// testBlocks checks that the blocks say of themselves that they hold as many
// samples as were written, and that Prometheus finds as many in some of them.
func (w *world) testBlocks(t *testing.T) {
	metas, err := filepath.Glob(w.data + "/*/meta.json")
	if err != nil || len(metas) < 20 {
		t.Fatalf("%d blocks for fifteen months: %v", len(metas), err)
	}
	all := 0
	for i, file := range metas {
		var meta struct {
			MinTime, MaxTime int64
			Stats            struct{ NumSamples int }
		}
		readJSON(t, file, &meta)
		all += meta.Stats.NumSamples
		if i%11 != 0 {
			continue // it takes time to read a hundred million samples
		}
		from, to := time.UnixMilli(meta.MinTime), time.UnixMilli(meta.MaxTime-1)
		found := 0.
		for _, name := range w.labelValues(t, "__name__", from, to, `{job="flowmetrics"}`) {
			n, _ := w.value(t, fmt.Sprintf(`sum(count_over_time(%s{job="flowmetrics"}[%dms]))`, name, meta.MaxTime-meta.MinTime), to)
			found += n
		}
		if int(found) != meta.Stats.NumSamples {
			t.Errorf("%s: %v samples found, %d were written", file, found, meta.Stats.NumSamples)
		}
	}
	if written := samplesIn(t, filepath.Join(w.data, "flowmetrics-history.json")); all != written {
		t.Errorf("blocks of %d samples, %d were written", all, written)
	}
}
