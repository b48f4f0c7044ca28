package eventlog_test

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"syscall"
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
// of the rates and that of the processor time; the second is the steady one on a
// machine that does other work, too.
func BenchmarkReplay(b *testing.B) {
	dir := b.TempDir()
	store(b, dir)
	var receiving, following usage
	for b.Loop() {
		receiving.add(bare(b, dir))
		following.add(replay(b, dir))
	}
	b.ReportMetric(0, "ns/op") // of the two together, with the starts: no use
	b.ReportMetric(receiving.wall.Seconds()/following.wall.Seconds(), "of-bare")
	b.ReportMetric(receiving.cpu.Seconds()/following.cpu.Seconds(), "of-bare-cpu")
	b.ReportMetric(replayChanges*float64(b.N)/following.wall.Seconds(), "changes/s")
	b.ReportMetric(replayChanges*float64(b.N)/receiving.wall.Seconds(), "bare-changes/s")
}

// usage is what something took, of the clock and of all processors.
type usage struct{ wall, cpu time.Duration }

func (u *usage) add(v usage) { u.wall, u.cpu = u.wall+v.wall, u.cpu+v.cpu }

// measure begins a measurement; the function that it returns ends it.
func measure(b *testing.B) func() usage {
	b.Helper()
	cpu := func() time.Duration {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	runtime.GC() // of what came before
	wallBefore, cpuBefore := time.Now(), cpu()
	return func() usage { return usage{time.Since(wallBefore), cpu() - cpuBefore} }
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
func bare(b *testing.B, dir string) usage {
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
	end := measure(b)
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
	used := end()
	reading.Stop()
	<-reading.Closed()
	return used
}

var errCaughtUp = errors.New("caught up")

func replay(b *testing.B, dir string) usage {
	b.Helper()
	l := open(b, dir)
	defer closeLog(b, l)
	end := measure(b)
	changes := 0
	err := l.Follow(b.Context(), 0, func(d flow.Delivery) error {
		if changes += len(d.Changes); d.Pending == 0 {
			return errCaughtUp
		}
		return nil
	})
	used := end()
	if !errors.Is(err, errCaughtUp) || changes != replayChanges {
		b.Fatalf("%d changes, %v", changes, err)
	}
	return used
}
