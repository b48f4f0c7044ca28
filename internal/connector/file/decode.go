package file

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// maxLine bounds a line, in bytes without its end.
const maxLine = 1 << 20

// decode reads a change from a line. A change without a source gets the given
// one.
func decode(line []byte, source string) (flow.Change, error) {
	var c flow.Change
	if err := json.Unmarshal(line, &c); err != nil {
		return c, &flow.InvalidError{Reason: flow.ReasonMalformed, Detail: fmt.Sprintf("not a change: %v", err)}
	}
	if c.Source == "" {
		c.Source = source
	}
	c.At, c.ObservedAt = c.At.UTC(), c.ObservedAt.UTC()
	return c, c.Validate()
}

// A line is one line of the file.
type line struct {
	text    []byte // without white space around it; valid until the next line
	end     int64  // offset behind it
	ended   bool   // with a newline
	tooLong bool   // text is not all of it
}

// A lineReader reads lines of any length in bounded memory.
type lineReader struct {
	r      *bufio.Reader
	offset int64
	buf    []byte
}

// next returns the next line, or io.EOF behind the last one.
func (l *lineReader) next() (line, error) {
	first := l.offset == 0
	l.buf = l.buf[:0]
	ln := line{}
	for {
		part, err := l.r.ReadSlice('\n')
		l.offset += int64(len(part))
		ln.ended = err == nil
		if room := maxLine + 2 - len(l.buf); len(part) > room { // 2 for the line's end
			part, ln.tooLong = part[:room], true
		}
		l.buf = append(l.buf, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return line{}, err
		}
		if err != nil && len(l.buf) == 0 {
			return line{}, io.EOF
		}
		break
	}
	text := l.buf
	if first {
		text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")) // a byte order mark
	}
	ln.text, ln.end = bytes.TrimSpace(text), l.offset
	ln.tooLong = ln.tooLong || len(ln.text) > maxLine
	return ln, nil
}
