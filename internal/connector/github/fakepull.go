package github

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// fakePull is what a pull request is besides an issue.
type fakePull struct {
	id     int64
	closes []*fakeIssue
	merged time.Time
}

// OpenPull opens a pull request and returns the id of it, which is not its id as
// an issue. Merging it closes the issues of closes; it mentions these and the
// ones of mentions.
func (f *Fake) OpenPull(at time.Time, repo string, closes, mentions []string) (id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.repo(repo)
	pull := &fakePull{}
	i := f.open(at, r, fmt.Sprintf("Change %d", r.last+1))
	i.pull, pull.id = pull, f.newID()
	for _, of := range closes {
		pull.closes = append(pull.closes, f.issue(of))
	}
	for _, of := range append(slices.Clone(closes), mentions...) {
		f.add(at, f.issue(of), fakeEvent{kind: "cross-referenced", issue: i})
	}
	f.pulls[pull.id] = i
	f.nodes[i.node()] = i
	f.add(at, i, fakeEvent{kind: "committed"})
	f.hookPull(at, "opened", i, nil)
	return strconv.FormatInt(pull.id, 10)
}

// RequestReview asks somebody to review a pull request.
func (f *Fake) RequestReview(at time.Time, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.pull(id)
	f.add(at, i, fakeEvent{kind: "review_requested", who: fakeReviewer})
	f.hookPull(at, "review_requested", i, object{"requested_reviewer": showUser(fakeHookBase, fakeReviewer)})
}

// RequestChanges is a review that asks for changes.
func (f *Fake) RequestChanges(at time.Time, id string) { f.review(at, id, "changes_requested") }

// Approve is a review that approves.
func (f *Fake) Approve(at time.Time, id string) { f.review(at, id, "approved") }

func (f *Fake) review(at time.Time, id, state string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.pull(id)
	e := f.add(at, i, fakeEvent{kind: "reviewed", actor: fakeReviewer, reason: state})
	f.hookReview(i, e)
}

// MergePull merges a pull request and closes what it closes.
func (f *Fake) MergePull(at time.Time, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.pull(id)
	e := f.add(at, i, fakeEvent{kind: "merged"})
	f.add(at, i, fakeEvent{kind: "closed"})
	i.pull.merged = e.at
	i.setClosed(e.at)
	f.hookPull(at, "closed", i, nil)
	for _, of := range i.pull.closes {
		if of.closed.IsZero() && of.repo.issues[of.number] == of {
			f.close(at, of, "completed")
		}
	}
}

// ClosePull closes a pull request without merging it.
func (f *Fake) ClosePull(at time.Time, id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.pull(id)
	i.setClosed(f.add(at, i, fakeEvent{kind: "closed"}).at)
	f.hookPull(at, "closed", i, nil)
}

func (f *Fake) pull(id string) *fakeIssue {
	n, _ := strconv.ParseInt(id, 10, 64)
	i := f.pulls[n]
	if i == nil {
		panic(fmt.Sprintf("fake github: no pull request with id %q", id))
	}
	return i
}
