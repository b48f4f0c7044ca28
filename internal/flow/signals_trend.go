package flow

import (
	"math"
	"time"
)

// The spans of the signals that slide with the instant T.
const (
	balanceDays  = 14 * 24 * time.Hour // entries and exits, load before
	reopenDays   = 7 * 24 * time.Hour
	reopenBefore = 84 * 24 * time.Hour // begin of the 77 days before those
	overDays     = healthDays
)

// signalDays is more than how far back the signals look: 27 weeks and the
// current one, with an hour for the clocks.
const signalDays = 29 * 7 * 24 * time.Hour

// loadWeeks and baselineWeeks are how many weeks the baselines have.
const (
	loadWeeks     = 8
	baselineWeeks = 13
)

// A trend is the raw side of the signals of one value stream as of an instant
// T: whole numbers and exact sums, each of which changes by one event or one
// segment at a time, so that they can as well be kept while T moves.
//
// It depends on T in two ways. What slides: entries, exits, completions,
// reopens, timed, over and flowTime are over [T-x, T), so that an event comes in
// when T passes it and goes out when T-x does; previous and previousAge are of
// the instant T-14d, at which an item that is in flow ages as T moves. What
// stands for a week: presence, last and baseline are sums over the weeks of
// weeks, which are the same for each T of one calendar week and over before it
// began; within that week only new facts change them. First never changes but
// by facts.
type trend struct {
	t     int64
	weeks *signalWeeks
	first int64 // the first entry, math.MaxInt64 without one

	entries, exits int // in the last 14 days
	previous       int // in flow at T-14d ...
	previousAge    Span
	// Events of the last 7 days, and of the 77 days before them.
	completions, reopens [2]int
	// Of the items timed in the last 30 days: how many, Σ max(0, flow time −
	// target), Σ flow time.
	timed          int
	over, flowTime Span

	presence [loadWeeks]Span // in-flow time in each of weeks.load
	last     weekWork        // of the last of weeks.load
	baseline [baselineWeeks]weekWork
}

// weekWork is what was completed in one week and is still done.
type weekWork struct {
	completed int
	flowTimes []time.Duration // of the timed ones, in any order
}

func newTrend(loc *time.Location, t int64) *trend {
	return &trend{t: t, weeks: newSignalWeeks(loc, t), first: math.MaxInt64}
}

// The methods that gather do nothing without a trend, as where only what has no
// window is counted.

func (r *trend) enter(at int64) {
	if r == nil {
		return
	}
	r.first = min(r.first, at)
	if at >= r.t-int64(balanceDays) {
		r.entries++
	}
}

func (r *trend) exit(at int64) {
	if r != nil && at >= r.t-int64(balanceDays) {
		r.exits++
	}
}

// complete and reopen take events, of which an item may have several.
func (r *trend) complete(at int64) {
	if r != nil {
		r.event(&r.completions, at)
	}
}

func (r *trend) reopen(at int64) {
	if r != nil {
		r.event(&r.reopens, at)
	}
}

func (r *trend) event(counts *[2]int, at int64) {
	switch {
	case at >= r.t-int64(reopenDays):
		counts[0]++
	case at >= r.t-int64(reopenBefore):
		counts[1]++
	}
}

// present takes a stretch [from, end) in flow, at the end of which the item has
// a certain age.
func (r *trend) present(from, end int64, age time.Duration) {
	if r == nil {
		return
	}
	// The load at an instant is that of the facts before it, as of T's.
	if then := r.t - int64(balanceDays); from < then && then <= end {
		r.previous++
		r.previousAge = r.previousAge.Add(age - time.Duration(end-then))
	}
	weeks := &r.weeks.load
	if end <= weeks[0] {
		return
	}
	for i := range r.presence {
		if d := min(end, weeks[i+1]) - max(from, weeks[i]); d > 0 {
			r.presence[i] = r.presence[i].Add(time.Duration(d))
		}
	}
}

// completed takes an item that is done as of T, by its last completion.
func (r *trend) completed(at int64, flowTime time.Duration, timed bool, target time.Duration) {
	if r == nil {
		return
	}
	if week := r.week(at); week != nil {
		week.completed++
		if timed {
			week.flowTimes = append(week.flowTimes, flowTime)
		}
	}
	if timed && at >= r.t-int64(overDays) {
		r.timed++
		r.over = r.over.Add(max(0, flowTime-target))
		r.flowTime = r.flowTime.Add(flowTime)
	}
}

// week returns the week of an instant, nil where it is in none of those that
// the signals look at.
func (r *trend) week(at int64) *weekWork {
	if r.weeks.load[loadWeeks-1] <= at && at < r.weeks.load[loadWeeks] {
		return &r.last
	}
	for i := range r.baseline {
		if r.weeks.baseline[i] <= at && at < r.weeks.baseline[i+1] {
			return &r.baseline[i]
		}
	}
	return nil
}
