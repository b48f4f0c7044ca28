package oracle

import (
	"math"
	"math/big"
	"slices"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const day = 24 * time.Hour

// A span of time [from, to).
type span struct{ from, to time.Time }

func (s span) holds(t time.Time) bool { return !t.Before(s.from) && t.Before(s.to) }

// signals computes each signal from its definition.
func signals(v *flow.ValueStream, lives []*life, at time.Time) flow.Signals {
	last := func(n int) span { return span{at.Add(-time.Duration(n) * day), at} }
	o := signalOracle{v, lives}
	var s flow.Signals

	entries, exits := o.crossings(last(14))
	s.NetFlow = entries - exits
	if entries+exits >= 10 {
		s.NetFlowP = defined(balance(entries, exits))
	}

	before := at.Add(-14 * day)
	for _, l := range lives {
		if l.presentAsOf(before) {
			s.LoadPrevious++
			s.TotalAgePrevious = s.TotalAgePrevious.Add(l.inFlowDuring(span{time.Time{}, before}))
		}
	}

	load := 0
	for _, l := range lives {
		if present(l.last()) {
			load++
		}
	}
	if n, _ := o.completed(last(28)); n >= 10 {
		predicted := float64(load) / float64(n) * 28 * 86400
		s.PredictedLow = defined(predicted - predicted/math.Sqrt(float64(n)))
	}
	if _, times := o.completed(last(30)); len(times) >= 5 && v.Targets.FlowTime > 0 {
		over, all := 0.0, 0.0
		for _, t := range times {
			over += max(0, t.Seconds()-v.Targets.FlowTime.Seconds())
			all += t.Seconds()
		}
		s.OverTargetExpected = defined(float64(load) * over / all)
	}

	completions, reopens := o.events(last(7))
	s.Reopened = reopens
	if completionsBefore, reopensBefore := o.events(span{at.Add(-84 * day), at.Add(-7 * day)}); completionsBefore >= 10 {
		rate := (float64(reopensBefore) + 0.5) / float64(completionsBefore)
		s.ReopenedLimit = defined(poisson(rate*float64(completions), 0.99))
	}

	o.weekly(&s, at)
	return s
}

// weekly computes the signals of whole calendar weeks.
func (o signalOracle) weekly(s *flow.Signals, at time.Time) {
	zone := o.stream.Location
	if zone == nil {
		zone = time.UTC
	}
	weeks := completeWeeks(zone, at)
	eight := weeks[len(weeks)-8:]
	if o.enteredBefore(eight[0].from) {
		var loads []float64
		for _, week := range eight {
			var presence time.Duration
			for _, l := range o.lives {
				presence += l.presenceDuring(week)
			}
			loads = append(loads, presence.Hours()/week.to.Sub(week.from).Hours())
		}
		slices.Sort(loads)
		s.LoadBaseline = defined((loads[3] + loads[4]) / 2)
	}

	lastWeek := weeks[len(weeks)-1]
	velocity, times := o.completed(lastWeek)
	s.VelocityWeek = velocity
	if len(times) >= 3 {
		s.TimeWeek = defined(middle(times))
	}
	// The quarter begins at the first of the days that are in the same one.
	quarter := func(t time.Time) int { return t.Year()*4 + (int(t.Month())-1)/3 }
	first := lastWeek.from.Add(12 * time.Hour).In(zone) // by noon, whatever the clocks do
	for quarter(first.AddDate(0, 0, -1)) == quarter(first) {
		first = first.AddDate(0, 0, -1)
	}
	year, month, date := first.Date()
	begin := time.Date(year, month, date, 0, 0, 0, 0, zone)
	for weeks[len(weeks)-1].to.After(begin) {
		weeks = weeks[:len(weeks)-1]
	}
	var counts, logs []float64
	for _, week := range weeks[len(weeks)-13:] {
		if !o.enteredBefore(week.from) {
			continue
		}
		n, times := o.completed(week)
		counts = append(counts, float64(n))
		if len(times) >= 3 {
			logs = append(logs, math.Log(middle(times)))
		}
	}
	if len(counts) >= 6 {
		mean, wide := processLimits(counts)
		s.VelocityMean = defined(mean)
		if mean < 4 {
			s.VelocityLower, s.VelocityUpper = defined(poisson(mean, 0.005)), defined(poisson(mean, 0.995))
		} else {
			s.VelocityLower, s.VelocityUpper = defined(math.Max(mean-wide, 0)), defined(mean+wide)
		}
	}
	if len(logs) >= 6 {
		mean, wide := processLimits(logs)
		s.TimeLower, s.TimeUpper = defined(math.Exp(mean-wide)), defined(math.Exp(mean+wide))
	}
}

// completeWeeks returns the weeks of the last 250 days that have ended, oldest
// first: it looks at each day and takes the Mondays.
func completeWeeks(zone *time.Location, at time.Time) (weeks []span) {
	var mondays []time.Time
	for n := -250; n <= 1; n++ {
		year, month, date := at.In(zone).AddDate(0, 0, n).Date()
		if noon := time.Date(year, month, date, 12, 0, 0, 0, zone); noon.Weekday() == time.Monday {
			mondays = append(mondays, time.Date(year, month, date, 0, 0, 0, 0, zone))
		}
	}
	for i := 0; i+1 < len(mondays) && !mondays[i+1].After(at); i++ {
		weeks = append(weeks, span{mondays[i], mondays[i+1]})
	}
	return weeks
}

type signalOracle struct {
	stream *flow.ValueStream
	lives  []*life
}

func (o signalOracle) crossings(during span) (entries, exits int) {
	for _, l := range o.lives {
		for k, s := range l.steps {
			if during.holds(s.from) && l.entry(k) != "" {
				entries++
			}
			if during.holds(s.from) && l.exit(k) != "" {
				exits++
			}
		}
	}
	return entries, exits
}

func (o signalOracle) enteredBefore(t time.Time) bool {
	entries, _ := o.crossings(span{time.Time{}, t})
	return entries > 0
}

func (o signalOracle) events(during span) (completions, reopens int) {
	for _, l := range o.lives {
		for k, s := range l.steps {
			if !during.holds(s.from) || !s.now.inValueStream() {
				continue
			}
			if l.completes(s) {
				completions++
			}
			if l.reopens(k) {
				reopens++
			}
		}
	}
	return completions, reopens
}

// completed counts the items completed in a span and still done, and lists the
// flow times of those with a known start.
func (o signalOracle) completed(during span) (items int, flowTimes []time.Duration) {
	for _, l := range o.lives {
		done, ok := l.becameDone()
		if !ok || !l.completes(done) || !during.holds(done.from) || !done.now.inValueStream() {
			continue
		}
		items++
		if _, started := l.start(); started && !l.censored {
			flowTimes = append(flowTimes, l.flowTime())
		}
	}
	return items, flowTimes
}

// inFlowDuring is the time of a span in which the item was in flow anywhere.
func (l *life) inFlowDuring(during span) time.Duration {
	return l.timeDuring(during, moment.inFlow)
}

// presenceDuring is the time of a span in which the item was in flow here.
func (l *life) presenceDuring(during span) time.Duration { return l.timeDuring(during, present) }

func (l *life) timeDuring(during span, counts func(moment) bool) (sum time.Duration) {
	for _, s := range l.steps {
		if a, b := later(s.from, during.from), sooner(s.to, during.to); counts(s.now) && a.Before(b) {
			sum += b.Sub(a)
		}
	}
	return sum
}

func defined(x float64) flow.Number { return flow.Number{Value: x, Defined: true} }

// middle is the nearest-rank median in seconds.
func middle(times []time.Duration) float64 {
	slices.Sort(times)
	return time.Duration(*percentile(times, 50)).Seconds()
}

// processLimits returns the mean and 2.66 mean moving ranges.
func processLimits(values []float64) (mean, wide float64) {
	sum, moved := 0.0, 0.0
	for i, x := range values {
		sum += x
		if i > 0 {
			moved += max(x, values[i-1]) - min(x, values[i-1])
		}
	}
	n := float64(len(values))
	return sum / n, 2.66 * moved / (n - 1)
}

// balance adds up, in whole numbers, the ways to split a + b that are at least
// as uneven.
func balance(a, b int) float64 {
	n := int64(a + b)
	ways := new(big.Int)
	for k := range n + 1 {
		uneven := 2*k - n
		if d := int64(a - b); uneven*uneven >= d*d {
			ways.Add(ways, new(big.Int).Binomial(n, k))
		}
	}
	p, _ := new(big.Rat).SetFrac(ways, new(big.Int).Lsh(big.NewInt(1), uint(n))).Float64()
	return p
}

// poisson is the smallest number that a Poisson variable exceeds with a
// probability of at most 1 - p.
func poisson(mean, p float64) float64 {
	k, sum := 0.0, math.Exp(-mean)
	for sum < p {
		k++
		gamma, _ := math.Lgamma(k + 1)
		sum += math.Exp(-mean + k*math.Log(mean) - gamma)
	}
	return k
}
