package flow

import (
	"math"
	"slices"
	"time"
)

// A Number is a number that may be undefined. Its Value is 0 then.
type Number struct {
	Value   float64
	Defined bool
}

func number(x float64) Number { return Number{x, true} }

// Signals are the numbers behind alerts and arrows: has something changed, or
// is it chance? They are made of counts over spans that do not overlap and of
// whole calendar weeks in the value stream's zone, and like everything else
// they are as of the instant: what a tracker corrects later restates them.
//
// A week is the time from one Monday 00:00 to the next; the current one, in
// which the instant lies, is never looked at. A week counts as one of a value
// stream if that had an entry before it.
type Signals struct {
	// NetFlow is entries less exits of the last 14 days, NetFlowP the chance of
	// a split at least so uneven if both were equally likely; it is defined from
	// ten entries and exits together on.
	NetFlow  int
	NetFlowP Number
	// LoadBaseline is the median of the average loads of the 8 weeks before the
	// current one, defined where all of them count.
	LoadBaseline Number
	// LoadPrevious and TotalAgePrevious are load and total age 14 days before.
	LoadPrevious     int
	TotalAgePrevious Span
	// PredictedLow is the optimistic end of the predicted flow time in seconds,
	// defined from ten completions in 28 days on.
	PredictedLow Number
	// OverTargetExpected is how many of the items in flow a stable process would
	// have beyond the flow time target, by the flow times of the last 30 days;
	// defined with a target and five timed items.
	OverTargetExpected Number
	// VelocityWeek is the number of items completed in the last week. The others
	// are mean and limits of the baseline, defined for six weeks of it.
	VelocityWeek                               int
	VelocityMean, VelocityLower, VelocityUpper Number
	// TimeWeek is the median flow time, in seconds, of the last week, defined
	// from three timed items on. The limits are those of the baseline's medians,
	// defined for six such weeks of it.
	TimeWeek, TimeLower, TimeUpper Number
	// Reopened is the number of reopenings in the last 7 days, ReopenedLimit how
	// many there may be by the 77 days before, defined from ten completions on.
	Reopened      int
	ReopenedLimit Number
}

// The smallest samples of the signals.
const (
	minCrossings     = 10 // entries and exits for a chance
	minPredicted     = 10 // completions for an optimistic end
	minOverTarget    = 5  // flow times for an expectation
	minBaselineWeeks = 6
	minWeekTimed     = 3 // flow times for a week's median
	minReopenBase    = 10
	minMeanVelocity  = 4.0 // a week; below, limits are those of a Poisson variable
)

// signals says what a trend comes to, beside the numbers that are known already.
func (r *trend) signals(m *Measures) Signals {
	s := Signals{
		NetFlow:      r.entries - r.exits,
		LoadPrevious: r.previous, TotalAgePrevious: r.previousAge,
		VelocityWeek: r.last.completed,
		Reopened:     r.reopens[0],
	}
	if r.entries+r.exits >= minCrossings {
		s.NetFlowP = number(BalanceP(r.entries, r.exits))
	}
	if r.first < r.weeks.load[0] {
		s.LoadBaseline = number(r.loadBaseline())
	}
	if n := m.Throughput28; n >= minPredicted {
		s.PredictedLow = number(m.Predicted * (1 - 1/math.Sqrt(float64(n))))
	}
	if r.timed >= minOverTarget && m.ValueStream.Targets.FlowTime > 0 {
		if share, ok := r.over.Over(r.flowTime); ok {
			s.OverTargetExpected = number(share * float64(m.Load.Items))
		}
	}
	if completions := r.completions[1]; completions >= minReopenBase {
		expected := (float64(r.reopens[1]) + 0.5) / float64(completions) * float64(r.completions[0])
		s.ReopenedLimit = number(float64(PoissonQuantile(expected, 0.99)))
	}
	r.velocity(&s)
	r.flowTimes(&s)
	return s
}

func (r *trend) loadBaseline() float64 {
	var averages [loadWeeks]float64
	for i, presence := range r.presence {
		averages[i] = presence.Seconds() / time.Duration(r.weeks.load[i+1]-r.weeks.load[i]).Seconds()
	}
	return Median(averages[:])
}

// velocity adds the limits of the completions in a week.
func (r *trend) velocity(s *Signals) {
	var counts []float64
	for i := range r.baseline {
		if r.first < r.weeks.baseline[i] {
			counts = append(counts, float64(r.baseline[i].completed))
		}
	}
	limits, ok := XmR(counts)
	if !ok || len(counts) < minBaselineWeeks {
		return
	}
	lower, upper := max(0, limits.Lower), limits.Upper
	if limits.Mean < minMeanVelocity {
		lower, upper = float64(PoissonQuantile(limits.Mean, 0.005)), float64(PoissonQuantile(limits.Mean, 0.995))
	}
	s.VelocityMean, s.VelocityLower, s.VelocityUpper = number(limits.Mean), number(lower), number(upper)
}

// flowTimes adds the last week's median flow time and its limits, which are
// those of the logarithms: flow times are skewed.
func (r *trend) flowTimes(s *Signals) {
	if median, ok := r.last.median(); ok {
		s.TimeWeek = number(median)
	}
	var medians []float64
	for i := range r.baseline {
		if median, ok := r.baseline[i].median(); ok && r.first < r.weeks.baseline[i] {
			medians = append(medians, median)
		}
	}
	if limits, ok := LogXmR(medians); ok && len(medians) >= minBaselineWeeks {
		s.TimeLower, s.TimeUpper = number(limits.Lower), number(limits.Upper)
	}
}

// median returns the median flow time of a week in seconds, a nearest-rank
// percentile like all those of flow time.
func (w *weekWork) median() (seconds float64, ok bool) {
	if len(w.flowTimes) < minWeekTimed {
		return 0, false
	}
	slices.Sort(w.flowTimes)
	return Percentile(w.flowTimes, 0.50).Seconds(), true
}
