package exporter

import (
	"fmt"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const (
	hour = time.Hour
	day  = 24 * hour
)

func span(d time.Duration) flow.Span { return flow.Span{}.Add(d) }

func known(x float64) flow.Number { return flow.Number{Value: x, Defined: true} }

var at = time.Date(2026, 6, 29, 0, 0, 0, 0, time.UTC)

// payments is a value stream with a number of its own nearly everywhere.
func payments() *flow.Measures {
	m := &flow.Measures{
		ValueStream: &flow.ValueStream{
			Name: "payments", Title: `Payments "core", \ all`, Timezone: "UTC",
			Include: []flow.Include{{Source: "jira-main"}},
			Targets: flow.Targets{
				FlowTime: 12 * day, Percentile: 85, Load: 20,
				Distribution: map[flow.ItemType]float64{flow.Feature: 0.5, flow.Defect: 0.2, flow.Risk: 0.1, flow.Debt: 0.2},
			},
		},
		Load: flow.Load{
			Items: 5, AgeP50: 3 * day, AgeP85: 9 * day, Oldest: 50 * day, TotalAge: span(70 * day), OverTarget: 1, Neglected: 2,
			ByStatus: []flow.StatusLoad{
				{Status: "In Progress", State: flow.Active, Items: 3}, {Status: "Ready", State: flow.Waiting, Items: 2},
			},
		},
		Predicted: 86400 * 14, Throughput28: 10,
		Health: []flow.Health{
			{Measure: "attainment", Status: flow.Amber}, {Measure: "flow_time", Status: flow.Red},
			{Measure: "load", Status: flow.Green}, {Measure: "distribution", Status: flow.Grey},
			{Measure: "predictability", Status: flow.Grey}, {Measure: "over_age", Status: flow.Green},
		},
		Quality: flow.StreamQuality{BornDone: 1, LeftCensored: 2, CompletedWithoutStart: 3, CompletedNeverActive: 4},
	}
	m.Signals = flow.Signals{
		NetFlow: -2, NetFlowP: known(0.75390625), LoadBaseline: known(6.5), LoadPrevious: 7, TotalAgePrevious: span(60 * day),
		PredictedLow: known(86400 * 9.5), OverTargetExpected: known(0.625),
		VelocityWeek: 4, VelocityMean: known(5.25), VelocityLower: known(0.5), VelocityUpper: known(10),
		TimeWeek: known(86400 * 8), TimeLower: known(86400 * 4), TimeUpper: known(86400 * 16),
		Reopened: 1, ReopenedLimit: known(3),
	}
	m.Load.ByType[flow.Feature] = flow.TypeLoad{Active: 2, Waiting: 1}
	m.Load.ByType[flow.Debt] = flow.TypeLoad{Active: 1, Waiting: 1}
	for i, w := range flow.DefaultWindows() {
		n := i + 1
		wm := flow.WindowMeasures{
			Window: w, From: at.Add(-w.Length), To: at, LoadStart: 6, LoadEnd: 5,
			CompletionEvents: 5 * n, ReopenEvents: n, Attained: 2 * n,
			Discarded: n, DiscardedTime: span(time.Duration(n) * 22 * day),
			Status: []flow.StatusTime{
				{Status: "In Progress", State: flow.Active, Time: span(34 * day)},
				{Status: "Ready", State: flow.Waiting, Time: span(15*day + 12*hour)},
			},
		}
		wm.Entered[flow.Started], wm.Entered[flow.Reopened] = 4*n, n
		wm.Exited[flow.ExitCompleted], wm.Exited[flow.ExitCancelled] = 5*n, n
		wm.ByType[flow.Feature] = flow.TypeMeasures{
			Completed: 2 * n, Timed: 2 * n, P50: 10 * day, P85: 19 * day, P95: 19 * day,
			Active: span(21 * day), Waiting: span(8 * day), Presence: span(14 * day), PresenceActive: span(5 * day),
		}
		wm.ByType[flow.Risk] = flow.TypeMeasures{Completed: 3 * n} // done without a start
		wm.All = flow.TypeMeasures{
			Completed: 5 * n, Timed: 2 * n, P50: 10 * day, P85: 19 * day, P95: 19 * day,
			Active: span(21 * day), Waiting: span(8 * day), Presence: span(22 * day), PresenceActive: span(10*day + 12*hour),
		}
		m.Windows = append(m.Windows, wm)
	}
	total := &m.Totals[flow.Feature]
	*total = flow.Totals{Entered: 12, Completed: 9, Reopened: 2, Cancelled: 1, FlowTimeCount: 8, FlowTimeSum: span(80 * day)}
	total.FlowTimeBuckets[0], total.FlowTimeBuckets[8], total.FlowTimeBuckets[13] = 1, 6, 1
	return m
}

// idle is a value stream where nothing has ever happened and nothing is agreed.
func idle() *flow.Measures {
	m := &flow.Measures{ValueStream: &flow.ValueStream{
		Name: "idle", Title: "Idle", Timezone: "Europe/Berlin", Include: []flow.Include{{Source: "github-main"}, {}},
	}}
	for _, w := range flow.DefaultWindows() {
		m.Windows = append(m.Windows, flow.WindowMeasures{Window: w, From: at.Add(-w.Length), To: at})
	}
	return m
}

// saturated is a value stream with a sample wherever there may be one: four
// types, six statuses of which two finish.
func saturated(name string) *flow.Measures {
	m := payments()
	v := *m.ValueStream
	v.Name = name
	m.ValueStream = &v
	m.Load.ByStatus = nil
	states := []flow.State{flow.Waiting, flow.Active, flow.Waiting, flow.Active, flow.Waiting, flow.Waiting}
	for i, state := range states {
		m.Load.ByStatus = append(m.Load.ByStatus, flow.StatusLoad{Status: fmt.Sprintf("Status %d", i), State: state, Items: i + 1})
	}
	for i := range m.Windows {
		w := &m.Windows[i]
		w.Status = nil
		for j, state := range states {
			w.Status = append(w.Status, flow.StatusTime{Status: fmt.Sprintf("Status %d", j), State: state, Time: span(time.Duration(j+1) * hour)})
		}
		for t := flow.Feature; t <= flow.Debt; t++ {
			w.ByType[t] = w.All
		}
	}
	return m
}

func snapshot(streams ...*flow.Measures) *flow.Snapshot {
	return &flow.Snapshot{
		At: at, PolicyHash: "0123456789ab", ValueStreams: streams,
		Quality: flow.Quality{UnmappedItems: map[string]int{"jira-main": 3, "pushed": 1}},
	}
}

func service() Service {
	lag, left := 90*time.Second, 4321.0
	return Service{
		Sources: []SourceStatus{
			{
				Name: "jira-main", LastSuccess: at.Add(1500 * time.Millisecond), Lag: &lag, PollInterval: 15 * time.Minute, RateLimitRemaining: &left, Backfill: 1,
				Requests: map[string]int64{"200": 120, "429": 3, "error": 1},
			},
			{Name: "github-main", Backfill: 0.25},
		},
		Webhooks:  map[string]map[string]uint64{"jira-main": {"taken": 7, "unauthorized": 1}},
		Log:       Log{Changes: 123456, Rejected: map[flow.Reason]uint64{flow.ReasonTime: 2, "other_reason": 1}, Bytes: 1 << 20},
		Processor: Processor{Pending: 4, SnapshotAt: at, SnapshotDuration: 250 * time.Millisecond},
		Archive:   Archive{Lag: 5, Rows: 654321},
	}
}

var build = Build{Version: "1.2.3", Revision: "abcdef"}
