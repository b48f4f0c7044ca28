package flow

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"strconv"
)

// How a ledger stores the ids of changes and items, eight bytes each and no
// pointer for the garbage collector to follow, and finds them again.

// An id is a plain number, or a place in Ledger.text.
type id uint64

const (
	idText     = 0 // id>>2 is a place in Ledger.text
	idNumber   = 1 // id>>2 is the id
	idSequence = 3 // ... and the sequence of the change as well
)

// An identity is what an id is looked up by.
type identity struct {
	source   uint32
	text     string
	number   uint64
	isNumber bool
	hash     uint64
}

func (l *Ledger) identity(source uint32, text string) identity {
	n, ok := plainNumber(text)
	return identity{source, text, n, ok, l.hash(source, text, n, ok)}
}

// plainNumber reads an id that is a number in its only decimal form.
func plainNumber(text string) (uint64, bool) {
	if len(text) == 0 || len(text) > 18 || (text[0] == '0' && len(text) > 1) {
		return 0, false
	}
	var n uint64
	for i := range len(text) {
		d := text[i] - '0'
		if d > 9 {
			return 0, false
		}
		n = n*10 + uint64(d)
	}
	return n, true
}

func (l *Ledger) hash(source uint32, text string, number uint64, isNumber bool) uint64 {
	h := uint64(source+1) * 0x9e3779b97f4a7c15
	if isNumber {
		h ^= number * 0xff51afd7ed558ccd
	} else {
		h ^= maphash.String(l.seed, text)
	}
	h ^= h >> 32
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>29
}

// pack stores an id.
func (l *Ledger) pack(k *identity) id {
	if k.isNumber {
		return id(k.number<<2 | idNumber)
	}
	return id(l.keep(k.text))<<2 | idText
}

// keep stores a text and returns its place.
func (l *Ledger) keep(text string) uint64 {
	place := uint64(len(l.text))
	l.text = appendText(l.text, text)
	return place
}

// kept returns the text at a place.
func (l *Ledger) kept(place uint64) []byte {
	text := l.text[place:]
	n, size := binary.Uvarint(text)
	return text[size : size+int(n)]
}

// is reports whether an id is that of an identity, the source aside.
func (l *Ledger) is(stored id, k *identity) bool {
	if stored&3 == idText {
		return !k.isNumber && string(l.kept(uint64(stored>>2))) == k.text
	}
	return k.isNumber && uint64(stored>>2) == k.number
}

// appendID appends an id's text.
func (l *Ledger) appendID(b []byte, stored id) []byte {
	if stored&3 != idText {
		return strconv.AppendUint(b, uint64(stored>>2), 10)
	}
	return append(b, l.kept(uint64(stored>>2))...)
}

func (l *Ledger) idText(stored id) string {
	var b [32]byte
	return string(l.appendID(b[:0], stored))
}

func (l *Ledger) compareIDs(a, b id) int {
	if a == b {
		return 0
	}
	var x, y [64]byte
	return bytes.Compare(l.appendID(x[:0], a), l.appendID(y[:0], b))
}

// rehash returns the hash that an id is found by.
func (l *Ledger) rehash(source uint32, stored id) uint64 {
	if stored&3 == idText {
		return l.hash(source, string(l.kept(uint64(stored>>2))), 0, false)
	}
	return l.hash(source, "", uint64(stored>>2), true)
}

// An index finds numbered things by the hash of their identity: open addressing,
// a byte of the hash beside each place, so that looking for what is not there, as
// nearly every new change does, rarely leads to a thing.
type index struct {
	places []uint32
	tags   []uint8 // 0: free
}

func newIndex() index { return index{make([]uint32, 1024), make([]uint8, 1024)} }

// tag is never 0.
func tag(hash uint64) uint8 { return uint8(hash>>56) | 1 }

// find returns the thing with a hash that is the one looked for.
func (x *index) find(hash uint64, is func(thing uint32) bool) (thing uint32, ok bool) {
	mask := len(x.tags) - 1
	want := tag(hash)
	for slot := int(hash) & mask; x.tags[slot] != 0; slot = (slot + 1) & mask {
		if x.tags[slot] == want && is(x.places[slot]) {
			return x.places[slot], true
		}
	}
	return 0, false
}

// put takes in the next thing: they are numbered from 0 in the order in which
// they are put. The function gives the hash of any thing in the index, for when
// it has to grow.
func (x *index) put(hash uint64, thing uint32, rehash func(thing uint32) uint64) {
	if int(thing)*8 >= len(x.tags)*7 {
		*x = index{make([]uint32, 2*len(x.tags)), make([]uint8, 2*len(x.tags))}
		for i := range thing { // in order, which is the order in memory
			x.place(rehash(i), i)
		}
	}
	x.place(hash, thing)
}

func (x *index) place(hash uint64, thing uint32) {
	mask := len(x.tags) - 1
	slot := int(hash) & mask
	for x.tags[slot] != 0 {
		slot = (slot + 1) & mask
	}
	x.places[slot], x.tags[slot] = thing, tag(hash)
}

// findFact returns the fact of an identity.
func (l *Ledger) findFact(k *identity) (uint32, bool) {
	return l.index.find(k.hash, func(i uint32) bool {
		f := l.fact(i)
		return l.bodies[f.body].source == k.source && l.is(f.id, k)
	})
}

// findItem returns the item of an identity.
func (l *Ledger) findItem(k *identity) (uint32, bool) {
	return l.itemIndex.find(k.hash, func(i uint32) bool {
		it := &l.items[i]
		return it.source == k.source && l.is(it.id, k)
	})
}
