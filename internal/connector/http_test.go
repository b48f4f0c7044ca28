package connector_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

const clientToken = "s3cr3t-t0ken"

// A server answers without a network.
type server func(w http.ResponseWriter, r *http.Request)

func (s server) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	s(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

// client returns a client of a tracker at /base, with a token.
func client(t *testing.T, s http.RoundTripper, change ...func(*connector.ClientConfig)) *connector.Client {
	t.Helper()
	config := connector.ClientConfig{
		URL: "https://tracker.example.com/base/", Transport: s, Token: func() (string, error) { return clientToken, nil },
	}
	for _, f := range change {
		f(&config)
	}
	c, err := connector.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// kind names the type of an error in the contract.
func kind(err error) string {
	var (
		limit  *connector.RateLimitError
		auth   *connector.AuthError
		config *connector.ConfigError
	)
	switch {
	case err == nil:
		return "none"
	case errors.As(err, &limit):
		return "limit"
	case errors.As(err, &auth):
		return "auth"
	case errors.As(err, &config):
		return "config"
	}
	return "temporary"
}

func TestClientRequests(t *testing.T) {
	var got []string
	c := client(t, server(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = append(got, fmt.Sprintf("%s %s %s %s %s", r.Method, r.URL, r.Header.Get("Authorization"), r.Header.Get("Content-Type"), body))
		w.Header().Set("Date", "Mon, 02 Mar 2026 09:00:00 GMT")
		w.Header().Set("X-RateLimit-Remaining", "7")
		io.WriteString(w, `{"n":1}`)
	}))
	if _, ok := c.RateLimitRemaining(); ok || !c.Now().IsZero() {
		t.Error("something is known before any request")
	}
	for n, ask := range []func(into any) error{
		func(into any) error { return c.Get(t.Context(), "/items", url.Values{"q": {">=1"}}, into) },
		func(into any) error { return c.Get(t.Context(), "/me", nil, into) },
		func(into any) error { return c.Post(t.Context(), "/search", map[string]int{"n": 3}, into) },
	} {
		var answer struct{ N int }
		if err := ask(&answer); err != nil || answer.N != 1 {
			t.Errorf("request %d: got %+v, %v", n, answer, err)
		}
	}
	const base = "https://tracker.example.com/base"
	want := []string{
		"GET " + base + "/items?q=%3E%3D1 Bearer s3cr3t-t0ken  ",
		"GET " + base + "/me Bearer s3cr3t-t0ken  ",
		"POST " + base + `/search Bearer s3cr3t-t0ken application/json {"n":3}`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := c.URL("/items/1"); got != base+"/items/1" {
		t.Errorf("URL: got %s", got)
	}
	if got, want := c.Now(), time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("Now: got %s, want %s", got, want)
	}
	if left, ok := c.RateLimitRemaining(); left != 7 || !ok {
		t.Errorf("remaining: got %d, %t", left, ok)
	}
	if got := c.Requests(); !maps.Equal(got, map[string]int64{"200": 3}) {
		t.Errorf("requests: got %v", got)
	}
}

// TestClientSecrets signs in other ways, and lets the tracker repeat the secret.
func TestClientSecrets(t *testing.T) {
	basic := base64.StdEncoding.EncodeToString([]byte("me:" + clientToken))
	for name, sign := range map[string]func(http.Header, string){
		"bearer": nil,
		"key":    func(h http.Header, token string) { h.Set("X-Key", token) },
		"basic": func(h http.Header, token string) {
			h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("me:"+token)))
		},
	} {
		repeat := server(func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, fmt.Sprint(r.Header, " of ", clientToken, " \x00and\n more ", strings.Repeat("long ", 100)), http.StatusBadRequest)
		})
		err := client(t, repeat, func(c *connector.ClientConfig) {
			c.Sign, c.Words = sign, func(body []byte) string { return string(body) }
		}).Get(t.Context(), "/x", nil, new(any))
		if err == nil || !strings.Contains(err.Error(), "GET /x: 400 Bad Request: map[") || !strings.Contains(err.Error(), "of [redacted] and  more long") || len(err.Error()) > 350 {
			t.Errorf("%s: got %v", name, err)
		}
		for _, secret := range []string{clientToken, basic} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: a secret in %v", name, err)
			}
		}
		if err := client(t, repeat).Get(t.Context(), "/x?q="+clientToken, nil, new(any)); err == nil || err.Error() != "GET /x: 400 Bad Request" {
			t.Errorf("%s: without words: got %v", name, err)
		}
	}
	failing := client(t, server(nil), func(c *connector.ClientConfig) {
		c.Token = func() (string, error) { return "", errors.New("environment variable KEY is not set") }
	})
	if err := failing.Get(t.Context(), "/x", nil, new(any)); kind(err) != "config" || !strings.Contains(err.Error(), "KEY is not set") {
		t.Errorf("a token that cannot be read: got %v", err)
	}
	anonymous := client(t, server(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("an anonymous request is signed")
		}
		io.WriteString(w, "{}")
	}), func(c *connector.ClientConfig) { c.Token = nil })
	if err := anonymous.Get(t.Context(), "/x", nil, new(any)); err != nil {
		t.Error(err)
	}
}

func TestClientAnswers(t *testing.T) {
	header := func(pairs ...string) http.Header {
		h := http.Header{}
		for n := 0; n < len(pairs); n += 2 {
			h.Set(pairs[n], pairs[n+1])
		}
		return h
	}
	after := header("Retry-After", "7")
	for name, c := range map[string]struct {
		status int
		header http.Header
		body   string
		kind   string
		says   string
	}{
		"fine":                 {200, nil, " [] ", "none", ""},
		"limit":                {429, after, "{}", "limit", "429 Too Many Requests"},
		"limit without a time": {429, nil, "", "limit", "429"},
		"busy with a time":     {503, after, "<html>busy</html>", "limit", "503"},
		"busy":                 {503, nil, "<html>busy</html>", "temporary", "503"},
		"forbidden a while":    {403, after, "{}", "limit", "403"},
		"none left":            {403, header("X-RateLimit-Remaining", "0"), "{}", "limit", "403"},
		"some left":            {403, header("X-RateLimit-Remaining", "1"), "{}", "auth", "403 Forbidden"},
		"unauthorized":         {401, after, "{}", "auth", "401"},
		"not there":            {404, after, "{}", "config", "404 Not Found"},
		"gone":                 {410, nil, "{}", "temporary", "410"},
		"moved nowhere":        {304, nil, "", "temporary", "304"},
		"server error":         {500, nil, "{}", "temporary", "500"},
		"login page":           {200, header("Content-Type", "text/html"), "Log in", "temporary", "login page"},
		"page of a proxy":      {200, nil, "\n <!DOCTYPE html>", "temporary", "proxy"},
		"cut":                  {200, nil, `{"a":`, "temporary", "unexpected end of JSON"},
		"empty":                {200, nil, "", "temporary", "decode answer of 0 bytes"},
		"more than one":        {200, nil, "{}{}", "temporary", "decode"},
	} {
		tracker := client(t, server(func(w http.ResponseWriter, _ *http.Request) {
			maps.Copy(w.Header(), c.header)
			w.WriteHeader(c.status)
			io.WriteString(w, c.body)
		}))
		err := tracker.Get(t.Context(), "/x", nil, new(any))
		if got := kind(err); got != c.kind || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %s, %v, want %s that says %q", name, got, err, c.kind, c.says)
		}
		if got := connector.StatusOf(err); got != c.status && c.status != 200 || got != 0 && c.status == 200 {
			t.Errorf("%s: status %d", name, got)
		}
		if n := tracker.Requests()[fmt.Sprint(c.status)]; n != 1 {
			t.Errorf("%s: counted as %v", name, tracker.Requests())
		}
	}
}

func TestClientJudge(t *testing.T) {
	tracker := server(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Login", "failed")
		io.WriteString(w, "{}")
	})
	c := client(t, tracker, func(c *connector.ClientConfig) {
		c.Judge = func(resp *http.Response, err error) error {
			if err == nil && resp.Header.Get("X-Login") == "failed" {
				return &connector.AuthError{Err: errors.New("taken for nobody")}
			}
			return err
		}
	})
	if err := c.Get(t.Context(), "/x", nil, new(any)); kind(err) != "auth" {
		t.Errorf("got %v, want what Judge says", err)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"90":                            now.Add(90 * time.Second),
		"0":                             now.Add(time.Second),
		"0.5":                           now.Add(time.Second),
		"99999999999999":                now.Add(30 * 24 * time.Hour),
		"Sun, 01 Mar 2026 12:05:00 GMT": now.Add(5 * time.Minute),
		"soon":                          {},
		"-3":                            {},
		"NaN":                           {},
		"":                              {},
	} {
		if got := connector.RetryAfter(text, now); !got.Equal(want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		err := client(t, server(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "90")
			w.WriteHeader(http.StatusTooManyRequests)
		})).Get(t.Context(), "/x", nil, new(any))
		if limit, ok := errors.AsType[*connector.RateLimitError](err); !ok || !limit.Until.Equal(time.Now().Add(90*time.Second)) {
			t.Errorf("got %v, want a limit of 90s", err)
		}
	})
}

// TestClientRedirects leads elsewhere: the secret and the request stay at home.
func TestClientRedirects(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		for name, c := range map[string]struct{ to, says string }{
			"home":           {"https://tracker.example.com/base/there", ""},
			"another host":   {"https://foreign.example.com/base/there", "GET /x: redirect to another host refused"},
			"another port":   {"https://tracker.example.com:8443/base/there", "another host"},
			"another scheme": {"http://tracker.example.com/base/there", "another host"},
			"itself":         {"/base/x", "too many redirects"},
		} {
			asked := 0
			tracker := client(t, server(func(w http.ResponseWriter, r *http.Request) {
				if asked++; r.URL.Path == "/base/there" {
					if name != "home" || r.Header.Get("Authorization") == "" {
						t.Errorf("%d, %s: request for %s", status, name, r.URL)
					}
					io.WriteString(w, "{}")
					return
				}
				http.Redirect(w, r, c.to, status)
			}))
			err := tracker.Get(t.Context(), "/x", nil, new(any))
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%d, %s: got %v, want %q", status, name, err, c.says)
			}
			if asked > 5 {
				t.Errorf("%d, %s: %d requests", status, name, asked)
			}
		}
	}
}

// silent is a transport that never answers.
type silent struct{}

func (silent) RoundTrip(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func TestClientTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		c := client(t, silent{})
		if err := c.Get(t.Context(), "/x", nil, new(any)); err == nil {
			t.Error("no error from a tracker that never answers")
		}
		if took := time.Since(start); took != connector.RequestTimeout {
			t.Errorf("gave up after %s, want %s", took, connector.RequestTimeout)
		}
		if n := c.Requests()["error"]; n != 1 {
			t.Errorf("%d errors counted", n)
		}
	})
}

// refused is a transport without a connection.
type refused struct{}

func (refused) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("connection refused")
}

func TestClientWithoutAnswer(t *testing.T) {
	err := client(t, refused{}).Get(t.Context(), "/x", url.Values{"q": {"long"}}, new(any))
	if err == nil || err.Error() != "GET /x: connection refused" {
		t.Errorf("got %v, want it without the query", err)
	}
}

// spaces is a body without an end.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func (spaces) Close() error { return nil }

func (spaces) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: spaces{}, Request: r}, nil
}

func TestClientBodyLimit(t *testing.T) {
	if err := client(t, spaces{}).Get(t.Context(), "/x", nil, new(json.RawMessage)); err == nil || !strings.Contains(err.Error(), "answer is over 67108864 bytes") {
		t.Errorf("got %v, want a refusal of the size", err)
	}
}

func TestNewClient(t *testing.T) {
	for _, bad := range []string{
		"", "example.com", "ftp://example.com", "https://user:" + clientToken + "@example.com", "https://example.com?x=1",
		"https://example.com#x", "https://exam ple.com/" + clientToken,
	} {
		_, err := connector.NewClient(connector.ClientConfig{URL: bad})
		if kind(err) != "config" || strings.Contains(err.Error(), clientToken) {
			t.Errorf("%q: %v, want a ConfigError without the URL", bad, err)
		}
	}
}
