package deploy

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
)

// durable are the counters that come from the log and not from the life of a
// process.
const durable = `{__name__=~"flow_items_.+_total|flow_time_seconds_(bucket|count|sum)|flowmetrics_log_.+_total"}`

// TestRestart sees that Prometheus takes a service that was stopped and started
// again for the same one: no counter begins anew, none counts twice, and what
// happened meanwhile is counted once.
func TestRestart(t *testing.T) {
	t.Parallel() // it waits most of its time
	dir := t.TempDir()
	file := filepath.Join(dir, "changes.jsonl")
	config := filepath.Join(dir, "flow.yaml")
	write(t, config, `
sources: [{name: tickets, type: file, path: changes.jsonl, poll_interval: 1s}]
workflows:
  - name: default
    statuses: {new: [Backlog], active: [In Progress], done: [Done], cancelled: [Dropped]}
    types: {feature: [Story], defect: [Bug]}
value_streams: [{name: payments, workflow: default, include: [{source: tickets, containers: [PAY]}]}]
`)
	var log strings.Builder
	began := time.Now().UTC().Truncate(time.Second).Add(-10 * 24 * time.Hour)
	for i := range 12 {
		born(&log, fmt.Sprint("story", i), "Story", began)
		if i < 6 {
			moved(&log, fmt.Sprint("story", i), "In Progress", "Done", began.Add(48*time.Hour))
		}
	}
	for i := range 20_000 { // which take a while to be read again
		fmt.Fprintf(&log, `{"id":"noise%[1]d","source":"tickets","container":"OPS","item":"noise%[1]d","at":%[2]q,"kind":"CREATED"}`+"\n", i, began.Format(time.RFC3339))
	}
	log.WriteString("no change\n")
	write(t, file, log.String())

	args := []string{"--config", config, "--data-dir", filepath.Join(dir, "data")}
	first := serve(t, "serve", args...)
	p := startPrometheus(t, "", "global: {scrape_interval: 500ms, scrape_timeout: 500ms}\n"+
		"scrape_configs: [{job_name: flowmetrics, static_configs: [{targets: ['"+first.Address+"']}]}]\n")
	start := time.Now()
	eventually(t, "the first service is scraped", func() bool {
		n, _ := p.value(t, `sum(flow_items_completed_total)`, time.Now())
		rejected, _ := p.value(t, `sum(flowmetrics_log_rejected_total)`, time.Now())
		return n == 6 && rejected == 1
	})
	before := counts(p.query(t, durable, time.Now()))
	if len(before) < 4*4+16 {
		t.Fatalf("%d series of counters: %v", len(before), before)
	}
	first.stop(t)
	eventually(t, "a scrape finds no service", func() bool {
		up, ok := p.value(t, `up`, time.Now())
		return ok && up == 0
	})

	now := time.Now().UTC().Truncate(time.Second)
	log.Reset()
	for i := range 3 {
		born(&log, fmt.Sprint("bug", i), "Bug", now)
	}
	moved(&log, "story6", "In Progress", "Done", now)
	moved(&log, "story7", "In Progress", "Done", now)
	moved(&log, "story8", "In Progress", "Dropped", now)
	moved(&log, "story0", "Done", "In Progress", now)
	log.WriteString("no change either\n")
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, string(old)+log.String())
	want := map[string]float64{
		`flow_items_entered_total{defect}`:             3,
		`flow_items_entered_total{feature}`:            1,
		`flow_items_completed_total{feature}`:          2,
		`flow_items_cancelled_total{feature}`:          1,
		`flow_items_reopened_total{feature}`:           1,
		`flow_time_seconds_count{feature}`:             2,
		`flow_time_seconds_sum{feature}`:               2 * now.Sub(began).Seconds(),
		`flow_time_seconds_bucket{feature 1.1232e+06}`: 2, // 13 days
		`flow_time_seconds_bucket{feature 1.8144e+06}`: 2,
		`flow_time_seconds_bucket{feature 2.9376e+06}`: 2,
		`flow_time_seconds_bucket{feature 4.752e+06}`:  2,
		`flow_time_seconds_bucket{feature 7.776e+06}`:  2,
		`flow_time_seconds_bucket{feature +Inf}`:       2,
		`flowmetrics_log_changes_total{}`:              7,
		`flowmetrics_log_rejected_total{malformed}`:    1,
	}
	second := launch(t, "serve", append(args, "--listen", first.Address)...)
	eventually(t, "the second service is ready", func() bool {
		for line := range strings.Lines(second.get(t, "/metrics")) {
			if number, is := strings.CutPrefix(line, "flowmetrics_log_changes_total "); is {
				if n, err := strconv.ParseFloat(strings.TrimSpace(number), 64); err != nil || n < before["flowmetrics_log_changes_total{}"] {
					t.Errorf("while the log is being read, its changes are %s", number)
				}
			}
		}
		status, _, err := get(t.Context(), second.URL+"/-/ready")
		return err == nil && status == http.StatusOK
	})
	var risen map[string]float64
	defer func() {
		if d := diff.Diff(want, risen); d != "" {
			t.Errorf("counters rose otherwise than what happened between the scrapes (-happened +counted):\n%s", d)
		}
	}()
	eventually(t, "the second service has counted what happened", func() bool {
		after := counts(p.query(t, durable, time.Now()))
		risen = map[string]float64{}
		for key, value := range after {
			if value != before[key] {
				risen[key] = value - before[key]
			}
		}
		return len(after) == len(before) && maps.Equal(risen, want)
	})
	life := fmt.Sprintf("[%dms]", time.Since(start).Milliseconds())
	now = time.Now()
	through := p.query(t, durable+life, now)
	if len(through) != len(before) {
		t.Errorf("%d series of counters through the restart, want %d", len(through), len(before))
	}
	for _, s := range through {
		if !slices.IsSortedFunc(s.Values, func(a, b model.SamplePair) int { return cmp.Compare(a.Value, b.Value) }) {
			t.Errorf("a counter falls: %v", s)
		}
	}
}

// counts returns the values of counters by what identifies them in this test.
func counts(m model.Matrix) map[string]float64 {
	values := map[string]float64{}
	for _, s := range m {
		kind := strings.TrimSpace(string(s.Metric["item_type"] + s.Metric["reason"] + " " + s.Metric["le"]))
		values[fmt.Sprintf("%s{%s}", s.Metric["__name__"], kind)] = float64(s.Values[0].Value)
	}
	return values
}

func born(log *strings.Builder, item, typ string, at time.Time) {
	fmt.Fprintf(log, `{"id":"%[1]s","source":"tickets","container":"PAY","item":"%[1]s","at":%[3]q,"kind":"CREATED","fields":[{"field":"TYPE","to":{"name":%[2]q}},{"field":"STATUS","to":{"name":"In Progress"}}]}`+"\n",
		item, typ, at.Format(time.RFC3339Nano))
}

func moved(log *strings.Builder, item, from, to string, at time.Time) {
	fmt.Fprintf(log, `{"id":"%[1]s %[3]s","source":"tickets","container":"PAY","item":"%[1]s","at":%[4]q,"kind":"UPDATED","fields":[{"field":"STATUS","from":{"name":%[2]q},"to":{"name":%[3]q}}]}`+"\n",
		item, from, to, at.Format(time.RFC3339Nano))
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
