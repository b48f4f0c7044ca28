package app

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector/jira"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const hookSecret = "It's a Secret to Everybody"

// hookConfig is jiraConfig with webhooks and polls that are far apart.
func hookConfig(url string) string {
	return strings.Replace(fmt.Sprintf(jiraConfig, url), "poll_interval: 1s", "poll_interval: 1h, webhook_secret_env: APP_TEST_HOOK", 1)
}

// A hook is a delivery as the site sends it.
type hook struct {
	header http.Header
	body   []byte
}

func (s *site) hook(event, id string) hook {
	header, body := s.Delivery(hookSecret, event, id, time.Now())
	return hook{header, body}
}

// deliver sends a delivery and demands an answer.
func (s *service) deliver(t testing.TB, source string, h hook, want int) {
	t.Helper()
	var headers []string
	for name := range h.header {
		headers = append(headers, name, h.header.Get(name))
	}
	if status, body := s.do(t, http.MethodPost, "/webhooks/"+source, bytes.NewReader(h.body), headers...); status != want {
		t.Errorf("POST /webhooks/%s: %d %q, want %d", source, status, body, want)
	}
}

// load returns the items of payments in a status.
func (s *service) load(t testing.TB, state, status string) int {
	t.Helper()
	n, _ := s.sample(t, fmt.Sprintf(`flow_status_load_items{state=%q,status=%q,value_stream="payments"}`, state, status))
	return int(n)
}

// From an accepted delivery to the numbers it takes less than two seconds, while
// polls are an hour apart. What is delivered again changes nothing.
func TestWebhook(t *testing.T) {
	t.Setenv("APP_TEST_HOOK", hookSecret)
	jiraSite := newSite(t, 24, jira.FakeOptions{InlineHistories: 40})
	dir := t.TempDir()
	s := start(t, dir, hookConfig(jiraSite.url))
	ready, progress := s.load(t, "waiting", "Ready"), s.load(t, "active", "In Progress")
	soon := func(what string, done func() bool) {
		t.Helper()
		began := time.Now()
		eventually(t, what, done)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s took %s", what, took)
		}
	}
	var sent []hook
	deliver := func(event, id string) {
		t.Helper()
		h := jiraSite.hook(event, id)
		s.deliver(t, "jira-main", h, http.StatusAccepted)
		sent = append(sent, h)
	}
	id := jiraSite.Create(time.Now(), "PAY", "Story", "Ready", "New")
	deliver("jira:issue_created", id)
	soon("a new item", func() bool { return s.load(t, "waiting", "Ready") == ready+1 })
	jiraSite.Edit(time.Now(), id, jira.SetStatus("In Progress"))
	deliver("jira:issue_updated", id)
	soon("its start", func() bool { return s.load(t, "active", "In Progress") == progress+1 })
	deliver("jira:issue_deleted", id)
	jiraSite.Delete(id)
	soon("its deletion", func() bool { return s.load(t, "active", "In Progress") == progress })

	other := jiraSite.Create(time.Now(), "OLD", "Story", "Ready", "Of no concern")
	s.deliver(t, "jira-main", jiraSite.hook("jira:issue_created", other), http.StatusNoContent)
	s.deliver(t, "jira-main", jiraSite.hook("comment_created", jiraSite.ids[0]), http.StatusNoContent)
	s.deliver(t, "nobody", sent[0], http.StatusNotFound)
	s.deliver(t, "jira-main", hook{http.Header{}, sent[0].body}, http.StatusUnauthorized)
	s.deliver(t, "jira-main", hook{sent[1].header, sent[0].body}, http.StatusUnauthorized)
	s.deliver(t, "jira-main", hook{sent[0].header, make([]byte, 25<<20+1)}, http.StatusRequestEntityTooLarge)

	log := s.ok(t, "/api/v1/changes")
	requests := jiraSite.Requests()
	for range 3 {
		for _, h := range sent {
			s.deliver(t, "jira-main", h, http.StatusAccepted)
		}
	}
	eventually(t, "read again", func() bool { return jiraSite.Requests() > requests && s.runners[0].Status().Hints == 0 })
	deliver("jira:issue_updated", jiraSite.ids[0]) // behind the others, of no news
	eventually(t, "all read", func() bool { return s.runners[0].Status().Hints == 0 })
	if after := s.ok(t, "/api/v1/changes"); after != log {
		t.Errorf("what is delivered again changes the log: %s", cmp.Diff(log, after))
	}
	for result, want := range map[string]float64{"taken": 13, "ignored": 2, "unauthorized": 2, "too_large": 1} {
		s.wantSample(t, fmt.Sprintf(`flowmetrics_webhook_requests_total{result=%q,source="jira-main"}`, result), want)
	}
	for _, path := range []string{"/", "/metrics", "/api/v1/changes", "/api/v1/rejected"} {
		if text := s.ok(t, path); strings.Contains(text, hookSecret) || strings.Contains(text, sent[0].header.Get("X-Hub-Signature")) {
			t.Errorf("%s tells a secret", path)
		}
	}
	s.end(t)
	s = start(t, dir, hookConfig(jiraSite.url))
	if after := s.ok(t, "/api/v1/changes"); after != log {
		t.Errorf("a restart changes the log: %s", cmp.Diff(log, after))
	}
}

// A source without a secret takes no deliveries; one whose secret is empty does
// not start.
func TestWebhookSecret(t *testing.T) {
	jiraSite := newSite(t, 3, jira.FakeOptions{})
	s := start(t, t.TempDir(), fmt.Sprintf(jiraConfig, jiraSite.url))
	s.deliver(t, "jira-main", jiraSite.hook("jira:issue_created", jiraSite.ids[0]), http.StatusUnauthorized)
	t.Setenv("APP_TEST_HOOK", " ")
	dir := t.TempDir()
	_, err := New(t.Context(), Options{Config: parse(t, dir, hookConfig(jiraSite.url)), DataDir: dir, Listen: "127.0.0.1:0", Logger: s.opts.Logger})
	if err == nil || !strings.Contains(err.Error(), "webhook secret of source jira-main: read secret: environment variable APP_TEST_HOOK is not set or empty") {
		t.Errorf("with an empty secret: %v", err)
	}
}

// While a backfill is under way, what only a delivery tells is durable when it is
// answered, and what it names is read in the end.
func TestWebhookDuringBackfill(t *testing.T) {
	t.Setenv("APP_TEST_HOOK", hookSecret)
	fake := jira.NewFake(jira.FakeOptions{PageSize: 3})
	jiraSite := &site{Fake: fake, ids: history(fake, 1, 24)}
	held, release := make(chan struct{}), make(chan struct{})
	searches := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/search") {
			if searches++; searches == 3 {
				close(held)
				<-release
			}
		}
		fake.ServeHTTP(w, r)
	}))
	defer server.Close()
	s := run(t, create(t, t.TempDir(), hookConfig(server.URL)))
	<-held
	gone := jiraSite.ids[len(jiraSite.ids)-2]
	fresh := jiraSite.Create(time.Now(), "PAY", "Story", "Ready", "New")
	deleted := jiraSite.hook("jira:issue_deleted", gone)
	for range 2 {
		s.deliver(t, "jira-main", deleted, http.StatusAccepted)
	}
	s.deliver(t, "jira-main", jiraSite.hook("jira:issue_created", fresh), http.StatusAccepted)
	fake.Delete(gone)
	told := func() (deletions, births int) {
		for _, c := range readLog(t, s.ok(t, "/api/v1/changes")) {
			if c.Item == gone && c.Kind == flow.Deleted && !c.Approximate {
				deletions++
			}
			if c.Item == fresh && c.Kind == flow.Created {
				births++
			}
		}
		return deletions, births
	}
	if deletions, births := told(); deletions != 1 || births != 0 {
		t.Errorf("during the backfill: %d deletions, %d births", deletions, births)
	}
	close(release)
	s.awaitReady(t)
	eventually(t, "all read", func() bool {
		deletions, births := told()
		return deletions == 1 && births == 1 && s.runners[0].Status().Hints == 0
	})
}

// Killed after it has answered, the service still knows of a deletion.
func TestKillAfterWebhook(t *testing.T) {
	t.Setenv("APP_TEST_HOOK", hookSecret)
	jiraSite := newSite(t, 6, jira.FakeOptions{})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "flow.yaml"), []byte(hookConfig(jiraSite.url)), 0o600); err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	child.Stderr = t.Output()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var url string
	eventually(t, "the child listens", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, childURL))
		url = string(text)
		return err == nil
	})
	gone := jiraSite.ids[0]
	h := jiraSite.hook("jira:issue_deleted", gone)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"webhooks/jira-main", bytes.NewReader(h.body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = h.header
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // the error is that it was killed, as wanted
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusAccepted {
		t.Fatalf("answer %s", answer.Status)
	}
	s := start(t, dir, hookConfig(jiraSite.url))
	found := 0
	for _, c := range readLog(t, s.ok(t, "/api/v1/changes")) {
		if c.ID == gone+":deleted" && c.Kind == flow.Deleted {
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d deletions in the log, want the one that was answered", found)
	}
}

// What was told to be deleted and is there in truth comes back with a census: in
// flow, it flows again; completed, it is not counted twice.
func TestDeletedComesBack(t *testing.T) {
	t.Setenv("APP_TEST_HOOK", hookSecret)
	fake := jira.NewFake(jira.FakeOptions{})
	history(fake, 1, 0)
	server := httptest.NewServer(fake)
	defer server.Close()
	jiraSite := &site{Fake: fake, url: server.URL}
	now := time.Now()
	open := fake.Create(now.Add(-48*time.Hour), "PAY", "Story", "Ready", "Open")
	done := fake.Create(now.Add(-48*time.Hour), "PAY", "Story", "Ready", "Done")
	fake.Edit(now.Add(-24*time.Hour), done, jira.SetStatus("Done"))
	text := strings.Replace(hookConfig(server.URL), "1h", "1s", 1)
	s := start(t, t.TempDir(), text, func(o *Options) { o.CensusInterval = time.Second })
	for _, id := range []string{open, done} {
		s.deliver(t, "jira-main", jiraSite.hook("jira:issue_deleted", id), http.StatusAccepted)
	}
	eventually(t, "it left", func() bool { return s.load(t, "waiting", "Ready") == 0 })
	eventually(t, "it is back", func() bool { return s.load(t, "waiting", "Ready") == 1 })
	restored := 0
	for _, c := range readLog(t, s.ok(t, "/api/v1/changes")) {
		if strings.Contains(c.ID, ":restored:") {
			restored++
		}
	}
	if restored != 2 {
		t.Errorf("%d items came back, want 2", restored)
	}
	s.wantSample(t, `flow_items_completed_total{item_type="feature",value_stream="payments"}`, 1)
	s.wantSample(t, `flow_items_reopened_total{item_type="feature",value_stream="payments"}`, 0)
	s.wantSample(t, `flow_items_entered_total{item_type="feature",value_stream="payments"}`, 3) // the open one twice
}
