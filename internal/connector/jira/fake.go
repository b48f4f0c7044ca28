package jira

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// FakeOptions says what kind of Jira site a [Fake] is. The zero value is a
// friendly Jira Cloud site: pages of 50, complete inline changelogs, no limits,
// no credentials.
type FakeOptions struct {
	DataCenter      bool             // Jira Data Center: the old search, complete inline changelogs, bearer tokens
	InlineHistories int              // histories that a Cloud search shows of an issue, the newest; 0: all
	PageSize        int              // the most results a page holds, whatever is asked for; 0: 50
	BulkSize        int              // the most histories a page of the bulk changelog holds; 0: 1000
	Location        *time.Location   // zone of the caller: of all times shown and of bare times in JQL; nil: UTC
	LimitEvery      int              // every nth request is answered 429; 0: none
	RetryAfter      time.Duration    // the Retry-After of those, rounded up to seconds
	Email, Token    string           // credentials that are demanded, where there is a Token
	NoBulkFetch     bool             // the bulk changelog answers 404
	PositionTokens  bool             // the tokens of a Cloud search count rows, so that an update pulls the others past the reader
	WrittenTimes    bool             // JQL takes no milliseconds of the epoch
	EpochCreated    bool             // the bulk changelog gives times as milliseconds
	Now             func() time.Time // the site's clock, used to tell its own time; nil: time.Now
}

// A Fake is a Jira site in memory: an [http.Handler] that answers the requests
// that [Source] makes, and a script of methods that make its history. It shows
// what real sites are known for: cut inline changelogs, pages smaller than
// asked for, histories split over pages, times in the caller's zone.
//
// All methods may be called concurrently. Scripting mistakes, such as an
// unknown status, panic.
type Fake struct {
	opts FakeOptions
	mux  *http.ServeMux

	mu       sync.Mutex
	requests int
	nextID   int // of the next issue, history, project or resolution
	projects []*fakeProject
	statuses []*fakeStatus
	types    []*fakeNamed
	resolved []*fakeNamed // resolutions, added as they are used
	issues   map[int]*fakeIssue
	keys     map[string]int // keys, also former ones, to issue ids
}

type fakeNamed struct{ id, name string }

type fakeStatus struct{ id, name, category string }

type fakeProject struct {
	id, key, name string
	issues        int // number of the newest issue
}

type fakeIssue struct {
	id               int
	key              string
	project          *fakeProject
	status           *fakeStatus
	typ              *fakeNamed
	resolution       *fakeNamed
	created, updated time.Time
	resolvedAt       time.Time
	labels           []string
	parent           string
	assigned         bool
	summary          string
	histories        []fakeHistory // oldest first
}

type fakeHistory struct {
	id    int
	at    time.Time
	items []fakeItem
}

// fakeItem is one field of a history entry; an empty value shows as null.
type fakeItem struct {
	field, fieldID             string
	from, fromText, to, toText string
}

// NewFake returns an empty site.
func NewFake(opts FakeOptions) *Fake {
	if opts.PageSize <= 0 {
		opts.PageSize = 50
	}
	if opts.BulkSize <= 0 {
		opts.BulkSize = 1000
	}
	if opts.Location == nil {
		opts.Location = time.UTC
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	f := &Fake{opts: opts, nextID: 10000, issues: make(map[int]*fakeIssue), keys: make(map[string]int)}
	f.mux = f.routes()
	return f
}

func (f *Fake) newID() int {
	f.nextID++
	return f.nextID
}

// AddProject adds a project, such as "PAY", "Payments".
func (f *Fake) AddProject(key, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.projects = append(f.projects, &fakeProject{id: strconv.Itoa(f.newID()), key: key, name: name})
}

// AddStatus adds a status; its category is new, indeterminate, done or
// undefined. Several statuses may have one name.
func (f *Fake) AddStatus(id, name, category string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.statuses = append(f.statuses, &fakeStatus{id: id, name: name, category: category})
}

// RenameStatus renames the status of an id. Histories keep the old name.
func (f *Fake) RenameStatus(id, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.statuses {
		if s.id == id {
			s.name = name
			return
		}
	}
	panic(fmt.Sprintf("fake jira: no status with id %q", id))
}

// DropStatus takes the status of an id out of the site's list of statuses.
// Histories keep it; no issue may be in it.
func (f *Fake) DropStatus(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.statuses = slices.DeleteFunc(f.statuses, func(s *fakeStatus) bool { return s.id == id })
}

// AddType adds an issue type.
func (f *Fake) AddType(id, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.types = append(f.types, &fakeNamed{id: id, name: name})
}

// Create makes an issue and returns its id. Created in a done status, it is
// resolved from birth.
func (f *Fake) Create(at time.Time, project, typeName, statusName, summary string) (id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.project(project)
	p.issues++
	i := &fakeIssue{
		id: f.newID(), key: p.key + "-" + strconv.Itoa(p.issues), project: p,
		status: f.status(statusName), typ: f.typeNamed(typeName),
		created: at, updated: at, summary: summary,
	}
	if i.status.category == "done" {
		i.resolution, i.resolvedAt = f.resolutionNamed("Done"), at
	}
	f.issues[i.id] = i
	f.keys[i.key] = i.id
	return strconv.Itoa(i.id)
}

// Delete removes an issue with its history.
func (f *Fake) Delete(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.issue(id)
	delete(f.issues, i.id)
	for key, of := range f.keys {
		if of == i.id {
			delete(f.keys, key)
		}
	}
}

// Key returns the display key of an issue.
func (f *Fake) Key(id string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.issue(id).key
}

// Requests returns how many requests the site has got, refused ones included.
func (f *Fake) Requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// An Edit is one step of one field of an issue: what the field is to become.
// The constructors below make the ones that the site understands; any other
// Field is noise, shown in the history and nowhere else.
type Edit struct {
	Field string   // as in a history, such as "status"
	To    []string // the new value by name; none: cleared
}

// SetStatus moves an issue to the status of a name, or of an id given as
// "id:10002". Entering a done status resolves the issue, leaving it clears the
// resolution, unless the same edit says otherwise.
func SetStatus(name string) Edit { return Edit{"status", []string{name}} }

// SetType changes the issue type.
func SetType(name string) Edit { return Edit{"issuetype", []string{name}} }

// SetResolution sets the resolution; an empty name clears it.
func SetResolution(name string) Edit { return Edit{"resolution", []string{name}} }

// SetLabels replaces the labels.
func SetLabels(labels ...string) Edit { return Edit{"labels", labels} }

// SetParent makes the issue of an id the parent; an empty id clears it.
func SetParent(id string) Edit { return Edit{"Parent", []string{id}} }

// SetSummary changes the title.
func SetSummary(text string) Edit { return Edit{"summary", []string{text}} }

// SetFlagged flags the issue as impeded, or clears the flag.
func SetFlagged(on bool) Edit {
	if on {
		return Edit{"Flagged", []string{"Impediment"}}
	}
	return Edit{Field: "Flagged"}
}

// SetAssigned assigns the issue to somebody, or to nobody.
func SetAssigned(on bool) Edit {
	if on {
		return Edit{"assignee", []string{"user-1"}}
	}
	return Edit{Field: "assignee"}
}

// MoveTo moves the issue to another project, where it gets a new key.
func MoveTo(project string) Edit { return Edit{"project", []string{project}} }

// Edit makes all edits at one instant, as one history entry, and moves the time
// of update forward to it.
func (f *Fake) Edit(at time.Time, id string, edits ...Edit) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.edit(at, id, edits)
	if at.After(i.updated) {
		i.updated = at
	}
}

// Migrate is Edit as a change of the workflow scheme does it: the history gets
// its entry, the time of update stays.
func (f *Fake) Migrate(at time.Time, id string, edits ...Edit) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.edit(at, id, edits)
}

func (f *Fake) edit(at time.Time, id string, edits []Edit) *fakeIssue {
	i := f.issue(id)
	h := fakeHistory{id: f.newID(), at: at}
	wasDone := i.status.category == "done"
	explicit := slices.ContainsFunc(edits, func(e Edit) bool { return e.Field == "resolution" })
	for _, e := range edits {
		h.items = append(h.items, f.apply(i, e, at)...)
	}
	if isDone := i.status.category == "done"; isDone != wasDone && !explicit {
		name := ""
		if isDone {
			name = "Done"
		}
		h.items = append(h.items, f.apply(i, SetResolution(name), at)...)
	}
	i.histories = append(i.histories, h)
	slices.SortStableFunc(i.histories, func(a, b fakeHistory) int { return a.at.Compare(b.at) })
	return i
}

// apply makes one edit and returns what the history shows of it.
func (f *Fake) apply(i *fakeIssue, e Edit, at time.Time) []fakeItem {
	to := strings.Join(e.To, " ")
	item := fakeItem{field: e.Field, fieldID: e.Field, toText: to}
	switch e.Field {
	case "status":
		s := f.status(to)
		item.from, item.fromText, item.to, item.toText = i.status.id, i.status.name, s.id, s.name
		i.status = s
	case "issuetype":
		t := f.typeNamed(to)
		item.from, item.fromText, item.to = i.typ.id, i.typ.name, t.id
		i.typ = t
	case "resolution":
		if r := i.resolution; r != nil {
			item.from, item.fromText = r.id, r.name
		}
		if i.resolution = nil; to == "" {
			i.resolvedAt = time.Time{}
			break
		}
		i.resolution = f.resolutionNamed(to)
		item.to = i.resolution.id
		if i.resolvedAt.IsZero() {
			i.resolvedAt = at
		}
	case "labels":
		item.fromText = strings.Join(i.labels, " ")
		i.labels = slices.Clone(e.To)
	case "Parent":
		item.fieldID = "" // as recorded from real sites
		item.from, item.fromText = i.parent, f.keyOf(i.parent)
		item.to, item.toText = to, f.keyOf(to)
		i.parent = to
	case "summary":
		item.fromText = i.summary
		i.summary = to
	case "assignee":
		if i.assigned {
			item.from, item.fromText = "user-1", "user-1"
		}
		i.assigned = to != ""
		item.to = to
	case "project":
		return f.move(i, f.project(to))
	default:
		item.fieldID = ""
	}
	return []fakeItem{item}
}

// move gives the issue a key of another project.
func (f *Fake) move(i *fakeIssue, p *fakeProject) []fakeItem {
	old, oldKey := i.project, i.key
	p.issues++
	i.project, i.key = p, p.key+"-"+strconv.Itoa(p.issues)
	f.keys[i.key] = i.id
	return []fakeItem{
		{field: "project", fieldID: "project", from: old.id, fromText: old.name, to: p.id, toText: p.name},
		{field: "Key", fromText: oldKey, toText: i.key},
		{field: "Workflow", from: "1", fromText: "workflow-a", to: "2", toText: "workflow-b"},
	}
}

// The following find something by its name and panic where it does not exist.

func (f *Fake) project(key string) *fakeProject {
	k := slices.IndexFunc(f.projects, func(p *fakeProject) bool { return p.key == key })
	if k < 0 {
		panic(fmt.Sprintf("fake jira: no project %q", key))
	}
	return f.projects[k]
}

func (f *Fake) status(name string) *fakeStatus {
	k := slices.IndexFunc(f.statuses, func(s *fakeStatus) bool { return s.name == name || "id:"+s.id == name })
	if k < 0 {
		panic(fmt.Sprintf("fake jira: no status %q", name))
	}
	return f.statuses[k]
}

func (f *Fake) typeNamed(name string) *fakeNamed {
	k := slices.IndexFunc(f.types, func(t *fakeNamed) bool { return t.name == name })
	if k < 0 {
		panic(fmt.Sprintf("fake jira: no issue type %q", name))
	}
	return f.types[k]
}

func (f *Fake) issue(id string) *fakeIssue {
	n, _ := strconv.Atoi(id)
	i := f.issues[n]
	if i == nil {
		panic(fmt.Sprintf("fake jira: no issue with id %q", id))
	}
	return i
}

func (f *Fake) resolutionNamed(name string) *fakeNamed {
	for _, r := range f.resolved {
		if r.name == name {
			return r
		}
	}
	r := &fakeNamed{id: strconv.Itoa(f.newID()), name: name}
	f.resolved = append(f.resolved, r)
	return r
}

// keyOf returns the key of an issue id, or nothing.
func (f *Fake) keyOf(id string) string {
	n, _ := strconv.Atoi(id)
	if i := f.issues[n]; i != nil {
		return i.key
	}
	return ""
}
