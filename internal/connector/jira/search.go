package jira

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// A dialect is a way to search: Cloud pages by token, Data Center by offset.
type dialect struct {
	method, path string
	cloud        bool
}

const (
	cloudSearch      = "/rest/api/3/search/jql"
	dataCenterSearch = "/rest/api/2/search"
)

var (
	cloudDialects      = []dialect{{http.MethodGet, cloudSearch, true}, {http.MethodPost, cloudSearch, true}}
	dataCenterDialects = []dialect{{http.MethodGet, dataCenterSearch, false}, {http.MethodPost, dataCenterSearch, false}}
)

// gateway is the host behind which Cloud sites are reached with OAuth. It shows
// no pages to people, so links lead to the site itself.
const gateway = "api.atlassian.com"

// longQuery is the length of a query, in bytes, from which on it travels in a
// body: servers and proxies refuse long URLs.
const longQuery = 2000

// A position is a place in the list of all issues by time of update.
//
// Cloud continues from a token. Data Center would continue from an offset, but
// an issue that is updated meanwhile moves to the end of the list and pulls all
// others forward, past the reader. There the bound on the time of update moves
// instead, and the offset serves only among issues of one instant, or where a
// site does not honour the bound (plain).
type position struct {
	Since int64  `json:"since"` // bound on the time of update, in milliseconds
	Token string `json:"token,omitempty"`
	Start int    `json:"start,omitempty"`
	Plain bool   `json:"plain,omitempty"`
	Back  *way   `json:"back,omitempty"`
}

// way is what a moved bound relies on: that at least so many issues follow. A
// site that does not keep the order has fewer there, and is read on by offset
// from where the bound was.
type way struct {
	Since int64 `json:"since"`
	Start int   `json:"start"`
	Left  int   `json:"left"`
}

// page is a part of the list and where the rest begins.
type page struct {
	issues []issue
	total  int // issues from the position's bound on, 0 where not told
	next   position
	last   bool // nothing is left
}

// query says what to search for.
type query struct {
	fields     []string
	changelogs bool
	limit      int
}

// detect finds out which dialects may fit, the likeliest first.
func (s *Source) detect(ctx context.Context) error {
	if s.dialects != nil {
		return nil
	}
	var info struct {
		DeploymentType string `json:"deploymentType"`
		BaseURL        string `json:"baseUrl"`
	}
	err := s.client.get(ctx, "/rest/api/2/serverInfo", nil, &info)
	if err != nil && !unavailable(err) {
		return fmt.Errorf("ask for the kind of site: %w", err)
	}
	s.site = s.client.base.String()
	if s.client.base.Host == gateway && info.BaseURL != "" {
		s.site = strings.TrimRight(info.BaseURL, "/")
	}
	if info.DeploymentType == "" || strings.EqualFold(info.DeploymentType, "Cloud") {
		s.dialects = append(append(s.dialects, cloudDialects...), dataCenterDialects...)
	} else {
		s.dialects = append(append(s.dialects, dataCenterDialects...), cloudDialects...)
	}
	return nil
}

// search reads the page at a position. A site that lacks what its kind should
// have is asked in the next dialect; what works is kept.
func (s *Source) search(ctx context.Context, q query, at position) (page, error) {
	if err := s.detect(ctx); err != nil {
		return page{}, err
	}
	var firstErr error
	for k, d := range s.dialects {
		answer, err := s.ask(ctx, d, q, at)
		if err == nil {
			s.dialects = s.dialects[k : k+1]
			p, err := turn(d, answer, at)
			if err != nil {
				return page{}, fmt.Errorf("search: %w", err)
			}
			return p, nil
		}
		if !missing(err) {
			return page{}, fmt.Errorf("search: %w", err)
		}
		if firstErr == nil {
			firstErr = err
		}
	}
	return page{}, fmt.Errorf("search: %w", firstErr)
}

// cloud reports whether the site speaks a Cloud dialect, as far as is known.
func (s *Source) cloud() bool { return len(s.dialects) > 0 && s.dialects[0].cloud }

func (s *Source) ask(ctx context.Context, d dialect, q query, at position) (*searchAnswer, error) {
	jql := s.jql(at.Since)
	answer := new(searchAnswer)
	if d.method == http.MethodPost || len(jql) > longQuery {
		body := map[string]any{"jql": jql, "fields": q.fields, "maxResults": q.limit}
		switch {
		case q.changelogs && d.cloud:
			body["expand"] = "changelog"
		case q.changelogs:
			body["expand"] = []string{"changelog"}
		}
		switch {
		case !d.cloud:
			body["startAt"] = at.Start
		case at.Token != "":
			body["nextPageToken"] = at.Token
		}
		return answer, s.client.post(ctx, d.path, body, answer)
	}
	values := url.Values{
		"jql": {jql}, "fields": {strings.Join(q.fields, ",")}, "maxResults": {strconv.Itoa(q.limit)},
	}
	if q.changelogs {
		values.Set("expand", "changelog")
	}
	switch {
	case !d.cloud:
		values.Set("startAt", strconv.Itoa(at.Start))
	case at.Token != "":
		values.Set("nextPageToken", at.Token)
	}
	return answer, s.client.get(ctx, d.path, values, answer)
}

// jql bounds the time of update from below only, and in milliseconds of the
// epoch: a written time would mean the zone of whoever owns the token.
func (s *Source) jql(since int64) string {
	var clauses []string
	if len(s.projects) > 0 {
		quoted := make([]string, len(s.projects))
		for k, p := range s.projects {
			quoted[k] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(p) + `"`
		}
		clauses = append(clauses, "project in ("+strings.Join(quoted, ",")+")")
	}
	if since > 0 || len(clauses) == 0 { // Cloud refuses a query without any bound
		clauses = append(clauses, "updated >= "+strconv.FormatInt(since, 10))
	}
	return strings.Join(clauses, " AND ") + " ORDER BY updated ASC"
}

// turn makes a page of an answer.
func turn(d dialect, answer *searchAnswer, at position) (page, error) {
	p := page{issues: answer.Issues, next: at}
	if answer.Total != nil {
		p.total = *answer.Total
	}
	if d.cloud {
		p.next.Token = answer.NextPageToken
		p.last = p.next.Token == "" || answer.IsLast != nil && *answer.IsLast
		switch {
		case p.last:
			p.next.Token = ""
		case p.next.Token == at.Token:
			return page{}, errors.New("the site gave the same page token twice")
		case len(p.next.Token) > maxToken:
			return page{}, fmt.Errorf("page token has %d bytes, the limit is %d", len(p.next.Token), maxToken)
		}
		return p, nil
	}
	n := len(p.issues)
	switch {
	case n == 0:
		p.last = true
	case answer.Total != nil:
		p.last = at.Start+n >= *answer.Total
	default:
		p.last = n < answer.MaxResults
	}
	if b := at.Back; b != nil && answer.Total != nil && *answer.Total < b.Left {
		return page{next: position{Since: b.Since, Start: b.Start, Plain: true}}, nil
	}
	p.next.Start += n
	p.next.Back = nil
	if !at.Plain && !p.last {
		// Whole seconds, because some sites compare no finer.
		switch newest := p.newest() / 1000 * 1000; {
		case !p.sorted(at.Since):
			p.next.Plain = true
		case newest > at.Since:
			p.next.Back = &way{at.Since, at.Start + n, p.total - at.Start - n}
			p.next.Since, p.next.Start = newest, 0
		}
	}
	return p, nil
}

// newest returns the latest update of the page, in milliseconds.
func (p page) newest() (at int64) {
	for k := range p.issues {
		at = max(at, p.issues[k].Fields.Updated.milliseconds())
	}
	return at
}

// sorted reports whether the issues are in order and not before a bound. Sites
// that sort by the second or the minute are given a minute.
func (p page) sorted(bound int64) bool {
	const slack = 60_000
	for k := range p.issues {
		at := p.issues[k].Fields.Updated.milliseconds()
		if at < bound-slack {
			return false
		}
		bound = max(bound, at)
	}
	return true
}
