package jira

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const hookSecret = "It's a Secret to Everybody"

func withHook(c *Config) {
	c.WebhookSecret = func() (string, error) { return hookSecret, nil }
}

// sign returns the headers of a delivery that was made by hand.
func sign(body string) http.Header {
	return http.Header{signatureHeader: {"sha256=" + signature(hookSecret, []byte(body))}}
}

func TestReceive(t *testing.T) {
	f := world(NewFake(FakeOptions{}))
	id, foreign := f.Create(day(3), "PAY", "Bug", "Backlog", "One"), f.Create(day(3), "HR", "Bug", "Backlog", "Two")
	f.Edit(day(4), id, SetStatus("In Review"))
	at := day(5).Add(123 * time.Millisecond)
	deleted := flow.Change{ID: id + ":deleted", Container: "PAY", Item: id, Key: f.Key(id), At: at, Kind: flow.Deleted}
	for _, test := range []struct {
		event, id string
		want      connector.Notice
	}{
		{"jira:issue_created", id, connector.Notice{Items: []string{id}}},
		{"jira:issue_updated", id, connector.Notice{Items: []string{id}}},
		{"jira:issue_deleted", id, connector.Notice{Changes: []flow.Change{deleted}}},
		{"jira:issue_updated", foreign, connector.Notice{}},
		{"jira:issue_deleted", foreign, connector.Notice{}},
		{"jira:worklog_updated", id, connector.Notice{}},
		{"comment_created", id, connector.Notice{}},
	} {
		header, body := f.Delivery(hookSecret, test.event, test.id, at)
		got, err := newSource(t, f, withHook).Receive(t.Context(), header, body)
		if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", test.event, err, diff)
		}
		for _, c := range got.Changes {
			c.Source = "jira-main"
			if err := c.Validate(); err != nil {
				t.Error(err)
			}
		}
	}
	for name, projects := range map[string][]string{
		"all": nil, "by key": {"pay"}, "by name": {"Payments"}, "by id": {f.projects[0].id},
	} {
		s := newSource(t, f, withHook, func(c *Config) { c.Projects = projects })
		header, body := f.Delivery(hookSecret, "jira:issue_created", id, at)
		if got, err := s.Receive(t.Context(), header, body); err != nil || len(got.Items) != 1 {
			t.Errorf("projects %s: %+v, %v", name, got, err)
		}
	}
	if f.Requests() > 0 {
		t.Error("a delivery makes requests")
	}
}

func TestReceiveRefuses(t *testing.T) {
	f := world(NewFake(FakeOptions{}))
	id := f.Create(day(3), "PAY", "Bug", "Backlog", "One")
	header, body := f.Delivery(hookSecret, "jira:issue_created", id, day(4))
	_, other := f.Delivery(hookSecret, "jira:issue_created", id, day(5))
	with := func(name, value string) http.Header {
		h := maps.Clone(header)
		h.Del(signatureHeader)
		h.Set(name, value)
		return h
	}
	for name, test := range map[string]struct {
		header http.Header
		body   []byte
		secret func() (string, error)
	}{
		"another body":      {header, other, nil},
		"no signature":      {http.Header{}, body, nil},
		"another algorithm": {with(signatureHeader, strings.Replace(header.Get(signatureHeader), "sha256", "sha1", 1)), body, nil},
		"another header":    {with("X-Hub-Signature-256", header.Get(signatureHeader)), body, nil},
		"another secret":    {header, body, func() (string, error) { return "another", nil }},
		"an empty secret":   {header, body, func() (string, error) { return "", nil }},
	} {
		s := newSource(t, f, withHook, func(c *Config) {
			if test.secret != nil {
				c.WebhookSecret = test.secret
			}
		})
		if got, err := s.Receive(t.Context(), test.header, test.body); !errors.Is(err, connector.ErrSignature) || len(got.Items)+len(got.Changes) > 0 {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := newSource(t, f).Receive(t.Context(), header, body); !errors.Is(err, connector.ErrSignature) {
		t.Errorf("without a secret: %v", err)
	}
	lost := errors.New("the file has gone")
	s := newSource(t, f, func(c *Config) { c.WebhookSecret = func() (string, error) { return "", lost } })
	if _, err := s.Receive(t.Context(), header, body); !errors.Is(err, lost) || errors.Is(err, connector.ErrSignature) {
		t.Errorf("with a secret that cannot be read: %v", err)
	}
	s = newSource(t, f, withHook)
	for _, text := range []string{
		``, `{`, `[]`, `{"webhookEvent":7}`, `{}`, `{"webhookEvent":"jira:issue_created"}`,
		`{"webhookEvent":"jira:issue_updated","issue":{"id":"../10001","fields":{"project":{"key":"PAY"}}}}`,
		`{"webhookEvent":"jira:issue_deleted","issue":{"id":"10001","key":"PAY-1"}}`,
	} {
		if got, err := s.Receive(t.Context(), sign(text), []byte(text)); !errors.Is(err, connector.ErrDelivery) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]int{
		`{"webhookEvent":"jira:issue_updated","issue_event_type_name":"issue_commented","issue":{"id":"10001","key":"PAY-1"}}`:                                   0,
		`{"webhookEvent":"jira:issue_updated","issue_event_type_name":"issue_commented","issue":{"id":"10001","key":"PAY-1"},"changelog":{"id":"1","items":[]}}`: 1,
		`{"webhookEvent":"jira:issue_updated","issue":{"id":10001,"key":"PAY-1"}}`:                                                                               1,
	} {
		if got, err := s.Receive(t.Context(), sign(text), []byte(text)); err != nil || len(got.Items) != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
}

// TestRefetch: an issue that is read again tells what a poll tells, with the same
// ids, however the site shows histories.
func TestRefetch(t *testing.T) {
	for name, o := range map[string]FakeOptions{
		"cloud":               {},
		"cloud, cut":          {InlineHistories: 2, PageSize: 3, BulkSize: 5},
		"cloud, without bulk": {InlineHistories: 2, PageSize: 3, NoBulkFetch: true},
		"data center":         {DataCenter: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := world(NewFake(o))
			want, _ := drain(t, newSource(t, f), nil)
			var items []string
			for id := range f.issues { // those of other projects too
				items = append(items, fmt.Sprint(id))
			}
			foreign := f.Create(day(5), "HR", "Bug", "Backlog", "Foreign")
			gone := f.Create(day(5), "PAY", "Bug", "Backlog", "Gone")
			f.Delete(gone)
			items = append(items, gone, foreign)
			var got []flow.Change
			s := newSource(t, f)
			err := s.Refetch(t.Context(), items, func(b connector.Batch) error {
				if b.Cursor != nil || len(b.Rejected) > 0 {
					t.Errorf("batch %+v", b)
				}
				got = append(got, b.Changes...)
				return nil
			})
			if diff := cmp.Diff(lines(t, want), lines(t, unique(t, got))); diff != "" || err != nil {
				t.Errorf("%v, other changes than a poll's (-want +got):\n%s", err, diff)
			}
			broken := errors.New("emit fails")
			if err := s.Refetch(t.Context(), items, func(connector.Batch) error { return broken }); !errors.Is(err, broken) {
				t.Errorf("emit's error: %v", err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := s.Refetch(ctx, items, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("end of the context: %v", err)
			}
		})
	}
}

// TestWebhookRunner lets the real Runner take deliveries: what they name is in
// the log at once, and once, though the site refuses every fourth request.
func TestWebhookRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := world(NewFake(FakeOptions{InlineHistories: 40, LimitEvery: 4, RetryAfter: time.Second}))
		log := new(store)
		runner := connector.NewRunner(connector.Config{
			Name: "jira-main", Source: newSource(t, f, withHook), PollInterval: 24 * time.Hour, Overlaps: true, Publisher: log, Cursors: log,
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- runner.Run(ctx) }()
		time.Sleep(time.Hour)
		before := len(log.all())
		var fresh, ids []string
		receive := func(event, id string, at time.Time) {
			header, body := f.Delivery(hookSecret, event, id, at)
			for range 2 {
				if got, err := runner.Receive(t.Context(), header, body); got != connector.Taken || err != nil {
					t.Errorf("%s: outcome %d, %v", event, got, err)
				}
			}
		}
		for n := range 10 {
			id := f.Create(day(9), "PAY", "Bug", "Backlog", fmt.Sprint(n))
			f.Edit(day(9.5), id, SetStatus("In Review"))
			receive("jira:issue_created", id, day(9.5))
			fresh = append(fresh, id)
		}
		time.Sleep(2 * time.Minute)
		receive("jira:issue_deleted", fresh[0], day(9.7))
		for _, c := range unpublishedTwice(t, log.all())[before:] {
			ids = append(ids, c.Item)
		}
		slices.Sort(ids)
		if ids = slices.Compact(ids); !slices.Equal(ids, fresh) || len(log.all()) != before+21 {
			t.Errorf("told of %v, want %v; %d changes; status %+v", ids, fresh, len(log.all())-before, runner.Status())
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
