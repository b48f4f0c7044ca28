package flow

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// The health of a value stream compares the last 30 days with the agreed
// targets: colour is the target, never a trend. The thresholds are those of
// ARCHITECTURE.md, "Definitions", health.
func (g *gauge) health(m *Measures, w *windowGauge) []Health {
	var flowTimes []time.Duration
	for _, list := range w.flowTimes {
		flowTimes = append(flowTimes, list...)
	}
	slices.Sort(flowTimes)
	target := g.value.Targets
	return []Health{
		{"attainment", attainmentHealth(w.Attained, w.All.Timed, target)},
		{"flow_time", flowTimeHealth(flowTimes, target)},
		{"load", loadHealth(m, target, func(bound float64) bool { return stayedAbove(bound, m.Load.Items, g.crossings) })},
		{"distribution", distributionHealth(&w.WindowMeasures, target)},
		{"predictability", predictabilityHealth(&w.All)},
		{"over_age", g.overAgeHealth(flowTimes)},
	}
}

func (g *gauge) overAgeHealth(flowTimes []time.Duration) HealthStatus {
	expected, ok := ExpectedOverAge(flowTimes, g.value.Targets.FlowTime)
	if !ok {
		return Grey
	}
	return overAgeHealth(expected, &g.load, g.value.Targets)
}

// attainmentHealth is red only where so few within the target are unlikely
// (under 5 %) if the target rate held.
func attainmentHealth(within, n int, target Targets) HealthStatus {
	if target.FlowTime == 0 || n < 5 {
		return Grey
	}
	rate := target.Percentile / 100
	switch {
	case float64(within) >= rate*float64(n):
		return Green
	case BinomialAtMost(within, n, rate) < 0.05:
		return Red
	}
	return Amber
}

// BinomialAtMost returns P(X <= k) of n independent trials that each succeed
// with probability p.
func BinomialAtMost(k, n int, p float64) float64 {
	switch {
	case k < 0:
		return 0
	case k >= n || p <= 0:
		return 1
	case p >= 1:
		return 0
	}
	sum := 0.0
	for i := 0; i <= k; i++ {
		all, _ := math.Lgamma(float64(n + 1))
		hit, _ := math.Lgamma(float64(i + 1))
		miss, _ := math.Lgamma(float64(n - i + 1))
		sum += math.Exp(all - hit - miss + float64(i)*math.Log(p) + float64(n-i)*math.Log1p(-p))
	}
	return min(sum, 1)
}

// steps colours a value by two bounds.
func steps(value, green, amber float64) HealthStatus {
	switch {
	case value <= green:
		return Green
	case value <= amber:
		return Amber
	}
	return Red
}

func flowTimeHealth(ascending []time.Duration, target Targets) HealthStatus {
	if target.FlowTime == 0 || len(ascending) < 5 {
		return Grey
	}
	return steps(Percentile(ascending, target.Percentile/100).Seconds()/target.FlowTime.Seconds(), 1, 1.25)
}

// loadHealth is red only where the load was above 1.2 times its limit for three
// days, which the caller can tell.
func loadHealth(m *Measures, target Targets, stayedAbove func(bound float64) bool) HealthStatus {
	if target.Load == 0 {
		if target.FlowTime == 0 || m.Throughput28 == 0 {
			return Grey
		}
		return steps(m.Predicted/target.FlowTime.Seconds(), 1, 1.25)
	}
	if m.Load.Items <= target.Load {
		return Green
	}
	if stayedAbove(1.2 * float64(target.Load)) {
		return Red
	}
	return Amber
}

// stayedAbove reports whether the load was above a bound for all of the last
// three days, walking back from now over what crossed in them.
func stayedAbove(bound float64, load int, crossings []crossing) bool {
	slices.SortFunc(crossings, func(a, b crossing) int { return cmp.Compare(b.at, a.at) })
	for i := 0; ; {
		if float64(load) <= bound {
			return false
		}
		if i == len(crossings) {
			return true
		}
		for at := crossings[i].at; i < len(crossings) && crossings[i].at == at; i++ {
			load -= crossings[i].step // crossings of one instant count as one
		}
	}
}

// chiSquare95 are the 95 % quantiles of χ² by degrees of freedom.
var chiSquare95 = [...]float64{0, 3.841, 5.991, 7.815, 9.488}

// distributionHealth compares the mix with the agreed one: half the sum of the
// absolute differences, red only where χ² says that it is not chance.
func distributionHealth(w *WindowMeasures, target Targets) HealthStatus {
	n := float64(w.All.Completed)
	if len(target.Distribution) == 0 || n < 10 {
		return Grey
	}
	distance, chi, kinds := 0.0, 0.0, 0
	for t := range w.ByType {
		got, want := float64(w.ByType[t].Completed), target.Distribution[ItemType(t)]*n
		distance += math.Abs(got-want) / n / 2
		switch {
		case want > 0:
			chi += (got - want) * (got - want) / want
			kinds++
		case got > 0:
			chi = math.Inf(1) // a type that was agreed not to occur
		}
	}
	switch {
	case distance <= 0.10:
		return Green
	case distance > 0.20 && chi > chiSquare95[max(kinds-1, 0)]:
		return Red
	}
	return Amber
}

func predictabilityHealth(all *TypeMeasures) HealthStatus {
	if all.Timed < 10 || all.P50 == 0 {
		return Grey
	}
	return steps(all.P85.Seconds()/all.P50.Seconds(), 2, 3)
}

// overAgeHealth compares the share of items in flow that are older than the
// target with what is expected of a stable process.
func overAgeHealth(expected float64, load *Load, target Targets) HealthStatus {
	if target.FlowTime == 0 || load.Items < 4 {
		return Grey
	}
	share := float64(load.OverTarget) / float64(load.Items)
	switch {
	case share <= expected:
		return Green
	case share > 2*expected && load.OverTarget >= 2:
		return Red
	}
	return Amber
}
