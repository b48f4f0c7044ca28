package flow

import "container/heap"

// An agenda says when items are to be looked at again. An item has one entry;
// what an entry replaced is passed over when it comes up.
type agenda struct {
	next  []due // by item; the zero due is none
	fresh []due // not in the heap so far
	heap  dueHeap
}

// A due is the instant after which something is to be done about an item.
type due struct {
	at   int64
	item uint32
	what errand
}

type errand uint8

const (
	errandFold   errand = 1 + iota // a fact takes effect
	errandSettle                   // it will have ended long ago
)

// grow makes place for as many items.
func (a *agenda) grow(items int) { a.next = append(a.next, make([]due, items-len(a.next))...) }

// set replaces an item's entry.
func (a *agenda) set(d due) {
	if a.next[d.item] != d {
		a.next[d.item] = d
		a.fresh = append(a.fresh, d)
	}
}

// drop removes an item's entry.
func (a *agenda) drop(it uint32) { a.next[it] = due{} }

// pop returns an entry that is due as of an instant: its own is before that.
func (a *agenda) pop(at int64) (d due, ok bool) {
	if len(a.fresh) > len(a.heap)/8 {
		a.heap = append(a.heap, a.fresh...)
		heap.Init(&a.heap)
	} else {
		for _, d := range a.fresh {
			heap.Push(&a.heap, d)
		}
	}
	a.fresh = emptied(a.fresh)
	for len(a.heap) > 0 && a.heap[0].at < at {
		d := heap.Pop(&a.heap).(due)
		if a.next[d.item] == d {
			a.drop(d.item)
			return d, true
		}
	}
	return due{}, false
}

// dueHeap has the earliest entry first.
type dueHeap []due

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)        { *h = append(*h, x.(due)) }

func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	d := (*h)[last]
	*h = (*h)[:last]
	return d
}
