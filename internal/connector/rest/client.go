// Package rest asks trackers for JSON over HTTP, as the contract of connectors
// wants it: one request, one answer, a typed error where the tracker refuses.
//
// A [Client] never waits and never repeats. It follows no redirect, so that the
// secret goes to the configured host alone, and its errors repeat nothing that
// was sent or answered but the path and the status.
package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

const (
	timeout = time.Minute // of one request
	maxBody = 32 << 20    // bytes of an answer
)

// A Client asks one tracker. Embedded in a source it makes that a
// [connector.Meter]. It is safe for concurrent use.
type Client struct {
	base string
	http *http.Client
	sign func(h http.Header, secret string)
	spec connector.Spec

	mu       sync.Mutex
	requests map[string]int64
	now      time.Time
}

// New returns a client of the tracker at the URL of the spec and asks nothing.
// At each request sign puts the secret, read from the spec's Token, into the
// header. The error is a [*connector.ConfigError].
func New(spec connector.Spec, sign func(h http.Header, secret string)) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(spec.URL, "/"))
	switch {
	case err != nil || base.Host == "" || base.User != nil || base.RawQuery != "":
		return nil, &connector.ConfigError{Err: errors.New("url: want one like https://tracker.example.com, without credentials")}
	case spec.Token == nil:
		return nil, &connector.ConfigError{Err: errors.New("token_env or token_file is missing")}
	}
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{
		base: base.String(), sign: sign, spec: spec, requests: map[string]int64{},
		http: &http.Client{Transport: spec.Transport, CheckRedirect: stay, Timeout: timeout},
	}, nil
}

// URL returns the address of a path below that of the tracker, for a person.
func (c *Client) URL(path string) string { return c.base + path }

// Get asks for a path below the tracker's URL and decodes the answer.
//
// The error is a [*connector.RateLimitError] for 429 and 503, and for any other
// refusal with a Retry-After, a [*connector.AuthError] for 401 and 403, and a
// [*connector.ConfigError] for 404; anything else is temporary.
func (c *Client) Get(ctx context.Context, path string, query url.Values, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path+"?"+query.Encode(), nil)
	if err != nil {
		return fmt.Errorf("ask for %s: %w", path, err)
	}
	secret, err := c.spec.Token()
	if err != nil {
		return &connector.ConfigError{Err: fmt.Errorf("read token: %w", err)}
	}
	c.sign(request.Header, secret)
	response, err := c.http.Do(request)
	if err != nil {
		c.answered("error", "")
		return err // it names the request
	}
	defer response.Body.Close()
	c.answered(strconv.Itoa(response.StatusCode), response.Header.Get("Date"))
	if response.StatusCode != http.StatusOK {
		return refusal(response, fmt.Errorf("ask for %s: answered %d %s", path, response.StatusCode, http.StatusText(response.StatusCode)))
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, response.Body, maxBody)).Decode(into); err != nil {
		return fmt.Errorf("decode %s: %w", path, err)
	}
	return nil
}

// refusal gives an error the type that the answer has in the contract.
func refusal(response *http.Response, err error) error {
	after := response.Header.Get("Retry-After")
	until, bad := http.ParseTime(after)
	if seconds, no := strconv.Atoi(after); no == nil {
		until, bad = time.Now().Add(time.Duration(min(max(seconds, 0), 1e6))*time.Second), nil
	}
	switch code := response.StatusCode; {
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable, bad == nil:
		return &connector.RateLimitError{Until: until, Err: err}
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return &connector.AuthError{Err: err}
	case code == http.StatusNotFound:
		return &connector.ConfigError{Err: err}
	}
	return err
}

func (c *Client) answered(code, date string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[code]++
	if now, err := http.ParseTime(date); err == nil {
		c.now = now
	}
}

// Now returns when the latest answer was given, by the tracker's clock: the zero
// time where it has told none.
func (c *Client) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Requests implements [connector.Meter].
func (c *Client) Requests() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.requests)
}

// RateLimitRemaining implements [connector.Meter]: nothing is known.
func (c *Client) RateLimitRemaining() (int, bool) { return 0, false }
