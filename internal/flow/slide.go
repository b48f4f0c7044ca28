package flow

import (
	"math"
	"slices"
	"sort"
	"time"
)

// How a board measures a value stream at instant after instant.
//
// Each item leaves a track: marks at the instants at which something happened,
// and its end or its being open. Tracks change with the facts only, and are kept
// in the order of time. Every window, and every other span that the numbers look
// back over, has one edge that moves: its beginning, T less its length. What lies
// after the edge is in the window, so as T moves on, the edge passes marks and
// each is taken out of the window's sums. What comes between the marks is linear
// in T: of the presence in a window, the items that were in flow at the edge
// account for its whole length, and each move after the edge for the time since
// then, from a place to another (slope). Ages of items in flow all grow alike, so
// they are kept as the instants at which they were zero.
//
// So an instant costs what has happened since the last one, and a copy. All sums
// are of whole numbers and exact, so that after a year of steps they are those of
// [Measure], which knows nothing of all this.

// A stream is a value stream as of the instant to which its edges have moved.
type stream struct {
	value  *ValueStream
	lens   *lens
	writer gauge     // of tracks; its lifetime is that of all items ever
	eraser gauge     // of tracks that are taken back
	was    track     // of an item before ...
	is     track     // ... and after it was folded
	latest *Measures // nil: to be measured
	names  int       // the version of the names that statuses are called by

	edges   []edge // those of the policy's windows first
	listed  int
	marks   ordered[mark] // since the horizon
	horizon int64         // the beginning of the longest of the edges' spans
	// The weeks of the signals reach further back, but need no more than these.
	ends     ordered[end]
	entries  ordered[int64]
	farthest int64

	load    openLoad
	totals  [NumTypes]Totals // of the writer's lifetime, shared with the snapshots
	counted bool             // totals are up to date
	health  [6]HealthStatus
	trend   trend
	weekly  bool // the trend's weeks are up to date
	signals Signals
	seen    signalInputs
}

// openLoad are the items in flow.
type openLoad struct {
	in, out  []open // since the last update
	byType   [NumTypes]TypeLoad
	bases    ordered[int64] // of the ages, the oldest first
	sum      Span           // Σ bases, modulo 2^128
	last     ordered[int64] // last facts
	queue    map[statusKey]int
	byStatus []StatusLoad
	changed  bool // byStatus is to be made anew
}

func newStream(n *lens, index int) *stream {
	s := &stream{value: n.policy.ValueStreams[index], lens: n, listed: len(n.policy.Windows), horizon: math.MinInt64, farthest: math.MinInt64}
	s.writer = gauge{value: s.value, stream: index, lens: n}
	s.eraser = s.writer
	s.marks.compare, s.ends.compare, s.entries.compare = compareMarks, compareEnds, compareInstants
	s.marks.at = func(m mark) int64 { return m.at }
	s.load.bases.compare, s.load.last.compare = compareInstants, compareInstants
	s.load.queue = map[statusKey]int{}
	for _, w := range n.policy.Windows {
		s.edges = append(s.edges, newEdge(w, true))
	}
	for _, length := range [...]time.Duration{healthDays, throughputDays, balanceDays, reopenDays, reopenBefore} {
		if !slices.ContainsFunc(s.edges, func(e edge) bool { return e.length == length }) {
			s.edges = append(s.edges, newEdge(Window{Length: length}, length == healthDays))
		}
	}
	return s
}

// span returns the edge of a length.
func (s *stream) span(length time.Duration) *edge {
	for i := range s.edges {
		if s.edges[i].length == length {
			return &s.edges[i]
		}
	}
	panic("flow: no such span")
}

// replace puts the track of one timeline of an item in the place of that of
// another; either may be nil.
func (s *stream) replace(old, new *timeline) {
	s.counted = false
	s.latest = nil
	if old == nil && new.over(s.farthest) { // as most of a long history
		s.writer.trace(new, nil)
		s.weekly = false
		return
	}
	s.was.reset(s.horizon)
	s.is.reset(s.horizon)
	if old != nil {
		s.eraser.lifetime = lifetime{}
		s.eraser.trace(old, &s.was)
		s.writer.lifetime.add(&s.eraser.lifetime, -1)
	}
	if new != nil {
		s.writer.trace(new, &s.is)
	}
	same := 0 // nearly always what is new comes last
	for same < min(len(s.was.marks), len(s.is.marks)) && s.was.marks[same] == s.is.marks[same] {
		same++
	}
	was, is := s.was.marks[same:], s.is.marks[same:]
	s.entries.out = s.enter(s.entries.out, was)
	s.entries.in = s.enter(s.entries.in, is)
	// Who came and went before the horizon makes no difference to any edge.
	if !s.was.past(s.horizon) || !s.is.past(s.horizon) {
		s.marks.out = append(s.marks.out, was...)
		s.marks.in = append(s.marks.in, is...)
	}
	if !s.was.end.equal(&s.is.end) {
		if s.was.end.what != endNone && s.was.end.at >= s.farthest {
			s.ends.take(s.was.end)
		}
		if s.is.end.what != endNone && s.is.end.at >= s.farthest {
			s.ends.put(s.is.end)
		}
	}
	if s.was.open.is {
		s.load.out = append(s.load.out, s.was.open)
	}
	if s.is.open.is {
		s.load.in = append(s.load.in, s.is.open)
	}
}

// over reports whether an item went out of flow before an instant and stayed so.
func (t *timeline) over(at int64) bool {
	last := &t.segments[len(t.segments)-1]
	return last.at < at && !last.flowing()
}

// enter appends the entries among marks that matter to the weeks.
func (s *stream) enter(entries []int64, marks []mark) []int64 {
	for _, m := range marks {
		if m.kind != markEntry {
			continue
		}
		s.weekly = s.weekly && m.at >= s.trend.weeks.start
		if m.at >= s.farthest {
			entries = append(entries, m.at)
		}
	}
	return entries
}

// join takes in what was put into another stream that was never measured.
func (s *stream) join(o *stream) {
	s.marks.in = append(s.marks.in, o.marks.in...)
	s.ends.in = append(s.ends.in, o.ends.in...)
	s.load.in = append(s.load.in, o.load.in...)
	s.entries.in = append(s.entries.in, o.entries.in...)
	s.writer.lifetime.add(&o.writer.lifetime, 1)
	s.counted = false
}

// move brings the stream to an instant: edges first, then what is new.
func (s *stream) move(at int64, naming int) {
	if s.names != naming {
		s.names = naming
		s.load.changed = true
		for i := range s.edges {
			s.edges[i].changed = true
		}
	}
	if w := s.trend.weeks; w == nil || at < w.start || at >= w.end {
		s.trend.weeks, s.weekly = newSignalWeeks(s.value.Location, at), false
	}
	s.look(at)
	for i := range s.edges {
		s.edges[i].move(at-int64(s.edges[i].length), s)
	}
	s.trim()
	s.update()
}

// look sets how far back there is anything to see as of an instant.
func (s *stream) look(at int64) {
	longest := time.Duration(0)
	for i := range s.edges {
		longest = max(longest, s.edges[i].length)
	}
	s.horizon, s.farthest = at-int64(longest), at-int64(max(longest, signalDays))
}

// trim forgets what no span reaches any more.
func (s *stream) trim() {
	marks, ends := len(s.marks.list), sort.Search(len(s.ends.list), func(k int) bool { return s.ends.list[k].at >= s.farthest })
	for i := range s.edges {
		marks, ends = min(marks, s.edges[i].mark), min(ends, s.edges[i].end)
	}
	s.entries.list = s.entries.list[s.entries.below(s.farthest):]
	if marks+ends < 256 && marks+ends < len(s.marks.list) {
		return
	}
	s.marks.list = s.marks.list[marks:]
	clear(s.ends.list[:ends])
	s.ends.list = s.ends.list[ends:]
	for i := range s.edges {
		s.edges[i].mark -= marks
		s.edges[i].end -= ends
	}
}

// update works in what came and went with the tracks.
func (s *stream) update() {
	s.updateLoad()
	s.updateEntries()
	if len(s.marks.in)+len(s.marks.out)+len(s.ends.in)+len(s.ends.out) == 0 {
		return
	}
	s.marks.in, s.marks.out = s.countMarks(s.marks.in, 1), s.countMarks(s.marks.out, -1)
	s.ends.in, s.ends.out = s.countEnds(s.ends.in, 1), s.countEnds(s.ends.out, -1)
	s.marks.update()
	s.ends.update()
	for i := range s.edges {
		e := &s.edges[i]
		e.mark = sort.Search(len(s.marks.list), func(k int) bool { return s.marks.list[k].at >= e.from })
		e.end = sort.Search(len(s.ends.list), func(k int) bool { return s.ends.list[k].at >= e.from })
	}
}

// countMarks counts marks at every edge and returns those to be kept.
func (s *stream) countMarks(marks []mark, by int) []mark {
	for k := range marks {
		m := &marks[k]
		s.weekly = s.weekly && m.at >= s.trend.weeks.start
		for i := range s.edges {
			if e := &s.edges[i]; m.at >= e.from {
				e.countSince(m, by)
			} else {
				e.countBefore(m, by)
			}
		}
	}
	return slices.DeleteFunc(marks, func(m mark) bool { return m.at < s.horizon })
}

func (s *stream) countEnds(ends []end, by int) []end {
	for k := range ends {
		s.weekly = s.weekly && ends[k].at >= s.trend.weeks.start
		for i := range s.edges {
			if e := &s.edges[i]; ends[k].at >= e.from {
				e.countEnd(&ends[k], by, s.value.Targets.FlowTime)
			}
		}
	}
	return slices.DeleteFunc(ends, func(e end) bool { return e.at < s.farthest })
}

func (s *stream) updateEntries() {
	trimmed := func(at int64) bool { return at < s.farthest }
	s.entries.in, s.entries.out = slices.DeleteFunc(s.entries.in, trimmed), slices.DeleteFunc(s.entries.out, trimmed)
	s.entries.update()
}

func (s *stream) updateLoad() {
	l := &s.load
	if len(l.in)+len(l.out) == 0 {
		return
	}
	for _, o := range l.out {
		l.bases.take(o.base)
		l.last.take(o.lastFact)
		l.sum = l.sum.minus(product(1, o.base))
		s.countOpen(&o, -1)
	}
	for _, o := range l.in {
		l.bases.put(o.base)
		l.last.put(o.lastFact)
		l.sum = l.sum.Plus(product(1, o.base))
		s.countOpen(&o, 1)
	}
	l.in, l.out = emptied(l.in), emptied(l.out)
	l.bases.update()
	l.last.update()
	l.changed = true
}

func (s *stream) countOpen(o *open, by int) {
	if t := &s.load.byType[o.itemType]; o.key.state == Active {
		t.Active += by
	} else {
		t.Waiting += by
	}
	if s.load.queue[o.key] += by; s.load.queue[o.key] == 0 {
		delete(s.load.queue, o.key)
	}
}
