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
//     cursor.go: how far it has come; labels.go: renamed labels;
//   - timeline.go: the history of one issue; decode.go: GitHub's JSON and from
//     there to changes;
//   - check.go: credentials, statuses and types; census.go: what exists;
//   - client.go: one HTTP request and what its answer means; auth.go: the
//     credentials and where they may go; etag.go: answers that are still good;
//   - fake.go, fakeboard.go: the script of a simulated GitHub; fakehttp.go,
//     fakegraph.go, fakehook.go: its faces; fakeshow.go: how it shows things.
//
// The package stores nothing. People never leave it: authors are not decoded,
// and of an assignment only whether there is one remains.
package github
