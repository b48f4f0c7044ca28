package redmine

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/connectortest"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

var update = flag.Bool("update", false, "rewrite the files in testdata")

// An exchange is a request and Redmine's answer to it.
type exchange struct {
	Request string          `json:"request"` // path and query
	Date    string          `json:"date"`
	Answer  json.RawMessage `json:"answer"`
}

const (
	recordedFile = "testdata/recorded.jsonl" // by TestDrive, with -update, from Redmine 5.0.4; people renamed
	changesFile  = "testdata/changes.jsonl"  // what the recorded answers tell
)

// replay answers requests as they were answered once, in the same order.
type replay struct {
	t    testing.TB
	rest []exchange
}

func (p *replay) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(p.rest) == 0 || p.rest[0].Request != r.URL.String() {
		p.t.Errorf("asked for %s, want one of %d recorded requests: %+v", r.URL, len(p.rest), p.rest[:min(1, len(p.rest))])
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Date", p.rest[0].Date)
	_, _ = w.Write(p.rest[0].Answer)
	p.rest = p.rest[1:]
}

// TestRecorded polls twice what a real Redmine told, and compares with changes
// that were read and found right by eye.
func TestRecorded(t *testing.T) {
	text, err := os.ReadFile(recordedFile)
	if err != nil {
		t.Fatal(err)
	}
	told := &replay{t: t}
	for line := range strings.Lines(string(text)) {
		var e exchange
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		told.rest = append(told.rest, e)
	}
	server := httptest.NewServer(told)
	defer server.Close()
	s := source(t, server.URL, fakeKey, connectortest.Options{}, driven...)
	var got strings.Builder
	var cursor connector.Cursor
	for n := range 2 {
		fmt.Fprintf(&got, "# poll %d\n", n+1)
		cursor = poll(t, s, cursor, func(c flow.Change) {
			c.URL = strings.TrimPrefix(c.URL, server.URL)
			line, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&got, "%s\n", line)
		})
	}
	got.WriteString("# census\n")
	if err := s.(connector.Censor).Census(t.Context(), func(i connector.Item) { fmt.Fprintf(&got, "%+v\n", i) }); err != nil {
		t.Error(err)
	}
	if len(told.rest) > 0 {
		t.Errorf("%d recorded requests were not made, the first is %s", len(told.rest), told.rest[0].Request)
	}
	if strings.Contains(got.String(), fakePerson) {
		t.Error("a person is told of")
	}
	if *update {
		if err := os.WriteFile(changesFile, []byte(got.String()), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(changesFile)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got.String()); d != "" {
		t.Errorf("the recorded answers tell something else (-%s +got):\n%s", changesFile, d)
	}
}

// driven are the projects of TestDrive.
var driven = []string{"driven", "elsewhere"}

// poll reads once and returns the cursor to go on from.
func poll(t testing.TB, s connector.Source, from connector.Cursor, told func(flow.Change)) connector.Cursor {
	t.Helper()
	if err := s.Poll(t.Context(), from, func(b connector.Batch) error {
		from = b.Cursor
		for _, c := range b.Changes {
			told(c)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return from
}
