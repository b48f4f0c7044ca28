// Package redmine reads Redmine over its REST API. A [Source] lists the issues
// updated since its cursor and reads each with its journals, of which every one
// becomes a change. There are no webhooks, and only a census shows deletions.
package redmine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A Source reads one Redmine.
type Source struct {
	*connector.Client
	projects []string
	titles   bool
	names    map[string]flow.Value // by list and number; none until something is to be translated
}

// New makes a source, see [connector.Factory]. Projects are identifiers, each
// without its subprojects; none means all in sight.
func New(spec connector.Spec) (connector.Source, error) {
	if spec.Token == nil {
		return nil, &connector.ConfigError{Err: errors.New("an API key is needed: token_env or token_file")}
	}
	client, err := connector.NewClient(connector.ClientConfig{
		URL: spec.URL, Token: spec.Token, Transport: spec.Transport,
		Sign: func(h http.Header, key string) { h.Set("X-Redmine-API-Key", key) },
	})
	if len(spec.Projects) == 0 {
		spec.Projects = []string{""}
	}
	return &Source{Client: client, projects: spec.Projects, titles: spec.Titles, names: map[string]flow.Value{}}, err
}

// A cursor has a window for each project that was ever configured, "" for all in
// sight: one that is added later is read from the beginning.
type cursor struct{ V1 map[string]window }

// A window is a pass over what was updated since some time, in Unix seconds. It
// lists by number, from the next one on: updates and deletions meanwhile move no
// issue to another page, and what is updated behind it is left to the next pass.
type window struct {
	Since, Began, Newest int64
	Next                 int           // 0: the pass begins
	Seen                 map[int]int64 // updates that were read and will be listed again, by issue
}

// Poll implements [connector.Source].
func (s *Source) Poll(ctx context.Context, from connector.Cursor, emit func(connector.Batch) error) error {
	var at cursor
	if len(from) == 0 {
		at.V1 = map[string]window{}
	} else if err := json.Unmarshal(from, &at); err != nil || at.V1 == nil {
		return fmt.Errorf("%w: it is not of version 1", connector.ErrCursor)
	}
	if err := s.Check(ctx); err != nil {
		return err
	}
	for _, project := range s.projects {
		w := at.V1[project]
		if err := s.list(ctx, project, w.Since, w.Next, func(p page) error {
			changes, err := s.read(ctx, &w, p)
			at.V1[project] = w
			if text, _ := json.Marshal(at); ctx.Err() == nil && !bytes.Equal(text, from) { // what was read before an error counts
				err = errors.Join(emit(connector.Batch{Changes: changes, Cursor: text}), err)
			}
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// read returns what the issues of a page tell, and moves the window on.
func (s *Source) read(ctx context.Context, w *window, p page) (changes []flow.Change, err error) {
	if w.Next == 0 {
		w.Began, w.Seen = s.Now().Unix(), maps.Collect(maps.All(w.Seen))
	}
	for _, row := range p.Issues {
		if updated := row.Updated.Unix(); w.Seen[row.ID] != updated {
			var history []flow.Change
			if history, err = s.history(ctx, row.ID); errors.As(err, new(*connector.ConfigError)) {
				history, err = nil, nil // gone since it was listed
			} else if err != nil {
				break
			}
			changes, w.Newest, w.Seen[row.ID] = append(changes, history...), max(w.Newest, updated), updated
		}
		w.Next = row.ID + 1
	}
	// An update is dated before its transaction ends, so that it may come to sight a while later,
	// and two within one second look alike. 2500 keep the cursor below connector.MaxCursor.
	since, sure := max(0, min(w.Newest, w.Began-120)), w.Began-2
	maps.DeleteFunc(w.Seen, func(_ int, updated int64) bool { return updated < since-1 || updated > sure || len(w.Seen) > 2500 })
	if err == nil && p.last() {
		w.Since, w.Next, w.Began = since, 0, 0
	}
	return changes, err
}

// Census implements [connector.Censor].
func (s *Source) Census(ctx context.Context, live func(connector.Item)) error {
	err := errors.Join(s.Check(ctx), s.lookUp(ctx))
	for _, project := range s.projects {
		err = errors.Join(err, s.list(ctx, project, 0, 0, func(p page) error {
			for _, row := range p.Issues {
				live(s.item(row))
			}
			return nil
		}))
	}
	return err
}

// list calls take with each page of the issues updated since, by number from next on.
func (s *Source) list(ctx context.Context, project string, since int64, next int, take func(page) error) error {
	query := url.Values{"status_id": {"*"}, "sort": {"id:asc"}, "limit": {"100"}} // without status_id only open ones
	query.Set("updated_on", ">="+time.Unix(since, 0).UTC().Format(time.RFC3339))
	if project != "" {
		query["project_id"], query["subproject_id"] = []string{project}, []string{"!*"}
	}
	for {
		query.Set("issue_id", ">="+strconv.Itoa(next))
		var p page
		if err := s.Get(ctx, "/issues.json", query, &p); err != nil {
			return fmt.Errorf("list issues of project %q: %w", project, err)
		}
		if err := take(p); err != nil || p.last() {
			return err
		}
		if p.Issues[0].ID < next {
			return fmt.Errorf("list issues from number %d on: got number %d", next, p.Issues[0].ID)
		}
		next = p.Issues[len(p.Issues)-1].ID + 1
	}
}

// Check implements [connector.Checker]. It asks who we are: elsewhere Redmine
// takes a wrong key for none and answers what anybody may see.
func (s *Source) Check(ctx context.Context) error {
	clear(s.names)
	return s.Get(ctx, "/users/current.json", nil, &struct{}{})
}
