package flow

import (
	"slices"
	"strings"
)

// A lens sees the facts of a ledger through one workflow of a policy: it folds
// the facts of an item into a timeline. It remembers what each word means, so
// a lens is cheap to use often; it is not safe for concurrent use.
type lens struct {
	ledger   *Ledger
	workflow *Workflow
	policy   *Policy
	streams  []int // the policy's value streams that use the workflow

	statuses []statusRule // by Ledger.values
	classes  map[attributes]*class
	labelSet table[string] // sets of labels, each a sorted list of references
	facts    []*fact
	foreign  map[*fact]bool // those of facts that are an alias'
	segments []segment
	unmapped []uint32
}

// statusRule is what the workflow says about a status.
type statusRule uint8

const (
	ruleUnknown  statusRule = iota // not looked up so far
	ruleUnmapped                   // no rule, no category
	ruleState                      // + State
)

// attributes are what an item's type and value streams depend on.
type attributes struct{ source, container, itemType, labels uint32 }

// A class is what attributes come to: the item's type, and the value streams
// that include it whatever its type (ascending, of this lens only).
type class struct {
	itemType ItemType
	streams  []int
	labels   []string
	rule     int // the first matching label rule, -1 for none
}

// member reports whether the item is in a value stream: included, and not of an
// ignored type (R12).
func (c *class) member(stream int) bool {
	return c.itemType != Ignored && c.includes(stream)
}

func (c *class) includes(stream int) bool {
	for _, s := range c.streams {
		if s == stream {
			return true
		}
	}
	return false
}

// A timeline is the life of one item under one workflow, as of an instant.
type timeline struct {
	item         uint32
	source       uint32
	segments     []segment // in order, each until the next one begins
	leftCensored bool      // its life before the first fact is unknown
	lastFact     int64     // of any kind
	unmapped     []uint32  // status of each fact that no rule maps
	gaps         int       // facts whose from is not the previous to (case 13)
}

// A segment is a stretch of life during which nothing changed.
type segment struct {
	at       int64
	class    *class
	status   uint32 // what decided the state: in Ledger.values, or nameOpen and up (R24)
	state    State
	unmapped bool // the status has no rule, the state is held
}

// appendStreams appends each value stream that ever included the item, once.
func (t *timeline) appendStreams(streams []int) []int {
	var last *class
	for k := range t.segments {
		c := t.segments[k].class
		if c == last {
			continue
		}
		last = c
		for _, i := range c.streams {
			if !slices.Contains(streams, i) {
				streams = append(streams, i)
			}
		}
	}
	return streams
}

// flowing reports whether the item is in flow: the single predicate that load,
// age, start and flow time share.
func (s *segment) flowing() bool { return s.state.moving() && s.class.itemType != Ignored }

func newLens(p *Policy, w *Workflow, l *Ledger) *lens {
	n := &lens{ledger: l, workflow: w, policy: p, classes: map[attributes]*class{}}
	for i, v := range p.ValueStreams {
		if v.Workflow == w {
			n.streams = append(n.streams, i)
		}
	}
	n.labelSet.of("")
	return n
}

// lenses returns one lens for each workflow that a value stream uses.
func lenses(p *Policy, l *Ledger) []*lens {
	var all []*lens
	for _, v := range p.ValueStreams {
		if !slices.ContainsFunc(all, func(n *lens) bool { return n.workflow == v.Workflow }) {
			all = append(all, newLens(p, v.Workflow, l))
		}
	}
	return all
}

// raw is what the tracker has said about an item so far.
type raw struct {
	closed      bool
	reason      string // of the closing
	status      uint32
	resolution  uint32
	labels      []uint32 // sorted
	attributes  attributes
	class       *class
	pullRequest string // the latest fact of a linked pull request
	hasPull     bool
	signalled   bool // any other listed start signal has ever occurred
	deleted     bool
}

// fold turns the facts of an item with at < t into a timeline; ok is false where
// there are none. The facts of an item's aliases come as evidence (case 25).
// The timeline's lists are valid until the lens folds again.
func (n *lens) fold(it uint32, t int64, evidence []uint32) (timeline, bool) {
	l := n.ledger
	n.facts = l.sorted(n.facts[:0], it, t)
	if len(n.facts) == 0 {
		return timeline{}, false
	}
	n.foreign = nil
	line := timeline{item: it, source: l.items[it].source, segments: n.segments[:0], unmapped: n.unmapped[:0]}
	if len(evidence) > 0 {
		n.mergeEvidence(t, evidence)
	}
	for _, f := range n.facts {
		line.lastFact = max(line.lastFact, f.at)
	}
	birth := l.birthFirst(n.facts, n.foreign)
	line.leftCensored = birth == noBirth

	r := raw{attributes: attributes{source: line.source}}
	held := New      // the previous resulting state (R9)
	started := false // in flow at an earlier instant
	exists := false  // evidence of an alias may come before the item's first fact
	for i := 0; i < len(n.facts); {
		at := max(n.facts[i].at, birth) // clamped to the birth (R3)
		var seg segment
		for ; i < len(n.facts) && max(n.facts[i].at, birth) == at; i++ {
			// One after the other, so that holding sees each (R4).
			own := !n.foreign[n.facts[i]]
			n.apply(&r, &line, n.facts[i], own)
			if exists = exists || own; !exists {
				continue
			}
			seg = n.decide(&r, held, started)
			held = seg.state
			if n.ledger.bodies[n.facts[i].body].kind == Deleted && own {
				r.deleted = !held.finished() // done and cancelled stay as they are (R16)
			}
		}
		if !exists {
			continue
		}
		seg.at = at
		if r.deleted {
			seg.state = Gone
		}
		started = started || seg.flowing()
		line.segments = append(line.segments, seg)
	}
	n.segments, n.unmapped = line.segments, line.unmapped
	return line, true
}

const noBirth = -1 << 63

// birthFirst puts sorted facts into the order of folding: the item's birth comes
// first, and what is stamped before it counts as if at its instant, after it, so
// that time no longer orders these (R2, R3). It returns the instant of the birth.
func (l *Ledger) birthFirst(facts []*fact, foreign map[*fact]bool) int64 {
	i := slices.IndexFunc(facts, func(f *fact) bool { return l.bodies[f.body].kind == Created && !foreign[f] })
	if i < 0 {
		return noBirth
	}
	birth := facts[i]
	copy(facts[1:i+1], facts[:i])
	facts[0] = birth
	if i > 0 {
		end := i + 1
		for end < len(facts) && facts[end].at == birth.at {
			end++
		}
		slices.SortStableFunc(facts[1:end], l.compareAtInstant)
	}
	return birth.at
}

// ordered returns an item's facts with at < t in the order of folding.
func (l *Ledger) ordered(into []*fact, it uint32, t int64) []*fact {
	facts := l.sorted(into[:0], it, t)
	l.birthFirst(facts, nil)
	return facts
}

// mergeEvidence adds the facts of an item's aliases to its own.
func (n *lens) mergeEvidence(t int64, aliases []uint32) {
	n.foreign = map[*fact]bool{}
	for _, a := range aliases {
		for _, f := range n.ledger.sorted(nil, a, t) {
			n.facts = append(n.facts, f)
			n.foreign[f] = true
		}
	}
	// Stable, for one id may occur in two sources.
	slices.SortStableFunc(n.facts, n.ledger.compare)
}

// apply takes one fact into what is known. Of another item's facts only the
// evidence of work counts.
func (n *lens) apply(r *raw, line *timeline, f *fact, own bool) {
	b := &n.ledger.bodies[f.body]
	if own {
		r.deleted = false // a later fact revives the item (R16)
		if n.ledger.texts.list[b.container] != "" {
			n.enter(r, b.container)
		}
	}
	for _, bf := range b.fields {
		to := &n.ledger.values.list[bf.to]
		switch bf.field {
		case FieldAssigned:
			if to.Name == "true" && slices.Contains(n.workflow.StartSignals, SignalAssigned) {
				r.signalled = true
			}
			continue
		case FieldPullRequest:
			if bf.to != 0 {
				r.hasPull, r.pullRequest = true, to.Name
			}
			continue
		}
		if own {
			n.applyField(r, line, bf, to)
		}
	}
}

func (n *lens) applyField(r *raw, line *timeline, bf bodyField, to *Value) {
	switch bf.field {
	case FieldStatus:
		n.checkGap(r, line, bf.from)
		r.status = bf.to
		if bf.to != 0 && n.statusRule(bf.to) == ruleUnmapped {
			line.unmapped = append(line.unmapped, bf.to)
		}
	case FieldState:
		r.closed = to.Name == "closed"
		r.reason = to.Category
	case FieldResolution:
		r.resolution = bf.to
	case FieldType:
		r.attributes.itemType, r.class = bf.to, nil
	case FieldLabel:
		n.relabel(r, bf, to)
	case FieldContainer:
		if to.Text() != "" {
			n.enter(r, n.ledger.texts.refs[to.Text()])
		}
	}
}

func (n *lens) enter(r *raw, container uint32) {
	if r.attributes.container != container {
		r.attributes.container, r.class = container, nil
	}
}

func (n *lens) checkGap(r *raw, line *timeline, from uint32) {
	was, is := n.ledger.values.list[r.status], n.ledger.values.list[from]
	if was.IsZero() || is.IsZero() || (is.ID != "" && is.ID == was.ID) || (is.ID == "" || was.ID == "") && is.Name == was.Name {
		return
	}
	line.gaps++
}

// relabel adds and removes a label; a listed one is a start signal for ever.
func (n *lens) relabel(r *raw, bf bodyField, to *Value) {
	if bf.from != 0 {
		if i, ok := slices.BinarySearch(r.labels, bf.from); ok {
			r.labels = slices.Delete(r.labels, i, i+1)
		}
	}
	if bf.to != 0 {
		if i, ok := slices.BinarySearch(r.labels, bf.to); !ok {
			r.labels = slices.Insert(r.labels, i, bf.to)
		}
		if !r.signalled {
			r.signalled = slices.ContainsFunc(n.workflow.StartSignals, func(signal string) bool {
				name, ok := strings.CutPrefix(signal, signalLabel)
				return ok && name == to.Name
			})
		}
	}
	var key []byte
	for _, ref := range r.labels {
		key = append(key, byte(ref), byte(ref>>8), byte(ref>>16), byte(ref>>24))
	}
	r.attributes.labels, r.class = n.labelSet.of(string(key)), nil
}

// decide gives the flow state, in the order of R6 to R9.
func (n *lens) decide(r *raw, held State, started bool) segment {
	if r.class == nil {
		r.class = n.class(r)
	}
	seg := n.decideOpen(r, held)
	if seg.state == Done && r.resolution != 0 && n.workflow.cancels(n.ledger.values.list[r.resolution]) {
		seg.state = Cancelled
	}
	if seg.state == New && started && n.workflow.BacklogReturnWaits {
		seg.state = Waiting
	}
	return seg
}

func (n *lens) decideOpen(r *raw, held State) segment {
	seg := segment{class: r.class, status: r.status}
	if r.status == 0 {
		seg.status = nameOpen
	}
	rule := ruleUnmapped
	if r.status != 0 {
		rule = n.statusRule(r.status)
		seg.unmapped = rule == ruleUnmapped
	}
	switch {
	case r.closed:
		seg.state = Done
		if r.reason == "not_planned" || r.reason == "duplicate" {
			seg.state = Cancelled
		}
	case rule == ruleState+statusRule(Done), rule == ruleState+statusRule(Cancelled):
		seg.state = State(rule - ruleState)
	case r.class.rule >= 0:
		seg.state, seg.status = n.workflow.Labels[r.class.rule].State, nameLabel+uint32(r.class.rule)
	case rule >= ruleState:
		seg.state = State(rule - ruleState)
	case r.status == 0:
		n.bySignals(r, &seg)
	default:
		seg.state = held
	}
	return seg
}

// bySignals decides where the tracker knows only open and closed (R7).
func (n *lens) bySignals(r *raw, seg *segment) {
	switch {
	case r.hasPull && slices.Contains(n.workflow.StartSignals, SignalPullRequest):
		seg.state = Active
		if r.pullRequest == "review_requested" {
			seg.state, seg.status = Waiting, nameReview
		}
	case r.signalled:
		seg.state = Active
	default:
		seg.state = New
	}
}

// What decided a state is a status of the ledger or one of these: numbers far
// above any status, so that folding never writes to the ledger.
const (
	nameOpen   = 1 << 31
	nameReview = nameOpen + 1
	nameLabel  = nameOpen + 2 // + index of the label rule
)

// statusName returns what to call that which decided a state, as of an
// instant: the label of a label rule, else the status, else "open" (R24).
func (n *lens) statusName(source, status uint32, t int64) string {
	switch {
	case status >= nameLabel:
		return n.workflow.Labels[status-nameLabel].Label
	case status == nameReview:
		return "In Review"
	case status == nameOpen:
		return "open"
	}
	return n.ledger.statusName(source, status, t)
}

func (n *lens) statusRule(status uint32) statusRule {
	for int(status) >= len(n.statuses) {
		n.statuses = append(n.statuses, make([]statusRule, len(n.ledger.values.list)-len(n.statuses))...)
	}
	if n.statuses[status] == ruleUnknown {
		n.statuses[status] = ruleUnmapped
		if s, ok := n.workflow.StateOf(n.ledger.values.list[status]); ok {
			n.statuses[status] = ruleState + statusRule(s)
		}
	}
	return n.statuses[status]
}

func (n *lens) class(r *raw) *class {
	if c, ok := n.classes[r.attributes]; ok {
		return c
	}
	l := n.ledger
	c := &class{rule: -1}
	for _, ref := range r.labels {
		c.labels = append(c.labels, l.values.list[ref].Name)
	}
	tracker := l.values.list[r.attributes.itemType]
	c.itemType = n.workflow.TypeOf(tracker, c.labels)
	for i, rule := range n.workflow.Labels {
		if contains(c.labels, rule.Label) {
			c.rule = i
			break
		}
	}
	for _, i := range n.streams {
		if n.policy.ValueStreams[i].Admits(l.texts.list[r.attributes.source], l.texts.list[r.attributes.container], tracker, c.labels) {
			c.streams = append(c.streams, i)
		}
	}
	n.classes[r.attributes] = c
	return c
}
