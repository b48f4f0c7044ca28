package jira

import (
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/connectortest"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// TestKit holds the source to the promises of all connectors, on both kinds of
// site and on the most unfriendly ones.
func TestKit(t *testing.T) {
	for name, o := range map[string]FakeOptions{
		"cloud":             {InlineHistories: 40, BulkSize: 50, Email: testEmail},
		"cloud, unfriendly": {InlineHistories: 3, Email: testEmail, NoBulkFetch: true, PositionTokens: true, WrittenTimes: true},
		"data center":       {DataCenter: true},
	} {
		t.Run(name, func(t *testing.T) {
			connectortest.Run(t, connectortest.Harness{
				Start: func(t testing.TB, zone *time.Location) *connectortest.Tracker {
					o := o
					o.Location, o.Token = zone, testToken
					return drive(t, o)
				},
				Statuses: []flow.Value{
					{ID: "1", Name: "Backlog", Category: "new"},
					{ID: "2", Name: "In Progress", Category: "indeterminate"},
					{ID: "3", Name: "Done", Category: "done"},
				},
				Token:   testToken,
				Private: []string{testEmail, "user-1"},
				Without: map[connectortest.Ability]string{
					connectortest.Webhooks: "the source reads no deliveries",
				},
			})
		})
	}
}

// drive makes a site with a driver for the kit.
func drive(t testing.TB, o FakeOptions) *connectortest.Tracker {
	f := NewFake(o)
	f.AddProject("PAY", "Payments")
	f.AddProject("PLAT", "Platform")
	f.AddStatus("1", "Backlog", "new")
	f.AddStatus("2", "In Progress", "indeterminate")
	f.AddStatus("3", "Done", "done")
	f.AddType("1", "Story")
	return &connectortest.Tracker{
		New: func(k connectortest.Options) connector.Source {
			s, err := New(Config{
				URL: siteAddress, Projects: []string{"PAY", "PLAT"}, Titles: true, PageSize: k.PageSize,
				Email: o.Email, Token: func() (string, error) { return o.Token, nil }, Transport: k.Wrap(direct{f}),
			})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Create: func(at time.Time, status flow.Value) string {
			id := f.Create(at, "PAY", "Story", "id:"+status.ID, "Item")
			f.Edit(at, id, SetAssigned(true))
			return id
		},
		Move: func(at time.Time, item string, status flow.Value) {
			f.Edit(at, item, SetStatus("id:"+status.ID))
		},
		Relocate: func(at time.Time, item string) (from, to string) {
			f.Edit(at, item, MoveTo("PLAT"))
			return "PAY", "PLAT"
		},
		RenameStatus: func(status flow.Value) flow.Value {
			status.Name = "Under Way"
			f.RenameStatus(status.ID, status.Name)
			return status
		},
		Delete: func(_ time.Time, item string) { f.Delete(item) },
	}
}
