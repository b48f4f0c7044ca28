package jira

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// TestWrittenTimes has sites that take no milliseconds of the epoch, with and
// without the zone of the caller. The changes are the same, nothing is lost
// while issues move, and a later poll goes on where the first one ended.
func TestWrittenTimes(t *testing.T) {
	for _, name := range []string{"UTC", "Asia/Kolkata", "America/St_Johns", "Pacific/Kiritimati", "Pacific/Pago_Pago"} {
		for _, dataCenter := range []bool{true, false} {
			for _, myself := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, %t, %t", name, dataCenter, myself), func(t *testing.T) {
					o := FakeOptions{DataCenter: dataCenter, WrittenTimes: true, Location: zone(t, name), PageSize: 3, PositionTokens: true}
					f := world(NewFake(o))
					var h http.Handler = f
					if !myself {
						h = without(f, 404, "/rest/api/2/myself", "/rest/api/3/myself")
					}
					s := newSource(t, h)
					changes, cursor := drain(t, s, nil)
					golden(t, "world.jsonl", lines(t, changes))
					late := f.Create(day(6).Add(-9*time.Minute), "PAY", "Bug", "Backlog", "Late")
					for _, s := range []*Source{s, newSource(t, h)} {
						changes, _ = drain(t, s, cursor)
						if !slices.ContainsFunc(changes, func(c flow.Change) bool { return c.Item == late }) {
							t.Error("the late issue was not read")
						}
					}
					if !myself {
						return // the offset counts, for the bound is a day early
					}
					f, ids := queue(o, 20)
					changes, _ = drain(t, newSource(t, between(f, func(n int) {
						if n == 3 || n == 5 {
							f.Delete(ids[n-3])
						}
					})), nil)
					if len(changes) < 20 {
						t.Errorf("%d of 20 issues", len(changes))
					}
				})
			}
		}
	}
}

// TestBoundIsNeverLate reads each written time as a site may, in either of the
// two ways where clocks are set back, and demands that it is not after the
// instant that was meant, nor before it by more than an hour and a minute.
func TestBoundIsNeverLate(t *testing.T) {
	for _, name := range []string{"America/St_Johns", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kolkata"} {
		z := zone(t, name)
		s := &Source{zone: z}
		for at := time.Date(2026, 1, 1, 0, 0, 7, 0, time.UTC); at.Year() == 2026; at = at.Add(13 * time.Minute) {
			text := strings.Trim(s.bound(at.UnixMilli()), `"`)
			written, err := time.Parse("2006-01-02 15:04", text)
			if err != nil {
				t.Fatal(err)
			}
			for _, near := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
				_, offset := at.Add(near).In(z).Zone()
				meant := written.Add(-time.Duration(offset) * time.Second)
				if meant.In(z).Format("2006-01-02 15:04") != text {
					continue // not the time of the clock then
				}
				if meant.After(at) || at.Sub(meant) > time.Hour+time.Minute {
					t.Errorf("%s: %v is written %s, which is %v", name, at, text, meant.UTC())
				}
			}
		}
	}
	unknown := &Source{zone: behind}
	if got := unknown.bound(day(0).UnixMilli()); got != `"2026-03-01 19:00"` {
		t.Errorf("without a zone %s", got)
	}
}

// TestRefusedOtherwise keeps to numbers where a query is refused for another
// reason, and tells the site's first words.
func TestRefusedOtherwise(t *testing.T) {
	var queries []string
	h := rewritten(world(NewFake(FakeOptions{})), func(q string) string {
		queries = append(queries, q)
		return q
	})
	s := newSource(t, h, func(c *Config) { c.Projects = []string{"UPDATE"} })
	if _, _, err := poll(s, nil); err == nil || !strings.Contains(err.Error(), "'UPDATE' does not exist") {
		t.Errorf("got %v", err)
	}
	if s.zone != nil {
		t.Error("written times for nothing")
	}
	s = newSource(t, h)
	_, cursor := drain(t, s, nil)
	queries = nil
	drain(t, s, cursor)
	if n := regexp.MustCompile(`updated >= \d{12,} `); len(queries) == 0 || !n.MatchString(queries[len(queries)-1]) {
		t.Errorf("queries %q", queries)
	}
	written := world(NewFake(FakeOptions{WrittenTimes: true}))
	down := without(written, 500, "/rest/api/2/myself", "/rest/api/3/myself")
	if _, _, err := poll(newSource(t, down), cursor); err == nil || connector.StatusOf(err) != 500 {
		t.Errorf("the zone cannot be asked: %v", err)
	}
	live := 0
	if err := newSource(t, written).Census(t.Context(), func(connector.Item) { live++ }); err != nil || live != 13 {
		t.Errorf("%d issues in the census, %v", live, err)
	}
}
