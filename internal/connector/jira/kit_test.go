package jira

import (
	"net/http"
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
				Private: []string{testEmail, "user-1", hookSecret},
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
	sent := map[string]connectortest.Delivery{}
	tell := func(at time.Time, event, item string) {
		header, body := f.Delivery(hookSecret, event, item, at)
		sent[item] = connectortest.Delivery{Header: header, Body: body}
	}
	sign := func(body []byte) connectortest.Delivery {
		return connectortest.Delivery{Header: http.Header{signatureHeader: {"sha256=" + signature(hookSecret, body)}}, Body: body}
	}
	return &connectortest.Tracker{
		Zone: o.Location,
		New: func(k connectortest.Options) connector.Source {
			s, err := New(Config{
				URL: siteAddress, Projects: []string{"PAY", "PLAT"}, Titles: true, PageSize: k.PageSize,
				Email: o.Email, Token: func() (string, error) { return o.Token, nil }, Transport: k.Wrap(direct{f}),
				WebhookSecret: func() (string, error) { return hookSecret, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			return s
		},
		Create: func(at time.Time, status flow.Value) string {
			id := f.Create(at, "PAY", "Story", "id:"+status.ID, "Item")
			f.Edit(at, id, SetAssigned(true))
			tell(at, "jira:issue_created", id)
			return id
		},
		Move: func(at time.Time, item string, status flow.Value) {
			f.Edit(at, item, SetStatus("id:"+status.ID))
			tell(at, "jira:issue_updated", item)
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
		Delete: func(at time.Time, item string) {
			tell(at, "jira:issue_deleted", item)
			f.Delete(item)
		},
		Deliver: func(item string) connectortest.Delivery { return sent[item] },
		Sign:    sign,
		Ignored: func() connectortest.Delivery { return sign([]byte(`{"webhookEvent":"sprint_created"}`)) },
	}
}
