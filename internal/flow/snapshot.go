package flow

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// A Span is an exact, non-negative sum of durations, wide enough for the item
// time of millions of items over centuries, where a [time.Duration] is not.
// The zero Span is no time.
type Span struct{ hi, lo uint64 } // nanoseconds

// Add returns the span lengthened by d, which must not be negative (I3).
func (s Span) Add(d time.Duration) Span {
	if d < 0 {
		panic("flow: negative duration") // an interval that ends before it begins
	}
	lo, carry := bits.Add64(s.lo, uint64(d), 0)
	return Span{s.hi + carry, lo}
}

// Plus returns the sum of two spans.
func (s Span) Plus(o Span) Span {
	lo, carry := bits.Add64(s.lo, o.lo, 0)
	return Span{s.hi + o.hi + carry, lo}
}

// minus undoes Plus.
func (s Span) minus(o Span) Span {
	lo, borrow := bits.Sub64(s.lo, o.lo, 0)
	return Span{s.hi - o.hi - borrow, lo}
}

// IsZero reports whether the span is no time at all.
func (s Span) IsZero() bool { return s == Span{} }

// Seconds returns the span in seconds, the first step at which a float appears.
func (s Span) Seconds() float64 {
	q, r := bits.Div64(s.hi%1e9, s.lo, 1e9)
	return float64(s.hi/1e9)*(1<<64) + float64(q) + float64(r)/1e9
}

// Over returns s divided by t as a ratio; ok is false where t is no time.
func (s Span) Over(t Span) (ratio float64, ok bool) {
	if t.IsZero() {
		return 0, false
	}
	if s == t {
		return 1, true
	}
	return s.Seconds() / t.Seconds(), true
}

// An Entry is a reason for which an item enters flow in a value stream.
type Entry uint8

// The reasons for entering.
const (
	Started    Entry = iota // for the first time
	Reopened                // out of done or cancelled
	Resumed                 // from new or deleted, after an earlier start
	MovedIn                 // from elsewhere, already in flow
	FirstSeen               // in flow when first observed
	numEntries              // how many there are
)

var entryNames = [...]string{"started", "reopened", "resumed", "moved_in", "observed"}

// String returns the reason's name in output and labels.
func (e Entry) String() string { return entryNames[e] }

// Entries are all reasons for entering, in order.
func Entries() []Entry { return []Entry{Started, Reopened, Resumed, MovedIn, FirstSeen} }

// An Exit is a reason for which an item leaves flow in a value stream.
type Exit uint8

// The reasons for leaving.
const (
	ExitCompleted Exit = iota // done
	ExitCancelled             // given up
	ExitReturned              // back to new
	ExitMovedOut              // to elsewhere, or to an ignored type
	ExitDeleted               // gone
	numExits                  // how many there are
)

var exitNames = [...]string{"completed", "cancelled", "returned", "moved_out", "deleted"}

// String returns the reason's name in output and labels.
func (e Exit) String() string { return exitNames[e] }

// Exits are all reasons for leaving, in order.
func Exits() []Exit {
	return []Exit{ExitCompleted, ExitCancelled, ExitReturned, ExitMovedOut, ExitDeleted}
}

// A Snapshot is every number as of one instant under one policy. It is
// immutable, so any number of readers may share it.
type Snapshot struct {
	At           time.Time
	PolicyHash   string
	ValueStreams []*Measures // in the order of the policy
	Quality      Quality
}

// ValueStream returns the measures of the value stream of a name, or nil.
func (s *Snapshot) ValueStream(name string) *Measures {
	for _, m := range s.ValueStreams {
		if m.ValueStream.Name == name {
			return m
		}
	}
	return nil
}

// Measures are the numbers of one value stream.
type Measures struct {
	ValueStream *ValueStream
	At          time.Time // of these numbers: a Board measures anew only what changed
	Load        Load
	Windows     []WindowMeasures // in the order of the policy
	Totals      [NumTypes]Totals // by item type
	// Predicted is load / completions of the last 28 days, in seconds; valid
	// where Throughput28 is positive.
	Predicted    float64
	Throughput28 int
	Health       []Health
	Signals      Signals
	Quality      StreamQuality
	// LoadMismatch and PresenceMismatch count the windows in which the two
	// halves of invariant I8 do not hold. They must be zero.
	LoadMismatch, PresenceMismatch int
	Items                          []ItemMeasures // only where asked for
}

// Load is what is in flow as of the instant.
type Load struct {
	Items                  int
	ByType                 [NumTypes]TypeLoad
	AgeP50, AgeP85, Oldest time.Duration // valid where Items is positive
	TotalAge               Span
	OverTarget             int // valid where the value stream has a flow time target
	Neglected              int
	ByStatus               []StatusLoad // sorted by status, then state
}

// TypeLoad is the load of one item type by state.
type TypeLoad struct{ Active, Waiting int }

// StatusLoad is the length of one status' queue now.
type StatusLoad struct {
	Status string
	State  State
	Items  int
}

// StatusTime is the time that completed items spent in one status.
type StatusTime struct {
	Status string
	State  State
	Time   Span
}

// WindowMeasures are the numbers of one window [From, To).
type WindowMeasures struct {
	Window                         Window
	From, To                       time.Time
	ByType                         [NumTypes]TypeMeasures
	All                            TypeMeasures
	LoadStart, LoadEnd             int
	Entered                        [numEntries]int
	Exited                         [numExits]int
	CompletionEvents, ReopenEvents int
	Attained                       int // timed items within the flow time target; valid where there is one
	Discarded                      int
	DiscardedTime                  Span
	Status                         []StatusTime // sorted by status, then state
}

// TypeMeasures are the numbers of one item type, or of all, in one window.
type TypeMeasures struct {
	Completed int // done as of the instant, last completion in the window
	Timed     int // of those, with a known start: the sample of the next five
	// Nearest-rank percentiles of flow time, valid where Timed is positive.
	P50, P85, P95   time.Duration
	Active, Waiting Span // of the timed items; together their flow time
	// Presence is the in-flow time that all items, finished or not, spent inside
	// the window in this value stream, PresenceActive the active part of it.
	Presence, PresenceActive Span
}

// FlowTime returns the sum of the timed items' flow times.
func (t *TypeMeasures) FlowTime() Span { return t.Active.Plus(t.Waiting) }

// MeanSeconds returns the mean flow time; ok is false without timed items.
func (t *TypeMeasures) MeanSeconds() (seconds float64, ok bool) {
	if t.Timed == 0 {
		return 0, false
	}
	return t.FlowTime().Seconds() / float64(t.Timed), true
}

// Efficiency returns active / (active + waiting), the ratio of sums; ok is
// false where there is no time to divide by.
func (t *TypeMeasures) Efficiency() (ratio float64, ok bool) { return t.Active.Over(t.FlowTime()) }

// InWindowEfficiency is Efficiency over all in-flow time inside the window.
func (t *TypeMeasures) InWindowEfficiency() (ratio float64, ok bool) {
	return t.PresenceActive.Over(t.Presence)
}

// AverageLoad returns the time-weighted average load of the window.
func (w *WindowMeasures) AverageLoad() float64 {
	return w.All.Presence.Seconds() / w.Window.Length.Seconds()
}

// Attainment returns the share of timed items within the flow time target; ok
// is false without a target or a timed item.
func (w *WindowMeasures) Attainment(v *ValueStream) (ratio float64, ok bool) {
	if v.Targets.FlowTime == 0 || w.All.Timed == 0 {
		return 0, false
	}
	return float64(w.Attained) / float64(w.All.Timed), true
}

// Totals count events of one item type since the beginning of the log. They
// depend on the facts alone, so they are the same after a restart.
type Totals struct {
	Entered, Completed, Reopened, Cancelled int
	// FlowTimeBuckets counts the flow times at each completion event with a
	// known start by the bounds FlowTimeBounds, the last one without a bound.
	FlowTimeBuckets [len(flowTimeBounds) + 1]int
	FlowTimeCount   int
	FlowTimeSum     Span
	// FlowTimeFine counts the same by exponential buckets, eight to a doubling:
	// bucket i ends at 2^(i/8) seconds, included, where the one before it ends.
	// That is schema 3 of Prometheus' native histograms. Flow times of zero are
	// in none. It is nil while empty.
	FlowTimeFine map[int]int
}

// FlowTimeSchema is the schema of [Totals.FlowTimeFine].
const FlowTimeSchema = 3

// fineBounds are the bounds of the eight buckets between 0.5 and 1.
var fineBounds = func() (bounds [8]float64) {
	for i := range bounds {
		bounds[i] = math.Exp2(float64(i)/8 - 1)
	}
	return bounds
}()

// fineBucket returns the exponential bucket of a flow time above zero.
func fineBucket(d time.Duration) int {
	fraction, exponent := math.Frexp(d.Seconds())
	i, _ := slices.BinarySearch(fineBounds[:], fraction) // the first bound that is not below
	return i + (exponent-1)*len(fineBounds)
}

const hour = time.Hour

// The bounds are those of the metric catalogue.
var flowTimeBounds = [...]time.Duration{
	1 * hour, 4 * hour, 8 * hour, 24 * hour, 48 * hour, 72 * hour, 120 * hour, 192 * hour,
	312 * hour, 504 * hour, 816 * hour, 1320 * hour, 2160 * hour,
}

// FlowTimeBounds returns the upper bounds of the flow time histogram:
// 1h 4h 8h 1d 2d 3d 5d 8d 13d 21d 34d 55d 90d.
func FlowTimeBounds() []time.Duration { return append([]time.Duration(nil), flowTimeBounds[:]...) }

// Quality counts what makes the numbers less certain, over the items that were
// ever in one of the value streams. An item is under the first heading that
// fits (R15).
type Quality struct {
	Duplicates            int            // further changes with a known id
	Conflicts             int            // of another content than the first with that id, counted apart
	UnmappedStatuses      map[string]int // facts by status
	UnmappedItems         map[string]int // items now in an unmapped status, by source
	BornDone              int
	LeftCensored          int
	CompletedWithoutStart int
	CompletedNeverActive  int
	IgnoredByType         int
	HistoryGaps           int // facts whose from is not the previous to (case 13)
}

// StreamQuality is the part of [Quality] that belongs to one value stream.
type StreamQuality struct {
	BornDone, LeftCensored, CompletedWithoutStart, CompletedNeverActive int
}

// HealthStatus is a colour: the comparison with an agreed target.
type HealthStatus uint8

// The colours. Grey is too little data or no target.
const (
	Grey HealthStatus = iota
	Green
	Amber
	Red
)

// Health is the colour of one measure.
type Health struct {
	Measure string
	Status  HealthStatus
}

// ItemMeasures are the numbers of one item in a value stream.
type ItemMeasures struct {
	Source, Item, Key     string
	Title, URL            string
	Type                  ItemType
	State                 State
	StartedAt, FinishedAt time.Time // zero: not started or unknown, not finished
	Active, Waiting       time.Duration
	FlowTime, Age         time.Duration
	HasFlowTime, InFlow   bool
	Reopens               int
	LeftCensored          bool
	Status                string
	StatusSince           time.Time     // start of the current stay in the status
	StatusTime            []StatusTime  // sorted by status, then state
	Elapsed               time.Duration // last completion − first start; valid where HasFlowTime
	LastFactAt            time.Time
}
