package connector_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// tracing is a source with a census that can tell what has become of an item.
type tracing struct {
	counted
	trace func(ctx context.Context, missed connector.Item) ([]flow.Change, error)
}

func (t tracing) Trace(ctx context.Context, missed connector.Item) ([]flow.Change, error) {
	return t.trace(ctx, missed)
}

// renamed returns what tells that an item goes on as another one.
func renamed(missed connector.Item) []flow.Change {
	return []flow.Change{{
		ID: missed.ID + ":renamed", Container: missed.Container, Item: missed.ID, Key: missed.Key, Kind: flow.Updated,
		At:     time.Date(1999, 6, 1, 0, 0, 0, 0, time.UTC),
		Fields: []flow.FieldChange{{Field: flow.FieldAlias, To: flow.Value{ID: "tracker/new" + missed.ID}}},
	}}
}

// forget makes the facts follow the log.
func (m *memory) forget(cs []flow.Change) (int, error) {
	for _, c := range cs {
		m.known[c.Source+"/"+c.ID] = true
		if c.Kind == flow.Deleted {
			delete(m.present, c.Item)
		}
	}
	return len(cs), nil
}

// What a census misses is asked about: it has become another item, has gone, or is
// not judged.
func TestTrace(t *testing.T) {
	broken := fmt.Errorf("trace: %w", errBroken)
	for name, test := range map[string]struct {
		answers map[string]error // of those about which there is no answer
		want    []string         // published, by item
		err     string
		asked   int
	}{
		"all answers": {
			want:  []string{"2:renamed UPDATED", "2 DELETED", "3 DELETED", "4:renamed UPDATED", "4 DELETED"},
			asked: 3,
		},
		"one fails": {
			answers: map[string]error{"2": broken},
			want:    []string{"3 DELETED", "4:renamed UPDATED", "4 DELETED"},
			err:     "census: trace: broken", asked: 3,
		},
		"all fail": {
			answers: map[string]error{"2": broken, "3": broken, "4": broken},
			err:     "census: trace: broken\ntrace: broken\ntrace: broken", asked: 3,
		},
		"a limit": {
			answers: map[string]error{
				"2": &connector.RateLimitError{Err: errBroken}, "3": &connector.RateLimitError{Err: errBroken}, "4": &connector.RateLimitError{Err: errBroken},
			},
			err: "census: rate limited: broken", asked: 1,
		},
		"a panic": {
			answers: map[string]error{"3": nil},
			want:    []string{"2:renamed UPDATED", "2 DELETED", "4:renamed UPDATED", "4 DELETED"},
			err:     "census: source panicked: out of range", asked: 3,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				for _, id := range []string{"1", "2", "3", "4"} {
					m.present[id] = "PAY"
				}
				m.onPublish = m.forget
				taken, asked := 0, 0
				s := censusOnce(t, m, tracing{counted{none, func(_ context.Context, live func(connector.Item)) error {
					taken++
					live(connector.Item{ID: "1", Container: "PAY"})
					return nil
				}}, func(_ context.Context, missed connector.Item) ([]flow.Change, error) {
					if taken == 1 { // there may be a second one
						asked++
					}
					if missed.Key != "#"+missed.ID || missed.Container != "PAY" {
						t.Errorf("asked for %+v", missed)
					}
					switch err, fails := test.answers[missed.ID]; {
					case fails && err == nil:
						panic("out of range")
					case fails:
						return nil, err
					case missed.ID == "3":
						return nil, nil
					}
					return renamed(missed), nil
				}})
				slices.SortStableFunc(m.published, func(a, b flow.Change) int { return strings.Compare(a.Item, b.Item) })
				var got []string
				for _, c := range m.published {
					if err := c.Validate(); err != nil {
						t.Errorf("%s: %v", c.ID, err)
					}
					got = append(got, strings.TrimSuffix(c.ID, fmt.Sprintf(":deleted:%d", c.At.UnixMilli()))+" "+c.Kind.String())
				}
				if diff := cmp.Diff(test.want, got); diff != "" {
					t.Errorf("published (-want +got):\n%s", diff)
				}
				if s.CensusError != test.err || s.LastCensus.IsZero() || asked != test.asked {
					t.Errorf("%d asked, status %+v", asked, s)
				}
			})
		})
	}
}

// However many items vanish, each census asks about a bounded number of them, and
// those that fail again and again are in the way of none: in the end each is told
// of once, and nothing else.
func TestTraceMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const items = 1000
		m := newMemory()
		var live []connector.Item
		for n := range items {
			m.present[strconv.Itoa(n)] = "PAY"
			if n >= 450 {
				live = append(live, connector.Item{ID: strconv.Itoa(n), Container: "PAY"})
			}
		}
		m.onPublish = m.forget
		asked, most := 0, 0
		list := listing(live...)
		source := tracing{counted{none, func(ctx context.Context, f func(connector.Item)) error {
			most, asked = max(most, asked), 0
			return list.census(ctx, f)
		}}, func(_ context.Context, missed connector.Item) ([]flow.Change, error) {
			asked++
			if len(missed.ID) == 1 && missed.ID < "4" { // the first four
				return nil, errBroken
			}
			return renamed(missed), nil
		}}
		cfg := m.config(source)
		cfg.CensusInterval, cfg.Overlaps = time.Hour, true
		run(t, connector.NewRunner(cfg), 12*time.Hour)
		if most > 200 || asked != 3 {
			t.Errorf("at most %d asked at once, %d in the end", most, asked)
		}
		told := map[string]int{}
		for _, c := range m.published {
			told[c.Kind.String()+" "+c.Item]++
		}
		if len(told) != 2*446 || len(m.published) != 2*446 || told["DELETED 2"] > 0 {
			t.Errorf("%d facts about %d, want two of each of 446 items", len(m.published), len(told))
		}
	})
}
