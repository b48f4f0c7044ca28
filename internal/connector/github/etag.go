package github

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
)

const (
	maxKept    = 1 << 20  // bytes of an answer that is kept
	maxKeptAll = 16 << 20 // bytes of all of them
)

// A cache asks again for what it has seen with If-None-Match, which GitHub does
// not count against the limit when nothing has changed, and answers 200 with
// what it kept. It keeps the last pages of lists only: those are asked for again.
type cache struct {
	next http.RoundTripper

	mu    sync.Mutex
	kept  map[[sha256.Size]byte]*list.Element
	order *list.List // of *answer, the one used last in front
	size  int
}

// An answer is one that was kept. It does not change.
type answer struct {
	key    [sha256.Size]byte
	header http.Header
	body   []byte
}

func newCache(next http.RoundTripper) *cache {
	return &cache{next: next, kept: make(map[[sha256.Size]byte]*list.Element), order: list.New()}
}

func (c *cache) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/issues") && !strings.HasSuffix(r.URL.Path, "/labels") {
		return c.next.RoundTrip(r)
	}
	// What one user sees is not for another.
	key := sha256.Sum256([]byte(r.Header.Get("Authorization") + "\n" + r.Header.Get("Accept") + "\n" + r.URL.String()))
	kept := c.load(key)
	if kept != nil {
		r = r.Clone(r.Context())
		r.Header.Set("If-None-Match", kept.header.Get("ETag"))
	}
	resp, err := c.next.RoundTrip(r)
	switch {
	case err != nil:
		return nil, err
	case kept != nil && resp.StatusCode == http.StatusNotModified:
		resp.Body.Close()
		return kept.again(resp), nil
	case resp.StatusCode == http.StatusOK && resp.Header.Get("ETag") != "" && nextLink(resp.Header) == "":
		c.keep(key, resp)
	}
	return resp, nil
}

// again returns the kept answer, with what the new one says about itself, such
// as the time and the limit.
func (a *answer) again(resp *http.Response) *http.Response {
	header := a.header.Clone()
	for name, values := range resp.Header {
		header[name] = values
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: resp.Proto, ProtoMajor: resp.ProtoMajor, ProtoMinor: resp.ProtoMinor,
		Header: header, Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: resp.Request,
	}
}

func (c *cache) load(key [sha256.Size]byte) *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.kept[key]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*answer)
}

// keep reads an answer, keeps it if it is whole and small, and puts what it read
// back before the rest.
func (c *cache) keep(key [sha256.Size]byte, resp *http.Response) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKept+1))
	rest := io.Reader(resp.Body)
	if err != nil {
		rest = failing{err}
	}
	// What cannot be decoded must not come again for as long as nothing changes.
	whole := err == nil && len(body) <= maxKept && json.Valid(body)
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(body), rest), resp.Body}
	if !whole {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.kept[key]; e != nil {
		c.drop(e)
	}
	c.kept[key] = c.order.PushFront(&answer{key: key, header: resp.Header.Clone(), body: body})
	for c.size += len(body); c.size > maxKeptAll; {
		c.drop(c.order.Back())
	}
}

func (c *cache) drop(e *list.Element) {
	a := c.order.Remove(e).(*answer)
	delete(c.kept, a.key)
	c.size -= len(a.body)
}

// failing is a reader that fails, with something else than the end.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) {
	if errors.Is(f.err, io.EOF) {
		return 0, io.ErrUnexpectedEOF
	}
	return 0, f.err
}
