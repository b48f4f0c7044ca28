package exporter

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func many(n int) *flow.Snapshot {
	s := snapshot()
	for i := range n {
		s.ValueStreams = append(s.ValueStreams, saturated(fmt.Sprintf("value-stream-%03d", i)))
	}
	return s
}

// discard is a ResponseWriter, so that what is measured is the handler and not
// a client.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

// fromMemory serves the same bytes without a thought.
func fromMemory(b *testing.B, e *Exporter, encoding string) http.Handler {
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept-Encoding", encoding)
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		b.Fatal(w.Body.String())
	}
	page, header := w.Body.Bytes(), w.Header()
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		for name, values := range header {
			h[name] = values
		}
		h.Set("Content-Length", strconv.Itoa(len(page)))
		_, _ = w.Write(page)
	})
}

// BenchmarkScrape compares a scrape over HTTP on loopback at 200 value streams
// with a server that has the same bytes in memory (ratio, budget 1.5), and that
// server with itself (control), in turns within one run.
func BenchmarkScrape(b *testing.B) {
	for _, encoding := range []string{"identity", "gzip"} {
		b.Run(encoding, func(b *testing.B) {
			e := New(build, service)
			e.Update(many(200))
			memory := fromMemory(b, e, encoding)
			var spent [3]time.Duration
			var targets [3]func()
			for i, h := range []http.Handler{e, memory, memory} {
				server := httptest.NewServer(h)
				defer server.Close()
				targets[i] = func() { fetch(b, server, encoding) }
				targets[i]() // connect
			}
			for round := 0; b.Loop(); round++ {
				for i := range targets {
					i = (i + round) % len(targets) // nobody always goes first
					start := time.Now()
					targets[i]()
					spent[i] += time.Since(start)
				}
			}
			b.ReportMetric(float64(spent[0])/float64(spent[1]), "ratio")
			b.ReportMetric(float64(spent[2])/float64(spent[1]), "control")
			b.ReportMetric(float64(spent[0].Nanoseconds())/float64(b.N), "ns/scrape")
		})
	}
}

func fetch(b *testing.B, server *httptest.Server, encoding string) {
	r, err := http.NewRequest(http.MethodGet, server.URL, nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", encoding) // set by hand, so that it is not unpacked
	resp, err := server.Client().Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n == 0 {
		b.Fatalf("%d bytes: %v", n, err)
	}
}

// BenchmarkHandler is the handler alone, for its allocations.
func BenchmarkHandler(b *testing.B) {
	for _, encoding := range []string{"identity", "gzip"} {
		b.Run(encoding, func(b *testing.B) {
			e := New(build, service)
			e.Update(many(200))
			r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			r.Header.Set("Accept-Encoding", encoding)
			b.ReportAllocs()
			for b.Loop() {
				e.ServeHTTP(&discard{header: http.Header{}}, r)
			}
		})
	}
}

// BenchmarkUpdate is what a snapshot costs while one Prometheus scrapes it.
func BenchmarkUpdate(b *testing.B) {
	e := New(build, service)
	s := many(200)
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept-Encoding", "gzip")
	r.Header.Set("Accept", "application/openmetrics-text;version=1.0.0")
	e.ServeHTTP(&discard{header: http.Header{}}, r)
	b.ReportAllocs()
	for b.Loop() {
		e.Update(s)
	}
}
