package app

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector/github"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const githubConfig = `
sources:
  - {name: github-main, type: github, url: %q, repos: [acme/api], project: {owner: acme, number: 3},
     token_env: APP_TEST_GITHUB, poll_interval: 1h, webhook_secret_env: APP_TEST_HOOK}
workflows:
  - name: board
    statuses: {new: [Backlog], waiting: [Ready], active: [In Progress], done: [Done]}
    types: {feature: ["label:feature"], defect: ["*"]}
value_streams:
  - {name: payments, workflow: board, timezone: UTC, include: [{source: github-main}]}
`

// A board whose moves are in no timeline is followed by webhook, and where none
// came by looking at it. Each move is in the log once, whoever told of it first.
func TestGitHubBoard(t *testing.T) {
	t.Setenv("APP_TEST_HOOK", hookSecret)
	t.Setenv("APP_TEST_GITHUB", "a-token")
	fake := github.NewFake(github.FakeOptions{Token: "a-token", WebhookSecret: hookSecret})
	fake.AddRepo("acme/api")
	fake.AddProject("acme", 3, "Backlog", "Ready", "In Progress", "Done")
	server := httptest.NewServer(fake)
	defer server.Close()
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	first := fake.Create(ago(48*time.Hour), "acme/api", "First", github.CreateOptions{})
	second := fake.Create(ago(47*time.Hour), "acme/api", "Second", github.CreateOptions{})
	for _, id := range []string{first, second} {
		fake.SetStatus(ago(46*time.Hour), id, "Ready", true)
	}
	_ = fake.Deliveries() // nobody took those
	dir, text := t.TempDir(), fmt.Sprintf(githubConfig, server.URL)
	s := start(t, dir, text)
	if n := s.load(t, "waiting", "Ready"); n != 2 {
		t.Fatalf("%d items are ready, want 2: %s", n, s.ok(t, "/api/v1/changes"))
	}

	fake.SetStatus(ago(time.Hour), first, "In Progress", false)
	sent := fake.Deliveries()
	deliver := func() {
		t.Helper()
		for _, d := range sent {
			s.deliver(t, "github-main", hook{d.Header, d.Body}, http.StatusAccepted)
		}
	}
	began := time.Now()
	deliver()
	eventually(t, "the move on the board", func() bool { return s.load(t, "active", "In Progress") == 1 })
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	log := s.ok(t, "/api/v1/changes")
	deliver()
	ping := fake.Ping()
	s.deliver(t, "github-main", hook{ping.Header, ping.Body}, http.StatusNoContent)
	s.deliver(t, "github-main", hook{ping.Header, sent[0].Body}, http.StatusUnauthorized)
	if after := s.ok(t, "/api/v1/changes"); after != log {
		t.Errorf("what is delivered again changes the log: %s", cmp.Diff(log, after))
	}
	s.end(t)

	moved := ago(30 * time.Minute).Truncate(time.Second)
	fake.SetStatus(moved, second, "Done", false) // while nobody listens
	before := len(readLog(t, log))
	for range 2 {
		s = start(t, dir, text)
		eventually(t, "the board was looked at", func() bool { return s.load(t, "waiting", "Ready") == 0 })
		fresh := readLog(t, s.ok(t, "/api/v1/changes"))[before:]
		if len(fresh) != 1 {
			t.Fatalf("%d changes after a restart, want 1: %+v", len(fresh), fresh)
		}
		c := fresh[0]
		if c.Item != second || !c.Approximate || !c.At.Equal(moved) || len(c.Fields) != 1 || c.Fields[0].Field != flow.FieldStatus ||
			c.Fields[0].From.Name != "Ready" || c.Fields[0].To.Name != "Done" {
			t.Errorf("observed %+v", c)
		}
		s.end(t)
	}
}
