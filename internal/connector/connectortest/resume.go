package connectortest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// increment reads what is new again and again, with the same source and with
// new ones.
func (k *kit) increment() {
	k.start(time.UTC)
	k.world()
	s := k.source(k.few())
	readings := []*reading{k.ok(k.poll(s, nil))}
	for n := range 6 {
		if n%3 < 2 {
			k.move(k.create(n))
			k.move(k.items[n])
		} // else nothing happens
		if n%2 == 1 {
			s = k.source(k.few())
		}
		readings = append(readings, k.ok(k.poll(s, readings[n].cursor)))
		if problems := k.compare(k.union(readings...)); len(problems) > 0 {
			k.fail("poll %d goes on from cursor %s:\n%s", n+2, readings[n].cursor, strings.Join(problems, "\n"))
		}
	}
}

// idleItems are enough for a few pages of most lists.
const idleItems = 30

// idleRequests is how many requests may see that nothing is new: some pages of a
// list, but not one for each item. It depends on those that read everything.
func idleRequests(backfill int) int { return max(8, backfill/2) }

// settling is how long a real server may take until nothing that it has told
// can get company of the same time.
const settling = 3 * time.Second

// idle polls when there is nothing new: with the same source, and after a
// restart.
func (k *kit) idle() {
	k.start(time.UTC)
	k.step = time.Second
	for range idleItems {
		k.move(k.create(0))
	}
	s := k.source(Options{})
	first := k.ok(k.poll(s, nil))
	most := idleRequests(k.wire.count())
	if k.h.Live {
		<-time.After(settling)
	}
	settled := k.ok(k.poll(s, first.cursor)) // what is uncertain may be looked at once more
	again := func(name string, s connector.Source, requests func() int) {
		before := requests()
		r := k.ok(k.poll(s, settled.cursor))
		for id, c := range r.facts {
			if _, known := first.facts[id]; !known {
				k.fail("%s polls again when nothing has happened: want no new fact, got %q of item %s", name, id, c.Item)
			}
		}
		if r.needless > 0 {
			k.fail("%s polls again when nothing has happened: want no batch that has neither changes nor another cursor than %s, which is stored, got %d", name, settled.cursor, r.needless)
		}
		if n := requests() - before; n > most {
			k.fail("%s polls again when nothing has happened: want at most %d requests, got %d for %d items", name, most, n, idleItems)
		}
	}
	again("the same source", s, k.wire.count)
	s = k.source(Options{})
	again("a new source", s, k.wire.count)
}

// pages reads everything in several batches.
func (k *kit) pages() *reading {
	k.Helper()
	k.start(time.UTC)
	k.world()
	all := k.all(k.few())
	if len(all.cursors) < 2 {
		k.Fatalf("want several batches of %d items with pages of %d, got %d: Tracker.New must hand on Options.PageSize, and Poll must emit page by page",
			len(k.items), 2*k.h.pageSize(), len(all.cursors))
	}
	return all
}

func (k *kit) resume() {
	all := k.pages()
	for n := range all.cursors {
		rest := k.ok(k.poll(k.source(k.few()), all.cursors[n]))
		if problems := k.compare(k.union(all.head(n), rest)); len(problems) > 0 {
			k.fail("a restart from the cursor of batch %d of %d, %s:\n%s", n+1, len(all.cursors), all.cursors[n], strings.Join(problems, "\n"))
		}
	}
}

func (k *kit) emitError() {
	all := k.pages()
	for n := range all.cursors {
		s := k.source(k.few())
		first := k.pollWith(k.Context(), s, nil, func(batch int) error {
			if batch == n {
				return errEmit
			}
			return nil
		})
		if !errors.Is(first.err, errEmit) {
			k.fail("emit failed at batch %d: want Poll to return that error, got %v", n+1, first.err)
		}
		for name, next := range map[string]connector.Source{"the same source": s, "a new source": k.source(k.few())} {
			rest := k.ok(k.poll(next, first.cursor))
			if problems := k.compare(k.union(first, rest)); len(problems) > 0 {
				k.fail("emit failed at batch %d, and %s went on from cursor %s:\n%s", n+1, name, first.cursor, strings.Join(problems, "\n"))
			}
		}
	}
}

// cancel ends the context before a poll, in an emit and in requests.
func (k *kit) cancel() {
	k.pages()
	before := goroutines()
	ended, cancel := context.WithCancel(k.Context())
	cancel()
	r := k.pollWith(ended, k.source(k.few()), nil, func(int) error { return nil })
	k.canceled(r, "before Poll", 0)
	ended, cancel = context.WithCancel(k.Context())
	r = k.pollWith(ended, k.source(k.few()), nil, func(int) error { cancel(); return nil })
	k.canceled(r, "while the first batch was taken", 1)
	k.leaked(before)
	if !k.has(HTTP) {
		return
	}
	k.all(k.few())
	for n := range min(k.wire.count(), 8) {
		before := goroutines()
		ended, cancel := context.WithCancel(k.Context())
		s := k.source(k.few())
		k.wire.before = func(request int, r *http.Request) (*http.Response, error) {
			if request <= n {
				return nil, nil
			}
			cancel()
			select {
			case <-r.Context().Done():
				return nil, r.Context().Err()
			case <-time.After(time.Second):
				return nil, errDeaf
			}
		}
		r := k.pollWith(ended, s, nil, func(int) error { return nil })
		cancel()
		k.canceled(r, fmt.Sprintf("during request %d", n+1), len(r.cursors))
		k.leaked(before)
	}
}

var errDeaf = errors.New("the request goes on although the context has ended")

func (k *kit) canceled(r *reading, when string, batches int) {
	k.Helper()
	if !errors.Is(r.err, context.Canceled) || len(r.cursors) > batches {
		k.fail("the context ended %s: want Poll to return context.Canceled after %d batches, got %v after %d", when, batches, r.err, len(r.cursors))
	}
}

// leaked waits until no goroutine is left that was not there before.
func (k *kit) leaked(before map[string]string) {
	k.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var left string
	for range 400 {
		left = ""
		for id, stack := range goroutines() {
			if _, old := before[id]; !old {
				left = stack
			}
		}
		if left == "" {
			return
		}
		<-tick.C
	}
	k.fail("a goroutine is left behind after the context of Poll has ended:\n%s", left)
}

// goroutines returns the stacks of all goroutines by id, without those of
// net/http for connections, which outlive a request.
func goroutines() map[string]string {
	text := make([]byte, 4<<20)
	text = text[:runtime.Stack(text, true)]
	found := map[string]string{}
	for stack := range strings.SplitSeq(string(text), "\n\n") {
		id, _, _ := strings.Cut(stack, " [")
		if !strings.Contains(stack, "net/http.(*persistConn)") && !strings.Contains(stack, "net/http.(*conn)") &&
			!strings.Contains(stack, "net/http.(*Server)") && !strings.Contains(stack, "net/http.(*Transport)") {
			found[id] = stack
		}
	}
	return found
}

// cursors checks that a cursor of somebody else's is no silent success.
func (k *kit) cursors() {
	all := k.pages()
	foreign := map[string]string{
		"garbage":    "\x00garbage",
		"half JSON":  "{",
		"a number":   "0",
		"null":       "null",
		"the future": `{"v":1000000}`,
	}
	last := all.cursors[len(all.cursors)-1]
	var fields map[string]any
	if json.Unmarshal(last, &fields) == nil {
		for name, value := range fields {
			if v, ok := value.(float64); ok && (strings.EqualFold(name, "v") || strings.EqualFold(name, "version")) {
				fields[name] = v + 1
				next, err := json.Marshal(fields)
				if err != nil {
					k.Fatal(err)
				}
				foreign["the next version"] = string(next)
			}
		}
	}
	for what, cursor := range foreign {
		if r := k.poll(k.source(k.few()), connector.Cursor(cursor)); !errors.Is(r.err, connector.ErrCursor) {
			k.fail("cursor %q (%s): want an error that wraps connector.ErrCursor, got %v", cursor, what, r.err)
		}
	}
	half := k.poll(k.source(k.few()), last[:len(last)/2])
	if half.err == nil && len(k.compare(half.changes)) > 0 || half.err != nil && !errors.Is(half.err, connector.ErrCursor) {
		k.fail("half of cursor %q: want connector.ErrCursor, or everything from the beginning, got %d facts and %v", last, len(half.changes), half.err)
	}
	for _, old := range k.h.OldCursors {
		if r := k.poll(k.source(k.few()), old); r.err != nil {
			k.fail("cursor %q was stored by an earlier version: want it to be understood, got %v", old, r.err)
		}
	}
}
