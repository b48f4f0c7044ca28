package flow

import (
	"math"
	"time"
)

// An edge is the beginning of a span that ends at T.
type edge struct {
	length    time.Duration
	from      int64
	mark, end int // the first mark and the first end that are not before it

	// How many were in flow just before it, by place, and the sum of their ages.
	before [numPlaces]int
	ages   slope

	// Since then.
	since        [numPlaces]slope
	gained, lost slope // of entries and exits, for I8
	w            WindowMeasures
	over         Span // Σ max(0, flow time − target)

	// Of a window, not of another span:
	detailed  bool
	flowTimes [NumTypes + 1]ordered[time.Duration] // by type, and all
	status    map[statusKey]Span
	changed   bool // since refresh, by ends that came or went
}

func newEdge(w Window, detailed bool) edge {
	e := edge{length: w.Length, from: math.MinInt64, w: WindowMeasures{Window: w}, detailed: detailed, changed: true}
	if detailed {
		e.status = map[statusKey]Span{}
		for i := range e.flowTimes {
			e.flowTimes[i].compare = compareDurations
		}
	}
	return e
}

func compareDurations(a, b time.Duration) int { return compareInstants(int64(a), int64(b)) }

// move brings the edge to an instant, past the marks on the way.
func (e *edge) move(to int64, s *stream) {
	e.from = to
	for ; e.mark < len(s.marks.list) && s.marks.list[e.mark].at < to; e.mark++ {
		e.countSince(&s.marks.list[e.mark], -1)
		e.countBefore(&s.marks.list[e.mark], 1)
	}
	for ; e.end < len(s.ends.list) && s.ends.list[e.end].at < to; e.end++ {
		e.countEnd(&s.ends.list[e.end], -1, s.value.Targets.FlowTime)
	}
}

// countSince counts a mark that is in the span.
func (e *edge) countSince(m *mark, by int) {
	switch m.kind {
	case markEntry:
		e.w.Entered[m.to] += by
		e.gained.add(m.at, by)
	case markExit:
		e.w.Exited[m.to] += by
		e.lost.add(m.at, by)
	case markCompletion:
		e.w.CompletionEvents += by
	case markReopening:
		e.w.ReopenEvents += by
	case markMove:
		e.since[m.from].add(m.at, -by)
		e.since[m.to].add(m.at, by)
	}
}

// countBefore counts a mark that is before the span: of these it matters only who
// was in flow when it began.
func (e *edge) countBefore(m *mark, by int) {
	if m.kind != markMove {
		return
	}
	e.before[m.from] -= by
	e.before[m.to] += by
	switch {
	case m.from == 0:
		e.ages.add(m.base, by)
	case m.to == 0:
		e.ages.add(m.base, -by)
	}
}

// countEnd counts an end that is in the span.
func (e *edge) countEnd(d *end, by int, target time.Duration) {
	sum := func(total *Span, d time.Duration) { *total = total.Plus(product(by, int64(d))) }
	e.changed = true
	took := d.active + d.waiting
	if d.what == endDiscarded {
		e.w.Discarded += by
		sum(&e.w.DiscardedTime, took)
		return
	}
	for _, m := range [...]*TypeMeasures{&e.w.ByType[d.itemType], &e.w.All} {
		m.Completed += by
		if d.timed {
			m.Timed += by
			sum(&m.Active, d.active)
			sum(&m.Waiting, d.waiting)
		}
	}
	if !d.timed {
		return
	}
	if took <= target {
		e.w.Attained += by
	}
	sum(&e.over, max(0, took-target))
	if !e.detailed {
		return
	}
	for _, i := range [...]int{int(d.itemType), NumTypes} {
		if by > 0 {
			e.flowTimes[i].put(took)
		} else {
			e.flowTimes[i].take(took)
		}
	}
	for _, v := range d.status {
		spent := e.status[v.key]
		if sum(&spent, v.spent); spent.IsZero() {
			delete(e.status, v.key)
		} else {
			e.status[v.key] = spent
		}
	}
}

// loadBefore returns how many items were in flow when the span began.
func (e *edge) loadBefore() int {
	n := 0
	for _, k := range e.before[1:] {
		n += k
	}
	return n
}

// refresh computes anew what depends on the ends alone, where these changed.
func (e *edge) refresh(n *lens, at int64) {
	if !e.changed {
		return
	}
	e.changed = false
	if !e.detailed {
		return
	}
	for i := range e.flowTimes {
		if !e.flowTimes[i].update() {
			continue
		}
		m := &e.w.All
		if i < NumTypes {
			m = &e.w.ByType[i]
		}
		list := e.flowTimes[i].list
		m.P50, m.P85, m.P95 = Percentile(list, 0.50), Percentile(list, 0.85), Percentile(list, 0.95)
	}
	e.w.Status = n.statusTimes(e.status, at)
}

// measure writes the numbers of the window.
func (e *edge) measure(w *WindowMeasures, at int64, load int) {
	*w = e.w
	w.From, w.To = time.Unix(0, e.from).UTC(), time.Unix(0, at).UTC()
	w.LoadStart, w.LoadEnd = e.loadBefore(), load
	for p := 1; p < numPlaces; p++ {
		if e.before[p] == 0 && e.since[p] == (slope{}) {
			continue
		}
		spent := product(e.before[p], int64(e.length)).Plus(e.since[p].value(at))
		t := &w.ByType[(p-1)/2]
		t.Presence = t.Presence.Plus(spent)
		w.All.Presence = w.All.Presence.Plus(spent)
		if place(p) == placeOf(ItemType((p-1)/2), true) {
			t.PresenceActive = t.PresenceActive.Plus(spent)
			w.All.PresenceActive = w.All.PresenceActive.Plus(spent)
		}
	}
}
