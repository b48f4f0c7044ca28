package file_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/file"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

var (
	_ connector.Source   = (*file.Source)(nil)
	_ connector.Checker  = (*file.Source)(nil)
	_ connector.Rejecter = (*file.Source)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// row returns the line of the n-th change, without its end.
func row(n int) string {
	return fmt.Sprintf(`{"id":"%d","source":"events","container":"PAY","item":"%d","at":"2026-06-01T00:00:00Z","kind":"UPDATED"}`, n, n%7)
}

// rows returns the lines of the changes from up to, not including, to.
func rows(from, to int) string {
	var b strings.Builder
	for n := from; n < to; n++ {
		b.WriteString(row(n) + "\n")
	}
	return b.String()
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func appendTo(t testing.TB, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// poll polls once and returns the batches.
func poll(t testing.TB, s *file.Source, from connector.Cursor) []connector.Batch {
	t.Helper()
	var batches []connector.Batch
	err := s.Poll(t.Context(), from, func(b connector.Batch) error {
		batches = append(batches, b)
		return nil
	})
	if err != nil {
		t.Fatalf("Poll: %v", err)
	}
	return batches
}

// follow polls from a cursor and returns the ids and the cursor behind them.
func follow(t testing.TB, s *file.Source, from connector.Cursor) ([]string, connector.Cursor) {
	t.Helper()
	var ids []string
	for _, b := range poll(t, s, from) {
		ids = append(ids, idsOf(b)...)
		from = b.Cursor
	}
	return ids, from
}

func idsOf(b connector.Batch) []string {
	var ids []string
	for _, c := range b.Changes {
		ids = append(ids, c.ID)
	}
	return ids
}

func textLog(w *bytes.Buffer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

func TestPollReadsLines(t *testing.T) {
	long := func(n int) string { // a change whose line has n bytes
		text := strings.TrimSuffix(row(1), "}") + `,"unknown":"`
		return text + strings.Repeat("x", n-len(text)-2) + `"}`
	}
	for _, test := range []struct {
		name, text string
		want       []string
		rejects    map[flow.Reason]int64
	}{
		{"empty file", "", nil, nil},
		{"lines", rows(1, 4), []string{"1", "2", "3"}, nil},
		{"repeats are kept", rows(1, 3) + rows(1, 3), []string{"1", "2", "1", "2"}, nil},
		{"blank lines", "\n  \n" + row(1) + "\n\n\t\n" + row(2) + "\n\n", []string{"1", "2"}, nil},
		{"CRLF", strings.ReplaceAll(rows(1, 4), "\n", "\r\n") + "\r\n", []string{"1", "2", "3"}, nil},
		{"byte order mark", "\ufeff" + rows(1, 3), []string{"1", "2"}, nil},
		{"not JSON", "hello\n" + rows(1, 2) + "{\"id\":\n" + row(2) + row(3) + "\n" + rows(4, 5), []string{"1", "4"}, map[flow.Reason]int64{flow.ReasonMalformed: 3}},
		{"other JSON", "[]\n7\n\"x\"\n" + rows(1, 2), []string{"1"}, map[flow.Reason]int64{flow.ReasonMalformed: 3}},
		{"null and empty object", "null\n{}\n" + rows(1, 2), []string{"1"}, map[flow.Reason]int64{flow.ReasonMissing: 2}},
		{"no id", strings.Replace(row(1), `"id":"1",`, "", 1) + "\n", nil, map[flow.Reason]int64{flow.ReasonMissing: 1}},
		{"unknown kind", strings.Replace(row(1), "UPDATED", "MOVED", 1) + "\n", nil, map[flow.Reason]int64{flow.ReasonUnknownKind: 1}},
		{"bad time", strings.Replace(row(1), "2026", "2300", 1) + "\n", nil, map[flow.Reason]int64{flow.ReasonTime: 1}},
		{"time of a far year", strings.Replace(row(1), "2026", "58000", 1) + "\n", nil, map[flow.Reason]int64{flow.ReasonMalformed: 1}},
		{"largest line", long(1<<20) + "\n" + rows(2, 3), []string{"1", "2"}, nil},
		{"largest line, CRLF", long(1<<20) + "\r\n" + rows(2, 3), []string{"1", "2"}, nil},
		{"line too large", rows(0, 1) + long(1<<20+1) + "\n" + rows(2, 3), []string{"0", "2"}, map[flow.Reason]int64{flow.ReasonTooLarge: 1}},
		{"line far too large", long(5<<20) + "\r\n" + rows(2, 3), []string{"2"}, map[flow.Reason]int64{flow.ReasonTooLarge: 1}},
		{"no last newline", rows(1, 3) + row(3), []string{"1", "2"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "changes.jsonl")
			write(t, path, test.text)
			s := file.New("events", path, nil)
			got, _ := follow(t, s, nil)
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("ids (-want +got):\n%s", diff)
			}
			if test.rejects == nil {
				test.rejects = map[flow.Reason]int64{}
			}
			if diff := cmp.Diff(test.rejects, s.Rejects()); diff != "" {
				t.Errorf("rejects (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPollKeepsTheLinesOwnSource(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	write(t, path, row(1)+"\n"+strings.Replace(row(2), `"source":"events",`, "", 1)+"\n"+strings.Replace(row(3), "events", "jira-main", 1)+"\n")
	b := poll(t, file.New("mine", path, nil), nil)[0]
	var got []string
	for _, c := range b.Changes {
		got = append(got, c.Source)
	}
	if diff := cmp.Diff([]string{"events", "mine", "jira-main"}, got); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	if at := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC); b.Changes[0].At != at {
		t.Errorf("at is %#v, want %#v", b.Changes[0].At, at)
	}
}

// From every cursor, the rest of the file follows, in batches with the same
// boundaries.
func TestPollResumesFromEveryCursor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	text := rows(0, 700) + strings.Repeat("nonsense\n", 1200) + rows(700, 1900) + "\n\n"
	write(t, path, text)
	all := poll(t, file.New("events", path, nil), nil)
	if len(all) != 7 { // 3102 lines
		t.Fatalf("%d batches, want 7", len(all))
	}
	var last float64
	for i, b := range all {
		if len(b.Changes) > 500 || len(b.Cursor) > connector.MaxCursor {
			t.Errorf("batch %d: %d changes, cursor of %d bytes", i, len(b.Changes), len(b.Cursor))
		}
		if b.Progress.Ratio <= last {
			t.Errorf("batch %d: progress %v after %v", i, b.Progress.Ratio, last)
		}
		last = b.Progress.Ratio
		rest := poll(t, file.New("events", path, nil), b.Cursor)
		if diff := cmp.Diff(all[i+1:], rest, cmp.Transformer("", func(bs []connector.Batch) string { return fmt.Sprintf("%+v", bs) })); diff != "" {
			t.Errorf("from cursor %d (-want +got):\n%s", i, diff)
		}
	}
	if last != 1 {
		t.Errorf("progress in the end is %v", last)
	}
}

// However the file grows between polls, and wherever the program is killed
// and goes on from a stored cursor, each line arrives once.
func TestPollFollowsGrowth(t *testing.T) {
	dir := t.TempDir()
	text := rows(0, 12) + "\n" + "nonsense\n" + strings.ReplaceAll(rows(12, 15), "\n", "\r\n") + row(15)
	var want []string
	for n := range 16 {
		want = append(want, fmt.Sprint(n))
	}
	rapid.Check(t, func(rt *rapid.T) {
		path := filepath.Join(dir, "changes.jsonl")
		write(t, path, "")
		s := file.New("events", path, nil)
		var got []string
		var cursor connector.Cursor
		look := func() {
			ids, next := follow(t, s, cursor)
			got, cursor = append(got, ids...), next
		}
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, min(200, len(rest))).Draw(rt, "bytes")
			appendTo(t, path, rest[:n])
			rest = rest[n:]
			for range rapid.IntRange(0, 2).Draw(rt, "polls") {
				look()
			}
			if rapid.Bool().Draw(rt, "killed") {
				s = file.New("events", path, nil)
			}
		}
		look()
		look() // the last line has no newline
		look()
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("ids (-want +got):\n%s", diff)
		}
	})
}

func TestPollTakesASettledLastLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	var log bytes.Buffer
	s := file.New("events", path, textLog(&log))
	var cursor connector.Cursor
	step := func(add string, want ...string) {
		t.Helper()
		appendTo(t, path, add)
		ids, next := follow(t, s, cursor)
		cursor = next
		if diff := cmp.Diff(want, ids); diff != "" {
			t.Errorf("ids (-want +got):\n%s", diff)
		}
	}
	write(t, path, row(1)+"\n")
	step(row(2)[:20], "1")
	step("")
	step("") // half a line never settles
	step(row(2)[20:])
	step("", "2")                       // the same at two polls
	step("\n"+row(3), []string(nil)...) // its newline comes late
	step("\n", "3")
	step("nonsense")
	step("")
	step("\n")
	if want := fmt.Sprintf("at=%s:4 reason=malformed", path); !strings.Contains(log.String(), want) {
		t.Errorf("log lacks %q:\n%s", want, &log)
	}
}

func TestPollStartsOverInAnotherFile(t *testing.T) {
	for _, test := range []struct {
		name, after string
		want        []string
		over        bool
	}{
		{"same", rows(0, 40), nil, false},
		{"grown", rows(0, 42), []string{"40", "41"}, false},
		{"truncated", rows(0, 2), []string{"0", "1"}, true},
		{"emptied", "", nil, true},
		{"other beginning", strings.Repeat(" ", 3) + rows(0, 1) + rows(50, 90), nil, true},
		{"same beginning, other end", rows(0, 20) + rows(60, 80), nil, true},
		{"same beginning, shifted", rows(0, 20) + "\n" + rows(20, 40), nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "changes.jsonl")
			write(t, path, rows(0, 40))
			var log bytes.Buffer
			s := file.New("events", path, textLog(&log))
			_, cursor := follow(t, s, nil)
			// A new file in its place, as editors and log rotation do it.
			write(t, path+".new", test.after)
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
			got, _ := follow(t, s, cursor)
			want := test.want
			if test.over {
				want, _ = follow(t, file.New("events", path, nil), nil)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("ids (-want +got):\n%s", diff)
			}
			if said := strings.Contains(log.String(), "truncated or replaced"); said != test.over {
				t.Errorf("said to start over: %t, want %t", said, test.over)
			}
		})
	}
}

func TestPollRefusesACursor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	write(t, path, rows(0, 3))
	for _, cursor := range []string{
		"x", "{}", "null", "7", `{"v":2,"offset":1,"lines":1,"digest":"00"}`, `{"v":1,"offset":-1}`, `{"v":1,"lines":-1}`,
		`{"v":1,"offset":"1"}`, `{"v":1,"later":true}`, `{"v":1,"offset":1`,
	} {
		err := file.New("events", path, nil).Poll(t.Context(), connector.Cursor(cursor), func(connector.Batch) error { return nil })
		if !errors.Is(err, connector.ErrCursor) {
			t.Errorf("cursor %s: error %v", cursor, err)
		}
	}
}

func TestPollNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	poll := func(path string) error {
		return file.New("events", path, nil).Poll(t.Context(), nil, func(connector.Batch) error { return nil })
	}
	missing := filepath.Join(dir, "missing.jsonl")
	err := poll(missing)
	if _, config := errors.AsType[*connector.ConfigError](err); !errors.Is(err, fs.ErrNotExist) || config || !strings.Contains(err.Error(), missing) {
		t.Errorf("missing file: %v", err)
	}
	err = poll(dir)
	if _, config := errors.AsType[*connector.ConfigError](err); !config || !strings.Contains(err.Error(), dir) {
		t.Errorf("directory: %v", err)
	}
}

// A failing emit ends the poll with its error, and what was not taken is not
// counted as refused: it will be read again.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "changes.jsonl")
	if err := file.New("events", path, nil).Check(t.Context()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("a missing file: %v", err)
	}
	if err := file.New("events", dir, nil).Check(t.Context()); err == nil {
		t.Error("a folder passes for a file")
	}
	write(t, path, "")
	if err := file.New("events", path, nil).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPollStopsWhenEmitFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	write(t, path, strings.Repeat("nonsense\n"+rows(0, 1), 750))
	s := file.New("events", path, nil)
	broken := errors.New("broken")
	var cursor connector.Cursor
	calls := 0
	err := s.Poll(t.Context(), nil, func(b connector.Batch) error {
		if calls++; calls == 2 {
			return broken
		}
		cursor = b.Cursor
		return nil
	})
	if !errors.Is(err, broken) || calls != 2 || s.Rejects()[flow.ReasonMalformed] != 250 {
		t.Errorf("error %v after %d calls, rejects %v", err, calls, s.Rejects())
	}
	if ids, _ := follow(t, s, cursor); len(ids) != 500 || s.Rejects()[flow.ReasonMalformed] != 750 {
		t.Errorf("%d changes after the failure, rejects %v", len(ids), s.Rejects())
	}

	ctx, cancel := context.WithCancel(t.Context())
	calls = 0
	err = s.Poll(ctx, nil, func(connector.Batch) error { calls++; cancel(); return nil })
	if !errors.Is(err, context.Canceled) || calls != 1 {
		t.Errorf("error %v after %d calls", err, calls)
	}
}

func TestPollLogsFewLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	write(t, path, rows(0, 600)+strings.Repeat("secret nonsense\n", 1000))
	var log bytes.Buffer
	s := file.New("events", path, textLog(&log))
	_, cursor := follow(t, s, nil)
	if n := strings.Count(log.String(), "\n"); n != 21 {
		t.Errorf("%d log lines:\n%s", n, &log)
	}
	for _, want := range []string{path + ":601 ", path + ":620 ", "lines=980", "reason=malformed"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, &log)
		}
	}
	if strings.Contains(log.String(), "nonsense") {
		t.Errorf("log repeats the input:\n%s", &log)
	}
	log.Reset()
	appendTo(t, path, "{}\n") // numbers go on after the cursor
	follow(t, file.New("events", path, textLog(&log)), cursor)
	if !strings.Contains(log.String(), path+":1601 ") || !strings.Contains(log.String(), "reason=missing") {
		t.Errorf("log:\n%s", &log)
	}
}

// A line of any length takes little memory.
func TestPollSkipsAHugeLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	write(t, path, "")
	if err := os.Truncate(path, 64<<20); err != nil { // sparse zeros
		t.Fatal(err)
	}
	appendTo(t, path, "\n"+rows(1, 2))
	s := file.New("events", path, nil)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ids, _ := follow(t, s, nil)
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
		t.Errorf("allocated %d bytes", used)
	}
	if !slices.Equal(ids, []string{"1"}) || s.Rejects()[flow.ReasonTooLarge] != 1 {
		t.Errorf("ids %v, rejects %v", ids, s.Rejects())
	}
}

// log is the least that a Runner needs.
type log struct {
	ids      []string
	cursor   []byte
	revision uint64
}

func (l *log) Publish(_ context.Context, _ string, cs []flow.Change) error {
	l.ids = append(l.ids, idsOf(connector.Batch{Changes: cs})...)
	return nil
}

func (l *log) LoadCursor(context.Context, string) ([]byte, uint64, error) {
	return l.cursor, l.revision, nil
}

func (l *log) StoreCursor(_ context.Context, _ string, cursor []byte, _ uint64) (uint64, error) {
	l.cursor = cursor
	l.revision++
	return l.revision, nil
}

// With the Runner: a file that appears late, grows, and outlives a restart.
func TestRunnerFollowsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "changes.jsonl")
	synctest.Test(t, func(t *testing.T) {
		l := &log{}
		var status connector.Status
		run := func(d time.Duration, meanwhile func()) {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			r := connector.NewRunner(connector.Config{
				Name: "events", Source: file.New("events", path, nil), PollInterval: time.Second, Publisher: l, Cursors: l,
			})
			time.AfterFunc(d/2, meanwhile)
			if err := r.Run(ctx); err != nil {
				t.Error(err)
			}
			status = r.Status()
		}
		run(10*time.Second, func() { write(t, path, rows(0, 3)+"nonsense\n") })
		if !slices.Equal(l.ids, []string{"0", "1", "2"}) || status.Backfill != 1 || status.Dropped[flow.ReasonMalformed] != 1 {
			t.Errorf("published %v, status %+v", l.ids, status)
		}
		run(10*time.Second, func() { appendTo(t, path, rows(2, 5)) })
		if !slices.Equal(l.ids, []string{"0", "1", "2", "2", "3", "4"}) || status.LastError != "" {
			t.Errorf("published %v, status %+v", l.ids, status)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		run(10*time.Second, func() {})
		if !strings.Contains(status.LastError, path) {
			t.Errorf("status %+v", status)
		}
	})
}

// No content and no cursor makes Poll panic, and its cursors are its own.
func FuzzPoll(f *testing.F) {
	f.Add([]byte(rows(0, 2)), []byte(`{"v":1,"offset":3,"lines":0,"digest":"00"}`))
	f.Add([]byte("\ufeff{}\r\n\n"), []byte("x"))
	f.Add([]byte(row(1)), []byte(nil))
	path := filepath.Join(f.TempDir(), "changes.jsonl")
	f.Fuzz(func(t *testing.T, text, cursor []byte) {
		write(t, path, string(text))
		s := file.New("events", path, nil)
		last := connector.Cursor(nil)
		err := s.Poll(t.Context(), cursor, func(b connector.Batch) error {
			for _, c := range b.Changes {
				if err := c.Validate(); err != nil {
					t.Errorf("emitted an invalid change: %v", err)
				}
			}
			last = b.Cursor
			return nil
		})
		if err != nil && !errors.Is(err, connector.ErrCursor) {
			t.Fatal(err)
		}
		if last == nil {
			return
		}
		for i := range 3 { // the second time takes a last line without a newline
			ids, next := follow(t, s, last)
			if last = next; i == 2 && len(ids) > 0 {
				t.Errorf("read again: %v", ids)
			}
		}
	})
}
