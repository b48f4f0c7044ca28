package jira

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// A reading is a page of the scan whose issues get their complete histories,
// however many requests that takes. It is kept over a failure, a rate limit
// above all, so that every request brings the scan forward.
type reading struct {
	cursor string // for which the page was read
	page   page
	logs   map[text]*log   // of the issues whose inline changelog is not complete
	bulk   string          // token of the next page of the bulk changelog
	bulks  map[string]bool // tokens that it gave
	bulked bool            // the bulk changelog has nothing more to give
}

// log is one issue's history as far as it has been read.
type log struct {
	histories []history
	known     map[text]bool // ids of histories
	start     int           // offset of the next page
	done      bool
}

func newLog() *log { return &log{known: make(map[text]bool)} }

func (l *log) add(histories []history) (fresh int) {
	for _, h := range histories {
		if !l.known[h.ID] {
			l.known[h.ID] = true
			l.histories = append(l.histories, h)
			fresh++
		}
	}
	return fresh
}

func newReading(cursor string, p page) *reading {
	r := &reading{cursor: cursor, page: p, logs: make(map[text]*log), bulks: make(map[string]bool)}
	for k := range p.issues {
		if is := &p.issues[k]; !is.Changelog.complete() {
			r.logs[is.ID] = newLog()
		}
	}
	return r
}

// histories returns the complete history of an issue of a completed reading.
func (r *reading) histories(is *issue) []history {
	if l := r.logs[is.ID]; l != nil {
		return l.histories
	}
	return is.Changelog.Histories
}

// complete reads what is missing of the histories: in bulk where the site can,
// else issue by issue.
func (s *Source) complete(ctx context.Context, r *reading) error {
	if len(r.logs) == 0 {
		return nil
	}
	if s.cloud() && !s.noBulk {
		if err := s.readBulk(ctx, r); err != nil {
			return fmt.Errorf("read changelogs: %w", err)
		}
	}
	for k := range r.page.issues {
		is := &r.page.issues[k]
		l := r.logs[is.ID]
		for l != nil && !l.done {
			if err := s.readLog(ctx, is, l); err != nil {
				return fmt.Errorf("read changelog of %s: %w", is.Key, err)
			}
		}
	}
	return nil
}

// maxBulk is how many issues one request for changelogs may name.
const maxBulk = 1000

// readBulk reads the histories of all issues of a page that need it. An issue's
// entries may be split over pages, and an issue without any is absent.
func (s *Source) readBulk(ctx context.Context, r *reading) error {
	var ids []string
	for k := range r.page.issues {
		if is := &r.page.issues[k]; r.logs[is.ID] != nil && len(ids) < maxBulk {
			ids = append(ids, string(is.ID))
		}
	}
	for !r.bulked {
		body := map[string]any{"issueIdsOrKeys": ids, "maxResults": 1000}
		if r.bulk != "" {
			body["nextPageToken"] = r.bulk
		}
		var answer bulkAnswer
		err := s.client.Post(ctx, "/rest/api/3/changelog/bulkfetch", body, &answer)
		switch {
		case unavailable(err):
			s.noBulk = true
			return nil
		case connector.StatusOf(err) == http.StatusBadRequest: // an old token, or a list that it does not like
			r.bulked = true
			return nil
		case err != nil:
			return err
		}
		for _, part := range answer.Logs {
			if l := r.logs[part.IssueID]; l != nil {
				l.add(part.Histories)
			}
		}
		r.bulk = answer.NextPageToken
		r.bulked = r.bulk == "" || r.bulks[r.bulk]
		if r.bulks[r.bulk] { // in a circle: each issue is asked on its own
			for id := range r.logs {
				r.logs[id] = newLog()
			}
			return nil
		}
		r.bulks[r.bulk] = r.bulk != ""
	}
	// Where fewer came than the issue itself tells of, it is asked on its own.
	for k := range r.page.issues {
		is := &r.page.issues[k]
		if l := r.logs[is.ID]; l != nil && !l.done && slices.Contains(ids, string(is.ID)) {
			l.done = is.Changelog == nil || is.Changelog.Total == nil || len(l.histories) >= *is.Changelog.Total
		}
	}
	return nil
}

// readLog reads the next page of one issue's history.
func (s *Source) readLog(ctx context.Context, is *issue, l *log) error {
	const limit = 100
	var answer changelogAnswer
	values := url.Values{"startAt": {strconv.Itoa(l.start)}, "maxResults": {strconv.Itoa(limit)}}
	err := s.getEither(ctx, "/issue/"+url.PathEscape(string(is.ID))+"/changelog", values, &answer)
	if unavailable(err) {
		return s.onlyInline(ctx, is, l)
	}
	if err != nil {
		return err
	}
	entries := append(answer.Values, answer.Histories...)
	fresh := l.add(entries)
	l.start += len(entries)
	switch {
	case len(entries) == 0:
		l.done = true
	case answer.Total != nil:
		l.done = l.start >= *answer.Total
	case answer.IsLast != nil:
		l.done = *answer.IsLast
	default:
		l.done = len(entries) < max(answer.MaxResults, 1)
	}
	if !l.done && fresh == 0 {
		return errors.New("the site gave the same page twice")
	}
	return nil
}

// errCut refuses to take a part of a history for the whole: what is missing is
// the oldest part, the start of the work.
var errCut = errors.New("the site shows only a part of the history, and has no way to get the rest, or the issue has just gone")

// onlyInline is for sites without an endpoint for changelogs, and for issues
// that have gone since they were found. What comes with the issue will do where
// it is not known to be cut.
func (s *Source) onlyInline(ctx context.Context, is *issue, l *log) error {
	var whole issue
	values := url.Values{"fields": {"updated"}, "expand": {"changelog"}}
	err := s.getEither(ctx, "/issue/"+url.PathEscape(string(is.ID)), values, &whole)
	if err != nil && !unavailable(err) {
		return err
	}
	log := whole.Changelog
	if log == nil {
		log = is.Changelog
	}
	if log == nil || log.Total != nil && !log.complete() {
		return errCut
	}
	l.add(log.Histories)
	l.done = true
	return nil
}

// formerProjects asks for the keys of projects that histories name by id only.
func (s *Source) formerProjects(ctx context.Context, r *reading) error {
	for k := range r.page.issues {
		for _, h := range r.histories(&r.page.issues[k]) {
			it := first(h.Items, fieldProject)
			if it == nil || it.From == "" || first(h.Items, fieldKey) != nil {
				continue
			}
			if _, known := s.former[it.From]; known {
				continue
			}
			var p project
			err := s.getEither(ctx, "/project/"+url.PathEscape(string(it.From)), nil, &p)
			if err != nil && !unavailable(err) {
				return fmt.Errorf("ask for project %s: %w", it.From, err)
			}
			s.former[it.From] = p.Key // empty: the project has gone
		}
	}
	return nil
}
