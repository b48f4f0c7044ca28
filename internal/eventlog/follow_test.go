package eventlog

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func ids(changes []flow.Change) []string {
	var ids []string
	for _, c := range changes {
		ids = append(ids, c.ID)
	}
	return ids
}

func TestFollow(t *testing.T) {
	l := openLog(t, Config{DataDir: t.TempDir()})
	changes := testChanges("s", "c", 0, 200)
	before := time.Now()
	publish(t, l, "s", changes[:150])

	got, stop := follow(t, l, 1) // the stored ones after the first ...
	for position := uint64(2); position <= 3; position++ {
		d := receive(t, got)
		if d.Position != position || d.Pending != 3-position || d.Received.Before(before.Add(-time.Second)) || d.Received.After(time.Now()) {
			t.Errorf("delivery %+v, want position %d", d, position)
		}
		if diff := cmp.Diff(ids(changes[50*(position-1):50*position]), d.IDs); diff != "" {
			t.Error(diff)
		}
	}
	publish(t, l, "s", changes[150:]) // ... then the new
	if d := receive(t, got); d.Position != 4 || d.Pending != 0 || len(d.IDs) != 50 {
		t.Errorf("delivery %+v, want position 4", d)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("Follow: %v", err)
	}
	stream, err := l.js.Stream(t.Context(), changesStream)
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Consumers; n != 0 {
		t.Errorf("%d consumers are left", n)
	}

	failure := errors.New("no more")
	err = l.Follow(t.Context(), 0, func(d flow.Delivery) error {
		if diff := cmp.Diff(changes[:50], d.Changes); diff != "" {
			t.Error(diff)
		}
		return failure
	})
	if err != failure {
		t.Errorf("Follow: %v, want the function's error", err)
	}
}

// A consumer that the server loses does not matter, and no message comes twice
// or not at all.
func TestFollowOutlivesConsumer(t *testing.T) {
	l := openLog(t, Config{DataDir: t.TempDir()})
	got, _ := follow(t, l, 0)
	for position := uint64(1); position <= 4; position++ {
		publish(t, l, "s", testChanges("s", "c", int(position), 1))
		if d := receive(t, got); d.Position != position {
			t.Fatalf("position %d, want %d", d.Position, position)
		}
		stream, err := l.js.Stream(t.Context(), changesStream)
		if err != nil {
			t.Fatal(err)
		}
		for name := range stream.ConsumerNames(t.Context()).Name() {
			if err := stream.DeleteConsumer(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRejected(t *testing.T) {
	l := openLog(t, Config{DataDir: t.TempDir()})
	now := time.Now()
	batch := testChanges("s", "c", 0, 6)
	batch[1].Kind = 77
	batch[2].At = time.Unix(1_768_000_000_000, 0) // milliseconds taken for seconds
	batch[3].ID = ""
	batch[4].At = now.Add(flow.MaxAhead + time.Hour)
	other := testChanges("other", "c", 0, 1)[0]
	raw(t, l, "flow.v1.changes.s.c", "", []byte("\xffgarbage"))
	raw(t, l, "flow.v1.changes.s.c", "", encode(t, append(batch, other)))
	raw(t, l, "flow.v1.changes.s", "", encode(t, batch))
	raw(t, l, "flow.v1.changes.s.c", "application/json", []byte(
		`[{"id":"j1","source":"s","container":"c","item":"1","at":"2026-06-01T00:00:00Z","kind":"CREATED"},{"id":"j2","source":"s","item":"1","at":"58000-01-01T00:00:00Z","kind":"CREATED"}]`))
	publish(t, l, "s", testChanges("s", "c", 9, 1))

	got, stop := follow(t, l, 0)
	type want struct {
		ids      []string
		rejected []flow.Rejection
	}
	var all []flow.Rejection
	for i, w := range []want{
		{nil, []flow.Rejection{{Index: -1, Source: "s", Reason: flow.ReasonMalformed}}},
		{[]string{"c-0", "c-5"}, []flow.Rejection{
			{Index: 1, Source: "s", ID: "c-1", Reason: flow.ReasonUnknownKind},
			{Index: 2, Source: "s", ID: "c-2", Reason: flow.ReasonTime},
			{Index: 3, Source: "s", Reason: flow.ReasonMissing},
			{Index: 4, Source: "s", ID: "c-4", Reason: flow.ReasonFuture},
			{Index: 6, Source: "other", ID: "c-0", Reason: flow.ReasonMalformed},
		}},
		{nil, []flow.Rejection{{Index: -1, Reason: flow.ReasonMalformed, Subject: "flow.v1.changes.s"}}},
		{[]string{"j1"}, []flow.Rejection{{Index: 1, Source: "s", ID: "j2", Reason: flow.ReasonMalformed}}},
		{[]string{"c-9"}, nil},
	} {
		d := receive(t, got)
		for j := range w.rejected {
			w.rejected[j].Position = uint64(i + 1)
			if w.rejected[j].Subject == "" {
				w.rejected[j].Subject = "flow.v1.changes.s.c"
			}
		}
		if diff := cmp.Diff(w.ids, d.IDs); diff != "" {
			t.Errorf("message %d: %s", i+1, diff)
		}
		if diff := cmp.Diff(w.rejected, d.Rejected, cmpopts.IgnoreFields(flow.Rejection{}, "Received", "Detail")); diff != "" {
			t.Errorf("message %d: %s", i+1, diff)
		}
		for _, r := range d.Rejected {
			if r.Detail == "" || !r.Received.Equal(d.Received) {
				t.Errorf("message %d: rejection %+v", i+1, r)
			}
		}
		all = append(all, d.Rejected...)
	}
	_ = stop()
	if diff := cmp.Diff([]string{"c-0", "c-5", "j1", "c-9"}, ids(stored(t, l, "s"))); diff != "" {
		t.Errorf("Changes: %s", diff)
	}

	// What was rejected is kept once, however often a replay rejects it.
	for _, again := range [][]flow.Rejection{all, all, all[:2]} {
		if err := l.Reject(t.Context(), again); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(all, rejections(t, l, 0, 0)); diff != "" {
		t.Error(diff)
	}
	if got := rejections(t, l, 1, 2); len(got) != 5 {
		t.Errorf("limit 2 after position 1 gives %d, want the 5 of position 2", len(got))
	}
	if got := rejections(t, l, 2, 1); len(got) != 1 || got[0].Position != 3 {
		t.Errorf("limit 1 after position 2 gives %+v", got)
	}
	failure := errors.New("no more")
	if err := l.Rejections(t.Context(), 0, 0, func(flow.Rejection) error { return failure }); err != failure {
		t.Errorf("Rejections: %v, want the function's error", err)
	}
}

func rejections(t testing.TB, l *Log, after uint64, limit int) []flow.Rejection {
	t.Helper()
	var all []flow.Rejection
	err := l.Rejections(t.Context(), after, limit, func(r flow.Rejection) error {
		all = append(all, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A reader keeps what is rejected while more messages than its share are on
// their way to it over the same connection.
func TestRejectWhileFollowing(t *testing.T) {
	l := openLog(t, Config{DataDir: t.TempDir(), Sync: "2m"})
	const messages = readAhead + 100
	for range messages {
		raw(t, l, "flow.v1.changes.s.c", "", []byte("\xff"+strings.Repeat("x", 10_000)))
	}
	caughtUp := errors.New("caught up")
	err := l.Follow(t.Context(), 0, func(d flow.Delivery) error {
		if err := l.Reject(t.Context(), d.Rejected); err != nil {
			return err
		}
		if d.Pending == 0 {
			return caughtUp
		}
		return nil
	})
	if err != caughtUp {
		t.Fatal(err)
	}
	got := rejections(t, l, 0, 0)
	if len(got) != messages {
		t.Fatalf("%d rejections, want %d", len(got), messages)
	}
	for i, r := range got {
		if r.Position != uint64(i+1) {
			t.Fatalf("rejection %d is of position %d", i, r.Position)
		}
	}
}

func TestManyRejections(t *testing.T) {
	cfg := Config{DataDir: t.TempDir(), Sync: "2m"}
	l := openLog(t, cfg)
	var all []flow.Rejection
	for i := range 3 * publishWindow {
		all = append(all, flow.Rejection{Position: 7, Index: i, Received: time.Unix(1, 0).UTC(), Reason: flow.ReasonMissing})
	}
	if err := l.Reject(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	l = openLog(t, cfg)
	if err := l.Reject(t.Context(), all); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all, rejections(t, l, 0, 0)); diff != "" {
		t.Error(diff)
	}
}

func TestGap(t *testing.T) {
	l := openLog(t, Config{DataDir: t.TempDir()})
	for i := range 5 {
		publish(t, l, "s", testChanges("s", "c", i, 1))
	}
	stream, err := l.js.Stream(t.Context(), changesStream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 4); err != nil { // erased within: no gap
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(3)); err != nil { // 1 and 2 are gone
		t.Fatal(err)
	}
	none := func(flow.Delivery) error { t.Error("a delivery"); return nil }
	var gap *GapError
	if err := l.Follow(t.Context(), 1, none); !errors.Is(err, ErrGap) || !errors.As(err, &gap) ||
		*gap != (GapError{After: 1, First: 3, Last: 5}) {
		t.Errorf("Follow after 1: %v", err)
	}
	for _, after := range []uint64{0, 2} { // 0 asks for whatever there is
		got, stop := follow(t, l, after)
		if a, b := receive(t, got), receive(t, got); a.Position != 3 || b.Position != 5 {
			t.Errorf("after %d: positions %d and %d, want 3 and 5", after, a.Position, b.Position)
		}
		_ = stop()
	}
	if diff := cmp.Diff([]string{"c-2", "c-4"}, ids(stored(t, l, ""))); diff != "" {
		t.Error(diff)
	}
	if err := l.Follow(t.Context(), 6, none); !errors.As(err, &gap) || !gap.Recreated {
		t.Errorf("Follow from behind the end: %v", err)
	}
}

// A reader does not go on in another log by the same name.
func TestRecreated(t *testing.T) {
	cfg := Config{DataDir: t.TempDir()}.WithDefaults()
	l := openLog(t, cfg)
	publish(t, l, "s", testChanges("s", "c", 0, 1))
	got, stop := follow(t, l, 0)
	receive(t, got)
	if err := l.js.DeleteStream(t.Context(), changesStream); err != nil {
		t.Fatal(err)
	}
	created := l.created
	if err := l.createStreams(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	l.created = created
	for range got {
		t.Error("a delivery of another log")
	}
	var gap *GapError
	if err := stop(); !errors.As(err, &gap) || !gap.Recreated {
		t.Errorf("Follow: %v", err)
	}
	publish(t, l, "s", testChanges("s", "other", 0, 1)) // a message at the position that was read
	publish(t, l, "s", testChanges("s", "other", 1, 1))
	other := func(flow.Delivery) error { return errors.New("a delivery of another log") }
	if err := l.Follow(t.Context(), 1, other); !errors.As(err, &gap) || !gap.Recreated {
		t.Errorf("Follow: %v", err)
	}
	if err := l.js.DeleteStream(t.Context(), changesStream); err != nil {
		t.Fatal(err)
	}
	if err := l.Follow(t.Context(), 0, nil); !errors.Is(err, ErrGap) {
		t.Errorf("Follow without a stream: %v", err)
	}
}

func TestChanges(t *testing.T) {
	l := openLog(t, Config{DataDir: t.TempDir()})
	if got := stored(t, l, ""); got != nil {
		t.Errorf("an empty log has %v", got)
	}
	a, b := testChanges("a", "c", 0, 60), testChanges("b.b", "d/d", 0, 60)
	publish(t, l, "a", a)
	publish(t, l, "b.b", b)
	publish(t, l, "a", testChanges("a", "c", 60, 1))
	for source, want := range map[string]int{"": 121, "a": 61, "b.b": 60, "b": 0} {
		if got := len(stored(t, l, source)); got != want {
			t.Errorf("source %q has %d changes, want %d", source, got, want)
		}
	}
	var positions []uint64
	note := func(position uint64, _ flow.Change) error { positions = append(positions, position); return nil }
	if err := l.Changes(t.Context(), 2, "b.b", note); err != nil {
		t.Fatal(err)
	}
	if len(positions) != 60 || positions[0] != 3 || positions[59] != 4 {
		t.Errorf("positions %v, want 3 and 4", positions)
	}
	positions = nil
	for _, after := range []uint64{5, 99} {
		if err := l.Changes(t.Context(), after, "", note); err != nil || positions != nil {
			t.Errorf("after %d: positions %v, %v", after, positions, err)
		}
	}
	failure := errors.New("no more")
	if err := l.Changes(t.Context(), 0, "", func(uint64, flow.Change) error { return failure }); err != failure {
		t.Errorf("Changes: %v, want the function's error", err)
	}
}

// Changes ends at what was the end when it began, even if the log grows as fast
// as it is read.
func TestChangesOfGrowingLog(t *testing.T) {
	l := openLog(t, Config{DataDir: t.TempDir(), Sync: "2m"})
	const there = readAhead + 100 // more than is on its way before the first is read
	for i := range there {
		publish(t, l, "s", testChanges("s", "c", i, 1))
	}
	n := 0
	err := l.Changes(t.Context(), 0, "", func(uint64, flow.Change) error {
		if n++; n > 2*there {
			return errors.New("it does not end")
		}
		return l.Publish(t.Context(), "s", testChanges("s", "c", there+n, 1))
	})
	if n != there || err != nil {
		t.Errorf("%d changes, %v, want the %d that were there", n, err, there)
	}
}

func TestCursor(t *testing.T) {
	l := openLog(t, Config{DataDir: t.TempDir()})
	ctx := t.Context()
	for _, source := range []string{"jira-main", "acme.api *>", "Équipe"} {
		if cursor, revision, err := l.LoadCursor(ctx, source); cursor != nil || revision != 0 || err != nil {
			t.Errorf("no cursor: %q, %d, %v", cursor, revision, err)
		}
		first, err := l.StoreCursor(ctx, source, []byte(source+" 1"), 0)
		if err != nil {
			t.Fatal(err)
		}
		second, err := l.StoreCursor(ctx, source, []byte(source+" 2"), first)
		if err != nil || second <= first {
			t.Fatalf("revision %d after %d, %v", second, first, err)
		}
		for _, stale := range []uint64{0, first, second + 1} {
			if _, err := l.StoreCursor(ctx, source, []byte("x"), stale); !errors.Is(err, ErrStale) {
				t.Errorf("revision %d: %v, want ErrStale", stale, err)
			}
		}
		if cursor, revision, err := l.LoadCursor(ctx, source); string(cursor) != source+" 2" || revision != second || err != nil {
			t.Errorf("cursor %q, %d, %v", cursor, revision, err)
		}
	}
}

// TestCursorOfAnotherLog: where the stream was lost and made again, a cursor
// that outlived it must not hide that everything has to be read anew (I1).
func TestCursorOfAnotherLog(t *testing.T) {
	cfg := Config{DataDir: t.TempDir()}.WithDefaults()
	l := openLog(t, cfg)
	first, err := l.StoreCursor(t.Context(), "s", []byte("far"), 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.js.DeleteStream(t.Context(), changesStream); err != nil {
		t.Fatal(err)
	}
	if err := l.createStreams(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	cursor, revision, err := l.LoadCursor(t.Context(), "s")
	if cursor != nil || revision != first || err != nil {
		t.Fatalf("loaded %q at revision %d, %v, want none at %d", cursor, revision, err, first)
	}
	if _, err := l.StoreCursor(t.Context(), "s", []byte("anew"), revision); err != nil {
		t.Fatal(err)
	}
	if cursor, _, err := l.LoadCursor(t.Context(), "s"); string(cursor) != "anew" || err != nil {
		t.Errorf("loaded %q, %v", cursor, err)
	}
}
