package flow_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// TestBoardGoesForward checks that a board over a ledger that holds the whole
// history from the start, and more that is added on the way, says at each of many
// instants what measuring everything anew says: reopenings, moves, deletions,
// links, conflicts and renamed statuses take effect one after the other.
func TestBoardGoesForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy, by := drawPolicy(t), pick(t, "stretched by", 1, 1, 5, 25)
		for _, v := range policy.ValueStreams {
			v.Targets.Load, v.Targets.Percentile = pick(t, "load", 0, 1, 1, 2), 85
		}
		log := slices.Clone(drawLog(t))
		for i := range log {
			log[i].At = stretch(log[i].At, by)
		}
		late := log[len(log)-rapid.IntRange(0, min(len(log), 6)).Draw(t, "late"):]
		ledger, plain := flow.NewLedger(), flow.NewLedger()
		for i := range log[:len(log)-len(late)] {
			ledger.Add(&log[i])
			plain.Add(&log[i])
		}
		board := flow.NewBoard(policy, ledger)
		at := stretch(drawInstant(t, "first"), by)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if len(late) > 0 && chance(t, 4, "add") {
				board.Add(&late[0])
				plain.Add(&late[0])
				late = late[1:]
			}
			compareBoard(t, policy, plain, board.Snapshot(at, !chance(t, 4, "partial")))
			at = at.Add(pick(t, "step", 0, 1, tick/3, tick/3, tick/2, tick/2, tick, time.Duration(by)*tick, 30*day))
		}
	})
}

// aYear is a history of sixty weeks in which nearly everything happens, after its
// policy. The changes are in the order of their items, not of time.
func aYear(seed uint64, items int) (*flow.Policy, []flow.Change, time.Time) {
	r := rand.New(rand.NewPCG(seed, 1))
	begin := time.Date(2025, 1, 6, 0, 0, 0, 0, time.UTC)
	const length = 60 * 7 * 24 * time.Hour
	p := benchPolicy(3)
	for i, v := range p.ValueStreams {
		v.NeglectAfter = 3 * day
		v.Targets = flow.Targets{FlowTime: []time.Duration{0, 6, 9}[i] * day, Percentile: 85, Load: []int{0, 0, 12}[i], Distribution: map[flow.ItemType]float64{flow.Feature: 0.6, flow.Defect: 0.4}}
	}
	zone, err := time.LoadLocation("America/New_York")
	if err != nil {
		panic(err)
	}
	p.ValueStreams[1].Location, p.ValueStreams[1].Timezone = zone, zone.String()
	other := plainWorkflow()
	other.ReopenGrace = 5 * time.Hour
	p.ValueStreams[2].Workflow = other
	statuses := []string{"Backlog", "Ready", "In Progress", "In Review", "In Progress", "Blocked", "In Progress", "Done"}
	types := []string{"Story", "Bug", "Story", "Tech Debt"}
	var log []flow.Change
	for i := range items {
		at := begin.Add(time.Duration(r.Int64N(int64(length))))
		c := flow.Change{Source: "jira", Item: fmt.Sprint(i + 1), Container: fmt.Sprintf("P%d", r.IntN(3)), Kind: flow.Created}
		id := 0
		add := func(fields ...flow.FieldChange) {
			c.ID, c.At, c.Fields = fmt.Sprintf("%d:%d", i, id), at, fields
			log = append(log, c)
			if r.IntN(30) == 0 {
				log = append(log, c) // again
			}
			if r.IntN(200) == 0 { // and once otherwise, earlier or later
				c.At = at.Add(time.Duration(r.IntN(9)-6) * day)
				log = append(log, c)
			}
			c.Kind = flow.Updated
			id++
			at = at.Add(time.Duration(r.ExpFloat64() * float64(26*time.Hour)))
		}
		status := func(k int) flow.FieldChange {
			name := statuses[k]
			if name == "In Review" && at.After(begin.Add(length/2)) {
				name = "Review" // renamed
			}
			v := flow.Value{Name: name}
			if k == 3 {
				v.ID = "3"
			}
			return flow.FieldChange{Field: flow.FieldStatus, To: v}
		}
		add(status(0), flow.FieldChange{Field: flow.FieldType, To: flow.Value{Name: types[r.IntN(4)]}})
		for k := 1; k < len(statuses); k++ {
			switch r.IntN(40) {
			case 0: // a move
				c.Container = fmt.Sprintf("P%d", r.IntN(3))
			case 1:
				add(flow.FieldChange{Field: flow.FieldType, To: flow.Value{Name: types[r.IntN(4)]}})
			case 2: // back
				k = r.IntN(k)
			case 3:
				add(flow.FieldChange{Field: flow.FieldAlias, To: flow.Value{ID: fmt.Sprintf("jira/%d", 1+r.IntN(items))}})
			case 4:
				add(flow.FieldChange{Field: flow.FieldStatus, To: flow.Value{Name: "Won't Do"}})
			case 5:
				c.Kind = flow.Deleted
				add()
			}
			if r.IntN(12) == 0 {
				break
			}
			add(status(k))
			if k == len(statuses)-1 && r.IntN(4) == 0 { // reopened, some time later
				at = at.Add(time.Duration(r.IntN(40)) * day)
				k = 3
			}
		}
	}
	return p, log, begin
}

func ledgerOf(log []flow.Change) *flow.Ledger {
	l := flow.NewLedger()
	for i := range log {
		l.Add(&log[i])
	}
	return l
}

// TestBoardOverAYear checks a board in a longer history, with weeks, quarters and
// changes of the clocks. Some of the facts come late.
func TestBoardOverAYear(t *testing.T) {
	for _, seed := range []uint64{1, 2} {
		p, log, at := aYear(seed, 250)
		r := rand.New(rand.NewPCG(seed, 2))
		var known, late []flow.Change
		for _, c := range log {
			if r.IntN(20) == 0 {
				late = append(late, c)
			} else {
				known = append(known, c)
			}
		}
		r.Shuffle(len(late), func(i, k int) { late[i], late[k] = late[k], late[i] })
		board, l := flow.NewBoard(p, ledgerOf(known)), ledgerOf(known)
		end := at.Add(75 * 7 * day)
		for checked := 0; at.Before(end); {
			if len(late) > 0 && r.IntN(15) == 0 {
				board.Add(&late[0])
				l.Add(&late[0])
				late = late[1:]
			}
			s := board.Snapshot(at, checked%3 > 0)
			if checked%8 == 0 {
				compareBoard(t, p, l, s)
			}
			checked++
			at = at.Add(time.Duration(r.ExpFloat64() * float64(7*time.Hour)))
			if r.IntN(50) == 0 { // to the second of a midnight
				at = at.Truncate(day).Add(day)
			}
		}
	}
}

// TestBoardLearnsOfOldWork checks that the weeks of the signals take in work that
// was over before any of them: then they are no longer those of a young value
// stream.
func TestBoardLearnsOfOldWork(t *testing.T) {
	p := benchPolicy(1)
	var log []flow.Change
	eachBenchChange(200, 1, func(c *flow.Change) {
		copied := *c
		copied.Fields = slices.Clone(c.Fields)
		log = append(log, copied)
	})
	young := slices.IndexFunc(log, func(c flow.Change) bool { return c.At.After(benchEnd.Add(-30*day)) && c.Kind == flow.Created })
	board, l := flow.NewBoard(p, ledgerOf(log[young:])), ledgerOf(log[young:])
	compareBoard(t, p, l, board.Snapshot(benchEnd, true))
	for i := range log[:10] {
		board.Add(&log[i])
		l.Add(&log[i])
	}
	s := board.Snapshot(benchEnd.Add(time.Minute), false)
	compareBoard(t, p, l, s)
	if !s.ValueStreams[0].Signals.LoadBaseline.Defined {
		t.Error("the value stream is as old as the work that was told of, and yet has no baseline of its load")
	}
}

// TestBoardThroughConflicts checks a board where several changes contradict others
// that are dated later, so that for a while they are the facts.
func TestBoardThroughConflicts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy, log := drawPolicy(t), drawFacts(t)
		if len(log) == 0 {
			return
		}
		for range rapid.IntRange(1, 8).Draw(t, "contradictions") {
			c := pick(t, "contradicted", log...)
			c.At, c.Fields = drawInstant(t, "other at"), drawFields(t, []string{"a/8", "b/9"})
			log = append(log, c)
		}
		log = rapid.Permutation(log).Draw(t, "order")
		board, l := flow.NewBoard(policy, ledgerOf(log)), ledgerOf(log)
		for at := grid(-1); !at.After(grid(ticks + 1)); at = at.Add(tick) {
			compareBoard(t, policy, l, board.Snapshot(at.Add(1), true))
		}
	})
}

// TestBoardCallsStatusesByTheirNames checks that facts of one value stream that
// rename a status, now or in the past, rename it in the others (R24).
func TestBoardCallsStatusesByTheirNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, l, at := benchPolicy(2), flow.NewLedger(), grid(ticks)
		for _, v := range p.ValueStreams {
			v.Workflow.StatusByID = map[string]flow.State{"1": flow.Active, "2": flow.Done}
		}
		board := flow.NewBoard(p, flow.NewLedger())
		for i := range rapid.IntRange(2, 20).Draw(t, "changes") {
			item := rapid.IntRange(0, 3).Draw(t, "item")
			c := flow.Change{
				ID: fmt.Sprint(i), Source: "jira", Item: fmt.Sprint(item), Container: fmt.Sprintf("P%d", item%2), At: drawInstant(t, "at"), Kind: flow.Created,
				Fields: []flow.FieldChange{{Field: flow.FieldStatus, To: flow.Value{ID: pick(t, "status", "1", "1", "2"), Name: pick(t, "name", "Doing", "Doing", "Making", "")}}},
			}
			board.Add(&c)
			l.Add(&c)
			at = at.Add(pick(t, "later", 0, time.Second, tick))
			compareBoard(t, p, l, board.Snapshot(at, false))
		}
	})
}

// TestBoardKeepsTheEvidence checks that an item that another one is evidence for
// keeps it: its facts alone, long after its end, would tell of another life.
func TestBoardKeepsTheEvidence(t *testing.T) {
	p := benchPolicy(1)
	p.ValueStreams[0].Include = []flow.Include{{Containers: []string{"P"}}}
	p.ValueStreams[0].Workflow.StartSignals = []string{flow.SignalPullRequest}
	change := func(item string, days int, kind flow.Kind, field flow.Field, to flow.Value) flow.Change {
		return flow.Change{
			ID: fmt.Sprint(item, ":", days), Source: "s", Container: "P", Item: item, Kind: kind,
			At: benchEnd.Add(time.Duration(days) * day), Fields: []flow.FieldChange{{Field: field, To: to}},
		}
	}
	log := []flow.Change{
		change("1", 0, flow.Created, flow.FieldState, flow.Value{Name: "open"}),
		change("2", 1, flow.Created, flow.FieldPullRequest, flow.Value{ID: "7", Name: "opened"}),
		change("2", 2, flow.Updated, flow.FieldAlias, flow.Value{ID: "s/1"}),
		change("1", 9, flow.Updated, flow.FieldState, flow.Value{Name: "closed"}),
		change("1", 400, flow.Updated, flow.FieldState, flow.Value{Name: "open"}),
		change("2", 401, flow.Updated, flow.FieldAlias, flow.Value{}),
	}
	for known := range log {
		board, l := flow.NewBoard(p, ledgerOf(log[:known])), ledgerOf(log[:known])
		late := log[known:]
		for at := benchEnd; at.Before(benchEnd.Add(420 * day)); at = at.Add(3 * day) {
			for len(late) > 0 && late[0].At.Before(at) {
				board.Add(&late[0])
				l.Add(&late[0])
				late = late[1:]
			}
			compareBoard(t, p, l, board.Snapshot(at, true))
		}
	}
}

// TestBoardForgets checks that a board does not hold the timelines of what ended
// before any window, while time goes on.
func TestBoardForgets(t *testing.T) {
	const items = 20_000
	p, l := benchPolicy(5), benchLedger(items, 5)
	used := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	before := used()
	board := flow.NewBoard(p, l)
	for at := benchEnd.Add(-730 * day); !at.After(benchEnd); at = at.Add(10 * day) {
		board.Snapshot(at, true)
	}
	if bytes := (used() - before) / items; bytes > 400 {
		t.Errorf("a board holds %.0f bytes an item, want at most 400", bytes)
	} else {
		t.Logf("%.0f bytes an item", bytes)
	}
	runtime.KeepAlive(l)
	runtime.KeepAlive(board)
}

// TestBoardsShareALedger measures the parts of a history in several goroutines
// over one ledger: with the race detector it shows that boards only read it.
func TestBoardsShareALedger(t *testing.T) {
	p, log, begin := aYear(3, 250)
	l := ledgerOf(log)
	var group sync.WaitGroup
	for part := range 4 {
		group.Go(func() {
			board := flow.NewBoard(p, l)
			at := begin.Add(time.Duration(part) * 15 * 7 * day)
			for range 200 {
				board.Snapshot(at, true)
				at = at.Add(12 * time.Hour)
			}
			compareBoard(t, p, l, board.Snapshot(at, true))
		})
	}
	group.Wait()
}

// BenchmarkBoardForward is what a past is evaluated by: twenty value streams of
// fifteen completions a week each, a month of it in steps of four minutes, by one
// board; and a few of its instants the plain way.
func BenchmarkBoardForward(b *testing.B) {
	const streams, step = 20, 4 * time.Minute
	p, l := benchPolicy(streams), benchLedger(104*15*streams, streams)
	from := benchEnd.Add(-60 * day)
	b.Run("board", func(b *testing.B) {
		instants := 0
		for range b.N {
			board := flow.NewBoard(p, l)
			for at := from; at.Before(from.Add(30 * day)); at = at.Add(step) {
				board.Snapshot(at, true)
				instants++
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(instants*streams), "ns/instant")
	})
	b.Run("plain", func(b *testing.B) {
		for i := range b.N {
			flow.Measure(p, l, from.Add(time.Duration(i)*step), flow.Options{})
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*streams), "ns/instant")
	})
}
