package exporter

import (
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// yearOf20 is what the budget of a history is for: 20 value streams of 300
// series each for a year, an instant every 4 minutes.
const yearOf20 = 20 * 300 * 131_400

// A stopwatch takes the processor time of the whole process, which other
// programs do not prolong.
type stopwatch struct{ start time.Duration }

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// report says what a sample costs since the start, and what a year of 20 value
// streams then takes, in seconds of one core.
func (w stopwatch) report(b *testing.B, samples int) {
	b.Helper()
	perSample := float64(processorTime(b)-w.start) / float64(samples)
	b.ReportMetric(perSample, "cpu-ns/sample")
	b.ReportMetric(perSample*yearOf20/1e9, "cpu-s/year-of-20")
}

// BenchmarkHistory takes the steps of a history apart: the numbers of each
// instant, samples of known numbers, both together, and each output of a part.
func BenchmarkHistory(b *testing.B) {
	policy, l := worldPolicy(20), world(1, 20, 60, 15)
	h := newHistory(b, HistoryConfig{Policy: policy, Ledger: l})
	ranges := h.Cut(worldEnd.Add(-2*BlockRange), worldEnd)
	r := ranges[len(ranges)-2] // a whole one
	var snapshots []*flow.Snapshot
	board := flow.NewBoard(policy, l)
	for at := r.From; at.Before(r.From.Add(8 * hour)); at = at.Add(step) {
		snapshots = append(snapshots, board.Snapshot(at, true))
	}
	part := evaluate(b, h, r)
	encoded := 0
	for i := range part.series {
		for _, c := range part.series[i].chunks {
			encoded += len(c.data)
		}
	}
	b.Logf("a part has %d series and %d samples, encoded in %d bytes", part.Series(), part.Samples(), encoded)

	b.Run("measure", func(b *testing.B) {
		n, watch := 0, stopwatch{processorTime(b)}
		for b.Loop() {
			board := flow.NewBoard(policy, l)
			for at := r.From; at.Before(r.To); at = at.Add(step) {
				board.Snapshot(at, true)
			}
			n += part.Samples()
		}
		watch.report(b, n)
	})
	b.Run("record", func(b *testing.B) {
		n, watch := 0, stopwatch{processorTime(b)}
		b.ReportAllocs()
		for b.Loop() {
			rec := h.recorder(r.From)
			for i := range int(BlockRange / step) {
				rec.record(snapshots[i%len(snapshots)])
			}
			rec.end()
			n += newPart(r, rec.columns, "", "").Samples()
		}
		watch.report(b, n)
	})
	b.Run("evaluate", func(b *testing.B) {
		n, watch := 0, stopwatch{processorTime(b)}
		for b.Loop() {
			n += evaluate(b, h, r).Samples()
		}
		watch.report(b, n)
	})
	b.Run("openmetrics", func(b *testing.B) {
		n, watch := 0, stopwatch{processorTime(b)}
		for b.Loop() {
			if err := part.WriteOpenMetrics(io.Discard); err != nil {
				b.Fatal(err)
			}
			n += part.Samples()
		}
		watch.report(b, n)
	})
	b.Run("block", func(b *testing.B) {
		dir := b.TempDir()
		n, watch := 0, stopwatch{processorTime(b)}
		for b.Loop() {
			if _, err := part.WriteBlock(dir); err != nil {
				b.Fatal(err)
			}
			n += part.Samples()
		}
		watch.report(b, n)
	})
	b.Run("requests", func(b *testing.B) {
		n, watch := 0, stopwatch{processorTime(b)}
		for b.Loop() {
			for _, sent := range part.WriteRequests(10_000) {
				n += sent
			}
		}
		watch.report(b, n)
	})
}

// BenchmarkHistoryYear is the whole of it: a year of 20 value streams as blocks,
// on all processors. The budget is 60 s on two.
func BenchmarkHistoryYear(b *testing.B) {
	policy, l := worldPolicy(20), world(1, 20, 60, 15)
	h := newHistory(b, HistoryConfig{Policy: policy, Ledger: l})
	for b.Loop() {
		dir := b.TempDir()
		watch := stopwatch{processorTime(b)}
		var samples atomic.Int64
		ranges := make(chan Range)
		var workers sync.WaitGroup
		for range runtime.GOMAXPROCS(0) {
			workers.Go(func() {
				for r := range ranges {
					p := evaluate(b, h, r)
					samples.Add(int64(p.Samples()))
					if _, err := p.WriteBlock(dir); err != nil {
						b.Error(err)
					}
				}
			})
		}
		for _, r := range h.Cut(worldEnd.Add(-365*day), worldEnd) {
			ranges <- r
		}
		close(ranges)
		workers.Wait()
		b.ReportMetric(float64(samples.Load())/1e6, "Msamples")
		watch.report(b, int(samples.Load()))
	}
}
