package sim

import "time"

// Pace is how many times as fast as the wall clock working time passes in a
// world once its history has ended: a working day in two minutes.
const Pace = 240

const (
	day          = 8 * time.Hour // of working time
	week         = 5 * day
	dayStart     = 9 * time.Hour // on the calendar
	calendarDay  = 24 * time.Hour
	calendarWeek = 7 * calendarDay
	historyWeeks = 66 // fifteen months, for five quarters
)

// A clock lays working time out over the calendar.
type clock struct {
	origin time.Time     // the Monday, midnight UTC, at which working time is 0
	start  time.Time     // from here on working time is accelerated
	worked time.Duration // working time between the two
}

// newClock returns the clock of a world with at least some weeks of history.
func newClock(start time.Time, weeks int) clock {
	start = start.UTC().Round(0)
	origin := start.Truncate(calendarDay).AddDate(0, 0, -7*weeks)
	for origin.Weekday() != time.Monday {
		origin = origin.AddDate(0, 0, -1)
	}
	whole := start.Sub(origin) / calendarWeek
	rest := start.Sub(origin) % calendarWeek
	worked := whole * week
	if days := rest / calendarDay; days < 5 {
		worked += days*day + min(max(rest%calendarDay-dayStart, 0), day)
	} else {
		worked += week
	}
	return clock{origin: origin, start: start, worked: worked}
}

// instant returns when on the wall clock a working time is over, in whole
// milliseconds as trackers tell it. It never goes back as the working time
// goes on.
func (c clock) instant(worked time.Duration) time.Time {
	if worked > c.worked {
		return c.start.Add((worked - c.worked) / Pace).Truncate(time.Millisecond)
	}
	weeks, rest := worked/week, worked%week
	t := c.origin.Add(weeks*calendarWeek + rest/day*calendarDay + dayStart + rest%day)
	return t.Truncate(time.Millisecond)
}
