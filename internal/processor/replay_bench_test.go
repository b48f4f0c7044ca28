package processor_test

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/flowmetrics/flowmetrics/internal/eventlog"
	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/flowmetrics/flowmetrics/internal/processor"
)

const (
	replayItems   = 100_000
	replayPerItem = 10
	replayStreams = 10
)

// BenchmarkReplay measures what a restart costs: a stored log of a million
// changes, from a server that has just started to a ready snapshot, against a
// bare ordered consumer that only receives the same messages. The two take turns
// in one run, the bare one twice: the ratio of its two times is the control.
// The budget is at least 0.5 of the bare rate.
func BenchmarkReplay(b *testing.B) {
	dir := b.TempDir()
	messages := storeHistory(b, dir)
	var first, second, replayed time.Duration
	var bytes float64
	for b.Loop() {
		first += receiveOnly(b, dir, messages)
		took, used := replayHistory(b, dir)
		replayed += took
		bytes = used
		second += receiveOnly(b, dir, messages)
	}
	changes := float64(replayItems * replayPerItem)
	b.ReportMetric(0, "ns/op") // of the three together, no use
	b.ReportMetric((first+second).Seconds()/2/replayed.Seconds(), "of-bare")
	b.ReportMetric(first.Seconds()/second.Seconds(), "A/A")
	b.ReportMetric(changes*float64(b.N)/replayed.Seconds(), "changes/s")
	b.ReportMetric(bytes/(250*replayItems+24*changes), "of-memory-budget")
}

// storeHistory fills a log and returns the number of its messages.
func storeHistory(b *testing.B, dir string) int {
	b.Helper()
	log := openLog(b, dir)
	path := []string{"Backlog", "Ready", "In Progress", "In Review", "In Progress", "Blocked", "In Progress", "In Review", "In Progress", "Done"}
	end := time.Now()
	step := 2 * 365 * 24 * time.Hour / replayItems
	var changes []flow.Change
	for i := range replayItems {
		item, container := strconv.Itoa(100_000+i), fmt.Sprintf("P%d", i/500%replayStreams)
		for k, status := range path {
			c := flow.Change{
				Source: "jira", Item: item, Container: container, Key: fmt.Sprintf("%s-%d", container, i),
				At:     end.Add(-3 * 365 * 24 * time.Hour).Add(time.Duration(i)*step + time.Duration(k)*37*time.Hour).UTC().Truncate(time.Millisecond),
				Fields: []flow.FieldChange{{Field: flow.FieldStatus, To: flow.Value{ID: strconv.Itoa(k), Name: status}}},
				ID:     item + ":created", Kind: flow.Created,
			}
			if k > 0 {
				c.Kind, c.Sequence = flow.Updated, int64(1_000_000+replayPerItem*i+k)
				c.ID = strconv.FormatInt(c.Sequence, 10)
				c.Fields[0].From = flow.Value{ID: strconv.Itoa(k - 1), Name: path[k-1]}
			}
			changes = append(changes, c)
		}
		if len(changes) >= 50_000 || i == replayItems-1 {
			if err := log.Publish(b.Context(), "jira", changes); err != nil {
				b.Fatal(err)
			}
			changes = changes[:0]
		}
	}
	last, err := log.LastPosition(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	if err := log.Close(); err != nil {
		b.Fatal(err)
	}
	return int(last)
}

func openLog(b *testing.B, dir string) *eventlog.Log {
	b.Helper()
	log, err := eventlog.Open(b.Context(), eventlog.Config{DataDir: dir, Sync: "2m"}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	return log
}

func replayPolicy() *flow.Policy {
	w := &flow.Workflow{StatusByName: map[string]flow.State{
		"Backlog": flow.New, "Ready": flow.Waiting, "In Progress": flow.Active, "In Review": flow.Waiting, "Blocked": flow.Waiting, "Done": flow.Done,
	}}
	p := &flow.Policy{Windows: flow.DefaultWindows()}
	for i := range replayStreams {
		p.ValueStreams = append(p.ValueStreams, &flow.ValueStream{
			Name: fmt.Sprintf("stream-%d", i), Workflow: w, Location: time.UTC,
			Include: []flow.Include{{Source: "jira", Containers: []string{fmt.Sprintf("P%d", i)}}}, NeglectAfter: flow.DefaultNeglectAfter,
		})
	}
	return p
}

// replayHistory runs a processor until its first snapshot, and tells what it
// keeps in memory.
func replayHistory(b *testing.B, dir string) (took time.Duration, used float64) {
	b.Helper()
	log := openLog(b, dir)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	ctx, stop := context.WithCancel(b.Context())
	ready := make(chan struct{}, 1)
	p := processor.New(processor.Config{
		Policy: replayPolicy(), Log: log, Logger: slog.New(slog.DiscardHandler),
		OnSnapshot: func(*flow.Snapshot) {
			select {
			case ready <- struct{}{}:
			default:
			}
		},
	})
	done := make(chan error, 1)
	started := time.Now()
	go func() { done <- p.Run(ctx) }()
	<-ready
	took = time.Since(started)
	stop()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	if got := p.Status().Changes; got != replayItems*replayPerItem {
		b.Fatalf("replayed %d changes, want %d", got, replayItems*replayPerItem)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(p)
	if err := log.Close(); err != nil {
		b.Fatal(err)
	}
	return took, float64(after.HeapAlloc) - float64(before.HeapAlloc)
}

// receiveOnly receives every message with the client library's ordered consumer.
func receiveOnly(b *testing.B, dir string, messages int) time.Duration {
	b.Helper()
	s, err := server.NewServer(&server.Options{DontListen: true, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true})
	if err != nil {
		b.Fatal(err)
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	nc, err := nats.Connect("", nats.InProcessServer(s))
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	runtime.GC()
	started := time.Now()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(b.Context(), "FLOW_CHANGES", jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverAllPolicy})
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan struct{})
	received := 0
	reading, err := consumer.Consume(func(jetstream.Msg) {
		if received++; received == messages {
			close(done)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	<-done
	took := time.Since(started)
	reading.Stop()
	<-reading.Closed()
	return took
}
