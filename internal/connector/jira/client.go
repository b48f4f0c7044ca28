package jira

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	requestTimeout = 60 * time.Second
	maxBody        = 64 << 20 // bytes of an answer
	maxMessage     = 300      // bytes of the site's own words in an error
	maxWait        = 30 * 24 * time.Hour
)

// client makes single requests to one site. It never retries and never sends
// the credentials anywhere else. Its methods may be called concurrently.
type client struct {
	base  *url.URL
	email string
	token func() (string, error)
	http  *http.Client
	limit int64 // bytes of an answer

	mu        sync.Mutex
	requests  map[string]int64
	remaining int
	metered   bool // remaining was told
}

// An httpError is an answer other than success.
type httpError struct {
	status  int
	message string // the site's words, shortened and without secrets
}

func (e *httpError) Error() string {
	text := strconv.Itoa(e.status) + " " + http.StatusText(e.status)
	if e.message != "" {
		text += ": " + e.message
	}
	return text
}

// statusOf returns the status of an error that is an answer, or 0.
func statusOf(err error) int {
	if e, ok := errors.AsType[*httpError](err); ok {
		return e.status
	}
	return 0
}

// missing reports whether the site does not have what was asked for.
func missing(err error) bool {
	switch statusOf(err) {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone, http.StatusNotImplemented:
		return true
	}
	return false
}

// unavailable is missing, or closed to this user; not closed for a while.
func unavailable(err error) bool {
	_, limited := errors.AsType[*connector.RateLimitError](err)
	return missing(err) || statusOf(err) == http.StatusForbidden && !limited
}

// forgotten reports whether an error may mean that the site does not know a
// page token any more.
func forgotten(err error) bool { return missing(err) || statusOf(err) == http.StatusBadRequest }

var (
	errWebPage  = errors.New("answered with a web page instead of JSON: a login page or a proxy is in the way, or the URL is not the one of a Jira site")
	errRedirect = errors.New("redirect to another host refused")
)

func newClient(base *url.URL, c Config) *client {
	cl := &client{base: base, email: c.Email, token: c.Token, limit: maxBody, requests: make(map[string]int64)}
	cl.http = &http.Client{Transport: c.Transport, Timeout: requestTimeout, CheckRedirect: cl.checkRedirect}
	return cl
}

// checkRedirect follows within the site only: the credentials are for nobody
// else, and no other host's answer is wanted.
func (c *client) checkRedirect(r *http.Request, via []*http.Request) error {
	if r.URL.Scheme != c.base.Scheme || r.URL.Host != c.base.Host {
		return errRedirect
	}
	if len(via) >= 5 {
		return errors.New("too many redirects")
	}
	return nil
}

// get asks for a path below the site's URL and decodes the answer.
func (c *client) get(ctx context.Context, path string, query url.Values, into any) error {
	return c.do(ctx, http.MethodGet, path, query, nil, into)
}

// post sends a JSON body to a path below the site's URL and decodes the answer.
func (c *client) post(ctx context.Context, path string, body, into any) error {
	return c.do(ctx, http.MethodPost, path, nil, body, into)
}

func (c *client) do(ctx context.Context, method, path string, query url.Values, body, into any) error {
	if err := c.roundTrip(ctx, method, path, query, body, into); err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

func (c *client) roundTrip(ctx context.Context, method, path string, query url.Values, body, into any) error {
	target := c.base.String() + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
		payload = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, target, payload)
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "flowmetrics")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	secret, err := c.authorize(r)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		c.count("error")
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the URL with its long query says nothing more
		}
		return err
	}
	defer resp.Body.Close()
	c.count(strconv.Itoa(resp.StatusCode))
	c.meter(resp.Header)
	text, err := io.ReadAll(io.LimitReader(resp.Body, c.limit+1))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if err := c.judge(resp, text, secret); err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("decode answer of %d bytes: %w", len(text), err)
	}
	return nil
}

// authorize adds the credentials and returns the secret part of them.
func (c *client) authorize(r *http.Request) (secret string, err error) {
	if c.token == nil {
		return "", nil
	}
	token, err := c.token()
	if err != nil {
		return "", &connector.ConfigError{Err: fmt.Errorf("read token: %w", err)}
	}
	if c.email != "" {
		r.SetBasicAuth(c.email, token)
	} else {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return token, nil
}

// judge turns an answer that cannot be used into the error that it means.
func (c *client) judge(resp *http.Response, text []byte, secret string) error {
	page := strings.Contains(resp.Header.Get("Content-Type"), "html") || bytes.HasPrefix(bytes.TrimSpace(text), []byte("<"))
	failure := &httpError{status: resp.StatusCode}
	if resp.StatusCode > 299 && !page {
		failure.message = c.redact(messageOf(text), secret)
	}
	limited := resp.Header.Get("Retry-After") != "" || resp.Header.Get("X-RateLimit-Remaining") == "0" || resp.Header.Get("RateLimit-Reason") != ""
	switch status := resp.StatusCode; {
	case status == http.StatusTooManyRequests,
		status == http.StatusForbidden && limited,
		status == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != "":
		return &connector.RateLimitError{Until: waitUntil(resp.Header, time.Now()), Err: failure}
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return &connector.AuthError{Err: failure}
	case strings.Contains(resp.Header.Get("X-Seraph-LoginReason"), "AUTHENTICATED_FAILED"),
		strings.Contains(resp.Header.Get("X-Seraph-LoginReason"), "AUTHENTICATION_DENIED"):
		// Jira goes on as nobody and shows what is public: maybe nothing.
		return &connector.AuthError{Err: errors.New("the login failed, and the answer is the one for anonymous users")}
	case status < 200 || status > 299:
		return failure
	case page:
		return errWebPage
	case int64(len(text)) > c.limit:
		return fmt.Errorf("answer is over %d bytes", c.limit)
	}
	return nil
}

// waitUntil reads when the site wants the next request; zero: it did not say.
func waitUntil(h http.Header, now time.Time) time.Time {
	after := func(text string) (time.Time, bool) {
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || !(seconds >= 0) {
			return time.Time{}, false
		}
		// A site that says 0 sets the pace itself: it gets the shortest pause, and
		// not the growing ones of a site whose clock is wrong.
		return now.Add(time.Duration(min(max(seconds, 1), maxWait.Seconds()) * float64(time.Second))), true
	}
	if text := h.Get("Retry-After"); text != "" {
		if at, ok := after(text); ok {
			return at
		}
		if at, err := http.ParseTime(text); err == nil {
			return at
		}
	}
	// A moment: ISO 8601 on Cloud, elsewhere seconds of the epoch.
	if reset := parseTime(h.Get("X-RateLimit-Reset")); !reset.IsZero() {
		return reset
	}
	if at, ok := after(h.Get("X-RateLimit-Interval-Seconds")); ok {
		return at
	}
	return time.Time{}
}

// messageOf returns the site's own words in an answer, if any.
func messageOf(text []byte) string {
	var answer struct {
		Messages []string          `json:"errorMessages"`
		Errors   map[string]string `json:"errors"`
		Message  string            `json:"message"`
	}
	// A body of another shape has no message; nothing depends on it.
	_ = json.Unmarshal(text, &answer)
	parts := answer.Messages
	for _, field := range sortedKeys(answer.Errors) {
		parts = append(parts, field+": "+answer.Errors[field])
	}
	return cmp.Or(strings.Join(parts, " "), answer.Message)
}

// redact makes the site's words fit for an error: short, on one line, and
// without credentials, should the site repeat them.
func (c *client) redact(text, secret string) string {
	basic := ""
	if secret != "" {
		basic = base64.StdEncoding.EncodeToString([]byte(c.email + ":" + secret))
	}
	for _, s := range [...]string{basic, secret, c.email} {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[redacted]")
		}
	}
	return cleanText(text, maxMessage)
}

func (c *client) count(code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[code]++
}

func (c *client) meter(h http.Header) {
	if n, err := strconv.Atoi(h.Get("X-RateLimit-Remaining")); err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.remaining, c.metered = n, true
	}
}

func (c *client) counts() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.requests)
}

func (c *client) left() (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.remaining, c.metered
}
