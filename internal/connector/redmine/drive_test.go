//go:build redmine

package redmine

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// person is what shows somebody in an answer.
var person = regexp.MustCompile(`"(name|login|firstname|lastname|mail|api_key)":"[^"]*(Admin|admin|[0-9a-f]{40})[^"]*"`)

func scrub(answer []byte) []byte { return person.ReplaceAll(answer, []byte(`"$1":"`+fakePerson+`"`)) }

// A recorder notes what passes.
type recorder struct{ lines bytes.Buffer }

func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(exchange{Request: request.URL.RequestURI(), Date: resp.Header.Get("Date"), Answer: scrub(answer)})
	if err != nil {
		return nil, err
	}
	r.lines.Write(append(line, '\n'))
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	return resp, nil
}

// TestDrive lives through the life of some issues of a real Redmine and looks at
// what is told of it. With -update it records the answers for TestRecorded; do
// that alone, so that numbers begin at 1.
func TestDrive(t *testing.T) {
	s := realServer(t)
	for _, id := range driven {
		s.do(http.MethodPost, "/projects.json", map[string]any{"project": map[string]any{"name": id, "identifier": id}}, nil)
	}
	type set = map[string]any
	second := func() { // so that the order of times tells something
		timer := time.NewTimer(1100 * time.Millisecond)
		<-timer.C
	}
	bug := s.create("driven", set{"subject": "a bug", "assigned_to_id": 1})
	story := s.create("driven", set{"subject": "a story", "tracker_id": 2})
	gone := s.create("driven", set{"subject": "a mistake"})
	closed := s.create("driven", set{"subject": "born closed", "status_id": 5})
	second()
	s.update(bug, set{"status_id": 2})
	s.update(bug, set{"status_id": 4, "notes": "waits for an answer"})
	s.update(gone, set{"status_id": 2})
	second()
	s.update(bug, set{"notes": "only a comment"})
	s.update(bug, set{"status_id": 5, "assigned_to_id": ""})

	record := &recorder{}
	made, err := New(connector.Spec{
		URL: s.url, Projects: driven, Titles: true, Transport: record, Token: func() (string, error) { return s.key, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	steps, known := map[string][]string{}, map[string]bool{}
	note := func(c flow.Change) {
		if known[c.ID] {
			return
		}
		known[c.ID] = true
		for _, f := range c.Fields {
			steps[c.Item] = append(steps[c.Item], strings.ToLower(f.Field.String())+" "+f.From.Text()+" > "+f.To.Text())
		}
	}
	cursor := poll(t, made, nil, note)

	second()
	s.update(bug, set{"status_id": 2})
	s.update(story, set{"status_id": 2, "tracker_id": 1, "subject": "a bug after all", "parent_issue_id": bug})
	s.update(story, set{"project_id": "elsewhere", "parent_issue_id": ""})
	s.do(http.MethodDelete, "/issues/"+gone+".json", nil, nil)
	second()
	s.update(bug, set{"status_id": 5})
	poll(t, made, cursor, note)

	var live []string
	if err := made.(connector.Censor).Census(t.Context(), func(i connector.Item) { live = append(live, i.ID+" "+i.Container+" "+i.Status.Name) }); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{bug + " driven Closed", closed + " driven Closed", story + " elsewhere In Progress"}, live); d != "" {
		t.Errorf("census (-want +got):\n%s", d)
	}
	want := map[string][]string{
		bug: {
			"status  > New", "type  > Bug", "assigned  > true", "status New > In Progress", "status In Progress > Feedback",
			"status Feedback > Closed", "assigned true > false", "status Closed > In Progress", "status In Progress > Closed",
		},
		story: {
			"status  > New", "type  > Feature", "type Feature > Bug", "status New > In Progress", "parent  > " + bug,
			"container driven > elsewhere", "parent " + bug + " > ",
		},
		gone:   {"status  > New", "type  > Bug", "status New > In Progress"},
		closed: {"status  > Closed", "type  > Bug"},
	}
	if d := cmp.Diff(want, steps); d != "" {
		t.Errorf("steps (-want +got):\n%s", d)
	}
	if *update {
		if err := os.WriteFile(recordedFile, record.lines.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}
