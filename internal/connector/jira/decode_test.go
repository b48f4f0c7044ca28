package jira

import (
	"bufio"
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func TestParseTime(t *testing.T) {
	for text, want := range map[string]string{
		"2026-03-01T11:09:27.985+0800":  "2026-03-01T03:09:27.985Z",
		"2026-03-01T11:09:27+0800":      "2026-03-01T03:09:27Z",
		"2026-03-01T00:00:00.000-0330":  "2026-03-01T03:30:00Z",
		"2026-03-01T11:09:27.985+05:30": "2026-03-01T05:39:27.985Z",
		"2026-03-01T11:09:27.985Z":      "2026-03-01T11:09:27.985Z",
		"2026-03-01T11:09:27Z":          "2026-03-01T11:09:27Z",
		"1772359767":                    "2026-03-01T10:09:27Z",
		"1772359767985":                 "2026-03-01T10:09:27.985Z",
		"0":                             "1970-01-01T00:00:00Z",
		"":                              "0001-01-01T00:00:00Z",
		"yesterday":                     "0001-01-01T00:00:00Z",
		"2026-02-30T11:09:27.985+0800":  "0001-01-01T00:00:00Z",
		"99999999999999999999":          "0001-01-01T00:00:00Z",
	} {
		if got := parseTime(text).Format(time.RFC3339Nano); got != want {
			t.Errorf("%q is %s, want %s", text, got, want)
		}
	}
	for body, want := range map[string]string{
		`"2026-03-01T11:09:27.985\u002b0800"`: "2026-03-01T03:09:27.985Z",
		`1772359767985`:                       "2026-03-01T10:09:27.985Z",
		`null`:                                "0001-01-01T00:00:00Z",
		`{"a":1}`:                             "0001-01-01T00:00:00Z",
	} {
		var s stamp
		if err := json.Unmarshal([]byte(body), &s); err != nil || s.Format(time.RFC3339Nano) != want {
			t.Errorf("%s is %v, %v, want %s", body, s, err, want)
		}
	}
}

// TestOrdered shuffles the entries, repeats some, and gets them in order, those
// of one instant by number and not as text.
func TestOrdered(t *testing.T) {
	var in []history
	for n, id := range []text{"9", "10", "11", "100", "7"} {
		at := day(0)
		if n == 4 {
			at = day(1)
		}
		in = append(in, history{ID: id, Created: stamp{at}})
	}
	want := slices.Clone(in)
	in = append(in, in[1], in[4])
	for range 20 {
		rand.Shuffle(len(in), func(a, b int) { in[a], in[b] = in[b], in[a] })
		got := ordered(in)
		if !slices.EqualFunc(got, want, func(a, b history) bool { return a.ID == b.ID }) {
			t.Fatalf("got %+v", got)
		}
	}
}

func readCases(f *testing.F, name string) [][]byte {
	f.Helper()
	file, err := os.Open(name)
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	var all [][]byte
	s := bufio.NewScanner(file)
	for s.Scan() {
		if len(s.Bytes()) > 0 {
			all = append(all, bytes.Clone(s.Bytes()))
		}
	}
	return all
}

// FuzzIssue decodes and translates anything as an issue: never a panic, one
// birth, every entry once, nothing unfit for storage.
func FuzzIssue(f *testing.F) {
	for _, line := range readCases(f, "testdata/issues.jsonl") {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var is issue
		if json.Unmarshal(data, &is) != nil {
			return
		}
		var histories []history
		if is.Changelog != nil {
			histories = is.Changelog.Histories
			_ = is.Changelog.complete()
		}
		tr := translator{site: siteAddress, titles: true, categories: map[string]string{"1": "new"}}
		changes := tr.changes(&is, histories)
		if len(changes) < 1 || changes[0].Kind != flow.Created || len(changes) > len(histories)+1 {
			t.Fatalf("%d changes of %d histories", len(changes), len(histories))
		}
		for _, c := range changes[1:] {
			if c.Kind != flow.Updated {
				t.Errorf("kind %s", c.Kind)
			}
		}
		for _, c := range changes {
			if !utf8.ValidString(c.Title) || strings.ContainsAny(c.Title, "\x00\n\u200b") || len(c.Title) > flow.MaxTitle {
				t.Errorf("title %q", c.Title)
			}
			for _, fc := range c.Fields {
				if fc.Field == flow.FieldAssigned && (fc.To.Name != "true" && fc.To.Name != "false" || fc.To.ID != "") {
					t.Errorf("somebody is named: %+v", fc)
				}
			}
		}
	})
}

// FuzzAnswers decodes anything as the other answers.
func FuzzAnswers(f *testing.F) {
	for _, line := range readCases(f, "testdata/answers.jsonl") {
		f.Add(line, int64(0), 0)
		f.Add(line, day0.UnixMilli(), 2)
	}
	f.Fuzz(func(t *testing.T, data []byte, since int64, start int) {
		var page searchAnswer
		if json.Unmarshal(data, &page) == nil && start >= 0 && start < 1<<30 {
			for _, d := range []dialect{cloudDialects[0], dataCenterDialects[0]} {
				at := position{Since: max(since, 0), Start: start}
				p, err := turn(d, &page, at, nil)
				if err == nil && !p.last && p.next == at {
					t.Errorf("the page leads to itself: %+v", at)
				}
			}
		}
		_ = json.Unmarshal(data, new(changelogAnswer))
		_ = json.Unmarshal(data, new(bulkAnswer))
		_ = wordsOf(data)
	})
}

// FuzzTime parses anything as a time. What is a time stays the same when it is
// written and read again.
func FuzzTime(f *testing.F) {
	for _, s := range []string{"2026-03-01T11:09:27.985+0800", "2026-03-01T12:10Z", "1772359767", "1772359767985", "-1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		at := parseTime(s)
		if at.Year() < 0 || at.Year() > 9999 { // RFC 3339 ends there
			return
		}
		if again := parseTime(at.Format(time.RFC3339Nano)); !again.Equal(at) {
			t.Errorf("%q is %v and then %v", s, at, again)
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add([]byte(`{"v":1,"scope":"x","since":1,"token":"abc","start":2,"newest":5}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := New(Config{URL: siteAddress})
		if err != nil {
			t.Fatal(err)
		}
		c, err := s.start(data)
		if err != nil {
			return
		}
		again, err := s.start(c.encode())
		if err != nil || !bytes.Equal(again.encode(), c.encode()) {
			t.Errorf("%s is not read back: %v", c.encode(), err)
		}
	})
}
