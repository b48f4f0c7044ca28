package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A table is text in aligned columns.
type table struct {
	align string // of each column: l or r
	rows  [][]string
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

// String returns the rows, a line each.
func (t *table) String() string {
	widths := make([]int, len(t.align))
	for _, row := range t.rows {
		for i, cell := range row {
			widths[i] = max(widths[i], columns(cell))
		}
	}
	var text strings.Builder
	for _, row := range t.rows {
		var line strings.Builder
		for i, cell := range row {
			gap := strings.Repeat(" ", widths[i]-columns(cell))
			if t.align[i] == 'r' {
				cell, gap = gap+cell, ""
			}
			line.WriteString(cell + gap + "  ")
		}
		text.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return text.String()
}

// wide are the characters that take two columns of a terminal: those of East
// Asia, and pictures.
var wide = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x1100, Hi: 0x115f, Stride: 1}, {Lo: 0x2e80, Hi: 0xa4cf, Stride: 1}, {Lo: 0xac00, Hi: 0xd7a3, Stride: 1},
		{Lo: 0xf900, Hi: 0xfaff, Stride: 1}, {Lo: 0xfe30, Hi: 0xfe6f, Stride: 1}, {Lo: 0xff00, Hi: 0xff60, Stride: 1},
		{Lo: 0xffe0, Hi: 0xffe6, Stride: 1},
	},
	R32: []unicode.Range32{{Lo: 0x1f300, Hi: 0x1faff, Stride: 1}, {Lo: 0x20000, Hi: 0x3fffd, Stride: 1}},
}

// columns returns how many columns of a terminal a text takes.
func columns(text string) int {
	n := 0
	for _, r := range text {
		switch {
		case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf): // joins the character before it
		case unicode.Is(wide, r):
			n += 2
		default:
			n++
		}
	}
	return n
}

// none stands for an undefined number, which is never 0.
const none = "–"

// writeTable prints the five flow metrics for people.
func writeTable(out io.Writer, s *flow.Snapshot) error {
	windows := table{align: "llrrrrrrl"}
	windows.row("VALUE STREAM", "WINDOW", "FLOW TIME p50", "p85", "OF ITEMS", "EFFICIENCY", "LOAD", "VELOCITY", "DISTRIBUTION")
	for _, m := range s.ValueStreams {
		for i := range m.Windows {
			w := &m.Windows[i]
			p50, p85, efficiency := none, none, none
			if w.All.Timed > 0 {
				p50, p85 = days(w.All.P50), days(w.All.P85)
			}
			if ratio, ok := w.All.Efficiency(); ok {
				efficiency = percent(ratio)
			}
			windows.row(m.ValueStream.Name, w.Window.Name, p50, p85, fmt.Sprint(w.All.Timed), efficiency,
				fmt.Sprint(m.Load.Items), fmt.Sprint(w.All.Completed), distribution(w))
		}
	}
	text := fmt.Sprintf("as of %s\n\n%s", s.At.Format(time.RFC3339), &windows)
	for _, m := range s.ValueStreams {
		if len(m.Items) > 0 {
			text += fmt.Sprintf("\nitems of %s\n\n%s", m.ValueStream.Name, items(m.Items))
		}
	}
	if len(s.Quality.UnmappedStatuses) > 0 { // never left out in silence (I9)
		text += fmt.Sprintf("\nstatuses without a rule: %s\n", strings.Join(slices.Sorted(maps.Keys(s.Quality.UnmappedStatuses)), ", "))
	}
	_, err := io.WriteString(out, text)
	return err
}

func items(rows []flow.ItemMeasures) *table {
	t := &table{align: "lllllrrrrr"}
	t.row("ITEM", "TYPE", "STATE", "STARTED", "FINISHED", "ACTIVE", "WAITING", "FLOW TIME", "AGE", "REOPENS")
	for i := range rows {
		row := &rows[i]
		flowTime, age := none, none
		if row.HasFlowTime {
			flowTime = days(row.FlowTime)
		}
		if row.InFlow {
			age = days(row.Age)
		}
		t.row(cmp.Or(row.Key, row.Item), row.Type.String(), row.State.String(), date(row.StartedAt), date(row.FinishedAt),
			days(row.Active), days(row.Waiting), flowTime, age, fmt.Sprint(row.Reopens))
	}
	return t
}

func days(d time.Duration) string { return fmt.Sprintf("%.1f d", d.Hours()/24) }

func percent(ratio float64) string { return fmt.Sprintf("%.0f %%", 100*ratio) }

func date(t time.Time) string {
	if t.IsZero() {
		return none
	}
	return t.Format(time.DateOnly)
}

func distribution(w *flow.WindowMeasures) string {
	var parts []string
	for t := range w.ByType {
		if n := w.ByType[t].Completed; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", flow.ItemType(t), percent(float64(n)/float64(w.All.Completed))))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), none)
}
