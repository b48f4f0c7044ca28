package deploy

import (
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// BenchmarkHistory takes two value streams at the default step to Prometheus in
// each way, by the real programs: nanoseconds and bytes a sample, reading the log
// included.
func BenchmarkHistory(b *testing.B) {
	p := makePast(b, longPast)
	p.from = p.to.Add(-8 * 24 * time.Hour)
	write := func(b *testing.B, more ...string) {
		flowmetrics(b, append([]string{"history", "--config", p.config, "--changes", p.changes,
			"--from", p.from.Format(time.RFC3339), "--to", p.to.Format(time.RFC3339)}, more...)...)
	}
	report := func(b *testing.B, journal string, bytes int64) {
		n := float64(samplesIn(b, journal))
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(n, "samples")
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/sample")
		if bytes > 0 {
			b.ReportMetric(float64(bytes)/n, "B/sample")
		}
	}
	program(b)
	out := b.TempDir()
	b.Run("blocks", func(b *testing.B) {
		var dir string
		for b.Loop() {
			dir = b.TempDir()
			write(b, "--format", "blocks", "--out", dir)
		}
		report(b, filepath.Join(dir, "flowmetrics-history.json"), sizeOf(b, dir, ""))
	})
	b.Run("openmetrics", func(b *testing.B) {
		var dir string
		for i := 0; b.Loop(); i++ {
			dir = filepath.Join(out, fmt.Sprint(i))
			write(b, "--out", dir)
		}
		report(b, filepath.Join(dir, "flowmetrics-history.json"), sizeOf(b, dir, ".om"))
	})
	b.Run("promtool", func(b *testing.B) {
		var dir string
		for b.Loop() {
			dir = b.TempDir()
			files, err := filepath.Glob(filepath.Join(out, "0", "*.om"))
			if err != nil {
				b.Fatal(err)
			}
			for _, file := range files {
				promtool(b, "tsdb", "create-blocks-from", "--max-block-duration=486h", "openmetrics", "-q", file, dir)
			}
		}
		report(b, filepath.Join(out, "0", "flowmetrics-history.json"), sizeOf(b, dir, ""))
	})
	b.Run("remote write", func(b *testing.B) {
		var state string
		var bytes int64
		for b.Loop() {
			server := startPrometheus(b, "", "storage: {tsdb: {out_of_order_time_window: 60d}}\n", "--web.enable-remote-write-receiver")
			to, err := url.Parse(server.URL)
			if err != nil {
				b.Fatal(err)
			}
			proxy := httputil.NewSingleHostReverseProxy(to)
			bytes = 0
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				bytes += r.ContentLength // one request after the other
				proxy.ServeHTTP(w, r)
			}))
			state = filepath.Join(b.TempDir(), "state.json")
			write(b, "--remote-write", front.URL+"/api/v1/write", "--state", state)
			front.Close()
			server.stop(b)
		}
		report(b, state, bytes)
	})
}

// sizeOf returns how many bytes the files below a folder have whose names end so.
func sizeOf(b *testing.B, dir, end string) (n int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, end) {
			return err
		}
		info, err := e.Info()
		n += info.Size()
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}
