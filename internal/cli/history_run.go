package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flowmetrics/flowmetrics/internal/exporter"
)

// What a sample takes where it is not text, in bytes, as the benchmark History of
// package deploy measures it: most values repeat the one before.
const (
	blockSampleBytes   = 1.2
	requestSampleBytes = 4
)

// A historyRun writes the parts of a history that are not written yet.
type historyRun struct {
	env      *environment
	history  *exporter.History
	step     time.Duration
	journal  *historyJournal
	from, to time.Time
	ranges   []exporter.Range // all of them
	todo     []exporter.Range
	progress *historyProgress
	began    time.Time
}

// workers is how many parts are evaluated at a time, and in memory.
func workers() int { return runtime.GOMAXPROCS(0) }

// plan finds out what there is to do, says it, and fails where there is no room
// for it.
func (r *historyRun) plan(format string, sent bool, folder *historyFolder) error {
	instants := 0
	for _, part := range r.ranges {
		if !r.journal.has(part) {
			r.todo = append(r.todo, part)
			instants += r.instants(part)
		}
	}
	// The last instant has about as many series as any other.
	last, err := r.history.Evaluate(r.env.ctx, exporter.Range{From: r.to.Add(-r.step), To: r.to}, nil)
	if err != nil {
		return err
	}
	samples := float64(last.Samples()) * float64(instants)
	fmt.Fprintf(r.env.Err, "history from %s to %s, a sample every %s: %s instants in %s",
		stamp(r.from), stamp(r.to), r.step, grouped(r.instants(exporter.Range{From: r.from, To: r.to})), plural(len(r.ranges), "part"))
	if len(r.todo) < len(r.ranges) {
		fmt.Fprintf(r.env.Err, ", of which %d are to do", len(r.todo))
	}
	space, kind := samples*blockSampleBytes, "blocks"
	switch {
	case sent:
		space, kind = samples*requestSampleBytes, "requests"
	case format == "openmetrics":
		perInstant, err := textBytes(last)
		if err != nil {
			return err
		}
		space, kind = perInstant*float64(instants), "OpenMetrics"
	}
	fmt.Fprintf(r.env.Err, "\nabout %s series, at most about %s samples and %s of %s\n",
		grouped(last.Series()), grouped(int(samples)), size(space), kind)
	if folder == nil {
		return nil
	}
	free, err := folder.free()
	if err != nil {
		return err
	}
	if space <= free {
		return nil
	}
	less := "--metrics and --value-stream pick some, a later --from has less"
	if format != "blocks" {
		less = fmt.Sprintf("--format blocks takes about %s, ", size(samples*blockSampleBytes)) + less
	}
	return fmt.Errorf("%s has %s free, which is too little: %s", folder.dir, size(free), less)
}

// textBytes returns how much text the samples of a part are, without what is there
// once for a family.
func textBytes(p *exporter.Part) (n float64, err error) {
	var text bytes.Buffer
	if err := p.WriteOpenMetrics(&text); err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text.Bytes()) {
		if line[0] != '#' {
			n += float64(len(line))
		}
	}
	return n, nil
}

func (r *historyRun) instants(part exporter.Range) int { return int(part.To.Sub(part.From) / r.step) }

func (r *historyRun) start() {
	total := 0
	for _, part := range r.todo {
		total += r.instants(part)
	}
	r.progress = newHistoryProgress(r.env, total, len(r.todo))
	r.began = time.Now()
}

// evaluate computes a part.
func (r *historyRun) evaluate(ctx context.Context, part exporter.Range) (*exporter.Part, error) {
	return r.history.Evaluate(ctx, part, r.progress.advance)
}

// files writes all parts into a folder, as many at a time as there are
// processors.
func (r *historyRun) files(folder *historyFolder, format string) error {
	g, ctx := errgroup.WithContext(r.env.ctx)
	g.SetLimit(workers())
	for _, part := range r.todo {
		g.Go(func() error {
			p, err := r.evaluate(ctx, part)
			if err != nil {
				return err
			}
			name, err := folder.write(ctx, p, format, r.journal)
			if err != nil {
				return err
			}
			r.progress.finish(p, name)
			return nil
		})
	}
	return g.Wait()
}

// print writes the only part to the standard output.
func (r *historyRun) print() error {
	p, err := r.evaluate(r.env.ctx, r.ranges[0])
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(interruptibleWriter{r.env.ctx, r.env.Out}, 256<<10)
	if err := errors.Join(p.WriteOpenMetrics(out), out.Flush()); err != nil {
		return err
	}
	r.progress.finish(p, "the document")
	return r.journal.add(finished(p, ""))
}

// send sends all parts in the order of time, while the next ones are evaluated.
func (r *historyRun) send(to *remoteWriter) error {
	g, ctx := errgroup.WithContext(r.env.ctx)
	slots := make(chan struct{}, workers())
	parts := make([]chan *exporter.Part, len(r.todo))
	for i := range parts {
		parts[i] = make(chan *exporter.Part, 1)
	}
	g.Go(func() error {
		for i, part := range r.todo {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			g.Go(func() error {
				p, err := r.history.Evaluate(ctx, part, nil) // the bar shows what is sent
				parts[i] <- p
				return err
			})
		}
		return nil
	})
	g.Go(func() error {
		for i := range parts {
			select {
			case p := <-parts[i]:
				if p == nil {
					return ctx.Err() // it could not be evaluated
				}
				if err := to.sendPart(ctx, p, r.instants(p.Range), r.journal); err != nil {
					return err
				}
				r.progress.finish(p, "sent")
			case <-ctx.Done():
				return ctx.Err()
			}
			<-slots
		}
		return nil
	})
	return g.Wait()
}

// end says what was written and what is to be done next.
func (r *historyRun) end(err error, next string) error {
	if closing := r.progress.close(); err == nil {
		err = closing
	}
	if err != nil {
		if r.journal.path != "" {
			fmt.Fprintf(r.env.Err, "%d of %s finished; the same command goes on from there\n", r.journal.finished(), plural(len(r.ranges), "part"))
		}
		return err
	}
	took := time.Since(r.began)
	p := r.progress
	fmt.Fprintf(r.env.Err, "%s samples of %s series in %s, in %.1f s\n",
		grouped(p.samples), grouped(p.series), plural(p.parts, "part"), took.Seconds())
	if whole := r.journal.samples(); whole > p.samples {
		fmt.Fprintf(r.env.Err, "with what was there before: %s samples in %s\n", grouped(whole), plural(r.journal.finished(), "part"))
	}
	_, err = io.WriteString(r.env.Err, next)
	return err
}

// interruptibleWriter fails once ctx has ended.
type interruptibleWriter struct {
	ctx context.Context
	io.Writer
}

// Write implements [io.Writer].
func (w interruptibleWriter) Write(text []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, w.ctx.Err()
	}
	return w.Writer.Write(text)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// grouped writes a number with a comma between each three digits.
func grouped(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// size writes a number of bytes with two digits or three.
func size(bytes float64) string {
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if bytes < 999.5 {
			return strconv.FormatFloat(bytes, 'f', precision(bytes), 64) + " " + unit
		}
		bytes /= 1000
	}
	return strconv.FormatFloat(bytes, 'f', precision(bytes), 64) + " TB"
}

// precision is 1 for a number that has one digit before the point and something
// behind it.
func precision(v float64) int {
	if v < 9.95 && v != math.Trunc(v) {
		return 1
	}
	return 0
}

// shellQuote quotes a path for a shell where it needs it.
func shellQuote(path string) string {
	if regexp.MustCompile(`^[\w./+@%:,-]+$`).MatchString(path) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
