package sim

import (
	"slices"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector/jira"
)

// A team is the people of one value stream and what they have to do.
type team struct {
	project  string
	issues   float64       // the share of its items that are issues on GitHub
	limit    int           // items in flow that were agreed and that the team can bear
	arrivals time.Duration // mean time between new items
	mix      []string      // types of new items; one named twice is twice as likely
	rises    time.Duration // since when the limit is not kept; 0: it always is
	subjects []string

	backlog []*item // oldest first
	inFlow  int
}

// An item is one unit of work.
type item struct {
	id    string // in Jira
	issue *issue // on GitHub; nil: it is in Jira
	typ   string
	team  *team
}

const (
	maxBacklog = 50
	growth     = 0.6 // items a day by which a load that is not kept in check rises
	maxGrowth  = 2.5 // times the limit, where the rise ends
)

// effort is the mean time in progress by type.
var effort = map[string]time.Duration{
	"Story": 7 * day / 2, "Bug": 3 * day / 2, "Risk": 5 * day / 2, "Tech Debt": 3 * day,
}

// teams returns the two teams as they are before any work, for a history that
// ends at a working time.
func teams(end time.Duration) []*team {
	return []*team{
		{
			project: "PAY", limit: 20, arrivals: day * 10 / 32,
			mix: []string{
				"Story", "Story", "Story", "Story", "Story", "Bug", "Bug", "Risk", "Tech Debt", "Tech Debt",
			},
			subjects: []string{
				"refund by bank transfer", "card checkout", "invoice export", "payout schedule", "fraud check", "settlement report",
				"currency conversion", "direct debit mandate", "receipt by mail", "chargeback screen",
			},
		},
		{
			project: "PLAT", issues: 0.4, limit: 18, arrivals: day * 10 / 34, rises: end - 6*week,
			mix: []string{
				"Story", "Story", "Story", "Bug", "Bug", "Bug", "Risk", "Tech Debt", "Tech Debt", "Tech Debt",
			},
			subjects: []string{
				"build cache", "service template", "access token rotation", "log retention", "database upgrade", "queue monitoring",
				"deployment pipeline", "secret store", "load balancer", "backup restore",
			},
		},
	}
}

// verbs begin the titles of items by type.
var verbs = map[string][]string{
	"Story": {"Add", "Extend", "Offer"}, "Bug": {"Fix", "Repair"}, "Risk": {"Assess", "Secure"},
	"Tech Debt": {"Simplify", "Replace"}, "Epic": {"Renew"},
}

// target is how many items the team lets be in flow at a working time.
func (t *team) target(now time.Duration) int {
	if t.rises == 0 || now < t.rises {
		return t.limit
	}
	risen := growth * float64(now-t.rises) / float64(day)
	return t.limit + int(min(risen, (maxGrowth-1)*float64(t.limit)))
}

// arrive brings new items, again and again.
func (w *World) arrive(t *team) {
	w.after(w.between(t.arrivals), func() {
		w.create(t)
		w.arrive(t)
	})
}

// create makes an item, most often in the backlog.
func (w *World) create(t *team) {
	typ, status := pick(w, t.mix), "Backlog"
	switch {
	case w.chance(0.02):
		typ = "Epic"
	case w.chance(0.008):
		status = "Done" // noted after the fact
	}
	title := pick(w, verbs[typ]) + " " + pick(w, t.subjects)
	i := &item{typ: typ, team: t}
	if t.issues > 0 && w.chance(t.issues) {
		w.openIssue(i, status, title)
	} else {
		i.id = w.jira.Create(w.instant(w.now), t.project, typ, status, title)
	}
	switch {
	case typ == "Epic":
		w.after(w.around(week), func() {
			w.set(i, "In Progress")
			w.after(w.around(4*week), func() { w.set(i, "Done") })
		})
	case status == "Done":
	case typ == "Bug" && w.chance(0.3):
		t.backlog = slices.Insert(t.backlog, 0, i) // urgent
	default:
		t.backlog = append(t.backlog, i)
	}
	if len(t.backlog) > maxBacklog {
		w.cancel(t.take(w.rand.IntN(len(t.backlog) / 2))) // declined
	}
}

// take removes an item from the backlog.
func (t *team) take(index int) *item {
	i := t.backlog[index]
	t.backlog = slices.Delete(t.backlog, index, index+1)
	return i
}

// replenish commits to items of the backlog where there is room for them, again
// and again.
func (w *World) replenish(t *team) {
	w.after(w.between(time.Hour), func() {
		room := t.target(w.now) - t.inFlow + w.rand.IntN(4) - 2 // the limit is kept by people
		if room > 0 && len(t.backlog) > 0 {
			i := t.take(w.rand.IntN(min(len(t.backlog), 6)))
			if w.chance(0.02) {
				w.set(i, "Done") // turned out to be done already
			} else {
				w.commit(i)
			}
		}
		w.replenish(t)
	})
}

// set gives an item a status now; the edits go with it in Jira.
func (w *World) set(i *item, status string, edits ...jira.Edit) {
	if i.issue != nil {
		w.setIssue(i, status)
		return
	}
	w.edit(i, append([]jira.Edit{jira.SetStatus(status)}, edits...)...)
}

// edit makes edits of an item of Jira now.
func (w *World) edit(i *item, edits ...jira.Edit) { w.jira.Edit(w.instant(w.now), i.id, edits...) }

// next lets an item's next step happen after a time of some mean; the more items
// the same people share, the longer it takes.
func (w *World) next(i *item, mean time.Duration, step func(*item)) {
	crowding := max(1, float64(i.team.inFlow)/float64(i.team.limit))
	w.after(time.Duration(float64(w.around(mean))*crowding), func() { step(i) })
}

func (w *World) commit(i *item) {
	i.team.inFlow++
	w.set(i, "Ready")
	w.next(i, 2*day, w.leaveReady)
}

func (w *World) leaveReady(i *item) {
	switch p := w.rand.Float64(); {
	case p < 0.03:
		w.giveBack(i)
	case p < 0.05:
		i.team.inFlow--
		w.cancel(i)
	case p < 0.057:
		i.team.inFlow--
		w.remove(i)
	case p < 0.077:
		w.move(i)
		w.begin(i)
	default:
		w.begin(i)
	}
}

func (w *World) begin(i *item) {
	w.set(i, "In Progress", jira.SetAssigned(true))
	w.next(i, effort[i.typ], w.leaveProgress)
}

func (w *World) leaveProgress(i *item) {
	switch p := w.rand.Float64(); {
	case p < 0.12:
		w.set(i, "Blocked", jira.SetLabels("dependency"))
		w.next(i, 2*day, w.resume)
	case p < 0.135:
		w.set(i, "On Hold") // no rule maps it
		w.next(i, day, w.resume)
	case p < 0.155:
		w.retype(i)
		w.next(i, effort[i.typ]/2, w.leaveProgress)
	case p < 0.17:
		w.giveBack(i)
	case p < 0.185:
		i.team.inFlow--
		w.cancel(i)
	case p < 0.23:
		w.finish(i) // too small for a review
	default:
		w.set(i, "In Review")
		w.next(i, 3*day/2, w.leaveReview)
	}
}

func (w *World) leaveReview(i *item) {
	if w.chance(0.15) {
		w.resume(i)
		return
	}
	w.finish(i)
}

// resume goes on with work that was begun before: there is less left of it.
func (w *World) resume(i *item) {
	w.set(i, "In Progress")
	w.next(i, effort[i.typ]/3, w.leaveProgress)
}

func (w *World) finish(i *item) {
	i.team.inFlow--
	w.set(i, "Done")
	if w.chance(0.05) {
		w.after(w.around(week), func() {
			i.team.inFlow++
			w.resume(i)
		})
	}
}

func (w *World) giveBack(i *item) {
	i.team.inFlow--
	w.set(i, "Backlog", jira.SetAssigned(false))
	i.team.backlog = append(i.team.backlog, i)
}

// cancel gives an item up, in one of the two ways that sites know: in Jira by a
// status of its own, or done with a resolution that says otherwise; on GitHub
// closed for one of two reasons.
func (w *World) cancel(i *item) {
	switch unwanted := w.chance(0.5); {
	case i.issue != nil && unwanted:
		w.closeIssue(i.issue, "not_planned")
	case i.issue != nil:
		w.closeIssue(i.issue, "duplicate")
	case unwanted:
		w.edit(i, jira.SetStatus("Won't Do"), jira.SetResolution("Won't Do"))
	default:
		w.edit(i, jira.SetStatus("Done"), jira.SetResolution("Duplicate"))
	}
}

// remove deletes an item.
func (w *World) remove(i *item) {
	if i.issue != nil {
		w.dropPull(i.issue)
		w.github.Delete(w.instant(w.now), i.issue.id)
		return
	}
	w.jira.Delete(i.id)
}

// move hands an item over: in Jira to the other team, on GitHub to the other
// repository of the same one.
func (w *World) move(i *item) {
	if i.issue != nil {
		w.transfer(i.issue)
		return
	}
	i.team.inFlow--
	i.team = w.teams[1-slices.Index(w.teams, i.team)]
	i.team.inFlow++
	w.edit(i, jira.MoveTo(i.team.project))
}

func (w *World) retype(i *item) {
	if i.typ == "Story" {
		i.typ = "Tech Debt"
	} else {
		i.typ = "Story"
	}
	if i.issue != nil {
		w.retypeIssue(i)
	} else {
		w.edit(i, jira.SetType(i.typ))
	}
}
