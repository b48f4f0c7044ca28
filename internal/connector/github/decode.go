package github

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// The types of this file hold the parts of GitHub's answers that are read. Of
// people nothing is read but the number of an assignee, which never leaves the
// reading of one timeline.

// stamp is a time as GitHub writes it. What cannot be read is the zero time: the
// change made of it is then refused on its own, and not the page it came with.
type stamp struct{ time.Time }

func (s *stamp) UnmarshalJSON(data []byte) error {
	s.Time = time.Time{}
	if len(data) > 2 && data[0] == '"' {
		if t, err := time.Parse(time.RFC3339, string(data[1:len(data)-1])); err == nil {
			s.Time = t.UTC()
		}
	}
	return nil
}

// issue is an entry of a list of issues: an issue, or a pull request where
// PullRequest is there.
type issue struct {
	ID            int64      `json:"id"`
	NodeID        string     `json:"node_id"`
	Number        int        `json:"number"`
	Title         string     `json:"title"`
	State         string     `json:"state"` // open or closed
	StateReason   string     `json:"state_reason"`
	HTMLURL       string     `json:"html_url"`
	RepositoryURL string     `json:"repository_url"`
	CreatedAt     stamp      `json:"created_at"`
	UpdatedAt     stamp      `json:"updated_at"`
	ClosedAt      stamp      `json:"closed_at"`
	Labels        []label    `json:"labels"`
	Type          *issueType `json:"type"`
	PullRequest   *pull      `json:"pull_request"`

	Repository string `json:"-"` // owner/name as configured, filled in by the reader
}

func (is *issue) lacking() bool { return is.ID <= 0 || is.Number <= 0 }

// item is the issue's id in changes.
func (is *issue) item() string { return decimal(is.ID) }

// repository is the full name of the one that the issue is in, as the site tells it.
func (is *issue) repository() string {
	parts := strings.Split(is.RepositoryURL, "/")
	if len(parts) < 2 {
		return ""
	}
	return strings.Join(parts[len(parts)-2:], "/")
}

// updated is the issue's last update in seconds of the epoch; 0: not told.
func (is *issue) updated() int64 {
	if is.UpdatedAt.IsZero() {
		return 0
	}
	return is.UpdatedAt.Unix()
}

// sum stands for the issue as it was at that update.
func (is *issue) sum() sum { return sumOf(is.ID, is.updated()) }

// key is the issue's display key.
func (is *issue) key() string { return issueKey(is.Repository, is.Number) }

// pull is what a list tells of a pull request.
type pull struct {
	MergedAt stamp `json:"merged_at"`
}

type issueType struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

// label is one of an issue's labels, or of an event. Old sites give events no
// id, and some answers hold the name alone.
type label struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

func (l *label) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return json.Unmarshal(data, &l.Name)
	}
	type plain label
	return json.Unmarshal(data, (*plain)(l))
}

// event is an entry of an issue's timeline. Kinds that do not matter leave all
// but the first fields empty.
type event struct {
	ID          int64      `json:"id"`
	Event       string     `json:"event"`
	CreatedAt   stamp      `json:"created_at"`
	StateReason string     `json:"state_reason"`
	Label       *label     `json:"label"`
	Assignee    *person    `json:"assignee"`
	Type        *issueType `json:"issue_type"`
	PrevType    *issueType `json:"prev_issue_type"`
	Parent      *parent    `json:"parent_issue"`
	Rename      *rename    `json:"rename"`
	Source      *reference `json:"source"`

	From string `json:"-"` // the repository that a transfer was from, filled in by the reader; empty: not known
}

// lacking: the ids of changes are made of those of events.
func (e *event) lacking() bool { return e.ID <= 0 && matters(e.Event) }

// person tells assignees of one issue apart.
type person struct {
	ID int64 `json:"id"`
}

type rename struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// parent is the issue that another one is part of.
type parent struct {
	ID         int64 `json:"id"` // 0 where it is not told
	Number     int   `json:"number"`
	Repository struct {
		FullName string `json:"full_name"`
	} `json:"repository"`
}

// reference is where an issue was mentioned.
type reference struct {
	Issue *issue `json:"issue"`
}

// A page is an array of entries. Where not all of them are as expected the
// others are used nevertheless.
type page[T any] struct {
	entries []T
	refused []refusal
}

// A refusal is an entry that is not as expected.
type refusal struct {
	sum sum // of what it says
	err error
}

// rejection is the record of a refusal; where is the repository or the issue.
func (r refusal) rejection(where string) flow.Rejection {
	return flow.Rejection{
		Index: -1, Subject: "github:" + where, Reason: flow.ReasonMalformed, Detail: connector.CleanText(r.err.Error(), maxMessage),
	}
}

// A lacker can tell whether it lacks what is needed to use it.
type lacker interface{ lacking() bool }

var errIncomplete = errors.New("its number is missing")

func lacking[T any](entry T) bool {
	l, ok := any(&entry).(lacker)
	return ok && l.lacking()
}

func (p *page[T]) decode(text []byte) error {
	p.entries, p.refused = nil, nil
	if err := json.Unmarshal(text, &p.entries); err == nil && !slices.ContainsFunc(p.entries, lacking) {
		return nil
	}
	p.entries = nil
	var raw []json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		if bytes.HasPrefix(bytes.TrimSpace(text), []byte("<")) {
			return errWebPage
		}
		return err
	}
	return p.each(raw)
}

// each decodes entries one by one. It fails where one of them is no JSON: then
// the answer is not as the site meant it.
func (p *page[T]) each(raw []json.RawMessage) error {
	for _, one := range raw {
		var entry T
		err := json.Unmarshal(one, &entry)
		if err == nil && !lacking(entry) {
			p.entries = append(p.entries, entry)
			continue
		}
		if err == nil {
			err = errIncomplete
		}
		if _, ok := errors.AsType[*json.SyntaxError](err); ok {
			return err
		}
		whole := sha256.Sum256(one)
		p.refused = append(p.refused, refusal{sum(whole[:5]), fmt.Errorf("decode entry: %w", err)})
	}
	return nil
}
