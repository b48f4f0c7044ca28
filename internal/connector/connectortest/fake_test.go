package connectortest

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const (
	site       = "https://tracker.example"
	testToken  = "token-4c1d9a"
	testSecret = "secret-77b0e2"
	testAuthor = "author-31"
	inline     = 50 // entries of a history that come with the item
)

// A fake is a tracker in memory with the usual traps: pages, histories that are
// cut, times without an offset.
type fake struct {
	zone  *time.Location
	keeps bool // shows what was deleted, marked as gone

	mu     sync.Mutex
	last   int // id of the newest item or entry
	names  map[string]string
	items  []*fakeItem
	newest map[string]object // what was last sent about an item
}

type fakeItem struct {
	id               int
	project, status  string
	created, updated time.Time
	gone             bool
	history          []fakeEntry
}

type fakeEntry struct {
	id             int
	at             time.Time
	field          string
	from, fromName string
	to, toName     string
}

type object = map[string]any

func newFake(zone *time.Location) *fake {
	return &fake{
		zone: zone, names: map[string]string{"1": "Backlog", "2": "In Progress", "3": "Done"}, newest: map[string]object{},
	}
}

func (f *fake) id() int { f.last++; return f.last }

func (f *fake) create(at time.Time, status string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := &fakeItem{id: f.id(), project: "A", status: status, created: at, updated: at}
	f.items = append(f.items, i)
	f.newest[strconv.Itoa(i.id)] = object{"event": "item", "item": strconv.Itoa(i.id)}
	return strconv.Itoa(i.id)
}

func (f *fake) edit(at time.Time, item, field, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.find(item)
	e := fakeEntry{id: f.id(), at: at, field: field, to: to, toName: to}
	if field == "status" {
		e.from, e.fromName, e.toName = i.status, f.names[i.status], f.names[to]
		i.status = to
	} else {
		e.from, e.fromName = i.project, i.project
		i.project = to
	}
	i.history, i.updated = append(i.history, e), at
	f.newest[item] = object{"event": "item", "item": item}
}

func (f *fake) delete(at time.Time, item string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.newest[item] = object{"event": "deleted", "item": item, "project": f.find(item).project, "at": at.Unix()}
	if f.keeps {
		f.find(item).gone, f.find(item).updated = true, at
		return
	}
	f.items = slices.DeleteFunc(f.items, func(i *fakeItem) bool { return strconv.Itoa(i.id) == item })
}

func (f *fake) find(item string) *fakeItem {
	for _, i := range f.items {
		if strconv.Itoa(i.id) == item {
			return i
		}
	}
	return nil
}

func (f *fake) deliver(item string) Delivery {
	f.mu.Lock()
	defer f.mu.Unlock()
	body, err := json.Marshal(f.newest[item])
	if err != nil {
		panic(err) // texts and numbers always encode
	}
	return signed("item", body)
}

func signed(event string, body []byte) Delivery {
	mac := hmac.New(sha256.New, []byte(testSecret))
	mac.Write(body)
	return Delivery{http.Header{"X-Event": {event}, "X-Signature": {"sha256=" + hex.EncodeToString(mac.Sum(nil))}}, body}
}

// RoundTrip implements [http.RoundTripper], so that no network is needed.
func (f *fake) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	resp := w.Result()
	resp.Request = r
	return resp, nil
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+testToken {
		http.Error(w, `{"message":"unauthorized"}`, http.StatusUnauthorized)
		return
	}
	var answer any
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/me":
		answer = object{"zone": f.zone.String()}
	case r.URL.Path == "/items":
		answer = f.list(w, r)
	case len(path) == 2 && f.find(path[1]) != nil:
		answer = f.show(f.find(path[1]))
	case len(path) == 3 && f.find(path[1]) != nil:
		answer = f.entries(f.find(path[1]), r)
	default:
		http.Error(w, `{"message":"not found"}`, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		panic(err) // texts and numbers always encode
	}
}

// list shows the items in order of their updates, behind a place in this order
// or behind a number of rows.
func (f *fake) list(w http.ResponseWriter, r *http.Request) []object {
	place := func(i *fakeItem) string { return fmt.Sprintf("%d.%09d", i.updated.Unix(), i.id) }
	sorted := slices.Clone(f.items)
	slices.SortFunc(sorted, func(a, b *fakeItem) int { return cmp.Compare(place(a), place(b)) })
	q := r.URL.Query()
	sorted = slices.DeleteFunc(sorted, func(i *fakeItem) bool { return place(i) <= q.Get("after") })
	limit, _ := strconv.Atoi(q.Get("limit"))
	offset, _ := strconv.Atoi(q.Get("offset"))
	sorted = sorted[min(offset, len(sorted)):]
	shown := []object{}
	for _, i := range sorted[:min(limit, len(sorted))] {
		shown = append(shown, f.show(i))
	}
	if n := len(shown); n < len(sorted) {
		q.Set("after", place(sorted[n-1]))
		w.Header().Set("Link", "<"+site+"/items?"+q.Encode()+`>; rel="next"`)
	}
	return shown
}

const naive = "2006-01-02T15:04:05"

func (f *fake) show(i *fakeItem) object {
	return object{
		"id": i.id, "project": i.project, "author": testAuthor, "status": object{"id": i.status, "name": f.names[i.status]},
		"created": i.created.In(f.zone).Format(naive), "updated": i.updated.Unix(), "gone": i.gone,
		"total": len(i.history), "history": f.showEntries(i.history[max(0, len(i.history)-inline):]),
	}
}

func (f *fake) showEntries(entries []fakeEntry) []object {
	shown := []object{}
	for _, e := range entries {
		shown = append(shown, object{
			"id": e.id, "author": testAuthor, "at": e.at.In(f.zone).Format(naive), "field": e.field,
			"from": object{"id": e.from, "name": e.fromName}, "to": object{"id": e.to, "name": e.toName},
		})
	}
	return shown
}

func (f *fake) entries(i *fakeItem, r *http.Request) []object {
	offset, _ := strconv.Atoi(r.URL.Query().Get("offset"))
	return f.showEntries(i.history[min(offset, len(i.history)):min(offset+inline, len(i.history))])
}

// harness is one for fakes, read by a source that is broken in one way.
func harness(broken string) Harness {
	return Harness{
		Start:    func(_ testing.TB, zone *time.Location) *Tracker { return drive(newFake(zone), broken) },
		Statuses: []flow.Value{{ID: "1", Name: "Backlog"}, {ID: "2", Name: "In Progress"}, {ID: "3", Name: "Done"}},
		Token:    testToken,
		Private:  []string{testSecret, testAuthor},
	}
}

// drive makes a driver for a fake.
func drive(f *fake, broken string) *Tracker {
	return &Tracker{
		Zone: f.zone,
		New: func(o Options) connector.Source {
			return &source{broken: broken, client: &http.Client{Transport: o.Wrap(f)}, size: o.PageSize, log: o.Logger}
		},
		Create: func(at time.Time, status flow.Value) string { return f.create(at, status.ID) },
		Move:   func(at time.Time, item string, status flow.Value) { f.edit(at, item, "status", status.ID) },
		Relocate: func(at time.Time, item string) (from, to string) {
			f.edit(at, item, "project", "B")
			return "A", "B"
		},
		RenameStatus: func(status flow.Value) flow.Value {
			f.mu.Lock()
			defer f.mu.Unlock()
			status.Name = "Under Way"
			f.names[status.ID] = status.Name
			return status
		},
		Delete:  f.delete,
		Deliver: f.deliver,
		Sign:    func(body []byte) Delivery { return signed("item", body) },
		Ignored: func() Delivery { return signed("star", []byte("{}")) },
	}
}
