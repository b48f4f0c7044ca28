package connectortest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/connectortest"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// tracker tells so many facts, three a batch, and may be broken in one way.
type tracker struct {
	facts  int
	broken string
	polls  int
}

type position struct {
	V    int `json:"v"`
	Next int `json:"next"`
}

func (tr *tracker) Poll(ctx context.Context, from connector.Cursor, emit func(connector.Batch) error) error {
	tr.polls++
	at := position{V: 1}
	if len(from) > 0 {
		at = position{}
		if err := json.Unmarshal(from, &at); (err != nil || at.V != 1) && tr.broken != "takes any cursor" {
			return fmt.Errorf("%w: %s", connector.ErrCursor, from)
		}
	}
	if err := ctx.Err(); err != nil && tr.broken != "ignores the context" {
		return err
	}
	for at.Next < tr.facts {
		b := connector.Batch{}
		for range 3 {
			if at.Next < tr.facts {
				b.Changes = append(b.Changes, tr.fact(at.Next))
				at.Next++
			}
		}
		next := at
		if tr.broken == "advances too far" {
			next.Next += 3
		}
		if tr.broken == "advances to the end" {
			next.Next = tr.facts
		}
		b.Cursor, _ = json.Marshal(next)
		if tr.broken == "large cursor" {
			b.Cursor = append(b.Cursor, strings.Repeat(" ", connector.MaxCursor)...)
		}
		switch err := emit(b); {
		case err == nil, tr.broken == "goes on after a failure":
		case tr.broken == "swallows a failure":
			return nil
		default:
			return err
		}
	}
	return nil
}

func (tr *tracker) fact(n int) flow.Change {
	c := flow.Change{
		ID: fmt.Sprint(n), Container: "PAY", Item: fmt.Sprint(n / 2), At: time.Date(2026, 6, 1, 0, 0, n, 0, time.UTC),
		ObservedAt: time.Now(), Kind: flow.Created,
	}
	if n%2 == 1 {
		c.Kind = flow.Updated
	}
	switch tr.broken {
	case "random ids":
		c.ID = fmt.Sprint(n, time.Now().UnixNano())
	case "one id for two facts":
		c.ID = fmt.Sprint(n / 2)
	case "no item":
		c.Item = ""
	case "other content from a cursor":
		c.Sequence = int64(tr.polls)
	case "born twice":
		c.Kind = flow.Created
	case "never born":
		c.Kind = flow.Updated
	}
	return c
}

func harness(broken string) connectortest.Harness {
	facts, made := 10, 0
	return connectortest.Harness{
		New: func() connector.Source {
			made++
			return &tracker{facts: facts, broken: broken, polls: made}
		},
		Grow: func() error {
			if broken != "hides what is new" {
				facts += 2
			}
			return nil
		},
		BornOnce: true,
	}
}

func TestTest(t *testing.T) {
	if err := connectortest.Test(t.Context(), harness("")); err != nil {
		t.Errorf("a good source: %v", err)
	}
	for broken, want := range map[string]string{
		"takes any cursor":            "is not refused",
		"ignores the context":         "the context has ended",
		"advances too far":            "is lost",
		"advances to the end":         "is lost",
		"large cursor":                "the limit is",
		"goes on after a failure":     "emit failed at batch 0",
		"swallows a failure":          "emit failed at batch 0",
		"random ids":                  "differ when they are read again",
		"one id for two facts":        "two facts have the id",
		"no item":                     "is invalid: item",
		"other content from a cursor": "differ",
		"born twice":                  "is born 2 times",
		"never born":                  "is born 0 times",
		"hides what is new":           "no more than before",
	} {
		if err := connectortest.Test(t.Context(), harness(broken)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", broken, err, want)
		}
	}
}

func TestTestNeedsAHistory(t *testing.T) {
	h := harness("")
	h.New = func() connector.Source { return &tracker{facts: 3} }
	if err := connectortest.Test(t.Context(), h); err == nil || !strings.Contains(err.Error(), "too few") {
		t.Errorf("got %v", err)
	}
}
