package sim

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/github"
	"github.com/flowmetrics/flowmetrics/internal/connector/jira"
	"github.com/flowmetrics/flowmetrics/internal/flow"
	diff "github.com/google/go-cmp/cmp"
)

// TestConnectors checks that the connectors read of the world what the tests here
// read of it by themselves.
func TestConnectors(t *testing.T) {
	w, fake := newWorld(1)
	w.Advance(start.Add(10 * time.Minute))
	gitHubSite, jiraSite := httptest.NewServer(fake.github), httptest.NewServer(fake.jira)
	defer gitHubSite.Close()
	defer jiraSite.Close()
	g, err := github.New(github.Config{
		Name: "github-demo", URL: gitHubSite.URL + "/api/v3", Repos: []string{mainRepo, sideRepo}, Project: connector.Project{Owner: owner, Number: board},
		Token: func() (string, error) { return "token", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	j, err := jira.New(jira.Config{URL: jiraSite.URL, Projects: []string{"PAY", "PLAT"}})
	if err != nil {
		t.Fatal(err)
	}
	compare := func(name string, source connector.Source, want []flow.Change, fields ...flow.Field) {
		t.Helper()
		var got []flow.Change
		err := source.Poll(t.Context(), nil, func(b connector.Batch) error {
			got = append(got, b.Changes...)
			if len(b.Rejected) > 0 {
				t.Errorf("%s: rejected %v", name, b.Rejected)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("poll %s: %v", name, err)
		}
		if d := diff.Diff(facts(want, fields), facts(got, fields)); d != "" {
			t.Errorf("%s (-by the tests +by the connector):\n%.4000s", name, d)
		}
	}
	compare("GitHub", g, readGitHub(t, fake.github), flow.FieldStatus, flow.FieldState, flow.FieldType, flow.FieldLabel,
		flow.FieldContainer, flow.FieldAssigned, flow.FieldPullRequest)
	compare("Jira", j, readJira(t, fake.jira), flow.FieldStatus, flow.FieldType, flow.FieldContainer)
}

// facts returns what changes say of some fields, a line for each, sorted.
func facts(changes []flow.Change, fields []flow.Field) []string {
	var lines []string
	for _, c := range changes {
		for _, f := range c.Fields {
			if !slices.Contains(fields, f.Field) {
				continue
			}
			reason := ""
			if f.Field == flow.FieldState {
				reason = f.To.Category
			}
			lines = append(lines, fmt.Sprintf("%s %s %s %s %q %s", c.Item, c.At.UTC().Format(time.RFC3339Nano), c.Kind, f.Field, f.To.Name, reason))
		}
	}
	slices.Sort(lines)
	return lines
}
