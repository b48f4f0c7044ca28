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
