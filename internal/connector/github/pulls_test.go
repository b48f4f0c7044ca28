package github

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// lines writes changes as lines that are easy to compare.
func lines(changes []flow.Change) []string {
	var out []string
	for _, c := range changes {
		line := fmt.Sprintf("%s %s", c.Key, c.At.UTC().Format("01-02T15:04:05"))
		for _, f := range c.Fields {
			line += fmt.Sprintf(" %s %s>%s", f.Field, f.From.Text(), f.To.Name)
		}
		out = append(out, line)
	}
	return out
}

// valid fails for changes that the log would refuse, or that are the same twice.
func valid(t testing.TB, changes []flow.Change) {
	t.Helper()
	seen := map[string]bool{}
	for _, c := range changes {
		c.Source = "github-main"
		if err := c.Validate(); err != nil {
			t.Errorf("change %q: %v", c.ID, err)
		}
		if seen[c.ID] {
			t.Errorf("two changes have the id %q", c.ID)
		}
		seen[c.ID] = true
	}
}

// pullNodes returns the node ids of pull requests.
func pullNodes(f *Fake, pulls ...string) (nodes []string) {
	for _, id := range pulls {
		nodes = append(nodes, f.pull(id).node())
	}
	return nodes
}

func TestPullRequestsAreEvidence(t *testing.T) {
	f := NewFake(FakeOptions{Token: testToken})
	for _, repo := range []string{"acme/api", "acme/web", "acme/other"} {
		f.AddRepo(repo)
	}
	api := f.Create(fakeDay(1), "acme/api", "One", CreateOptions{})
	web := f.Create(fakeDay(1), "acme/web", "Two", CreateOptions{})
	other := f.Create(fakeDay(1), "acme/other", "Not read", CreateOptions{})
	merged := f.OpenPull(fakeDay(2), "acme/api", []string{api, web, other}, nil)
	f.RequestReview(fakeDay(3), merged)
	f.RequestChanges(fakeDay(4), merged)
	f.RequestReview(fakeDay(5), merged)
	f.Approve(fakeDay(6), merged)
	f.MergePull(fakeDay(7), merged)
	closed := f.OpenPull(fakeDay(8), "acme/web", []string{web}, nil)
	f.ClosePull(fakeDay(9), closed)
	mention := f.OpenPull(fakeDay(10), "acme/web", nil, []string{web})

	s, _ := talk(t, f, func(c *Config) { c.Repos = []string{"ACME/api", "acme/web"} })
	var page []issue
	for _, node := range pullNodes(f, merged, closed, mention) {
		page = append(page, issue{NodeID: node})
	}
	page = append(page, issue{NodeID: "PR_gone"}, issue{NodeID: f.Node(api)})
	changes, _, supported, err := s.pullEvidence(t.Context(), page)
	if err != nil || !supported {
		t.Fatal(supported, err)
	}
	valid(t, changes)
	want := []string{
		"ACME/api#1 03-02T09:00:00 PULL_REQUEST >opened", "ACME/api#1 03-03T09:00:00 PULL_REQUEST >review_requested",
		"ACME/api#1 03-04T09:00:00 PULL_REQUEST >changes_requested", "ACME/api#1 03-05T09:00:00 PULL_REQUEST >review_requested",
		"ACME/api#1 03-07T09:00:00 PULL_REQUEST >merged",
		"acme/web#1 03-02T09:00:00 PULL_REQUEST >opened", "acme/web#1 03-03T09:00:00 PULL_REQUEST >review_requested",
		"acme/web#1 03-04T09:00:00 PULL_REQUEST >changes_requested", "acme/web#1 03-05T09:00:00 PULL_REQUEST >review_requested",
		"acme/web#1 03-07T09:00:00 PULL_REQUEST >merged",
		"acme/web#1 03-08T09:00:00 PULL_REQUEST >opened", "acme/web#1 03-09T09:00:00 PULL_REQUEST >closed",
	}
	if diff := cmp.Diff(want, lines(changes)); diff != "" {
		t.Error(diff)
	}
	first := changes[0]
	if first.ID != api+":pr:"+merged+":opened" || first.Item != api || first.Container != "ACME/api" || first.Kind != flow.Updated || first.Approximate {
		t.Errorf("the first change is %+v", first)
	}
	if first.Fields[0].To.ID != merged {
		t.Errorf("the evidence names pull request %q, want %q", first.Fields[0].To.ID, merged)
	}
	if id := changes[1].ID; !strings.HasPrefix(id, api+":pr:"+merged+":review_requested:") || strings.Count(id, ":") != 4 {
		t.Errorf("the second change has the id %q", id)
	}
}

// A timeline of more than a page is read to its end, and all pages of nodes.
func TestLongPullRequests(t *testing.T) {
	f := NewFake(FakeOptions{Token: testToken})
	f.AddRepo("acme/api")
	var pulls []string
	for range 60 {
		of := f.Create(fakeDay(1), "acme/api", "One", CreateOptions{})
		pulls = append(pulls, f.OpenPull(fakeDay(2), "acme/api", []string{of}, nil))
	}
	long := pulls[7]
	for k := range 250 {
		f.RequestReview(fakeDay(3).Add(time.Duration(k)*time.Second), long)
	}
	s, d := talk(t, f, func(c *Config) { c.Repos = []string{"acme/api"} })
	changes, _, _, err := s.evidence(t.Context(), pullNodes(f, pulls...))
	if err != nil {
		t.Fatal(err)
	}
	valid(t, changes)
	if len(changes) != 60+250 {
		t.Errorf("got %d changes", len(changes))
	}
	if n := d.count("PullEvidence"); n != 2+2 {
		t.Errorf("asked %d times", n)
	}
	again, _, _, err := s.evidence(t.Context(), pullNodes(f, pulls...))
	if diff := cmp.Diff(changes, again); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// What happens to a pull request within a second keeps the order of work.
func TestEvidenceOfOneSecond(t *testing.T) {
	at := stamp{fakeDay(1)}
	later := stamp{fakeDay(2)}
	event := func(kind, id string, at stamp) *graphEvent {
		return &graphEvent{Typename: kind, ID: id, CreatedAt: at, SubmittedAt: at, State: "CHANGES_REQUESTED"}
	}
	n := &graphNode{graphIssue: graphIssue{DatabaseID: "9", CreatedAt: at}, Timeline: graphTimeline{Nodes: []*graphEvent{
		event("ReviewRequestedEvent", "zz", at), event("PullRequestReview", "aa", at), event("ClosedEvent", "bb", at),
		event("ReopenedEvent", "cc", at), event("ClosedEvent", "ee", later), event("MergedEvent", "dd", later), event("ClosedEvent", "ff", later), nil, {},
	}}}
	changes := n.evidenceFor(flow.Change{Item: "7", Container: "acme/api", Kind: flow.Updated})
	slices.SortFunc(changes, func(a, b flow.Change) int {
		if c := a.At.Compare(b.At); c != 0 {
			return c
		}
		return int(a.Sequence - b.Sequence)
	})
	var names []string
	for _, c := range changes {
		names = append(names, c.Fields[0].To.Name)
	}
	want := []string{"opened", "review_requested", "changes_requested", "closed", "opened", "merged"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
	valid(t, changes)
}

// Without GraphQL the timelines of issues are the evidence, and only then: a
// failure that passes must not change what counts.
func TestWhenPullRequestsAreNotSupported(t *testing.T) {
	for name, test := range map[string]struct {
		opts      FakeOptions
		supported bool
		fails     bool
	}{
		"no GraphQL":        {opts: FakeOptions{Token: testToken, NoGraphQL: true}},
		"fails this time":   {opts: FakeOptions{Token: testToken, FailEvery: 1}, supported: true, fails: true},
		"limited this time": {opts: FakeOptions{Token: testToken, LimitEvery: 1}, supported: true, fails: true},
		"bad credentials":   {opts: FakeOptions{Token: "another"}, supported: true, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := talk(t, NewFake(test.opts))
			changes, _, supported, err := s.pullEvidence(t.Context(), []issue{{NodeID: "PR_1"}})
			if len(changes) > 0 || supported != test.supported || (err != nil) != test.fails {
				t.Errorf("got %d changes, supported %t, error %v", len(changes), supported, err)
			}
		})
	}
	anonymous, _ := talk(t, NewFake(FakeOptions{}), func(c *Config) { c.Token = nil })
	for _, page := range [][]issue{nil, {{NodeID: "PR_1"}}} {
		if _, _, supported, err := anonymous.pullEvidence(t.Context(), page); supported || err != nil {
			t.Errorf("without a token: supported %t, error %v", supported, err)
		}
	}
	scope := says(200, "application/json", `{"errors":[{"type":"INSUFFICIENT_SCOPES","message":"one of ['repo']"}]}`)
	s, d := talk(t, scope)
	for range 3 {
		if _, _, supported, err := s.pullEvidence(t.Context(), []issue{{NodeID: "PR_1"}}); supported || err != nil {
			t.Errorf("a token without the scope: supported %t, error %v", supported, err)
		}
	}
	if n := d.count("PullEvidence"); n != 1 {
		t.Errorf("asked %d times with a token that lacks the scope", n)
	}
}
