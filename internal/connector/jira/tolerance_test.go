package jira

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// without makes a site that answers a status to all requests whose method and
// path begin with one of the prefixes.
func without(h http.Handler, status int, prefixes ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, p := range prefixes {
			if strings.HasPrefix(r.Method+" "+r.URL.Path, p) || strings.HasPrefix(r.URL.Path, p) {
				w.WriteHeader(status)
				return
			}
		}
		h.ServeHTTP(w, r)
	})
}

// edited is a site whose JSON answers are changed on their way.
func edited(h http.Handler, edit func(path string, answer map[string]any)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		d := json.NewDecoder(bytes.NewReader(rec.Body.Bytes()))
		d.UseNumber()
		var answer map[string]any
		if d.Decode(&answer) != nil {
			w.WriteHeader(rec.Code)
			w.Write(rec.Body.Bytes())
			return
		}
		edit(r.URL.Path, answer)
		w.WriteHeader(rec.Code)
		json.NewEncoder(w).Encode(answer)
	})
}

// onIssues applies an edit to each issue of an answer.
func onIssues(f func(issue map[string]any)) func(string, map[string]any) {
	return func(_ string, answer map[string]any) {
		list, _ := answer["issues"].([]any)
		for _, i := range list {
			f(i.(map[string]any))
		}
	}
}

// rewritten is a site that gets other queries than were sent.
func rewritten(h http.Handler, jql func(string) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Has("jql") {
			q.Set("jql", jql(q.Get("jql")))
			r.URL.RawQuery = q.Encode()
		}
		h.ServeHTTP(w, r)
	})
}

// TestTolerance has sites that lack parts of the interface or keep to it
// loosely. The changes are the same.
func TestTolerance(t *testing.T) {
	site := func(o FakeOptions) http.Handler { return world(NewFake(o)) }
	small := FakeOptions{PageSize: 3, InlineHistories: 5}
	smallServer := FakeOptions{PageSize: 3, DataCenter: true}
	bare := []string{
		"/rest/api/2/serverInfo", "/rest/api/3/serverInfo", "/rest/api/2/myself", "/rest/api/3/myself", "/rest/api/2/project", "/rest/api/3/project",
		"/rest/api/3/search/approximate-count",
	}
	for name, h := range map[string]http.Handler{
		"cloud, bare":               without(site(small), 404, bare...),
		"cloud, bare, 403":          without(site(small), 403, bare...),
		"data center, bare":         without(site(smallServer), 404, bare...),
		"get search refused":        without(site(small), 405, "GET /rest/api/3/search/jql"),
		"get server search refused": without(site(smallServer), 405, "GET /rest/api/2/search"),
		"no bulk, 405":              without(site(small), 405, "/rest/api/3/changelog"),
		"no bulk, 403":              without(site(small), 403, "/rest/api/3/changelog"),
		"no bulk, 501":              without(site(small), 501, "/rest/api/3/changelog"),
		"bulk does not like it":     without(site(small), 400, "/rest/api/3/changelog"),
		"only version 2":            without(site(small), 404, "/rest/api/3/changelog", "/rest/api/3/issue", "/rest/api/3/status"),
		"complete inline only":      without(site(FakeOptions{PageSize: 3}), 404, "/rest/api/3/changelog", "/rest/api/3/issue", "/rest/api/2/issue"),
		"issue only":                without(edited(site(FakeOptions{PageSize: 3}), onIssues(func(i map[string]any) { delete(i, "changelog") })), 404, "/rest/api/3/changelog", "/rest/api/3/issue/x"),
		"no inline":                 edited(site(small), onIssues(func(i map[string]any) { delete(i, "changelog") })),
		"no totals": edited(site(small), func(path string, answer map[string]any) {
			delete(answer, "total")
			onIssues(func(i map[string]any) { delete(i["changelog"].(map[string]any), "total") })(path, answer)
		}),
		"server without totals": edited(site(smallServer), func(path string, answer map[string]any) {
			delete(answer, "total")
			onIssues(func(i map[string]any) { delete(i["changelog"].(map[string]any), "total") })(path, answer)
		}),
		"ids as numbers": edited(site(small), onIssues(func(i map[string]any) { i["id"] = json.Number(i["id"].(string)) })),
		"bulk lacks half": edited(site(small), func(_ string, answer map[string]any) {
			if logs, ok := answer["issueChangeLogs"].([]any); ok {
				answer["issueChangeLogs"] = logs[:len(logs)/2]
			}
		}),
		"bulk token twice": edited(site(FakeOptions{InlineHistories: 1}), func(path string, answer map[string]any) {
			if strings.HasSuffix(path, "/bulkfetch") {
				answer["nextPageToken"] = "MQ"
			}
		}),
		"bulk tokens in a circle": edited(site(FakeOptions{InlineHistories: 1, BulkSize: 1}), func(path string, answer map[string]any) {
			if answer["nextPageToken"] == "NQ" { // 5 leads to 2
				answer["nextPageToken"] = "Mg"
			}
			onIssues(func(i map[string]any) { delete(i["changelog"].(map[string]any), "total") })(path, answer)
		}),
		"token after the last": edited(site(small), func(_ string, answer map[string]any) {
			if answer["isLast"] == true {
				answer["nextPageToken"] = "more"
			}
		}),
		"unsorted": rewritten(site(small), func(q string) string { return strings.Replace(q, "updated ASC", "updated DESC", 1) }),
		"server ignores the bound": rewritten(site(smallServer), func(q string) string {
			return strings.Replace(before(q, " AND ")+" ORDER BY updated ASC", " ORDER BY updated ASC ORDER", " ORDER", 1)
		}),
		"server in the order of keys": rewritten(site(smallServer), func(q string) string { return strings.Replace(q, "updated ASC", "id ASC", 1) }),
		"server unsorted":             rewritten(site(smallServer), func(q string) string { return strings.Replace(q, "updated ASC", "updated DESC", 1) }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changes, cursor := drain(t, newSource(t, h), nil)
			golden(t, "world.jsonl", lines(t, changes))
			// A second source knows where to go on.
			more, _ := drain(t, newSource(t, h), cursor)
			golden(t, "world.jsonl", lines(t, unique(t, append(changes, more...))))
		})
	}
}

// TestIgnoredBound counts what a site costs that pages as it should and takes
// no notice of the query.
func TestIgnoredBound(t *testing.T) {
	f := world(NewFake(FakeOptions{DataCenter: true, PageSize: 1}))
	h := rewritten(f, func(string) string { return "project in (PAY, PLAT) ORDER BY updated ASC" })
	drain(t, newSource(t, h), nil)
	if n := f.Requests(); n > 20 {
		t.Errorf("%d requests for 13 pages", n)
	}
}

func before(text, separator string) string {
	text, _, _ = strings.Cut(text, separator)
	text, _, _ = strings.Cut(text, " ORDER BY ")
	return text
}

// TestNoStatuses reads a site without a list of statuses: the current status
// has its category, former ones have none.
func TestNoStatuses(t *testing.T) {
	h := without(world(NewFake(FakeOptions{})), 404, "/rest/api/2/status", "/rest/api/3/status")
	s := newSource(t, h)
	changes, _ := drain(t, s, nil)
	for _, c := range changes {
		if c.ID == "10008" {
			f := c.Fields[0]
			if f.To.Category != "done" || f.From.Category != "" {
				t.Errorf("categories of %+v", f)
			}
		}
	}
	if _, err := s.Statuses(t.Context()); err == nil {
		t.Error("a list of statuses from nowhere")
	}
}

// TestMoveWithoutKey reads moves that name projects by id only, and looks their
// keys up, once each.
func TestMoveWithoutKey(t *testing.T) {
	asked := 0
	h := edited(world(NewFake(FakeOptions{})), onIssues(func(i map[string]any) {
		for _, entry := range i["changelog"].(map[string]any)["histories"].([]any) {
			entry := entry.(map[string]any)
			entry["items"] = slices.DeleteFunc(entry["items"].([]any), func(it any) bool { return it.(map[string]any)["field"] == "Key" })
		}
	}))
	counting := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/project/") {
			asked++
		}
		h.ServeHTTP(w, r)
	})
	changes, _ := drain(t, newSource(t, counting), nil)
	want := map[string]string{"10017:created": "PAY", "10018": "PAY", "10019": "PAY", "10020": "PLAT"}
	for _, c := range changes {
		if w, ok := want[c.ID]; ok && c.Container != w {
			t.Errorf("change %s in %s, want %s", c.ID, c.Container, w)
		}
	}
	if asked != 2 {
		t.Errorf("asked for %d projects, want 2", asked)
	}
}

// TestCutHistory refuses a part of a history for the whole.
func TestCutHistory(t *testing.T) {
	h := without(world(NewFake(FakeOptions{InlineHistories: 40})), 404, "/rest/api/3/changelog", "/rest/api/3/issue", "/rest/api/2/issue")
	s := newSource(t, h)
	if _, _, err := poll(s, nil); !errors.Is(err, errCut) {
		t.Errorf("got %v, want errCut", err)
	}
}

// TestDeletedMeanwhile deletes an issue between the search and the request for
// its changelog. The next poll does without it.
func TestDeletedMeanwhile(t *testing.T) {
	for _, noBulk := range []bool{true, false} {
		f := world(NewFake(FakeOptions{InlineHistories: 1, NoBulkFetch: noBulk}))
		id := f.Create(day(1), "PAY", "Bug", "Backlog", "Short life")
		f.Edit(day(2), id, SetStatus("Parked"))
		f.Edit(day(3), id, SetStatus("Backlog"))
		deleted := false
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.ServeHTTP(w, r)
			if strings.HasSuffix(r.URL.Path, "/search/jql") && !deleted {
				f.Delete(id)
				deleted = true
			}
		})
		s := newSource(t, h)
		if _, _, err := poll(s, nil); !errors.Is(err, errCut) {
			t.Fatalf("got %v, want errCut", err)
		}
		changes, _ := drain(t, s, nil)
		golden(t, "world.jsonl", lines(t, changes))
	}
}

// TestLoops has sites that never come to an end.
func TestLoops(t *testing.T) {
	for name, h := range map[string]http.Handler{
		"changelog": edited(world(NewFake(FakeOptions{InlineHistories: 1, NoBulkFetch: true})), func(path string, answer map[string]any) {
			if strings.HasSuffix(path, "/changelog") {
				answer["total"] = 1 << 40
				answer["values"] = answer["values"].([]any)[:0:0]
				answer["values"] = []any{map[string]any{"id": "7", "items": []any{}}}
			}
		}),
		"long token": edited(world(NewFake(FakeOptions{})), func(path string, answer map[string]any) {
			if strings.HasSuffix(path, "/search/jql") {
				answer["nextPageToken"], answer["isLast"] = strings.Repeat("x", maxToken+1), false
			}
		}),
	} {
		t.Run(name, func(t *testing.T) {
			s := newSource(t, h)
			_, _, err := poll(s, nil)
			if err == nil || !strings.Contains(err.Error(), "twice") && !strings.Contains(err.Error(), "limit is "+strconv.Itoa(maxToken)) {
				t.Errorf("got %v", err)
			}
			if n := s.Requests()["200"]; n > 20 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// TestPaths checks that a hostile id cannot lead elsewhere.
func TestPaths(t *testing.T) {
	var paths []string
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.EscapedPath())
		switch {
		case strings.HasSuffix(r.URL.Path, "/search/jql"):
			w.Write([]byte(`{"issues":[{"id":"../../../admin?x=","key":"PAY-1","changelog":{"total":2,"histories":[]}}]}`))
		default:
			w.WriteHeader(404)
		}
	})
	_, _, err := poll(newSource(t, h), nil)
	if err == nil {
		t.Error("no error")
	}
	for _, p := range paths {
		if !strings.HasPrefix(p, "/rest/api/") || strings.Contains(p, "/../") || strings.Contains(p, "/admin") {
			t.Errorf("path %s", p)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, dataCenter := range []bool{false, true} {
		f := world(NewFake(FakeOptions{DataCenter: dataCenter, Token: testToken}))
		if err := newSource(t, f, bearer).Check(t.Context()); err != nil {
			t.Error(err)
		}
		err := newSource(t, f, bearer, func(c *Config) { c.Projects = []string{"PAY", "NOPE"} }).Check(t.Context())
		if _, ok := errors.AsType[*connector.ConfigError](err); !ok || !strings.Contains(err.Error(), "'NOPE' does not exist") {
			t.Errorf("got %v, want Jira's words in a ConfigError", err)
		}
		list, err := newSource(t, f, bearer).Statuses(t.Context())
		if err != nil || len(list) != 6 || list[5].Category != "" || list[0].Category != "new" {
			t.Errorf("statuses %+v, %v", list, err)
		}
		types, err := newSource(t, f, bearer).Types(t.Context())
		if err != nil || len(types) != 2 || types[1].ID != "2" || types[1].Name != "Bug" {
			t.Errorf("types %+v, %v", types, err)
		}
	}
	noTypes := without(world(NewFake(FakeOptions{})), 404, "/rest/api/3/issuetype", "/rest/api/2/issuetype")
	if types, err := newSource(t, noTypes).Types(t.Context()); err != nil || len(types) != 0 {
		t.Errorf("without a list of types: %v, %v", types, err)
	}
	h := without(world(NewFake(FakeOptions{})), 404, "/rest/api/3/myself", "/rest/api/2/myself")
	if err := newSource(t, h, bearer).Check(t.Context()); err != nil {
		t.Errorf("without myself: %v", err)
	}
}

// TestManyProjects sends a query too long for a URL.
func TestManyProjects(t *testing.T) {
	for _, dataCenter := range []bool{false, true} {
		f := world(NewFake(FakeOptions{DataCenter: dataCenter, PageSize: 3}))
		keys := []string{"PAY", "PLAT"}
		for n := range 300 {
			key := "TEAM" + strconv.Itoa(n)
			f.AddProject(key, "Team")
			keys = append(keys, key)
		}
		long := 0
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			long = max(long, len(r.URL.String()))
			f.ServeHTTP(w, r)
		})
		changes, _ := drain(t, newSource(t, h, func(c *Config) { c.Projects = keys }), nil)
		golden(t, "world.jsonl", lines(t, changes))
		if long > 4000 {
			t.Errorf("a URL of %d bytes", long)
		}
	}
}
