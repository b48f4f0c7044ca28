package connector

import (
	"bytes"
	"context"
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
)

// RequestTimeout bounds one request of a [Client], with its answer.
const RequestTimeout = time.Minute

const maxBody = 64 << 20 // bytes of an answer

// A Client asks one tracker for JSON over HTTP and says what came of it in the
// terms of the contract. It never waits and never repeats. The secret goes to
// the tracker's host alone and into no error.
//
// Embedded in a source it makes that a [Meter]. It is safe for concurrent use.
type Client struct {
	config ClientConfig
	base   *url.URL
	http   *http.Client
	limit  int64 // bytes of an answer

	mu        sync.Mutex
	requests  map[string]int64
	now       time.Time
	remaining int
	metered   bool // remaining was told
}

// A ClientConfig says which tracker to ask, and how. Only URL is needed.
type ClientConfig struct {
	URL       string                 // http or https, with the path that all requests share
	Token     func() (string, error) // the secret, asked for at each request; nil: anonymous
	Transport http.RoundTripper      // nil: http.DefaultTransport
	// Sign puts the secret into the headers of a request; nil: as a bearer token.
	Sign func(h http.Header, token string)
	// Words finds the tracker's own words in the answer to a refused request; they
	// are shortened, and the secret is taken out. They are left out where the tracker
	// refuses the credentials, limits or breaks. nil: errors are without.
	Words func(body []byte) string
	// Judge has the last word on what an answer means: it gets the error that the
	// client takes it for, or nil, and returns the right one. nil: it is right.
	Judge func(resp *http.Response, err error) error
}

// NewClient returns a client. It sends nothing. The error is a [*ConfigError] and
// does not repeat the URL: people put passwords there.
func NewClient(c ClientConfig) (*Client, error) {
	base, err := url.Parse(strings.TrimRight(c.URL, "/"))
	switch {
	case err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http":
		err = errors.New("url: want one like https://tracker.example.com")
	case base.User != nil:
		err = errors.New("url: must not hold credentials, name them by token_env or token_file")
	case base.RawQuery != "" || base.Fragment != "":
		err = errors.New("url: want the address of the tracker only, without ? or #")
	}
	if err != nil {
		return nil, &ConfigError{Err: err}
	}
	if c.Sign == nil {
		c.Sign = func(h http.Header, token string) { h.Set("Authorization", "Bearer "+token) }
	}
	client := &Client{config: c, base: base, limit: maxBody, requests: make(map[string]int64)}
	client.http = &http.Client{Transport: c.Transport, Timeout: RequestTimeout, CheckRedirect: client.checkRedirect}
	return client, nil
}

var errRedirect = errors.New("redirect to another host refused")

// checkRedirect follows within the site only: the secret is for nobody else, and
// no other host's answer is wanted.
func (c *Client) checkRedirect(r *http.Request, via []*http.Request) error {
	if r.URL.Scheme != c.base.Scheme || r.URL.Host != c.base.Host {
		return errRedirect
	}
	if len(via) >= 5 {
		return errors.New("too many redirects")
	}
	return nil
}

// URL returns the address of a path below the tracker's URL, as for
// [flow.Change.URL].
func (c *Client) URL(path string) string { return c.base.String() + path }

// Get asks for a path below the tracker's URL and decodes the answer.
//
// The error is a [*RateLimitError] for 429, and for 403 and 5xx with Retry-After;
// an [*AuthError] for 401 and 403; a [*ConfigError] for 404 and for a secret that
// cannot be read. All others are temporary. [StatusOf] tells the status.
func (c *Client) Get(ctx context.Context, path string, query url.Values, into any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.do(ctx, http.MethodGet, path, nil, into)
}

// Post sends a JSON body to a path below the tracker's URL and decodes the
// answer. Otherwise it is like [Client.Get].
func (c *Client) Post(ctx context.Context, path string, body, into any) error {
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	return c.do(ctx, http.MethodPost, path, text, into)
}

func (c *Client) do(ctx context.Context, method, target string, body []byte, into any) error {
	if err := c.roundTrip(ctx, method, target, body, into); err != nil {
		path, _, _ := strings.Cut(target, "?")
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return nil
}

func (c *Client) roundTrip(ctx context.Context, method, target string, body []byte, into any) error {
	r, err := http.NewRequestWithContext(ctx, method, c.URL(target), bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "flowmetrics")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	secrets, err := c.sign(r)
	if err != nil {
		return &ConfigError{Err: fmt.Errorf("read token: %w", err)}
	}
	resp, err := c.http.Do(r)
	if err != nil {
		c.note("error", nil)
		if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // the URL with its long query says nothing more
		}
		return err
	}
	defer resp.Body.Close()
	c.note(strconv.Itoa(resp.StatusCode), resp.Header)
	text, err := io.ReadAll(io.LimitReader(resp.Body, c.limit+1))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	err = c.judge(resp, text, secrets)
	if c.config.Judge != nil {
		err = c.config.Judge(resp, err)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("decode answer of %d bytes: %w", len(text), err)
	}
	return nil
}

// sign adds the secret and returns the forms in which the request has it.
func (c *Client) sign(r *http.Request) (secrets []string, err error) {
	if c.config.Token == nil {
		return nil, nil
	}
	token, err := c.config.Token()
	if err != nil {
		return nil, err
	}
	signed := http.Header{}
	c.config.Sign(signed, token)
	maps.Copy(r.Header, signed)
	for _, values := range signed {
		for _, v := range values {
			secrets = append(secrets, v[strings.LastIndexByte(v, ' ')+1:])
		}
	}
	return append(secrets, token), nil
}

// note counts an answer and notes what it says of the tracker.
func (c *Client) note(status string, h http.Header) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[status]++
	if now, err := http.ParseTime(h.Get("Date")); err == nil {
		c.now = now
	}
	if n, err := strconv.Atoi(h.Get("X-RateLimit-Remaining")); err == nil {
		c.remaining, c.metered = n, true
	}
}

// Now returns when the newest answer was given, by the tracker's clock; zero: it
// has not said. What was updated a second or two before it, at its precision,
// may yet be joined by more of the same time.
func (c *Client) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Requests implements [Meter].
func (c *Client) Requests() map[string]int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.requests)
}

// RateLimitRemaining implements [Meter].
func (c *Client) RateLimitRemaining() (requests int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.remaining, c.metered
}
