package app

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server/ats"
	"go.uber.org/goleak"

	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" { // this is the process that TestKill kills
		os.Exit(serveUntilKilled(dir))
	}
	flag.Parse()
	ats.Register() // the NATS server's clock of access times, for goleak not to find it
	code := m.Run()
	ats.Unregister()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// patience is how long anything may take that is bound to happen.
const patience = time.Minute

// eventually asks again and again until the answer is yes.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	if !within(patience, done) {
		t.Fatalf("in vain: %s", what)
	}
}

// within asks again and again for some time and reports whether the answer was
// yes.
func within(limit time.Duration, done func() bool) bool {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(limit); !done(); {
		select {
		case <-tick.C:
		case <-late:
			return false
		}
	}
	return true
}

// A service is an App that runs.
type service struct {
	*App
	client *http.Client
	stop   context.CancelFunc
	ended  chan error
	over   bool
}

// parse reads a configuration; relative paths in it are relative to dir.
func parse(t testing.TB, dir, text string) *config.Config {
	t.Helper()
	c, err := config.Parse(filepath.Join(dir, "flow.yaml"), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// create makes an App, with its data in dir, that does not run yet.
func create(t testing.TB, dir, text string, set ...func(*Options)) *App {
	t.Helper()
	opts := Options{
		Config: parse(t, dir, text), DataDir: filepath.Join(dir, "data"), Listen: "127.0.0.1:0", Version: "v1.2.3",
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	for _, f := range set {
		f(&opts)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	a, err := New(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// run lets an App work until end or the end of the test.
func run(t testing.TB, a *App) *service {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	transport := &http.Transport{DisableCompression: true}
	s := &service{App: a, client: &http.Client{Transport: transport, Timeout: patience}, stop: stop, ended: make(chan error, 1)}
	go func() { s.ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		s.end(t)
		transport.CloseIdleConnections()
	})
	return s
}

// start makes an App and lets it work until it is ready.
func start(t testing.TB, dir, text string, set ...func(*Options)) *service {
	t.Helper()
	s := run(t, create(t, dir, text, set...))
	s.awaitReady(t)
	return s
}

func (s *service) awaitReady(t testing.TB) {
	t.Helper()
	last := ""
	eventually(t, "ready", func() bool {
		status, body := s.get(t, "/-/ready")
		if last != body {
			t.Log(strings.ReplaceAll(strings.TrimSpace(body), "\n", "; "))
		}
		last = body
		return status == http.StatusOK
	})
}

// end stops the service, which must take less than five seconds.
func (s *service) end(t testing.TB) {
	t.Helper()
	if s.over {
		return
	}
	s.over = true
	began := time.Now()
	s.stop()
	select {
	case err := <-s.ended:
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the service does not stop")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("stopping took %s", took)
	}
}

// do sends a request and returns status and body of the answer.
func (s *service) do(t testing.TB, method, path string, body io.Reader, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.Addr().String()+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func (s *service) get(t testing.TB, path string, headers ...string) (int, string) {
	t.Helper()
	return s.do(t, http.MethodGet, path, nil, headers...)
}

// ok returns the body of an answer that must be 200.
func (s *service) ok(t testing.TB, path string) string {
	t.Helper()
	status, body := s.get(t, path)
	if status != http.StatusOK {
		t.Fatalf("GET %s: %d: %s", path, status, body)
	}
	return body
}

// sample returns the value of a sample of /metrics, written with its labels.
func (s *service) sample(t testing.TB, name string) (value float64, ok bool) {
	t.Helper()
	for line := range strings.Lines(s.ok(t, "/metrics")) {
		if text, found := strings.CutPrefix(line, name+" "); found {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				t.Fatal(err)
			}
			return value, true
		}
	}
	return 0, false
}

// wantSample demands a value of a sample.
func (s *service) wantSample(t testing.TB, name string, want float64) {
	t.Helper()
	if got, ok := s.sample(t, name); !ok || got != want {
		t.Errorf("%s is %v (there: %v), want %v", name, got, ok, want)
	}
}

// decode reads a JSON document.
func decode[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// readLog reads JSON Lines of changes.
func readLog(t testing.TB, text string) []flow.Change {
	t.Helper()
	var changes []flow.Change
	lines := bufio.NewScanner(strings.NewReader(text))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		c, err := flow.DecodeJSON(lines.Bytes())
		if err != nil {
			t.Fatalf("%v: %s", err, lines.Bytes())
		}
		changes = append(changes, c)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return changes
}

// facts renders changes as a set: sorted, and without what differs from one
// observer to another, the instant of observation and the site's address.
func facts(t testing.TB, changes []flow.Change, site string) []string {
	t.Helper()
	var lines []string
	for _, c := range changes {
		c.ObservedAt = time.Time{}
		c.URL = strings.ReplaceAll(c.URL, site, "SITE")
		line, err := json.Marshal(&c)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(line))
	}
	slices.Sort(lines)
	return lines
}

// lines joins JSON documents into the body of an import.
func lines(documents ...string) io.Reader {
	return bytes.NewReader([]byte(strings.Join(documents, "\n") + "\n"))
}
