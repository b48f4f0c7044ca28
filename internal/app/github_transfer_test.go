package app

import (
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector/github"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// transferConfig has a value stream for each of two repositories.
const transferConfig = `
sources:
  - {name: github-main, type: github, url: %q, repos: [acme/api, acme/web], token_env: APP_TEST_GITHUB, poll_interval: %s, webhook_secret_env: APP_TEST_HOOK}
workflows:
  - name: states
    labels: [{label: urgent, state: active}]
value_streams:
  - {name: platform, workflow: states, timezone: UTC, include: [{source: github-main, containers: [acme/api]}]}
  - {name: payments, workflow: states, timezone: UTC, include: [{source: github-main, containers: [acme/web]}]}
`

// stay is what a value stream shows of a window of thirty days, in days.
type stay struct {
	Load, Velocity  int
	Presence, Time  float64 // item-days; mean flow time
	Entered, Exited string
}

// stays returns what the value streams show, now or as of an instant.
func stays(t testing.TB, s *service, at string) map[string]stay {
	t.Helper()
	type window struct {
		Velocity struct{ Items int }
		FlowTime struct {
			Mean float64 `json:"mean_seconds"`
		} `json:"flow_time"`
		Load struct {
			AtEnd    int     `json:"at_end"`
			Presence float64 `json:"presence_seconds"`
		}
		Entered, Exited map[string]int
	}
	type document struct {
		Streams []struct {
			Name    string
			Windows map[string]window
		} `json:"value_streams"`
	}
	count := func(reasons map[string]int) string {
		var all []string
		for reason, n := range reasons {
			if n > 0 {
				all = append(all, fmt.Sprintf("%d %s", n, reason))
			}
		}
		slices.Sort(all)
		return strings.Join(all, ", ")
	}
	days := func(seconds float64) float64 { return math.Round(seconds/864) / 100 }
	found := map[string]stay{}
	for _, stream := range decode[document](t, s.ok(t, "/api/v1/value-streams"+at)).Streams {
		w := stream.Windows["30d"]
		found[stream.Name] = stay{
			Load: w.Load.AtEnd, Velocity: w.Velocity.Items, Presence: days(w.Load.Presence), Time: days(w.FlowTime.Mean),
			Entered: count(w.Entered), Exited: count(w.Exited),
		}
	}
	return found
}

// An issue that is transferred was work of its former repository until then, and
// is work of the new one from then on, completed once, in the end (case 7). It does
// not matter whether a webhook told of the transfer or a census found it, and what
// was read before.
func TestGitHubTransferBetweenValueStreams(t *testing.T) {
	credentials(t)
	for name, poll := range map[string]string{"by webhook": "1h", "by polling": "1s"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := github.NewFake(github.FakeOptions{Token: "a-token", WebhookSecret: hookSecret})
			for _, repo := range []string{"acme/api", "acme/web", "acme/old"} {
				fake.AddRepo(repo)
				fake.AddLabel(repo, "urgent")
			}
			server := httptest.NewServer(fake)
			defer server.Close()
			now := time.Now().Truncate(time.Second)
			ago := func(days float64) time.Time { return now.Add(-time.Duration(days * 24 * float64(time.Hour))) }
			begin := func(repo string) string {
				id := fake.Create(ago(20), repo, "An issue", github.CreateOptions{})
				fake.Label(ago(16), id, "urgent")
				return id
			}
			open, closed, arriving := begin("acme/api"), begin("acme/api"), begin("acme/old")
			begin("acme/web")
			fake.Close(ago(8), closed, "completed")
			_ = fake.Deliveries() // nobody took those

			dir, text := t.TempDir(), fmt.Sprintf(transferConfig, server.URL, poll)
			often := func(o *Options) { o.CensusInterval = time.Second }
			if poll == "1h" {
				often = func(*Options) {}
			}
			s := start(t, dir, text, often)
			want := map[string]stay{
				"platform": {Load: 1, Velocity: 1, Presence: 24, Time: 8, Entered: "2 started", Exited: "1 completed"},
				"payments": {Load: 1, Presence: 16, Entered: "1 started"},
			}
			if diff := cmp.Diff(want, stays(t, s, "")); diff != "" {
				t.Fatalf("before (-want +got):\n%s", diff)
			}

			last := fake.Transfer(ago(6), open, "acme/web")
			fake.Transfer(ago(5), closed, "acme/web")
			fake.Transfer(ago(4), arriving, "acme/web")
			fake.Close(ago(2), last, "completed")
			if poll == "1h" {
				for _, d := range fake.Deliveries() {
					if old := decode[struct{ Repository struct{ Name string } }](t, string(d.Body)); old.Repository.Name != "old" {
						s.deliver(t, "github-main", hook{d.Header, d.Body}, http.StatusAccepted)
					}
				}
			}
			want = map[string]stay{
				// The one that was open was here for ten days, the other for eight until it was
				// completed here.
				"platform": {Velocity: 1, Presence: 18, Time: 8, Entered: "2 started", Exited: "1 completed, 1 moved_out"},
				// Four days of the first, sixteen of the one that was always here and four of
				// the one that arrived.
				"payments": {Load: 2, Velocity: 1, Presence: 24, Time: 14, Entered: "1 started, 2 moved_in", Exited: "1 completed"},
			}
			s.settles(t, want, "")
			// The same at each instant: before the transfer all of it was the former repository's.
			before := map[string]stay{
				"platform": {Load: 1, Velocity: 1, Presence: 9 + 8, Time: 8, Entered: "2 started", Exited: "1 completed"},
				"payments": {Load: 1, Presence: 9, Entered: "1 started"},
			}
			asOf := "?at=" + ago(7).UTC().Format(time.RFC3339)
			s.settles(t, before, asOf)
			if poll != "1h" {
				for range 3 {
					census := s.runners[0].Status().LastCensus
					eventually(t, "a census", func() bool { return s.runners[0].Status().LastCensus.After(census) })
				}
				s.settles(t, want, "")
			}
			log := readLog(t, s.ok(t, "/api/v1/changes"))
			seen := map[string]int{}
			for _, c := range log {
				if seen[c.ID]++; c.Item == arriving || seen[c.ID] > 1 {
					t.Errorf("change %+v", c)
				}
			}
			s.end(t)

			// A log of its own, which begins after all of that, has the same facts about
			// what there is now.
			s = start(t, t.TempDir(), text)
			s.settles(t, want, "")
			for _, c := range readLog(t, s.ok(t, "/api/v1/changes")) {
				k := slices.IndexFunc(log, func(known flow.Change) bool { return known.ID == c.ID })
				if k < 0 {
					t.Errorf("%s is new", c.ID)
					continue
				}
				c.ObservedAt = log[k].ObservedAt
				if diff := cmp.Diff(log[k], c); diff != "" {
					t.Errorf("another content (-then +now):\n%s", diff)
				}
			}
		})
	}
}

// settles waits for the value streams to show something.
func (s *service) settles(t testing.TB, want map[string]stay, at string) {
	t.Helper()
	var diff string
	if !within(20*time.Second, func() bool {
		diff = cmp.Diff(want, stays(t, s, at))
		return diff == ""
	}) {
		t.Errorf("%s (-want +got):\n%s%s", at, diff, s.ok(t, "/api/v1/changes"))
	}
}
