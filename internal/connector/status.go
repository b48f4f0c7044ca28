package connector

import (
	"context"
	"log/slog"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A Status is how a [Runner] and its source are doing.
type Status struct {
	Name        string
	Polled      bool      // a poll has succeeded or failed; a short pause that the tracker asked for is neither
	LastSuccess time.Time // end of the last successful poll; zero: none
	// LastError says why the last poll failed; empty where it succeeded.
	LastError   string
	LastErrorAt time.Time // of the last failure ever; zero: none
	// Lag is how old the log's picture of the tracker is: the time since the
	// start of the last successful poll, or of Run where there was none. It is 0
	// while the last poll succeeded and none is under way.
	Lag time.Duration
	// Backfill is how much of the tracker's history was read, 0 to 1. It never
	// falls, and is 1 once a poll has caught up.
	Backfill  float64
	Published int64 // changes made durable since the start
	// Dropped counts input that could not be used, by reason, found by the
	// source or by the Runner. What is read again counts again.
	Dropped map[flow.Reason]int64
	// Requests counts answers by status code; nil where the source is no [Meter].
	Requests map[string]int64
	// RateLimitRemaining is valid where RateLimitKnown.
	RateLimitRemaining float64
	RateLimitKnown     bool
	LastCensus         time.Time // end of the last census that counted, be it for a part; zero: none
	// CensusError says why the last census did not count, or not for all; empty
	// where it did.
	CensusError string
	// Hints counts the items that webhooks named and that are still to be read.
	Hints int
	// RefetchError says why they could not be read the last time, ObserveError
	// why the statuses in sight could not; empty where they could.
	RefetchError, ObserveError string
}

// state is the part of a Runner that Status reads, under its mutex.
type state struct {
	polled      bool
	busy        bool
	began       time.Time // Run
	lastStart   time.Time // of the last successful poll
	lastSuccess time.Time
	lastError   string
	lastErrorAt time.Time
	backfill    float64
	read        int64 // changes read by the first catching up
	published   int64
	dropped     map[flow.Reason]int64
	lastCensus  time.Time
	censusError string
	// removed are the items that webhooks told to be deleted since the last census
	// that counted.
	removed                    map[string]struct{}
	hints                      hints
	refetchError, observeError string
}

// Status returns how the Runner is doing.
func (r *Runner) Status() Status {
	s := r.status()
	if m, ok := r.cfg.Source.(Meter); ok {
		s.Requests = m.Requests()
		if n, ok := m.RateLimitRemaining(); ok {
			s.RateLimitRemaining, s.RateLimitKnown = float64(n), true
		}
	}
	if m, ok := r.cfg.Source.(Rejecter); ok {
		for reason, n := range m.Rejects() {
			s.Dropped[reason] += n
		}
	}
	return s
}

func (r *Runner) status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.state
	status := Status{
		Name:        r.cfg.Name,
		Polled:      s.polled,
		LastSuccess: s.lastSuccess,
		LastError:   s.lastError,
		LastErrorAt: s.lastErrorAt,
		Backfill:    s.backfill,
		Published:   s.published,
		Dropped:     maps.Clone(s.dropped),
		LastCensus:  s.lastCensus,
		CensusError: s.censusError,
		Hints:       len(s.hints.queue),

		RefetchError: s.refetchError,
		ObserveError: s.observeError,
	}
	since := s.began
	if !s.lastStart.IsZero() {
		since = s.lastStart
	}
	if !since.IsZero() && (s.busy || s.lastError != "") {
		status.Lag = max(0, time.Since(since))
	}
	return status
}

func (r *Runner) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.began = time.Now()
}

func (r *Runner) setBusy(busy bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.busy = busy
}

// caughtUp reports whether a poll has ever read everything.
func (r *Runner) caughtUp() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state.backfill == 1
}

func (r *Runner) countDropped(reason flow.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.state.dropped[reason]++
}

// progressed records how far the first catching up has come.
func (r *Runner) progressed(b Batch) {
	r.mu.Lock()
	caughtUp := r.state.backfill == 1
	if !caughtUp {
		// The whole is reached by catching up alone: totals grow meanwhile.
		r.state.backfill = max(r.state.backfill, min(b.Progress.Share(), 0.999))
		r.state.read += int64(len(b.Changes))
	}
	read := r.state.read
	r.mu.Unlock()
	if !caughtUp && r.cfg.Progress != nil {
		r.cfg.Progress.Advance(r.cfg.Name, b.Progress, read)
	}
}

func (r *Runner) succeed(start time.Time) {
	r.mu.Lock()
	s := &r.state
	first, recovered := s.backfill < 1, s.lastError != ""
	s.polled, s.busy, s.lastError, s.backfill = true, false, "", 1
	s.lastStart, s.lastSuccess = start, time.Now()
	r.mu.Unlock()
	if recovered {
		r.cfg.Logger.Info("source works again")
	}
	if first && r.cfg.Progress != nil {
		r.cfg.Progress.Finish(r.cfg.Name)
	}
}

func (r *Runner) fail(err error) {
	paused := r.paused(err)
	r.mu.Lock()
	s := &r.state
	s.polled, s.busy = s.polled || !paused, false
	text := shorten(err.Error())
	again := text == s.lastError
	s.lastError, s.lastErrorAt = text, time.Now()
	r.mu.Unlock()
	level := slog.LevelWarn
	if again && partial(err) {
		level = slog.LevelDebug // the same at every poll
	}
	r.cfg.Logger.Log(context.Background(), level, "poll failed", append(failure(err), "failures", r.failures)...)
}

// shorten cuts a text that somebody else wrote to a length fit for a log line.
func shorten(text string) string {
	const limit = 500
	if len(text) <= limit {
		return text
	}
	cut := limit
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return strings.ToValidUTF8(text[:cut], "?") + "..."
}
