package connectortest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A Source reads a Tickets server, some events at a time.
type Source struct {
	URL       url.URL // of the list of events
	Token     string
	Limit     int
	Transport http.RoundTripper // follows no redirect, so that the token goes nowhere else
}

// Poll implements [connector.Source]. The cursor is the number of the last event.
func (s *Source) Poll(ctx context.Context, from connector.Cursor, emit func(connector.Batch) error) error {
	var at struct{ V, Last int64 }
	if len(from) > 0 && (json.Unmarshal(from, &at) != nil || at.V != 1) {
		return fmt.Errorf("%w: %q", connector.ErrCursor, from)
	}
	for at.V = 1; ; {
		var events []struct {
			ID                           int64
			Ticket, Project, Was, Status string
			At                           time.Time
		}
		if err := s.get(ctx, fmt.Sprintf("after=%d&limit=%d", at.Last, s.Limit), &events); err != nil || len(events) == 0 {
			return err
		}
		var b connector.Batch
		for _, e := range events {
			c := flow.Change{ID: fmt.Sprint(e.ID), Item: e.Ticket, Container: e.Project, At: e.At, Sequence: e.ID, Kind: flow.Updated}
			c.Fields = []flow.FieldChange{{Field: flow.FieldStatus, From: flow.Value{Name: e.Was}, To: flow.Value{Name: e.Status}}}
			if e.Was == "" {
				c.Kind = flow.Created
			}
			b.Changes, at.Last = append(b.Changes, c), e.ID
		}
		b.Cursor, _ = json.Marshal(at)
		if err := emit(b); err != nil {
			return err
		}
	}
}

func (s *Source) get(ctx context.Context, query string, into any) error {
	u := s.URL
	u.RawQuery = query
	r := &http.Request{URL: &u, Header: http.Header{"Authorization": {"Bearer " + s.Token}}}
	resp, err := s.Transport.RoundTrip(r.WithContext(ctx))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	failure := fmt.Errorf("get events: %s", resp.Status)
	wait, unlimited := time.ParseDuration(resp.Header.Get("Retry-After") + "s")
	switch {
	case unlimited == nil:
		return &connector.RateLimitError{Until: time.Now().Add(wait), Err: failure}
	case resp.StatusCode == http.StatusUnauthorized:
		return &connector.AuthError{Err: failure}
	case resp.StatusCode != http.StatusOK:
		return failure
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
