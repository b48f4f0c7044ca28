package connectortest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing/iotest"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// retryAfter is the wait that the kit's limits ask for: longer than [patience],
// so that a source that waits by itself is seen.
const retryAfter = 90 * time.Second

// maxAfterRefusal is how many requests may be under way when the first is
// refused.
const maxAfterRefusal = 8

// afterRequest calls f once, after a request.
func afterRequest(at int, f func()) func(int, *http.Request, *http.Response) error {
	return func(n int, _ *http.Request, _ *http.Response) error {
		if n == at {
			f()
		}
		return nil
	}
}

// A failing says how a tracker fails from some request on.
type failing struct {
	name   string
	before func(r *http.Request) *http.Response
	after  func(resp *http.Response) error
}

// from sets the wire up so that the tracker fails from request n on, for good.
func (f failing) from(n int, w *wire) {
	if f.before != nil {
		w.before = func(request int, r *http.Request) (*http.Response, error) {
			if request < n {
				return nil, nil
			}
			return f.before(r), nil
		}
		return
	}
	w.after = func(request int, _ *http.Request, resp *http.Response) error {
		if request < n || resp.StatusCode != http.StatusOK {
			return nil
		}
		return f.after(resp)
	}
}

func refusing(status int, header http.Header) func(*http.Request) *http.Response {
	return func(r *http.Request) *http.Response {
		return answer(r, status, header.Clone(), `{"message":"refused by the test","errorMessages":["refused by the test"],"errors":{}}`)
	}
}

// under polls while the tracker fails from each of the requests of a backfill
// on, calls check with what came of it, and then sees that nothing is lost once
// the tracker has recovered.
func (k *kit) under(f failing, check func(r *reading, at, after int)) {
	k.Helper()
	k.pages()
	requests := k.wire.count()
	if requests == 0 {
		k.Fatal("the source sends no requests through Options.Wrap")
	}
	for n := 1; n <= min(requests, 6); n++ {
		s := k.source(k.few())
		f.from(n, k.wire)
		r := k.poll(s, nil)
		switch {
		case r.err != nil:
			check(r, n, k.wire.count()-n)
		case n == 1 || len(k.compare(r.changes)) > 0:
			k.fail("%s from request %d on: want an error, got a success with %d facts", f.name, n, len(r.changes))
		}
		k.wire.before, k.wire.after = nil, nil
		name, next := "the same source", s
		if n%2 == 0 {
			name, next = "a new source", k.source(k.few())
		}
		rest := k.ok(k.poll(next, r.cursor))
		if problems := k.compare(k.union(r, rest)); len(problems) > 0 {
			k.fail("%s from request %d on, and then %s went on from cursor %q:\n%s", f.name, n, name, r.cursor, strings.Join(problems, "\n"))
		}
	}
}

func (k *kit) rateLimit() {
	header := http.Header{"Retry-After": {strconv.Itoa(int(retryAfter / time.Second))}}
	for _, status := range []int{http.StatusTooManyRequests, http.StatusForbidden, http.StatusServiceUnavailable} {
		name := "an answer " + strconv.Itoa(status) + " with Retry-After: " + header.Get("Retry-After")
		k.under(failing{name: name, before: refusing(status, header)}, func(r *reading, at, after int) {
			limit, ok := errors.AsType[*connector.RateLimitError](r.err)
			if !ok {
				k.fail("%s to request %d: want a *connector.RateLimitError, got %v", name, at, r.err)
			}
			if wait := time.Until(limit.Until); wait > retryAfter+time.Second || wait < retryAfter-patience {
				k.fail("%s to request %d: want RateLimitError.Until in %s, got %s (in %s)", name, at, retryAfter, limit.Until, wait)
			}
			if after > maxAfterRefusal {
				k.fail("%s to request %d: want no more requests in this poll, got %d", name, at, after)
			}
		})
	}
}

// tightly is how many requests the tracker of a tight limit answers between two
// refusals: enough to sign in, to look up what numbers mean, to list and to read
// one item, but not for a page of them.
const tightly = 8

// tightLimit lets the tracker answer a few requests of each poll: reading takes
// more polls then, and still comes to its end.
func (k *kit) tightLimit() {
	k.start(time.UTC)
	for range 2 * tightly {
		k.move(k.create(0))
	}
	k.all(Options{})
	backfill := k.wire.count()
	s := k.source(Options{})
	var mu sync.Mutex
	left := 0
	refuse := refusing(http.StatusTooManyRequests, http.Header{"Retry-After": {"1"}})
	k.wire.before = func(_ int, r *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		if left--; left < 0 {
			return refuse(r), nil
		}
		return nil, nil
	}
	var readings []*reading
	var cursor connector.Cursor
	for range 4 * backfill {
		mu.Lock()
		left = tightly
		mu.Unlock()
		r := k.poll(s, cursor)
		readings, cursor = append(readings, r), r.cursor
		if r.err == nil {
			k.expect(k.union(readings...))
			return
		}
		if _, ok := errors.AsType[*connector.RateLimitError](r.err); !ok {
			k.fail("a limit after %d requests: want a *connector.RateLimitError, got %v", tightly, r.err)
		}
	}
	k.fail("everything takes %d requests, and %d polls with %d of them each have not read it: they told %d facts",
		backfill, len(readings), tightly, len(k.union(readings...)))
}

func (k *kit) credentials() {
	header := http.Header{"Www-Authenticate": {"Basic"}}
	refuse := failing{name: "an answer 401", before: refusing(http.StatusUnauthorized, header)}
	k.under(refuse, func(r *reading, at, after int) {
		if _, ok := errors.AsType[*connector.AuthError](r.err); !ok {
			k.fail("401 to request %d: want a *connector.AuthError, got %v", at, r.err)
		}
		if after > maxAfterRefusal {
			k.fail("401 to request %d: want no more requests in this poll, got %d", at, after)
		}
	})
	s := k.source(Options{})
	if c, ok := s.(connector.Checker); ok {
		refuse.from(1, k.wire)
		err := c.Check(k.Context())
		if _, ok := errors.AsType[*connector.AuthError](err); !ok {
			k.fail("401: want Check to return a *connector.AuthError, got %v", err)
		}
	}
}

func (k *kit) brokenAnswers() {
	const page = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Sign in</body></html>"
	html := http.Header{"Content-Type": {"text/html; charset=utf-8"}}
	for _, f := range []failing{
		{name: "a web page with status 200", before: func(r *http.Request) *http.Response { return answer(r, http.StatusOK, html.Clone(), page) }},
		{name: "a web page with status 502", before: func(r *http.Request) *http.Response {
			return answer(r, http.StatusBadGateway, html.Clone(), page)
		}},
		{name: "an answer 500", before: refusing(http.StatusInternalServerError, http.Header{})},
		{name: "an empty answer", before: func(r *http.Request) *http.Response { return answer(r, http.StatusOK, nil, "") }},
		{name: "half an answer", after: func(resp *http.Response) error {
			return rewrite(resp, func(body []byte) io.Reader { return bytes.NewReader(body[:len(body)/2]) })
		}},
		{name: "a connection that is cut", after: func(resp *http.Response) error {
			return rewrite(resp, func(body []byte) io.Reader {
				return io.MultiReader(bytes.NewReader(body[:len(body)/2]), iotest.ErrReader(io.ErrUnexpectedEOF))
			})
		}},
	} {
		k.under(f, func(r *reading, at, _ int) {
			if _, ok := errors.AsType[*connector.AuthError](r.err); ok && f.after != nil {
				k.fail("%s to request %d: want a temporary error, got %v", f.name, at, r.err)
			}
		})
	}
}
