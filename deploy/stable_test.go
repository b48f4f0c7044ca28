package deploy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// What a simulated value stream obeys
//
// A value stream is a team of people in front of a queue, which is the law that
// the theory of queues, Little's law included, takes for work that is done by
// few for many, stepped through a quarter of an hour of working time at a time
// (Monday to Friday, nine to five, so that nights and weekends are idle).
//
//   - Each person works on one item. What an item takes is lognormal with a
//     coefficient of variation of 1.2: most are small, a few are ten times
//     larger, as is found for the effort of work in software.
//   - An item meets waits that need no person of the team: a review (half a
//     working day on average, lognormal), from which one in five comes back for a
//     quarter of its work again, and for one in seven a block of three working
//     days on average. Meanwhile its person takes other work. One in twenty is
//     given up, three in a hundred are reopened within the two weeks after.
//   - Each person is away one week in ten, so that capacity varies as holidays
//     and sickness make it.
//   - Work comes by a Poisson process of requests that bring one item, seldom
//     two or three (one and a half times as variable as single items), most on
//     Mondays and fewest on Fridays.
//
// The regimes differ in who decides that work begins, which is what makes load
// wander or stay:
//
//   - push: every request is begun when it comes. The team is busy for 80 % of
//     its time. The load is that of an open queue: nothing holds it, it strays
//     far and comes back slowly. This is the hardest case that is stable.
//   - pull: there is always a request, and one is begun whenever somebody is free
//     and less is in flow than one and a half items for each person. One item in
//     ten is urgent and begun at once, limit or not.
//   - release: as pull, but what is finished waits for a release on every
//     second Thursday, so that exits come in lumps and the load is a saw.
//
// All of that goes on for as long as the simulation: nothing changes, so that
// every ticket about load is a false one. In an overload, from its instant on,
// work is begun by the process of push in every regime, 30 % more of it than the
// whole team can finish, whatever is in flow.
const (
	tickLength   = 15 * time.Minute
	dayTicks     = 8 * 4
	weekTicks    = 5 * dayTicks
	overload     = 1.3
	away         = 0.1 // share of weeks
	givenUp      = 0.05
	reopened     = 0.03
	comesBack    = 0.2 // out of review
	reworkShare  = 0.25
	blocked      = 1. / 7
	urgent       = 0.1
	perPerson    = 1.5 // in flow, of pull and release
	releaseWeeks = 2
)

// Shares of its working time, in percent, in which a team kept the limit that it then
// agreed on.
const (
	mostly = 85
	always = 100
)

// The run-in: the first quarter fills the empty queue and is forgotten, the second
// is the one whose behaviour the team makes its agreements from, and the third
// completes the thirteen weeks and more that baselines look back.
const (
	fillWeeks  = 13
	agreeWeeks = 13
	runInWeeks = fillWeeks + agreeWeeks + 14
)

var simulationStart = time.Date(2023, 1, 2, 0, 0, 0, 0, time.UTC) // a Monday

type regime string

const (
	push    regime = "push"
	pull    regime = "pull"
	release regime = "release"
)

// A law is everything about a value stream but chance.
type law struct {
	regime regime
	rate   float64 // items begun a week while it is stable
	people int
	kept   int // percent of the working time of a quarter in which it kept the limit that it then agreed on
}

func (l law) String() string { return fmt.Sprintf("%s %g/week", l.regime, l.rate) }

// busy is the share of its time that the team works on items.
func (l law) busy() float64 {
	if l.regime == push {
		return 0.8
	}
	return 1
}

// effort is the mean work of an item, in hours, rework apart.
func (l law) effort() float64 {
	rework := reworkShare * (comesBack + reopened)
	return float64(l.people) * 40 * (1 - away) * l.busy() / (l.rate * (1 - givenUp) * (1 + rework))
}

// laws are those of the value streams of some regimes, in all sizes.
func laws(kept int, regimes ...regime) (all []law) {
	for _, r := range regimes {
		all = append(all, law{r, 4, 3, kept}, law{r, 10, 5, kept}, law{r, 20, 8, kept}, law{r, 40, 14, kept})
	}
	return all
}

// work is an item that is not finished for good.
type work struct {
	id, facts    int
	effort, left float64 // hours of work in all and yet to do
	block        float64 // hours left at which it is blocked; negative: never
	begun        time.Time
	urgent       bool
	wake         int // tick at which a wait ends
	next         stop
	status       string
}

// A stop is what comes after a wait.
type stop uint8

const (
	toWork stop = iota // somebody goes on with it
	toDone
	toRelease // out of the wait for it
	toReopen
)

// A simulation is a value stream under way.
type simulation struct {
	law
	random *rand.Rand
	tick   int
	now    time.Time // of the latest fact: each is a little later than the one before
	over   int       // tick at which an overload begins; negative: none

	items, flowing int
	held           int     // in flow and waiting for the release
	ready          []*work // begun, not yet worked on
	again          []*work // come back from a wait
	waiting        []*work
	hands          []*work // what each person works on; nil: nothing
	absent         []bool

	changes   []flow.Change
	loads     []int           // at the ticks of the agreeing quarter
	flowTimes []time.Duration // of its completions, without later reopenings
}

// simulate returns a value stream after so many weeks, with an overload from the
// beginning of a week on unless that is negative.
func simulate(l law, seed uint64, weeks, overWeek int) *simulation {
	s := &simulation{
		law: l, random: rand.New(rand.NewPCG(seed, 1)), over: overWeek * weekTicks,
		hands: make([]*work, l.people), absent: make([]bool, l.people),
	}
	for ; s.tick < weeks*weekTicks; s.tick++ {
		s.step()
	}
	return s
}

// agreed are the targets that a team would set itself after the agreeing quarter:
// the load that it did not exceed for so much of its working time as the law says,
// and the flow time that it kept for 85 % of its items, each rounded up.
func (s *simulation) agreed() flow.Targets {
	slices.Sort(s.loads)
	slices.Sort(s.flowTimes)
	const day = 24 * time.Hour
	return flow.Targets{
		Load:     s.loads[min(len(s.loads)*s.kept/100, len(s.loads)-1)],
		FlowTime: (flow.Percentile(s.flowTimes, 0.85) + day - 1).Truncate(day), Percentile: 85,
	}
}

// week is the Monday on which a week begins.
func week(n int) time.Time { return simulationStart.AddDate(0, 0, 7*n) }

// begins is the instant at which a tick begins.
func begins(tick int) time.Time {
	day, quarter := tick/weekTicks*7+tick%weekTicks/dayTicks, tick%dayTicks
	return simulationStart.AddDate(0, 0, day).Add(9*time.Hour + time.Duration(quarter)*tickLength)
}

func (s *simulation) chance(p float64) bool { return s.random.Float64() < p }

// lognormal draws from the lognormal distribution of a mean and a coefficient of
// variation.
func (s *simulation) lognormal(mean, cv float64) float64 {
	v := math.Log(1 + cv*cv)
	return mean * math.Exp(math.Sqrt(v)*s.random.NormFloat64()-v/2)
}

// poisson draws from the Poisson distribution of a small mean.
func (s *simulation) poisson(mean float64) (n int) {
	for p := s.random.Float64(); p > math.Exp(-mean); n++ {
		p *= s.random.Float64()
	}
	return n
}

func (s *simulation) overloaded() bool { return s.over >= 0 && s.tick >= s.over }

func (s *simulation) agreeing() bool {
	week := s.tick / weekTicks
	return fillWeeks <= week && week < fillWeeks+agreeWeeks
}

func (s *simulation) step() {
	s.now = begins(s.tick)
	if s.tick%weekTicks == 0 {
		for i := range s.absent {
			s.absent[i] = s.chance(away)
		}
	}
	s.arrive()
	s.awake()
	for i, w := range s.hands {
		if s.absent[i] {
			continue
		}
		if w == nil {
			w = s.take()
		}
		s.hands[i] = s.workOn(w)
	}
	if s.agreeing() {
		s.loads = append(s.loads, s.flowing)
	}
}

// arrive begins what is begun when it is asked for.
func (s *simulation) arrive() {
	rate := s.rate
	switch {
	case s.overloaded():
		rate *= overload / s.busy()
	case s.regime != push:
		rate *= urgent
	}
	byWeekday := [...]float64{1.4, 1.1, 1, 0.9, 0.6}
	const itemsPerRequest = 0.8*1 + 0.15*2 + 0.05*3
	for range s.poisson(rate / itemsPerRequest / weekTicks * byWeekday[s.tick%weekTicks/dayTicks]) {
		items := 1
		if u := s.random.Float64(); u >= 0.95 {
			items = 3
		} else if u >= 0.8 {
			items = 2
		}
		for range items {
			s.ready = append(s.ready, s.begin(s.regime != push && !s.overloaded()))
		}
	}
}

// begin takes an item into flow.
func (s *simulation) begin(urgent bool) *work {
	s.items++
	w := &work{id: s.items, effort: s.lognormal(s.effort(), 1.2), block: -1, urgent: urgent}
	w.left = w.effort
	if s.chance(blocked) {
		w.block = w.left * s.random.Float64()
	}
	kind := "Story"
	if s.chance(0.3) {
		kind = "Bug"
	}
	w.status = "Backlog"
	s.tell(w, flow.Created, flow.FieldChange{Field: flow.FieldType, To: flow.Value{Name: kind}},
		flow.FieldChange{Field: flow.FieldStatus, To: flow.Value{Name: w.status}})
	s.status(w, "Ready")
	w.begun = s.now
	return w
}

// awake ends the waits whose time has come.
func (s *simulation) awake() {
	var due []*work
	s.waiting = slices.DeleteFunc(s.waiting, func(w *work) bool {
		if w.wake > s.tick {
			return false
		}
		due = append(due, w)
		return true
	})
	for _, w := range due {
		switch w.next {
		case toWork:
			s.again = append(s.again, w)
		case toDone:
			if s.regime != release {
				s.finish(w)
				continue
			}
			s.held++
			s.status(w, "Ready for Release")
			const period = releaseWeeks * weekTicks
			day := 3*dayTicks + dayTicks/2 // Thursday at one
			wait := (day-s.tick%period+period-1)%period + 1
			s.park(w, wait, toRelease)
		case toRelease:
			s.held--
			s.finish(w)
		case toReopen:
			s.status(w, "Reopened")
			s.again = append(s.again, w)
		}
	}
}

// park lets an item wait for so many ticks.
func (s *simulation) park(w *work, ticks int, next stop) {
	w.wake, w.next = s.tick+max(ticks, 1), next
	s.waiting = append(s.waiting, w)
}

// take finds work for somebody who has none.
func (s *simulation) take() *work {
	var w *work
	switch {
	case len(s.again) > 0:
		w, s.again = s.again[0], s.again[1:]
	case len(s.ready) > 0:
		i := max(0, slices.IndexFunc(s.ready, func(w *work) bool { return w.urgent }))
		w = s.ready[i]
		s.ready = slices.Delete(s.ready, i, i+1)
	case s.regime != push && !s.overloaded() && float64(s.flowing-s.held) < perPerson*float64(s.people):
		w = s.begin(false)
	default:
		return nil
	}
	if w.left == w.effort && s.chance(givenUp) {
		s.status(w, "Dropped")
		return nil
	}
	s.status(w, "In Progress")
	return w
}

// workOn puts a tick of a person's work into an item and returns what the person
// goes on with.
func (s *simulation) workOn(w *work) *work {
	if w == nil {
		return nil
	}
	w.left -= tickLength.Hours()
	switch {
	case w.left <= 0:
		s.status(w, "In Review")
		next := toDone
		if s.chance(comesBack) {
			w.left, next = w.effort*reworkShare, toWork
		}
		s.park(w, int(s.lognormal(dayTicks/2, 1)), next)
	case w.left <= w.block:
		w.block = -1
		s.status(w, "Blocked")
		s.park(w, int(s.lognormal(3*dayTicks, 1)), toWork)
	default:
		return w
	}
	return nil
}

// finish completes an item and sees to it that some are reopened.
func (s *simulation) finish(w *work) {
	s.status(w, "Done")
	if s.agreeing() {
		s.flowTimes = append(s.flowTimes, s.now.Sub(w.begun))
	}
	if s.chance(reopened) {
		w.left = w.effort * reworkShare
		s.park(w, s.random.IntN(2*weekTicks), toReopen)
	}
}

// statuses is the workflow.
var statuses = map[string]flow.State{
	"Backlog": flow.New, "Ready": flow.Waiting, "In Progress": flow.Active, "In Review": flow.Waiting, "Blocked": flow.Waiting,
	"Ready for Release": flow.Waiting, "Reopened": flow.Waiting, "Done": flow.Done, "Dropped": flow.Cancelled,
}

// status moves an item.
func (s *simulation) status(w *work, name string) {
	in := func(state flow.State) int {
		if state == flow.Waiting || state == flow.Active {
			return 1
		}
		return 0
	}
	s.flowing += in(statuses[name]) - in(statuses[w.status])
	w.status = name
	s.tell(w, flow.Updated, flow.FieldChange{Field: flow.FieldStatus, To: flow.Value{Name: name}})
}

// tell records a fact.
func (s *simulation) tell(w *work, kind flow.Kind, fields ...flow.FieldChange) {
	s.now = s.now.Add(time.Second + time.Duration(s.random.IntN(5000))*time.Millisecond)
	w.facts++
	item := strconv.Itoa(w.id)
	s.changes = append(s.changes, flow.Change{
		ID: item + "." + strconv.Itoa(w.facts), Source: "simulation", Container: "TEAM", Item: item,
		At: s.now, Sequence: int64(w.facts), Kind: kind, Fields: fields,
	})
}

// TestSimulation: simulated value streams are what they are said to be. They are
// stable: over some years as many items leave as enter, and about as many as the
// law says. In an overload 30 % more enter than leave, a little more for those that
// are reopened. And the program sees the load that the simulation knows of.
func TestSimulation(t *testing.T) {
	const years, weeks = 3, runInWeeks + quietWeeks
	for _, l := range laws(mostly, push, pull, release) {
		t.Run(l.String(), func(t *testing.T) {
			t.Parallel()
			var stable, over crossed
			for seed := range uint64(years) {
				stable.add(t, simulate(l, seed, weeks, never))
				over.add(t, simulate(l, seed, weeks, runInWeeks))
			}
			if perWeek := stable.entered / years / quietWeeks; math.Abs(perWeek-l.rate) > 0.15*l.rate {
				t.Errorf("%g items a week enter, want about %g", perWeek, l.rate)
			}
			if ratio := stable.entered / stable.left; math.Abs(ratio-1) > 0.05 {
				t.Errorf("for each item that leaves %g enter", ratio)
			}
			if ratio := over.entered / over.left; math.Abs(ratio-overload) > 0.15 {
				t.Errorf("in an overload %g items enter for each that leaves", ratio)
			}
			a, b := simulate(l, 1, runInWeeks, never), simulate(l, 1, runInWeeks, never)
			if !reflect.DeepEqual(a.changes, b.changes) {
				t.Error("the same seed gives another history")
			}
		})
	}
}

// crossed is what happened in years after the run-in, as the program sees it.
type crossed struct{ entered, left float64 }

func (c *crossed) add(t *testing.T, s *simulation) {
	p := s.policy()
	p.Windows = []flow.Window{{Name: "year", Length: quietWeeks * 7 * 24 * time.Hour}}
	m := flow.Measure(p, s.ledger(), week(s.tick/weekTicks), flow.Options{}).ValueStreams[0]
	for _, n := range m.Windows[0].Entered {
		c.entered += float64(n)
	}
	for _, n := range m.Windows[0].Exited {
		c.left += float64(n)
	}
	if m.Load.Items != s.flowing {
		t.Errorf("the program sees %d items in flow, the simulation %d", m.Load.Items, s.flowing)
	}
}
