package connectortest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func TestRun(t *testing.T) {
	Run(t, harness(""))
	t.Run("live", func(t *testing.T) {
		h := harness("")
		h.Live, h.Precision = true, time.Second
		start := h.Start
		h.Start = func(t testing.TB, zone *time.Location) *Tracker {
			tr := start(t, zone)
			create, move, relocate := tr.Create, tr.Move, tr.Relocate
			now := func() time.Time { return time.Now().Truncate(time.Second) }
			tr.Create = func(_ time.Time, status flow.Value) string { return create(now(), status) }
			tr.Move = func(_ time.Time, item string, status flow.Value) { move(now(), item, status) }
			tr.Relocate = func(_ time.Time, item string) (from, to string) { return relocate(now(), item) }
			return tr
		}
		Run(t, h)
	})
	t.Run("what was deleted is shown", func(t *testing.T) {
		h := harness("")
		h.Start = func(_ testing.TB, zone *time.Location) *Tracker {
			f := newFake(zone)
			f.keeps = true
			return drive(f, "")
		}
		Run(t, h)
	})
	t.Run("no births", func(t *testing.T) {
		h := harness("")
		h.Without = map[Ability]string{Births: "an item is born in the first status"}
		Run(t, h)
	})
}

// brokenSources are the ways in which a [source] breaks a promise, each with the
// case that is about it and what that says.
var brokenSources = map[string][2]string{
	"bears twice": {"backfill", "exactly one CREATED"},
	"takes the status of now for that of birth":    {"backfill", "missing: CREATED"},
	"drops the last row of a page":                 {"page size one", "nothing was told"},
	"takes an empty list for a failure":            {"empty", "want Poll to succeed"},
	"makes new ids":                                {"reread", "the same facts when everything is read again"},
	"moves the cursor to now":                      {"increment", "missing"},
	"moves the cursor to the end":                  {"resume", "a restart from the cursor of batch 1"},
	"swallows the error of emit":                   {"emit error", "want Poll to return that error, got <nil>"},
	"ignores the context":                          {"cancel", "want Poll to return context.Canceled"},
	"reads an overlap item by item":                {"idle", "want at most 16 requests"},
	"has nothing to tell and tells it":             {"idle", "want no batch that has neither"},
	"makes new ids after a while":                  {"idle", "want no new fact"},
	"leaves a goroutine":                           {"cancel", "a goroutine is left behind"},
	"loses the order within a second":              {"one second", "order of At, Sequence, ID"},
	"takes a second for over":                      {"one second", "once more in the second"},
	"counts rows":                                  {"change while paging", "missing"},
	"reads the newest histories only":              {"long history", "missing"},
	"waits by itself":                              {"rate limit", "Poll has not returned"},
	"tries again at once":                          {"rate limit", "want no more requests"},
	"takes a limit for a failure":                  {"rate limit", "want a *connector.RateLimitError"},
	"does not read how long to wait":               {"rate limit", "want RateLimitError.Until in 1m30s"},
	"loses half a page at a limit":                 {"tight limit", "have not read it"},
	"takes 401 for a failure":                      {"credentials", "want a *connector.AuthError"},
	"panics on a web page":                         {"broken answers", "must not panic"},
	"takes half an answer":                         {"broken answers", "want an error"},
	"gives other ids to what is fetched":           {"webhook", "told twice"},
	"takes any signature":                          {"webhook signature", "want connector.ErrSignature"},
	"takes the empty secret as well":               {"webhook signature", "signed with the empty secret"},
	"refuses unknown events":                       {"webhook repeated or unknown", "want a zero Notice"},
	"takes a bad delivery for a failure":           {"webhook repeated or unknown", "want connector.ErrDelivery"},
	"makes ids of deliveries":                      {"webhook repeated or unknown", "want the same notice"},
	"tells no moves":                               {"moved item", "does not tell"},
	"takes the container of now for that of birth": {"moved item", "born in container"},
	"makes ids of the names of now":                {"renamed status", "once a status was renamed"},
	"lists open items only":                        {"deleted item", "does not list item"},
	"lists the first page only":                    {"deleted item", "does not list item"},
	"knows no zone":                                {"zones", "missing"},
	"takes any cursor":                             {"cursors", "wraps connector.ErrCursor"},
	"repeats the answer in the error":              {"secrets", "the error of a poll"},
	"logs the answer":                              {"secrets", "the log"},
	"tells the author":                             {"people", "must never be told"},
	"follows links anywhere":                       {"foreign host", "with the credentials"},
	"follows redirects":                            {"foreign host", "want no request to go there"},
}

// TestBroken is the test of the kit: a case fails where its promise is broken,
// and says why.
func TestBroken(t *testing.T) {
	tried := map[string]bool{}
	for broken, want := range brokenSources {
		tried[want[0]] = true
		t.Run(broken, func(t *testing.T) {
			h := harness(broken)
			if broken == "waits by itself" {
				h.patience = time.Second
			}
			got := attempt(t, want[0], h)
			if !strings.Contains(got, want[1]) || !strings.Contains(got, "usual cause") && !strings.Contains(got, "want Poll to succeed") && !strings.Contains(got, "must not panic") {
				t.Errorf("case %q reports\n%s\nwant it to say %q and the usual cause", want[0], got, want[1])
			}
		})
	}
	for _, c := range cases {
		if !tried[c.name] && c.name != "harness" { // for that see TestIncompleteHarness
			t.Errorf("nothing breaks the promise of case %q", c.name)
		}
	}
}

// TestIncompleteHarness sees that nothing is left out in silence.
func TestIncompleteHarness(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Harness)
		of     string
		want   string
	}{
		"nothing":            {func(h *Harness) { *h = Harness{} }, "backfill", "Harness.Start"},
		"one status":         {func(h *Harness) { h.Statuses = h.Statuses[:1] }, "harness", "two Harness.Statuses"},
		"no token":           {func(h *Harness) { h.Token = "" }, "harness", `the ability "token" is missing without a reason`},
		"another token":      {func(h *Harness) { h.Token = "another" }, "secrets", "no request carries Harness.Token"},
		"other people":       {func(h *Harness) { h.Private = []string{"nobody"} }, "people", "let the fake show people"},
		"no zone":            {part(func(tr *Tracker) { tr.Zone = nil }), "harness", `"zones" is missing`},
		"always UTC":         {part(func(tr *Tracker) { tr.Zone = time.UTC }), "zones", "as Start was told"},
		"no people":          {func(h *Harness) { h.Private = nil }, "harness", `"people" is missing`},
		"a needless reason":  {func(h *Harness) { h.Without = map[Ability]string{Webhooks: "none"} }, "harness", "must not give a reason"},
		"an unknown ability": {func(h *Harness) { h.Without = map[Ability]string{"magic": "none"} }, "harness", "no ability"},
		"no deletion":        {part(func(tr *Tracker) { tr.Delete = nil }), "harness", `"delete" is missing`},
		"no signing":         {part(func(tr *Tracker) { tr.Sign = nil }), "harness", `"webhooks" is missing`},
		"no moving":          {part(func(tr *Tracker) { tr.Relocate = nil }), "harness", `"relocate" is missing`},
		"no renaming":        {part(func(tr *Tracker) { tr.RenameStatus = nil }), "harness", `"rename" is missing`},
		"no source":          {part(func(tr *Tracker) { tr.New = nil }), "backfill", "must return a Tracker with New"},
		"no id":              {part(func(tr *Tracker) { tr.Create = func(time.Time, flow.Value) string { return "" } }), "backfill", "must return the id"},
	} {
		t.Run(name, func(t *testing.T) {
			h := harness("")
			c.change(&h)
			if got := attempt(t, c.of, h); !strings.Contains(got, c.want) {
				t.Errorf("case %q reports\n%s\nwant it to say %q", c.of, got, c.want)
			}
		})
	}
}

// part changes the trackers of a harness.
func part(change func(*Tracker)) func(*Harness) {
	return func(h *Harness) {
		start := h.Start
		h.Start = func(t testing.TB, zone *time.Location) *Tracker {
			tr := start(t, zone)
			change(tr)
			return tr
		}
	}
}

// attempt runs a case and returns what it reports.
func attempt(t *testing.T, name string, h Harness) string {
	t.Helper()
	n := slices.IndexFunc(cases, func(c promise) bool { return c.name == name })
	if n < 0 {
		t.Fatalf("no case %q", name)
	}
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		cases[n].try(r, &h)
	}()
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// A recorder stands in for a test that may fail.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	failed bool
	text   strings.Builder
}

func (r *recorder) report(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
	r.text.WriteString(text + "\n")
}

func (r *recorder) Helper() {}

func (r *recorder) Logf(string, ...any) {}

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

func (r *recorder) Errorf(format string, args ...any) { r.report(fmt.Sprintf(format, args...)) }

func (r *recorder) Fatal(args ...any) {
	r.report(fmt.Sprint(args...))
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.report(fmt.Sprintf(format, args...))
	runtime.Goexit()
}
