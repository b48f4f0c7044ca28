package sim

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector/github"
	"github.com/flowmetrics/flowmetrics/internal/connector/jira"
)

// A World is a simulated organisation. Its methods must not be called
// concurrently; the sites that it writes to may be read at any time.
type World struct {
	clock
	jira   *jira.Fake
	github *github.Fake
	rand   *rand.Rand
	queue  queue
	now    time.Duration // working time
	teams  []*team
}

// New makes a world in two empty sites and writes its history up to start.
func New(seed uint64, start time.Time, j *jira.Fake, g *github.Fake) *World {
	return newOfWeeks(seed, start, historyWeeks, j, g)
}

func newOfWeeks(seed uint64, start time.Time, weeks int, j *jira.Fake, g *github.Fake) *World {
	w := &World{clock: newClock(start, weeks), jira: j, github: g, rand: rand.New(rand.NewPCG(seed, 0x666c6f77))}
	describe(j)
	describeGitHub(g)
	w.teams = teams(w.worked)
	for _, t := range w.teams {
		for range t.limit {
			w.create(t)
		}
		w.arrive(t)
		w.replenish(t)
	}
	w.Advance(w.start)
	return w
}

// Advance lets everything happen that happens until an instant. However the way
// there is divided into steps, the same happens.
func (w *World) Advance(to time.Time) {
	for len(w.queue.events) > 0 && !w.instant(w.queue.events[0].at).After(to) {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.happen()
	}
}

// after lets something happen once some working time has passed.
func (w *World) after(d time.Duration, happen func()) {
	w.queue.pushed++
	heap.Push(&w.queue, event{at: w.now + max(d, time.Minute), order: w.queue.pushed, happen: happen})
}

// chance is true with a probability.
func (w *World) chance(p float64) bool { return w.rand.Float64() < p }

// around returns a time with a mean and the long tail that work has.
func (w *World) around(mean time.Duration) time.Duration {
	const spread = 0.8 // standard deviation of the logarithm
	return time.Duration(float64(mean) * math.Exp(spread*w.rand.NormFloat64()-spread*spread/2))
}

// between returns a time until the next of independent events.
func (w *World) between(mean time.Duration) time.Duration {
	return time.Duration(float64(mean) * w.rand.ExpFloat64())
}

// pick returns one of some choices.
func pick[T any](w *World, choices []T) T { return choices[w.rand.IntN(len(choices))] }

// An event is something that is going to happen.
type event struct {
	at     time.Duration // working time
	order  int           // among events of one time
	happen func()
}

// A queue is a heap of events, the next one on top.
type queue struct {
	events []event
	pushed int
}

func (q *queue) Len() int { return len(q.events) }

func (q *queue) Less(i, j int) bool {
	a, b := q.events[i], q.events[j]
	return a.at < b.at || a.at == b.at && a.order < b.order
}

func (q *queue) Swap(i, j int) { q.events[i], q.events[j] = q.events[j], q.events[i] }

// Push implements [heap.Interface].
func (q *queue) Push(e any) { q.events = append(q.events, e.(event)) }

// Pop implements [heap.Interface].
func (q *queue) Pop() any {
	last := len(q.events) - 1
	e := q.events[last]
	q.events[last] = event{}
	q.events = q.events[:last]
	return e
}
