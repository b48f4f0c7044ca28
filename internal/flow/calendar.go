package flow

import "time"

// Weeks returns the starts of the calendar weeks, Monday 00:00 by the wall clock
// of a location, that have a part in [from, to), and after them the end of the
// last one. A week is 167 or 169 hours long where the clocks change. The result
// is nil for an empty interval.
func Weeks(loc *time.Location, from, to time.Time) (weeks []time.Time) {
	if !from.Before(to) {
		return nil
	}
	local := from.In(loc)
	sinceMonday := (int(local.Weekday()) + 6) % 7
	year, month, day := local.Date()
	// Stepped by the date: where a midnight is skipped, the instant that stands
	// for it may lie on the day before.
	for week := 0; ; week++ {
		start := time.Date(year, month, day-sinceMonday+7*week, 0, 0, 0, 0, loc)
		weeks = append(weeks, start)
		if !start.Before(to) {
			return weeks
		}
	}
}

// signalWeeks are the calendar weeks that the signals look at. They are the same
// for each instant of [start, end), which is the current week.
type signalWeeks struct {
	start, end int64
	// load are the bounds of the weeks before the current one; the last of them
	// is the last complete week.
	load [loadWeeks + 1]int64
	// baseline are the bounds of the last weeks that had ended when the calendar
	// quarter began in which the last complete week began. So they stay for a
	// quarter, and then move on by one.
	baseline [baselineWeeks + 1]int64
}

// newSignalWeeks returns the weeks as of an instant; nil is UTC.
func newSignalWeeks(loc *time.Location, t int64) *signalWeeks {
	if loc == nil {
		loc = time.UTC
	}
	year, month, day := time.Unix(0, t).In(loc).Date()
	monday := mondayOf(year, month, day)
	// Where the clocks skip a midnight, the instant that stands for it may lie on
	// the day before: an instant after it is of the week that it begins.
	for !startOf(loc, monday, 1).After(time.Unix(0, t)) {
		monday = monday.AddDate(0, 0, 7)
	}
	for startOf(loc, monday, 0).After(time.Unix(0, t)) {
		monday = monday.AddDate(0, 0, -7)
	}
	w := &signalWeeks{start: startOf(loc, monday, 0).UnixNano(), end: startOf(loc, monday, 1).UnixNano()}
	for i := range w.load {
		w.load[i] = startOf(loc, monday, i-loadWeeks).UnixNano()
	}
	year, month, _ = monday.AddDate(0, 0, -7).Date()
	monday = mondayOf(year, month-(month-1)%3, 1)
	for i := range w.baseline {
		w.baseline[i] = startOf(loc, monday, i-baselineWeeks).UnixNano()
	}
	return w
}

// mondayOf returns the Monday of a date's week as a date in UTC, where every day
// has 24 hours.
func mondayOf(year int, month time.Month, day int) time.Time {
	date := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	return date.AddDate(0, 0, -(int(date.Weekday())+6)%7)
}

// startOf returns when the week begins in a location that is so many weeks after
// that of a Monday.
func startOf(loc *time.Location, monday time.Time, weeks int) time.Time {
	year, month, day := monday.Date()
	return time.Date(year, month, day+7*weeks, 0, 0, 0, 0, loc)
}

// A BusinessCalendar says when people work. Times measured by it are additional
// to those of the 24×7 calendar and never mixed with them (case 16).
type BusinessCalendar struct {
	Location   *time.Location
	Days       [7]bool // by time.Weekday
	Start, End int     // seconds of the wall clock since midnight
	Holiday    func(year int, month time.Month, day int) bool
}

// BusinessTime returns how much of [from, to) lies within business hours. A nil
// Holiday means that there are none.
func (c *BusinessCalendar) BusinessTime(from, to time.Time) time.Duration {
	var sum time.Duration
	year, month, day := from.In(c.Location).Date()
	for ; ; day++ {
		midnight := time.Date(year, month, day, 0, 0, 0, 0, c.Location)
		if !midnight.Before(to) {
			return sum
		}
		date := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
		y, m, d := date.Date()
		if !c.Days[date.Weekday()] || c.Holiday != nil && c.Holiday(y, m, d) {
			continue
		}
		open := time.Date(y, m, d, 0, 0, c.Start, 0, c.Location)
		shut := time.Date(y, m, d, 0, 0, c.End, 0, c.Location)
		if open.Before(from) {
			open = from
		}
		if shut.After(to) {
			shut = to
		}
		if open.Before(shut) {
			sum += shut.Sub(open)
		}
	}
}
