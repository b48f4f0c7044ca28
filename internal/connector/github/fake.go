package github

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// FakeOptions says what kind of GitHub a [Fake] is. The zero value is a
// friendly github.com: pages of up to 100, complete timelines, no limits, any
// credentials. GraphQL and /user demand some, as they do everywhere.
type FakeOptions struct {
	Enterprise       bool             // GitHub Enterprise Server: REST below /api/v3, GraphQL at /api/graphql, no rate limits shown but Limit
	Limit            int              // requests that an hour allows, as is shown; 0: 5000
	Token            string           // the token demanded, where there is one
	Scopes           string           // shown as the scopes of the token; none: a token that has no scopes, only permissions
	PageSize         int              // the most rows a page holds, whatever is asked for; 0: 100
	CursorAfter      int              // rows of a list of issues that page numbers reach; beyond, links hold cursors; 0: 10,000
	LimitEvery       int              // every nth request is refused; 0: none
	Secondary        bool             // refused by the secondary limit (Retry-After), not by the primary one (reset)
	LimitFor         time.Duration    // how long the refusal asks to wait; 0: a minute
	FailEvery        int              // every nth request is answered 502; 0: none
	NoGraphQL        bool             // the GraphQL endpoint answers 404
	NoTimelineStatus bool             // a GraphQL schema without ProjectV2ItemStatusChangedEvent
	Noise            bool             // each issue begins with events that do not matter
	WebhookSecret    string           // signs deliveries; none: none are made
	Now              func() time.Time // GitHub's clock, for Date and limits; nil: time.Now
}

// A Fake is GitHub in memory: an [http.Handler] that answers the requests that
// [Source] makes, and a script of methods that make its history. It shows what
// the real one is known for: pull requests among the issues, links that name
// the repository by id and hold cursors past a number of rows, renamed labels
// in old events, transferred and deleted issues, board moves without an event.
//
// All methods may be called concurrently. Times are kept to the second, like
// GitHub's. Issues and pull requests are named by the ids that [Fake.Create]
// and [Fake.OpenPull] return. Scripting mistakes, such as an unknown label,
// panic.
type Fake struct {
	opts FakeOptions
	mux  *http.ServeMux

	mu       sync.Mutex
	requests int
	used     int       // requests in the hour that began at
	hour     time.Time // this time
	ids      int64
	repos    []*fakeRepo
	types    []*fakeType
	boards   []*fakeBoard
	issues   map[int64]*fakeIssue // by id; also the former ids of transferred ones
	pulls    map[int64]*fakeIssue // by id of the pull request
	nodes    map[string]any       // *fakeIssue, *fakeBoard or *fakeCard by node id
	hooks    []FakeDelivery
}

type fakeRepo struct {
	id          int64
	owner, name string
	former      []string // full names that it had
	labels      []*fakeLabel
	last        int                // number of the newest issue
	open        int                // issues and pull requests that are open
	issues      map[int]*fakeIssue // by number
	moved       map[int]*fakeIssue // what became of transferred numbers
	gone        map[int]bool       // numbers of deleted issues
}

func (r *fakeRepo) full() string { return r.owner + "/" + r.name }

type fakeLabel struct {
	id   int64
	name string
}

type fakeType struct {
	id   int64
	name string
}

type fakeIssue struct {
	id                       int64
	number                   int
	repo                     *fakeRepo
	title                    string
	created, updated, closed time.Time // closed: zero while open
	reason                   string    // state_reason
	locked                   bool
	comments                 int
	labels                   []*fakeLabel
	assignees                []string
	typ                      *fakeType
	parent                   *fakeIssue
	events                   []*fakeEvent // oldest first
	pull                     *fakePull    // nil for an issue proper
	cards                    []*fakeCard
}

func (i *fakeIssue) key() string { return i.repo.full() + "#" + strconv.Itoa(i.number) }

// setClosed says since when an issue is closed; zero: it is open.
func (i *fakeIssue) setClosed(at time.Time) {
	if i.closed.IsZero() && !at.IsZero() {
		i.repo.open--
	} else if !i.closed.IsZero() && at.IsZero() {
		i.repo.open++
	}
	i.closed = at
}

func (i *fakeIssue) state() string {
	if i.closed.IsZero() {
		return "open"
	}
	return "closed"
}

// node returns the node id, which for a pull request is that of the pull.
func (i *fakeIssue) node() string {
	if i.pull != nil {
		return fakeNodeID("PR", i.pull.id)
	}
	return fakeNodeID("I", i.id)
}

// fakeEvent is an entry of a timeline. Which fields are set depends on its kind,
// which is GitHub's own name of it.
type fakeEvent struct {
	id       int64
	at       time.Time
	kind     string
	actor    string
	label    *fakeLabel
	who      string     // assignee or reviewer
	typ, was *fakeType  // issue types
	issue    *fakeIssue // parent, sub-issue, or source of a cross-reference
	reason   string     // of closing; state of a review
	from, to string     // titles, statuses; from is the text of a comment
	board    *fakeBoard
	repo     *fakeRepo // that an issue was transferred from
}

// fakeNodeID returns an opaque id of the form of GitHub's.
func fakeNodeID(kind string, id int64) string {
	return kind + "_kwDO" + strings.ToUpper(strconv.FormatInt(id, 36))
}

// The people of the simulated organisation do not exist.
const (
	fakeMaintainer = "maintainer-one"
	fakeReviewer   = "reviewer-two"
	fakeReader     = "reader-three"
	fakeBot        = "robot-four[bot]"
)

// NewFake returns a GitHub without repositories.
func NewFake(opts FakeOptions) *Fake {
	if opts.PageSize <= 0 || opts.PageSize > 100 {
		opts.PageSize = 100
	}
	if opts.CursorAfter <= 0 {
		opts.CursorAfter = 10000
	}
	if opts.LimitFor <= 0 {
		opts.LimitFor = time.Minute
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	f := &Fake{
		opts: opts, ids: 2_700_000_000,
		issues: make(map[int64]*fakeIssue), pulls: make(map[int64]*fakeIssue), nodes: make(map[string]any),
	}
	f.mux = f.routes()
	return f
}

// newID counts up over everything that has an id, so that no two are equal and
// the later has the greater.
func (f *Fake) newID() int64 {
	f.ids += 7
	return f.ids
}

// AddRepo adds a repository by its full name, such as "acme/api".
func (f *Fake) AddRepo(full string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	owner, name, ok := strings.Cut(full, "/")
	if !ok {
		panic(fmt.Sprintf("fake github: %q is no full name of a repository", full))
	}
	f.repos = append(f.repos, &fakeRepo{
		id: f.newID(), owner: owner, name: name,
		issues: make(map[int]*fakeIssue), moved: make(map[int]*fakeIssue), gone: make(map[int]bool),
	})
}

// RenameRepo gives a repository another full name. The old one leads there.
func (f *Fake) RenameRepo(full, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.repo(full)
	r.former = append(r.former, full)
	r.owner, r.name, _ = strings.Cut(to, "/")
}

// AddLabel adds a label to a repository.
func (f *Fake) AddLabel(repo, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.repo(repo)
	r.labels = append(r.labels, &fakeLabel{id: f.newID(), name: name})
}

// RenameLabel renames a label. Old events show the new name.
func (f *Fake) RenameLabel(repo, name, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.repo(repo)
	l := r.label(name)
	l.name = to
	f.hookLabel(r, l, name)
}

// AddType adds an issue type, which all organisations have.
func (f *Fake) AddType(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.types = append(f.types, &fakeType{id: f.newID(), name: name})
}

// CreateOptions is what an issue is created with.
type CreateOptions struct {
	Labels    []string
	Assignees []string
	Type      string
	Parent    string // id of an issue
	Silent    bool   // no events of the above, as with issues that were imported
}

// Create opens an issue and returns its id. What it is created with has events
// of the same second.
func (f *Fake) Create(at time.Time, repo, title string, o CreateOptions) (id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.open(at, f.repo(repo), title)
	f.nodes[i.node()] = i
	f.hookIssue(at, "opened", i, nil)
	for _, name := range o.Labels {
		f.label(at, i, name)
	}
	for _, login := range o.Assignees {
		f.assign(at, i, login)
	}
	if o.Type != "" {
		f.setType(at, i, o.Type)
	}
	if o.Parent != "" {
		f.setParent(at, i, f.issue(o.Parent))
	}
	if o.Silent {
		i.events = nil
	}
	if f.opts.Noise {
		f.noise(at, i)
	}
	return strconv.FormatInt(i.id, 10)
}

// open makes an issue or, for OpenPull, what a pull request is among issues.
func (f *Fake) open(at time.Time, r *fakeRepo, title string) *fakeIssue {
	at = at.Truncate(time.Second)
	r.last++
	r.open++
	i := &fakeIssue{id: f.newID(), number: r.last, repo: r, title: title, created: at, updated: at}
	r.issues[i.number] = i
	f.issues[i.id] = i
	return i
}

// add puts an event at its place in the timeline, and moves the time of update
// forward to it.
func (f *Fake) add(at time.Time, i *fakeIssue, e fakeEvent) *fakeEvent {
	e.at, e.id = at.Truncate(time.Second), f.newID()
	if e.actor == "" {
		e.actor = fakeMaintainer
	}
	i.events = append(i.events, &e)
	slices.SortStableFunc(i.events, func(a, b *fakeEvent) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.id, b.id)) })
	if e.at.After(i.updated) && !strings.Contains(e.kind, "project_v2") {
		i.updated = e.at
	}
	return &e
}

// Close closes an issue. The reason is completed, not_planned or duplicate; with
// none it is completed and the event does not say so, as in older histories.
func (f *Fake) Close(at time.Time, id, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.close(at, f.issue(id), reason)
}

func (f *Fake) close(at time.Time, i *fakeIssue, reason string) {
	e := f.add(at, i, fakeEvent{kind: "closed", reason: reason})
	i.setClosed(e.at)
	i.reason = cmp.Or(reason, "completed")
	f.hookIssue(at, "closed", i, nil)
}

// Reopen opens a closed issue again.
func (f *Fake) Reopen(at time.Time, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.issue(id)
	f.add(at, i, fakeEvent{kind: "reopened"})
	i.setClosed(time.Time{})
	i.reason = "reopened"
	f.hookIssue(at, "reopened", i, nil)
}

// CloseSilently closes an issue without an event: histories from before
// GitHub kept events have gaps like that.
func (f *Fake) CloseSilently(at time.Time, id, reason string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.issue(id)
	i.setClosed(at.Truncate(time.Second))
	i.reason = cmp.Or(reason, "completed")
	if i.closed.After(i.updated) {
		i.updated = i.closed
	}
}

// Label adds a label of the repository to an issue.
func (f *Fake) Label(at time.Time, id, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.label(at, f.issue(id), name)
}

func (f *Fake) label(at time.Time, i *fakeIssue, name string) {
	l := i.repo.label(name)
	i.labels = append(i.labels, l)
	f.add(at, i, fakeEvent{kind: "labeled", label: l})
	f.hookIssue(at, "labeled", i, object{"label": showLabel(fakeHookBase, i.repo, l)})
}

// Unlabel removes a label from an issue.
func (f *Fake) Unlabel(at time.Time, id, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.issue(id)
	l := i.repo.label(name)
	k := slices.Index(i.labels, l)
	if k < 0 {
		panic(fmt.Sprintf("fake github: %s has no label %q", i.key(), name))
	}
	i.labels = slices.Delete(i.labels, k, k+1)
	f.add(at, i, fakeEvent{kind: "unlabeled", label: l})
	f.hookIssue(at, "unlabeled", i, object{"label": showLabel(fakeHookBase, i.repo, l)})
}

// Assign adds an assignee by login.
func (f *Fake) Assign(at time.Time, id, login string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.assign(at, f.issue(id), login)
}

func (f *Fake) assign(at time.Time, i *fakeIssue, login string) {
	i.assignees = append(i.assignees, login)
	f.add(at, i, fakeEvent{kind: "assigned", who: login})
	f.hookIssue(at, "assigned", i, object{"assignee": showUser(fakeHookBase, login)})
}

// Unassign removes an assignee.
func (f *Fake) Unassign(at time.Time, id, login string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.issue(id)
	k := slices.Index(i.assignees, login)
	if k < 0 {
		panic(fmt.Sprintf("fake github: %s has no such assignee", i.key()))
	}
	i.assignees = slices.Delete(i.assignees, k, k+1)
	f.add(at, i, fakeEvent{kind: "unassigned", who: login})
	f.hookIssue(at, "unassigned", i, object{"assignee": showUser(fakeHookBase, login)})
}

// SetType gives an issue a type, or none.
func (f *Fake) SetType(at time.Time, id, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setType(at, f.issue(id), name)
}

func (f *Fake) setType(at time.Time, i *fakeIssue, name string) {
	was := i.typ
	if i.typ = nil; name != "" {
		i.typ = f.typeNamed(name)
	}
	action, shown := "typed", i.typ
	switch {
	case i.typ == was:
		return
	case was == nil:
		f.add(at, i, fakeEvent{kind: "issue_type_added", typ: i.typ})
	case i.typ == nil:
		f.add(at, i, fakeEvent{kind: "issue_type_removed", was: was})
		action, shown = "untyped", was
	default:
		f.add(at, i, fakeEvent{kind: "issue_type_changed", typ: i.typ, was: was})
	}
	f.hookIssue(at, action, i, object{"type": showType(shown)})
}

// SetParent makes an issue a sub-issue of another; an empty parent clears it.
func (f *Fake) SetParent(at time.Time, id, parent string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var p *fakeIssue
	if parent != "" {
		p = f.issue(parent)
	}
	f.setParent(at, f.issue(id), p)
}

func (f *Fake) setParent(at time.Time, i, parent *fakeIssue) {
	if was := i.parent; was != nil {
		f.add(at, i, fakeEvent{kind: "parent_issue_removed", issue: was})
		f.add(at, was, fakeEvent{kind: "sub_issue_removed", issue: i})
		f.hookParent("parent_issue_removed", i, was)
	}
	if i.parent = parent; parent != nil {
		f.add(at, i, fakeEvent{kind: "parent_issue_added", issue: parent})
		f.add(at, parent, fakeEvent{kind: "sub_issue_added", issue: i})
		f.hookParent("parent_issue_added", i, parent)
	}
}

// Rename changes the title.
func (f *Fake) Rename(at time.Time, id, title string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.issue(id)
	f.add(at, i, fakeEvent{kind: "renamed", from: i.title, to: title})
	from := i.title
	i.title = title
	f.hookIssue(at, "edited", i, object{"changes": object{"title": object{"from": from}}})
}

// Comment adds a comment, which moves the time of update and nothing else.
func (f *Fake) Comment(at time.Time, id, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.comment(at, f.issue(id), text)
}

func (f *Fake) comment(at time.Time, i *fakeIssue, text string) {
	i.comments++
	f.add(at, i, fakeEvent{kind: "commented", actor: fakeReader, from: text})
}

// noise adds one event of each kind that says nothing about flow.
func (f *Fake) noise(at time.Time, i *fakeIssue) {
	for _, kind := range []string{"subscribed", "mentioned", "committed", "referenced", "milestoned", "locked", "unlocked", "pinned", "commit-commented"} {
		f.add(at, i, fakeEvent{kind: kind, actor: fakeReader})
	}
	f.comment(at, i, "Thanks, "+fakeReviewer+" will have a look.")
}

// Transfer moves an issue to another repository and returns its id there: it is
// another issue from now on, with the same history and one event more. Labels
// that the other repository lacks are made there.
func (f *Fake) Transfer(at time.Time, id, repo string) (newID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, r := f.issue(id), f.repo(repo)
	i := f.open(at, r, old.title)
	i.created, i.updated = old.created, old.updated
	i.setClosed(old.closed)
	i.reason, i.locked, i.comments = old.reason, old.locked, old.comments
	i.assignees, i.typ, i.parent = slices.Clone(old.assignees), old.typ, old.parent
	i.events = slices.Clone(old.events)
	for _, l := range old.labels {
		if !slices.ContainsFunc(r.labels, func(have *fakeLabel) bool { return have.name == l.name }) {
			r.labels = append(r.labels, &fakeLabel{id: f.newID(), name: l.name})
		}
		i.labels = append(i.labels, r.label(l.name))
	}
	i.cards = old.cards
	for _, c := range i.cards {
		c.issue = i
	}
	for _, sub := range f.issues {
		if sub.parent == old {
			sub.parent = i
		}
		if sub.pull != nil {
			for k, closed := range sub.pull.closes {
				if closed == old {
					sub.pull.closes[k] = i
				}
			}
		}
	}
	f.add(at, i, fakeEvent{kind: "transferred", repo: old.repo})
	f.nodes[i.node()] = i
	f.hookTransfer(at, old, i)
	f.remove(old)
	old.repo.moved[old.number] = i
	return strconv.FormatInt(i.id, 10)
}

// remove takes an issue out of everything that lists it.
func (f *Fake) remove(i *fakeIssue) {
	if i.closed.IsZero() {
		i.repo.open--
	}
	delete(i.repo.issues, i.number)
	delete(f.issues, i.id)
	delete(f.nodes, i.node())
}

// ConvertToDiscussion closes an issue for ever.
func (f *Fake) ConvertToDiscussion(at time.Time, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.issue(id)
	e := f.add(at, i, fakeEvent{kind: "converted_to_discussion"})
	i.setClosed(e.at)
	i.reason, i.locked = "", true
}

// Delete removes an issue with its history.
func (f *Fake) Delete(at time.Time, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.issue(id)
	f.remove(i)
	i.repo.gone[i.number] = true
	for _, c := range i.cards {
		c.board.remove(c)
		delete(f.nodes, c.node())
	}
	f.hookIssue(at, "deleted", i, nil)
}

// Key returns the display key of an issue or pull request, such as "acme/api#7".
func (f *Fake) Key(id string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, _ := strconv.ParseInt(id, 10, 64)
	if i := f.pulls[n]; i != nil {
		return i.key()
	}
	return f.issue(id).key()
}

// Node returns the node id of an issue.
func (f *Fake) Node(id string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.issue(id).node()
}

// Requests returns how many requests GitHub has got, refused ones included.
func (f *Fake) Requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// The following find something by its name and panic where it does not exist.

func (f *Fake) repo(full string) *fakeRepo {
	k := slices.IndexFunc(f.repos, func(r *fakeRepo) bool { return r.full() == full })
	if k < 0 {
		panic(fmt.Sprintf("fake github: no repository %q", full))
	}
	return f.repos[k]
}

func (r *fakeRepo) label(name string) *fakeLabel {
	k := slices.IndexFunc(r.labels, func(l *fakeLabel) bool { return l.name == name })
	if k < 0 {
		panic(fmt.Sprintf("fake github: %s has no label %q", r.full(), name))
	}
	return r.labels[k]
}

func (f *Fake) typeNamed(name string) *fakeType {
	k := slices.IndexFunc(f.types, func(t *fakeType) bool { return t.name == name })
	if k < 0 {
		panic(fmt.Sprintf("fake github: no issue type %q", name))
	}
	return f.types[k]
}

func (f *Fake) issue(id string) *fakeIssue {
	n, _ := strconv.ParseInt(id, 10, 64)
	i := f.issues[n]
	if i == nil {
		panic(fmt.Sprintf("fake github: no issue with id %q", id))
	}
	return i
}
