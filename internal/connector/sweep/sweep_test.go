package sweep_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/sweep"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A tracker lists two at a time. Between requests meanwhile may change it.
type tracker struct {
	now       time.Time
	items     map[int][]int64 // updates of each
	last      int
	reads     int
	meanwhile func()
	fails     func() bool
}

var errDown = errors.New("the tracker is down")

func (tr *tracker) List(_ context.Context, _ string, since time.Time, from int) (sweep.Page, error) {
	tr.meanwhile()
	if tr.fails() {
		return sweep.Page{}, errDown
	}
	p := sweep.Page{Now: tr.now}
	for n := from; n <= tr.last; n++ {
		if updates := tr.items[n]; len(updates) > 0 && slices.Max(updates) >= since.Unix() {
			if p.Total++; len(p.Rows) < 2 {
				p.Rows = append(p.Rows, sweep.Row{Number: n, Updated: time.Unix(slices.Max(updates), 0), Item: connector.Item{ID: fmt.Sprint(n)}})
			}
		}
	}
	return p, nil
}

func (tr *tracker) Read(_ context.Context, number int) (changes []flow.Change, err error) {
	tr.meanwhile()
	if tr.fails() {
		return nil, errDown
	}
	if tr.reads++; len(tr.items[number]) == 0 {
		return nil, fmt.Errorf("read item: %w", sweep.ErrGone)
	}
	for i := range tr.items[number] {
		changes = append(changes, flow.Change{ID: fmt.Sprint(number, ":", i), Item: fmt.Sprint(number)})
	}
	return changes, nil
}

// TestPollLosesNothing lets anything happen between any two requests: births,
// updates, some within one second and some that come to sight late, deletions,
// failures of tracker and log, restarts.
func TestPollLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tr := &tracker{now: time.Unix(1_800_000_000, 0), items: map[int][]int64{}}
		chance := func(percent int) bool { return rapid.IntRange(0, 99).Draw(t, "chance") < percent }
		happen := func() {
			at := tr.now.Add(-time.Duration(rapid.SampledFrom([]int{0, 0, 0, 50}).Draw(t, "late")) * time.Second).Unix()
			switch n := rapid.IntRange(1, tr.last+1).Draw(t, "item"); {
			case n > tr.last:
				tr.last = n
				tr.items[n] = []int64{at}
			case chance(10):
				delete(tr.items, n)
			case len(tr.items[n]) > 0:
				if at <= slices.Max(tr.items[n]) { // updates of one item follow each other
					at = tr.now.Unix()
				}
				tr.items[n] = append(tr.items[n], at)
			}
		}
		busy, failing := true, true
		tr.meanwhile = func() {
			if busy && chance(30) {
				tr.now = tr.now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 0, 1, 100}).Draw(t, "seconds")) * time.Second)
				happen()
			}
		}
		tr.fails = func() bool { return failing && chance(5) }
		for range rapid.IntRange(0, 12).Draw(t, "items") {
			tr.now = tr.now.Add(time.Duration(rapid.SampledFrom([]int{0, 0, 300}).Draw(t, "pause")) * time.Second)
			happen()
		}
		var cursor connector.Cursor
		told := map[string]bool{}
		poll := func() error {
			return sweep.Poll(t.Context(), tr, []string{"a", "b"}, cursor, func(b connector.Batch) error {
				if len(b.Changes) == 0 && bytes.Equal(b.Cursor, cursor) {
					t.Fatalf("a batch with nothing new, cursor %s", cursor)
				}
				if failing && chance(5) {
					return errDown
				}
				for _, c := range b.Changes {
					told[c.ID] = true
				}
				cursor = b.Cursor
				return nil
			})
		}
		for range rapid.IntRange(1, 6).Draw(t, "polls") {
			if err := poll(); err != nil && !errors.Is(err, errDown) {
				t.Fatal(err)
			}
			tr.now = tr.now.Add(time.Duration(rapid.SampledFrom([]int{0, 1, 60, 600}).Draw(t, "pause")) * time.Second)
		}
		busy, failing = false, false
		tr.now = tr.now.Add(3 * time.Second)
		for range 2 { // a pass that was interrupted, and one after it
			if err := poll(); err != nil {
				t.Fatal(err)
			}
		}
		for n, updates := range tr.items {
			for i := range updates {
				if id := fmt.Sprint(n, ":", i); !told[id] {
					t.Fatalf("%s is lost, cursor %s", id, cursor)
				}
			}
		}
		tr.reads = 0
		if err := poll(); err != nil || tr.reads > 0 {
			t.Fatalf("an idle poll reads %d items, %v", tr.reads, err)
		}
	})
}

func quiet(items map[int][]int64, last int) *tracker {
	return &tracker{now: time.Unix(1_800_000_000, 0), items: items, last: last, meanwhile: func() {}, fails: func() bool { return false }}
}

// TestStillClock updates an item that was read, while the clock stands or is not
// told: the cursor stays what it was.
func TestStillClock(t *testing.T) {
	const at = 1_800_000_000
	for _, now := range []time.Time{{}, time.Unix(at, 0)} {
		tr := quiet(map[int][]int64{1: {at}}, 1)
		tr.now = now
		var cursor connector.Cursor
		told := map[string]bool{}
		poll := func() {
			if err := sweep.Poll(t.Context(), tr, []string{"a"}, cursor, func(b connector.Batch) error {
				for _, c := range b.Changes {
					told[c.ID] = true
				}
				cursor = b.Cursor
				return nil
			}); err != nil {
				t.Fatal(err)
			}
		}
		poll()
		tr.items[1] = append(tr.items[1], at)
		poll()
		if !told["1:1"] {
			t.Errorf("at %s: an update of the same second is lost", now)
		}
	}
}

func TestCensus(t *testing.T) {
	tr := quiet(map[int][]int64{1: {5}, 2: {9}, 7: {1}, 8: {1}, 9: {3}}, 9)
	var live []string
	err := sweep.Census(t.Context(), tr, []string{"a"}, func(i connector.Item) { live = append(live, i.ID) })
	if want := []string{"1", "2", "7", "8", "9"}; err != nil || !slices.Equal(live, want) {
		t.Errorf("got %q, %v, want %q", live, err, want)
	}
}

// A stubborn tracker answers what it likes.
type stubborn struct {
	*tracker
	page sweep.Page
}

func (s stubborn) List(context.Context, string, time.Time, int) (sweep.Page, error) {
	return s.page, nil
}

func TestListsWithoutEnd(t *testing.T) {
	tr := quiet(map[int][]int64{1: {5}, 2: {5}}, 2)
	for name, numbers := range map[string][]int{"the same page again": {1, 2}, "out of order": {2, 1}} {
		p := sweep.Page{Total: 99}
		for _, n := range numbers {
			p.Rows = append(p.Rows, sweep.Row{Number: n, Updated: time.Unix(5, 0)})
		}
		err := sweep.Poll(t.Context(), stubborn{tr, p}, []string{"a"}, nil, func(connector.Batch) error { return nil })
		if err == nil || !strings.Contains(err.Error(), "out of order") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestCursorIsBounded has a hundred thousand items updated at once.
func TestCursorIsBounded(t *testing.T) {
	rows := []sweep.Row{}
	for n := range 100_000 {
		rows = append(rows, sweep.Row{Number: 9_000_000 + n, Updated: time.Unix(1_799_999_990, 0)})
	}
	tr := stubborn{quiet(nil, 0), sweep.Page{Rows: rows, Total: len(rows), Now: time.Unix(1_800_000_000, 0)}}
	if err := sweep.Poll(t.Context(), tr, []string{"a"}, nil, func(b connector.Batch) error {
		if n := len(b.Cursor); n > connector.MaxCursor || n < 10_000 {
			t.Errorf("a cursor of %d bytes", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// TestLate: what was updated before the newest that was read, and comes to sight
// only after it, is read.
func TestLate(t *testing.T) {
	tr := quiet(map[int][]int64{1: {1_800_000_000 - 10}}, 1)
	var cursor connector.Cursor
	var told []string
	for n := range 2 {
		if err := sweep.Poll(t.Context(), tr, []string{"a"}, cursor, func(b connector.Batch) error {
			for _, c := range b.Changes {
				told = append(told, c.ID)
			}
			cursor = b.Cursor
			return nil
		}); err != nil {
			t.Fatalf("poll %d: %v", n, err)
		}
		tr.items[2], tr.last = []int64{1_800_000_000 - 100}, 2
		tr.now = tr.now.Add(time.Minute)
	}
	if want := []string{"1:0", "2:0"}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
