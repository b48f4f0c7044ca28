package config

import (
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"pgregory.net/rapid"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func TestForGitHub(t *testing.T) {
	text := ForGitHub("https://github.example.com/api/v3", []string{"acme/api", "acme/web.site"}, true)
	c, err := Parse("flow.yaml", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	s := c.Sources[0]
	if s.Type != GitHub || s.URL != "https://github.example.com/api/v3" || !slices.Equal(s.Repos, []string{"acme/api", "acme/web.site"}) ||
		s.Token != SecretEnv("GITHUB_TOKEN") || s.PollInterval != DefaultPollInterval {
		t.Errorf("source is %+v", s)
	}
	v := c.Policy().ValueStreams[0]
	if v.Name != "acme" || v.Title != "acme/api, acme/web.site" {
		t.Errorf("value stream is %q, %q", v.Name, v.Title)
	}
	w := v.Workflow
	if !slices.Equal(w.StartSignals, []string{flow.SignalAssigned, flow.SignalPullRequest}) {
		t.Errorf("start signals are %v", w.StartSignals)
	}
	rank := func(label string) int {
		return slices.IndexFunc(w.Labels, func(r flow.LabelRule) bool { return r.Label == label })
	}
	for label, want := range map[string]flow.State{
		"blocked": flow.Waiting, "On hold": flow.Waiting, "needs review": flow.Waiting, "status: in progress": flow.Active, "wip": flow.Active, "status/doing": flow.Active,
	} {
		if i := rank(label); i < 0 || w.Labels[i].State != want {
			t.Errorf("label %q has no rule that makes it %s", label, want)
		}
	}
	if rank("blocked") > rank("in progress") {
		t.Error("what is blocked and in progress counts as active")
	}
	for _, c := range []struct {
		typ, label string
		want       flow.ItemType
	}{
		{"Bug", "enhancement", flow.Defect},
		{"Feature", "bug", flow.Feature},
		{"", "bug", flow.Defect},
		{"", "type: security", flow.Risk},
		{"", "tech-debt", flow.Debt},
		{"Epic", "", flow.Ignored},
		{"Task", "question", flow.Unclassified},
	} {
		if got := w.TypeOf(flow.Value{Name: c.typ}, []string{c.label}); got != c.want {
			t.Errorf("type %q with label %q is %s, want %s", c.typ, c.label, got, c.want)
		}
	}
}

// TestForGitHubAnonymously holds that polls alone stay within 60 requests an hour.
func TestForGitHubAnonymously(t *testing.T) {
	for _, repos := range [][]string{{"acme/api"}, {"acme/api", "other/web"}} {
		c, err := Parse("flow.yaml", ForGitHub(GitHubURL, repos, false))
		if err != nil {
			t.Fatal(err)
		}
		s := c.Sources[0]
		if s.Token.IsSet() {
			t.Errorf("a token is asked for: %v", s.Token)
		}
		if polls := int(time.Hour / s.PollInterval); polls*len(repos) > 15 {
			t.Errorf("%d polls of %d repositories an hour", polls, len(repos))
		}
	}
	many := make([]string, 20)
	for i := range many {
		many[i] = "owner" + string(rune('a'+i)) + "/repository"
	}
	c, err := Parse("flow.yaml", ForGitHub(GitHubURL, many, true))
	if err != nil {
		t.Fatal(err)
	}
	if v := c.Policy().ValueStreams[0]; v.Name != "github" || v.Title != "github" {
		t.Errorf("value stream is %q, %q", v.Name, v.Title)
	}
}

// TestTexts holds that what is written is read as it was.
func TestTexts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfNDistinct(rapid.OneOf(
			rapid.StringOf(rapid.RuneFrom(nil, unicode.Letter, unicode.Digit, unicode.Punct, unicode.Symbol, unicode.Zs)),
			rapid.SampledFrom([]string{"no", "On", "true", "null", "~", "12", "1e3", "0x1F", "# x", "a: b", "a #b", "it's", "'", "[a, b]", "- a", "label:x", "id:1", "*x", "&x", "!x", "? x", "%x", "@x", "{x", "2026-01-01"}),
		).Filter(func(s string) bool { return s != "" && strings.TrimSpace(s) == s && len(s) < 100 }), 1, 5, rapid.ID).Draw(t, "texts")
		file := "sources:\n  - name: a\n    type: jira\n    url: https://a.example.com\n    projects: " + Texts(texts) + "\n"
		c, err := Parse("flow.yaml", []byte(file))
		if err != nil {
			t.Fatalf("%v\n%s", err, file)
		}
		if !slices.Equal(c.Sources[0].Projects, texts) {
			t.Fatalf("%q was read as %q", texts, c.Sources[0].Projects)
		}
	})
}
