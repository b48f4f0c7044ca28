package processor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/eventlog"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// wait lets a time pass, and all that is due at its end happen.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func load(s *flow.Snapshot, stream string) int { return s.ValueStream(stream).Load.Items }

func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		log := newLog(
			[]flow.Change{create("1", "PAY", "1", "Ready", now.Add(-2*time.Hour)), create("2", "PAY", "2", "Ready", now.Add(-time.Hour))},
			[]flow.Change{move("3", "PAY", "1", "Done", now.Add(-time.Minute))},
			[]flow.Change{create("4", "PLAT", "3", "In Progress", now.Add(-time.Minute))},
		)
		log.gate = make(chan struct{})
		r := start(t, log)
		wait(time.Minute)
		if r.caughtUp() || r.Latest() != nil || len(r.snapshots()) > 0 {
			t.Error("there are numbers before the replay is over")
		}
		got := r.Status()
		if want := (Status{Position: 2, Pending: 1, Changes: 3, Rejected: map[flow.Reason]uint64{}}); !cmp.Equal(got, want) {
			t.Errorf("during the replay: %s", cmp.Diff(want, got))
		}
		close(log.gate)
		wait(time.Second)
		if !r.caughtUp() || len(r.snapshots()) == 0 {
			t.Fatalf("caught up: %v, %d snapshots, want one at once", r.caughtUp(), len(r.snapshots()))
		}
		first := r.snapshots()[0]
		if first.At.Sub(now) != time.Minute {
			t.Errorf("the first snapshot is of %s after the start, want the end of the replay", first.At.Sub(now))
		}
		if load(first, "payments") != 1 || load(first, "platform") != 1 || first.ValueStream("payments").Windows[0].All.Completed != 1 {
			t.Error("the first snapshot does not hold all that was replayed")
		}
		if got := r.Status(); !got.CaughtUp || got.Position != 3 || got.Measured != 3 || got.Pending != 0 || got.Changes != 4 || !got.SnapshotAt.Equal(r.Latest().At) {
			t.Errorf("after the replay: %+v", got)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
		if !strings.Contains(r.logged.String(), `msg="log replayed" facts=4 items=3`) {
			t.Errorf("logged %s", r.logged)
		}
	})
}

func TestEmptyLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, newLog())
		if !r.caughtUp() {
			t.Error("an empty log is not ready at once")
		}
		wait(10 * time.Millisecond)
		if s := r.Latest(); s == nil || len(s.ValueStreams) != 2 || load(s, "payments") != 0 {
			t.Errorf("snapshot %+v, want one of nothing", s)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// A change is in a snapshot within a second, however long the processor has
// been idle and however many come, and only the value streams that changes
// touch are measured anew.
func TestChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		r := start(t, log)
		wait(2*refreshEvery + 5*time.Second)
		before := r.Latest()
		for n := range 50 {
			id := fmt.Sprint(n)
			log.coming <- flow.Delivery{Position: uint64(n + 1), Changes: []flow.Change{create(id, "PAY", id, "Ready", time.Now())}}
			wait(10 * time.Millisecond)
		}
		wait(time.Second - 10*time.Millisecond)
		after := r.Latest()
		if load(before, "payments") != 0 || load(after, "payments") != 50 {
			t.Errorf("load is %d and then %d, want 0 and 50", load(before, "payments"), load(after, "payments"))
		}
		if r.Status().Measured != 50 {
			t.Errorf("measured up to position %d, want 50", r.Status().Measured)
		}
		if !after.At.After(before.At) || !after.ValueStream("payments").At.Equal(after.At) {
			t.Errorf("payments is as of %s, the snapshot of %s", after.ValueStream("payments").At, after.At)
		}
		if after.ValueStream("platform") != before.ValueStream("platform") {
			t.Error("platform was measured again without any change")
		}
		if n := len(r.snapshots()); n > 3+7 {
			t.Errorf("%d snapshots: changes that come together are not gathered", n)
		}
		wait(refreshEvery)
		if s := r.Latest(); s.ValueStream("platform") == before.ValueStream("platform") || !s.ValueStream("platform").At.Equal(s.At) {
			t.Error("platform is not measured again as time goes on")
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// Without any change the numbers go on: what is in flow grows older.
func TestTimePasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		born := time.Now().Add(-time.Hour)
		r := start(t, newLog([]flow.Change{create("1", "PAY", "1", "Ready", born)}))
		for range 10 {
			wait(refreshEvery)
			s := r.Latest()
			if behind := time.Since(s.At); behind > refreshEvery {
				t.Fatalf("the snapshot is %s old", behind)
			}
			if got, want := s.ValueStream("payments").Load.Oldest, s.At.Sub(born); got != want {
				t.Fatalf("the item is %s old, want %s", got, want)
			}
		}
		if n := len(r.snapshots()); n != 10 {
			t.Errorf("%d snapshots in %s", n, 10*refreshEvery)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// What cannot be used is counted by reason and recorded, all of it, while
// everything else goes on, also where recording fails.
func TestRejections(t *testing.T) {
	for name, broken := range map[string]error{"recorded": nil, "not recorded": errBroken} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newLog()
				log.rejectErr = broken
				r := start(t, log)
				var want []flow.Rejection
				many := flow.Delivery{Position: 1}
				for n := range 3*rejectionQueue + 1 {
					many.Rejected = append(many.Rejected, flow.Rejection{Position: 1, Index: n, Source: "tracker", Reason: flow.ReasonMissing, Detail: "id: is required"})
				}
				many.Changes = []flow.Change{create("1", "PAY", "1", "Ready", time.Now())}
				log.coming <- many
				wait(time.Second) // so that the next one is not among those without a line
				one := flow.Rejection{Position: 2, Index: -1, Reason: flow.ReasonMalformed, Detail: "not a batch"}
				log.coming <- flow.Delivery{Position: 2, Rejected: []flow.Rejection{one}}
				log.coming <- flow.Delivery{Position: 3, Changes: []flow.Change{create("2", "PAY", "2", "Ready", time.Now())}}
				want = append(many.Rejected, one)
				wait(time.Second)
				if n := load(r.Latest(), "payments"); n != 2 {
					t.Errorf("load is %d, want 2: what is good around the bad counts", n)
				}
				counted := map[flow.Reason]uint64{flow.ReasonMissing: 3*rejectionQueue + 1, flow.ReasonMalformed: 1}
				if diff := cmp.Diff(counted, r.Status().Rejected); diff != "" {
					t.Error(diff)
				}
				if err := r.end(); err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(want, log.rejected); diff != "" {
					t.Errorf("recorded something else: %s", diff)
				}
				if log.calls > len(want)/100 {
					t.Errorf("%d calls for %d rejections", log.calls, len(want))
				}
				if n := strings.Count(r.logged.String(), "\n"); n > 12*log.calls+10 {
					t.Errorf("%d lines about %d rejections", n, len(want))
				}
				if !strings.Contains(r.logged.String(), `msg="change rejected" position=2 index=-1 source="" reason=malformed detail="not a batch"`) {
					t.Error("the rejection is not logged")
				}
				if failed := strings.Contains(r.logged.String(), "rejections not recorded"); failed != (broken != nil) {
					t.Errorf("logged that recording fails: %v", failed)
				}
			})
		})
	}
}

// stuckLog never ends to record.
type stuckLog struct{ *fakeLog }

func (stuckLog) Reject(ctx context.Context, _ []flow.Rejection) error {
	<-ctx.Done()
	return ctx.Err()
}

// The end does not wait for rejections that cannot be recorded.
func TestEndWhileRejecting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		r := start(t, stuckLog{log})
		flood := flow.Delivery{Position: 1}
		for n := range 2 * rejectionQueue {
			flood.Rejected = append(flood.Rejected, flow.Rejection{Position: 1, Index: n, Reason: flow.ReasonMissing})
		}
		log.coming <- flood
		wait(time.Minute)
		if n := r.Status().Rejected[flow.ReasonMissing]; n != 2*rejectionQueue {
			t.Errorf("%d counted", n)
		}
		began := time.Now()
		if err := r.end(); err != nil || time.Since(began) > time.Second {
			t.Errorf("the end took %s: %v", time.Since(began), err)
		}
		if strings.Contains(r.logged.String(), "not recorded") {
			t.Error("the end of the program is logged as a failure")
		}
	})
}

func TestFollowFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		r := start(t, log)
		log.coming <- flow.Delivery{}
		if err := <-r.ended; !errors.Is(err, errBroken) || err.Error() != "follow log: broken" {
			t.Errorf("Run: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		log.lastErr = errBroken
		r := start(t, log)
		if err := <-r.ended; !errors.Is(err, errBroken) || err.Error() != "read end of log: broken" {
			t.Errorf("Run: %v", err)
		}
	})
}

// The end of the context is no error, at any time and for any reason.
func TestContextEnds(t *testing.T) {
	for name, lastErr := range map[string]error{"at once": context.DeadlineExceeded, "in the midst": nil} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithTimeout(t.Context(), time.Minute)
				defer stop()
				log := newLog()
				if log.lastErr = lastErr; lastErr != nil {
					wait(time.Minute)
				}
				if err := New(Config{Policy: policy(t), Log: log, Logger: testLogger(t)}).Run(ctx); err != nil {
					t.Errorf("Run: %v", err)
				}
			})
		})
	}
}

func TestFacts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now().Add(-time.Hour)
		gone := flow.Change{ID: "2:deleted", Source: "tracker", Container: "PLAT", Item: "2", At: at.Add(time.Minute), Kind: flow.Deleted}
		other := create("1", "PAY", "1", "Ready", at)
		other.Source = "elsewhere"
		keyed := create("1", "PAY", "1", "Ready", at)
		keyed.Key = "PAY-1"
		r := start(t, newLog([]flow.Change{
			keyed, create("2", "PLAT", "2", "Ready", at), create("3", "PAY", "3", "Ready", at), gone, other,
		}))
		for id, want := range map[string]bool{"1": true, "2:deleted": true, "4": false, "": false} {
			if got := r.Known("tracker", id); got != want {
				t.Errorf("Known(%q) is %v", id, got)
			}
		}
		if r.Known("elsewhere", "3") || r.Known("nowhere", "1") {
			t.Error("a change of one source is known of another")
		}
		if got, since, ok := r.ItemStatus("tracker", "1"); got.Name != "Ready" || !since.Equal(at) || !ok {
			t.Errorf("status %v since %s (%v)", got, since, ok)
		}
		for _, id := range []string{"2", "4"} {
			if _, _, ok := r.ItemStatus("tracker", id); ok {
				t.Errorf("item %s has a status", id)
			}
		}
		collect := func(each func(string, func(string, string, string) bool), source string) map[string]string {
			items := map[string]string{}
			each(source, func(item, key, container string) bool { items[item] = key + " in " + container; return true })
			return items
		}
		if diff := cmp.Diff(map[string]string{"1": "PAY-1 in PAY", "3": " in PAY"}, collect(r.Present, "tracker")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]string{"2": " in PLAT"}, collect(r.Absent, "tracker")); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(map[string]string{"1": " in PAY"}, collect(r.Present, "elsewhere")); diff != "" {
			t.Error(diff)
		}
		seen := 0
		r.Present("tracker", func(string, string, string) bool { seen++; return false })
		if seen != 1 {
			t.Errorf("%d items after the first was enough", seen-1)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// At answers for any instant from the same facts, while the log is followed.
func TestAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r := start(t, newLog([]flow.Change{
			create("1", "PAY", "1", "Ready", began.Add(-2*time.Hour)), move("2", "PAY", "1", "Done", began.Add(-time.Hour)),
		}))
		then, err := r.At(t.Context(), began.Add(-time.Hour), true)
		if err != nil {
			t.Fatal(err)
		}
		if load(then, "payments") != 1 || len(then.ValueStream("payments").Items) != 1 {
			t.Error("an hour ago the item was in flow")
		}
		now, err := r.At(t.Context(), began, false)
		if err != nil {
			t.Fatal(err)
		}
		if load(now, "payments") != 0 || now.ValueStream("payments").Items != nil {
			t.Error("now the item is done, and items were not asked for")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.At(ctx, began, false); !errors.Is(err, context.Canceled) {
			t.Errorf("At for nobody: %v", err)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// Where the clock is set back, the snapshots stand still until it has caught
// up; they never go back with it.
func TestClockSetBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		ahead := time.Now().Add(time.Hour)
		r := &running{ended: make(chan error, 1)}
		r.Processor = New(Config{
			Policy: policy(t), Log: log, Logger: testLogger(t),
			OnSnapshot: r.see,
		})
		r.latest.Store(&flow.Snapshot{At: ahead})
		ctx, stop := context.WithCancel(t.Context())
		r.stop = stop
		go func() { r.ended <- r.Run(ctx) }()
		wait(time.Minute)
		log.coming <- flow.Delivery{Position: 1, Changes: []flow.Change{create("1", "PAY", "1", "Ready", time.Now())}}
		wait(time.Minute)
		for _, s := range r.snapshots() {
			if !s.At.Equal(ahead) {
				t.Fatalf("a snapshot as of %s, want %s", s.At, ahead)
			}
		}
		if n := load(r.Latest(), "payments"); n != 1 {
			t.Errorf("load is %d: what comes in the meantime counts", n)
		}
		wait(time.Hour)
		if at := r.Latest().At; !at.After(ahead) || time.Since(at) > refreshEvery {
			t.Errorf("the snapshot is as of %s ago", time.Since(at))
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// With the real log: replay, tail, rejection, restart; the numbers are those of
// a measurement of the same changes.
func TestEventLog(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		log := open(t, dir)
		var all []flow.Change
		publish := func(changes ...flow.Change) {
			t.Helper()
			if err := log.Publish(t.Context(), "tracker", changes); err != nil {
				t.Fatal(err)
			}
			all = append(all, changes...)
		}
		now := time.Now()
		for n := range 500 {
			id := fmt.Sprint(n)
			container := []string{"PAY", "PLAT"}[n%2]
			publish(create(id+"c", container, id, "Backlog", now.Add(-time.Duration(n)*time.Hour)),
				move(id+"s", container, id, "In Progress", now.Add(-time.Duration(n)*time.Hour/2)))
		}
		r := start(t, log)
		wait(time.Second)
		check(t, r, all)

		publish(move("0d", "PAY", "0", "Done", time.Now()))
		bad := move("ahead", "PAY", "1", "Done", time.Now().Add(365*24*time.Hour))
		if err := log.Publish(t.Context(), "tracker", []flow.Change{bad}); err != nil {
			t.Fatal(err)
		}
		wait(time.Second)
		check(t, r, all)
		first := r.Status()
		if first.Rejected[flow.ReasonFuture] != 1 || first.Changes != uint64(len(all)) {
			t.Errorf("status %+v", first)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}

		log = open(t, dir)
		again := start(t, log)
		wait(time.Second)
		check(t, again, all)
		if got := again.Status(); !cmp.Equal(got.Rejected, first.Rejected) || got.Changes != first.Changes || got.Position != first.Position {
			t.Errorf("status %+v after a restart, %+v before", got, first)
		}
		listed := 0
		if err := log.Rejections(t.Context(), 0, 0, func(r flow.Rejection) error {
			listed++
			if r.Position != first.Position || r.Index != 0 || r.ID != "ahead" || r.Reason != flow.ReasonFuture {
				t.Errorf("listed %+v", r)
			}
			return nil
		}); err != nil || listed != 1 {
			t.Errorf("%d rejections listed: %v", listed, err)
		}
		if err := again.end(); err != nil {
			t.Error(err)
		}
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
}

func open(t *testing.T, dir string) *eventlog.Log {
	t.Helper()
	log, err := eventlog.Open(t.Context(), eventlog.Config{DataDir: dir, Sync: "1h"}, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// check compares the latest snapshot with a measurement of the changes.
func check(t *testing.T, r *running, changes []flow.Change) {
	t.Helper()
	ledger := flow.NewLedger()
	for i := range changes {
		ledger.Add(&changes[i])
	}
	// As of the instant of the numbers: not every value stream is measured anew.
	got := r.Latest()
	for _, m := range got.ValueStreams {
		want := flow.Measure(r.cfg.Policy, ledger, m.At, flow.Options{}).ValueStream(m.ValueStream.Name)
		if diff := cmp.Diff(want.Load, m.Load, cmp.AllowUnexported(flow.Span{})); diff != "" {
			t.Errorf("%s: %s", m.ValueStream.Name, diff)
		}
		if diff := cmp.Diff(want.Windows, m.Windows, cmp.AllowUnexported(flow.Span{})); diff != "" {
			t.Errorf("%s: %s", m.ValueStream.Name, diff)
		}
	}
}
