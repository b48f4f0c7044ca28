package github

import (
	"context"
	"fmt"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// counting is a census under way.
type counting struct {
	items map[int64]connector.Item // by id: entries at the edge of a page are listed twice
	repo  int                      // index of the repository at hand
	walk  walk
}

// Census implements [connector.Censor]. A census that failed goes on where it
// stopped: what was in sight then counts as being in sight. It walks in the
// order of updates as the scan does, because there an issue that disappears
// meanwhile pulls no other past the reader.
func (s *Source) Census(ctx context.Context, live func(connector.Item)) error {
	if s.counting == nil {
		s.counting = &counting{items: make(map[int64]connector.Item)}
	}
	c := s.counting
	for c.repo < len(s.repos) {
		repo := s.repos[c.repo]
		end := false
		for pages := 0; !end; pages++ {
			if pages == maxPages {
				return fmt.Errorf("repository %s: its list has more than %d pages", repo, maxPages)
			}
			l, err := s.list(ctx, repo, &c.walk)
			if err != nil {
				return err
			}
			for k := range l.entries {
				if is := &l.entries[k]; is.PullRequest == nil {
					c.items[is.ID] = is.live()
				}
			}
			end = c.walk.advance(l)
		}
		c.repo, c.walk = c.repo+1, walk{}
	}
	s.counting = nil
	for _, item := range c.items {
		live(item)
	}
	return nil
}

// live is what a census tells of an issue.
func (is *issue) live() connector.Item {
	item := connector.Item{ID: is.item(), Key: is.key(), Container: is.Repository}
	if is.Type != nil {
		item.Type = is.Type.value()
	}
	for _, l := range is.Labels {
		item.Labels = append(item.Labels, l.Name)
	}
	return item
}
