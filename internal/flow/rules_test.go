package flow_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// The rules R1 to R26 and the edge cases, each with the shortest history that
// shows it. A history is written one change a line:
//
//	day item KIND [in=container] [src=source] [seq=n] [id=id] FIELD:value ...
//
// where day is that of June 2026, with a fraction; the container is that of the
// line before on the item, else P; and a value is name, #id,
// name#id or name@category, with _ for a space; LABEL:-name takes a label off,
// and a value that is - clears the field. What is expected is one number a
// line: its place in the public JSON and itself, in days where it ends in d, the
// day of June where it begins with @. Places begin with the name of the value
// stream where that is not "v", "7d" and "30d" are windows, and "quality" is the
// data quality. All is as of 29 June unless a rule says otherwise.
type rule struct {
	name string
	edit func(p *flow.Policy, w *flow.Workflow) // both value streams' workflow
	at   float64
	log  string
	want string
}

// rulesPolicy has a value stream v of the containers P and P/..., and one w of
// the containers Q....
func rulesPolicy() *flow.Policy {
	w := plainWorkflow()
	stream := func(name string, containers ...string) *flow.ValueStream {
		return &flow.ValueStream{
			Name: name, Workflow: w, Include: []flow.Include{{Containers: containers}},
			Targets: flow.Targets{FlowTime: 12 * day, Percentile: 85}, NeglectAfter: 14 * day,
		}
	}
	return &flow.Policy{
		ValueStreams: []*flow.ValueStream{stream("v", "P", "P/*"), stream("w", "Q*")},
		Windows:      []flow.Window{{Name: "7d", Length: 7 * day}, {Name: "30d", Length: 30 * day}},
	}
}

func TestRules(t *testing.T) {
	for _, r := range slices.Concat(factRules, stateRules, streamRules, numberRules, edgeCases) {
		for _, impl := range implementations {
			t.Run(strings.ReplaceAll(r.name, " ", "_")+"/"+impl.name, func(t *testing.T) {
				p := rulesPolicy()
				if r.edit != nil {
					r.edit(p, p.ValueStreams[0].Workflow)
				}
				at := juneDay(29)
				if r.at != 0 {
					at = juneDay(r.at)
				}
				places := byPlace(generic(t, impl.evaluate(p, parseHistory(t, r.log), at)))
				for line := range strings.Lines(r.want) {
					if place, want, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
						if got := places[place]; !equalNumber(t, got, want) {
							t.Errorf("%s is %v, want %s", place, got, want)
						}
					}
				}
			})
		}
	}
}

func juneDay(d float64) time.Time {
	return time.Date(2026, 5, 31, 0, 0, 0, 0, time.UTC).Add(time.Duration(d * float64(day)))
}

// byPlace flattens a result to the places that the rules name.
func byPlace(result map[string]any) map[string]any {
	flat := map[string]any{}
	for _, v := range result["value_streams"].([]any) {
		stream := v.(map[string]any)
		prefix := ""
		if name := stream["name"].(string); name != "v" {
			prefix = name + "."
		}
		flatten(flat, prefix+"load", stream["load"])
		for name, w := range stream["windows"].(map[string]any) {
			flatten(flat, prefix+name, w)
		}
		items, _ := stream["items"].([]any)
		for _, item := range items {
			flatten(flat, prefix+"item."+item.(map[string]any)["item"].(string), item)
		}
	}
	flatten(flat, "quality", result["data_quality"])
	places := map[string]any{}
	for place, v := range flat {
		if v == nil {
			v = "null"
		}
		places[strings.ReplaceAll(place, " ", "_")] = v
	}
	return places
}

func equalNumber(t *testing.T, got any, want string) bool {
	t.Helper()
	if got == nil {
		got = "absent"
	}
	unit := 1.0
	text := want
	if rest, ok := strings.CutSuffix(want, "d"); ok && rest != "" && rest[0] <= '9' {
		unit, text = 86400, rest
	}
	if rest, ok := strings.CutPrefix(want, "@"); ok {
		return got == juneDay(number(t, rest)).Format(time.RFC3339)
	}
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return got == want
	}
	y, ok := got.(float64)
	return ok && math.Abs(y-x*unit) <= 1e-6
}

func parseHistory(t *testing.T, text string) []flow.Change {
	t.Helper()
	var log []flow.Change
	containers := map[string]string{}
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		c := flow.Change{
			ID: fmt.Sprintf("%03d", len(log)), Source: "s", Container: cmp.Or(containers[words[1]], "P"),
			Item: words[1], At: juneDay(number(t, words[0])),
		}
		if err := c.Kind.UnmarshalText([]byte(words[2])); err != nil {
			t.Fatal(err)
		}
		for _, word := range words[3:] {
			if name, value, ok := strings.Cut(word, ":"); ok && name == strings.ToUpper(name) {
				c.Fields = append(c.Fields, parseField(t, name, value))
				continue
			}
			name, value, _ := strings.Cut(word, "=")
			switch name {
			case "in":
				c.Container = value
			case "src":
				c.Source = value
			case "id":
				c.ID = value
			case "seq":
				c.Sequence = int64(number(t, value))
			case "key":
				c.Key = value
			case "approximate":
				c.Approximate = true
			default:
				t.Fatalf("what is %s in %s", word, line)
			}
		}
		containers[c.Item] = c.Container
		for _, f := range c.Fields {
			if f.Field == flow.FieldContainer {
				containers[c.Item] = f.To.Name
			}
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		log = append(log, c)
	}
	return log
}

func parseField(t *testing.T, name, text string) flow.FieldChange {
	t.Helper()
	var f flow.FieldChange
	if err := f.Field.UnmarshalText([]byte(name)); err != nil {
		t.Fatal(err)
	}
	text = strings.ReplaceAll(text, "_", " ")
	switch {
	case text == "-":
	case name == "LABEL" && text[0] == '-':
		f.From.Name = text[1:]
	case name == "ALIAS":
		f.To.ID = text
	case name == "STATE":
		f.To.Name, f.To.Category, _ = strings.Cut(strings.ReplaceAll(text, " ", "_"), "@")
	case name == "PULL_REQUEST":
		f.To.ID, f.To.Name = "P#1", strings.ReplaceAll(text, " ", "_")
	default:
		text, f.To.Category, _ = strings.Cut(text, "@")
		f.To.Name, f.To.ID, _ = strings.Cut(text, "#")
	}
	return f
}
