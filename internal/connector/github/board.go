package github

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const (
	boardFor  = time.Hour   // the board's options are good for so long
	boardAnew = time.Minute // and for so long where one turns up that is not among them
	// itemPages is how many pages one Observe lists at most, the next one goes on.
	itemPages = 20
	// perPage is the time that each page of the board costs until the next listing.
	perPage     = 15 * time.Second
	observePace = time.Minute // at least
	maxContents = 1 << 14
	// surelyKnown is the age from which on an issue is taken to have been read.
	surelyKnown = 10 * time.Minute
)

// board is what a source remembers about its project. What is behind mu is safe
// for concurrent use.
type board struct {
	moves moves

	mu       sync.Mutex
	known    *project
	knownAt  time.Time
	contents map[string]graphIssue // by node id

	outage outage // of the whole

	next  time.Time // when to list the items again
	after string    // where an unfinished listing goes on
	pages int       // of it, so far
}

// A project is a board as far as it matters.
type project struct {
	id       string
	field    string // id of the field Status; empty: the board has none
	statuses []flow.Value
}

// statusNamed returns a status by its present name. One that is not there any
// more keeps the name and has no id.
func (p *project) statusNamed(name string) flow.Value {
	for _, v := range p.statuses {
		if v.Name == name {
			return v
		}
	}
	return flow.Value{Name: connector.CleanText(name, flow.MaxText)}
}

func (p *project) has(name string) bool {
	return name == "" || p.statusNamed(name).ID != ""
}

// hasBoard reports whether a project is configured.
func (s *Source) hasBoard() bool { return s.project.Number > 0 }

// projectVariables name the configured project.
func (s *Source) projectVariables() map[string]any {
	return map[string]any{"owner": s.project.Owner, "number": s.project.Number}
}

// loadProject returns the board, asked for again where what is known of it is
// older than that. It is safe for concurrent use.
func (s *Source) loadProject(ctx context.Context, age time.Duration) (*project, error) {
	s.board.mu.Lock()
	known, at := s.board.known, s.board.knownAt
	s.board.mu.Unlock()
	if known != nil && time.Since(at) < age {
		return known, nil
	}
	var data struct {
		Owner *struct {
			Project *struct {
				ID    string `json:"id"`
				Field struct {
					ID      string `json:"id"`
					Options []struct {
						ID   string `json:"id"`
						Name string `json:"name"`
					} `json:"options"`
				} `json:"field"`
			} `json:"projectV2"`
		} `json:"repositoryOwner"`
	}
	err := s.ask(ctx, "ProjectStatuses", s.projectVariables(), &data)
	if err == nil && (data.Owner == nil || data.Owner.Project == nil || data.Owner.Project.ID == "") {
		err = errNotFound
	}
	if err != nil {
		return nil, s.boardError(err)
	}
	p := &project{id: data.Owner.Project.ID, field: data.Owner.Project.Field.ID}
	for _, o := range data.Owner.Project.Field.Options {
		p.statuses = append(p.statuses, flow.Value{ID: o.ID, Name: connector.CleanText(o.Name, flow.MaxText)})
	}
	s.board.mu.Lock()
	s.board.known, s.board.knownAt = p, time.Now()
	s.board.mu.Unlock()
	return p, nil
}

// forgetProject makes the next use of the project ask for it.
func (s *Source) forgetProject() {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	s.board.known = nil
}

// boardError says what an error means where it is about the board as a whole,
// which the configuration asks for.
func (s *Source) boardError(err error) error {
	name := s.project.Owner + "/" + strconv.Itoa(s.project.Number)
	switch {
	case errors.Is(err, errNotFound):
		return &connector.ConfigError{Err: fmt.Errorf("project %s does not exist, or not for these credentials", name)}
	case errors.Is(err, errUnsupported) && s.anonymous:
		return &connector.ConfigError{Err: fmt.Errorf("project %s: GraphQL needs a token", name)}
	case errors.Is(err, errUnsupported):
		return &connector.ConfigError{Err: fmt.Errorf("project %s: the site has no projects of this kind: %w", name, err)}
	}
	return fmt.Errorf("read project %s: %w", name, err)
}

// checkProject tells whether the configured project can be read.
func (s *Source) checkProject(ctx context.Context) error {
	if !s.hasBoard() {
		return nil
	}
	p, err := s.loadProject(ctx, 0)
	if err == nil && p.field == "" {
		err = &connector.ConfigError{Err: fmt.Errorf("project %s/%d has no field Status of the kind single select", s.project.Owner, s.project.Number)}
	}
	return err
}

// projectStatuses returns the options of the board's field Status.
func (s *Source) projectStatuses(ctx context.Context) ([]flow.Value, error) {
	if !s.hasBoard() {
		return nil, nil
	}
	p, err := s.loadProject(ctx, boardAnew)
	if err != nil {
		return nil, err
	}
	return p.statuses, nil
}

// boardHistory returns the moves on the configured board that the timelines of
// the issues of a page tell of, none where the site does not record them.
func (s *Source) boardHistory(ctx context.Context, issues []issue) ([]flow.Change, error) {
	if !s.hasBoard() || len(issues) == 0 || !s.graph.supports("BoardHistory") {
		return nil, nil
	}
	p, err := s.loadProject(ctx, boardFor)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(issues))
	for k := range issues {
		ids[k] = issues[k].NodeID
	}
	nodes, err := s.timelines(ctx, "BoardHistory", ids)
	if errors.Is(err, errUnsupported) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read board history: %w", err)
	}
	if p, err = s.refreshFor(ctx, p, nodes); err != nil {
		return nil, err
	}
	var changes []flow.Change
	for _, node := range nodes {
		if base, ok := s.changeOf(&node.graphIssue); ok {
			changes = append(changes, s.movesOf(p, node, base)...)
		}
	}
	return changes, nil
}

// refreshFor asks for the board again if the timelines name a status that is
// not known: it may be new.
func (s *Source) refreshFor(ctx context.Context, p *project, nodes []*graphNode) (*project, error) {
	for _, node := range nodes {
		for _, e := range node.Timeline.Nodes {
			if e != nil && e.Project.ID == p.id && !(p.has(e.Status) && p.has(e.PreviousStatus)) {
				return s.loadProject(ctx, boardAnew)
			}
		}
	}
	return p, nil
}

// movesOf returns the moves that the timeline of one issue tells of. Those of
// one second are numbered, for their ids say nothing about their order.
func (s *Source) movesOf(p *project, node *graphNode, base flow.Change) []flow.Change {
	var changes []flow.Change
	var last time.Time
	var sequence int64
	for _, e := range node.Timeline.Nodes {
		if e == nil || e.ID == "" || e.Project.ID != p.id {
			continue
		}
		sequence++
		if !e.CreatedAt.Equal(last) {
			last, sequence = e.CreatedAt.Time, 0
		}
		c := base
		c.ID, c.At, c.Sequence = base.Item+":"+e.ID, e.CreatedAt.Time, sequence
		f := flow.FieldChange{Field: flow.FieldStatus}
		if e.PreviousStatus != "" {
			f.From = p.statusNamed(e.PreviousStatus)
		}
		if e.Status != "" {
			f.To = p.statusNamed(e.Status)
		}
		c.Fields = []flow.FieldChange{f}
		if !s.board.moves.told(&c, fromTimeline) {
			changes = append(changes, c)
		}
	}
	return changes
}

// A graphStatus is what an item of the board has in the field Status.
type graphStatus struct {
	OptionID  string `json:"optionId"`
	Name      string `json:"name"`
	UpdatedAt stamp  `json:"updatedAt"`
}

func (g *graphStatus) value() flow.Value {
	if g == nil {
		return flow.Value{}
	}
	return flow.Value{ID: connector.CleanText(g.OptionID, flow.MaxText), Name: connector.CleanText(g.Name, flow.MaxText)}
}

// present returns the change that an item came to have its present status. It
// has the id that the Runner gives an observation of the same.
func present(base flow.Change, status *graphStatus) flow.Change {
	to := status.value()
	base.At, base.Approximate = status.UpdatedAt.Time, true
	base.ID = fmt.Sprintf("%s:observed:%s:%d", base.Item, cmp.Or(to.ID, to.Name), base.At.UnixMilli())
	base.Fields = []flow.FieldChange{{Field: flow.FieldStatus, To: to}}
	return base
}

// Observe implements [connector.Observer]: it lists what is on the board. A
// listing that is long or fails goes on where it stopped. Once it is complete it
// rests for a quarter of a minute for each page, and at least for a minute.
func (s *Source) Observe(ctx context.Context, seen func(connector.Observation)) error {
	b := &s.board
	if !s.hasBoard() || b.outage.err != nil || time.Now().Before(b.next) {
		return nil // of an outage Poll tells
	}
	for range itemPages {
		more, err := s.observePage(ctx, seen)
		if err != nil {
			if _, answered := errors.AsType[*graphError](err); answered {
				b.after = "" // it may be that GitHub has forgotten the place
			}
			return s.boardError(err)
		}
		if b.pages++; !more {
			b.next, b.pages = time.Now().Add(max(observePace, time.Duration(b.pages)*perPage)), 0
			return nil
		}
	}
	return nil
}

func (s *Source) observePage(ctx context.Context, seen func(connector.Observation)) (more bool, err error) {
	variables := s.projectVariables()
	if s.board.after != "" {
		variables["after"] = s.board.after
	}
	var data struct {
		Owner *struct {
			Project *struct {
				Field struct {
					ID string `json:"id"`
				} `json:"field"`
				Items struct {
					Nodes []*boardItem `json:"nodes"`
					Page  pageInfo     `json:"pageInfo"`
				} `json:"items"`
			} `json:"projectV2"`
		} `json:"repositoryOwner"`
	}
	if err := s.ask(ctx, "ProjectItems", variables, &data); err != nil {
		return false, err
	}
	if data.Owner == nil || data.Owner.Project == nil {
		return false, errNotFound
	}
	items := data.Owner.Project.Items
	for _, item := range items.Nodes {
		// Where the board has lost the field, no status was cleared.
		if o, ok := s.observation(item); ok && (data.Owner.Project.Field.ID != "" || !o.Status.IsZero()) {
			seen(o)
		}
	}
	if !items.Page.More || items.Page.End == "" || items.Page.End == s.board.after {
		s.board.after = ""
		return false, nil
	}
	s.board.after = items.Page.End
	return true, nil
}

// A boardItem is an item of the board. What is not an issue, or is out of
// sight, has content of another type, or none.
type boardItem struct {
	UpdatedAt stamp        `json:"updatedAt"`
	Content   *graphIssue  `json:"content"`
	Status    *graphStatus `json:"fieldValueByName"`
}

// observation returns what is seen of an item; ok is false for one that is no
// issue of the repositories that are read.
func (s *Source) observation(item *boardItem) (o connector.Observation, ok bool) {
	if item == nil || item.Content == nil || item.Content.Typename != "Issue" {
		return o, false
	}
	c, ok := s.changeOf(item.Content)
	if !ok {
		return o, false
	}
	// When a status was cleared is not told. The item has changed since, or then.
	c.At = item.UpdatedAt.Time
	status := item.Status.value()
	if !status.IsZero() {
		c = present(c, item.Status)
		// What the Runner does not know yet it leaves for the next snapshot.
		if time.Since(item.Content.CreatedAt.Time) > surelyKnown {
			s.board.moves.told(&c, fromNow)
		}
	}
	container := s.transfersOf(item.Content.Transfers).holder(c.At, c.Sequence, c.Container)
	return connector.Observation{
		Item: connector.Item{ID: c.Item, Key: c.Key, Container: container, Status: status}, At: c.At,
	}, true
}

// contentOf returns which issue a node is. ok is false for what is no issue, or
// is out of sight. It is safe for concurrent use.
func (s *Source) contentOf(ctx context.Context, node string) (of graphIssue, ok bool, err error) {
	s.board.mu.Lock()
	of, ok = s.board.contents[node]
	s.board.mu.Unlock()
	if ok {
		return of, true, nil
	}
	n, err := s.lookUp(ctx, node)
	if err != nil || n.Typename != "Issue" {
		return graphIssue{}, false, err
	}
	s.remember(node, n.graphIssue)
	return n.graphIssue, true, nil
}

// remember keeps which issue a node is, for a bounded number of them.
func (s *Source) remember(node string, of graphIssue) {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	if s.board.contents == nil || len(s.board.contents) >= maxContents {
		s.board.contents = make(map[string]graphIssue)
	}
	s.board.contents[node] = of
}

// A boardNode is an issue, or an item of the board with what it holds.
type boardNode struct {
	graphIssue
	Content *graphIssue  `json:"content"`
	Status  *graphStatus `json:"fieldValueByName"`
}

// lookUp asks for one node; it is the zero boardNode where there is none.
func (s *Source) lookUp(ctx context.Context, node string) (boardNode, error) {
	var data struct {
		Node *boardNode `json:"node"`
	}
	if err := s.ask(ctx, "ContentOf", map[string]any{"id": node}, &data); err != nil {
		return boardNode{}, fmt.Errorf("look up node: %w", err)
	}
	if data.Node == nil {
		return boardNode{}, nil
	}
	return *data.Node, nil
}
