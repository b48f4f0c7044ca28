package github

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/bradleyfalzon/ghinstallation/v2"
	gh "github.com/google/go-github/v60/github"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

const (
	requestTimeout = 60 * time.Second
	maxBody        = 64 << 20 // bytes of an answer
	maxMessage     = 300      // bytes of the site's own words in an error
	maxWait        = 30 * 24 * time.Hour
	// defaultWait is what GitHub asks for where a limit does not say itself.
	defaultWait = 60 * time.Second
)

// client makes single requests to one site. It never retries, and nothing that
// it sends goes to another host. Its methods may be called concurrently.
type client struct {
	base    *url.URL // ends in a slash
	graphql string   // URL
	gh      *gh.Client
	limit   int64 // bytes of an answer

	mu        sync.Mutex
	requests  map[string]int64
	remaining int
	metered   bool     // remaining was told
	secrets   []string // credentials sent lately
}

// A reply is what an answer tells besides its body.
type reply struct {
	url      *url.URL  // that answered, behind redirects
	next     string    // URL of the next page; empty: this is the last one
	last     int       // number of the last page, 0 where it is not told
	received time.Time // by the site's clock, or ours where it does not tell
	header   http.Header
}

// A decoder decodes an answer by itself; others are decoded as JSON.
type decoder interface{ decode(text []byte) error }

// An httpError is an answer other than success.
type httpError struct {
	status  int
	message string // the site's words, as far as they are known ones
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

// gone reports whether the site does not have what was asked for, or not any more.
func gone(err error) bool {
	switch statusOf(err) {
	case http.StatusNotFound, http.StatusGone, http.StatusUnavailableForLegalReasons:
		return true
	}
	return false
}

var (
	errWebPage  = errors.New("answered with a web page instead of JSON: a login page or a proxy is in the way, or the URL is not the one of the API")
	errForeign  = errors.New("leads to another host, refused")
	errNoAnswer = errors.New("no answer")
)

func newClient(base *url.URL, c Config) *client {
	cl := &client{base: base, graphql: graphqlURL(base), limit: maxBody, requests: make(map[string]int64)}
	// From the network up: count and bound every answer, answer what has not
	// changed, and sign.
	var stack http.RoundTripper = &meter{client: cl, next: cmp.Or(c.Transport, connections())}
	stack = newSigner(base, c, newCache(stack))
	cl.gh = gh.NewClient(&http.Client{Transport: stack, CheckRedirect: cl.checkRedirect})
	cl.gh.BaseURL = base
	cl.gh.UserAgent = "flowmetrics"
	return cl
}

// connections returns the default transport with a connection kept for each
// reader: where HTTP/2 is not spoken the default keeps two, and the others would
// be made anew for each request.
func connections() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport // somebody replaced it
	}
	t = t.Clone()
	t.MaxIdleConnsPerHost = 2 * readers
	return t
}

// graphqlURL returns where a site takes GraphQL, which on GitHub Enterprise
// Server is not below its REST interface.
func graphqlURL(base *url.URL) string {
	u := *base
	root := strings.TrimSuffix(u.Path, "/")
	if strings.HasSuffix(root, "/api/v3") {
		u.Path = path.Join(root, "../graphql")
	} else {
		u.Path = root + "/graphql"
	}
	return u.String()
}

// sameSite reports whether two URLs are of one host, reached in one way.
func sameSite(a, b *url.URL) bool { return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host) }

// checkRedirect follows questions within the site only: the credentials are for
// nobody else, and no other host's answer is wanted.
func (c *client) checkRedirect(r *http.Request, via []*http.Request) error {
	switch {
	case !sameSite(r.URL, c.base):
		return fmt.Errorf("redirect %w", errForeign)
	case len(via) >= 5:
		return errors.New("too many redirects")
	case via[0].Method != http.MethodGet:
		return http.ErrUseLastResponse
	}
	return nil
}

// get asks for a URL, either a path below the site's URL or one that the site
// gave itself, and decodes the answer.
func (c *client) get(ctx context.Context, url string, into any) (reply, error) {
	return c.do(ctx, http.MethodGet, url, nil, into)
}

// do sends a JSON body, if there is one, to a URL of the site and decodes the
// answer.
func (c *client) do(ctx context.Context, method, target string, body, into any) (reply, error) {
	u, err := c.base.Parse(target)
	if err != nil {
		return reply{}, fmt.Errorf("%s: link cannot be read", method)
	}
	if !sameSite(u, c.base) {
		return reply{}, fmt.Errorf("%s: link %w", method, errForeign)
	}
	r, err := c.roundTrip(ctx, method, u, body, into)
	if err != nil {
		return r, fmt.Errorf("%s %s: %w", method, c.redact(u.Path), err)
	}
	return r, nil
}

func (c *client) roundTrip(ctx context.Context, method string, u *url.URL, body, into any) (reply, error) {
	request, err := c.gh.NewRequest(method, u.String(), body)
	if err != nil {
		return reply{}, fmt.Errorf("encode request: %w", err)
	}
	// Not by the client's own timeout: go-github leaves the bodies of failures
	// open, and a timer with each.
	within, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	asked := time.Now()
	resp, err := c.gh.BareDo(within, request)
	if err != nil {
		return replyOf(resp, asked), c.judge(ctx, err)
	}
	defer resp.Body.Close()
	r := replyOf(resp, asked)
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return r, fmt.Errorf("read answer: %w", err)
	}
	if strings.Contains(resp.Header.Get("Content-Type"), "html") {
		return r, errWebPage
	}
	if d, ok := into.(decoder); ok {
		err = d.decode(text)
	} else {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return r, fmt.Errorf("decode answer of %d bytes: %w", len(text), err)
	}
	return r, nil
}

func replyOf(resp *gh.Response, asked time.Time) reply {
	if resp == nil || resp.Response == nil || resp.Request == nil {
		return reply{received: asked.UTC()}
	}
	r := reply{url: resp.Request.URL, header: resp.Header, next: nextLink(resp.Header), last: resp.LastPage, received: asked.UTC()}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		r.received = date.UTC()
	}
	return r
}

var linkNext = regexp.MustCompile(`<([^<>]*)>[^<>]*;\s*rel="?next"?\s*(?:[;,]|$)`)

// nextLink returns the URL of the next page exactly as the site wrote it.
func nextLink(h http.Header) string {
	for _, line := range h.Values("Link") {
		if m := linkNext.FindStringSubmatch(line); m != nil {
			return m[1]
		}
	}
	return ""
}

// judge turns what came instead of a usable answer into the error that it means.
func (c *client) judge(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// The library refuses requests by itself while a limit lasts that it has seen.
	if e, ok := errors.AsType[*gh.RateLimitError](err); ok {
		return limited(e.Response, e.Rate.Reset.Time)
	}
	if e, ok := errors.AsType[*gh.AbuseRateLimitError](err); ok {
		wait := defaultWait
		if e.RetryAfter != nil {
			wait = *e.RetryAfter
		}
		return limited(e.Response, time.Now().Add(wait))
	}
	if e, ok := errors.AsType[*gh.ErrorResponse](err); ok {
		return c.judgeAnswer(e.Response, e.Message)
	}
	if e, ok := errors.AsType[*gh.AcceptedError](err); ok && e != nil {
		return &httpError{status: http.StatusAccepted, message: "not ready yet"}
	}
	if e, ok := errors.AsType[*gh.TwoFactorAuthError](err); ok {
		return &connector.AuthError{Err: &httpError{status: e.Response.StatusCode, message: "asks for a second factor: use a token"}}
	}
	if e, ok := errors.AsType[*ghinstallation.HTTPError](err); ok {
		return c.judgeInstallation(e)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // the URL says nothing more
	}
	if _, ok := errors.AsType[*connector.ConfigError](err); ok || errors.Is(err, errForeign) {
		return err
	}
	return fmt.Errorf("%w: %w", errNoAnswer, err)
}

// judgeAnswer tells what an answer other than success means.
func (c *client) judgeAnswer(resp *http.Response, message string) error {
	failure := &httpError{status: resp.StatusCode, message: words(message)}
	h := resp.Header
	switch resp.StatusCode {
	case http.StatusTooManyRequests:
		return limited(resp, time.Now().Add(defaultWait))
	case http.StatusServiceUnavailable:
		if h.Get("Retry-After") != "" {
			return limited(resp, time.Now().Add(defaultWait))
		}
	case http.StatusForbidden:
		words := strings.ToLower(message)
		if h.Get("Retry-After") != "" || h.Get("X-RateLimit-Remaining") == "0" ||
			strings.Contains(words, "rate limit") || strings.Contains(words, "abuse") {
			return limited(resp, time.Now().Add(defaultWait))
		}
		return &connector.AuthError{Err: failure}
	case http.StatusUnauthorized:
		return &connector.AuthError{Err: failure}
	}
	return failure
}

// judgeInstallation tells why there is no token for the App's installation.
func (c *client) judgeInstallation(e *ghinstallation.HTTPError) error {
	if e.Response == nil {
		return e.RootCause
	}
	e.Response.Body.Close()
	err := c.judgeAnswer(e.Response, "")
	if gone(err) {
		return &connector.AuthError{Err: errors.New("the App or its installation does not exist")}
	}
	return fmt.Errorf("get token of the App's installation: %w", err)
}

// limited returns the error of a limit, with the instant that the answer asks
// for, or else another one.
func limited(resp *http.Response, otherwise time.Time) error {
	now := time.Now()
	wait := otherwise.Sub(now)
	if told, ok := waitOf(resp.Header); ok {
		wait = told
	}
	until := now.Add(min(max(wait, time.Second), maxWait))
	// The site's words name whom it limits: they are left out.
	return &connector.RateLimitError{Until: until, Err: &httpError{status: resp.StatusCode}}
}

// waitOf reads how long the site wants no request.
func waitOf(h http.Header) (time.Duration, bool) {
	if text := h.Get("Retry-After"); text != "" {
		if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
			return time.Duration(seconds) * time.Second, true
		}
		if at, err := http.ParseTime(text); err == nil {
			return time.Until(at), true
		}
	}
	if h.Get("X-RateLimit-Remaining") != "0" {
		return 0, false
	}
	reset, err := strconv.ParseInt(h.Get("X-RateLimit-Reset"), 10, 64)
	if err != nil {
		return 0, false
	}
	// Both by the site's clock where it tells: ours may be wrong.
	at := time.Unix(reset, 0)
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		return at.Sub(date), true
	}
	return time.Until(at), true
}

// redact makes the site's words fit for an error: short, on one line, and
// without credentials, should the site repeat them.
func (c *client) redact(text string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.secrets {
		text = strings.ReplaceAll(text, s, "[redacted]")
	}
	return connector.CleanText(text, maxMessage)
}

// sent notes which credentials a request carries.
func (c *client) sent(authorization string) {
	_, secret, _ := strings.Cut(authorization, " ")
	if secret == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.secrets {
		if s == secret {
			return
		}
	}
	c.secrets = append(c.secrets, secret)
	c.secrets = c.secrets[max(0, len(c.secrets)-8):]
}

func (c *client) count(code string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[code]++
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

// A meter counts what goes over the network and bounds what comes back.
type meter struct {
	client *client
	next   http.RoundTripper
}

func (m *meter) RoundTrip(r *http.Request) (*http.Response, error) {
	m.client.sent(r.Header.Get("Authorization"))
	resp, err := m.next.RoundTrip(r)
	if err != nil {
		m.client.count("error")
		return nil, err
	}
	m.client.count(strconv.Itoa(resp.StatusCode))
	m.client.meter(resp.Header)
	// go-github takes the reset of the primary limit for that of the secondary one,
	// and sends nothing until then.
	if h := resp.Header; resp.StatusCode == http.StatusForbidden && h.Get("X-RateLimit-Remaining") != "0" {
		h.Del("X-RateLimit-Reset")
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: m.client.limit}
	return resp, nil
}

// meter notes the requests left. Search and GraphQL have limits of their own.
func (c *client) meter(h http.Header) {
	if resource := h.Get("X-RateLimit-Resource"); resource != "" && resource != "core" {
		return
	}
	if n, err := strconv.Atoi(h.Get("X-RateLimit-Remaining")); err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.remaining, c.metered = n, true
	}
}

// A boundedBody fails once too much was read, and lets go of the connection:
// go-github does not close the body of an answer that it takes for an error.
type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		b.Close()
		return 0, errors.New("answer is too large")
	}
	return n, err
}
