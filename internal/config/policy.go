package config

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const (
	maxWindows        = 10 // each multiplies the series of a value stream (I7)
	defaultPercentile = 85
)

// uniqueNames are the names that one section has given, by line.
type uniqueNames map[string]int

// add returns the name that a value gives, "" where it is not a new one.
func (u uniqueNames) add(v value) string {
	s := v.name()
	if line, taken := u[s]; taken && s != "" {
		v.problem("found the name %s again, first in line %d, want unique names", quote(s), line)
		return ""
	}
	u[s] = v.line
	return s
}

func (d *decoder) windows(v value) []flow.Window {
	var windows []flow.Window
	first := map[time.Duration]string{}
	for _, x := range v.list() {
		length := x.duration(time.Nanosecond)
		if length == 0 {
			continue
		}
		name, _ := x.text(maxName)
		if before, twice := first[length]; twice {
			x.problem("found %s again, first as %s", quote(name), quote(before))
		}
		first[length] = name
		windows = append(windows, flow.Window{Name: name, Length: length})
	}
	if v.isList() && (len(windows) == 0 || len(windows) > maxWindows) {
		v.problem("found %d windows, want 1 to %d", len(windows), maxWindows)
	}
	return windows
}

func (d *decoder) workflows(v value) []*flow.Workflow {
	var workflows []*flow.Workflow
	unique := uniqueNames{}
	for _, x := range v.list() {
		workflows = append(workflows, d.workflow(x, unique))
	}
	return workflows
}

func (d *decoder) workflow(v value, unique uniqueNames) *flow.Workflow {
	w := &flow.Workflow{StatusByID: map[string]flow.State{}, StatusByName: map[string]flow.State{}}
	seen := v.mapping(keys{
		"name":     func(x value) { w.Name = unique.add(x) },
		"statuses": func(x value) { d.statuses(x, w) },
		"resolutions": func(x value) {
			x.mapping(keys{"cancelled": func(y value) { w.CancelledResolutions = y.texts() }})
		},
		"labels":        func(x value) { w.Labels = d.labels(x) },
		"types":         func(x value) { w.Types = d.types(x) },
		"start_signals": func(x value) { w.StartSignals = d.startSignals(x) },
		"reopen_grace":  func(x value) { w.ReopenGrace = x.duration(0) },
		"backlog_return": func(x value) {
			w.BacklogReturnWaits = x.choice("pause", "waiting") == "waiting"
		},
		"count_born_done": func(x value) { w.CountBornDone = x.boolean() },
	})
	if !seen.has("name") {
		v.missing("name", "the workflow's name")
	}
	return w
}

// ruleStates are the states that a rule may give.
func ruleStates() []string {
	return []string{
		flow.New.String(), flow.Waiting.String(), flow.Active.String(), flow.Done.String(), flow.Cancelled.String(),
	}
}

// each calls f for the entries of a mapping from some words to lists of texts.
// A text that stands under two words is a problem.
func (v value) each(words []string, f func(i int, text string, x value)) {
	first := map[string]string{}
	known := keys{}
	for i, word := range words {
		known[word] = func(list value) {
			for _, x := range list.list() {
				text, ok := x.text(maxText)
				if !ok {
					continue
				}
				if before, twice := first[text]; twice {
					x.problem("found %s under %s and %s, want it once", quote(text), before, word)
					continue
				}
				first[text] = word
				f(i, text, x)
			}
		}
	}
	v.mapping(known)
}

func (d *decoder) statuses(v value, w *flow.Workflow) {
	v.each(ruleStates(), func(i int, text string, x value) {
		state := flow.New + flow.State(i)
		id, byID := strings.CutPrefix(text, "id:")
		switch {
		case byID && id == "":
			x.want("a status id such as id:10002")
		case byID:
			w.StatusByID[id] = state
		default:
			w.StatusByName[text] = state
		}
	})
}

func (d *decoder) types(v value) []flow.TypeRule {
	words := []string{
		flow.Feature.String(), flow.Defect.String(), flow.Risk.String(), flow.Debt.String(), flow.Ignored.String(),
	}
	types := []flow.ItemType{flow.Feature, flow.Defect, flow.Risk, flow.Debt, flow.Ignored}
	byType := make([][]flow.TypeRule, len(types)) // in the order of types, not of the file
	v.each(words, func(i int, text string, x value) {
		label, isLabel := strings.CutPrefix(text, "label:")
		if isLabel && label == "" {
			x.want("a label such as label:bug")
			return
		}
		byType[i] = append(byType[i], flow.TypeRule{Match: label, Label: isLabel, Type: types[i]})
	})
	var rules []flow.TypeRule
	for _, r := range byType {
		rules = append(rules, r...)
	}
	return rules
}

func (d *decoder) labels(v value) []flow.LabelRule {
	var rules []flow.LabelRule
	first := map[string]int{}
	for _, x := range v.list() {
		var r flow.LabelRule
		seen := x.mapping(keys{
			"label": func(y value) {
				r.Label, _ = y.text(maxText)
				if line, twice := first[r.Label]; twice && r.Label != "" {
					y.problem("found %s again, first in line %d: the first rule wins", quote(r.Label), line)
				}
				first[r.Label] = y.line
			},
			"state": func(y value) {
				if word := y.choice(ruleStates()...); word != "" {
					r.State, _ = flow.ParseState(word) // one of its own names
				}
			},
		})
		if !seen.has("label") {
			x.missing("label", "a label")
		}
		if !seen.has("state") {
			x.missing("state", "%s", oneOf(ruleStates()))
		}
		rules = append(rules, r)
	}
	return rules
}

func (d *decoder) startSignals(v value) []string {
	words := []string{flow.SignalAssigned, flow.SignalPullRequest}
	return v.texts(func(x value, s string) {
		label, isLabel := strings.CutPrefix(s, "label:")
		if !slices.Contains(words, s) && (!isLabel || label == "") {
			x.want("assigned, pull_request or label:NAME%s", didYouMean(s, words))
		}
	})
}

func (d *decoder) valueStreams(v value, workflows []*flow.Workflow, sources []string) []*flow.ValueStream {
	var streams []*flow.ValueStream
	unique := uniqueNames{}
	for _, x := range v.list() {
		streams = append(streams, d.valueStream(x, unique, workflows, sources))
	}
	if v.isList() && len(streams) == 0 {
		v.problem("found an empty list, want at least one value stream")
	}
	return streams
}

func (d *decoder) valueStream(v value, unique uniqueNames, workflows []*flow.Workflow, sources []string) *flow.ValueStream {
	s := &flow.ValueStream{
		Timezone: "UTC", Location: time.UTC, NeglectAfter: flow.DefaultNeglectAfter,
		Targets: flow.Targets{Percentile: defaultPercentile},
	}
	seen := v.mapping(keys{
		"name":          func(x value) { s.Name = unique.add(x) },
		"title":         func(x value) { s.Title = x.name() },
		"workflow":      func(x value) { s.Workflow = d.chooseWorkflow(x, workflows) },
		"timezone":      func(x value) { s.Timezone, s.Location = d.timezone(x) },
		"include":       func(x value) { s.Include = d.include(x, sources) },
		"targets":       func(x value) { d.targets(x, &s.Targets) },
		"neglect_after": func(x value) { s.NeglectAfter = x.duration(time.Nanosecond) },
	})
	if !seen.has("name") {
		v.missing("name", "the value stream's name")
	}
	if s.Title == "" {
		s.Title = s.Name
	}
	if !seen.has("include") {
		v.missing("include", "which items belong to it, such as [{source: jira-main, containers: [PAY]}]")
	}
	if !seen.has("workflow") {
		switch len(workflows) {
		case 1:
			s.Workflow = workflows[0]
		case 0:
			v.missing("workflow", "the name of an entry of workflows, of which there is none")
		default:
			v.missing("workflow", "%s", oneOf(workflowNames(workflows)))
		}
	}
	return s
}

func workflowNames(workflows []*flow.Workflow) []string {
	var names []string
	for _, w := range workflows {
		if w.Name != "" {
			names = append(names, w.Name)
		}
	}
	return names
}

func (d *decoder) chooseWorkflow(v value, workflows []*flow.Workflow) *flow.Workflow {
	name, ok := v.text(maxName)
	if !ok {
		return nil
	}
	for _, w := range workflows {
		if w.Name == name {
			return w
		}
	}
	v.unknown("workflow", name, workflowNames(workflows))
	return nil
}

// unknown notes a reference to something that is not in the file.
func (v value) unknown(kind, name string, known []string) {
	if len(known) == 0 {
		v.problem("found %s, but the file has no %s", quote(name), kind)
		return
	}
	if len(known) > 8 {
		known = append(known[:8:8], "others")
	}
	v.want("a configured %s: %s%s", kind, oneOf(known), didYouMean(name, known))
}

func (d *decoder) timezone(v value) (string, *time.Location) {
	name, ok := v.text(maxName)
	if !ok {
		return "", nil
	}
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" { // which depends on the machine
		v.want("a time zone such as UTC or Europe/Berlin")
		return "", nil
	}
	return name, zone
}

func (d *decoder) include(v value, sources []string) []flow.Include {
	var list []flow.Include
	for _, x := range v.list() {
		var in flow.Include
		x.mapping(keys{
			"source": func(y value) {
				name, ok := y.text(maxName)
				if ok && sources != nil && !slices.Contains(sources, name) {
					y.unknown("source", name, sources)
				}
				in.Source = name
			},
			"containers": func(y value) { in.Containers = y.texts() },
			"labels":     func(y value) { in.Labels = y.texts() },
			"types":      func(y value) { in.Types = y.texts() },
		})
		list = append(list, in)
	}
	if v.isList() && len(list) == 0 {
		v.problem("found an empty list, want at least one entry: without any, nothing belongs to the value stream")
	}
	return list
}

func (d *decoder) targets(v value, t *flow.Targets) {
	v.mapping(keys{
		"flow_time": func(x value) { t.FlowTime = x.duration(time.Nanosecond) },
		"percentile": func(x value) {
			const want = "a number of percent between 0 and 100, such as 85"
			if f, ok := x.number(want); ok && (f <= 0 || f >= 100) {
				x.want(want)
			} else if ok {
				t.Percentile = f
			}
		},
		"load":         func(x value) { t.Load = int(x.integer(1e9)) },
		"distribution": func(x value) { t.Distribution = d.distribution(x) },
	})
}

func (d *decoder) distribution(v value) map[flow.ItemType]float64 {
	mix := map[flow.ItemType]float64{}
	sum, valid := 0.0, true
	known := keys{}
	for _, t := range []flow.ItemType{flow.Feature, flow.Defect, flow.Risk, flow.Debt} {
		known[t.String()] = func(x value) {
			const want = "a share from 0 to 1"
			f, ok := x.number(want)
			if ok && (f < 0 || f > 1) {
				x.want(want)
				ok = false
			}
			mix[t], sum, valid = f, sum+f, valid && ok
		}
	}
	before := len(d.problems)
	v.mapping(known)
	if valid && len(d.problems) == before && math.Abs(sum-1) > 0.001 {
		v.problem("found shares that sum to %.4g, want 1", sum)
	}
	return mix
}
