package github

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const testIssue = `{"id":501,"node_id":"I_5","number":7,"title":"Now","state":"open","html_url":"https://github.com/acme/api/issues/7",
	"created_at":"2026-03-01T09:00:00Z","updated_at":"2026-03-09T09:00:00Z","closed_at":null,"user":{"login":"octo-person"},
	"labels":[{"id":31,"name":"bug"}],"repository_url":"https://api.github.com/repos/acme/api"}`

// changesOf translates an issue and its timeline.
func changesOf(t testing.TB, tr translator, is string, timeline ...string) ([]flow.Change, []refusal) {
	t.Helper()
	var one issue
	if err := json.Unmarshal([]byte(is), &one); err != nil {
		t.Fatal(err)
	}
	one.Repository = "acme/api"
	var p events
	if err := p.decode([]byte("[" + strings.Join(timeline, ",") + "]")); err != nil {
		t.Fatal(err)
	}
	return tr.changes(&one, p.entries), p.refused
}

// show writes a change on one line, without what is the same in all of them.
func show(c *flow.Change) string {
	text := fmt.Sprintf("%s %s %d", c.ID, c.At.Format("02T15:04:05"), c.Sequence)
	value := func(v flow.Value) string { return strings.Trim(v.ID+"/"+v.Name+"/"+v.Category, "/") }
	for _, f := range c.Fields {
		text += fmt.Sprintf(" %v %s>%s", f.Field, value(f.From), value(f.To))
	}
	if c.Title != "" {
		text += " " + c.Title
	}
	if c.Approximate {
		text += " ~"
	}
	return text
}

func TestTranslate(t *testing.T) {
	with := func(part string) string { return strings.Replace(testIssue, `{"id":501`, `{`+part+`,"id":501`, 1) }
	closed := strings.NewReplacer(`"state":"open"`, `"state":"closed","state_reason":"not_planned"`, `"closed_at":null`, `"closed_at":"2026-03-08T10:00:00Z"`).Replace(testIssue)
	for _, tt := range []struct {
		name   string
		tr     translator
		issue  string
		events []string
		want   []string // without the birth where it is nothing special
		born   string
	}{
		{name: "nothing", issue: testIssue},
		{name: "title", tr: translator{titles: true}, issue: testIssue, born: "501:created 01T09:00:00 0 STATE >open Now"},
		{
			name: "closed for each reason", issue: testIssue,
			events: []string{
				`{"id":1,"event":"closed","created_at":"2026-03-02T09:00:00Z","state_reason":"completed","actor":{"login":"octo-person"}}`,
				`{"id":2,"event":"reopened","created_at":"2026-03-03T09:00:00Z","state_reason":"reopened"}`,
				`{"id":3,"event":"closed","created_at":"2026-03-04T09:00:00Z","state_reason":"not_planned"}`,
				`{"id":4,"event":"reopened","created_at":"2026-03-05T09:00:00Z"}`,
				`{"id":5,"event":"closed","created_at":"2026-03-06T09:00:00Z","state_reason":"duplicate"}`,
				`{"id":6,"event":"reopened","created_at":"2026-03-07T09:00:00Z"}`,
				`{"id":7,"event":"closed","created_at":"2026-03-08T09:00:00Z","state_reason":null,"commit_id":"abc"}`,
				`{"id":8,"event":"reopened","created_at":"2026-03-09T09:00:00Z"}`,
			},
			want: []string{
				"501:1 02T09:00:00 1 STATE open>closed/completed", "501:2 03T09:00:00 2 STATE closed>open",
				"501:3 04T09:00:00 3 STATE open>closed/not_planned", "501:4 05T09:00:00 4 STATE closed>open",
				"501:5 06T09:00:00 5 STATE open>closed/duplicate", "501:6 07T09:00:00 6 STATE closed>open",
				"501:7 08T09:00:00 7 STATE open>closed", "501:8 09T09:00:00 8 STATE closed>open",
			},
		},
		{
			name: "an old event does not tell the reason, the issue does", issue: closed,
			events: []string{
				`{"id":1,"event":"closed","created_at":"2026-03-02T09:00:00Z"}`,
				`{"id":2,"event":"reopened","created_at":"2026-03-03T09:00:00Z"}`,
				`{"id":3,"event":"closed","created_at":"2026-03-08T10:00:00Z"}`,
			},
			want: []string{
				"501:1 02T09:00:00 1 STATE open>closed", "501:2 03T09:00:00 2 STATE closed>open",
				"501:3 08T10:00:00 3 STATE open>closed/not_planned",
			},
		},
		{
			name: "the reason is that of another closing", issue: closed,
			events: []string{`{"id":1,"event":"closed","created_at":"2026-03-08T09:59:58Z"}`},
			want:   []string{"501:1 08T09:59:58 1 STATE open>closed"},
		},
		{
			name: "the reason is not that of a conversion", issue: closed,
			events: []string{
				`{"id":1,"event":"closed","created_at":"2026-03-08T10:00:00Z"}`,
				`{"id":2,"event":"converted_to_discussion","created_at":"2026-03-08T10:00:05Z"}`,
			},
			want: []string{"501:1 08T10:00:00 1 STATE open>closed", "501:2 08T10:00:05 2 STATE closed>closed/not_planned"},
		},
		{
			name: "a closing whose reason is not known yet", issue: testIssue,
			events: []string{
				`{"id":1,"event":"renamed","created_at":"2026-03-09T09:00:01Z","rename":{"from":"Old","to":"Now"}}`,
				`{"id":2,"event":"closed","created_at":"2026-03-09T09:00:02Z"}`,
				`{"id":3,"event":"reopened","created_at":"2026-03-09T09:00:03Z"}`,
			},
			want: []string{"501:1 09T09:00:01 1"},
		},
		{
			name: "reopened since the issue was listed, in the second of its closing", issue: closed,
			events: []string{
				`{"id":1,"event":"closed","created_at":"2026-03-08T10:00:00Z","state_reason":"completed"}`,
				`{"id":2,"event":"reopened","created_at":"2026-03-08T10:00:00Z"}`,
			},
			want: []string{"501:1 08T10:00:00 1 STATE open>closed/completed", "501:2 08T10:00:00 2 STATE closed>open"},
		},
		{
			name: "closed without an event", issue: closed,
			want: []string{"501:closed:1772964000 08T10:00:00 0 STATE open>closed/not_planned"},
		},
		{
			name: "closed without an event after a reopening", issue: closed,
			events: []string{
				`{"id":1,"event":"closed","created_at":"2026-03-02T09:00:00Z"}`,
				`{"id":2,"event":"reopened","created_at":"2026-03-03T09:00:00Z"}`,
			},
			want: []string{
				"501:1 02T09:00:00 1 STATE open>closed", "501:2 03T09:00:00 2 STATE closed>open",
				"501:closed:1772964000 08T10:00:00 0 STATE open>closed/not_planned",
			},
		},
		{
			name: "closed again without events", issue: closed,
			events: []string{`{"id":1,"event":"closed","created_at":"2026-03-02T09:00:00Z","state_reason":"completed"}`},
			want: []string{
				"501:1 02T09:00:00 1 STATE open>closed/completed",
				"501:closed:1772964000 08T10:00:00 0 STATE open>closed/not_planned",
			},
		},
		{
			name: "times a little apart are one closing", issue: closed,
			events: []string{`{"id":1,"event":"closed","created_at":"2026-03-08T09:59:58Z","state_reason":"completed"}`},
			want:   []string{"501:1 08T09:59:58 1 STATE open>closed/completed"},
		},
		{
			name: "the timeline is newer than the issue", issue: closed,
			events: []string{
				`{"id":1,"event":"closed","created_at":"2026-03-08T10:00:00Z","state_reason":"completed"}`,
				`{"id":2,"event":"reopened","created_at":"2026-03-09T10:00:00Z"}`,
			},
			want: []string{"501:1 08T10:00:00 1 STATE open>closed/completed", "501:2 09T10:00:00 2 STATE closed>open"},
		},
		{
			name: "closed after the issue was listed", issue: testIssue,
			events: []string{`{"id":1,"event":"closed","created_at":"2026-03-09T09:00:01Z","state_reason":"completed"}`},
			want:   []string{"501:1 09T09:00:01 1 STATE open>closed/completed"},
		},
		{
			name: "reopened without an event", issue: testIssue,
			events: []string{`{"id":1,"event":"closed","created_at":"2026-03-02T09:00:00Z","state_reason":"completed"}`},
			want: []string{
				"501:1 02T09:00:00 1 STATE open>closed/completed", "501:reopened:1772442000 09T09:00:00 0 STATE closed>open ~",
			},
		},
		{
			name: "discussion", issue: strings.Replace(testIssue, `"state":"open"`, `"state":"closed"`, 1),
			events: []string{`{"id":1,"event":"converted_to_discussion","created_at":"2026-03-02T09:00:00Z"}`},
			want:   []string{"501:1 02T09:00:00 1 STATE open>closed/not_planned"},
		},
		{
			name: "labels", issue: testIssue,
			events: []string{
				`{"id":1,"event":"labeled","created_at":"2026-03-02T09:00:00Z","label":{"name":"bug","color":"f00"}}`,
				`{"id":2,"event":"unlabeled","created_at":"2026-03-02T09:00:00Z","label":{"id":31,"name":"bug"}}`,
				`{"id":3,"event":"labeled","created_at":"2026-03-02T09:00:00Z","label":"plain"}`,
				`{"id":4,"event":"labeled","created_at":"2026-03-02T09:00:00Z"}`,
			},
			want: []string{"501:1 02T09:00:00 1 LABEL >bug", "501:2 02T09:00:00 2 LABEL 31/bug>", "501:3 02T09:00:00 3 LABEL >plain"},
		},
		{
			name: "assignments", issue: testIssue,
			events: []string{
				`{"id":1,"event":"assigned","created_at":"2026-03-02T09:00:00Z","assignee":{"id":11,"login":"octo-person"}}`,
				`{"id":2,"event":"assigned","created_at":"2026-03-02T09:00:00Z","assignee":{"id":12,"login":"other-person"}}`,
				`{"id":3,"event":"assigned","created_at":"2026-03-02T09:00:01Z","assignee":{"id":12,"login":"other-person"}}`,
				`{"id":4,"event":"unassigned","created_at":"2026-03-03T09:00:00Z","assignee":{"id":11,"login":"octo-person"}}`,
				`{"id":5,"event":"unassigned","created_at":"2026-03-03T09:00:00Z","assignee":{"id":12,"login":"other-person"}}`,
				`{"id":6,"event":"unassigned","created_at":"2026-03-03T09:00:00Z","assignee":{"id":13,"login":"nobody"}}`,
				`{"id":7,"event":"assigned","created_at":"2026-03-04T09:00:00Z","assignee":null}`,
			},
			want: []string{
				"501:1 02T09:00:00 1 ASSIGNED false>true", "501:2 02T09:00:00 2 ASSIGNED true>true", "501:3 02T09:00:01 3 ASSIGNED true>true",
				"501:4 03T09:00:00 4 ASSIGNED true>true", "501:5 03T09:00:00 5 ASSIGNED true>false", "501:6 03T09:00:00 6 ASSIGNED false>false",
				"501:7 04T09:00:00 7 ASSIGNED false>true",
			},
		},
		{
			name: "types", issue: with(`"type":{"id":23,"name":"Task"}`),
			events: []string{
				`{"id":1,"event":"issue_type_changed","created_at":"2026-03-02T09:00:00Z","issue_type":{"id":22,"name":"Bug"},"prev_issue_type":{"id":21,"name":"Feature"}}`,
				`{"id":2,"event":"issue_type_removed","created_at":"2026-03-03T09:00:00Z","prev_issue_type":{"id":22,"name":"Bug"}}`,
				`{"id":3,"event":"issue_type_added","created_at":"2026-03-04T09:00:00Z","issue_type":{"id":23,"name":"Task"}}`,
			},
			born: "501:created 01T09:00:00 0 STATE >open TYPE >21/Feature",
			want: []string{
				"501:1 02T09:00:00 1 TYPE 21/Feature>22/Bug", "501:2 03T09:00:00 2 TYPE 22/Bug>", "501:3 04T09:00:00 3 TYPE >23/Task",
			},
		},
		{
			name: "type from the beginning", issue: with(`"type":{"id":23,"name":"Task"}`),
			born: "501:created 01T09:00:00 0 STATE >open TYPE >23/Task",
		},
		{
			name: "type added later", issue: with(`"type":{"id":23,"name":"Task"}`),
			events: []string{`{"id":3,"event":"issue_type_added","created_at":"2026-03-04T09:00:00Z","issue_type":{"id":23,"name":"Task"}}`},
			want:   []string{"501:3 04T09:00:00 3 TYPE >23/Task"},
		},
		{
			name: "parents", issue: testIssue,
			events: []string{
				`{"id":1,"event":"parent_issue_added","created_at":"2026-03-02T09:00:00Z","parent_issue":{"id":400,"number":3,"repository":{"full_name":"acme/web"}}}`,
				`{"id":2,"event":"parent_issue_removed","created_at":"2026-03-03T09:00:00Z","parent_issue":{"number":3,"repository":{"full_name":"acme/web"}}}`,
				`{"id":3,"event":"sub_issue_added","created_at":"2026-03-04T09:00:00Z","sub_issue":{"id":401,"number":4}}`,
				`{"id":4,"event":"parent_issue_added","created_at":"2026-03-04T09:00:00Z","parent_issue":null}`,
			},
			want: []string{"501:1 02T09:00:00 1 PARENT >400/acme/web#3", "501:2 03T09:00:00 2 PARENT acme/web#3>"},
		},
		{
			name: "titles", tr: translator{titles: true}, issue: testIssue,
			events: []string{
				`{"id":1,"event":"renamed","created_at":"2026-03-02T09:00:00Z","rename":{"from":"First","to":"Second\nline"}}`,
				`{"id":2,"event":"renamed","created_at":"2026-03-03T09:00:00Z","rename":{"from":"Second\nline","to":"Now"}}`,
				`{"id":3,"event":"renamed","created_at":"2026-03-03T09:00:00Z"}`,
			},
			born: "501:created 01T09:00:00 0 STATE >open First",
			want: []string{"501:1 02T09:00:00 1 Second line", "501:2 03T09:00:00 2 Now"},
		},
		{
			name: "titles are not kept", issue: testIssue,
			events: []string{`{"id":1,"event":"renamed","created_at":"2026-03-02T09:00:00Z","rename":{"from":"First","to":"Now"}}`},
			want:   []string{"501:1 02T09:00:00 1"},
		},
		{
			name: "transferred", issue: testIssue,
			events: []string{`{"id":1,"event":"transferred","created_at":"2026-03-02T09:00:00Z"}`},
			want:   []string{"501:1 02T09:00:00 1 CONTAINER >acme/api"},
		},
		{
			name: "one second is ordered by the number of the event", issue: testIssue,
			events: []string{
				`{"id":30,"event":"unlabeled","created_at":"2026-03-02T09:00:00Z","label":{"name":"bug"}}`,
				`{"id":9,"event":"labeled","created_at":"2026-03-02T09:00:00Z","label":{"name":"bug"}}`,
				`{"id":9,"event":"labeled","created_at":"2026-03-02T09:00:00Z","label":{"name":"bug"}}`,
			},
			want: []string{"501:9 02T09:00:00 9 LABEL >bug", "501:30 02T09:00:00 30 LABEL bug>"},
		},
		{
			name: "kinds that do not matter", issue: testIssue,
			events: []string{
				`{"id":1,"event":"commented","created_at":"2026-03-02T09:00:00Z","body":"text","user":{"login":"octo-person"},"author_association":"MEMBER"}`,
				`{"event":"committed","sha":"abc","node_id":"C_1","author":{"name":"A Person","date":"2026-03-02T09:00:00Z"}}`,
				`{"event":"line-commented","comments":[]}`, `{"event":"commit-commented","comments":[]}`, `{"id":5,"event":"reviewed","submitted_at":"2026-03-02T09:00:00Z"}`,
				`{"id":6,"event":"milestoned","created_at":"2026-03-02T09:00:00Z","milestone":{"title":"v1"}}`, `{"id":7,"event":"locked","created_at":"2026-03-02T09:00:00Z"}`,
				`{"id":8,"event":"event_of_tomorrow","created_at":"2026-03-02T09:00:00Z","label":{"name":"x"}}`, `{}`, `null`,
				`{"id":9,"event":"blocked_by_added","created_at":"2026-03-02T09:00:00Z","blocked_by":{"number":4}}`,
				`{"id":10,"event":"project_v2_item_status_changed","created_at":"2026-03-02T09:00:00Z"}`,
			},
		},
		{
			name: "mentions count for nothing where there is better", issue: testIssue,
			events: []string{`{"event":"cross-referenced","created_at":"2026-03-02T09:00:00Z","source":{"type":"issue","issue":{"id":900,"pull_request":{}}}}`},
		},
		{
			name: "mentions", tr: translator{pulls: true}, issue: testIssue,
			events: []string{
				`{"event":"cross-referenced","created_at":"2026-03-02T09:00:00Z","source":{"type":"issue","issue":{"id":899}}}`,
				`{"event":"cross-referenced","created_at":"2026-03-02T09:00:00Z","source":null}`,
				`{"event":"cross-referenced","created_at":"2026-03-02T09:00:00Z","source":{"type":"issue","issue":{"id":900,"created_at":"2026-03-01T10:00:00Z","pull_request":{"merged_at":null}}}}`,
				`{"event":"cross-referenced","created_at":"2026-03-02T10:00:00Z","source":{"type":"issue","issue":{"id":901,"closed_at":"2026-03-04T10:00:00Z","pull_request":{"merged_at":"2026-03-04T10:00:00Z"}}}}`,
				`{"event":"cross-referenced","created_at":"2026-03-03T10:00:00Z","source":{"type":"issue","issue":{"id":902,"created_at":"2026-03-02T10:00:00Z","closed_at":"2026-03-05T10:00:00Z","pull_request":{"merged_at":null}}}}`,
				`{"event":"cross-referenced","created_at":"2026-03-06T10:00:00Z","source":{"type":"issue","issue":{"id":900,"created_at":"2026-03-01T10:00:00Z","pull_request":{"merged_at":null}}}}`,
			},
			want: []string{
				"501:pr:900:opened 01T10:00:00 0 PULL_REQUEST >900/opened", "501:pr:901:opened 02T10:00:00 0 PULL_REQUEST >901/opened",
				"501:pr:901:merged:1772618400 04T10:00:00 0 PULL_REQUEST >901/merged", "501:pr:902:opened 02T10:00:00 0 PULL_REQUEST >902/opened",
				"501:pr:902:closed:1772704800 05T10:00:00 0 PULL_REQUEST >902/closed",
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			changes, refused := changesOf(t, tt.tr, tt.issue, tt.events...)
			if len(refused) > 0 {
				t.Errorf("refused: %v", refused)
			}
			var got []string
			for k := range changes {
				c := &changes[k]
				got = append(got, show(c))
				if c.Item != "501" || c.Key != "acme/api#7" || c.Container != "acme/api" || (c.Kind == flow.Created) != (k == 0) {
					t.Errorf("change %+v", c)
				}
				text, err := json.Marshal(c)
				if err != nil || strings.Contains(string(text), "person") {
					t.Errorf("change %s, %v", text, err)
				}
			}
			if tt.born == "" {
				tt.born = "501:created 01T09:00:00 0 STATE >open"
			}
			if diff := cmp.Diff(append([]string{tt.born}, tt.want...), got); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
			if changes[0].URL != "https://github.com/acme/api/issues/7" {
				t.Errorf("URL %q", changes[0].URL)
			}
		})
	}
}

// TestMalformed: what cannot be read is refused on its own.
func TestMalformed(t *testing.T) {
	good := `{"id":3,"event":"closed","created_at":"2026-03-02T09:00:00Z"}`
	for _, bad := range []string{
		`{"id":"x","event":"closed"}`, `{"id":1.5,"event":"closed"}`, `{"id":1,"event":7}`, `"text"`, `[1]`,
		`{"id":1,"event":"labeled","label":7}`, `{"event":"closed","created_at":"2026-03-02T09:00:00Z"}`, `{"id":1,"event":"assigned","assignee":"octo"}`, `{"id":99999999999999999999}`,
	} {
		changes, refused := changesOf(t, translator{}, testIssue, bad, good)
		if len(refused) != 1 || len(changes) != 3 && len(changes) != 2 {
			t.Errorf("%s: %d refused, %d changes", bad, len(refused), len(changes))
		}
	}
	// A time that cannot be read leaves a change that is refused for that reason.
	changes, refused := changesOf(t, translator{}, testIssue, `{"id":1,"event":"reopened","created_at":"yesterday"}`)
	changes[1].Source = "x"
	if err := changes[1].Validate(); len(refused) != 0 || err == nil {
		t.Errorf("refused %v, validation %v", refused, err)
	}
}

// TestRejectedAreReported: what is malformed in a timeline and in a list is told
// once, counted, and stops nothing.
func TestRejectedAreReported(t *testing.T) {
	s := site(t, serveTexts(map[string]string{
		"/repos/acme/api/issues":            `[{"id":"x","number":1},{"id":3},` + testIssue + `]`,
		"/repos/acme/api/issues/7/timeline": `[{"id":true},{"id":2,"event":"reopened","created_at":"2026-03-02T09:00:00Z"}]`,
	}))
	r := newRecord()
	for range 3 {
		if err := s.Poll(t.Context(), r.cursor, r.take); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.facts) != 2 || len(r.rejected) != 3 || s.Rejects()[flow.ReasonMalformed] != 3 {
		t.Errorf("%d facts, rejected %+v, counted %v", len(r.facts), r.rejected, s.Rejects())
	}
	if r.rejected[0].Subject != "github:acme/api#7" || r.rejected[1].Subject != "github:acme/api" {
		t.Errorf("rejected %+v", r.rejected)
	}
}

func FuzzTimeline(f *testing.F) {
	f.Add([]byte(`[{"id":1,"event":"closed","created_at":"2026-03-02T09:00:00Z"}]`))
	f.Add([]byte(`[{"event":"cross-referenced","source":{"issue":{"id":1,"pull_request":{}}}},null,7]`))
	f.Add([]byte(`[ {"a":"\\"event","b":{"event":"closed"},"event" : "commented"} , {"id":1} ]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var p events
		if p.decode(text) != nil {
			return
		}
		is := issue{ID: 1, Number: 1, Repository: "acme/api", State: "open", CreatedAt: stamp{time.Unix(1e9, 0)}}
		tr := translator{titles: true, pulls: true}
		ids := map[string]bool{}
		for _, c := range tr.changes(&is, p.entries) {
			if ids[c.ID] {
				t.Errorf("id %s twice", c.ID)
			}
			ids[c.ID] = true
		}
	})
}

// TestElements: telling events apart without decoding them agrees with decoding
// them.
func TestElements(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]string{"closed", "reopened", "commented", "labeled", "cross-referenced", "event", `cl"os\\ed`, "", "ä"})
		words := rapid.SampledFrom([]string{"x", `"`, `\`, `\"`, `"event":"closed"`, "{", "]", ",", "[{", "\n", "event", ""})
		var timeline []map[string]any
		for range rapid.IntRange(0, 5).Draw(t, "events") {
			e := map[string]any{"id": rapid.Int64Range(1, 99).Draw(t, "id")}
			for range rapid.IntRange(0, 3).Draw(t, "members") {
				name := words.Draw(t, "name")
				e["a"+name] = words.Draw(t, "text")
				e["z"+name] = []any{words.Draw(t, "item"), map[string]any{"event": kind.Draw(t, "inner")}}
			}
			if rapid.Bool().Draw(t, "told") {
				e["event"] = kind.Draw(t, "kind")
			}
			timeline = append(timeline, e)
		}
		text, err := json.Marshal(timeline)
		if rapid.Bool().Draw(t, "indent") {
			text, err = json.MarshalIndent(timeline, " ", "\t")
		}
		if err != nil {
			t.Fatal(err)
		}
		var all page[event]
		var some events
		if err := errors.Join(all.decode(text), some.decode(text)); err != nil {
			t.Fatal(err)
		}
		needless := func(e event) bool { return !matters(e.Event) && e.Event != mention }
		vain := slices.ContainsFunc(some.entries, func(e event) bool { return needless(e) && e.Event != "" && !strings.ContainsAny(e.Event, `"\`) })
		want := slices.DeleteFunc(all.entries, needless)
		got := slices.DeleteFunc(some.entries, needless)
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(event{}), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s\n(-decoder +scan):\n%s", text, diff)
		}
		if vain {
			t.Fatalf("%s: an event was decoded in vain", text)
		}
	})
	for _, text := range []string{"", "[", "]", "{}", "null", `[1}`, `["`, `["\`, `[]]`, `[],`, `{"a":[]`, `[{]`, `x[1]`} {
		var p page[event]
		var e events
		if (p.decode([]byte(text)) == nil) != (e.decode([]byte(text)) == nil) {
			t.Errorf("%q is taken by one and not by the other", text)
		}
	}
}
