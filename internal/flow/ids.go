package flow

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"strconv"
)

// How a ledger stores the ids of changes, eight bytes each, and finds them.

// plainNumber reads an id that is a number in its only decimal form.
func plainNumber(id string) (uint64, bool) {
	if len(id) == 0 || len(id) > 18 || (id[0] == '0' && len(id) > 1) {
		return 0, false
	}
	var n uint64
	for i := range len(id) {
		d := id[i] - '0'
		if d > 9 {
			return 0, false
		}
		n = n*10 + uint64(d)
	}
	return n, true
}

const (
	idText     = 0 // id>>2 is a place in Ledger.ids
	idNumber   = 1 // id>>2 is the id
	idSequence = 3 // ... and the sequence as well
)

// packID stores an id in eight bytes: most trackers' ids are numbers, and some
// connectors give them as sequence, too.
func (l *Ledger) packID(c *Change, number uint64, isNumber bool) uint64 {
	switch {
	case !isNumber:
		place := uint64(len(l.ids))
		l.ids = appendText(l.ids, c.ID)
		return place<<2 | idText
	case c.Sequence == int64(number):
		return number<<2 | idSequence
	default:
		return number<<2 | idNumber
	}
}

// appendID appends an id's text.
func (l *Ledger) appendID(b []byte, id uint64) []byte {
	if id&3 != idText {
		return strconv.AppendUint(b, id>>2, 10)
	}
	text := l.ids[id>>2:]
	n, size := binary.Uvarint(text)
	return append(b, text[size:size+int(n)]...)
}

func (l *Ledger) compareIDs(a, b uint64) int {
	if a == b {
		return 0
	}
	var x, y [64]byte
	return bytes.Compare(l.appendID(x[:0], a), l.appendID(y[:0], b))
}

// An index finds facts by (source, id): open addressing, a byte of the hash
// beside each place, so that looking for what is not there, as nearly every new
// change does, rarely leads to a fact.
type index struct {
	places []uint32 // fact + 1
	tags   []uint8  // 0: free
}

func newIndex(places int) index {
	return index{make([]uint32, places), make([]uint8, places)}
}

// tag is never 0.
func tag(hash uint64) uint8 { return uint8(hash>>56) | 1 }

// put takes a fact in that is not in the index.
func (x *index) put(hash uint64, fact uint32) {
	mask := len(x.tags) - 1
	slot := int(hash) & mask
	for x.tags[slot] != 0 {
		slot = (slot + 1) & mask
	}
	x.places[slot], x.tags[slot] = fact+1, tag(hash)
}

// find returns the fact with an id, if there is one.
func (l *Ledger) find(hash uint64, source uint32, id string, number uint64, isNumber bool) (fact uint32, known bool) {
	mask := len(l.index.tags) - 1
	want := tag(hash)
	for slot := int(hash) & mask; l.index.tags[slot] != 0; slot = (slot + 1) & mask {
		if l.index.tags[slot] != want {
			continue
		}
		i := l.index.places[slot] - 1
		f := l.fact(i)
		if l.bodies[f.body].source != source || (f.id&3 == idText) == isNumber {
			continue
		}
		if isNumber {
			if f.id>>2 == number {
				return i, true
			}
			continue
		}
		text := l.ids[f.id>>2:]
		length, size := binary.Uvarint(text)
		if string(text[size:size+int(length)]) == id {
			return i, true
		}
	}
	return 0, false
}

func (l *Ledger) hash(source uint32, id string, number uint64, isNumber bool) uint64 {
	h := uint64(source+1) * 0x9e3779b97f4a7c15
	if isNumber {
		h ^= number * 0xff51afd7ed558ccd
	} else {
		h ^= maphash.String(l.seed, id)
	}
	h ^= h >> 32
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>29
}

func (l *Ledger) grow() {
	l.index = newIndex(2 * len(l.index.tags))
	for i := range uint32(l.count) {
		f := l.fact(i)
		source := l.bodies[f.body].source
		if f.id&3 != idText {
			l.index.put(l.hash(source, "", f.id>>2, true), i)
			continue
		}
		text := l.ids[f.id>>2:]
		n, size := binary.Uvarint(text)
		l.index.put(l.hash(source, string(text[size:size+int(n)]), 0, false), i)
	}
}
