package flow

import "slices"

// A detour is a board for a stretch of time in which the facts are others than
// later: the second of two conflicting changes is dated before the first, which
// does not exist yet (R1).
type detour struct {
	board *Board
	until int64 // the last instant of the stretch
	told  [3]int
}

// detour returns the detour for an instant, nil where there is none.
func (b *Board) detour(at int64) *detour {
	l := b.ledger
	if !b.told.contested(l, at) {
		b.other = nil
		return nil
	}
	told := [...]int{l.count, len(l.duplicates), len(l.conflicts)}
	if b.other == nil || at > b.other.until || b.other.told != told {
		past, until := l.asOf(at)
		b.other = &detour{board: NewBoard(b.policy, past), until: until, told: told}
	}
	return b.other
}

// told keeps the changes of a ledger that are no facts, in the order of time.
type told struct {
	duplicates, conflicts ordered[int64]
	stretches             [][2]int64 // of conflicts: from after the one to the other
	seen                  [2]int
}

func newTold() told {
	return told{duplicates: ordered[int64]{compare: compareInstants}, conflicts: ordered[int64]{compare: compareInstants}}
}

func (t *told) update(l *Ledger) {
	for _, at := range l.duplicates[t.seen[0]:] {
		t.duplicates.put(at)
	}
	for i := t.seen[1]; i < len(l.conflicts); i++ {
		at, first := l.conflicts[i].change.At.UnixNano(), l.fact(l.conflicts[i].of).at
		t.conflicts.put(at)
		if at < first {
			t.stretches = append(t.stretches, [2]int64{at, first})
		}
	}
	t.seen = [...]int{len(l.duplicates), len(l.conflicts)}
	t.duplicates.update()
	t.conflicts.update()
}

// before counts the duplicates and conflicts dated before an instant.
func (t *told) before(l *Ledger, at int64) (duplicates, conflicts int) {
	t.update(l)
	return t.duplicates.below(at), t.conflicts.below(at)
}

// contested reports whether the facts as of an instant are others than later.
func (t *told) contested(l *Ledger, at int64) bool {
	t.update(l)
	return slices.ContainsFunc(t.stretches, func(s [2]int64) bool { return s[0] < at && at <= s[1] })
}
