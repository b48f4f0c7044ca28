package flow_test

import (
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// benchPolicy has ten value streams of one container each.
func benchPolicy(streams int) *flow.Policy {
	p := &flow.Policy{Windows: flow.DefaultWindows()}
	w := plainWorkflow()
	for i := range streams {
		p.ValueStreams = append(p.ValueStreams, &flow.ValueStream{
			Name: fmt.Sprintf("stream-%d", i), Workflow: w, Timezone: "UTC", Location: time.UTC,
			Include:      []flow.Include{{Source: "jira", Containers: []string{fmt.Sprintf("P%d", i)}}},
			Targets:      flow.Targets{FlowTime: 12 * day, Percentile: 85, Load: 50},
			NeglectAfter: flow.DefaultNeglectAfter,
		})
	}
	return p
}

var benchEnd = time.Date(2026, 6, 29, 0, 0, 0, 0, time.UTC)

// eachBenchChange calls f with the changes of items with ten facts each, the
// items spread evenly over two years before benchEnd. The change is reused.
func eachBenchChange(items, streams int, f func(c *flow.Change)) {
	path := []string{"Backlog", "Ready", "In Progress", "In Review", "In Progress", "Blocked", "In Progress", "In Review", "In Progress", "Done"}
	c := flow.Change{Source: "jira", Fields: make([]flow.FieldChange, 1, 2)}
	step := 2 * 365 * day / time.Duration(items)
	for i := range items {
		c.Item = strconv.Itoa(100000 + i)
		c.Container = fmt.Sprintf("P%d", i%streams)
		c.Key = fmt.Sprintf("%s-%d", c.Container, i)
		born := benchEnd.Add(-2 * 365 * day).Add(time.Duration(i) * step)
		for k, status := range path {
			c.At = born.Add(time.Duration(k) * 37 * time.Hour)
			if !c.At.Before(benchEnd) {
				break
			}
			c.Fields = c.Fields[:1]
			c.Fields[0] = flow.FieldChange{Field: flow.FieldStatus, To: flow.Value{ID: strconv.Itoa(k), Name: status}}
			if k == 0 {
				c.ID, c.Kind, c.Sequence = c.Item+":created", flow.Created, 0
				c.Fields = append(c.Fields, flow.FieldChange{Field: flow.FieldType, To: flow.Value{Name: []string{"Story", "Bug", "Risk", "Tech Debt"}[i%4]}})
			} else {
				n := int64(1000000 + 10*i + k)
				c.ID, c.Kind, c.Sequence = strconv.FormatInt(n, 10), flow.Updated, n
				c.Fields[0].From = flow.Value{ID: strconv.Itoa(k - 1), Name: path[k-1]}
			}
			f(&c)
		}
	}
}

func benchLedger(items, streams int) *flow.Ledger {
	l := flow.NewLedger()
	eachBenchChange(items, streams, func(c *flow.Change) { l.Add(c) })
	return l
}

// BenchmarkLedgerAdd takes changes into the set of facts, and tells what they
// cost in memory: the budget is 250 bytes an item and 24 a transition.
func BenchmarkLedgerAdd(b *testing.B) {
	const items = 100_000
	var changes []flow.Change
	eachBenchChange(items, 10, func(c *flow.Change) {
		copied := *c
		copied.Fields = append([]flow.FieldChange(nil), c.Fields...)
		changes = append(changes, copied)
	})
	var ledger *flow.Ledger
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	for range b.N {
		ledger = flow.NewLedger()
		for i := range changes {
			ledger.Add(&changes[i])
		}
	}
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&after)
	facts := float64(ledger.Len())
	used := float64(after.HeapAlloc) - float64(before.HeapAlloc)
	runtime.KeepAlive(changes)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/facts, "ns/fact")
	b.ReportMetric(used/facts, "B/fact")
	b.ReportMetric(used/(250*items+24*facts), "of-memory-budget")
}

// BenchmarkMeasure folds and measures everything: what an as-of question costs.
func BenchmarkMeasure(b *testing.B) {
	p, l := benchPolicy(10), benchLedger(100_000, 10)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		flow.Measure(p, l, benchEnd, flow.Options{})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(l.Len()), "ns/fact")
}

// BenchmarkBoard compares the first snapshot, one after a change, and one of
// everything without any.
func BenchmarkBoard(b *testing.B) {
	p := benchPolicy(10)
	b.Run("first", func(b *testing.B) {
		l := benchLedger(100_000, 10)
		b.ResetTimer()
		for range b.N {
			flow.NewBoard(p, l).Snapshot(benchEnd, true)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(l.Len()), "ns/fact")
	})
	l := benchLedger(100_000, 10)
	board := flow.NewBoard(p, l)
	board.Snapshot(benchEnd, true)
	b.Run("change", func(b *testing.B) {
		n := 0
		for range b.N {
			n++
			board.Add(&flow.Change{
				ID: fmt.Sprintf("late:%d:%d", b.N, n), Source: "jira", Container: "P1", Item: strconv.Itoa(100001 + 10*(n%1000)), At: benchEnd.Add(-time.Hour),
				Kind: flow.Updated,
			})
			board.Snapshot(benchEnd, false)
		}
	})
	b.Run("everything", func(b *testing.B) {
		for range b.N {
			board.Snapshot(benchEnd, true)
		}
	})
}

// BenchmarkValidate checks an ordinary change.
func BenchmarkValidate(b *testing.B) {
	var changes []flow.Change
	eachBenchChange(100, 10, func(c *flow.Change) {
		copied := *c
		copied.Fields = append([]flow.FieldChange(nil), c.Fields...)
		changes = append(changes, copied)
	})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if err := changes[i%len(changes)].ValidateAt(benchEnd); err != nil {
			b.Fatal(err)
		}
	}
}
