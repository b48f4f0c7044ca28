package oracle

import (
	"slices"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A step is one item between two consecutive instants.
type step struct {
	from, to    time.Time
	before, now moment
}

func (s step) length() time.Duration { return s.to.Sub(s.from) }

// A life is one item in one value stream, step by step.
type life struct {
	*history
	stream *flow.ValueStream
	steps  []step // tile the time from the first instant to T
}

// Evaluate computes every number as of an instant from a log: all changes in the
// order in which they were written, repetitions and contradictions included.
func Evaluate(p *flow.Policy, log []flow.Change, at time.Time) Result {
	facts, duplicates, conflicts := asOf(log, at)
	names := namesOf(facts)
	items := histories(facts)

	instants := []time.Time{at}
	for _, h := range items {
		for _, f := range h.facts {
			instants = append(instants, f.effective)
		}
	}
	slices.SortFunc(instants, time.Time.Compare)
	instants = slices.CompactFunc(instants, time.Time.Equal)

	lives := make([][]*life, len(p.ValueStreams)) // by value stream, then item
	for i, v := range p.ValueStreams {
		for _, h := range items {
			l := &life{history: h, stream: v}
			for k := 0; k+1 < len(instants); k++ {
				s := step{from: instants[k], to: instants[k+1]}
				if k > 0 {
					s.before = l.steps[k-1].now
				}
				s.now = h.at(v, names, instants[k])
				l.steps = append(l.steps, s)
			}
			lives[i] = append(lives[i], l)
		}
	}

	result := Result{At: at, Quality: Quality{Duplicates: duplicates, Conflicts: conflicts, Unmapped: map[string]int{}}}
	for i, v := range p.ValueStreams {
		result.ValueStreams = append(result.ValueStreams, measure(v, p.Windows, lives[i], at))
	}
	for k := range items {
		var ofItem []*life // one a value stream
		for i := range p.ValueStreams {
			ofItem = append(ofItem, lives[i][k])
		}
		result.Quality.count(ofItem)
	}
	return result
}

// last is the moment as of T.
func (l *life) last() moment {
	if len(l.steps) == 0 {
		return moment{}
	}
	return l.steps[len(l.steps)-1].now
}

// becameDone returns the step in which an item that is done as of T last became
// done: the first of its life where it was born done or first seen so.
func (l *life) becameDone() (found step, ok bool) {
	for _, s := range l.steps {
		if s.now.exists && s.now.state == flow.Done && !(s.before.exists && s.before.state == flow.Done) {
			found, ok = s, true
		}
	}
	return found, ok && l.last().state == flow.Done
}

// completes reports whether the item is completed in a step: not where it is
// first seen done (R13), nor where it is born done unless that is asked for.
func (l *life) completes(s step) bool {
	if !s.now.exists || s.now.state != flow.Done || s.before.exists && s.before.state == flow.Done {
		return false
	}
	return s.before.exists || !l.censored && l.stream.Workflow.CountBornDone
}

// bornDone reports whether the item was created done and has been so ever since.
func (l *life) bornDone() bool {
	s, ok := l.becameDone()
	return ok && !s.before.exists && !l.censored
}

// reopens reports whether a step is a reopening (R21) that has not ended within
// the grace (R7).
func (l *life) reopens(k int) bool {
	s := l.steps[k]
	if !s.before.finished() || !s.now.exists || s.now.finished() || s.now.state == flow.Gone {
		return false
	}
	for _, later := range l.steps[k+1:] {
		if later.now.finished() {
			return later.from.Sub(s.from) > l.stream.Workflow.ReopenGrace
		}
	}
	return true
}

// present reports whether an item counts in the value stream's load.
func present(m moment) bool { return m.inFlow() && m.matches }

// entry gives the reason for which the item enters flow here in step k, or "".
func (l *life) entry(k int) string {
	s := l.steps[k]
	if !present(s.now) || present(s.before) {
		return ""
	}
	switch {
	case !s.before.exists && l.censored:
		return "observed"
	case !s.before.exists:
		return "started"
	case s.before.finished():
		return "reopened"
	case s.before.state == flow.Waiting || s.before.state == flow.Active:
		return "moved_in" // from elsewhere or from an ignored type
	case l.startedBefore(k):
		return "resumed"
	}
	return "started"
}

// exit gives the reason for which the item leaves flow here in step k, or "".
func (l *life) exit(k int) string {
	s := l.steps[k]
	if present(s.now) || !present(s.before) {
		return ""
	}
	switch s.now.state { // before the move, if there is one at the same instant (R17)
	case flow.Gone:
		return "deleted"
	case flow.Done:
		return "completed"
	case flow.Cancelled:
		return "cancelled"
	case flow.New:
		return "returned"
	}
	return "moved_out"
}

func (l *life) startedBefore(k int) bool {
	for _, s := range l.steps[:k] {
		if s.now.inFlow() {
			return true
		}
	}
	return false
}

// start returns when the item was first in flow, wherever that was.
func (l *life) start() (time.Time, bool) {
	for _, s := range l.steps {
		if s.now.inFlow() {
			return s.from, true
		}
	}
	return time.Time{}, false
}

// spent sums the item's whole life in flow in a state (R19).
func (l *life) spent(state flow.State) (sum time.Duration) {
	for _, s := range l.steps {
		if s.now.inFlow() && s.now.state == state {
			sum += s.length()
		}
	}
	return sum
}

// flowTime is active and waiting time; of an item in flow it is its age.
func (l *life) flowTime() time.Duration { return l.spent(flow.Active) + l.spent(flow.Waiting) }

// presentAsOf reports whether the item counts in the load as of an instant.
func (l *life) presentAsOf(t time.Time) bool {
	for _, s := range l.steps {
		if s.from.Before(t) && !s.to.Before(t) {
			return present(s.now)
		}
	}
	return false
}
