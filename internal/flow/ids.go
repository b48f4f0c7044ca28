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

// find returns the place of an id in the index, or the free place for it.
func (l *Ledger) find(source uint32, id string, number uint64, isNumber bool) (slot int, known bool) {
	mask := len(l.index) - 1
	for slot = int(l.hash(source, id, number, isNumber)) & mask; ; slot = (slot + 1) & mask {
		n := l.index[slot]
		if n == 0 {
			return slot, false
		}
		f := l.fact(n - 1)
		if l.bodies[f.body].source != source || (f.id&3 == idText) == isNumber {
			continue
		}
		if isNumber {
			if f.id>>2 == number {
				return slot, true
			}
			continue
		}
		text := l.ids[f.id>>2:]
		length, size := binary.Uvarint(text)
		if string(text[size:size+int(length)]) == id {
			return slot, true
		}
	}
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
	l.index = make([]uint32, 2*len(l.index))
	mask := len(l.index) - 1
	for i := range uint32(l.count) {
		f := l.fact(i)
		var h uint64
		if f.id&3 == idText {
			text := l.ids[f.id>>2:]
			n, size := binary.Uvarint(text)
			h = l.hash(l.bodies[f.body].source, string(text[size:size+int(n)]), 0, false)
		} else {
			h = l.hash(l.bodies[f.body].source, "", f.id>>2, true)
		}
		slot := int(h) & mask
		for l.index[slot] != 0 {
			slot = (slot + 1) & mask
		}
		l.index[slot] = i + 1
	}
}
