package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// The address of GitHub's interface, and the variable that holds a token for it
// where no file says otherwise.
const (
	GitHubURL      = "https://api.github.com"
	GitHubTokenEnv = "GITHUB_TOKEN"
)

// The words that repositories commonly use as labels, by what they say. Each is
// tried in some spellings, for labels are compared exactly.
var (
	labelStates = []struct {
		state flow.State
		words []string
	}{
		{flow.Waiting, []string{"blocked", "on hold", "on-hold", "waiting", "needs review", "in review", "in-review", "review"}},
		{flow.Active, []string{"in progress", "in-progress", "wip", "doing"}},
	}
	labelTypes = []struct {
		itemType flow.ItemType
		types    []string
		labels   []string
	}{
		{flow.Feature, []string{"Feature", "Enhancement", "Story"}, []string{"feature", "enhancement"}},
		{flow.Defect, []string{"Bug", "Defect", "Incident"}, []string{"bug", "defect", "incident"}},
		{flow.Risk, []string{"Risk", "Security"}, []string{"risk", "security", "vulnerability", "compliance"}},
		{flow.Debt, []string{"Tech Debt", "Chore"}, []string{"tech debt", "tech-debt", "refactor", "chore", "maintenance"}},
		{flow.Ignored, []string{"Epic"}, []string{"epic"}},
	}
)

// ForGitHub writes a configuration that measures repositories, given as
// OWNER/NAME, as one value stream by the labels that are commonly used. Where
// there is no token, GitHub is asked rarely enough for what it allows anybody.
func ForGitHub(url string, repos []string, token bool) []byte {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	p("# Repositories of GitHub as one value stream, by the labels that are commonly used.")
	p("sources:")
	p("  - name: github")
	p("    type: github")
	p("    url: %s", Text(url))
	p("    repos: %s", Texts(repos))
	if token {
		p("    token_env: %s", GitHubTokenEnv)
	} else {
		p("    # token_env: %s   # without a token GitHub allows 60 requests an hour", GitHubTokenEnv)
		p("    poll_interval: %s", FormatDuration(time.Duration(len(repos))*5*time.Minute))
	}
	p("    # project: {owner: OWNER, number: 1}   # the board whose status is the state, where there is one")
	p("    # webhook_secret_env: GITHUB_HOOK      # takes deliveries at /webhooks/github")
	p("workflows:")
	p("  - name: default")
	p("    labels: # of those that an open issue carries, the first listed decides")
	for _, g := range labelStates {
		for _, word := range g.words {
			for _, label := range spellings(word, "status") {
				p("      - {label: %s, state: %s}", Text(label), g.state)
			}
		}
	}
	p("    types: # by issue type, or by label where the issue has none")
	for _, g := range labelTypes {
		names := slices.Clone(g.types)
		for _, word := range g.labels {
			for _, label := range spellings(word, "type") {
				names = append(names, "label:"+label)
			}
		}
		p("      %s: %s", g.itemType, Texts(names))
	}
	p("    start_signals: [assigned, pull_request] # work on an issue without a label begins with the first")
	p("value_streams:")
	p("  - name: %s", Text(nameOf(repos)))
	p("    title: %s", Text(titleOf(repos)))
	p("    workflow: default")
	p("    include:")
	p("      - {source: github}")
	return []byte(b.String())
}

// spellings returns how a label may be written.
func spellings(word, kind string) []string {
	return []string{word, strings.ToUpper(word[:1]) + word[1:], kind + ": " + word, kind + "/" + word}
}

// nameOf names the value stream of some repositories: after the one, or after
// their one owner.
func nameOf(repos []string) string {
	owner, name, _ := strings.Cut(repos[0], "/")
	if len(repos) == 1 {
		return name
	}
	for _, r := range repos {
		if !strings.HasPrefix(r, owner+"/") {
			return "github"
		}
	}
	return owner
}

func titleOf(repos []string) string {
	title := strings.Join(repos, ", ")
	if len(title) > maxName {
		return nameOf(repos)
	}
	return title
}
