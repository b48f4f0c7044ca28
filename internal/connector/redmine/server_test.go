//go:build redmine

package redmine

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/connectortest"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A server is a real Redmine, see .ci/redmine.
type server struct {
	testing.TB
	url, key string
}

func realServer(t testing.TB) server {
	s := server{t, os.Getenv("FLOWMETRICS_REDMINE_URL"), os.Getenv("FLOWMETRICS_REDMINE_KEY")}
	if s.url == "" || s.key == "" {
		t.Fatal("FLOWMETRICS_REDMINE_URL and FLOWMETRICS_REDMINE_KEY name no server: run make test-redmine")
	}
	return s
}

// do sends a request with the administrator's key and decodes the answer.
func (s server) do(method, path string, body, into any) {
	s.Helper()
	var text bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&text).Encode(body); err != nil {
			s.Fatal(err)
		}
	}
	r, err := http.NewRequestWithContext(context.Background(), method, s.url+path, &text)
	if err != nil {
		s.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Redmine-API-Key", s.key)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode/100 != 2 {
		s.Fatalf("%s %s: %s, %v: %s", method, path, resp.Status, err, answer)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			s.Fatalf("%s %s: %v", method, path, err)
		}
	}
}

var projects atomic.Int64

// project makes a project and returns its identifier.
func (s server) project() string {
	s.Helper()
	id := fmt.Sprintf("p-%d", projects.Add(1))
	s.do(http.MethodPost, "/projects.json", map[string]any{"project": map[string]any{"name": id, "identifier": id}}, nil)
	return id
}

// create makes an issue and returns its number.
func (s server) create(project string, attributes map[string]any) string {
	s.Helper()
	issue := map[string]any{"project_id": project, "subject": "an issue", "tracker_id": 1}
	for name, value := range attributes {
		issue[name] = value
	}
	var made struct{ Issue struct{ ID int } }
	s.do(http.MethodPost, "/issues.json", map[string]any{"issue": issue}, &made)
	return strconv.Itoa(made.Issue.ID)
}

func (s server) update(item string, attributes map[string]any) {
	s.Helper()
	s.do(http.MethodPut, "/issues/"+item+".json", map[string]any{"issue": attributes}, nil)
}

// TestKitWithServer is TestKit with a real Redmine.
func TestKitWithServer(t *testing.T) {
	s := realServer(t)
	connectortest.Run(t, connectortest.Harness{
		Start: func(t testing.TB, _ *time.Location) *connectortest.Tracker {
			s := server{t, s.url, s.key}
			project, other := s.project(), s.project()
			return &connectortest.Tracker{
				New: func(o connectortest.Options) connector.Source { return source(t, s.url, s.key, o, project, other) },
				Create: func(_ time.Time, status flow.Value) string {
					return s.create(project, map[string]any{"status_id": status.ID})
				},
				Move: func(_ time.Time, item string, status flow.Value) {
					s.update(item, map[string]any{"status_id": status.ID})
				},
				Relocate: func(_ time.Time, item string) (from, to string) {
					s.update(item, map[string]any{"project_id": other})
					return project, other
				},
				Delete: func(_ time.Time, item string) { s.do(http.MethodDelete, "/issues/"+item+".json", nil, nil) },
			}
		},
		Statuses:  statuses,
		Live:      true,
		Precision: time.Second,
		Token:     s.key,
		Private:   []string{"Redmine Admin"},
		Without: map[connectortest.Ability]string{
			connectortest.Webhooks: "Redmine calls nobody",
			connectortest.Zones:    "Redmine tells times in UTC to everybody; the server runs in another zone",
			connectortest.Rename:   "Redmine renames statuses on its pages alone, not over REST",
		},
	})
}
