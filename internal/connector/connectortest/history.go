package connectortest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	diff "github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func (k *kit) backfill() {
	k.start(time.UTC)
	k.world()
	k.expect(k.all(Options{}).changes)
}

func (k *kit) empty() {
	k.start(time.UTC)
	r := k.all(k.few())
	k.expect(r.changes)
	k.move(k.create(0))
	k.expect(k.union(r, k.ok(k.poll(k.source(k.few()), r.cursor))))
}

func (k *kit) reread() {
	k.start(time.UTC)
	k.world()
	s := k.source(k.few())
	first := k.ok(k.poll(s, nil))
	for name, again := range map[string]*reading{"another source": k.all(k.few()), "the same source": k.ok(k.poll(s, nil))} {
		if d := diff.Diff(first.facts, again.facts); d != "" {
			k.fail("want the same facts when everything is read again by %s, got (-first +second):\n%s", name, d)
		}
	}
}

func (k *kit) oneSecond() {
	k.start(time.UTC)
	var items []string
	k.step = 0
	for n := range 3 * k.h.pageSize() {
		items = append(items, k.create(n))
	}
	for range 4 {
		for _, item := range items {
			k.move(item)
		}
	}
	for _, o := range []Options{{}, k.few()} {
		s := k.source(o)
		r := k.ok(k.poll(s, nil))
		k.expect(k.union(r, k.ok(k.poll(k.source(o), r.cursor))))
		for _, item := range items { // in the second in which it was read
			k.move(item)
		}
		if problems := k.compare(k.union(r, k.ok(k.poll(s, r.cursor)))); len(problems) > 0 {
			k.fail("items were moved once more in the second of the last poll, which has read them (what is as old as the tracker's clock may change without another time of update: read it again):\n%s", strings.Join(problems, "\n"))
		}
	}
}

// changeWhilePaging lets something happen to an item that was read already, or
// is about to be, after each of the requests of a backfill.
func (k *kit) changeWhilePaging() {
	changes := map[string]func(item string){"moved": k.move}
	if k.has(Delete) {
		changes["deleted"] = k.delete
	}
	items := func() {
		k.start(time.UTC)
		for range 7 * k.h.pageSize() {
			k.create(0)
		}
	}
	items()
	all := k.all(k.few())
	requests := min(k.wire.count(), 10)
	if !k.has(HTTP) {
		requests = len(all.cursors)
	}
	for name, change := range changes {
		for at := range requests {
			items()
			item := k.items[0]
			s := k.source(k.few())
			first := new(reading)
			if k.has(HTTP) {
				k.wire.after = afterRequest(at+1, func() { change(item) })
				first = k.ok(k.poll(s, nil))
			} else {
				first = k.ok(k.pollWith(k.Context(), s, nil, func(n int) error {
					if n == at {
						change(item)
					}
					return nil
				}))
			}
			later := k.ok(k.poll(k.source(k.few()), first.cursor))
			if problems := k.compare(k.union(first, later)); len(problems) > 0 {
				k.fail("the first of %d items was %s after request %d, and then:\n%s", len(k.items), name, at+1, strings.Join(problems, "\n"))
			}
		}
	}
}

func (k *kit) pageSizeOne() {
	k.start(time.UTC)
	k.world()
	r := k.all(k.single())
	k.expect(r.changes)
	k.move(k.create(1))
	k.move(k.items[0])
	k.expect(k.union(r, k.ok(k.poll(k.source(k.single()), r.cursor))))
}

func (k *kit) longHistory() {
	k.start(time.UTC)
	item := k.create(0)
	k.create(1)
	for range 120 {
		k.move(item)
	}
	for _, o := range []Options{{}, k.few()} {
		k.expect(k.all(o).changes)
	}
}

func (k *kit) moved() {
	k.start(time.UTC)
	k.create(0)
	item := k.create(0)
	k.move(item)
	before := k.all(Options{})
	var from, to string
	earliest, latest := k.happens(func(at time.Time) { from, to = k.tracker.Relocate(at, item) })
	k.move(item)
	after := k.all(Options{})
	k.expect(after.changes)
	r := k.ok(k.poll(k.source(Options{}), before.cursor))
	for id := range before.facts {
		if _, ok := after.facts[id]; !ok {
			k.fail("fact %q has another id once the item has moved", id)
		}
	}
	is := func(v flow.Value, container string) bool { return v.ID == container || v.Name == container }
	told := false
	for _, c := range r.changes {
		if c.Item != item {
			continue
		}
		if c.Kind == flow.Created && c.Container != from {
			k.fail("want the item born in container %q, got %q", from, c.Container)
		}
		for _, f := range c.Fields {
			if f.Field == flow.FieldContainer && is(f.From, from) && is(f.To, to) && !c.At.Before(earliest) && !c.At.After(latest) {
				told = true
				if c.Container != from && c.Container != to {
					k.fail("want the move to be in one of the containers %q and %q, got %q", from, to, c.Container)
				}
			}
		}
	}
	if !told {
		k.fail("item %s moved from container %q to %q at %s, and the poll after it does not tell", item, from, to, earliest.Format(time.RFC3339))
	}
}

func (k *kit) renamed() {
	k.start(time.UTC)
	for n := range 4 {
		item := k.create(n)
		for range n {
			k.move(item)
		}
	}
	before := k.all(Options{})
	old := k.states[1]
	name := k.tracker.RenameStatus(old)
	if name.Name == old.Name || name.ID != old.ID {
		k.Fatalf("Tracker.RenameStatus must return the status with its id and another name, got %s", step(old, name))
	}
	k.states[1] = name
	// A tracker with ids may show a former status under its name of then or now.
	anyName := func(v *flow.Value) {
		if *v == old && old.ID != "" {
			v.Name = ""
		}
	}
	for n := range k.script {
		anyName(&k.script[n].from)
		anyName(&k.script[n].to)
	}
	for item, s := range k.status {
		if s == old {
			k.status[item] = name
		}
	}
	after := k.all(Options{})
	k.expect(after.changes)
	for id, c := range before.facts {
		if _, ok := after.facts[id]; !ok {
			k.fail("fact %q of item %s has another id once a status was renamed", id, c.Item)
		}
	}
	if later := k.ok(k.poll(k.source(Options{}), before.cursor)); len(later.changes) > 0 {
		for id := range later.facts {
			if _, known := before.facts[id]; !known {
				k.fail("renaming a status is no fact about an item, and %q is told of item %s", id, later.facts[id].Item)
			}
		}
	}
	for _, item := range k.items {
		k.move(item)
		if n := len(k.script) - 1; old.ID != "" && k.script[n].from == name {
			k.script[n].from.Name = ""
		}
	}
	k.expect(k.all(Options{}).changes)
}

func (k *kit) deleted() {
	k.start(time.UTC)
	k.world()
	before := k.all(k.few())
	k.census(k.source(k.few()))
	for _, n := range []int{len(k.items) - 1, 3, 0} {
		k.delete(k.items[n])
		k.census(k.source(k.few()))
	}
	k.ok(k.poll(k.source(k.few()), before.cursor))
	k.expect(k.all(k.few()).changes)
}

// census compares the items that exist with those that are listed.
func (k *kit) census(s connector.Source) {
	k.Helper()
	live := map[string]connector.Item{}
	if err := s.(connector.Censor).Census(k.Context(), func(i connector.Item) { live[i.ID] = i }); err != nil {
		k.Fatalf("want Census to succeed, got %v", err)
	}
	for id, i := range live {
		if !slices.Contains(k.items, id) {
			k.fail("the census lists item %s, which does not exist: Item.ID must be that of the changes, and only what exists counts", id)
		}
		if want := k.status[id]; k.h.field() == flow.FieldStatus && !i.Status.IsZero() && !same(want, i.Status) {
			k.fail("the census tells the status of item %s as %+v, want %+v", id, i.Status, want)
		}
	}
	for _, item := range k.items {
		if _, ok := live[item]; !ok {
			k.fail("the census does not list item %s, which exists: it would be reported as deleted", item)
		}
	}
}

func (k *kit) zones() {
	for _, name := range []string{"Asia/Kolkata", "America/St_Johns"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			k.Fatal(err)
		}
		k.start(zone)
		if k.tracker.Zone != zone {
			k.fail("want a tracker that shows times in %s, as Start was told, got %s", zone, k.tracker.Zone)
		}
		k.world()
		readings := []*reading{k.all(k.few())}
		k.expect(readings[0].changes)
		for n := range 3 {
			k.now = k.now.Add(time.Hour)
			k.move(k.create(n))
			k.move(k.items[n])
			readings = append(readings, k.ok(k.poll(k.source(k.few()), readings[n].cursor)))
			if problems := k.compare(k.union(readings...)); len(problems) > 0 {
				k.fail("the user's zone is %s:\n%s", name, strings.Join(problems, "\n"))
			}
		}
	}
}

// people looks for those of the tracker in all that is told.
func (k *kit) people() {
	k.start(time.UTC)
	k.world()
	s := k.source(Options{})
	shown := false
	k.wire.after = func(_ int, _ *http.Request, resp *http.Response) error {
		return rewrite(resp, func(body []byte) io.Reader {
			shown = shown || slices.ContainsFunc(k.h.Private, func(p string) bool { return bytes.Contains(body, []byte(p)) })
			return bytes.NewReader(body)
		})
	}
	for _, c := range k.ok(k.poll(s, nil)).changes {
		text, err := json.Marshal(c)
		if err != nil {
			k.Fatal(err)
		}
		for _, private := range append([]string{k.h.Token}, k.h.Private...) {
			if private != "" && strings.Contains(string(text), private) {
				k.fail("change %q holds %q, which must never be told", c.ID, private)
			}
		}
	}
	if !shown && k.has(HTTP) {
		k.Fatal("no answer of the tracker shows any of Harness.Private: let the fake show people as the tracker does")
	}
}
