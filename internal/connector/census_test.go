package connector_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// counted is a source with a census and nothing else.
type counted struct {
	sourceFunc
	census func(ctx context.Context, live func(connector.Item)) error
}

func (c counted) Census(ctx context.Context, live func(connector.Item)) error {
	return c.census(ctx, live)
}

// listing returns a source in whose census these items exist.
func listing(items ...connector.Item) counted {
	return counted{none, func(_ context.Context, live func(connector.Item)) error {
		for _, item := range items {
			live(item)
		}
		return nil
	}}
}

// censusOnce runs a Runner until its first census is over.
func censusOnce(t *testing.T, m *memory, source connector.Source) connector.Status {
	t.Helper()
	cfg := m.config(source)
	cfg.CensusInterval = 10 * time.Minute
	r := connector.NewRunner(cfg)
	run(t, r, 11*time.Minute+30*time.Second)
	return r.Status()
}

func TestCensus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		for _, id := range []string{"1", "2", "3", "4"} {
			m.present[id] = "PAY"
		}
		m.absent["5"], m.absent["6"], m.absent["7"] = "PAY", "PAY", "PAY"
		done := flow.Value{ID: "9", Name: "Done", Category: "done"}
		m.onPublish = func(cs []flow.Change) (int, error) { // the facts follow the log
			for _, c := range cs {
				delete(m.present, c.Item)
				delete(m.absent, c.Item)
			}
			return len(cs), nil
		}
		s := censusOnce(t, m, listing(
			connector.Item{ID: "1", Container: "PAY"}, connector.Item{ID: "3"},
			connector.Item{ID: "6", Key: "PLAT-6", Container: "PLAT", Status: done}, connector.Item{ID: "7"},
			connector.Item{ID: "8", Container: "PAY"}, // new: the next poll tells of it
		))
		if len(m.published) != 4 {
			t.Fatalf("published %v", m.ids())
		}
		at := m.published[0].At
		if s.CensusError != "" || s.LastCensus.IsZero() || !at.Equal(at.Truncate(time.Millisecond)) {
			t.Errorf("at %s, status %+v", at, s)
		}
		found := func(id, what, container string, kind flow.Kind) flow.Change {
			return flow.Change{
				ID: fmt.Sprintf("%s:%s:%d", id, what, at.UnixMilli()), Source: "tracker", Container: container, Item: id,
				Key: "#" + id, At: at, ObservedAt: at, Kind: kind, Approximate: true,
			}
		}
		six := found("6", "restored", "PLAT", flow.Updated)
		six.Key = "PLAT-6"
		six.Fields = []flow.FieldChange{
			{Field: flow.FieldStatus, To: done},
			{Field: flow.FieldContainer, From: flow.Value{Name: "PAY"}, To: flow.Value{Name: "PLAT"}},
		}
		want := []flow.Change{
			found("2", "deleted", "PAY", flow.Deleted), found("4", "deleted", "PAY", flow.Deleted),
			six, found("7", "restored", "PAY", flow.Updated),
		}
		if diff := cmp.Diff(want, m.published); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
		for _, c := range m.published {
			if err := c.Validate(); err != nil {
				t.Errorf("%s: %v", c.ID, err)
			}
		}
	})
}

// An item that is born while the census is taken has not vanished.
func TestCensusSparesTheNewborn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.present["1"] = "PAY"
		source := counted{none, func(_ context.Context, live func(connector.Item)) error {
			for id := range m.present {
				live(connector.Item{ID: id})
			}
			m.present["2"] = "PAY"
			return nil
		}}
		if s := censusOnce(t, m, source); len(m.published) > 0 || s.LastCensus.IsZero() {
			t.Errorf("published %v, last census %s", m.ids(), s.LastCensus)
		}
	})
}

func TestCensusIsRefused(t *testing.T) {
	for _, test := range []struct {
		known, live int
		want        string // error; empty: what vanished is deleted
	}{
		{0, 0, ""},
		{1, 0, "no item in sight of 1 known: looks like lost permission"},
		{100, 0, "no item in sight of 100 known: looks like lost permission"},
		{21, 1, ""}, // 20 vanished
		{41, 20, "21 of 41 known items vanished: looks like lost permission"},
		{42, 21, ""}, // exactly half
		{100, 49, "51 of 100 known items vanished: looks like lost permission"},
		{100, 50, ""},
	} {
		t.Run(fmt.Sprintf("%d of %d", test.live, test.known), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				var items []connector.Item
				for i := range test.known {
					m.present[strconv.Itoa(i)] = "PAY"
					if i < test.live {
						items = append(items, connector.Item{ID: strconv.Itoa(i)})
					}
				}
				m.onPublish = func(cs []flow.Change) (int, error) {
					for _, c := range cs {
						delete(m.present, c.Item)
					}
					return len(cs), nil
				}
				s := censusOnce(t, m, listing(items...))
				want, deleted := test.want, test.known-test.live
				if want != "" {
					want, deleted = "census: "+want, 0
				}
				if s.CensusError != want || len(m.published) != deleted || s.LastCensus.IsZero() != (want != "") {
					t.Errorf("error %q, %d published, last census %s", s.CensusError, len(m.published), s.LastCensus)
				}
				if s.LastError != "" {
					t.Errorf("a census fails the poll: %q", s.LastError)
				}
			})
		})
	}
}

// A census in part counts for the containers that it listed, and for them as a
// whole one does.
func TestCensusInPart(t *testing.T) {
	for name, test := range map[string]struct {
		listed []string
		live   []string
		want   []string // deleted
		err    string
	}{
		"one vanished":     {[]string{"PAY", "EMPTY"}, []string{"1"}, []string{"2"}, "read in part: broken"},
		"nothing vanished": {[]string{"PAY"}, []string{"1", "2"}, nil, "read in part: broken"},
		"nothing listed":   {nil, []string{"1"}, nil, "read in part: broken"},
		"lost permission":  {[]string{"PAY", "PLAT"}, nil, nil, "no item in sight of 4 known: looks like lost permission"},
		"an empty one":     {[]string{"EMPTY"}, nil, nil, "read in part: broken"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				m.present["1"], m.present["2"], m.present["3"], m.present["4"] = "PAY", "PAY", "PLAT", "PLAT"
				m.onPublish = func(cs []flow.Change) (int, error) {
					for _, c := range cs {
						delete(m.present, c.Item)
					}
					return len(cs), nil
				}
				taken := 0
				cfg := m.config(counted{none, func(_ context.Context, live func(connector.Item)) error {
					taken++
					for _, id := range test.live {
						live(connector.Item{ID: id, Container: "PAY"})
					}
					return &connector.PartialError{Err: errBroken, Listed: test.listed}
				}})
				cfg.CensusInterval = 2 * time.Hour
				r := connector.NewRunner(cfg)
				run(t, r, 6*time.Hour)
				var deleted []string
				for _, c := range m.published {
					deleted = append(deleted, c.Item)
				}
				if diff := cmp.Diff(test.want, deleted); diff != "" {
					t.Errorf("deleted (-want +got):\n%s", diff)
				}
				counts := strings.HasPrefix(test.err, "read in part") && test.listed != nil
				if s := r.Status(); s.CensusError != "census: "+test.err || s.LastCensus.IsZero() == counts || counts != (taken <= 3) {
					t.Errorf("%d censuses, status %+v", taken, s)
				}
			})
		})
	}
}

// A census that fails counts for nothing, does not stop the polls, and heeds
// the tracker's rate limit.
func TestCensusFails(t *testing.T) {
	for name, fail := range map[string]func() error{
		"error": func() error { return errBroken },
		"panic": func() error { panic("out of range") },
		"rate limit": func() error {
			return &connector.RateLimitError{Until: time.Now().Add(40 * time.Minute), Err: errBroken}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				m.present["1"], m.present["2"] = "PAY", "PAY"
				var failedAt, nextPoll time.Time
				source := counted{
					func(context.Context, connector.Cursor, func(connector.Batch) error) error {
						if !failedAt.IsZero() && nextPoll.IsZero() {
							nextPoll = time.Now()
						}
						return nil
					},
					func(_ context.Context, live func(connector.Item)) error {
						live(connector.Item{ID: "1"})
						if failedAt.IsZero() {
							failedAt = time.Now()
						}
						return fail()
					},
				}
				cfg := m.config(source)
				cfg.CensusInterval = 2 * time.Hour
				r := connector.NewRunner(cfg)
				run(t, r, 3*time.Hour)
				s := r.Status()
				if len(m.published) > 0 || !s.LastCensus.IsZero() || !strings.HasPrefix(s.CensusError, "census: ") {
					t.Errorf("published %v, status %+v", m.ids(), s)
				}
				pause := nextPoll.Sub(failedAt)
				if limited := name == "rate limit"; limited != (pause == 40*time.Minute) || !limited && (pause < time.Minute || pause > 2*time.Minute) {
					t.Errorf("next poll %s after the census", pause)
				}
			})
		})
	}
}

func TestCensusSchedule(t *testing.T) {
	for name, test := range map[string]struct {
		interval    time.Duration
		broken      bool
		least, most int
	}{
		"never":         {0, false, 0, 0},
		"hourly":        {time.Hour, false, 23, 24},
		"polls failing": {time.Hour, true, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				taken := 0
				source := counted{
					func(context.Context, connector.Cursor, func(connector.Batch) error) error {
						if test.broken {
							return errBroken
						}
						return nil
					},
					func(context.Context, func(connector.Item)) error { taken++; return nil },
				}
				cfg := m.config(source)
				cfg.CensusInterval = test.interval
				run(t, connector.NewRunner(cfg), 24*time.Hour)
				if taken < test.least || taken > test.most {
					t.Errorf("%d censuses in a day, want %d to %d", taken, test.least, test.most)
				}
			})
		})
	}
}
