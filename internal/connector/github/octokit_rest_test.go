package github

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// restPaths are the parts of GitHub's REST API that are in use.
var restPaths = []string{
	"/repos/{owner}/{repo}",
	"/repos/{owner}/{repo}/issues",
	"/repos/{owner}/{repo}/issues/{issue_number}",
	"/repos/{owner}/{repo}/issues/{issue_number}/timeline",
	"/repos/{owner}/{repo}/labels",
	"/orgs/{org}/issue-types",
	"/user",
	"/rate_limit",
	"/app/installations/{installation_id}/access_tokens",
}

// undocumented is what GitHub does and its description does not say, by what
// [rest.check] finds: a query parameter, or the status of an answer.
var undocumented = map[string]string{
	"parameter after": "links beyond 10,000 issues hold a cursor and no page",

	"GET /repos/{owner}/{repo}/issues 304":                         "any GET that names the ETag of what it has",
	"GET /repos/{owner}/{repo}/issues 403":                         "any request, where a limit is exceeded",
	"GET /repos/{owner}/{repo}/issues 502":                         "any request, on a bad day",
	"GET /repos/{owner}/{repo}/issues/{issue_number}/timeline 301": "an issue that was transferred, as the address of the issue itself has it",
	"GET /repos/{owner}/{repo}/issues/{issue_number}/timeline 304": "any GET that names the ETag of what it has",
}

// rest is the description of the paths in use.
type rest struct {
	doc    *openapi3.T
	routes []restRoute

	mu   sync.Mutex
	seen map[string]int // method, path and status to how often it was seen
}

type restRoute struct {
	path    string
	pattern *regexp.Regexp
	item    *openapi3.PathItem
}

// newRest cuts GitHub's OpenAPI description to the paths in use, and some
// schemas besides, with all that these refer to. The whole takes too long to
// load.
func newRest(t testing.TB, paths []string, schemas ...string) *rest {
	t.Helper()
	var whole struct {
		OpenAPI    string                                `json:"openapi"`
		Info       json.RawMessage                       `json:"info"`
		Paths      map[string]json.RawMessage            `json:"paths"`
		Components map[string]map[string]json.RawMessage `json:"components"`
	}
	if err := json.Unmarshal(octokitFile(t, "openapi.json"), &whole); err != nil {
		t.Fatal(err)
	}
	components := make(map[string]map[string]json.RawMessage)
	reference := regexp.MustCompile(`"#/components/(\w+)/([^"]+)"`)
	var keep func(section, name string)
	follow := func(text json.RawMessage) {
		for _, m := range reference.FindAllSubmatch(text, -1) {
			keep(string(m[1]), string(m[2]))
		}
	}
	keep = func(section, name string) {
		if components[section] == nil {
			components[section] = make(map[string]json.RawMessage)
		}
		if _, kept := components[section][name]; kept {
			return
		}
		text, ok := whole.Components[section][name]
		if !ok {
			t.Fatalf("GitHub's description has no %s %s", section, name)
		}
		components[section][name] = text
		follow(text)
	}
	cut := make(map[string]json.RawMessage)
	for _, path := range paths {
		text, ok := whole.Paths[path]
		if !ok {
			t.Fatalf("GitHub's description has no path %s", path)
		}
		cut[path] = text
		follow(text)
	}
	for _, name := range schemas {
		keep("schemas", name)
	}
	doc, err := openapi3.NewLoader().LoadFromData(mustMarshal(object{
		"openapi": whole.OpenAPI, "info": whole.Info, "paths": cut, "components": components,
	}))
	if err != nil {
		t.Fatal(err)
	}
	r := &rest{doc: doc, seen: make(map[string]int)}
	parameter := regexp.MustCompile(`\\\{(\w+)\\\}`)
	for _, path := range paths {
		pattern := parameter.ReplaceAllString(regexp.QuoteMeta(path), `(?P<$1>[^/]+)`)
		r.routes = append(r.routes, restRoute{path, regexp.MustCompile("^" + pattern + "$"), doc.Paths.Value(path)})
	}
	return r
}

// find returns the path that a request is for.
func (r *rest) find(path string) (restRoute, map[string]string) {
	for _, route := range r.routes {
		if m := route.pattern.FindStringSubmatch(path); m != nil {
			params := make(map[string]string)
			for k, name := range route.pattern.SubexpNames()[1:] {
				params[name] = m[k+1]
			}
			return route, params
		}
	}
	return restRoute{}, nil
}

// check holds a request and its answer to the description.
func (r *rest) check(request *http.Request, status int, header http.Header, body []byte) (problems []string) {
	// Links name a repository by its id: an address of the same endpoints that
	// is in no description.
	path := strings.TrimPrefix(request.URL.Path, "/api/v3")
	path = regexp.MustCompile(`^/repositories/\d+`).ReplaceAllString(path, "/repos/owner/repo")
	route, params := r.find(path)
	if route.item == nil {
		return []string{"no such path"}
	}
	operation := route.item.GetOperation(request.Method)
	if operation == nil {
		return []string{"no such method"}
	}
	operationName := request.Method + " " + route.path
	r.mu.Lock()
	r.seen[fmt.Sprintf("%s %d", operationName, status)]++
	r.mu.Unlock()
	for name := range request.URL.Query() {
		if operation.Parameters.GetByInAndName("query", name) == nil && undocumented["parameter "+name] == "" {
			problems = append(problems, "undocumented parameter "+name)
		}
	}
	input := &openapi3filter.RequestValidationInput{
		Request: request, PathParams: params,
		Route:   &routers.Route{Spec: r.doc, Path: route.path, PathItem: route.item, Method: request.Method, Operation: operation},
		Options: &openapi3filter.Options{MultiError: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, SkipSettingDefaults: true},
	}
	if err := openapi3filter.ValidateRequest(request.Context(), input); err != nil {
		problems = append(problems, err.Error())
	}
	if operation.Responses.Status(status) == nil {
		if undocumented[fmt.Sprintf("%s %d", operationName, status)] == "" {
			problems = append(problems, "undocumented status")
		}
		return problems
	}
	if status == http.StatusNotModified {
		return problems
	}
	err := openapi3filter.ValidateResponse(request.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: status, Header: header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{
			MultiError: true, IncludeResponseStatus: true, SchemaValidationOptions: []openapi3.SchemaValidationOption{openapi3.DisableSchemaErrorDetails()},
		},
	})
	if err != nil {
		problems = append(problems, err.Error())
	}
	if status == http.StatusOK {
		problems = append(problems, r.checkClosely(route.path, body)...)
	}
	return problems
}

// eventSchemas names the schema of each kind of event. The description lets
// every event be any of them; it has none for kinds without details.
var eventSchemas = map[string]string{
	"labeled": "labeled-issue-event", "unlabeled": "unlabeled-issue-event",
	"assigned": "timeline-assigned-issue-event", "unassigned": "timeline-unassigned-issue-event",
	"milestoned": "milestoned-issue-event", "renamed": "renamed-issue-event", "locked": "locked-issue-event",
	"closed": "state-change-issue-event", "reopened": "state-change-issue-event",
	"issue_type_added": "issue-type-added-issue-event", "issue_type_removed": "issue-type-removed-issue-event",
	"issue_type_changed": "issue-type-changed-issue-event",
	"sub_issue_added":    "sub-issue-added-issue-event", "sub_issue_removed": "sub-issue-removed-issue-event",
	"parent_issue_added": "parent-issue-added-issue-event", "parent_issue_removed": "parent-issue-removed-issue-event",
	"cross-referenced": "timeline-cross-referenced-event", "commented": "timeline-comment-event", "committed": "timeline-committed-event",
	"commit-commented": "timeline-commit-commented-event", "review_requested": "review-requested-issue-event", "reviewed": "timeline-reviewed-event",
}

// plainEvents are kinds that have no details and so no schema of their own.
var plainEvents = []string{
	"subscribed", "mentioned", "referenced", "unlocked", "pinned", "transferred", "converted_to_discussion", "merged",
	"added_to_project_v2", "removed_from_project_v2", "project_v2_item_status_changed",
}

// unlisted are properties that are there and in no schema.
var unlisted = map[string]string{
	"timeline-committed-event event": "tells the kind, as of all events",
}

// checkClosely checks what the description leaves open: that each event is of
// its own kind's schema, and that issues and events hold nothing that is not in
// theirs.
func (r *rest) checkClosely(path string, body []byte) (problems []string) {
	switch path {
	case "/repos/{owner}/{repo}/issues":
		var issues []object
		if err := json.Unmarshal(body, &issues); err != nil {
			return []string{err.Error()}
		}
		for _, issue := range issues {
			problems = append(problems, r.checkSchema("issue", issue)...)
		}
	case "/repos/{owner}/{repo}/issues/{issue_number}/timeline":
		var events []object
		if err := json.Unmarshal(body, &events); err != nil {
			return []string{err.Error()}
		}
		for _, e := range events {
			kind, _ := e["event"].(string)
			schema := eventSchemas[kind]
			if slices.Contains(plainEvents, kind) {
				schema = "state-change-issue-event"
			} else if schema == "" {
				problems = append(problems, "unknown kind of event "+kind)
				continue
			}
			problems = append(problems, r.checkSchema(schema, e)...)
		}
	}
	return problems
}

func (r *rest) checkSchema(name string, value object) (problems []string) {
	schema := r.doc.Components.Schemas[name]
	if schema == nil {
		return []string{"no schema " + name}
	}
	if err := schema.Value.VisitJSON(value, openapi3.MultiErrors(), openapi3.EnableFormatValidation(), openapi3.DisableSchemaErrorDetails()); err != nil {
		problems = append(problems, name+": "+err.Error())
	}
	for key := range value {
		if schema.Value.Properties[key] == nil && unlisted[name+" "+key] == "" {
			problems = append(problems, fmt.Sprintf("%s has no property %s", name, key))
		}
	}
	return problems
}

// A checkedTransport takes requests to a handler and holds both, request and
// answer, to the description.
type checkedTransport struct {
	t    testing.TB
	rest *rest
	to   http.Handler
}

func (c checkedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	sent := request.Clone(request.Context())
	if request.Body != nil {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		sent.Body = io.NopCloser(bytes.NewReader(body))
		request.Body = io.NopCloser(bytes.NewReader(body))
	}
	w := httptest.NewRecorder()
	c.to.ServeHTTP(w, sent)
	// Queries are checked against the schema of GraphQL.
	if !strings.HasSuffix(request.URL.Path, "/graphql") {
		for _, problem := range c.rest.check(request, w.Code, w.Header(), w.Body.Bytes()) {
			c.t.Errorf("%s %s: %d: %.600s", request.Method, request.URL, w.Code, problem)
		}
	}
	response := w.Result()
	response.Request = request
	return response, nil
}

// TestOctokitRest holds the connector and the simulated GitHub to the real one's
// description.
func TestOctokitRest(t *testing.T) {
	deliveries := madeDeliveries(t)
	r := newRest(t, restPaths, slices.Collect(maps.Keys(deliveries))...)
	t.Run("connector", func(t *testing.T) { checkConnector(t, r) })
	t.Run("answers", func(t *testing.T) { checkAnswers(t, r) })
	t.Run("deliveries", func(t *testing.T) { checkDeliveries(t, r, deliveries) })
	t.Run("refuses", func(t *testing.T) { checkRefusals(t, r) })
}

// checkAnswers asks the simulated GitHub for everything.
func checkAnswers(t *testing.T, r *rest) {
	f := NewFake(FakeOptions{Noise: true, CursorAfter: 4, Token: "t"})
	issue, _ := fakeWorld(f)
	f.Transfer(fakeDay(12), issue, "acme/web")
	f.Delete(fakeDay(13), f.Create(fakeDay(12), "acme/api", "A mistake", CreateOptions{}))
	f.ConvertToDiscussion(fakeDay(13), f.Create(fakeDay(12), "acme/api", "A question", CreateOptions{}))
	f.Close(fakeDay(14), f.Create(fakeDay(12), "acme/api", "Again", CreateOptions{}), "duplicate")
	client := &http.Client{Transport: checkedTransport{t, r, f}}
	ask := func(method, address string, want int, header ...string) *http.Response {
		t.Helper()
		request, err := http.NewRequest(method, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer t")
		for k := 0; k < len(header); k += 2 {
			request.Header.Set(header[k], header[k+1])
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: %d, want %d", address, response.StatusCode, want)
		}
		return response
	}
	const host = "http://api.example.com"
	for address := host + "/repos/acme/api/issues?state=all&sort=updated&direction=asc&since=2026-03-01T00:00:00Z&per_page=2"; address != ""; {
		response := ask("GET", address, 200)
		ask("GET", address, 304, "If-None-Match", response.Header.Get("ETag"))
		address = ""
		for link := range strings.SplitSeq(response.Header.Get("Link"), ", ") {
			if next, ok := strings.CutSuffix(link, `>; rel="next"`); ok {
				address = next[1:]
			}
		}
	}
	for path, want := range map[string]int{
		"/repos/acme/api": 200, "/repos/acme/none": 404, "/repos/acme/api/labels?per_page=1": 200,
		"/orgs/acme/issue-types": 200, "/orgs/none/issue-types": 404, "/user": 200, "/rate_limit": 200,
		"/repos/acme/api/issues?state=all&page=9&per_page=100": 422, "/repos/acme/none/issues": 404,
		"/repos/acme/api/issues/1": 200, "/repos/acme/api/issues/4": 410, "/repos/acme/api/issues/99": 404,
		"/repos/acme/api/issues/4/timeline": 410, "/repos/acme/api/issues/99/timeline": 404,
		"/repos/acme/api/issues/2": 200, "/repos/acme/api/issues/2/timeline?per_page=100": 200, // transferred
		"/repos/acme/api/issues/1/timeline": 200, "/repos/acme/api/issues/3/timeline": 200,
		"/repos/acme/api/issues/5/timeline": 200, "/repos/acme/api/issues/6/timeline": 200,
	} {
		ask("GET", host+path, want)
	}
	timeline := host + "/repos/acme/api/issues/1/timeline"
	ask("GET", timeline, 304, "If-None-Match", ask("GET", timeline, 200).Header.Get("ETag"))
	ask("POST", host+"/app/installations/1/access_tokens", 201)
	ask("GET", host+"/user", 401, "Authorization", "Bearer x")
	for _, opts := range []FakeOptions{{LimitEvery: 1}, {LimitEvery: 1, Secondary: true}, {FailEvery: 1}} {
		client.Transport = checkedTransport{t, r, NewFake(opts)}
		ask("GET", host+"/repos/acme/api/issues", map[bool]int{true: 403, false: 502}[opts.LimitEvery > 0])
	}
	for _, path := range restPaths {
		if !slices.ContainsFunc([]string{"GET " + path + " 200", "POST " + path + " 201"}, func(op string) bool { return r.seen[op] > 0 }) {
			t.Errorf("%s was not answered once", path)
		}
	}
	for operation := range undocumented {
		if !strings.HasPrefix(operation, "parameter") && r.seen[operation] == 0 {
			t.Errorf("%s is excepted and does not happen", operation)
		}
	}
}

// checkRefusals checks that the check finds what is wrong.
func checkRefusals(t *testing.T, r *rest) {
	f := NewFake(FakeOptions{})
	fakeWorld(f)
	for _, c := range []struct {
		path     string
		status   int
		from, to string
		want     string
	}{
		{"/repos/acme/api/issues?state=any", 200, "", "", "state"},
		{"/repos/acme/api/issues?per_page=many", 200, "", "", "per_page"},
		{"/repos/acme/api/issues?since=yesterday", 200, "", "", "since"},
		{"/repos/acme/api/issues?before_page=2", 200, "", "", "undocumented parameter before_page"},
		{"/repos/acme/api/milestones", 200, "", "", "no such path"},
		{"/repos/acme/api/issues", 418, "", "", "undocumented status"},
		{"/repos/acme/api/issues", 200, `"closed_at"`, `"ended_at"`, "closed_at"},
		{"/repos/acme/api/issues", 200, `"number":1`, `"number":"1"`, "number"},
		{"/repos/acme/api/issues", 200, `2026-03-01T09:00:00Z`, `1 March`, "date-time"},
		{"/repos/acme/api/issues/2/timeline", 200, `"label":`, `"tag":`, "label"},
		{"/repos/acme/api/issues/2/timeline", 200, `"event":"closed"`, `"event":"ended"`, "unknown kind of event ended"},
		{"/repos/acme/api/issues/2/timeline", 200, `"prev_issue_type"`, `"previous_type"`, "prev_issue_type"},
	} {
		path, _, _ := strings.Cut(c.path, "?")
		body := fakeGet(t, f, path+"?state=all").Body.String()
		if c.from != "" && !strings.Contains(body, c.from) {
			t.Errorf("%s: no %s to replace", c.path, c.from)
		}
		request := httptest.NewRequest("GET", c.path, nil)
		header := http.Header{"Content-Type": {"application/json; charset=utf-8"}}
		problems := strings.Join(r.check(request, c.status, header, []byte(strings.ReplaceAll(body, c.from, c.to))), "\n")
		if !strings.Contains(problems, c.want) {
			t.Errorf("%+v: found %q", c, problems)
		}
	}
}

// checkConnector lets the connector do all that it does.
func checkConnector(t *testing.T, r *rest) {
	for name, opts := range map[string]FakeOptions{
		"whole":       {WebhookSecret: testSecret, Token: testToken, Scopes: "repo, read:org, read:project"},
		"short pages": {WebhookSecret: testSecret, Noise: true, PageSize: 2, CursorAfter: 2},
		"enterprise":  {WebhookSecret: testSecret, Enterprise: true, NoTimelineStatus: true},
	} {
		f := NewFake(opts)
		issue, _ := fakeWorld(f)
		for range 7 { // of one second, so that links have to be followed
			f.Create(fakeDay(12), "acme/web", "Together", CreateOptions{})
		}
		f.Transfer(fakeDay(12), issue, "acme/web")
		f.Deliveries()
		source, _ := talk(t, f, func(c *Config) {
			c.Transport = checkedTransport{t, r, f}
			if opts.Enterprise {
				c.URL = "https://github.example.com/api/v3"
			}
		})
		items := make(map[string]bool)
		var cursor connector.Cursor
		take := func(b connector.Batch) error {
			for _, c := range b.Changes {
				items[c.Item] = true
			}
			if b.Cursor != nil {
				cursor = b.Cursor
			}
			return nil
		}
		must := func(what string, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s: %s: %v", name, what, err)
			}
		}
		must("check", source.Check(t.Context()))
		must("poll", source.Poll(t.Context(), nil, take))
		must("poll again", source.Poll(t.Context(), cursor, take))
		work := f.Create(fakeDay(13), "acme/api", "More", CreateOptions{Type: "Bug", Labels: []string{"bug"}})
		f.SetStatus(fakeDay(13), work, "Todo", false)
		f.Close(fakeDay(14), work, "completed")
		f.Delete(fakeDay(14), f.Create(fakeDay(13), "acme/api", "A mistake", CreateOptions{}))
		f.RequestReview(fakeDay(14), f.OpenPull(fakeDay(14), "acme/api", []string{work}, nil))
		for _, d := range f.Deliveries() {
			notice, err := source.Receive(t.Context(), d.Header, d.Body)
			must("receive", err)
			must("refetch", source.Refetch(t.Context(), notice.Items, take))
		}
		must("poll after", source.Poll(t.Context(), cursor, take))
		must("observe", source.Observe(t.Context(), func(connector.Observation) {}))
		live := make(map[string]bool)
		must("census", source.Census(t.Context(), func(i connector.Item) { live[i.ID] = true }))
		statuses, err := source.Statuses(t.Context())
		must("statuses", err)
		types, err := source.Types(t.Context())
		must("types", err)
		// Besides what is live there is what was transferred and what was deleted.
		if len(live) != 10 || len(items) < len(live) || len(statuses) == 0 || len(types) != 2 {
			t.Errorf("%s: %d live, %d items, statuses %v, types %v", name, len(live), len(items), statuses, types)
		}
	}
	for _, operation := range []string{
		"GET /repos/{owner}/{repo}/issues 200", "GET /repos/{owner}/{repo}/issues/{issue_number} 200",
		"GET /repos/{owner}/{repo}/issues/{issue_number}/timeline 200", "GET /repos/{owner}/{repo}/labels 200", "GET /orgs/{org}/issue-types 200",
	} {
		if r.seen[operation] == 0 {
			t.Errorf("the connector did not %s", operation)
		}
	}
}
