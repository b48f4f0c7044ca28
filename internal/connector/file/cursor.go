package file

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

const cursorVersion = 1

// A position is how far the file has been read: the content of a cursor.
type position struct {
	Version int    `json:"v"`
	Offset  int64  `json:"offset"` // bytes read
	Lines   int64  `json:"lines"`  // lines read
	Digest  string `json:"digest"` // of what the file holds around them
}

// parseCursor reads a cursor; the error is a [connector.ErrCursor].
func parseCursor(c connector.Cursor) (position, error) {
	if len(c) == 0 {
		return position{Version: cursorVersion}, nil
	}
	var p position
	d := json.NewDecoder(bytes.NewReader(c))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return position{}, fmt.Errorf("%w: %v", connector.ErrCursor, err)
	}
	if p.Version != cursorVersion {
		return position{}, fmt.Errorf("%w: version %d, want %d", connector.ErrCursor, p.Version, cursorVersion)
	}
	if p.Offset < 0 || p.Lines < 0 {
		return position{}, fmt.Errorf("%w: negative offset or lines", connector.ErrCursor)
	}
	return p, nil
}

// cursor returns the cursor of the position in a file.
func (p position) cursor(f io.ReaderAt) (connector.Cursor, error) {
	var err error
	if p.Digest, err = digest(f, p.Offset); err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

// isIn reports whether the position was made in a file with this content.
func (p position) isIn(f io.ReaderAt, size int64) (bool, error) {
	if p.Offset == 0 {
		return true, nil
	}
	if size < p.Offset {
		return false, nil
	}
	d, err := digest(f, p.Offset)
	return d == p.Digest, err
}

// digested is how much of the file's beginning, and of what is just before the
// offset, a position knows.
const digested = 1024

func digest(f io.ReaderAt, offset int64) (string, error) {
	n := min(offset, digested)
	h := sha256.New()
	for _, from := range [...]int64{0, offset - n} {
		if _, err := io.Copy(h, io.NewSectionReader(f, from, n)); err != nil {
			return "", fmt.Errorf("read file: %w", err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}
