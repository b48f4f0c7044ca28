// Package flow is the domain of flowmetrics: it turns what trackers said about
// work items into the five flow metrics of value streams.
//
// It holds pure data and pure functions and imports only the standard library.
// Read it in this order:
//
//   - change.go: [Change], one immutable fact in the tracker's own words;
//   - policy.go: [Policy], the configured meaning of those words;
//   - ledger.go: [Ledger], the set of facts, compact in memory;
//   - fold.go: [Fold], the facts of one item turned into a [Timeline] of flow states;
//   - measure.go: [Measure], timelines turned into a [Snapshot] as of an instant;
//   - board.go: [Board], the same computation kept up to date change by change.
//
// No function here reads a clock: the instant of evaluation is always an
// argument. "As of T" sees the facts with at < T and no others.
//
// The rules cited as R1 to R26 and as "case N" are the decisions listed in
// ARCHITECTURE.md under "Definitions"; the invariants I1 to I10 are listed there
// under "Invariants".
package flow
