package github

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// maxPages bounds a walk, should a site never come to an end.
const maxPages = 1_000_000

// A walk goes through the entries of a repository in the order of their
// updates. After each page it asks for what was updated since the last entry of
// that page, so that an entry which is updated meanwhile, and so leaves its
// place, pulls nothing past the reader. Only where a page does not get past the
// second that it begins with are the site's links followed. There entries that
// leave the second do pull others past the reader, and so it is gone through
// until once nothing left it meanwhile.
type walk struct {
	from int64  // seconds of the epoch
	next string // link to follow instead
	tie  *tie   // the second that is gone through, if any
	lost bool   // a link through this second was refused before
}

// clone returns a walk that can go on by itself.
func (w *walk) clone() walk {
	c := *w
	if w.tie != nil {
		t := *w.tie
		t.listed = maps.Clone(t.listed)
		c.tie = &t
	}
	return c
}

// A tie is one second with more entries than a page holds.
type tie struct {
	second  int64
	listed  map[int64]struct{} // ids of its entries, this time through
	before  map[int64]struct{} // the same of the time before; nil: there was none from the first page on
	partial bool               // this time did not begin with the first page
}

// again begins the next time through, unless the time before was complete: that
// is when all that it listed is still there, for then nothing was pulled past it.
func (t *tie) again() bool {
	complete := t.before != nil
	for id := range t.before {
		if _, still := t.listed[id]; !still {
			complete = false
			break
		}
	}
	if t.before = t.listed; t.partial {
		t.before = nil
	}
	t.listed, t.partial = make(map[int64]struct{}), false
	return !complete
}

// A listing is one page of a list of issues.
type listing struct {
	entries []issue
	refused []refusal
	reply   reply
}

// newest is the last update on the page, in seconds; 0 where there is none.
func (l *listing) newest() int64 {
	var newest int64
	for k := range l.entries {
		newest = max(newest, l.entries[k].updated())
	}
	return newest
}

// list asks for the page at the walk's place.
func (s *Source) list(ctx context.Context, repo string, w *walk) (*listing, error) {
	l, err := s.listAt(ctx, repo, w)
	if w.next != "" && !w.lost && (gone(err) || statusOf(err) == http.StatusUnprocessableEntity || statusOf(err) == http.StatusBadRequest) {
		// The link is not good any more: once through the second again.
		w.next, w.tie, w.lost = "", nil, true
		l, err = s.listAt(ctx, repo, w)
	}
	return l, s.aboutRepo(repo, err)
}

func (s *Source) listAt(ctx context.Context, repo string, w *walk) (*listing, error) {
	path := s.pathOf(repo)
	target := w.next
	if target == "" {
		q := url.Values{"state": {"all"}, "sort": {"updated"}, "direction": {"asc"}, "per_page": {strconv.Itoa(s.pageSize)}}
		if w.from > 0 {
			q.Set("since", time.Unix(w.from, 0).UTC().Format(time.RFC3339))
		}
		target = path + "/issues?" + q.Encode()
	}
	return s.listURL(ctx, repo, target)
}

// listURL asks for one page of a list of a repository's issues.
func (s *Source) listURL(ctx context.Context, repo, target string) (*listing, error) {
	var p page[issue]
	r, err := s.client.get(ctx, target, &p)
	if err != nil {
		return nil, err
	}
	if r.next != "" && r.next == target {
		return nil, errors.New("the link to the next page leads to the same page")
	}
	// A repository that was renamed answers at another place, which is asked at
	// once from then on.
	if own, ok := strings.CutPrefix(r.url.Path, s.client.base.Path); ok && strings.HasSuffix(own, "/issues") {
		s.paths[repo] = strings.TrimSuffix(own, "/issues")
	}
	for k := range p.entries {
		p.entries[k].Repository = repo
	}
	if len(p.entries) > 0 {
		s.learnName(repo, &p.entries[0])
	}
	return &listing{entries: p.entries, refused: p.refused, reply: r}, nil
}

// pathOf returns the path of a repository below the site's URL.
func (s *Source) pathOf(repo string) string {
	if path := s.paths[repo]; path != "" {
		return path
	}
	return "repos/" + repo
}

// aboutRepo says what an error means for a repository.
func (s *Source) aboutRepo(repo string, err error) error {
	if err == nil {
		return nil
	}
	if gone(err) {
		delete(s.paths, repo)
	}
	switch statusOf(err) {
	case http.StatusNotFound:
		return &connector.ConfigError{Err: fmt.Errorf("repository %s: it does not exist, or these credentials do not see it: %w", repo, err)}
	case http.StatusGone:
		return &connector.ConfigError{Err: fmt.Errorf("repository %s: its issues are disabled: %w", repo, err)}
	case http.StatusUnavailableForLegalReasons:
		return &connector.ConfigError{Err: fmt.Errorf("repository %s: it is blocked: %w", repo, err)}
	}
	return fmt.Errorf("repository %s: %w", repo, err)
}

// advance takes the walk on after a page and reports whether that was the end.
func (w *walk) advance(l *listing) (end bool) {
	newest := l.newest()
	past := l.reply.next == "" || newest > w.from
	if w.tie == nil && w.next == "" && past {
		w.from, w.next, w.lost = max(w.from, newest), "", false
		return l.reply.next == ""
	}
	if w.tie == nil {
		w.tie = &tie{second: w.from, listed: make(map[int64]struct{}), partial: w.next != ""}
	}
	for k := range l.entries {
		if e := &l.entries[k]; e.updated() == w.tie.second {
			w.tie.listed[e.ID] = struct{}{}
		}
	}
	if !past {
		w.next = l.reply.next
		return false
	}
	w.next = ""
	if w.tie.again() {
		return false
	}
	w.tie, w.lost = nil, false
	if newest <= w.from {
		return l.reply.next == ""
	}
	// What follows the second on this page may have been pulled there.
	w.from++
	return false
}
