package flow

import (
	"cmp"
	"slices"
	"time"
)

// A track is what the life of one item leaves in one value stream. It depends on
// the timeline alone, not on the instant of measuring, so it is worth keeping: as
// time goes on, a window only passes over it. A gauge with a track writes it as
// it observes a timeline, so the rules are those of the plain way.
type track struct {
	marks []mark
	end   end  // how it ended, if it did
	open  open // how it is in flow, if it is

	since int64 // how far back it matters which statuses an item that ended was in

	place place // of the last presence, 0: none or noted as over
	until int64
	base  int64

	status []statusSpent // kept for its memory
}

// reset makes it the track of nothing.
func (t *track) reset(since int64) {
	*t = track{marks: t.marks[:0], status: t.status[:0], since: since}
}

// A mark is something that happens at an instant.
type mark struct {
	at   int64
	base int64 // of a move: the item's age is t − base while it stays
	kind markKind
	// from and to are the places of a move. Of entries and exits, to is the reason.
	from, to uint8
}

type markKind uint8

const (
	markEntry markKind = iota
	markExit
	markCompletion // the event, of which an item may have several
	markReopening
	markMove // from one place to another: the edges of the presence
)

func compareMarks(a, b mark) int {
	if a.at != b.at {
		return compare(a.at, b.at)
	}
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to), cmp.Compare(a.base, b.base))
}

// A place is where an item in flow is present: by type and activity. The zero
// place is out of flow or in other value streams.
type place uint8

const numPlaces = 1 + 2*NumTypes

func placeOf(t ItemType, active bool) place {
	if active {
		return place(2 + 2*t)
	}
	return place(1 + 2*t)
}

// An end is the last thing that happens to an item that is done, cancelled or
// gone. It is taken back where the item goes on.
type end struct {
	at              int64
	item            uint32
	what            ending
	timed           bool
	itemType        ItemType
	active, waiting time.Duration
	status          []statusSpent // of a timed item
}

type ending uint8

const (
	endNone      ending = iota
	endCompleted        // done, and completed in the value stream
	endDiscarded        // cancelled or gone, from flow in the value stream
)

type statusSpent struct {
	key   statusKey
	spent time.Duration
}

func compareEnds(a, b end) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.item, b.item)) }

func (e *end) equal(o *end) bool {
	return e.at == o.at && e.what == o.what && e.timed == o.timed && e.itemType == o.itemType &&
		e.active == o.active && e.waiting == o.waiting && slices.Equal(e.status, o.status)
}

// open is an item in flow.
type open struct {
	is       bool
	base     int64 // its age as of t is t − base
	lastFact int64
	itemType ItemType
	key      statusKey
}

// trace writes the track of a timeline in the gauge's value stream, over that of
// the last one. What the item adds to the numbers without a window is added to
// the gauge's; that is all without a track.
func (g *gauge) trace(line *timeline, t *track) {
	g.track = t
	// As of its last segment, so that an open one has no length yet.
	g.at = line.segments[len(line.segments)-1].at
	g.observe(line)
	g.crossings = g.crossings[:0]
	if t != nil && t.place != 0 && !t.open.is {
		t.leave()
	}
}

func (t *track) mark(at int64, kind markKind, to uint8) {
	if t != nil {
		t.marks = append(t.marks, mark{at: at, kind: kind, to: to})
	}
}

// present notes a segment in flow that ends at an instant, when the item has a
// certain age.
func (t *track) present(seg *segment, end int64, age time.Duration) {
	if t == nil {
		return
	}
	if t.place != 0 && t.until != seg.at {
		t.leave()
	}
	t.until, t.base = end, end-int64(age)
	if p := placeOf(seg.class.itemType, seg.state == Active); p != t.place {
		t.move(seg.at, p)
	}
}

func (t *track) leave() { t.move(t.until, 0) }

func (t *track) move(at int64, to place) {
	t.marks = append(t.marks, mark{at: at, base: t.base, kind: markMove, from: uint8(t.place), to: uint8(to)})
	t.place = to
}

func (t *track) loaded(s *story, last *segment, at int64) {
	t.open = open{
		is: true, base: at - int64(s.active+s.waiting), lastFact: s.line.lastFact, itemType: last.class.itemType,
		key: statusKey{s.line.source, last.status, last.state},
	}
}

func (t *track) completed(s *story, seg *segment, at int64) {
	t.end = end{at: seg.at, item: s.line.item, what: endCompleted, timed: s.timed(), itemType: seg.class.itemType, active: s.active, waiting: s.waiting}
	if t.end.timed && seg.at >= t.since {
		s.eachStatus(at, func(key statusKey, spent time.Duration) {
			t.spend(statusSpent{key, spent})
		})
		t.end.status = slices.Clone(t.status)
	}
}

func (t *track) spend(v statusSpent) {
	if i := slices.IndexFunc(t.status, func(o statusSpent) bool { return o.key == v.key }); i >= 0 {
		t.status[i].spent += v.spent
		return
	}
	t.status = append(t.status, v)
}

// past reports whether all of it lies before an instant.
func (t *track) past(at int64) bool {
	return !t.open.is && !slices.ContainsFunc(t.marks, func(m mark) bool { return m.at >= at })
}

func (t *track) discarded(s *story, latest int64) {
	t.end = end{at: latest, item: s.line.item, what: endDiscarded, active: s.active, waiting: s.waiting}
}
