package flow

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// Options ask for more than the numbers of a value stream.
type Options struct {
	Items bool // list the items of each value stream
}

// Measure computes every number as of an instant: what the facts with at < t
// come to under a policy. It reads no clock and changes nothing, so the same
// arguments give the same snapshot, and any number of calls may run at once as
// long as nobody adds to the ledger meanwhile.
func Measure(p *Policy, l *Ledger, t time.Time, opt Options) *Snapshot {
	at := t.UnixNano()
	l, _ = l.asOf(at)
	all := lenses(p, l)
	gauges := make([]*gauge, len(p.ValueStreams))
	for _, n := range all {
		for _, i := range n.streams {
			gauges[i] = newGauge(n, i, at, opt.Items)
		}
	}
	quality := newQuality()
	links := l.links(at)
	var lines []timeline
	var streams []int
	for it := range uint32(len(l.items)) {
		if links.hidden(it) {
			continue
		}
		lines = foldAll(lines[:0], all, it, at, links.evidence(it))
		for i := range lines {
			streams = lines[i].appendStreams(streams[:0])
			for _, stream := range streams {
				gauges[stream].observe(&lines[i])
			}
		}
		quality.qualify(l, lines, 1)
	}
	quality.Duplicates, quality.Conflicts = l.duplicatesBefore(at)
	s := &Snapshot{At: t.UTC().Round(0), PolicyHash: p.Hash(), Quality: quality}
	for _, g := range gauges {
		s.ValueStreams = append(s.ValueStreams, g.measures())
	}
	return s
}

// foldAll appends the item's timeline under each lens; none where the item has
// no facts before the instant.
func foldAll(lines []timeline, all []*lens, it uint32, at int64, evidence []uint32) []timeline {
	for _, n := range all {
		line, ok := n.fold(it, at, evidence)
		if !ok {
			return lines
		}
		lines = append(lines, line)
	}
	return lines
}

func newQuality() Quality {
	return Quality{UnmappedStatuses: map[string]int{}, UnmappedItems: map[string]int{}}
}

// measures ends the gathering: sums, percentiles, identities, colours.
func (g *gauge) measures() *Measures {
	m := &Measures{ValueStream: g.value, At: time.Unix(0, g.at).UTC(), Load: g.load, Quality: g.lifetime.quality, Totals: g.lifetime.totals}
	slices.Sort(g.ages)
	m.Load.AgeP50, m.Load.AgeP85 = Percentile(g.ages, 0.50), Percentile(g.ages, 0.85)
	if len(g.ages) > 0 {
		m.Load.Oldest = g.ages[len(g.ages)-1]
	}
	m.Load.ByStatus = g.lens.statusLoads(g.queue, g.at)
	for i := range g.windows {
		w := &g.windows[i]
		g.finish(w)
		if i >= g.listed {
			continue
		}
		m.Windows = append(m.Windows, w.WindowMeasures)
		if w.loadMismatch() {
			m.LoadMismatch++
		}
		if w.presenceMismatch() {
			m.PresenceMismatch++
		}
	}
	throughput, health := &g.windows[g.listed], &g.windows[g.listed+1]
	m.Throughput28 = throughput.All.Completed
	if m.Throughput28 > 0 {
		m.Predicted = float64(g.load.Items) * throughputDays.Seconds() / float64(m.Throughput28)
	}
	m.Health = g.health(m, health)
	m.Signals = g.trend.signals(m)
	m.Items = g.rows
	slices.SortFunc(m.Items, func(a, b ItemMeasures) int {
		return cmp.Or(strings.Compare(a.Source, b.Source), compareItemIDs(a.Item, b.Item))
	})
	return m
}

// compareItemIDs orders numbers as numbers, so that lists read naturally.
func compareItemIDs(a, b string) int {
	x, isX := plainNumber(a)
	y, isY := plainNumber(b)
	if isX && isY {
		return cmp.Compare(x, y)
	}
	return strings.Compare(a, b)
}

// finish computes what a window's sums come to.
func (g *gauge) finish(w *windowGauge) {
	var every []time.Duration
	for t := range w.ByType {
		m := &w.ByType[t]
		m.percentiles(w.flowTimes[t])
		every = append(every, w.flowTimes[t]...)
		w.All.Completed += m.Completed
		w.All.Timed += m.Timed
		w.All.Active = w.All.Active.Plus(m.Active)
		w.All.Waiting = w.All.Waiting.Plus(m.Waiting)
		w.All.Presence = w.All.Presence.Plus(m.Presence)
		w.All.PresenceActive = w.All.PresenceActive.Plus(m.PresenceActive)
	}
	w.All.percentiles(every)
	w.LoadEnd = g.load.Items
	w.Status = g.lens.statusTimes(w.status, g.at)
}

func (t *TypeMeasures) percentiles(flowTimes []time.Duration) {
	slices.Sort(flowTimes)
	t.P50, t.P85, t.P95 = Percentile(flowTimes, 0.50), Percentile(flowTimes, 0.85), Percentile(flowTimes, 0.95)
}

// Percentile returns the nearest-rank percentile of an ascending list: the
// ⌈p·n⌉-th smallest, always one of the values. p is above 0 and at most 1; of
// an empty list it is 0.
func Percentile(ascending []time.Duration, p float64) time.Duration {
	if len(ascending) == 0 {
		return 0
	}
	return ascending[nearestRank(len(ascending), p)-1]
}

// nearestRank returns ⌈p·n⌉, from 1 to n.
func nearestRank(n int, p float64) int {
	// p·n is meant in decimals: 0.85·20 is 17, not a float's 17.000000000000004.
	rank := int(math.Ceil(p*float64(n) - 1e-9))
	return min(max(rank, 1), n)
}

// loadMismatch checks the first half of I8: load(end) − load(start) = entries −
// exits.
func (w *windowGauge) loadMismatch() bool {
	net := 0
	for _, n := range w.Entered {
		net += n
	}
	for _, n := range w.Exited {
		net -= n
	}
	return w.LoadEnd-w.LoadStart != net
}

// presenceMismatch checks the second half of I8: the area under the load curve,
// drawn from the load at the start and the crossings, is the in-flow time.
func (w *windowGauge) presenceMismatch() bool {
	area := w.gained
	for range w.LoadStart {
		area = area.Add(w.Window.Length)
	}
	return area != w.All.Presence.Plus(w.lost)
}

// statusTimes sums up times by what the statuses are called as of an instant.
func (n *lens) statusTimes(times map[statusKey]Span, t int64) []StatusTime {
	type row struct {
		name  string
		state State
	}
	sums := map[row]Span{}
	for key, spent := range times {
		r := row{n.statusName(key.source, key.status, t), key.state}
		sums[r] = sums[r].Plus(spent)
	}
	list := make([]StatusTime, 0, len(sums))
	for r, spent := range sums {
		list = append(list, StatusTime{r.name, r.state, spent})
	}
	slices.SortFunc(list, func(a, b StatusTime) int {
		return cmp.Or(strings.Compare(a.Status, b.Status), cmp.Compare(a.State, b.State))
	})
	return list
}

// statusLoads sums up items likewise.
func (n *lens) statusLoads(queue map[statusKey]int, t int64) []StatusLoad {
	var list []StatusLoad
	for key, items := range queue {
		name := n.statusName(key.source, key.status, t)
		i := slices.IndexFunc(list, func(s StatusLoad) bool { return s.Status == name && s.State == key.state })
		if i < 0 {
			i = len(list)
			list = append(list, StatusLoad{Status: name, State: key.state})
		}
		list[i].Items += items
	}
	slices.SortFunc(list, func(a, b StatusLoad) int {
		return cmp.Or(strings.Compare(a.Status, b.Status), cmp.Compare(a.State, b.State))
	})
	return list
}
