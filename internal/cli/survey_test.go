package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A stub is a source that answers as its fields say.
type stub struct {
	check, census error
	slow          time.Duration // of the census
}

func (*stub) Poll(context.Context, connector.Cursor, func(connector.Batch) error) error { return nil }
func (s *stub) Check(context.Context) error                                             { return s.check }

func (s *stub) Census(ctx context.Context, live func(connector.Item)) error {
	live(connector.Item{ID: "1", Container: "acme/api", Labels: []string{"team-a", "wip"}})
	if s.slow > 0 {
		select {
		case <-ctx.Done():
			return fmt.Errorf("list: %w", ctx.Err())
		case <-time.After(s.slow):
		}
	}
	return s.census
}

// examine checks a stub that stands for a source of GitHub.
func examine(t *testing.T, cfg *config.Config, source connector.Source) (text, progress string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c := checkCmd{Count: true, Timeout: 2 * time.Minute}
	ctx, cancel := context.WithTimeout(t.Context(), c.Timeout)
	defer cancel()
	out := surveyed{Name: "gh", Type: config.GitHub, Address: "https://api.github.com", Anonymous: true}
	err := c.ask(ctx, &environment{IO: IO{Out: io.Discard, Err: &stderr}}, cfg.Policy(), &cfg.Sources[0], source, &out)
	out.end(err)
	out.write(&stdout)
	return stdout.String(), stderr.String()
}

func TestSurvey(t *testing.T) {
	unmapped := parse(t, "    labels: [{label: wip, state: new}]")
	started := parse(t, "    labels: [{label: doing, state: active}]")
	for _, c := range []struct {
		name   string
		cfg    *config.Config
		source stub
		want   []string
	}{
		{"no start", unmapped, stub{}, []string{
			"source gh: https://api.github.com can be read without credentials, which GitHub allows 60 requests an hour",
			"source gh: 1 item in sight",
			"source gh, workflow labels: no flow time, for nothing tells when work begins: it takes a project, start_signals or rules for labels; velocity and distribution are measured",
			"source gh, workflow labels without a rule:",
			"  type  (none)  unclassified  1 item",
		}},
		{"started", started, stub{}, []string{
			"source gh: https://api.github.com can be read without credentials, which GitHub allows 60 requests an hour",
			"source gh: 1 item in sight",
			"source gh, workflow labels without a rule:",
			"  state label  wip     changes nothing  1 item  guess: active",
			"  type         (none)  unclassified     1 item",
		}},
		{"scopes", started, stub{check: errors.Join(errors.New("the token lacks repo"), errors.New("the token lacks read:project"))}, []string{
			"source gh: FAILED: the token lacks repo",
			"source gh: FAILED: the token lacks read:project",
		}},
		{"limited", started, stub{census: &connector.RateLimitError{Err: errors.New("403 Forbidden")}}, []string{
			"source gh: https://api.github.com can be read without credentials, which GitHub allows 60 requests an hour",
			"source gh: items are not counted: rate limited: 403 Forbidden",
			"source gh, workflow labels without a rule:",
			"  state label  wip     changes nothing    guess: active",
			"  type         (none)  unclassified",
		}},
		{"broken", started, stub{census: errors.New("502 Bad Gateway")}, []string{
			"source gh: FAILED: count items: 502 Bad Gateway",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, progress := examine(t, c.cfg, &c.source)
			if want := strings.Join(c.want, "\n") + "\n"; text != want || progress != "" {
				t.Errorf("printed\n%s%s\nwant\n%s", text, progress, want)
			}
		})
	}
}

// A boarded is a stub with a board, whose statuses it tells some at a time.
type boarded struct {
	stub
	pages [][]connector.Observation
	fail  error // in the end
}

func (*boarded) Statuses(context.Context) ([]flow.Value, error) {
	return []flow.Value{{ID: "1", Name: "Todo"}, {ID: "2", Name: "Shipping"}, {ID: "3", Name: "In progress"}, {ID: "4", Name: "Parked"}}, nil
}

func (b *boarded) Observe(_ context.Context, seen func(connector.Observation)) error {
	if len(b.pages) == 0 {
		return b.fail
	}
	for _, o := range b.pages[0] {
		seen(o)
	}
	b.pages = b.pages[1:]
	return nil
}

func (b *boarded) Census(_ context.Context, live func(connector.Item)) error {
	for _, id := range []string{"1", "2", "3", "4"} {
		live(connector.Item{ID: id, Container: "acme/api", Labels: []string{"team-a"}})
	}
	return nil
}

// TestStatusesOfABoard sees that items count for the statuses that are observed.
func TestStatusesOfABoard(t *testing.T) {
	cfg := parse(t, "    statuses: {new: [Todo]}")
	on := func(item string, status flow.Value) connector.Observation {
		return connector.Observation{Item: connector.Item{ID: item, Status: status}}
	}
	pages := [][]connector.Observation{
		{on("1", flow.Value{ID: "2", Name: "Shipping"}), on("9", flow.Value{ID: "2", Name: "Shipping"})}, // the list does not have the other
		{on("2", flow.Value{ID: "2", Name: "Shipping"}), on("3", flow.Value{ID: "3", Name: "In progress"}), on("4", flow.Value{})},
	}
	text, _ := examine(t, cfg, &boarded{pages: pages})
	for _, want := range []string{
		"  status  Shipping (id:2)     UNMAPPED, items in it keep their previous state  2 items\n",
		"  status  In progress (id:3)  UNMAPPED, items in it keep their previous state   1 item  guess: active\n",
		"  status  Parked (id:4)       UNMAPPED, items in it keep their previous state  0 items  guess: waiting\n",
		": 4 items in sight\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("printed\n%s\nwant\n%s", text, want)
		}
	}
	text, _ = examine(t, cfg, &boarded{pages: pages, fail: &connector.RateLimitError{Err: errors.New("403 Forbidden")}})
	if !strings.Contains(text, "items are not counted: rate limited: 403 Forbidden\n") || strings.Contains(text, "2 items") {
		t.Errorf("printed\n%s", text)
	}
}

// TestSlowCount sees that a long count says that it goes on, and that it ends
// with its time without a word against the source.
func TestSlowCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := parse(t, "    labels: [{label: wip, state: active}]")
		text, progress := examine(t, cfg, &stub{slow: 25 * time.Second})
		if want := "source gh: counting items, 1 after 10s\nsource gh: counting items, 1 after 20s\n"; progress != want {
			t.Errorf("progress is\n%s\nwant\n%s", progress, want)
		}
		if !strings.Contains(text, "1 item in sight") {
			t.Errorf("printed\n%s", text)
		}
		text, _ = examine(t, cfg, &stub{slow: time.Hour})
		if !strings.Contains(text, "source gh: items are not counted: not done in 2m0s, a longer --timeout allows more\n") || strings.Contains(text, "FAILED") {
			t.Errorf("printed\n%s", text)
		}
	})
}

// TestListed sees that what a tracker lists and no item has is found too.
func TestListed(t *testing.T) {
	cfg := parse(t, "    statuses: {new: ['id:1', Open], done: [Closed]}")
	w := cfg.Policy().ValueStreams[0].Workflow
	tally := newTally(w, cfg.Policy(), "gh", []flow.Value{{ID: "1", Name: "Geöffnet"}, {ID: "2", Name: "Closed", Category: "done"}, {ID: "3", Name: "Review", Category: "indeterminate"}}, nil)
	tally.add(&connector.Item{Container: "acme/api", Labels: []string{"team-a", "blocked"}})
	m := tally.result(true)
	for i, want := range []string{"status|Review (id:3)|active, by the tracker's category|0 items|guess: waiting", "type|(none)|unclassified|1 item|"} {
		if len(m.Unmapped) != 2 || strings.Join(m.Unmapped[i].cells(), "|") != want {
			t.Errorf("found %+v, want %s", m.Unmapped, want)
		}
	}
}
