package app

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/flowmetrics/flowmetrics/internal/connector/github"
	"github.com/flowmetrics/flowmetrics/internal/connector/jira"
	"github.com/flowmetrics/flowmetrics/internal/eventlog"
	"github.com/flowmetrics/flowmetrics/internal/sim"
)

// closedPort returns the address of a port at which nobody listens.
func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // it was only for the number
	return l.Addr().String()
}

// A source that cannot be reached and one that refuses the credentials do not
// keep the third from working, and can be seen to fail.
func TestSourcesFail(t *testing.T) {
	t.Setenv("APP_TEST_INGEST", "open-sesame")
	t.Setenv("APP_TEST_JIRA", "a-wrong-token")
	strict := newSite(t, 3, jira.FakeOptions{Email: "flow@example.com", Token: "the-right-token"})
	dir := t.TempDir()
	withFile(t, dir, ready("1"), ready("2"))
	text := strings.Replace(trackerConfig, "sources:\n", fmt.Sprintf(`sources:
  - {name: nobody, type: jira, url: "http://%s", poll_interval: 1h}
  - {name: strict, type: jira, url: %q, email: flow@example.com, token_env: APP_TEST_JIRA}
`, closedPort(t), strict.url), 1)
	s := start(t, dir, text)
	type document struct {
		Streams []struct{ Load struct{ Items int } } `json:"value_streams"`
	}
	if d := decode[document](t, s.ok(t, "/api/v1/value-streams/payments")); d.Streams[0].Load.Items != 2 {
		t.Errorf("load is %d, want what the file tells", d.Streams[0].Load.Items)
	}
	for _, source := range []string{"nobody", "strict"} {
		label := fmt.Sprintf("{source=%q}", source)
		if at, ok := s.sample(t, "flowmetrics_connector_last_success_timestamp_seconds"+label); ok {
			t.Errorf("%s succeeded at %v", source, at)
		}
		first, _ := s.sample(t, "flowmetrics_connector_lag_seconds"+label)
		eventually(t, "the lag grows", func() bool {
			lag, _ := s.sample(t, "flowmetrics_connector_lag_seconds"+label)
			return lag > first && lag > 0.1
		})
		s.wantSample(t, "flowmetrics_connector_backfill_progress_ratio"+label, 0)
	}
	if at, _ := s.sample(t, `flowmetrics_connector_last_success_timestamp_seconds{source="tracker"}`); at < 1e9 {
		t.Errorf("the file was read at %v", at)
	}
	s.wantSample(t, `flowmetrics_connector_lag_seconds{source="tracker"}`, 0)
	for source, seconds := range map[string]float64{"nobody": 3600, "strict": 60, "tracker": 1} {
		s.wantSample(t, fmt.Sprintf("flowmetrics_connector_poll_interval_seconds{source=%q}", source), seconds)
	}
	if n, _ := s.sample(t, `flowmetrics_connector_requests_total{code="401",source="strict"}`); n == 0 {
		t.Error("no refused request is counted")
	}
	if n, _ := s.sample(t, `flowmetrics_connector_requests_total{code="error",source="nobody"}`); n == 0 {
		t.Error("no request without an answer is counted")
	}
	for _, path := range []string{"/", "/metrics", "/-/ready", "/api/v1/value-streams"} {
		if strings.Contains(s.ok(t, path), "a-wrong-token") {
			t.Errorf("%s tells the token", path)
		}
	}
}

// stalled accepts connections and never answers.
func stalled(t testing.TB) (url string, accepted <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	came, done := make(chan struct{}, 100), make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close() //nolint:errcheck // nothing was sent
			came <- struct{}{}
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return "http://" + l.Addr().String(), came
}

// A tracker that does not answer, and clients that do not read, keep the
// service neither from telling so nor from stopping in time.
func TestStop(t *testing.T) {
	url, accepted := stalled(t)
	s := run(t, create(t, t.TempDir(), fmt.Sprintf(jiraConfig, url)))
	<-accepted
	status, body := s.get(t, "/-/ready")
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "source jira-main: first poll under way") {
		t.Errorf("ready: %d: %s", status, body)
	}
	s.ok(t, "/-/healthy")
	s.ok(t, "/metrics")
	silent, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() //nolint:errcheck // nothing was sent
	if _, err := fmt.Fprint(silent, "GET /metrics HTTP/1.1\r\nHost: x\r\n"); err != nil {
		t.Fatal(err)
	}
	s.end(t) // demands the five seconds
}

// Without the NATS system the service goes on with the numbers that it has, and
// stops in time.
func TestBrokerAway(t *testing.T) {
	t.Setenv("APP_TEST_INGEST", "open-sesame")
	t.Setenv("APP_TEST_NATS", "s3cret")
	broker, stop := startBroker(t)
	dir := t.TempDir()
	withFile(t, dir, ready("1"))
	s := start(t, dir, trackerConfig+broker.config)
	stop()
	status, body := s.do(t, http.MethodPost, "/api/v1/changes", lines(ready("2")), "Authorization", "Bearer open-sesame")
	if status != http.StatusServiceUnavailable {
		t.Errorf("POST without a log: %d: %s", status, body)
	}
	for _, path := range []string{"/metrics", "/-/healthy", "/-/ready", "/api/v1/value-streams/payments?at=" + asOf, "/"} {
		s.ok(t, path)
	}
	s.wantSample(t, `flow_status_load_items{state="waiting",status="Ready",value_stream="payments"}`, 1)
	withFile(t, dir, ready("1"), ready("2"))
	eventually(t, "the failure shows", func() bool { return s.runners[0].Status().LastError != "" })
	s.end(t)
}

// Stopped in the midst of a backfill, the service says nothing wrong and goes
// on from there.
func TestStopInBackfill(t *testing.T) {
	fake := jira.NewFake(jira.FakeOptions{PageSize: 3})
	history(fake, 1, 60)
	requests, reached := 0, make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if requests++; requests == 9 { // one client, one request at a time
			reached <- struct{}{}
			<-r.Context().Done()
			return
		}
		fake.ServeHTTP(w, r)
	}))
	defer server.Close()
	dir, text := t.TempDir(), fmt.Sprintf(jiraConfig, server.URL)
	s := run(t, create(t, dir, text))
	<-reached
	ratio, _ := s.sample(t, `flowmetrics_connector_backfill_progress_ratio{source="jira-main"}`)
	if ratio <= 0 || ratio >= 1 {
		t.Errorf("%v is read in the midst of it", ratio)
	}
	s.end(t)
	s = start(t, dir, text)
	whole := newSite(t, 60, jira.FakeOptions{})
	undisturbed := start(t, t.TempDir(), fmt.Sprintf(jiraConfig, whole.url))
	got := facts(t, readLog(t, s.ok(t, "/api/v1/changes")), server.URL)
	want := facts(t, readLog(t, undisturbed.ok(t, "/api/v1/changes")), whole.url)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%d changes, %d undisturbed", len(got), len(want))
	}
}

// Before the log is replayed there are no numbers, and nobody is told any.
func TestNotReady(t *testing.T) {
	t.Setenv("APP_TEST_INGEST", "open-sesame")
	dir := t.TempDir()
	withFile(t, dir, ready("1"))
	start(t, dir, trackerConfig).end(t) // so that there is something to replay
	a := create(t, dir, trackerConfig)
	ask := func(path string) (int, string) {
		w := httptest.NewRecorder()
		a.server.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/-/ready":                         {http.StatusServiceUnavailable, "replaying the log"},
		"/-/healthy":                       {http.StatusOK, "ok"},
		"/api/v1/value-streams":            {http.StatusServiceUnavailable, "replayed"},
		"/api/v1/value-streams/payments":   {http.StatusServiceUnavailable, "replayed"},
		"/api/v1/value-streams?at=" + asOf: {http.StatusServiceUnavailable, "replayed"},
		"/metrics":                         {http.StatusOK, "flowmetrics_build_info"},
	} {
		if status, body := ask(path); status != want.status || !strings.Contains(body, want.text) {
			t.Errorf("GET %s before the replay: %d: %s", path, status, body)
		}
	}
	if _, body := ask("/metrics"); strings.Contains(body, "\nflow_load_items{") || strings.Contains(body, "\nflowmetrics_processor_snapshot_timestamp_seconds ") {
		t.Error("there are numbers before the replay")
	}
	s := run(t, a)
	s.awaitReady(t)
	s.wantSample(t, "flowmetrics_log_changes_total", 1)
}

// New leaves nothing open where it fails: the next one finds port and data.
func TestNewFails(t *testing.T) {
	t.Setenv("APP_TEST_INGEST", "open-sesame")
	dir := t.TempDir()
	withFile(t, dir, ready("1"))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close() //nolint:errcheck // nobody asked
	opts := create(t, dir, trackerConfig)
	s := run(t, opts)
	if _, err := New(t.Context(), s.opts); err == nil || !strings.Contains(err.Error(), eventlog.ErrInUse.Error()) {
		t.Errorf("a second service on the same data: %v", err)
	}
	s.end(t)
	broken := s.opts
	broken.Listen = taken.Addr().String()
	if _, err := New(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "listen on "+broken.Listen) {
		t.Errorf("a port that is taken: %v", err)
	}
	broken = s.opts
	broken.WebConfigFile = dir + "/missing.yaml"
	if _, err := New(t.Context(), broken); err == nil || !strings.Contains(err.Error(), broken.WebConfigFile) {
		t.Errorf("no web configuration: %v", err)
	}
	start(t, dir, trackerConfig)
}

// One part that fails ends the service with its error.
func TestPartFails(t *testing.T) {
	t.Setenv("APP_TEST_INGEST", "open-sesame")
	dir := t.TempDir()
	withFile(t, dir, ready("1"))
	s := start(t, dir, trackerConfig)
	if err := s.log.Close(); err != nil {
		t.Fatal(err)
	}
	s.over = true
	select {
	case err := <-s.ended:
		if err == nil || !strings.Contains(err.Error(), "follow log: ") {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the service goes on without its log")
	}
}

// What a scraper gets of the simulated organisation has the five metrics of
// both value streams, is well-formed in every format, and passes Prometheus' own
// check.
func TestExposition(t *testing.T) {
	fake := jira.NewFake(jira.FakeOptions{InlineHistories: 40})
	gitHub := github.NewFake(github.FakeOptions{Enterprise: true})
	world := sim.New(1, time.Now(), fake, gitHub)
	site, gitHubSite := httptest.NewServer(fake), httptest.NewServer(gitHub)
	t.Cleanup(site.Close)
	t.Cleanup(gitHubSite.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("good-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, t.TempDir(), string(world.Config(site.URL, gitHubSite.URL+"/api/v3", token)))
	text := s.ok(t, "/metrics")
	const day = 24 * 3600
	for _, stream := range []string{"payments", "platform"} {
		for _, want := range []struct {
			name      string
			low, high float64
		}{
			{`flow_time_p85_seconds{item_type="all",value_stream=%q,window="90d"}`, day, 60 * day},
			{`flow_time_items{item_type="feature",value_stream=%q,window="90d"}`, 10, 500},
			{`flow_efficiency_ratio{item_type="all",value_stream=%q,window="90d"}`, 0.2, 0.8},
			{`flow_load_items{item_type="feature",state="active",value_stream=%q}`, 1, 50},
			{`flow_distribution_ratio{item_type="feature",value_stream=%q,window="90d"}`, 0.1, 0.9},
			{`flow_velocity_items{item_type="feature",value_stream=%q,window="90d"}`, 10, 500},
		} {
			name := fmt.Sprintf(want.name, stream)
			if got, ok := s.sample(t, name); !ok || got < want.low || got > want.high {
				t.Errorf("%s is %v (there: %v), want %v to %v", name, got, ok, want.low, want.high)
			}
		}
		s.wantSample(t, fmt.Sprintf(`flow_invariant_violations{invariant="load",value_stream=%q}`, stream), 0)
	}
	gatherer := prometheus.GathererFunc(s.exporter.Gather)
	problems, err := testutil.GatherAndLint(gatherer)
	if err != nil {
		t.Error(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if tool := promtool(t); tool != "" {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		check := exec.CommandContext(ctx, tool, "check", "metrics")
		check.Stdin = strings.NewReader(text)
		if out, err := check.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
			t.Errorf("promtool check metrics: %v: %s", err, out)
		}
	}

	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Addr().String()+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "application/openmetrics-text;version=1.0.0;q=0.7,text/plain;version=0.0.4;q=0.5")
	resp, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	var open bytes.Buffer
	if _, err := open.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	if kind := resp.Header.Get("Content-Type"); !strings.HasPrefix(kind, "application/openmetrics-text; version=1.0.0") {
		t.Errorf("asked for OpenMetrics, got %s", kind)
	}
	if !strings.HasSuffix(open.String(), "\n# EOF\n") || strings.Count(open.String(), "# EOF") != 1 {
		t.Errorf("OpenMetrics does not end in its mark: %q", open.String()[max(0, open.Len()-80):])
	}
	if strings.Contains(text, "# EOF") {
		t.Error("the plain text has the mark of OpenMetrics")
	}
}

// promtool returns the path of Prometheus' promtool: the one that make test has
// fetched, else the one on PATH. Without either only client_golang's lint runs,
// but not in continuous integration.
func promtool(t *testing.T) string {
	t.Helper()
	if tool := os.Getenv("FLOWMETRICS_PROMTOOL"); tool != "" {
		return tool
	}
	tool, err := exec.LookPath("promtool")
	switch {
	case err == nil:
		return tool
	case os.Getenv("CI") != "":
		t.Error("promtool is neither in FLOWMETRICS_PROMTOOL nor on PATH; make test fetches it")
	default:
		t.Log("ATTENTION: promtool check metrics did NOT run, because there is no promtool in FLOWMETRICS_PROMTOOL or on PATH; make test fetches it. Only client_golang's lint ran.")
	}
	return ""
}
