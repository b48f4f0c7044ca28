package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// counting is a census under way.
type counting struct {
	items    map[int64]connector.Item // by id: entries at the edge of a page are listed twice
	repo     int                      // index of the repository at hand
	walk     walk
	failures int      // of the repository at hand, in a row
	listed   []string // repositories that were listed whole
	broken   []error  // of those that could not be listed
}

// Census implements [connector.Censor]. A census that failed goes on where it
// stopped: what was in sight then counts as being in sight. It goes on without a
// repository that is refused, or fails again and again, and counts for the others:
// an issue that moves to another repository is another issue there.
func (s *Source) Census(ctx context.Context, live func(connector.Item)) error {
	if s.counting == nil {
		s.counting = &counting{items: make(map[int64]connector.Item)}
	}
	c := s.counting
	for c.repo < len(s.repos) {
		repo := s.repos[c.repo]
		switch err := s.countRepo(ctx, repo, c); {
		case err == nil:
			c.listed = append(c.listed, repo)
		case ctx.Err() != nil || general(err):
			return err
		default:
			if c.failures++; firstWait(err) == afterFailure && c.failures < patience {
				return err
			}
			c.broken = append(c.broken, err)
		}
		c.repo, c.walk, c.failures = c.repo+1, walk{}, 0
	}
	s.counting = nil
	err := errors.Join(c.broken...)
	if len(c.listed) == 0 {
		return err
	}
	for _, item := range c.items {
		live(item)
	}
	if err != nil {
		return &connector.PartialError{Err: err, Listed: c.listed}
	}
	return nil
}

// countRepo lists a repository from where the census is. It walks in the order of
// updates as the scan does, because there an issue that disappears meanwhile pulls
// no other past the reader.
func (s *Source) countRepo(ctx context.Context, repo string, c *counting) error {
	for range maxPages {
		l, err := s.list(ctx, repo, &c.walk)
		if err != nil {
			return err
		}
		c.failures = 0
		for k := range l.entries {
			if is := &l.entries[k]; is.PullRequest == nil {
				c.items[is.ID] = is.live()
			}
		}
		if c.walk.advance(l) {
			return nil
		}
	}
	return fmt.Errorf("repository %s: its list has more than %d pages", repo, maxPages)
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

// Trace implements [connector.Tracer]. The address of an issue that was
// transferred leads to what it is now.
func (s *Source) Trace(ctx context.Context, missed connector.Item) ([]flow.Change, error) {
	name, digits, _ := strings.Cut(missed.Key, "#")
	repo, ok := s.repoOf(name)
	number, err := strconv.Atoi(digits)
	if !ok || err != nil || number <= 0 {
		return nil, nil
	}
	var now issue
	path := s.pathOf(repo)
	r, err := s.client.get(ctx, path+"/issues/"+digits, &now)
	switch {
	case gone(err) || statusOf(err) == http.StatusMovedPermanently: // to nowhere
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("trace issue %s: %w", missed.Key, err)
	case now.item() == missed.ID:
		return nil, fmt.Errorf("trace issue %s: %w", missed.Key, errUnlisted)
	case now.lacking() || !s.elsewhere(r, path):
		return nil, nil
	}
	if _, read := s.repoOf(now.repository()); !read {
		return nil, nil
	}
	id, err := strconv.ParseInt(missed.ID, 10, 64)
	if err != nil {
		return nil, nil
	}
	old := hookIssue{ID: id, Number: number, CreatedAt: now.CreatedAt}
	return []flow.Change{s.transferred(repo, &old, &hookIssue{ID: now.ID, UpdatedAt: now.UpdatedAt}, true)}, nil
}

// errUnlisted says that a list lacks what exists, which it may for a while.
var errUnlisted = errors.New("it is there, but in no list")
