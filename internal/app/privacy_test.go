package app

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector/github"
	"github.com/flowmetrics/flowmetrics/internal/connector/jira"
)

// What is planted. The people do not exist.
const (
	plantedToken  = "ghp_PlantedTokenOfGitHub"
	plantedTicket = "ghs_PlantedTokenOfInstallation"
	plantedJira   = "ATATT-planted-token-of-jira"
	plantedMail   = "planted.login@example.com"
	plantedHook   = "planted-webhook-secret"
	plantedIngest = "planted-ingest-token"
	plantedPerson = "planted-person"
)

const privacyConfig = `
sources:
  - {name: hub, type: github, url: %q, repos: [acme/api], project: {owner: acme, number: 3},
     token_env: APP_TEST_GITHUB, poll_interval: 1s, webhook_secret_env: APP_TEST_HOOK}
  - {name: app, type: github, url: %q, repos: [acme/api], app: {id: 7, installation: 9, private_key_file: key.pem}, poll_interval: 1s}
  - {name: tickets, type: jira, url: %q, projects: [PAY, PLAT], email: planted.login@example.com,
     token_env: APP_TEST_JIRA, poll_interval: 1s, webhook_secret_env: APP_TEST_HOOK}
workflows:
  - name: default
    statuses: {new: [Backlog], waiting: [Ready, In Review, Blocked], active: [In Progress], done: [Done, Closed]}
value_streams:
  - {name: payments, workflow: default, timezone: UTC, include: [{source: hub}, {source: app}, {source: tickets}]}
web: {ingest_token_env: APP_TEST_INGEST}
`

// A garden is where secrets and names are planted.
type garden struct {
	t testing.TB

	mu      sync.Mutex
	planted map[string]string // what they are, by text
	shown   map[string]bool   // those that a tracker has sent
	log     bytes.Buffer
}

// plant adds texts that are to be nowhere.
func (g *garden) plant(what string, texts ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, text := range texts {
		if len(text) < 8 {
			g.t.Fatalf("%q is too short to be looked for", text)
		}
		g.planted[text] = what
	}
}

// Write takes a line of the log.
func (g *garden) Write(line []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.log.Write(line)
}

// dig looks for what is planted.
func (g *garden) dig(where string, text []byte) {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, secret := range slices.Sorted(maps.Keys(g.planted)) {
		if k := bytes.Index(text, []byte(secret)); k >= 0 {
			g.t.Errorf("%s tells %s, %q: ...%.400s", where, g.planted[secret], secret, text[max(0, k-200):])
		}
	}
}

// watch notes what of the planted a tracker has sent.
func (g *garden) watch(body []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for secret := range g.planted {
		if bytes.Contains(body, []byte(secret)) {
			g.shown[secret] = true
		}
	}
}

// A weather is how a tracker answers.
type weather int32

const (
	fair weather = iota
	unauthorized
	forbidden
	broken
	limited
	page
	truncated
	graphErrors
	oddTypes
	dropped
	weathers
)

// under serves a tracker under the weather of the moment, and people's names in
// the place of those of the fake.
func (g *garden) under(now *atomic.Int32, site http.Handler, names *strings.Replacer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent := r.Header.Get("Authorization")
		if _, secret, ok := strings.Cut(sent, " "); ok {
			g.plant("credentials that were sent", secret)
		}
		recorded := httptest.NewRecorder()
		site.ServeHTTP(recorded, r)
		body := []byte(names.Replace(recorded.Body.String()))
		echo := fmt.Sprintf("%s was sent by %s (%s), who is planted-colleague", sent, plantedPerson, plantedMail)
		header := w.Header()
		maps.Copy(header, recorded.Header())
		header.Set("X-Echo", echo)
		status := recorded.Code
		complain := func(code int) {
			status = code
			header.Del("ETag")
			header.Set("Content-Type", "application/json; charset=utf-8")
			body = fmt.Appendf(nil, `{"message":%q,"errorMessages":[%[1]q],"errors":{"planted-person":%[1]q},"user":{"login":"planted-person"}}`, echo)
		}
		switch weather(now.Load()) {
		case unauthorized:
			complain(http.StatusUnauthorized)
		case forbidden:
			complain(http.StatusForbidden)
		case broken:
			complain(http.StatusInternalServerError)
		case limited:
			header.Set("Retry-After", "60")
			complain(http.StatusTooManyRequests)
		case page:
			complain(http.StatusOK)
			header.Set("Content-Type", "text/html")
			body = []byte("<html><body>" + echo + "</body></html>")
		case truncated:
			body = body[:len(body)*2/3]
			header.Del("ETag")
		case graphErrors:
			if strings.HasSuffix(r.URL.Path, "/graphql") {
				complain(http.StatusOK)
				body = fmt.Appendf(nil, `{"data":null,"errors":[{"message":%q,"path":["planted-person"]}]}`, echo)
			}
		case oddTypes:
			complain(http.StatusOK)
			body = fmt.Appendf(nil, `[{"id":%q,"number":%[1]q,"fields":%[1]q,"node_id":%[1]q,"planted-person":1}]`, echo)
		case dropped:
			panic(http.ErrAbortHandler)
		}
		g.watch(body)
		header.Del("Content-Length")
		w.WriteHeader(status)
		_, _ = w.Write(body) // a client that went away is no concern
	})
}

// deliver sends a delivery, as it is and forged. Its signature and what is in it
// are to be nowhere.
func (g *garden) deliver(s *service, source, header string, h hook) {
	g.t.Helper()
	_, signature, _ := strings.Cut(h.header.Get(header), "=")
	g.plant("a signature", signature)
	g.watch(h.body)
	send := func(h hook) {
		var headers []string
		for name := range h.header {
			headers = append(headers, name, h.header.Get(name))
		}
		_, body := s.do(g.t, http.MethodPost, "/webhooks/"+source, bytes.NewReader(h.body), headers...)
		g.dig("the answer to a delivery", []byte(body))
	}
	send(h)
	forged := strings.Repeat("ab", 16) + signature[:32]
	g.plant("a forged signature", forged)
	other := h.header.Clone()
	other.Set(header, "sha256="+forged)
	send(hook{other, h.body})
	send(hook{h.header, append(slices.Clone(h.body), ' ')})
	garbled := fmt.Appendf(nil, `{"action":{"login":%q},"issue":%[1]q,"user":%[1]q`, plantedPerson)
	send(hook{signed(h.header, header, garbled), garbled})
}

// signed returns headers with the signature of a body.
func signed(h http.Header, name string, body []byte) http.Header {
	mac := hmac.New(sha256.New, []byte(plantedHook))
	mac.Write(body)
	h = h.Clone()
	h.Set(name, "sha256="+hex.EncodeToString(mac.Sum(nil)))
	return h
}

// look digs everywhere where a running service tells something.
func (g *garden) look(s *service, when string) {
	g.t.Helper()
	for _, path := range []string{"/", "/metrics", "/api/v1/changes", "/api/v1/rejected", "/api/v1/value-streams?items=true", "/-/ready"} {
		_, body := s.get(g.t, path)
		g.dig(when+": "+path, []byte(body))
	}
	for _, r := range s.runners {
		g.dig(when+": the status", fmt.Appendf(nil, "%+v", r.Status()))
	}
	g.mu.Lock()
	text := bytes.Clone(g.log.Bytes())
	g.mu.Unlock()
	g.dig(when+": the log", text)
}

// Whatever trackers say, and whatever they and others send: no credentials, no
// signature and no name of a person is in anything that the service writes.
func TestPrivacy(t *testing.T) {
	g := &garden{t: t, planted: map[string]string{}, shown: map[string]bool{}}
	g.plant("a token", plantedToken, plantedTicket, plantedJira)
	g.plant("an e-mail address", plantedMail)
	g.plant("a secret", plantedHook, plantedIngest)
	g.plant("basic auth", base64.StdEncoding.EncodeToString([]byte(plantedMail+":"+plantedJira)), base64.URLEncoding.EncodeToString([]byte(plantedMail+":"+plantedJira)))
	people := []string{plantedPerson, "planted-assignee", "planted-colleague", "planted-account", "maintainer-one", "reviewer-two", "reader-three", "robot-four"}
	g.plant("a person", people...)
	t.Setenv("APP_TEST_GITHUB", plantedToken)
	t.Setenv("APP_TEST_JIRA", plantedJira)
	t.Setenv("APP_TEST_HOOK", plantedHook)
	t.Setenv("APP_TEST_INGEST", plantedIngest)
	dir := t.TempDir()
	writeKey(t, g, filepath.Join(dir, "key.pem"))

	var sky atomic.Int32
	serve := func(site http.Handler, names ...string) string {
		server := httptest.NewUnstartedServer(g.under(&sky, site, strings.NewReplacer(names...)))
		server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		server.Start()
		t.Cleanup(server.Close)
		return server.URL
	}
	hub := github.NewFake(github.FakeOptions{Token: plantedToken, WebhookSecret: plantedHook, Noise: true, PageSize: 2})
	byApp := github.NewFake(github.FakeOptions{Token: plantedTicket, Noise: true})
	tickets := jira.NewFake(jira.FakeOptions{Email: plantedMail, Token: plantedJira})
	ids := history(tickets, 1, 12)
	tickets.Edit(firstDay.Add(2000*time.Hour), ids[0], jira.SetAssigned(true))
	for _, fake := range []*github.Fake{hub, byApp} {
		fake.AddRepo("acme/api")
		fake.AddLabel("acme/api", "bug")
		fake.AddProject("acme", 3, "Backlog", "Ready", "Done")
	}
	populate := func(fake *github.Fake, n int) {
		at := time.Now().Add(-time.Hour)
		id := fake.Create(at, "acme/api", fmt.Sprintf("Issue %d", n), github.CreateOptions{Assignees: []string{"planted-assignee"}, Labels: []string{"bug"}})
		fake.SetStatus(at, id, "Ready", true)
		pull := fake.OpenPull(at, "acme/api", []string{id}, nil)
		fake.RequestReview(at, pull)
		fake.RequestChanges(at, pull)
		fake.MergePull(at, pull)
		fake.SetStatus(at, id, "Done", false)
		fake.Unassign(at, id, "planted-assignee")
	}
	text := fmt.Sprintf(privacyConfig, serve(hub), serve(byApp), serve(tickets, `"user-1"`, `"planted-account"`))
	logged := func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(g, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.CensusInterval = time.Second
		o.Debug = true
	}
	for n := range int32(weathers) {
		sky.Store(int32(fair))
		if n > 0 {
			sky.Store(n)
		}
		populate(hub, int(n))
		populate(byApp, int(n))
		tickets.Edit(time.Now(), ids[0], jira.SetAssigned(n%2 == 0))
		s := start(t, dir, text, logged)
		for _, d := range hub.Deliveries() {
			g.deliver(s, "hub", "X-Hub-Signature-256", hook{d.Header, d.Body})
		}
		header, body := tickets.Delivery(plantedHook, "jira:issue_updated", ids[0], time.Now())
		body = bytes.ReplaceAll(body, []byte("user-1"), []byte("planted-account"))
		g.deliver(s, "tickets", "X-Hub-Signature", hook{signed(header, "X-Hub-Signature", body), body})
		for _, authorization := range []string{"Bearer " + plantedIngest, "Bearer " + plantedTicket, "Basic " + plantedToken} {
			status, answer := s.do(t, http.MethodPost, "/api/v1/changes", lines(ready(fmt.Sprint(n))[:60]), "Authorization", authorization)
			g.dig(fmt.Sprintf("the answer %d to an import", status), []byte(answer))
		}
		g.look(s, fmt.Sprintf("weather %d", n))
		s.end(t)
	}
	sky.Store(int32(fair))
	s := start(t, dir, text, logged)
	if n := len(readLog(t, s.ok(t, "/api/v1/changes"))); n < 200 {
		t.Errorf("%d changes make no test", n)
	}
	g.look(s, "in the end")
	s.end(t)
	digFiles(t, g, filepath.Join(dir, "data"))
	for _, name := range people {
		if !g.shown[name] {
			t.Errorf("no tracker has named %s", name)
		}
	}
	if !strings.Contains(g.log.String(), "level=WARN") {
		t.Error("nothing was logged")
	}
}

// writeKey makes a private key; no line of it may be anywhere.
func writeKey(t testing.TB, g *garden, path string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-") && len(line) > 20 {
			g.plant("a private key", line)
		}
	}
}

// digFiles digs in the raw bytes of a folder.
func digFiles(t testing.TB, g *garden, folder string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files++
		g.dig(path, data)
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files: %v", files, err)
	}
}
