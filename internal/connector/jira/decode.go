package jira

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// The types of this file hold the parts of Jira's answers that are read. The
// authors of histories, the assignee and all other people are not among them.

// text is a JSON string, or a number taken as one: ids come as either. Anything
// else is the empty text; the histories of custom fields hold all kinds.
type text string

func (t *text) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && (data[0] == '-' || data[0] >= '0' && data[0] <= '9') {
		*t = text(data)
		return nil
	}
	*t = ""
	if len(data) < 2 || data[0] != '"' {
		return nil
	}
	// The decoder has found the JSON to be well-formed already, so that text
	// without escapes is what stands between the quotes. Almost all is.
	if inner := data[1 : len(data)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		*t = text(inner)
		return nil
	}
	return json.Unmarshal(data, (*string)(t))
}

// stamp is a time as Jira writes it. What cannot be read is the zero time: the
// change made of it is then refused on its own, and not the page it came with.
type stamp struct{ time.Time }

func (s *stamp) UnmarshalJSON(data []byte) error {
	var t text
	if t.UnmarshalJSON(data) == nil {
		s.Time = parseTime(string(t))
	}
	return nil
}

// parseTime reads a time with or without a colon in its offset, or a number of
// seconds or milliseconds of the epoch, told apart by size. It is the zero time
// where the text is none of these.
func parseTime(s string) time.Time {
	for _, layout := range [...]string{"2006-01-02T15:04:05-0700", time.RFC3339, "2006-01-02T15:04Z07:00"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	// 1e11 seconds are the year 5138, 1e11 milliseconds are in 1973.
	switch n, err := strconv.ParseInt(s, 10, 64); {
	case err != nil:
		return time.Time{}
	case n > -1e11 && n < 1e11:
		return time.Unix(n, 0).UTC()
	default:
		return time.UnixMilli(n).UTC()
	}
}

// milliseconds of the epoch; 0 for an unknown time.
func (s stamp) milliseconds() int64 {
	if s.IsZero() {
		return 0
	}
	return s.UnixMilli()
}

// issue is a work item as search and the issue itself show it.
type issue struct {
	ID        text       `json:"id"`
	Key       string     `json:"key"`
	Fields    fields     `json:"fields"`
	Changelog *changelog `json:"changelog"`
}

type fields struct {
	Created    stamp    `json:"created"`
	Updated    stamp    `json:"updated"`
	Status     status   `json:"status"`
	Type       named    `json:"issuetype"`
	Project    project  `json:"project"`
	Resolution named    `json:"resolution"`
	Labels     []string `json:"labels"`
	Parent     named    `json:"parent"`
	Summary    string   `json:"summary"`
}

// scanFields are the fields that a scan asks for: those of the type above.
var scanFields = []string{"created", "updated", "status", "issuetype", "project", "resolution", "labels", "parent", "summary"}

type named struct {
	ID   text   `json:"id"`
	Name string `json:"name"`
}

type project struct {
	ID   text   `json:"id"`
	Key  string `json:"key"`
	Name string `json:"name"`
}

type status struct {
	ID       text   `json:"id"`
	Name     string `json:"name"`
	Category struct {
		Key string `json:"key"`
	} `json:"statusCategory"`
}

// category returns the key of a status category that means something.
func (s status) category() string {
	switch k := s.Category.Key; k {
	case "new", "indeterminate", "done":
		return k
	}
	return ""
}

// changelog is the part of an issue's history that comes with the issue.
type changelog struct {
	Total     *int      `json:"total"`
	Histories []history `json:"histories"`
}

// complete reports whether nothing was cut off.
func (c *changelog) complete() bool {
	return c != nil && c.Total != nil && *c.Total <= len(c.Histories)
}

// history is one entry of an issue's history: what changed together.
type history struct {
	ID      text   `json:"id"`
	Created stamp  `json:"created"`
	Items   []item `json:"items"`
}

// item is the change of one field: ids, and names as they were then.
type item struct {
	Field    string `json:"field"`
	FieldID  string `json:"fieldId"`
	From     text   `json:"from"`
	FromText text   `json:"fromString"`
	To       text   `json:"to"`
	ToText   text   `json:"toString"`
}

// sequence orders the entries of one instant as Jira does: by number.
func (h history) sequence() int64 {
	n, err := strconv.ParseInt(string(h.ID), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// ordered returns the histories oldest first and each once.
func ordered(histories []history) []history {
	sorted := slices.Clone(histories)
	slices.SortStableFunc(sorted, func(a, b history) int {
		return cmp.Or(a.Created.Compare(b.Created.Time), cmp.Compare(a.sequence(), b.sequence()), cmp.Compare(a.ID, b.ID))
	})
	return slices.CompactFunc(sorted, func(a, b history) bool { return a.ID == b.ID })
}

// searchAnswer is a page of either dialect of search.
type searchAnswer struct {
	Issues        []issue `json:"issues"`
	NextPageToken string  `json:"nextPageToken"`
	IsLast        *bool   `json:"isLast"`
	MaxResults    int     `json:"maxResults"`
	Total         *int    `json:"total"`
}

// changelogAnswer is a page of one issue's history.
type changelogAnswer struct {
	Total      *int      `json:"total"`
	MaxResults int       `json:"maxResults"`
	IsLast     *bool     `json:"isLast"`
	Values     []history `json:"values"`
	Histories  []history `json:"histories"` // some Data Center versions
}

// bulkAnswer is a page of many issues' histories.
type bulkAnswer struct {
	Logs []struct {
		IssueID   text      `json:"issueId"`
		Histories []history `json:"changeHistories"`
	} `json:"issueChangeLogs"`
	NextPageToken string `json:"nextPageToken"`
}

// delivery is a webhook's body.
type delivery struct {
	Event     string     `json:"webhookEvent"`
	Type      string     `json:"issue_event_type_name"`
	Timestamp stamp      `json:"timestamp"`
	Issue     *issue     `json:"issue"`
	Changelog *changelog `json:"changelog"`
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
