package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
)

// A prometheus is a running server.
type prometheus struct {
	*process
	URL string // without a slash at the end
}

// startPrometheus starts a server on a data folder (one of the test's where it is
// "") with the text of a configuration, in which paths are absolute, and further
// flags, and waits until it is ready. Nothing of the data is too old for it.
func startPrometheus(t testing.TB, dataDir, config string, flags ...string) *prometheus {
	t.Helper()
	if dataDir == "" {
		dataDir = t.TempDir()
	}
	file := filepath.Join(t.TempDir(), "prometheus.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{process: start(t, exec.Command(tool(t, "FLOWMETRICS_PROMETHEUS"), append([]string{
		"--config.file=" + file, "--storage.tsdb.path=" + dataDir, "--web.listen-address=127.0.0.1:0",
		"--storage.tsdb.retention.time=10y",
	}, flags...)...))}
	// Its own word for where it listens: no other server is ever asked in its place.
	p.URL = "http://" + p.await(t, `msg="Listening on" address=(127\.0\.0\.1:\d+)`)
	p.awaitReady(t, p.URL+"/-/ready")
	return p
}

// ask sends a request to the server's API, and reads the data of its answer.
func (p *prometheus) ask(ctx context.Context, path string, form url.Values, data any) error {
	_, body, err := get(ctx, p.URL+path+"?"+form.Encode())
	if err != nil {
		return err
	}
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("GET %s: %w: %s", path, err, body)
	}
	if answer.Status != "success" {
		return fmt.Errorf("GET %s: %s", path, answer.Error)
	}
	return nil
}

// must is ask where anything but an answer is the test's end.
func (p *prometheus) must(t testing.TB, path string, form url.Values, data any) {
	t.Helper()
	if err := p.ask(t.Context(), path, form, data); err != nil {
		t.Fatalf("%v: %s", err, form)
	}
}

// result is what an expression comes to.
type result struct {
	Matrix model.Matrix // series with their values; an instant's values are series of one
}

// UnmarshalJSON implements [json.Unmarshaler].
func (r *result) UnmarshalJSON(text []byte) error {
	var raw struct {
		Type   model.ValueType `json:"resultType"`
		Result json.RawMessage
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return err
	}
	switch raw.Type {
	case model.ValMatrix:
		return json.Unmarshal(raw.Result, &r.Matrix)
	case model.ValVector:
		var v model.Vector
		err := json.Unmarshal(raw.Result, &v)
		for _, s := range v {
			r.Matrix = append(r.Matrix, &model.SampleStream{Metric: s.Metric, Values: []model.SamplePair{{Timestamp: s.Timestamp, Value: s.Value}}})
		}
		return err
	case model.ValScalar:
		var s model.SamplePair
		err := json.Unmarshal(raw.Result, &s)
		r.Matrix = model.Matrix{{Metric: model.Metric{}, Values: []model.SamplePair{s}}}
		return err
	default:
		return fmt.Errorf("a result of type %s", raw.Type)
	}
}

// evaluate returns what an expression comes to at an instant, as series of one
// value each.
func (p *prometheus) evaluate(ctx context.Context, expr string, at time.Time) (model.Matrix, error) {
	var r result
	err := p.ask(ctx, "/api/v1/query", url.Values{"query": {expr}, "time": {seconds(at)}}, &r)
	return r.Matrix, err
}

// evaluateRange returns what an expression comes to at each step of a range, both
// ends included.
func (p *prometheus) evaluateRange(ctx context.Context, expr string, from, to time.Time, step time.Duration) (model.Matrix, error) {
	var r result
	err := p.ask(ctx, "/api/v1/query_range", url.Values{
		"query": {expr}, "start": {seconds(from)}, "end": {seconds(to)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)},
	}, &r)
	return r.Matrix, err
}

// query is evaluate where an error is the test's end.
func (p *prometheus) query(t testing.TB, expr string, at time.Time) model.Matrix {
	t.Helper()
	m, err := p.evaluate(t.Context(), expr, at)
	if err != nil {
		t.Fatalf("%v: %s", err, expr)
	}
	return m
}

// queryRange is evaluateRange where an error is the test's end.
func (p *prometheus) queryRange(t testing.TB, expr string, from, to time.Time, step time.Duration) model.Matrix {
	t.Helper()
	m, err := p.evaluateRange(t.Context(), expr, from, to, step)
	if err != nil {
		t.Fatalf("%v: %s", err, expr)
	}
	return m
}

// value returns the one value of an expression at an instant; ok tells whether
// there is one.
func (p *prometheus) value(t testing.TB, expr string, at time.Time) (v float64, ok bool) {
	t.Helper()
	m := p.query(t, expr, at)
	switch len(m) {
	case 0:
		return 0, false
	case 1:
		return float64(m[0].Values[0].Value), true
	default:
		t.Fatalf("%d values, not one: %s", len(m), expr)
		return 0, false
	}
}

// series returns the label sets with data in a range that selectors match.
func (p *prometheus) series(t testing.TB, from, to time.Time, selectors ...string) []model.Metric {
	t.Helper()
	var found []model.Metric
	p.must(t, "/api/v1/series", url.Values{"match[]": selectors, "start": {seconds(from)}, "end": {seconds(to)}}, &found)
	return found
}

// labelValues returns the values of a label in a range, of the series that
// selectors match.
func (p *prometheus) labelValues(t testing.TB, label string, from, to time.Time, selectors ...string) []string {
	t.Helper()
	var found []string
	p.must(t, "/api/v1/label/"+label+"/values", url.Values{"match[]": selectors, "start": {seconds(from)}, "end": {seconds(to)}}, &found)
	return found
}

// A headStatus tells what is in the part of the data that is not in blocks.
type headStatus struct {
	HeadStats struct {
		NumSeries, ChunkCount int
		MinTime, MaxTime      int64
	}
}

// status returns the state of the head.
func (p *prometheus) status(t testing.TB) headStatus {
	t.Helper()
	var s headStatus
	p.must(t, "/api/v1/status/tsdb", nil, &s)
	return s
}

func seconds(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1e3, 'f', 3, 64) }

// TestHarness sees that what other tests stand on holds: the servers are those
// that the test has started, and what one shows the other takes.
func TestHarness(t *testing.T) {
	t.Parallel()
	demo := serve(t, "demo")
	p := startPrometheus(t, "", "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: flowmetrics, static_configs: [{targets: ['"+demo.Address+"']}]}]\n")
	eventually(t, "a scrape", func() bool {
		up, ok := p.value(t, `up{job="flowmetrics"}`, time.Now())
		return ok && up == 1
	})
	if said := flowmetrics(t, "version"); !strings.Contains(said, "flowmetrics") {
		t.Errorf("flowmetrics version says %q", said)
	}
	if text := demo.get(t, "/metrics"); !strings.Contains(text, "\nflow_load_items{") {
		t.Errorf("no flow load in %s", text)
	}
	now := time.Now()
	if m := p.query(t, `count by (value_stream) (flow_load_items)`, now); len(m) != 2 {
		t.Errorf("flow load of %d value streams, want 2: %v", len(m), m)
	}
	if m := p.queryRange(t, `vector(2)`, now.Add(-time.Minute), now, 30*time.Second); len(m) != 1 || len(m[0].Values) != 3 || m[0].Values[2].Value != 2 {
		t.Errorf("a range of a constant is %v", m)
	}
	if found := p.series(t, now.Add(-time.Hour), now, `flow_predicted_time_seconds`); len(found) != 2 || found[0]["job"] != "flowmetrics" {
		t.Errorf("series %v", found)
	}
	if found := p.labelValues(t, "value_stream", now.Add(-time.Hour), now); len(found) != 2 || found[0] != "payments" {
		t.Errorf("values of a label %v", found)
	}
	if s := p.status(t); s.HeadStats.NumSeries < 100 {
		t.Errorf("%d series in the head", s.HeadStats.NumSeries)
	}
	if _, err := p.evaluate(t.Context(), `rate(`, now); err == nil {
		t.Error("nonsense is evaluated")
	}
	demo.stop(t)
	if demo.err != nil {
		t.Errorf("the demo ended with %v", demo.err)
	}
}
