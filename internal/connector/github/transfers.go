package github

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A transfer took an issue from another repository. Its place among the facts of
// one second is its sequence.
type transfer struct {
	at       time.Time
	sequence int64
	from     string // empty: it is not known
}

// transfers are those of one issue, oldest first.
type transfers []transfer

// holder returns the repository that had an issue at a place among its facts, now
// being the one that has it. Where it is not known from where it was transferred,
// it counts as having been where it came to.
func (ts transfers) holder(at time.Time, sequence int64, now string) string {
	for _, t := range ts {
		if t.from != "" && (at.Before(t.at) || at.Equal(t.at) && sequence < t.sequence) {
			return t.from
		}
	}
	return now
}

// settle gives the changes of issues, by their ids, the repositories that had
// these at the time.
func settle(changes []flow.Change, moved map[string]transfers) {
	for k := range changes {
		c := &changes[k]
		c.Container = moved[c.Item].holder(c.At, c.Sequence, c.Container)
	}
}

// transfersIn returns those that a timeline, oldest first, tells of.
func transfersIn(events []event) (ts transfers) {
	for k := range events {
		if e := &events[k]; e.Event == transferred {
			ts = append(ts, transfer{at: e.CreatedAt.Time, sequence: e.ID, from: e.From})
		}
	}
	return ts
}

// askTransfers asks for the transfers of issues by their node ids, of which the
// timelines of REST do not tell from where they were. It returns them by the ids
// of the issues, none where the site does not tell.
func (s *Source) askTransfers(ctx context.Context, ids []string) (map[string]transfers, error) {
	if len(ids) == 0 || s.anonymous || !s.graph.supports("Transfers") {
		return nil, nil
	}
	ids = slices.Clone(ids)
	slices.Sort(ids)
	nodes, err := s.timelines(ctx, "Transfers", slices.Compact(ids))
	if _, scope := errors.AsType[*scopeError](err); scope {
		s.graph.lacks("Transfers")
		err = errUnsupported
	}
	if errors.Is(err, errUnsupported) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read transfers: %w", err)
	}
	moved := make(map[string]transfers)
	for _, n := range nodes {
		moved[string(n.DatabaseID)] = s.transfersOf(n.Timeline)
	}
	return moved, nil
}

// transfersOf returns those that a timeline consists of. Each is the last of its
// second, as the events of REST have greater numbers than anything else.
func (s *Source) transfersOf(t graphTimeline) (ts transfers) {
	for _, e := range t.Nodes {
		if e != nil && !e.CreatedAt.IsZero() {
			ts = append(ts, transfer{at: e.CreatedAt.Time, sequence: math.MaxInt64, from: s.former(e.From.Name)})
		}
	}
	return ts
}

// former returns the repository that an issue was transferred from, which need
// not be one that is read; empty: it is out of sight.
func (s *Source) former(name string) string {
	if repo, ok := s.repoOf(name); ok {
		return repo
	}
	if !repoName.MatchString(name) {
		return ""
	}
	return name
}

// transferred reports whether the issue came from another repository.
func (h *history) transferred() bool {
	return slices.ContainsFunc(h.events, func(e event) bool { return e.Event == transferred })
}

// nameFormer gives each transfer the one of the same time.
func (h *history) nameFormer(told transfers) {
	told = slices.Clone(told)
	for k := range h.events {
		e := &h.events[k]
		if e.Event != transferred {
			continue
		}
		if at := slices.IndexFunc(told, func(t transfer) bool { return t.at.Equal(e.CreatedAt.Time) }); at >= 0 {
			e.From = told[at].from
			told = slices.Delete(told, at, at+1)
		}
	}
}
