package flow_test

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/flowmetrics/flowmetrics/internal/flow/oracle"
)

// What the tests of measuring share: the two implementations, their common JSON
// and a policy.

const day = 24 * time.Hour

// snapshot measures a log with the implementation under test.
func snapshot(p *flow.Policy, log []flow.Change, at time.Time) *flow.Snapshot {
	ledger := flow.NewLedger()
	for i := range log {
		ledger.Add(&log[i])
	}
	return flow.Measure(p, ledger, at, flow.Options{Items: true})
}

// implementations evaluate a log to the public JSON.
var implementations = []struct {
	name     string
	evaluate func(p *flow.Policy, log []flow.Change, at time.Time) any
}{
	{"flow", func(p *flow.Policy, log []flow.Change, at time.Time) any { return snapshot(p, log, at) }},
	{"oracle", func(p *flow.Policy, log []flow.Change, at time.Time) any { return oracle.Evaluate(p, log, at) }},
}

func publish(t testing.TB, result any) *public {
	t.Helper()
	raw, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	p := &public{}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(p); err != nil {
		t.Fatalf("%v in %s", err, raw)
	}
	return p
}

func readLog(t testing.TB, path string) []flow.Change {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return decodeLog(t, string(raw))
}

func decodeLog(t testing.TB, lines string) []flow.Change {
	t.Helper()
	var log []flow.Change
	for line := range bytes.Lines([]byte(lines)) {
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		c, err := flow.DecodeJSON(line)
		if err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		log = append(log, c)
	}
	return log
}

// A public is the JSON of `flowmetrics measure --items`.
type public struct {
	At           time.Time
	ValueStreams []publicStream `json:"value_streams"`
	Quality      publicQuality  `json:"data_quality"`
}

type publicStream struct {
	Name string
	Load struct {
		Items      int
		ByState    map[string]int `json:"by_state"`
		ByType     map[string]int `json:"by_type"`
		Oldest     *float64       `json:"oldest_age_seconds"`
		Total      *float64       `json:"total_age_seconds"`
		OverTarget *int           `json:"over_target_items"`
		Neglected  *int           `json:"neglected_items"`
	}
	Windows map[string]publicWindow
	Items   []publicItem
}

type publicWindow struct {
	From, To time.Time
	Velocity struct {
		Items  int
		ByType map[string]int `json:"by_type"`
	}
	FlowTime struct {
		Items int
		P50   *float64 `json:"p50_seconds"`
		P85   *float64 `json:"p85_seconds"`
		P95   *float64 `json:"p95_seconds"`
		Mean  *float64 `json:"mean_seconds"`
	} `json:"flow_time"`
	Efficiency struct {
		Active   *float64 `json:"active_seconds"`
		Waiting  *float64 `json:"waiting_seconds"`
		Ratio    *float64
		InWindow *float64 `json:"in_window_ratio"`
	}
	Distribution map[string]float64
	Load         struct {
		Start    int `json:"at_start"`
		End      int `json:"at_end"`
		Average  *float64
		Presence *float64 `json:"presence_seconds"`
	}
	Entered, Exited map[string]int
	Completions     int      `json:"completion_events"`
	Reopens         int      `json:"reopen_events"`
	Attainment      *float64 `json:"target_attainment_ratio"`
	Discarded       struct {
		Items  int
		InFlow *float64 `json:"in_flow_seconds"`
	}
	Status map[string]float64 `json:"status_seconds"`
}

type publicItem struct {
	Source, Item, Key, Type, State string
	Started                        *time.Time `json:"started_at"`
	Finished                       *time.Time `json:"finished_at"`
	Active                         *float64   `json:"active_seconds"`
	Waiting                        *float64   `json:"waiting_seconds"`
	FlowTime                       *float64   `json:"flow_time_seconds"`
	Age                            *float64   `json:"age_seconds"`
	Reopens                        int
}

type publicQuality struct {
	Duplicates, Conflicts int
	Unmapped              map[string]int `json:"unmapped_statuses"`
	BornDone              int            `json:"born_done"`
	LeftCensored          int            `json:"left_censored"`
	WithoutStart          int            `json:"completed_without_start"`
	NeverActive           int            `json:"completed_never_active"`
	Ignored               int            `json:"ignored_by_type"`
}

func (p *public) stream(name string) *publicStream {
	for i := range p.ValueStreams {
		if p.ValueStreams[i].Name == name {
			return &p.ValueStreams[i]
		}
	}
	return &publicStream{}
}

// plainWorkflow is the workflow of the configuration reference.
func plainWorkflow() *flow.Workflow {
	return &flow.Workflow{
		Name: "default",
		StatusByName: map[string]flow.State{
			"Backlog": flow.New, "Ready": flow.Waiting, "In Review": flow.Waiting, "Blocked": flow.Waiting,
			"In Progress": flow.Active, "Done": flow.Done, "Won't Do": flow.Cancelled,
		},
		CancelledResolutions: []string{"Won't Do", "Duplicate"},
		Types: []flow.TypeRule{
			{Match: "Story", Type: flow.Feature},
			{Match: "Bug", Type: flow.Defect}, {Match: "bug", Label: true, Type: flow.Defect},
			{Match: "Risk", Type: flow.Risk},
			{Match: "Tech Debt", Type: flow.Debt},
			{Match: "Epic", Type: flow.Ignored},
		},
	}
}

func total(counts map[string]int) (sum int) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

func days(seconds *float64) float64 {
	if seconds == nil {
		return math.NaN()
	}
	return *seconds / 86400
}

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	a, errA := json.Marshal(got)
	b, errB := json.Marshal(want)
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("%s\n got %s\nwant %s", what, a, b)
	}
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-6) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
}

// sameNumbers compares maps of numbers, got in a smaller unit than want.
func sameNumbers(t *testing.T, what string, got, want map[string]float64, unit float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%s is %v, want %v", what, got, want)
	}
	for key, x := range want {
		near(t, what+" of "+key, got[key]/unit, x)
	}
}
