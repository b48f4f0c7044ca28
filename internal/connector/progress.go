package connector

import (
	"log/slog"
	"math"
	"sync"
	"time"
)

// A Reporter shows how far the first catching up of sources has come. Its
// methods are safe for concurrent use and return at once.
type Reporter interface {
	// Advance tells how far a source has come and how many changes it has read
	// in all.
	Advance(source string, p Progress, changes int64)
	// Finish tells that a source has caught up for the first time. It may come
	// without an Advance, where there was nothing to read.
	Finish(source string)
}

// Share returns the share read so far, 0 to 1, and 0 where it is unknown.
func (p Progress) Share() float64 {
	share := p.Ratio
	if p.Total > 0 {
		share = float64(p.Done) / float64(p.Total)
	}
	if math.IsNaN(share) {
		return 0
	}
	return min(max(share, 0), 1)
}

// A pace follows one source's way, to tell its rate and the time left.
type pace struct {
	began             time.Time
	counted           bool  // the source counts items
	firstDone, done   int64 // items, or else changes
	firstShare, share float64
	total             int
}

// advance takes a report; what has been read never falls. Some batches of a
// source that counts items tell nothing of it.
func (p *pace) advance(progress Progress, changes int64) {
	if p.counted && progress == (Progress{}) {
		return
	}
	done := int64(progress.Done)
	counts := done > 0
	if !counts && !p.counted {
		done = changes
	}
	if p.began.IsZero() || counts && !p.counted {
		*p = pace{began: time.Now(), counted: counts, firstDone: done, firstShare: progress.Share()}
	}
	p.done = max(p.done, done)
	p.share = max(p.share, progress.Share())
	p.total = max(progress.Total, 0)
}

// rate returns the items read a second since the first report.
func (p *pace) rate() float64 {
	elapsed := time.Since(p.began).Seconds()
	if elapsed <= 0 {
		return 0
	}
	return float64(p.done-p.firstDone) / elapsed
}

// left estimates the time left; ok is false where there is nothing to go by.
func (p *pace) left() (d time.Duration, ok bool) {
	if p.share >= 1 {
		return 0, true
	}
	advanced := p.share - p.firstShare
	seconds := time.Since(p.began).Seconds() * (1 - p.share) / advanced
	if advanced <= 0 || seconds > (1000*time.Hour).Seconds() {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second), true
}

// logEvery is the shortest time between two log lines about one source.
const logEvery = 10 * time.Second

// A LogProgress is a [Reporter] that writes log lines: at most one a source
// every ten seconds, and one when it has caught up.
type LogProgress struct {
	log *slog.Logger

	mu      sync.Mutex
	sources map[string]*logged
}

type logged struct {
	pace
	last time.Time
}

// NewLogProgress returns a Reporter that writes to log.
func NewLogProgress(log *slog.Logger) *LogProgress {
	return &LogProgress{log: log, sources: map[string]*logged{}}
}

// Advance implements [Reporter].
func (l *LogProgress) Advance(source string, p Progress, changes int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sources[source]
	if s == nil {
		s = &logged{last: time.Now()} // a short backfill is worth no line
		l.sources[source] = s
	}
	s.advance(p, changes)
	if time.Since(s.last) < logEvery {
		return
	}
	s.last = time.Now()
	attrs := []any{"source", source, "items", s.done}
	if s.total > 0 {
		attrs = append(attrs, "total", s.total)
	}
	if s.share > 0 {
		attrs = append(attrs, "percent", math.Floor(s.share*1000)/10)
	}
	attrs = append(attrs, "items_per_second", math.Round(s.rate()*10)/10)
	if left, ok := s.left(); ok {
		attrs = append(attrs, "time_left", left)
	}
	l.log.Info("reading history", attrs...)
}

// Finish implements [Reporter].
func (l *LogProgress) Finish(source string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.sources[source]
	if s == nil {
		return
	}
	delete(l.sources, source)
	l.log.Info("history read", "source", source, "items", s.done, "took", time.Since(s.began).Round(time.Second))
}
