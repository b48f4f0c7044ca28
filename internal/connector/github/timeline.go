package github

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// maxTimeline bounds the pages of one timeline.
const maxTimeline = 1000

// A history is an issue's timeline as far as it can be used.
type history struct {
	events  []event
	refused []refusal
	read    time.Time // when reading began
	gone    bool      // the issue is not in the repository any more
	missing bool      // it could not be read; the scan goes on without it
}

// events is a page of a timeline without the events that do not matter.
type events struct{ page[event] }

func (p *events) decode(text []byte) error {
	all, ok := elements(text)
	if !ok {
		return p.page.decode(text)
	}
	needed := all[:0]
	for _, one := range all {
		if kind, ok := member(one, "event"); !ok || matters(string(kind)) || string(kind) == mention {
			needed = append(needed, one)
		}
	}
	return p.each(needed)
}

// An unfinished timeline is one of which some pages were read when a request
// failed. It goes on from there, so that a long one comes to an end where the
// site fails now and then.
type unfinished struct {
	history
	url string // of the next page
}

// readTimeline reads the whole timeline of an issue, or the rest of one that is
// unfinished; after a failure it returns what was read until then, nil for
// nothing. That there is none is an error: the site has just told of the issue.
// The path is that of its repository, such as "repos/acme/api", and the size that
// of the pages.
func (s *Source) readTimeline(ctx context.Context, path string, number, size int, from *unfinished) (*history, *unfinished, error) {
	u := unfinished{url: fmt.Sprintf("%s/issues/%d/timeline?per_page=%d", path, number, size)}
	if from != nil {
		u = *from
	}
	failed := func(err error) (*history, *unfinished, error) {
		if u.read.IsZero() {
			return nil, nil, err
		}
		return nil, &u, err
	}
	for range maxTimeline {
		var p events
		r, err := s.client.get(ctx, u.url, &p)
		if gone(err) && statusOf(err) != http.StatusNotFound {
			return &history{gone: true}, nil, nil
		}
		if err != nil {
			return failed(err)
		}
		if u.read.IsZero() {
			if s.elsewhere(r, path) {
				return &history{gone: true}, nil, nil
			}
			u.read = r.received
		}
		u.events = append(u.events, p.entries...)
		u.refused = append(u.refused, p.refused...)
		if r.next == "" {
			return &u.history, nil, nil
		}
		u.url = r.next
	}
	return nil, nil, fmt.Errorf("timeline of issue %d has more than %d pages", number, maxTimeline)
}

// elsewhere reports whether an answer is about another repository than was
// asked for: that of an issue that was transferred.
func (s *Source) elsewhere(r reply, path string) bool {
	return r.url != nil && !strings.HasPrefix(r.url.Path, s.client.base.Path+path+"/")
}

// readIssue reads a single issue. One that is not there, or not there any more,
// has no changes, and nor has a pull request. The size is that of the pages of
// its timeline.
func (s *Source) readIssue(ctx context.Context, repo string, number, size int) ([]flow.Change, error) {
	var is issue
	path := s.pathOf(repo)
	r, err := s.client.get(ctx, path+"/issues/"+strconv.Itoa(number), &is)
	if gone(err) || statusOf(err) == http.StatusMovedPermanently {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read issue: %w", err)
	}
	if s.elsewhere(r, path) || is.PullRequest != nil {
		return nil, nil
	}
	is.Repository = repo
	h, _, err := s.readTimeline(ctx, path, number, size, nil)
	if err != nil {
		return nil, fmt.Errorf("read timeline: %w", err)
	}
	if h.gone {
		return nil, nil
	}
	if h.transferred() {
		moved, err := s.askTransfers(ctx, []string{is.NodeID})
		if err != nil {
			return nil, err
		}
		h.nameFormer(moved[is.item()])
	}
	if _, _, err := s.readEvidence(ctx, nil, map[int64]*history{is.ID: h}); err != nil {
		return nil, fmt.Errorf("read evidence: %w", err)
	}
	s.countRejected(len(h.refused))
	t := translator{titles: s.titles, pulls: s.mentions}
	return t.changes(&is, h.events), nil
}

// mentioned returns a pull request that mentions the issue, or nil.
func (h *history) mentioned() *issue {
	for k := range h.events {
		if e := &h.events[k]; e.Source != nil && e.Source.Issue != nil && e.Source.Issue.PullRequest != nil {
			return e.Source.Issue
		}
	}
	return nil
}
