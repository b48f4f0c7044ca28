package processor_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/flowmetrics/flowmetrics/internal/processor"
)

// BenchmarkVisible publishes a thousand changes a second for a few seconds into a
// log of a million, and tells how long after it was published a change is in a
// snapshot, which is what /metrics serves. The budget is a p99 under a second.
func BenchmarkVisible(b *testing.B) {
	dir := b.TempDir()
	storeHistory(b, dir)
	for b.Loop() {
		waits := publishSteadily(b, dir, 5*time.Second)
		slices.Sort(waits)
		b.ReportMetric(flow.Percentile(waits, 0.50).Seconds(), "p50-s")
		b.ReportMetric(flow.Percentile(waits, 0.99).Seconds(), "p99-s")
		b.ReportMetric(float64(len(waits)), "changes")
	}
	b.ReportMetric(0, "ns/op")
}

func publishSteadily(b *testing.B, dir string, length time.Duration) []time.Duration {
	b.Helper()
	log := openLog(b, dir)
	ctx, stop := context.WithCancel(b.Context())
	var mu sync.Mutex
	var published []time.Time // of the changes that are not in a snapshot so far
	var waits []time.Duration
	ready := make(chan struct{})
	once := sync.OnceFunc(func() { close(ready) })
	base := 0
	var p *processor.Processor
	seen := func() { // changes are taken in the order in which they were published
		mu.Lock()
		defer mu.Unlock()
		for status := p.Status(); base+len(waits) < int(status.Changes) && len(waits) < len(published); {
			waits = append(waits, time.Since(published[len(waits)]))
		}
	}
	p = processor.New(processor.Config{
		Policy: replayPolicy(), Log: log, Logger: slog.New(slog.DiscardHandler),
		OnSnapshot: func(*flow.Snapshot) { once(); seen() },
	})
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	<-ready
	base = int(p.Status().Changes)
	const each = 10
	tick := time.NewTicker(each * time.Millisecond)
	defer tick.Stop()
	for n, end := 0, time.Now().Add(length); time.Now().Before(end); n++ {
		<-tick.C
		changes := make([]flow.Change, each)
		for i := range changes {
			changes[i] = flow.Change{
				ID: fmt.Sprintf("late:%d:%d:%d", end.UnixNano(), n, i), Source: "jira", Item: fmt.Sprint(100_000 + (n*each+i)*37%replayItems),
				Container: "P1", At: time.Now().UTC(), Kind: flow.Updated,
				Fields: []flow.FieldChange{{Field: flow.FieldStatus, To: flow.Value{ID: "2", Name: "In Progress"}}},
			}
		}
		now := time.Now()
		mu.Lock()
		for range changes {
			published = append(published, now)
		}
		mu.Unlock()
		if err := log.Publish(b.Context(), "jira", changes); err != nil {
			b.Fatal(err)
		}
	}
	for { // the last ones
		mu.Lock()
		all := len(waits) == len(published)
		mu.Unlock()
		if all {
			break
		}
		<-tick.C
	}
	stop()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	if err := log.Close(); err != nil {
		b.Fatal(err)
	}
	return waits
}
