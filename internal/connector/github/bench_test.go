package github

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

const benchIssues = 10_000

// BenchmarkBackfill measures the first scan of a repository with 10,000 issues
// against a bare loop that fetches the same pages with as many requests at once
// and throws them away. The two take turns in one run, the bare one twice: the
// ratio of its two times is the control. The budget is 1.2 times the bare loop.
// The server is the simulated one with all of its work, so that what the scan
// adds to it is not drowned by a network either.
func BenchmarkBackfill(b *testing.B) {
	w := newBench(b, FakeOptions{NoGraphQL: true, Noise: true})
	w.world("acme/api", benchIssues)
	server := httptest.NewServer(w.fake)
	defer server.Close()
	w.config.URL, w.config.Transport = server.URL, server.Client().Transport
	server.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = readers
	var first, second, scan time.Duration
	changes := 0
	for b.Loop() {
		first += fetchOnly(b, server)
		start := time.Now()
		changes = 0
		if err := w.source().Poll(b.Context(), nil, func(batch connector.Batch) error {
			changes += len(batch.Changes)
			return nil
		}); err != nil {
			b.Fatal(err)
		}
		scan += time.Since(start)
		second += fetchOnly(b, server)
	}
	b.ReportMetric(0, "ns/op") // of the three together, no use
	b.ReportMetric(scan.Seconds()/((first+second).Seconds()/2), "of-bare")
	b.ReportMetric(first.Seconds()/second.Seconds(), "A/A")
	b.ReportMetric(float64(changes*b.N)/scan.Seconds(), "changes/s")
}

// fetchOnly fetches the pages that a scan fetches.
func fetchOnly(b *testing.B, server *httptest.Server) time.Duration {
	b.Helper()
	start := time.Now()
	fetch := func(target string) []byte {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, target, nil)
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+testToken)
		resp, err := server.Client().Do(r)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			b.Fatalf("status %d, %v", resp.StatusCode, err)
		}
		return text
	}
	seen := make(map[int]bool)
	base := server.URL + "/repos/acme/api/"
	for since := ""; ; {
		var entries []struct {
			Number  int       `json:"number"`
			Updated string    `json:"updated_at"`
			Pull    *struct{} `json:"pull_request"`
		}
		text := fetch(base + "issues?direction=asc&per_page=100&sort=updated&state=all" + since)
		if err := json.Unmarshal(text, &entries); err != nil {
			b.Fatal(err)
		}
		numbers := make(chan int, len(entries))
		for _, e := range entries {
			if !seen[e.Number] && e.Pull == nil {
				numbers <- e.Number
			}
			seen[e.Number] = true
		}
		close(numbers)
		var group sync.WaitGroup
		for range readers {
			group.Go(func() {
				for n := range numbers {
					fetch(fmt.Sprintf("%sissues/%d/timeline?per_page=100", base, n))
				}
			})
		}
		group.Wait()
		if len(entries) < 100 {
			return time.Since(start)
		}
		since = "&since=" + strings.ReplaceAll(entries[len(entries)-1].Updated, ":", "%3A")
	}
}
