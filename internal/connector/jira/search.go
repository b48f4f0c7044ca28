package jira

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
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
// A site would be read on from a token (Cloud) or an offset (Data Center). But
// both may count rows, and an issue that is updated or deleted meanwhile pulls
// all others forward, past the reader. So the bound on the time of update moves
// with each page instead, and the token or the offset serves only among issues
// of one second, or where a site honours neither bound nor order (plain).
type position struct {
	Since int64  `json:"since"` // bound on the time of update, in milliseconds
	Token string `json:"token,omitempty"`
	Start int    `json:"start,omitempty"`
	Plain bool   `json:"plain,omitempty"`
	Base  *int64 `json:"base,omitempty"` // where the bound was at first, once it has moved
	Back  *way   `json:"back,omitempty"`
}

// way is what a bound that has moved relies on, and leads back to where it was:
// that at least so many issues follow, where the site tells totals, or that
// later ones follow, where it gave a token for them. A site that does not keep
// the order has them elsewhere.
type way struct {
	Since int64  `json:"since"`
	Token string `json:"token,omitempty"`
	Start int    `json:"start,omitempty"`
	Left  int    `json:"left,omitempty"`
}

// A trail is the page tokens that were followed, as hashes: a site that gives
// one of them again would lead in a circle.
type trail map[[sha256.Size]byte]bool

func (t trail) mark(at position) {
	if at.Token != "" {
		t[at.hash()] = true
	}
}

// closes reports whether the next position closes a circle.
func (t trail) closes(at, next position) bool {
	return next.Token != "" && (t[next.hash()] || next.hash() == at.hash())
}

func (at position) hash() [sha256.Size]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%d %t %s", at.Since, at.Plain, at.Token))
}

// page is a part of the list and where the rest begins.
type page struct {
	issues []issue
	total  int // issues from the position's bound on, 0 where not told
	next   position
	last   bool // nothing is left, or no way leads there
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
	err := s.client.Get(ctx, "/rest/api/2/serverInfo", nil, &info)
	if err != nil && !unavailable(err) {
		return fmt.Errorf("ask for the kind of site: %w", err)
	}
	s.site = s.client.URL("")
	if strings.HasPrefix(s.site, "https://"+gateway+"/") && info.BaseURL != "" {
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
// have is asked in the next dialect; what works is kept. The tokens that were
// followed to there are not followed again.
func (s *Source) search(ctx context.Context, q query, at position, followed trail) (page, error) {
	if err := s.detect(ctx); err != nil {
		return page{}, err
	}
	var firstErr error
	for k, d := range s.dialects {
		answer, err := s.ask(ctx, d, q, at)
		if s.zone == nil && s.refusesNumber(err, at.Since) {
			if s.zone, err = s.callersZone(ctx); err == nil {
				answer, err = s.ask(ctx, d, q, at)
			}
			if err != nil {
				s.zone = nil // it was not the number, or that is not known yet
			}
		}
		if err == nil {
			s.dialects = s.dialects[k : k+1]
			p, err := turn(d, answer, at, followed)
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
		return answer, s.client.Post(ctx, d.path, body, answer)
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
	return answer, s.client.Get(ctx, d.path, values, answer)
}

// jql bounds the time of update from below only, and in milliseconds of the
// epoch where the site takes them: a written time means the zone of whoever owns
// the token.
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
		clauses = append(clauses, "updated >= "+s.bound(since))
	}
	return strings.Join(clauses, " AND ") + " ORDER BY updated ASC"
}

// bound writes a time for a query.
func (s *Source) bound(since int64) string {
	if s.zone == nil {
		return strconv.FormatInt(since, 10)
	}
	at := time.UnixMilli(since)
	// An hour that comes twice as clocks are set back is meant to be the earlier.
	_, offset := at.In(s.zone).Zone()
	_, later := at.Add(3 * time.Hour).In(s.zone).Zone()
	at = at.In(time.FixedZone("", min(offset, later)))
	return at.Format(`"2006-01-02 15:04"`)
}

// refusesNumber reports whether an error may mean that the site takes no
// milliseconds of the epoch as a time.
func (s *Source) refusesNumber(err error, since int64) bool {
	e, ok := errors.AsType[*connector.StatusError](err)
	return ok && e.Status == http.StatusBadRequest &&
		(strings.Contains(strings.ToLower(e.Message), "date") || strings.Contains(e.Message, s.bound(since)))
}

// behind is a zone whose clocks are behind all others.
var behind = time.FixedZone("", -14*60*60)

// callersZone asks in which zone the site reads written times: that of whoever
// owns the token. Where that is not told, no zone's reading may be too late.
func (s *Source) callersZone(ctx context.Context) (*time.Location, error) {
	var me struct {
		TimeZone string `json:"timeZone"`
	}
	if err := s.getEither(ctx, "/myself", nil, &me); err != nil && !unavailable(err) {
		return nil, fmt.Errorf("ask for the time zone: %w", err)
	}
	zone, err := time.LoadLocation(me.TimeZone)
	if err != nil || me.TimeZone == "" || me.TimeZone == "Local" {
		return behind, nil
	}
	return zone, nil
}

// turn makes a page of an answer.
func turn(d dialect, answer *searchAnswer, at position, followed trail) (page, error) {
	if n := len(answer.NextPageToken); n > maxToken {
		return page{}, fmt.Errorf("page token has %d bytes, the limit is %d", n, maxToken)
	}
	p := page{issues: answer.Issues, next: at}
	n := len(p.issues)
	if answer.Total != nil {
		p.total = *answer.Total
	}
	switch {
	case d.cloud:
		p.next.Token = answer.NextPageToken
		p.last = p.next.Token == "" || answer.IsLast != nil && *answer.IsLast
	case n == 0:
		p.last = true
	case answer.Total != nil:
		p.last = at.Start+n >= *answer.Total
	default:
		p.last = n < answer.MaxResults
	}
	if !d.cloud {
		p.next.Start += n
		p.next.Back = nil
	}
	newest, ignored, disordered := p.survey(at.Since, time.Now())
	lost := false // what the bound relied on
	if b := at.Back; b != nil && d.cloud {
		// Later ones may also have gone. After the first move it is worth a look:
		// a site that lists the newest first has moved once.
		first := at.Base != nil && b.Since == *at.Base
		lost = ignored || first && (p.last || followed.closes(at, p.next)) && p.newest()/1000*1000 <= at.Since
	} else if b != nil {
		lost = ignored || answer.Total != nil && *answer.Total < b.Left
	}
	switch {
	case at.Plain:
	case disordered && at.Base != nil:
		p.next, p.last = position{Since: *at.Base, Plain: true}, false
	case lost:
		p.next, p.last = position{Since: at.Back.Since, Token: at.Back.Token, Start: at.Back.Start, Plain: true}, false
	case disordered || ignored:
		p.next.Plain = true
	case newest > at.Since && !p.last:
		base := at.Base
		if base == nil {
			base = &at.Since
		}
		back := &way{Since: at.Since, Token: p.next.Token, Start: p.next.Start}
		proven := p.issues[0].Fields.Updated.milliseconds() < newest-slack // that the site keeps the order
		switch {
		case d.cloud && (proven || followed.closes(at, p.next)):
			back = nil
		case !d.cloud && proven:
			back.Left = (p.total - p.next.Start) / 2 // many may be deleted meanwhile
		case !d.cloud:
			back.Left = p.total - p.next.Start
		}
		p.next = position{Since: newest, Base: base, Back: back}
	}
	p.last = p.last || followed.closes(at, p.next)
	return p, nil
}

// newest returns the latest update of the page, in milliseconds.
func (p page) newest() (at int64) {
	for k := range p.issues {
		at = max(at, p.issues[k].Fields.Updated.milliseconds())
	}
	return at
}

// slack is given to sites that compare or sort by the second or the minute, and
// to their indexes, which lag behind, in milliseconds.
const slack = 60_000

// survey returns the latest update of the page in whole seconds, because some
// sites compare no finer, and whether the page ignores the bound or the order.
// Updates that are quite new do not count: the issue may still be listed where
// it was before them, and the next scan sees it again.
func (p page) survey(bound int64, now time.Time) (newest int64, ignored, disordered bool) {
	for k := range p.issues {
		at := p.issues[k].Fields.Updated.milliseconds()
		if at > now.UnixMilli()-slack {
			continue
		}
		ignored = ignored || at < bound-slack
		disordered = disordered || at < newest-slack
		newest = max(newest, at)
	}
	return newest / 1000 * 1000, ignored, disordered
}
