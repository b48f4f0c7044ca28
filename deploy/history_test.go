package deploy

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A past is a log with the work of two value streams up to the present hour, and
// how it is measured.
type past struct {
	config, changes string // files
	from, to        time.Time
}

// historyStep is coarse, so that tests are quick; every instant is asked for
// exactly.
const historyStep = "1h"

// longPast is more than one of Prometheus' longest blocks.
const longPast = 24 * 24 * time.Hour

// makePast writes a log of so much time and some days before, the same one for each
// test within an hour.
func makePast(t testing.TB, length time.Duration) *past {
	t.Helper()
	dir := t.TempDir()
	p := &past{config: filepath.Join(dir, "flow.yaml"), changes: filepath.Join(dir, "changes.jsonl")}
	p.to = time.Now().UTC().Truncate(time.Hour)
	p.from = p.to.Add(-length)
	write(t, p.config, `
sources: [{name: tickets, type: file, path: changes.jsonl}]
workflows:
  - name: default
    statuses: {new: [Backlog], waiting: [Ready], active: [In Progress], done: [Done]}
    types: {feature: [Story], defect: [Bug], debt: [Chore]}
value_streams:
  - {name: payments, workflow: default, include: [{source: tickets, containers: [PAY]}], targets: {flow_time: 4d}}
  - {name: platform, workflow: default, include: [{source: tickets, containers: [PLA]}]}
windows: [7d, 30d]
`)
	var log strings.Builder
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		at := p.from.Add(time.Duration(random.Int64N(int64(length/4*5))) - length*5/12).Truncate(time.Minute)
		status, typ := "", []string{"Story", "Bug", "Chore"}[random.IntN(3)]
		for n, next := range []string{"Ready", "In Progress", "Done"} {
			if !at.Before(p.to) {
				break
			}
			kind, fields := "UPDATED", fmt.Sprintf(`{"field":"STATUS","from":{"name":%q},"to":{"name":%q}}`, status, next)
			if n == 0 {
				kind, fields = "CREATED", fmt.Sprintf(`{"field":"TYPE","to":{"name":%q}},{"field":"STATUS","to":{"name":%q}}`, typ, next)
			}
			fmt.Fprintf(&log, `{"id":"%[1]d-%[2]d","source":"tickets","container":%[3]q,"item":"%[1]d","at":%[4]q,"kind":%[5]q,"fields":[%[6]s]}`+"\n",
				i, n, []string{"PAY", "PLA"}[i%2], at.Format(time.RFC3339), kind, fields)
			status = next
			at = at.Add(time.Duration(random.Int64N(int64(5 * 24 * time.Hour)))).Truncate(time.Minute)
		}
	}
	write(t, p.changes, log.String())
	return p
}

// arguments are those of a history of all this, with further ones.
func (p *past) arguments(more ...string) []string {
	return append([]string{"history", "--config", p.config, "--changes", p.changes, "--step", historyStep,
		"--from", p.from.Format(time.RFC3339), "--to", p.to.Format(time.RFC3339)}, more...)
}

// samplesIn returns how many samples a journal says that there are.
func samplesIn(t testing.TB, journal string) (n int) {
	t.Helper()
	var j struct{ Parts []struct{ Samples int } }
	readJSON(t, journal, &j)
	for _, p := range j.Parts {
		n += p.Samples
	}
	if n < 100_000 {
		t.Errorf("%s has %d samples, want many", journal, n)
	}
	return n
}

// samplesInBlocks returns how many samples Debian's promtool finds in a data
// folder, having read all of each block.
func samplesInBlocks(t testing.TB, data string) (n int) {
	t.Helper()
	list, err := exec.Command(tool(t, "FLOWMETRICS_PROMTOOL"), "tsdb", "list", data).Output()
	if err != nil {
		t.Fatalf("promtool tsdb list: %v", err)
	}
	for line := range strings.Lines(string(list)) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[0] == "BLOCK" {
			continue
		}
		samples, err := strconv.Atoi(fields[4])
		if err != nil {
			t.Fatalf("promtool tsdb list: %v in %q", err, line)
		}
		n += samples
		if out, err := exec.Command(tool(t, "FLOWMETRICS_PROMTOOL"), "tsdb", "analyze", data, fields[0]).CombinedOutput(); err != nil {
			t.Errorf("promtool tsdb analyze: %v: %s", err, out)
		}
	}
	return n
}

// holds sees that a server has so many samples of the history, and at instants of
// it the numbers that `flowmetrics measure` has.
func (p *past) holds(t testing.TB, server *prometheus, samples int) {
	t.Helper()
	n := 0
	for _, series := range server.query(t, `{job="flowmetrics"}[40d]`, p.to) {
		n += len(series.Values)
	}
	if n != samples {
		t.Errorf("Prometheus has %d samples of the history, want %d", n, samples)
	}
	compared := 0
	for at := p.from; at.Before(p.to); at = at.Add(83 * time.Hour) {
		var measured struct {
			ValueStreams []struct {
				Name string
				Load struct {
					Items           float64
					TotalAgeSeconds float64 `json:"total_age_seconds"`
				}
				Windows map[string]struct {
					Velocity   struct{ Items float64 }
					Times      map[string]*float64 `json:"flow_time"`
					Efficiency struct{ Ratio *float64 }
					Load       struct{ Average float64 }
				}
			} `json:"value_streams"`
		}
		text := flowmetrics(t, "measure", "--config", p.config, "--changes", p.changes, "--at", at.Format(time.RFC3339))
		if err := json.Unmarshal([]byte(text), &measured); err != nil {
			t.Fatal(err)
		}
		for _, v := range measured.ValueStreams {
			same := func(want *float64, format string, args ...any) {
				t.Helper()
				expr := fmt.Sprintf(format, args...)
				got, ok := server.value(t, expr, at)
				if ok != (want != nil) || ok && math.Abs(got-*want) > 6e-7 { // measure rounds to six digits
					t.Errorf("at %s %s is %v (%t), not as measured", at, expr, got, ok)
				}
				compared++
			}
			same(&v.Load.Items, `sum(flow_load_items{value_stream=%q})`, v.Name)
			same(&v.Load.TotalAgeSeconds, `flow_load_total_age_seconds{value_stream=%q}`, v.Name)
			for window, w := range v.Windows {
				same(&w.Velocity.Items, `sum(flow_velocity_items{value_stream=%q,window=%q})`, v.Name, window)
				same(w.Times["p50_seconds"], `flow_time_p50_seconds{value_stream=%q,window=%q,item_type="all"}`, v.Name, window)
				same(w.Times["p85_seconds"], `flow_time_p85_seconds{value_stream=%q,window=%q,item_type="all"}`, v.Name, window)
				same(w.Efficiency.Ratio, `flow_efficiency_ratio{value_stream=%q,window=%q,item_type="all"}`, v.Name, window)
				same(&w.Load.Average, `flow_load_average_items{value_stream=%q,window=%q}`, v.Name, window)
			}
		}
	}
	if compared < 100 {
		t.Errorf("%d numbers compared, want more", compared)
	}
}

// TestHistoryAsOpenMetrics sees that promtool takes every sample of the files, and
// that Prometheus has the measured numbers then.
func TestHistoryAsOpenMetrics(t *testing.T) {
	t.Parallel()
	p, out, data := makePast(t, longPast), filepath.Join(t.TempDir(), "history"), t.TempDir()
	flowmetrics(t, p.arguments("--out", out)...)
	files, err := filepath.Glob(filepath.Join(out, "history-*.om"))
	if err != nil || len(files) < 2 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, file := range files {
		promtool(t, "tsdb", "create-blocks-from", "--max-block-duration=486h", "openmetrics", "-q", file, data)
	}
	samples := samplesIn(t, filepath.Join(out, "flowmetrics-history.json"))
	if n := samplesInBlocks(t, data); n != samples {
		t.Errorf("%d samples in the blocks, %d written", n, samples)
	}
	if blocks, err := filepath.Glob(filepath.Join(data, "*", "meta.json")); err != nil || len(blocks) != len(files) {
		t.Errorf("%d blocks of %d files, %v: they are not cut as Prometheus' blocks", len(blocks), len(files), err)
	}
	p.holds(t, startPrometheus(t, data, ""), samples)
}

// TestHistoryAsBlocks sees that blocks up to the present may be there before the
// first start of a server, written into its data folder.
func TestHistoryAsBlocks(t *testing.T) {
	t.Parallel()
	p, data := makePast(t, longPast), t.TempDir()
	flowmetrics(t, p.arguments("--out", data, "--format", "blocks")...)
	samples := samplesIn(t, filepath.Join(data, "flowmetrics-history.json"))
	if n := samplesInBlocks(t, data); n != samples {
		t.Errorf("%d samples in the blocks, %d written", n, samples)
	}
	config := live(t)
	server := startPrometheus(t, data, config)
	p.holds(t, server, samples)
	scraped := scrapes(t, server)
	server.stop(t)
	server = startPrometheus(t, data, config)
	if n, _ := server.value(t, scrapedSamples, time.Now()); int(n) < scraped {
		t.Errorf("%.0f live samples after a restart, %d before", n, scraped)
	}
	p.holds(t, server, samples)
}

// TestHistoryBesideLive sees that a running server takes blocks that end where
// the command ends them by default, and keeps what it has scraped; and that the
// warning about later ones is true.
func TestHistoryBesideLive(t *testing.T) {
	t.Parallel()
	p, data, config := makePast(t, longPast), t.TempDir(), live(t)
	arguments := func(more ...string) []string {
		return append([]string{"history", "--config", p.config, "--changes", p.changes, "--step", historyStep, "--format", "blocks", "--out"}, more...)
	}
	flowmetrics(t, arguments(data, "--job", "decoy", "--metrics", "flow_load_total_age_seconds")...)
	if err := os.Remove(filepath.Join(data, "flowmetrics-history.json")); err != nil {
		t.Fatal(err)
	}
	server := startPrometheus(t, data, config, "--web.enable-admin-api")
	scraped := scrapes(t, server)
	flowmetrics(t, arguments(data, "--from", p.from.Format(time.RFC3339))...)
	// A server looks for new blocks every minute, and when it has cleaned one up.
	post(t, server.URL+"/api/v1/admin/tsdb/delete_series?match[]="+url.QueryEscape(`{job="decoy"}`))
	post(t, server.URL+"/api/v1/admin/tsdb/clean_tombstones")
	p.to = time.Now().Add(-3 * time.Hour).UTC().Truncate(2 * time.Hour)
	samples := samplesIn(t, filepath.Join(data, "flowmetrics-history.json"))
	p.holds(t, server, samples)
	server.stop(t)
	server = startPrometheus(t, data, config)
	if n, _ := server.value(t, scrapedSamples, time.Now()); int(n) < scraped {
		t.Errorf("%.0f live samples after a restart, %d before", n, scraped)
	}
	p.holds(t, server, samples)

	now := time.Now().UTC().Truncate(time.Second)
	cmd := exec.Command(program(t), arguments(filepath.Join(t.TempDir(), "late"), "--to", now.Format(time.RFC3339), "--from", now.Add(-time.Minute).Format(time.RFC3339), "--step", "1s")...)
	said, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(said), "attention: only a Prometheus that was never started") {
		t.Errorf("a block up to now: %v: %s", err, said)
	}
	late, err := filepath.Glob(filepath.Join(cmd.Args[len(cmd.Args)-7], "0*"))
	if err != nil || len(late) != 1 {
		t.Fatalf("blocks %v, %v", late, err)
	}
	server.stop(t)
	if err := os.Rename(late[0], filepath.Join(data, filepath.Base(late[0]))); err != nil {
		t.Fatal(err)
	}
	server = startPrometheus(t, data, config)
	// The last sample of the block is a second before its end.
	if n, _ := server.value(t, scrapedSamples, now.Add(-time.Second)); n > 0 {
		t.Errorf("%.0f live samples are there still: blocks may end later than the command says", n)
	}
}

// scrapedSamples counts what a server has scraped of the target of [live].
const scrapedSamples = `count_over_time(live[1h])`

// live returns a configuration that scrapes something.
func live(t testing.TB) string {
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "live 1\n") }))
	t.Cleanup(target.Close)
	return "global: {scrape_interval: 1s}\nscrape_configs: [{job_name: live, static_configs: [{targets: ['" + target.Listener.Addr().String() + "']}]}]\n"
}

// scrapes waits until a server has scraped, and returns how often.
func scrapes(t testing.TB, server *prometheus) (n int) {
	t.Helper()
	eventually(t, "scrapes", func() bool {
		v, _ := server.value(t, scrapedSamples, time.Now())
		n = int(v)
		return n >= 2
	})
	return n
}

func post(t testing.TB, url string) {
	t.Helper()
	answer, err := http.Post(url, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		t.Fatalf("POST %s: %s", url, answer.Status)
	}
}

// TestHistoryByRemoteWrite sees that a server that scrapes takes all of a history
// once it is set up for that, is told how where it is not, and has each sample
// once although the command was killed under way.
func TestHistoryByRemoteWrite(t *testing.T) {
	t.Parallel()
	p, config := makePast(t, longPast), live(t)
	const window = "storage: {tsdb: {out_of_order_time_window: 60d}}\n"

	closed := startPrometheus(t, "", config)
	narrow := startPrometheus(t, "", config, "--web.enable-remote-write-receiver")
	server := startPrometheus(t, "", config+window, "--web.enable-remote-write-receiver")
	scrapes(t, narrow)
	scrapes(t, server)
	refused(t, p, closed.URL, "--web.enable-remote-write-receiver")
	refused(t, p, narrow.URL, "out_of_order_time_window: 2")
	gate := newGate(t, server.URL)
	state := filepath.Join(t.TempDir(), "state.json")
	arguments := p.arguments("--remote-write", gate.URL+"/api/v1/write", "--state", state)

	gate.stopAfter(20) // which is in the second part
	killed := start(t, exec.Command(program(t), arguments...))
	gate.await(t)
	if err := killed.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-killed.ended
	gate.open()
	flowmetrics(t, arguments...)
	samples := samplesIn(t, state)
	p.holds(t, server, samples)
	twice := gate.passed()

	flowmetrics(t, arguments...)
	if sent := gate.passed() - twice; sent != 0 {
		t.Errorf("a second run sends %d requests", sent)
	}
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	flowmetrics(t, arguments...)
	p.holds(t, server, samples) // the same samples again are no more samples
	// The first of three parts was sent when the command was killed.
	all := gate.passed() - twice
	if all < 20 || twice >= 21+all {
		t.Errorf("%d requests in two runs of one history, and %d in one run", twice, all)
	}

	// Interrupted, it knows of each request that was taken.
	if err := os.Remove(state); err != nil {
		t.Fatal(err)
	}
	before := gate.passed()
	gate.stopAfter(20)
	interrupted := start(t, exec.Command(program(t), arguments...))
	gate.await(t)
	interrupted.stop(t)
	gate.open()
	if said, _ := interrupted.output.text(); interrupted.err == nil || !strings.Contains(string(said), "1 of 3 parts finished; the same command goes on from there") {
		t.Errorf("interrupted, it ends with %v: %s", interrupted.err, said)
	}
	flowmetrics(t, arguments...)
	if sent := gate.passed() - before; sent != all+1 {
		t.Errorf("%d requests where one of %d was interrupted", sent, all)
	}
}

// refused sees that a server refuses a history, and that the user hears what
// would help.
func refused(t testing.TB, p *past, server, hint string) {
	t.Helper()
	cmd := exec.Command(program(t), p.arguments("--remote-write", server+"/api/v1/write", "--state", filepath.Join(t.TempDir(), "state.json"))...)
	said, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(said), hint) || strings.Contains(string(said), "trying again") {
		t.Errorf("%v, without %q: %s", err, hint, said)
	}
}

// A gate passes requests on to a server until it is to stop.
type gate struct {
	URL string

	mu      sync.Mutex
	n, stop int // requests passed, and of which on they wait; 0 is never
	waiting chan struct{}
	opened  chan struct{}
}

func newGate(t testing.TB, server string) *gate {
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{}
	proxy := httputil.NewSingleHostReverseProxy(to)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if closed := g.pass(); closed != nil {
			<-closed
			return // nobody waits for the answer any more
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		g.open()
		front.Close()
	})
	g.URL = front.URL
	return g
}

// pass counts a request, and returns what one that is to wait waits for.
func (g *gate) pass() <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stop > 0 && g.n >= g.stop {
		if g.n == g.stop {
			close(g.waiting)
		}
		g.n++ // one that waits counts, as one that is sent twice
		return g.opened
	}
	g.n++
	return nil
}

// stopAfter lets so many more requests pass.
func (g *gate) stopAfter(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stop = g.n + n
	g.waiting, g.opened = make(chan struct{}), make(chan struct{})
}

func (g *gate) await(t testing.TB) {
	t.Helper()
	select {
	case <-g.waiting:
	case <-time.After(patience):
		t.Fatal("not so many requests come")
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.stop > 0 {
		g.stop = 0
		close(g.opened)
	}
}

func (g *gate) passed() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.n
}

func readJSON(t testing.TB, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}
