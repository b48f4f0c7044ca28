package connectortest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A Source reads a Tickets server.
type Source struct {
	*connector.Client
	limit int // events to ask for at a time
}

// New makes a source, as a [connector.Factory] does.
func New(spec connector.Spec) (connector.Source, error) {
	client, err := connector.NewClient(connector.ClientConfig{URL: spec.URL, Token: spec.Token, Transport: spec.Transport})
	return &Source{client, 100}, err
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
		next := url.Values{"after": {fmt.Sprint(at.Last)}, "limit": {fmt.Sprint(s.limit)}}
		if err := s.Get(ctx, "/events", next, &events); err != nil || len(events) == 0 {
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
