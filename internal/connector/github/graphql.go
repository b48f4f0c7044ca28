package github

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// The queries, each in a file of the name of its operation. None asks who did
// something.
//
//go:embed queries/*.graphql
var queries embed.FS

const (
	// unsupportedFor is how long a query that a site cannot answer is not sent again.
	unsupportedFor = time.Hour
	// nodesAtOnce is how many nodes a query asks for at most. GitHub stops
	// queries that take it ten seconds.
	nodesAtOnce = 50
)

// errUnsupported says that a site cannot answer a query, now or in an hour: it
// has no GraphQL, an older schema, or nothing for these credentials.
var errUnsupported = errors.New("GraphQL: the site does not answer this query")

// errNotFound says that what a query is about does not exist, or not for these
// credentials.
var errNotFound = errors.New("GraphQL: not found")

var errGraphLimit = errors.New("GraphQL has a limit of its own, which is used up")

// graph is what a source remembers about a site's GraphQL. Its methods are safe
// for concurrent use.
type graph struct {
	mu          sync.Mutex
	unsupported map[string]time.Time // until when, by operation
	size        int                  // nodes that a query asks for; 0: as many as may be
}

func (g *graph) supports(operation string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !time.Now().Before(g.unsupported[operation])
}

func (g *graph) lacks(operation string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.unsupported == nil {
		g.unsupported = make(map[string]time.Time)
	}
	g.unsupported[operation] = time.Now().Add(unsupportedFor)
}

// batch returns how many nodes to ask for.
func (g *graph) batch() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return cmp.Or(g.size, nodesAtOnce)
}

// answered makes batches smaller after a failure, which may be GitHub's giving
// up on a query that is too much for it, and larger again after a success.
func (g *graph) answered(ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	size := cmp.Or(g.size, nodesAtOnce)
	if ok {
		g.size = min(2*size, nodesAtOnce)
	} else {
		g.size = max(1, size/2)
	}
}

// A graphAnswer is what GraphQL answers, before it is looked at.
type graphAnswer struct {
	Data   json.RawMessage
	Errors []graphError
}

// A graphError is an error that GraphQL tells of in an answer with status 200.
type graphError struct {
	Type       string `json:"type"`
	Message    string `json:"message"`
	Path       []any  `json:"path"`
	Extensions struct {
		Code string `json:"code"`
	} `json:"extensions"`
}

// Error does not repeat the site's own words: they may name people.
func (e *graphError) Error() string {
	return "GraphQL: " + cmp.Or(words(e.Message), code(e.Type))
}

// decode takes JSON of another shape for something other than GraphQL.
func (a *graphAnswer) decode(text []byte) error {
	if !json.Valid(text) {
		return errors.New("answer is not JSON")
	}
	var shape struct {
		Data   json.RawMessage `json:"data"`
		Errors []graphError    `json:"errors"`
	}
	if json.Unmarshal(text, &shape) != nil || shape.Data == nil && len(shape.Errors) == 0 {
		return errUnsupported
	}
	a.Data, a.Errors = shape.Data, shape.Errors
	return nil
}

func (a *graphAnswer) empty() bool { return len(a.Data) == 0 || bytes.Equal(a.Data, []byte("null")) }

// ask sends the query of an operation and decodes the data of the answer. The
// error is errUnsupported where the site cannot answer it, which is remembered
// for an hour, errNotFound, a [*connector.RateLimitError], a
// [*connector.AuthError] that names the scope that is missing, or temporary.
func (s *Source) ask(ctx context.Context, operation string, variables map[string]any, into any) error {
	if s.anonymous || !s.graph.supports(operation) {
		return errUnsupported
	}
	query, err := queries.ReadFile("queries/" + operation + ".graphql")
	if err != nil {
		return fmt.Errorf("read query: %w", err)
	}
	body := map[string]any{"operationName": operation, "query": string(query), "variables": variables}
	var answer graphAnswer
	reply, err := s.client.do(ctx, http.MethodPost, s.client.graphql, body, &answer)
	switch statusOf(err) {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone, http.StatusNotImplemented:
		err = errUnsupported
	}
	if errors.Is(err, errWebPage) {
		err = errUnsupported
	}
	if err == nil {
		err = answer.judge(reply.header)
	}
	if err == nil {
		err = answer.into(into)
	}
	if errors.Is(err, errUnsupported) {
		s.graph.lacks(operation)
	}
	return err
}

func (a *graphAnswer) into(into any) error {
	if a.empty() || json.Unmarshal(a.Data, into) != nil {
		return errUnsupported
	}
	return nil
}

// judge tells what the errors of an answer mean. Single nodes that do not exist,
// or not for these credentials, are null among the data and no error.
func (a *graphAnswer) judge(h http.Header) error {
	for k := range a.Errors {
		e := &a.Errors[k]
		switch {
		case strings.HasPrefix(e.Type, "RATE_LIMIT"):
			until := time.Now().Add(defaultWait)
			if wait, ok := waitOf(h); ok {
				until = time.Now().Add(min(max(wait, time.Second), maxWait))
			}
			return &connector.RateLimitError{Until: until, Err: errGraphLimit}
		case e.Type == "INSUFFICIENT_SCOPES":
			return &connector.AuthError{Err: &scopeError{scope: scopeIn(e.Message)}}
		case e.aboutNode():
		case e.Type == "NOT_FOUND":
			return errNotFound
		case e.Type == "FORBIDDEN":
			return &connector.AuthError{Err: e}
		case e.Type == "" && a.empty() && e.Extensions.Code != "":
			// A query that is not valid for the schema of this site.
			return fmt.Errorf("%w: %s", errUnsupported, code(e.Extensions.Code))
		default:
			return e
		}
	}
	return nil
}

// aboutNode reports whether an error is about one of several nodes, or one that
// was asked for by its id, and not about what the query is for.
func (e *graphError) aboutNode() bool {
	if e.Type != "NOT_FOUND" && e.Type != "FORBIDDEN" {
		return false
	}
	return slices.Contains(e.Path, any("nodes")) || len(e.Path) > 0 && e.Path[0] == "node"
}

// A scopeError says which scope a token lacks.
type scopeError struct{ scope string }

func (e *scopeError) Error() string { return "the token lacks the scope " + e.scope }

// scopeIn reads the scope from GitHub's words, which list those that would do
// and then those that the token has.
func scopeIn(message string) string {
	_, list, _ := strings.Cut(message, "['")
	scope, _, ok := strings.Cut(list, "'")
	if !ok || strings.Trim(scope, "abcdefghijklmnopqrstuvwxyz:_") != "" {
		return "read:project"
	}
	return scope
}

// A bigID is a database id, which GraphQL tells as text: it is too large for a
// number of GraphQL.
type bigID string

// UnmarshalJSON takes a number as well.
func (b *bigID) UnmarshalJSON(text []byte) error {
	id := strings.Trim(string(text), `"`)
	if id == "null" {
		id = ""
	}
	if strings.Trim(id, "0123456789") != "" {
		return errors.New("id is not a number")
	}
	*b = bigID(id)
	return nil
}

// A graphIssue says which issue something is about.
type graphIssue struct {
	ID         string `json:"id"` // of the node, where it is asked for
	Typename   string `json:"__typename"`
	DatabaseID bigID  `json:"fullDatabaseId"`
	Number     int    `json:"number"`
	CreatedAt  stamp  `json:"createdAt"` // where it is asked for
	Repository struct {
		Name string `json:"nameWithOwner"`
	} `json:"repository"`
	Transfers graphTimeline `json:"transfers"` // where they are asked for
}

// A graphNode is an issue or a pull request with its timeline.
type graphNode struct {
	graphIssue
	Closes struct {
		Nodes []*graphIssue `json:"nodes"`
	} `json:"closingIssuesReferences"`
	Timeline graphTimeline `json:"timelineItems"`
}

type graphTimeline struct {
	Nodes []*graphEvent `json:"nodes"`
	Page  pageInfo      `json:"pageInfo"`
}

type pageInfo struct {
	More bool   `json:"hasNextPage"`
	End  string `json:"endCursor"`
}

// A graphEvent is an entry of a timeline. Which fields are set depends on its type.
type graphEvent struct {
	Typename       string `json:"__typename"`
	ID             string `json:"id"`
	CreatedAt      stamp  `json:"createdAt"`
	SubmittedAt    stamp  `json:"submittedAt"`
	State          string `json:"state"`
	PreviousStatus string `json:"previousStatus"`
	Status         string `json:"status"`
	Project        struct {
		ID string `json:"id"`
	} `json:"project"`
	From struct {
		Name string `json:"nameWithOwner"`
	} `json:"fromRepository"`
}

// maxMore bounds the pages of one timeline, should a site never come to an end.
const maxMore = 1000

// timelines asks for nodes by their ids, with their complete timelines. Nodes
// that do not exist are left out.
func (s *Source) timelines(ctx context.Context, operation string, ids []string) ([]*graphNode, error) {
	var nodes []*graphNode
	for len(ids) > 0 {
		n := min(len(ids), s.graph.batch())
		some, err := s.someTimelines(ctx, operation, ids[:n], "")
		if err != nil {
			return nil, err
		}
		nodes, ids = append(nodes, some...), ids[n:]
	}
	for _, node := range nodes {
		pages := 1
		for page := node.Timeline.Page; page.More; pages++ {
			rest, err := s.someTimelines(ctx, operation, []string{node.ID}, page.End)
			switch {
			case err != nil:
				return nil, err
			case len(rest) != 1:
				return nil, errNotFound // it has gone meanwhile; the next list is without it
			case pages > maxMore || rest[0].Timeline.Page.End == page.End:
				return nil, errors.New("GraphQL: a timeline has no end")
			}
			node.Timeline.Nodes = append(node.Timeline.Nodes, rest[0].Timeline.Nodes...)
			page = rest[0].Timeline.Page
		}
	}
	return nodes, nil
}

func (s *Source) someTimelines(ctx context.Context, operation string, ids []string, after string) ([]*graphNode, error) {
	variables := map[string]any{"ids": ids}
	if after != "" {
		variables["after"] = after
	}
	var data struct {
		Nodes []*graphNode `json:"nodes"`
	}
	err := s.ask(ctx, operation, variables, &data)
	if err == nil || temporary(err) {
		s.graph.answered(err == nil)
	}
	if err != nil {
		return nil, err
	}
	var nodes []*graphNode
	for _, n := range data.Nodes {
		if n != nil && n.ID != "" { // others do not exist, or are of another kind
			nodes = append(nodes, n)
		}
	}
	return nodes, nil
}

// temporary reports whether an error may be due to the size of a query.
func temporary(err error) bool {
	_, answered := errors.AsType[*graphError](err)
	_, denied := errors.AsType[*connector.AuthError](err)
	_, limited := errors.AsType[*connector.RateLimitError](err)
	return (answered || statusOf(err) >= 500 || errors.Is(err, context.DeadlineExceeded)) && !denied && !limited
}
