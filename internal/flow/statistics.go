package flow

import (
	"math"
	"slices"
	"time"
)

// NetFlowZ returns (E − X) / √(E + X) for E entries and X exits of a window: how
// many standard deviations the net flow is away from balance if entries and
// exits come like Poisson arrivals. ok is false where nothing crossed; below ten
// crossings the number says little.
func NetFlowZ(entries, exits int) (z float64, ok bool) {
	n := entries + exits
	if n <= 0 {
		return 0, false
	}
	return float64(entries-exits) / math.Sqrt(float64(n)), true
}

// ImpliedTime returns H / X in seconds: the presence H of a window divided by
// its X exits of any kind, which is Little's average time by bookkeeping. ok is
// false without an exit.
func ImpliedTime(presence Span, exits int) (seconds float64, ok bool) {
	if exits <= 0 {
		return 0, false
	}
	return presence.Seconds() / float64(exits), true
}

// FlowDebt returns the implied time minus the mean observed flow time of the
// timed items, in seconds. Above 0 debt accrues: young items were finished while
// old ones aged; below 0 it is repaid. ok is false without an exit or a timed
// item.
func FlowDebt(presence Span, exits int, flowTime Span, timed int) (seconds float64, ok bool) {
	implied, ok := ImpliedTime(presence, exits)
	if !ok || timed <= 0 {
		return 0, false
	}
	return implied - flowTime.Seconds()/float64(timed), true
}

// ExpectedOverAge returns the share of items in flow that a stable process has
// beyond the age x: Σ max(0, FT − x) / Σ FT over completed items' flow times. It
// is not the share of completed items slower than x, because long items are met
// more often. ok is false where the flow times sum to nothing.
func ExpectedOverAge(flowTimes []time.Duration, x time.Duration) (share float64, ok bool) {
	var over, total Span
	for _, t := range flowTimes {
		total = total.Add(t)
		over = over.Add(max(0, t-x))
	}
	return over.Over(total)
}

// Limits are those of an XmR chart: individual values and their moving ranges.
type Limits struct {
	Mean, MeanRange float64
	Lower, Upper    float64 // mean ∓ 2.66 × mean moving range
	RangeUpper      float64 // 3.268 × mean moving range
}

// XmR returns the limits of a fixed baseline, whose values are in the order of
// time and do not overlap. ok is false for fewer than two values; fewer than six
// make poor limits.
func XmR(baseline []float64) (l Limits, ok bool) {
	n := len(baseline)
	if n < 2 {
		return Limits{}, false
	}
	for i, x := range baseline {
		l.Mean += x
		if i > 0 {
			l.MeanRange += math.Abs(x - baseline[i-1])
		}
	}
	// Divided last: the mean of whole numbers is a whole one where it should be.
	l.Mean /= float64(n)
	l.MeanRange /= float64(n - 1)
	// The factors turn a mean range of two normal values into three sigma.
	l.Lower, l.Upper = l.Mean-2.66*l.MeanRange, l.Mean+2.66*l.MeanRange
	l.RangeUpper = 3.268 * l.MeanRange
	return l, true
}

// Signals reports whether a value lies outside the limits (rule 1).
func (l Limits) Signals(x float64) bool { return x < l.Lower || x > l.Upper }

// LogXmR returns the limits of positive values of which the logarithms vary
// evenly, as those of times do. Mean is the geometric one; MeanRange and
// RangeUpper are factors. What XmR says of its baseline holds here too.
func LogXmR(baseline []float64) (l Limits, ok bool) {
	logs := make([]float64, len(baseline))
	for i, x := range baseline {
		logs[i] = math.Log(x)
	}
	l, ok = XmR(logs)
	if !ok {
		return Limits{}, false
	}
	return Limits{math.Exp(l.Mean), math.Exp(l.MeanRange), math.Exp(l.Lower), math.Exp(l.Upper), math.Exp(l.RangeUpper)}, true
}

// Median returns the middle value of a list, or the mean of the two in the
// middle; of an empty list it is 0. It sorts the list.
func Median(values []float64) float64 {
	n := len(values)
	if n == 0 {
		return 0
	}
	slices.Sort(values)
	return (values[(n-1)/2] + values[n/2]) / 2
}

// BalanceP returns the chance that a + b events fall into two kinds at least as
// unevenly as a and b if both are equally likely: the exact two-sided binomial
// test of ½. It is 1 for two equal numbers, none included.
func BalanceP(a, b int) float64 {
	n, k := a+b, min(a, b)
	if a == b {
		return 1
	}
	all, _ := math.Lgamma(float64(n + 1))
	hit, _ := math.Lgamma(float64(k + 1))
	miss, _ := math.Lgamma(float64(n - k + 1))
	term := math.Exp(all - hit - miss - float64(n)*math.Ln2) // P(X = k)
	sum := 0.0
	for ; term > sum*1e-17; k-- { // from the largest on, until nothing more is added
		sum += term
		term *= float64(k) / float64(n-k+1)
	}
	return min(1, 2*sum)
}

// PoissonQuantile returns the smallest k with P(X <= k) >= p for X of a Poisson
// distribution of a mean, which is not negative; p is above 0 and below 1.
func PoissonQuantile(mean, p float64) int {
	if mean == 0 {
		return 0
	}
	// What is 20 deviations below the mean adds nothing, and e^-mean would be 0.
	k := max(0, math.Floor(mean-20*math.Sqrt(mean)))
	factorial, _ := math.Lgamma(k + 1)
	term := math.Exp(k*math.Log(mean) - mean - factorial) // P(X = k)
	sum := term
	for sum < p && (k < mean || term > sum*1e-17) {
		k++
		term *= mean / k
		sum += term
	}
	return int(k)
}

// A Forecast answers how many items will be completed and when, from the
// completions of past days, each as likely as the other to come again. It is
// exact: distributions are convolved, nothing is drawn at random. It holds
// nothing but its argument and may be used by several goroutines.
type Forecast struct {
	chance []float64 // of a day with 0, 1, 2 ... completions
	mean   float64   // completions a day
}

// The smallest sample that a forecast is made of, and the furthest it looks.
const (
	MinForecastItems = 10
	maxForecastDays  = 3660
	// roundingSlack keeps a chance that is p but for rounding from missing it.
	roundingSlack = 1e-12
)

// NewForecast makes a forecast from the number of completions on each past day,
// days without any included. ok is false below [MinForecastItems] completions.
func NewForecast(daily []int) (f *Forecast, ok bool) {
	sum := 0
	for _, n := range daily {
		if n < 0 {
			return nil, false
		}
		sum += n
	}
	if sum < MinForecastItems {
		return nil, false
	}
	f = &Forecast{mean: float64(sum) / float64(len(daily)), chance: make([]float64, slices.Max(daily)+1)}
	for _, n := range daily {
		f.chance[n] += 1 / float64(len(daily))
	}
	return f, true
}

// Mean returns the expected number of completions in so many days.
func (f *Forecast) Mean(days int) float64 { return f.mean * float64(days) }

// AtLeast returns the chance of at least so many completions in so many days.
func (f *Forecast) AtLeast(items, days int) float64 {
	if items <= 0 {
		return 1
	}
	return f.run(items, days, func([]float64) bool { return false })[items]
}

// HowMany returns the largest number of items that will be completed in so many
// days with a chance of at least p, which is between 0 and 1.
func (f *Forecast) HowMany(days int, p float64) int {
	most := (len(f.chance) - 1) * days
	tail := 0.0
	for items, q := range slices.Backward(f.run(most, days, func([]float64) bool { return false })) {
		if tail += q; tail >= p-roundingSlack {
			return items
		}
	}
	return 0
}

// When returns the smallest number of days in which so many items will be
// completed with a chance of at least p. ok is false where that takes more than
// ten years or p is 1, which no number of days gives.
func (f *Forecast) When(items int, p float64) (days int, ok bool) {
	switch {
	case !(p < 1):
		return 0, false
	case items <= 0:
		return 0, true
	}
	f.run(items, maxForecastDays, func(sum []float64) bool {
		ok = sum[items] >= p-roundingSlack
		if !ok {
			days++
		}
		return ok
	})
	return days, ok
}

// run convolves day by day the distribution of the number of completions, of
// which all from limit on count as limit. It stops after so many days or once
// enough says so.
func (f *Forecast) run(limit, days int, enough func(sum []float64) bool) []float64 {
	sum := make([]float64, limit+1)
	sum[0] = 1
	for day := 0; !enough(sum) && day < days; day++ {
		next := make([]float64, limit+1)
		for n, p := range sum {
			if p == 0 {
				continue
			}
			for k, q := range f.chance {
				next[min(n+k, limit)] += p * q
			}
		}
		sum = next
	}
	return sum
}
