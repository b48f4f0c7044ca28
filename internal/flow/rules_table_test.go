package flow_test

import (
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func openClosed(signals ...string) func(*flow.Policy, *flow.Workflow) {
	return func(_ *flow.Policy, w *flow.Workflow) { w.StartSignals = signals }
}

func labelled(p *flow.Policy, w *flow.Workflow) {
	w.Labels = []flow.LabelRule{{Label: "blocked", State: flow.Waiting}, {Label: "in progress", State: flow.Active}}
}

var factRules = []rule{
	{
		name: "R1 a fact at T does not exist, for data quality either",
		log: `1 1 CREATED STATUS:Backlog
			2 1 UPDATED id=a STATUS:In_Progress
			2 1 UPDATED id=a STATUS:In_Progress
			29 1 UPDATED id=b STATUS:Parked
			29 1 UPDATED id=b STATUS:Parked`,
		want: `load.items 1
			item.1.age_seconds 27d
			quality.duplicates 1
			quality.unmapped_statuses.Parked absent`,
	},
	{
		name: "R1 of two changes under one id the first wins and the other is counted apart",
		log: `1 1 CREATED STATUS:Backlog
			2 1 UPDATED id=a STATUS:In_Progress
			3 1 UPDATED id=a STATUS:Done`,
		want: `load.by_state.active 1
			quality.conflicts 1
			quality.duplicates 0`,
	},
	{
		name: "R1 the first is the first of those that exist as of T",
		at:   4,
		log: `1 1 CREATED STATUS:Backlog
			5 1 UPDATED id=a STATUS:In_Progress
			2 1 UPDATED id=a STATUS:Ready`,
		want: `load.by_state.waiting 1
			load.total_age_seconds 2d
			quality.conflicts absent`,
	},
	{
		name: "R1 an id is unique within its source",
		log: `1 1 CREATED id=a src=s STATUS:Ready
			1 1 CREATED id=a src=t STATUS:Ready`,
		want: `load.items 2
			quality.duplicates 0`,
	},
	{
		name: "R2 sequence before id, ids as bytes",
		log: `1 1 CREATED STATUS:Backlog
			2 1 UPDATED id=9 STATUS:In_Progress
			2 1 UPDATED id=10 STATUS:Ready
			1 2 CREATED STATUS:Backlog
			2 2 UPDATED id=8 seq=2 STATUS:Ready
			2 2 UPDATED id=9x seq=1 STATUS:In_Progress`,
		want: `item.1.state active
			item.2.state waiting`,
	},
	{
		name: "R2 CREATED comes first at its instant",
		log: `1 1 UPDATED id=a STATUS:Ready
			1 1 CREATED id=b seq=5 STATUS:Backlog`,
		want: `item.1.state waiting
			30d.entered.started 1`,
	},
	{
		name: "R3 what is stamped before CREATED is folded at its instant, after it",
		log: `5 1 CREATED STATUS:Backlog
			4 1 UPDATED seq=1 STATUS:Done
			3 1 UPDATED STATUS:In_Progress
			1 2 UPDATED STATUS:Ready
			5 2 CREATED STATUS:Backlog`,
		want: `quality.left_censored 0
			quality.born_done 1
			item.2.started_at @5
			item.2.waiting_seconds 24d`,
	},
	{
		name: "R3 as if at the instant of CREATED: time no longer orders what was before it",
		log: `5 1 CREATED STATUS:Backlog
			3 1 UPDATED seq=5 STATUS:In_Progress
			4 1 UPDATED STATUS:Ready`,
		want: `item.1.state active
			item.1.started_at @5`,
	},
	{
		name: "R3 a second CREATED or a later OBSERVED is an update",
		log: `1 1 CREATED STATUS:Ready
			5 1 CREATED STATUS:In_Progress
			7 1 OBSERVED STATUS:Blocked`,
		want: `item.1.started_at @1
			item.1.waiting_seconds 26d
			item.1.active_seconds 2d
			30d.entered.started 1
			30d.entered.observed absent`,
	},
	{
		name: "R4 only the joint result of an instant exists",
		log: `1 1 CREATED STATUS:Ready
			5 1 UPDATED seq=1 STATUS:Done
			5 1 UPDATED seq=2 STATUS:In_Progress
			1 2 CREATED STATUS:Backlog
			1 2 UPDATED STATUS:Done
			1 3 CREATED STATUS:Backlog
			6 3 UPDATED seq=1 STATUS:In_Progress
			6 3 UPDATED seq=2 STATUS:Backlog`,
		want: `30d.completion_events 0
			30d.reopen_events 0
			30d.entered.started 1
			30d.exited.completed absent
			30d.exited.returned absent
			item.3.started_at null
			quality.born_done 1`,
	},
	{
		name: "R4 holding sees each fact of an instant",
		log: `1 1 CREATED STATUS:Backlog
			5 1 UPDATED seq=1 STATUS:In_Progress
			5 1 UPDATED seq=2 STATUS:Parked`,
		want: `item.1.state active`,
	},
	{
		name: "R5 the latest fact names the container, a CONTAINER field wins",
		log: `1 1 CREATED STATUS:Ready
			3 1 UPDATED in=P CONTAINER:Q
			1 2 CREATED STATUS:Ready
			4 2 UPDATED in=Q`,
		want: `load.items 0
			w.load.items 2
			30d.exited.moved_out 2
			w.30d.entered.moved_in 2
			w.30d.load.presence_seconds 51d`,
	},
}

var stateRules = []rule{
	{
		name: "R6 closed before everything",
		edit: labelled,
		log: `1 1 CREATED STATUS:In_Progress LABEL:blocked STATE:closed@not_planned
			1 2 CREATED STATUS:In_Progress LABEL:blocked
			2 2 UPDATED STATE:closed
			1 3 CREATED STATUS:Backlog
			2 3 UPDATED STATE:closed@duplicate
			1 4 CREATED STATUS:Backlog
			2 4 UPDATED STATE:closed@completed`,
		want: `item.1.state cancelled
			item.2.state done
			item.3.state cancelled
			item.4.state done`,
	},
	{
		name: "R6 a finished status before a label, a label before another status",
		edit: labelled,
		log: `1 1 CREATED STATUS:Backlog
			2 1 UPDATED STATUS:Done LABEL:blocked
			1 2 CREATED STATUS:Backlog LABEL:blocked
			1 3 CREATED STATUS:Backlog
			2 3 UPDATED STATUS:Gone@done LABEL:blocked`,
		want: `item.1.state done
			item.2.state waiting
			item.3.state done`,
	},
	{
		name: "R6 by id, by name, by category, held, new",
		edit: func(_ *flow.Policy, w *flow.Workflow) { w.StatusByID = map[string]flow.State{"7": flow.Waiting} },
		log: `1 1 CREATED STATUS:In_Progress#7
			1 2 CREATED STATUS:In_Progress#8@done
			1 3 CREATED STATUS:Spike#8@indeterminate
			1 4 CREATED STATUS:Ready
			2 4 UPDATED STATUS:Parked
			1 5 CREATED STATUS:Parked`,
		want: `item.1.state waiting
			item.2.state active
			item.3.state active
			item.4.state waiting
			item.5.state new
			quality.unmapped_statuses.Parked 2`,
	},
	{
		name: "R7 a linked pull request is waiting while in review, else active",
		edit: openClosed("pull_request"),
		log: `1 1 CREATED STATE:open
			2 1 UPDATED ASSIGNED:true
			3 1 UPDATED PULL_REQUEST:opened
			5 1 UPDATED PULL_REQUEST:review_requested
			8 1 UPDATED PULL_REQUEST:changes_requested
			9 1 UPDATED PULL_REQUEST:merged
			10 1 UPDATED STATE:closed@completed`,
		want: `item.1.started_at @3
			item.1.active_seconds 4d
			30d.status_seconds.In_Review 3d
			30d.status_seconds.open 4d`,
	},
	{
		name: "R7 work that began has begun",
		edit: openClosed("assigned", "label:doing"),
		log: `1 1 CREATED
			2 1 UPDATED ASSIGNED:true
			3 1 UPDATED ASSIGNED:false
			1 2 CREATED STATE:open
			4 2 UPDATED LABEL:doing
			5 2 UPDATED LABEL:-doing
			1 3 CREATED STATE:open
			4 3 UPDATED LABEL:other PULL_REQUEST:opened`,
		want: `item.1.active_seconds 27d
			item.2.active_seconds 25d
			item.3.state new`,
	},
	{
		name: "R7 backlog_return waiting",
		edit: func(_ *flow.Policy, w *flow.Workflow) { w.BacklogReturnWaits = true },
		log: `1 1 CREATED STATUS:Backlog
			3 1 UPDATED STATUS:In_Progress
			5 1 UPDATED STATUS:Backlog
			9 1 UPDATED STATUS:Done`,
		want: `item.1.active_seconds 2d
			item.1.waiting_seconds 4d
			30d.exited.returned absent
			30d.status_seconds.Backlog 4d`,
	},
	{
		name: "R7 an excursion within the grace is no reopen event",
		edit: func(_ *flow.Policy, w *flow.Workflow) { w.ReopenGrace = 24 * time.Hour },
		log: `1 1 CREATED STATUS:Ready
			3 1 UPDATED STATUS:Done
			5 1 UPDATED STATUS:In_Progress
			6 1 UPDATED STATUS:Done
			1 2 CREATED STATUS:Ready
			3 2 UPDATED STATUS:Done
			5 2 UPDATED STATUS:In_Progress
			6.5 2 UPDATED STATUS:Done
			1 3 CREATED STATUS:Ready
			3 3 UPDATED STATUS:Done
			28.5 3 UPDATED STATUS:In_Progress`,
		want: `30d.reopen_events 2
			30d.entered.reopened 3
			item.1.reopens 0
			item.2.reopens 1
			item.3.reopens 1
			item.1.flow_time_seconds 3d`,
	},
	{
		name: "R8 a resolution turns done into cancelled and back",
		log: `1 1 CREATED STATUS:Ready
			3 1 UPDATED STATUS:Done RESOLUTION:Won't_Do
			1 2 CREATED STATUS:Ready
			3 2 UPDATED STATUS:Done RESOLUTION:Fixed
			5 2 UPDATED RESOLUTION:Duplicate
			1 3 CREATED STATUS:Ready
			3 3 UPDATED STATUS:Done RESOLUTION:Duplicate
			25 3 UPDATED RESOLUTION:-`,
		want: `item.1.state cancelled
			item.2.state cancelled
			item.3.state done
			item.3.finished_at @25
			30d.velocity.items 1
			30d.completion_events 2
			30d.reopen_events 0
			30d.exited.cancelled 2
			30d.exited.completed 1
			7d.flow_time.p50_seconds 2d`,
	},
	{
		name: "R9 holding keeps a state that came from a label or from closed",
		edit: labelled,
		log: `1 1 CREATED STATUS:Backlog LABEL:blocked
			3 1 UPDATED STATUS:Parked LABEL:-blocked
			1 2 CREATED STATE:closed@not_planned
			3 2 UPDATED STATE:open STATUS:Parked`,
		want: `item.1.state waiting
			item.2.state cancelled`,
	},
}

var streamRules = []rule{
	{
		name: "R10 the type's name before labels, both in the order of the rules",
		edit: func(_ *flow.Policy, w *flow.Workflow) {
			w.Types = append(w.Types, flow.TypeRule{Match: "risky", Label: true, Type: flow.Risk}, flow.TypeRule{Match: "secret", Label: true, Type: flow.Ignored})
		},
		log: `1 1 CREATED STATUS:Ready TYPE:Story LABEL:bug
			1 2 CREATED STATUS:Ready TYPE:Task LABEL:risky LABEL:bug
			1 3 CREATED STATUS:Ready TYPE:Task
			1 4 CREATED STATUS:Ready
			1 5 CREATED STATUS:Ready LABEL:secret`,
		want: `item.1.type feature
			item.2.type defect
			item.3.type unclassified
			item.4.type unclassified
			item.5.type absent
			load.by_type.unclassified 2
			quality.ignored_by_type 1`,
	},
	{
		name: "R11 all conditions hold, any of a list, globs match a slash, case counts",
		edit: func(p *flow.Policy, _ *flow.Workflow) {
			p.ValueStreams[0].Include = []flow.Include{
				{Source: "s", Containers: []string{"acme/*", "*-x"}, Labels: []string{"a", "b"}, Types: []string{"Bug", "Story"}},
				{Source: "t"},
			}
		},
		log: `1 1 CREATED in=acme/api/v2 STATUS:Ready TYPE:Bug LABEL:b
			1 2 CREATED in=acme/api STATUS:Ready TYPE:Risk LABEL:b
			1 3 CREATED in=acme/api STATUS:Ready TYPE:Bug LABEL:c
			1 4 CREATED in=Acme/api STATUS:Ready TYPE:Bug LABEL:b
			1 5 CREATED in=y-x STATUS:Ready TYPE:Story LABEL:a
			1 6 CREATED src=t in=z STATUS:Ready
			1 7 CREATED in=acme STATUS:Ready TYPE:Bug LABEL:a`,
		want: `load.items 3
			item.1.type defect
			item.5.type feature
			item.6.type unclassified`,
	},
	{
		name: "R11 adding a label can be moved_in",
		edit: func(p *flow.Policy, _ *flow.Workflow) {
			p.ValueStreams[0].Include = []flow.Include{{Labels: []string{"ours"}}}
		},
		log: `1 1 CREATED STATUS:Ready
			5 1 UPDATED LABEL:ours
			9 1 UPDATED LABEL:-ours`,
		want: `30d.entered.moved_in 1
			30d.exited.moved_out 1
			30d.load.presence_seconds 4d`,
	},
	{
		name: "R12 a type that becomes ignored takes the item out, after completion nothing",
		log: `1 1 CREATED STATUS:Ready TYPE:Story
			5 1 UPDATED TYPE:Epic
			1 2 CREATED STATUS:Ready TYPE:Story
			5 2 UPDATED STATUS:Done
			6 2 UPDATED TYPE:Epic`,
		want: `30d.exited.moved_out 1
			30d.exited.completed 1
			30d.velocity.by_type.feature 1
			item.1.state absent
			item.2.type feature
			quality.ignored_by_type 1`,
	},
	{
		name: "R13 a left-censored item never has a flow time, first seen done is no completion",
		log: `1 1 OBSERVED STATUS:Backlog
			3 1 UPDATED STATUS:In_Progress
			9 1 UPDATED STATUS:Done
			1 2 OBSERVED STATUS:Done
			1 3 OBSERVED STATUS:Ready`,
		want: `30d.velocity.items 1
			30d.completion_events 1
			30d.flow_time.items 0
			30d.flow_time.p50_seconds null
			item.1.flow_time_seconds null
			item.1.started_at null
			item.2.state done
			item.2.finished_at null
			item.3.age_seconds 28d
			quality.left_censored 3
			quality.born_done 0`,
	},
	{
		name: "R14 born done is nowhere but in data quality",
		log:  `1 1 CREATED STATUS:Done`,
		want: `30d.velocity.items 0
			30d.completion_events 0
			item.1.state absent
			quality.born_done 1`,
	},
	{
		name: "R14 leaving done makes it an ordinary item",
		log: `1 1 CREATED STATUS:Done
			5 1 UPDATED STATUS:In_Progress
			9 1 UPDATED STATUS:Done`,
		want: `30d.velocity.items 1
			30d.completion_events 1
			30d.entered.reopened 1
			30d.reopen_events 1
			item.1.started_at @5
			item.1.flow_time_seconds 4d
			quality.born_done 0`,
	},
	{
		name: "R15 an item is under the first heading that fits, under its last value stream's workflow",
		edit: func(p *flow.Policy, _ *flow.Workflow) {
			other := plainWorkflow()
			other.StatusByName["Parked"] = flow.Waiting
			p.ValueStreams[1].Workflow = other
		},
		log: `1 1 CREATED STATUS:Done TYPE:Epic
			1 2 OBSERVED STATUS:Backlog
			5 2 UPDATED STATUS:Done
			1 3 CREATED STATUS:Backlog
			5 3 UPDATED STATUS:Done
			1 4 CREATED STATUS:Ready
			5 4 UPDATED STATUS:Done
			1 5 CREATED STATUS:Parked
			1 6 CREATED in=Q STATUS:Parked
			1 7 CREATED STATUS:Parked TYPE:Epic
			1 8 CREATED in=elsewhere STATUS:Done
			1 9 CREATED STATUS:Parked
			5 9 UPDATED in=Q`,
		want: `quality.ignored_by_type 2
			quality.born_done 0
			quality.left_censored 1
			quality.completed_without_start 1
			quality.completed_never_active 1
			quality.unmapped_statuses.Parked 1`,
	},
	{
		name: "R15 unmapped facts count whatever else decided, by id where there is no name",
		edit: labelled,
		log: `1 1 CREATED STATUS:#12 LABEL:blocked
			2 1 UPDATED STATUS:Parked STATE:closed`,
		want: `quality.unmapped_statuses.id:12 1
			quality.unmapped_statuses.Parked 1`,
	},
	{
		name: "R16 DELETED",
		log: `1 1 CREATED STATUS:Ready
			5 1 DELETED
			1 2 CREATED STATUS:Backlog
			5 2 DELETED
			1 3 CREATED STATUS:Ready
			5 3 UPDATED STATUS:Done
			6 3 DELETED
			1 4 CREATED STATUS:Ready
			5 4 DELETED
			9 4 UPDATED LABEL:back`,
		want: `item.1.state deleted
			item.2.state deleted
			item.3.state done
			item.4.state waiting
			item.4.age_seconds 24d
			30d.velocity.items 1
			30d.entered.started 3
			30d.entered.resumed 1
			30d.exited.deleted 2
			30d.exited.completed 1`,
	},
	{
		name: "R17 done and moved at one instant",
		log: `1 1 CREATED STATUS:Ready
			5 1 UPDATED in=Q STATUS:Done`,
		want: `30d.exited.completed 1
			30d.exited.moved_out absent
			30d.velocity.items 0
			30d.completion_events 0
			w.30d.velocity.items 1
			w.30d.completion_events 1
			w.30d.entered.moved_in absent`,
	},
	{
		name: "R18 discarded is cancelled or deleted as of T, out of here, in the window",
		log: `1 1 CREATED STATUS:Ready
			3 1 UPDATED in=Q
			25 1 UPDATED STATUS:Won't_Do
			1 2 CREATED STATUS:Ready
			5 2 DELETED
			1 3 CREATED STATUS:Backlog
			5 3 UPDATED STATUS:Won't_Do
			1 4 CREATED STATUS:Ready
			5 4 UPDATED STATUS:Won't_Do
			6 4 UPDATED STATUS:Ready
			10 5 CREATED STATUS:Ready
			11 5 DELETED
			24 5 UPDATED STATUS:Ready
			26 5 UPDATED STATUS:Won't_Do`,
		want: `30d.discarded.items 2
			30d.discarded.in_flow_seconds 7d
			7d.discarded.items 1
			7d.discarded.in_flow_seconds 3d
			w.7d.discarded.items 1
			w.7d.discarded.in_flow_seconds 24d
			30d.exited.cancelled 2
			30d.exited.deleted 2`,
	},
	{
		name: "R19 times are whole-life, but not under an ignored type or while deleted",
		log: `1 1 CREATED in=elsewhere STATUS:In_Progress
			5 1 UPDATED TYPE:Epic
			8 1 UPDATED TYPE:Story
			10 1 DELETED
			12 1 UPDATED in=P
			14 1 UPDATED STATUS:Done`,
		want: `30d.flow_time.p50_seconds 8d
			item.1.started_at @1
			30d.load.presence_seconds 2d`,
	},
	{
		name: "R20 which items are listed, with the type and value stream at completion",
		log: `1 1 CREATED STATUS:Ready TYPE:Bug
			5 1 UPDATED STATUS:Done
			6 1 UPDATED in=Q TYPE:Story
			1 2 CREATED STATUS:Backlog
			1 3 CREATED STATUS:Won't_Do
			1 4 CREATED STATUS:Backlog
			2 4 DELETED
			1 5 CREATED STATUS:Done
			1 6 CREATED STATUS:Ready TYPE:Epic
			1 7 CREATED STATUS:Ready key=P-7
			5 7 UPDATED in=Q key=Q-7
			9 7 UPDATED in=P key=P-7`,
		want: `item.1.type defect
			w.item.1.type absent
			item.2.state new
			item.3.state cancelled
			item.4.state deleted
			item.5.state absent
			item.6.state absent
			item.7.key P-7
			w.item.7.state absent`,
	},
	{
		name: "R21 a reopening belongs where the item is after it, to new as well",
		log: `1 1 CREATED STATUS:Ready
			5 1 UPDATED STATUS:Done
			9 1 UPDATED in=Q STATUS:Backlog
			11 1 UPDATED STATUS:In_Progress
			1 2 CREATED STATUS:Ready
			5 2 UPDATED STATUS:Won't_Do
			9 2 UPDATED STATUS:In_Progress
			1 3 OBSERVED STATUS:Ready`,
		want: `30d.reopen_events 1
			30d.entered.reopened 1
			30d.entered.started 2
			30d.entered.observed 1
			w.30d.reopen_events 1
			w.30d.entered.resumed 1
			w.30d.entered.reopened absent
			w.item.1.reopens 1`,
	},
}

var numberRules = []rule{
	{
		name: "R22 over target is above it, attained is up to it, neglected is from the threshold on",
		log: `17 1 CREATED STATUS:Ready
			16 2 CREATED STATUS:Ready
			15 3 CREATED STATUS:Ready
			1 4 CREATED STATUS:Ready
			13 4 UPDATED STATUS:Done
			1 5 CREATED STATUS:Ready
			13.5 5 UPDATED STATUS:Done`,
		want: `load.items 3
			load.over_target_items 2
			load.neglected_items 1
			30d.target_attainment_ratio 0.5`,
	},
	{
		name: "R22 without a target both numbers are null",
		edit: func(p *flow.Policy, _ *flow.Workflow) { p.ValueStreams[0].Targets = flow.Targets{} },
		log: `1 1 CREATED STATUS:Ready
			1 2 CREATED STATUS:Ready
			9 2 UPDATED STATUS:Done`,
		want: `load.over_target_items null
			30d.target_attainment_ratio null
			30d.flow_time.items 1`,
	},
	{
		name: "R23 a sum over nothing is 0, everything else null",
		want: `load.items 0
			load.by_state.active 0
			load.by_state.waiting 0
			load.oldest_age_seconds null
			load.total_age_seconds 0
			load.over_target_items 0
			load.neglected_items 0
			30d.velocity.items 0
			30d.flow_time.items 0
			30d.flow_time.p50_seconds null
			30d.flow_time.p85_seconds null
			30d.flow_time.p95_seconds null
			30d.flow_time.mean_seconds null
			30d.efficiency.active_seconds 0
			30d.efficiency.waiting_seconds 0
			30d.efficiency.ratio null
			30d.efficiency.in_window_ratio null
			30d.load.at_start 0
			30d.load.at_end 0
			30d.load.average 0
			30d.load.presence_seconds 0
			30d.target_attainment_ratio null
			30d.discarded.items 0
			30d.discarded.in_flow_seconds 0
			30d.completion_events 0
			30d.reopen_events 0
			30d.distribution.feature absent
			quality.duplicates 0`,
	},
	{
		name: "R24 a status with an id goes under the latest name of its source",
		edit: func(_ *flow.Policy, w *flow.Workflow) {
			w.StatusByID = map[string]flow.State{"7": flow.Waiting, "8": flow.Active}
		},
		log: `1 1 CREATED STATUS:Review#7
			3 1 UPDATED STATUS:#8
			5 1 UPDATED STATUS:Ready
			6 1 UPDATED STATUS:Done
			20 2 CREATED in=elsewhere STATUS:Check#7
			21 3 CREATED in=elsewhere src=t STATUS:Other#7`,
		want: `30d.status_seconds.Check 2d
			30d.status_seconds.Review absent
			30d.status_seconds.Other absent
			30d.status_seconds.id:8 2d
			30d.status_seconds.Ready 1d`,
	},
	{
		name: "R24 the label of a label rule, the status that is held, else open",
		edit: func(p *flow.Policy, w *flow.Workflow) {
			labelled(p, w)
			w.StartSignals = []string{flow.SignalAssigned}
		},
		log: `1 1 CREATED STATUS:Ready
			3 1 UPDATED STATUS:Parked
			6 1 UPDATED LABEL:blocked
			10 1 UPDATED STATUS:Done
			1 2 CREATED ASSIGNED:true
			6 2 UPDATED STATE:closed`,
		want: `30d.status_seconds.Ready 2d
			30d.status_seconds.Parked 3d
			30d.status_seconds.blocked 4d
			30d.status_seconds.open 5d`,
	},
	{
		name: "R25 approximate changes no number, windows are keyed as written",
		edit: func(p *flow.Policy, _ *flow.Workflow) { p.Windows = []flow.Window{{Name: "336h", Length: 14 * day}} },
		log: `1 1 CREATED STATUS:Ready
			20 1 UPDATED approximate STATUS:Done`,
		want: `336h.velocity.items 1
			336h.flow_time.p50_seconds 19d
			7d.velocity.items absent`,
	},
	{
		name: "1.1 percentiles are nearest rank, efficiency is the ratio of sums",
		log: `1 1 CREATED STATUS:Ready
			2 1 UPDATED STATUS:Done
			1 2 CREATED STATUS:In_Progress
			3 2 UPDATED STATUS:Done
			1 3 CREATED STATUS:In_Progress
			4 3 UPDATED STATUS:Done
			1 4 CREATED STATUS:Ready
			11 4 UPDATED STATUS:Done`,
		want: `30d.flow_time.p50_seconds 2d
			30d.flow_time.p85_seconds 10d
			30d.flow_time.p95_seconds 10d
			30d.flow_time.mean_seconds 4d
			30d.efficiency.ratio 0.3125
			30d.load.average 0.533333`,
	},
	{
		name: "0 windows are half-open",
		log: `1 1 CREATED STATUS:Ready
			22 1 UPDATED STATUS:Done
			22 2 CREATED STATUS:Ready
			21.9 3 CREATED STATUS:Ready`,
		want: `7d.velocity.items 1
			7d.load.at_start 2
			7d.load.at_end 2
			7d.entered.started 1
			7d.load.presence_seconds 14d`,
	},
}
