package flow

import (
	"maps"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"
)

// A Board keeps the numbers of a policy up to date while changes come in and
// time goes on. It gives the same snapshots as [Measure], for the cost of what
// has happened since the last one: an item is folded again when a fact of it is
// added or takes effect, and measuring passes over what the fold changed. How a
// value stream is measured is told in slide.go.
//
// Items that ended longer ago than any window looks are settled: what they add
// to the numbers stays, their timelines are dropped, so that a board needs memory
// for the facts and for the items of the day.
//
// A Board is not safe for concurrent use; its snapshots are. A board writes to
// its ledger in Add alone: any number of boards may share one to which nobody
// adds, each in a goroutine of its own.
type Board struct {
	policy *Policy
	hash   string
	ledger *Ledger
	lenses []*lens
	keep   time.Duration // how long after its end an item still matters

	live    map[uint32][]timeline // by item, under each lens
	settled []bool                // by item
	dirty   map[uint32]struct{}   // to be folded again
	lines   []timeline            // of the last fold
	agenda  agenda                // of what time alone makes dirty, or settles
	linker  linker
	streams []*stream
	naming  namingClock
	quality Quality
	counted *Quality // a copy of quality for the snapshots, nil after a change
	told    told
	other   *detour
	built   bool
}

// NewBoard returns a board over the facts of a ledger, which may reach further
// than the instants that are asked for. From then on changes are added through
// the board alone.
func NewBoard(p *Policy, l *Ledger) *Board {
	b := newBoard(p, l)
	b.hash = p.Hash()
	return b
}

func newBoard(p *Policy, l *Ledger) *Board {
	b := &Board{
		policy: p, ledger: l, lenses: lenses(p, l), keep: max(throughputDays, healthDays),
		live: map[uint32][]timeline{}, dirty: map[uint32]struct{}{}, linker: newLinker(),
		streams: make([]*stream, len(p.ValueStreams)), quality: newQuality(), told: newTold(),
	}
	for _, w := range p.Windows {
		b.keep = max(b.keep, w.Length)
	}
	for _, n := range b.lenses {
		for _, i := range n.streams {
			b.streams[i] = newStream(n, i)
		}
	}
	return b
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
	if d := b.detour(at); d != nil {
		return d.board.Snapshot(t, true)
	}
	b.advance(at)
	renamed := b.naming.update(b.ledger, at)
	if b.counted == nil {
		q := b.quality.clone()
		b.counted = &q
	}
	s := &Snapshot{At: t.UTC().Round(0), PolicyHash: b.hash, Quality: *b.counted}
	s.Quality.Duplicates, s.Quality.Conflicts = b.told.before(b.ledger, at)
	s.ValueStreams = make([]*Measures, len(b.streams))
	for i, st := range b.streams {
		if everything || renamed || st.latest == nil {
			st.move(at, b.naming.version)
			st.latest = st.measure(at)
		}
		s.ValueStreams[i] = st.latest
	}
	return s
}

// advance folds again the items that changed or that facts took effect of.
func (b *Board) advance(at int64) {
	b.settled = append(b.settled, make([]bool, len(b.ledger.items)-len(b.settled))...)
	b.agenda.grow(len(b.ledger.items))
	if !b.built {
		b.built = true
		b.linker.update(b.ledger, at, nil)
		b.build(at)
		return
	}
	for d, ok := b.agenda.pop(at); ok; d, ok = b.agenda.pop(at) {
		_, dirty := b.dirty[d.item]
		switch {
		case dirty: // its timelines are not those of its facts
		case d.what == errandFold:
			b.dirty[d.item] = struct{}{}
		case b.ended(d.item, b.live[d.item], at):
			delete(b.live, d.item)
			b.settled[d.item] = true
		}
	}
	b.linker.update(b.ledger, at, b.dirty)
	for it := range b.dirty {
		b.unsettle(it)
		b.fold(it, at)
	}
	clear(b.dirty)
}

// build folds everything for the first time, on all processors: each folds a
// share of the items into a board of its own, and these are put together.
func (b *Board) build(at int64) {
	items := len(b.ledger.items)
	parts := make([]*Board, min(runtime.GOMAXPROCS(0), max(items/1000, 1)))
	var group sync.WaitGroup
	for i := range parts {
		part := newBoard(b.policy, b.ledger)
		part.linker.links, part.settled, part.agenda.next = b.linker.links, b.settled, b.agenda.next // each writes for its own items
		for _, s := range part.streams {
			s.look(at)
		}
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
		b.agenda.fresh = append(b.agenda.fresh, part.agenda.fresh...)
		b.quality.add(&part.quality)
	}
	for i, s := range b.streams {
		group.Go(func() {
			for _, part := range parts {
				s.join(part.streams[i])
			}
			s.move(at, 0)
		})
	}
	group.Wait()
}

// fold puts an item's life as of an instant in the place of what was known.
func (b *Board) fold(it uint32, at int64) {
	old := b.live[it]
	var lines []timeline
	links := b.linker.links
	if !links.hidden(it) {
		b.lines = foldAll(b.lines[:0], b.lenses, it, at, links.evidence(it))
		lines = b.lines
	}
	if len(old)+len(lines) > 0 {
		b.replace(old, lines)
		delete(b.live, it)
	}
	if b.ended(it, lines, at) {
		b.settled[it] = true
		return
	}
	if len(lines) > 0 {
		b.live[it] = cloneLines(lines)
	}
	b.schedule(it, lines, at)
}

// cloneLines copies timelines, which last until the lenses fold again.
func cloneLines(lines []timeline) []timeline {
	lines = slices.Clone(lines)
	for i := range lines {
		lines[i].segments = slices.Clone(lines[i].segments)
		lines[i].unmapped = slices.Clone(lines[i].unmapped)
	}
	return lines
}

// schedule notes when time alone will change something about an item: when its
// next fact takes effect, or else when it has ended long enough ago.
func (b *Board) schedule(it uint32, lines []timeline, at int64) {
	if next, ok := b.nextFact(it, at); ok {
		b.agenda.set(due{next, it, errandFold})
		return
	}
	if last, ok := b.lastSegment(it, lines); ok {
		b.agenda.set(due{last + int64(b.keep), it, errandSettle})
		return
	}
	b.agenda.drop(it)
}

// nextFact returns when the first fact of an item that is not before an instant
// happens.
func (b *Board) nextFact(it uint32, at int64) (next int64, ok bool) {
	if b.ledger.newest < at {
		return 0, false // as nearly always while changes come in
	}
	b.ledger.eachFact(it, func(_ uint32, f *fact) {
		if f.at >= at && (!ok || f.at < next) {
			next, ok = f.at, true
		}
	})
	return next, ok
}

// lastSegment returns when the last segment of an item began that is out of flow,
// as far as its own facts tell; ok is false where it is in flow, or linked.
func (b *Board) lastSegment(it uint32, lines []timeline) (last int64, ok bool) {
	if len(lines) == 0 || len(b.linker.links.evidence(it)) > 0 {
		return 0, false
	}
	last = lines[0].segments[0].at
	for i := range lines {
		seg := &lines[i].segments[len(lines[i].segments)-1]
		if seg.flowing() {
			return 0, false
		}
		last = max(last, seg.at)
	}
	return last, true
}

// ended reports whether an item no longer matters to any window.
func (b *Board) ended(it uint32, lines []timeline, at int64) bool {
	last, ok := b.lastSegment(it, lines)
	if !ok || last >= at-int64(b.keep) {
		return false
	}
	_, waits := b.nextFact(it, at)
	return !waits
}

// unsettle gives a settled item its timelines back. It must be called before a
// fact is added to the item.
func (b *Board) unsettle(it uint32) {
	if int(it) >= len(b.settled) || !b.settled[it] {
		return
	}
	b.settled[it] = false
	b.lines = foldAll(b.lines[:0], b.lenses, it, math.MaxInt64, nil)
	b.live[it] = cloneLines(b.lines)
}

// replace puts an item's timelines in the place of others, in each value stream
// that it was ever in; its numbers are to be measured anew. Either may be none.
func (b *Board) replace(old, new []timeline) {
	b.quality.qualify(b.ledger, old, -1)
	b.quality.qualify(b.ledger, new, 1)
	b.counted = nil
	var streams, more [8]int
	for i := range b.lenses {
		was, is := streams[:0], more[:0]
		if len(old) > 0 {
			was = old[i].appendStreams(was)
		}
		if len(new) > 0 {
			is = new[i].appendStreams(is)
		}
		for _, stream := range is {
			if slices.Contains(was, stream) {
				b.streams[stream].replace(&old[i], &new[i])
			} else {
				b.streams[stream].replace(nil, &new[i])
			}
		}
		for _, stream := range was {
			if !slices.Contains(is, stream) {
				b.streams[stream].replace(&old[i], nil)
			}
		}
	}
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
