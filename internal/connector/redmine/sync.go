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
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A Source reads one Redmine.
type Source struct {
	spec   connector.Spec
	client http.Client
	now    time.Time             // by Redmine's clock, at its latest answer
	names  map[string]flow.Value // see value
}

// New makes a source, see [connector.Factory]. Projects are identifiers, each
// without its subprojects; none means all in sight.
func New(spec connector.Spec) (connector.Source, error) {
	if spec.Token == nil {
		return nil, &connector.ConfigError{Err: errors.New("an API key is needed: token_env or token_file")}
	}
	if len(spec.Projects) == 0 {
		spec.Projects = []string{""}
	}
	spec.URL = strings.TrimRight(spec.URL, "/")
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse } // the key goes nowhere else
	return &Source{spec: spec, client: http.Client{Transport: spec.Transport, CheckRedirect: stay, Timeout: time.Minute}}, nil
}

// A cursor has a window for each project that was ever configured, "" for all in
// sight, so that one that is added later is read from the beginning.
type cursor struct {
	Version int               `json:"v"`
	Windows map[string]window `json:"windows"`
}

// A window is a pass over what was updated since some time, in Unix seconds. It
// lists by number, from the next one on: updates and deletions meanwhile move no
// issue to another page, and what is updated behind it is left to the next pass.
type window struct {
	Since, Began, Newest int64         // Began is 0 before the first page
	Next                 int           // number
	Seen                 map[int]int64 // updates that were read and will be listed again, by issue
}

// Poll implements [connector.Source].
func (s *Source) Poll(ctx context.Context, from connector.Cursor, emit func(connector.Batch) error) error {
	at := cursor{Version: 1, Windows: map[string]window{}}
	if len(from) > 0 {
		at = cursor{}
		if err := json.Unmarshal(from, &at); err != nil || at.Version != 1 || at.Windows == nil {
			return fmt.Errorf("%w: it is not of version 1", connector.ErrCursor)
		}
	}
	if err := s.Check(ctx); err != nil {
		return err
	}
	for _, project := range s.spec.Projects {
		w := at.Windows[project]
		err := s.list(ctx, project, w.Since, w.Next, func(page answer) error {
			changes, err := s.read(ctx, &w, page)
			at.Windows[project] = w
			if text, _ := json.Marshal(at); ctx.Err() == nil && !bytes.Equal(text, from) {
				err = errors.Join(emit(connector.Batch{Changes: changes, Cursor: text}), err) // what was read before an error counts
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// read returns what the issues of a page tell and moves the window on.
func (s *Source) read(ctx context.Context, w *window, page answer) (changes []flow.Change, err error) {
	if w.Began == 0 {
		w.Began, w.Seen = s.now.Unix(), maps.Collect(maps.All(w.Seen)) // a map, not nil
	}
	for _, row := range page.Issues {
		if at := row.Updated.Unix(); w.Seen[row.ID] != at {
			var history []flow.Change
			history, err = s.history(ctx, row.ID)
			if errors.As(err, new(*connector.ConfigError)) {
				err = nil // gone since it was listed
			} else if err != nil {
				break
			}
			changes = append(changes, history...)
			w.Seen[row.ID], w.Newest = at, max(w.Newest, at)
		}
		w.Next = row.ID + 1
	}
	// An update is dated before its transaction ends, and so may be out of sight for a while.
	since := max(0, min(w.Newest, w.Began-120))
	// Within two seconds an issue may get another update of the same date. A cursor has 64 kB.
	maps.DeleteFunc(w.Seen, func(_ int, at int64) bool { return at < since-1 || at > w.Began-2 || len(w.Seen) > 2500 })
	if err == nil && len(page.Issues) >= page.Total {
		w.Since, w.Next, w.Began = since, 0, 0
	}
	return changes, err
}

// list calls take with each page of the issues updated since, by number from next on.
func (s *Source) list(ctx context.Context, project string, since int64, next int, take func(answer) error) error {
	query := url.Values{"status_id": {"*"}, "sort": {"id:asc"}, "limit": {"100"}} // without status_id closed ones are left out
	query.Set("updated_on", ">="+time.Unix(since, 0).UTC().Format(time.RFC3339))
	if project != "" {
		query["project_id"], query["subproject_id"] = []string{project}, []string{"!*"}
	}
	for {
		query.Set("issue_id", ">="+strconv.Itoa(next))
		page, err := s.get(ctx, "issues", query)
		if err != nil {
			return fmt.Errorf("list issues of project %q: %w", project, err)
		}
		for _, row := range page.Issues {
			if row.ID < next {
				return fmt.Errorf("list issues from number %d on: got number %d", next, row.ID)
			}
			next = row.ID + 1
		}
		if err := take(page); err != nil || len(page.Issues) >= page.Total {
			return err
		}
	}
}

// Census implements [connector.Censor].
func (s *Source) Census(ctx context.Context, live func(connector.Item)) error {
	err := errors.Join(s.Check(ctx), s.lookUp(ctx))
	for _, project := range s.spec.Projects {
		err = errors.Join(err, s.list(ctx, project, 0, 0, func(page answer) error {
			for _, row := range page.Issues {
				live(s.item(row))
			}
			return nil
		}))
	}
	return err
}

// Check implements [connector.Checker]. It asks who we are: elsewhere Redmine
// takes a wrong key for none and answers what anybody may see.
func (s *Source) Check(ctx context.Context) error {
	s.names = nil
	_, err := s.get(ctx, "users/current", nil)
	return err
}

// get asks for a document and notes the time.
func (s *Source) get(ctx context.Context, path string, query url.Values) (a answer, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.spec.URL+"/"+path+".json?"+query.Encode(), nil)
	if err != nil {
		return a, &connector.ConfigError{Err: err}
	}
	key, err := s.spec.Token()
	if err != nil {
		return a, &connector.ConfigError{Err: fmt.Errorf("read API key: %w", err)}
	}
	request.Header.Set("X-Redmine-API-Key", key)
	response, err := s.client.Do(request)
	if err != nil {
		return a, err // it names the request
	}
	defer response.Body.Close()
	s.now, _ = http.ParseTime(response.Header.Get("Date"))
	err = fmt.Errorf("ask for %s: answered %s", path, response.Status)
	wait, unlimited := time.ParseDuration(response.Header.Get("Retry-After") + "s")
	switch code := response.StatusCode; {
	case code == http.StatusOK:
		err = json.NewDecoder(http.MaxBytesReader(nil, response.Body, 32<<20)).Decode(&a)
	case unlimited == nil:
		err = &connector.RateLimitError{Until: time.Now().Add(wait), Err: err}
	case code == http.StatusTooManyRequests, code == http.StatusServiceUnavailable:
		err = &connector.RateLimitError{Err: err}
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		err = &connector.AuthError{Err: err}
	case code == http.StatusNotFound: // no Redmine, no such project, no such issue
		err = &connector.ConfigError{Err: err}
	}
	return a, err
}
