package jira

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// between calls f after each answer to a search, with the number of searches.
func between(h http.Handler, f func(n int)) http.Handler {
	n := 0
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, r)
		if strings.Contains(r.URL.Path, "/search") && !strings.HasSuffix(r.URL.Path, "count") {
			n++
			f(n)
		}
	})
}

// queue is a site with so many issues, updated one a day; ids in this order.
func queue(o FakeOptions, n int) (f *Fake, ids []string) {
	f = NewFake(o)
	f.AddProject("PAY", "Payments")
	f.AddProject("PLAT", "Platform")
	f.AddStatus("1", "Backlog", "new")
	f.AddType("1", "Story")
	for k := range n {
		ids = append(ids, f.Create(day(float64(k)), "PAY", "Story", "Backlog", fmt.Sprintf("Issue %d", k)))
	}
	return f, ids
}

// shifts are ways in which rows move past a reader who counts them.
var shifts = map[string]func(f *Fake, id string, n int){
	"update": func(f *Fake, id string, n int) { f.Edit(day(100+float64(n)), id, SetSummary("Touched")) },
	"now":    func(f *Fake, id string, n int) { f.Edit(time.Now(), id, SetSummary("Touched")) },
	"delete": func(f *Fake, id string, _ int) { f.Delete(id) },
}

var shiftingSites = map[string]FakeOptions{
	"cloud":                {PageSize: 5},
	"cloud, position":      {PageSize: 5, PositionTokens: true},
	"cloud, position, two": {PageSize: 2, PositionTokens: true},
	"data center":          {PageSize: 5, DataCenter: true},
}

// TestShift updates or deletes an issue that was read already between any two
// pages: none of the others is lost, neither to the scan nor to a census.
func TestShift(t *testing.T) {
	for site, o := range shiftingSites {
		for how, shift := range shifts {
			for _, at := range []int{1, 2, 3, 5} {
				t.Run(fmt.Sprintf("%s, %s, %d", site, how, at), func(t *testing.T) {
					f, ids := queue(o, 30)
					changes, _ := drain(t, newSource(t, between(f, func(n int) {
						if n == at {
							shift(f, ids[0], n)
						}
					})), nil)
					for _, id := range ids {
						if !slices.ContainsFunc(changes, func(c flow.Change) bool { return c.ID == id+":created" }) {
							t.Errorf("issue %s was lost", id)
						}
					}
					f, ids = queue(o, 30)
					live := map[string]bool{}
					err := newSource(t, between(f, func(n int) {
						if n == at {
							shift(f, ids[0], n)
						}
					})).Census(t.Context(), func(i connector.Item) { live[i.ID] = true })
					if err != nil {
						t.Fatal(err)
					}
					for _, id := range ids {
						if !live[id] {
							t.Errorf("issue %s seems to have gone", id)
						}
					}
				})
			}
		}
	}
}

// TestCensusTwice has a census that cannot but follow tokens that count rows:
// all issues are of one second.
func TestCensusTwice(t *testing.T) {
	for name, o := range shiftingSites {
		f, ids := queue(o, 0)
		for range 20 {
			ids = append(ids, f.Create(day(0), "PAY", "Story", "Backlog", "Bulk"))
		}
		live := map[string]bool{}
		err := newSource(t, between(f, func(n int) {
			if n == 2 {
				f.Edit(day(1), ids[0], SetSummary("Touched"))
			}
		})).Census(t.Context(), func(i connector.Item) { live[i.ID] = true })
		if got := len(live); err != nil || got != len(ids) {
			t.Errorf("%s: %d of %d issues, %v", name, got, len(ids), err)
		}
	}
}

// TestPageCost counts the searches of a backfill: one more row for each page.
func TestPageCost(t *testing.T) {
	for name, o := range shiftingSites {
		o.PageSize = 10
		f, _ := queue(o, 91)
		searches, last := 0, ""
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			f.ServeHTTP(w, r)
			if strings.Contains(r.URL.Path, "/search") && r.Method == "GET" {
				searches, last = searches+1, r.URL.Query().Get("jql")
			}
		})
		s := newSource(t, h)
		_, cursor := drain(t, s, nil)
		if searches != 10 { // the first page has 10, the others 9 each
			t.Errorf("%s: %d searches, want 10; the last was %s", name, searches, last)
		}
		if drain(t, s, cursor); searches != 11 {
			t.Errorf("%s: %d searches for nothing new, want 1", name, searches-10)
		}
		live := map[string]connector.Item{}
		if err := s.Census(t.Context(), func(i connector.Item) { live[i.ID] = i }); err != nil || searches != 21 || len(live) != 91 {
			t.Errorf("%s: a census took %d searches and saw %d issues, %v", name, searches-11, len(live), err)
		}
	}
}

// TestResumeShift goes on from each cursor with a new source, while issues move.
func TestResumeShift(t *testing.T) {
	for name, o := range shiftingSites {
		f, ids := queue(o, 30)
		born := map[string]bool{}
		var cursor connector.Cursor
		broken := errors.New("broken")
		for n := range 40 {
			ended := true
			err := newSource(t, f).Poll(t.Context(), cursor, func(b connector.Batch) error {
				if !ended {
					return broken
				}
				for _, c := range b.Changes {
					born[c.Item] = born[c.Item] || c.Kind == flow.Created
				}
				cursor, ended = b.Cursor, false
				return nil
			})
			if err != nil && !errors.Is(err, broken) {
				t.Fatal(err)
			}
			if err == nil {
				break
			}
			f.Edit(day(100+float64(n)), ids[n%3], SetSummary(fmt.Sprint("Touched ", n)))
		}
		if len(born) != len(ids) {
			t.Errorf("%s: %d of %d issues", name, len(born), len(ids))
		}
	}
}

// TestTokenCircle has sites that give tokens again. What can be read is read,
// and the scan ends.
func TestTokenCircle(t *testing.T) {
	oneSecond := func(f *Fake) *Fake {
		for range 9 {
			f.Create(day(60), "PAY", "Bug", "Backlog", "Bulk")
		}
		return f
	}
	for name, circle := range map[string]func(used, offered []string, answer map[string]any){
		"the first at the end": func(_, offered []string, answer map[string]any) {
			if answer["isLast"] == true && len(offered) > 0 {
				answer["nextPageToken"], answer["isLast"] = offered[0], false
			}
		},
		"there and back at the end": func(_, offered []string, answer map[string]any) {
			if n := len(offered); answer["isLast"] == true && n > 1 {
				answer["nextPageToken"], answer["isLast"] = offered[n-2], false
			}
		},
		"the one just used": func(used, _ []string, answer map[string]any) {
			if n := len(used); answer["isLast"] == true && n > 0 && used[n-1] != "" {
				answer["nextPageToken"], answer["isLast"] = used[n-1], false
			}
		},
		"one for all": func(_, _ []string, answer map[string]any) {
			if answer["isLast"] == true {
				answer["nextPageToken"], answer["isLast"] = "NA", false // 4
			}
		},
	} {
		for _, position := range []bool{false, true} {
			for _, unsorted := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, %t, %t", name, position, unsorted), func(t *testing.T) {
					f := oneSecond(world(NewFake(FakeOptions{PageSize: 4, PositionTokens: position})))
					if name == "one for all" && !position {
						return // the site would refuse the token
					}
					want, _ := drain(t, newSource(t, f), nil)
					var used, offered []string
					searches := 0
					h := rewritten(edited(f, func(path string, answer map[string]any) {
						if !strings.HasSuffix(path, "/search/jql") {
							return
						}
						circle(used, offered, answer)
						if token, _ := answer["nextPageToken"].(string); token != "" {
							offered = append(offered, token)
						}
					}), func(q string) string {
						if unsorted {
							return strings.Replace(q, "updated ASC", "updated DESC", 1)
						}
						return q
					})
					h = func(h http.Handler) http.Handler {
						return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
							if strings.HasSuffix(r.URL.Path, "/search/jql") {
								searches++
								used = append(used, r.URL.Query().Get("nextPageToken"))
								if searches > 60 {
									w.WriteHeader(500)
									return
								}
							}
							h.ServeHTTP(w, r)
						})
					}(h)
					got, _ := drain(t, newSource(t, h), nil)
					if len(got) != len(want) {
						t.Errorf("%d changes, want %d", len(got), len(want))
					}
				})
			}
		}
	}
}

// TestTokenTwice gives a token again in the middle of the list: the scan goes
// on from the moved bound.
func TestTokenTwice(t *testing.T) {
	f, ids := queue(FakeOptions{PageSize: 4, PositionTokens: true}, 20)
	h := edited(f, func(_ string, answer map[string]any) {
		if token, _ := answer["nextPageToken"].(string); token != "" {
			answer["nextPageToken"] = "NA"
		}
	})
	changes, _ := drain(t, newSource(t, h), nil)
	if len(changes) != len(ids) {
		t.Errorf("%d of %d issues", len(changes), len(ids))
	}
}

// TestOldCursor goes on from cursors as they were before the bound moved on
// Cloud.
func TestOldCursor(t *testing.T) {
	f, _ := queue(FakeOptions{PageSize: 4, PositionTokens: true}, 20)
	s := newSource(t, f)
	want, _ := drain(t, s, nil)
	scope, err := json.Marshal(s.scope())
	if err != nil {
		t.Fatal(err)
	}
	all, _ := drain(t, s, connector.Cursor(`{"v":1,"scope":`+string(scope)+`,"since":0,"token":"NA","newest":1,"done":4,"total":20}`))
	items := map[string]bool{}
	for _, c := range all {
		items[c.Item] = true
	}
	if len(items) != len(want)-4 {
		t.Errorf("read %d items, want %d: %v", len(items), len(want)-4, slices.Sorted(maps.Keys(items)))
	}
}

// TestOrderIgnored has sites that honour the bound and not the order, and seem
// to keep it at first.
func TestOrderIgnored(t *testing.T) {
	for name, o := range shiftingSites {
		o.PageSize = 3
		f, _ := queue(o, 0)
		days := []float64{0, 1, 5, 2, 9, 7, 3, 4, 6, 8}
		for k, n := range days {
			id := f.Create(day(0).Add(time.Duration(k)*time.Minute), "PAY", "Story", "Backlog", "Issue")
			f.Edit(day(n), id, SetSummary("Touched"))
		}
		h := rewritten(f, func(q string) string { return strings.Replace(q, "updated ASC", "id ASC", 1) })
		changes, _ := drain(t, newSource(t, h), nil)
		if len(changes) != 2*len(days) {
			t.Errorf("%s: %d changes, want %d", name, len(changes), 2*len(days))
		}
	}
}

// TestBulkAtTheEnd counts what a bulk edit costs that fills several pages.
func TestBulkAtTheEnd(t *testing.T) {
	for name, o := range shiftingSites {
		o.PageSize = 5
		f, _ := queue(o, 4)
		for range 20 {
			f.Create(day(5), "PAY", "Story", "Backlog", "Bulk")
		}
		searches := 0
		if _, _, err := poll(newSource(t, between(f, func(int) { searches++ })), nil); err != nil {
			t.Fatal(err)
		}
		if searches > 6 {
			t.Errorf("%s: %d searches, want 5 and the one of the moved bound", name, searches)
		}
	}
}

// TestBulkDelete deletes several issues at a time between pages: first some that
// were not read yet, which makes the list shorter than it was, then some that
// were.
func TestBulkDelete(t *testing.T) {
	for name, o := range shiftingSites {
		o.PageSize = 5
		f, ids := queue(o, 40)
		changes, _ := drain(t, newSource(t, between(f, func(n int) {
			switch n {
			case 2:
				for _, id := range ids[37:] {
					f.Delete(id)
				}
			case 5:
				for _, id := range ids[8:11] {
					f.Delete(id)
				}
			}
		})), nil)
		if len(changes) != len(ids)-3 {
			t.Errorf("%s: %d of %d issues", name, len(changes), len(ids)-3)
		}
	}
}
