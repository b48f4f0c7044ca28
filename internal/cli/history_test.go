package cli

import (
	"path/filepath"
	"testing"
	"time"
)

// TestSafeEnd sees that blocks never reach into what Prometheus holds in memory: a
// head that begins at an even hour is written as a block once it is three hours
// old.
func TestSafeEnd(t *testing.T) {
	midnight := time.Date(2026, 6, 29, 0, 0, 0, 0, time.UTC)
	for past := time.Duration(0); past < 24*time.Hour; past += 7 * time.Minute {
		now := midnight.Add(past)
		end := safeEnd(now)
		age := now.Sub(end)
		if end.Minute() != 0 || end.Hour()%2 != 0 || age < 3*time.Hour || age >= 5*time.Hour {
			t.Fatalf("at %s blocks may end at %s", now, end)
		}
		for begin := midnight.Add(-4 * time.Hour); !begin.After(now); begin = begin.Add(2 * time.Hour) {
			// A minute passes until Prometheus looks at what there is to write.
			if now.Sub(begin) <= 3*time.Hour+time.Minute && end.After(begin) {
				t.Fatalf("at %s blocks may end at %s, in a head that begins at %s", now, end, begin)
			}
		}
	}
}

// TestEnd: without --to, samples that are sent may reach up to now, and blocks only
// as far as is safe.
func TestEnd(t *testing.T) {
	now := time.Date(2026, 6, 29, 13, 37, 0, 0, time.UTC)
	asked := instant{now.Add(-time.Hour)}
	for _, c := range []struct {
		cmd  historyCmd
		want time.Time
	}{
		{historyCmd{Out: "history"}, safeEnd(now)},
		{historyCmd{RemoteWrite: "http://127.0.0.1:9090/api/v1/write"}, now},
		{historyCmd{Out: "history", To: asked}, asked.Time},
		{historyCmd{RemoteWrite: "http://127.0.0.1:9090/api/v1/write", To: asked}, asked.Time},
	} {
		if got := c.cmd.end(now); !got.Equal(c.want) {
			t.Errorf("%+v ends at %s, want %s", c.cmd, got, c.want)
		}
	}
}

// TestJournalRemembersTheLog: the parts that are written first are as of the log
// that there was then, also after several runs.
func TestJournalRemembersTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.json")
	from := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for _, facts := range []int{10, 20, 30} {
		j, err := openJournal(path, map[string]string{"step": "4m0s"}, time.Time{}, time.Time{})
		if err == nil {
			err = j.begin(from, from.AddDate(0, 1, 0), 2, facts)
		}
		if err != nil || j.Facts != 10 {
			t.Fatalf("with a log of %d facts the journal is of one of %d, want 10: %v", facts, j.Facts, err)
		}
	}
}

func TestSizesAndPaths(t *testing.T) {
	for bytes, want := range map[float64]string{
		0: "0 B", 1: "1 B", 999: "999 B", 999.6: "1.0 kB", 1234: "1.2 kB", 9960: "10 kB", 129e6: "129 MB", 1.04e11: "104 GB", 2.5e12: "2.5 TB", 4e15: "4000 TB",
	} {
		if got := size(bytes); got != want {
			t.Errorf("%v bytes are %q, want %q", bytes, got, want)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 788_400_000: "788,400,000"} {
		if got := grouped(n); got != want {
			t.Errorf("%d is written %q, want %q", n, got, want)
		}
	}
	for path, want := range map[string]string{"history/2026": "history/2026", "my history": "'my history'", "a'b": `'a'\''b'`, "": "''"} {
		if got := shellQuote(path); got != want {
			t.Errorf("%q is quoted %s, want %s", path, got, want)
		}
	}
}
