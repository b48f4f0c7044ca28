package github

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// pullEvidence reads what the pull requests among the entries of a page say
// about the issues that they close (case 23), and the node ids of these. supported
// is false where the site does not tell, which does not change from one poll to
// the next.
func (s *Source) pullEvidence(ctx context.Context, pulls []issue) (changes []flow.Change, closed []string, supported bool, err error) {
	ids := make([]string, len(pulls))
	for k := range pulls {
		ids[k] = pulls[k].NodeID
	}
	return s.evidence(ctx, ids)
}

// evidence is pullEvidence by node ids.
func (s *Source) evidence(ctx context.Context, ids []string) (changes []flow.Change, closed []string, supported bool, err error) {
	if len(ids) == 0 { // then what is known already is the answer
		return nil, nil, !s.anonymous && s.graph.supports("PullEvidence"), nil
	}
	nodes, err := s.timelines(ctx, "PullEvidence", ids)
	if _, scope := errors.AsType[*scopeError](err); scope {
		// Such a token will not see them tomorrow either.
		s.graph.lacks("PullEvidence")
		err = errUnsupported
	}
	if errors.Is(err, errUnsupported) {
		return nil, nil, false, nil
	}
	if err != nil {
		return nil, nil, true, fmt.Errorf("read pull requests: %w", err)
	}
	for _, pull := range nodes {
		for _, closes := range pull.Closes.Nodes {
			if closes == nil {
				continue
			}
			if base, ok := s.changeOf(closes); ok {
				changes = append(changes, pull.evidenceFor(base)...)
				closed = append(closed, closes.ID)
			}
		}
	}
	return changes, closed, true, nil
}

// changeOf returns a change of an issue without what has changed; ok is false
// for an issue of a repository that is not read.
func (s *Source) changeOf(of *graphIssue) (c flow.Change, ok bool) {
	repo, ok := s.repoOf(of.Repository.Name)
	if !ok || of.DatabaseID == "" || of.Number <= 0 {
		return flow.Change{}, false
	}
	return flow.Change{
		Container: repo, Item: string(of.DatabaseID), Key: issueKey(repo, of.Number), Kind: flow.Updated,
	}, true
}

// The ranks of facts of one second, in which a pull request goes from one to the
// next; ids alone would order them by chance.
const (
	rankOpened = iota
	rankReviewRequested
	rankChangesRequested
	rankMerged
	rankClosed
	rankReopened
)

// evidenceFor returns what a pull request says about one of its issues: opened
// (again), review requested, changes requested, merged, closed. Approvals say
// nothing that case 23 knows. Neither do drafts: a draft is work as well, and
// whom it asks for a review is asked by an event of its own. The closing that
// comes with a merge is no fact besides.
func (n *graphNode) evidenceFor(base flow.Change) []flow.Change {
	fact := func(name, event string, at stamp, rank int64) flow.Change {
		c := base
		c.ID = fmt.Sprintf("%s:pr:%s:%s", base.Item, n.DatabaseID, name)
		if event != "" {
			c.ID += ":" + event
		}
		c.At, c.Sequence = at.Time, rank
		c.Fields = []flow.FieldChange{{Field: flow.FieldPullRequest, To: flow.Value{ID: string(n.DatabaseID), Name: name}}}
		return c
	}
	changes := []flow.Change{fact("opened", "", n.CreatedAt, rankOpened)}
	merged := n.mergedAt()
	for _, e := range n.Timeline.Nodes {
		switch {
		case e == nil || e.ID == "":
		case e.Typename == "ReviewRequestedEvent":
			changes = append(changes, fact("review_requested", e.ID, e.CreatedAt, rankReviewRequested))
		case e.Typename == "PullRequestReview" && e.State == "CHANGES_REQUESTED":
			changes = append(changes, fact("changes_requested", e.ID, e.SubmittedAt, rankChangesRequested))
		case e.Typename == "MergedEvent":
			changes = append(changes, fact("merged", e.ID, e.CreatedAt, rankMerged))
		case e.Typename == "ClosedEvent" && (merged.IsZero() || e.CreatedAt.Before(merged)):
			changes = append(changes, fact("closed", e.ID, e.CreatedAt, rankClosed))
		case e.Typename == "ReopenedEvent":
			changes = append(changes, fact("opened", e.ID, e.CreatedAt, rankReopened))
		}
	}
	return changes
}

// mergedAt returns when the pull request was merged, the zero time where it was not.
func (n *graphNode) mergedAt() time.Time {
	for _, e := range n.Timeline.Nodes {
		if e != nil && e.Typename == "MergedEvent" {
			return e.CreatedAt.Time
		}
	}
	return time.Time{}
}
