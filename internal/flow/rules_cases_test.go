package flow_test

import "github.com/flowmetrics/flowmetrics/internal/flow"

// The edge cases by their numbers. Those that are no matter of folding facts are
// elsewhere: 14 with the change, 16 and 17 with the golden histories, 30 with the
// processor.
var edgeCases = []rule{
	{
		name: "case 1 reopened: the clock resumes, time in done is excluded",
		log: `1 1 CREATED STATUS:In_Progress
			5 1 UPDATED STATUS:Done
			20 1 UPDATED STATUS:Ready
			24 1 UPDATED STATUS:Done`,
		want: `item.1.started_at @1
			item.1.finished_at @24
			item.1.flow_time_seconds 8d
			30d.velocity.items 1
			30d.completion_events 2
			30d.reopen_events 1`,
	},
	{
		name: "case 1b as of then it was complete",
		at:   10,
		log: `1 1 CREATED STATUS:In_Progress
			5 1 UPDATED STATUS:Done
			20 1 UPDATED STATUS:Ready`,
		want: `item.1.flow_time_seconds 4d
			7d.velocity.items 1`,
	},
	{
		name: "case 2 new to done has no flow time",
		log: `1 1 CREATED STATUS:Backlog TYPE:Bug
			5 1 UPDATED STATUS:Done`,
		want: `30d.velocity.items 1
			30d.distribution.defect 1
			30d.flow_time.items 0
			30d.efficiency.ratio null
			30d.exited.completed absent
			quality.completed_without_start 1`,
	},
	{
		name: "case 3 never active is in everything",
		log: `1 1 CREATED STATUS:Ready
			5 1 UPDATED STATUS:Done`,
		want: `30d.flow_time.items 1
			30d.efficiency.ratio 0
			quality.completed_never_active 1`,
	},
	{
		name: "case 4 count_born_done",
		edit: func(_ *flow.Policy, w *flow.Workflow) { w.CountBornDone = true },
		log:  `5 1 CREATED STATUS:Done TYPE:Story`,
		want: `30d.velocity.by_type.feature 1
			30d.completion_events 1
			30d.flow_time.items 0
			item.1.finished_at @5
			quality.born_done 1`,
	},
	{
		name: "case 5 cancelled; from new it is declined",
		log: `1 1 CREATED STATUS:Ready TYPE:Bug
			5 1 UPDATED STATUS:Won't_Do
			1 2 CREATED STATUS:Backlog
			5 2 UPDATED STATUS:Won't_Do`,
		want: `30d.velocity.items 0
			30d.distribution.defect absent
			30d.exited.cancelled 1
			30d.discarded.items 1
			30d.discarded.in_flow_seconds 4d
			item.1.finished_at null`,
	},
	{
		name: "case 6 back to the backlog pauses the clock",
		log: `1 1 CREATED STATUS:In_Progress
			5 1 UPDATED STATUS:Backlog
			11 1 UPDATED STATUS:In_Progress
			12 1 UPDATED STATUS:Done`,
		want: `30d.exited.returned 1
			30d.entered.resumed 1
			item.1.flow_time_seconds 5d`,
	},
	{
		name: "case 7 moved: load where it is, completion whole to the last value stream",
		log: `1 1 CREATED STATUS:In_Progress
			5 1 UPDATED CONTAINER:Q
			8 1 UPDATED STATUS:Done`,
		want: `30d.load.presence_seconds 4d
			30d.exited.moved_out 1
			30d.velocity.items 0
			w.30d.load.presence_seconds 3d
			w.30d.entered.moved_in 1
			w.30d.flow_time.p50_seconds 7d`,
	},
	{
		name: "case 8 the type follows in flight and freezes at completion until a reopen",
		log: `1 1 CREATED STATUS:Ready TYPE:Bug
			3 1 UPDATED TYPE:Story
			5 1 UPDATED STATUS:Done
			6 1 UPDATED TYPE:Risk
			1 2 CREATED STATUS:Ready TYPE:Bug
			5 2 UPDATED STATUS:Done
			6 2 UPDATED TYPE:Risk
			7 2 UPDATED STATUS:Ready
			1 3 CREATED STATUS:Ready TYPE:Epic
			5 3 UPDATED STATUS:Won't_Do
			6 3 UPDATED STATUS:Done
			7 3 UPDATED TYPE:Story`,
		want: `30d.velocity.by_type.feature 1
			load.by_type.risk 1
			item.3.state absent
			quality.ignored_by_type 1`,
	},
	{
		name: "case 8 cancelled under an ignored type and done under another",
		log: `1 1 CREATED STATUS:Ready TYPE:Epic
			5 1 UPDATED STATUS:Won't_Do
			6 1 UPDATED STATUS:Done TYPE:Story
			7 1 UPDATED TYPE:Epic`,
		want: `30d.velocity.by_type.feature 1
			quality.ignored_by_type 0
			quality.completed_without_start 1`,
	},
	{
		name: "case 9 deleted is an exit at its detection",
		log: `1 1 CREATED STATUS:In_Progress
			5 1 DELETED approximate`,
		want: `30d.exited.deleted 1
			30d.discarded.in_flow_seconds 4d
			load.items 0`,
	},
	{
		name: "case 10 an unmapped status holds",
		log: `1 1 CREATED STATUS:In_Progress
			5 1 UPDATED STATUS:Parked`,
		want: `load.by_state.active 1
			item.1.active_seconds 28d
			quality.unmapped_statuses.Parked 1`,
	},
	{
		name: "case 11 out of order",
		log: `9 1 UPDATED STATUS:Done
			5 1 UPDATED STATUS:In_Progress
			1 1 CREATED STATUS:Ready`,
		want: `item.1.waiting_seconds 4d
			item.1.active_seconds 4d`,
	},
	{
		name: "case 12 equal timestamps: no time, no reopen",
		log: `1 1 CREATED STATUS:Ready
			5 1 UPDATED seq=1 STATUS:Done
			9 1 UPDATED seq=2 STATUS:Ready
			9 1 UPDATED seq=3 STATUS:Done`,
		want: `30d.completion_events 1
			30d.reopen_events 0
			item.1.finished_at @5
			item.1.flow_time_seconds 4d`,
	},
	{
		name: "case 18 an epic is invisible",
		log: `1 1 CREATED STATUS:In_Progress TYPE:Epic
			5 1 UPDATED STATUS:Done`,
		want: `30d.velocity.items 0
			30d.entered.started absent
			30d.load.presence_seconds 0
			quality.ignored_by_type 1`,
	},
	{
		name: "case 20 open and closed only",
		edit: openClosed("assigned"),
		log: `1 1 CREATED STATE:open
			3 1 UPDATED ASSIGNED:true
			8 1 UPDATED STATE:closed
			1 2 CREATED STATE:open
			8 2 UPDATED STATE:closed@completed
			1 3 CREATED STATE:open
			8 3 UPDATED STATE:closed@not_planned`,
		want: `30d.velocity.items 2
			30d.flow_time.items 1
			30d.flow_time.p50_seconds 5d
			item.3.state cancelled
			quality.completed_without_start 1`,
	},
	{
		name: "case 20 closed again and reopened",
		edit: openClosed("assigned"),
		log: `1 1 CREATED STATE:open ASSIGNED:true
			5 1 UPDATED STATE:closed
			9 1 UPDATED STATE:open`,
		want: `item.1.state active
			item.1.age_seconds 24d
			30d.reopen_events 1`,
	},
	{
		name: "case 21 the first label rule wins, the last label gone is the start signal's",
		edit: func(p *flow.Policy, w *flow.Workflow) {
			labelled(p, w)
			w.StartSignals = []string{flow.SignalAssigned}
		},
		log: `1 1 CREATED STATE:open LABEL:in_progress
			3 1 UPDATED LABEL:blocked
			6 1 UPDATED LABEL:-blocked
			7 1 UPDATED LABEL:-in_progress`,
		want: `item.1.waiting_seconds 3d
			item.1.active_seconds 3d
			item.1.state new
			30d.exited.returned 1`,
	},
	{
		name: "case 22 a board's option is known by its id",
		edit: func(_ *flow.Policy, w *flow.Workflow) { w.StatusByID = map[string]flow.State{"f75ad846": flow.Active} },
		log: `1 1 CREATED STATE:open
			3 1 UPDATED STATUS:Doing#f75ad846
			5 1 UPDATED STATUS:Building#f75ad846
			9 1 UPDATED STATE:closed`,
		want: `30d.status_seconds.Building 6d
			30d.status_seconds.Doing absent`,
	},
	{
		name: "case 23 merged is not done",
		edit: openClosed("pull_request"),
		log: `1 1 CREATED STATE:open PULL_REQUEST:opened
			5 1 UPDATED PULL_REQUEST:merged`,
		want: `load.by_state.active 1
			30d.velocity.items 0`,
	},
	{
		name: "case 25 an alias is not counted, its evidence refines",
		edit: openClosed("pull_request", "assigned"),
		log: `1 1 CREATED
			1 9 CREATED src=github ALIAS:s/1 STATUS:In_Progress
			20 9 UPDATED src=github PULL_REQUEST:review_requested
			25 9 UPDATED src=github STATE:closed
			25 9 UPDATED src=github STATE:closed id=again`,
		want: `load.items 1
			item.9.state absent
			item.1.waiting_seconds 9d
			load.neglected_items 0
			30d.velocity.items 0
			quality.duplicates 0`,
	},
	{
		name: "case 25 chains are followed to the end, a cycle ends at the lowest",
		log: `1 1 CREATED STATUS:Ready
			1 2 CREATED STATUS:Ready ALIAS:s/1
			1 3 CREATED STATUS:Ready ALIAS:s/2
			1 5 CREATED STATUS:Ready ALIAS:s/6
			1 6 CREATED STATUS:Ready ALIAS:s/5
			1 7 CREATED STATUS:Ready ALIAS:s/none
			1 8 CREATED STATUS:Ready ALIAS:s/1
			5 8 UPDATED ALIAS:-`,
		want: `load.items 4
			item.1.state waiting
			item.5.state waiting
			item.7.state waiting
			item.8.state waiting`,
	},
	{
		name: "case 25 a late link counts from its own time on",
		at:   10,
		log: `1 1 CREATED STATUS:Ready
			1 2 CREATED STATUS:Ready
			10 2 UPDATED ALIAS:s/1`,
		want: `load.items 2`,
	},
	{
		name: "case 25 a link to an item that nobody has told of yet is none",
		at:   10,
		log: `1 2 CREATED STATUS:Ready ALIAS:s/1
			11 1 CREATED STATUS:Ready`,
		want: `load.items 1
			item.2.state waiting`,
	},
	{
		name: "case 25 evidence before the item's first fact does not begin its life",
		edit: openClosed("pull_request"),
		log: `1 9 CREATED src=t ALIAS:s/1 PULL_REQUEST:opened
			5 1 OBSERVED STATE:open`,
		want: `30d.entered.observed 1
			30d.entered.started absent
			30d.load.presence_seconds 24d`,
	},
	{
		name: "case 25 evidence neither moves nor revives the item of record",
		edit: openClosed("pull_request"),
		log: `1 1 CREATED STATE:open PULL_REQUEST:opened
			5 1 DELETED
			1 9 CREATED src=t in=Q ALIAS:s/1
			9 9 UPDATED src=t PULL_REQUEST:merged`,
		want: `item.1.state deleted
			load.items 0
			w.load.items 0`,
	},
	{
		name: "case 25 the latest ALIAS is the latest in the order of folding",
		log: `1 1 CREATED STATUS:Ready
			1 2 CREATED seq=2 STATUS:Ready ALIAS:s/1
			1 2 UPDATED seq=1 ALIAS:-`,
		want: `load.items 2`,
	},
	{
		name: "case 27 history shorter than life",
		log: `1 1 OBSERVED STATUS:In_Progress
			24 1 UPDATED STATUS:Done`,
		want: `30d.velocity.items 1
			30d.flow_time.items 0
			30d.efficiency.ratio null
			30d.entered.observed 1
			30d.load.presence_seconds 23d`,
	},
	{
		name: "case 28 a changed mapping refolds everything",
		edit: func(_ *flow.Policy, w *flow.Workflow) { w.StatusByName["Parked"] = flow.New },
		log: `1 1 CREATED STATUS:In_Progress
			5 1 UPDATED STATUS:Parked`,
		want: `item.1.state new
			30d.exited.returned 1
			quality.unmapped_statuses.Parked absent`,
	},
	{
		name: "case 29 an idle value stream has no flow time, but ages",
		log:  `1 1 CREATED STATUS:Ready`,
		want: `30d.flow_time.p50_seconds null
			30d.velocity.items 0
			load.oldest_age_seconds 28d
			30d.efficiency.ratio null
			30d.efficiency.in_window_ratio 0`,
	},
}
