package github

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// fakeHookBase is the address of the API in what webhooks deliver.
const fakeHookBase = "https://api.github.com"

// A FakeDelivery is one webhook delivery as it arrives.
type FakeDelivery struct {
	Header http.Header
	Body   []byte
}

// Deliveries returns what has been delivered since the last call, oldest first:
// one delivery for each step of the script that GitHub tells of. There are none
// without a webhook secret.
func (f *Fake) Deliveries() []FakeDelivery {
	f.mu.Lock()
	defer f.mu.Unlock()
	made := f.hooks
	f.hooks = nil
	return made
}

// Ping returns what a new webhook delivers first.
func (f *Fake) Ping() FakeDelivery {
	f.mu.Lock()
	defer f.mu.Unlock()
	id := f.newID()
	return f.signed("ping", mustMarshal(object{
		"zen": "Design for failure.", "hook_id": id,
		"hook": object{
			"type": "Organization", "id": id, "name": "web", "active": true, "events": []string{"issues"},
			"config":     object{"content_type": "json", "insecure_ssl": "0", "url": "https://flow.example.com/webhooks/github"},
			"updated_at": "2024-01-01T00:00:00Z", "created_at": "2024-01-01T00:00:00Z",
		},
	}))
}

// Sign makes a delivery of any event and body.
func (f *Fake) Sign(event string, body []byte) FakeDelivery {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.signed(event, body)
}

func (f *Fake) signed(event string, body []byte) FakeDelivery {
	mac := hmac.New(sha256.New, []byte(f.opts.WebhookSecret))
	mac.Write(body)
	h := make(http.Header)
	h.Set("Content-Type", "application/json")
	h.Set("User-Agent", "GitHub-Hookshot/fake")
	h.Set("X-GitHub-Event", event)
	h.Set("X-GitHub-Delivery", fmt.Sprintf("00000000-0000-4000-8000-%012x", f.newID()))
	h.Set("X-GitHub-Hook-ID", "1")
	h.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	return FakeDelivery{Header: h, Body: body}
}

func mustMarshal(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of texts, numbers and times always encode
	}
	return text
}

// The following queue a delivery about something that has just happened.

func (f *Fake) hook(event string, payload object) {
	payload["sender"] = showUser(fakeHookBase, fakeMaintainer)
	f.hooks = append(f.hooks, f.signed(event, mustMarshal(payload)))
}

func (f *Fake) hookIssue(at time.Time, action string, i *fakeIssue, more object) {
	if f.opts.WebhookSecret == "" {
		return
	}
	issue := showIssue(fakeHookBase, i)
	// The time of a delivery is that of the issue, which events of one second share.
	issue["updated_at"] = fakeTime(at)
	payload := object{
		"action": action, "issue": issue, "repository": showRepo(fakeHookBase, i.repo), "organization": showOrganization(fakeHookBase, i.repo.owner),
	}
	for name, value := range more {
		payload[name] = value
	}
	f.hook("issues", payload)
}

// hookTransfer queues what both repositories tell of a transfer.
func (f *Fake) hookTransfer(at time.Time, old, i *fakeIssue) {
	if f.opts.WebhookSecret == "" {
		return
	}
	f.hookIssue(at, "transferred", old, object{"changes": object{
		"new_issue": showIssue(fakeHookBase, i), "new_repository": showRepo(fakeHookBase, i.repo),
	}})
	f.hookIssue(at, "opened", i, object{"changes": object{
		"old_issue": showIssue(fakeHookBase, old), "old_repository": showRepo(fakeHookBase, old.repo),
	}})
}

func (f *Fake) hookParent(action string, i, parent *fakeIssue) {
	if f.opts.WebhookSecret == "" {
		return
	}
	f.hook("sub_issues", object{
		"action": action, "parent_issue_id": parent.id, "parent_issue": showIssue(fakeHookBase, parent),
		"parent_issue_repo": showRepo(fakeHookBase, parent.repo), "sub_issue_id": i.id, "sub_issue": showIssue(fakeHookBase, i),
		"repository": showRepo(fakeHookBase, i.repo), "organization": showOrganization(fakeHookBase, i.repo.owner),
	})
}

func (f *Fake) hookLabel(r *fakeRepo, l *fakeLabel, from string) {
	if f.opts.WebhookSecret == "" {
		return
	}
	f.hook("label", object{
		"action": "edited", "label": showLabel(fakeHookBase, r, l), "changes": object{"name": object{"from": from}},
		"repository": showRepo(fakeHookBase, r), "organization": showOrganization(fakeHookBase, r.owner),
	})
}

func (f *Fake) hookCard(at time.Time, action string, c *fakeCard, more object) {
	if f.opts.WebhookSecret == "" {
		return
	}
	payload := object{
		"action": action, "organization": showOrganization(fakeHookBase, c.board.owner),
		"projects_v2_item": object{
			"id": c.id, "node_id": c.node(), "project_node_id": c.board.node(), "content_node_id": c.issue.node(), "content_type": "Issue",
			"creator": showUser(fakeHookBase, fakeBot), "created_at": fakeTime(c.added), "updated_at": fakeTime(at), "archived_at": nil,
		},
	}
	for name, value := range more {
		payload[name] = value
	}
	f.hook("projects_v2_item", payload)
}

func (f *Fake) hookPull(at time.Time, action string, i *fakeIssue, more object) {
	if f.opts.WebhookSecret == "" {
		return
	}
	payload := object{
		"action": action, "number": i.number, "pull_request": showPull(fakeHookBase, i, at),
		"repository": showRepo(fakeHookBase, i.repo), "organization": showOrganization(fakeHookBase, i.repo.owner),
	}
	for name, value := range more {
		payload[name] = value
	}
	f.hook("pull_request", payload)
}

func (f *Fake) hookReview(i *fakeIssue, e *fakeEvent) {
	if f.opts.WebhookSecret == "" {
		return
	}
	review := showEvent(fakeHookBase, i, e)
	delete(review, "event")
	f.hook("pull_request_review", object{
		"action": "submitted", "review": review, "pull_request": showPull(fakeHookBase, i, e.at),
		"repository": showRepo(fakeHookBase, i.repo), "organization": showOrganization(fakeHookBase, i.repo.owner),
	})
}
