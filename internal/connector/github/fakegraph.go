package github

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// graphql answers the queries of the connector. It knows the few types that
// these ask for and refuses every field and type that it does not know, as
// GitHub does. That the queries fit GitHub's own schema, and the answers the
// queries, is what tests check.
func (f *Fake) graphql(r *http.Request, _ string) fakeAnswer {
	if f.opts.NoGraphQL {
		return fakeMessage(http.StatusNotFound, "Not Found")
	}
	if r.Header.Get("Authorization") == "" {
		return fakeMessage(http.StatusUnauthorized, "This endpoint requires you to be authenticated.")
	}
	var in struct {
		Query     string         `json:"query"`
		Variables map[string]any `json:"variables"`
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil || json.Unmarshal(body, &in) != nil {
		return fakeMessage(http.StatusBadRequest, "Problems parsing JSON")
	}
	selected, err := readFakeGraphQuery(in.Query)
	if err != nil {
		return fakeGraphErrors(object{"message": err.Error()})
	}
	if f.opts.NoTimelineStatus && strings.Contains(in.Query, "ProjectV2ItemStatusChangedEvent") {
		return fakeGraphErrors(object{
			"message":    "No such type ProjectV2ItemStatusChangedEvent, so it can't be a fragment condition",
			"extensions": object{"code": "undefinedType", "typeName": "ProjectV2ItemStatusChangedEvent"},
		})
	}
	if scopes := f.opts.Scopes; scopes != "" && !strings.Contains(scopes, "project") && strings.Contains(in.Query, "projectV2") {
		return fakeGraphErrors(object{"type": "INSUFFICIENT_SCOPES", "message": "Your token has not been granted the required scopes to execute this query."})
	}
	g := &fakeGraphRun{fake: f, vars: in.Variables}
	data := g.pick(selected, g.root(), nil)
	if g.invalid {
		return fakeGraphErrors(g.errors...)
	}
	answered := object{"data": data}
	if len(g.errors) > 0 {
		answered["errors"] = g.errors
	}
	return fakeAnswer{status: http.StatusOK, body: answered}
}

func fakeGraphErrors(errors ...object) fakeAnswer {
	return fakeAnswer{status: http.StatusOK, body: object{"errors": errors}}
}

// A fakeGraphField is one selected field, or an inline fragment on a type.
type fakeGraphField struct {
	name, as string // as: the key in the answer
	on       string
	args     string // as written
	fields   []fakeGraphField
}

// fakeGraphReader reads the selections of a query. Named fragments and directives
// are not for it.
type fakeGraphReader struct{ tokens []string }

var fakeGraphTokens = regexp.MustCompile(`#[^\n]*|"(?:[^"\\]|\\.)*"|\.\.\.|[A-Za-z_]\w*|-?\d+|[^\s,]`)

func readFakeGraphQuery(text string) ([]fakeGraphField, error) {
	r := fakeGraphReader{tokens: slices.DeleteFunc(fakeGraphTokens.FindAllString(text, -1), func(t string) bool { return t[0] == '#' })}
	if r.next() != "query" {
		return nil, fmt.Errorf("a query is expected")
	}
	for r.peek() != "{" {
		if r.peek() == "" {
			return nil, fmt.Errorf("unexpected end of the query")
		}
		if r.next() == "(" {
			r.arguments()
		}
	}
	fields, err := r.selections()
	if err == nil && r.peek() != "" {
		err = fmt.Errorf("unexpected %q after the query", r.peek())
	}
	return fields, err
}

func (r *fakeGraphReader) peek() string {
	if len(r.tokens) == 0 {
		return ""
	}
	return r.tokens[0]
}

func (r *fakeGraphReader) next() string {
	t := r.peek()
	if t != "" {
		r.tokens = r.tokens[1:]
	}
	return t
}

// arguments reads up to the parenthesis that ends them.
func (r *fakeGraphReader) arguments() string {
	var args []string
	for t := r.next(); t != ")" && t != ""; t = r.next() {
		args = append(args, t)
	}
	return strings.Join(args, " ")
}

func (r *fakeGraphReader) selections() (fields []fakeGraphField, err error) {
	r.next() // the brace
	for r.peek() != "}" {
		var field fakeGraphField
		switch t := r.next(); {
		case t == "...":
			if r.next() != "on" {
				return nil, fmt.Errorf("only fragments on a type are understood")
			}
			field.on = r.next()
		case t != "" && (t[0] == '_' || t[0] >= 'A' && t[0] <= 'Z' || t[0] >= 'a' && t[0] <= 'z'):
			field.name, field.as = t, t
			if r.peek() == ":" {
				r.next()
				field.name = r.next()
			}
			if r.peek() == "(" {
				r.next()
				field.args = r.arguments()
			}
		default:
			return nil, fmt.Errorf("unexpected %q in the query", t)
		}
		if r.peek() == "{" {
			if field.fields, err = r.selections(); err != nil {
				return nil, err
			}
		}
		fields = append(fields, field)
	}
	r.next()
	return fields, nil
}

// fakeGraphRun is the answering of one query.
type fakeGraphRun struct {
	fake    *Fake
	vars    map[string]any
	errors  []object
	invalid bool // the query does not fit the schema, so that there is no data
}

// A fakeLazy value depends on the arguments of its field, and may be asked for
// where it is in the answer.
type fakeLazy = func(args string, path []any) any

// fakeGraphOn tells which interfaces the known types have.
var fakeGraphOn = map[string]string{"Organization": "ProjectV2Owner"}

// pick returns of a value what is selected.
func (g *fakeGraphRun) pick(fields []fakeGraphField, value any, path []any) any {
	switch v := value.(type) {
	case []any:
		picked := make([]any, len(v))
		for k, e := range v {
			picked[k] = g.pick(fields, e, append(path[:len(path):len(path)], k))
		}
		return picked
	case object:
		picked := make(object)
		g.pickInto(picked, fields, v, path)
		return picked
	}
	return value
}

func (g *fakeGraphRun) pickInto(picked object, fields []fakeGraphField, from object, path []any) {
	kind, _ := from["__typename"].(string)
	for _, field := range fields {
		if field.on != "" {
			if field.on == kind || fakeGraphOn[kind] == field.on {
				g.pickInto(picked, field.fields, from, path)
			}
			continue
		}
		value, known := from[field.name]
		if !known {
			g.invalid = true
			g.errors = append(g.errors, object{
				"message": fmt.Sprintf("Field '%s' doesn't exist on type '%s'", field.name, kind), "path": append([]any{"query"}, path...),
				"extensions": object{"code": "undefinedField", "typeName": kind, "fieldName": field.name},
			})
			continue
		}
		at := append(path[:len(path):len(path)], field.as)
		if ask, ok := value.(fakeLazy); ok {
			value = ask(field.args, at)
		}
		picked[field.as] = g.pick(field.fields, value, at)
	}
}

func (g *fakeGraphRun) notFound(path []any, format string, args ...any) {
	g.errors = append(g.errors, object{"type": "NOT_FOUND", "path": path, "message": fmt.Sprintf(format, args...)})
}

func (g *fakeGraphRun) text(variable string) string {
	text, _ := g.vars[variable].(string)
	return text
}

func (g *fakeGraphRun) root() object {
	return object{
		"__typename": "Query",
		"node":       fakeLazy(func(_ string, path []any) any { return g.node(g.text("id"), path) }),
		"nodes": fakeLazy(func(_ string, path []any) any {
			ids, _ := g.vars["ids"].([]any)
			if len(ids) > 100 {
				g.errors = append(g.errors, object{"type": "ARGUMENT_LIMIT", "path": path, "message": "You may not provide more than 100 node ids."})
				return nil
			}
			nodes := []any{}
			for k, id := range ids {
				text, _ := id.(string)
				nodes = append(nodes, g.node(text, append(path[:len(path):len(path)], k)))
			}
			return nodes
		}),
		"repositoryOwner": fakeLazy(func(string, []any) any { return g.owner(g.text("owner")) }),
		"rateLimit":       object{"__typename": "RateLimit", "limit": 5000, "remaining": 4999, "cost": 1, "used": 1},
	}
}

func (g *fakeGraphRun) node(id string, path []any) any {
	switch n := g.fake.nodes[id].(type) {
	case *fakeIssue:
		return g.issue(n)
	case *fakeCard:
		return g.card(n)
	case *fakeBoard:
		return g.board(n)
	}
	g.notFound(path, "Could not resolve to a node with the global id of '%s'", id)
	return nil
}

func (g *fakeGraphRun) owner(login string) any {
	own := func(r *fakeRepo) bool { return strings.EqualFold(r.owner, login) }
	has := func(b *fakeBoard) bool { return strings.EqualFold(b.owner, login) }
	if !slices.ContainsFunc(g.fake.repos, own) && !slices.ContainsFunc(g.fake.boards, has) {
		return nil
	}
	return object{
		"__typename": "Organization", "login": login,
		"projectV2": fakeLazy(func(_ string, path []any) any {
			number, _ := g.vars["number"].(float64)
			k := slices.IndexFunc(g.fake.boards, func(b *fakeBoard) bool { return has(b) && b.number == int(number) })
			if k < 0 {
				g.notFound(path, "Could not resolve to a ProjectV2 with the number %d.", int(number))
				return nil
			}
			return g.board(g.fake.boards[k])
		}),
	}
}

func (g *fakeGraphRun) board(b *fakeBoard) object {
	return object{
		"__typename": "ProjectV2", "id": b.node(), "number": b.number, "title": fmt.Sprintf("Board %d", b.number),
		"items": fakeLazy(func(args string, _ []any) any {
			return g.page("ProjectV2Item", args, len(b.cards), func(k int) any { return g.card(b.cards[k]) })
		}),
		"field": fakeLazy(func(args string, _ []any) any {
			if !strings.Contains(args, `"Status"`) {
				return nil
			}
			options := []any{}
			for _, o := range b.options {
				options = append(options, object{"__typename": "ProjectV2SingleSelectFieldOption", "id": o.id, "name": o.name})
			}
			return object{"__typename": "ProjectV2SingleSelectField", "id": b.fieldNode(), "name": "Status", "options": options}
		}),
	}
}

func (g *fakeGraphRun) card(c *fakeCard) object {
	return object{
		"__typename": "ProjectV2Item", "id": c.node(), "type": "ISSUE", "isArchived": false,
		"createdAt": fakeTime(c.added), "updatedAt": fakeTime(c.set),
		"project": fakeLazy(func(string, []any) any { return g.board(c.board) }),
		"content": fakeLazy(func(string, []any) any { return g.issue(c.issue) }),
		"fieldValueByName": fakeLazy(func(args string, _ []any) any {
			if c.option == nil || !strings.Contains(args, `"Status"`) {
				return nil
			}
			return object{
				"__typename": "ProjectV2ItemFieldSingleSelectValue", "id": fakeNodeID("PVTFSV", c.id),
				"optionId": c.option.id, "name": c.option.name, "createdAt": fakeTime(c.added), "updatedAt": fakeTime(c.set),
			}
		}),
	}
}

// issue shows an issue, or the pull request that it is.
func (g *fakeGraphRun) issue(i *fakeIssue) object {
	kind := "Issue"
	if i.pull != nil {
		kind = "PullRequest"
	}
	o := object{
		"__typename": kind, "id": i.node(), "fullDatabaseId": strconv.FormatInt(i.id, 10), "number": i.number, "title": i.title,
		"url": i.page(fakeHookBase), "createdAt": fakeTime(i.created), "updatedAt": fakeTime(i.updated), "closedAt": fakeTimeOrNull(i.closed),
		"state": strings.ToUpper(i.state()), "repository": object{"__typename": "Repository", "id": fakeNodeID("R", i.repo.id), "nameWithOwner": i.repo.full()},
		"timelineItems": fakeLazy(func(args string, _ []any) any {
			var shown []any
			for _, e := range i.events {
				if entry := showGraphEvent(e); entry != nil && strings.Contains(" "+args+" ", " "+fakeGraphEvents[e.kind].item+" ") {
					shown = append(shown, entry)
				}
			}
			return g.page(kind+"TimelineItems", args, len(shown), func(k int) any { return shown[k] })
		}),
	}
	if p := i.pull; p != nil {
		o["fullDatabaseId"] = strconv.FormatInt(p.id, 10)
		o["merged"], o["mergedAt"] = !p.merged.IsZero(), fakeTimeOrNull(p.merged)
		if !p.merged.IsZero() {
			o["state"] = "MERGED"
		}
		o["closingIssuesReferences"] = fakeLazy(func(args string, _ []any) any {
			return g.page("Issue", args, len(p.closes), func(k int) any { return g.issue(p.closes[k]) })
		})
	}
	return o
}

// fakeGraphEvents gives GraphQL's names of the kinds of events.
var fakeGraphEvents = map[string]struct{ kind, item string }{
	"closed":                         {"ClosedEvent", "CLOSED_EVENT"},
	"reopened":                       {"ReopenedEvent", "REOPENED_EVENT"},
	"merged":                         {"MergedEvent", "MERGED_EVENT"},
	"review_requested":               {"ReviewRequestedEvent", "REVIEW_REQUESTED_EVENT"},
	"reviewed":                       {"PullRequestReview", "PULL_REQUEST_REVIEW"},
	"transferred":                    {"TransferredEvent", "TRANSFERRED_EVENT"},
	"added_to_project_v2":            {"AddedToProjectV2Event", "ADDED_TO_PROJECT_V2_EVENT"},
	"removed_from_project_v2":        {"RemovedFromProjectV2Event", "REMOVED_FROM_PROJECT_V2_EVENT"},
	"project_v2_item_status_changed": {"ProjectV2ItemStatusChangedEvent", "PROJECT_V2_ITEM_STATUS_CHANGED_EVENT"},
}

func showGraphEvent(e *fakeEvent) any {
	kind := fakeGraphEvents[e.kind].kind
	if kind == "" {
		return nil
	}
	o := object{"__typename": kind, "id": e.node(), "createdAt": fakeTime(e.at)}
	if e.kind == "reviewed" {
		o["submittedAt"], o["state"] = fakeTime(e.at), strings.ToUpper(e.reason)
	}
	if e.repo != nil {
		o["fromRepository"] = object{"__typename": "Repository", "id": fakeNodeID("R", e.repo.id), "nameWithOwner": e.repo.full()}
	}
	if e.board != nil {
		o["project"] = object{"__typename": "ProjectV2", "id": e.board.node(), "number": e.board.number}
	}
	if e.kind == "project_v2_item_status_changed" {
		o["previousStatus"], o["status"] = e.from, e.to
	}
	return o
}

// page shows one page of a connection of a type: as many rows as asked for, beginning
// after the variable after where the arguments name it.
func (g *fakeGraphRun) page(of, args string, rows int, show func(k int) any) any {
	first, start := 100, 0
	if m := regexp.MustCompile(`first : (\d+)`).FindStringSubmatch(args); m != nil {
		first, _ = strconv.Atoi(m[1])
	}
	if strings.Contains(args, "after : $ after") {
		var after fakePlace
		if decodeFakeCursor(g.text("after"), &after) {
			start = int(after.ID)
		}
	}
	start = min(start, rows)
	end := min(start+min(first, g.fake.opts.PageSize), rows)
	nodes := []any{}
	for k := start; k < end; k++ {
		nodes = append(nodes, show(k))
	}
	cursor := any(nil)
	if end > start {
		cursor = encodeFakeCursor(fakePlace{At: time.Unix(0, 0).UTC(), ID: int64(end)})
	}
	return object{
		"__typename": of + "Connection", "nodes": nodes, "totalCount": rows,
		"pageInfo": object{"__typename": "PageInfo", "hasNextPage": end < rows, "hasPreviousPage": start > 0, "endCursor": cursor},
	}
}
