package flow_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/flowmetrics/flowmetrics/internal/flow/oracle"
)

// Random nasty histories: instants come from a small grid and words from a small
// vocabulary, so that ties, window edges and contradictions are frequent.

const (
	tick  = 12 * time.Hour
	ticks = 24
)

var epoch = time.Date(2026, 5, 30, 12, 0, 0, 0, time.UTC)

func grid(n int) time.Time { return epoch.Add(time.Duration(n) * tick) }

func drawInstant(t *rapid.T, name string) time.Time {
	return grid(rapid.IntRange(0, ticks).Draw(t, name))
}

// chance draws true once in n times.
func chance(t *rapid.T, n int, name string) bool { return rapid.IntRange(0, n-1).Draw(t, name) == n-1 }

func pick[T any](t *rapid.T, name string, from ...T) T { return rapid.SampledFrom(from).Draw(t, name) }

var statuses = []flow.Value{
	{Name: "Backlog"}, {Name: "Ready"}, {Name: "In Progress"}, {Name: "Blocked"}, {Name: "Done"}, {Name: "Won't Do"},
	{Name: "Parked"}, // no rule
	{Name: "Spike", Category: "indeterminate"}, {Name: "Idea", Category: "new"}, // by category
	{Name: "Shipped", Category: "done"},
	{ID: "1", Name: "Code Review"}, {ID: "1", Name: "Review"}, {ID: "1"}, // by id, renamed
	{ID: "2", Name: "Done"}, {ID: "3", Name: "Odd"}, {ID: "4"}, // id before name; neither
	{}, // taken off the board
}

// drawStep draws the one thing that happens at a time in an ordinary life: on a
// board, or where there is only open and closed.
func drawStep(t *rapid.T, life string) []flow.FieldChange {
	if life == "on a board" {
		return []flow.FieldChange{{Field: flow.FieldStatus, To: pick(t, "step", statuses[:13]...)}}
	}
	return []flow.FieldChange{pick(t, "step",
		flow.FieldChange{Field: flow.FieldState, To: flow.Value{Name: "open"}},
		flow.FieldChange{Field: flow.FieldState, To: flow.Value{Name: "closed"}},
		flow.FieldChange{Field: flow.FieldState, To: flow.Value{Name: "closed", Category: "completed"}},
		flow.FieldChange{Field: flow.FieldState, To: flow.Value{Name: "closed", Category: "duplicate"}},
		flow.FieldChange{Field: flow.FieldAssigned, To: flow.Value{Name: "true"}},
		flow.FieldChange{Field: flow.FieldAssigned, To: flow.Value{Name: "false"}},
		flow.FieldChange{Field: flow.FieldPullRequest, To: flow.Value{ID: "x/y#1", Name: "opened"}},
		flow.FieldChange{Field: flow.FieldPullRequest, To: flow.Value{ID: "x/y#1", Name: "review_requested"}},
		flow.FieldChange{Field: flow.FieldPullRequest, To: flow.Value{ID: "x/y#2", Name: "merged"}},
		flow.FieldChange{Field: flow.FieldLabel, To: flow.Value{Name: "go"}},
		flow.FieldChange{Field: flow.FieldLabel, From: flow.Value{Name: "go"}},
	)}
}

// drawFields draws what happens together in one change.
func drawFields(t *rapid.T, items []string) []flow.FieldChange {
	var fields []flow.FieldChange
	add := func(f flow.Field, to flow.Value) { fields = append(fields, flow.FieldChange{Field: f, To: to}) }
	for range rapid.SampledFrom([]int{0, 1, 1, 1, 1, 2, 2, 3}).Draw(t, "fields") {
		switch pick(t, "field", "status", "status", "status", "status", "state", "resolution", "type", "label", "label",
			"container", "assigned", "pull", "parent", "alias") {
		case "status":
			if !slices.ContainsFunc(fields, func(f flow.FieldChange) bool { return f.Field == flow.FieldStatus }) {
				add(flow.FieldStatus, pick(t, "status", statuses...))
			}
		case "state":
			add(flow.FieldState, pick(t, "state", flow.Value{Name: "open"}, flow.Value{Name: "open"},
				flow.Value{Name: "closed"}, flow.Value{Name: "closed", Category: "completed"},
				flow.Value{Name: "closed", Category: "not_planned"}, flow.Value{Name: "closed", Category: "duplicate"}))
		case "resolution":
			add(flow.FieldResolution, pick(t, "resolution", flow.Value{}, flow.Value{Name: "Fixed"}, flow.Value{Name: "Won't Do"}, flow.Value{ID: "7", Name: "Nope"}))
		case "type":
			add(flow.FieldType, pick(t, "type", flow.Value{Name: "Story"}, flow.Value{Name: "Bug"}, flow.Value{Name: "Epic"}, flow.Value{Name: "Task"}, flow.Value{}))
		case "label":
			f := flow.FieldChange{Field: flow.FieldLabel}
			label := flow.Value{Name: pick(t, "label", "blocked", "go", "bug", "team-a", "shipped", "epic")}
			if chance(t, 3, "removed") {
				f.From = label
			} else {
				f.To = label
			}
			fields = append(fields, f)
		case "container":
			add(flow.FieldContainer, flow.Value{Name: pick(t, "to", "P", "Q", "x/y")})
		case "assigned":
			add(flow.FieldAssigned, flow.Value{Name: pick(t, "assigned", "true", "true", "false")})
		case "pull":
			add(flow.FieldPullRequest, flow.Value{
				ID: pick(t, "pull", "x/y#1", "x/y#2"), Name: pick(t, "step", "opened", "review_requested", "changes_requested", "merged", "closed"),
			})
		case "parent":
			add(flow.FieldParent, flow.Value{ID: "9"})
		case "alias":
			if chance(t, 2, "really") {
				add(flow.FieldAlias, flow.Value{ID: pick(t, "alias of", slices.Concat(items, []string{"a/none", ""})...)})
			}
		}
	}
	return fields
}

// drawLog draws the changes of a few items, repeated, contradicted and shuffled.
func drawLog(t *rapid.T) []flow.Change {
	log := drawFacts(t)
	if len(log) == 0 {
		return nil
	}
	for range rapid.IntRange(0, 3).Draw(t, "repeated") {
		c := pick(t, "again", log...)
		if chance(t, 4, "contradicts") {
			c.At = drawInstant(t, "other at")
			c.Fields = drawFields(t, []string{"a/8", "b/9"})
		}
		log = append(log, c)
	}
	return rapid.Permutation(log).Draw(t, "order")
}

// drawFacts draws the changes of a few items, each once.
func drawFacts(t *rapid.T) []flow.Change {
	var items []string
	for i := range rapid.IntRange(1, 4).Draw(t, "items") {
		items = append(items, pick(t, "source", "a", "a", "b")+"/"+fmt.Sprint(i+8))
	}
	var log []flow.Change
	told := map[string]int{} // changes a source
	for _, name := range items {
		source, item, _ := strings.Cut(name, "/")
		life := pick(t, "life", "on a board", "open and closed", "wild", "wild")
		kinds := []flow.Kind{flow.Created}
		switch pick(t, "first", "created", "created", "created", "observed", "none") {
		case "observed":
			kinds = []flow.Kind{flow.Observed}
		case "none":
			kinds = nil
		}
		for range rapid.IntRange(0, 9).Draw(t, "updates") {
			if life != "wild" {
				kinds = append(kinds, flow.Updated)
				continue
			}
			kinds = append(kinds, pick(t, "kind", flow.Updated, flow.Updated, flow.Updated, flow.Updated, flow.Updated,
				flow.Updated, flow.Updated, flow.Deleted, flow.Observed, flow.Created))
		}
		for i, kind := range kinds {
			c := flow.Change{
				ID: drawID(t, told[source]), Source: source, Item: item, Kind: kind,
				Container: pick(t, "container", "P", "P", "P", "Q", "x/y", ""),
				At:        drawInstant(t, "at"), Sequence: rapid.Int64Range(0, 1).Draw(t, "sequence"),
				Fields: drawFields(t, items),
			}
			told[source]++
			if life != "wild" {
				c.Container, c.Fields = "P", drawStep(t, life)
			}
			if n, err := strconv.ParseInt(c.ID, 10, 64); err == nil && chance(t, 4, "sequence is id") {
				c.Sequence = n
			}
			if i == 0 && kind != flow.Updated && chance(t, 2, "early") {
				c.At = grid(rapid.IntRange(0, 4).Draw(t, "born"))
			}
			if chance(t, 3, "keyed") {
				c.Key = pick(t, "key", "P-1", "Q-2", "R-3")
			}
			log = append(log, c)
		}
	}
	return log
}

// drawID draws an id that is unique in its source and whose order is not that of
// time: "10" comes before "9".
func drawID(t *rapid.T, n int) string {
	prefix := rapid.IntRange(1, 12).Draw(t, "id")
	if chance(t, 2, "text id") {
		return fmt.Sprintf("%d:%d", prefix, n)
	}
	return fmt.Sprintf("%d%02d", prefix, n)
}

func drawWorkflow(t *rapid.T, name string) *flow.Workflow {
	w := plainWorkflow()
	w.Name = name
	w.Types = append(w.Types, flow.TypeRule{Match: "epic", Label: true, Type: flow.Ignored})
	w.StatusByID = map[string]flow.State{"1": flow.Waiting, "2": pick(t, "state of 2", flow.Active, flow.Done)}
	if chance(t, 3, "other statuses") {
		delete(w.StatusByName, "Blocked")
		w.StatusByName["Ready"] = flow.New
		w.StatusByName["Spike"] = flow.Waiting
		w.Types = w.Types[:1]
	}
	w.CancelledResolutions = []string{"Won't Do", "id:7"}
	if chance(t, 2, "label rules") {
		w.Labels = []flow.LabelRule{{Label: "blocked", State: flow.Waiting}, {Label: "go", State: flow.Active}, {Label: "shipped", State: flow.Done}}
	}
	w.StartSignals = pick(t, "signals", nil, []string{"assigned"}, []string{"pull_request"}, []string{"label:go"}, []string{"assigned", "pull_request", "label:bug"})
	w.ReopenGrace = pick(t, "grace", 0, 0, tick, 3*tick)
	w.BacklogReturnWaits = chance(t, 3, "backlog waits")
	w.CountBornDone = chance(t, 4, "count born done")
	return w
}

func drawPolicy(t *rapid.T) *flow.Policy {
	workflows := []*flow.Workflow{drawWorkflow(t, "one"), drawWorkflow(t, "two")}
	includes := [][]flow.Include{
		{{}},
		{{Source: "a", Containers: []string{"P"}}},
		{{Containers: []string{"x*", "Q"}}},
		{{Source: "b"}, {Labels: []string{"team-a", "go"}}},
		{{Types: []string{"Story", "Bug"}, Containers: []string{"*"}}},
	}
	p := &flow.Policy{Windows: []flow.Window{{Name: "short", Length: 2 * tick}, {Name: "7d", Length: 14 * tick}, {Name: "long", Length: 5 * ticks * tick}}}
	for i := range rapid.IntRange(1, 3).Draw(t, "value streams") {
		v := &flow.ValueStream{
			Name: fmt.Sprintf("stream-%d", i), Workflow: pick(t, "workflow", workflows...), Timezone: "UTC", Location: time.UTC,
			Include: pick(t, "include", includes...), NeglectAfter: pick(t, "neglect", tick, 4*tick, 14*day),
		}
		v.Targets.FlowTime = pick(t, "target", 0, 2*tick, 5*tick)
		p.ValueStreams = append(p.ValueStreams, v)
	}
	return p
}

// drawAt draws an instant of evaluation, mostly on the grid and sometimes within
// a tick or past the end.
func drawAt(t *rapid.T) time.Time {
	at := grid(rapid.IntRange(0, ticks+4).Draw(t, "T"))
	return at.Add(pick(t, "off the grid", 0, 0, 0, time.Nanosecond, 5*time.Hour))
}

// A fataler is a testing.TB or a rapid.T.
type fataler interface {
	Helper()
	Fatal(...any)
}

// generic is the public JSON as plain maps, items in order.
func generic(t fataler, result any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	for _, v := range m["value_streams"].([]any) {
		if items, ok := v.(map[string]any)["items"].([]any); ok {
			slices.SortFunc(items, func(a, b any) int {
				x, y := a.(map[string]any), b.(map[string]any)
				return strings.Compare(x["source"].(string)+"/"+x["item"].(string), y["source"].(string)+"/"+y["item"].(string))
			})
		}
	}
	return m
}

// diff lists the places where two results differ, numbers by more than rounding.
func diff(want, got map[string]any) string {
	a, b := map[string]any{}, map[string]any{}
	flatten(a, "", want)
	flatten(b, "", got)
	for path := range a {
		if _, ok := b[path]; !ok {
			b[path] = "nothing"
		}
	}
	var lines []string
	for path, y := range b {
		x, ok := a[path]
		if !ok {
			x = "nothing"
		}
		p, isNumber := x.(float64)
		q, isNumberToo := y.(float64)
		if isNumber && isNumberToo && math.Abs(p-q) <= 1e-6 || x == y {
			continue
		}
		lines = append(lines, fmt.Sprintf("%s: the oracle has %v, flow has %v\n", path, x, y))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

func flatten(into map[string]any, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		into[path] = "a map"
		for key, x := range v {
			flatten(into, path+"."+key, x)
		}
	case []any:
		into[path] = fmt.Sprintf("%d elements", len(v))
		for i, x := range v {
			flatten(into, fmt.Sprintf("%s[%d]", path, i), x)
		}
	default:
		into[path] = v
	}
}

// describe writes a log in the public form, for a failure that one can read.
func describe(p *flow.Policy, log []flow.Change, at time.Time) string {
	var b strings.Builder
	for _, c := range log {
		line, _ := json.Marshal(c)
		b.Write(append(line, '\n'))
	}
	policy, _ := json.Marshal(p)
	return fmt.Sprintf("as of %s\n%s%s", at.Format(time.RFC3339Nano), b.String(), policy)
}

func TestMeasureIsOracle(t *testing.T) {
	for _, round := range []string{"1", "2", "3"} {
		t.Run(round, rapid.MakeCheck(func(t *rapid.T) {
			p, log := drawPolicy(t), drawLog(t)
			for range 3 {
				at := drawAt(t)
				if d := diff(generic(t, oracle.Evaluate(p, log, at)), generic(t, snapshot(p, log, at))); d != "" {
					t.Fatalf("flow.Measure differs from the oracle\n%s\n%s", d, describe(p, log, at))
				}
			}
		}))
	}
}

// I2: neither the order of arrival nor repetition changes a number, but for the
// count of duplicates.
func TestOrderAndRepetitionChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, log, at := drawPolicy(t), drawFacts(t), drawAt(t)
		want := generic(t, snapshot(p, log, at))
		again := slices.Clone(log)
		known := 0
		if len(log) > 0 {
			for range rapid.IntRange(1, 5).Draw(t, "repeated") {
				c := pick(t, "again", log...)
				again = append(again, c)
				if c.At.Before(at) {
					known++
				}
			}
			again = rapid.Permutation(again).Draw(t, "order")
		}
		want["data_quality"].(map[string]any)["duplicates"] = float64(known)
		if d := diff(want, generic(t, snapshot(p, again, at))); d != "" {
			t.Fatalf("in another order and repeated\n%s\n%s", d, describe(p, again, at))
		}
	})
}

// I8: load(end) − load(start) = entries − exits, and the presence of a window
// that covers everything is the in-flow time of the items.
func TestIdentities(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, log, at := drawPolicy(t), drawLog(t), drawAt(t)
		everything := &flow.ValueStream{Name: "everything", Workflow: drawWorkflow(t, "typeless"), Include: []flow.Include{{}}, NeglectAfter: day}
		everything.Workflow.Types = nil // with an ignored type there is time that no item shows
		p.ValueStreams = append(p.ValueStreams, everything)
		s := snapshot(p, log, at)
		for _, m := range s.ValueStreams {
			if m.LoadMismatch != 0 || m.PresenceMismatch != 0 {
				t.Fatalf("%s: mismatches of %d loads, %d presences\n%s", m.ValueStream.Name, m.LoadMismatch, m.PresenceMismatch, describe(p, log, at))
			}
			for _, w := range m.Windows {
				net := 0
				for i := range flow.Entries() {
					net += w.Entered[i]
				}
				for i := range flow.Exits() {
					net -= w.Exited[i]
				}
				if w.LoadEnd-w.LoadStart != net || w.LoadEnd != m.Load.Items {
					t.Fatalf("%s %s: load from %d to %d, net flow %d, load %d\n%s", m.ValueStream.Name, w.Window.Name, w.LoadStart, w.LoadEnd, net, m.Load.Items, describe(p, log, at))
				}
			}
		}
		m := s.ValueStream("everything")
		var inFlow flow.Span
		for _, item := range m.Items {
			inFlow = inFlow.Add(item.Active).Add(item.Waiting)
		}
		if w := m.Windows[2]; w.All.Presence != inFlow {
			t.Fatalf("presence is %vs, the items' in-flow time %vs\n%s", w.All.Presence.Seconds(), inFlow.Seconds(), describe(p, log, at))
		}
	})
}

// Shifting every instant by a constant shifts every instant of the result.
func TestShift(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, log, at := drawPolicy(t), drawLog(t), drawAt(t)
		by := time.Duration(rapid.Int64Range(-1e15, 1e15).Draw(t, "shift"))
		shifted := slices.Clone(log)
		for i := range shifted {
			shifted[i].At = shifted[i].At.Add(by)
		}
		got := generic(t, snapshot(p, shifted, at.Add(by)))
		if d := diff(generic(t, snapshot(p, log, at)), shiftTimes(got, -by).(map[string]any)); d != "" {
			t.Fatalf("shifted by %s\n%s\n%s", by, d, describe(p, log, at))
		}
	})
}

func shiftTimes(v any, by time.Duration) any {
	switch v := v.(type) {
	case map[string]any:
		for key, x := range v {
			v[key] = shiftTimes(x, by)
		}
	case []any:
		for i, x := range v {
			v[i] = shiftTimes(x, by)
		}
	case string:
		if at, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return at.Add(by).Format(time.RFC3339Nano)
		}
	}
	return v
}

// A window's events and presence are those of its two halves, the first of them
// seen when it ended. That is so where nothing is restated later: the births
// come first, and no item turns out to be another one's alias.
func TestSplitWindow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, at := drawPolicy(t), drawAt(t)
		half := time.Duration(rapid.IntRange(1, 8).Draw(t, "half")) * tick
		p.Windows = []flow.Window{{Name: "half", Length: half}, {Name: "whole", Length: 2 * half}}
		for _, v := range p.ValueStreams {
			v.Workflow.ReopenGrace = 0
		}
		log := slices.DeleteFunc(drawFacts(t), func(c flow.Change) bool {
			return slices.ContainsFunc(c.Fields, func(f flow.FieldChange) bool { return f.Field == flow.FieldAlias })
		})
		first := map[string]bool{}
		for i := range log {
			switch c := &log[i]; {
			case c.Kind == flow.Created && first[c.Item]:
				c.Kind = flow.Updated
			case c.Kind == flow.Created:
				c.At = grid(-1)
			}
			first[log[i].Item] = true
		}
		whole, before := snapshot(p, log, at), snapshot(p, log, at.Add(-half))
		for i, m := range whole.ValueStreams {
			a, b, ab := before.ValueStreams[i].Windows[0], m.Windows[0], m.Windows[1]
			got := fmt.Sprint(a.CompletionEvents+b.CompletionEvents, a.ReopenEvents+b.ReopenEvents, a.All.Presence.Plus(b.All.Presence).Seconds())
			want := fmt.Sprint(ab.CompletionEvents, ab.ReopenEvents, ab.All.Presence.Seconds())
			for _, r := range flow.Entries() {
				got += fmt.Sprint(" ", r, a.Entered[r]+b.Entered[r])
				want += fmt.Sprint(" ", r, ab.Entered[r])
			}
			for _, r := range flow.Exits() {
				got += fmt.Sprint(" ", r, a.Exited[r]+b.Exited[r])
				want += fmt.Sprint(" ", r, ab.Exited[r])
			}
			if got != want || a.LoadEnd != b.LoadStart || a.LoadStart != ab.LoadStart {
				t.Fatalf("the halves come to\n%s, the whole to\n%s\n%s", got, want, describe(p, log, at))
			}
		}
	})
}

// A value stream's name and its place in the policy change no number of it.
func TestRename(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, log, at := drawPolicy(t), drawLog(t), drawAt(t)
		want := generic(t, snapshot(p, log, at))["value_streams"].([]any)
		slices.Reverse(want)
		renamed := *p
		renamed.ValueStreams = nil
		for i, v := range slices.Backward(p.ValueStreams) {
			other := *v
			other.Name = fmt.Sprintf("renamed %d", i)
			renamed.ValueStreams = append(renamed.ValueStreams, &other)
		}
		for i, v := range want {
			v.(map[string]any)["name"] = renamed.ValueStreams[i].Name
		}
		got := generic(t, snapshot(&renamed, log, at))["value_streams"]
		if d := diff(map[string]any{"": want}, map[string]any{"": got}); d != "" {
			t.Fatalf("renamed and in reverse\n%s\n%s", d, describe(p, log, at))
		}
	})
}
