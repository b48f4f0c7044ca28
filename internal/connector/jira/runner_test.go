package jira

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// store is a log and a store of cursors in memory.
type store struct {
	mu       sync.Mutex
	changes  []flow.Change
	cursor   []byte
	revision uint64
}

func (s *store) Publish(_ context.Context, _ string, changes []flow.Change) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		c.Source, c.ObservedAt = "", time.Time{}
		s.changes = append(s.changes, c)
	}
	return nil
}

func (s *store) LoadCursor(context.Context, string) ([]byte, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursor, s.revision, nil
}

func (s *store) StoreCursor(_ context.Context, _ string, cursor []byte, revision uint64) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if revision != s.revision {
		return 0, connector.ErrStale
	}
	s.cursor, s.revision = cursor, revision+1
	return s.revision, nil
}

func (s *store) all() []flow.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]flow.Change(nil), s.changes...)
}

// TestRunner lets the real Runner read the most unfriendly site: it honours the
// waits, reads everything, publishes nothing twice, and follows.
func TestRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := world(NewFake(FakeOptions{
			InlineHistories: 40, PageSize: 3, LimitEvery: 10, RetryAfter: 7 * time.Second, NoBulkFetch: true,
			Email: testEmail, Token: testToken,
		}))
		var refused time.Time
		early := 0
		site := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if time.Since(refused) < 7*time.Second {
				early++
			}
			f.ServeHTTP(w, r)
			if w.Header().Get("Retry-After") != "" {
				refused = time.Now()
			}
		})
		log := new(store)
		runner := connector.NewRunner(connector.Config{
			Name: "jira-main", Source: newSource(t, site, withToken), PollInterval: time.Minute, Overlaps: true, Publisher: log, Cursors: log,
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- runner.Run(ctx) }()
		time.Sleep(20 * time.Minute)
		// The bubble's clock begins in the year 2000, so that all of the world is
		// in the future: what the source sees as the newest update is its clock.
		golden(t, "world.jsonl", lines(t, unpublishedTwice(t, log.all())))
		if early > 0 {
			t.Errorf("%d requests before the time that the site had asked for", early)
		}
		id := f.Create(day(9), "PAY", "Bug", "Backlog", "Later")
		time.Sleep(20 * time.Minute)
		found := false
		for _, c := range unpublishedTwice(t, log.all()) {
			found = found || c.Item == id
		}
		if !found {
			t.Error("an issue made later was not read")
		}
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func unpublishedTwice(t *testing.T, changes []flow.Change) []flow.Change {
	t.Helper()
	seen := map[string]bool{}
	for _, c := range changes {
		if seen[c.ID] {
			t.Errorf("change %s was published twice", c.ID)
		}
		seen[c.ID] = true
	}
	return changes
}

// TestGateway links to the site and not to the gateway in front of it.
func TestGateway(t *testing.T) {
	f := world(NewFake(FakeOptions{}))
	h := edited(f, func(path string, answer map[string]any) {
		if strings.HasSuffix(path, "/serverInfo") {
			answer["baseUrl"] = "https://example.atlassian.net/"
		}
	})
	for host, want := range map[string]string{
		"https://api.atlassian.com/ex/jira/1": "https://example.atlassian.net/browse/PAY-1",
		"https://jira.example.com/":           "https://jira.example.com/browse/PAY-1",
	} {
		site := http.NewServeMux()
		site.Handle("/rest/", h)
		site.Handle("/ex/jira/1/", http.StripPrefix("/ex/jira/1", h))
		s := newSource(t, site, func(c *Config) { c.URL = host })
		changes, _ := drain(t, s, nil)
		for _, c := range changes {
			if c.ID == "10004:created" && c.URL != want {
				t.Errorf("%s: %s, want %s", host, c.URL, want)
			}
		}
	}
}
