package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector/github"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// ghIssue is what the tests read of an issue.
type ghIssue struct {
	ID          int64
	NodeID      string `json:"node_id"`
	Number      int
	CreatedAt   time.Time `json:"created_at"`
	Type        *ghName
	PullRequest any `json:"pull_request"`
}

type ghName struct{ Name string }

type ghEvent struct {
	ID          int64
	Event       string
	CreatedAt   time.Time `json:"created_at"`
	StateReason string    `json:"state_reason"`
	Label       ghName
	IssueType   ghName  `json:"issue_type"`
	WasType     *ghName `json:"prev_issue_type"`
}

// readGitHub reads the issues with their timelines, what the board remembers, and
// the reviews of pull requests.
func readGitHub(t *testing.T, fake *github.Fake) []flow.Change {
	t.Helper()
	var changes []flow.Change
	var issues, pulls []string // node ids
	for _, repo := range [...]string{mainRepo, sideRepo} {
		for _, i := range list[ghIssue](t, fake, "/repos/"+repo+"/issues?state=all&per_page=100") {
			if i.PullRequest != nil {
				pulls = append(pulls, i.NodeID)
				continue
			}
			issues = append(issues, i.NodeID)
			changes = append(changes, i.history(t, fake, repo)...)
		}
	}
	type node struct {
		ID        string `json:"fullDatabaseId"`
		CreatedAt time.Time
		Closing   struct {
			Nodes []struct {
				ID string `json:"fullDatabaseId"`
			}
		} `json:"closingIssuesReferences"`
		TimelineItems struct {
			Nodes []struct {
				Kind                   string `json:"__typename"`
				ID                     string
				CreatedAt, SubmittedAt time.Time
				PreviousStatus, Status string
				State                  string
			}
		}
	}
	update := func(item, id string, at time.Time, f flow.FieldChange) {
		changes = append(changes, flow.Change{ID: item + ":" + id, Source: "github-demo", Item: item, At: at, Kind: flow.Updated, Fields: []flow.FieldChange{f}})
	}
	const moves = `query($ids: [ID!]!) { nodes(ids: $ids) { ... on Issue { fullDatabaseId timelineItems(first: 100, itemTypes: [PROJECT_V2_ITEM_STATUS_CHANGED_EVENT]) {
		nodes { ... on ProjectV2ItemStatusChangedEvent { id createdAt previousStatus status } } } } } }`
	for n := range ask[node](t, fake, moves, issues) {
		for k, e := range n.TimelineItems.Nodes {
			f := flow.FieldChange{Field: flow.FieldStatus, From: flow.Value{Name: e.PreviousStatus}, To: flow.Value{Name: e.Status}}
			update(n.ID, fmt.Sprintf("%d:%s", k, e.ID), e.CreatedAt, f)
			changes[len(changes)-1].Sequence = int64(k)
		}
	}
	const evidence = `query($ids: [ID!]!) { nodes(ids: $ids) { ... on PullRequest { fullDatabaseId createdAt closingIssuesReferences(first: 50) { nodes { fullDatabaseId } }
		timelineItems(first: 100, itemTypes: [REVIEW_REQUESTED_EVENT, PULL_REQUEST_REVIEW, MERGED_EVENT, CLOSED_EVENT]) { nodes { __typename
		... on ReviewRequestedEvent { id createdAt } ... on PullRequestReview { id submittedAt state } ... on MergedEvent { id createdAt } ... on ClosedEvent { id createdAt } } } } } }`
	for n := range ask[node](t, fake, evidence, pulls) {
		for _, of := range n.Closing.Nodes {
			pull := func(id, name string, at time.Time) {
				update(of.ID, "pr:"+n.ID+":"+id, at, flow.FieldChange{Field: flow.FieldPullRequest, To: flow.Value{ID: n.ID, Name: name}})
			}
			pull("opened", "opened", n.CreatedAt)
			merged := false // which closes it as well
			for _, e := range n.TimelineItems.Nodes {
				merged = merged || e.Kind == "MergedEvent"
				switch {
				case e.Kind == "ReviewRequestedEvent":
					pull(e.ID, "review_requested", e.CreatedAt)
				case e.Kind == "PullRequestReview" && e.State == "CHANGES_REQUESTED":
					pull(e.ID, "changes_requested", e.SubmittedAt)
				case e.Kind == "MergedEvent":
					pull(e.ID, "merged", e.CreatedAt)
				case e.Kind == "ClosedEvent" && !merged:
					pull(e.ID, "closed", e.CreatedAt)
				}
			}
		}
	}
	return changes
}

// history reads the timeline of an issue.
func (i *ghIssue) history(t *testing.T, fake *github.Fake, repo string) []flow.Change {
	t.Helper()
	item := fmt.Sprint(i.ID)
	born := flow.Change{ID: item + ":created", Source: "github-demo", Item: item, Container: repo, At: i.CreatedAt, Kind: flow.Created}
	changes := []flow.Change{born}
	typ, assigned := i.Type, 0
	events := list[ghEvent](t, fake, fmt.Sprintf("/repos/%s/issues/%d/timeline?per_page=100", repo, i.Number))
	if k := slices.IndexFunc(events, func(e ghEvent) bool { return strings.HasPrefix(e.Event, "issue_type_") }); k >= 0 {
		typ = events[k].WasType
	}
	changes[0].Fields = []flow.FieldChange{{Field: flow.FieldState, To: flow.Value{Name: "open"}}}
	if typ != nil {
		changes[0].Fields = append(changes[0].Fields, flow.FieldChange{Field: flow.FieldType, To: flow.Value{Name: typ.Name}})
	}
	for _, e := range events {
		var f flow.FieldChange
		switch e.Event {
		case "closed":
			f = flow.FieldChange{Field: flow.FieldState, To: flow.Value{Name: "closed", Category: e.StateReason}}
		case "reopened":
			f = flow.FieldChange{Field: flow.FieldState, To: flow.Value{Name: "open"}}
		case "labeled":
			f = flow.FieldChange{Field: flow.FieldLabel, To: flow.Value{Name: e.Label.Name}}
		case "unlabeled":
			f = flow.FieldChange{Field: flow.FieldLabel, From: flow.Value{Name: e.Label.Name}}
		case "issue_type_added", "issue_type_removed", "issue_type_changed":
			f = flow.FieldChange{Field: flow.FieldType, To: flow.Value{Name: e.IssueType.Name}}
		case "assigned", "unassigned":
			if assigned++; e.Event == "unassigned" {
				assigned -= 2
			}
			f = flow.FieldChange{Field: flow.FieldAssigned, To: flow.Value{Name: fmt.Sprint(assigned > 0)}}
		case "transferred":
			f = flow.FieldChange{Field: flow.FieldContainer, To: flow.Value{Name: repo}}
		default:
			continue
		}
		changes = append(changes, flow.Change{
			ID: fmt.Sprintf("%s:%d", item, e.ID), Source: born.Source, Item: item, Container: repo, At: e.CreatedAt, Sequence: e.ID,
			Kind: flow.Updated, Fields: []flow.FieldChange{f},
		})
	}
	return changes
}

var nextLink = regexp.MustCompile(`<([^>]+)>; rel="next"`)

// list reads all pages of a list.
func list[T any](t *testing.T, fake *github.Fake, path string) (all []T) {
	t.Helper()
	for url := "http://github.test/api/v3" + path; url != ""; {
		answer := httptest.NewRecorder()
		fake.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, url, nil))
		var page []T
		if err := json.Unmarshal(answer.Body.Bytes(), &page); err != nil || answer.Code != http.StatusOK {
			t.Fatalf("%s: status %d, %v", url, answer.Code, err)
		}
		all = append(all, page...)
		url = ""
		if next := nextLink.FindStringSubmatch(answer.Header().Get("Link")); next != nil {
			url = next[1]
		}
	}
	return all
}

// readBoard returns the status of each issue on the board by its id.
func readBoard(t *testing.T, fake *github.Fake) map[string]string {
	t.Helper()
	const query = `query($owner: String!, $number: Int!, $after: String) { repositoryOwner(login: $owner) { ... on ProjectV2Owner { projectV2(number: $number) {
		items(first: 100, after: $after) { nodes { content { ... on Issue { fullDatabaseId } } fieldValueByName(name: "Status") { ... on ProjectV2ItemFieldSingleSelectValue { name } } }
		pageInfo { hasNextPage endCursor } } } } } }`
	cards, variables := map[string]string{}, map[string]any{"owner": owner, "number": board}
	for more := true; more; {
		type answer struct {
			RepositoryOwner struct {
				ProjectV2 struct {
					Items struct {
						Nodes []struct {
							Content struct {
								ID string `json:"fullDatabaseId"`
							}
							FieldValueByName struct{ Name string }
						}
						PageInfo struct {
							HasNextPage bool
							EndCursor   string
						}
					}
				}
			}
		}
		items := send[answer](t, fake, query, variables).RepositoryOwner.ProjectV2.Items
		for _, n := range items.Nodes {
			cards[n.Content.ID] = n.FieldValueByName.Name
		}
		more, variables["after"] = items.PageInfo.HasNextPage, items.PageInfo.EndCursor
	}
	return cards
}

// ask sends a query about nodes, some at a time.
func ask[T any](t *testing.T, fake *github.Fake, query string, ids []string) func(func(T) bool) {
	t.Helper()
	return func(yield func(T) bool) {
		for some := range slices.Chunk(ids, 50) {
			got := send[struct{ Nodes []T }](t, fake, query, map[string]any{"ids": some})
			if len(got.Nodes) != len(some) {
				t.Fatalf("%d nodes of %d", len(got.Nodes), len(some))
			}
			for _, n := range got.Nodes {
				if !yield(n) {
					return
				}
			}
		}
	}
}

// send sends a query and returns the data of the answer.
func send[T any](t *testing.T, fake *github.Fake, query string, variables map[string]any) T {
	t.Helper()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, "http://github.test/api/graphql", bytes.NewReader(body))
	r.Header.Set("Authorization", "Bearer token")
	answer := httptest.NewRecorder()
	fake.ServeHTTP(answer, r)
	var got struct {
		Data   T
		Errors []any
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || len(got.Errors) > 0 {
		t.Fatalf("query: status %d, %v, %v", answer.Code, err, got.Errors)
	}
	return got.Data
}
