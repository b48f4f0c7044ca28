package rest_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/rest"
)

var _ connector.Meter = (*rest.Client)(nil)

const secret = "secret-7d1f"

func client(t *testing.T, address string) *rest.Client {
	t.Helper()
	c, err := rest.New(connector.Spec{URL: address, Token: func() (string, error) { return secret, nil }},
		func(h http.Header, secret string) { h.Set("X-Key", secret) })
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGet(t *testing.T) {
	date := time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", date.Format(http.TimeFormat))
		fmt.Fprintf(w, `{"asked":%q}`, r.URL.String()+" "+r.Header.Get("X-Key"))
	}))
	defer server.Close()
	c := client(t, server.URL+"/below/")
	var answer struct{ Asked string }
	if err := c.Get(t.Context(), "/items.json", url.Values{"q": {">=1"}}, &answer); err != nil || answer.Asked != "/below/items.json?q=%3E%3D1 "+secret {
		t.Errorf("got %+v, %v", answer, err)
	}
	if got := c.Now(); !got.Equal(date) {
		t.Errorf("now: got %s, want %s", got, date)
	}
	if got := c.URL("/items/1"); got != server.URL+"/below/items/1" {
		t.Errorf("URL: got %s", got)
	}
}

func TestRefusals(t *testing.T) {
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for _, c := range []struct {
		code  int
		after string
		want  error
		wait  time.Duration
	}{
		{429, "", &connector.RateLimitError{}, 0},
		{503, "30", &connector.RateLimitError{}, 30 * time.Second},
		{403, in(time.Hour), &connector.RateLimitError{}, time.Hour},
		{429, "99999999999999999999", &connector.RateLimitError{}, 0},
		{503, "-5", &connector.RateLimitError{}, 0},
		{401, "", &connector.AuthError{}, 0},
		{403, "soon", &connector.AuthError{}, 0},
		{404, "", &connector.ConfigError{}, 0},
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", c.after)
			w.WriteHeader(c.code)
			fmt.Fprint(w, r.Header)
		}))
		asked := client(t, server.URL)
		err := asked.Get(t.Context(), "/x", nil, &struct{}{})
		if reflect.TypeOf(err) != reflect.TypeOf(c.want) {
			t.Errorf("%d with Retry-After %q: got %T %v, want %T", c.code, c.after, err, err, c.want)
		}
		if limit, ok := errors.AsType[*connector.RateLimitError](err); ok && c.wait > 0 {
			if wait := time.Until(limit.Until); wait > c.wait || wait < c.wait-5*time.Second {
				t.Errorf("%d with Retry-After %q: until %s", c.code, c.after, limit.Until)
			}
		}
		if got := asked.Requests()[fmt.Sprint(c.code)]; got != 1 {
			t.Errorf("%d: counted %d times", c.code, got)
		}
		server.Close()
		if err := asked.Get(t.Context(), "/x", nil, &struct{}{}); err == nil || asked.Requests()["error"] != 1 || strings.Contains(err.Error(), secret) {
			t.Errorf("no server: got %v, %v", err, asked.Requests())
		}
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	var strayed int
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strayed++ }))
	defer other.Close()
	for name, answer := range map[string]http.HandlerFunc{
		"a web page": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") },
		"nothing":    func(http.ResponseWriter, *http.Request) {},
		"half":       func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"a":`) },
		"without end": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `"`, strings.Repeat("x", 33<<20), `"`)
		},
		"elsewhere": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) },
		"an error":  func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "{}", http.StatusBadGateway) },
	} {
		server := httptest.NewServer(answer)
		var into any
		err := client(t, server.URL).Get(t.Context(), "/x", nil, &into)
		if auth, config := new(*connector.AuthError), new(*connector.ConfigError); err == nil || errors.As(err, auth) || errors.As(err, config) {
			t.Errorf("%s: want a temporary error, got %v", name, err)
		}
		server.Close()
	}
	if strayed > 0 {
		t.Error("a redirect was followed")
	}
}

func TestNewRefuses(t *testing.T) {
	token := func() (string, error) { return secret, nil }
	for _, spec := range []connector.Spec{
		{URL: "tracker.example.com", Token: token},
		{URL: "https://someone:" + secret + "@tracker.example.com", Token: token},
		{URL: "https://tracker.example.com"},
	} {
		_, err := rest.New(spec, nil)
		if _, ok := errors.AsType[*connector.ConfigError](err); !ok || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: got %v", spec.URL, err)
		}
	}
}
