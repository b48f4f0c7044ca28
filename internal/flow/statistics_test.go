package flow_test

import (
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func TestStatisticsOfNothing(t *testing.T) {
	if z, ok := flow.NetFlowZ(0, 0); ok || z != 0 {
		t.Errorf("net flow z of no crossing is %v, %v", z, ok)
	}
	week := flow.Span{}.Add(7 * day)
	if x, ok := flow.ImpliedTime(week, 0); ok || x != 0 {
		t.Errorf("implied time without an exit is %v, %v", x, ok)
	}
	if x, ok := flow.FlowDebt(week, 0, week, 3); ok || x != 0 {
		t.Errorf("flow debt without an exit is %v, %v", x, ok)
	}
	if x, ok := flow.FlowDebt(week, 3, flow.Span{}, 0); ok || x != 0 {
		t.Errorf("flow debt without a timed item is %v, %v", x, ok)
	}
	for _, none := range [][]time.Duration{nil, {0, 0}} {
		if x, ok := flow.ExpectedOverAge(none, day); ok || x != 0 {
			t.Errorf("expected over-age share of %v is %v, %v", none, x, ok)
		}
	}
	if l, ok := flow.XmR([]float64{4}); ok || l != (flow.Limits{}) {
		t.Errorf("limits of one value are %v, %v", l, ok)
	}
}

func TestExpectedOverAge(t *testing.T) {
	// Of 10 item-days in flow, 6 are of the long item beyond its second day.
	share, ok := flow.ExpectedOverAge([]time.Duration{8 * day, 2 * day}, 2*day)
	if !ok || share != 0.6 {
		t.Errorf("share is %v, %v", share, ok)
	}
	if share, ok := flow.ExpectedOverAge([]time.Duration{8 * day, 2 * day}, 8*day); !ok || share != 0 {
		t.Errorf("share at the longest is %v, %v", share, ok)
	}
}

func TestProcessLimitsSignal(t *testing.T) {
	l, _ := flow.XmR([]float64{10, 12})
	for x, want := range map[float64]bool{l.Lower: false, l.Upper: false, math.Nextafter(l.Lower, 0): true, math.Nextafter(l.Upper, 100): true, 11: false} {
		if l.Signals(x) != want {
			t.Errorf("signal of %v between %v and %v is %v", x, l.Lower, l.Upper, !want)
		}
	}
}

func TestForecastRefuses(t *testing.T) {
	for _, daily := range [][]int{nil, {0, 0, 0}, {9}, {4, 5}, {11, -1}} {
		if _, ok := flow.NewForecast(daily); ok {
			t.Errorf("%v is accepted", daily)
		}
	}
	f, ok := flow.NewForecast([]int{4, 0, 6})
	if !ok {
		t.Fatal("ten completions are refused")
	}
	if days, ok := f.When(3, 1); ok {
		t.Errorf("certain within %d days", days)
	}
	if days, ok := f.When(0, 0.85); !ok || days != 0 {
		t.Errorf("nothing takes %d days, %v", days, ok)
	}
	if p := f.AtLeast(0, 5); p != 1 {
		t.Errorf("the chance of nothing or more is %v", p)
	}
	if n := f.HowMany(0, 0.5); n != 0 {
		t.Errorf("%d items in no time", n)
	}
}

// How many and when are two readings of one distribution, and it is that which
// drawing at random would find.
func TestForecastAgreesWithDrawing(t *testing.T) {
	daily := []int{0, 3, 0, 0, 1, 2, 0, 5, 0, 1}
	f, _ := flow.NewForecast(daily)
	for items := 1; items <= 12; items++ {
		days, ok := f.When(items, 0.85)
		if !ok || f.AtLeast(items, days) < 0.85 || f.AtLeast(items, days-1) >= 0.85 {
			t.Errorf("%d items in %d days: %v, a day earlier %v", items, days, f.AtLeast(items, days), f.AtLeast(items, days-1))
		}
		if n := f.HowMany(days, 0.85); n < items {
			t.Errorf("%d items take %d days, in which there are %d", items, days, n)
		}
	}
	const runs, horizon, items = 20_000, 10, 14
	random := rand.New(rand.NewPCG(1, 2))
	hits := 0
	for range runs {
		sum := 0
		for range horizon {
			sum += daily[random.IntN(len(daily))]
		}
		if sum >= items {
			hits++
		}
	}
	p := f.AtLeast(items, horizon)
	if drawn, sigma := float64(hits)/runs, math.Sqrt(p*(1-p)/runs); math.Abs(drawn-p) > 4*sigma {
		t.Errorf("chance is %v, drawn %v ± %v", p, drawn, sigma)
	}
}

func TestWeeks(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	// The clocks change on 29 March and on 25 October 2026.
	for _, c := range []struct {
		from  time.Time
		hours float64
	}{
		{time.Date(2026, 3, 25, 12, 0, 0, 0, berlin), 167},
		{time.Date(2026, 10, 21, 12, 0, 0, 0, berlin), 169},
		{time.Date(2026, 6, 7, 23, 59, 0, 0, berlin), 168},
	} {
		weeks := flow.Weeks(berlin, c.from, c.from.Add(time.Second))
		if len(weeks) != 2 || weeks[1].Sub(weeks[0]).Hours() != c.hours {
			t.Errorf("weeks from %s are %s", c.from, weeks)
		}
		for _, w := range weeks {
			if h, m, s := w.Clock(); w.Weekday() != time.Monday || h+m+s != 0 {
				t.Errorf("a week starts %s", w)
			}
		}
		if c.from.Before(weeks[0]) || !c.from.Before(weeks[1]) {
			t.Errorf("%s is not in [%s, %s)", c.from, weeks[0], weeks[1])
		}
	}
	monday := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	if weeks := flow.Weeks(time.UTC, monday, monday.AddDate(0, 0, 14)); len(weeks) != 3 || !weeks[0].Equal(monday) {
		t.Errorf("two weeks are %s", weeks)
	}
	if weeks := flow.Weeks(time.UTC, monday, monday); weeks != nil {
		t.Errorf("no time is %s", weeks)
	}
}

func TestBusinessTime(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	c := flow.BusinessCalendar{
		Location: berlin, Start: 9 * 3600, End: 17 * 3600,
		Days:    [7]bool{time.Monday: true, time.Tuesday: true, time.Wednesday: true, time.Thursday: true, time.Friday: true},
		Holiday: func(year int, month time.Month, day int) bool { return year == 2026 && month == time.May && day == 1 },
	}
	at := func(month time.Month, day, hour int) time.Time {
		return time.Date(2026, month, day, hour, 0, 0, 0, berlin)
	}
	for _, x := range []struct {
		from, to time.Time
		hours    float64
	}{
		{at(4, 30, 16), at(5, 4, 10), 2},  // Thursday to Monday, Friday a holiday
		{at(6, 2, 10), at(6, 2, 12), 2},   // within a day
		{at(6, 2, 18), at(6, 3, 8), 0},    // overnight
		{at(6, 2, 12), at(6, 2, 12), 0},   // no time
		{at(6, 2, 12), at(6, 2, 10), 0},   // backwards
		{at(3, 27, 9), at(3, 30, 17), 16}, // over the change of the clocks
	} {
		if got := c.BusinessTime(x.from, x.to).Hours(); got != x.hours {
			t.Errorf("business time from %s to %s is %v h, want %v", x.from, x.to, got, x.hours)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1}, 5}, {[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5},
	} {
		if got := flow.Median(slices.Clone(c.values)); got != c.want {
			t.Errorf("median of %v is %v, want %v", c.values, got, c.want)
		}
	}
}

func TestLogXmR(t *testing.T) {
	if l, ok := flow.LogXmR([]float64{4}); ok || l != (flow.Limits{}) {
		t.Errorf("limits of one value are %v, %v", l, ok)
	}
	l, ok := flow.LogXmR([]float64{1, 100, 1, 100})
	if !ok {
		t.Fatal("refused")
	}
	near(t, "mean", l.Mean, 10)
	near(t, "mean range", l.MeanRange, 100)
	near(t, "lower", l.Lower, 10*math.Pow(100, -2.66))
	near(t, "upper, by the mean", l.Upper/l.Mean, math.Pow(100, 2.66))
	near(t, "upper range, as a logarithm", math.Log(l.RangeUpper), 3.268*math.Log(100))
}

// The mean of whole numbers is exact, so that a bound at a whole mean is sharp.
func TestMeanOfWholeNumbers(t *testing.T) {
	for n := 2; n <= 60; n++ {
		baseline := make([]float64, n)
		for i := range baseline {
			baseline[i] = 4
		}
		baseline[0], baseline[n-1] = 1, 7
		if l, _ := flow.XmR(baseline); l.Mean != 4 {
			t.Errorf("mean of %d values is %v", n, l.Mean)
		}
	}
}

// exactBalance is the definition in whole numbers: how many of the ways to split
// a + b are at least as uneven.
func exactBalance(a, b int) float64 {
	n := int64(a + b)
	ways := new(big.Int)
	for k := range n + 1 {
		if max(k, n-k) >= int64(max(a, b)) {
			ways.Add(ways, new(big.Int).Binomial(n, k))
		}
	}
	p, _ := new(big.Rat).SetFrac(ways, new(big.Int).Lsh(big.NewInt(1), uint(n))).Float64()
	return p
}

func TestBalanceP(t *testing.T) {
	check := func(a, b int) {
		t.Helper()
		got, want := flow.BalanceP(a, b), exactBalance(a, b)
		if !(math.Abs(got-want) <= 1e-10*want) || got > 1 {
			t.Errorf("chance of %d and %d is %v, want %v", a, b, got, want)
		}
	}
	for a := range 41 {
		for b := range 41 {
			check(a, b)
		}
	}
	check(180, 220)
	check(250, 249)
	check(300, 1)
	for _, c := range []struct{ a, b int }{{0, 100_000}, {100_000, 0}, {10_000_000, 20_000_000}} {
		if p := flow.BalanceP(c.a, c.b); p != 0 {
			t.Errorf("chance of %d and %d is %v, too small for a float", c.a, c.b, p)
		}
	}
	// Two deviations of a large number, with the correction for whole numbers.
	if p, want := flow.BalanceP(501_000, 499_000), math.Erfc((1000-0.5)/500/math.Sqrt2); math.Abs(p-want) > 1e-6 {
		t.Errorf("chance of two deviations is %v, want %v", p, want)
	}
}

// The probabilities of a Poisson variable, added up with 300 bits.
func TestPoissonQuantile(t *testing.T) {
	for _, mean := range []float64{0, 1e-9, 0.005, 0.1, 0.7, 1, 2.5, 3.9, 10, 42.5, 300, 399, 401, 745, 800, 3000} {
		weight := func() func() *big.Float { // mean^k / k! for k = 0, 1 ...
			k, term := 0.0, new(big.Float).SetPrec(300).SetInt64(1)
			return func() *big.Float {
				this := new(big.Float).Copy(term)
				k++
				term.Mul(term, big.NewFloat(mean))
				term.Quo(term, big.NewFloat(k))
				return this
			}
		}
		all, next := new(big.Float).SetPrec(300), weight()
		for range int(3*mean) + 200 {
			all.Add(all, next())
		}
		for _, p := range []float64{0.005, 0.5, 0.99, 0.995, 0.9999} {
			want, sum, next := 0, new(big.Float).SetPrec(300), weight()
			for sum.Add(sum, next()); sum.Cmp(new(big.Float).Mul(all, big.NewFloat(p))) < 0; want++ {
				sum.Add(sum, next())
			}
			if got := flow.PoissonQuantile(mean, p); got != want {
				t.Errorf("quantile %v of mean %v is %d, want %d", p, mean, got, want)
			}
		}
	}
	// Of a large mean, as good as normal.
	if got, want := flow.PoissonQuantile(1e8, 0.99), 1e8+2.326348*1e4; math.Abs(float64(got)-want) > 10 {
		t.Errorf("quantile of a large mean is %d, want %v", got, want)
	}
}
