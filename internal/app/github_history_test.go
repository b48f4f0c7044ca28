package app

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector/github"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// storyConfig reads the repositories of a story; the board is left out for sites
// without one.
const storyConfig = `
sources:
  - {name: github-main, type: github, url: %q, repos: [acme/api, acme/web], project: {owner: acme, number: 3},
     token_env: APP_TEST_GITHUB, poll_interval: 1s, webhook_secret_env: APP_TEST_HOOK}
workflows:
  - name: board
    statuses: {new: [Backlog], waiting: [Ready], active: [In Progress], done: [Done]}
    types: {feature: [Story], defect: ["*"]}
value_streams:
  - {name: payments, workflow: board, timezone: UTC, include: [{source: github-main}]}
`

// A story is a script of a GitHub's history that keeps its own account of what it
// did, fact by fact, in the words of the format of changes.
type story struct {
	fake  *github.Fake
	r     *rand.Rand
	tales []*tale
	roots []*tale // issues that may be parents: they stay where they are
	// A move that only the board tells of, while the issue could not be read, is told
	// with the next look at the board: too late for tests of failing sites.
	recorded bool
}

// A tale is what the script did to one issue.
type tale struct {
	id, repo, state, reason, typ, status, parent string
	labels, assigned                             []string
	at                                           time.Time
	facts                                        []fact
	bare                                         int // index of the last closing without a reason, -1: it has one
	unseen                                       bool
}

// A fact is one that a log is to hold. Some are told by one kind of evidence only.
type fact struct {
	at              time.Time
	field, from, to string
	in              string // the repository that has the issue
	by              evidence
}

type evidence int

const (
	anyway     evidence = iota
	byGraph             // GraphQL
	byMentions          // mentions in timelines, where there is no GraphQL
)

func (f *fact) render(item string) string {
	return fmt.Sprintf("%s in %s %s %s %q to %q", item, f.in, f.at.UTC().Format(time.RFC3339Nano), f.field, f.from, f.to)
}

// truth returns what a log is to hold, sorted.
func (s *story) truth(by evidence) []string {
	var lines []string
	for _, t := range s.tales {
		for k, f := range t.facts {
			if t.unseen || f.by != anyway && f.by != by {
				continue
			}
			if k == t.bare && t.state == "closed" && t.reason != "" {
				f.to += "/" + t.reason // the issue tells of the last closing what the event does not
			}
			if by == byMentions {
				if f.in = t.repo; f.field == "CONTAINER" { // from where it came GraphQL alone tells
					f.from = ""
				}
				if f.field == "PULL_REQUEST" {
					_, f.to, _ = strings.Cut(f.to, " ") // which one has another id among the issues
				}
			}
			lines = append(lines, f.render(t.id))
		}
	}
	slices.Sort(lines)
	return lines
}

// told renders the facts of a log likewise.
func told(changes []flow.Change, by evidence) []string {
	value := func(v flow.Value) string {
		if v.Category != "" {
			return v.Name + "/" + v.Category
		}
		return v.Name
	}
	var lines []string
	for _, c := range changes {
		add := func(field, from, to string) {
			f := fact{at: c.At, field: field, from: from, to: to, in: c.Container}
			lines = append(lines, f.render(c.Item))
		}
		if c.Kind != flow.Updated {
			add(c.Kind.String(), "", "")
		}
		if c.Title != "" {
			add("TITLE", "", c.Title)
		}
		for _, f := range c.Fields {
			to := value(f.To)
			if f.Field == flow.FieldPullRequest && by != byMentions {
				to = f.To.ID + " " + to
			}
			add(f.Field.String(), value(f.From), to)
		}
	}
	slices.Sort(lines)
	return lines
}

// later is when the next thing happens to an issue: mostly hours later, sometimes
// in the same second.
func (s *story) later(t *tale) time.Time {
	if s.r.IntN(8) > 0 {
		t.at = t.at.Add(time.Duration(1+s.r.IntN(30*3600)) * time.Second)
	}
	return t.at
}

func (t *tale) add(at time.Time, field, from, to string) {
	t.facts = append(t.facts, fact{at: at.Truncate(time.Second), field: field, from: from, to: to, in: t.repo})
}

func (t *tale) evidence(at time.Time, by evidence, what string) {
	t.facts = append(t.facts, fact{at: at.Truncate(time.Second), field: "PULL_REQUEST", to: what, in: t.repo, by: by})
}

// begin opens an issue with this and that.
func (s *story) begin(at time.Time, repo string, silent bool) *tale {
	t := &tale{repo: repo, state: "open", at: at, bare: -1}
	title := fmt.Sprintf("Issue %d", len(s.tales))
	o := github.CreateOptions{Silent: silent}
	for _, label := range []string{"bug", "feature", "urgent"} {
		if s.r.IntN(4) == 0 {
			o.Labels = append(o.Labels, label)
		}
	}
	if s.r.IntN(3) == 0 {
		o.Assignees = []string{"worker-one", "worker-two"}[:1+s.r.IntN(2)]
	}
	if s.r.IntN(2) == 0 {
		o.Type = "Story"
	}
	t.id = s.fake.Create(at, repo, title, o)
	t.add(at, "CREATED", "", "")
	t.add(at, "TITLE", "", title)
	t.add(at, "STATE", "", "open")
	t.labels, t.typ = o.Labels, o.Type
	if silent {
		if o.Type != "" {
			t.add(at, "TYPE", "", o.Type)
		}
		t.labels, o.Labels = slices.Clone(o.Labels), nil
		o.Assignees, o.Type = nil, ""
		t.assigned = nil
	}
	for _, label := range o.Labels {
		t.add(at, "LABEL", "", label)
	}
	for _, login := range o.Assignees {
		t.add(at, "ASSIGNED", fmt.Sprint(len(t.assigned) > 0), "true")
		t.assigned = append(t.assigned, login)
	}
	if o.Type != "" {
		t.add(at, "TYPE", "", o.Type)
	}
	s.tales = append(s.tales, t)
	return t
}

func (s *story) label(at time.Time, t *tale, name string) {
	if k := slices.Index(t.labels, name); k >= 0 {
		s.fake.Unlabel(at, t.id, name)
		t.add(at, "LABEL", name, "")
		t.labels = slices.Delete(t.labels, k, k+1)
		return
	}
	s.fake.Label(at, t.id, name)
	t.add(at, "LABEL", "", name)
	t.labels = append(t.labels, name)
}

func (s *story) assign(at time.Time, t *tale, login string) {
	before := fmt.Sprint(len(t.assigned) > 0)
	if k := slices.Index(t.assigned, login); k >= 0 {
		s.fake.Unassign(at, t.id, login)
		t.assigned = slices.Delete(t.assigned, k, k+1)
	} else {
		s.fake.Assign(at, t.id, login)
		t.assigned = append(t.assigned, login)
	}
	t.add(at, "ASSIGNED", before, fmt.Sprint(len(t.assigned) > 0))
}

// closed accounts for a closing with an event.
func (t *tale) closed(at time.Time, reason string) {
	to := "closed"
	if t.bare = -1; reason == "" {
		t.bare = len(t.facts)
	} else {
		to += "/" + reason
	}
	t.add(at, "STATE", t.state, to)
	t.state, t.reason = "closed", cmp.Or(reason, "completed")
}

func (s *story) turn(at time.Time, t *tale, reason string) {
	if t.state == "open" {
		s.fake.Close(at, t.id, reason)
		t.closed(at, reason)
		return
	}
	s.fake.Reopen(at, t.id)
	t.add(at, "STATE", "closed", "open")
	t.state = "open"
}

func (s *story) retype(at time.Time, t *tale, name string) {
	if name != t.typ {
		s.fake.SetType(at, t.id, name)
		t.add(at, "TYPE", t.typ, name)
		t.typ = name
	}
}

func (s *story) rename(at time.Time, t *tale, title string) {
	s.fake.Rename(at, t.id, title)
	t.add(at, "TITLE", "", title)
}

func (s *story) adopt(at time.Time, t, parent *tale) {
	id, key := "", ""
	if parent != nil {
		id, key = parent.id, s.fake.Key(parent.id)
	}
	s.fake.SetParent(at, t.id, id)
	if t.parent != "" {
		t.add(at, "PARENT", t.parent, "")
	}
	if t.parent = key; key != "" {
		t.add(at, "PARENT", "", key)
	}
}

func (s *story) move(at time.Time, t *tale, status string, recorded bool) {
	if status == t.status {
		return
	}
	s.fake.SetStatus(at, t.id, status, recorded)
	t.add(at, "STATUS", t.status, status)
	t.facts[len(t.facts)-1].by = byGraph
	t.status = status
}

// pull is a pull request that closes an issue and mentions another one.
func (s *story) pull(t, other *tale) {
	at := s.later(t)
	other.at = at // what happens to the other one is later
	id := s.fake.OpenPull(at, t.repo, []string{t.id}, []string{other.id})
	t.evidence(at, anyway, id+" opened")
	other.evidence(at, byMentions, id+" opened")
	for range s.r.IntN(3) {
		at = s.later(t)
		s.fake.RequestReview(at, id)
		t.evidence(at, byGraph, id+" review_requested")
		at = s.later(t)
		s.fake.RequestChanges(at, id)
		t.evidence(at, byGraph, id+" changes_requested")
	}
	at = s.later(t)
	switch s.r.IntN(3) {
	case 0:
		s.fake.MergePull(at, id)
		t.evidence(at, anyway, id+" merged")
		other.evidence(at, byMentions, id+" merged")
		if t.state == "open" {
			t.closed(at, "completed")
		}
	case 1:
		s.fake.ClosePull(at, id)
		t.evidence(at, anyway, id+" closed")
		other.evidence(at, byMentions, id+" closed")
	}
}

// write makes a history of so many issues in two repositories that are read, and
// of some that move there from a third, away to it, or vanish.
func (s *story) write(issues int) {
	for _, repo := range []string{"acme/api", "acme/web", "acme/old"} {
		s.fake.AddRepo(repo)
		for _, label := range []string{"bug", "feature", "urgent"} {
			s.fake.AddLabel(repo, label)
		}
	}
	s.fake.AddType("Story")
	s.fake.AddType("Bug")
	board := []string{"Backlog", "Ready", "In Progress", "Done"}
	s.fake.AddProject("acme", 3, board...)
	for i := range issues {
		repo := []string{"acme/api", "acme/web"}[s.r.IntN(2)]
		if i%12 == 5 {
			repo = "acme/old"
		}
		// Some stay seconds apart, so that pages end within a second.
		at := firstDay.Add(time.Duration(i/4) * 20 * time.Hour)
		t := s.begin(at, repo, i%17 == 3)
		for range 2 + s.r.IntN(6) {
			switch s.r.IntN(10) {
			case 0, 1:
				s.label(s.later(t), t, []string{"bug", "feature", "urgent"}[s.r.IntN(3)])
			case 2:
				if i%17 != 3 { // whom an issue is born with is not told there
					s.assign(s.later(t), t, []string{"worker-one", "worker-two", "worker-three"}[s.r.IntN(3)])
				}
			case 3, 4:
				s.turn(s.later(t), t, []string{"", "completed", "not_planned", "duplicate"}[s.r.IntN(4)])
			case 5:
				s.retype(s.later(t), t, []string{"", "Story", "Bug"}[s.r.IntN(3)])
			case 6:
				s.rename(s.later(t), t, fmt.Sprintf("Issue %d, again", i))
			case 7:
				if len(s.roots) > 0 && i%10 > 0 {
					s.adopt(s.later(t), t, s.roots[s.r.IntN(len(s.roots))])
				}
			case 8:
				s.fake.Comment(s.later(t), t.id, "Nothing of note.")
			case 9:
				s.move(s.later(t), t, board[s.r.IntN(len(board))], true)
			}
		}
		if i%10 == 0 && repo != "acme/old" {
			s.roots = append(s.roots, t)
			continue
		}
		if i%7 == 4 && i%12 != 5 && len(s.roots) > 0 {
			s.pull(t, s.roots[s.r.IntN(len(s.roots))])
		}
		s.finish(i, t)
	}
}

// finish ends a tale in some way.
func (s *story) finish(i int, t *tale) {
	switch {
	case t.repo == "acme/old" && i%2 == 0:
		t.unseen = true
	case t.repo == "acme/old", i%12 == 8:
		s.transfer(s.later(t), t, []string{"acme/api", "acme/web"}[s.r.IntN(2)])
	case i%24 == 9:
		s.transfer(s.later(t), t, "acme/old")
		t.unseen = true
	case i%16 == 7 && i%7 != 4:
		s.fake.Delete(s.later(t), t.id)
		t.unseen = true
	case i%16 == 6 && t.state == "open":
		at := s.later(t)
		s.fake.CloseSilently(at, t.id, "completed")
		t.add(at, "STATE", "open", "closed/completed")
		t.state, t.reason, t.bare = "closed", "completed", -1
	case i%16 == 2:
		at := s.later(t)
		s.fake.ConvertToDiscussion(at, t.id)
		t.add(at, "STATE", t.state, "closed/not_planned")
		t.state, t.reason = "closed", ""
	case i%4 == 1:
		t.at = t.at.Add(time.Minute)
		s.move(t.at, t, "Done", s.recorded) // else in no timeline
	}
}

func (s *story) transfer(at time.Time, t *tale, repo string) {
	if repo == t.repo {
		return
	}
	t.id = s.fake.Transfer(at, t.id, repo)
	from := t.repo
	t.repo = repo
	t.add(at, "CONTAINER", from, repo)
}

// live lets a few things happen at this moment, each to an issue of its own.
func (s *story) live(n int) {
	now := time.Now()
	for k := range 3 {
		t := s.roots[(3*n+k)%len(s.roots)]
		switch t.at = now; (n + k) % 3 {
		case 0:
			s.label(now, t, "urgent")
		case 1:
			s.turn(now, t, "completed")
		case 2:
			s.rename(now, t, fmt.Sprintf("Renamed %d", n))
		}
	}
	if n == 1 {
		s.begin(now, "acme/web", false)
	}
}

// A chronicle is a story with the site that shows it.
type chronicle struct {
	story
	mu     sync.Mutex // of the story, as it goes on during requests
	config string
	by     evidence
	count  atomic.Int64
	racing atomic.Int32 // 1: an issue is to change with the next list, 2: and after its timeline was read, 3: it has, 4: with the list after the next
}

// credentials gives the environment the secrets that configurations name.
func credentials(t testing.TB) {
	t.Helper()
	t.Setenv("APP_TEST_HOOK", hookSecret)
	t.Setenv("APP_TEST_GITHUB", "a-token")
}

// newChronicle serves a story. At some requests it goes on.
func newChronicle(t testing.TB, issues int, opts github.FakeOptions, at ...int64) *chronicle {
	t.Helper()
	opts.Token, opts.WebhookSecret = "a-token", hookSecret
	c := &chronicle{story: story{fake: github.NewFake(opts), r: rand.New(rand.NewPCG(7, 11)), recorded: opts.FailEvery > 0}, by: byGraph}
	c.write(issues)
	_ = c.fake.Deliveries() // nobody listened
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if k := slices.Index(at, c.count.Add(1)); k >= 0 {
			c.mu.Lock()
			c.live(k)
			c.mu.Unlock()
		}
		c.race(w, r)
	}))
	t.Cleanup(server.Close)
	c.config = fmt.Sprintf(storyConfig, server.URL)
	if opts.Enterprise {
		c.config = fmt.Sprintf(storyConfig, server.URL+"/api/v3")
	}
	if opts.NoGraphQL {
		c.config = strings.Replace(c.config, "project: {owner: acme, number: 3},", "", 1)
		c.by = byMentions
	}
	return c
}

// race serves a request. If it is time to, an issue changes just before a list is
// served and, in the same second, just after its timeline was read.
func (c *chronicle) race(w http.ResponseWriter, r *http.Request) {
	t := c.roots[0]
	change := func() (again bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		again, t.at = time.Now().Unix() == t.at.Unix(), time.Now()
		c.label(t.at, t, "bug")
		return again
	}
	_, number, _ := strings.Cut(c.fake.Key(t.id), "#")
	if strings.HasSuffix(r.URL.Path, "/issues") {
		switch c.racing.Load() {
		case 1:
			change()
			c.racing.Store(2)
		case 4:
			c.racing.Store(1)
		}
	}
	c.fake.ServeHTTP(w, r)
	last := w.Header().Get("ETag") != "" && !strings.Contains(w.Header().Get("Link"), `rel="next"`)
	if c.racing.Load() == 2 && last && strings.HasSuffix(r.URL.Path, "/issues/"+number+"/timeline") {
		c.racing.Store(4) // once more, not with the list of the other repository
		if change() {
			c.racing.Store(3)
		}
	}
}

func (c *chronicle) want() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.truth(c.by)
}

// differ compares the log of a service with the story. It waits for what has
// happened in the last seconds.
func (c *chronicle) differ(t testing.TB, s *service) {
	t.Helper()
	var want, got []string
	within(20*time.Second, func() bool {
		want, got = c.want(), told(readLog(t, s.ok(t, "/api/v1/changes")), c.by)
		return slices.Equal(want, got)
	})
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("the log differs from what happened (-happened +log): %.6000s", diff)
	}
	if len(want) < 300 {
		t.Errorf("%d facts make no test", len(want))
	}
}

// Whatever happens on the way, the log has each fact of a history once, also of
// what happens while it is read, and a second start adds nothing.
func TestGitHubHistory(t *testing.T) {
	credentials(t)
	for name, opts := range map[string]github.FakeOptions{
		"primary limit":     {PageSize: 17, LimitEvery: 97, LimitFor: time.Second, FailEvery: 61, Noise: true},
		"secondary limit":   {PageSize: 5, LimitEvery: 120, LimitFor: time.Second, Secondary: true, FailEvery: 83},
		"enterprise server": {PageSize: 9, Enterprise: true, NoGraphQL: true, FailEvery: 71, CursorAfter: 18},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newChronicle(t, 150, opts, 12, 60, 110, 150)
			dir := t.TempDir()
			s := start(t, dir, c.config)
			c.differ(t, s)
			if n := c.count.Load(); n < 150 {
				t.Fatalf("%d requests do not reach the changes during the backfill", n)
			}
			c.racing.Store(1)
			eventually(t, "a change while an issue is read", func() bool { return c.racing.Load() == 3 })
			c.differ(t, s)
			before := s.ok(t, "/api/v1/changes")
			s.end(t)
			s = start(t, dir, c.config)
			if after := s.ok(t, "/api/v1/changes"); after != before {
				t.Errorf("the second start changes the log: %s", gocmp.Diff(before, after))
			}
		})
	}
}

// A backfill takes little more than one request for each issue, and a look for
// news next to none, also the first one of a process.
func TestGitHubRequests(t *testing.T) {
	credentials(t)
	c := newChronicle(t, 300, github.FakeOptions{})
	c.config = strings.Replace(c.config, "poll_interval: 1s", "poll_interval: 1h", 1)
	dir := t.TempDir()
	s := start(t, dir, c.config)
	c.differ(t, s)
	items := float64(len(slices.DeleteFunc(slices.Clone(c.tales), func(t *tale) bool { return t.unseen })))
	full := c.fake.Requests()
	if ratio := float64(full) / items; ratio > 1.1 {
		t.Errorf("%.3f requests for each issue of a backfill", ratio)
	}
	log := s.ok(t, "/api/v1/changes")
	s.end(t)
	s = start(t, dir, c.config)
	if idle := c.fake.Requests() - full; idle == 0 || float64(idle)/items > 0.05 {
		t.Errorf("%.3f requests for each issue without news", float64(idle)/items)
	}
	if after := s.ok(t, "/api/v1/changes"); after != log {
		t.Errorf("the second start changes the log: %s", gocmp.Diff(log, after))
	}
}

// Killed again and again during the backfill, the service has each fact once.
func TestGitHubKill(t *testing.T) {
	credentials(t)
	c := newChronicle(t, 150, github.FakeOptions{PageSize: 6})
	dir := t.TempDir()
	var p pacer
	server := httptest.NewServer(p.pace(c.fake))
	defer server.Close()
	c.config = fmt.Sprintf(storyConfig, server.URL)
	if err := os.WriteFile(filepath.Join(dir, "flow.yaml"), []byte(c.config), 0o600); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(42, 1))
	for range 8 {
		p.kill(t, dir, r, int64(6+r.IntN(24)))
	}
	s := start(t, dir, c.config)
	t.Logf("%d requests were left to the last start", p.left())
	if p.left() < 20 {
		t.Errorf("the backfill was over before the last kill")
	}
	c.differ(t, s)
	s.wantSample(t, "flowmetrics_log_changes_total", float64(len(readLog(t, s.ok(t, "/api/v1/changes")))))
}
