package eventlog_test

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/flowmetrics/flowmetrics/internal/eventlog"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const (
	replayBatches = 4000
	replayChanges = replayBatches * 50
)

// BenchmarkReplay reads one stored log twice in each round: with a bare ordered
// consumer that only receives, and with Follow, which decodes and validates. Both
// are in one process with a server that has just started. It reports the ratio
// of the rates, in which the machine cancels out.
func BenchmarkReplay(b *testing.B) {
	dir := b.TempDir()
	store(b, dir)
	var bareTime, followTime time.Duration
	for b.Loop() {
		bareTime += bare(b, dir)
		followTime += replay(b, dir)
	}
	b.ReportMetric(0, "ns/op") // of the two together, with the starts: no use
	b.ReportMetric(bareTime.Seconds()/followTime.Seconds(), "of-bare")
	b.ReportMetric(replayChanges*float64(b.N)/followTime.Seconds(), "changes/s")
	b.ReportMetric(replayChanges*float64(b.N)/bareTime.Seconds(), "bare-changes/s")
}

func open(b *testing.B, dir string) *eventlog.Log {
	b.Helper()
	l, err := eventlog.Open(b.Context(), eventlog.Config{DataDir: dir, Sync: "2m"}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	return l
}

// store fills a log with the histories of items of six changes each.
func store(b *testing.B, dir string) {
	b.Helper()
	l := open(b, dir)
	statuses := []string{"Backlog", "Ready", "In Progress", "In Review", "Done"}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for first := 0; first < replayChanges; first += 10_000 {
		changes := make([]flow.Change, 10_000)
		for i := range changes {
			n := first + i
			changes[i] = flow.Change{
				ID: fmt.Sprintf("%d:%d", n/6, n), Source: "jira-main", Container: "PAY", Item: fmt.Sprint(100_000 + n/6), Key: fmt.Sprintf("PAY-%d", n/6),
				At: start.Add(time.Duration(n) * time.Second), Kind: flow.Updated,
				Fields: []flow.FieldChange{{
					Field: flow.FieldStatus,
					From:  flow.Value{ID: fmt.Sprint(n % 5), Name: statuses[n%5], Category: "indeterminate"},
					To:    flow.Value{ID: fmt.Sprint((n + 1) % 5), Name: statuses[(n+1)%5], Category: "indeterminate"},
				}},
			}
		}
		if err := l.Publish(b.Context(), "jira-main", changes); err != nil {
			b.Fatal(err)
		}
	}
	closeLog(b, l)
}

func closeLog(b *testing.B, l *eventlog.Log) {
	b.Helper()
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
}

// bare receives every message with the client library's ordered consumer.
func bare(b *testing.B, dir string) time.Duration {
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
	start := time.Now()
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
		if received++; received == replayBatches {
			close(done)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	<-done
	passed := time.Since(start)
	reading.Stop()
	<-reading.Closed()
	return passed
}

var errCaughtUp = errors.New("caught up")

func replay(b *testing.B, dir string) time.Duration {
	b.Helper()
	l := open(b, dir)
	defer closeLog(b, l)
	start := time.Now()
	changes := 0
	err := l.Follow(b.Context(), 0, func(d flow.Delivery) error {
		if changes += len(d.Changes); d.Pending == 0 {
			return errCaughtUp
		}
		return nil
	})
	passed := time.Since(start)
	if !errors.Is(err, errCaughtUp) || changes != replayChanges {
		b.Fatalf("%d changes, %v", changes, err)
	}
	return passed
}
