package flow

import (
	"maps"
	"math"
	"slices"
	"time"
)

// signalInputs are what the signals depend on besides the trend's weeks and the
// ages.
type signalInputs struct {
	entries, exits, previous int
	completions, reopens     [2]int
	timed, throughput, load  int
	over, flowTime           Span
}

// measure returns the numbers as of the instant to which the stream has moved.
func (s *stream) measure(at int64) *Measures {
	m := &Measures{ValueStream: s.value, At: time.Unix(0, at).UTC(), Quality: s.writer.lifetime.quality}
	s.measureLoad(&m.Load, at)
	if !s.counted {
		s.counted = true
		s.totals = s.writer.lifetime.totals
		for i := range s.totals {
			s.totals[i].FlowTimeFine = maps.Clone(s.totals[i].FlowTimeFine)
		}
	}
	m.Totals = s.totals
	health := s.span(healthDays)
	restated := health.changed
	for i := range s.edges {
		s.edges[i].refresh(s.lens, at)
	}
	if s.listed > 0 {
		m.Windows = make([]WindowMeasures, s.listed)
	}
	for i := range m.Windows {
		w, e := &m.Windows[i], &s.edges[i]
		e.measure(w, at, m.Load.Items)
		// I8, of three records of what happened that share nothing: the load at
		// the end is that of the open items, at the start and the presence that of
		// the moves, and what lies between is drawn by the entries and exits.
		if w.LoadEnd-w.LoadStart != total(w.Entered[:])-total(w.Exited[:]) {
			m.LoadMismatch++
		}
		area := product(w.LoadStart, int64(e.length)).Plus(e.gained.value(at)).minus(e.lost.value(at))
		if area != w.All.Presence {
			m.PresenceMismatch++
		}
	}
	m.Throughput28 = s.span(throughputDays).w.All.Completed
	if m.Throughput28 > 0 {
		m.Predicted = float64(m.Load.Items) * throughputDays.Seconds() / float64(m.Throughput28)
	}
	m.Health = s.measureHealth(m, health, restated)
	m.Signals = s.measureSignals(m, at)
	return m
}

func total(counts []int) (n int) {
	for _, k := range counts {
		n += k
	}
	return n
}

func (s *stream) measureLoad(m *Load, at int64) {
	l := &s.load
	bases := l.bases.list // the oldest first
	n := len(bases)
	m.Items, m.ByType = n, l.byType
	if n > 0 {
		age := func(p float64) time.Duration { return time.Duration(at - bases[n-nearestRank(n, p)]) }
		m.AgeP50, m.AgeP85, m.Oldest = age(0.50), age(0.85), time.Duration(at-bases[0])
	}
	m.TotalAge = product(n, at).minus(l.sum)
	if target := s.value.Targets.FlowTime; target > 0 {
		m.OverTarget = l.bases.below(at - int64(target)) // R22
	}
	m.Neglected = l.last.below(at - int64(s.value.NeglectAfter) + 1)
	if l.changed {
		l.changed = false
		l.byStatus = s.lens.statusLoads(l.queue, at)
	}
	m.ByStatus = l.byStatus
}

// measureHealth gives the colours; four of them depend on the ends alone.
func (s *stream) measureHealth(m *Measures, e *edge, restated bool) []Health {
	target := s.value.Targets
	now := s.health
	if restated {
		now[0] = attainmentHealth(e.w.Attained, e.w.All.Timed, target)
		now[1] = flowTimeHealth(e.flowTimes[NumTypes].list, target)
		now[3] = distributionHealth(&e.w, target)
		now[4] = predictabilityHealth(&e.w.All)
	}
	now[2] = loadHealth(m, target, func(bound float64) bool {
		return stayedAbove(bound, m.Load.Items, s.crossings(m.At.UnixNano()-int64(redAfter)))
	})
	now[5] = Grey
	if expected, ok := e.over.Over(e.w.All.FlowTime()); ok {
		now[5] = overAgeHealth(expected, &m.Load, target)
	}
	s.health = now
	return []Health{
		{"attainment", now[0]}, {"flow_time", now[1]}, {"load", now[2]},
		{"distribution", now[3]}, {"predictability", now[4]}, {"over_age", now[5]},
	}
}

// crossings returns the entries and exits since an instant.
func (s *stream) crossings(since int64) (list []crossing) {
	for _, m := range slices.Backward(s.marks.list) {
		switch {
		case m.at < since:
			return list
		case m.kind == markEntry:
			list = append(list, crossing{m.at, 1})
		case m.kind == markExit:
			list = append(list, crossing{m.at, -1})
		}
	}
	return list
}

// measureSignals gives the signals: computed anew where a number changed that
// they depend on, but for the ages, which always do.
func (s *stream) measureSignals(m *Measures, at int64) Signals {
	balance, recent, before, health := s.span(balanceDays), s.span(reopenDays), s.span(reopenBefore), s.span(healthDays)
	now := signalInputs{
		entries: total(balance.w.Entered[:]), exits: total(balance.w.Exited[:]), previous: balance.loadBefore(),
		completions: [2]int{recent.w.CompletionEvents, before.w.CompletionEvents - recent.w.CompletionEvents},
		reopens:     [2]int{recent.w.ReopenEvents, before.w.ReopenEvents - recent.w.ReopenEvents},
		timed:       health.w.All.Timed, over: health.over, flowTime: health.w.All.FlowTime(),
		throughput: m.Throughput28, load: m.Load.Items,
	}
	if !s.weekly || now != s.seen {
		s.seen = now
		r := &s.trend
		r.t = at
		r.entries, r.exits, r.previous, r.completions, r.reopens = now.entries, now.exits, now.previous, now.completions, now.reopens
		r.timed, r.over, r.flowTime = now.timed, now.over, now.flowTime
		if !s.weekly {
			s.weekly = true
			s.measureWeeks()
		}
		s.signals = r.signals(m)
	}
	s.signals.TotalAgePrevious = balance.ages.value(balance.from)
	return s.signals
}

// measureWeeks gathers what the trend says of calendar weeks, which stays for the
// current one unless the facts of a past one change.
func (s *stream) measureWeeks() {
	r := &s.trend
	*r = trend{
		t: r.t, weeks: r.weeks, first: s.firstEntry(),
		entries: r.entries, exits: r.exits, previous: r.previous, completions: r.completions, reopens: r.reopens,
		timed: r.timed, over: r.over, flowTime: r.flowTime,
	}
	edge := s.span(reopenBefore) // begins before the weeks whose load counts
	load, last := edge.loadBefore(), edge.from
	spend := func(until int64) {
		for i := range r.presence {
			if d := min(until, r.weeks.load[i+1]) - max(last, r.weeks.load[i]); d > 0 && load > 0 {
				r.presence[i] = r.presence[i].Plus(product(load, d))
			}
		}
		last = until
	}
	for _, m := range s.marks.list[edge.mark:] {
		if m.kind == markMove && (m.from == 0) != (m.to == 0) {
			spend(m.at)
			if load++; m.to == 0 {
				load -= 2
			}
		}
	}
	spend(r.t)
	for i := range s.ends.list {
		d := &s.ends.list[i]
		if d.what == endDiscarded {
			continue
		}
		if week := r.week(d.at); week != nil {
			week.completed++
			if d.timed {
				week.flowTimes = append(week.flowTimes, d.active+d.waiting)
			}
		}
	}
}

// firstEntry returns the first entry, or an instant before any week of the
// signals where it is before them.
func (s *stream) firstEntry() int64 {
	entered := 0
	for i := range s.writer.lifetime.totals {
		entered += s.writer.lifetime.totals[i].Entered
	}
	switch {
	case entered > len(s.entries.list):
		return math.MinInt64
	case entered == 0:
		return math.MaxInt64
	}
	return s.entries.list[0]
}
