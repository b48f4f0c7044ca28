package github

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const (
	publicURL = "https://api.github.com"
	maxRepos  = 400 // so that a cursor has room for all of them
	// maxPageSize is the most entries that GitHub puts on a page.
	maxPageSize = 100
)

// Config says which site to read, and how.
type Config struct {
	Name          string                 // of the source, as configured
	URL           string                 // of the REST interface; empty: that of github.com
	Repos         []string               // as owner/name; at least one
	Project       connector.Project      // whose Status is the state; zero: none
	Token         func() (string, error) // asked for at each request; nil: anonymous
	App           connector.App          // instead of a token
	WebhookSecret func() (string, error) // asked for at each delivery; nil: webhooks are refused
	Titles        bool                   // keep the titles of items
	Transport     http.RoundTripper      // nil: one like http.DefaultTransport
	Logger        *slog.Logger           // nil: nothing is logged
	PageSize      int                    // entries to ask for at a time; 0: 100, which is the most
}

// A Source reads some repositories of one site; see [connector.Source]. Its
// methods are not for concurrent use, but for Requests, RateLimitRemaining,
// Rejects and Receive.
type Source struct {
	client        *client
	repos         []string // in the order of their names, in lower case
	project       connector.Project
	webhookSecret func() (string, error)
	titles        bool
	pageSize      int
	logger        *slog.Logger

	scans    map[string]*scan  // by repository, what is not in the cursor
	reached  string            // the cursor that scans belong to
	paths    map[string]string // of repositories that answer elsewhere than by their names
	counting *counting         // an unfinished census
	turn     int               // index of the repository that a poll begins with

	outages map[string]*outage // of repositories
	missing outage             // of issues that the scans went on without
	retried int                // how many of them were tried again
	absent  map[string]int     // how often one of them was not there, by key

	evidenceKnown bool // mentions is known
	mentions      bool // mentions are the evidence of pull requests, for lack of better

	mu       sync.Mutex
	rejected map[flow.Reason]int64
	relabel  map[string]bool   // repositories whose labels were edited
	renamed  map[string]string // repositories, by what they are called now

	name      string // as configured
	anonymous bool   // there are no credentials
	graph     graph
	board     board
}

// New returns a source. It sends nothing; the error says what is wrong with the
// configuration and is a [*connector.ConfigError].
func New(c Config) (*Source, error) {
	s, err := newSource(c)
	if err != nil {
		return nil, &connector.ConfigError{Err: err}
	}
	return s, nil
}

// repoName is the form of a repository's name: the characters GitHub allows, so
// that it needs no escaping in a URL.
var repoName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,99}/[A-Za-z0-9._-]{1,100}$`)

func newSource(c Config) (*Source, error) {
	base, err := siteURL(cmp.Or(c.URL, publicURL))
	if err != nil {
		return nil, err
	}
	repos := slices.Clone(c.Repos)
	for _, r := range repos {
		if _, name, _ := strings.Cut(r, "/"); !repoName.MatchString(r) || name == "." || name == ".." {
			return nil, fmt.Errorf("repos: %q: want owner/name", connector.CleanText(r, maxMessage))
		}
	}
	slices.SortFunc(repos, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	repos = slices.CompactFunc(repos, strings.EqualFold)
	switch {
	case len(repos) == 0:
		return nil, errors.New("repos: want at least one, as owner/name")
	case len(repos) > maxRepos:
		return nil, fmt.Errorf("repos: %d are too many for one source, the limit is %d: spread them over several", len(repos), maxRepos)
	case c.Token != nil && c.App.PrivateKey != nil:
		return nil, errors.New("want either a token or an app, not both")
	case c.App.PrivateKey != nil && (c.App.ID <= 0 || c.App.Installation <= 0):
		return nil, errors.New("app: want id and installation, both positive numbers")
	case c.App.PrivateKey == nil && (c.App.ID != 0 || c.App.Installation != 0):
		return nil, errors.New("app: a private key is missing")
	case (c.Project.Owner == "") != (c.Project.Number == 0) || c.Project.Number < 0:
		return nil, errors.New("project: want an owner and a number from 1 up")
	}
	if c.PageSize <= 0 || c.PageSize > maxPageSize {
		c.PageSize = maxPageSize
	}
	return &Source{
		client: newClient(base, c), repos: repos, project: c.Project, webhookSecret: c.WebhookSecret, titles: c.Titles,
		pageSize: c.PageSize, logger: cmp.Or(c.Logger, slog.New(slog.DiscardHandler)),
		scans: make(map[string]*scan), paths: make(map[string]string), rejected: make(map[flow.Reason]int64), relabel: make(map[string]bool),
		name: c.Name, anonymous: c.Token == nil && c.App.PrivateKey == nil,
	}, nil
}

// siteURL reads the URL of a site and makes it end in a slash. Its errors do not
// repeat it: people put passwords there.
func siteURL(text string) (*url.URL, error) {
	u, err := url.Parse(strings.TrimRight(text, "/") + "/")
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("url: want one like https://api.github.com, or https://HOST/api/v3 for GitHub Enterprise Server")
	case u.User != nil:
		return nil, errors.New("url: must not hold credentials, name them by token_env or token_file")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("url: want the address of the API only, without ? or #")
	case strings.EqualFold(u.Host, "github.com"):
		return nil, errors.New("url: want https://api.github.com, not the address of the web site")
	}
	return u, nil
}

// repoOf returns the configured repository of that name, however it is written.
// One that was renamed has both names, once a list has told the new one. It is
// safe for concurrent use.
func (s *Source) repoOf(fullName string) (repo string, ok bool) {
	for _, r := range s.repos {
		if strings.EqualFold(r, fullName) {
			return r, true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	repo, ok = s.renamed[strings.ToLower(fullName)]
	return repo, ok
}

// learnName notes what a repository is called now, by the address that one of
// its issues gives.
func (s *Source) learnName(repo string, is *issue) {
	name := strings.ToLower(is.repository())
	if name == "" || strings.EqualFold(name, repo) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.renamed == nil {
		s.renamed = make(map[string]string)
	}
	s.renamed[name] = repo
}

// labelsChanged makes the next poll list the labels of a repository again. It is
// safe for concurrent use.
func (s *Source) labelsChanged(repo string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relabel[repo] = true
}

// countRejected counts pieces of input that cannot be used.
func (s *Source) countRejected(n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rejected[flow.ReasonMalformed] += int64(n)
}

// Requests implements [connector.Meter].
func (s *Source) Requests() map[string]int64 { return s.client.counts() }

// RateLimitRemaining implements [connector.Meter]. It tells the limit of REST.
func (s *Source) RateLimitRemaining() (int, bool) { return s.client.left() }

// Rejects implements [connector.Rejecter].
func (s *Source) Rejects() map[flow.Reason]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.rejected)
}
