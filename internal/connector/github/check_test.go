package github

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func TestCheck(t *testing.T) {
	b := newBench(t, FakeOptions{Token: testToken, Scopes: "read:org, gist"}, "acme/api", "acme/web")
	if err := b.source().Check(t.Context()); err != nil {
		t.Errorf("nothing is wrong, but %v", err)
	}
	b.config.Repos = []string{"acme/api", "acme/nowhere", "acme/neither"}
	err := b.source().Check(t.Context())
	for _, part := range []string{"acme/nowhere", "acme/neither", "does not exist", "correct the name", "gist, read:org"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
	b.config.Token = func() (string, error) { return "ghp_wrong", nil }
	err = b.source().Check(t.Context())
	if kindOf(err) != "auth" || strings.Count(err.Error(), "Bad credentials") != 1 || !strings.Contains(err.Error(), "token") {
		t.Errorf("wrong token: got %v", err)
	}
	s := site(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/repos/acme/api":
			fmt.Fprint(w, `{"has_issues":false}`)
		case "/repos/acme/web":
			fmt.Fprint(w, `{"has_issues":true}`)
		default:
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"message":"Resource not accessible by personal access token"}`)
		}
	})
	err = s.Check(t.Context())
	for _, part := range []string{"acme/api: its issues are disabled", "acme/web: ", "needs to read issues"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
}

func TestTypes(t *testing.T) {
	b := newBench(t, FakeOptions{})
	b.fake.AddType("Bug")
	b.fake.AddType("Task")
	types, err := b.source().Types(t.Context())
	if err != nil || len(types) != 2 || types[0].Name != "Bug" || types[0].ID == "" {
		t.Errorf("types %v, %v", types, err)
	}
	for status, want := range map[int]string{404: "none", 403: "none", 401: "auth", 500: "temporary", 429: "limit 1m0s"} {
		s := site(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		if types, err := s.Types(t.Context()); kindOf(err) != want || len(types) != 0 {
			t.Errorf("status %d: types %v, %v", status, types, err)
		}
	}
	if statuses, err := b.source().Statuses(t.Context()); statuses != nil || err != nil {
		t.Errorf("statuses without a project: %v, %v", statuses, err)
	}
}

func TestCensus(t *testing.T) {
	b := newBench(t, FakeOptions{CursorAfter: 200}, "acme/api", "acme/web")
	b.fake.AddType("Bug")
	ids := b.world("acme/api", 230)
	importAll(b, 150)
	b.fake.SetType(b.clock.after(time.Second), ids[1], "Bug")
	ids = append(ids, b.fake.Create(b.clock.after(time.Second), "acme/web", "Web", CreateOptions{}))
	b.fake.Delete(b.clock.after(time.Second), ids[5])
	live := map[string]connector.Item{}
	s := b.source()
	if err := s.Census(t.Context(), func(i connector.Item) { live[i.ID] = i }); err != nil {
		t.Fatal(err)
	}
	if _, there := live[ids[5]]; there || len(live) != 230+150 {
		t.Errorf("%d items are live, want %d; the deleted one is %v", len(live), 230+150, there)
	}
	got := live[ids[1]]
	got.Type.ID = ""
	want := connector.Item{ID: ids[1], Key: b.fake.Key(ids[1]), Container: "acme/api", Type: flow.Value{Name: "Bug"}, Labels: []string{"blocked"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("item (-want +got):\n%s", diff)
	}
	if live[ids[230]].Container != "acme/web" {
		t.Errorf("item %+v", live[ids[230]])
	}
}

// TestCensusShift: issues that vanish or are updated while the census goes on
// pull no other past it.
func TestCensusShift(t *testing.T) {
	b := newBench(t, FakeOptions{PageSize: 5})
	ids := b.world("acme/api", 60)
	lists := 0
	b.direct.before = func(r *http.Request) {
		if lists++; lists > 1 && lists < 8 {
			b.fake.Delete(b.clock.after(time.Second), ids[2*lists])
			b.fake.Comment(b.clock.after(time.Second), ids[2*lists+1], "bump")
		}
	}
	live := map[string]bool{}
	if err := b.source().Census(t.Context(), func(i connector.Item) { live[i.ID] = true }); err != nil {
		t.Fatal(err)
	}
	for k, id := range ids {
		if deleted := k >= 4 && k < 16 && k%2 == 0; !deleted && !live[id] {
			t.Errorf("issue %d exists and was not seen", k)
		}
	}
}

// TestCensusGoesOn: a census that fails goes on where it stopped, and tells
// nothing before it is complete.
func TestCensusGoesOn(t *testing.T) {
	b := newBench(t, FakeOptions{PageSize: 5, FailEvery: 3})
	ids := b.world("acme/api", 60)
	s := b.source()
	for tries := 0; ; tries++ {
		live := 0
		err := s.Census(t.Context(), func(connector.Item) { live++ })
		if err == nil && live == len(ids) {
			break
		}
		if live != 0 || tries > 40 {
			t.Fatalf("try %d: %d items, %v", tries, live, err)
		}
	}
}

// TestBrokenRepository: one that is not there does not keep the others from
// being read, and is told of.
func TestBrokenRepository(t *testing.T) {
	b := newBench(t, FakeOptions{}, "acme/api", "acme/web")
	b.world("acme/api", 5)
	b.world("acme/web", 5)
	b.config.Repos = []string{"acme/aaa", "acme/api", "acme/mmm", "acme/web"}
	s, r := b.source(), newRecord()
	for range 3 {
		err := s.Poll(t.Context(), r.cursor, r.take)
		if kindOf(err) != "config" || !strings.Contains(err.Error(), "acme/aaa") || !strings.Contains(err.Error(), "acme/mmm") {
			t.Fatalf("got %v", err)
		}
	}
	b.config.Repos = []string{"acme/api", "acme/web"}
	b.want(r)
	if len(r.facts) < 10 {
		t.Errorf("%d facts", len(r.facts))
	}
	// A limit, and refused credentials, are for all of them.
	for _, status := range []int{401, 429} {
		asked := 0
		s := site(t, func(w http.ResponseWriter, _ *http.Request) { asked++; w.WriteHeader(status) })
		if err := s.Poll(t.Context(), nil, discard); err == nil || asked != 1 {
			t.Errorf("status %d: %d requests, %v", status, asked, err)
		}
	}
}

// TestManyRepositories: each is read, the cursor stays within its bounds, and a
// repository that is added later is read from its beginning.
func TestManyRepositories(t *testing.T) {
	var repos []string
	for k := range maxRepos {
		repos = append(repos, fmt.Sprintf("acme-with-a-long-name/repository-number-%d", k))
	}
	b := newBench(t, FakeOptions{}, repos...)
	for _, repo := range repos {
		for n := range 3 {
			b.fake.AddLabel(repo, fmt.Sprintf("a label with a long name, number %d", n))
		}
		for range 2 {
			b.fake.Create(b.clock.after(time.Second), repo, "One", CreateOptions{})
		}
	}
	b.clock.after(time.Hour)
	b.config.Repos = repos[:maxRepos-1]
	s, r := b.source(), newRecord()
	b.poll(s, r)
	if len(r.facts) != 2*(maxRepos-1) || len(r.cursor) > connector.MaxCursor {
		t.Errorf("%d facts, a cursor of %d bytes", len(r.facts), len(r.cursor))
	}
	b.direct.requests()
	b.poll(s, r)
	if n := b.direct.requests(); n != maxRepos-1 {
		t.Errorf("an idle poll took %d requests", n)
	}
	b.config.Repos = repos
	told := r.told
	b.poll(b.source(), r)
	if len(r.facts) != 2*maxRepos || r.told != told+2 {
		t.Errorf("%d facts, %d told again", len(r.facts), r.told-told-2)
	}
}

// TestRepositoryWithAnotherName: it answers at another place, which is asked at once
// from then on.
func TestRepositoryWithAnotherName(t *testing.T) {
	b := newBench(t, FakeOptions{PageSize: 10})
	b.world("acme/api", 25)
	b.config.Repos = []string{"acme/former"}
	var repo string
	moved := 0
	b.config.Transport = &direct{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rest, ok := strings.CutPrefix(r.URL.Path, "/repos/acme/former"); ok {
			moved++
			http.Redirect(w, r, repo+rest+"?"+r.URL.RawQuery, http.StatusMovedPermanently)
			return
		}
		b.fake.ServeHTTP(w, r)
	})}
	repo = fmt.Sprintf("/repositories/%d", b.fake.repos[0].id)
	r := newRecord()
	s := b.source()
	b.poll(s, r)
	born := 0
	for _, c := range r.facts {
		if c.Container != "acme/former" {
			t.Fatalf("change %+v", c)
		}
		if c.Kind == flow.Created {
			born++
		}
	}
	if born != 25 || moved > 3 {
		t.Errorf("%d issues, %d redirects", born, moved)
	}
}

// TestTransferredMeanwhile: an issue that leaves between the list and its
// timeline is not told of by what it is elsewhere.
func TestTransferredMeanwhile(t *testing.T) {
	b := newBench(t, FakeOptions{}, "acme/api", "acme/web")
	ids := b.world("acme/api", 3)
	b.config.Repos = []string{"acme/api"}
	b.direct.before = func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/1/timeline") && ids != nil {
			b.fake.Transfer(b.clock.after(time.Second), ids[0], "acme/web")
			b.fake.Delete(b.clock.after(time.Second), ids[1])
			ids = nil
		}
	}
	s, r := b.source(), newRecord()
	b.poll(s, r)
	for _, c := range r.facts {
		if c.Key == "acme/api#1" {
			t.Errorf("change %+v", c)
		}
	}
	for number, want := range map[int]int{1: 0, 2: 0, 3: 1, 99: 0} {
		if changes, err := s.readIssue(t.Context(), "acme/api", number, maxPageSize); err != nil || len(changes) < want || want == 0 && len(changes) > 0 {
			t.Errorf("issue %d: %d changes, %v", number, len(changes), err)
		}
	}
}

// TestReadIssue: reading one issue tells what the scan tells.
func TestReadIssue(t *testing.T) {
	b := newBench(t, FakeOptions{Noise: true, NoGraphQL: true})
	b.world("acme/api", 8)
	s, r := b.source(), newRecord()
	b.poll(s, r)
	for _, s := range []*Source{s, b.source()} {
		seen := 0
		for number := range 12 {
			changes, err := s.readIssue(t.Context(), "acme/api", number, maxPageSize)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range changes {
				seen++
				c.Source = "github"
				if diff := cmp.Diff(r.facts[c.ID], c); diff != "" {
					t.Errorf("change (-scan +single):\n%s", diff)
				}
			}
		}
		if seen != len(r.facts) {
			t.Errorf("%d facts one by one, %d by the scan", seen, len(r.facts))
		}
	}
}

func TestLongTimeline(t *testing.T) {
	b := newBench(t, FakeOptions{})
	b.fake.AddLabel("acme/api", "blocked")
	id := b.fake.Create(b.clock.now(), "acme/api", "Long", CreateOptions{})
	for range 120 {
		b.fake.Label(b.clock.after(time.Second), id, "blocked")
		b.fake.Unlabel(b.clock.after(0), id, "blocked")
	}
	b.clock.after(time.Hour)
	r := newRecord()
	b.poll(b.source(), r)
	if len(r.facts) != 241 {
		t.Errorf("%d facts, want 241", len(r.facts))
	}
}

func TestRenamedLabel(t *testing.T) {
	b := newBench(t, FakeOptions{PageSize: 10}, "acme/api", "acme/web")
	ids := b.world("acme/api", 100)
	b.fake.AddLabel("acme/web", "blocked")
	s, r := b.source(), newRecord()
	b.poll(s, r)
	told := r.told
	b.fake.RenameLabel("acme/api", "blocked", "on hold")
	b.poll(s, r)
	if r.told != told {
		t.Fatalf("%d changes were told before it was time to look", r.told-told)
	}
	renamed := func() (items []string) {
		for id, c := range r.facts {
			if strings.Contains(id, ":label:") {
				want := []flow.FieldChange{
					{Field: flow.FieldLabel, From: flow.Value{ID: c.Fields[0].From.ID, Name: "blocked"}},
					{Field: flow.FieldLabel, To: flow.Value{ID: c.Fields[0].From.ID, Name: "on hold"}},
				}
				if diff := cmp.Diff(want, c.Fields); diff != "" || !c.Approximate || !strings.HasSuffix(id, ":blocked:on hold") {
					t.Errorf("change %s (-want +got):\n%s", id, diff)
				}
				items = append(items, c.Item)
			}
		}
		return items
	}
	// A program that stops in the middle, and one that starts, see it as well.
	refused := errors.New("refused")
	batches := 0
	err := b.source().Poll(t.Context(), r.cursor, func(batch connector.Batch) error {
		if batches++; batches > 1 {
			return refused
		}
		return r.take(batch)
	})
	if !errors.Is(err, refused) {
		t.Fatalf("got %v", err)
	}
	s = b.source()
	b.poll(s, r)
	if n := len(renamed()); n != 25 || !slices.Contains(renamed(), ids[1]) {
		t.Errorf("the renamed label is told of %d issues, want 25", n)
	}
	told = r.told
	b.poll(b.source(), r)
	if r.told != told {
		t.Errorf("%d changes were told again", r.told-told)
	}
	// A webhook makes it look at once, and so does an hour.
	b.fake.RenameLabel("acme/api", "on hold", "blocked")
	s.labelsChanged("acme/api")
	b.direct.requests()
	b.poll(s, r)
	if r.told != told+25 {
		t.Errorf("%d changes were told after a webhook, want 25", r.told-told)
	}
	b.fake.RenameLabel("acme/api", "blocked", "stuck")
	s.scans["acme/api"].labels.listed = time.Now().Add(-labelsFor)
	b.poll(s, r)
	if r.told != told+50 {
		t.Errorf("%d changes were told after an hour, want 25", r.told-told-25)
	}
}

// TestLabelsAreClosed: credentials that do not show the labels read the rest.
func TestLabelsAreClosed(t *testing.T) {
	for _, status := range []int{403, 404} {
		asked := 0
		s := site(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/labels") {
				asked++
				w.WriteHeader(status)
				return
			}
			fmt.Fprint(w, "[]")
		})
		r := newRecord()
		for range 3 {
			if err := s.Poll(t.Context(), r.cursor, r.take); err != nil {
				t.Error(err)
			}
		}
		if asked != 2 {
			t.Errorf("status %d: labels of two repositories were asked for %d times", status, asked)
		}
	}
}

func TestRenameID(t *testing.T) {
	if got := renameID("501", 31, "bug", "defect"); got != "501:label:31:bug:defect" {
		t.Errorf("id %q", got)
	}
	long := renameID("501", 31, strings.Repeat("x", 500), "defect")
	if len(long) > 100 || long == renameID("501", 31, strings.Repeat("x", 500), "defects") {
		t.Errorf("id %q", long)
	}
	if got := renameID("501", 31, "a\x00", "b"); strings.ContainsRune(got, 0) {
		t.Errorf("id %q", got)
	}
}
