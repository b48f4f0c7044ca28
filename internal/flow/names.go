package flow

import (
	"slices"
	"sort"
	"strings"
)

// What items and statuses were called, and when.

// keyFact is the display key that one fact has.
type keyFact struct {
	fact uint32
	text string
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
	all   []nameFact // once there is a second name: each naming fact, in order
}

type nameFact struct {
	at   int64
	seq  int64
	id   id
	name string
}

// noteKey keeps the display key of a new fact: nearly always that of the item.
func (l *Ledger) noteKey(it, index uint32, key string) {
	main := &l.items[it].key
	switch {
	case key == string(l.kept(*main)):
	case *main == 0:
		*main = l.keep(key)
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
		return string(l.kept(l.items[it].key))
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
	return string(l.kept(l.items[it].key))
}

// naming is what a status fact says a status id is called.
type naming struct {
	id    statusID
	name  string
	names *statusNames
}

// naming returns the naming that a status field is, and a place for the names
// of its id.
func (l *Ledger) naming(source uint32, status Value) naming {
	id := statusID{source, status.ID}
	n := l.names[id]
	if n == nil {
		n = &statusNames{}
		l.names[id] = n
	}
	return naming{id, status.Name, n}
}

// noteFields keeps what has to be found without walking all facts: the names of
// status ids, and which items are aliases.
func (l *Ledger) noteFields(it uint32, f *fact) {
	b := &l.bodies[f.body]
	for i := range b.naming {
		l.noteName(&b.naming[i], f)
	}
	if b.isAlias {
		l.aliases[it] = struct{}{}
	}
}

func (l *Ledger) noteName(named *naming, f *fact) {
	n := named.names
	if n.all == nil && n.name == named.name && n.since <= f.at {
		return // as nearly always
	}
	switch {
	case n.all != nil:
		a := nameFact{f.at, l.sequence(f), f.id, named.name}
		i := sort.Search(len(n.all), func(i int) bool { return l.compareNames(&n.all[i], &a) > 0 })
		n.all = slices.Insert(n.all, i, a)
		if i > 0 && n.all[i-1].name == a.name {
			return // called so already
		}
	case n.name == named.name, n.name == "":
		n.name, n.since = named.name, f.at
	default:
		n.all = l.namingFacts(named.id)
	}
	l.renames++
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
	slices.SortStableFunc(all, func(a, b nameFact) int { return l.compareNames(&a, &b) })
	return all
}

// statusName returns what a status is called as of an instant: the latest name
// that a fact of the source gives its id, else its own, else id:N (R24).
func (l *Ledger) statusName(source uint32, status uint32, t int64) string {
	v := l.values.list[status]
	if v.ID == "" {
		return v.Name
	}
	if n := l.names[statusID{source, v.ID}]; n != nil && n.name != "" {
		if n.all == nil && n.since < t {
			return n.name
		}
		if i := sort.Search(len(n.all), func(i int) bool { return n.all[i].at >= t }); i > 0 {
			return n.all[i-1].name
		}
	}
	return "id:" + v.ID
}

// namingInstants returns, ascending, each instant at which a status id begins to
// be called otherwise.
func (l *Ledger) namingInstants() (instants []int64) {
	for _, n := range l.names {
		if n.all == nil {
			instants = append(instants, n.since)
		}
		for i := range n.all {
			if i == 0 || n.all[i].name != n.all[i-1].name {
				instants = append(instants, n.all[i].at)
			}
		}
	}
	slices.Sort(instants)
	return instants
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

// A namingClock tells when to ask anew what statuses are called.
type namingClock struct {
	version  int     // of the names
	renames  int     // Ledger.renames as of which instants are
	instants []int64 // at which a name changes, ascending
	passed   int     // how many of them
	known    bool
}

// update reports whether facts were added that may change names of any instant.
func (n *namingClock) update(l *Ledger, at int64) (renamed bool) {
	renamed = !n.known || n.renames != l.renames
	if renamed {
		n.known, n.renames, n.instants = true, l.renames, l.namingInstants()
	}
	passed := sort.Search(len(n.instants), func(i int) bool { return n.instants[i] >= at })
	if renamed || passed != n.passed {
		n.passed = passed
		n.version++
	}
	return renamed
}
