package flow

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"
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
	latest uint32 // the item looked up last

	facts   [][]fact // slabs, so that growing never copies
	count   int
	ids     []byte // ids that are not plain numbers, each after its length
	index   index
	newest  int64
	seed    maphash.Seed
	scratch []byte

	duplicates []int64 // when each further change is dated
	conflicts  []conflict
	keys       map[uint32][]keyFact // of items: the facts with another display key than the item's
	names      map[statusID]*statusNames
	renames    int                 // facts that may have changed what a status is called
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

type conflict struct {
	after  int // facts added before it
	of     uint32
	change Change
}

// NewLedger returns an empty ledger.
func NewLedger() *Ledger {
	l := &Ledger{
		bodyOf:  map[string]uint32{},
		itemOf:  map[string]uint32{},
		index:   newIndex(1024),
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
	hash := l.hash(source, c.ID, number, isNumber)
	if first, known := l.find(hash, source, c.ID, number, isNumber); known {
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
	l.index.put(hash, i)
	if l.count*8 >= len(l.index.tags)*7 {
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
	if l.latest < uint32(len(l.items)) { // a tracker tells of one item at a time
		if it := &l.items[l.latest]; it.id == id && it.source == source {
			return l.latest
		}
	}
	l.scratch = appendItemKey(l.scratch[:0], source, id)
	if it, ok := l.itemOf[string(l.scratch)]; ok {
		l.latest = it
		return it
	}
	it := uint32(len(l.items))
	l.latest = it
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

// Known reports whether the ledger holds a change.
func (l *Ledger) Known(source, id string) bool {
	ref, ok := l.texts.refs[source]
	if !ok {
		return false
	}
	number, isNumber := plainNumber(id)
	_, known := l.find(l.hash(ref, id, number, isNumber), ref, id, number, isNumber)
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

func (l *Ledger) sequence(f *fact) int64 {
	if f.id&3 == idSequence {
		return int64(f.id >> 2)
	}
	return l.bodies[f.body].sequence
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

func compare(a, b int64) int {
	if a < b {
		return -1
	}
	return 1
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
