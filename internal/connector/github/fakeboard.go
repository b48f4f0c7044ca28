package github

import (
	"fmt"
	"slices"
	"time"
)

// fakeBoard is a project of the kind that GitHub calls Projects v2. Its only
// field is Status.
type fakeBoard struct {
	id      int64
	field   int64
	owner   string
	number  int
	options []*fakeOption
	cards   []*fakeCard
}

type fakeOption struct{ id, name string }

// fakeCard is an item of a board.
type fakeCard struct {
	id         int64
	issue      *fakeIssue
	board      *fakeBoard
	option     *fakeOption // nil: no status
	added, set time.Time   // set: when the status became what it is
}

func (b *fakeBoard) node() string      { return fakeNodeID("PVT", b.id) }
func (b *fakeBoard) fieldNode() string { return fakeNodeID("PVTSSF", b.field) }
func (c *fakeCard) node() string       { return fakeNodeID("PVTI", c.id) }

func (c *fakeCard) status() string {
	if c.option == nil {
		return ""
	}
	return c.option.name
}

// AddProject adds a board of an organisation with the options of its field
// Status.
func (f *Fake) AddProject(owner string, number int, options ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := &fakeBoard{id: f.newID(), field: f.newID(), owner: owner, number: number}
	for _, name := range options {
		b.options = append(b.options, &fakeOption{id: fmt.Sprintf("%08x", f.newID()), name: name})
	}
	f.boards = append(f.boards, b)
	f.nodes[b.node()] = b
}

// RenameStatus renames an option of the first board. Events keep the old name.
func (f *Fake) RenameStatus(name, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.boards[0].option(name).name = to
}

// SetStatus moves an issue to an option of the first board, or to none, and
// puts it on the board before where it is not there. The issue's time of update
// stays. Most moves are not recorded in the timeline of a real issue; recorded
// says whether this one is.
func (f *Fake) SetStatus(at time.Time, id, option string, recorded bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setStatus(at, f.boards[0], f.issue(id), option, recorded)
}

// SetStatusOn is SetStatus on the board of a number.
func (f *Fake) SetStatusOn(at time.Time, number int, id, option string, recorded bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setStatus(at, f.board(number), f.issue(id), option, recorded)
}

func (f *Fake) setStatus(at time.Time, b *fakeBoard, i *fakeIssue, option string, recorded bool) {
	at = at.Truncate(time.Second)
	k := slices.IndexFunc(i.cards, func(c *fakeCard) bool { return c.board == b })
	if k < 0 {
		c := &fakeCard{id: f.newID(), issue: i, board: b, added: at, set: at}
		i.cards, b.cards, k = append(i.cards, c), append(b.cards, c), len(i.cards)
		f.nodes[c.node()] = c
		f.add(at, i, fakeEvent{kind: "added_to_project_v2", actor: fakeBot, board: b})
		f.hookCard(at, "created", c, nil)
	}
	c := i.cards[k]
	was := c.option
	if c.option = nil; option != "" {
		c.option = b.option(option)
	}
	if c.option == was {
		return
	}
	c.set = at
	if recorded {
		from := ""
		if was != nil {
			from = was.name
		}
		f.add(at, i, fakeEvent{kind: "project_v2_item_status_changed", board: b, from: from, to: c.status()})
	}
	f.hookCard(at, "edited", c, object{"changes": object{"field_value": object{
		"field_node_id": b.fieldNode(), "field_type": "single_select", "field_name": "Status",
		"project_number": b.number, "from": showOption(was), "to": showOption(c.option),
	}}})
}

// RemoveFromProject takes an issue off the first board.
func (f *Fake) RemoveFromProject(at time.Time, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, b := f.issue(id), f.boards[0]
	k := slices.IndexFunc(i.cards, func(c *fakeCard) bool { return c.board == b })
	if k < 0 {
		panic(fmt.Sprintf("fake github: %s is not on the board", i.key()))
	}
	c := i.cards[k]
	i.cards = slices.Delete(i.cards, k, k+1)
	b.remove(c)
	delete(f.nodes, c.node())
	f.add(at, i, fakeEvent{kind: "removed_from_project_v2", board: b})
	f.hookCard(at, "deleted", c, nil)
}

func (b *fakeBoard) remove(c *fakeCard) {
	b.cards = slices.DeleteFunc(b.cards, func(have *fakeCard) bool { return have == c })
}

func (b *fakeBoard) option(name string) *fakeOption {
	k := slices.IndexFunc(b.options, func(o *fakeOption) bool { return o.name == name })
	if k < 0 {
		panic(fmt.Sprintf("fake github: no status %q on the board", name))
	}
	return b.options[k]
}

func (f *Fake) board(number int) *fakeBoard {
	k := slices.IndexFunc(f.boards, func(b *fakeBoard) bool { return b.number == number })
	if k < 0 {
		panic(fmt.Sprintf("fake github: no project %d", number))
	}
	return f.boards[k]
}

func showOption(o *fakeOption) any {
	if o == nil {
		return nil
	}
	return object{"id": o.id, "name": o.name, "color": "GRAY", "description": ""}
}
