package jira

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func value(id, name string) flow.Value { return flow.Value{ID: id, Name: name} }

func field(f flow.Field, from, to flow.Value) flow.FieldChange {
	return flow.FieldChange{Field: f, From: from, To: to}
}

// TestBirth looks at what an issue was like when it was created.
func TestBirth(t *testing.T) {
	categories := map[string]string{"10": "new", "20": "indeterminate"}
	for name, c := range map[string]struct {
		issue string
		want  []flow.FieldChange
	}{
		"never changed": {
			`{"fields":{"status":{"id":"10","name":"To Do","statusCategory":{"key":"new"}},"issuetype":{"id":"1","name":"Story"},
			  "resolution":{"id":"5","name":"Done"},"labels":["a","b"],"parent":{"id":"99"}}}`,
			[]flow.FieldChange{
				field(flow.FieldStatus, flow.Value{}, flow.Value{ID: "10", Name: "To Do", Category: "new"}),
				field(flow.FieldType, flow.Value{}, value("1", "Story")),
				field(flow.FieldResolution, flow.Value{}, value("5", "Done")),
				field(flow.FieldLabel, flow.Value{}, value("", "a")),
				field(flow.FieldLabel, flow.Value{}, value("", "b")),
				field(flow.FieldParent, flow.Value{}, value("99", "")),
			},
		},
		"everything changed, newest first": {
			`{"fields":{"status":{"id":"30","name":"Done","statusCategory":{"key":"done"}},"issuetype":{"id":"1","name":"Story"},
			  "resolution":{"id":"5","name":"Done"},"labels":["a","b"],"parent":{"id":"99"}},
			  "changelog":{"histories":[
			   {"id":"2","created":"2026-03-02T00:00:00Z","items":[{"field":"status","from":"20","fromString":"Doing","to":"30","toString":"Done"},
			    {"field":"labels","fromString":"a","toString":"a b"},{"field":"resolution","from":null,"to":"5","toString":"Done"}]},
			   {"id":"1","created":"2026-03-01T00:00:00Z","items":[{"field":"status","from":"10","fromString":"Backlog","to":"20","toString":"Doing"},
			    {"field":"issuetype","from":"2","fromString":"Bug","to":"1","toString":"Story"},
			    {"field":"Parent","from":"98","fromString":"A-98","to":"99","toString":"A-99"},
			    {"field":"labels","fromString":"old","toString":"a"}]}]}}`,
			[]flow.FieldChange{
				field(flow.FieldStatus, flow.Value{}, flow.Value{ID: "10", Name: "Backlog", Category: "new"}),
				field(flow.FieldType, flow.Value{}, value("2", "Bug")),
				field(flow.FieldLabel, flow.Value{}, value("", "old")),
				field(flow.FieldParent, flow.Value{}, value("98", "")),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			is := decodeIssue(t, c.issue)
			tr := translator{categories: categories}
			var histories []history
			if is.Changelog != nil {
				histories = is.Changelog.Histories
			}
			if diff := cmp.Diff(c.want, tr.changes(is, histories)[0].Fields); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func decodeIssue(t *testing.T, text string) *issue {
	t.Helper()
	is := new(issue)
	if err := json.Unmarshal([]byte(text), is); err != nil {
		t.Fatal(err)
	}
	return is
}

// TestFields translates single items of histories.
func TestFields(t *testing.T) {
	tr := translator{categories: map[string]string{"10": "new"}}
	is := decodeIssue(t, `{"id":"1","key":"A-1","fields":{"status":{"id":"20","name":"Jetzt","statusCategory":{"key":"indeterminate"}}}}`)
	for name, c := range map[string]struct {
		items string
		want  []flow.FieldChange
	}{
		"status, categories of now": {
			`[{"field":"Zustand","fieldId":"status","from":"10","fromString":"Neu","to":"20","toString":"Läuft"}]`,
			[]flow.FieldChange{field(flow.FieldStatus, flow.Value{ID: "10", Name: "Neu", Category: "new"}, flow.Value{ID: "20", Name: "Läuft", Category: "indeterminate"})},
		},
		"status that is not listed any more": {
			`[{"field":"status","from":"77","fromString":"Old","to":"10","toString":"New"}]`,
			[]flow.FieldChange{field(flow.FieldStatus, value("77", "Old"), flow.Value{ID: "10", Name: "New", Category: "new"})},
		},
		"type without an id of the field": {
			`[{"field":"Issue Type","from":"1","fromString":"Bug","to":"2","toString":"Story"}]`,
			[]flow.FieldChange{field(flow.FieldType, value("1", "Bug"), value("2", "Story"))},
		},
		"resolution cleared": {
			`[{"field":"resolution","fieldId":"resolution","from":"1","fromString":"Done","to":null,"toString":null}]`,
			[]flow.FieldChange{field(flow.FieldResolution, value("1", "Done"), flow.Value{})},
		},
		"labels": {
			`[{"field":"labels","fieldId":"labels","from":"","fromString":"a b  c","to":"","toString":"c d a"}]`,
			[]flow.FieldChange{field(flow.FieldLabel, value("", "b"), flow.Value{}), field(flow.FieldLabel, flow.Value{}, value("", "d"))},
		},
		"labels sorted anew": {`[{"field":"labels","fieldId":"labels","fromString":"a b","toString":"b a"}]`, nil},
		"assignee, never who": {
			`[{"field":"assignee","fieldId":"assignee","from":"user-1","fromString":"One","to":"user-2","toString":"Two"}]`,
			[]flow.FieldChange{field(flow.FieldAssigned, value("", "true"), value("", "true"))},
		},
		"unassigned": {
			`[{"field":"assignee","fieldId":"assignee","from":"user-1","fromString":"One","to":null,"toString":null}]`,
			[]flow.FieldChange{field(flow.FieldAssigned, value("", "true"), value("", "false"))},
		},
		"an epic told twice": {
			`[{"field":"Epic Link","fieldId":"customfield_10014","from":null,"to":"9","toString":"A-9"},
			  {"field":"IssueParentAssociation","from":null,"to":"9","toString":"A-9"}]`,
			[]flow.FieldChange{field(flow.FieldParent, flow.Value{}, value("9", ""))},
		},
		"together": {
			`[{"field":"status","fieldId":"status","from":"10","fromString":"Neu","to":"20","toString":"Läuft"},{"field":"Workflow","from":"1","to":"2"},
			  {"field":"resolution","fieldId":"resolution","to":"1","toString":"Won't Do"}]`,
			[]flow.FieldChange{
				field(flow.FieldStatus, flow.Value{ID: "10", Name: "Neu", Category: "new"}, flow.Value{ID: "20", Name: "Läuft", Category: "indeterminate"}),
				field(flow.FieldResolution, flow.Value{}, value("1", "Won't Do")),
			},
		},
		"nothing that matters": {`[{"field":"Flagged","fieldId":"customfield_1","from":"","to":"[1]","toString":"Impediment"}]`, nil},
		"nothing at all":       {`[]`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var h history
			if err := json.Unmarshal([]byte(`{"id":"55","created":"2026-03-01T00:00:00.000+0000","items":`+c.items+`}`), &h); err != nil {
				t.Fatal(err)
			}
			changes := tr.changes(is, []history{h})
			got := changes[1]
			if diff := cmp.Diff(c.want, got.Fields); diff != "" {
				t.Error(diff)
			}
			if len(changes) != 2 || got.ID != "55" || got.Sequence != 55 || got.Kind != flow.Updated || got.Item != "1" {
				t.Errorf("change %+v", got)
			}
			text, err := json.Marshal(changes)
			if err != nil || strings.Contains(string(text), "user-") || strings.Contains(string(text), "Two") {
				t.Errorf("a person in %s", text)
			}
		})
	}
}

// TestMoves follows an issue through projects and keys.
func TestMoves(t *testing.T) {
	type place struct {
		Container, Key, URL string
		Moved               []flow.FieldChange
	}
	moved := func(from, to string) []flow.FieldChange {
		return []flow.FieldChange{field(flow.FieldContainer, value("", from), value("", to))}
	}
	const head = `{"id":"1","key":"C-9","fields":{"project":{"id":"3","key":"C"}},"changelog":{"histories":[`
	const noise = `{"id":"%","created":"2026-03-0%T00:00:00Z","items":[{"field":"Rank"}]}`
	between := func(n string) string { return strings.ReplaceAll(noise, "%", n) }
	keyed := `{"field":"project","from":"1","fromString":"Anna","to":"2","toString":"Bert"},{"field":"Key","fromString":"A-1","toString":"B-5"}`
	for name, c := range map[string]struct {
		histories []string
		want      []place
	}{
		"twice": {
			[]string{between("1"), `{"id":"2","created":"2026-03-02T00:00:00Z","items":[` + keyed + `]}`, between("3"),
				`{"id":"4","created":"2026-03-04T00:00:00Z","items":[{"field":"Key","fieldId":"issuekey","fromString":"B-5","toString":"C-9"},{"field":"project","from":"2","to":"3"}]}`, between("5")},
			[]place{{"A", "A-1", siteAddress + "/browse/A-1", nil}, {"A", "A-1", "", nil}, {"A", "B-5", siteAddress + "/browse/B-5", moved("A", "B")},
				{"B", "B-5", "", nil}, {"B", "C-9", siteAddress + "/browse/C-9", moved("B", "C")}, {"C", "C-9", "", nil}},
		},
		"without keys, project listed": {
			[]string{between("1"), `{"id":"4","created":"2026-03-04T00:00:00Z","items":[{"field":"project","from":"2","fromString":"Bert","to":"3"}]}`},
			[]place{{"B", "", "", nil}, {"B", "", "", nil}, {"B", "C-9", siteAddress + "/browse/C-9", moved("B", "C")}},
		},
		"without keys, project unknown": {
			[]string{`{"id":"4","created":"2026-03-04T00:00:00Z","items":[{"field":"project","from":"8","fromString":"Gone","to":"3"}]}`},
			[]place{{"Gone", "", "", nil}, {"Gone", "C-9", siteAddress + "/browse/C-9", moved("Gone", "C")}},
		},
		"new key in the same project": {
			[]string{`{"id":"4","created":"2026-03-04T00:00:00Z","items":[{"field":"Key","fromString":"C-1","toString":"C-9"}]}`},
			[]place{{"C", "C-1", siteAddress + "/browse/C-1", nil}, {"C", "C-9", siteAddress + "/browse/C-9", nil}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			is := decodeIssue(t, head+strings.Join(c.histories, ",")+`]}}`)
			tr := translator{site: siteAddress, projects: map[text]string{"2": "B"}}
			var got []place
			for _, c := range tr.changes(is, is.Changelog.Histories) {
				got = append(got, place{c.Container, c.Key, c.URL, c.Fields})
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestTitles keeps them as they were at the time, or not at all.
func TestTitles(t *testing.T) {
	f := world(NewFake(FakeOptions{}))
	for _, keep := range []bool{true, false} {
		changes, _ := drain(t, newSource(t, f, func(c *Config) { c.Titles = keep }), nil)
		titles := map[string]string{}
		for _, c := range changes {
			if c.Title != "" {
				titles[c.ID] = c.Title
			}
		}
		switch {
		case !keep && len(titles) > 0:
			t.Errorf("titles that nobody wants: %v", titles)
		case keep && (titles["10004:created"] != "Card payments" || titles["10010:created"] != "Refund twice" || titles["10013"] != "Refund three times"):
			t.Errorf("titles %v", titles)
		}
	}
}
