package flow

import (
	"maps"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A Board keeps the numbers of a policy up to date while changes come in. It
// gives the same snapshots as [Measure], and measures again only the value
// streams that a change touches.
//
// Items that ended longer ago than any window looks are settled: what they add
// to the counters is summed up and their timelines are dropped, so that a board
// needs memory for the facts and for the items of the day.
//
// A Board is not safe for concurrent use; its snapshots are.
type Board struct {
	policy *Policy
	hash   string
	ledger *Ledger
	lenses []*lens
	keep   time.Duration // how long after its end an item still matters

	live    map[uint32]*folded
	settled []bool              // by item
	dirty   map[uint32]struct{} // to be folded again
	links   *links              // as of the last folding; what is linked never settles
	streams []boardStream
	quality Quality
	renames int // Ledger.renames when the value streams were last measured
	built   bool
}

// folded is an item's timeline under each lens.
type folded struct{ lines []timeline }

type boardStream struct {
	lens    *lens
	place   int // of the lens
	live    map[uint32]*folded
	settled *gauge    // without windows: what settled items add to the counters
	latest  *Measures // nil: to be measured
}

// NewBoard returns a board over the facts of a ledger. From then on changes are
// added through the board alone.
func NewBoard(p *Policy, l *Ledger) *Board {
	b := &Board{
		policy: p, hash: p.Hash(), ledger: l, lenses: lenses(p, l), keep: signalDays,
		live: map[uint32]*folded{}, dirty: map[uint32]struct{}{},
		streams: make([]boardStream, len(p.ValueStreams)), quality: newQuality(),
	}
	for _, w := range p.Windows {
		b.keep = max(b.keep, w.Length)
	}
	for place, n := range b.lenses {
		for _, i := range n.streams {
			b.streams[i] = boardStream{lens: n, place: place, live: map[uint32]*folded{}, settled: b.counter(n, i)}
		}
	}
	return b
}

// counter returns a gauge for the numbers that have no window.
func (b *Board) counter(n *lens, stream int) *gauge {
	return &gauge{value: b.policy.ValueStreams[stream], stream: stream, lens: n}
}

// Ledger returns the facts. Nobody but the board may add to them.
func (b *Board) Ledger() *Ledger { return b.ledger }

// Add takes a change into the facts, as [Ledger.Add] does.
func (b *Board) Add(c *Change) Outcome {
	if b.built {
		if it, ok := b.ledger.lookup(c.Source, c.Item); ok {
			b.unsettle(it)
		}
	}
	outcome, it := b.ledger.add(c)
	if b.built {
		b.dirty[it] = struct{}{}
	}
	return outcome
}

// Snapshot returns the numbers as of an instant that is not before that of the
// last call. With everything each value stream is measured as of t; without,
// one that no change touched keeps its numbers and their instant
// ([Measures.At]).
func (b *Board) Snapshot(t time.Time, everything bool) *Snapshot {
	at := t.UnixNano()
	if b.ledger.asOf(at) != b.ledger {
		return Measure(b.policy, b.ledger, t, Options{})
	}
	b.refold(at)
	if everything {
		b.settle(at)
	}
	everything = everything || b.renames != b.ledger.renames
	b.renames = b.ledger.renames
	s := &Snapshot{At: t.UTC().Round(0), PolicyHash: b.hash, Quality: b.quality.clone()}
	s.Quality.Duplicates, s.Quality.Conflicts = b.ledger.duplicatesBefore(at)
	for i := range b.streams {
		if st := &b.streams[i]; everything || st.latest == nil {
			st.latest = b.measure(i, at)
		}
		s.ValueStreams = append(s.ValueStreams, b.streams[i].latest)
	}
	return s
}

func (b *Board) measure(stream int, at int64) *Measures {
	st := &b.streams[stream]
	g := newGauge(st.lens, stream, at, false)
	g.lifetime.add(&st.settled.lifetime, 1) // a copy: its maps are its own
	for i := range g.lifetime.totals {
		if g.lifetime.totals[i].Entered > 0 {
			g.trend.first = math.MinInt64 // settled items entered before any week of the signals
		}
	}
	for _, f := range st.live {
		g.observe(&f.lines[st.place])
	}
	return g.measures()
}

// refold folds again the items that changed.
func (b *Board) refold(at int64) {
	before := b.links
	b.links = b.ledger.links(at)
	b.settled = append(b.settled, make([]bool, len(b.ledger.items)-len(b.settled))...)
	if !b.built {
		b.build(at)
		return
	}
	// What is linked, or was, depends on more than its own facts.
	for _, links := range [...]*links{before, b.links} {
		for alias, record := range links.record {
			for _, it := range [...]uint32{alias, record} {
				b.unsettle(it)
				b.dirty[it] = struct{}{}
			}
		}
	}
	dirty := b.dirty
	b.dirty = map[uint32]struct{}{}
	for it := range dirty {
		b.drop(it)
		b.fold(it, at)
	}
}

// build folds everything for the first time, on all processors: each folds a
// share of the items into a board of its own, and these are put together.
func (b *Board) build(at int64) {
	b.built = true
	items := len(b.ledger.items)
	parts := make([]*Board, min(runtime.GOMAXPROCS(0), max(items/1000, 1)))
	var group sync.WaitGroup
	for i := range parts {
		part := NewBoard(b.policy, b.ledger)
		part.links, part.settled = b.links, b.settled // each writes for its own items
		parts[i] = part
		group.Go(func() {
			for it := i * items / len(parts); it < (i+1)*items/len(parts); it++ {
				part.fold(uint32(it), at)
			}
		})
	}
	group.Wait()
	for _, part := range parts {
		maps.Copy(b.live, part.live)
		maps.Copy(b.dirty, part.dirty)
		b.quality.add(&part.quality)
		for i := range b.streams {
			maps.Copy(b.streams[i].live, part.streams[i].live)
			b.streams[i].settled.lifetime.add(&part.streams[i].settled.lifetime, 1)
		}
	}
}

// fold takes an item in.
func (b *Board) fold(it uint32, at int64) {
	if b.ledger.newest >= at {
		b.ledger.eachFact(it, func(_ uint32, f *fact) {
			if f.at >= at {
				b.dirty[it] = struct{}{} // its time will come
			}
		})
	}
	if b.links.hidden(it) {
		b.dirty[it] = struct{}{} // until the link goes
		return
	}
	lines := foldAll(nil, b.lenses, it, at, b.links.evidence(it))
	if len(lines) == 0 {
		return
	}
	b.quality.qualify(b.ledger, lines, 1)
	if b.ended(it, lines, at) {
		b.count(lines)
		b.settled[it] = true
		return
	}
	f := &folded{lines: slices.Clone(lines)}
	for i := range f.lines {
		f.lines[i].segments = slices.Clone(f.lines[i].segments)
		f.lines[i].unmapped = slices.Clone(f.lines[i].unmapped)
	}
	b.live[it] = f
	b.touch(lines, func(st *boardStream) { st.live[it] = f })
}

// touch calls f for each value stream that a timeline was ever in; its numbers
// are to be measured anew.
func (b *Board) touch(lines []timeline, f func(*boardStream)) {
	for i := range lines {
		for _, stream := range lines[i].appendStreams(nil) {
			b.streams[stream].latest = nil
			f(&b.streams[stream])
		}
	}
}

// drop takes a live item out.
func (b *Board) drop(it uint32) {
	f, ok := b.live[it]
	if !ok {
		return
	}
	delete(b.live, it)
	b.quality.qualify(b.ledger, f.lines, -1)
	b.touch(f.lines, func(st *boardStream) { delete(st.live, it) })
}

// ended reports whether an item no longer matters to any window, as far as its
// own facts tell.
func (b *Board) ended(it uint32, lines []timeline, at int64) bool {
	if _, waits := b.dirty[it]; waits || len(b.links.evidence(it)) > 0 {
		return false
	}
	for i := range lines {
		last := &lines[i].segments[len(lines[i].segments)-1]
		if last.at >= at-int64(b.keep) || last.flowing() {
			return false
		}
	}
	return true
}

// settle drops the timelines of items that ended long ago.
func (b *Board) settle(at int64) {
	for it, f := range b.live {
		if !b.ended(it, f.lines, at) {
			continue
		}
		delete(b.live, it)
		b.touch(f.lines, func(st *boardStream) { delete(st.live, it) })
		b.count(f.lines)
		b.settled[it] = true
	}
}

// unsettle makes a settled item ready to be folded again. It must be called
// before a fact is added to it.
func (b *Board) unsettle(it uint32) {
	if int(it) >= len(b.settled) || !b.settled[it] {
		return
	}
	b.settled[it] = false
	lines := foldAll(nil, b.lenses, it, 1<<63-1, nil)
	b.quality.qualify(b.ledger, lines, -1)
	for i := range lines {
		for _, stream := range lines[i].appendStreams(nil) {
			g := b.counter(b.lenses[i], stream)
			g.observeAll(&lines[i])
			b.streams[stream].settled.lifetime.add(&g.lifetime, -1)
			b.streams[stream].latest = nil
		}
	}
	b.dirty[it] = struct{}{}
}

// count adds what timelines give to the counters of their value streams.
func (b *Board) count(lines []timeline) {
	var streams [8]int
	for i := range lines {
		for _, stream := range lines[i].appendStreams(streams[:0]) {
			b.streams[stream].settled.observeAll(&lines[i])
			b.streams[stream].latest = nil
		}
	}
}

// observeAll is observe for a gauge without windows and a timeline that has
// ended: as of any later instant the counters are the same.
func (g *gauge) observeAll(line *timeline) {
	g.at = line.segments[len(line.segments)-1].at
	g.observe(line)
	g.crossings = g.crossings[:0]
}

func (l *lifetime) add(o *lifetime, by int) {
	sum := func(a, b Span) Span {
		if by < 0 {
			return a.minus(b)
		}
		return a.Plus(b)
	}
	for i := range l.totals {
		t, u := &l.totals[i], &o.totals[i]
		t.Entered += by * u.Entered
		t.Completed += by * u.Completed
		t.Reopened += by * u.Reopened
		t.Cancelled += by * u.Cancelled
		t.FlowTimeCount += by * u.FlowTimeCount
		t.FlowTimeSum = sum(t.FlowTimeSum, u.FlowTimeSum)
		for k := range t.FlowTimeBuckets {
			t.FlowTimeBuckets[k] += by * u.FlowTimeBuckets[k]
		}
		for bucket, n := range u.FlowTimeFine {
			t.fine(bucket, by*n)
		}
	}
	l.quality.BornDone += by * o.quality.BornDone
	l.quality.LeftCensored += by * o.quality.LeftCensored
	l.quality.CompletedWithoutStart += by * o.quality.CompletedWithoutStart
	l.quality.CompletedNeverActive += by * o.quality.CompletedNeverActive
}

// fine counts n flow times in an exponential bucket.
func (t *Totals) fine(bucket, n int) {
	if t.FlowTimeFine == nil {
		t.FlowTimeFine = map[int]int{}
	}
	if t.FlowTimeFine[bucket] += n; t.FlowTimeFine[bucket] == 0 {
		delete(t.FlowTimeFine, bucket)
	}
	if len(t.FlowTimeFine) == 0 {
		t.FlowTimeFine = nil
	}
}

// add adds what was counted over other items. Duplicates and conflicts are not
// counted by items.
func (q *Quality) add(o *Quality) {
	for k, n := range o.UnmappedStatuses {
		count(q.UnmappedStatuses, k, n)
	}
	for k, n := range o.UnmappedItems {
		count(q.UnmappedItems, k, n)
	}
	q.BornDone += o.BornDone
	q.LeftCensored += o.LeftCensored
	q.CompletedWithoutStart += o.CompletedWithoutStart
	q.CompletedNeverActive += o.CompletedNeverActive
	q.IgnoredByType += o.IgnoredByType
	q.HistoryGaps += o.HistoryGaps
}

func (q *Quality) clone() Quality {
	c := *q
	c.UnmappedStatuses, c.UnmappedItems = map[string]int{}, map[string]int{}
	for k, n := range q.UnmappedStatuses {
		c.UnmappedStatuses[k] = n
	}
	for k, n := range q.UnmappedItems {
		c.UnmappedItems[k] = n
	}
	return c
}
