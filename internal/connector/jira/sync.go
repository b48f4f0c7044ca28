package jira

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const (
	// overlap is how far a scan goes back behind the newest update that the one
	// before saw: search is not consistent at once.
	overlap = 10 * time.Minute
	// statusesFor is how long the list of statuses is good for.
	statusesFor = time.Hour
	// statusesAnew is the same once a status turns up that is not in it.
	statusesAnew = time.Minute
	// maxPages bounds a poll, should a site never come to an end.
	maxPages = 1_000_000
	// maxToken bounds each of the two page tokens that a cursor may hold, in bytes.
	maxToken = 24 << 10
)

// Config says which site to read, and how.
type Config struct {
	URL      string                 // of the site, with its context path if it has one
	Projects []string               // keys of projects; none: all that the user sees
	Email    string                 // of the token's owner, for basic authentication (Cloud); empty: bearer token
	Token    func() (string, error) // asked for at each request; nil: anonymous
	Titles   bool                   // keep the titles of items
	// WebhookSecret returns what deliveries are signed with, asked for at each;
	// nil: all are refused.
	WebhookSecret func() (string, error)
	Transport     http.RoundTripper // nil: http.DefaultTransport
	PageSize      int               // issues to ask for at a time; 0: 100
}

// A Source reads one Jira site; see [connector.Source]. It tells Cloud from
// Data Center by itself. Its methods are not for concurrent use, but for
// Receive, Requests and RateLimitRemaining.
type Source struct {
	client   *client
	secret   func() (string, error) // of webhooks; nil: none
	projects []string
	titles   bool
	pageSize int

	site       string            // where people see it
	dialects   []dialect         // that may fit, one when it is known; nil: not asked yet
	zone       *time.Location    // of the times in queries; nil: they are numbers
	oldAPI     bool              // the site has version 2 only, where 3 was expected
	noBulk     bool              // the site has no bulk changelog
	categories map[string]string // of statuses by id
	listedAt   time.Time         // when they were read; zero: never
	former     map[text]string   // keys of projects that items were moved from, by id
	counted    bool              // the total was asked for
	total      int
	reading    *reading // the page at hand
	followed   trail    // the way of the scan to reached
	reached    string   // the cursor after the last page
	census     *census  // an unfinished census
}

// New returns a source. It sends nothing; the error says what is wrong with the
// configuration and is a [*connector.ConfigError].
func New(c Config) (*Source, error) {
	client, err := newClient(c)
	if err != nil {
		return nil, err
	}
	for _, p := range c.Projects {
		if strings.TrimSpace(p) == "" {
			return nil, &connector.ConfigError{Err: errors.New("projects: a key is empty")}
		}
	}
	if c.PageSize <= 0 {
		c.PageSize = 100
	}
	projects := slices.Clone(c.Projects)
	slices.Sort(projects)
	return &Source{
		client: client, secret: c.WebhookSecret, projects: slices.Compact(projects), titles: c.Titles, pageSize: c.PageSize,
		former: make(map[text]string),
	}, nil
}

// cursorVersion is that of [cursor]; others are refused.
const cursorVersion = 1

// cursor says how far the issues have been read in order of their updates. One
// scan follows the other; each begins a little before the newest update that
// its predecessors saw, never at "now", and has no upper bound.
type cursor struct {
	Version int    `json:"v"`
	Scope   string `json:"scope"` // what was scanned: other projects mean another scan
	position
	Newest int64 `json:"newest,omitempty"` // newest update seen ever, in milliseconds
	Filled bool  `json:"filled,omitempty"` // the first scan has ended
	Done   int   `json:"done,omitempty"`   // issues of the first scan read so far
	Total  int   `json:"total,omitempty"`  // and of how many, where known
}

func (c cursor) encode() connector.Cursor {
	data, err := json.Marshal(c)
	if err != nil {
		panic(err) // numbers and texts always encode
	}
	return data
}

// scope identifies what the cursor is about.
func (s *Source) scope() string {
	sum := sha256.Sum256([]byte(strings.Join(s.projects, "\x00")))
	return hex.EncodeToString(sum[:8])
}

// start returns the cursor to go on from.
func (s *Source) start(from connector.Cursor) (cursor, error) {
	fresh := cursor{Version: cursorVersion, Scope: s.scope()}
	if len(from) == 0 {
		return fresh, nil
	}
	var c cursor
	d := json.NewDecoder(bytes.NewReader(from))
	d.DisallowUnknownFields()
	switch err := d.Decode(&c); {
	case err != nil:
		return c, fmt.Errorf("%w: %w", connector.ErrCursor, err)
	case c.Version != cursorVersion:
		return c, fmt.Errorf("%w: version %d, want %d", connector.ErrCursor, c.Version, cursorVersion)
	case c.Since < 0 || c.Start < 0 || c.Since > time.Now().Add(24*time.Hour).UnixMilli():
		return c, fmt.Errorf("%w: it is from the future", connector.ErrCursor)
	case c.Scope != fresh.Scope:
		return fresh, nil // items of an added project may be older than what was read
	}
	return c, nil
}

// Poll implements [connector.Source]. It emits one batch for each page of the
// search. After an error the next Poll goes on with what had been read of the
// page, so that a tight rate limit slows the scan down and cannot stop it.
func (s *Source) Poll(ctx context.Context, from connector.Cursor, emit func(connector.Batch) error) error {
	at, err := s.start(from)
	if err != nil {
		return err
	}
	if err := s.prepare(ctx, &at); err != nil {
		return err
	}
	if string(at.encode()) != s.reached {
		s.followed = make(trail)
		s.followed.mark(at.position)
	}
	var before map[text]int64 // updates of the page before
	for range maxPages {
		r, err := s.read(ctx, at)
		if err != nil {
			return err
		}
		changes, seen := s.translate(r, before)
		next, progress := advance(at, r.page, len(changes))
		batch := connector.Batch{Cursor: next.encode(), Progress: progress}
		for _, c := range changes {
			batch.Changes = append(batch.Changes, c...)
		}
		if len(batch.Changes) > 0 || !bytes.Equal(batch.Cursor, at.encode()) {
			if err := emit(batch); err != nil {
				return err
			}
		}
		s.reading, s.reached = nil, string(batch.Cursor)
		s.followed.mark(next.position)
		if r.page.last {
			s.followed = make(trail)
			return nil
		}
		at, before = next, seen
	}
	return fmt.Errorf("search has more than %d pages", maxPages)
}

// prepare reads what the scan needs to know beforehand.
func (s *Source) prepare(ctx context.Context, at *cursor) error {
	if err := s.detect(ctx); err != nil {
		return err
	}
	if err := s.refreshStatuses(ctx, statusesFor); err != nil {
		return err
	}
	if !at.Filled && at.Total == 0 && s.cloud() {
		at.Total = s.count(ctx)
	}
	return nil
}

// refreshStatuses reads the list of statuses again if it is older than that.
// A site without one leaves former statuses without a category.
func (s *Source) refreshStatuses(ctx context.Context, age time.Duration) error {
	if !s.listedAt.IsZero() && time.Since(s.listedAt) <= age {
		return nil
	}
	list, err := s.listStatuses(ctx)
	if err != nil && !unavailable(err) {
		return err
	}
	s.categories = make(map[string]string, len(list))
	for _, v := range list {
		s.categories[v.ID] = v.Category
	}
	s.listedAt = time.Now()
	return nil
}

// unlisted reports whether a history names a status that the list does not have:
// one that was deleted, or one that is new.
func (s *Source) unlisted(r *reading) bool {
	for k := range r.page.issues {
		for _, h := range r.histories(&r.page.issues[k]) {
			if it := first(h.Items, fieldStatus); it != nil {
				_, from := s.categories[string(it.From)]
				_, to := s.categories[string(it.To)]
				if !from || !to {
					return true
				}
			}
		}
	}
	return false
}

// count asks a Cloud site how many issues there are, once. The number serves
// the progress only, so a failure does not matter.
func (s *Source) count(ctx context.Context) int {
	if !s.counted {
		s.counted = true
		var answer struct {
			Count int `json:"count"`
		}
		jql, _, _ := strings.Cut(s.jql(0), " ORDER BY ")
		if s.client.Post(ctx, "/rest/api/3/search/approximate-count", map[string]any{"jql": jql}, &answer) == nil {
			s.total = answer.Count
		}
	}
	return s.total
}

// read returns the page at the cursor with all histories complete.
func (s *Source) read(ctx context.Context, at cursor) (*reading, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if id := string(at.encode()); s.reading == nil || s.reading.cursor != id {
		s.reading = nil
		p, err := s.search(ctx, query{fields: scanFields, changelogs: true, limit: s.pageSize}, at.position, s.followed)
		if at.Token != "" && forgotten(err) {
			// The token has expired, which takes days: the scan begins again.
			s.followed = make(trail)
			again := position{Since: at.Since, Plain: at.Plain, Base: at.Base, Back: at.Back}
			p, err = s.search(ctx, query{fields: scanFields, changelogs: true, limit: s.pageSize}, again, s.followed)
		}
		if err != nil {
			return nil, refused(err)
		}
		s.reading = newReading(id, p)
	}
	if err := s.finish(ctx, s.reading); err != nil {
		if errors.Is(err, errCut) {
			s.reading = nil // if the issue has gone, the next search is without it
		}
		return nil, err
	}
	return s.reading, nil
}

// finish reads what the translation of a page needs besides the page.
func (s *Source) finish(ctx context.Context, r *reading) error {
	if err := s.complete(ctx, r); err != nil {
		return err
	}
	if err := s.formerProjects(ctx, r); err != nil {
		return err
	}
	if s.unlisted(r) {
		return s.refreshStatuses(ctx, statusesAnew)
	}
	return nil
}

// refused marks a query that the site does not accept as a mistake in the
// configuration: a project that does not exist, or is not shown to this user.
func refused(err error) error {
	if connector.StatusOf(err) == http.StatusBadRequest {
		return &connector.ConfigError{Err: err}
	}
	return err
}

// translate returns the changes of each issue of a page, without the issues
// that the page before has shown in the same state, and what the page has shown.
func (s *Source) translate(r *reading, before map[text]int64) (changes [][]flow.Change, seen map[text]int64) {
	t := translator{site: s.site, titles: s.titles, categories: s.categories, projects: s.former}
	seen = make(map[text]int64, len(r.page.issues))
	for k := range r.page.issues {
		is := &r.page.issues[k]
		updated := is.Fields.Updated.milliseconds()
		seen[is.ID] = updated
		if u, ok := before[is.ID]; ok && u == updated {
			continue
		}
		changes = append(changes, t.changes(is, r.histories(is)))
	}
	return changes, seen
}

// advance returns the cursor after a page with so many issues not seen before,
// and how far the first scan has come with it.
func advance(at cursor, p page, issues int) (cursor, connector.Progress) {
	next := at
	next.position = p.next
	// A time ahead of the clock must not hide what comes before it.
	next.Newest = max(at.Newest, min(p.newest(), time.Now().UnixMilli()))
	var progress connector.Progress
	if !at.Filled {
		next.Done += issues
		if at.Total == 0 {
			next.Total = p.total
		}
		if next.Total > 0 {
			next.Total = max(next.Total, next.Done)
		}
		progress = connector.Progress{Done: next.Done, Total: next.Total}
	}
	if p.last {
		next = cursor{
			Version: at.Version, Scope: at.Scope, Newest: next.Newest, Filled: true,
			position: position{Since: max(0, next.Newest-overlap.Milliseconds())},
		}
	}
	return next, progress
}
