package github

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// refusing answers requests whose path ends so with a status, as long as there
// is one, and others as the bench.
func (b *bench) refusing(status map[string]int) *direct {
	d := &direct{}
	d.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for suffix, code := range status {
			if strings.HasSuffix(r.URL.Path, suffix) {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(code)
				fmt.Fprint(w, `{"message":"Resource not accessible by personal access token"}`)
				return
			}
		}
		b.fake.ServeHTTP(w, r)
	})
	b.config.Transport = d
	return d
}

// later lets a bubble's clock come to where the simulated sites' times have passed.
func later() { time.Sleep(time.Until(fakeDay(28))) }

// asked returns how many requests for a path were made since it was called last.
func (d *direct) asked(suffix string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, line := range d.log {
		if strings.HasSuffix(line, suffix) {
			n++
		}
	}
	d.log = nil
	return n
}

// TestRepositoryOutOfSight: a repository that cannot be read keeps no other from
// being read, and is asked for less and less often until it can.
func TestRepositoryOutOfSight(t *testing.T) {
	for _, code := range []int{http.StatusForbidden, http.StatusNotFound, http.StatusGone, http.StatusUnavailableForLegalReasons, http.StatusBadGateway} {
		t.Run(http.StatusText(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				later()
				b := newBench(t, FakeOptions{}, "acme/api", "acme/private", "acme/web")
				b.world("acme/api", 3)
				b.world("acme/private", 3)
				status := map[string]int{"acme/private/issues": code}
				d := b.refusing(status)
				s, r := b.source(), newRecord()
				fails := func() {
					t.Helper()
					err := s.Poll(t.Context(), r.cursor, r.take)
					if !isError[*connector.PartialError](err) || !strings.Contains(err.Error(), "repository acme/private") || statusOf(err) != code {
						t.Fatalf("got %v", err)
					}
				}
				first := 15 * time.Second
				if code >= 500 {
					first = time.Second
				}
				for wait := first; wait < 20*time.Minute; wait *= 2 {
					fails()
					if n := d.asked("/private/issues"); n != 1 {
						t.Fatalf("asked %d times for it after %v", n, wait/2)
					}
					time.Sleep(min(wait, maxOutage) - time.Millisecond)
					fails()
					if n := d.asked("/private/issues"); n != 0 {
						t.Fatalf("asked for it before %v have passed", wait)
					}
					time.Sleep(time.Millisecond)
				}
				b.world2("acme/web", 1)
				fails()
				if len(r.facts) < 5 {
					t.Errorf("%d facts of the others", len(r.facts))
				}
				d.asked("")
				delete(status, "acme/private/issues")
				time.Sleep(maxOutage)
				b.poll(s, r)
				b.poll(s, r)
				if n := d.asked("/private/issues"); n != 2 {
					t.Errorf("asked %d times in two polls", n)
				}
				b.want(r)
			})
		})
	}
}

// TestAllOutOfSight: where no repository can be read the whole fails, and it is
// for the Runner to wait.
func TestAllOutOfSight(t *testing.T) {
	b := newBench(t, FakeOptions{}, "acme/api", "acme/web")
	for _, status := range []map[string]int{
		{"/issues": http.StatusNotFound}, {"/issues": http.StatusForbidden}, {"/issues": http.StatusUnauthorized},
		{"api/issues": http.StatusForbidden, "web/issues": http.StatusUnauthorized},
	} {
		d := b.refusing(status)
		s := b.source()
		for range 3 {
			err := s.Poll(t.Context(), nil, newRecord().take)
			if err == nil || isError[*connector.PartialError](err) {
				t.Errorf("%v: got %v", status, err)
			}
			if d.asked("/issues") == 0 {
				t.Errorf("%v: nothing was asked for", status)
			}
		}
	}
}

// TestIssueThatCannotBeRead: an issue whose timeline always fails keeps no other
// from being read, is told of as long as it fails, and is read once it does not.
func TestIssueThatCannotBeRead(t *testing.T) {
	for _, code := range []int{http.StatusBadGateway, http.StatusForbidden, http.StatusOK} { // the last: without a timeline in it
		t.Run(http.StatusText(code), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				later()
				b := newBench(t, FakeOptions{PageSize: 10})
				ids := b.world("acme/api", 40)
				status := map[string]int{"/issues/7/timeline": code}
				d := b.refusing(status)
				s, r := b.source(), newRecord()
				for n := 1; ; n++ {
					err := s.Poll(t.Context(), r.cursor, r.take)
					if isError[*connector.PartialError](err) {
						if n != patience && code != http.StatusNotFound || !strings.Contains(err.Error(), "1 issue could not be read: issue acme/api#7: ") {
							t.Fatalf("after %d polls: %v", n, err)
						}
						break
					}
					if err == nil || n == patience || isError[*connector.AuthError](err) {
						t.Fatalf("after %d polls: %v", n, err)
					}
				}
				born := 0
				for id := range r.facts {
					if strings.HasSuffix(id, ":created") {
						born++
					}
				}
				if born != len(ids)-1 {
					t.Errorf("%d items of %d were born", born, len(ids))
				}
				// What changes later is read, by this program and the next one, and so
				// is not the issue itself, be it that it changes.
				for _, s := range []*Source{s, b.source()} {
					b.fake.Close(b.clock.after(time.Minute), ids[21], "completed")
					b.fake.Comment(b.clock.after(time.Minute), ids[5], "words")
					b.clock.after(time.Minute)
					b.fake.Reopen(b.clock.after(time.Minute), ids[21])
					b.clock.after(time.Minute)
					if err := s.Poll(t.Context(), r.cursor, r.take); !isError[*connector.PartialError](err) {
						t.Fatalf("got %v", err)
					}
					d.asked("")
					for range 100 {
						if err := s.Poll(t.Context(), r.cursor, r.take); !isError[*connector.PartialError](err) {
							t.Fatalf("got %v", err)
						}
						time.Sleep(time.Minute)
					}
					if n := d.asked("/7/timeline"); n < 19 || n > 25 {
						t.Errorf("tried %d times in 100 minutes", n)
					}
				}
				clear(status)
				time.Sleep(maxOutage)
				s = b.source()
				b.poll(s, r)
				d.requests()
				b.poll(s, r)
				if n := d.requests(); n != 1 {
					t.Errorf("an idle poll took %d requests", n)
				}
				b.want(r)
			})
		})
	}
}

// TestLongTimelineGoesOn: a timeline of many pages comes to an end where every
// third request fails, and no page of it is read twice.
func TestLongTimelineGoesOn(t *testing.T) {
	b := newBench(t, FakeOptions{})
	id := b.world("acme/api", 1)[0]
	b.fake.AddLabel("acme/api", "again")
	for range 350 {
		b.fake.Label(b.clock.after(time.Second), id, "again")
		b.fake.Unlabel(b.clock.after(time.Second), id, "again")
	}
	b.clock.after(time.Hour)
	read := map[string]int{}
	requests := 0
	b.config.Transport = &direct{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/timeline") {
			if requests++; requests%3 == 0 {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			read[r.URL.RawQuery]++
		}
		b.fake.ServeHTTP(w, r)
	})}
	s, r := b.source(), newRecord()
	for n := 0; s.Poll(t.Context(), r.cursor, r.take) != nil; n++ {
		if n == 10 {
			t.Fatalf("still not read after %d polls", n)
		}
	}
	for query, n := range read {
		if n != 1 {
			t.Errorf("%s was read %d times", query, n)
		}
	}
	if len(read) < 8 {
		t.Errorf("%d pages were read, want at least 8", len(read))
	}
	b.want(r)
}

// TestManyIssuesThatCannotBeRead: there is a limit to what a scan goes on without;
// behind it the poll fails as a whole. Nothing is lost.
func TestManyIssuesThatCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		later()
		b := newBench(t, FakeOptions{PageSize: 20})
		b.world("acme/api", 120)
		status := map[string]int{"/timeline": http.StatusInternalServerError}
		d := b.refusing(status)
		s, r := b.source(), newRecord()
		for range 60 {
			err := s.Poll(t.Context(), r.cursor, r.take)
			if err == nil || isError[*connector.PartialError](err) {
				t.Fatalf("got %v", err)
			}
			time.Sleep(time.Minute)
		}
		at, err := s.start(r.cursor)
		if err != nil || at.missing() == 0 || at.missing() > maxMissing {
			t.Fatalf("%d issues are missing, %v", at.missing(), err)
		}
		d.requests()
		clear(status)
		b.poll(b.source(), r)
		b.want(r)
	})
}

// TestMissingIsStoredOnly: an issue counts as missing once the Runner has taken
// the batch that goes on without it.
func TestMissingWhileNothingIsTaken(t *testing.T) {
	b := newBench(t, FakeOptions{})
	b.world("acme/api", 5)
	status := map[string]int{"/issues/2/timeline": http.StatusInternalServerError}
	b.refusing(status)
	s, r, refused := b.source(), newRecord(), errors.New("refused")
	for range 5 {
		_ = s.Poll(t.Context(), nil, func(connector.Batch) error { return refused })
	}
	clear(status)
	b.poll(s, r)
	b.want(r)
}

// TestProjectOutOfSight: the project being out of sight is told, what is not of
// it is read, and its moves are made up for once it can be seen.
func TestProjectOutOfSight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		later()
		f, api, web, _ := boardWorld(FakeOptions{Scopes: "repo"})
		f.SetStatus(fakeDay(2), api, "Todo", true)
		f.SetStatus(fakeDay(3), web, "Doing", true)
		f.Close(fakeDay(4), api, "completed")
		s, d := talk(t, f)
		r := newRecord()
		fails := func() {
			t.Helper()
			err := s.Poll(t.Context(), r.cursor, r.take)
			if !isError[*connector.PartialError](err) || !strings.Contains(err.Error(), "project acme/3") || !strings.Contains(err.Error(), "read:project") {
				t.Fatalf("got %v", err)
			}
			if seen := observe(t, s); len(seen) > 0 {
				t.Errorf("saw %v", seen)
			}
		}
		fails()
		if len(r.facts) == 0 || strings.Contains(strings.Join(r.lines(), "\n"), "STATUS") {
			t.Errorf("told\n%s", strings.Join(r.lines(), "\n"))
		}
		fails()
		if n := d.count("ProjectStatuses"); n != 1 {
			t.Errorf("asked %d times for the project", n)
		}
		if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "read:project") {
			t.Errorf("the check says %v", err)
		}
		f.opts.Scopes = "repo, read:project"
		time.Sleep(maxOutage)
		if err := s.Poll(t.Context(), r.cursor, r.take); err != nil {
			t.Fatal(err)
		}
		truth := newRecord()
		fresh, _ := talk(t, f)
		if err := fresh.Poll(t.Context(), nil, truth.take); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(r.lines(), "\n"), strings.Join(truth.lines(), "\n"); got != want || !strings.Contains(got, "STATUS") {
			t.Errorf("told\n%s\nwant\n%s", got, want)
		}
		told := r.told
		if err := s.Poll(t.Context(), r.cursor, r.take); err != nil || r.told != told {
			t.Errorf("told %d more, %v", r.told-told, err)
		}
		if seen := observe(t, s); len(seen) != 2 {
			t.Errorf("saw %v", seen)
		}
	})
}

// TestCensusInPart: a repository that cannot be listed keeps no deletion in the
// others from being seen.
func TestCensusInPart(t *testing.T) {
	b := newBench(t, FakeOptions{PageSize: 2}, "acme/api", "acme/private", "acme/web")
	for _, repo := range b.config.Repos {
		b.world(repo, 5)
	}
	status := map[string]int{"acme/private/issues": http.StatusNotFound}
	b.refusing(status)
	s := b.source()
	census := func() (map[string]int, error) {
		live := map[string]int{}
		err := s.Census(t.Context(), func(i connector.Item) { live[i.Container]++ })
		return live, err
	}
	partly := func(live map[string]int, err error) {
		t.Helper()
		var part *connector.PartialError
		if !errors.As(err, &part) || statusOf(err) != status["acme/private/issues"] {
			t.Fatalf("got %v", err)
		}
		if got := strings.Join(part.Listed, " "); got != "acme/api acme/web" || live["acme/api"] != 5 || live["acme/web"] != 5 {
			t.Errorf("listed %s, in sight %v", got, live)
		}
	}
	partly(census())
	status["acme/private/issues"] = http.StatusBadGateway // which may pass
	for range patience - 1 {
		if live, err := census(); len(live) > 0 || statusOf(err) != http.StatusBadGateway || isError[*connector.PartialError](err) {
			t.Errorf("in sight %v, %v", live, err)
		}
	}
	partly(census())
	clear(status)
	status["/issues"] = http.StatusForbidden
	if live, err := census(); len(live) > 0 || err == nil || isError[*connector.PartialError](err) {
		t.Errorf("in sight %v, %v", live, err)
	}
	clear(status)
	if live, err := census(); err != nil || live["acme/private"] != 5 || live["acme/api"] != 5 {
		t.Errorf("in sight %v, %v", live, err)
	}
}

// TestRefetchInPart: of what webhooks name, an issue that cannot be read keeps no
// other from being read at once, and says nothing about the credentials.
func TestRefetchInPart(t *testing.T) {
	b := newBench(t, FakeOptions{}, "acme/api", "acme/web")
	b.world("acme/api", 4)
	status := map[string]int{"/issues/1": http.StatusForbidden, "/issues/2/timeline": http.StatusBadGateway}
	b.refusing(status)
	s, r := b.source(), newRecord()
	err := s.Refetch(t.Context(), []string{"acme/api#1", "acme/api#2", "acme/api#3", "acme/api#5"}, r.take)
	if statusOf(err) != http.StatusForbidden || isError[*connector.AuthError](err) || !strings.Contains(err.Error(), "issue acme/api#2: read timeline: ") {
		t.Errorf("got %v", err)
	}
	read := map[string]bool{}
	for _, c := range r.facts {
		read[c.Key] = true
	}
	if len(read) != 2 || !read["acme/api#3"] || !read["acme/api#5"] {
		t.Errorf("read %v", read)
	}
	status["/issues/3"] = http.StatusUnauthorized
	if err := s.Refetch(t.Context(), []string{"acme/api#3", "acme/api#5"}, r.take); !isError[*connector.AuthError](err) {
		t.Errorf("wrong credentials: got %v", err)
	}
}

// TestListedAndAbsent: an issue that was listed and is not there may be there a
// little later. Where it is not, it is gone and of no account.
func TestListedAndAbsent(t *testing.T) {
	for _, back := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			later()
			b := newBench(t, FakeOptions{})
			b.world("acme/api", 4)
			status := map[string]int{"/issues/2/timeline": http.StatusNotFound, "/issues/2": http.StatusNotFound}
			d := b.refusing(status)
			s, r := b.source(), newRecord()
			polls := 0
			for s.Poll(t.Context(), r.cursor, r.take) != nil {
				if polls++; polls > 100 {
					t.Fatal("it is expected for ever")
				}
				time.Sleep(15 * time.Second)
				if back && polls == 4 {
					clear(status)
				}
			}
			d.requests()
			time.Sleep(time.Hour)
			b.poll(s, r)
			if n := d.asked("/issues/2"); n != 0 {
				t.Errorf("asked for it %d times", n)
			}
			if diff := b.diff(r); back != (diff == "") {
				t.Errorf("back %v: the facts differ (-want +got):\n%s", back, diff)
			}
		})
	}
}
