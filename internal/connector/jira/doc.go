// Package jira reads Jira Cloud and Jira Data Center.
//
// [Source] pulls the work items of some projects with their complete histories
// and translates each history entry into one [flow.Change]; it is made by
// [New]. [Fake] is an in-memory Jira site for tests and for the demonstration,
// with the traps of the real ones built in.
//
//   - sync.go: the scan over all issues by time of update, and its cursor;
//   - changelog.go: complete histories, whatever the site offers for them;
//   - search.go: the dialects of search;
//   - check.go: credentials, statuses, types, the census of what exists;
//   - webhook.go: deliveries of webhooks, and reading the issues that they name;
//   - client.go: credentials, and what answers mean to Jira;
//   - decode.go: Jira's JSON; translate.go: from there to changes;
//   - fake.go, fakehttp.go, fakejql.go, fakehook.go: the simulated site.
//
// The package stores nothing. People never leave it: the fields that hold them
// are not asked for, and the authors of histories are not decoded.
package jira
