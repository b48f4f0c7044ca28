package connector

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// A Bar is a [Reporter] that draws a progress bar in place on a terminal, one
// line for all sources, after a title that says what is going on. It is an [io.Writer] too: log lines that are to appear
// on the same terminal go through it and do not tear the bar.
type Bar struct {
	w     io.Writer
	title string
	width func() int

	mu      sync.Mutex
	sources []*barSource // in the order of their first report
	share   float64      // of all; it does not fall when a source joins
	drawn   bool         // the cursor is at the end of a bar
	last    time.Time    // when it was drawn
}

type barSource struct {
	pace
	name     string
	finished bool
}

// drawEvery is the shortest time between two drawings.
const drawEvery = 100 * time.Millisecond

// NewBar returns a bar on the terminal w. The function returns its width in
// columns, or 0 where it is unknown.
func NewBar(w io.Writer, title string, width func() int) *Bar {
	return &Bar{w: w, title: title, width: width}
}

// Advance implements [Reporter].
func (b *Bar) Advance(source string, p Progress, changes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.source(source)
	if s == nil {
		s = &barSource{name: source}
		b.sources = append(b.sources, s)
	}
	s.advance(p, changes)
	if !b.drawn || time.Since(b.last) >= drawEvery {
		b.draw()
	}
}

// Finish implements [Reporter]. The bar ends, with a newline, when every source
// that has reported has finished.
func (b *Bar) Finish(source string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.source(source)
	if s == nil {
		return
	}
	s.finished, s.share = true, 1
	b.draw()
	for _, s := range b.sources {
		if !s.finished {
			return
		}
	}
	b.end()
}

// Write writes to the terminal above the bar.
func (b *Bar) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.drawn {
		return b.w.Write(text)
	}
	_, _ = io.WriteString(b.w, clearLine)
	n, err := b.w.Write(text)
	b.draw()
	return n, err
}

// Close ends an unfinished bar with a newline.
func (b *Bar) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.end()
	return nil
}

func (b *Bar) end() {
	if b.drawn {
		_, _ = io.WriteString(b.w, "\n")
	}
	b.sources, b.share, b.drawn = nil, 0, false
}

func (b *Bar) source(name string) *barSource {
	for _, s := range b.sources {
		if s.name == name {
			return s
		}
	}
	return nil
}

// clearLine returns to the start of the line and clears it.
const clearLine = "\r\x1b[K"

// draw draws the bar. A terminal that cannot be written to is no reason to stop
// reading, so its error goes nowhere.
func (b *Bar) draw() {
	width := b.width()
	if width <= 0 {
		width = 80
	}
	// The last column stays free: some terminals wrap when it is written.
	_, _ = io.WriteString(b.w, clearLine+cut(b.line(), width-1))
	b.drawn, b.last = true, time.Now()
}

// line returns the text of the bar.
func (b *Bar) line() string {
	var (
		share, rate float64
		done        int64
		left        time.Duration
		leftKnown   = true
		names       []string
	)
	for _, s := range b.sources {
		share += s.share / float64(len(b.sources))
		done += s.done
		if s.finished {
			names = append(names, s.name+" done")
			continue
		}
		rate += s.rate()
		d, ok := s.left()
		left, leftKnown = max(left, d), leftKnown && ok
		switch {
		case s.total > 0:
			names = append(names, fmt.Sprintf("%s %d/%d", s.name, s.done, s.total))
		case s.share > 0:
			names = append(names, fmt.Sprintf("%s %d%%", s.name, percent(s.share)))
		default:
			names = append(names, fmt.Sprintf("%s %d", s.name, s.done))
		}
	}
	b.share = max(b.share, share)
	const cells = 20
	full := percent(b.share) * cells / 100
	var line strings.Builder
	fmt.Fprintf(&line, "%s [%s%s] %3d%%", b.title, strings.Repeat("#", full), strings.Repeat(".", cells-full), percent(b.share))
	if rate > 0 {
		fmt.Fprintf(&line, "  %.0f/s", rate)
	}
	if leftKnown && left > 0 {
		fmt.Fprintf(&line, "  %s left", left)
	}
	fmt.Fprintf(&line, "  %s", strings.Join(names, ", "))
	return line.String()
}

// percent rounds down, so that 100 % means all; the little more makes up for
// the sums of shares, which are not exact.
func percent(share float64) int { return int(share*100 + 1e-6) }

// cut shortens a text to a number of terminal columns.
func cut(text string, columns int) string {
	for i, r := range text {
		if columns -= runeColumns(r); columns < 0 {
			return text[:i]
		}
	}
	return text
}

// runeColumns returns how many columns a character takes at most.
func runeColumns(r rune) int {
	if r < 0x1100 && r != utf8.RuneError {
		return 1
	}
	return 2
}
