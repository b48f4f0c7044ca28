package app

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/connector/jira"
)

// childDir names the folder in which this binary, started again, is to serve.
const childDir = "APP_TEST_CHILD_DIR"

// serveUntilKilled is the whole service, by the configuration and with the data
// of a folder. It never ends by itself.
func serveUntilKilled(dir string) int {
	cfg, err := config.Load(filepath.Join(dir, "flow.yaml"))
	if err == nil {
		var a *App
		logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
		a, err = New(context.Background(), Options{Config: cfg, DataDir: filepath.Join(dir, "data"), Listen: "127.0.0.1:0", Logger: logger})
		if err == nil {
			err = tell(filepath.Join(dir, childURL), a.URL())
		}
		if err == nil {
			err = a.Run(context.Background())
		}
	}
	fmt.Fprintln(os.Stderr, "the service ended:", err)
	return 1
}

// childURL is the file of the folder that says where that binary serves.
const childURL = "url"

// tell writes a file, whole or not at all.
func tell(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// A pacer kills services at some of the requests that they make.
type pacer struct {
	requests, target atomic.Int64 // of this child
	reached          chan struct{}
}

// pace counts the requests to a site.
func (p *pacer) pace(site http.Handler) http.Handler {
	p.reached = make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		site.ServeHTTP(w, r)
		if p.requests.Add(1) == p.target.Load() {
			p.reached <- struct{}{}
		}
	})
}

// left returns how many requests there were since the last kill.
func (p *pacer) left() int64 { return p.requests.Load() }

// kill starts the service of a folder in a process of its own and kills it at
// that request, or in a third of cases early.
func (p *pacer) kill(t testing.TB, dir string, r *rand.Rand, target int64) {
	t.Helper()
	select {
	case <-p.reached: // by the one before, when it was killed already
	default:
	}
	p.requests.Store(0)
	p.target.Store(target)
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	child.Stderr = t.Output()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var early <-chan time.Time // during start and replay, or soon after
	if r.IntN(3) == 0 {
		early = time.After(time.Duration(r.IntN(80)) * time.Millisecond)
	}
	select {
	case <-early:
	case <-p.reached:
		// Any moment of decoding, publishing, storing the cursor, or the next request.
		<-time.After(time.Duration(r.IntN(10)) * time.Millisecond)
	case <-time.After(patience):
		t.Error("the service does not come to the request at which it is to be killed")
	}
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // the error is that it was killed, as wanted
	if status, ok := child.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the service ended by itself: %s", child.ProcessState)
	}
	p.requests.Store(0)
	p.target.Store(-1)
}

// Killed again and again during the backfill, the service comes to the numbers
// of an undisturbed run.
func TestKill(t *testing.T) {
	const issues, kills = 240, 9
	undisturbed := newSite(t, issues, jira.FakeOptions{})
	dir := t.TempDir()
	s := start(t, dir, fmt.Sprintf(jiraConfig, undisturbed.url))
	want := facts(t, readLog(t, s.ok(t, "/api/v1/changes")), undisturbed.url)
	numbers := func(s *service, stream string) string { return s.ok(t, "/api/v1/value-streams/"+stream+"?at="+asOf) }
	payments, platform := numbers(s, "payments"), numbers(s, "platform")
	s.end(t)

	r := rand.New(rand.NewPCG(42, 0))
	var p pacer
	fake := jira.NewFake(jira.FakeOptions{InlineHistories: 40, PageSize: 3})
	history(fake, 1, issues)
	server := httptest.NewServer(p.pace(fake))
	defer server.Close()
	text := fmt.Sprintf(jiraConfig, server.URL)
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "flow.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for range kills {
		p.kill(t, dir, r, int64(4+r.IntN(5))) // the first three read no issue
	}
	s = start(t, dir, text)
	t.Logf("%d requests were left to the last start", p.left())
	if n := p.left(); n < 6 {
		t.Errorf("the backfill was over before the last kill: %d requests", n)
	}
	if diff := cmp.Diff(want, facts(t, readLog(t, s.ok(t, "/api/v1/changes")), server.URL)); diff != "" {
		t.Errorf("other changes than undisturbed: %s", diff)
	}
	if diff := cmp.Diff(payments, numbers(s, "payments")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(platform, numbers(s, "platform")); diff != "" {
		t.Error(diff)
	}
	var document struct {
		Quality struct{ Duplicates *int } `json:"data_quality"`
	}
	if err := json.Unmarshal([]byte(payments), &document); err != nil || document.Quality.Duplicates == nil || *document.Quality.Duplicates != 0 {
		t.Errorf("duplicates in %s: %v", payments, err)
	}
}
