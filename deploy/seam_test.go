package deploy

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
)

// fromHistory are the metrics that history has, which are those about flow.
const fromHistory = `{job="flowmetrics",__name__=~"flow_.+|flowmetrics_items|flowmetrics_unmapped_status_items"}`

// testSeam sees that what was loaded and what is scraped are one: the same series
// on both sides, of which no counter begins anew, and neither side counts what the
// other has counted.
func (w *world) testSeam(t *testing.T) {
	last := w.seam.Add(-shippedStep)
	loaded, scraped := seriesByName(w.query(t, fromHistory, last)), seriesByName(w.query(t, fromHistory, w.now))
	if d := diff.Diff(loaded, scraped); d != "" || len(loaded) < 50 {
		t.Errorf("series by metric (%d of them; -loaded +scraped):\n%s", len(loaded), d)
	}
	const counters = `{job="flowmetrics",__name__=~"flow_items_.+_total|flow_time_seconds_(bucket|count|sum)"}`
	reach := w.now.Sub(w.seam.Add(-time.Hour))
	through := w.query(t, fmt.Sprintf("%s[%dms]", counters, reach.Milliseconds()), w.now)
	for _, s := range through {
		if !slices.IsSortedFunc(s.Values, func(a, b model.SamplePair) int { return cmp.Compare(a.Value, b.Value) }) {
			t.Errorf("a counter falls: %v", s)
		}
		if first, end := s.Values[0].Timestamp.Time(), s.Values[len(s.Values)-1].Timestamp.Time(); first.After(last) || end.Before(w.now.Add(-3*scrapeInterval)) {
			t.Errorf("%s is not there on both sides: from %s to %s", s.Metric, first, end)
		}
	}
	if len(through) < 2*(4*4+4*15) {
		t.Errorf("%d series of counters through the seam", len(through))
	}

	// What happens shows a few seconds later, when it has been read: the scraped
	// counters are between those of a little before and those of now.
	changes := filepath.Join(t.TempDir(), "changes.jsonl")
	write(t, changes, flowmetrics(t, "changes", "--url", w.demo.URL))
	at := func(then time.Time) map[string]float64 {
		then = then.Truncate(time.Second)
		text := flowmetrics(t, "history", "--config", w.config, "--changes", changes, "--metrics", "flow_items_.+_total|flow_time_seconds",
			"--job", "flowmetrics", "--instance", w.demo.Address, "--step", "1s", "--from", then.Format(time.RFC3339), "--to", then.Add(time.Second).Format(time.RFC3339), "--out", "-")
		return parseSamples(t, text)
	}
	low, high := at(w.now.Add(-30*time.Second)), at(w.now.Add(time.Second))
	compared := 0
	for _, s := range through {
		if s.Metric["__name__"] == "flow_time_seconds_sum" {
			continue // a sum of fractions is no exact number
		}
		key, value := s.Metric.String(), float64(s.Values[len(s.Values)-1].Value)
		if value < low[key] || value > high[key] {
			t.Errorf("%s is %v, not between %v and %v", key, value, low[key], high[key])
		}
		compared++
	}
	if compared == 0 || maps.Equal(low, map[string]float64{}) {
		t.Error("nothing was compared")
	}
}

// seriesByName returns how many series there are of each metric. Of statuses there are as
// many as happen to be of use.
func seriesByName(m model.Matrix) map[string]int {
	counts := map[string]int{}
	for _, s := range m {
		if name := string(s.Metric["__name__"]); !strings.HasPrefix(name, "flow_status_") {
			counts[name]++
		}
	}
	return counts
}

// parseSamples reads OpenMetrics with one instant, by series as Prometheus writes
// them.
func parseSamples(t testing.TB, text string) map[string]float64 {
	t.Helper()
	samples := map[string]float64{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		series, rest, _ := strings.Cut(line, "} ")
		name, list, _ := strings.Cut(series, "{")
		number, _, _ := strings.Cut(rest, " ")
		value, err := strconv.ParseFloat(number, 64)
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		metric := model.Metric{"__name__": model.LabelValue(name)}
		for pair := range strings.SplitSeq(list, ",") {
			label, quoted, _ := strings.Cut(pair, "=")
			text, err := strconv.Unquote(quoted)
			if err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			metric[model.LabelName(label)] = model.LabelValue(text)
		}
		samples[metric.String()] = value
	}
	return samples
}
