package sim

import (
	"fmt"

	"github.com/flowmetrics/flowmetrics/internal/connector/jira"
)

// describe gives an empty site its projects, statuses and types.
func describe(f *jira.Fake) {
	f.AddProject("PAY", "Payments")
	f.AddProject("PLAT", "Platform")
	for _, s := range [...]struct{ id, name, category string }{
		{"10000", "Backlog", "new"}, {"10001", "Ready", "new"}, {"10002", "In Progress", "indeterminate"},
		{"10003", "In Review", "indeterminate"}, {"10004", "Blocked", "indeterminate"}, {"10005", "Done", "done"},
		{"10006", "Won't Do", "done"}, {"10007", "On Hold", "undefined"},
	} {
		f.AddStatus(s.id, s.name, s.category)
	}
	for i, name := range [...]string{"Story", "Bug", "Risk", "Tech Debt", "Epic"} {
		f.AddType(fmt.Sprint(10100+i), name)
	}
}

// Config returns the configuration that measures the world through its sites at
// two URLs. Jira demands no credentials; GitHub demands that there are some to
// show its board, whichever the file holds.
func (w *World) Config(jiraURL, gitHubURL, tokenFile string) []byte {
	return fmt.Appendf(nil, configuration, jiraURL, gitHubURL, mainRepo, sideRepo, owner, board, tokenFile)
}

const configuration = `# The demonstration: a simulated organisation with two value streams, the second
# of which works with two trackers.
sources:
  - name: jira-demo
    type: jira
    url: %q
    projects: [PAY, PLAT]
    poll_interval: 2s
  - name: github-demo
    type: github
    url: %q
    repos: [%s, %s]
    project: {owner: %s, number: %d}
    token_file: %q
    poll_interval: 2s
workflows:
  - name: default
    statuses:
      new: [Backlog]
      waiting: [Ready, In Review, Blocked]
      active: [In Progress]
      done: [Done]
      cancelled: ["Won't Do"]
    resolutions:
      cancelled: ["Won't Do", Duplicate]
    labels: # of issues on GitHub
      - {label: blocked, state: waiting}
      - {label: ready, state: waiting}
      - {label: backlog, state: new}
    types:
      feature: [Story, Feature]
      defect: [Bug, "label:bug"]
      risk: [Risk, "label:security"]
      debt: [Tech Debt, "label:tech-debt"]
      ignored: [Epic, "label:epic"]
    start_signals: [assigned, pull_request] # of issues that are not on the board
value_streams:
  - name: payments
    title: Payments
    workflow: default
    timezone: UTC
    include:
      - {source: jira-demo, containers: [PAY]}
    targets:
      flow_time: 18d
      percentile: 85
      load: 20
      distribution: {feature: 0.5, defect: 0.2, risk: 0.1, debt: 0.2}
    neglect_after: 14d
  - name: platform
    title: Platform
    workflow: default
    timezone: UTC
    include:
      - {source: jira-demo, containers: [PLAT]}
      - {source: github-demo}
    targets:
      flow_time: 14d
      percentile: 85
      load: 18
      distribution: {feature: 0.3, defect: 0.3, risk: 0.1, debt: 0.3}
    neglect_after: 14d
`
