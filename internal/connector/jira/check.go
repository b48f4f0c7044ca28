package jira

import (
	"cmp"
	"context"
	"fmt"
	"net/url"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// Check implements [connector.Checker]: it sees whether the site takes the
// credentials and knows the projects.
func (s *Source) Check(ctx context.Context) error {
	if err := s.detect(ctx); err != nil {
		return err
	}
	if !s.client.anonymous {
		var me struct{}
		if err := s.getEither(ctx, "/myself", nil, &me); err != nil && !missing(err) {
			return fmt.Errorf("ask who the token belongs to: %w", err)
		}
	}
	_, err := s.search(ctx, query{fields: []string{"id"}, limit: 1}, position{}, nil)
	return refused(err)
}

// Statuses implements [connector.StatusLister].
func (s *Source) Statuses(ctx context.Context) ([]flow.Value, error) {
	if err := s.detect(ctx); err != nil {
		return nil, err
	}
	return s.listStatuses(ctx)
}

func (s *Source) listStatuses(ctx context.Context) ([]flow.Value, error) {
	var list []status
	if err := s.getEither(ctx, "/status", nil, &list); err != nil {
		return nil, fmt.Errorf("list statuses: %w", err)
	}
	values := make([]flow.Value, len(list))
	for k, st := range list {
		values[k] = flow.Value{ID: string(st.ID), Name: st.Name, Category: st.category()}
	}
	return values, nil
}

// Types implements [connector.TypeLister]. A site without a list of types has an
// empty one.
func (s *Source) Types(ctx context.Context) ([]flow.Value, error) {
	if err := s.detect(ctx); err != nil {
		return nil, err
	}
	var list []named
	if err := s.getEither(ctx, "/issuetype", nil, &list); err != nil && !unavailable(err) {
		return nil, fmt.Errorf("list issue types: %w", err)
	}
	values := make([]flow.Value, len(list))
	for k, t := range list {
		values[k] = flow.Value{ID: string(t.ID), Name: t.Name}
	}
	return values, nil
}

// getEither asks for a path in the version of the interface that the kind of
// site should have, and then in the other.
func (s *Source) getEither(ctx context.Context, path string, query url.Values, into any) error {
	apis := [2]string{"/rest/api/2", "/rest/api/3"}
	if s.cloud() && !s.oldAPI {
		apis[0], apis[1] = apis[1], apis[0]
	}
	err := s.client.Get(ctx, apis[0]+path, query, into)
	if !missing(err) {
		return err
	}
	other := s.client.Get(ctx, apis[1]+path, query, into)
	switch {
	case other == nil:
		s.oldAPI = s.cloud() && apis[1] == "/rest/api/2"
		return nil
	case missing(other):
		return err
	}
	return other
}

// census is a census under way.
type census struct {
	items    []connector.Item
	at       position
	followed trail
	shifting bool // issues may have been pulled past the reader
	second   bool // this is the second listing
}

// censusSize is how many issues a census asks for at a time.
const censusSize = 1000

// Census implements [connector.Censor]. A census that failed goes on where it
// stopped: what was in sight then counts as being in sight. Where tokens or
// offsets had to be followed, which may skip issues while others change, it
// lists everything twice, so that nothing is missing unless it is so twice.
func (s *Source) Census(ctx context.Context, live func(connector.Item)) error {
	if s.census == nil {
		s.census = &census{followed: make(trail)}
	}
	c := s.census
	for range maxPages {
		p, err := s.search(ctx, query{fields: []string{"updated", "status", "project", "issuetype", "labels"}, limit: censusSize}, c.at, c.followed)
		if err != nil {
			if c.at.Token != "" && forgotten(err) {
				s.census = nil
			}
			return refused(err)
		}
		for k := range p.issues {
			is := &p.issues[k]
			c.items = append(c.items, connector.Item{
				ID: string(is.ID), Key: is.Key, Container: cmp.Or(is.Fields.Project.Key, projectOf(is.Key)),
				Status: flow.Value{ID: string(is.Fields.Status.ID), Name: is.Fields.Status.Name, Category: is.Fields.Status.category()},
				Type:   flow.Value{ID: string(is.Fields.Type.ID), Name: is.Fields.Type.Name},
				Labels: is.Fields.Labels,
			})
		}
		c.at = p.next
		c.followed.mark(c.at)
		c.shifting = c.shifting || !p.last && (c.at.Token != "" || c.at.Start > 0 || c.at.Plain)
		if p.last && c.shifting && !c.second {
			c.at, c.followed, c.second = position{}, make(trail), true
			continue
		}
		if p.last {
			s.census = nil
			for _, item := range c.items {
				live(item)
			}
			return nil
		}
	}
	return fmt.Errorf("search has more than %d pages", maxPages)
}

// Requests implements [connector.Meter].
func (s *Source) Requests() map[string]int64 { return s.client.Requests() }

// RateLimitRemaining implements [connector.Meter].
func (s *Source) RateLimitRemaining() (int, bool) { return s.client.RateLimitRemaining() }
