package flow

import (
	"maps"
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
	place  int       // of its lens
	writer gauge     // of tracks; its lifetime is that of all items ever
	eraser gauge     // of tracks that are taken back
	was    track     // of an item before ...
	is     track     // ... and after it was folded
	latest *Measures // nil: to be measured
	names  int       // the board's naming as of which statuses are called

	edges   []edge // those of the policy's windows first
	listed  int
	marks   ordered[mark] // since the horizon
	horizon int64         // the beginning of the longest span
	// What the weeks of the signals need reaches further back.
	ends    ordered[end]
	entries ordered[int64]
	before  int64

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

// signalInputs are what the signals depend on besides the trend's weeks and the
// ages.
type signalInputs struct {
	entries, exits, previous int
	completions, reopens     [2]int
	timed, throughput, load  int
	over, flowTime           Span
}

// An edge is the beginning of a span that ends at T.
type edge struct {
	length    time.Duration
	from      int64
	mark, end int // the first mark and the first end that are not before it

	// In flow just before it, by place, with the sum of their ages.
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
	changed   bool // what the ends add to
}

func newStream(n *lens, place, index int) *stream {
	s := &stream{value: n.policy.ValueStreams[index], place: place, listed: len(n.policy.Windows), horizon: math.MinInt64, before: math.MinInt64}
	s.writer = gauge{value: s.value, stream: index, lens: n}
	s.eraser = s.writer
	s.marks.compare, s.ends.compare, s.entries.compare = compareMarks, compareEnds, compareInstants
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
	if old == nil && new.over(s.before) {
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
	// Who was there before the horizon and is no more makes no difference.
	if !s.was.past(s.horizon) || !s.is.past(s.horizon) {
		s.marks.out = append(s.marks.out, was...)
		s.marks.in = append(s.marks.in, is...)
	}
	if !s.was.end.equal(&s.is.end) {
		if s.was.end.what != endNone && s.was.end.at >= s.before {
			s.ends.take(s.was.end)
		}
		if s.is.end.what != endNone && s.is.end.at >= s.before {
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
		if m.at >= s.before {
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
	s.horizon, s.before = at-int64(longest), at-int64(max(longest, signalDays))
}

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

// trim forgets what no span reaches any more.
func (s *stream) trim() {
	marks, ends := len(s.marks.list), sort.Search(len(s.ends.list), func(k int) bool { return s.ends.list[k].at >= s.before })
	for i := range s.edges {
		marks, ends = min(marks, s.edges[i].mark), min(ends, s.edges[i].end)
	}
	s.entries.list = s.entries.list[s.entries.below(s.before):]
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
	return slices.DeleteFunc(ends, func(e end) bool { return e.at < s.before })
}

func (s *stream) updateEntries() {
	trimmed := func(at int64) bool { return at < s.before }
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

// measure returns the numbers as of the instant to which the stream has moved.
func (s *stream) measure(at int64) *Measures {
	m := &Measures{ValueStream: s.value, At: time.Unix(0, at).UTC(), Quality: s.writer.lifetime.quality}
	s.measureLoad(&m.Load, at)
	if !s.counted {
		s.counted = true
		s.totals = s.writer.lifetime.totals
		for i := range s.totals {
			s.totals[i].FlowTimeFine = maps.Clone(s.totals[i].FlowTimeFine)
		}
	}
	m.Totals = s.totals
	health := s.span(healthDays)
	restated := health.changed
	for i := range s.edges {
		s.edges[i].refresh(&s.eraser, at)
	}
	if s.listed > 0 {
		m.Windows = make([]WindowMeasures, s.listed)
	}
	for i := range m.Windows {
		w, e := &m.Windows[i], &s.edges[i]
		e.measure(w, at, m.Load.Items)
		if w.LoadEnd-w.LoadStart != total(w.Entered[:])-total(w.Exited[:]) {
			m.LoadMismatch++ // I8
		}
		// The area under the load curve, drawn by the entries and exits, against
		// the presence, which is that of the moves.
		area := product(w.LoadStart, int64(e.length)).Plus(e.gained.value(at)).minus(e.lost.value(at))
		if area != w.All.Presence {
			m.PresenceMismatch++
		}
	}
	m.Throughput28 = s.span(throughputDays).w.All.Completed
	if m.Throughput28 > 0 {
		m.Predicted = float64(m.Load.Items) * throughputDays.Seconds() / float64(m.Throughput28)
	}
	m.Health = s.measureHealth(m, health, restated)
	m.Signals = s.measureSignals(m, at)
	return m
}

func total(counts []int) (n int) {
	for _, k := range counts {
		n += k
	}
	return n
}

func (s *stream) measureLoad(m *Load, at int64) {
	l := &s.load
	bases := l.bases.list // the oldest first
	n := len(bases)
	m.Items, m.ByType = n, l.byType
	if n > 0 {
		age := func(p float64) time.Duration { return time.Duration(at - bases[n-nearestRank(n, p)]) }
		m.AgeP50, m.AgeP85, m.Oldest = age(0.50), age(0.85), time.Duration(at-bases[0])
	}
	m.TotalAge = product(n, at).minus(l.sum)
	if target := s.value.Targets.FlowTime; target > 0 {
		m.OverTarget = l.bases.below(at - int64(target)) // R22
	}
	m.Neglected = l.last.below(at - int64(s.value.NeglectAfter) + 1)
	if l.changed {
		l.changed = false
		s.eraser.at, s.eraser.queue = at, l.queue
		l.byStatus = s.eraser.statusLoads()
	}
	m.ByStatus = l.byStatus
}

// refresh computes anew what depends on the ends alone, where these changed.
func (e *edge) refresh(names *gauge, at int64) {
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
	names.at = at
	e.w.Status = names.statusTimes(e.status)
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

// measureHealth gives the colours; four of them depend on the ends alone.
func (s *stream) measureHealth(m *Measures, e *edge, restated bool) []Health {
	target := s.value.Targets
	now := s.health
	if restated {
		now[0] = attainmentHealth(e.w.Attained, e.w.All.Timed, target)
		now[1] = flowTimeHealth(e.flowTimes[NumTypes].list, target)
		now[3] = distributionHealth(&e.w, target)
		now[4] = predictabilityHealth(&e.w.All)
	}
	now[2] = loadHealth(m, target, func(bound float64) bool {
		return stayedAbove(bound, m.Load.Items, s.crossings(m.At.UnixNano()-int64(redAfter)))
	})
	now[5] = Grey
	if expected, ok := e.over.Over(e.w.All.FlowTime()); ok {
		now[5] = overAgeHealth(expected, &m.Load, target)
	}
	s.health = now
	return []Health{
		{"attainment", now[0]}, {"flow_time", now[1]}, {"load", now[2]},
		{"distribution", now[3]}, {"predictability", now[4]}, {"over_age", now[5]},
	}
}

// crossings returns the entries and exits since an instant.
func (s *stream) crossings(since int64) (list []crossing) {
	for _, m := range slices.Backward(s.marks.list) {
		switch {
		case m.at < since:
			return list
		case m.kind == markEntry:
			list = append(list, crossing{m.at, 1})
		case m.kind == markExit:
			list = append(list, crossing{m.at, -1})
		}
	}
	return list
}

// measureSignals gives the signals: computed anew where a number changed that
// they depend on, but for the ages, which always do.
func (s *stream) measureSignals(m *Measures, at int64) Signals {
	balance, recent, before, health := s.span(balanceDays), s.span(reopenDays), s.span(reopenBefore), s.span(healthDays)
	now := signalInputs{
		entries: total(balance.w.Entered[:]), exits: total(balance.w.Exited[:]), previous: balance.loadBefore(),
		completions: [2]int{recent.w.CompletionEvents, before.w.CompletionEvents - recent.w.CompletionEvents},
		reopens:     [2]int{recent.w.ReopenEvents, before.w.ReopenEvents - recent.w.ReopenEvents},
		timed:       health.w.All.Timed, over: health.over, flowTime: health.w.All.FlowTime(),
		throughput: m.Throughput28, load: m.Load.Items,
	}
	if !s.weekly || now != s.seen {
		s.seen = now
		r := &s.trend
		r.t = at
		r.entries, r.exits, r.previous, r.completions, r.reopens = now.entries, now.exits, now.previous, now.completions, now.reopens
		r.timed, r.over, r.flowTime = now.timed, now.over, now.flowTime
		if !s.weekly {
			s.weekly = true
			s.measureWeeks()
		}
		s.signals = r.signals(m)
	}
	s.signals.TotalAgePrevious = balance.ages.value(balance.from)
	return s.signals
}

// measureWeeks gathers what the trend says of calendar weeks, which stays for the
// current one unless the facts of a past one change.
func (s *stream) measureWeeks() {
	r := &s.trend
	*r = trend{
		t: r.t, weeks: r.weeks, first: s.firstEntry(),
		entries: r.entries, exits: r.exits, previous: r.previous, completions: r.completions, reopens: r.reopens,
		timed: r.timed, over: r.over, flowTime: r.flowTime,
	}
	edge := s.span(reopenBefore) // begins before the weeks whose load counts
	load, last := edge.loadBefore(), edge.from
	spend := func(until int64) {
		for i := range r.presence {
			if d := min(until, r.weeks.load[i+1]) - max(last, r.weeks.load[i]); d > 0 && load > 0 {
				r.presence[i] = r.presence[i].Plus(product(load, d))
			}
		}
		last = until
	}
	for _, m := range s.marks.list[edge.mark:] {
		if m.kind == markMove && (m.from == 0) != (m.to == 0) {
			spend(m.at)
			if load++; m.to == 0 {
				load -= 2
			}
		}
	}
	spend(r.t)
	for i := range s.ends.list {
		d := &s.ends.list[i]
		if d.what == endDiscarded {
			continue
		}
		if week := r.week(d.at); week != nil {
			week.completed++
			if d.timed {
				week.flowTimes = append(week.flowTimes, d.active+d.waiting)
			}
		}
	}
}

// firstEntry returns the first entry, or an instant before any week of the
// signals where it is before them.
func (s *stream) firstEntry() int64 {
	entered := 0
	for i := range s.writer.lifetime.totals {
		entered += s.writer.lifetime.totals[i].Entered
	}
	switch {
	case entered > len(s.entries.list):
		return math.MinInt64
	case entered == 0:
		return math.MaxInt64
	}
	return s.entries.list[0]
}
