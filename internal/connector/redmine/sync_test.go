package redmine

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/connectortest"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

var (
	_ connector.Checker      = (*Source)(nil)
	_ connector.StatusLister = (*Source)(nil)
	_ connector.TypeLister   = (*Source)(nil)
	_ connector.Censor       = (*Source)(nil)
	_ connector.Meter        = (*Source)(nil)
)

func (f *fake) total() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, count := range f.requests {
		n += count
	}
	clear(f.requests)
	return n
}

// TestRequests counts what polls cost.
func TestRequests(t *testing.T) {
	f := newFake()
	server := httptest.NewServer(f)
	defer server.Close()
	const issues = 400
	for n := range issues {
		id := f.create(at(n/10), 1)
		f.update(at(n/10), id, "status", 2)
	}
	f.now = f.now.Add(3 * time.Second)
	restart := func() connector.Source { return source(t, server.URL, fakeKey, connectortest.Options{}) }
	s := restart()
	facts := 0
	count := func(flow.Change) { facts++ }
	cursor := poll(t, s, nil, count)
	if n := f.total(); facts != 2*issues || float64(n) > 1.1*issues {
		t.Errorf("backfill of %d issues: %d facts in %d requests", issues, facts, n)
	}
	for name, s := range map[string]connector.Source{"the same": s, "another": restart()} {
		facts = 0
		poll(t, s, cursor, count)
		if n := f.total(); facts != 0 || float64(n) > 0.05*issues || n > 2 {
			t.Errorf("idle poll of %s source: %d facts in %d requests", name, facts, n)
		}
	}
	// What was updated a moment ago may be updated once more in the same second.
	moment := f.now
	f.update(moment, 7, "status", 4)
	cursor = poll(t, s, cursor, count)
	f.update(moment, 7, "status", 5)
	f.now = moment.Add(time.Minute)
	var told []string
	cursor = poll(t, s, cursor, func(c flow.Change) {
		if len(c.Fields) > 0 {
			told = append(told, c.Item+" "+c.Fields[0].To.Name)
		}
	})
	if !slices.Contains(told, "7 Closed") {
		t.Errorf("an update in the same second is not told: %q", told)
	}
	// One that comes to sight late, as its transaction took a minute.
	f.create(moment.Add(-10*time.Second), 6)
	f.now = moment.Add(time.Minute)
	f.update(f.now, 8, "status", 5)
	told = nil
	poll(t, s, cursor, func(c flow.Change) { told = append(told, c.Item) })
	if !slices.Contains(told, "401") {
		t.Errorf("what came to sight late is not told: %q", told)
	}
}

// TestProjects adds a project to the configuration later.
func TestProjects(t *testing.T) {
	f := newFake()
	server := httptest.NewServer(f)
	defer server.Close()
	f.create(at(1), 1)
	other := f.create(at(2), 5)
	f.update(at(3), other, "project", 2)
	f.create(at(4), 1)
	f.now = at(90)
	var told []string
	note := func(c flow.Change) { told = append(told, c.ID+" in "+c.Container) }
	cursor := poll(t, source(t, server.URL, fakeKey, connectortest.Options{}, "flow"), nil, note)
	if want := []string{"1:created in flow", "3:created in flow"}; !slices.Equal(told, want) {
		t.Errorf("one project: got %q, want %q", told, want)
	}
	told = nil
	poll(t, source(t, server.URL, fakeKey, connectortest.Options{}, "flow", "other"), cursor, note)
	if want := []string{"2:created in flow", "2:1 in other"}; !slices.Equal(told, want) {
		t.Errorf("a project more: got %q, want %q", told, want)
	}
	err := source(t, server.URL, fakeKey, connectortest.Options{}, "none").Poll(t.Context(), nil, nil)
	if _, ok := errors.AsType[*connector.ConfigError](err); !ok {
		t.Errorf("a project that is not there: got %v", err)
	}
}

// TestWrongKey must not be taken for an empty tracker.
func TestWrongKey(t *testing.T) {
	f := newFake()
	server := httptest.NewServer(f)
	defer server.Close()
	f.create(at(1), 1)
	s := source(t, server.URL, "wrong", connectortest.Options{})
	for name, err := range map[string]error{
		"Check":  s.(connector.Checker).Check(t.Context()),
		"Poll":   s.Poll(t.Context(), nil, func(connector.Batch) error { return nil }),
		"Census": s.(connector.Censor).Census(t.Context(), func(connector.Item) { t.Error("the census tells of an item") }),
	} {
		if _, ok := errors.AsType[*connector.AuthError](err); !ok {
			t.Errorf("%s: got %v, want an AuthError", name, err)
		}
	}
}

// TestTranslation undoes journals, also where attributes were set at birth.
func TestTranslation(t *testing.T) {
	f := newFake()
	server := httptest.NewServer(f)
	defer server.Close()
	id := f.create(at(1), 1)
	f.find(id)["assigned_to"] = named(7) // since birth
	f.update(at(2), id, "parent", 9)
	f.update(at(3), id, "subject", "renamed")
	f.update(at(4), id, "assigned_to", nil)
	f.update(at(5), id, "tracker", 99) // of a type that is no more
	slices.Reverse(f.journals[id])     // as a user may like to see them
	got := map[string][]string{}
	poll(t, source(t, server.URL, fakeKey, connectortest.Options{}), nil, func(c flow.Change) {
		got[c.ID] = append(got[c.ID], c.Title)
		for _, x := range c.Fields {
			got[c.ID] = append(got[c.ID], x.Field.String()+" "+x.From.Text()+" > "+x.To.Text())
		}
	})
	for id, want := range map[string][]string{
		"1:created": {"issue 1", "STATUS  > New", "TYPE  > Bug", "ASSIGNED  > true"},
		"1:1":       {"issue 1", "PARENT  > 9"},
		"1:2":       {"renamed"},
		"1:3":       {"renamed", "ASSIGNED true > false"},
		"1:4":       {"renamed", "TYPE Bug > 99"},
	} {
		if !slices.Equal(got[id], want) {
			t.Errorf("%s: got %q, want %q", id, got[id], want)
		}
	}
}

func TestLists(t *testing.T) {
	server := httptest.NewServer(newFake())
	defer server.Close()
	s := source(t, server.URL, fakeKey, connectortest.Options{})
	all, err := s.(connector.StatusLister).Statuses(t.Context())
	if err != nil || len(all) != 6 || !slices.Contains(all, statuses[0]) || !slices.Contains(all, statuses[3]) {
		t.Errorf("statuses: got %+v, %v", all, err)
	}
	types, err := s.(connector.TypeLister).Types(t.Context())
	if err != nil || !slices.Equal(types, []flow.Value{{ID: "1", Name: "Bug"}, {ID: "2", Name: "Feature"}}) {
		t.Errorf("types: got %+v, %v", types, err)
	}
}

// A tightLimit lets so many requests through, and then refuses.
type tightLimit struct{ left int }

func (l *tightLimit) RoundTrip(r *http.Request) (*http.Response, error) {
	if l.left--; l.left < 0 {
		return &http.Response{StatusCode: http.StatusTooManyRequests, Body: http.NoBody, Request: r}, nil
	}
	return http.DefaultTransport.RoundTrip(r)
}

// TestTightLimit slows a backfill down and does not stop it.
func TestTightLimit(t *testing.T) {
	f := newFake()
	server := httptest.NewServer(f)
	defer server.Close()
	for n := range 30 {
		f.create(at(n), 1)
	}
	var cursor connector.Cursor
	told := map[string]bool{}
	for polls := 1; ; polls++ {
		limit := &tightLimit{left: 12}
		s := source(t, server.URL, fakeKey, connectortest.Options{Wrap: func(http.RoundTripper) http.RoundTripper { return limit }})
		err := s.Poll(t.Context(), cursor, func(b connector.Batch) error {
			for _, c := range b.Changes {
				if told[c.ID] {
					t.Errorf("%s is read again", c.ID)
				}
				told[c.ID] = true
			}
			cursor = b.Cursor
			return nil
		})
		if err == nil {
			break
		}
		if _, ok := errors.AsType[*connector.RateLimitError](err); !ok || polls > 10 {
			t.Fatalf("poll %d: %v", polls, err)
		}
	}
	if len(told) != 30 {
		t.Errorf("got %d facts, want 30", len(told))
	}
}

// TestKeyIsLost while issues are read, which must not be taken for their end.
func TestKeyIsLost(t *testing.T) {
	f := newFake()
	server := httptest.NewServer(f)
	defer server.Close()
	f.create(at(1), 1)
	f.create(at(2), 1)
	asked := 0
	s, err := New(connector.Spec{URL: server.URL, Token: func() (string, error) {
		if asked++; asked == 3 {
			return "", errors.New("no such file")
		}
		return fakeKey, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	var config *connector.ConfigError
	if err := s.Poll(t.Context(), nil, func(connector.Batch) error { return nil }); !errors.As(err, &config) {
		t.Errorf("got %v, want a ConfigError", err)
	}
}
