// Package sweep reads trackers that can list items by number and by the time of
// their last update: it holds what is hard about polling one, once.
//
// A pass lists what was updated since some time by number, page by page, each
// from the number after the last one on. Updates and deletions meanwhile move no
// item to another page, many updates in one second are nothing special, and what
// is updated behind a pass is left to the next one. Passes overlap, as an update
// is dated before its transaction ends and so may come to sight later than one
// with a younger date; what was read already is not read again. Nothing is
// stored but the cursor.
package sweep

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A Tracker is what a sweep asks, from one goroutine.
type Tracker interface {
	// List returns the first items of a scope, by number from one on, of those
	// updated at an instant or later. More than those do no harm.
	List(ctx context.Context, scope string, since time.Time, from int) (Page, error)
	// Read returns all changes of an item, or an error that wraps [ErrGone].
	Read(ctx context.Context, number int) ([]flow.Change, error)
}

// ErrGone says that an item that was listed is not there any more.
var ErrGone = errors.New("item is gone")

// A Page is the beginning of a list.
type Page struct {
	Rows  []Row     // by number, rising
	Total int       // rows of the list, those of this page included
	Now   time.Time // by the tracker's clock; zero: unknown, and everything is read each time
}

// A Row is an item as a list shows it.
type Row struct {
	Number  int
	Updated time.Time
	Item    connector.Item // for a census
}

func (p *Page) last() bool { return len(p.Rows) == 0 || len(p.Rows) >= p.Total }

const (
	overlap = 120  // seconds that an update may stay out of sight
	settled = 2    // seconds after which an item cannot have been updated again with the same date
	maxSeen = 2500 // updates of all windows, which keeps a cursor below connector.MaxCursor
)

// A cursor has a window for each scope that was ever read: one that is added
// later is read from the beginning.
type cursor struct {
	Version int               `json:"v"`
	Windows map[string]window `json:"windows"`
}

// A window is how far a pass has come. Times are in Unix seconds.
type window struct {
	Since  int64         `json:"since"`  // what the pass lists was updated then or later
	Next   int           `json:"next"`   // number to go on from; 0: the pass begins
	Began  int64         `json:"began"`  // by the tracker's clock
	Newest int64         `json:"newest"` // update that was read
	Seen   map[int]int64 `json:"seen"`   // updates that were read and will be listed again, by item
}

// Poll reads what was updated since the cursor and emits it page by page, with
// what was read of a page before an error too: a tight limit slows it down and
// does not stop it. See [connector.Source] for the rest.
func Poll(ctx context.Context, t Tracker, scopes []string, from connector.Cursor, emit func(connector.Batch) error) error {
	at := cursor{Version: 1, Windows: map[string]window{}}
	if len(from) > 0 {
		at = cursor{}
		if err := json.Unmarshal(from, &at); err != nil || at.Version != 1 || at.Windows == nil {
			return fmt.Errorf("%w: it is not of version 1", connector.ErrCursor)
		}
	}
	done := 0
	for _, scope := range scopes {
		w := at.Windows[scope]
		err := list(ctx, t, scope, w.Since, w.Next, func(p Page) error {
			changes, err := w.read(ctx, t, p, maxSeen/max(len(scopes), len(at.Windows)))
			at.Windows[scope] = w
			done += len(p.Rows)
			batch := connector.Batch{Changes: changes, Progress: connector.Progress{Done: done, Total: done + p.Total - len(p.Rows)}}
			batch.Cursor, _ = json.Marshal(at)
			if news := len(changes) > 0 || !bytes.Equal(batch.Cursor, from); news && ctx.Err() == nil {
				from = batch.Cursor
				err = errors.Join(emit(batch), err)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// read returns what the rows of a page tell and moves the window on. It
// remembers so many updates at the most; what is forgotten is read again.
func (w *window) read(ctx context.Context, t Tracker, p Page, limit int) (changes []flow.Change, err error) {
	if w.Next == 0 {
		w.Began, w.Seen = p.Now.Unix(), maps.Collect(maps.All(w.Seen))
	}
	for _, row := range p.Rows {
		if updated := row.Updated.Unix(); w.Seen[row.Number] != updated {
			var history []flow.Change
			if history, err = t.Read(ctx, row.Number); errors.Is(err, ErrGone) {
				history, err = nil, nil
			} else if err != nil {
				break
			}
			changes, w.Newest, w.Seen[row.Number] = append(changes, history...), max(w.Newest, updated), updated
		}
		w.Next = row.Number + 1
	}
	since, sure := max(0, min(w.Newest, w.Began-overlap)), w.Began-settled
	maps.DeleteFunc(w.Seen, func(_ int, updated int64) bool {
		return updated < since-1 || updated > sure || len(w.Seen) > limit
	})
	if err == nil && p.last() {
		w.Since, w.Next, w.Began = since, 0, 0
	}
	return changes, err
}

// Census lists all items, see [connector.Censor].
func Census(ctx context.Context, t Tracker, scopes []string, live func(connector.Item)) error {
	for _, scope := range scopes {
		if err := list(ctx, t, scope, 0, 0, func(p Page) error {
			for _, row := range p.Rows {
				live(row.Item)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// list calls take with each page of a list, from a number on.
func list(ctx context.Context, t Tracker, scope string, since int64, next int, take func(Page) error) error {
	for {
		p, err := t.List(ctx, scope, time.Unix(since, 0).UTC(), next)
		if err != nil {
			return err
		}
		for n, row := range p.Rows {
			if row.Number < next || n > 0 && row.Number <= p.Rows[n-1].Number { // it would never end
				return fmt.Errorf("list items from number %d on: got number %d out of order", next, row.Number)
			}
		}
		if err := take(p); err != nil || p.last() {
			return err
		}
		next = p.Rows[len(p.Rows)-1].Number + 1
	}
}
