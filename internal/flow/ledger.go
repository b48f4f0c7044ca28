package flow

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Outcome says what [Ledger.Add] made of a change.
type Outcome uint8

// The outcomes of adding a change.
const (
	Added     Outcome = iota // a new fact
	Duplicate                // the fact was known, counted
	Conflict                 // the id was known with another content; the first wins, counted apart
)

// A Ledger is the set of facts in memory. The order in which changes are added
// and how often does not matter (I2), but that of two changes with one id and
// different contents the first wins (R1).
//
// It is compact: a fact takes 24 bytes and its place in the index of ids; what a
// change says is stored once however often it is said, since trackers repeat
// themselves. A Ledger is not safe for concurrent use.
type Ledger struct {
	texts  table[string] // sources and containers
	values table[Value]  // index 0 is the absent value
	bodies []body
	bodyOf map[string]uint32

	items  []item
	itemOf map[string]uint32

	facts   [][]fact // slabs, so that growing never copies
	count   int
	ids     []byte // ids that are not plain numbers, each after its length
	index   []uint32
	newest  int64
	seed    maphash.Seed
	scratch []byte

	duplicates []int64 // when each further change is dated
	conflicts  []conflict
	keys       map[uint32][]keyFact // of items: the facts with another display key than the item's
	names      map[statusID]*statusNames
	aliases    map[uint32]struct{} // items with an ALIAS fact
}

// A fact is one change of one item. The item holds the head of the list of its
// facts, next the rest of it.
type fact struct {
	at   int64  // Unix nanoseconds
	id   uint64 // a plain number or a place in Ledger.ids, see packID
	body uint32
	next uint32 // index + 1
}

const slabBits = 14

// A body is everything that a change says besides who it is and when it was.
type body struct {
	source, container uint32
	sequence          int64
	kind              Kind
	fields            []bodyField
}

type bodyField struct {
	field    Field
	from, to uint32 // Ledger.values
}

type item struct {
	id     string
	key    string // the display key of all its facts but those in Ledger.keys
	source uint32
	head   uint32 // index + 1 of the latest fact added
	facts  uint32
}

// keyFact is the display key that one fact has.
type keyFact struct {
	fact uint32
	text string
}

type conflict struct {
	after  int // facts added before it
	of     uint32
	change Change
}

type statusID struct {
	source uint32
	id     string
}

// statusNames are the names that a status id went by. While there is only one,
// that is all there is to know.
type statusNames struct {
	name  string
	since int64
	all   []nameFact // once there is a second name: each naming fact
}

type nameFact struct {
	at   int64
	seq  int64
	id   uint64
	name string
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	l := &Ledger{
		bodyOf:  map[string]uint32{},
		itemOf:  map[string]uint32{},
		index:   make([]uint32, 1024),
		newest:  math.MinInt64,
		seed:    maphash.MakeSeed(),
		keys:    map[uint32][]keyFact{},
		names:   map[statusID]*statusNames{},
		aliases: map[uint32]struct{}{},
	}
	l.values.of(Value{})
	return l
}

// A table gives equal values one small number each.
type table[T comparable] struct {
	list []T
	refs map[T]uint32
}

func (t *table[T]) of(v T) uint32 {
	if ref, ok := t.refs[v]; ok {
		return ref
	}
	if t.refs == nil {
		t.refs = map[T]uint32{}
	}
	ref := uint32(len(t.list))
	t.list = append(t.list, v)
	t.refs[v] = ref
	return ref
}

// Len returns the number of facts, each counted once.
func (l *Ledger) Len() int { return l.count }

// Items returns the number of items.
func (l *Ledger) Items() int { return len(l.items) }

// Add takes a change into the set. The change must be valid
// ([Change.Validate]); nothing of it is retained, its strings may be reused.
func (l *Ledger) Add(c *Change) Outcome {
	outcome, _ := l.add(c)
	return outcome
}

// add is Add and returns the item that the change belongs to.
func (l *Ledger) add(c *Change) (Outcome, uint32) {
	b := l.body(c)
	source := l.bodies[b].source
	it := l.item(source, c.Item)
	at := c.At.UnixNano()
	number, isNumber := plainNumber(c.ID)
	slot, known := l.find(source, c.ID, number, isNumber)
	if known {
		first := l.index[slot] - 1
		f := l.fact(first)
		if f.at == at && f.body == b && l.sequence(f) == c.Sequence && l.owns(it, first) {
			l.duplicates = append(l.duplicates, at)
			return Duplicate, it
		}
		l.conflicts = append(l.conflicts, conflict{after: l.count, of: first, change: cloneChange(c)})
		return Conflict, it
	}
	f := fact{at: at, id: l.packID(c, number, isNumber), body: b, next: l.items[it].head}
	i := l.push(f)
	l.index[slot] = i + 1
	if l.count*4 >= len(l.index)*3 {
		l.grow()
	}
	l.items[it].head = i + 1
	l.items[it].facts++
	l.newest = max(l.newest, at)
	l.noteKey(it, i, c.Key)
	l.noteFields(it, &f)
	return Added, it
}

func (l *Ledger) push(f fact) uint32 {
	i := uint32(l.count)
	if i>>slabBits == uint32(len(l.facts)) {
		l.facts = append(l.facts, make([]fact, 0, 1<<slabBits))
	}
	slab := &l.facts[i>>slabBits]
	*slab = append(*slab, f)
	l.count++
	return i
}

func (l *Ledger) fact(i uint32) *fact { return &l.facts[i>>slabBits][i&(1<<slabBits-1)] }

// eachFact calls f for each fact of an item, the latest added first.
func (l *Ledger) eachFact(it uint32, f func(i uint32, f *fact)) {
	for n := l.items[it].head; n != 0; {
		fact := l.fact(n - 1)
		f(n-1, fact)
		n = fact.next
	}
}

func (l *Ledger) owns(it, index uint32) bool {
	found := false
	l.eachFact(it, func(i uint32, _ *fact) { found = found || i == index })
	return found
}

// item returns the index of an item, a new one where it is not known.
func (l *Ledger) item(source uint32, id string) uint32 {
	l.scratch = appendItemKey(l.scratch[:0], source, id)
	if it, ok := l.itemOf[string(l.scratch)]; ok {
		return it
	}
	it := uint32(len(l.items))
	key := string(l.scratch)
	l.itemOf[key] = it
	l.items = append(l.items, item{id: key[len(key)-len(id):], source: source})
	return it
}

func (l *Ledger) lookup(source, id string) (uint32, bool) {
	ref, ok := l.texts.refs[source]
	if !ok {
		return 0, false
	}
	it, ok := l.itemOf[string(appendItemKey(nil, ref, id))]
	return it, ok
}

func appendItemKey(b []byte, source uint32, id string) []byte {
	b = binary.AppendUvarint(b, uint64(source))
	return append(b, id...)
}

// body returns the stored form of what a change says.
func (l *Ledger) body(c *Change) uint32 {
	sequence := c.Sequence
	if n, ok := plainNumber(c.ID); ok && sequence == int64(n) {
		sequence = 0 // kept with the id, see packID: otherwise no two bodies were equal
	}
	b := appendText(l.scratch[:0], c.Source)
	b = appendText(b, c.Container)
	b = binary.AppendVarint(b, sequence)
	b = append(b, byte(c.Kind))
	for i := range c.Fields {
		f := &c.Fields[i]
		b = append(b, byte(f.Field))
		b = appendValue(b, &f.From)
		b = appendValue(b, &f.To)
	}
	l.scratch = b
	if ref, ok := l.bodyOf[string(b)]; ok {
		return ref
	}
	ref := uint32(len(l.bodies))
	l.bodyOf[string(b)] = ref
	stored := body{
		source:    l.texts.of(strings.Clone(c.Source)),
		container: l.texts.of(strings.Clone(c.Container)),
		sequence:  sequence,
		kind:      c.Kind,
		fields:    make([]bodyField, len(c.Fields)),
	}
	for i, f := range c.Fields {
		stored.fields[i] = bodyField{f.Field, l.value(f.Field, f.From), l.value(f.Field, f.To)}
	}
	l.bodies = append(l.bodies, stored)
	return ref
}

func (l *Ledger) value(field Field, v Value) uint32 {
	if field == FieldLabel { // a label is its name; removals often carry no more
		v = Value{Name: v.Text()}
	}
	if field == FieldContainer { // named here, so that folding only reads
		l.texts.of(strings.Clone(v.Text()))
	}
	if ref, ok := l.values.refs[v]; ok {
		return ref
	}
	return l.values.of(Value{strings.Clone(v.ID), strings.Clone(v.Name), strings.Clone(v.Category)})
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendValue(b []byte, v *Value) []byte {
	return appendText(appendText(appendText(b, v.ID), v.Name), v.Category)
}

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

func (l *Ledger) sequence(f *fact) int64 {
	if f.id&3 == idSequence {
		return int64(f.id >> 2)
	}
	return l.bodies[f.body].sequence
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

// noteKey keeps the display key of a new fact: nearly always that of the item.
func (l *Ledger) noteKey(it, index uint32, key string) {
	main := &l.items[it].key
	switch {
	case key == *main:
	case *main == "":
		*main = strings.Clone(key)
		l.eachFact(it, func(i uint32, _ *fact) {
			if i != index {
				l.keys[it] = append(l.keys[it], keyFact{i, ""})
			}
		})
	default:
		l.keys[it] = append(l.keys[it], keyFact{index, strings.Clone(key)})
	}
}

// key returns an item's display key as of an instant: that of its latest fact
// that has one.
func (l *Ledger) key(it uint32, t int64) string {
	if len(l.keys[it]) == 0 {
		return l.items[it].key
	}
	for _, f := range slices.Backward(l.sorted(nil, it, t)) {
		if key := l.keyOf(it, f); key != "" {
			return key
		}
	}
	return ""
}

// keyOf returns the display key that a fact of an item has.
func (l *Ledger) keyOf(it uint32, f *fact) string {
	for _, k := range l.keys[it] {
		if l.fact(k.fact) == f {
			return k.text
		}
	}
	return l.items[it].key
}

// noteFields keeps what has to be found without walking all facts: the names of
// status ids, and which items are aliases.
func (l *Ledger) noteFields(it uint32, f *fact) {
	b := &l.bodies[f.body]
	for _, bf := range b.fields {
		switch bf.field {
		case FieldStatus:
			if v := l.values.list[bf.to]; v.ID != "" && v.Name != "" {
				l.noteName(statusID{b.source, v.ID}, v.Name, f)
			}
		case FieldAlias:
			l.aliases[it] = struct{}{}
		}
	}
}

func (l *Ledger) noteName(id statusID, name string, f *fact) {
	n := l.names[id]
	switch {
	case n == nil:
		l.names[id] = &statusNames{name: name, since: f.at}
	case n.all != nil:
		n.all = append(n.all, nameFact{f.at, l.sequence(f), f.id, name})
	case n.name == name:
		n.since = min(n.since, f.at)
	default:
		n.all = l.namingFacts(id)
	}
}

// namingFacts collects every fact that gives a status id a name.
func (l *Ledger) namingFacts(id statusID) []nameFact {
	var all []nameFact
	for i := range uint32(l.count) {
		f := l.fact(i)
		if b := &l.bodies[f.body]; b.source == id.source {
			for _, bf := range b.fields {
				if v := l.values.list[bf.to]; bf.field == FieldStatus && v.ID == id.id && v.Name != "" {
					all = append(all, nameFact{f.at, l.sequence(f), f.id, v.Name})
				}
			}
		}
	}
	return all
}

// statusName returns what a status is called as of an instant: the latest name
// that a fact of the source gives its id, else its own, else id:N (R24).
func (l *Ledger) statusName(source uint32, status uint32, t int64) string {
	v := l.values.list[status]
	if v.ID == "" {
		return v.Name
	}
	if n := l.names[statusID{source, v.ID}]; n != nil {
		if n.all == nil && n.since < t {
			return n.name
		}
		best := -1
		for i := range n.all {
			if a := &n.all[i]; a.at < t && (best < 0 || l.compareNames(a, &n.all[best]) >= 0) {
				best = i
			}
		}
		if best >= 0 {
			return n.all[best].name
		}
	}
	return "id:" + v.ID
}

func (l *Ledger) compareNames(a, b *nameFact) int {
	switch {
	case a.at != b.at:
		return compare(a.at, b.at)
	case a.seq != b.seq:
		return compare(a.seq, b.seq)
	}
	return l.compareIDs(a.id, b.id)
}

func compare(a, b int64) int {
	if a < b {
		return -1
	}
	return 1
}

// Known reports whether the ledger holds a change.
func (l *Ledger) Known(source, id string) bool {
	ref, ok := l.texts.refs[source]
	if !ok {
		return false
	}
	number, isNumber := plainNumber(id)
	_, known := l.find(ref, id, number, isNumber)
	return known
}

// Facts returns an item's facts in the order in which they are folded; nil for
// an unknown item. What a fact does not change (key, title, url) is left out.
func (l *Ledger) Facts(source, id string) []Change {
	it, ok := l.lookup(source, id)
	if !ok {
		return nil
	}
	sorted := l.ordered(nil, it, math.MaxInt64)
	changes := make([]Change, len(sorted))
	for i, f := range sorted {
		changes[i] = l.change(it, f)
	}
	return changes
}

// change restores a change from a fact.
func (l *Ledger) change(it uint32, f *fact) Change {
	b := &l.bodies[f.body]
	c := Change{
		ID: string(l.appendID(nil, f.id)), Source: l.texts.list[b.source], Container: l.texts.list[b.container],
		Item: l.items[it].id, At: time.Unix(0, f.at).UTC(), Sequence: l.sequence(f), Kind: b.kind,
	}
	for _, bf := range b.fields {
		c.Fields = append(c.Fields, FieldChange{bf.field, l.values.list[bf.from], l.values.list[bf.to]})
	}
	return c
}

// sorted appends the facts of an item with at < t in their order: at,
// sequence, id (R2).
func (l *Ledger) sorted(into []*fact, it uint32, t int64) []*fact {
	for n := l.items[it].head; n != 0; {
		f := l.fact(n - 1)
		if f.at < t {
			into = append(into, f)
		}
		n = f.next
	}
	slices.Reverse(into) // most items' facts came in order
	l.sort(into)
	return into
}

func (l *Ledger) sort(facts []*fact) {
	for i := 1; i < len(facts); i++ {
		if l.before(facts[i], facts[i-1]) {
			slices.SortFunc(facts, l.compare)
			return
		}
	}
}

func (l *Ledger) before(a, b *fact) bool {
	return a.at < b.at || a.at == b.at && l.compare(a, b) < 0
}

func (l *Ledger) compare(a, b *fact) int {
	if a.at != b.at {
		return compare(a.at, b.at)
	}
	if x, y := l.sequence(a), l.sequence(b); x != y {
		return compare(x, y)
	}
	return l.compareIDs(a.id, b.id)
}

// duplicatesBefore counts the duplicates and conflicts dated before t.
func (l *Ledger) duplicatesBefore(t int64) (duplicates, conflicts int) {
	for _, at := range l.duplicates {
		if at < t {
			duplicates++
		}
	}
	for i := range l.conflicts {
		if l.conflicts[i].change.At.UnixNano() < t {
			conflicts++
		}
	}
	return duplicates, conflicts
}

// asOf returns the ledger to evaluate at an instant: nearly always this one.
// Only where the first of two conflicting changes is dated after the instant,
// and so does not exist yet, the set of facts is another one (R1).
func (l *Ledger) asOf(t int64) *Ledger {
	if !slices.ContainsFunc(l.conflicts, func(c conflict) bool {
		return l.fact(c.of).at >= t && c.change.At.UnixNano() < t
	}) {
		return l
	}
	owner := make([]uint32, l.count)
	for it := range l.items {
		l.eachFact(uint32(it), func(i uint32, _ *fact) { owner[i] = uint32(it) })
	}
	past := NewLedger()
	next := 0
	for i := 0; i <= l.count; i++ {
		for ; next < len(l.conflicts) && l.conflicts[next].after == i; next++ {
			if c := l.conflicts[next].change; c.At.UnixNano() < t {
				past.Add(&c)
			}
		}
		if i < l.count {
			if f := l.fact(uint32(i)); f.at < t {
				c := l.change(owner[i], f)
				c.Key = l.keyOf(owner[i], f)
				past.Add(&c)
			}
		}
	}
	for _, at := range l.duplicates {
		if at < t {
			past.duplicates = append(past.duplicates, at)
		}
	}
	return past
}

func cloneChange(c *Change) Change {
	out := *c
	for _, s := range []*string{&out.ID, &out.Source, &out.Container, &out.Item, &out.Key, &out.Title, &out.URL} {
		*s = strings.Clone(*s)
	}
	out.Fields = slices.Clone(c.Fields)
	for i := range out.Fields {
		for _, v := range []*Value{&out.Fields[i].From, &out.Fields[i].To} {
			*v = Value{strings.Clone(v.ID), strings.Clone(v.Name), strings.Clone(v.Category)}
		}
	}
	return out
}

// Each calls f for every item of a source until f returns false: the container
// that its latest fact names, and whether that fact is its deletion.
func (l *Ledger) Each(source string, f func(item, container string, gone bool) bool) {
	ref, ok := l.texts.refs[source]
	if !ok {
		return
	}
	var facts []*fact
	for it := range l.items {
		if l.items[it].source != ref {
			continue
		}
		facts = l.ordered(facts, uint32(it), math.MaxInt64)
		if len(facts) == 0 {
			continue // known by a conflicting change only
		}
		container, gone := "", false
		for _, fact := range facts {
			b := &l.bodies[fact.body]
			container, gone = cmp.Or(l.texts.list[b.container], container), b.kind == Deleted
			for _, bf := range b.fields {
				if bf.field == FieldContainer {
					container = cmp.Or(l.values.list[bf.to].Text(), container)
				}
			}
		}
		if !f(l.items[it].id, container, gone) {
			return
		}
	}
}
