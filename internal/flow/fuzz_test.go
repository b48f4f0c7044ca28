package flow_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/flowmetrics/flowmetrics/internal/flow/oracle"
)

// FuzzDecodeChange holds the decoder to this: it never panics, refuses with an
// InvalidError, and what it accepts comes back the same after it is written.
func FuzzDecodeChange(f *testing.F) {
	f.Add([]byte(`{"id":"1","source":"s","container":"P","item":"1","at":"2026-06-01T00:00:00Z","kind":"CREATED","fields":[{"field":"STATUS","to":{"name":"Backlog"}},{"field":"TYPE","to":{"name":"Story"}}]}`))
	f.Add([]byte(`{"id":"2","source":"s","item":"1","key":"P-1","at":"2026-06-01T02:00:00.000000001+02:00","observed_at":"2026-06-01T00:00:01Z","sequence":-3,"kind":"UPDATED","approximate":true,"title":"t","url":"u","fields":[{"field":"LABEL","from":{"name":"a"}},{"field":"STATE","to":{"name":"closed","category":"completed"}}]}`))
	f.Add([]byte(`{"id":"3","source":"s","item":"1","at":"2026-06-01T00:00:00Z","kind":"DELETED","later":{"unknown":[1,2]}}`))
	f.Add([]byte(`{"id":"4","source":"s","item":"1","at":"58000-01-01T00:00:00Z","kind":"UPDATED"}`))
	f.Add([]byte(`{"id":"5\u0000","source":"s","item":"1","at":"2026-06-01T00:00:00Z","kind":"UPDATED"}`))
	f.Add([]byte(`{"id":"6","source":"s","item":"1","at":"0001-01-01T00:00:00Z","kind":"MOVED","fields":null}`))
	f.Add([]byte("{\"id\":\"7\xff\",\"source\":\"s\",\"item\":\"1\",\"at\":\"2026-06-01T00:00:00Z\",\"kind\":\"UPDATED\"}"))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := flow.DecodeJSON(line)
		if err != nil {
			var invalid *flow.InvalidError
			if !errors.As(err, &invalid) || invalid.Reason == "" || err.Error() == "" {
				t.Fatalf("refused with %#v", err)
			}
			return
		}
		if !utf8.Valid(line) {
			t.Fatal("accepted though it is not UTF-8")
		}
		written, err := json.Marshal(c)
		if err != nil {
			t.Fatalf("cannot be written: %v", err)
		}
		again, err := flow.DecodeJSON(written)
		if err != nil {
			t.Fatalf("%s is refused: %v", written, err)
		}
		if len(c.Fields) == 0 {
			c.Fields = nil // an empty list is written as none
		}
		if !reflect.DeepEqual(c, again) {
			t.Fatalf("%#v became %#v", c, again)
		}
	})
}

// FuzzMeasure makes a history of bytes, four a change, and compares the two
// implementations.
func FuzzMeasure(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 4, 1, 2, 0, 8, 1, 4}, byte(14))                              // started and done
	f.Add([]byte{0, 0, 0, 4, 0, 5, 1, 2, 0, 9, 1, 4, 0, 9, 33, 6}, byte(12))                 // born done, reopened, done and held
	f.Add([]byte{0, 3, 0, 0, 0, 1, 1, 2, 1, 1, 2, 2, 1, 6, 3, 0, 1, 9, 1, 22}, byte(20))     // before CREATED, observed, deleted, revived
	f.Add([]byte{2, 0, 0, 17, 2, 2, 1, 26, 2, 3, 1, 30, 2, 6, 1, 31, 2, 8, 1, 18}, byte(10)) // open and closed with pull requests
	f.Add([]byte{0, 0, 0, 1, 3, 0, 0, 2, 3, 2, 1, 36, 0, 4, 1, 32, 3, 5, 1, 27}, byte(9))    // alias, moved
	f.Add([]byte{0, 0, 0, 2, 0, 3, 65, 4, 0, 5, 65, 5, 0, 3, 65, 4, 1, 3, 65, 4}, byte(7))   // one id twice and thrice
	f.Add([]byte{0, 0, 0, 2, 0, 3, 1, 23, 0, 6, 1, 4, 0, 7, 1, 24, 0, 9, 1, 3}, byte(24))    // types, ignored after completion
	f.Fuzz(func(t *testing.T, raw []byte, until byte) {
		raw = raw[:min(len(raw), 4*24)] // the oracle takes its time
		var log []flow.Change
		for b := range slices.Chunk(raw, 4) {
			if len(b) == 4 {
				log = append(log, changeOf(b, len(log)))
			}
		}
		at := grid(int(until % (ticks + 4)))
		p := fuzzPolicy()
		if d := diff(generic(t, oracle.Evaluate(p, log, at)), generic(t, snapshot(p, log, at))); d != "" {
			t.Fatalf("flow.Measure differs from the oracle\n%s\n%s", d, describe(p, log, at))
		}
	})
}

// fuzzVocabulary are the things that a byte can say.
var fuzzVocabulary = func() []flow.FieldChange {
	var all []flow.FieldChange
	say := func(f flow.Field, to ...flow.Value) {
		for _, v := range to {
			all = append(all, flow.FieldChange{Field: f, To: v})
		}
	}
	say(flow.FieldStatus, statuses...)                                                                             // 0
	say(flow.FieldState, flow.Value{Name: "open"}, flow.Value{Name: "closed"})                                     // 17
	say(flow.FieldState, flow.Value{Name: "closed", Category: "not_planned"})                                      // 19
	say(flow.FieldResolution, flow.Value{Name: "Won't Do"}, flow.Value{})                                          // 20
	say(flow.FieldType, flow.Value{Name: "Story"}, flow.Value{Name: "Bug"}, flow.Value{Name: "Epic"})              // 22
	say(flow.FieldAssigned, flow.Value{Name: "true"})                                                              // 25
	say(flow.FieldPullRequest, flow.Value{ID: "1", Name: "opened"}, flow.Value{ID: "1", Name: "review_requested"}) // 26
	say(flow.FieldLabel, flow.Value{Name: "blocked"}, flow.Value{Name: "go"}, flow.Value{Name: "bug"})             // 28
	all = append(all, flow.FieldChange{Field: flow.FieldLabel, From: flow.Value{Name: "blocked"}})                 // 31
	say(flow.FieldContainer, flow.Value{Name: "P"}, flow.Value{Name: "Q"})                                         // 32
	say(flow.FieldAlias, flow.Value{ID: "a/0"}, flow.Value{ID: "b/1"}, flow.Value{ID: "a/2"}, flow.Value{})        // 34
	return all
}()

// changeOf makes a change of four bytes: the item and its source, the instant,
// kind with sequence and id, and what it says.
func changeOf(b []byte, n int) flow.Change {
	c := flow.Change{
		Source: string('a' + rune(b[0]&1)), Item: string('0' + rune(b[0]&3)), Container: []string{"P", "P", "Q", ""}[b[0]>>2&3],
		At: grid(int(b[1] % ticks)), Sequence: int64(b[2] >> 4 & 1),
		Kind: []flow.Kind{flow.Created, flow.Updated, flow.Observed, flow.Deleted}[b[2]&3],
	}
	c.ID = time.Duration(n).String()
	if b[2]&64 != 0 {
		c.ID = "again"
	}
	if said := int(b[3]); said < len(fuzzVocabulary) {
		c.Fields = append(c.Fields, fuzzVocabulary[said])
	} else if said%3 == 0 { // two things together
		c.Fields = append(c.Fields, fuzzVocabulary[said%len(fuzzVocabulary)], fuzzVocabulary[said/3%len(fuzzVocabulary)])
	}
	return c
}

func fuzzPolicy() *flow.Policy {
	one, two := plainWorkflow(), plainWorkflow()
	one.StatusByID = map[string]flow.State{"1": flow.Waiting, "2": flow.Active}
	one.StartSignals = []string{flow.SignalAssigned, flow.SignalPullRequest}
	one.Labels = []flow.LabelRule{{Label: "blocked", State: flow.Waiting}, {Label: "go", State: flow.Active}}
	one.ReopenGrace = tick
	two.BacklogReturnWaits, two.CountBornDone = true, true
	stream := func(name string, w *flow.Workflow, include flow.Include) *flow.ValueStream {
		return &flow.ValueStream{
			Name: name, Workflow: w, Include: []flow.Include{include}, NeglectAfter: 4 * tick, Targets: flow.Targets{FlowTime: 3 * tick},
		}
	}
	return &flow.Policy{
		ValueStreams: []*flow.ValueStream{
			stream("p", one, flow.Include{Containers: []string{"P"}}),
			stream("q", two, flow.Include{Containers: []string{"Q"}}),
			stream("all", two, flow.Include{}),
		},
		Windows: []flow.Window{{Name: "short", Length: 4 * tick}, {Name: "long", Length: 3 * ticks * tick}},
	}
}
