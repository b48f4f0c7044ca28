package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func jsonOf(t *testing.T, s *flow.Snapshot) string {
	t.Helper()
	body, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(body) + "\n"
}

func TestValueStreams(t *testing.T) {
	f := newFixture(t)
	wantBody(t, f.do("GET", "/api/v1/value-streams", ""), jsonOf(t, sample()))

	one := sample()
	one.ValueStreams = one.ValueStreams[1:]
	wantBody(t, f.do("GET", "/api/v1/value-streams/a%2Fb%20c", ""), jsonOf(t, one))
	if got := len(f.numbers.Latest().ValueStreams); got != 2 {
		t.Errorf("the shared snapshot was changed: %d value streams", got)
	}
}

func TestValueStreamsAsOf(t *testing.T) {
	f := newFixture(t)
	type call struct {
		at    time.Time
		items bool
	}
	var last call
	inner := f.numbers.at
	f.numbers.at = func(ctx context.Context, at time.Time, items bool) (*flow.Snapshot, error) {
		last = call{at, items}
		if _, ok := ctx.Deadline(); !ok {
			t.Error("no bound on the time to compute")
		}
		return inner(ctx, at, items)
	}
	june10 := time.Date(2026, 6, 10, 0, 0, 0, 0, time.UTC)
	for query, want := range map[string]call{
		"at=2026-06-10T00:00:00Z":              {june10, false},
		"at=2026-06-10T02:00:00%2B02:00":       {june10, false},
		"at=2026-06-10T02:00:00+02:00":         {june10, false}, // the + that nobody escaped
		"at=2026-06-09T22:00:00-02:00&items=1": {june10, true},
		"at=2026-06-10T00:00:00.5Z":            {june10.Add(time.Second / 2), false},
		"items=true":                           {sample().At, true},
		"at=&items=true":                       {sample().At, true},
	} {
		last = call{}
		w := f.do("GET", "/api/v1/value-streams/payments?"+query, "")
		wantStatus(t, w, 200)
		if last != want {
			t.Errorf("%s: asked for %v, want %v", query, last, want)
		}
		if w.Header().Get("ETag") != "" {
			t.Errorf("%s: has an ETag, but a late fact may change it", query)
		}
		if want.items != strings.Contains(w.Body.String(), "PAY-1") {
			t.Errorf("%s: items: %s", query, w.Body)
		}
	}
}

func TestETag(t *testing.T) {
	f := newFixture(t)
	first := f.do("GET", "/api/v1/value-streams", "")
	tag := first.Header().Get("ETag")
	if tag == "" {
		t.Fatal("no ETag")
	}
	for _, header := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
		w := f.do("GET", "/api/v1/value-streams", "", "If-None-Match", header)
		wantStatus(t, w, http.StatusNotModified)
		if w.Body.Len() > 0 {
			t.Errorf("304 with a body: %s", w.Body)
		}
	}
	for name, change := range map[string]func(*flow.Snapshot){
		"instant": func(s *flow.Snapshot) { s.At = s.At.Add(1) },
		"policy":  func(s *flow.Snapshot) { s.PolicyHash = "other" },
	} {
		s := sample()
		change(s)
		f.numbers.latest.Store(s)
		w := f.do("GET", "/api/v1/value-streams", "", "If-None-Match", tag)
		wantStatus(t, w, http.StatusOK)
		if w.Header().Get("ETag") == tag {
			t.Errorf("another %s has the same ETag", name)
		}
	}
}

func TestBeforeTheFirstSnapshot(t *testing.T) {
	f := newFixture(t)
	f.numbers.latest.Store(nil)
	for _, target := range []string{"/api/v1/value-streams", "/api/v1/value-streams/payments?at=2026-06-10T00:00:00Z"} {
		w := f.do("GET", target, "")
		wantStatus(t, w, http.StatusServiceUnavailable)
		wantBody(t, w, `{"error":"the log is being replayed, there are no numbers yet"}`+"\n")
		if w.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
}

func TestAtMostTwoComputeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		release := make(chan struct{})
		f.numbers.at = func(context.Context, time.Time, bool) (*flow.Snapshot, error) {
			<-release
			return sample(), nil
		}
		const target = "/api/v1/value-streams?at=2026-06-10T00:00:00Z"
		answers := make(chan int, maxComputing)
		for range maxComputing {
			go func() { answers <- f.do("GET", target, "").Code }()
		}
		synctest.Wait()
		w := f.do("GET", target, "")
		wantStatus(t, w, http.StatusServiceUnavailable)
		if w.Header().Get("Retry-After") != "5" {
			t.Error("no Retry-After")
		}
		wantStatus(t, f.do("GET", "/?at=2026-06-10T00:00:00Z", ""), http.StatusServiceUnavailable)
		wantStatus(t, f.do("GET", "/api/v1/value-streams", ""), http.StatusOK) // the latest is never busy
		close(release)
		for range maxComputing {
			if code := <-answers; code != http.StatusOK {
				t.Errorf("status %d", code)
			}
		}
		wantStatus(t, f.do("GET", target, ""), http.StatusOK)
	})
}

func TestComputingFails(t *testing.T) {
	f := newFixture(t)
	f.numbers.at = func(context.Context, time.Time, bool) (*flow.Snapshot, error) { return nil, errors.New("disk on fire") }
	w := f.do("GET", "/api/v1/value-streams?at=2026-06-10T00:00:00Z", "")
	wantStatus(t, w, http.StatusServiceUnavailable)
	wantBody(t, w, `{"error":"the numbers cannot be computed now"}`+"\n")
	if !strings.Contains(f.logged.String(), "measure as of 2026-06-10T00:00:00Z: disk on fire") {
		t.Errorf("log: %s", f.logged)
	}
}

func change(id, source string) flow.Change {
	return flow.Change{
		ID: id, Source: source, Container: "PAY", Item: "1", Kind: flow.Created, Title: "a <b> & c",
		At: time.Date(1999, 6, 1, 0, 0, 0, 0, time.UTC), // before the clock of a synctest bubble begins
	}
}

func line(id, source string) string {
	return fmt.Sprintf(`{"id":%q,"source":%q,"container":"PAY","item":"1","at":"1999-06-01T00:00:00Z","kind":"CREATED","title":"a <b> & c"}`+"\n", id, source)
}

func TestChanges(t *testing.T) {
	f := newFixture(t)
	wantBody(t, f.do("GET", "/api/v1/changes", ""), "")

	f.log.changes = []flow.Change{change("1", "jira"), change("2", "github"), change("3", "jira")}
	for query, want := range map[string]string{
		"":                     line("1", "jira") + line("2", "github") + line("3", "jira"),
		"?source=jira":         line("1", "jira") + line("3", "jira"),
		"?after=1":             line("2", "github") + line("3", "jira"),
		"?after=1&source=jira": line("3", "jira"),
		"?after=3":             "",
		"?source=nobody":       "",
	} {
		w := f.do("GET", "/api/v1/changes"+query, "")
		wantStatus(t, w, 200)
		wantBody(t, w, want)
		if got := w.Header().Get("Flowmetrics-Log-Position"); got != "3" {
			t.Errorf("%s: position %q, want 3", query, got)
		}
		if got := w.Header().Get("Content-Type"); got != "application/x-ndjson" {
			t.Errorf("%s: content type %q", query, got)
		}
	}
	w := f.do("HEAD", "/api/v1/changes", "")
	wantBody(t, w, "")
	if got := w.Header().Get(PositionHeader); got != "3" {
		t.Errorf("HEAD: position %q", got)
	}
}

// growing is a log that gets another message between the question for its end
// and the reading.
type growing struct{ *record }

func (g growing) LastPosition(ctx context.Context) (uint64, error) {
	defer func() { _ = g.Publish(ctx, "jira", []flow.Change{change("late", "jira")}) }()
	return g.record.LastPosition(ctx)
}

func TestChangesEndWhereTheHeaderSays(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Log = growing{o.Log.(*record)} })
	f.log.changes = []flow.Change{change("1", "jira")}
	w := f.do("GET", "/api/v1/changes", "")
	wantBody(t, w, line("1", "jira"))
	if got := w.Header().Get(PositionHeader); got != "1" {
		t.Errorf("position %q, want 1", got)
	}
}

func TestChangesFailBeforeTheFirstPiece(t *testing.T) {
	f := newFixture(t)
	f.log.changes = []flow.Change{change("1", "jira")}
	f.log.readErr = errors.New("disk on fire")
	for _, target := range []string{"/api/v1/changes", "/api/v1/rejected"} {
		w := f.do("GET", target, "")
		wantStatus(t, w, http.StatusServiceUnavailable)
		wantBody(t, w, `{"error":"the log cannot be read now"}`+"\n")
		if got := w.Header().Get(PositionHeader); got != "" {
			t.Errorf("an answer without the log has position %s", got)
		}
		if !strings.Contains(f.logged.String(), "disk on fire") {
			t.Error("the log has no cause")
		}
	}
}

func TestChangesFailInTheMiddle(t *testing.T) {
	f := newFixture(t)
	f.log.changes = make([]flow.Change, 2000)
	for i := range f.log.changes {
		f.log.changes[i] = change(fmt.Sprint(i), "jira")
	}
	f.log.readErr = errors.New("disk on fire")
	server := httptest.NewServer(f.Handler())
	defer server.Close()
	res, err := server.Client().Get(server.URL + "/api/v1/changes")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("%d bytes of half a log look whole", len(body))
	}
	server.Close() // waits for the handler, so that its log line is there
	if !strings.Contains(f.logged.String(), "disk on fire") {
		t.Error("the log has no cause")
	}
}

func TestLogReadersAreBounded(t *testing.T) {
	f := newFixture(t)
	for range maxReading {
		f.reading <- struct{}{}
	}
	w := f.do("GET", "/api/v1/changes", "")
	wantStatus(t, w, http.StatusServiceUnavailable)
	if w.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	<-f.reading
	wantStatus(t, f.do("GET", "/api/v1/changes", ""), 200)
}

func TestRejected(t *testing.T) {
	f := newFixture(t)
	received := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	for i := range 3 {
		f.log.rejections = append(f.log.rejections, flow.Rejection{
			Position: uint64(i + 1), Index: -1, Received: received, Subject: "flow.v1.changes.jira.PAY",
			Source: "jira", Reason: flow.ReasonMalformed, Detail: "not a batch",
		})
	}
	want := func(position int) string {
		return fmt.Sprintf(`{"position":%d,"index":-1,"received":"2026-06-01T00:00:00Z","subject":"flow.v1.changes.jira.PAY","source":"jira","reason":"malformed","detail":"not a batch"}`+"\n", position)
	}
	wantBody(t, f.do("GET", "/api/v1/rejected", ""), want(1)+want(2)+want(3))
	wantBody(t, f.do("GET", "/api/v1/rejected?after=1&limit=1", ""), want(2))
}
