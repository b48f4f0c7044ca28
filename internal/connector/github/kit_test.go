package github

import (
	"sync"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/connectortest"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// TestKit holds the source to the promises of all connectors, on github.com and
// on an Enterprise Server that is older.
func TestKit(t *testing.T) {
	const secret, token = "kit-secret-5e0b", "kit-token-91ac"
	for name, o := range map[string]FakeOptions{
		"github.com": {Noise: true},
		"enterprise": {Enterprise: true, NoGraphQL: true, PageSize: 3, CursorAfter: 4},
	} {
		o.Token, o.WebhookSecret = token, secret
		t.Run(name, func(t *testing.T) {
			connectortest.Run(t, connectortest.Harness{
				Start:     func(t testing.TB, _ *time.Location) *connectortest.Tracker { return drive(t, o) },
				Field:     flow.FieldState,
				Statuses:  []flow.Value{{Name: "open"}, {Name: "closed", Category: "completed"}},
				Precision: time.Second,
				Token:     token,
				Private:   []string{secret, fakeMaintainer, "kit-assignee"},
				Without: map[connectortest.Ability]string{
					connectortest.Births:   "an issue is born open",
					connectortest.Relocate: "a transferred issue is another issue, with an id of its own",
					connectortest.Rename:   "open and closed have no other names",
					connectortest.Zones:    "all times are in UTC",
				},
			})
		})
	}
}

// drive makes a site with a driver for the kit.
func drive(t testing.TB, o FakeOptions) *connectortest.Tracker {
	const repo = "acme/api"
	var mu sync.Mutex
	clock := time.Now()
	o.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return clock
	}
	tick := func(at time.Time) {
		mu.Lock()
		defer mu.Unlock()
		clock = at
	}
	f := NewFake(o)
	f.AddRepo(repo)
	f.AddLabel(repo, "urgent")
	sent := map[string]connectortest.Delivery{}
	note := func(item string) {
		for _, d := range f.Deliveries() {
			sent[item] = connectortest.Delivery(d)
		}
	}
	given := func(text string) func() (string, error) { return func() (string, error) { return text, nil } }
	return &connectortest.Tracker{
		New: func(k connectortest.Options) connector.Source {
			c := Config{
				Repos: []string{repo}, Token: given(o.Token), WebhookSecret: given(o.WebhookSecret), Titles: true,
				Transport: k.Wrap(&direct{Handler: f}), Logger: k.Logger, PageSize: k.PageSize,
			}
			if o.Enterprise {
				c.URL = "https://github.example.com/api/v3"
			}
			s, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Create: func(at time.Time, _ flow.Value) string {
			tick(at)
			id := f.Create(at, repo, "Item", CreateOptions{})
			f.Assign(at, id, "kit-assignee")
			f.Label(at, id, "urgent")
			note(id)
			return id
		},
		Move: func(at time.Time, item string, status flow.Value) {
			tick(at)
			if status.Name == "closed" {
				f.Close(at, item, "completed")
			} else {
				f.Reopen(at, item)
			}
			note(item)
		},
		Delete: func(at time.Time, item string) {
			tick(at)
			f.Delete(at, item)
			note(item)
		},
		Deliver: func(item string) connectortest.Delivery { return sent[item] },
		Sign:    func(body []byte) connectortest.Delivery { return connectortest.Delivery(f.Sign("issues", body)) },
		Ignored: func() connectortest.Delivery { return connectortest.Delivery(f.Sign("star", []byte("{}"))) },
	}
}
