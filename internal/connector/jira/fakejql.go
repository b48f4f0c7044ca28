package jira

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fakeQuery is a JQL query of the few forms that the fake understands.
type fakeQuery struct {
	projects   []string
	since      time.Time // bound on the time of update; zero: none
	restricted bool
	order      string // updated, created or id
	descending bool
}

// jqlError is Jira's message about a query, in Jira's own words.
type jqlError string

func (e jqlError) Error() string { return string(e) }

var (
	jqlOrder   = regexp.MustCompile(`(?i)^(.*?)\s*\border\s+by\s+(updated|created|id|key)(?:\s+(asc|desc))?\s*$`)
	jqlAnd     = regexp.MustCompile(`(?i)\s+and\s+`)
	jqlProject = regexp.MustCompile(`(?i)^project\s+in\s*\((.*)\)$|^project\s*=\s*(.*)$`)
	jqlUpdated = regexp.MustCompile(`(?i)^updated\s*>=\s*(?:(-?\d+)|["'](\d{4}-\d\d-\d\d \d\d:\d\d)["'])$`)
)

// parseJQL reads a query; the error is Jira's message about it.
func (f *Fake) parseJQL(jql string) (fakeQuery, error) {
	q := fakeQuery{order: "id"}
	if m := jqlOrder.FindStringSubmatch(jql); m != nil {
		jql, q.order, q.descending = m[1], strings.ToLower(m[2]), strings.EqualFold(m[3], "desc")
	}
	if strings.TrimSpace(jql) == "" {
		return q, nil
	}
	q.restricted = true
	for _, clause := range jqlAnd.Split(strings.TrimSpace(jql), -1) {
		if m := jqlProject.FindStringSubmatch(clause); m != nil {
			for name := range strings.SplitSeq(m[1]+m[2], ",") {
				key := strings.Trim(strings.TrimSpace(name), `"'`)
				if !slices.ContainsFunc(f.projects, func(p *fakeProject) bool { return p.key == key }) {
					return q, jqlError(fmt.Sprintf("The value '%s' does not exist for the field 'project'.", key))
				}
				q.projects = append(q.projects, key)
			}
		} else if m := jqlUpdated.FindStringSubmatch(clause); m != nil && m[1] != "" {
			if f.opts.WrittenTimes {
				return q, jqlError(fmt.Sprintf("Date value '%s' for field 'updated' is invalid. Valid formats include: 'yyyy/MM/dd HH:mm', 'yyyy-MM-dd HH:mm'.", m[1]))
			}
			ms, err := strconv.ParseInt(m[1], 10, 64)
			if err != nil {
				return q, err
			}
			q.since = time.UnixMilli(ms)
		} else if m != nil {
			// A bare time is one of the caller's wall clock.
			at, err := time.ParseInLocation("2006-01-02 15:04", m[2], f.opts.Location)
			if err != nil {
				return q, err
			}
			q.since = at
		} else {
			return q, jqlError(fmt.Sprintf("Error in the JQL Query: Expecting operator but got '%s'.", clause))
		}
	}
	return q, nil
}

// place is where an issue stands in an ordered result.
type place struct {
	Stamp int64 `json:"stamp"` // milliseconds, 0 when ordered by id
	ID    int   `json:"id"`
}

func (q fakeQuery) place(i *fakeIssue) place {
	switch q.order {
	case "updated":
		return place{i.updated.UnixMilli(), i.id}
	case "created":
		return place{i.created.UnixMilli(), i.id}
	}
	return place{0, i.id}
}

func (q fakeQuery) compare(a, b place) int {
	c := cmp.Or(cmp.Compare(a.Stamp, b.Stamp), cmp.Compare(a.ID, b.ID))
	if q.descending {
		return -c
	}
	return c
}

// matches returns the issues that fit the query now, in its order.
func (f *Fake) matches(q fakeQuery) []*fakeIssue {
	var found []*fakeIssue
	for _, i := range f.issues {
		if len(q.projects) > 0 && !slices.Contains(q.projects, i.project.key) {
			continue
		}
		if i.updated.Truncate(time.Millisecond).Before(q.since) {
			continue
		}
		found = append(found, i)
	}
	slices.SortFunc(found, func(a, b *fakeIssue) int { return q.compare(q.place(a), q.place(b)) })
	return found
}
