package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// Check implements [connector.Checker]: it sees whether the site takes the
// credentials, shows the repositories and their issues, and knows the project.
// The error joins all that is wrong, each saying what to do.
func (s *Source) Check(ctx context.Context) error {
	var problems []error
	for _, repo := range s.repos {
		err := s.checkRepo(ctx, repo)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			problems = append(problems, err)
		}
		if err != nil && general(err) {
			return errors.Join(problems...)
		}
	}
	if s.project.Number != 0 {
		if err := s.checkProject(ctx); err != nil {
			problems = append(problems, err)
		}
	}
	return errors.Join(problems...)
}

// checkRepo sees whether the issues of a repository can be read.
func (s *Source) checkRepo(ctx context.Context, repo string) error {
	var shown struct {
		Private   bool  `json:"private"`
		HasIssues *bool `json:"has_issues"`
	}
	r, err := s.client.get(ctx, s.pathOf(repo), &shown)
	if statusOf(err) == http.StatusUnauthorized {
		return fmt.Errorf("%w: make a new token, or correct the one configured", err)
	}
	if err != nil {
		return s.aboutRepo(repo, advise(err, r))
	}
	if shown.HasIssues != nil && !*shown.HasIssues {
		return &connector.ConfigError{Err: fmt.Errorf("repository %s: its issues are disabled: enable them in its settings, or take it out of repos", repo)}
	}
	var some page[issue]
	if r, err = s.client.get(ctx, s.pathOf(repo)+"/issues?state=all&per_page=1", &some); err != nil {
		return s.aboutRepo(repo, advise(err, r))
	}
	return nil
}

// advise adds what to do about an error.
func advise(err error, r reply) error {
	if _, refused := errors.AsType[*connector.AuthError](err); refused && statusOf(err) == http.StatusForbidden {
		return fmt.Errorf("%w: the token needs to read issues and metadata (a classic token: the scope repo, or public_repo%s)", err, missing(r.header))
	}
	if statusOf(err) == http.StatusNotFound {
		return fmt.Errorf("%w: correct the name, or let the token read it (issues and metadata; a classic token: the scope repo%s)", err, missing(r.header))
	}
	return err
}

// missing tells which scopes a classic token has, where the site says so.
func missing(h http.Header) string {
	if _, told := h["X-Oauth-Scopes"]; !told {
		return ""
	}
	have := scopes(h)
	if len(have) == 0 {
		return "; this one has none"
	}
	return "; this one has " + strings.Join(have, ", ")
}

// scopeName is the form of a scope's name. Nothing else that a site may put
// there gets into an error.
var scopeName = regexp.MustCompile(`\b[a-z]{1,20}(_[a-z]{1,20})?(:[a-z_]{1,20})?\b`)

// scopes returns the scopes of a classic token.
func scopes(h http.Header) []string {
	have := slices.DeleteFunc(strings.Split(h.Get("X-OAuth-Scopes"), ","), func(name string) bool {
		name = strings.TrimSpace(name)
		return name == "" || scopeName.FindString(name) != name
	})
	for k := range have {
		have[k] = strings.TrimSpace(have[k])
	}
	slices.Sort(have)
	return slices.Compact(have)
}

// Statuses implements [connector.StatusLister]: those of the project, if one is
// configured. There are no others.
func (s *Source) Statuses(ctx context.Context) ([]flow.Value, error) {
	if s.project.Number == 0 {
		return nil, nil
	}
	list, err := s.projectStatuses(ctx)
	if err != nil {
		return nil, fmt.Errorf("list statuses of the project: %w", err)
	}
	return list, nil
}

// Types implements [connector.TypeLister]: the issue types of the organisations.
// Where there are none, or they are not shown, the list is empty.
func (s *Source) Types(ctx context.Context) ([]flow.Value, error) {
	var owners []string
	for _, repo := range s.repos {
		owner, _, _ := strings.Cut(repo, "/")
		if !slices.ContainsFunc(owners, func(o string) bool { return strings.EqualFold(o, owner) }) {
			owners = append(owners, owner)
		}
	}
	var values []flow.Value
	for _, owner := range owners {
		var types page[issueType]
		_, err := s.client.get(ctx, "orgs/"+owner+"/issue-types", &types)
		if gone(err) || statusOf(err) == http.StatusForbidden && !isLimit(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list issue types of %s: %w", owner, err)
		}
		for k := range types.entries {
			values = append(values, types.entries[k].value())
		}
	}
	return values, nil
}
