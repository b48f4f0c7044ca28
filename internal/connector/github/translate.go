package github

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// translator turns an issue and its complete timeline into changes.
type translator struct {
	titles bool // keep titles
	pulls  bool // mentions in pull requests are the evidence, for lack of better
}

// The values of the field STATE.
const (
	stateOpen   = "open"
	stateClosed = "closed"
)

// mention is the kind of an event that may be evidence of a pull request.
const mention = "cross-referenced"

// transferred is the kind of the event that an issue came from another repository.
const transferred = "transferred"

// sameClosing is how far the time of an issue's closing and that of the event are
// apart at most for the reason of the one to be that of the other.
const sameClosing = time.Second

// clockSlip is how far the time of an issue's closing and that of the event may
// be apart and still be of one closing.
const clockSlip = time.Minute

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

func issueKey(repo string, number int) string { return repo + "#" + strconv.Itoa(number) }

// changes returns the item's birth and then one change for each event that
// matters, oldest first.
func (t *translator) changes(is *issue, events []event) []flow.Change {
	events = is.explained(ordered(events))
	item := is.item()
	all := make([]flow.Change, 1, 1+len(events))
	all[0] = flow.Change{
		ID: item + ":created", At: is.CreatedAt.Time, Kind: flow.Created, Fields: birth(is, events), URL: is.HTMLURL,
	}
	if t.titles {
		title := is.Title
		if k := slices.IndexFunc(events, func(e event) bool { return e.Event == "renamed" && e.Rename != nil }); k >= 0 {
			title = events[k].Rename.From
		}
		all[0].Title = connector.CleanText(title, flow.MaxTitle)
	}
	v := voyage{state: stateOpen, lastClosing: lastClosing(events), moved: transfersIn(events)}
	for k := range events {
		e := &events[k]
		if e.Event == mention {
			if t.pulls {
				all = append(all, evidence(item, e)...)
			}
			continue
		}
		field, told := v.translate(is, e, k)
		if !told {
			continue
		}
		c := flow.Change{ID: item + ":" + decimal(e.ID), At: e.CreatedAt.Time, Sequence: e.ID, Kind: flow.Updated}
		if field != (flow.FieldChange{}) {
			c.Fields = []flow.FieldChange{field}
		}
		if t.titles && e.Event == "renamed" {
			c.Title = connector.CleanText(e.Rename.To, flow.MaxTitle)
		}
		all = append(all, c)
	}
	if c, missing := v.reconcile(is); missing {
		all = append(all, c)
	}
	for k := range all {
		c := &all[k]
		c.Item, c.Container, c.Key = item, v.moved.holder(c.At, c.Sequence, is.Repository), is.key()
	}
	return unique(all)
}

// ordered returns the events oldest first and each once.
func ordered(events []event) []event {
	sorted := slices.Clone(events)
	slices.SortStableFunc(sorted, func(a, b event) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt.Time), cmp.Compare(a.ID, b.ID))
	})
	return slices.CompactFunc(sorted, func(a, b event) bool { return a.ID != 0 && a.ID == b.ID })
}

// explained leaves out a closing without a reason, and what follows it, that is
// newer than what is known of the issue, whose reason it takes: the issue has
// changed since and is read again.
func (is *issue) explained(events []event) []event {
	k := slices.IndexFunc(events, func(e event) bool {
		return e.Event == "closed" && e.StateReason == "" && !is.UpdatedAt.IsZero() && e.CreatedAt.After(is.UpdatedAt.Time)
	})
	if k < 0 {
		return events
	}
	return events[:k]
}

// unique leaves out what repeats an id: a pull request may mention an issue
// more than once.
func unique(all []flow.Change) []flow.Change {
	seen := make(map[string]struct{}, len(all))
	return slices.DeleteFunc(all, func(c flow.Change) bool {
		_, again := seen[c.ID]
		seen[c.ID] = struct{}{}
		return again
	})
}

// birth returns what the item was like when it was created. Labels and
// assignments made with the issue are events of their own.
func birth(is *issue, events []event) []flow.FieldChange {
	born := []flow.FieldChange{{Field: flow.FieldState, To: flow.Value{Name: stateOpen}}}
	typ := is.Type
	for k := range events {
		if e := &events[k]; e.Type != nil || e.PrevType != nil {
			typ = e.PrevType
			break
		}
	}
	if typ != nil {
		born = append(born, flow.FieldChange{Field: flow.FieldType, To: typ.value()})
	}
	return born
}

func (t *issueType) value() flow.Value {
	if t == nil {
		return flow.Value{}
	}
	return flow.Value{ID: id(t.ID), Name: t.Name}
}

func (l *label) value() flow.Value { return flow.Value{ID: id(l.ID), Name: l.Name} }

// value is the parent's id, or its key where GitHub tells no more.
func (p *parent) value() flow.Value {
	v := flow.Value{ID: id(p.ID)}
	if p.Repository.FullName != "" && p.Number != 0 {
		v.Name = issueKey(p.Repository.FullName, p.Number)
	}
	return v
}

// id writes an id, 0 being none.
func id(n int64) string {
	if n == 0 {
		return ""
	}
	return decimal(n)
}

// matters reports whether events of a kind become changes of their own.
func matters(kind string) bool {
	switch kind {
	case "closed", "reopened", "converted_to_discussion", "labeled", "unlabeled", "assigned", "unassigned",
		"issue_type_added", "issue_type_changed", "issue_type_removed", "parent_issue_added", "parent_issue_removed",
		transferred, "renamed":
		return true
	}
	return false
}

// voyage is what is known of an issue while its events are gone through.
type voyage struct {
	state       string
	stateAt     time.Time // of the last event about it
	closings    []time.Time
	assigned    []int64 // numbers of assignees, who never leave here
	lastClosing int     // index of the last closing
	moved       transfers
}

// lastClosing returns the index of the event that closed the issue last, or -1
// where something else has decided its state since.
func lastClosing(events []event) int {
	for k := len(events) - 1; k >= 0; k-- {
		switch events[k].Event {
		case "closed":
			return k
		case "reopened", "converted_to_discussion":
			return -1
		}
	}
	return -1
}

// translate returns what an event changed; told is false where it tells nothing.
func (v *voyage) translate(is *issue, e *event, index int) (f flow.FieldChange, told bool) {
	switch e.Event {
	case "closed":
		reason := e.StateReason
		// Older events do not tell. What the issue tells is of its last closing
		// alone: such an event that is read only after the issue was closed again
		// has no reason, and none is guessed.
		if index == v.lastClosing && is.State == stateClosed && e.CreatedAt.Sub(is.ClosedAt.Time).Abs() <= sameClosing {
			reason = cmp.Or(reason, is.StateReason)
		}
		return v.turn(e, stateClosed, reason), true
	case "reopened":
		return v.turn(e, stateOpen, ""), true
	case "converted_to_discussion":
		return v.turn(e, stateClosed, "not_planned"), true
	case "labeled":
		if e.Label == nil {
			return f, false
		}
		return flow.FieldChange{Field: flow.FieldLabel, To: e.Label.value()}, true
	case "unlabeled":
		if e.Label == nil {
			return f, false
		}
		return flow.FieldChange{Field: flow.FieldLabel, From: e.Label.value()}, true
	case "assigned", "unassigned":
		return v.assign(e), true
	case "issue_type_added", "issue_type_changed", "issue_type_removed":
		return flow.FieldChange{Field: flow.FieldType, From: e.PrevType.value(), To: e.Type.value()}, true
	case "parent_issue_added":
		if e.Parent == nil {
			return f, false
		}
		return flow.FieldChange{Field: flow.FieldParent, To: e.Parent.value()}, true
	case "parent_issue_removed":
		if e.Parent == nil {
			return f, false
		}
		return flow.FieldChange{Field: flow.FieldParent, From: e.Parent.value()}, true
	case transferred:
		return flow.FieldChange{
			Field: flow.FieldContainer, From: flow.Value{Name: e.From},
			To: flow.Value{Name: v.moved.holder(e.CreatedAt.Time, e.ID, is.Repository)},
		}, true
	case "renamed":
		return f, e.Rename != nil
	}
	return f, false
}

// turn changes the state.
func (v *voyage) turn(e *event, state, reason string) flow.FieldChange {
	f := flow.FieldChange{Field: flow.FieldState, From: flow.Value{Name: v.state}, To: flow.Value{Name: state, Category: reason}}
	v.state, v.stateAt = state, e.CreatedAt.Time
	if state == stateClosed {
		v.closings = append(v.closings, v.stateAt)
	}
	return f
}

// assign says whether there is somebody, and never who (invariant I6).
func (v *voyage) assign(e *event) flow.FieldChange {
	before := len(v.assigned) > 0
	var who int64
	if e.Assignee != nil {
		who = e.Assignee.ID
	}
	at := slices.Index(v.assigned, who)
	if e.Event == "assigned" && at < 0 {
		v.assigned = append(v.assigned, who)
	} else if e.Event == "unassigned" && at >= 0 {
		v.assigned = slices.Delete(v.assigned, at, at+1)
	}
	return flow.FieldChange{
		Field: flow.FieldAssigned,
		From:  flow.Value{Name: strconv.FormatBool(before)}, To: flow.Value{Name: strconv.FormatBool(len(v.assigned) > 0)},
	}
}

// reconcile returns the change of state that the issue itself tells of and no
// event does, so that no number depends on a missing event. A timeline that was
// read later than the issue may tell more, which is no contradiction.
func (v *voyage) reconcile(is *issue) (flow.Change, bool) {
	closed := is.ClosedAt.Time
	switch {
	case is.State == stateClosed && !closed.IsZero() && !v.closedAt(closed) &&
		(v.state != stateClosed && !closed.Before(v.stateAt) || closed.After(v.stateAt.Add(clockSlip))):
		return flow.Change{
			ID: is.item() + ":closed:" + decimal(closed.Unix()), At: closed, Kind: flow.Updated, Fields: []flow.FieldChange{{
				Field: flow.FieldState, From: flow.Value{Name: stateOpen}, To: flow.Value{Name: stateClosed, Category: is.StateReason},
			}},
		}, true
	case is.State == stateOpen && v.state == stateClosed && v.stateAt.Before(is.UpdatedAt.Time):
		// When it was reopened is not told anywhere.
		return flow.Change{
			ID: is.item() + ":reopened:" + decimal(v.stateAt.Unix()), At: is.UpdatedAt.Time, Kind: flow.Updated, Approximate: true,
			Fields: []flow.FieldChange{{
				Field: flow.FieldState, From: flow.Value{Name: stateClosed}, To: flow.Value{Name: stateOpen},
			}},
		}, true
	}
	return flow.Change{}, false
}

// closedAt reports whether an event tells of a closing at an instant. Where the
// timeline goes on from there it was read later than the issue.
func (v *voyage) closedAt(at time.Time) bool {
	return slices.ContainsFunc(v.closings, func(c time.Time) bool { return c.Sub(at).Abs() <= sameClosing })
}

// evidence returns what a mention in a pull request tells.
func evidence(item string, e *event) []flow.Change {
	if e.Source == nil || e.Source.Issue == nil || e.Source.Issue.PullRequest == nil {
		return nil
	}
	pr := e.Source.Issue
	fact := func(name, suffix string, at time.Time) flow.Change {
		return flow.Change{
			ID: item + ":pr:" + pr.item() + ":" + name + suffix, At: at, Kind: flow.Updated,
			Fields: []flow.FieldChange{{Field: flow.FieldPullRequest, To: flow.Value{ID: pr.item(), Name: name}}},
		}
	}
	opened := pr.CreatedAt.Time
	if opened.IsZero() {
		opened = e.CreatedAt.Time
	}
	all := []flow.Change{fact("opened", "", opened)}
	if merged := pr.PullRequest.MergedAt.Time; !merged.IsZero() {
		all = append(all, fact("merged", ":"+decimal(merged.Unix()), merged))
	} else if closed := pr.ClosedAt.Time; !closed.IsZero() {
		all = append(all, fact("closed", ":"+decimal(closed.Unix()), closed))
	}
	return all
}
