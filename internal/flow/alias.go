package flow

import (
	"slices"
	"strings"
)

// links are the items that are the same unit of work as another, as of an
// instant (case 25). An item that is an alias is counted nowhere itself; what
// its tracker tells of pull requests and assignment is evidence for the item of
// record, and any of its facts shows that the work is not neglected.
type links struct {
	record  map[uint32]uint32   // alias → item of record
	aliases map[uint32][]uint32 // item of record → aliases, by source/item
}

// hidden reports whether the item is an alias.
func (k *links) hidden(it uint32) bool {
	_, ok := k.record[it]
	return ok
}

// evidence returns the aliases of an item of record.
func (k *links) evidence(it uint32) []uint32 { return k.aliases[it] }

// links resolves the ALIAS facts dated before t. Chains are followed to their
// end; of a cycle the lowest source/item is the item of record. A link to an
// item that nobody has told of yet is none.
func (l *Ledger) links(t int64) *links {
	k := &links{}
	if len(l.aliases) == 0 {
		return k
	}
	next := map[uint32]uint32{}
	for it := range l.aliases {
		if to, ok := l.aliasOf(it, t); ok && to != it {
			next[it] = to
		}
	}
	k.record, k.aliases = map[uint32]uint32{}, map[uint32][]uint32{}
	for it := range next {
		if record := l.follow(it, next); record != it {
			k.record[it] = record
			k.aliases[record] = append(k.aliases[record], it)
		}
	}
	for _, list := range k.aliases {
		slices.SortFunc(list, func(a, b uint32) int { return strings.Compare(l.fullID(a), l.fullID(b)) })
	}
	return k
}

// aliasOf returns the item that the latest ALIAS fact names.
func (l *Ledger) aliasOf(it uint32, t int64) (uint32, bool) {
	var named string
	for _, f := range l.ordered(nil, it, t) {
		for _, bf := range l.bodies[f.body].fields {
			if bf.field == FieldAlias {
				named = l.values.list[bf.to].ID
			}
		}
	}
	source, id, ok := strings.Cut(named, "/")
	if !ok {
		return 0, false
	}
	to, ok := l.lookup(source, id)
	return to, ok && len(l.sorted(nil, to, t)) > 0
}

func (l *Ledger) follow(it uint32, next map[uint32]uint32) uint32 {
	seen := []uint32{it}
	for {
		to, ok := next[it]
		if !ok {
			return it
		}
		if i := slices.Index(seen, to); i >= 0 { // a cycle, entered at i
			return slices.MinFunc(seen[i:], func(a, b uint32) int {
				return strings.Compare(l.fullID(a), l.fullID(b))
			})
		}
		it = to
		seen = append(seen, to)
	}
}

func (l *Ledger) fullID(it uint32) string {
	return l.texts.list[l.items[it].source] + "/" + l.idText(l.items[it].id)
}
