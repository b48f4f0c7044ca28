package flow

import (
	"maps"
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
	if len(l.aliases) == 0 {
		return &links{}
	}
	next := map[uint32]uint32{}
	for it := range l.aliases {
		if to, ok := l.aliasOf(it, t); ok {
			next[it] = to
		}
	}
	return l.resolve(next)
}

// resolve follows what each alias names.
func (l *Ledger) resolve(next map[uint32]uint32) *links {
	k := &links{}
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

// aliasOf returns the other item that the latest ALIAS fact names.
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
	return to, ok && to != it && len(l.sorted(nil, to, t)) > 0
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

// A linker keeps links up to date while facts come in and time goes on.
type linker struct {
	links *links
	next  map[uint32]uint32   // alias → the item that it names now
	named map[uint32][]uint32 // item → those that name it at any time
	facts int                 // Ledger.count as of which that is
}

func newLinker() linker { return linker{links: &links{}, facts: -1} }

// update resolves the links as of an instant anew where they may have changed,
// given the items of which facts came or took effect. It adds those that depend
// on another item that did, or on a link that came or went.
func (k *linker) update(l *Ledger, t int64, dirty map[uint32]struct{}) {
	if len(l.aliases) == 0 {
		return
	}
	before := k.links
	if k.look(l, t, dirty) {
		k.links = l.resolve(k.next)
	}
	if dirty == nil {
		return // everything is
	}
	if k.links != before {
		for _, pair := range [...][2]*links{{before, k.links}, {k.links, before}} {
			for alias, record := range pair[0].record {
				if other, ok := pair[1].record[alias]; !ok || other != record {
					dirty[alias], dirty[record] = struct{}{}, struct{}{}
				}
			}
		}
	}
	for _, it := range slices.Collect(maps.Keys(dirty)) {
		if record, ok := k.links.record[it]; ok {
			dirty[record] = struct{}{}
		}
	}
}

// look reports whether an alias names another item than before.
func (k *linker) look(l *Ledger, t int64, dirty map[uint32]struct{}) bool {
	if k.facts != l.count {
		k.facts = l.count
		k.next, k.named = map[uint32]uint32{}, map[uint32][]uint32{}
		for it := range l.aliases {
			k.lookAt(l, it, t)
			for _, to := range l.aliasesOf(it) {
				k.named[to] = append(k.named[to], it)
			}
		}
		return true
	}
	changed := false
	for it := range dirty {
		if _, ok := l.aliases[it]; ok {
			changed = k.lookAt(l, it, t) || changed
		}
		for _, alias := range k.named[it] {
			changed = k.lookAt(l, alias, t) || changed
		}
	}
	return changed
}

func (k *linker) lookAt(l *Ledger, it uint32, t int64) (changed bool) {
	was, named := k.next[it]
	to, names := l.aliasOf(it, t)
	if names {
		k.next[it] = to
	} else {
		delete(k.next, it)
	}
	return named != names || names && was != to
}

// aliasesOf returns the items that any ALIAS fact of an item names.
func (l *Ledger) aliasesOf(it uint32) (items []uint32) {
	l.eachFact(it, func(_ uint32, f *fact) {
		for _, bf := range l.bodies[f.body].fields {
			if bf.field != FieldAlias {
				continue
			}
			if source, id, ok := strings.Cut(l.values.list[bf.to].ID, "/"); ok {
				if to, ok := l.lookup(source, id); ok && !slices.Contains(items, to) {
					items = append(items, to)
				}
			}
		}
	})
	return items
}
