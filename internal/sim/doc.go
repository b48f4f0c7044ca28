// Package sim simulates the organisation of the demonstration: two value
// streams whose teams work on items in a simulated Jira site and on a simulated
// GitHub.
//
// [New] makes a [World] and writes fifteen months of history into the sites;
// [World.Advance] lets what has happened since happen. Everything follows from
// the seed, so a world can be made again exactly.
//
// # Time
//
// Teams work from nine to five UTC, Monday to Friday, and a world counts
// nothing but that working time. Up to its start, working time is laid out over
// the calendar as it would be in life. From then on it passes [Pace] times as
// fast as the clock on the wall and without nights, so that a dashboard moves
// while somebody watches: a working day goes by in two minutes. The times of the
// facts stay honest all the same: each is the instant at which it happened on
// the wall clock and never in the future. Work that is begun during the
// demonstration is therefore finished within the hour, and the longer the demonstration
// runs, the more of a window such short flow times fill.
//
// # What happens
//
// Payments keeps the number of items in flow around its limit. Platform does
// too, until six weeks before the start: then it begins more than it finishes,
// its load rises, and because the same people share more items, each takes
// longer.
//
// Two in five items of platform are issues on GitHub. Most of those are on a board
// whose status is their state, blocked or not by a label; of the others labels,
// the assignment and the pull request tell. Until the start the board's moves are
// all in the timelines, from then on but half of them, as on the real one: the
// others show in the board as it is alone.
//
// Both have what makes real histories hard: items reopened, blocked, cancelled
// by status or by resolution, returned to the backlog, moved between projects,
// transferred between repositories, retyped, deleted, finished without a start,
// born done, and put into a status that no rule maps.
package sim
