package connectortest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A kit runs one case: it makes things happen in a tracker, notes what a source
// has to tell of them, and compares.
type kit struct {
	testing.TB
	h     *Harness
	cause string

	tracker *Tracker
	wire    *wire // of the newest source
	now     time.Time
	step    time.Duration // between two things that happen
	script  []fact
	states  []flow.Value          // the statuses as they are called now
	status  map[string]flow.Value // of each item, now
	items   []string              // in order of birth
	gone    map[string]bool       // items that were deleted
}

// A fact is something that happened, and so has to be told.
type fact struct {
	item             string
	kind             flow.Kind
	field            flow.Field
	from, to         flow.Value
	earliest, latest time.Time
}

func (f fact) String() string {
	at := f.earliest.Format(time.RFC3339)
	if !f.latest.Equal(f.earliest) {
		at += " to " + f.latest.Format(time.RFC3339)
	}
	return fmt.Sprintf("%s of item %s at %s: %s %s", f.kind, f.item, at, f.field, step(f.from, f.to))
}

func step(from, to flow.Value) string {
	name := func(v flow.Value) string {
		if v.IsZero() {
			return "nothing"
		}
		return fmt.Sprintf("%q", strings.Join(slices.DeleteFunc([]string{v.ID, v.Name, v.Category}, func(s string) bool { return s == "" }), "/"))
	}
	return name(from) + " → " + name(to)
}

// start begins anew with a tracker without items.
func (k *kit) start(zone *time.Location) {
	k.Helper()
	k.tracker = k.h.Start(k.TB, zone)
	if k.tracker == nil || k.tracker.New == nil || k.tracker.Create == nil || k.tracker.Move == nil {
		k.Fatal("Harness.Start must return a Tracker with New, Create and Move")
	}
	k.now = time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)
	k.step = time.Minute
	k.script, k.items, k.gone = nil, nil, map[string]bool{}
	k.status, k.states = map[string]flow.Value{}, slices.Clone(k.h.Statuses)
}

// happens calls f with the next instant and returns when it happened at the
// earliest and at the latest.
func (k *kit) happens(f func(at time.Time)) (earliest, latest time.Time) {
	if !k.h.Live {
		k.now = k.now.Add(k.step)
		f(k.now)
		return k.now, k.now
	}
	before := time.Now().Truncate(max(1, k.h.Precision))
	f(before)
	return before.UTC(), time.Now().UTC()
}

// create makes an item in the status of a number and returns its id.
func (k *kit) create(status int) string {
	k.Helper()
	if !k.has(Births) {
		status = 0
	}
	s := k.states[status%len(k.states)]
	var item string
	earliest, latest := k.happens(func(at time.Time) { item = k.tracker.Create(at, s) })
	if item == "" {
		k.Fatal("Tracker.Create must return the id that the source tells as the change's Item")
	}
	k.items = append(k.items, item)
	k.status[item] = s
	k.script = append(k.script, fact{item, flow.Created, k.h.field(), flow.Value{}, s, earliest, latest})
	return item
}

// move gives an item the next of the statuses, and after the last one the first.
func (k *kit) move(item string) {
	k.Helper()
	n := slices.Index(k.states, k.status[item])
	to := k.states[(n+1)%len(k.states)]
	earliest, latest := k.happens(func(at time.Time) { k.tracker.Move(at, item, to) })
	k.script = append(k.script, fact{item, flow.Updated, k.h.field(), k.status[item], to, earliest, latest})
	k.status[item] = to
}

// world makes some pages of items: untouched, moved, done, reopened, and begun
// in each of the statuses.
func (k *kit) world() {
	k.Helper()
	for n := range 7 * k.h.pageSize() {
		item := k.create(n)
		for range n % 7 {
			k.move(item)
		}
	}
}

// delete deletes an item and takes it out of the script: what is told of it from
// then on is the tracker's affair.
func (k *kit) delete(item string) {
	k.happens(func(at time.Time) { k.tracker.Delete(at, item) })
	k.gone[item] = true
	k.script = slices.DeleteFunc(k.script, func(f fact) bool { return f.item == item })
	k.items = slices.DeleteFunc(k.items, func(i string) bool { return i == item })
}

// few are options that make several pages of a world.
func (k *kit) few() Options { return Options{PageSize: 2 * k.h.pageSize()} }

// single are options for the smallest pages.
func (k *kit) single() Options { return Options{PageSize: k.h.pageSize()} }

// has reports whether the tracker has an ability.
func (k *kit) has(a Ability) bool { return k.h.Without[a] == "" }

// expect compares what was told, in the order of facts, with the script.
func (k *kit) expect(changes []flow.Change) {
	k.Helper()
	if problems := k.compare(changes); len(problems) > 0 {
		k.fail("what is told is not what happened:\n%s", strings.Join(problems, "\n"))
	}
}

// compare compares what was told of the items that exist with the script.
func (k *kit) compare(changes []flow.Change) (problems []string) {
	told := slices.DeleteFunc(slices.Clone(changes), func(c flow.Change) bool { return k.gone[c.Item] })
	return compare(k.script, told, k.h.field())
}

// fail ends the case with what is broken and the usual cause.
func (k *kit) fail(format string, args ...any) {
	k.Helper()
	k.Fatalf(format+"\nThe usual cause: %s.", append(args, k.cause)...)
}

// shown bounds the problems of one comparison that are listed.
const shown = 5

// compare returns what is missing from the changes, what is too much, and what
// is out of order, for the births and a field.
func compare(script []fact, changes []flow.Change, field flow.Field) (problems []string) {
	byItem := map[string][]flow.Change{}
	for _, c := range changes {
		byItem[c.Item] = append(byItem[c.Item], c)
	}
	var items []string
	wanted := map[string][]fact{}
	for _, f := range script {
		if wanted[f.item] == nil {
			items = append(items, f.item)
		}
		wanted[f.item] = append(wanted[f.item], f)
	}
	for _, item := range items {
		problems = append(problems, compareItem(wanted[item], byItem[item], field)...)
	}
	for item := range byItem {
		if wanted[item] == nil {
			problems = append(problems, fmt.Sprintf("item %s was never made; Tracker.Create must return the ids that are told", item))
		}
	}
	if more := len(problems) - shown; more > 0 {
		problems = append(problems[:shown], fmt.Sprintf("and %d more", more))
	}
	return problems
}

func compareItem(script []fact, changes []flow.Change, field flow.Field) (problems []string) {
	slices.SortStableFunc(changes, func(a, b flow.Change) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.ID, b.ID))
	})
	var told []fact
	births := 0
	for _, c := range changes {
		if c.Kind == flow.Created || c.Kind == flow.Observed {
			births++
		}
		for _, f := range c.Fields {
			if f.Field == field {
				told = append(told, fact{c.Item, c.Kind, f.Field, f.From, f.To, c.At, c.At})
			}
		}
	}
	item := script[0].item
	if births != 1 {
		problems = append(problems, fmt.Sprintf("item %s: want exactly one CREATED, got %d births", item, births))
	}
	used := make([]bool, len(told))
	inOrder, last := true, -1
	for _, want := range script {
		n := slices.IndexFunc(told, func(got fact) bool { return want.is(got) })
		for n >= 0 && used[n] {
			next := slices.IndexFunc(told[n+1:], func(got fact) bool { return want.is(got) })
			if next < 0 {
				n = -1
				break
			}
			n += 1 + next
		}
		if n < 0 {
			problems = append(problems, "missing: "+want.String()+toldOf(told))
			continue
		}
		used[n] = true
		inOrder, last = inOrder && n > last, n
	}
	for n, got := range told {
		if !used[n] {
			problems = append(problems, "never happened, or is told twice: "+got.String())
		}
	}
	if len(problems) == 0 && !inOrder {
		problems = append(problems, fmt.Sprintf("item %s: order of At, Sequence, ID is not that of what happened%s", item, toldOf(told)))
	}
	return problems
}

// toldOf lists what was told instead, as far as it is short.
func toldOf(told []fact) string {
	if len(told) == 0 {
		return "; of this item nothing was told"
	}
	var text strings.Builder
	text.WriteString("; of this item was told")
	for n, f := range told {
		if n == shown {
			fmt.Fprintf(&text, "\n    and %d more", len(told)-n)
			break
		}
		text.WriteString("\n    " + f.String())
	}
	return text.String()
}

// is reports whether what was told is what happened.
func (f fact) is(told fact) bool {
	return f.item == told.item && f.kind == told.kind && f.field == told.field &&
		!told.earliest.Before(f.earliest) && !told.latest.After(f.latest) &&
		same(f.from, told.from) && same(f.to, told.to) && told.to.Category == cmp.Or(f.to.Category, told.to.Category)
}

// same compares ids and names where they are wanted. A tracker need not tell the
// category of a former status.
func same(want, got flow.Value) bool {
	return want.IsZero() == got.IsZero() && got.ID == cmp.Or(want.ID, got.ID) && got.Name == cmp.Or(want.Name, got.Name)
}

// source returns a new source behind a new wire.
func (k *kit) source(o Options) connector.Source {
	k.Helper()
	k.wire = &wire{}
	o.Wrap = k.wire.wrap
	if o.Logger == nil {
		o.Logger = discard
	}
	s := k.tracker.New(o)
	if s == nil {
		k.Fatal("Tracker.New must return a source")
	}
	return s
}
