package github

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// site returns a source that reads acme/api and acme/web from a handler.
func site(t testing.TB, h http.HandlerFunc) *Source {
	t.Helper()
	s, err := New(Config{
		URL: "http://github.test", Repos: []string{"acme/api", "acme/web"}, Transport: &direct{Handler: h},
		Token: func() (string, error) { return testToken, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func discard(connector.Batch) error { return nil }

// kindOf names the kind of an error, and how long it asks to wait.
func kindOf(err error) string {
	if err == nil {
		return "none"
	}
	if e, ok := errors.AsType[*connector.RateLimitError](err); ok {
		return "limit " + time.Until(e.Until).Round(time.Second).String()
	}
	if _, ok := errors.AsType[*connector.AuthError](err); ok {
		return "auth"
	}
	if _, ok := errors.AsType[*connector.ConfigError](err); ok {
		return "config"
	}
	return "temporary"
}

func TestErrors(t *testing.T) {
	const page = "<!DOCTYPE html><html><body>Unicorn!</body></html>"
	for _, tt := range []struct {
		name   string
		status int
		header []string
		body   string
		want   string
		says   string
	}{
		{"primary limit", 403, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "+300"}, `{"message":"API rate limit exceeded for user ID 7."}`, "limit 5m0s", "403"},
		{"primary limit as 429", 429, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "+300"}, `{}`, "limit 5m0s", "429"},
		{"reset is past", 403, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "-300"}, `{}`, "limit 1s", ""},
		{"reset is absurd", 429, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "+99999999"}, `{}`, "limit 720h0m0s", ""},
		{"secondary limit", 403, []string{"Retry-After", "30"}, `{"message":"You have exceeded a secondary rate limit."}`, "limit 30s", ""},
		{"secondary limit with remaining", 403, []string{"Retry-After", "30", "X-RateLimit-Remaining", "17", "X-RateLimit-Reset", "+300"}, `{}`, "limit 30s", ""},
		{"both limits", 403, []string{"Retry-After", "30", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "+300"}, `{}`, "limit 30s", ""},
		{"secondary limit without a time", 403, nil, `{"message":"You have exceeded a secondary rate limit. Wait a few minutes.","documentation_url":"https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits"}`, "limit 1m0s", ""},
		{"secondary limit with the reset of the other one", 403, []string{"X-RateLimit-Remaining", "4999", "X-RateLimit-Reset", "+3000"}, `{"message":"You have exceeded a secondary rate limit. Wait a few minutes.","documentation_url":"https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api#about-secondary-rate-limits"}`, "limit 1m0s", ""},
		{"secondary limit in words", 403, nil, `{"message":"You have triggered an abuse detection mechanism."}`, "limit 1m0s", ""},
		{"429 without a time", 429, nil, `{"message":"Too many requests"}`, "limit 1m0s", "429 Too Many Requests"},
		{"retry at once", 429, []string{"Retry-After", "0"}, ``, "limit 1s", ""},
		{"unavailable until", 503, []string{"Retry-After", "120"}, ``, "limit 2m0s", ""},
		{"unavailable", 503, nil, page, "temporary", "503 Service Unavailable"},
		{"unauthorised", 401, nil, `{"message":"Bad credentials"}`, "auth", "Bad credentials"},
		{"second factor", 401, []string{"X-GitHub-OTP", "required; app"}, `{}`, "auth", "second factor"},
		{"forbidden", 403, []string{"X-RateLimit-Remaining", "17"}, `{"message":"Resource not accessible by personal access token"}`, "auth", "not accessible"},
		{"no repository", 404, nil, `{"message":"Not Found"}`, "config", "acme/api"},
		{"no issues", 410, nil, `{"message":"Issues are disabled for this repo"}`, "config", "repository acme/api: its issues are disabled"},
		{"blocked", 451, nil, `{"message":"Repository access blocked"}`, "config", "acme/api"},
		{"server error", 500, nil, `{"message":"Server Error"}`, "temporary", "Server Error"},
		{"bad gateway", 502, []string{"Content-Type", "text/html"}, page, "temporary", "502 Bad Gateway"},
		{"accepted", 202, nil, `{}`, "temporary", "202"},
		{"web page", 200, []string{"Content-Type", "text/html"}, page, "temporary", "web page"},
		{"web page in disguise", 200, []string{"Content-Type", "application/json"}, page, "temporary", "web page"},
		{"other JSON", 200, nil, `{"message":"hello"}`, "temporary", "decode"},
		{"cut JSON", 200, nil, `[{"id":1,"num`, "temporary", "decode"},
		{"nothing", 200, nil, ``, "temporary", "decode"},
		{"binary", 200, nil, "\x00\xff\xfe[", "temporary", "decode"},
		{"null", 200, nil, `null`, "none", ""},
		{"moved without a place", 301, nil, `{"message":"Moved Permanently"}`, "temporary", "301"},
		{"moved to another host", 301, []string{"Location", "https://evil.test/repositories/1/issues"}, `{}`, "temporary", "another host"},
		{"moved to another way in", 301, []string{"Location", "https://github.test/repositories/1/issues"}, `{}`, "temporary", "another host"},
		{"moved in a circle", 301, []string{"Location", "http://github.test/repos/acme/api/issues"}, `{}`, "temporary", "redirects"},
		{"next page elsewhere", 200, []string{"Link", `<https://evil.test/issues?page=2>; rel="next"`}, `[]`, "temporary", "another host"},
		{"next page unreadable", 200, []string{"Link", `<http://github.test:port/%zz>; rel="next"`}, `[]`, "temporary", "link cannot be read"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := site(t, func(w http.ResponseWriter, r *http.Request) {
					if strings.HasSuffix(r.URL.Path, "/labels") {
						fmt.Fprint(w, "[]")
						return
					}
					// The site's clock is a day ahead of ours.
					now := time.Now().Add(24 * time.Hour)
					w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
					for k := 0; k < len(tt.header); k += 2 {
						value := tt.header[k+1]
						if strings.HasSuffix(tt.header[k], "-Reset") {
							delta, _ := strconv.ParseInt(value, 10, 64)
							value = strconv.FormatInt(now.Unix()+delta, 10)
						}
						w.Header().Set(tt.header[k], value)
					}
					w.WriteHeader(tt.status)
					fmt.Fprint(w, tt.body)
				})
				err := s.Poll(t.Context(), nil, discard)
				if got := kindOf(err); got != tt.want {
					t.Errorf("got %s, want %s: %v", got, tt.want, err)
				}
				if err != nil && !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%q does not say %q", err, tt.says)
				}
			})
		})
	}
}

// TestLimitIsKept: after a refusal nothing more is sent before the time that the
// site named, and then the scan goes on.
func TestLimitIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := site(t, func(w http.ResponseWriter, _ *http.Request) {
			asked++
			w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(time.Now().Add(10*time.Minute).Unix(), 10))
			if asked == 1 {
				w.Header().Set("X-RateLimit-Remaining", "0")
				w.WriteHeader(403)
				return
			}
			w.Header().Set("X-RateLimit-Remaining", "4999")
			fmt.Fprint(w, "[]")
		})
		for range 3 {
			if got := kindOf(s.Poll(t.Context(), nil, discard)); got != "limit 10m0s" {
				t.Errorf("got %s", got)
			}
		}
		if asked != 1 {
			t.Errorf("%d requests were sent during the limit", asked-1)
		}
		if left, ok := s.RateLimitRemaining(); left != 0 || !ok {
			t.Errorf("%d requests are left, %v", left, ok)
		}
		time.Sleep(10 * time.Minute)
		if err := s.Poll(t.Context(), nil, discard); err != nil {
			t.Error(err)
		}
		if left, ok := s.RateLimitRemaining(); left != 4999 || !ok {
			t.Errorf("%d requests are left, %v", left, ok)
		}
	})
}

// TestSecrets: whatever the site repeats, no error tells a token.
func TestSecrets(t *testing.T) {
	echo := func(r *http.Request) string {
		return r.Header.Get("Authorization") + " " + strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	for _, status := range []int{200, 301, 400, 401, 403, 404, 410, 422, 429, 500, 503} {
		s := site(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "http://github.test/"+strings.ReplaceAll(echo(r), " ", "/")+"/x")
			w.Header().Set("Link", "<http://github.test/"+strings.ReplaceAll(echo(r), " ", "/")+`>; rel="next"`)
			w.Header().Set("X-OAuth-Scopes", echo(r))
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"message":%q,"documentation_url":%q,"errors":[{"message":%q}]}`, echo(r), echo(r), echo(r))
		})
		census := s.Census(t.Context(), func(connector.Item) {})
		_, types := s.Types(t.Context())
		for _, err := range []error{s.Poll(t.Context(), nil, discard), s.Check(t.Context()), census, types} {
			if err != nil && strings.Contains(err.Error(), testToken) {
				t.Errorf("status %d: an error tells the token: %v", status, err)
			}
		}
	}
}

// TestOtherHost: nothing is sent to another host, be it named by a link or by a
// redirect.
func TestOtherHost(t *testing.T) {
	var mu sync.Mutex
	var stolen []string
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		stolen = append(stolen, r.Header.Get("Authorization"))
		fmt.Fprint(w, "[]")
	}))
	defer evil.Close()
	for _, how := range []string{"link", "redirect"} {
		good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if how == "redirect" {
				http.Redirect(w, r, evil.URL+"/repositories/1/issues", http.StatusMovedPermanently)
				return
			}
			if strings.HasSuffix(r.URL.Path, "/issues") {
				w.Header().Set("Link", "<"+evil.URL+`/repositories/1/issues?page=2>; rel="next"`)
				fmt.Fprint(w, "["+testIssue+"]")
			} else {
				fmt.Fprint(w, "[]")
			}
		}))
		config := Config{URL: good.URL, Repos: []string{"acme/api"}, Token: func() (string, error) { return testToken, nil }}
		s, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		census := s.Census(t.Context(), func(connector.Item) {})
		r := newRecord()
		first := s.Poll(t.Context(), nil, r.take)
		s, err = New(config)
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range []error{first, s.Poll(t.Context(), r.cursor, discard), census} {
			if !errors.Is(err, errForeign) || errors.Is(err, connector.ErrCursor) {
				t.Errorf("%s: got %v, want a refusal", how, err)
			}
		}
		good.Close()
	}
	http.DefaultClient.CloseIdleConnections()
	if len(stolen) > 0 {
		t.Errorf("requests to the other host, with %q", stolen)
	}
}

// TestCutBody: a connection that ends in the middle of an answer.
func TestCutBody(t *testing.T) {
	for _, status := range []int{200, 404, 500} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/labels") {
				fmt.Fprint(w, "[]")
				return
			}
			w.Header().Set("Content-Length", "1000")
			w.WriteHeader(status)
			fmt.Fprint(w, `[{"id": 1`)
		}))
		s, err := New(Config{URL: server.URL, Repos: []string{"acme/api"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Poll(t.Context(), nil, discard); err == nil {
			t.Errorf("status %d: a cut answer was taken", status)
		}
		server.Close()
	}
}

func TestLargeAnswer(t *testing.T) {
	s := site(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "["+strings.Repeat(" ", 3000)+"]")
	})
	s.client.limit = 2000
	if err := s.Poll(t.Context(), nil, discard); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("got %v", err)
	}
}

// TestToken: the token is asked for at each request, so that a new one is used
// at once.
func TestToken(t *testing.T) {
	token, fail := "first", error(nil)
	var seen []string
	s, err := New(Config{
		URL: "http://github.test", Repos: []string{"acme/api"}, Token: func() (string, error) { return token, fail },
		Transport: &direct{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen = append(seen, r.Header.Get("Authorization"))
			w.Header().Set("ETag", `"one"`)
			if r.Header.Get("If-None-Match") != "" && token == "second" {
				t.Error("what one token has seen is used for another")
			}
			fmt.Fprint(w, "[]")
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Poll(t.Context(), nil, discard); err != nil {
		t.Fatal(err)
	}
	token = "second"
	if err := s.Poll(t.Context(), nil, discard); err != nil {
		t.Fatal(err)
	}
	if seen[0] != "Bearer first" || seen[len(seen)-1] != "Bearer second" {
		t.Errorf("requests carried %q", seen)
	}
	fail = errors.New("file is not there")
	if err := s.Poll(t.Context(), nil, discard); kindOf(err) != "config" || !strings.Contains(err.Error(), "file is not there") {
		t.Errorf("got %v", err)
	}
}

func TestAnonymous(t *testing.T) {
	b := newBench(t, FakeOptions{})
	b.world("acme/api", 9)
	b.config.Token = nil
	b.direct.before = func(r *http.Request) {
		if a := r.Header.Get("Authorization"); a != "" || r.Method != http.MethodGet {
			t.Errorf("%s %s carries %q", r.Method, r.URL, a)
		}
	}
	r := newRecord()
	b.poll(b.source(), r)
	b.want(r)
	pulls := 0
	for _, line := range r.lines() {
		if strings.Contains(line, "PULL_REQUEST") {
			pulls++
		}
	}
	if pulls != 2 {
		t.Errorf("%d facts from mentions in pull requests, want 2", pulls)
	}
}

// TestEnterprise: GitHub Enterprise Server has REST and GraphQL in two places.
func TestEnterprise(t *testing.T) {
	b := newBench(t, FakeOptions{Enterprise: true, Token: testToken})
	b.world("acme/api", 9)
	b.config.URL = "http://github.test/api/v3/"
	r := newRecord()
	s := b.source()
	b.poll(s, r)
	b.want(r)
	if len(r.facts) < 9 {
		t.Errorf("%d facts", len(r.facts))
	}
	if _, ok := s.RateLimitRemaining(); ok {
		t.Error("a limit is told where there is none")
	}
	for base, want := range map[string]string{
		"https://api.github.com":        "https://api.github.com/graphql",
		"https://ghes.test/api/v3":      "https://ghes.test/api/graphql",
		"https://ghes.test/git/api/v3/": "https://ghes.test/git/api/graphql",
		"http://127.0.0.1:4010":         "http://127.0.0.1:4010/graphql",
		"http://127.0.0.1:4010/mock":    "http://127.0.0.1:4010/mock/graphql",
	} {
		u, err := siteURL(base)
		if err != nil {
			t.Fatal(err)
		}
		if got := graphqlURL(u); got != want {
			t.Errorf("GraphQL of %s is at %s, want %s", base, got, want)
		}
	}
}

// TestApp: a GitHub App gets itself a token for its installation.
func TestApp(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	b := newBench(t, FakeOptions{Enterprise: true})
	b.clock.at = time.Now().Add(-2 * time.Hour).Truncate(time.Second)
	b.world("acme/api", 5)
	b.clock.at = time.Now()
	b.config.URL, b.config.Token = "http://github.test/api/v3", nil
	b.config.App = connector.App{ID: 7, Installation: 8, PrivateKey: func() (string, error) { return text, nil }}
	r := newRecord()
	s := b.source()
	b.poll(s, r)
	b.want(r)
	b.direct.mu.Lock()
	tokens := 0
	for _, line := range b.direct.log {
		if line == "POST /api/v3/app/installations/8/access_tokens" {
			tokens++
		}
	}
	b.direct.mu.Unlock()
	if tokens != 1 {
		t.Errorf("%d tokens were made, want 1", tokens)
	}

	for status, want := range map[int]string{401: "auth", 404: "auth", 403: "auth", 500: "temporary", 429: "limit 1m0s"} {
		b.config.Transport = &direct{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })}
		if err := b.source().Poll(t.Context(), nil, discard); kindOf(err) != want {
			t.Errorf("no token, status %d: got %s, want %s: %v", status, kindOf(err), want, err)
		}
	}
	text = "not a key"
	if err := b.source().Poll(t.Context(), nil, discard); kindOf(err) != "config" || strings.Contains(err.Error(), text) {
		t.Errorf("bad key: got %v", err)
	}
}

func TestConfig(t *testing.T) {
	token := func() (string, error) { return "", nil }
	for name, c := range map[string]Config{
		"no repository":        {},
		"no owner":             {Repos: []string{"api"}},
		"a path":               {Repos: []string{"acme/api/issues"}},
		"dots":                 {Repos: []string{"acme/.."}},
		"escapes":              {Repos: []string{"acme/a%2fb"}},
		"no URL":               {URL: "api.github.com", Repos: []string{"acme/api"}},
		"password":             {URL: "https://user:pass@api.github.com", Repos: []string{"acme/api"}},
		"query":                {URL: "https://api.github.com?x=y", Repos: []string{"acme/api"}},
		"web site":             {URL: "https://github.com", Repos: []string{"acme/api"}},
		"token and app":        {Repos: []string{"acme/api"}, Token: token, App: connector.App{ID: 1, Installation: 1, PrivateKey: token}},
		"app without a number": {Repos: []string{"acme/api"}, App: connector.App{Installation: 1, PrivateKey: token}},
		"app without a key":    {Repos: []string{"acme/api"}, App: connector.App{ID: 1, Installation: 1}},
		"half a project":       {Repos: []string{"acme/api"}, Project: connector.Project{Number: 1}},
		"negative project":     {Repos: []string{"acme/api"}, Project: connector.Project{Owner: "acme", Number: -1}},
		"too many":             {Repos: make([]string, 500)},
	} {
		if name == "too many" {
			for k := range c.Repos {
				c.Repos[k] = fmt.Sprintf("acme/r%d", k)
			}
		}
		if _, err := New(c); kindOf(err) != "config" || strings.Contains(err.Error(), "pass@") {
			t.Errorf("%s: got %v, want an error of the configuration", name, err)
		}
	}
	s, err := New(Config{Repos: []string{"acme/api", "Acme/API", "acme/.github"}})
	if err != nil || len(s.repos) != 2 || s.client.base.String() != "https://api.github.com/" {
		t.Errorf("repositories %v, %v", s, err)
	}
}

func TestNextLink(t *testing.T) {
	for _, tt := range []struct{ header, want string }{
		{`<https://api.github.com/x?page=2>; rel="next", <https://api.github.com/x?page=9>; rel="last"`, "https://api.github.com/x?page=2"},
		{`<https://api.github.com/x?page=1>; rel="prev", <https://api.github.com/x?after=a%2Cb%3D,c;d&since=2026>; rel="next"`, "https://api.github.com/x?after=a%2Cb%3D,c;d&since=2026"},
		{`<https://a.test/1>; rel=next`, "https://a.test/1"},
		{`<https://a.test/1>; title="x"; rel="next"`, "https://a.test/1"},
		{`<https://a.test/1>; rel="prev"`, ""},
		{`<https://a.test/1>; rel="nextish"`, ""},
		{`https://a.test/1; rel="next"`, ""},
		{``, ""},
	} {
		if got := nextLink(http.Header{"Link": {tt.header}}); got != tt.want {
			t.Errorf("next of %s is %q, want %q", tt.header, got, tt.want)
		}
	}
}

// TestCacheIsBounded: what is kept stays small, and what is too large passes.
func TestCacheIsBounded(t *testing.T) {
	sent := 0
	c := newCache(&direct{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if w.Header().Set("ETag", `"x"`); r.Header.Get("If-None-Match") == `"x"` {
			w.Header().Set("Date", "later")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		sent++
		size, _ := strconv.Atoi(r.URL.Query().Get("size"))
		fmt.Fprintf(w, "%q", strings.Repeat("x", size-2))
	})})
	ask := func(n, size int) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://a.test/issues?n=%d&size=%d", n, size), nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body bytes.Buffer
		if _, err := body.ReadFrom(resp.Body); err != nil || body.Len() != size || resp.StatusCode != 200 {
			t.Errorf("answer %d of %d bytes, %v; want 200 of %d", resp.StatusCode, body.Len(), err, size)
		}
	}
	for range 2 {
		ask(0, maxKept+100)
	}
	if sent != 2 || c.size != 0 {
		t.Errorf("a large answer was kept: sent %d, kept %d bytes", sent, c.size)
	}
	for n := range 40 {
		ask(n, maxKept)
	}
	if c.size > maxKeptAll || len(c.kept) != c.order.Len() || len(c.kept) != maxKeptAll/maxKept {
		t.Errorf("%d answers of %d bytes are kept", len(c.kept), c.size)
	}
	sent = 0
	ask(39, maxKept)
	ask(0, maxKept)
	if sent != 1 {
		t.Errorf("%d answers were sent, want only the one that is not kept any more", sent)
	}
}

// TestConcurrentRequests: the client may be used from several goroutines.
func TestConcurrentRequests(t *testing.T) {
	b := newBench(t, FakeOptions{})
	ids := b.world("acme/api", 4)
	s := b.source()
	var group sync.WaitGroup
	for k := range 8 {
		group.Go(func() {
			for range 10 {
				var is issue
				if _, err := s.client.get(t.Context(), "repos/acme/api/issues/"+strconv.Itoa(1+k%2), &is); err != nil {
					t.Error(err)
				}
				s.Requests()
				s.RateLimitRemaining()
				s.labelsChanged("acme/api")
			}
		})
	}
	group.Wait()
	if n := s.Requests()["200"]; n != 80 || len(ids) != 4 {
		t.Errorf("%d requests were counted, want 80", n)
	}
}

// TestSecondaryLimitEnds: after the time that a secondary limit asks for, requests
// are sent again, whatever the reset of the primary limit is.
func TestSecondaryLimitEnds(t *testing.T) {
	for name, c := range map[string]struct {
		header, value string
		wait          time.Duration
	}{
		"a minute":    {"X-RateLimit-Remaining", "4999", time.Minute},
		"as told":     {"Retry-After", "30", 30 * time.Second},
		"nobody says": {"X-Nothing", "", time.Minute},
	} {
		t.Run(name, synctested(func(t *testing.T) {
			limited, sent := true, 0
			s := site(t, func(w http.ResponseWriter, r *http.Request) {
				sent++
				w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(time.Now().Add(50*time.Minute).Unix(), 10))
				w.Header().Set(c.header, c.value)
				if limited {
					w.WriteHeader(http.StatusForbidden)
					fmt.Fprint(w, `{"message":"You have exceeded a secondary rate limit.","documentation_url":"https://docs.github.com/rest/overview/rate-limits-for-the-rest-api#about-secondary-rate-limits"}`)
					return
				}
				fmt.Fprint(w, "{}")
			})
			var into struct{}
			_, err := s.client.get(t.Context(), "user", &into)
			var limit *connector.RateLimitError
			if !errors.As(err, &limit) || time.Until(limit.Until) != c.wait {
				t.Fatalf("got %v", err)
			}
			limited = false
			time.Sleep(time.Until(limit.Until) + time.Millisecond)
			if _, err := s.client.get(t.Context(), "user", &into); err != nil || sent != 2 {
				t.Errorf("after %v: %v, %d requests sent", c.wait, err, sent)
			}
		}))
	}
}

// TestPostIsNotRedirected: what is sent in a body goes where it was sent to, and
// nowhere else on the site.
func TestPostIsNotRedirected(t *testing.T) {
	for _, code := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		var asked []string
		s := site(t, func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.Method+" "+r.URL.Path)
			if r.URL.Path == "/graphql" {
				http.Redirect(w, r, "/elsewhere", code)
				return
			}
			fmt.Fprint(w, "{}")
		})
		var into struct{}
		if _, err := s.client.do(t.Context(), http.MethodPost, s.client.graphql, struct{}{}, &into); statusOf(err) != code || len(asked) != 1 {
			t.Errorf("%d: got %v after %q", code, err, asked)
		}
	}
}
