package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func TestGuessState(t *testing.T) {
	for _, c := range []struct{ name, category, want string }{
		{"In Review", "indeterminate", "waiting"},
		{"Code review", "", "waiting"},
		{"Waiting for customer", "indeterminate", "waiting"},
		{"Awaiting deployment", "", "waiting"},
		{"Blocked", "new", "waiting"},
		{"ON HOLD", "undefined", "waiting"},
		{"Holding", "", ""},
		{"Ready for release", "", "waiting"},
		{"Ready for development", "indeterminate", "waiting"},
		{"Deploy queue", "", "waiting"},
		{"In Progress", "indeterminate", "active"},
		{"in-progress", "", "active"},
		{"Doing", "", "active"},
		{"In Development", "", "active"},
		{"WIP", "", "active"},
		{"QA", "indeterminate", "active"},
		{"QA", "", ""},
		{"Rejected", "indeterminate", "active"}, // by a reviewer: work goes on
		{"Done", "done", "done"},
		{"Closed", "", "done"},
		{"Resolved", "", "done"},
		{"Unresolved", "", ""},
		{"Released", "done", "done"},
		{"Geschlossen", "done", "done"},
		{"Won't Do", "done", "cancelled"},
		{"Won’t fix", "", "cancelled"},
		{"Rejected", "done", "cancelled"},
		{"Cancelled", "", "cancelled"},
		{"Canceled", "done", "cancelled"},
		{"Closed as duplicate", "", "cancelled"},
		{"Declined", "done", "cancelled"},
		{"Invalid", "done", "cancelled"},
		{"Review finished", "done", "done"},
		{"Backlog", "", "new"},
		{"Open", "", "new"},
		{"Reopened", "", ""},
		{"To Do", "new", "new"},
		{"ToDo", "", "new"},
		{"New", "", "new"},
		{"Newsletter", "", ""},
		{"Triage", "", "new"},
		{"Not started", "", "new"},
		{"Selected", "new", "new"},
		{"Parking", "", ""},
		{"", "", ""},
	} {
		got := ""
		if s, ok := guessState(c.name, c.category); ok {
			got = s.String()
		}
		if got != c.want {
			t.Errorf("status %q of category %q is guessed as %q, want %q", c.name, c.category, got, c.want)
		}
	}
}

func TestGuessType(t *testing.T) {
	for name, want := range map[string]string{
		"Bug": "defect", "Production Incident": "defect", "Defects": "defect", "User Story": "feature", "New Feature": "feature", "Enhancement": "feature",
		"Risk": "risk", "Security": "risk", "Vulnerability": "risk", "Compliance": "risk", "Tech Debt": "debt", "Refactoring": "debt", "Chore": "debt",
		"Maintenance": "debt", "Epic": "ignored", "Sub-task": "ignored", "Subtask": "ignored", "Task": "", "Spike": "", "History": "",
	} {
		got := ""
		if typ, ok := guessType(name); ok {
			got = typ.String()
		}
		if got != want {
			t.Errorf("type %q is guessed as %q, want %q", name, got, want)
		}
	}
}

func TestGuessLabel(t *testing.T) {
	for label, want := range map[string]string{
		"bug": "type label defect", "kind/bug": "type label defect", "type: security": "type label risk", "new feature": "type label feature",
		"enhancement": "type label feature", "tech-debt": "type label debt", "type/question": "", "kind/wip": "",
		"blocked": "state label waiting", "status: in progress": "state label active", "status/on-hold": "state label waiting", "needs review": "state label waiting",
		"wontfix": "state label cancelled", "duplicate": "state label cancelled", "invalid": "state label cancelled", "triage": "state label new",
		"state: new": "state label new", "status: bug": "", "open": "state label new", "open source": "", "new api": "", "to do": "state label new",
		"done": "state label done", "definition of done": "", "blocker": "", "good first issue": "", "help wanted": "", "question": "", "documentation": "",
		"tooling of the code review team": "", "priority: high": "", "": "",
	} {
		kind, state, typ := guessLabel(label)
		got := kind
		switch kind {
		case kindLabelState:
			got += " " + state.String()
		case kindLabelType:
			got += " " + typ.String()
		}
		if got != want {
			t.Errorf("label %q is guessed as %q, want %q", label, got, want)
		}
	}
}

const labelFile = `sources:
  - {name: gh, type: github, repos: [acme/api, acme/web]}
workflows:
  - name: labels
SECTIONS
value_streams:
  - name: api
    include: [{source: gh, containers: [acme/api], labels: [team-a, team-b]}]
`

func parse(t rapid.TB, sections string) *config.Config {
	t.Helper()
	text := strings.Replace(labelFile, "SECTIONS", strings.TrimSuffix(sections, "\n"), 1)
	c, err := config.Parse("flow.yaml", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

// labelled are issues of a repository without a board.
var labelled = []connector.Item{
	{Container: "acme/api", Labels: []string{"team-a", "in progress", "blocked", "Bug"}},
	{Container: "acme/api", Labels: []string{"team-a", "on hold", "java"}, Type: flow.Value{ID: "7", Name: "Feature"}},
	{Container: "acme/api", Labels: []string{"team-b", "on hold", "enhancement", "p1"}},
	{Container: "acme/api", Labels: []string{"team-b", "wontfix"}, Type: flow.Value{ID: "8", Name: "Task"}},
	{Container: "acme/api", Labels: []string{"team-b", "java tools", "enhancement"}, Type: flow.Value{ID: "8", Name: "Task"}}, // has a type by its label
	{Container: "acme/api", Labels: []string{"blocked", "waiting"}},                                                           // in no value stream
	{Container: "acme/web", Labels: []string{"team-a", "waiting", "incident"}},                                                // likewise
}

func surveyLabels(c *config.Config) mapped {
	w := c.Policy().ValueStreams[0].Workflow
	t := newTally(w, c.Policy(), "gh", nil, []flow.Value{{ID: "7", Name: "Feature"}})
	for i := range labelled {
		t.add(&labelled[i])
	}
	return t.result(true)
}

// TestLabels finds the labels that no rule maps and pastes what is suggested.
func TestLabels(t *testing.T) {
	c := parse(t, "    labels:\n      - {label: in progress, state: active}\n    types:\n      debt: [\"label:java tools\"]")
	m := surveyLabels(c)
	var got []string
	for i := range m.Unmapped {
		got = append(got, strings.Join(m.Unmapped[i].cells(), "|"))
	}
	want := []string{
		"state label|on hold|changes nothing|2 items|guess: waiting",
		"state label|blocked|changes nothing|1 item|guess: waiting",
		"state label|wontfix|changes nothing|1 item|guess: cancelled",
		"type|(none)|unclassified|2 items|",
		"type|Feature (id:7)|unclassified|1 item|guess: feature",
		"type|Task (id:8)|unclassified|1 item|",
		"type label|Bug|changes nothing|1 item|guess: defect",
		"type label|enhancement|changes nothing|1 item|guess: feature",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	if m.OtherLabels != 2 { // java and p1: those of the include are known
		t.Errorf("%d other labels", m.OtherLabels)
	}
	s, ok := suggest(m.workflow, m.Unmapped, true)
	sections := `    labels:
      - {label: wontfix, state: cancelled} # a guess, 1 item
      - {label: on hold, state: waiting} # a guess, 2 items
      - {label: blocked, state: waiting} # a guess, 1 item
      - {label: in progress, state: active}
    types:
      feature:
        - Feature # a guess, 1 item
        - 'label:enhancement' # a guess, 1 item
      defect:
        - 'label:Bug' # a guess, 1 item
      debt: ['label:java tools']
    start_signals: [assigned, pull_request] # a guess
`
	if diff := cmp.Diff(sections, s.Sections); diff != "" || !ok {
		t.Errorf("suggested (-want +got):\n%s", diff)
	}
	again := parse(t, s.Sections)
	if !startsWork(again.Policy().ValueStreams[0].Workflow) {
		t.Error("nothing starts work with the suggested signals")
	}
	for _, u := range surveyLabels(again).Unmapped {
		if u.Guess != "" || u.Kind == kindLabelState {
			t.Errorf("still without a rule: %+v", u)
		}
	}
}

// TestSuggestedIsValid pastes the suggestions for all sorts of names: the file is
// valid, keeps its rules, and every guess is a rule then.
func TestSuggestedIsValid(t *testing.T) {
	before := parse(t, "    statuses: {new: [Open, 'id:1'], done: [Fertig]}\n    labels: [{label: doing, state: active}]\n    types: {defect: [Bug, 'label:x']}")
	w := before.Policy().ValueStreams[0].Workflow
	name := rapid.OneOf(
		rapid.SampledFrom([]string{"Review", "Done", "id:5", "label:bug", "no", "it's", "a # b", "{x", " Review ", "Re\nview", "Closed\x1b[2J", "bug", "Story", "wip", ""}),
		rapid.String(),
	)
	rapid.Check(t, func(t *rapid.T) {
		var found []unmapped
		for _, u := range rapid.SliceOfN(rapid.Custom(func(t *rapid.T) unmapped {
			u := unmapped{
				Kind: rapid.SampledFrom([]string{kindStatus, kindLabelState, kindType, kindLabelType}).Draw(t, "kind"),
				Name: name.Draw(t, "name"), Category: rapid.SampledFrom([]string{"", "done", "x\ny: z"}).Draw(t, "category"),
			}
			if u.Kind == kindStatus || u.Kind == kindType {
				u.ID = rapid.SampledFrom([]string{"", "7", "8"}).Draw(t, "id")
			}
			if rapid.Bool().Draw(t, "counted") {
				u.Items = new(3)
			}
			words := []string{"", "waiting", "done", "cancelled"}
			if u.Kind == kindType || u.Kind == kindLabelType {
				words = []string{"", "risk", "ignored"}
			}
			u.Guess = rapid.SampledFrom(words).Draw(t, "guess")
			return u
		}), 0, 8).Draw(t, "found") {
			v := flow.Value{ID: u.ID, Name: u.Name}
			_, known := w.StateOf(v)
			switch u.Kind {
			case kindType:
				known = w.TypeOf(v, nil) != flow.Unclassified
			case kindLabelType:
				known = w.TypeOf(flow.Value{}, []string{u.Name}) != flow.Unclassified
			case kindLabelState:
				known = u.Name == "doing"
			}
			if !known { // which a survey would not find
				found = append(found, u)
			}
		}
		s, ok := suggest(w, found, true)
		if !ok {
			t.Fatal("nothing is suggested")
		}
		after := parse(t, s.Sections).Policy().ValueStreams[0].Workflow
		if strings.Contains(s.Sections, "statuses:") {
			for text, state := range w.StatusByName {
				if after.StatusByName[text] != state {
					t.Errorf("the rule of %q is lost", text)
				}
			}
		}
		for _, u := range found {
			if len(rulesOf(&u)) == 0 || u.Guess == "" {
				continue
			}
			v := flow.Value{ID: u.ID, Name: u.Name}
			mapped := false
			switch u.Kind {
			case kindStatus:
				_, mapped = after.StateOf(v)
			case kindLabelState:
				for _, r := range after.Labels {
					mapped = mapped || r.Label == u.Name
				}
			case kindType:
				mapped = after.TypeOf(v, nil) != flow.Unclassified
			case kindLabelType:
				mapped = after.TypeOf(flow.Value{}, []string{u.Name}) != flow.Unclassified
			}
			if !mapped {
				t.Errorf("%+v has no rule in\n%s", u, s.Sections)
			}
		}
	})
}

// TestNothingToGuess sees that a status that items are in is named, whether or not
// something can be guessed of it.
func TestNothingToGuess(t *testing.T) {
	w := parse(t, "    statuses: {new: [Open]}").Policy().ValueStreams[0].Workflow
	s, ok := suggest(w, []unmapped{
		{Kind: kindStatus, ID: "o2", Name: "Shipping", Items: new(3)}, {Kind: kindStatus, Name: "Unused", Items: new(0)},
		{Kind: kindStatus, Name: "Counts", Meaning: "active", Items: new(2)},
	}, false)
	if want := "    # no guess for the status Shipping (id:o2), 3 items: it belongs to a state of statuses\n"; !ok || s.Sections != want {
		t.Errorf("suggested %v\n%s\nwant\n%s", ok, s.Sections, want)
	}
}
