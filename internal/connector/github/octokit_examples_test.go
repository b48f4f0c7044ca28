package github

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// fakeScript returns a delivery of each kind that a fake makes.
func fakeScript(f *Fake) []FakeDelivery {
	issue, _ := fakeWorld(f)
	pull := f.OpenPull(fakeDay(12), "acme/api", []string{issue}, nil)
	f.ClosePull(fakeDay(12), pull)
	f.RemoveFromProject(fakeDay(12), issue)
	f.Delete(fakeDay(14), f.Transfer(fakeDay(13), issue, "acme/web"))
	return append(f.Deliveries(), f.Ping())
}

// anExample is a delivery that GitHub made, with the names of the people in it.
type anExample struct {
	event, action string
	body          []byte
	payload       struct {
		Issue       struct{ Number int }
		PullRequest struct {
			Node string `json:"node_id"`
		} `json:"pull_request"`
		Repository struct {
			FullName string `json:"full_name"`
		}
		Changes struct {
			OldIssue struct{ ID int64 } `json:"old_issue"`
		}
	}
	people []string
}

// exampleRepo stands for all repositories of the examples: the owners of these
// are people.
const exampleRepo = "acme/api"

// examples returns all examples that GitHub publishes.
func examples(t testing.TB) (all []anExample) {
	t.Helper()
	var events []struct {
		Name     string
		Examples []json.RawMessage
	}
	if err := json.Unmarshal(octokitFile(t, "webhooks.json"), &events); err != nil {
		t.Fatal(err)
	}
	fullName := regexp.MustCompile(`"full_name":\s*"[^"]*"`)
	person := regexp.MustCompile(`"(?:login|email)":\s*"([^"]+)"`)
	for _, event := range events {
		for _, text := range event.Examples {
			e := anExample{event: event.Name, body: fullName.ReplaceAll(text, []byte(`"full_name":"`+exampleRepo+`"`))}
			var action struct{ Action string }
			if err := json.Unmarshal(e.body, &action); err != nil {
				t.Fatal(err)
			}
			e.action = action.Action
			if event.Name == "issues" || event.Name == "pull_request" {
				if err := json.Unmarshal(e.body, &e.payload); err != nil {
					t.Fatal(err)
				}
			}
			for _, m := range person.FindAllSubmatch(text, -1) {
				e.people = append(e.people, string(m[1]))
			}
			all = append(all, e)
		}
	}
	return all
}

// want returns what an example should be taken for: hints, and how many changes.
func (e anExample) want() (hints []string, changes int) {
	switch {
	case e.event == "issues" && e.action == "deleted":
		return nil, 1
	case e.event == "issues" && e.action == "transferred":
		return []string{exampleRepo + "#"}, 1
	case e.event == "issues" && e.payload.Changes.OldIssue.ID > 0: // opened by a transfer
		return []string{exampleRepo + "#"}, 1
	case e.event == "issues":
		return []string{fmt.Sprintf("%s#%d", exampleRepo, e.payload.Issue.Number)}, 0
	case e.event == "pull_request" && slices.Contains([]string{"opened", "edited", "closed", "reopened", "review_requested"}, e.action):
		return []string{exampleRepo + "!" + e.payload.PullRequest.Node}, 0
	}
	return nil, 0
}

// TestOctokitExamples delivers all examples of real deliveries. None is an
// error, each is taken for what it is, and no person comes through.
func TestOctokitExamples(t *testing.T) {
	for name, project := range map[string]connector.Project{"without a board": {}, "with a board": {Owner: "acme", Number: 3}} {
		f := NewFake(FakeOptions{WebhookSecret: testSecret})
		fakeWorld(f)
		source, _ := talk(t, f, func(c *Config) { c.Repos, c.Project = []string{exampleRepo}, project })
		taken, all := 0, examples(t)
		for _, e := range all {
			d := f.Sign(e.event, e.body)
			notice, err := source.Receive(t.Context(), d.Header, d.Body)
			if err != nil {
				t.Errorf("%s: %s %s: %v", name, e.event, e.action, err)
				continue
			}
			hints, changes := e.want()
			fits := len(notice.Items) == len(hints) && len(notice.Changes) == changes
			for k := range hints {
				fits = fits && strings.HasPrefix(notice.Items[k], hints[k])
			}
			for _, c := range notice.Changes {
				c.Source = "github" // which the Runner fills in
				fits = fits && c.Validate() == nil && c.Container == exampleRepo
			}
			if !fits {
				t.Errorf("%s: %s %s is taken for %+v, want hints %q and %d changes", name, e.event, e.action, notice, hints, changes)
			}
			if len(notice.Items)+len(notice.Changes) > 0 {
				taken++
			}
			told := fmt.Sprintf("%+v", notice)
			for _, who := range e.people {
				if strings.Contains(told, who) {
					t.Errorf("%s: %s %s: a person in %s", name, e.event, e.action, told)
				}
			}
			d.Header.Set("X-Hub-Signature-256", "sha256="+strings.Repeat("0", 64))
			if _, err := source.Receive(t.Context(), d.Header, d.Body); !errors.Is(err, connector.ErrSignature) {
				t.Errorf("%s: %s %s without its signature: %v", name, e.event, e.action, err)
			}
		}
		if len(all) != 329 || taken < 35 {
			t.Errorf("%s: %d examples, %d taken", name, len(all), taken)
		}
		// The simulated deliveries are no worse.
		for _, d := range fakeScript(f) {
			if _, err := source.Receive(t.Context(), d.Header, d.Body); err != nil {
				t.Errorf("%s: %s: %v", name, d.Body, err)
			}
		}
	}
}
