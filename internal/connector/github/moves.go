package github

import (
	"sync"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// An origin is where a move on a board was learnt from.
type origin uint8

const (
	fromWebhook  origin = iota // the delivery tells from, to and when
	fromNow                    // the present value, asked for or in a snapshot of the board
	fromTimeline               // an event of the issue
)

const (
	// sameMove is how far apart two origins may date one move.
	sameMove = 5 * time.Second
	// moveKept is for how long a move is remembered.
	moveKept = 24 * time.Hour
	maxMoves = 1 << 16
)

// moves remembers the moves on a board that were told lately, so that what is
// told by one origin is not told again by another one under another id. It does
// not outlive the process, and forgetting loses nothing: the repeated fact has
// the status that the item has already. Its methods are safe for concurrent use.
type moves struct {
	mu     sync.Mutex
	byItem map[string][]move
	count  int
}

// A move is one that was told.
type move struct {
	to     flow.Value
	at     time.Time
	origin origin
	id     string    // of the change
	twins  [3]string // ids under which other origins know it, by origin
}

// told reports whether another origin has told of a change already, and if not
// remembers it as told by this one. The same change is told as often as it comes.
// What a snapshot shows does not count where something newer is known: then the
// Runner has left it out.
func (m *moves) told(c *flow.Change, by origin) bool {
	if time.Since(c.At) > moveKept {
		return false
	}
	to := c.Fields[0].To
	m.mu.Lock()
	defer m.mu.Unlock()
	known := m.byItem[c.Item]
	for k := range known {
		if known[k].id == c.ID {
			return false
		}
		if known[k].twins[by] == c.ID {
			return true
		}
		if by == fromNow && known[k].at.After(c.At.Add(sameMove)) {
			return false
		}
	}
	// Each move that is known stands for one of this origin's, the oldest first.
	for k := range known {
		o := &known[k]
		if o.origin != by && o.twins[by] == "" && sameStatus(o.to, to) && o.at.Sub(c.At).Abs() <= sameMove {
			o.twins[by] = c.ID
			return true
		}
	}
	m.add(c, by)
	return false
}

func (m *moves) add(c *flow.Change, by origin) {
	if m.byItem == nil || m.count >= maxMoves {
		m.byItem, m.count = make(map[string][]move), 0
	}
	known := m.byItem[c.Item]
	// The old ones of this item go when it moves again.
	kept := known[:0]
	for _, o := range known {
		if time.Since(o.at) <= moveKept {
			kept = append(kept, o)
		}
	}
	m.count += 1 + len(kept) - len(known)
	m.byItem[c.Item] = append(kept, move{to: c.Fields[0].To, at: c.At, origin: by, id: c.ID})
}

// sameStatus compares by id where both have one, for names change.
func sameStatus(a, b flow.Value) bool {
	if a.ID != "" && b.ID != "" {
		return a.ID == b.ID
	}
	return a.Name == b.Name
}
