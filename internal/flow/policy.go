package flow

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"sort"
	"strings"
	"time"
)

// A State is a flow state.
type State uint8

// The flow states. An item is in flow while it is Waiting or Active, its type
// is not ignored, and it is not gone.
const (
	New       State = iota // not committed
	Waiting                // started, nobody at it
	Active                 // being worked on
	Done                   // finished
	Cancelled              // given up
	Gone                   // deleted in the tracker while New or in flow
	numStates
)

var stateNames = [...]string{"new", "waiting", "active", "done", "cancelled", "deleted"}

// String returns the state's name in configuration and output. Gone is
// "deleted" there.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ParseState reads the name of a state that a rule may give: new, waiting,
// active, done or cancelled.
func ParseState(name string) (State, error) {
	for s := New; s <= Cancelled; s++ {
		if stateNames[s] == name {
			return s, nil
		}
	}
	return New, fmt.Errorf("unknown state %q, want new, waiting, active, done or cancelled", name)
}

// finished reports whether work on the item has ended, one way or the other.
func (s State) finished() bool { return s == Done || s == Cancelled }

// moving reports whether the state is one of those that count as in flow.
func (s State) moving() bool { return s == Waiting || s == Active }

// An ItemType is a flow item type.
type ItemType uint8

// The flow item types. Unclassified is a type without any rule: it is shown,
// never dropped. Ignored is invisible to every metric.
const (
	Feature ItemType = iota
	Defect
	Risk
	Debt
	Unclassified
	Ignored
)

// NumTypes is the number of item types that are measured: all but Ignored.
const NumTypes = 5

var typeNames = [...]string{"feature", "defect", "risk", "debt", "unclassified", "ignored"}

// String returns the type's name in configuration, output and labels.
func (t ItemType) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("ItemType(%d)", uint8(t))
}

// MarshalText writes the type's name.
func (t ItemType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// A Policy is the configured meaning of the trackers' words. It is immutable
// once made; a changed policy is a recomputation over the same facts.
type Policy struct {
	ValueStreams []*ValueStream
	Windows      []Window
}

// A Window is a rolling window of exact length ending at the instant of
// evaluation: [T-Length, T).
type Window struct {
	Name   string // as written in the configuration, such as "7d"
	Length time.Duration
}

// A ValueStream is one line of work that is measured as a whole.
type ValueStream struct {
	Name         string
	Title        string
	Workflow     *Workflow
	Timezone     string         // IANA name of Location
	Location     *time.Location `json:"-"` // of calendar buckets; never of rolling windows
	Include      []Include
	Targets      Targets
	NeglectAfter time.Duration // an item without any fact for this long is neglected
}

// An Include admits items to a value stream. All its conditions must hold; an
// absent one matches everything (R11).
type Include struct {
	Source     string
	Containers []string // globs: * matches any text, / included
	Labels     []string // any of
	Types      []string // any of, in the tracker's words
}

// Targets are what both sides agreed for a value stream. A zero field is not
// agreed.
type Targets struct {
	FlowTime     time.Duration // the service level expectation ...
	Percentile   float64       // ... met by this share of items, in percent
	Load         int           // limit of items in flow
	Distribution map[ItemType]float64
}

// A Workflow maps a tracker's words to flow states and item types.
type Workflow struct {
	Name                 string
	StatusByID           map[string]State
	StatusByName         map[string]State
	CancelledResolutions []string // names, or "id:N"
	Labels               []LabelRule
	Types                []TypeRule // in order: feature, defect, risk, debt, ignored
	StartSignals         []string   // assigned, pull_request, label:NAME
	ReopenGrace          time.Duration
	BacklogReturnWaits   bool // a return to new after a start is waiting, not a pause
	CountBornDone        bool
}

// A LabelRule gives a state to open items that carry a label. The first rule
// that matches decides.
type LabelRule struct {
	Label string
	State State
}

// A TypeRule gives an item type to a tracker's type name, or to a label where
// Label is set.
type TypeRule struct {
	Match string
	Label bool
	Type  ItemType
}

// The start signals that a workflow may list besides "label:NAME" (R7).
const (
	SignalAssigned    = "assigned"
	SignalPullRequest = "pull_request"
	signalLabel       = "label:"
)

// DefaultWindows are the windows of a policy that names none.
func DefaultWindows() []Window {
	const day = 24 * time.Hour
	return []Window{{"7d", 7 * day}, {"30d", 30 * day}, {"90d", 90 * day}}
}

// DefaultNeglectAfter is the time without any fact after which an item in flow
// counts as neglected, where a value stream sets none (R22).
const DefaultNeglectAfter = 14 * 24 * time.Hour

// Hash returns a short hash of everything in the policy that changes a number.
// Equal policies have equal hashes, whatever the order of the file's mappings.
func (p *Policy) Hash() string {
	raw, err := json.Marshal(p) // maps are written in key order
	if err != nil {
		panic("flow: policy cannot be encoded: " + err.Error()) // plain data always can
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:6])
}

// ValueStream returns the value stream of a name, or nil.
func (p *Policy) ValueStream(name string) *ValueStream {
	for _, v := range p.ValueStreams {
		if v.Name == name {
			return v
		}
	}
	return nil
}

// StateOf gives the state that a rule or the tracker's category has for a
// status: by id, by name, by category; ok is false where none does (case 10).
func (w *Workflow) StateOf(v Value) (s State, ok bool) {
	if v.ID != "" {
		if s, ok = w.StatusByID[v.ID]; ok {
			return s, true
		}
	}
	if v.Name != "" {
		if s, ok = w.StatusByName[v.Name]; ok {
			return s, true
		}
	}
	switch v.Category {
	case "new":
		return New, true
	case "indeterminate":
		return Active, true
	case "done":
		return Done, true
	}
	return New, false
}

// cancels reports whether a resolution turns done into cancelled (R8).
func (w *Workflow) cancels(resolution Value) bool {
	for _, r := range w.CancelledResolutions {
		if id, ok := strings.CutPrefix(r, "id:"); ok && id == resolution.ID && id != "" {
			return true
		}
		if r == resolution.Name && r != "" {
			return true
		}
	}
	return false
}

// TypeOf gives the flow item type of a tracker's type and the item's labels:
// the type's name first, then labels, each in the order of the rules (R10).
func (w *Workflow) TypeOf(tracker Value, labels []string) ItemType {
	for _, r := range w.Types {
		if !r.Label && r.Match == tracker.Name && r.Match != "" {
			return r.Type
		}
	}
	for _, r := range w.Types {
		if id, ok := strings.CutPrefix(r.Match, "id:"); ok && !r.Label && id == tracker.ID && id != "" {
			return r.Type
		}
	}
	for _, r := range w.Types {
		if r.Label && contains(labels, r.Match) {
			return r.Type
		}
	}
	return Unclassified
}

// Admits reports whether the value stream includes an item as it is at an
// instant (R11).
func (v *ValueStream) Admits(source, container string, tracker Value, labels []string) bool {
	for i := range v.Include {
		in := &v.Include[i]
		if in.Source != "" && in.Source != source {
			continue
		}
		if len(in.Containers) > 0 && !anyGlob(in.Containers, container) {
			continue
		}
		if len(in.Types) > 0 && !contains(in.Types, tracker.Name) {
			continue
		}
		if len(in.Labels) > 0 && !anyOf(in.Labels, labels) {
			continue
		}
		return true
	}
	return false
}

func contains(list []string, text string) bool {
	for _, s := range list {
		if s == text {
			return true
		}
	}
	return false
}

func anyOf(wanted, have []string) bool {
	for _, w := range wanted {
		if contains(have, w) {
			return true
		}
	}
	return false
}

func anyGlob(patterns []string, text string) bool {
	for _, p := range patterns {
		if Glob(p, text) {
			return true
		}
	}
	return false
}

// Glob reports whether text matches a pattern in which * stands for any text,
// slashes included, and every other character for itself.
func Glob(pattern, text string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == text
	}
	if !strings.HasPrefix(text, head) {
		return false
	}
	text = text[len(head):]
	for {
		part, next, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(text, part)
		}
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text, rest = text[i+len(part):], next
	}
}

// Sources returns the names of the sources that the policy's value streams ask
// for, sorted; "" stands for any.
func (p *Policy) Sources() []string {
	seen := map[string]bool{}
	for _, v := range p.ValueStreams {
		for _, in := range v.Include {
			seen[in.Source] = true
		}
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}
