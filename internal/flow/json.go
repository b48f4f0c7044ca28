package flow

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// The JSON of a snapshot is a public format. An undefined number is null, never
// 0; a key that is absent from a map means 0.

// seconds is written as a number without an exponent, exact to the microsecond.
type seconds float64

func (s seconds) MarshalJSON() ([]byte, error) { return appendNumber(nil, float64(s)), nil }

// ratio is written with six decimals at the most.
type ratio float64

func (r ratio) MarshalJSON() ([]byte, error) { return appendNumber(nil, float64(r)), nil }

func appendNumber(b []byte, v float64) []byte {
	b = strconv.AppendFloat(b, v, 'f', 6, 64)
	b = bytes.TrimRight(b, "0")
	return bytes.TrimSuffix(b, []byte("."))
}

type snapshotJSON struct {
	At           time.Time    `json:"at"`
	ValueStreams []streamJSON `json:"value_streams"`
	Quality      qualityJSON  `json:"data_quality"`
}

type streamJSON struct {
	Name    string                `json:"name"`
	Load    loadJSON              `json:"load"`
	Windows map[string]windowJSON `json:"windows"`
	Items   *[]itemJSON           `json:"items,omitempty"`
}

type loadJSON struct {
	Items      int            `json:"items"`
	ByState    map[string]int `json:"by_state"`
	ByType     map[string]int `json:"by_type"`
	OldestAge  *seconds       `json:"oldest_age_seconds"`
	TotalAge   seconds        `json:"total_age_seconds"`
	OverTarget *int           `json:"over_target_items"`
	Neglected  int            `json:"neglected_items"`
}

type windowJSON struct {
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Velocity struct {
		Items  int            `json:"items"`
		ByType map[string]int `json:"by_type"`
	} `json:"velocity"`
	FlowTime struct {
		Items int      `json:"items"`
		P50   *seconds `json:"p50_seconds"`
		P85   *seconds `json:"p85_seconds"`
		P95   *seconds `json:"p95_seconds"`
		Mean  *seconds `json:"mean_seconds"`
	} `json:"flow_time"`
	Efficiency struct {
		Active   seconds `json:"active_seconds"`
		Waiting  seconds `json:"waiting_seconds"`
		Ratio    *ratio  `json:"ratio"`
		InWindow *ratio  `json:"in_window_ratio"`
	} `json:"efficiency"`
	Distribution map[string]ratio `json:"distribution"`
	Load         struct {
		AtStart  int     `json:"at_start"`
		AtEnd    int     `json:"at_end"`
		Average  ratio   `json:"average"`
		Presence seconds `json:"presence_seconds"`
	} `json:"load"`
	Entered          map[string]int `json:"entered"`
	Exited           map[string]int `json:"exited"`
	CompletionEvents int            `json:"completion_events"`
	ReopenEvents     int            `json:"reopen_events"`
	Attainment       *ratio         `json:"target_attainment_ratio"`
	Discarded        struct {
		Items  int     `json:"items"`
		InFlow seconds `json:"in_flow_seconds"`
	} `json:"discarded"`
	Status map[string]seconds `json:"status_seconds"`
}

type itemJSON struct {
	Source     string     `json:"source"`
	Item       string     `json:"item"`
	Key        string     `json:"key"`
	Type       ItemType   `json:"type"`
	State      State      `json:"state"`
	StartedAt  *time.Time `json:"started_at"`
	FinishedAt *time.Time `json:"finished_at"`
	Active     seconds    `json:"active_seconds"`
	Waiting    seconds    `json:"waiting_seconds"`
	FlowTime   *seconds   `json:"flow_time_seconds"`
	Age        *seconds   `json:"age_seconds"`
	Reopens    int        `json:"reopens"`
}

// Gaps in histories are left out: what a fact says it came from changes no number
// of the format (R25). The page shows them.
type qualityJSON struct {
	Duplicates            int            `json:"duplicates"`
	Conflicts             int            `json:"conflicts,omitempty"`
	UnmappedStatuses      map[string]int `json:"unmapped_statuses"`
	BornDone              int            `json:"born_done"`
	LeftCensored          int            `json:"left_censored"`
	CompletedWithoutStart int            `json:"completed_without_start"`
	CompletedNeverActive  int            `json:"completed_never_active"`
	IgnoredByType         int            `json:"ignored_by_type"`
}

// MarshalJSON writes the public format of a snapshot.
func (s *Snapshot) MarshalJSON() ([]byte, error) {
	q := s.Quality
	out := snapshotJSON{At: s.At, ValueStreams: []streamJSON{}, Quality: qualityJSON{
		q.Duplicates, q.Conflicts, q.UnmappedStatuses, q.BornDone, q.LeftCensored,
		q.CompletedWithoutStart, q.CompletedNeverActive, q.IgnoredByType,
	}}
	if out.Quality.UnmappedStatuses == nil {
		out.Quality.UnmappedStatuses = map[string]int{}
	}
	for _, m := range s.ValueStreams {
		out.ValueStreams = append(out.ValueStreams, m.json())
	}
	return json.Marshal(out)
}

func (m *Measures) json() streamJSON {
	out := streamJSON{Name: m.ValueStream.Name, Load: m.loadJSON(), Windows: map[string]windowJSON{}}
	for i := range m.Windows {
		out.Windows[m.Windows[i].Window.Name] = m.Windows[i].json(m.ValueStream)
	}
	if m.Items != nil {
		rows := []itemJSON{}
		for i := range m.Items {
			rows = append(rows, m.Items[i].json())
		}
		out.Items = &rows
	}
	return out
}

func (m *Measures) loadJSON() loadJSON {
	l := &m.Load
	out := loadJSON{
		Items: l.Items, ByState: map[string]int{"active": 0, "waiting": 0}, ByType: map[string]int{},
		TotalAge: seconds(l.TotalAge.Seconds()), Neglected: l.Neglected,
	}
	for t, n := range l.ByType {
		out.ByState["active"] += n.Active
		out.ByState["waiting"] += n.Waiting
		nonZero(out.ByType, ItemType(t).String(), n.Active+n.Waiting)
	}
	if l.Items > 0 {
		out.OldestAge = lasting(l.Oldest)
	}
	if m.ValueStream.Targets.FlowTime > 0 {
		out.OverTarget = &l.OverTarget
	}
	return out
}

func (w *WindowMeasures) json(v *ValueStream) windowJSON {
	out := windowJSON{
		From: w.From, To: w.To, Distribution: map[string]ratio{}, Entered: map[string]int{}, Exited: map[string]int{},
		CompletionEvents: w.CompletionEvents, ReopenEvents: w.ReopenEvents, Status: map[string]seconds{},
	}
	out.Velocity.Items, out.Velocity.ByType = w.All.Completed, map[string]int{}
	for t := range w.ByType {
		n := w.ByType[t].Completed
		nonZero(out.Velocity.ByType, ItemType(t).String(), n)
		if n > 0 {
			out.Distribution[ItemType(t).String()] = round(float64(n) / float64(w.All.Completed))
		}
	}
	if f := &out.FlowTime; w.All.Timed > 0 {
		mean, _ := w.All.MeanSeconds()
		f.Items, f.P50, f.P85, f.P95 = w.All.Timed, lasting(w.All.P50), lasting(w.All.P85), lasting(w.All.P95)
		f.Mean = (*seconds)(&mean)
	}
	out.Efficiency.Active, out.Efficiency.Waiting = seconds(w.All.Active.Seconds()), seconds(w.All.Waiting.Seconds())
	out.Efficiency.Ratio = defined(w.All.Efficiency())
	out.Efficiency.InWindow = defined(w.All.InWindowEfficiency())
	out.Load.AtStart, out.Load.AtEnd = w.LoadStart, w.LoadEnd
	out.Load.Average, out.Load.Presence = round(w.AverageLoad()), seconds(w.All.Presence.Seconds())
	for i, n := range w.Entered {
		nonZero(out.Entered, Entry(i).String(), n)
	}
	for i, n := range w.Exited {
		nonZero(out.Exited, Exit(i).String(), n)
	}
	out.Attainment = defined(w.Attainment(v))
	out.Discarded.Items, out.Discarded.InFlow = w.Discarded, seconds(w.DiscardedTime.Seconds())
	for _, s := range w.Status {
		out.Status[s.Status] += seconds(s.Time.Seconds())
	}
	return out
}

func (r *ItemMeasures) json() itemJSON {
	out := itemJSON{
		Source: r.Source, Item: r.Item, Key: r.Key, Type: r.Type, State: r.State, Reopens: r.Reopens,
		Active: seconds(r.Active.Seconds()), Waiting: seconds(r.Waiting.Seconds()),
	}
	if !r.StartedAt.IsZero() {
		out.StartedAt = &r.StartedAt
	}
	if !r.FinishedAt.IsZero() {
		out.FinishedAt = &r.FinishedAt
	}
	if r.HasFlowTime {
		out.FlowTime = lasting(r.FlowTime)
	}
	if r.InFlow {
		out.Age = lasting(r.Age)
	}
	return out
}

func nonZero(m map[string]int, key string, n int) {
	if n != 0 {
		m[key] = n
	}
}

func lasting(d time.Duration) *seconds {
	s := seconds(d.Seconds())
	return &s
}

func defined(v float64, ok bool) *ratio {
	if !ok {
		return nil
	}
	r := round(v)
	return &r
}

func round(v float64) ratio { return ratio(math.Round(v*1e6) / 1e6) }
