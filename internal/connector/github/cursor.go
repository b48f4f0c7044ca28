package github

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

const (
	// cursorVersion is that of [cursor]; others are refused.
	cursorVersion = 1
	// maxSeen bounds the entries that a cursor remembers, over all repositories.
	maxSeen = 2400
	// maxNames bounds the names of labels that a cursor remembers, in bytes.
	maxNames = 16 << 10
	// maxLink bounds the link that a cursor holds, in bytes.
	maxLink = 2 << 10
)

// cursor says how far each repository has been read in order of updates.
type cursor struct {
	Version int                  `json:"v"`
	Scope   string               `json:"scope"` // the site and the project: others mean another scan
	Repos   map[string]*position `json:"repos,omitempty"`
}

// A position is how far one repository has been read. One scan follows the
// other; each begins a little before the newest update that its predecessors
// saw, never at "now", and has no upper bound. Times are seconds of the epoch,
// as GitHub's are.
type position struct {
	Since  int64            `json:"s,omitempty"` // where the scan began
	At     int64            `json:"a,omitempty"` // how far it has come; 0: it has not begun, or it is complete
	Next   string           `json:"n,omitempty"` // link to follow through the entries of one second
	Unsure int64            `json:"u,omitempty"` // update of an entry that has to be read again; 0: none
	Seen   []byte           `json:"h,omitempty"` // sums of entries from about there on that have been read
	Filled bool             `json:"f,omitempty"` // the first scan is complete
	First  int64            `json:"b,omitempty"` // the oldest update, while the first scan lasts
	Done   int              `json:"d,omitempty"` // entries of the first scan read so far, pull requests too
	Total  int              `json:"t,omitempty"` // and of how many, where known
	Labels map[int64]string `json:"l,omitempty"` // names by id

	Missing []int `json:"m,omitempty"` // numbers of issues that could not be read, yet to be read
	NoBoard bool  `json:"p,omitempty"` // issues were read without their moves on the project
}

// from is the update from which on entries are asked for.
func (p *position) from() int64 { return max(p.Since, p.At) }

// A sum stands for an entry of a list as it was at one of its updates.
type sum [5]byte

func sumOf(id, updated int64) sum {
	var text [16]byte
	binary.BigEndian.PutUint64(text[:8], uint64(id))
	binary.BigEndian.PutUint64(text[8:], uint64(updated))
	whole := sha256.Sum256(text[:])
	return sum(whole[:5])
}

// encode returns the cursor as bytes, always the same for the same cursor.
func (c *cursor) encode() connector.Cursor {
	data := c.marshal()
	if len(data) <= connector.MaxCursor {
		return data
	}
	// Without what it remembers the next program reads some entries again, and
	// without names it sees no label that was renamed before.
	for _, drop := range [...]func(*position){
		func(p *position) { p.Seen, p.Next = nil, "" },
		func(p *position) { p.Seen, p.Next, p.Labels = nil, "", nil },
	} {
		slim := *c
		slim.Repos = make(map[string]*position, len(c.Repos))
		for name, p := range c.Repos {
			short := *p
			drop(&short)
			slim.Repos[name] = &short
		}
		if data = slim.marshal(); len(data) <= connector.MaxCursor {
			break
		}
	}
	return data
}

func (c *cursor) marshal() []byte {
	data, err := json.Marshal(c)
	if err != nil {
		panic(err) // numbers and texts always encode
	}
	return data
}

// scope identifies what the cursor is about.
func (s *Source) scope() string {
	sum := sha256.Sum256([]byte(s.client.base.String() + "\x00" + s.project.Owner + "\x00" + strconv.Itoa(s.project.Number)))
	return base64.RawURLEncoding.EncodeToString(sum[:6])
}

// repoID stands for a repository in a cursor.
func repoID(repo string) string {
	sum := sha256.Sum256([]byte(strings.ToLower(repo)))
	return base64.RawURLEncoding.EncodeToString(sum[:6])
}

// start returns the cursor to go on from, with a position for each repository
// and no other. A repository that was added is read from its beginning.
func (s *Source) start(from connector.Cursor) (*cursor, error) {
	fresh := &cursor{Version: cursorVersion, Scope: s.scope(), Repos: make(map[string]*position, len(s.repos))}
	var stored cursor
	if len(from) > 0 {
		var err error
		if stored, err = s.decodeCursor(from); err != nil {
			return nil, fmt.Errorf("%w: %w", connector.ErrCursor, err)
		}
	}
	for _, repo := range s.repos {
		p := stored.Repos[repoID(repo)]
		if p == nil || stored.Scope != fresh.Scope {
			p = &position{}
		}
		fresh.Repos[repoID(repo)] = p
	}
	return fresh, nil
}

// decodeCursor reads a cursor, strictly.
func (s *Source) decodeCursor(from connector.Cursor) (cursor, error) {
	var c cursor
	if len(from) > connector.MaxCursor {
		return c, fmt.Errorf("it has %d bytes", len(from))
	}
	d := json.NewDecoder(bytes.NewReader(from))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, err
	}
	if _, err := d.Token(); err != io.EOF {
		return c, fmt.Errorf("something follows it")
	}
	if c.Version != cursorVersion {
		return c, fmt.Errorf("version %d, want %d", c.Version, cursorVersion)
	}
	for _, p := range c.Repos {
		if p == nil {
			return c, fmt.Errorf("a position is missing")
		}
		if err := s.checkPosition(p); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (s *Source) checkPosition(p *position) error {
	latest := time.Now().Add(24 * time.Hour).Unix()
	for _, t := range [...]int64{p.Since, p.At, p.Unsure, p.First} {
		if t < 0 || t > latest {
			return fmt.Errorf("it is from the future")
		}
	}
	if p.Next != "" {
		if u, err := s.client.base.Parse(p.Next); err != nil || !sameSite(u, s.client.base) {
			return fmt.Errorf("its link %w", errForeign)
		}
	}
	if len(p.Seen)%len(sum{}) != 0 || p.Done < 0 || p.Total < 0 || len(p.Missing) > maxMissing || slices.ContainsFunc(p.Missing, func(n int) bool { return n <= 0 }) {
		return fmt.Errorf("a position makes no sense")
	}
	return nil
}

// A memory is which entries of a repository have been read, with the time of
// their updates; 0 where it is from a cursor and the entry was not seen since.
type memory map[sum]int64

func newMemory(p *position) memory {
	m := make(memory, len(p.Seen)/len(sum{}))
	for s := range slices.Chunk(p.Seen, len(sum{})) {
		m[sum(s)] = 0
	}
	return m
}

// forget drops what was updated before an instant. What was not seen since the
// program started is dropped only once the scan is complete: then it does not
// exist any more.
func (m memory) forget(before int64, complete bool) {
	for s, updated := range m {
		if updated < before && (updated != 0 || complete) {
			delete(m, s)
		}
	}
}

// encode returns the newest entries for a cursor, at most so many.
func (m memory) encode(limit int) []byte {
	type entry struct {
		sum     sum
		updated int64
	}
	all := make([]entry, 0, len(m))
	for s, updated := range m {
		all = append(all, entry{s, cmp.Or(updated, math.MaxInt64)})
	}
	slices.SortFunc(all, func(a, b entry) int {
		return cmp.Or(cmp.Compare(b.updated, a.updated), bytes.Compare(a.sum[:], b.sum[:]))
	})
	all = all[:min(limit, len(all))]
	text := make([]byte, 0, len(all)*len(sum{}))
	for _, e := range all {
		text = append(text, e.sum[:]...)
	}
	return text
}

// uncrowded returns the earliest second from since on that leaves at most so many
// entries to list again, or the one behind the newest.
func (m memory) uncrowded(since, newest int64, most int) int64 {
	times := make([]int64, 0, len(m))
	for _, updated := range m {
		if updated >= since {
			times = append(times, updated)
		}
	}
	if len(times) <= most {
		return since
	}
	slices.Sort(times)
	// Entries of one second stay together.
	return min(times[len(times)-most-1], newest) + 1
}
