package flow_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// TestBoardIsMeasure checks that a board that is fed change by change, with
// snapshots in between, always says what measuring everything anew says: also
// while items settle, come back to life, get linked, and have facts whose time
// has yet to come.
func TestBoardIsMeasure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy, log := drawPolicy(t), drawLog(t)
		board, plain := flow.NewBoard(policy, flow.NewLedger()), flow.NewLedger()
		at := drawInstant(t, "first snapshot")
		for i := range log {
			c := log[i]
			if got, want := board.Add(&c), plain.Add(&c); got != want {
				t.Fatalf("adding change %d: board says %v, ledger %v", i, got, want)
			}
			switch pick(t, "then", "nothing", "nothing", "partial", "full") {
			case "partial":
				compareBoard(t, policy, plain, board.Snapshot(at, false))
			case "full":
				// Past what any window sees, so that items settle.
				at = at.Add(pick(t, "later", 0, tick, 20*day, 40*day, 70*day))
				compareBoard(t, policy, plain, board.Snapshot(at, true))
			}
		}
		compareBoard(t, policy, plain, board.Snapshot(at.Add(tick), true))
	})
}

// A failer is a testing.TB or a rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// compareBoard checks each value stream against measuring it anew as of its own
// instant, and the quality as of the snapshot's.
func compareBoard(t failer, p *flow.Policy, l *flow.Ledger, got *flow.Snapshot) {
	t.Helper()
	want := flow.Measure(p, l, got.At, flow.Options{})
	if !reflect.DeepEqual(got.Quality, want.Quality) {
		t.Fatalf("quality as of %s\n got %+v\nwant %+v", got.At.Format(time.RFC3339Nano), got.Quality, want.Quality)
	}
	if got.PolicyHash != want.PolicyHash || len(got.ValueStreams) != len(want.ValueStreams) {
		t.Fatalf("got policy %s and %d value streams, want %s and %d", got.PolicyHash, len(got.ValueStreams), want.PolicyHash, len(want.ValueStreams))
	}
	for i, m := range got.ValueStreams {
		want := want.ValueStreams[i]
		if !m.At.Equal(got.At) {
			want = flow.Measure(p, l, m.At, flow.Options{}).ValueStreams[i]
		}
		if !reflect.DeepEqual(m, want) {
			t.Fatalf("value stream %s as of %s\n%s", m.ValueStream.Name, m.At.Format(time.RFC3339Nano), cmp.Diff(want, m, cmp.AllowUnexported(flow.Span{}), cmpopts.IgnoreFields(flow.Measures{}, "ValueStream")))
		}
	}
}

// TestBoardOfMany checks a board that is large enough to be built by several
// processors at once.
func TestBoardOfMany(t *testing.T) {
	policy, ledger := benchPolicy(3), benchLedger(5000, 3)
	got, want := flow.NewBoard(policy, ledger).Snapshot(benchEnd, true), flow.Measure(policy, ledger, benchEnd, flow.Options{})
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(flow.Span{}), cmpopts.IgnoreFields(flow.Measures{}, "ValueStream")); diff != "" {
		t.Error(diff)
	}
}
