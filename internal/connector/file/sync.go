package file

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"sync"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// The bounds of a batch, so that its boundaries depend on the file alone.
const (
	maxBatchLines = 500
	maxBatchBytes = 4 << 20
)

// maxLogged bounds the log lines about unusable lines of one poll.
const maxLogged = 20

// A Source reads changes from a file. It is a [connector.Source] and a
// [connector.Rejecter].
type Source struct {
	name string
	path string
	log  *slog.Logger

	// What the previous poll found behind the last newline, and where: it is
	// taken once it has stayed the same.
	tail   string
	tailAt int64

	mu      sync.Mutex
	rejects map[flow.Reason]int64
}

// New returns the source of a name that reads the file of a path, which need
// not exist yet. The logger may be nil.
func New(name, path string, log *slog.Logger) *Source {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Source{name: name, path: path, log: log, rejects: map[flow.Reason]int64{}}
}

// Check implements [connector.Checker]: it sees whether the file can be read.
func (s *Source) Check(context.Context) error {
	f, _, err := open(s.path)
	if err != nil {
		return err
	}
	return f.Close()
}

// Rejects implements [connector.Rejecter].
func (s *Source) Rejects() map[flow.Reason]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.rejects)
}

// Poll implements [connector.Source]. It reads as far as the file went when it
// was opened. A last line without a newline is left for the next poll, which
// takes it where it is whole JSON and has not changed.
func (s *Source) Poll(ctx context.Context, from connector.Cursor, emit func(connector.Batch) error) error {
	at, err := parseCursor(from)
	if err != nil {
		return err
	}
	f, size, err := open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	same, err := at.isIn(f, size)
	if err != nil {
		return err
	}
	if !same {
		s.log.Warn("file was truncated or replaced, reading it from the start", "path", s.path, "offset", at.Offset, "size", size)
		at = position{Version: cursorVersion}
	}
	return s.read(ctx, f, at, size, emit)
}

// open opens a regular file; opening anything else might block for ever.
func open(path string) (*os.File, int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, fmt.Errorf("open changes file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, 0, &connector.ConfigError{Err: fmt.Errorf("%s is not a regular file", path)}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("open changes file: %w", err)
	}
	if info, err = f.Stat(); err != nil { // that of the file now open
		f.Close()
		return nil, 0, fmt.Errorf("open changes file: %w", err)
	}
	return f, info.Size(), nil
}

// read emits the lines between a position and size.
func (s *Source) read(ctx context.Context, f *os.File, at position, size int64, emit func(connector.Batch) error) error {
	lines := &lineReader{
		r:      bufio.NewReaderSize(io.NewSectionReader(f, at.Offset, size-at.Offset), 64<<10),
		offset: at.Offset,
	}
	report := &report{log: s.log, path: s.path}
	defer report.end()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := s.batch(lines, at)
		if err != nil {
			return fmt.Errorf("read changes file: %w", err)
		}
		if b.at == at {
			return nil
		}
		at = b.at
		cursor, err := at.cursor(f)
		if err != nil {
			return err
		}
		err = emit(connector.Batch{
			Changes:  b.changes,
			Rejected: s.rejections(b.refused),
			Cursor:   cursor,
			Progress: connector.Progress{Ratio: float64(at.Offset) / float64(size)},
		})
		if err != nil {
			return err
		}
		// A line counts as refused once the cursor is behind it, so that a batch
		// that is read again does not count twice.
		s.count(b.refused)
		report.add(b.refused)
	}
}

// rejections tells of the lines that cannot be used.
func (s *Source) rejections(refused []refusal) []flow.Rejection {
	var rejections []flow.Rejection
	for _, r := range refused {
		rejections = append(rejections, flow.Rejection{
			Index: int(r.line), Subject: "file:" + s.path, Source: s.name, Reason: r.reason, Detail: r.err.Error(),
		})
	}
	return rejections
}

// A batch is what some lines hold.
type batch struct {
	at      position // behind them
	changes []flow.Change
	refused []refusal
}

// A refusal says why a line cannot be used.
type refusal struct {
	line   int64
	reason flow.Reason
	err    error
}

// batch reads the lines behind a position, as many as fit into a batch.
func (s *Source) batch(lines *lineReader, at position) (batch, error) {
	b := batch{at: at}
	for n := 0; n < maxBatchLines && b.at.Offset-at.Offset < maxBatchBytes; n++ {
		ln, err := lines.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return b, err
		}
		if !ln.ended && !s.settled(ln, b.at.Offset) {
			break
		}
		if err := b.take(ln, s.name); err != nil {
			b.refused = append(b.refused, refusal{b.at.Lines + 1, reason(err), err})
		}
		b.at.Offset = ln.end
		if ln.ended { // else its newline is still to come
			b.at.Lines++
		}
	}
	return b, nil
}

// take adds a line's change.
func (b *batch) take(ln line, source string) error {
	switch {
	case ln.tooLong:
		return &flow.InvalidError{Reason: flow.ReasonTooLarge, Detail: fmt.Sprintf("line is over %d bytes", maxLine)}
	case len(ln.text) == 0:
		return nil
	}
	c, err := decode(ln.text, source)
	if err != nil {
		return err
	}
	b.changes = append(b.changes, c)
	return nil
}

func reason(err error) flow.Reason {
	if invalid, ok := errors.AsType[*flow.InvalidError](err); ok {
		return invalid.Reason
	}
	return flow.ReasonMalformed
}

// settled reports whether a line without a newline is whole: a JSON object that
// the previous poll has seen as well.
func (s *Source) settled(ln line, start int64) bool {
	if ln.tooLong || !bytes.HasPrefix(ln.text, []byte("{")) || !json.Valid(ln.text) {
		return false
	}
	same := s.tail == string(ln.text) && s.tailAt == start
	s.tail, s.tailAt = string(ln.text), start
	return same
}

func (s *Source) count(refused []refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range refused {
		s.rejects[r.reason]++
	}
}

// A report logs the unusable lines of one poll: the first ones each, the rest
// as a number.
type report struct {
	log  *slog.Logger
	path string
	n    int
}

func (r *report) add(refused []refusal) {
	for _, f := range refused {
		if r.n++; r.n <= maxLogged {
			r.log.Warn("line was skipped", "at", fmt.Sprintf("%s:%d", r.path, f.line), "reason", string(f.reason), "error", f.err)
		}
	}
}

func (r *report) end() {
	if r.n > maxLogged {
		r.log.Warn("more lines were skipped", "path", r.path, "lines", r.n-maxLogged)
	}
}
