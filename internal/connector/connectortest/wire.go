package connectortest

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
)

// A wire is what lies between a source and its tracker. It counts requests from
// 1 on, and fails as it is told. Set its functions before the first request.
type wire struct {
	// before sees each request; an answer or an error that it returns stands for
	// that of the tracker.
	before func(n int, r *http.Request) (*http.Response, error)
	// after sees each of the tracker's answers and may change it. Two answers are
	// never seen at once.
	after func(n int, r *http.Request, resp *http.Response) error

	mu   sync.Mutex
	n    int
	busy sync.Mutex // held while after runs
}

func (w *wire) wrap(next http.RoundTripper) http.RoundTripper {
	if next == nil {
		next = http.DefaultTransport
	}
	return end{w, next}
}

// An end of a wire belongs to one client of the source.
type end struct {
	*wire
	next http.RoundTripper
}

// count returns how many requests there were.
func (w *wire) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.n
}

// RoundTrip implements [http.RoundTripper].
func (w end) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.n++
	n := w.n
	w.mu.Unlock()
	if w.before != nil {
		if resp, err := w.before(n, r); resp != nil || err != nil {
			if r.Body != nil {
				r.Body.Close()
			}
			return resp, err
		}
	}
	resp, err := w.next.RoundTrip(r)
	if err != nil || w.after == nil {
		return resp, err
	}
	w.busy.Lock()
	defer w.busy.Unlock()
	if err := w.after(n, r, resp); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

// answer makes an answer that the tracker did not give.
func answer(r *http.Request, status int, header http.Header, body string) *http.Response {
	if header == nil {
		header = http.Header{}
	}
	if header.Get("Content-Type") == "" {
		header.Set("Content-Type", "application/json; charset=utf-8")
	}
	return &http.Response{
		Status: strconv.Itoa(status) + " " + http.StatusText(status), StatusCode: status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
		Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// rewrite replaces the body of an answer.
func rewrite(resp *http.Response, f func([]byte) io.Reader) error {
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return err
	}
	resp.Body, resp.ContentLength = io.NopCloser(f(body)), -1
	resp.Header.Del("Content-Length")
	return nil
}
