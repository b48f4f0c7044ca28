package flow

import (
	"slices"
	"time"
)

// A gauge gathers the numbers of one value stream as of one instant, timeline
// by timeline.
type gauge struct {
	value   *ValueStream
	stream  int
	lens    *lens
	at      int64
	windows []windowGauge // the policy's, then the gauge's own
	listed  int           // how many of windows are the policy's
	items   bool          // list them
	track   *track        // of a board: write down instead of summing up

	load      Load
	ages      []time.Duration
	queue     map[statusKey]int
	lifetime  lifetime
	crossings []crossing // entries and exits of the last three days
	trend     *trend     // nil: there are no signals
	rows      []ItemMeasures
}

// lifetime is what a timeline adds to the numbers that have no window.
type lifetime struct {
	totals  [NumTypes]Totals
	quality StreamQuality
}

type crossing struct {
	at   int64
	step int
}

type statusKey struct {
	source, status uint32
	state          State
}

type windowGauge struct {
	WindowMeasures
	from      int64
	flowTimes [NumTypes][]time.Duration
	status    map[statusKey]Span
	gained    Span // Σ over entries of the time from the entry to T
	lost      Span // the same over exits
}

// The gauge's own windows: throughput is of the last 28 days, health of 30.
const (
	throughputDays = 28 * 24 * time.Hour
	healthDays     = 30 * 24 * time.Hour
	redAfter       = 3 * 24 * time.Hour // load over 1.2 limit for this long is red
)

func newGauge(n *lens, stream int, t int64, items bool) *gauge {
	g := &gauge{
		value: n.policy.ValueStreams[stream], stream: stream, lens: n, at: t,
		listed: len(n.policy.Windows), items: items, queue: map[statusKey]int{},
	}
	g.trend = newTrend(g.value.Location, t)
	if items {
		g.rows = []ItemMeasures{}
	}
	windows := append(slices.Clone(n.policy.Windows), Window{"", throughputDays}, Window{"", healthDays})
	for _, w := range windows {
		from := t - int64(w.Length)
		g.windows = append(g.windows, windowGauge{
			WindowMeasures: WindowMeasures{Window: w, From: time.Unix(0, from).UTC(), To: time.Unix(0, t).UTC()},
			from:           from,
			status:         map[statusKey]Span{},
		})
	}
	return g
}

// A story is what one walk along a timeline finds out about the item in one
// value stream.
type story struct {
	line            *timeline
	began           int64 // the first start, 0: never in flow
	started         bool
	active, waiting time.Duration
	reopens         int
	completion      int // segment of the last entry to done, -1: none
	in              bool
}

// observe adds one timeline.
func (g *gauge) observe(line *timeline) {
	s := story{line: line, completion: -1}
	segments := line.segments
	for k := range segments {
		seg := &segments[k]
		end := g.at
		if k+1 < len(segments) {
			end = segments[k+1].at
		}
		in := seg.flowing() && seg.class.member(g.stream)
		g.cross(&s, k, in)
		if seg.flowing() {
			if !s.started {
				s.started, s.began = true, seg.at
			}
			spent := time.Duration(end - seg.at)
			if seg.state == Active {
				s.active += spent
			} else {
				s.waiting += spent
			}
		}
		if in {
			g.present(seg, end)
			g.track.present(seg, end, s.active+s.waiting)
			g.trend.present(seg.at, end, s.active+s.waiting)
		}
		s.in = in
	}
	g.close(&s)
}

// cross notes what happens where one segment follows another: entries, exits,
// completions and reopenings.
func (g *gauge) cross(s *story, k int, in bool) {
	seg := &s.line.segments[k]
	member := seg.class.member(g.stream)
	if k == 0 {
		if in {
			reason := Started
			if s.line.leftCensored {
				reason = FirstSeen
			}
			g.enter(seg, reason)
		}
		if seg.state == Done && (g.lens.workflow.CountBornDone || s.line.leftCensored) {
			s.completion = 0
			if !s.line.leftCensored && member {
				g.complete(s, seg)
			}
		}
		return
	}
	before := &s.line.segments[k-1]
	switch {
	case in && !s.in:
		g.enter(seg, entryReason(before.state, s.started))
	case !in && s.in:
		g.exit(before, seg)
	}
	if seg.state == Done && before.state != Done {
		s.completion = k
		if member {
			g.complete(s, seg)
		}
	}
	if before.state.finished() && seg.state <= Active && !g.slip(s.line.segments, k) {
		s.reopens++
		if member {
			g.reopen(seg)
		}
	}
}

func entryReason(before State, started bool) Entry {
	switch {
	case before.finished():
		return Reopened
	case before.moving():
		return MovedIn
	case started:
		return Resumed
	}
	return Started
}

// exitReason gives the state's reason where it has one: it wins over a move at
// the same instant (R17).
func exitReason(after State) Exit {
	switch after {
	case Done:
		return ExitCompleted
	case Cancelled:
		return ExitCancelled
	case Gone:
		return ExitDeleted
	case New:
		return ExitReturned
	}
	return ExitMovedOut
}

// slip reports whether an excursion out of done or cancelled that begins at a
// segment ended within the grace (R7).
func (g *gauge) slip(segments []segment, k int) bool {
	for j := k + 1; j < len(segments); j++ {
		if segments[j].state.finished() {
			return segments[j].at-segments[k].at <= int64(g.lens.workflow.ReopenGrace)
		}
	}
	return false
}

func (g *gauge) enter(seg *segment, reason Entry) {
	g.lifetime.totals[seg.class.itemType].Entered++
	g.track.mark(seg.at, markEntry, uint8(reason))
	g.step(seg.at, 1)
	g.trend.enter(seg.at)
	for i := range g.windows {
		if w := &g.windows[i]; seg.at >= w.from {
			w.Entered[reason]++
			w.gained = w.gained.Add(time.Duration(g.at - seg.at))
		}
	}
}

func (g *gauge) exit(before, after *segment) {
	reason := exitReason(after.state)
	if reason == ExitCancelled {
		// Counted under the type with which the item was in flow.
		g.lifetime.totals[before.class.itemType].Cancelled++
	}
	g.track.mark(after.at, markExit, uint8(reason))
	g.step(after.at, -1)
	g.trend.exit(after.at)
	for i := range g.windows {
		if w := &g.windows[i]; after.at >= w.from {
			w.Exited[reason]++
			w.lost = w.lost.Add(time.Duration(g.at - after.at))
		}
	}
}

func (g *gauge) step(at int64, by int) {
	if at >= g.at-int64(redAfter) {
		g.crossings = append(g.crossings, crossing{at, by})
	}
}

// complete counts a completion event; an item may have several.
func (g *gauge) complete(s *story, seg *segment) {
	totals := &g.lifetime.totals[seg.class.itemType]
	totals.Completed++
	g.track.mark(seg.at, markCompletion, 0)
	if s.started && !s.line.leftCensored {
		took := s.active + s.waiting
		bucket, _ := slices.BinarySearch(flowTimeBounds[:], took) // the first bound that is not below
		totals.FlowTimeBuckets[bucket]++
		totals.FlowTimeCount++
		totals.FlowTimeSum = totals.FlowTimeSum.Add(took)
		if took > 0 {
			totals.fine(fineBucket(took), 1)
		}
	}
	g.trend.complete(seg.at)
	for i := range g.windows {
		if w := &g.windows[i]; seg.at >= w.from {
			w.CompletionEvents++
		}
	}
}

func (g *gauge) reopen(seg *segment) {
	g.lifetime.totals[seg.class.itemType].Reopened++
	g.track.mark(seg.at, markReopening, 0)
	g.trend.reopen(seg.at)
	for i := range g.windows {
		if w := &g.windows[i]; seg.at >= w.from {
			w.ReopenEvents++
		}
	}
}

// present adds the time of a segment in flow to every window that it touches.
func (g *gauge) present(seg *segment, end int64) {
	for i := range g.windows {
		w := &g.windows[i]
		if seg.at < w.from && w.from <= end {
			w.LoadStart++
		}
		if end <= w.from {
			continue
		}
		spent := time.Duration(end - max(seg.at, w.from))
		m := &w.ByType[seg.class.itemType]
		m.Presence = m.Presence.Add(spent)
		if seg.state == Active {
			m.PresenceActive = m.PresenceActive.Add(spent)
		}
	}
}

// close adds what is known only at the end of the walk.
func (g *gauge) close(s *story) {
	last := &s.line.segments[len(s.line.segments)-1]
	if s.in {
		g.loaded(s, last)
	}
	switch {
	case last.state == Done && s.completion >= 0:
		if seg := &s.line.segments[s.completion]; seg.class.member(g.stream) && !(s.completion == 0 && s.line.leftCensored) {
			g.completed(s, seg)
		}
	case last.state == Cancelled || last.state == Gone:
		g.discarded(s)
	}
	g.qualify(s)
	if g.items {
		g.list(s, last)
	}
}

func (g *gauge) loaded(s *story, last *segment) {
	if g.track != nil {
		g.track.loaded(s, last, g.at)
		return
	}
	age := s.active + s.waiting
	l := &g.load
	l.Items++
	t := &l.ByType[last.class.itemType]
	if last.state == Active {
		t.Active++
	} else {
		t.Waiting++
	}
	g.ages = append(g.ages, age)
	l.TotalAge = l.TotalAge.Add(age)
	if target := g.value.Targets.FlowTime; target > 0 && age > target {
		l.OverTarget++
	}
	if time.Duration(g.at-s.line.lastFact) >= g.value.NeglectAfter {
		l.Neglected++
	}
	g.queue[statusKey{s.line.source, last.status, last.state}]++
}

func (g *gauge) completed(s *story, seg *segment) {
	if g.track != nil {
		g.track.completed(s, seg, g.at)
		return
	}
	timed := s.timed()
	took := s.active + s.waiting
	g.trend.completed(seg.at, took, timed, g.value.Targets.FlowTime)
	for i := range g.windows {
		w := &g.windows[i]
		if seg.at < w.from {
			continue
		}
		m := &w.ByType[seg.class.itemType]
		m.Completed++
		if !timed {
			continue
		}
		m.Timed++
		m.Active = m.Active.Add(s.active)
		m.Waiting = m.Waiting.Add(s.waiting)
		w.flowTimes[seg.class.itemType] = append(w.flowTimes[seg.class.itemType], took)
		if took <= g.value.Targets.FlowTime {
			w.Attained++
		}
		s.eachStatus(g.at, func(key statusKey, spent time.Duration) { w.status[key] = w.status[key].Add(spent) })
	}
}

// timed reports whether a completed item has a flow time: its start is known.
func (s *story) timed() bool { return s.started && !s.line.leftCensored }

// eachStatus calls f for each stretch in flow.
func (s *story) eachStatus(t int64, f func(key statusKey, spent time.Duration)) {
	for k := range s.line.segments {
		if seg := &s.line.segments[k]; seg.flowing() {
			end := t
			if k+1 < len(s.line.segments) {
				end = s.line.segments[k+1].at
			}
			f(statusKey{s.line.source, seg.status, seg.state}, time.Duration(end-seg.at))
		}
	}
}

// discarded counts an item that is cancelled or gone, in the windows in which
// it left this value stream so (R18).
func (g *gauge) discarded(s *story) {
	latest, found := int64(0), false
	in := false
	for k := range s.line.segments {
		seg := &s.line.segments[k]
		now := seg.flowing() && seg.class.member(g.stream)
		if in && !now && (seg.state == Cancelled || seg.state == Gone) {
			latest, found = seg.at, true
		}
		in = now
	}
	if !found {
		return
	}
	if g.track != nil {
		g.track.discarded(s, latest)
		return
	}
	for i := range g.windows {
		if w := &g.windows[i]; latest >= w.from {
			w.Discarded++
			w.DiscardedTime = w.DiscardedTime.Add(s.active + s.waiting)
		}
	}
}

// qualify counts the item under the first heading that fits (R15).
func (g *gauge) qualify(s *story) {
	q := &g.lifetime.quality
	switch s.line.heading() {
	case headBornDone:
		q.BornDone++
	case headLeftCensored:
		q.LeftCensored++
	case headWithoutStart:
		q.CompletedWithoutStart++
	case headNeverActive:
		q.CompletedNeverActive++
	}
}

func (g *gauge) list(s *story, last *segment) {
	shown := last
	finished := time.Time{}
	if last.state == Done {
		switch {
		case s.completion < 0: // born done
			return
		case s.completion > 0 || !s.line.leftCensored:
			finished = time.Unix(0, s.line.segments[s.completion].at).UTC()
		}
		shown = &s.line.segments[s.completion]
	}
	if !shown.class.member(g.stream) {
		return
	}
	it := &g.lens.ledger.items[s.line.item]
	row := ItemMeasures{
		Source: g.lens.ledger.texts.list[s.line.source], Item: g.lens.ledger.idText(it.id), Key: g.lens.ledger.key(s.line.item, g.at),
		Type: shown.class.itemType, State: last.state, FinishedAt: finished,
		Active: s.active, Waiting: s.waiting, Reopens: s.reopens, InFlow: s.in,
		LeftCensored: s.line.leftCensored, LastFactAt: time.Unix(0, s.line.lastFact).UTC(),
		Status: g.lens.statusName(s.line.source, last.status, g.at), StatusSince: s.line.statusSince(),
	}
	if s.timed() {
		row.StartedAt = time.Unix(0, s.began).UTC()
	}
	if s.in {
		row.Age = s.active + s.waiting
	}
	if last.state == Done && !finished.IsZero() && s.timed() {
		row.HasFlowTime, row.FlowTime = true, s.active+s.waiting
		row.Elapsed = finished.Sub(row.StartedAt)
	}
	times := map[statusKey]Span{}
	s.eachStatus(g.at, func(key statusKey, spent time.Duration) { times[key] = times[key].Add(spent) })
	row.StatusTime = g.lens.statusTimes(times, g.at)
	g.rows = append(g.rows, row)
}

// statusSince returns the start of the current stay in the status.
func (t *timeline) statusSince() time.Time {
	k := len(t.segments) - 1
	for k > 0 && t.segments[k-1].status == t.segments[k].status && t.segments[k-1].state == t.segments[k].state {
		k--
	}
	return time.Unix(0, t.segments[k].at).UTC()
}
