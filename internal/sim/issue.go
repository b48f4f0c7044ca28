package sim

import (
	"strings"

	"github.com/flowmetrics/flowmetrics/internal/connector/github"
)

// The repositories of the platform team and its board.
const (
	owner    = "acme"
	mainRepo = "acme/platform"
	sideRepo = "acme/tools" // small things are begun here, and some go over to the main one
	board    = 1
	login    = "engineer" // whoever is assigned
)

// describeGitHub gives an empty site its repositories, labels, types and board.
func describeGitHub(f *github.Fake) {
	for _, repo := range [...]string{mainRepo, sideRepo} {
		f.AddRepo(repo)
		for _, label := range [...]string{"backlog", "ready", "blocked", "on hold", "bug", "security", "tech-debt", "epic", "good first issue"} {
			f.AddLabel(repo, label)
		}
	}
	f.AddType("Feature")
	f.AddType("Bug")
	f.AddProject(owner, board, "Backlog", "Ready", "In Progress", "In Review", "Done", "On Hold")
}

// An issue is what an item is on GitHub.
type issue struct {
	id, repo string
	onBoard  bool   // its state is the board's, else that of labels, assignment and pull request
	label    string // the one that stands for a state
	typeName string // the label that stands for the type
	assigned bool
	closed   bool
	pull     string // the open pull request
	inReview bool   // which it is
}

// typeLabels are the labels that stand for types: all of those that are no issue
// type, and of some bugs in addition.
var typeLabels = map[string]string{"Bug": "bug", "Risk": "security", "Tech Debt": "tech-debt", "Epic": "epic"}

// issueTypes are the issue types.
var issueTypes = map[string]string{"Story": "Feature", "Bug": "Bug"}

// openIssue makes an item an issue.
func (w *World) openIssue(i *item, status, title string) {
	g := &issue{repo: mainRepo, onBoard: w.chance(0.8)}
	if w.chance(0.15) {
		g.repo = sideRepo
	}
	o := github.CreateOptions{Type: issueTypes[i.typ]}
	if label := typeLabels[i.typ]; o.Type == "" || label != "" && w.chance(0.3) { // a few have both
		o.Labels, g.typeName = append(o.Labels, label), label
	}
	if w.chance(0.1) {
		o.Labels = append(o.Labels, "good first issue")
	}
	g.id = w.github.Create(w.instant(w.now), g.repo, title, o)
	i.issue = g
	if status != "Backlog" || g.onBoard {
		w.setIssue(i, status)
	}
}

// setIssue shows the status of an item in the ways that GitHub has.
func (w *World) setIssue(i *item, status string) {
	g, at := i.issue, w.instant(w.now)
	if g.closed && status != "Done" {
		w.github.Reopen(at, g.id)
		g.closed = false
	}
	switch status {
	case "Backlog":
		w.dropPull(g)
		w.assign(g, false)
	case "In Progress":
		if g.inReview {
			w.github.RequestChanges(at, g.pull)
		}
		w.assign(g, true)
	case "In Review":
		if g.pull == "" {
			g.pull = w.github.OpenPull(at, g.repo, []string{g.id}, nil)
		}
		w.github.RequestReview(at, g.pull)
	}
	g.inReview = status == "In Review"
	switch label := strings.ToLower(status); {
	case label == "blocked", label == "on hold" && !g.onBoard, label == "ready" && !g.onBoard, label == "backlog" && !g.onBoard:
		w.stateLabel(g, label)
	default:
		w.stateLabel(g, "")
	}
	if status == "Done" {
		w.closeIssue(g, "completed")
	} else if status != "Blocked" { // which is a label, also of what is on the board
		w.moveCard(g, status)
	}
}

// moveCard moves an issue on the board. Of the moves of late GitHub records but some.
func (w *World) moveCard(g *issue, status string) {
	if g.onBoard {
		recorded := w.now <= w.worked || w.chance(0.5)
		w.github.SetStatus(w.instant(w.now), g.id, status, recorded)
	}
}

// stateLabel replaces the label that stands for a state.
func (w *World) stateLabel(g *issue, label string) {
	if g.label == label {
		return
	}
	if g.label != "" {
		w.github.Unlabel(w.instant(w.now), g.id, g.label)
	}
	if g.label = label; label != "" {
		w.github.Label(w.instant(w.now), g.id, label)
	}
}

func (w *World) assign(g *issue, to bool) {
	switch {
	case to && !g.assigned:
		w.github.Assign(w.instant(w.now), g.id, login)
	case !to && g.assigned:
		w.github.Unassign(w.instant(w.now), g.id, login)
	}
	g.assigned = to
}

// closeIssue closes an issue for a reason: by merging its pull request where it is
// completed and has one.
func (w *World) closeIssue(g *issue, reason string) {
	at := w.instant(w.now)
	if g.pull != "" && reason == "completed" {
		w.github.MergePull(at, g.pull)
		g.pull = ""
	} else {
		w.dropPull(g)
		w.github.Close(at, g.id, reason)
	}
	g.closed = true
	w.moveCard(g, "Done") // as the board does by itself
}

// dropPull closes the pull request unmerged.
func (w *World) dropPull(g *issue) {
	if g.pull != "" {
		w.github.ClosePull(w.instant(w.now), g.pull)
		g.pull = ""
	}
}

// transfer moves an issue to the other repository, where it gets another id.
func (w *World) transfer(g *issue) {
	if g.repo == mainRepo {
		g.repo = sideRepo
	} else {
		g.repo = mainRepo
	}
	g.id = w.github.Transfer(w.instant(w.now), g.id, g.repo)
}

// retypeIssue gives an issue the type that its item has become.
func (w *World) retypeIssue(i *item) {
	at, g := w.instant(w.now), i.issue
	w.github.SetType(at, g.id, issueTypes[i.typ])
	if g.typeName != "" {
		w.github.Unlabel(at, g.id, g.typeName)
	}
	if g.typeName = typeLabels[i.typ]; g.typeName != "" {
		w.github.Label(at, g.id, g.typeName)
	}
}
