package jira

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

const (
	testEmail = "flow@example.com"
	testToken = "s3cr3t-t0ken"
)

func withToken(c *Config) {
	c.Email = testEmail
	c.Token = func() (string, error) { return testToken, nil }
}

func bearer(c *Config) {
	withToken(c)
	c.Email = ""
}

// answering answers each request alike.
func answering(status int, header map[string]string, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	})
}

func TestErrors(t *testing.T) {
	isLimit := func(err error) bool { _, ok := errors.AsType[*connector.RateLimitError](err); return ok }
	isAuth := func(err error) bool { _, ok := errors.AsType[*connector.AuthError](err); return ok }
	isConfig := func(err error) bool { _, ok := errors.AsType[*connector.ConfigError](err); return ok }
	temporary := func(err error) bool { return !isLimit(err) && !isAuth(err) && !isConfig(err) }
	secretive := `{"errorMessages":["No entry for flow@example.com with s3cr3t-t0ken or ` +
		base64.StdEncoding.EncodeToString([]byte(testEmail+":"+testToken)) + `"]}`
	for name, c := range map[string]struct {
		status int
		header map[string]string
		body   string
		is     func(error) bool
		says   string
	}{
		"limit":                {429, map[string]string{"Retry-After": "7"}, `{}`, isLimit, "429"},
		"limit without a time": {429, nil, ``, isLimit, "429"},
		"busy with a time":     {503, map[string]string{"Retry-After": "7"}, `<html>busy</html>`, isLimit, "503"},
		"busy":                 {503, nil, `<html>busy</html>`, temporary, "503"},
		"forbidden by a limit": {403, map[string]string{"X-RateLimit-Remaining": "0"}, `{}`, isLimit, "403"},
		"forbidden a while":    {403, map[string]string{"RateLimit-Reason": "jira-burst-based"}, `{}`, isLimit, "403"},
		"forbidden":            {403, nil, `{}`, isAuth, "403"},
		"no such interface":    {404, nil, `{"message":"null for uri"}`, temporary, "null for uri"},
		"unauthorized":         {401, nil, secretive, isAuth, "401 Unauthorized"},
		"unauthorized page":    {401, nil, `<html>`, isAuth, "401"},
		"anonymous after all":  {200, map[string]string{"X-Seraph-LoginReason": "AUTHENTICATED_FAILED"}, `{"issues":[]}`, isAuth, "anonymous"},
		"bad request":          {400, nil, secretive, isConfig, "No entry for [redacted] with [redacted] or [redacted]"},
		"login page":           {200, map[string]string{"Content-Type": "text/html"}, `Log in`, temporary, "login page"},
		"page of a proxy":      {200, nil, "\n <!DOCTYPE html>", temporary, "proxy"},
		"server error":         {500, nil, `{"errorMessages":["a"]}`, temporary, "500 Internal Server Error"},
		"conflict":             {409, nil, `{"errorMessages":["a"],"errors":{"x":"b\u0000\nc"}}`, temporary, "a x: b c"},
		"cut":                  {200, nil, `{"issues":[{"id":"1"`, temporary, "unexpected end of JSON"},
		"empty":                {200, nil, ``, temporary, "decode"},
		"wrong shape":          {200, nil, `{"issues":"none"}`, temporary, "decode"},
		"gone":                 {410, nil, `{"errorMessages":["Removed."]}`, temporary, "Removed."},
	} {
		t.Run(name, func(t *testing.T) {
			// The kind of site and the list of statuses answer as they should.
			h := http.NewServeMux()
			h.HandleFunc("/rest/api/2/serverInfo", func(w http.ResponseWriter, _ *http.Request) {
				io.WriteString(w, `{"deploymentType":"Cloud"}`)
			})
			h.HandleFunc("/rest/api/3/status", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `[]`) })
			h.Handle("/", answering(c.status, c.header, c.body))
			_, _, err := poll(newSource(t, h, withToken), nil)
			if err == nil || !c.is(err) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want one that says %q", err, c.says)
			}
			_, _, first := poll(newSource(t, answering(c.status, c.header, c.body), withToken), nil)
			for _, err := range []error{err, first} {
				for _, secret := range []string{testEmail, testToken, "c2VjcmV0", base64.StdEncoding.EncodeToString([]byte(testEmail + ":" + testToken))} {
					if err != nil && strings.Contains(err.Error(), secret) {
						t.Errorf("a secret in %v", err)
					}
				}
			}
		})
	}
}

func TestResetAt(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, value string
		want        time.Time
	}{
		{"X-RateLimit-Reset", "2026-03-01T12:10Z", now.Add(10 * time.Minute)},
		{"X-RateLimit-Reset", "2026-03-01T12:10:00Z", now.Add(10 * time.Minute)},
		{"X-RateLimit-Reset", fmt.Sprint(now.Add(time.Minute).Unix()), now.Add(time.Minute)},
		{"X-RateLimit-Interval-Seconds", "30", now.Add(30 * time.Second)},
		{"X-Other", "1", time.Time{}},
	} {
		h := http.Header{}
		h.Set(c.name, c.value)
		if got := resetAt(h, now); !got.Equal(c.want) {
			t.Errorf("%s: %s: %v, want %v", c.name, c.value, got, c.want)
		}
	}
}

// TestCredentials checks who gets which.
func TestCredentials(t *testing.T) {
	cloud := FakeOptions{Email: testEmail, Token: testToken}
	dataCenter := FakeOptions{DataCenter: true, Token: testToken}
	for name, c := range map[string]struct {
		site   FakeOptions
		change func(*Config)
		ok     bool
	}{
		"basic":             {cloud, withToken, true},
		"bearer":            {dataCenter, bearer, true},
		"anonymous":         {cloud, func(*Config) {}, false},
		"basic for bearer":  {dataCenter, withToken, false},
		"bearer for basic":  {cloud, bearer, false},
		"anonymous allowed": {FakeOptions{}, func(*Config) {}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSource(t, world(NewFake(c.site)), c.change)
			for what, err := range map[string]error{"check": s.Check(t.Context()), "poll": func() error { _, _, err := poll(s, nil); return err }()} {
				_, refused := errors.AsType[*connector.AuthError](err)
				if c.ok && err != nil || !c.ok && !refused {
					t.Errorf("%s: %v", what, err)
				}
			}
			if n := s.Requests()["401"]; n > 0 == c.ok {
				t.Errorf("%d answers 401", n)
			}
		})
	}
	s := newSource(t, NewFake(FakeOptions{}), func(c *Config) {
		c.Token = func() (string, error) { return "", errors.New("environment variable JIRA_TOKEN is empty or not set") }
	})
	if _, ok := errors.AsType[*connector.ConfigError](s.Check(t.Context())); !ok {
		t.Error("a missing token is no ConfigError")
	}
}

// TestForeignHost answers with redirects: credentials and requests stay at home.
func TestForeignHost(t *testing.T) {
	foreign := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("request to the foreign host: %s %s, authorization %t", r.Method, r.URL, r.Header.Get("Authorization") != "")
	}))
	defer foreign.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		home := httptest.NewServer(http.RedirectHandler(foreign.URL+"/rest/api/2/serverInfo", status))
		s := newSource(t, nil, withToken, func(c *Config) { c.URL, c.Transport = home.URL, nil })
		_, _, err := poll(s, nil)
		if err == nil || !strings.Contains(err.Error(), "redirect to another host refused") {
			t.Errorf("%d: %v, want a refusal", status, err)
		}
		home.Close()
	}
	// Within the site, under another path, is fine.
	f := world(NewFake(FakeOptions{Email: testEmail, Token: testToken}))
	home := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rest, ok := strings.CutPrefix(r.URL.Path, "/old"); ok {
			u := *r.URL
			u.Path = "/jira" + rest
			http.Redirect(w, r, u.String(), http.StatusTemporaryRedirect)
			return
		}
		http.StripPrefix("/jira", f).ServeHTTP(w, r)
	}))
	defer home.Close()
	for _, path := range []string{"/old", "/jira/"} {
		s := newSource(t, nil, withToken, func(c *Config) { c.URL, c.Transport = home.URL+path, nil })
		if changes, _ := drain(t, s, nil); len(changes) < 100 {
			t.Errorf("%s: %d changes", path, len(changes))
		}
	}
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s := newSource(t, nil, func(c *Config) { c.Transport = silent{} })
		if _, _, err := poll(s, nil); err == nil {
			t.Error("no error from a site that never answers")
		}
		if took := time.Since(start); took != connector.RequestTimeout {
			t.Errorf("gave up after %s, want %s", took, connector.RequestTimeout)
		}
		if n := s.Requests()["error"]; n != 1 {
			t.Errorf("%d errors counted", n)
		}
	})
}

// silent is a transport that never answers.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestNew(t *testing.T) {
	for _, bad := range []Config{
		{}, {URL: "example.com"}, {URL: "ftp://example.com"}, {URL: "https://user:s3cr3t-t0ken@example.com"},
		{URL: "https://example.com?x=1"}, {URL: "https://exam ple.com/s3cr3t-t0ken"}, {URL: "https://example.com", Projects: []string{" "}},
	} {
		_, err := New(bad)
		if _, ok := errors.AsType[*connector.ConfigError](err); !ok || strings.Contains(err.Error(), testToken) {
			t.Errorf("%+v: %v, want a ConfigError", bad, err)
		}
	}
}

func TestMeter(t *testing.T) {
	s := newSource(t, world(NewFake(FakeOptions{LimitEvery: 3})))
	if _, ok := s.RateLimitRemaining(); ok {
		t.Error("remaining requests known before any")
	}
	for range 2 {
		_, _, _ = poll(s, nil)
	}
	if got := s.Requests(); got["200"] < 3 || got["429"] != 1 {
		t.Errorf("requests %v", got)
	}
	if n, ok := s.RateLimitRemaining(); !ok || n != 0 {
		t.Errorf("remaining %d, %t", n, ok)
	}
}
