package connectortest_test

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/connectortest"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const exampleToken = "token-e8d1"

// tickets is a server of Tickets.
type tickets struct {
	mu     sync.Mutex
	events []event
}

type event struct {
	ID      int       `json:"id"`
	Ticket  string    `json:"ticket"`
	Project string    `json:"project"`
	Was     string    `json:"was"`
	Status  string    `json:"status"`
	At      time.Time `json:"at"`
}

func (s *tickets) add(at time.Time, ticket, status string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := event{ID: len(s.events) + 1, Ticket: ticket, Project: "A", Status: status, At: at}
	for _, earlier := range s.events {
		if earlier.Ticket == ticket {
			e.Was = earlier.Status
		}
	}
	e.Ticket = cmp.Or(ticket, strconv.Itoa(e.ID))
	s.events = append(s.events, e)
	return e.Ticket
}

func (s *tickets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+exampleToken {
		http.Error(w, "[]", http.StatusUnauthorized)
		return
	}
	after, _ := strconv.Atoi(r.FormValue("after"))
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	rest := s.events[min(after, len(s.events)):]
	// A client that went away is no concern of the server.
	_ = json.NewEncoder(w).Encode(slices.Clone(rest[:min(limit, len(rest))]))
}

// TestExample holds the connector of the documentation to the promises of all.
func TestExample(t *testing.T) {
	const none = "Tickets has none"
	connectortest.Run(t, connectortest.Harness{
		Start: func(t testing.TB, _ *time.Location) *connectortest.Tracker {
			server := new(tickets)
			site := httptest.NewServer(server)
			t.Cleanup(site.Close)
			return &connectortest.Tracker{
				New: func(o connectortest.Options) connector.Source {
					token := func() (string, error) { return exampleToken, nil }
					s, err := New(connector.Spec{URL: site.URL, Token: token, Transport: o.Wrap(http.DefaultTransport)})
					if err != nil {
						t.Fatal(err)
					}
					if o.PageSize > 0 {
						s.(*Source).limit = o.PageSize
					}
					return s
				},
				Create: func(at time.Time, status flow.Value) string { return server.add(at, "", status.Name) },
				Move:   func(at time.Time, item string, status flow.Value) { server.add(at, item, status.Name) },
			}
		},
		Statuses: []flow.Value{{Name: "Backlog"}, {Name: "In Progress"}, {Name: "Done"}},
		Token:    exampleToken,
		Without: map[connectortest.Ability]string{
			connectortest.Relocate: none, connectortest.Rename: none, connectortest.Delete: none, connectortest.Webhooks: none,
			connectortest.People: none, connectortest.Zones: "times have their offset",
		},
	})
}

// TestExampleIsInTheDocumentation compares the connector with what
// CONTRIBUTING.md shows, where it is a package of its own, and keeps it short.
func TestExampleIsInTheDocumentation(t *testing.T) {
	code, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(string(code), "package connectortest_test", "// Package tickets reads Tickets, a tracker with one list of events.\npackage tickets", 1)
	if n := strings.Count(want, "\n"); n > 60 {
		t.Errorf("the example has %d lines, want at most 60", n)
	}
	text, err := os.ReadFile("../../../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(string(text), "```go\n// Package tickets ")
	shown, _, _ = strings.Cut("// Package tickets "+shown, "```\n")
	if d := diff.Diff(want, shown); d != "" {
		t.Errorf("CONTRIBUTING.md shows another example (-example_test.go +CONTRIBUTING.md):\n%s", d)
	}
}
