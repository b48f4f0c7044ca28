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

	bodyIndex index

	items     []item
	itemIndex index
	latest    uint32 // the item looked up last

	facts  [][]fact // slabs, so that growing never copies
	count  int
	index  index
	text   []byte // ids that are no plain numbers and display keys, each after its length
	newest int64
	seed   maphash.Seed

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
	at   int64 // Unix nanoseconds
	id   id
	body uint32
	next uint32 // index + 1
}

const slabBits = 14

// A body is everything that a change says besides who it is and when it was.
type body struct {
	hash              uint64
	source, container uint32
	sequence          int64
	kind              Kind
	fields            []bodyField
	naming            []naming // of status ids
	isAlias           bool
}

type bodyField struct {
	field    Field
	from, to uint32 // Ledger.values
}

type item struct {
	id     id
	key    uint64 // in Ledger.text, the display key of all its facts but those in Ledger.keys
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
		index: newIndex(), itemIndex: newIndex(), bodyIndex: newIndex(),
		newest:  math.MinInt64,
		seed:    maphash.MakeSeed(),
		keys:    map[uint32][]keyFact{},
		names:   map[statusID]*statusNames{},
		aliases: map[uint32]struct{}{},
	}
	l.values.of(Value{})
	l.keep("") // at place 0
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
	k := l.identity(source, c.ID)
	if first, known := l.findFact(&k); known {
		f := l.fact(first)
		if f.at == at && f.body == b && l.sequence(f) == c.Sequence && l.owns(it, first) {
			l.duplicates = append(l.duplicates, at)
			return Duplicate, it
		}
		l.conflicts = append(l.conflicts, conflict{after: l.count, of: first, change: cloneChange(c)})
		return Conflict, it
	}
	f := fact{at: at, id: l.pack(&k), body: b, next: l.items[it].head}
	if k.isNumber && c.Sequence == int64(k.number) {
		f.id |= idSequence
	}
	i := l.push(f)
	l.index.put(k.hash, i, func(i uint32) uint64 { return l.rehash(l.bodies[l.fact(i).body].source, l.fact(i).id) })
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
func (l *Ledger) item(source uint32, text string) uint32 {
	k := identity{source: source, text: text}
	k.number, k.isNumber = plainNumber(text)
	if l.latest < uint32(len(l.items)) { // a tracker tells of one item at a time
		if it := &l.items[l.latest]; it.source == source && l.is(it.id, &k) {
			return l.latest
		}
	}
	k.hash = l.hash(source, text, k.number, k.isNumber)
	it, ok := l.findItem(&k)
	if !ok {
		it = uint32(len(l.items))
		l.items = append(l.items, item{id: l.pack(&k), source: source})
		l.itemIndex.put(k.hash, it, func(i uint32) uint64 { return l.rehash(l.items[i].source, l.items[i].id) })
	}
	l.latest = it
	return it
}

func (l *Ledger) lookup(source, text string) (uint32, bool) {
	ref, ok := l.texts.refs[source]
	if !ok {
		return 0, false
	}
	k := l.identity(ref, text)
	return l.findItem(&k)
}

// body returns the stored form of what a change says.
func (l *Ledger) body(c *Change) uint32 {
	sequence := c.Sequence
	if n, ok := plainNumber(c.ID); ok && sequence == int64(n) {
		sequence = 0 // kept with the id: otherwise no two bodies were equal
	}
	hash := l.hashBody(c, sequence)
	ref, ok := l.bodyIndex.find(hash, func(i uint32) bool { return l.says(&l.bodies[i], c, sequence) })
	if ok {
		return ref
	}
	ref = uint32(len(l.bodies))
	stored := body{
		hash:      hash,
		source:    l.texts.of(strings.Clone(c.Source)),
		container: l.texts.of(strings.Clone(c.Container)),
		sequence:  sequence,
		kind:      c.Kind,
		fields:    make([]bodyField, len(c.Fields)),
	}
	for i, f := range c.Fields {
		stored.fields[i] = bodyField{f.Field, l.value(f.Field, f.From), l.value(f.Field, f.To)}
		switch {
		case f.Field == FieldAlias:
			stored.isAlias = true
		case f.Field == FieldStatus && f.To.ID != "" && f.To.Name != "":
			stored.naming = append(stored.naming, l.naming(stored.source, l.values.list[stored.fields[i].to]))
		}
	}
	l.bodies = append(l.bodies, stored)
	l.bodyIndex.put(hash, ref, func(i uint32) uint64 { return l.bodies[i].hash })
	return ref
}

// says reports whether a stored body is what a change says.
func (l *Ledger) says(b *body, c *Change, sequence int64) bool {
	if b.sequence != sequence || b.kind != c.Kind || len(b.fields) != len(c.Fields) ||
		l.texts.list[b.source] != c.Source || l.texts.list[b.container] != c.Container {
		return false
	}
	for i := range b.fields {
		s, f := &b.fields[i], &c.Fields[i]
		if s.field != f.Field || l.values.list[s.from] != canonical(f.Field, f.From) || l.values.list[s.to] != canonical(f.Field, f.To) {
			return false
		}
	}
	return true
}

func (l *Ledger) hashBody(c *Change, sequence int64) uint64 {
	h := uint64(sequence)<<8 ^ uint64(c.Kind)
	mix := func(s string) { h = (h ^ maphash.String(l.seed, s)) * 0x9e3779b97f4a7c15 }
	mix(c.Source)
	mix(c.Container)
	for i := range c.Fields {
		f := &c.Fields[i]
		h += uint64(f.Field)
		for _, v := range [...]*Value{&f.From, &f.To} {
			if f.Field == FieldLabel {
				mix(v.Text())
				continue
			}
			mix(v.ID)
			mix(v.Name)
		}
	}
	return h ^ h>>32
}

// canonical is a value as it is stored: a label is its name, as removals often
// carry no more.
func canonical(field Field, v Value) Value {
	if field == FieldLabel {
		return Value{Name: v.Text()}
	}
	return v
}

func (l *Ledger) value(field Field, v Value) uint32 {
	v = canonical(field, v)
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

// Known reports whether the ledger holds a change.
func (l *Ledger) Known(source, id string) bool {
	ref, ok := l.texts.refs[source]
	if !ok {
		return false
	}
	k := l.identity(ref, id)
	_, known := l.findFact(&k)
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

// Status returns the status that an item has after all its facts, the zero Value
// where it never had one or lost it, and since when. ok is false for an item
// that is not known or whose latest fact is its deletion.
func (l *Ledger) Status(source, id string) (status Value, at time.Time, ok bool) {
	it, known := l.lookup(source, id)
	if !known {
		return Value{}, time.Time{}, false
	}
	for _, f := range l.ordered(nil, it, math.MaxInt64) {
		b := &l.bodies[f.body]
		ok = b.kind != Deleted
		for _, bf := range b.fields {
			if bf.field == FieldStatus {
				status, at = l.values.list[bf.to], time.Unix(0, f.at).UTC()
			}
		}
	}
	return status, at, ok
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
		ID: l.idText(f.id), Source: l.texts.list[b.source], Container: l.texts.list[b.container],
		Item: l.idText(l.items[it].id), At: time.Unix(0, f.at).UTC(), Sequence: l.sequence(f), Kind: b.kind,
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
	return l.compareAtInstant(a, b)
}

// compareAtInstant is the order of facts of one instant.
func (l *Ledger) compareAtInstant(a, b *fact) int {
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
// and so does not exist yet, the set of facts is another one (R1). That one is
// the same up to and with the instant until.
func (l *Ledger) asOf(t int64) (past *Ledger, until int64) {
	// Contested are the facts to come that a conflicting change is dated before.
	contested := map[uint32]bool{}
	until = math.MaxInt64
	same := true
	for i := range l.conflicts {
		c := &l.conflicts[i]
		if first, at := l.fact(c.of).at, c.change.At.UnixNano(); first >= t && at < first {
			contested[c.of] = true
			same = same && at >= t
			if until = min(until, first); at >= t {
				until = min(until, at)
			}
		}
	}
	if same {
		return l, until
	}
	owner := make([]uint32, l.count)
	for it := range l.items {
		l.eachFact(uint32(it), func(i uint32, _ *fact) { owner[i] = uint32(it) })
	}
	past = NewLedger()
	next := 0
	for i := 0; i <= l.count; i++ {
		for ; next < len(l.conflicts) && l.conflicts[next].after == i; next++ {
			c := &l.conflicts[next]
			if !contested[c.of] || c.change.At.UnixNano() < t {
				past.Add(&c.change)
			}
		}
		if i < l.count && !contested[uint32(i)] {
			f := l.fact(uint32(i))
			c := l.change(owner[i], f)
			c.Key = l.keyOf(owner[i], f)
			past.Add(&c)
		}
	}
	past.duplicates = append(past.duplicates, l.duplicates...)
	return past, until
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

// Each calls f for every item of a source until f returns false: its latest
// display key, the container that its latest fact names, and whether that fact is
// its deletion.
func (l *Ledger) Each(source string, f func(item, key, container string, gone bool) bool) {
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
		if !f(l.idText(l.items[it].id), l.key(uint32(it), math.MaxInt64), container, gone) {
			return
		}
	}
}
