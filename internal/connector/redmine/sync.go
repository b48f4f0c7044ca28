// Package redmine reads Redmine over its REST API. A [Source] lists the issues
// updated since its cursor and reads each with its journals, of which every one
// becomes a change. There are no webhooks, and only a census shows deletions.
package redmine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/sweep"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A Source reads one Redmine.
type Source struct {
	*connector.Client
	spec  connector.Spec
	names map[string]flow.Value // by list and number; none until something is to be translated
}

// New makes a source, see [connector.Factory]. Projects are identifiers, each
// without its subprojects; none means all in sight.
func New(spec connector.Spec) (connector.Source, error) {
	if spec.Token == nil {
		return nil, &connector.ConfigError{Err: errors.New("an API key is needed: token_env or token_file")}
	}
	sign := func(h http.Header, key string) { h.Set("X-Redmine-API-Key", key) }
	client, err := connector.NewClient(connector.ClientConfig{URL: spec.URL, Token: spec.Token, Transport: spec.Transport, Sign: sign})
	if len(spec.Projects) == 0 {
		spec.Projects = []string{""}
	}
	return &Source{Client: client, spec: spec, names: map[string]flow.Value{}}, err
}

// Poll implements [connector.Source].
func (s *Source) Poll(ctx context.Context, from connector.Cursor, emit func(connector.Batch) error) error {
	if err := s.Check(ctx); err != nil {
		return err
	}
	return sweep.Poll(ctx, s, s.spec.Projects, from, emit)
}

// Check implements [connector.Checker]. It asks who we are: elsewhere Redmine
// takes a wrong key for none and answers what anybody may see.
func (s *Source) Check(ctx context.Context) error {
	clear(s.names) // of the last poll
	return s.Get(ctx, "/users/current.json", nil, &struct{}{})
}

// Census implements [connector.Censor].
func (s *Source) Census(ctx context.Context, live func(connector.Item)) error {
	if err := errors.Join(s.Check(ctx), s.lookUp(ctx)); err != nil {
		return err
	}
	return sweep.Census(ctx, s, s.spec.Projects, live)
}

// List implements [sweep.Tracker]. Without a status_id Redmine lists open issues
// alone, and without a subproject_id those of subprojects as well.
func (s *Source) List(ctx context.Context, project string, since time.Time, from int) (sweep.Page, error) {
	query := url.Values{
		"status_id": {"*"}, "updated_on": {">=" + since.Format(time.RFC3339)}, "issue_id": {">=" + strconv.Itoa(from)},
		"sort": {"id:asc"}, "limit": {"100"},
	}
	if project != "" {
		query["project_id"], query["subproject_id"] = []string{project}, []string{"!*"}
	}
	var p page
	if err := s.Get(ctx, "/issues.json", query, &p); err != nil {
		return sweep.Page{}, fmt.Errorf("list issues of project %q: %w", project, err)
	}
	list := sweep.Page{Total: p.Total, Now: s.Now()}
	for _, i := range p.Issues {
		list.Rows = append(list.Rows, sweep.Row{Number: i.ID, Updated: i.Updated, Item: s.item(i)})
	}
	return list, nil
}
