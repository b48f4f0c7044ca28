package oracle

import (
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A moment is an item as it stands from an instant on, under the workflow of one
// value stream. Before its first fact an item does not exist.
type moment struct {
	exists  bool
	state   flow.State // flow.Gone where it is deleted
	kind    flow.ItemType
	matches bool   // an include entry of the value stream holds
	started bool   // was in flow at an earlier instant
	status  string // what decided the state, as a key of R24
}

// inFlow is the predicate of everything: state waiting or active, the type not
// ignored, not deleted.
func (m moment) inFlow() bool {
	return m.exists && (m.state == flow.Waiting || m.state == flow.Active) && m.kind != flow.Ignored
}

// inValueStream reports whether the item belongs to the value stream (R11, R12).
func (m moment) inValueStream() bool { return m.exists && m.matches && m.kind != flow.Ignored }

func (m moment) finished() bool {
	return m.exists && (m.state == flow.Done || m.state == flow.Cancelled)
}

// raw is an item in the tracker's words.
type raw struct {
	known, deleted      bool
	status, resolution  flow.Value
	closed              bool
	closeReason         string
	kind                flow.Value
	container           string
	labels, everLabel   map[string]bool
	everAssigned        bool
	hasPullRequest      bool
	lastPullRequestFact string
}

// at replays the item's facts up to and including an instant.
func (h *history) at(v *flow.ValueStream, names statusNames, instant time.Time) moment {
	var (
		r       = raw{labels: map[string]bool{}, everLabel: map[string]bool{}}
		state   = flow.New // the resulting state, which holding keeps (R9)
		status  string
		started bool
	)
	now := func() moment {
		m := moment{exists: r.known, state: state, started: started, status: status}
		if r.deleted {
			m.state = flow.Gone
		}
		m.kind = itemType(v.Workflow, r)
		m.matches = r.known && matches(v, h.source, r)
		return m
	}
	for i, f := range h.facts {
		if f.effective.After(instant) {
			break
		}
		if i > 0 && h.facts[i-1].effective.Before(f.effective) && now().inFlow() {
			started = true // only the joint result of an instant exists (R4)
		}
		r.apply(f)
		if !r.known {
			continue
		}
		state, status = resolve(v.Workflow, r, state, h.source, names)
		if state == flow.New && started && v.Workflow.BacklogReturnWaits {
			state = flow.Waiting
		}
		if !f.evidence {
			finished := state == flow.Done || state == flow.Cancelled
			r.deleted = f.Kind == flow.Deleted && !finished // R16
		}
	}
	return now()
}

func (r *raw) apply(f fact) {
	if !f.evidence {
		r.known = true
		if f.Container != "" {
			r.container = f.Container
		}
	}
	for _, c := range f.Fields {
		switch c.Field {
		case flow.FieldStatus:
			r.status = c.To
		case flow.FieldState:
			r.closed, r.closeReason = c.To.Name == "closed", c.To.Category
		case flow.FieldResolution:
			r.resolution = c.To
		case flow.FieldType:
			r.kind = c.To
		case flow.FieldLabel:
			if c.From.Name != "" {
				delete(r.labels, c.From.Name)
			}
			if c.To.Name != "" {
				r.labels[c.To.Name] = true
				r.everLabel[c.To.Name] = true
			}
		case flow.FieldContainer:
			if c.To.Name != "" {
				r.container = c.To.Name
			} else if c.To.ID != "" {
				r.container = c.To.ID
			}
		case flow.FieldAssigned:
			if c.To.Name == "true" {
				r.everAssigned = true
			}
		case flow.FieldPullRequest:
			r.hasPullRequest, r.lastPullRequestFact = true, c.To.Name
		}
	}
}

// resolve is R6, R7 and R8 read from the top, and R24 for the key.
func resolve(w *flow.Workflow, r raw, previous flow.State, source string, names statusNames) (flow.State, string) {
	key := "open"
	if r.status != (flow.Value{}) {
		key = names.display(source, r.status)
	}
	state := previous // hold; an item without a previous state starts as new
	mapped, isMapped := statusState(w, r.status)
	switch label, isLabelled := firstLabel(w, r.labels); {
	case r.closed && (r.closeReason == "not_planned" || r.closeReason == "duplicate"):
		state = flow.Cancelled
	case r.closed:
		state = flow.Done
	case isMapped && (mapped == flow.Done || mapped == flow.Cancelled):
		state = mapped
	case isLabelled:
		state, key = label.State, label.Label
	case isMapped:
		state = mapped
	case r.status == flow.Value{}:
		var review bool
		if state, review = signalState(w, r); review {
			key = "In Review"
		}
	}
	if state == flow.Done && isCancelled(w, r.resolution) {
		state = flow.Cancelled
	}
	return state, key
}

// statusState gives a status' state by id, by name, by category.
func statusState(w *flow.Workflow, v flow.Value) (flow.State, bool) {
	if s, ok := w.StatusByID[v.ID]; ok && v.ID != "" {
		return s, true
	}
	if s, ok := w.StatusByName[v.Name]; ok && v.Name != "" {
		return s, true
	}
	s, ok := map[string]flow.State{"new": flow.New, "indeterminate": flow.Active, "done": flow.Done}[v.Category]
	return s, ok
}

func firstLabel(w *flow.Workflow, labels map[string]bool) (flow.LabelRule, bool) {
	for _, rule := range w.Labels {
		if labels[rule.Label] {
			return rule, true
		}
	}
	return flow.LabelRule{}, false
}

// signalState is R7 for an open item without a status.
func signalState(w *flow.Workflow, r raw) (state flow.State, review bool) {
	for _, signal := range w.StartSignals {
		if signal == "pull_request" && r.hasPullRequest {
			if r.lastPullRequestFact == "review_requested" {
				return flow.Waiting, true
			}
			return flow.Active, false
		}
	}
	for _, signal := range w.StartSignals {
		if signal == "assigned" && r.everAssigned {
			return flow.Active, false
		}
		if strings.HasPrefix(signal, "label:") && r.everLabel[strings.TrimPrefix(signal, "label:")] {
			return flow.Active, false
		}
	}
	return flow.New, false
}

func isCancelled(w *flow.Workflow, resolution flow.Value) bool {
	for _, r := range w.CancelledResolutions {
		if resolution.Name != "" && r == resolution.Name || resolution.ID != "" && r == "id:"+resolution.ID {
			return true
		}
	}
	return false
}

// itemType is R10: names before labels, each in the order of the rules.
func itemType(w *flow.Workflow, r raw) flow.ItemType {
	for _, rule := range w.Types {
		if !rule.Label && rule.Match == r.kind.Name && r.kind.Name != "" {
			return rule.Type
		}
	}
	for _, rule := range w.Types {
		if rule.Label && r.labels[rule.Match] {
			return rule.Type
		}
	}
	return flow.Unclassified
}

// matches is R11 without the type's being ignored.
func matches(v *flow.ValueStream, source string, r raw) bool {
	for _, in := range v.Include {
		ok := in.Source == "" || in.Source == source
		if len(in.Containers) > 0 {
			ok = ok && anyHolds(in.Containers, func(pattern string) bool { return glob(pattern, r.container) })
		}
		if len(in.Labels) > 0 {
			ok = ok && anyHolds(in.Labels, func(label string) bool { return r.labels[label] })
		}
		if len(in.Types) > 0 {
			ok = ok && anyHolds(in.Types, func(kind string) bool { return kind == r.kind.Name })
		}
		if ok {
			return true
		}
	}
	return false
}

func anyHolds(list []string, holds func(string) bool) bool {
	for _, s := range list {
		if holds(s) {
			return true
		}
	}
	return false
}

// glob tries every length that a star can stand for.
func glob(pattern, text string) bool {
	if pattern == "" {
		return text == ""
	}
	if pattern[0] == '*' {
		for i := 0; i <= len(text); i++ {
			if glob(pattern[1:], text[i:]) {
				return true
			}
		}
		return false
	}
	return text != "" && pattern[0] == text[0] && glob(pattern[1:], text[1:])
}

// statusNames are the latest names of status ids, by source and id (R24).
type statusNames map[[2]string]string

func namesOf(facts []flow.Change) statusNames {
	names, latest := statusNames{}, map[[2]string]flow.Change{}
	for _, c := range facts {
		for _, f := range c.Fields {
			if f.Field != flow.FieldStatus || f.To.ID == "" || f.To.Name == "" {
				continue
			}
			key := [2]string{c.Source, f.To.ID}
			if last, ok := latest[key]; !ok || !earlier(c, last) {
				latest[key], names[key] = c, f.To.Name
			}
		}
	}
	return names
}

func (n statusNames) display(source string, v flow.Value) string {
	if name := n[[2]string{source, v.ID}]; name != "" && v.ID != "" {
		return name
	}
	if v.Name != "" {
		return v.Name
	}
	return "id:" + v.ID
}
