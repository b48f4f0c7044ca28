package redmine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/connectortest"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const (
	fakeKey    = "key-5e0c1d"
	fakePerson = "Planted Person"
)

// A fake is a Redmine in memory. It answers in the manner of 5.0: a wrong key is
// nobody's and sees nothing, a page has at most 100 rows, lists have open issues
// alone unless asked for others.
type fake struct {
	mu       sync.Mutex
	now      time.Time
	statuses []map[string]any
	projects []string // the number of each is its place, from 1
	issues   []map[string]any
	journals map[int][]map[string]any
	entries  int // journals ever made
	requests map[string]int
}

func newFake() *fake {
	f := &fake{projects: []string{"flow", "other"}, journals: map[int][]map[string]any{}, requests: map[string]int{}, now: at(0)}
	for i, name := range []string{"New", "In Progress", "Resolved", "Feedback", "Closed", "Rejected"} {
		f.statuses = append(f.statuses, map[string]any{"id": i + 1, "name": name, "is_closed": i > 3})
	}
	return f
}

// at is an instant in the history of the tests.
func at(minutes int) time.Time { return time.Date(2026, 3, 2, 9, minutes, 0, 0, time.UTC) }

func named(id int) map[string]any {
	return map[string]any{"id": id, "name": "object " + strconv.Itoa(id)}
}

// create makes an issue and returns its number.
func (f *fake) create(at time.Time, status int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := 1
	if n := len(f.issues); n > 0 {
		id = f.issues[n-1]["id"].(int) + 1
	}
	f.now = at
	f.issues = append(f.issues, map[string]any{
		"id": id, "subject": "issue " + strconv.Itoa(id), "project": named(1), "tracker": named(1), "status": named(status),
		"author": map[string]any{"id": 7, "name": fakePerson}, "created_on": at, "updated_on": at,
	})
	return id
}

func (f *fake) find(id int) map[string]any {
	for _, i := range f.issues {
		if i["id"] == id {
			return i
		}
	}
	return nil
}

// update sets an attribute (status, assigned_to, subject...), with a journal of
// its own; a value of nil takes it away.
func (f *fake) update(at time.Time, id int, attribute string, value any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries++
	f.now = at
	i := f.find(id)
	text := func(v any) any {
		switch v := v.(type) {
		case nil:
			return nil
		case string:
			return v
		case map[string]any:
			return fmt.Sprint(v["id"])
		}
		return fmt.Sprint(v)
	}
	name, now := attribute, value
	if n, ok := value.(int); ok {
		now = map[string]any{"id": n, "name": fakePerson}
	}
	if attribute != "subject" {
		name += "_id"
	}
	f.journals[id] = append(f.journals[id], map[string]any{
		"id": f.entries, "created_on": at, "user": map[string]any{"id": 7, "name": fakePerson}, "notes": "by " + fakePerson,
		"details": []any{map[string]any{"property": "attr", "name": name, "old_value": text(i[attribute]), "new_value": text(value)}},
	})
	i[attribute], i["updated_on"] = now, at
	if now == nil {
		delete(i, attribute)
	}
}

func (f *fake) delete(id int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.issues = slices.DeleteFunc(f.issues, func(i map[string]any) bool { return i["id"] == id })
}

// list returns the issues that a query selects.
func (f *fake) list(r *http.Request) []map[string]any {
	from, _ := strconv.Atoi(strings.TrimPrefix(r.FormValue("issue_id"), ">="))
	since, _ := time.Parse(time.RFC3339, strings.TrimPrefix(r.FormValue("updated_on"), ">="))
	var rows []map[string]any
	for _, i := range f.issues {
		project := f.projects[i["project"].(map[string]any)["id"].(int)-1]
		open := i["status"].(map[string]any)["id"].(int) < 5
		if i["id"].(int) >= from && !i["updated_on"].(time.Time).Before(since) && (open || r.FormValue("status_id") == "*") &&
			(r.FormValue("project_id") == "" || r.FormValue("project_id") == project) {
			rows = append(rows, i)
		}
	}
	return rows
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := strings.TrimSuffix(r.URL.Path, ".json")
	f.requests[strings.TrimRight(path, "0123456789")]++
	w.Header().Set("Date", f.now.Format(http.TimeFormat))
	known := r.Header.Get("X-Redmine-API-Key") == fakeKey
	var answer any
	switch {
	case path == "/users/current" && !known:
		w.WriteHeader(http.StatusUnauthorized)
		return
	case path == "/users/current":
		answer = map[string]any{"user": map[string]any{"id": 7, "login": fakePerson}}
	case path == "/issue_statuses":
		answer = map[string]any{"issue_statuses": f.statuses}
	case path == "/trackers":
		answer = map[string]any{"trackers": []any{map[string]any{"id": 1, "name": "Bug"}, map[string]any{"id": 2, "name": "Feature"}}}
	case path == "/projects":
		offset, _ := strconv.Atoi(r.FormValue("offset")) // one a page
		one := map[string]any{"id": offset + 1, "name": "Project", "identifier": f.projects[offset], "status": 1}
		answer = map[string]any{"projects": []any{one}, "total_count": len(f.projects), "offset": offset, "limit": 1}
	case path == "/issues" && r.FormValue("project_id") != "" && !slices.Contains(f.projects, r.FormValue("project_id")):
		w.WriteHeader(http.StatusNotFound)
		return
	case path == "/issues" && known:
		rows := f.list(r)
		limit, _ := strconv.Atoi(r.FormValue("limit"))
		answer = map[string]any{"issues": rows[:min(limit, 100, len(rows))], "total_count": len(rows), "offset": 0, "limit": limit}
	case path == "/issues":
		answer = map[string]any{"issues": []any{}, "total_count": 0}
	default:
		id, _ := strconv.Atoi(strings.TrimPrefix(path, "/issues/"))
		i := f.find(id)
		if i == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if answer = map[string]any{"issue": i}; r.FormValue("include") == "journals" {
			full := map[string]any{"journals": f.journals[id]}
			for k, v := range i {
				full[k] = v
			}
			answer = map[string]any{"issue": full}
		}
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	// A client that went away is no concern of the server.
	_ = json.NewEncoder(w).Encode(answer)
}

// paged asks for smaller pages than the source does.
type paged struct {
	next http.RoundTripper
	size int
}

func (p paged) RoundTrip(r *http.Request) (*http.Response, error) {
	if query := r.URL.Query(); p.size > 0 && query.Has("issue_id") {
		r = r.Clone(r.Context())
		query.Set("limit", strconv.Itoa(p.size))
		r.URL.RawQuery = query.Encode()
	}
	return p.next.RoundTrip(r)
}

// source returns a source for a Redmine, behind the kit's wire where there is one.
func source(t testing.TB, url, key string, o connectortest.Options, projects ...string) connector.Source {
	t.Helper()
	transport := http.DefaultTransport
	if o.Wrap != nil {
		transport = o.Wrap(transport)
	}
	s, err := New(connector.Spec{
		URL: url, Projects: projects, Titles: true, Transport: paged{transport, o.PageSize},
		Token: func() (string, error) { return key, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// statuses are those of a new Redmine that the tests use.
var statuses = []flow.Value{
	{ID: "1", Name: "New"}, {ID: "2", Name: "In Progress"}, {ID: "4", Name: "Feedback"}, {ID: "5", Name: "Closed", Category: "done"},
}

func number(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestKit(t *testing.T) {
	connectortest.Run(t, connectortest.Harness{
		Start: func(t testing.TB, _ *time.Location) *connectortest.Tracker {
			f := newFake()
			server := httptest.NewServer(f)
			t.Cleanup(server.Close)
			return &connectortest.Tracker{
				New: func(o connectortest.Options) connector.Source {
					return source(t, server.URL, fakeKey, o, "flow", "other")
				},
				Create: func(at time.Time, status flow.Value) string {
					return strconv.Itoa(f.create(at, number(t, status.ID)))
				},
				Move: func(at time.Time, item string, status flow.Value) {
					f.update(at, number(t, item), "status", number(t, status.ID))
				},
				Relocate: func(at time.Time, item string) (from, to string) {
					f.update(at, number(t, item), "project", 2)
					return "flow", "other"
				},
				RenameStatus: func(status flow.Value) flow.Value {
					f.mu.Lock()
					defer f.mu.Unlock()
					status.Name += " as it is called now"
					f.statuses[number(t, status.ID)-1]["name"] = status.Name
					return status
				},
				Delete: func(_ time.Time, item string) { f.delete(number(t, item)) },
			}
		},
		Statuses:  statuses,
		Precision: time.Second,
		Token:     fakeKey,
		Private:   []string{fakePerson},
		Without: map[connectortest.Ability]string{
			connectortest.Webhooks: "Redmine calls nobody",
			connectortest.Zones:    "Redmine tells times in UTC to everybody",
		},
	})
}
