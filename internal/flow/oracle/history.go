package oracle

import (
	"slices"
	"sort"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A fact is one change as an item's history holds it.
type fact struct {
	flow.Change
	effective time.Time // At, or the item's birth where At is before it (R3)
	evidence  bool      // from an alias: only its fields count (case 25)
}

// A history is everything known about one item as of an instant.
type history struct {
	source, item string
	own          []flow.Change // as of T, in the order (at, sequence, id)
	facts        []fact        // own and evidence, in the order of folding
	censored     bool          // no CREATED: its earlier life is unknown
	lastFact     time.Time     // aliases' facts included
	key          string
}

func (h *history) name() string { return h.source + "/" + h.item }

// asOf picks the facts that exist as of an instant (R1): in log order, the first
// of each source and id.
func asOf(log []flow.Change, at time.Time) (facts []flow.Change, duplicates, conflicts int) {
	for _, c := range log {
		if !c.At.Before(at) {
			continue
		}
		first := slices.IndexFunc(facts, func(f flow.Change) bool { return f.Source == c.Source && f.ID == c.ID })
		switch {
		case first < 0:
			facts = append(facts, c)
		case sameFact(facts[first], c):
			duplicates++
		default:
			conflicts++
		}
	}
	return facts, duplicates, conflicts
}

func sameFact(a, b flow.Change) bool {
	return a.Item == b.Item && a.Container == b.Container && a.At.Equal(b.At) && a.Sequence == b.Sequence &&
		a.Kind == b.Kind && slices.Equal(a.Fields, b.Fields)
}

// earlier is the order of R2, without the exception for CREATED.
func earlier(a, b flow.Change) bool {
	if !a.At.Equal(b.At) {
		return a.At.Before(b.At)
	}
	if a.Sequence != b.Sequence {
		return a.Sequence < b.Sequence
	}
	return a.ID < b.ID
}

// histories groups facts by item and joins aliases to their canonical items
// (case 25). An alias is not among the result.
func histories(facts []flow.Change) []*history {
	all := map[string]*history{}
	for _, c := range facts {
		name := c.Source + "/" + c.Item
		if all[name] == nil {
			all[name] = &history{source: c.Source, item: c.Item}
		}
		all[name].own = append(all[name].own, c)
	}
	for _, h := range all {
		sort.Slice(h.own, func(i, j int) bool { return earlier(h.own[i], h.own[j]) })
		h.facts = birthFirst(h.own, nil)
	}
	canonical := map[string][]*history{}
	for _, h := range all {
		to := canonicalOf(all, h)
		canonical[to] = append(canonical[to], h)
	}
	var result []*history
	for name, members := range canonical {
		h := all[name]
		var evidence []flow.Change
		for _, m := range members {
			for _, c := range m.own {
				if c.At.After(h.lastFact) {
					h.lastFact = c.At
				}
				if m != h {
					evidence = append(evidence, c)
				}
			}
		}
		h.facts = birthFirst(h.own, evidence)
		h.censored = !slices.ContainsFunc(h.own, func(c flow.Change) bool { return c.Kind == flow.Created })
		for _, c := range h.own {
			if c.Key != "" {
				h.key = c.Key
			}
		}
		result = append(result, h)
	}
	sort.Slice(result, func(i, j int) bool {
		return result[i].source < result[j].source || result[i].source == result[j].source && result[i].item < result[j].item
	})
	return result
}

// birthFirst puts an item's facts into the order of folding: by (at, sequence,
// id), the first CREATED before all others, and what is before its instant as if
// at it (R2, R3). Of an alias' facts only those with evidence come in.
func birthFirst(own, evidence []flow.Change) []fact {
	var facts []fact
	for _, c := range own {
		facts = append(facts, fact{Change: c, effective: c.At})
	}
	for _, c := range evidence {
		var fields []flow.FieldChange
		for _, f := range c.Fields {
			if f.Field == flow.FieldPullRequest || f.Field == flow.FieldAssigned {
				fields = append(fields, f)
			}
		}
		if c.Fields = fields; len(fields) > 0 {
			facts = append(facts, fact{Change: c, effective: c.At, evidence: true})
		}
	}
	sort.Slice(facts, func(i, j int) bool {
		a, b := facts[i], facts[j]
		switch {
		case earlier(a.Change, b.Change) || earlier(b.Change, a.Change):
			return earlier(a.Change, b.Change)
		case a.evidence != b.evidence: // one id in two sources: nothing else is left to order by
			return b.evidence
		}
		return a.Source+"/"+a.Item < b.Source+"/"+b.Item
	})
	for i, f := range facts {
		if f.Kind == flow.Created && !f.evidence {
			copy(facts[1:i+1], facts[:i])
			facts[0] = f
			for j := range facts {
				if facts[j].effective.Before(f.At) {
					facts[j].effective = f.At
				}
			}
			rest := facts[1:]
			sort.SliceStable(rest, func(i, j int) bool {
				a, b := rest[i].Change, rest[j].Change
				a.At, b.At = rest[i].effective, rest[j].effective
				return earlier(a, b)
			})
			break
		}
	}
	return facts
}

// aliasOf returns the name of the item that the latest ALIAS fact gives, where
// that item exists and is another one; else "".
func aliasOf(all map[string]*history, h *history) string {
	to := ""
	for _, f := range h.facts {
		for _, c := range f.Fields {
			if c.Field == flow.FieldAlias {
				to = c.To.ID
			}
		}
	}
	if to == h.name() || all[to] == nil {
		return ""
	}
	return to
}

// canonicalOf follows aliases to the end; the end of a cycle is its lowest name.
func canonicalOf(all map[string]*history, h *history) string {
	path := []string{h.name()}
	for {
		next := aliasOf(all, all[path[len(path)-1]])
		if next == "" {
			return path[len(path)-1]
		}
		if i := slices.Index(path, next); i >= 0 {
			return slices.Min(path[i:])
		}
		path = append(path, next)
	}
}
