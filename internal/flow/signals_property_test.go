package flow_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/flowmetrics/flowmetrics/internal/flow/oracle"
)

// differences tells where signals differ by more than rounding.
func differences(got, want flow.Signals) (text string) {
	a, b := numbers(got), numbers(want)
	for name, x := range a {
		if y := b[name]; x.Defined != y.Defined || math.Abs(x.Value-y.Value) > 1e-9*max(1, math.Abs(x.Value)) {
			text += fmt.Sprintf("%s is %v, the oracle's %v\n", name, x, y)
		}
	}
	return text
}

// stretch moves instants of the small grid apart, so that a log is as long as
// the signals look back.
func stretch(at time.Time, by int) time.Time { return epoch.Add(at.Sub(epoch) * time.Duration(by)) }

// TestSignalsAreOracle: nasty histories of half a year.
func TestSignalsAreOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, log, at := drawPolicy(t), drawLog(t), drawAt(t)
		by := rapid.IntRange(1, 20).Draw(t, "stretch")
		for i := range log {
			log[i].At = stretch(log[i].At, by)
		}
		checkSignals(t, p, log, stretch(at, by), describe(p, log, stretch(at, by)))
	})
}

func checkSignals(t fataler, p *flow.Policy, log []flow.Change, at time.Time, described string) {
	t.Helper()
	want := oracle.Evaluate(p, log, at)
	for i, m := range snapshot(p, log, at).ValueStreams {
		if d := differences(m.Signals, want.ValueStreams[i].Signals); d != "" {
			t.Fatal("signals of", m.ValueStream.Name, "\n"+d, described)
		}
	}
}

// A year is a value stream for the better part of a year, in a zone of which the
// clocks change meanwhile. It comes from a seed, so that it is busy: what is
// drawn one by one is mostly small.
type year struct {
	random *rand.Rand
	zone   *time.Location
	start  time.Time // a Monday, as a date in UTC
}

const yearWeeks = 40

var years = []struct{ zone, start string }{
	{"UTC", "2025-09-01"}, {"UTC", "2026-01-05"}, {"Europe/Berlin", "2025-12-29"}, {"Europe/Berlin", "2026-03-30"},
	{"America/New_York", "2025-08-04"}, {"Australia/Lord_Howe", "2025-07-07"},
	{"Asia/Tehran", "2020-10-05"},  // Monday 22 March 2021 begins at 01:00
	{"Pacific/Apia", "2011-08-01"}, // there is no 30 December 2011
}

func drawYear(t *rapid.T) year {
	return newYear(t, rapid.Uint64().Draw(t, "seed"), rapid.Uint64().Draw(t, "more of it"))
}

func newYear(t fataler, seed, more uint64) year {
	y := year{random: rand.New(rand.NewPCG(seed, more))}
	which := oneOf(y, years...)
	zone, err := time.LoadLocation(which.zone)
	if err != nil {
		t.Fatal(err)
	}
	start, err := time.Parse(time.DateOnly, which.start)
	if err != nil {
		t.Fatal(err)
	}
	y.zone, y.start = zone, start
	return y
}

func oneOf[T any](y year, from ...T) T { return from[y.random.IntN(len(from))] }

// instant returns one of a few in a week, on and around its start.
func (y year) instant(week int) time.Time {
	year, month, date := y.start.AddDate(0, 0, 7*week).Date()
	return time.Date(year, month, date, 0, 0, 0, 0, y.zone).Add(oneOf(y, 0, 0, -1, 1, 12*time.Hour, 4*day))
}

func (y year) policy() *flow.Policy {
	w := plainWorkflow()
	w.ReopenGrace = oneOf(y, 0, 0, day)
	p := &flow.Policy{Windows: []flow.Window{{Name: "30d", Length: 30 * day}}}
	for i, in := range []flow.Include{{Containers: []string{"P"}}, {}} {
		p.ValueStreams = append(p.ValueStreams, &flow.ValueStream{
			Name: fmt.Sprintf("stream-%d", i), Workflow: w, Timezone: y.zone.String(), Location: y.zone,
			Include: []flow.Include{in}, NeglectAfter: 14 * day, Targets: flow.Targets{FlowTime: oneOf(y, 0, 5*day, 20*day)},
		})
	}
	return p
}

// work returns the changes of so many items, most of which come to an end. They
// begin in a few of the last weeks up to one. In orderly worlds most of them are
// simply begun and completed.
func (y year) work(items, few, weeks, last int) (log []flow.Change) {
	begins := y.random.Perm(weeks)[:few]
	orderly := y.random.IntN(2) == 0
	for i := range items {
		week := last - oneOf(y, begins...)
		steps := oneOf(y, []string{"In Progress", "Done"}, []string{"Backlog", "In Progress", "Ready", "Done"},
			[]string{"Backlog", "Done"}, []string{"In Progress", "Done", "In Progress", "Done"}, []string{"In Progress", "Won't Do", "Ready"},
			[]string{"Ready", "Done", "Backlog"}, []string{"Backlog", "Ready", "In Progress"}, []string{"Done"})
		if orderly && y.random.IntN(5) > 0 {
			steps = []string{"In Progress", "Done"}
		}
		kind := oneOf(y, flow.Created, flow.Created, flow.Created, flow.Created, flow.Observed)
		container := oneOf(y, "P", "P", "P", "P", "Q")
		at := y.instant(week)
		for _, status := range steps {
			log = append(log, flow.Change{
				ID: fmt.Sprintf("%05d", len(log)), Source: "a", Item: fmt.Sprint(i), Kind: kind, Container: container,
				At: at, Fields: []flow.FieldChange{{Field: flow.FieldStatus, To: flow.Value{Name: status}}},
			})
			kind = flow.Updated
			before := at
			for range 4 { // mostly later, by some weeks at most
				if at = y.instant(week + y.random.IntN(3)); at.After(before) {
					break
				}
			}
			if y.random.IntN(10) == 0 {
				container = oneOf(y, "P", "Q")
			}
		}
	}
	return log
}

// TestSignalsOfAYear: work at the edges of weeks, quarters and spans.
func TestSignalsOfAYear(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		y := drawYear(t)
		week := yearWeeks - y.random.IntN(yearWeeks/2)
		log := y.work(oneOf(y, 15, 30, 100), oneOf(y, 9, 18), oneOf(y, 18, 24, 24, yearWeeks), week)
		y.check(t, log, y.instant(week))
	})
}

// TestSignalsOfABusyYear: so much work that every signal is defined somewhere.
func TestSignalsOfABusyYear(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(10) {
		y := newYear(t, seed, 0)
		log := y.work(140, 18, 24, yearWeeks)
		for _, signals := range y.check(t, log, y.instant(yearWeeks)) {
			for name, n := range numbers(signals) {
				if n.Defined {
					seen[name]++
				}
			}
		}
	}
	for name := range numbers(flow.Signals{}) {
		if seen[name] == 0 {
			t.Errorf("%s was never defined", name)
		}
	}
}

// check compares the signals as of an instant with the oracle's.
func (y year) check(t fataler, log []flow.Change, at time.Time) (all []flow.Signals) {
	t.Helper()
	p := y.policy()
	checkSignals(t, p, log, at, fmt.Sprintf("%d changes as of %s", len(log), at))
	for _, m := range snapshot(p, log, at).ValueStreams {
		all = append(all, m.Signals)
	}
	return all
}

// numbers are the signals by name, the plain ones as if always defined.
func numbers(s flow.Signals) map[string]flow.Number {
	all := map[string]flow.Number{}
	v := reflect.ValueOf(s)
	for i := range v.NumField() {
		switch x := v.Field(i).Interface().(type) {
		case flow.Number:
			all[v.Type().Field(i).Name] = x
		case int:
			all[v.Type().Field(i).Name] = flow.Number{Value: float64(x), Defined: true}
		case flow.Span:
			all[v.Type().Field(i).Name] = flow.Number{Value: x.Seconds(), Defined: true}
		}
	}
	return all
}

// TestBoardSignals: a board that moves forward through a year, with the changes
// coming late and in no order, has the signals of measuring anew: also of items
// that it has settled, and of those that come back to life.
func TestBoardSignals(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		y := drawYear(t)
		p, log := y.policy(), y.work(60, 20, yearWeeks, yearWeeks)
		y.random.Shuffle(len(log), func(i, j int) { log[i], log[j] = log[j], log[i] })
		board, plain := flow.NewBoard(p, flow.NewLedger()), flow.NewLedger()
		at := y.instant(y.random.IntN(yearWeeks))
		for i := range log {
			c := log[i]
			board.Add(&c)
			plain.Add(&c)
			if y.random.IntN(20) > 0 {
				continue
			}
			at = at.Add(oneOf(y, 0, time.Nanosecond, tick, 7*day, 7*day, 28*day, 91*day, 210*day))
			compareBoard(t, p, plain, board.Snapshot(at, y.random.IntN(2) == 0))
		}
		compareBoard(t, p, plain, board.Snapshot(at.Add(tick), true))
	})
}

// TestBoardSignalsForward: a board that has everything from the start and moves
// through a busy year in small and large steps, over the edges of weeks.
func TestBoardSignalsForward(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		y := drawYear(t)
		p, ledger := y.policy(), flow.NewLedger()
		log := y.work(80, 18, 24, yearWeeks)
		for i := range log {
			ledger.Add(&log[i])
		}
		board := flow.NewBoard(p, ledger)
		for week := yearWeeks - 30; week < yearWeeks+4; week += 1 + y.random.IntN(3) {
			at := y.instant(week)
			for range 4 {
				compareBoard(t, p, ledger, board.Snapshot(at, true))
				at = at.Add(oneOf(y, 0, 1, 4*time.Minute, 12*time.Hour))
			}
		}
	})
}
