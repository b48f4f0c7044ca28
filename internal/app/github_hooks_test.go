package app

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the signature that is not to be taken
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector/github"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// stateConfig reads a GitHub without a board, whose polls are far apart.
const stateConfig = `
sources:
  - {name: github-main, type: github, url: %q, repos: [acme/api, acme/web], token_env: APP_TEST_GITHUB, poll_interval: 1h, webhook_secret_env: APP_TEST_HOOK}
workflows:
  - name: states
    labels: [{label: urgent, state: active}]
    start_signals: [assigned, pull_request]
value_streams:
  - {name: payments, workflow: states, timezone: UTC, include: [{source: github-main}]}
`

// What webhooks of GitHub tell is in the numbers in less than two seconds, while
// polls are an hour apart. What is delivered again, or not signed as it must be,
// changes nothing.
func TestGitHubWebhooks(t *testing.T) {
	credentials(t)
	fake := github.NewFake(github.FakeOptions{Token: "a-token", WebhookSecret: hookSecret})
	for _, repo := range []string{"acme/api", "acme/web", "acme/old"} {
		fake.AddRepo(repo)
		fake.AddLabel(repo, "urgent")
	}
	server := httptest.NewServer(fake)
	defer server.Close()
	ago := func(hours int) time.Time { return time.Now().Add(-time.Duration(hours) * time.Hour) }
	var ids []string
	for k := range 6 {
		id := fake.Create(ago(48), []string{"acme/api", "acme/web"}[k%2], fmt.Sprintf("Issue %d", k), github.CreateOptions{})
		fake.Label(ago(47), id, "urgent")
		ids = append(ids, id)
	}
	_ = fake.Deliveries() // nobody took those
	dir, text := t.TempDir(), fmt.Sprintf(stateConfig, server.URL)
	s := start(t, dir, text)
	sample := func(name string) float64 {
		n, _ := s.sample(t, name)
		return n
	}
	active := func() float64 {
		return sample(`flow_load_items{item_type="unclassified",state="active",value_stream="payments"}`)
	}
	done := func() float64 {
		return sample(`flow_items_completed_total{item_type="unclassified",value_stream="payments"}`)
	}
	if active() != 6 || done() != 0 {
		t.Fatalf("%v active and %v done items, want 6 and none: %s", active(), done(), s.ok(t, "/api/v1/changes"))
	}
	var sent []hook
	soon := func(what string, happened func() bool) {
		t.Helper()
		for _, d := range fake.Deliveries() {
			if repo := decode[struct{ Repository struct{ Name string } }](t, string(d.Body)); repo.Repository.Name == "old" {
				continue // that one has no webhook
			}
			h := hook{d.Header, d.Body}
			s.deliver(t, "github-main", h, http.StatusAccepted)
			sent = append(sent, h)
		}
		began := time.Now()
		eventually(t, what, happened)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s took %s", what, took)
		}
	}
	fake.Close(time.Now(), ids[0], "completed")
	soon("an issue is closed", func() bool { return active() == 5 && done() == 1 })
	fake.Close(time.Now(), ids[1], "")
	soon("an issue is closed without a reason", func() bool { return active() == 4 && done() == 2 })
	fresh := fake.Create(time.Now(), "acme/web", "New", github.CreateOptions{Assignees: []string{"worker-one"}})
	fake.Label(time.Now(), fresh, "urgent")
	soon("an issue is opened", func() bool { return active() == 5 })
	fake.Delete(time.Now(), ids[2])
	soon("an issue is deleted", func() bool { return active() == 4 })
	moved := fake.Transfer(time.Now(), ids[3], "acme/api")
	soon("an issue is transferred", func() bool {
		return slices.ContainsFunc(readLog(t, s.ok(t, "/api/v1/changes")), func(c flow.Change) bool { return c.Item == moved })
	})
	soon("the issue is counted once", func() bool { return active() == 4 })
	fake.Transfer(time.Now(), ids[4], "acme/old")
	soon("an issue is transferred out of sight", func() bool { return active() == 3 })
	if n := sample(`flow_items_completed_total{item_type="unclassified",value_stream="payments"}`); n != 2 {
		t.Errorf("%v items are done, want 2", n)
	}

	log := s.ok(t, "/api/v1/changes")
	for range 2 {
		for _, h := range sent {
			s.deliver(t, "github-main", h, http.StatusAccepted)
		}
	}
	quiet := ids[5] // nothing was delivered about it
	fake.Close(time.Now(), quiet, "completed")
	forged := fake.Deliveries()[0]
	s.deliver(t, "github-main", hook{sent[0].header, forged.Body}, http.StatusUnauthorized) // the signature of another one
	s.deliver(t, "github-main", hook{http.Header{"X-Github-Event": {"issues"}}, forged.Body}, http.StatusUnauthorized)
	mac := hmac.New(sha1.New, []byte(hookSecret))
	mac.Write(forged.Body)
	old := forged.Header.Clone()
	old.Del("X-Hub-Signature-256")
	old.Set("X-Hub-Signature", "sha1="+hex.EncodeToString(mac.Sum(nil)))
	s.deliver(t, "github-main", hook{old, forged.Body}, http.StatusUnauthorized)
	star := fake.Sign("star", []byte(`{"action":"created"}`))
	s.deliver(t, "github-main", hook{star.Header, star.Body}, http.StatusNoContent)
	// Hints are read in their order: once a later one is in the log, what was forged
	// and taken would be as well.
	last := fake.Create(time.Now(), "acme/web", "Last", github.CreateOptions{})
	for _, d := range fake.Deliveries() {
		s.deliver(t, "github-main", hook{d.Header, d.Body}, http.StatusAccepted)
	}
	before := log
	eventually(t, "the last hint is read", func() bool {
		log = s.ok(t, "/api/v1/changes")
		return log != before
	})
	for _, c := range readLog(t, log)[len(readLog(t, before)):] {
		if c.Item != last {
			t.Errorf("the log has a new change: %+v", c)
		}
	}
	s.wantSample(t, `flowmetrics_webhook_requests_total{result="unauthorized",source="github-main"}`, 3)
	s.end(t)
	s = start(t, dir, text) // which reads what the forged delivery was about
	fresher := readLog(t, s.ok(t, "/api/v1/changes"))[len(readLog(t, log)):]
	if len(fresher) != 1 || fresher[0].Item != quiet || fresher[0].Fields[0].To.Name != "closed" {
		t.Errorf("a restart adds %+v, want the closing of %s", fresher, quiet)
	}
}

// A status that was cleared while nobody listened is seen on the board.
func TestGitHubBoardCleared(t *testing.T) {
	credentials(t)
	fake := github.NewFake(github.FakeOptions{Token: "a-token", WebhookSecret: hookSecret})
	fake.AddRepo("acme/api")
	fake.AddProject("acme", 3, "Backlog", "Ready", "In Progress", "Done")
	server := httptest.NewServer(fake)
	defer server.Close()
	ago := func(hours int) time.Time {
		return time.Now().Add(-time.Duration(hours) * time.Hour).Truncate(time.Second)
	}
	id := fake.Create(ago(48), "acme/api", "First", github.CreateOptions{})
	fake.SetStatus(ago(46), id, "Ready", true)
	dir, text := t.TempDir(), fmt.Sprintf(githubConfig, server.URL)
	s := start(t, dir, text)
	if n := s.load(t, "waiting", "Ready"); n != 1 {
		t.Fatalf("%d items are ready, want 1", n)
	}
	log := s.ok(t, "/api/v1/changes")
	s.end(t)
	at := ago(2)
	fake.SetStatus(at, id, "", false)
	for range 2 {
		s = start(t, dir, text)
		var fresh []flow.Change
		eventually(t, "the board was looked at", func() bool {
			fresh = readLog(t, s.ok(t, "/api/v1/changes"))[len(readLog(t, log)):]
			return len(fresh) > 0
		})
		if c := fresh[0]; len(fresh) != 1 || !c.At.Equal(at) || !c.Approximate || c.Fields[0].From.Name != "Ready" || !c.Fields[0].To.IsZero() {
			t.Errorf("observed %+v", fresh)
		}
		s.end(t)
	}
}

// An issue that was transferred is one unit of work, also once a census finds its
// former self gone.
func TestGitHubTransferAndCensus(t *testing.T) {
	credentials(t)
	fake := github.NewFake(github.FakeOptions{Token: "a-token", WebhookSecret: hookSecret})
	for _, repo := range []string{"acme/api", "acme/web"} {
		fake.AddRepo(repo)
		fake.AddLabel(repo, "urgent")
	}
	server := httptest.NewServer(fake)
	defer server.Close()
	ago := func(hours int) time.Time { return time.Now().Add(-time.Duration(hours) * time.Hour) }
	var ids []string
	for k := range 3 {
		id := fake.Create(ago(48), "acme/api", fmt.Sprintf("Issue %d", k), github.CreateOptions{})
		fake.Label(ago(47), id, "urgent")
		ids = append(ids, id)
	}
	fake.Close(ago(24), ids[1], "completed")
	_ = fake.Deliveries() // nobody took those
	text := strings.Replace(fmt.Sprintf(stateConfig, server.URL), "1h", "1s", 1)
	s := start(t, t.TempDir(), text, func(o *Options) { o.CensusInterval = time.Second })
	count := func() string {
		active, _ := s.sample(t, `flow_load_items{item_type="unclassified",state="active",value_stream="payments"}`)
		done, _ := s.sample(t, `flow_items_completed_total{item_type="unclassified",value_stream="payments"}`)
		entered, _ := s.sample(t, `flow_items_entered_total{item_type="unclassified",value_stream="payments"}`)
		return fmt.Sprintf("%v active, %v done, %v entered", active, done, entered)
	}
	want := count()
	if want != "2 active, 1 done, 3 entered" {
		t.Fatal(want)
	}
	var moved []string
	for _, id := range ids[:2] {
		moved = append(moved, fake.Transfer(time.Now(), id, "acme/web"))
	}
	for _, d := range fake.Deliveries() {
		s.deliver(t, "github-main", hook{d.Header, d.Body}, http.StatusAccepted)
	}
	eventually(t, "the new ones are read", func() bool {
		log := readLog(t, s.ok(t, "/api/v1/changes"))
		return !slices.ContainsFunc(moved, func(id string) bool {
			return !slices.ContainsFunc(log, func(c flow.Change) bool { return c.Item == id })
		})
	})
	eventually(t, "counted once: "+want, func() bool { return count() == want })
	for range 2 {
		last := s.runners[0].Status().LastCensus
		eventually(t, "a census", func() bool { return s.runners[0].Status().LastCensus.After(last) })
	}
	eventually(t, "all of the log is measured", func() bool {
		end, err := s.log.LastPosition(t.Context())
		return err == nil && s.App.processor.Status().Measured >= end
	})
	if got := count(); got != want {
		t.Errorf("after the census: %s, want %s: %s", got, want, s.ok(t, "/api/v1/changes"))
	}
}
