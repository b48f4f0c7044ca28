package oracle

import (
	"encoding/json"
	"math"
	"slices"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A Result is every number as of an instant. Its JSON is the public one.
type Result struct {
	At           time.Time `json:"at"`
	ValueStreams []*Stream `json:"value_streams"`
	Quality      Quality   `json:"data_quality"`
}

// A Stream holds the numbers of one value stream.
type Stream struct {
	Name    string             `json:"name"`
	Load    Load               `json:"load"`
	Windows map[string]*Window `json:"windows"`
	Items   []Item             `json:"items"`
	Signals flow.Signals       `json:"-"` // not among the public numbers
}

// A Load is what is in flow as of the instant.
type Load struct {
	Items      int            `json:"items"`
	ByState    map[string]int `json:"by_state"`
	ByType     map[string]int `json:"by_type"`
	Oldest     *seconds       `json:"oldest_age_seconds"`
	Total      seconds        `json:"total_age_seconds"`
	OverTarget *int           `json:"over_target_items"`
	Neglected  int            `json:"neglected_items"`
}

// A Window holds the numbers of one window [From, To).
type Window struct {
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
		Mean  *float64 `json:"mean_seconds"`
	} `json:"flow_time"`
	Efficiency struct {
		Active   seconds  `json:"active_seconds"`
		Waiting  seconds  `json:"waiting_seconds"`
		Ratio    *float64 `json:"ratio"`
		InWindow *float64 `json:"in_window_ratio"`
	} `json:"efficiency"`
	Distribution map[string]float64 `json:"distribution"`
	Load         struct {
		Start    int     `json:"at_start"`
		End      int     `json:"at_end"`
		Average  float64 `json:"average"`
		Presence seconds `json:"presence_seconds"`
	} `json:"load"`
	Entered     map[string]int `json:"entered"`
	Exited      map[string]int `json:"exited"`
	Completions int            `json:"completion_events"`
	Reopens     int            `json:"reopen_events"`
	Attainment  *float64       `json:"target_attainment_ratio"`
	Discarded   struct {
		Items  int     `json:"items"`
		InFlow seconds `json:"in_flow_seconds"`
	} `json:"discarded"`
	Status map[string]seconds `json:"status_seconds"`
}

// An Item holds the numbers of one item.
type Item struct {
	Source   string     `json:"source"`
	Item     string     `json:"item"`
	Key      string     `json:"key"`
	Type     string     `json:"type"`
	State    string     `json:"state"`
	Started  *time.Time `json:"started_at"`
	Finished *time.Time `json:"finished_at"`
	Active   seconds    `json:"active_seconds"`
	Waiting  seconds    `json:"waiting_seconds"`
	FlowTime *seconds   `json:"flow_time_seconds"`
	Age      *seconds   `json:"age_seconds"`
	Reopens  int        `json:"reopens"`
}

// A Quality counts what makes the numbers less certain.
type Quality struct {
	Duplicates   int            `json:"duplicates"`
	Conflicts    int            `json:"conflicts,omitempty"`
	Unmapped     map[string]int `json:"unmapped_statuses"`
	BornDone     int            `json:"born_done"`
	LeftCensored int            `json:"left_censored"`
	WithoutStart int            `json:"completed_without_start"`
	NeverActive  int            `json:"completed_never_active"`
	Ignored      int            `json:"ignored_by_type"`
}

// seconds is a duration that is written in seconds.
type seconds time.Duration

// MarshalJSON writes the seconds, with a fraction where there is one.
func (s seconds) MarshalJSON() ([]byte, error) {
	return json.Marshal(time.Duration(s).Seconds())
}

func ratio(a, b float64) *float64 {
	if b == 0 {
		return nil
	}
	r := math.Round(a/b*1e6) / 1e6
	return &r
}

// percentile is the ceil(p*n)-th smallest, p in percent.
func percentile(sorted []time.Duration, p int) *seconds {
	if len(sorted) == 0 {
		return nil
	}
	rank := (p*len(sorted) + 99) / 100
	s := seconds(sorted[rank-1])
	return &s
}

func measure(v *flow.ValueStream, windows []flow.Window, lives []*life, at time.Time) *Stream {
	s := &Stream{Name: v.Name, Windows: map[string]*Window{}, Items: []Item{}}
	s.Load.ByState = map[string]int{"active": 0, "waiting": 0}
	s.Load.ByType = map[string]int{}
	if v.Targets.FlowTime > 0 {
		s.Load.OverTarget = new(int)
	}
	for _, l := range lives {
		if m := l.last(); present(m) {
			age := l.flowTime()
			s.Load.Items++
			s.Load.ByState[m.state.String()]++
			s.Load.ByType[m.kind.String()]++
			s.Load.Total += seconds(age)
			if s.Load.Oldest == nil || seconds(age) > *s.Load.Oldest {
				oldest := seconds(age)
				s.Load.Oldest = &oldest
			}
			if v.Targets.FlowTime > 0 && age > v.Targets.FlowTime {
				*s.Load.OverTarget++
			}
			if at.Sub(l.lastFact) >= v.NeglectAfter {
				s.Load.Neglected++
			}
		}
		if item, ok := l.listed(); ok {
			s.Items = append(s.Items, item)
		}
	}
	for _, w := range windows {
		s.Windows[w.Name] = measureWindow(v, lives, at.Add(-w.Length), at)
	}
	s.Signals = signals(v, lives, at)
	return s
}

// listed gives the item's line in the list of items (R20).
func (l *life) listed() (Item, bool) {
	m := l.last()
	item := Item{
		Source: l.source, Item: l.item, Key: l.key, State: m.state.String(),
		Active: seconds(l.spent(flow.Active)), Waiting: seconds(l.spent(flow.Waiting)),
	}
	start, started := l.start()
	if done, ok := l.becameDone(); ok {
		completed := l.completes(done)
		if !completed && l.bornDone() {
			return Item{}, false
		}
		m = done.now
		if completed { // not so where it was first seen done: nobody knows when it was finished
			item.Finished = &done.from
			if started && !l.censored {
				flowTime := seconds(l.flowTime())
				item.FlowTime = &flowTime
			}
		}
	}
	if !m.inValueStream() {
		return Item{}, false
	}
	item.Type = m.kind.String()
	if started && !l.censored {
		item.Started = &start
	}
	if m.inFlow() {
		age := seconds(l.flowTime())
		item.Age = &age
	}
	for k := range l.steps {
		if l.reopens(k) {
			item.Reopens++
		}
	}
	return item, true
}

func measureWindow(v *flow.ValueStream, lives []*life, from, to time.Time) *Window {
	w := &Window{From: from, To: to, Distribution: map[string]float64{}}
	w.Velocity.ByType = map[string]int{}
	w.Entered, w.Exited, w.Status = map[string]int{}, map[string]int{}, map[string]seconds{}
	inside := func(t time.Time) bool { return !t.Before(from) && t.Before(to) }

	var flowTimes []time.Duration
	var presence, presenceActive time.Duration
	attained := 0
	for _, l := range lives {
		if l.presentAsOf(from) {
			w.Load.Start++
		}
		if l.presentAsOf(to) {
			w.Load.End++
		}
		discarded := false
		for k, s := range l.steps {
			if present(s.now) {
				overlap := time.Duration(0)
				if a, b := later(s.from, from), sooner(s.to, to); a.Before(b) {
					overlap = b.Sub(a)
				}
				presence += overlap
				if s.now.state == flow.Active {
					presenceActive += overlap
				}
			}
			if !inside(s.from) {
				continue
			}
			if reason := l.entry(k); reason != "" {
				w.Entered[reason]++
			}
			if reason := l.exit(k); reason != "" {
				w.Exited[reason]++
				discarded = discarded || reason == "cancelled" || reason == "deleted"
			}
			if l.completes(s) && s.now.inValueStream() {
				w.Completions++
			}
			if l.reopens(k) && s.now.inValueStream() {
				w.Reopens++
			}
		}
		if state := l.last().state; discarded && (state == flow.Cancelled || state == flow.Gone) {
			w.Discarded.Items++
			w.Discarded.InFlow += seconds(l.flowTime())
		}
		done, ok := l.becameDone()
		if !ok || !l.completes(done) || !inside(done.from) || !done.now.inValueStream() {
			continue
		}
		w.Velocity.Items++
		w.Velocity.ByType[done.now.kind.String()]++
		if _, started := l.start(); !started || l.censored {
			continue
		}
		flowTimes = append(flowTimes, l.flowTime())
		w.Efficiency.Active += seconds(l.spent(flow.Active))
		w.Efficiency.Waiting += seconds(l.spent(flow.Waiting))
		if l.flowTime() <= v.Targets.FlowTime {
			attained++
		}
		for _, s := range l.steps {
			if s.now.inFlow() {
				w.Status[s.now.status] += seconds(s.length())
			}
		}
	}

	slices.Sort(flowTimes)
	w.FlowTime.Items = len(flowTimes)
	w.FlowTime.P50 = percentile(flowTimes, 50)
	w.FlowTime.P85 = percentile(flowTimes, 85)
	w.FlowTime.P95 = percentile(flowTimes, 95)
	total := w.Efficiency.Active + w.Efficiency.Waiting
	if n := len(flowTimes); n > 0 {
		mean := time.Duration(total).Seconds() / float64(n)
		w.FlowTime.Mean = &mean
		if v.Targets.FlowTime > 0 {
			w.Attainment = ratio(float64(attained), float64(n))
		}
	}
	w.Efficiency.Ratio = ratio(float64(w.Efficiency.Active), float64(total))
	w.Efficiency.InWindow = ratio(float64(presenceActive), float64(presence))
	for kind, n := range w.Velocity.ByType {
		w.Distribution[kind] = *ratio(float64(n), float64(w.Velocity.Items))
	}
	w.Load.Presence = seconds(presence)
	w.Load.Average = *ratio(float64(presence), float64(to.Sub(from)))
	return w
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func sooner(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// count adds one item, of which it is given the lives in every value stream, to
// the heading of R15 under the workflow of the value stream it was last in.
func (q *Quality) count(lives []*life) {
	var l *life
	for k := len(lives[0].steps) - 1; k >= 0 && l == nil; k-- {
		for _, candidate := range lives {
			if m := candidate.steps[k].now; l == nil && m.exists && m.matches {
				l = candidate
			}
		}
	}
	if l == nil {
		return // never in a value stream
	}
	_, started := l.start()
	last := l.last()
	kind := last.kind
	done, isDone := l.becameDone()
	if isDone {
		kind = done.now.kind // later edits change nothing
	}
	switch {
	case kind == flow.Ignored:
		q.Ignored++
		return
	case l.bornDone():
		q.BornDone++
	case l.censored:
		q.LeftCensored++
	case isDone && !started:
		q.WithoutStart++
	case isDone && l.spent(flow.Active) == 0:
		q.NeverActive++
	}
	for _, c := range l.own {
		for _, f := range c.Fields {
			if f.Field != flow.FieldStatus || f.To == (flow.Value{}) {
				continue
			}
			if _, ok := statusState(l.stream.Workflow, f.To); !ok {
				name := f.To.Name
				if name == "" {
					name = "id:" + f.To.ID
				}
				q.Unmapped[name]++
			}
		}
	}
}
