// Package github reads github.com and GitHub Enterprise Server.
//
// [Source] pulls the issues of some repositories with their timelines, evidence
// from linked pull requests and, where one is configured, the status on a
// project (a board), and translates each event into one [flow.Change]; it is
// made by [New]. [Fake] is GitHub in memory, for tests and for the demonstration,
// with the traps of the real one built in.
//
//   - source.go: configuration and what a source keeps in memory;
//   - sync.go: the scan over the issues of each repository by time of update;
//     list.go: the way through a list that changes meanwhile; cursor.go: how far
//     it has come; labels.go: renamed labels;
//   - timeline.go: the history of one issue; decode.go and scan.go: GitHub's JSON;
//     translate.go: from there to changes;
//   - check.go: credentials, statuses and types; census.go: what exists;
//   - outage.go: what cannot be read for a while, as described below;
//   - client.go: one HTTP request and what its answer means; auth.go: the
//     credentials and where they may go; etag.go: answers that are still good;
//   - graphql.go: the queries and what their answers mean; pulls.go: what pull
//     requests say about the issues they close; board.go: the board, as described
//     below; moves.go: which moves were told already;
//   - transfers.go: which repository had an issue when, as described below;
//   - webhook.go: deliveries, and what they make to be read again;
//   - fake.go, fakepull.go, fakeboard.go: the script of a simulated GitHub; fakehttp.go,
//     fakegraph.go, fakehook.go: its faces; fakeshow.go: how it shows things.
//
// The package stores nothing. People never leave it: authors are not decoded,
// and of an assignment only whether there is one remains.
//
// # What cannot be read
//
// A limit, a wrong token or a site that does not answer is about everything, and
// the poll fails. Anything else keeps nothing else from being read: a repository
// that is out of sight or gone, a project that these credentials do not see, an
// issue whose timeline fails three times in a row, up to fifty of them. The poll
// then ends in a [connector.PartialError] for as long as that lasts. The part is
// asked for again after some seconds, then less often, at last every five minutes.
// Nothing is lost: the cursor holds the numbers of the issues that are missing, and
// that issues were read without their moves on the project, which makes them be
// read again once it is in sight. A census counts for the repositories that it
// could list. A check of the credentials reports each of these as a failure.
//
// An old event of a closing does not tell why. Its reason is the present
// one where the issue was closed at that very time and still is, and otherwise
// none. So where the issue was closed again since, who reads it for the first time
// does not learn the reason of the former closing; the log that was there before
// keeps it.
//
// # The status on a board
//
// The board's field Status is an item's status (case 22). It is learnt from
// three places, for none of them is enough:
//
//   - Webhooks come first. A delivery says from what to what and when, within
//     seconds. Only boards of organisations have them, and GitHub does not repeat
//     a delivery that was lost.
//   - The snapshot of the board, [Source.Observe], reconciles. It lists what each
//     item has now and since when. The Runner compares that with what the log holds
//     and publishes the differences as approximate: what happened between two
//     snapshots stays unknown.
//   - The timelines of the issues fill in the past, where the site records moves
//     there. GitHub began to at the end of 2025 and leaves most of them out since
//     September 2026. They tell names, to which the ids of the options that have
//     these names now are added.
//
// One move is told by several of them, dated up to some seconds apart, under
// different ids. Within a day, and while the process lives, a webhook and a
// timeline leave out what another of the three has told before, one for one. The
// snapshot is compared with the log and needs no memory. What is told twice
// nevertheless, such as after a restart, is a change to the status that the item
// has already: it begins no visit and changes no metric, and only counts as a gap
// in the history.
//
// Times are exact to the second. Of moves of one item in the same second the
// timeline knows the order, deliveries do not, and the next snapshot decides.
// Archiving an item changes no status: what was done stays done. Taking it off
// the board clears the status, which a delivery alone tells: what a snapshot
// lacks may have been archived.
//
// # Transferred issues
//
// An issue that is transferred is another one from then on, with another id and
// number, and the old address leads there. The new one has the past of the old one
// in its timeline, and it is that timeline which counts (case 7): each fact names
// the repository that had the issue at the time, be it one that is not read. The
// timeline tells when it was transferred, and GraphQL from where. Where GraphQL
// does not answer, all facts name the repository that has the issue now.
//
// What the log has about the old one is hidden behind an ALIAS to the new one,
// dated at its birth, for from there on the new one tells the same. Webhooks of
// either repository tell of it, and otherwise the census, which misses the old one
// and looks where its address leads ([Source.Trace]). An issue that went to a
// repository that is not read counts as deleted.
//
// That the events of the past are in the new timeline is how GitHub is understood
// to work, and not documented. Should it leave some out, what they tell is lost
// with the old issue.
package github
