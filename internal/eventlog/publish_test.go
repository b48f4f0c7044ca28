package eventlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server/ats"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"pgregory.net/rapid"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func TestMessages(t *testing.T) {
	l := openLog(t, Config{DataDir: t.TempDir()})
	changes := append(testChanges("jira.main", "acme/api", 0, 51), testChanges("jira.main", "", 0, 1)...)
	publish(t, l, "jira.main", changes)
	stream, err := l.js.Stream(t.Context(), changesStream)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct {
		subject string
		changes int
	}{{"flow.v1.changes.jira=2Emain.acme/api", 50}, {"flow.v1.changes.jira=2Emain.acme/api", 1}, {"flow.v1.changes.jira=2Emain.=", 1}} {
		msg, err := stream.GetMsg(t.Context(), uint64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeGenerated(msg.Data)
		if err != nil || msg.Subject != want.subject || len(got) != want.changes {
			t.Errorf("message %d: subject %s, %d changes, %v, want %+v", i+1, msg.Subject, len(got), err, want)
		}
		for _, added := range []string{"Nats-Sequence", "Nats-Stream", "Nats-Subject", "Nats-Time-Stamp"} {
			msg.Header.Del(added) // by reading it in this way
		}
		id := msg.Header.Get(nats.MsgIdHdr)
		wantHeader := nats.Header{
			"Nats-Msg-Id": {id}, "ce-id": {id}, "ce-specversion": {"1.0"}, "ce-type": {"flow.v1.changes"},
			"ce-source": {"/flowmetrics/jira.main"}, "ce-datacontenttype": {"application/protobuf"}, "ce-dataschema": {"flow.v1.ChangeBatch"},
		}
		if diff := cmp.Diff(wantHeader, msg.Header); diff != "" || len(id) != 32 {
			t.Errorf("id %q: %s", id, diff)
		}
	}
}

// The id is a contract with the log that is stored: another one would store
// everything twice.
func TestMessageID(t *testing.T) {
	b := split(testChanges("s", "c", 0, 2))[0]
	if got, want := b.id("s"), "f47c002aa04b5279e993a50d1a8dce40"; got != want {
		t.Errorf("id = %s, want %s", got, want)
	}
	if b.id("s") == b.id("other") {
		t.Error("the source is not part of the id")
	}
	x, y := split([]flow.Change{{ID: "ab"}, {ID: "c"}})[0], split([]flow.Change{{ID: "a"}, {ID: "bc"}})[0]
	if x.id("s") == y.id("s") {
		t.Error("ids run into each other")
	}
}

// Nothing is lost or doubled, every batch keeps its bounds, the order within a
// container stays, and the same changes make the same batches.
func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var changes []flow.Change
		for i := range rapid.IntRange(0, 300).Draw(t, "changes") {
			c := flow.Change{ID: fmt.Sprint(i), Container: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "container")}
			if rapid.IntRange(0, 20).Draw(t, "size") == 0 {
				c.Title = strings.Repeat("x", rapid.IntRange(0, 2*batchBytes).Draw(t, "title"))
			}
			changes = append(changes, c)
		}
		batches := split(changes)
		got, want := make(map[string][]string), make(map[string][]string)
		for _, c := range changes {
			want[c.Container] = append(want[c.Container], c.ID)
		}
		for _, b := range batches {
			msg, err := b.message("s")
			if err != nil {
				t.Fatal(err)
			}
			if len(b.changes) == 0 || len(b.changes) > batchChanges || len(msg.Data) > batchBytes && len(b.changes) > 1 {
				t.Fatalf("a batch of %d changes, %d bytes", len(b.changes), len(msg.Data))
			}
			for _, c := range b.changes {
				if c.GetContainer() != b.container {
					t.Fatalf("change of %s in a batch of %s", c.GetContainer(), b.container)
				}
				got[b.container] = append(got[b.container], c.GetId())
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		for i, b := range split(changes) {
			if b.id("s") != batches[i].id("s") {
				t.Fatal("the same changes make other batches")
			}
		}
	})
}

func TestPublishLarge(t *testing.T) {
	l := openLog(t, Config{DataDir: t.TempDir()})
	large := testChanges("s", "c", 1, 1)[0]
	text := strings.Repeat("x", flow.MaxText)
	large.Fields = nil
	for range flow.MaxFields { // as large as a valid change can be
		v := flow.Value{ID: text, Name: text, Category: text}
		large.Fields = append(large.Fields, flow.FieldChange{Field: flow.FieldLabel, From: v, To: v})
	}
	want := append(append(testChanges("s", "c", 0, 1), large), testChanges("s", "c", 2, 1)...)
	publish(t, l, "s", want)
	if diff := cmp.Diff(want, stored(t, l, "s")); diff != "" {
		t.Error(diff)
	}
	if last, err := l.LastPosition(t.Context()); last != 3 || err != nil {
		t.Errorf("%d messages, %v, want the large change alone in the second of 3", last, err)
	}
}

// More batches than the window holds.
func TestPublishMany(t *testing.T) {
	l := openLog(t, Config{DataDir: t.TempDir(), Sync: "2m"})
	want := testChanges("s", "c", 0, 3*publishWindow*batchChanges+1)
	publish(t, l, "s", want)
	if diff := cmp.Diff(want, stored(t, l, "s")); diff != "" {
		t.Error(diff)
	}
}

func TestPublishErrors(t *testing.T) {
	l := openLog(t, Config{DataDir: t.TempDir()})
	if err := l.Publish(t.Context(), "s", testChanges("other", "c", 0, 1)); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("a change of another source: %v", err)
	}
	notUTF8 := testChanges("s", "c", 0, 1)
	notUTF8[0].Title = "\xff"
	if err := l.Publish(t.Context(), "s", notUTF8); err == nil || !strings.Contains(err.Error(), notUTF8[0].ID) {
		t.Errorf("a text not UTF-8: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Publish(ctx, "s", testChanges("s", "c", 0, 1)); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
	if err := l.Publish(t.Context(), "s", nil); err != nil {
		t.Errorf("no changes: %v", err)
	}
}

func TestFull(t *testing.T) {
	l := openLog(t, Config{DataDir: t.TempDir(), MaxBytes: 1 << 20, Sync: "2m"})
	var err error
	n := 0
	for ; err == nil && n < 10_000; n += 1000 {
		err = l.Publish(t.Context(), "s", testChanges("s", "c", n, 1000))
	}
	if !errors.Is(err, ErrFull) {
		t.Fatalf("after %d changes: %v", n, err)
	}
	if first := stored(t, l, "")[0].ID; first != "c-0" {
		t.Errorf("the log begins with %s: history was dropped", first)
	}
	if _, err := l.StoreCursor(t.Context(), "s", []byte("x"), 0); err != nil {
		t.Errorf("cursor beside a full log: %v", err)
	}
}

// The harness of the tests about time. If this fails after an upgrade of
// nats-server, its access-time clock (server/ats) does not start outside of the
// bubble any more, and every test in a bubble will hang or fail. A panic about a
// timer from outside the bubble is of nats.go: its Flush, Drain, Request and
// NextMsg without a context share timers between bubbles.
func TestServerInBubble(t *testing.T) {
	if ats.AccessTime() == 0 {
		t.Fatal("the server's access-time clock does not run: see TestMain")
	}
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		l := bubbleLog(t, dir)
		time.Sleep(time.Hour)
		if passed := time.Since(start); passed < time.Hour || passed > time.Hour+time.Minute {
			t.Errorf("an hour took %s: the server does not run on the bubble's time", passed)
		}
		publish(t, l, "s", testChanges("s", "c", 0, 1))
		closeLog(t, l)
	})
}

// bubbleLog opens a log inside a synctest bubble. The caller closes it there.
func bubbleLog(t *testing.T, dir string) *Log {
	t.Helper()
	l, err := Open(t.Context(), Config{DataDir: dir}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A repetition within two minutes is dropped; a later one is stored, and is
// harmless because facts are a set.
func TestDuplicates(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		l := bubbleLog(t, dir)
		defer closeLog(t, l)
		changes := testChanges("s", "c", 0, 60)
		publish(t, l, "s", changes)
		for _, tt := range []struct {
			wait time.Duration
			want uint64
		}{{0, 2}, {119 * time.Second, 2}, {2 * time.Second, 4}} {
			time.Sleep(tt.wait)
			publish(t, l, "s", changes)
			if last, err := l.LastPosition(t.Context()); last != tt.want || err != nil {
				t.Errorf("%s later: last position %d, %v, want %d", tt.wait, last, err, tt.want)
			}
		}
	})
}

// Duplicates are seen across a restart as well.
func TestDuplicateAfterRestart(t *testing.T) {
	cfg := Config{DataDir: t.TempDir()}
	changes := testChanges("s", "c", 0, 3)
	l := openLog(t, cfg)
	publish(t, l, "s", changes)
	closeLog(t, l)
	l = openLog(t, cfg)
	publish(t, l, "s", changes)
	if last, err := l.LastPosition(t.Context()); last != 1 || err != nil {
		t.Errorf("last position %d, %v, want 1", last, err)
	}
}

// raw publishes a message as a foreign program would.
func raw(t testing.TB, l *Log, subject, contentType string, data []byte) {
	t.Helper()
	msg := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}
	if contentType != "" {
		msg.Header["Content-Type"] = []string{contentType}
	}
	if _, err := l.js.PublishMsg(t.Context(), msg, jetstream.WithRetryAttempts(0)); err != nil {
		t.Fatal(err)
	}
}
