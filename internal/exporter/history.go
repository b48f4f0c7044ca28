package exporter

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A HistoryConfig says what a History is to tell of, and how its series are
// called.
type HistoryConfig struct {
	Policy *flow.Policy
	// Ledger holds the facts. Nobody may add to it while the history is used.
	Ledger *flow.Ledger
	// Step is the distance of the instants, which are its multiples since 1970:
	// a whole number of milliseconds, above 0.
	Step time.Duration
	// Job and Instance are the labels that a scrape of the live service has, so
	// that history and live are the same series. An empty one is no label.
	Job, Instance string
	// ValueStreams are the names of those to tell of. Without any it is all of
	// them, and the families that belong to no value stream.
	ValueStreams []string
	// Metrics admits the families whose name it matches; nil admits all.
	Metrics *regexp.Regexp
}

// A History evaluates the flow families at past instants: at each of them it
// gives the series and values that a scrape of the live service would have given
// with the snapshot of that instant, from the same table (flowFamilies). All its
// methods may be called concurrently.
type History struct {
	config   HistoryConfig
	families []*family[*flow.Snapshot]
	chosen   []int // the policy's value streams to tell of; nil: all
}

// NewHistory checks the configuration. It fails with a value stream that the
// policy does not have, with a step that is not a positive whole number of
// milliseconds, and where no family is admitted.
func NewHistory(c HistoryConfig) (*History, error) {
	if c.Step <= 0 || c.Step%time.Millisecond != 0 {
		return nil, fmt.Errorf("step %v is not a positive number of milliseconds", c.Step)
	}
	h := &History{config: c}
	for _, name := range c.ValueStreams {
		i := slices.IndexFunc(c.Policy.ValueStreams, func(v *flow.ValueStream) bool { return v.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("no value stream %q in the policy", name)
		}
		h.chosen = append(h.chosen, i)
	}
	slices.Sort(h.chosen)
	h.chosen = slices.Compact(h.chosen)
	for i := range flowFamilies {
		f := &flowFamilies[i]
		if h.chosen != nil && f.labels[0] != byStream[0] {
			continue
		}
		if c.Metrics == nil || c.Metrics.MatchString(f.name) {
			h.families = append(h.families, f)
		}
	}
	if len(h.families) == 0 {
		return nil, errors.New("no metric has a name that matches")
	}
	return h, nil
}

// BlockRange is the length of Prometheus' blocks of old samples: 2 h × 3⁵. They
// begin at its multiples since 1970.
const BlockRange = 486 * time.Hour

// A Range is a stretch of time: the instants t with From ≤ t < To.
type Range struct{ From, To time.Time }

// Cut returns the ranges that [from, to) has in the block ranges, in the order of
// time and without those that have no instant. Each begins at its first instant
// and ends where the next one begins or with the step after its last instant, so
// every instant is in exactly one.
func (h *History) Cut(from, to time.Time) []Range {
	var ranges []Range
	end := h.align(to)
	for start := h.align(from); start < end; {
		limit := start - mod(start, BlockRange.Milliseconds()) + BlockRange.Milliseconds()
		next := min(h.align(time.UnixMilli(limit)), end)
		ranges = append(ranges, Range{time.UnixMilli(start).UTC(), time.UnixMilli(next).UTC()})
		start = next
	}
	return ranges
}

// align returns the first instant that is not before t, in milliseconds.
func (h *History) align(t time.Time) int64 {
	at := t.UnixMilli()
	if t.After(time.UnixMilli(at)) {
		at++
	}
	step := h.config.Step.Milliseconds()
	return at + mod(-at, step)
}

// mod returns the remainder of a division towards minus infinity.
func mod(a, b int64) int64 { return (a%b + b) % b }

// Evaluate computes the samples of a range, with a [flow.Board] that goes forward
// through it. It keeps them encoded: about half a byte for a sample that repeats
// the one before. From time to time it calls progress, which may be nil, with the
// number of instants done since the call before. It fails with the context's
// error alone.
func (h *History) Evaluate(ctx context.Context, r Range, progress func(instants int)) (*Part, error) {
	if progress == nil {
		progress = func(int) {}
	}
	board := flow.NewBoard(h.config.Policy, h.config.Ledger)
	rec := h.recorder(r.From)
	for at, end := rec.start, h.align(r.To); at < end; at += rec.step {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("evaluate history: %w", context.Cause(ctx))
		}
		if n := rec.record(board.Snapshot(time.UnixMilli(at), true)); n > 0 {
			progress(n)
		}
	}
	if n := rec.end(); n > 0 {
		progress(n)
	}
	return newPart(r, rec.columns, h.config.Job, h.config.Instance), nil
}

// A recorder takes the samples of one snapshot after the other.
type recorder struct {
	*columns
	history *History
	outs    []*samples // of the history's families
}

// recorder returns one that begins with the first instant from a time on.
func (h *History) recorder(from time.Time) *recorder {
	r := &recorder{columns: newColumns(h.align(from), h.config.Step.Milliseconds()), history: h}
	for _, f := range h.families {
		out := f.samples()
		out.history = r.columns
		r.outs = append(r.outs, out)
	}
	return r
}

// record takes the samples of the next instant. Where the columns encoded what
// waited, it returns how many instants these were.
func (r *recorder) record(s *flow.Snapshot) int {
	s = r.history.selected(s)
	for i, f := range r.history.families {
		f.from(s, r.outs[i])
	}
	return r.endRow()
}

// selected returns the snapshot with the chosen value streams alone.
func (h *History) selected(s *flow.Snapshot) *flow.Snapshot {
	if h.chosen == nil {
		return s
	}
	only := *s
	only.ValueStreams = make([]*flow.Measures, len(h.chosen))
	for i, stream := range h.chosen {
		only.ValueStreams[i] = s.ValueStreams[stream]
	}
	return &only
}
