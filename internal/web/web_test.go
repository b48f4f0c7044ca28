package web

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// numbers is a Snapshots whose past is a function.
type numbers struct {
	latest atomic.Pointer[flow.Snapshot]
	at     func(ctx context.Context, t time.Time, items bool) (*flow.Snapshot, error)
}

func (n *numbers) Latest() *flow.Snapshot { return n.latest.Load() }

func (n *numbers) At(ctx context.Context, t time.Time, items bool) (*flow.Snapshot, error) {
	return n.at(ctx, t, items)
}

// record is a Log and a Publisher in memory: position i+1 holds changes[i].
type record struct {
	mu         sync.Mutex
	changes    []flow.Change
	rejections []flow.Rejection
	published  []string // source: ids, a call of Publish each
	readErr    error    // in the place of the end of the log
	publishErr error
	before     func() // called in Publish before anything is taken
}

func (l *record) LastPosition(context.Context) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.changes)), nil
}

func (l *record) Changes(ctx context.Context, after uint64, source string, f func(uint64, flow.Change) error) error {
	for i := after; ; i++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		l.mu.Lock()
		end := i >= uint64(len(l.changes))
		var c flow.Change
		if !end {
			c = l.changes[i]
		}
		l.mu.Unlock()
		if end {
			return l.readErr
		}
		if source != "" && c.Source != source {
			continue
		}
		if err := f(i+1, c); err != nil {
			return err
		}
	}
}

func (l *record) Rejections(_ context.Context, after uint64, limit int, f func(flow.Rejection) error) error {
	for _, j := range l.rejections {
		if j.Position > after && limit > 0 {
			limit--
			if err := f(j); err != nil {
				return err
			}
		}
	}
	return l.readErr
}

func (l *record) Publish(ctx context.Context, source string, changes []flow.Change) error {
	if l.before != nil {
		l.before()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.publishErr != nil {
		return l.publishErr
	}
	call := source + ":"
	for _, c := range changes {
		call += " " + c.ID
	}
	l.published = append(l.published, call)
	l.changes = append(l.changes, changes...)
	return ctx.Err()
}

type health []string

func (h health) Ready() (bool, []string) { return len(h) == 0, h }

const token = "correct-horse-battery"

// fixture is a server with everything faked behind it.
type fixture struct {
	*Server
	numbers *numbers
	log     *record
	logged  *bytes.Buffer
	options Options
}

func newFixture(t *testing.T, change ...func(*Options)) *fixture {
	t.Helper()
	f := &fixture{numbers: &numbers{}, log: &record{}, logged: &bytes.Buffer{}}
	f.numbers.latest.Store(sample())
	f.numbers.at = func(_ context.Context, at time.Time, items bool) (*flow.Snapshot, error) {
		s := sample()
		s.At = at
		if items {
			s.ValueStreams[0].Items = []flow.ItemMeasures{{Source: "jira-main", Item: "10001", Key: "PAY-1"}}
		}
		return s, nil
	}
	f.options = Options{
		Listen:    "127.0.0.1:0",
		Snapshots: f.numbers, Log: f.log, Publisher: f.log, Health: health(nil),
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "flow_load_items 1\n")
		}),
		IngestToken: func() (string, error) { return token, nil },
		Logger:      slog.New(slog.NewTextHandler(f.logged, nil)),
	}
	for _, c := range change {
		c(&f.options)
	}
	server, err := New(f.options)
	if err != nil {
		t.Fatal(err)
	}
	f.Server = server
	return f
}

// do answers one request without a connection. Headers come in pairs.
func (f *fixture) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	f.Handler().ServeHTTP(w, r)
	return w
}

func wantStatus(t *testing.T, w *httptest.ResponseRecorder, status int) {
	t.Helper()
	if w.Code != status {
		t.Errorf("status %d, want %d; body: %s", w.Code, status, w.Body)
	}
}

func wantBody(t *testing.T, w *httptest.ResponseRecorder, want string) {
	t.Helper()
	if diff := cmp.Diff(want, w.Body.String()); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
}

// wantGolden compares an answer with a file of testdata.
func wantGolden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", name, diff)
	}
}

const hour = time.Hour

func span(d time.Duration) flow.Span { return flow.Span{}.Add(d) }

// sample is a snapshot with numbers of every kind: a busy value stream whose
// name and title try to be markup, and one in which nothing ever happened.
func sample() *flow.Snapshot {
	at := time.Date(2026, 6, 29, 0, 0, 0, 0, time.UTC)
	windows := flow.DefaultWindows()
	busy := &flow.Measures{
		ValueStream: &flow.ValueStream{
			Name: "payments", Title: `Payments & <script>alert("x")</script>`, Timezone: "UTC",
			Targets: flow.Targets{FlowTime: 12 * day, Percentile: 85, Load: 1},
		},
		Load: flow.Load{Items: 2, Oldest: 50 * day, TotalAge: span(53 * day), OverTarget: 1, Neglected: 1},
	}
	for i, w := range windows {
		m := flow.WindowMeasures{Window: w, From: at.Add(-w.Length), To: at, LoadStart: 6, LoadEnd: 2}
		m.All = flow.TypeMeasures{
			Completed: 5 + i, Timed: 4 + i, P50: 10 * day, P85: 19*day + 12*hour, P95: 20 * day,
			Active: span(69 * day / 2), Waiting: span(31 * day / 2),
			Presence: span(22 * day), PresenceActive: span(21 * day / 2),
		}
		m.ByType[flow.Feature].Completed = 2 + i
		m.ByType[flow.Defect].Completed = 2
		m.ByType[flow.Unclassified].Completed = 1
		busy.Windows = append(busy.Windows, m)
	}
	busy.Windows[0].All.P50 = 36 * hour
	idle := &flow.Measures{ValueStream: &flow.ValueStream{Name: "a/b c", Timezone: "UTC"}}
	for _, w := range windows {
		idle.Windows = append(idle.Windows, flow.WindowMeasures{Window: w, From: at.Add(-w.Length), To: at})
	}
	return &flow.Snapshot{
		At: at, PolicyHash: "5f2c9a0b7e11",
		ValueStreams: []*flow.Measures{busy, idle},
		Quality: flow.Quality{
			Duplicates: 1, UnmappedStatuses: map[string]int{"Parked": 3, "<b>Odd</b>": 1}, UnmappedItems: map[string]int{"jira-main": 1},
			BornDone: 1, LeftCensored: 2, CompletedWithoutStart: 3, CompletedNeverActive: 4, IgnoredByType: 5, HistoryGaps: 6,
		},
	}
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	whole := newFixture(t).options
	for name, remove := range map[string]func(*Options){
		"Snapshots":           func(o *Options) { o.Snapshots = nil },
		"Log":                 func(o *Options) { o.Log = nil },
		"Publisher":           func(o *Options) { o.Publisher = nil },
		"Health":              func(o *Options) { o.Health = nil },
		"Metrics":             func(o *Options) { o.Metrics = nil },
		`listen address ":x:`: func(o *Options) { o.Listen = ":x:" },
	} {
		o := whole
		remove(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: error %v does not say so", name, err)
		}
	}
	whole.Listen = ""
	if s, err := New(whole); err != nil || s.options.Listen != "127.0.0.1:9797" {
		t.Errorf("default listen address: %v, %v", s, err)
	}
}

func TestEndpoints(t *testing.T) {
	hook := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "hook of "+r.PathValue("source"))
	})
	all := newFixture(t, func(o *Options) { o.Webhooks, o.Debug = hook, true })
	bare := newFixture(t)
	waiting := newFixture(t, func(o *Options) { o.Health = health{"replaying the log", "source jira-main has not been polled"} })
	for _, tc := range []struct {
		f              *fixture
		method, target string
		status         int
		kind, body     string // the body contains
	}{
		{bare, "GET", "/metrics", 200, "text/plain", "flow_load_items 1\n"},
		{bare, "GET", "/-/healthy", 200, "text/plain", "ok\n"},
		{bare, "GET", "/-/ready", 200, "text/plain", "ready\n"},
		{waiting, "GET", "/-/healthy", 200, "text/plain", "ok\n"},
		{waiting, "GET", "/-/ready", 503, "text/plain", "not ready\nreplaying the log\nsource jira-main has not been polled\n"},
		{bare, "GET", "/", 200, "text/html", "<caption"},
		{bare, "GET", "/?at=never", 400, "text/html", "parameter at: &#34;never&#34; is not an instant, want RFC 3339"},
		{bare, "GET", "/nothing", 404, "text/plain", "nothing at this address"},
		{bare, "GET", "/api/v1/nothing", 404, "application/json", `{"error":"there is nothing at this address"}`},
		{bare, "GET", "/api/v1/value-streams", 200, "application/json", "payments"},
		{bare, "GET", "/api/v1/value-streams/nobody", 404, "application/json", `{"error":"there is no value stream \"nobody\""}`},
		{bare, "GET", "/api/v1/value-streams?at=2026-13-01", 400, "application/json", `parameter at: \"2026-13-01\" is not an instant, want RFC 3339`},
		{bare, "GET", "/api/v1/value-streams?at=9999-01-01T00:00:00Z", 400, "application/json", `out of range, want RFC 3339 in the years 1970 to 2199`},
		{bare, "GET", "/api/v1/value-streams?items=maybe", 400, "application/json", `parameter items: \"maybe\"`},
		{bare, "GET", "/api/v1/changes?after=-1", 400, "application/json", `parameter after: \"-1\"`},
		{bare, "GET", "/api/v1/rejected?after=x", 400, "application/json", `parameter after: \"x\"`},
		{bare, "GET", "/api/v1/rejected?limit=0", 400, "application/json", "parameter limit: 0 is out of range, want 1 to 10000"},
		{bare, "GET", "/api/v1/rejected?limit=10001", 400, "application/json", "parameter limit: 10001"},
		{all, "POST", "/webhooks/github-main", 200, "text/plain", "hook of github-main"},
		{bare, "POST", "/webhooks/github-main", 404, "text/plain", "nothing at this address"},
		{all, "GET", "/debug/pprof/", 200, "text/html", "goroutine"},
		{all, "GET", "/debug/pprof/cmdline", 200, "text/plain", "web.test"},
		{bare, "GET", "/debug/pprof/", 404, "text/plain", "nothing at this address"},
		{bare, "GET", "/debug/pprof/cmdline", 404, "text/plain", "nothing at this address"},
	} {
		t.Run(tc.method+" "+tc.target, func(t *testing.T) {
			w := tc.f.do(tc.method, tc.target, "")
			wantStatus(t, w, tc.status)
			kind := w.Header().Get("Content-Type")
			if kind == "" {
				kind = http.DetectContentType(w.Body.Bytes())
			}
			if !strings.HasPrefix(kind, tc.kind) {
				t.Errorf("content type %q, want %s", kind, tc.kind)
			}
			if !strings.Contains(w.Body.String(), tc.body) {
				t.Errorf("body %q has no %q", w.Body, tc.body)
			}
			for name, want := range map[string]string{
				"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
			} {
				if got := w.Header().Get(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if policy := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(policy, "default-src 'none'; style-src 'sha256-") ||
				!strings.HasSuffix(policy, "frame-ancestors 'none'") {
				t.Errorf("content security policy %q", policy)
			}
		})
	}
}

func TestMethods(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Webhooks = http.NotFoundHandler() })
	for target, allow := range map[string]string{
		"/":                              "GET, HEAD",
		"/metrics":                       "GET, HEAD",
		"/-/ready":                       "GET, HEAD",
		"/api/v1/value-streams":          "GET, HEAD",
		"/api/v1/value-streams/payments": "GET, HEAD",
		"/api/v1/changes":                "GET, HEAD, POST",
		"/api/v1/rejected":               "GET, HEAD",
		"/webhooks/github-main":          "POST",
	} {
		w := f.do("DELETE", target, "")
		wantStatus(t, w, http.StatusMethodNotAllowed)
		if got := w.Header().Get("Allow"); got != allow {
			t.Errorf("%s: Allow %q, want %q", target, got, allow)
		}
		if api := strings.HasPrefix(target, "/api/"); api != json.Valid(w.Body.Bytes()) {
			t.Errorf("%s: body %q", target, w.Body)
		}
		if strings.HasPrefix(allow, "GET") {
			wantStatus(t, f.do("HEAD", target, ""), http.StatusOK)
		}
	}
}

func TestPanicIsAnAnswerAndALogLine(t *testing.T) {
	f := newFixture(t, func(o *Options) {
		o.Metrics = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("no such number") })
	})
	w := f.do("GET", "/metrics", "")
	wantStatus(t, w, http.StatusInternalServerError)
	wantBody(t, w, "internal error\n")
	if !strings.Contains(f.logged.String(), "no such number") {
		t.Errorf("log has no cause: %s", f.logged)
	}
}

func TestPanicInTheMiddleBreaksTheConnection(t *testing.T) {
	f := newFixture(t, func(o *Options) {
		o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half a number")
			_ = http.NewResponseController(w).Flush()
			panic("no such number")
		})
	})
	server := httptest.NewServer(f.Handler())
	defer server.Close()
	res, err := server.Client().Get(server.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("half an answer looks whole: %q", body)
	}
}

func TestConfiguredHeadersWin(t *testing.T) {
	f := newFixture(t)
	w := httptest.NewRecorder()
	w.Header().Set("X-Frame-Options", "SAMEORIGIN") // as exporter-toolkit does
	f.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if got := w.Header().Get("X-Frame-Options"); got != "SAMEORIGIN" {
		t.Errorf("X-Frame-Options %q", got)
	}
}

// TestReadersAndASwap is for the race detector: many readers of everything
// while snapshots change.
func TestReadersAndASwap(t *testing.T) {
	f := newFixture(t)
	h := f.Handler()
	targets := maps.Keys(map[string]bool{"/": true, "/api/v1/value-streams": true, "/api/v1/changes": true, "/?at=2026-06-10T00:00:00Z": true})
	var readers sync.WaitGroup
	for target := range targets {
		for range 4 {
			readers.Go(func() {
				for range 10 {
					w := httptest.NewRecorder()
					h.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
					if w.Code != http.StatusOK && w.Code != http.StatusServiceUnavailable {
						t.Errorf("%s: %d", target, w.Code)
					}
				}
			})
		}
	}
	for range 20 {
		f.numbers.latest.Store(sample())
	}
	readers.Wait()
}
