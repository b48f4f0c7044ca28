package connector_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

func TestLogProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := connector.NewLogProgress(textLog(&log))
		for i := 1; i <= 35; i++ {
			l.Advance("jira-main", connector.Progress{Done: 100 * i, Total: 3500}, int64(700*i))
			l.Advance("events", connector.Progress{Ratio: float64(i) / 70}, int64(10*i))
			l.Advance("other", connector.Progress{}, int64(i))
			time.Sleep(time.Second)
		}
		l.Finish("jira-main")
		l.Finish("never seen")
		l.Advance("quick", connector.Progress{Done: 3, Total: 3}, 9)
		l.Finish("quick")
		golden(t, "progress.log", log.Bytes())
	})
}

// screen is a terminal that shows what is drawn, one line a drawing.
func screen(b []byte) []byte {
	text := strings.ReplaceAll(string(b), "\n", "<newline>\n")
	return []byte(strings.TrimPrefix(strings.ReplaceAll(text, "\r\x1b[K", "\n<clear>"), "\n") + "\n")
}

func TestBar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		bar := connector.NewBar(&out, "reading history", func() int { return 100 })
		fmt.Fprintln(bar, "a line before the bar")
		for i := 1; i <= 10; i++ {
			bar.Advance("jira-main", connector.Progress{Done: 100 * i, Total: 1000}, int64(700*i))
			if i > 3 {
				bar.Advance("events", connector.Progress{Ratio: float64(i) / 20}, int64(10*i))
			}
			if i == 6 {
				fmt.Fprintln(bar, "a line while it is drawn")
			}
			time.Sleep(time.Second)
		}
		bar.Finish("jira-main")
		bar.Finish("events")
		bar.Finish("never seen")
		fmt.Fprintln(bar, "a line after it")
		bar.Advance("late", connector.Progress{}, 5)
		if err := bar.Close(); err != nil {
			t.Error(err)
		}
		golden(t, "bar.txt", screen(out.Bytes()))
	})
}

// However narrow the terminal, no drawing reaches its last column.
func TestBarFits(t *testing.T) {
	for width := range 120 {
		var out bytes.Buffer
		bar := connector.NewBar(&out, "reading history", func() int { return width })
		bar.Advance("源泉-main", connector.Progress{Done: 1, Total: 3}, 7)
		drawn := strings.TrimPrefix(out.String(), "\r\x1b[K")
		columns := 0
		for _, r := range drawn {
			columns++
			if r > 0x1100 {
				columns++
			}
		}
		limit := width
		if width == 0 {
			limit = 80
		}
		if columns > limit-1 {
			t.Errorf("width %d: %d columns: %q", width, columns, drawn)
		}
		if width > 100 && !strings.HasSuffix(drawn, "源泉-main 1/3") {
			t.Errorf("width %d: cut without need: %q", width, drawn)
		}
	}
}

// Many reports at once draw few times.
func TestBarIsNotDrawnTooOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		bar := connector.NewBar(&out, "reading history", func() int { return 80 })
		for i := range 1000 {
			bar.Advance("jira-main", connector.Progress{Done: i, Total: 1000}, int64(i))
			time.Sleep(time.Millisecond)
		}
		if n := strings.Count(out.String(), "\r"); n != 10 {
			t.Errorf("drawn %d times in a second, want 10", n)
		}
	})
}

// A source that counts items does not tell of them with each batch. Its changes
// are then no items.
func TestProgressCountsItems(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := connector.NewLogProgress(textLog(&log))
		l.Advance("main", connector.Progress{}, 300) // such as of renamed labels
		for i := 1; i <= 15; i++ {
			l.Advance("main", connector.Progress{Done: i, Total: 80}, int64(300+10*i))
			time.Sleep(time.Second)
			l.Advance("main", connector.Progress{}, int64(305+10*i))
		}
		l.Finish("main")
		if text := log.String(); !strings.Contains(text, "items=10 total=80") || !strings.Contains(text, "items=15 took") {
			t.Errorf("logged\n%s", text)
		}
	})
}
