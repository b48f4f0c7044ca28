package github

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// A directly is a transport that hands requests to a handler, without a network,
// so that it works in a bubble. It remembers what was asked.
type directly struct {
	handler http.Handler

	mu    sync.Mutex
	asked []string // the bodies of requests
}

func (d *directly) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if r.Body != nil {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		d.mu.Lock()
		d.asked = append(d.asked, string(text))
		d.mu.Unlock()
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(strings.NewReader(string(text)))
	}
	if r.Host == "" { // behind a redirect
		r = r.Clone(r.Context())
		r.Host = r.URL.Host
	}
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// count returns how many requests there were since the last call, of one
// operation of GraphQL.
func (d *directly) count(operation string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, text := range d.asked {
		if strings.Contains(text, `"operationName":"`+operation+`"`) {
			n++
		}
	}
	d.asked = nil
	return n
}

const (
	testToken  = "token-for-tests-only"
	testSecret = "secret-for-tests-only"
)

// talk returns a source that talks to a handler. Options change its configuration.
func talk(t testing.TB, h http.Handler, options ...func(*Config)) (*Source, *directly) {
	t.Helper()
	d := &directly{handler: h}
	c := Config{
		Name: "github-main", URL: "https://api.github.com", Repos: []string{"acme/api", "acme/web"},
		Project: connector.Project{Owner: "acme", Number: 3}, Token: func() (string, error) { return testToken, nil },
		WebhookSecret: func() (string, error) { return testSecret, nil }, Transport: d,
	}
	for _, option := range options {
		option(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s, d
}

// says is a handler that answers everything alike.
func says(status int, contentType, body string, header ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		for k := 0; k < len(header); k += 2 {
			w.Header().Set(header[k], header[k+1])
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	})
}

func isError[E error](err error) bool { _, ok := errors.AsType[E](err); return ok }

func TestAnswersOfGraphQL(t *testing.T) {
	const json = "application/json; charset=utf-8"
	unsupported := func(err error) bool { return errors.Is(err, errUnsupported) }
	notFound := func(err error) bool { return errors.Is(err, errNotFound) }
	plain := func(err error) bool {
		return err != nil && !errors.Is(err, errUnsupported) && !errors.Is(err, errNotFound) &&
			!isError[*connector.AuthError](err) && !isError[*connector.RateLimitError](err) && !isError[*connector.ConfigError](err)
	}
	tests := []struct {
		name string
		h    http.Handler
		want func(error) bool
	}{
		{"data", says(200, json, `{"data":{"node":null}}`), func(err error) bool { return err == nil }},
		{"no such endpoint", says(404, json, `{"message":"Not Found"}`), unsupported},
		{"not for posting", says(405, "text/plain", `no`), unsupported},
		{"a web page", says(200, "text/html", `<html>sign in</html>`), unsupported},
		{"a list", says(200, json, `[]`), unsupported},
		{"a text", says(200, json, `"hello"`), unsupported},
		{"something else", says(200, json, `{"ok":true}`), unsupported},
		{"data of another shape", says(200, json, `{"data":{"node":7}}`), unsupported},
		{"no data", says(200, json, `{"data":null}`), unsupported},
		{"unknown field", says(200, json, `{"errors":[{"message":"Field 'x' doesn't exist on type 'Issue'","extensions":{"code":"undefinedField"}}]}`), unsupported},
		{"unknown type", says(200, json, `{"errors":[{"message":"No such type","extensions":{"code":"undefinedType"}}]}`), unsupported},
		{"unknown value", says(200, json, `{"errors":[{"message":"invalid value","extensions":{"code":"argumentLiteralsIncompatible"}}]}`), unsupported},
		{"not found", says(200, json, `{"data":{"repositoryOwner":null},"errors":[{"type":"NOT_FOUND","path":["repositoryOwner"],"message":"no"}]}`), notFound},
		{"a node not found", says(200, json, `{"data":{"node":null},"errors":[{"type":"NOT_FOUND","path":["node"],"message":"no"}]}`), func(err error) bool { return err == nil }},
		{"a node out of sight", says(200, json, `{"data":{"nodes":[null]},"errors":[{"type":"FORBIDDEN","path":["nodes",0],"message":"no"}]}`), func(err error) bool { return err == nil }},
		{"content out of sight", says(200, json, `{"data":{},"errors":[{"type":"FORBIDDEN","path":["repositoryOwner","projectV2","items","nodes",4,"content"],"message":"no"}]}`), func(err error) bool { return err == nil }},
		{"forbidden", says(200, json, `{"data":{"repositoryOwner":null},"errors":[{"type":"FORBIDDEN","path":["repositoryOwner","projectV2"],"message":"no"}]}`), isError[*connector.AuthError]},
		{"a scope is missing", says(200, json, `{"errors":[{"type":"INSUFFICIENT_SCOPES","message":"Your token has not been granted the required scopes to execute this query. The 'projectV2' field requires one of the following scopes: ['read:project'], but your token has only been granted the: ['repo'] scopes."}]}`),
			func(err error) bool {
				return isError[*connector.AuthError](err) && strings.Contains(err.Error(), "lacks the scope read:project")
			}},
		{"another scope is missing", says(200, json, `{"errors":[{"type":"INSUFFICIENT_SCOPES","message":"requires one of the following scopes: ['read:org', 'x'], but"}]}`),
			func(err error) bool { return strings.Contains(err.Error(), "lacks the scope read:org") }},
		{"bad credentials", says(401, json, `{"message":"Bad credentials"}`), isError[*connector.AuthError]},
		{"limited", says(200, json, `{"errors":[{"type":"RATE_LIMITED","message":"API rate limit exceeded for user maintainer-one"}]}`), isError[*connector.RateLimitError]},
		{"limited, newer", says(200, json, `{"errors":[{"type":"RATE_LIMIT","message":"API rate limit already exceeded"}]}`), isError[*connector.RateLimitError]},
		{"limited by the secondary limit", says(403, json, `{"message":"You have exceeded a secondary rate limit"}`, "Retry-After", "30"), isError[*connector.RateLimitError]},
		{"gave up", says(200, json, `{"data":null,"errors":[{"message":"Something went wrong while executing your query. This may be the result of a timeout."}]}`), plain},
		{"bad gateway", says(502, "text/html", `<html>`), plain},
		{"cut off", says(200, json, `{"data":{"node":`), plain},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, _ := talk(t, test.h)
			var data struct {
				Node *struct{ ID string }
			}
			err := s.ask(t.Context(), "ContentOf", map[string]any{"id": "I_1"}, &data)
			if !test.want(err) {
				t.Errorf("got the error %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), "maintainer-one") || strings.Contains(err.Error(), testToken)) {
				t.Errorf("the error names a person or the token: %v", err)
			}
			if supported := s.graph.supports("ContentOf"); supported == errors.Is(err, errUnsupported) {
				t.Errorf("supported afterwards: %t", supported)
			}
		})
	}
}

func TestLimitOfGraphQLSaysUntilWhen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reset := time.Now().Add(17 * time.Minute)
		s, _ := talk(t, says(200, "application/json", `{"errors":[{"type":"RATE_LIMITED"}]}`,
			"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", fmt.Sprint(reset.Unix()), "X-RateLimit-Resource", "graphql"))
		err := s.ask(t.Context(), "ContentOf", map[string]any{"id": "I_1"}, &struct{}{})
		limit, ok := errors.AsType[*connector.RateLimitError](err)
		if !ok || !limit.Until.Equal(reset) {
			t.Errorf("got %v, want a limit until %s", err, reset)
		}
	})
}

// A query that a site cannot answer is sent once an hour.
func TestUnsupportedIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d := talk(t, says(404, "application/json", `{}`))
		ask := func() {
			if err := s.ask(t.Context(), "ContentOf", nil, &struct{}{}); !errors.Is(err, errUnsupported) {
				t.Fatalf("got %v", err)
			}
		}
		for range 3 {
			ask()
		}
		if n := d.count("ContentOf"); n != 1 {
			t.Errorf("asked %d times at first", n)
		}
		time.Sleep(59 * time.Minute)
		ask()
		if n := d.count("ContentOf"); n != 0 {
			t.Errorf("asked %d times within the hour", n)
		}
		time.Sleep(2 * time.Minute)
		ask()
		if n := d.count("ContentOf"); n != 1 {
			t.Errorf("asked %d times after the hour", n)
		}
	})
}

func TestWithoutTokenNothingIsAsked(t *testing.T) {
	s, d := talk(t, says(200, "application/json", `{"data":{}}`), func(c *Config) { c.Token = nil })
	if err := s.ask(t.Context(), "ContentOf", nil, &struct{}{}); !errors.Is(err, errUnsupported) {
		t.Errorf("got %v", err)
	}
	if n := d.count("ContentOf"); n != 0 {
		t.Errorf("asked %d times", n)
	}
	if err := s.checkProject(t.Context()); !isError[*connector.ConfigError](err) || !strings.Contains(err.Error(), "token") {
		t.Errorf("checking the project gave %v", err)
	}
}

// GitHub gives up on queries that take too long. Then fewer nodes are asked for.
func TestQueriesGetSmallerAndLarger(t *testing.T) {
	const most = 10
	sizes := []int{}
	s, _ := talk(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		n := strings.Count(string(text), `"PR_`)
		sizes = append(sizes, n)
		if n > most {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"data":{"nodes":[`+strings.TrimSuffix(strings.Repeat("null,", n), ",")+`]}}`)
	}))
	ids := make([]string, 60)
	for k := range ids {
		ids[k] = fmt.Sprintf("PR_%d", k)
	}
	for range 3 {
		if _, _, _, err := s.evidence(t.Context(), ids); err == nil {
			t.Fatal("too much was answered")
		}
	}
	if _, _, _, err := s.evidence(t.Context(), ids[:18]); err == nil { // 6 and then 12
		t.Fatal("what was too much is not tried again after a success")
	}
	if want := []int{50, 25, 12, 6, 12}; !slices.Equal(sizes, want) {
		t.Errorf("asked for %v nodes, want %v", sizes, want)
	}
}

func TestBigID(t *testing.T) {
	for text, want := range map[string]string{`"2743986529"`: "2743986529", `17`: "17", `null`: ""} {
		var id bigID
		if err := id.UnmarshalJSON([]byte(text)); err != nil || string(id) != want {
			t.Errorf("%s: got %q, %v", text, id, err)
		}
	}
	var id bigID
	if err := id.UnmarshalJSON([]byte(`"I_kw"`)); err == nil {
		t.Error("a text that is no number was taken")
	}
}

func TestNoQueryAsksForPeople(t *testing.T) {
	files, err := queries.ReadDir("queries")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		text, err := queries.ReadFile("queries/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		operation := strings.TrimSuffix(f.Name(), ".graphql")
		if !strings.Contains(string(text), "\nquery "+operation+"(") {
			t.Errorf("%s does not hold the operation %s", f.Name(), operation)
		}
		for _, word := range []string{"actor", "author", "creator", "editor", "assignee", "requestedReviewer", "mergedBy", "viewer", "email", "body", "title"} {
			if strings.Contains(string(text), word) {
				t.Errorf("%s asks for %s", f.Name(), word)
			}
		}
		if strings.Count(string(text), "login") != strings.Count(string(text), "login: $owner") {
			t.Errorf("%s asks for a login", f.Name())
		}
	}
}

var errTest = errors.New("failure of the test")

func TestCancelledQuery(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s, _ := talk(t, says(200, "application/json", `{"data":{}}`))
	if err := s.ask(ctx, "ContentOf", nil, &struct{}{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
