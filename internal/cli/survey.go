package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/app"
	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A surveyed is what was found out about a source.
type surveyed struct {
	Name      string   `json:"name"`
	Type      string   `json:"type"`
	Address   string   `json:"address"`
	OK        bool     `json:"ok"`
	Anonymous bool     `json:"anonymous"`            // asked without credentials
	Problems  []string `json:"problems"`             // why it is not ok
	Items     *int     `json:"items"`                // in sight; null: not counted
	Uncounted string   `json:"uncounted,omitempty"`  // why they were not counted, where that was not asked for
	RateLimit *int     `json:"rate_limit_remaining"` // requests; null: the tracker does not say
	Workflows []mapped `json:"workflows"`
}

// A mapped is how a workflow fits what a source has. Items are counted that a
// value stream of the workflow includes.
type mapped struct {
	Name        string     `json:"name"`
	Unmapped    []unmapped `json:"unmapped"`
	OtherLabels int        `json:"other_labels"` // that look like neither a state nor a type
	NoFlowTime  bool       `json:"no_flow_time"` // nothing tells when work on an item begins
	workflow    *flow.Workflow
	listed      bool // statuses or types are known
}

// The kinds of what a rule may be missing for.
const (
	kindStatus     = "status"
	kindLabelState = "state label" // a label that looks like a state
	kindType       = "type"
	kindLabelType  = "type label" // a label that looks like a type
)

// An unmapped is a status, type or label that no rule of a workflow is for.
type unmapped struct {
	Kind     string `json:"kind"`
	ID       string `json:"id,omitempty"`
	Name     string `json:"name"`
	Category string `json:"category,omitempty"` // the tracker's
	Meaning  string `json:"meaning,omitempty"`  // the state that the category gives without a rule
	Items    *int   `json:"items"`              // that have it now; null: not counted
	Guess    string `json:"guess,omitempty"`    // a state or type
	rule     string
}

// survey asks a source for everything that there is to say.
func (c *checkCmd) survey(env *environment, policy *flow.Policy, s *config.Source) surveyed {
	ctx, cancel := context.WithTimeout(env.ctx, c.Timeout)
	defer cancel()
	out := surveyed{
		Name: s.Name, Type: s.Type, Address: cmp.Or(s.URL, s.Path), Problems: []string{}, Workflows: []mapped{},
		Anonymous: s.Type != config.File && !s.Token.IsSet() && s.App.ID == 0,
	}
	source, err := app.NewSource(s, slog.New(slog.DiscardHandler))
	if err == nil {
		err = c.ask(ctx, env, policy, s, source, &out)
	}
	out.end(err)
	if meter, ok := source.(connector.Meter); ok {
		if n, known := meter.RateLimitRemaining(); known {
			out.RateLimit = &n
		}
	}
	return out
}

// end notes how the asking ended.
func (s *surveyed) end(err error) {
	if s.OK = err == nil; !s.OK {
		s.Problems = strings.Split(err.Error(), "\n") // several that were joined
	}
}

func (c *checkCmd) ask(ctx context.Context, env *environment, policy *flow.Policy, s *config.Source, source connector.Source, out *surveyed) error {
	if checker, ok := source.(connector.Checker); ok {
		if err := checker.Check(ctx); err != nil {
			return err
		}
	}
	var statuses, types []flow.Value
	var err error
	if lister, ok := source.(connector.StatusLister); ok {
		if statuses, err = lister.Statuses(ctx); err != nil {
			return fmt.Errorf("list statuses: %w", err)
		}
	}
	if lister, ok := source.(connector.TypeLister); ok {
		if types, err = lister.Types(ctx); err != nil {
			return fmt.Errorf("list types: %w", err)
		}
	}
	var tallies []*tally
	for _, w := range workflowsOf(policy, s.Name) {
		tallies = append(tallies, newTally(w, policy, s.Name, statuses, types))
	}
	censor, able := source.(connector.Censor)
	counted := able && c.Count && len(tallies) > 0
	if counted {
		observer, _ := source.(connector.Observer)
		err = c.count(ctx, env, s.Name, censor, observer, tallies, out)
		// That the time or the requests do not suffice says nothing against the source.
		limited, isLimited := errors.AsType[*connector.RateLimitError](err)
		switch {
		case isLimited:
			out.Uncounted = limited.Error()
		case errors.Is(err, context.DeadlineExceeded):
			out.Uncounted = fmt.Sprintf("not done in %s, a longer --timeout allows more", c.Timeout)
		case err != nil:
			return fmt.Errorf("count items: %w", err)
		}
		counted = err == nil
	}
	for _, t := range tallies {
		m := t.result(counted)
		m.NoFlowTime = s.Type == config.GitHub && s.Project == (config.Project{}) && !startsWork(t.workflow)
		out.Workflows = append(out.Workflows, m)
	}
	return nil
}

// count lists the items in sight and gives each to every tally, with the status
// that an observer sees where the list has none.
func (c *checkCmd) count(ctx context.Context, env *environment, name string, censor connector.Censor, observer connector.Observer, tallies []*tally, out *surveyed) error {
	var n atomic.Int64
	defer env.counting(name, &n)()
	statuses, err := observeAll(ctx, observer)
	if err != nil {
		return err
	}
	err = censor.Census(ctx, func(item connector.Item) {
		n.Add(1)
		if item.Status.IsZero() {
			item.Status = statuses[item.ID]
		}
		for _, t := range tallies {
			t.add(&item)
		}
	})
	if err == nil {
		out.Items = new(int(n.Load()))
	}
	return err
}

// observeAll returns the statuses in sight, by item. The observer may be nil.
func observeAll(ctx context.Context, observer connector.Observer) (map[string]flow.Value, error) {
	statuses := map[string]flow.Value{}
	for more := observer != nil; more; {
		more = false
		err := observer.Observe(ctx, func(o connector.Observation) {
			statuses[o.ID], more = o.Status, true
		})
		if err != nil {
			return nil, err
		}
	}
	return statuses, nil
}

// counting shows on the standard error that counting takes its time, until the
// function that it returns is called.
func (e *environment) counting(source string, n *atomic.Int64) (done func()) {
	_, terminal := e.terminal()
	every, before, after := 10*time.Second, "", "\n"
	if terminal {
		every, before, after = 500*time.Millisecond, "\r", "\x1b[K" // in place
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	began := time.Now()
	go func() {
		defer close(stopped)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				if terminal {
					fmt.Fprint(e.Err, before+after)
				}
				return
			case <-tick.C:
				fmt.Fprintf(e.Err, "%ssource %s: counting items, %d after %s%s", before, source, n.Load(), time.Since(began).Round(time.Second), after)
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

// startsWork reports whether a workflow tells when work begins on an item of
// which the tracker only knows whether it is open (case 20).
func startsWork(w *flow.Workflow) bool {
	return len(w.StartSignals) > 0 || slices.ContainsFunc(w.Labels, func(r flow.LabelRule) bool {
		return r.State == flow.Waiting || r.State == flow.Active
	})
}

// workflowsOf returns the workflows of the value streams that include a source.
func workflowsOf(p *flow.Policy, source string) []*flow.Workflow {
	var workflows []*flow.Workflow
	for _, v := range p.ValueStreams {
		includes := slices.ContainsFunc(v.Include, func(in flow.Include) bool { return in.Source == "" || in.Source == source })
		if includes && !slices.Contains(workflows, v.Workflow) {
			workflows = append(workflows, v.Workflow)
		}
	}
	return workflows
}

// A tally counts, for one workflow, what the items of a source have.
type tally struct {
	workflow *flow.Workflow
	source   string
	streams  []*flow.ValueStream // of the workflow
	listed   bool

	statuses, types map[flow.Value]int
	stateLabels     map[string]int  // of items without a status
	typeLabels      map[string]int  // of items that no rule gives a type
	used            map[string]bool // labels that the configuration names
}

func newTally(w *flow.Workflow, p *flow.Policy, source string, statuses, types []flow.Value) *tally {
	t := &tally{
		workflow: w, source: source, listed: len(statuses)+len(types) > 0,
		statuses: map[flow.Value]int{}, types: map[flow.Value]int{}, stateLabels: map[string]int{}, typeLabels: map[string]int{}, used: map[string]bool{},
	}
	for _, v := range statuses {
		t.statuses[v] = 0
	}
	for _, v := range types {
		t.types[v] = 0
	}
	for _, v := range p.ValueStreams {
		if v.Workflow != w {
			continue
		}
		t.streams = append(t.streams, v)
		for _, in := range v.Include {
			for _, label := range in.Labels {
				t.used[label] = true
			}
		}
	}
	for _, r := range w.Labels {
		t.used[r.Label] = true
	}
	for _, r := range w.Types {
		if r.Label {
			t.used[r.Match] = true
		}
	}
	for _, signal := range w.StartSignals {
		if label, ok := strings.CutPrefix(signal, "label:"); ok {
			t.used[label] = true
		}
	}
	return t
}

// add counts an item that one of the value streams includes.
func (t *tally) add(item *connector.Item) {
	if !slices.ContainsFunc(t.streams, func(v *flow.ValueStream) bool {
		return v.Admits(t.source, item.Container, item.Type, item.Labels)
	}) {
		return
	}
	unclassified := t.workflow.TypeOf(item.Type, item.Labels) == flow.Unclassified
	if !item.Status.IsZero() {
		t.statuses[item.Status]++
	}
	if unclassified {
		t.types[item.Type]++
	}
	for _, label := range item.Labels {
		if t.used[label] {
			continue
		}
		if item.Status.IsZero() {
			t.stateLabels[label]++
		}
		if unclassified {
			t.typeLabels[label]++
		}
	}
}

// result returns what has no rule.
func (t *tally) result(counted bool) mapped {
	w := t.workflow
	m := mapped{Name: w.Name, Unmapped: []unmapped{}, workflow: w, listed: t.listed || counted}
	add := func(kind string, v flow.Value, n int, meaning, guess string) {
		u := unmapped{Kind: kind, ID: v.ID, Name: v.Name, Category: v.Category, Meaning: meaning, Guess: guess}
		if counted {
			u.Items = &n
		}
		m.Unmapped = append(m.Unmapped, u)
	}
	for v, n := range t.statuses {
		if _, ok := w.StateOf(flow.Value{ID: v.ID, Name: v.Name}); ok {
			continue
		}
		meaning, guess := "", ""
		if state, ok := w.StateOf(v); ok {
			meaning = state.String()
		}
		if state, ok := guessState(v.Name, v.Category); ok {
			guess = state.String()
		}
		add(kindStatus, v, n, meaning, guess)
	}
	for v, n := range t.types {
		if w.TypeOf(v, nil) != flow.Unclassified {
			continue
		}
		guess := ""
		if typ, ok := guessType(v.Name); ok {
			guess = typ.String()
		}
		add(kindType, v, n, "", guess)
	}
	labels := maps.Clone(t.typeLabels)
	maps.Copy(labels, t.stateLabels)
	for label := range labels {
		switch kind, state, typ := guessLabel(label); {
		case kind == "":
			m.OtherLabels++
		case kind == kindLabelState && t.stateLabels[label] > 0 && len(t.statuses) == 0: // else the statuses decide
			add(kind, flow.Value{Name: label}, t.stateLabels[label], "", state.String())
		case kind == kindLabelType && t.typeLabels[label] > 0:
			add(kind, flow.Value{Name: label}, t.typeLabels[label], "", typ.String())
		}
	}
	slices.SortFunc(m.Unmapped, byImportance)
	return m
}
