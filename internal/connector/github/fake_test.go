package github

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fakeDay returns a time on a day of March 2026.
func fakeDay(day int) time.Time { return time.Date(2026, time.March, day, 9, 0, 0, 0, time.UTC) }

// fakeGet makes a request to a fake.
func fakeGet(t testing.TB, f *Fake, path string, header ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest("GET", path, nil)
	for k := 0; k < len(header); k += 2 {
		r.Header.Set(header[k], header[k+1])
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

func fakeDecode(t testing.TB, w *httptest.ResponseRecorder, v any) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), v); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
}

// fakeQuery sends a query and returns its data, unless there are errors.
func fakeQuery(t testing.TB, f *Fake, query string, variables object) (data, errors string) {
	t.Helper()
	r := httptest.NewRequest("POST", "/graphql", strings.NewReader(string(mustMarshal(object{"query": query, "variables": variables}))))
	r.Header.Set("Authorization", "Bearer any")
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	var got struct{ Data, Errors json.RawMessage }
	fakeDecode(t, w, &got)
	return string(got.Data), string(got.Errors)
}

// fakeWorld fills a fake with one of everything.
func fakeWorld(f *Fake) (issue, pull string) {
	f.AddRepo("acme/api")
	f.AddRepo("acme/web")
	f.AddLabel("acme/api", "bug")
	f.AddLabel("acme/api", "in-progress")
	f.AddType("Feature")
	f.AddType("Bug")
	f.AddProject("acme", 3, "Todo", "In Progress", "Done")
	parent := f.Create(fakeDay(1), "acme/api", "All of it", CreateOptions{})
	issue = f.Create(fakeDay(2), "acme/api", "A part", CreateOptions{
		Labels: []string{"bug"}, Assignees: []string{"dev-one"}, Type: "Feature", Parent: parent,
	})
	f.Label(fakeDay(3), issue, "in-progress")
	f.Assign(fakeDay(3), issue, "dev-two")
	f.Unassign(fakeDay(3), issue, "dev-one")
	f.SetStatus(fakeDay(3), issue, "Todo", true)
	f.SetStatus(fakeDay(4), issue, "In Progress", false)
	f.Unlabel(fakeDay(5), issue, "in-progress")
	f.SetType(fakeDay(5), issue, "Bug")
	pull = f.OpenPull(fakeDay(6), "acme/api", []string{issue}, []string{parent})
	f.RequestReview(fakeDay(6), pull)
	f.RequestChanges(fakeDay(7), pull)
	f.Approve(fakeDay(7), pull)
	f.MergePull(fakeDay(8), pull)
	f.SetStatus(fakeDay(8), issue, "Done", true)
	f.Close(fakeDay(9), parent, "not_planned")
	f.Reopen(fakeDay(10), parent)
	f.Rename(fakeDay(10), parent, "Most of it")
	f.RenameLabel("acme/api", "in-progress", "doing")
	f.SetParent(fakeDay(11), issue, "")
	f.SetType(fakeDay(11), issue, "")
	return issue, pull
}

// fakeKinds returns the kinds of events of a timeline, in order.
func fakeKinds(t testing.TB, f *Fake, path string) (kinds []string) {
	t.Helper()
	var events []struct {
		Event string
		Label struct{ Name string }
	}
	fakeDecode(t, fakeGet(t, f, path), &events)
	for _, e := range events {
		kinds = append(kinds, strings.TrimSpace(e.Event+" "+e.Label.Name))
	}
	return kinds
}

// TestFakeTimeline checks the history of one issue: its order, what a pull
// request leaves in it, which board moves are missing, and that old events show
// a label's new name.
func TestFakeTimeline(t *testing.T) {
	f := NewFake(FakeOptions{})
	fakeWorld(f)
	want := []string{
		"labeled bug", "assigned", "issue_type_added", "parent_issue_added", "labeled doing", "assigned", "unassigned",
		"added_to_project_v2", "project_v2_item_status_changed", "unlabeled doing", "issue_type_changed", "cross-referenced", "closed",
		"project_v2_item_status_changed", "parent_issue_removed", "issue_type_removed",
	}
	if diff := cmp.Diff(want, fakeKinds(t, f, "/repos/acme/api/issues/2/timeline")); diff != "" {
		t.Error(diff)
	}
	want = []string{"committed", "review_requested", "reviewed", "reviewed", "merged", "closed"}
	if diff := cmp.Diff(want, fakeKinds(t, f, "/repos/acme/api/issues/3/timeline")); diff != "" {
		t.Error(diff)
	}
	if got := fakeKinds(t, f, "/repos/acme/api/issues/2/timeline?per_page=2&page=2"); !slices.Equal(got, []string{"issue_type_added", "parent_issue_added"}) {
		t.Errorf("page 2: %v", got)
	}
}

// TestFakeList follows the links through a list of issues, with all page sizes
// and with cursors from various rows on, and expects each row once.
func TestFakeList(t *testing.T) {
	for _, c := range []struct{ size, cursorAfter, pages int }{{2, 0, 4}, {3, 0, 3}, {7, 0, 1}, {100, 0, 1}, {2, 2, 4}, {2, 4, 4}, {3, 3, 3}} {
		f := NewFake(FakeOptions{CursorAfter: c.cursorAfter})
		f.AddRepo("acme/api")
		for k := range 7 {
			f.Create(fakeDay(20-k/2), "acme/api", "Some work", CreateOptions{})
		}
		next := fmt.Sprintf("/repos/acme/api/issues?state=all&sort=updated&direction=asc&per_page=%d", c.size)
		var times []string
		seen, pages, cursors := make(map[int64]bool), 0, 0
		for ; next != ""; pages++ {
			w := fakeGet(t, f, next)
			var rows []struct {
				ID      int64
				Updated string `json:"updated_at"`
			}
			fakeDecode(t, w, &rows)
			for _, row := range rows {
				seen[row.ID] = true
				times = append(times, row.Updated)
			}
			next = ""
			for link := range strings.SplitSeq(w.Header().Get("Link"), ", ") {
				if address, ok := strings.CutSuffix(link, `>; rel="next"`); ok {
					next = strings.TrimPrefix(address, "<http://example.com")
				}
			}
			if strings.Contains(next, "after=") {
				cursors++
				if strings.Contains(next, "&page=") {
					t.Errorf("%+v: a link with a cursor and a page: %s", c, next)
				}
			}
		}
		if len(seen) != 7 || len(times) != 7 || !slices.IsSorted(times) || pages != c.pages {
			t.Errorf("%+v: %d issues in %d rows on %d pages, times %v", c, len(seen), len(times), pages, times)
		}
		if wantCursors := c.cursorAfter > 0; wantCursors != (cursors > 0) {
			t.Errorf("%+v: %d cursors", c, cursors)
		}
	}
}

// TestFakeAnswers checks the status of requests that GitHub treats specially.
func TestFakeAnswers(t *testing.T) {
	f := NewFake(FakeOptions{CursorAfter: 2})
	issue, _ := fakeWorld(f)
	node := f.Node(issue)
	moved := f.Transfer(fakeDay(12), issue, "acme/web")
	deleted := f.Create(fakeDay(12), "acme/api", "A mistake", CreateOptions{})
	f.Delete(fakeDay(13), deleted)
	talk := f.Create(fakeDay(12), "acme/api", "A question", CreateOptions{})
	f.ConvertToDiscussion(fakeDay(13), talk)
	f.AddRepo("acme/old")
	f.RenameRepo("acme/old", "acme/new")
	for path, want := range map[string]int{
		"/repos/acme/api":  200,
		"/repos/ACME/Api":  200,
		"/repos/acme/none": 404,
		"/repos/acme/api/issues?state=all&per_page=1&page=2":       200,
		"/repos/acme/api/issues?state=all&per_page=1&page=3":       422,
		"/repos/acme/api/issues?since=yesterday":                   422,
		"/repos/acme/api/issues?state=any":                         422,
		"/repos/acme/api/issues?after=x!":                          422,
		"/repos/acme/api/issues/2":                                 301,
		"/repos/acme/api/issues/2/timeline":                        301,
		"/repos/acme/web/issues/1":                                 200,
		"/repos/acme/web/issues/1/timeline":                        200,
		"/repos/acme/api/issues/4":                                 410,
		"/repos/acme/api/issues/4/timeline":                        410,
		"/repos/acme/api/issues/5":                                 200,
		"/repos/acme/api/issues/99":                                404,
		"/repos/acme/api/labels?per_page=1":                        200,
		"/orgs/acme/issue-types":                                   200,
		"/orgs/none/issue-types":                                   404,
		"/user":                                                    401,
		"/rate_limit":                                              200,
		"/nowhere":                                                 404,
		"/api/v3/repos/acme/api":                                   404,
		"/repos/acme/api/issues?state=all&labels=bug&per_page=100": 200,
	} {
		if w := fakeGet(t, f, path); w.Code != want {
			t.Errorf("%s: %d, want %d: %s", path, w.Code, want, w.Body)
		}
	}
	var repo struct {
		Open int `json:"open_issues"`
	}
	fakeDecode(t, fakeGet(t, f, "/repos/acme/api"), &repo)
	if repo.Open != 1 {
		t.Errorf("%d open issues", repo.Open)
	}
	if to := fakeGet(t, f, "/repos/acme/old/issues?state=all").Header().Get("Location"); !strings.HasSuffix(to, "/issues?state=all") || !strings.HasPrefix(to, "http://example.com/repositories/") {
		t.Errorf("a renamed repository leads to %s", to)
	}
	if moved == issue || f.Node(moved) == node {
		t.Error("a transferred issue keeps an id")
	}
	to := strings.TrimPrefix(fakeGet(t, f, "/repos/acme/api/issues/2/timeline").Header().Get("Location"), "http://example.com")
	if kinds := fakeKinds(t, f, to); len(kinds) != 17 || kinds[16] != "transferred" {
		t.Errorf("%s: %v", to, kinds)
	}
	var rows []struct {
		State       string
		StateReason string `json:"state_reason"`
	}
	fakeDecode(t, fakeGet(t, f, "/repos/acme/web/issues?state=closed"), &rows)
	if len(rows) != 1 || rows[0].StateReason != "completed" {
		t.Errorf("the issue that a merge closed: %+v", rows)
	}
}

// TestFakeOptions checks what the options do to requests.
func TestFakeOptions(t *testing.T) {
	now := fakeDay(20)
	clock := func() time.Time { return now }
	for name, c := range map[string]struct {
		opts   FakeOptions
		path   string
		header []string
		want   int
		shows  map[string]string
	}{
		"token":            {FakeOptions{Token: "t", Scopes: "repo", Now: clock}, "/user", []string{"Authorization", "Bearer t"}, 200, map[string]string{"X-OAuth-Scopes": "repo", "Date": "Fri, 20 Mar 2026 09:00:00 GMT", "X-RateLimit-Remaining": "4999", "X-RateLimit-Reset": fmt.Sprint(now.Add(time.Hour).Unix())}},
		"wrong":            {FakeOptions{Token: "t"}, "/user", []string{"Authorization", "Bearer x"}, 401, nil},
		"missing":          {FakeOptions{Token: "t"}, "/repos/acme/api", nil, 401, nil},
		"primary":          {FakeOptions{LimitEvery: 1, Now: clock}, "/repos/acme/api", nil, 403, map[string]string{"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": fmt.Sprint(now.Add(time.Minute).Unix()), "Retry-After": ""}},
		"secondary":        {FakeOptions{LimitEvery: 1, Secondary: true, LimitFor: 1500 * time.Millisecond}, "/repos/acme/api", nil, 403, map[string]string{"Retry-After": "2"}},
		"failing":          {FakeOptions{FailEvery: 1}, "/repos/acme/api", nil, 502, map[string]string{"Content-Type": "text/html"}},
		"enterprise":       {FakeOptions{Enterprise: true}, "/api/v3/repos/acme/api", nil, 200, map[string]string{"X-RateLimit-Remaining": ""}},
		"generous":         {FakeOptions{Enterprise: true, Limit: 9000, Now: clock}, "/api/v3/repos/acme/api", nil, 200, map[string]string{"X-RateLimit-Limit": "9000", "X-RateLimit-Remaining": "8999", "X-RateLimit-Used": "1"}},
		"not enterprise's": {FakeOptions{Enterprise: true}, "/repos/acme/api", nil, 404, nil},
	} {
		f := NewFake(c.opts)
		f.AddRepo("acme/api")
		w := fakeGet(t, f, c.path, c.header...)
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d: %s", name, w.Code, c.want, w.Body)
		}
		for key, want := range c.shows {
			if got := w.Header().Get(key); got != want {
				t.Errorf("%s: %s is %q, want %q", name, key, got, want)
			}
		}
	}
	f := NewFake(FakeOptions{LimitEvery: 3})
	f.AddRepo("acme/api")
	var codes []int
	for range 6 {
		codes = append(codes, fakeGet(t, f, "/repos/acme/api").Code)
	}
	if !slices.Equal(codes, []int{200, 200, 403, 200, 200, 403}) || f.Requests() != 6 {
		t.Errorf("%v of %d requests", codes, f.Requests())
	}
}

// TestFakeETag checks that what has not changed is answered by 304 and, to whom
// is known, at no cost.
func TestFakeETag(t *testing.T) {
	f := NewFake(FakeOptions{})
	issue, _ := fakeWorld(f)
	const path = "/repos/acme/api/issues?state=all"
	tag := fakeGet(t, f, path).Header().Get("ETag")
	if w := fakeGet(t, f, path, "If-None-Match", tag); w.Code != http.StatusNotModified || w.Body.Len() > 0 {
		t.Errorf("unchanged: %d %s", w.Code, w.Body)
	}
	known := fakeGet(t, f, path, "If-None-Match", tag, "Authorization", "Bearer any")
	if w := fakeGet(t, f, path, "If-None-Match", tag); w.Header().Get("X-RateLimit-Remaining") != known.Header().Get("X-RateLimit-Remaining") {
		t.Error("a 304 costs something")
	}
	f.Comment(fakeDay(15), issue, "Well.")
	if w := fakeGet(t, f, path, "If-None-Match", tag); w.Code != http.StatusOK {
		t.Errorf("changed: %d", w.Code)
	}
}

// TestFakeGraph checks that only what is selected is answered, that a type that
// does not fit is left out, and that what is not in the schema is refused.
func TestFakeGraph(t *testing.T) {
	f := NewFake(FakeOptions{})
	issue, pull := fakeWorld(f)
	var list []struct {
		Node string `json:"node_id"`
	}
	fakeDecode(t, fakeGet(t, f, "/repos/acme/api/issues?state=all&sort=created&direction=asc"), &list)
	ids := []string{list[1].Node, list[2].Node}
	const status = `... on ProjectV2ItemStatusChangedEvent { from: previousStatus status }`
	for _, c := range []struct {
		query     string
		variables object
		data      string
	}{
		{`query Q($ids: [ID!]!) { nodes(ids: $ids) { __typename ... on PullRequest { fullDatabaseId closingIssuesReferences(first: 5) { nodes { fullDatabaseId } } } } }`,
			object{"ids": ids}, `{"nodes":[{"__typename":"Issue"},{"__typename":"PullRequest","closingIssuesReferences":{"nodes":[{"fullDatabaseId":"` + issue + `"}]},"fullDatabaseId":"` + pull + `"}]}`},
		{`query Q($ids: [ID!]!) { nodes(ids: $ids) { ... on Issue { timelineItems(first: 1, itemTypes: [PROJECT_V2_ITEM_STATUS_CHANGED_EVENT]) { nodes { ` + status + ` } pageInfo { hasNextPage } } } } }`,
			object{"ids": ids[:1]}, `{"nodes":[{"timelineItems":{"nodes":[{"from":"","status":"Todo"}],"pageInfo":{"hasNextPage":true}}}]}`},
		{`query { repositoryOwner(login: $owner) { ... on ProjectV2Owner { projectV2(number: $number) { items(first: 9) { totalCount nodes { fieldValueByName(name: "Status") { ... on ProjectV2ItemFieldSingleSelectValue { name updatedAt } } } } } } } }`,
			object{"owner": "acme", "number": 3}, `{"repositoryOwner":{"projectV2":{"items":{"nodes":[{"fieldValueByName":{"name":"Done","updatedAt":"2026-03-08T09:00:00Z"}}],"totalCount":1}}}}`},
		{`query { node(id: $id) { __typename } }`, object{"id": "I_none"}, `{"node":null}`},
	} {
		if data, _ := fakeQuery(t, f, c.query, c.variables); data != c.data {
			t.Errorf("%s\n got %s\nwant %s", c.query, data, c.data)
		}
	}
	for query, want := range map[string]string{
		`query Other { viewer { login } }`:        "doesn't exist on type 'Query'",
		`mutation { x }`:                          "a query is expected",
		`query { node(id: $id) { id colour } }`:   "doesn't exist on type 'Issue'",
		`query { node(id: $id) { ...F } }`:        "only fragments on a type",
		`query { node(id: $id) { id `:             "unexpected",
		`query { nodes(ids: $none) { id } } rest`: "after the query",
	} {
		if data, errors := fakeQuery(t, f, query, object{"id": ids[0]}); data != "" || !strings.Contains(errors, want) {
			t.Errorf("%s: data %s, errors %s", query, data, errors)
		}
	}
	old := NewFake(FakeOptions{NoTimelineStatus: true})
	if _, errors := fakeQuery(t, old, `query { node(id: $id) { ... on Issue { timelineItems { nodes { `+status+` } } } } }`, nil); !strings.Contains(errors, "undefinedType") {
		t.Errorf("no status events: %s", errors)
	}
	poor := NewFake(FakeOptions{Scopes: "repo"})
	if _, errors := fakeQuery(t, poor, `query { repositoryOwner(login: $owner) { ... on ProjectV2Owner { projectV2(number: $number) { id } } } }`, nil); !strings.Contains(errors, "INSUFFICIENT_SCOPES") {
		t.Errorf("no scope: %s", errors)
	}
}

// TestFakeDeliveries checks which events are delivered, in order and signed.
func TestFakeDeliveries(t *testing.T) {
	f := NewFake(FakeOptions{WebhookSecret: "s"})
	issue, _ := fakeWorld(f)
	f.RemoveFromProject(fakeDay(12), issue)
	f.Delete(fakeDay(14), f.Transfer(fakeDay(13), issue, "acme/web"))
	got := []string{}
	for _, d := range append(f.Deliveries(), f.Ping()) {
		var body struct{ Action string }
		if err := json.Unmarshal(d.Body, &body); err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(sha256.New, []byte("s"))
		mac.Write(d.Body)
		if d.Header.Get("X-Hub-Signature-256") != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
			t.Error("wrong signature")
		}
		got = append(got, strings.TrimSpace(d.Header.Get("X-GitHub-Event")+" "+body.Action))
	}
	want := []string{
		"issues opened", "issues opened", "issues labeled", "issues assigned", "issues typed", "sub_issues parent_issue_added",
		"issues labeled", "issues assigned", "issues unassigned", "projects_v2_item created", "projects_v2_item edited", "projects_v2_item edited",
		"issues unlabeled", "issues typed", "pull_request opened", "pull_request review_requested", "pull_request_review submitted",
		"pull_request_review submitted", "pull_request closed", "issues closed", "projects_v2_item edited", "issues closed", "issues reopened",
		"issues edited", "label edited", "sub_issues parent_issue_removed", "issues untyped", "projects_v2_item deleted",
		"issues transferred", "issues opened", "issues deleted", "ping",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(f.Deliveries()) > 0 {
		t.Error("deliveries repeat")
	}
}

// TestFakeConcurrently scripts and asks at once, for the race detector.
func TestFakeConcurrently(t *testing.T) {
	f := NewFake(FakeOptions{WebhookSecret: "s"})
	issue, _ := fakeWorld(f)
	node := f.Node(issue)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for day := range 10 {
				f.Comment(fakeDay(12+day), issue, "Still there.")
				f.SetStatus(fakeDay(12+day), issue, []string{"Todo", "Done"}[day%2], true)
				f.Close(fakeDay(12+day), f.Create(fakeDay(12+day), "acme/web", "More", CreateOptions{}), "")
				fakeGet(t, f, "/repos/acme/web/issues?state=all&sort=updated")
				fakeGet(t, f, "/repos/acme/api/issues/2/timeline")
				fakeQuery(t, f, `query { node(id: $id) { ... on Issue { timelineItems(first: 9) { totalCount } } } }`, object{"id": node})
				f.Deliveries()
			}
		})
	}
	all.Wait()
	var rows []object
	fakeDecode(t, fakeGet(t, f, "/repos/acme/web/issues?state=closed&per_page=100"), &rows)
	if len(rows) != 40 {
		t.Errorf("%d issues", len(rows))
	}
}
