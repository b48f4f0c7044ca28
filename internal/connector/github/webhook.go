package github

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// The types of this file hold the parts of deliveries that are read. There are
// no people among them.

// A delivery is what GitHub sends of any of the events that matter.
type delivery struct {
	Action       string        `json:"action"`
	Issue        hookIssue     `json:"issue"`
	SubIssue     hookIssue     `json:"sub_issue"`
	PullRequest  hookPull      `json:"pull_request"`
	Review       hookReview    `json:"review"`
	Item         hookItem      `json:"projects_v2_item"`
	Repository   hookNamed     `json:"repository"`
	SubIssueRepo hookNamed     `json:"sub_issue_repo"`
	Organization hookLogin     `json:"organization"`
	Changes      hookedChanges `json:"changes"`
}

type hookIssue struct {
	ID        int64 `json:"id"`
	Number    int   `json:"number"`
	CreatedAt stamp `json:"created_at"`
	UpdatedAt stamp `json:"updated_at"`
}

type hookPull struct {
	NodeID string `json:"node_id"`
}

type hookReview struct {
	State string `json:"state"`
}

// A hookItem is an item of a board.
type hookItem struct {
	NodeID      string `json:"node_id"`
	Project     string `json:"project_node_id"`
	Content     string `json:"content_node_id"`
	ContentType string `json:"content_type"`
	UpdatedAt   stamp  `json:"updated_at"`
}

type hookNamed struct {
	FullName string `json:"full_name"`
}

// hookLogin is that of an organisation, whose board it is.
type hookLogin struct {
	Login string `json:"login"`
}

type hookedChanges struct {
	NewIssue      hookIssue       `json:"new_issue"`
	NewRepository hookNamed       `json:"new_repository"`
	OldIssue      hookIssue       `json:"old_issue"`
	OldRepository hookNamed       `json:"old_repository"`
	Name          json.RawMessage `json:"name"`
	FieldValue    *hookFieldValue `json:"field_value"`
}

// A hookFieldValue is the change of a field of a board's item. Older sites tell
// only which field it was.
type hookFieldValue struct {
	FieldID   string          `json:"field_node_id"`
	FieldName string          `json:"field_name"`
	FieldType string          `json:"field_type"`
	Number    int             `json:"project_number"`
	From      json.RawMessage `json:"from"`
	To        json.RawMessage `json:"to"`
}

// Receive implements [connector.Receiver]. GitHub demands no order of
// deliveries and sends no id of an event, so most of them are hints: what they
// name is read again. Deletions, transfers and moves on the board are facts that
// nothing else tells as well.
func (s *Source) Receive(ctx context.Context, header http.Header, body []byte) (connector.Notice, error) {
	if err := s.verify(header, body); err != nil {
		return connector.Notice{}, err
	}
	read := s.reader(header.Get("X-GitHub-Event"))
	if read == nil {
		return connector.Notice{}, nil
	}
	d, err := decodeDelivery(header, body)
	if err != nil {
		return connector.Notice{}, err
	}
	return read(ctx, d)
}

// verify checks that a delivery is signed by SHA-256 with the secret. The older
// signature by SHA-1 counts for nothing.
func (s *Source) verify(header http.Header, body []byte) error {
	if s.webhookSecret == nil {
		return connector.ErrSignature
	}
	secret, err := s.webhookSecret()
	if err != nil {
		return fmt.Errorf("read webhook secret: %w", err)
	}
	if !connector.Signed(secret, body, header.Get("X-Hub-Signature-256")) {
		return connector.ErrSignature
	}
	return nil
}

// reader returns what reads deliveries of an event; nil: it does not matter.
func (s *Source) reader(event string) func(context.Context, *delivery) (connector.Notice, error) {
	switch event {
	case "issues":
		return s.receiveIssue
	case "sub_issues":
		return s.receiveSubIssue
	case "pull_request":
		return s.receivePull
	case "pull_request_review":
		return s.receiveReview
	case "label":
		return s.receiveLabel
	case "projects_v2_item":
		if s.hasBoard() {
			return s.receiveItem
		}
	}
	return nil
}

// decodeDelivery decodes a body of either of the content types that a webhook
// can be set up with.
func decodeDelivery(header http.Header, body []byte) (*delivery, error) {
	if strings.HasPrefix(header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, fmt.Errorf("%w: its form cannot be decoded", connector.ErrDelivery)
		}
		body = []byte(form.Get("payload"))
	}
	var d delivery
	if err := json.Unmarshal(body, &d); err != nil {
		// The decoder's words may repeat what is in the body.
		return nil, fmt.Errorf("%w: it is not the JSON of its event", connector.ErrDelivery)
	}
	return &d, nil
}

// hint names an issue to read again, if it is one of a repository that is read.
func (s *Source) hint(repository string, number int) []string {
	repo, ok := s.repoOf(repository)
	if !ok || number <= 0 {
		return nil
	}
	return []string{issueKey(repo, number)}
}

func (s *Source) receiveIssue(_ context.Context, d *delivery) (connector.Notice, error) {
	repo, ok := s.repoOf(d.Repository.FullName)
	n := connector.Notice{Items: s.hint(repo, d.Issue.Number)}
	switch d.Action {
	case "deleted":
		n.Items = nil
		if ok && d.Issue.ID > 0 {
			n.Changes = []flow.Change{s.gone(repo, &d.Issue)}
		}
	case "transferred":
		n.Items = s.hint(d.Changes.NewRepository.FullName, d.Changes.NewIssue.Number)
		if ok && d.Issue.ID > 0 {
			n.Changes = []flow.Change{s.transferred(repo, &d.Issue, &d.Changes.NewIssue, len(n.Items) > 0)}
		}
	case "opened":
		// An issue that comes by transfer. Its former repository tells the same,
		// if its deliveries come here.
		old := &d.Changes.OldIssue
		if from, known := s.repoOf(d.Changes.OldRepository.FullName); known && old.ID > 0 && len(n.Items) > 0 {
			n.Changes = []flow.Change{s.transferred(from, old, &d.Issue, true)}
		}
	}
	return n, nil
}

// gone returns the fact that an issue was deleted. GitHub does not tell when, and
// calls within seconds.
func (s *Source) gone(repo string, is *hookIssue) flow.Change {
	item := decimal(is.ID)
	c := flow.Change{ID: item + ":deleted", Container: repo, Item: item, At: received(), Kind: flow.Deleted, Approximate: true}
	if is.Number > 0 {
		c.Key = issueKey(repo, is.Number)
	}
	return c
}

// received is the time of what a delivery does not date.
func received() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// transferred returns what becomes of an issue that was transferred: where its
// new repository is read, it is the issue there under another name, else it is
// out of sight.
func (s *Source) transferred(repo string, old, to *hookIssue, read bool) flow.Change {
	c := s.gone(repo, old)
	if !read || to.ID <= 0 {
		return c
	}
	c.ID, c.Kind = c.Item+":transferred", flow.Updated
	// From its birth on, for the issue that it has become has all of its past.
	if at := cmp.Or(old.CreatedAt.Time, to.UpdatedAt.Time); !at.IsZero() {
		c.At, c.Approximate = at, false
	}
	c.Fields = []flow.FieldChange{{Field: flow.FieldAlias, To: flow.Value{ID: s.name + "/" + decimal(to.ID)}}}
	return c
}

// receiveSubIssue reads what became of a parent, which is a fact of the part.
func (s *Source) receiveSubIssue(_ context.Context, d *delivery) (connector.Notice, error) {
	repo := d.SubIssueRepo.FullName
	if repo == "" {
		repo = d.Repository.FullName
	}
	return connector.Notice{Items: s.hint(repo, d.SubIssue.Number)}, nil
}

// pullMark separates the repository from the node id in the hint of a pull
// request, and occurs in neither.
const pullMark = "!"

// pullHint names a pull request to read again, as "acme/api!PR_kwDOA1".
func (s *Source) pullHint(d *delivery) connector.Notice {
	repo, ok := s.repoOf(d.Repository.FullName)
	id := d.PullRequest.NodeID
	if !ok || !isNode(id) || !s.graph.supports("PullEvidence") {
		return connector.Notice{}
	}
	return connector.Notice{Items: []string{repo + pullMark + id}}
}

// nodeID is the form of GitHub's node ids, old and new.
var nodeID = regexp.MustCompile(`^[A-Za-z0-9_=+/-]{1,200}$`)

func isNode(id string) bool { return nodeID.MatchString(id) }

func (s *Source) receivePull(_ context.Context, d *delivery) (connector.Notice, error) {
	switch d.Action {
	case "opened", "edited", "closed", "reopened", "review_requested":
		return s.pullHint(d), nil
	}
	return connector.Notice{}, nil
}

func (s *Source) receiveReview(_ context.Context, d *delivery) (connector.Notice, error) {
	if d.Action == "submitted" && strings.EqualFold(d.Review.State, "changes_requested") {
		return s.pullHint(d), nil
	}
	return connector.Notice{}, nil
}

func (s *Source) receiveLabel(_ context.Context, d *delivery) (connector.Notice, error) {
	if repo, ok := s.repoOf(d.Repository.FullName); ok && d.Action == "edited" && given(d.Changes.Name) {
		s.labelsChanged(repo)
	}
	return connector.Notice{}, nil
}

// given reports whether a part of a delivery is there, be it null.
func given(part json.RawMessage) bool { return len(part) > 0 }

// receiveItem reads what happened to an item of the board. Creating it gives it
// no status, archiving and restoring change none; a draft that becomes an issue
// brings its status along without a word.
func (s *Source) receiveItem(ctx context.Context, d *delivery) (n connector.Notice, err error) {
	value := d.Changes.FieldValue
	switch {
	case d.Item.ContentType != "Issue" || !isNode(d.Item.NodeID) || !isNode(d.Item.Content):
		return n, nil
	case d.Action == "edited":
		if value == nil || value.FieldType != "" && value.FieldType != "single_select" || value.FieldName != "" && value.FieldName != statusField {
			return n, nil
		}
	case d.Action != "converted" && d.Action != "deleted":
		return n, nil
	}
	if ours, err := s.isOurs(ctx, d); err != nil || !ours {
		return n, err
	}
	of, ok, err := s.contentOf(ctx, d.Item.Content)
	if err != nil || !ok {
		return n, err
	}
	base, ok := s.changeOf(&of)
	if !ok {
		return n, nil
	}
	c, by := base, fromWebhook
	switch {
	case d.Action == "deleted":
		// The status is cleared. The time of the item is that of its last change.
		c.ID, c.At, c.Approximate = base.Item+":"+d.Item.NodeID+":deleted", received(), true
		c.Fields = []flow.FieldChange{{Field: flow.FieldStatus}}
	case d.Action == "edited" && given(value.From) && given(value.To):
		c = moved(base, d)
	default:
		node, err := s.lookUp(ctx, d.Item.NodeID)
		if err != nil || node.Status.value().IsZero() {
			return n, err
		}
		c, by = present(base, node.Status), fromNow
	}
	if !s.board.moves.told(&c, by) {
		n.Changes = []flow.Change{c}
	}
	return n, nil
}

// statusField is the field of a board that is the status.
const statusField = "Status"

// isOurs reports whether a delivery is about the status, or the whole, of an
// item of the configured board.
func (s *Source) isOurs(ctx context.Context, d *delivery) (bool, error) {
	value := d.Changes.FieldValue
	if value != nil && value.Number != 0 && value.FieldName != "" && d.Organization.Login != "" {
		return value.Number == s.project.Number && strings.EqualFold(d.Organization.Login, s.project.Owner), nil
	}
	p, err := s.loadProject(ctx, boardFor)
	if err != nil {
		return false, err
	}
	return d.Item.Project == p.id && (value == nil || value.FieldName != "" || value.FieldID == p.field), nil
}

// moved returns the move that a delivery tells of.
func moved(base flow.Change, d *delivery) flow.Change {
	value := d.Changes.FieldValue
	from, to := option(value.From), option(value.To)
	id := to.ID
	if id == "" {
		id = "none"
	}
	base.ID = base.Item + ":" + d.Item.NodeID + ":" + id + ":" + strconv.FormatInt(d.Item.UpdatedAt.UnixMilli(), 10)
	base.At = d.Item.UpdatedAt.Time
	base.Fields = []flow.FieldChange{{Field: flow.FieldStatus, From: from, To: to}}
	return base
}

// option reads a side of the change of a field: an option with id and name, a
// name, or nothing.
func option(side json.RawMessage) flow.Value {
	var o struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	}
	if bytes.HasPrefix(bytes.TrimSpace(side), []byte(`"`)) {
		if json.Unmarshal(side, &o.Name) != nil {
			return flow.Value{}
		}
	} else if json.Unmarshal(side, &o) != nil {
		return flow.Value{}
	}
	return flow.Value{ID: connector.CleanText(o.ID, flow.MaxText), Name: connector.CleanText(o.Name, flow.MaxText)}
}

// Refetch implements [connector.Receiver]. An issue is one batch, and so is what
// up to fifty pull requests say. An issue that cannot be read does not keep the
// others waiting.
func (s *Source) Refetch(ctx context.Context, items []string, emit func(connector.Batch) error) error {
	var pulls []string
	var failed []error
	for _, item := range items {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, id, ok := strings.Cut(item, pullMark); ok {
			pulls = append(pulls, id)
			continue
		}
		changes, err := s.refetchIssue(ctx, item)
		if err != nil {
			if failed = append(failed, aboutIssue(item, err)); ofOne(ctx, err) && len(failed) < maxTrouble {
				continue
			}
			return err
		}
		if err := emitAll(changes, emit); err != nil {
			return err
		}
	}
	for len(pulls) > 0 {
		n := min(len(pulls), nodesAtOnce)
		changes, closed, _, err := s.evidence(ctx, pulls[:n])
		if err != nil {
			return err
		}
		moved, err := s.askTransfers(ctx, closed)
		if err != nil {
			return err
		}
		settle(changes, moved)
		if err := emitAll(changes, emit); err != nil {
			return err
		}
		pulls = pulls[n:]
	}
	return errors.Join(failed...)
}

func emitAll(changes []flow.Change, emit func(connector.Batch) error) error {
	if len(changes) == 0 {
		return nil
	}
	return emit(connector.Batch{Changes: changes})
}

// refetchIssue reads the issue of a hint. What is not one of a repository that
// is read, by a configuration of before, is left out.
func (s *Source) refetchIssue(ctx context.Context, hint string) ([]flow.Change, error) {
	name, digits, _ := strings.Cut(hint, "#")
	repo, ok := s.repoOf(name)
	number, err := strconv.Atoi(digits)
	if !ok || err != nil || number <= 0 {
		return nil, nil
	}
	return s.readIssue(ctx, repo, number, maxPageSize)
}

var (
	_ connector.Receiver = (*Source)(nil)
	_ connector.Observer = (*Source)(nil)
)
