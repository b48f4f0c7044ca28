package flow_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// The golden histories are 16 small items, each with an edge of its own, and the
// numbers that were worked out for them by hand (testdata/golden.json). Both
// implementations have to give each of them.

// A golden is testdata/golden.json.
type golden struct {
	Items   map[string]goldenItem
	Windows []goldenWindow
	Weeks   struct {
		ValueStream string `json:"value_stream"`
		Zones       map[string]struct {
			Completed   map[string]int
			Completions map[string]int `json:"completion_events"`
		}
	}
	Quality struct {
		Duplicates int
		Unmapped   map[string]int `json:"unmapped_statuses"`
		BornDone   []string       `json:"born_done"`
		Censored   []string       `json:"left_censored"`
		NoStart    []string       `json:"completed_without_start"`
		NotActive  []string       `json:"completed_never_active"`
		Ignored    []string       `json:"ignored_by_type"`
	} `json:"data_quality"`
	Calendar struct {
		Item          string
		Days          float64
		BusinessHours float64 `json:"business_hours"`
	}
	Forecast struct {
		Histogram map[string]int `json:"days_by_completions"`
		HandCheck float64        `json:"chance_of_1_in_2_days"`
		HowMany   struct {
			Mean float64
			At   map[string]int
		} `json:"items_in_14_days"`
		When map[string]int `json:"days_for_10_items"`
	}
	Limits struct {
		Baseline, Next     []float64
		Mean, Upper, Lower float64
		MeanRange          float64 `json:"mean_range"`
		RangeUpper         float64 `json:"range_upper"`
		Signals            []bool
	} `json:"process_limits"`
	Mapping []struct {
		Name       string
		StatusByID map[string]string `json:"status_by_id"`
		Labels     []struct{ Label, State string }
		Before     []flow.FieldChange
		Previous   string
		Fields     []flow.FieldChange
		State      string
	}
}

type goldenItem struct {
	ValueStream string     `json:"value_stream"`
	Type        string     `json:"type"`
	Started     *time.Time `json:"started_at"`
	Finished    *time.Time `json:"finished_at"`
	Active      float64    `json:"active_days"`
	Waiting     float64    `json:"waiting_days"`
	FlowTime    *float64   `json:"flow_time_days"`
	Elapsed     *float64   `json:"elapsed_days"`
	Reopens     int        `json:"reopens"`
}

type goldenWindow struct {
	At              time.Time
	Window          string
	ValueStream     string `json:"value_stream"`
	Velocity        int
	Completed       []string
	WithoutFlowTime []string `json:"without_flow_time"`
	Completions     int      `json:"completion_events"`
	Reopens         int      `json:"reopen_events"`
	Timed           int
	Mean            float64            `json:"mean_days"`
	P50             float64            `json:"p50_days"`
	P85             float64            `json:"p85_days"`
	P95             float64            `json:"p95_days"`
	Predictability  float64            `json:"predictability"`
	Active          float64            `json:"active_days"`
	InFlow          float64            `json:"in_flow_days"`
	Efficiency      float64            `json:"efficiency"`
	MeanOfRatios    float64            `json:"mean_of_ratios"`
	InWindow        float64            `json:"in_window_efficiency"`
	Distribution    map[string]float64 `json:"distribution"`
	LoadStart       int                `json:"load_at_start"`
	LoadEnd         int                `json:"load_at_end"`
	LoadAverage     float64            `json:"load_average"`
	LoadByType      map[string]int     `json:"load_by_type"`
	Entered, Exited map[string]int
	NetFlow         int                `json:"net_flow"`
	NetFlowZ        float64            `json:"net_flow_z"`
	Presence        float64            `json:"presence_days"`
	PresenceByType  map[string]float64 `json:"presence_days_by_type"`
	ActiveByType    map[string]float64 `json:"active_days_by_type"`
	Implied         float64            `json:"implied_days"`
	ObservedMean    float64            `json:"observed_mean_days"`
	FlowDebt        float64            `json:"flow_debt_days"`
	Ages            map[string]float64 `json:"age_days"`
	DaysInStatus    map[string]float64 `json:"days_in_status"`
	TotalAge        float64            `json:"total_age_days"`
	MeanAge         float64            `json:"mean_age_days"`
	Neglected       []string           `json:"neglected"`
	Attainment      float64            `json:"attainment"`
	OverTarget      int                `json:"over_target"`
	ExpectedOverAge float64            `json:"expected_over_age"`
	Discarded       int                `json:"discarded_items"`
	DiscardedDays   float64            `json:"discarded_days"`
	Status          map[string]float64 `json:"status_days"`
	LongestWait     string             `json:"longest_wait_status"`
}

func readGolden(t testing.TB) (g golden, log []flow.Change) {
	t.Helper()
	raw, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	return g, readLog(t, "testdata/golden.changes.jsonl")
}

// goldenPolicy is the policy under which the golden numbers hold: two value
// streams, and a third that includes both.
func goldenPolicy() *flow.Policy {
	targets := flow.Targets{FlowTime: 12 * day, Percentile: 85}
	stream := func(name string, include ...flow.Include) *flow.ValueStream {
		return &flow.ValueStream{
			Name: name, Workflow: plainWorkflow(), Timezone: "UTC", Location: time.UTC,
			Include: include, Targets: targets, NeglectAfter: 14 * day,
		}
	}
	return &flow.Policy{
		ValueStreams: []*flow.ValueStream{
			stream("payments", flow.Include{Source: "jira-main", Containers: []string{"PAY"}}),
			stream("platform",
				flow.Include{Source: "jira-main", Containers: []string{"PLT"}},
				flow.Include{Source: "github-main", Containers: []string{"acme/*"}}),
			stream("all", flow.Include{}),
		},
		Windows: []flow.Window{{Name: "7d", Length: 7 * day}, {Name: "30d", Length: 30 * day}},
	}
}

var goldenAt = time.Date(2026, 6, 29, 0, 0, 0, 0, time.UTC)

func TestGoldenItems(t *testing.T) {
	g, log := readGolden(t)
	for _, impl := range implementations {
		t.Run(impl.name, func(t *testing.T) {
			result := publish(t, impl.evaluate(goldenPolicy(), log, goldenAt))
			listed := map[string]goldenItem{}
			for _, stream := range result.ValueStreams[:2] {
				for _, item := range stream.Items {
					got := goldenItem{
						ValueStream: stream.Name, Type: item.Type, Started: item.Started, Finished: item.Finished,
						Active: *item.Active / 86400, Waiting: *item.Waiting / 86400, Reopens: item.Reopens,
					}
					if item.FlowTime != nil {
						got.FlowTime = new(*item.FlowTime / 86400)
						got.Elapsed = new(item.Finished.Sub(*item.Started).Hours() / 24)
					}
					if _, twice := listed[item.Key]; twice {
						t.Errorf("%s is listed in two value streams", item.Key)
					}
					listed[item.Key] = got
				}
			}
			same(t, "items", listed, g.Items)
			if n := len(result.stream("all").Items); n != len(g.Items) {
				t.Errorf("%d items in all, want %d", n, len(g.Items))
			}
		})
	}
}

func TestItemsOnlyWhereAskedFor(t *testing.T) {
	_, log := readGolden(t)
	ledger := flow.NewLedger()
	for i := range log {
		ledger.Add(&log[i])
	}
	for _, v := range generic(t, flow.Measure(goldenPolicy(), ledger, goldenAt, flow.Options{}))["value_streams"].([]any) {
		if items, ok := v.(map[string]any)["items"]; ok {
			t.Errorf("items: %v", items)
		}
	}
}

func TestGoldenWindows(t *testing.T) {
	g, log := readGolden(t)
	for _, impl := range implementations {
		for _, want := range g.Windows {
			t.Run(fmt.Sprintf("%s/%s/%s/%s", impl.name, want.At.Format(time.DateOnly), want.ValueStream, want.Window), func(t *testing.T) {
				result := publish(t, impl.evaluate(goldenPolicy(), log, want.At))
				stream := result.stream(want.ValueStream)
				checkGoldenWindow(t, want, stream, stream.Windows[want.Window])
			})
		}
	}
}

// checkGoldenWindow compares everything that the public JSON holds, or that
// follows from it.
func checkGoldenWindow(t *testing.T, want goldenWindow, s *publicStream, w publicWindow) {
	if !w.To.Equal(want.At) || !w.From.Equal(want.At.Add(-windowLength(t, want.Window))) {
		t.Errorf("window is [%s, %s)", w.From, w.To)
	}
	same(t, "velocity", w.Velocity.Items, want.Velocity)
	sum := 0
	for kind, n := range w.Velocity.ByType {
		sum += n
		near(t, "velocity of "+kind, float64(n)/float64(want.Velocity), want.Distribution[kind])
	}
	same(t, "velocity of all types", sum, want.Velocity)
	sameNumbers(t, "distribution", w.Distribution, want.Distribution, 1)
	same(t, "completion events", w.Completions, want.Completions)
	same(t, "reopen events", w.Reopens, want.Reopens)

	same(t, "timed items", w.FlowTime.Items, want.Timed)
	near(t, "mean", days(w.FlowTime.Mean), want.Mean)
	near(t, "p50", days(w.FlowTime.P50), want.P50)
	near(t, "p85", days(w.FlowTime.P85), want.P85)
	near(t, "p95", days(w.FlowTime.P95), want.P95)
	near(t, "p85/p50", *w.FlowTime.P85 / *w.FlowTime.P50, want.Predictability)
	near(t, "active", days(w.Efficiency.Active), want.Active)
	near(t, "active and waiting", days(w.Efficiency.Active)+days(w.Efficiency.Waiting), want.InFlow)
	near(t, "efficiency", *w.Efficiency.Ratio, want.Efficiency)
	near(t, "in-window efficiency", *w.Efficiency.InWindow, want.InWindow)

	same(t, "load at start", w.Load.Start, want.LoadStart)
	same(t, "load at end", w.Load.End, want.LoadEnd)
	same(t, "load", s.Load.Items, want.LoadEnd)
	same(t, "load by type", s.Load.ByType, want.LoadByType)
	near(t, "average load", *w.Load.Average, want.LoadAverage)
	near(t, "presence", days(w.Load.Presence), want.Presence)
	same(t, "entered", w.Entered, want.Entered)
	same(t, "exited", w.Exited, want.Exited)
	net := total(w.Entered) - total(w.Exited)
	same(t, "net flow", net, want.NetFlow)
	same(t, "difference of loads", w.Load.End-w.Load.Start, want.NetFlow)

	near(t, "attainment", *w.Attainment, want.Attainment)
	same(t, "over target", *s.Load.OverTarget, want.OverTarget)
	same(t, "discarded", w.Discarded.Items, want.Discarded)
	near(t, "discarded time", days(w.Discarded.InFlow), want.DiscardedDays)
	sameNumbers(t, "time in status", w.Status, want.Status, 86400)

	completed, without, ages, oldest := []string{}, []string{}, map[string]float64{}, 0.0
	var ratios float64
	for _, item := range s.Items {
		if item.Age != nil {
			ages[item.Key] = *item.Age / 86400
			oldest = max(oldest, ages[item.Key])
		}
		if item.Finished == nil || item.Finished.Before(w.From) {
			continue
		}
		completed = append(completed, item.Key)
		if item.FlowTime == nil {
			without = append(without, item.Key)
		} else {
			ratios += *item.Active / *item.FlowTime
		}
	}
	slices.Sort(completed)
	slices.Sort(without)
	same(t, "completed", completed, want.Completed)
	same(t, "completed without flow time", without, want.WithoutFlowTime)
	near(t, "mean of ratios", ratios/float64(want.Timed), want.MeanOfRatios)
	sameNumbers(t, "ages", ages, want.Ages, 1)
	near(t, "oldest age", days(s.Load.Oldest), oldest)
	near(t, "total age", days(s.Load.Total), want.TotalAge)
	near(t, "mean age", days(s.Load.Total)/float64(s.Load.Items), want.MeanAge)
	same(t, "neglected", *s.Load.Neglected, len(want.Neglected))
}

// The numbers that are on a dashboard and not in the public JSON.
func TestGoldenStatistics(t *testing.T) {
	g, log := readGolden(t)
	for _, want := range g.Windows {
		t.Run(fmt.Sprintf("%s/%s/%s", want.At.Format(time.DateOnly), want.ValueStream, want.Window), func(t *testing.T) {
			s := snapshot(goldenPolicy(), log, want.At).ValueStream(want.ValueStream)
			i := slices.IndexFunc(s.Windows, func(w flow.WindowMeasures) bool { return w.Window.Name == want.Window })
			w := s.Windows[i]

			z, _ := flow.NetFlowZ(total(want.Entered), total(want.Exited))
			near(t, "net flow z", z, want.NetFlowZ)
			presence, active := map[string]float64{}, map[string]float64{}
			for kind := range flow.ItemType(flow.NumTypes) {
				if p := w.ByType[kind]; !p.Presence.IsZero() {
					presence[kind.String()] = p.Presence.Seconds()
					if !p.PresenceActive.IsZero() {
						active[kind.String()] = p.PresenceActive.Seconds()
					}
				}
			}
			sameNumbers(t, "presence by type", presence, want.PresenceByType, 86400)
			sameNumbers(t, "active presence by type", active, want.ActiveByType, 86400)

			implied, _ := flow.ImpliedTime(w.All.Presence, total(want.Exited))
			near(t, "implied time", implied/86400, want.Implied)
			mean, _ := w.All.MeanSeconds()
			near(t, "observed mean", mean/86400, want.ObservedMean)
			debt, _ := flow.FlowDebt(w.All.Presence, total(want.Exited), w.All.FlowTime(), w.All.Timed)
			near(t, "flow debt", debt/86400, want.FlowDebt)

			var flowTimes []time.Duration
			inStatus, neglected := map[string]float64{}, []string{}
			for _, item := range s.Items {
				if item.InFlow {
					inStatus[item.Key] = want.At.Sub(item.StatusSince).Seconds()
					if want.At.Sub(item.LastFactAt) >= 14*day {
						neglected = append(neglected, item.Key)
					}
				}
				if item.HasFlowTime && !item.FinishedAt.Before(w.From) {
					flowTimes = append(flowTimes, item.FlowTime)
				}
			}
			sameNumbers(t, "days in status", inStatus, want.DaysInStatus, 86400)
			same(t, "neglected", neglected, want.Neglected)
			share, _ := flow.ExpectedOverAge(flowTimes, 12*day)
			near(t, "expected over-age share", share, want.ExpectedOverAge)

			longest, seconds := "", 0.0
			for _, status := range w.Status {
				if status.State == flow.Waiting && status.Time.Seconds() > seconds {
					longest, seconds = status.Status, status.Time.Seconds()
				}
			}
			same(t, "longest wait status", longest, want.LongestWait)
		})
	}
}

func TestGoldenQuality(t *testing.T) {
	g, log := readGolden(t)
	for _, impl := range implementations {
		t.Run(impl.name, func(t *testing.T) {
			same(t, "data quality", publish(t, impl.evaluate(goldenPolicy(), log, goldenAt)).Quality, publicQuality{
				Duplicates: g.Quality.Duplicates, Unmapped: g.Quality.Unmapped,
				BornDone: len(g.Quality.BornDone), LeftCensored: len(g.Quality.Censored),
				WithoutStart: len(g.Quality.NoStart), NeverActive: len(g.Quality.NotActive),
				Ignored: len(g.Quality.Ignored),
			})
			// Which items they are: each alone gives its heading.
			for key, want := range map[string]publicQuality{
				g.Quality.BornDone[0]:  {BornDone: 1},
				g.Quality.Censored[0]:  {LeftCensored: 1},
				g.Quality.NoStart[0]:   {WithoutStart: 1},
				g.Quality.NotActive[0]: {NeverActive: 1},
				g.Quality.Ignored[0]:   {Ignored: 1},
			} {
				alone := slices.DeleteFunc(slices.Clone(log), func(c flow.Change) bool { return c.Key != key })
				want.Unmapped = map[string]int{}
				same(t, key, publish(t, impl.evaluate(goldenPolicy(), alone, goldenAt)).Quality, want)
			}
		})
	}
}

func TestGoldenWeeks(t *testing.T) {
	g, log := readGolden(t)
	for zone, want := range g.Weeks.Zones {
		t.Run(zone, func(t *testing.T) {
			loc, err := time.LoadLocation(zone)
			if err != nil {
				t.Fatal(err)
			}
			monday := time.Date(2026, 6, 1, 0, 0, 0, 0, loc)
			weeks := flow.Weeks(loc, monday, monday.AddDate(0, 0, 28))
			completed, events := map[string]int{}, map[string]int{}
			items := snapshot(goldenPolicy(), log, goldenAt).ValueStream(g.Weeks.ValueStream).Items
			for i := range len(weeks) - 1 {
				from, to := weeks[i], weeks[i+1]
				name := from.Format(time.DateOnly)
				completed[name], events[name] = 0, 0
				for _, item := range items {
					if at := item.FinishedAt; !at.IsZero() && !at.Before(from) && at.Before(to) {
						completed[name]++
					}
				}
				// Nothing is known beyond the instant of evaluation.
				known := slices.DeleteFunc(slices.Clone(log), func(c flow.Change) bool { return !c.At.Before(goldenAt) })
				p := goldenPolicy()
				p.Windows = []flow.Window{{Name: "week", Length: to.Sub(from)}}
				events[name] = snapshot(p, known, to).ValueStream(g.Weeks.ValueStream).Windows[0].CompletionEvents
			}
			same(t, "completed", completed, want.Completed)
			same(t, "completion events", events, want.Completions)
		})
	}
}

func TestGoldenCalendar(t *testing.T) {
	g, log := readGolden(t)
	for _, item := range snapshot(goldenPolicy(), log, goldenAt).ValueStream("payments").Items {
		if item.Key != g.Calendar.Item {
			continue
		}
		near(t, "calendar days", item.FinishedAt.Sub(item.StartedAt).Hours()/24, g.Calendar.Days)
		office := flow.BusinessCalendar{
			Location: time.UTC, Days: [7]bool{time.Monday: true, time.Tuesday: true, time.Wednesday: true, time.Thursday: true, time.Friday: true},
			Start: 9 * 3600, End: 17 * 3600,
		}
		near(t, "business hours", office.BusinessTime(item.StartedAt, item.FinishedAt).Hours(), g.Calendar.BusinessHours)
		return
	}
	t.Errorf("no item %s", g.Calendar.Item)
}

func TestGoldenForecast(t *testing.T) {
	g, log := readGolden(t)
	daily := make([]int, 30)
	for _, item := range snapshot(goldenPolicy(), log, goldenAt).ValueStream("all").Items {
		if ago := goldenAt.Sub(item.FinishedAt); !item.FinishedAt.IsZero() && ago <= 30*day {
			daily[29-int((ago-1)/day)]++
		}
	}
	histogram := map[string]int{}
	for _, n := range daily {
		histogram[strconv.Itoa(n)]++
	}
	same(t, "days by completions", histogram, g.Forecast.Histogram)

	f, ok := flow.NewForecast(daily)
	if !ok {
		t.Fatal("refused")
	}
	near(t, "chance of 1 in 2 days", f.AtLeast(1, 2), g.Forecast.HandCheck)
	near(t, "mean in 14 days", f.Mean(14), g.Forecast.HowMany.Mean)
	for text, want := range g.Forecast.HowMany.At {
		same(t, "items in 14 days at "+text, f.HowMany(14, number(t, text)), want)
	}
	for text, want := range g.Forecast.When {
		got, _ := f.When(10, number(t, text))
		same(t, "days for 10 items at "+text, got, want)
	}
}

func TestGoldenProcessLimits(t *testing.T) {
	g, _ := readGolden(t)
	l, ok := flow.XmR(g.Limits.Baseline)
	if !ok {
		t.Fatal("refused")
	}
	near(t, "mean", l.Mean, g.Limits.Mean)
	near(t, "mean range", l.MeanRange, g.Limits.MeanRange)
	near(t, "lower", l.Lower, g.Limits.Lower)
	near(t, "upper", l.Upper, g.Limits.Upper)
	near(t, "range upper", l.RangeUpper, g.Limits.RangeUpper)
	for i, x := range g.Limits.Next {
		same(t, fmt.Sprintf("signal of %v", x), l.Signals(x), g.Limits.Signals[i])
	}
}

func TestGoldenMapping(t *testing.T) {
	g, _ := readGolden(t)
	for _, c := range g.Mapping {
		for _, impl := range implementations {
			t.Run(c.Name+"/"+impl.name, func(t *testing.T) {
				p := goldenPolicy()
				p.ValueStreams = p.ValueStreams[2:]
				w := p.ValueStreams[0].Workflow
				w.StartSignals = []string{flow.SignalAssigned}
				w.StatusByID = map[string]flow.State{}
				for id, name := range c.StatusByID {
					w.StatusByID[id] = state(t, name)
				}
				change := func(id string, at time.Time, fields []flow.FieldChange) flow.Change {
					return flow.Change{ID: id, Source: "s", Container: "c", Item: "1", At: at, Kind: flow.Updated, Fields: fields}
				}
				log := []flow.Change{
					{ID: "created", Source: "s", Container: "c", Item: "1", At: goldenAt.Add(-3 * day), Kind: flow.Created},
					change("before", goldenAt.Add(-2*day), c.Before),
				}
				got := publish(t, impl.evaluate(p, log, goldenAt))
				same(t, "previous state", got.ValueStreams[0].Items[0].State, c.Previous)
				for _, l := range c.Labels {
					w.Labels = append(w.Labels, flow.LabelRule{Label: l.Label, State: state(t, l.State)})
				}
				log = append(log, change("now", goldenAt.Add(-day), c.Fields))
				got = publish(t, impl.evaluate(p, log, goldenAt))
				same(t, "state", got.ValueStreams[0].Items[0].State, c.State)
			})
		}
	}
}

func state(t *testing.T, name string) flow.State {
	t.Helper()
	s, err := flow.ParseState(name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func windowLength(t *testing.T, name string) time.Duration {
	t.Helper()
	n, err := strconv.Atoi(name[:len(name)-1])
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n) * day
}

func number(t *testing.T, text string) float64 {
	t.Helper()
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return x
}
