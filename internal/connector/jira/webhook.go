package jira

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// signatureHeader holds "sha256=" and the HMAC of the body, whatever its name
// stands for elsewhere.
const signatureHeader = "X-Hub-Signature"

// Receive implements [connector.Receiver]. The deletion of an issue is a fact,
// since nothing else tells when it was; its creation and its updates are hints to
// read it again. All other events do not matter, nor do issues of projects that
// are not read.
func (s *Source) Receive(_ context.Context, header http.Header, body []byte) (connector.Notice, error) {
	if s.secret == nil {
		return connector.Notice{}, fmt.Errorf("no secret is configured: %w", connector.ErrSignature)
	}
	secret, err := s.secret()
	if err != nil {
		return connector.Notice{}, fmt.Errorf("read webhook secret: %w", err)
	}
	if !connector.Signed(secret, body, header.Get(signatureHeader)) {
		return connector.Notice{}, connector.ErrSignature
	}
	var d delivery
	if err := json.Unmarshal(body, &d); err != nil {
		return connector.Notice{}, fmt.Errorf("decode body: %w: %w", connector.ErrDelivery, err)
	}
	return s.notice(&d)
}

// notice says what a delivery tells.
func (s *Source) notice(d *delivery) (connector.Notice, error) {
	switch d.Event {
	case "":
		return connector.Notice{}, fmt.Errorf("no webhookEvent: %w", connector.ErrDelivery)
	case "jira:issue_created", "jira:issue_updated", "jira:issue_deleted":
	default:
		return connector.Notice{}, nil
	}
	if d.Issue == nil || !isID(d.Issue.ID) {
		return connector.Notice{}, fmt.Errorf("no issue: %w", connector.ErrDelivery)
	}
	id, container := string(d.Issue.ID), cmp.Or(d.Issue.Fields.Project.Key, projectOf(d.Issue.Key))
	switch {
	case !s.reads(d.Issue, container):
		return connector.Notice{}, nil
	case d.Event != "jira:issue_deleted":
		if d.Changelog == nil && strings.HasPrefix(d.Type, "issue_comment") {
			return connector.Notice{}, nil // comments are in no history
		}
		return connector.Notice{Items: []string{id}}, nil
	case d.Timestamp.IsZero():
		return connector.Notice{}, fmt.Errorf("no timestamp: %w", connector.ErrDelivery)
	}
	return connector.Notice{Changes: []flow.Change{{
		ID: id + ":deleted", Container: container, Item: id, Key: d.Issue.Key, At: d.Timestamp.Time, Kind: flow.Deleted,
	}}}, nil
}

// isID reports whether a text is the number of an issue, and so may be a part of
// a path.
func isID(id text) bool {
	_, err := strconv.ParseUint(string(id), 10, 64)
	return err == nil
}

// reads reports whether an issue is in one of the configured projects, which may
// be named as a query takes them: by key, id or name.
func (s *Source) reads(is *issue, container string) bool {
	if len(s.projects) == 0 {
		return true
	}
	p := &is.Fields.Project
	return slices.ContainsFunc(s.projects, func(want string) bool {
		return strings.EqualFold(want, container) || want == string(p.ID) || p.Name != "" && strings.EqualFold(want, p.Name)
	})
}

// Refetch implements [connector.Receiver]. It reads each issue by itself, since
// search lags behind webhooks, and completes the histories as a scan does. What
// was read before an error is emitted.
func (s *Source) Refetch(ctx context.Context, items []string, emit func(connector.Batch) error) error {
	if err := s.detect(ctx); err != nil {
		return err
	}
	for _, id := range items {
		changes, err := s.refetch(ctx, id)
		if err != nil {
			return fmt.Errorf("read issue %s: %w", id, err)
		}
		if len(changes) == 0 {
			continue
		}
		if err := emit(connector.Batch{Changes: changes}); err != nil {
			return err
		}
	}
	return nil
}

// refetch returns the changes of one issue; none where it is gone or is out of
// the configured projects.
func (s *Source) refetch(ctx context.Context, id string) ([]flow.Change, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var is issue
	values := url.Values{"fields": {strings.Join(scanFields, ",")}, "expand": {"changelog"}}
	err := s.getEither(ctx, "/issue/"+url.PathEscape(id), values, &is)
	if unavailable(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !s.reads(&is, cmp.Or(is.Fields.Project.Key, projectOf(is.Key))) {
		return nil, nil
	}
	r := newReading("", page{issues: []issue{is}})
	switch err := s.finish(ctx, r); {
	case errors.Is(err, errCut):
		return nil, nil // it has gone meanwhile, or the poll tells what is wrong
	case err != nil:
		return nil, err
	}
	changes, _ := s.translate(r, nil)
	return slices.Concat(changes...), nil
}
