package github

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // the signature that must not count
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// The people of the deliveries below do not exist; none of their names may come
// through.
const (
	testPerson  = "planted-person"
	testAddress = "planted-person@example.com"
)

// hooked signs a delivery of an event.
func hooked(event, body string) (http.Header, []byte) {
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("X-GitHub-Event", event)
	h.Set("X-GitHub-Delivery", "00000000-0000-4000-8000-000000000001")
	h.Set("X-Hub-Signature-256", "sha256="+signed(sha256.New, testSecret, body))
	return h, []byte(body)
}

func signed(algorithm func() hash.Hash, secret, body string) string {
	mac := hmac.New(algorithm, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

// payload completes a delivery by what all have: a repository and people.
func payload(repo, parts string) string {
	who := fmt.Sprintf(`{"login":%q,"id":77,"email":%q,"html_url":"https://github.com/%s"}`, testPerson, testAddress, testPerson)
	return fmt.Sprintf(`{%s,"repository":{"id":1,"full_name":%q,"owner":%s},"organization":{"login":"acme","id":5},"sender":%s}`, parts, repo, who, who)
}

func hookedIssue(id int64, number int) string {
	return fmt.Sprintf(`{"id":%d,"node_id":"I_kwDO%d","number":%d,"title":"by %s","body":"ask %s","state":"open",
		"user":{"login":%q},"assignees":[{"login":%q}],"created_at":"2026-03-01T09:00:00Z","updated_at":"2026-03-02T10:00:00Z","closed_at":null}`,
		id, id, number, testPerson, testAddress, testPerson, testPerson)
}

// noPeople fails where a name has come through.
func noPeople(t testing.TB, where string, what ...any) {
	t.Helper()
	text := fmt.Sprintf("%+v", what)
	for _, name := range []string{testPerson, testAddress, testSecret, testToken, fakeMaintainer, fakeReviewer, fakeReader, fakeBot} {
		if strings.Contains(text, name) {
			t.Errorf("%s: %q in %s", where, name, text)
		}
	}
}

func TestDeliveriesAboutIssuesAndPullRequests(t *testing.T) {
	moved := func(repo string, id int64) string {
		return fmt.Sprintf(`"changes":{"new_issue":%s,"new_repository":{"full_name":%q}}`, hookedIssue(id, 12), repo)
	}
	issue7, pull := `"issue":`+hookedIssue(70, 7), `"pull_request":{"id":9,"node_id":"PR_kwDO9","number":12,"user":{"login":"planted-person"},"title":"x"}`
	tests := []struct {
		name, event, body string
		items             []string
		changes           []string
	}{
		{name: "ping", event: "ping", body: `{"zen":"x","hook_id":1}`},
		{name: "no event", event: "", body: `{}`},
		{name: "an event that does not matter", event: "push", body: `this is not read`},
		{name: "a comment", event: "issue_comment", body: payload("acme/api", `"action":"created",`+issue7)},
		{name: "opened", event: "issues", body: payload("acme/api", `"action":"opened",`+issue7), items: []string{"acme/api#7"}},
		{name: "closed", event: "issues", body: payload("Acme/API", `"action":"closed",`+issue7), items: []string{"acme/api#7"}},
		{name: "labeled", event: "issues", body: payload("acme/web", `"action":"labeled",`+issue7+`,"label":{"name":"bug"}`), items: []string{"acme/web#7"}},
		{name: "an action to come", event: "issues", body: payload("acme/web", `"action":"status_changed",`+issue7), items: []string{"acme/web#7"}},
		{name: "another repository", event: "issues", body: payload("acme/other", `"action":"opened",`+issue7)},
		{name: "no issue", event: "issues", body: payload("acme/api", `"action":"opened"`)},
		{name: "a number below one", event: "issues", body: payload("acme/api", `"action":"opened","issue":{"id":1,"number":-1}`)},
		{name: "deleted", event: "issues", body: payload("acme/api", `"action":"deleted",`+issue7), changes: []string{"70:deleted DELETED acme/api#7 approximate"}},
		{name: "deleted elsewhere", event: "issues", body: payload("acme/other", `"action":"deleted",`+issue7)},
		{
			name: "transferred within", event: "issues", body: payload("acme/api", `"action":"transferred",`+issue7+`,`+moved("acme/web", 71)),
			items: []string{"acme/web#12"}, changes: []string{"70:transferred UPDATED acme/api#7 ALIAS github-main/71"},
		},
		{
			name: "transferred away", event: "issues", body: payload("acme/api", `"action":"transferred",`+issue7+`,`+moved("acme/other", 71)),
			changes: []string{"70:deleted DELETED acme/api#7 approximate"},
		},
		{
			name: "transferred within, to an issue without an id", event: "issues", body: payload("acme/api", `"action":"transferred",`+issue7+`,`+moved("acme/web", 0)),
			items: []string{"acme/web#12"}, changes: []string{"70:deleted DELETED acme/api#7 approximate"},
		},
		{name: "transferred here", event: "issues", body: payload("acme/other", `"action":"transferred",`+issue7+`,`+moved("acme/web", 71)), items: []string{"acme/web#12"}},
		{
			name: "transferred without a word where to", event: "issues", body: payload("acme/api", `"action":"transferred",`+issue7),
			changes: []string{"70:deleted DELETED acme/api#7 approximate"},
		},
		{
			name: "opened by transfer", event: "issues",
			body:  payload("acme/web", `"action":"opened","issue":`+hookedIssue(71, 12)+`,"changes":{"old_issue":`+hookedIssue(70, 7)+`,"old_repository":{"full_name":"acme/api"}}`),
			items: []string{"acme/web#12"}, changes: []string{"70:transferred UPDATED acme/api#7 ALIAS github-main/71"},
		},
		{
			name: "opened by transfer from elsewhere", event: "issues",
			body:  payload("acme/web", `"action":"opened","issue":`+hookedIssue(71, 12)+`,"changes":{"old_issue":`+hookedIssue(70, 7)+`,"old_repository":{"full_name":"acme/other"}}`),
			items: []string{"acme/web#12"},
		},
		{
			name: "opened by transfer elsewhere", event: "issues",
			body: payload("acme/other", `"action":"opened","issue":`+hookedIssue(71, 12)+`,"changes":{"old_issue":`+hookedIssue(70, 7)+`,"old_repository":{"full_name":"acme/api"}}`),
		},
		{name: "a parent", event: "sub_issues", body: payload("acme/other", `"action":"parent_issue_added","sub_issue":`+hookedIssue(70, 7)+`,"sub_issue_repo":{"full_name":"acme/api"}`), items: []string{"acme/api#7"}},
		{name: "a parent in the same repository", event: "sub_issues", body: payload("acme/api", `"action":"parent_issue_removed","sub_issue":`+hookedIssue(70, 7)), items: []string{"acme/api#7"}},
		{name: "pull request opened", event: "pull_request", body: payload("acme/api", `"action":"opened",`+pull), items: []string{"acme/api!PR_kwDO9"}},
		{name: "review requested", event: "pull_request", body: payload("acme/api", `"action":"review_requested",`+pull), items: []string{"acme/api!PR_kwDO9"}},
		{name: "merged", event: "pull_request", body: payload("acme/api", `"action":"closed",`+pull), items: []string{"acme/api!PR_kwDO9"}},
		{name: "pushed to", event: "pull_request", body: payload("acme/api", `"action":"synchronize",`+pull)},
		{name: "pull request elsewhere", event: "pull_request", body: payload("acme/other", `"action":"opened",`+pull)},
		{name: "pull request with a strange id", event: "pull_request", body: payload("acme/api", `"action":"opened","pull_request":{"node_id":"a!b#c"}`)},
		{name: "changes requested", event: "pull_request_review", body: payload("acme/api", `"action":"submitted","review":{"state":"changes_requested","user":{"login":"planted-person"}},`+pull), items: []string{"acme/api!PR_kwDO9"}},
		{name: "approved", event: "pull_request_review", body: payload("acme/api", `"action":"submitted","review":{"state":"approved"},`+pull)},
		{name: "label", event: "label", body: payload("acme/api", `"action":"created","label":{"name":"bug"}`)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, d := talk(t, http.NotFoundHandler())
			h, body := hooked(test.event, test.body)
			before := time.Now().Add(-time.Second)
			notice, err := s.Receive(t.Context(), h, body)
			if err != nil {
				t.Fatal(err)
			}
			noPeople(t, test.name, notice)
			valid(t, notice.Changes)
			var changes []string
			for _, c := range notice.Changes {
				line := fmt.Sprintf("%s %s %s", c.ID, c.Kind, c.Key)
				for _, f := range c.Fields {
					line += fmt.Sprintf(" %s %s", f.Field, f.To.ID)
				}
				if c.Approximate {
					line += " approximate"
					if c.At.Before(before) {
						t.Errorf("the change is dated %s", c.At)
					}
				} else if !c.At.Equal(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)) { // its birth
					t.Errorf("the change is dated %s", c.At)
				}
				changes = append(changes, line)
			}
			if diff := cmp.Diff(test.items, notice.Items); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(test.changes, changes); diff != "" {
				t.Error(diff)
			}
			if len(d.asked) > 0 {
				t.Errorf("it asked %v", d.asked)
			}
			again, err := s.Receive(t.Context(), h, body)
			if diff := cmp.Diff(ids(notice.Changes), ids(again.Changes)); err != nil || diff != "" {
				t.Error("delivered again:", err, diff)
			}
		})
	}
}

func ids(changes []flow.Change) (ids []string) {
	for _, c := range changes {
		ids = append(ids, c.ID)
	}
	return ids
}

func TestLabelWasRenamed(t *testing.T) {
	for body, want := range map[string]bool{
		`"action":"edited","changes":{"name":{"from":"bug"}}`:     true,
		`"action":"edited","changes":{"color":{"from":"ffffff"}}`: false,
		`"action":"edited"`:  false,
		`"action":"deleted"`: false,
	} {
		s, _ := talk(t, http.NotFoundHandler())
		h, text := hooked("label", payload("Acme/Api", body))
		if notice, err := s.Receive(t.Context(), h, text); err != nil || len(notice.Items)+len(notice.Changes) > 0 {
			t.Errorf("%s: got %+v, %v", body, notice, err)
		}
		s.mu.Lock()
		if got := s.relabel["acme/api"]; got != want {
			t.Errorf("%s: labels are read again is %t", body, got)
		}
		s.mu.Unlock()
	}
}

func TestSignatures(t *testing.T) {
	body := payload("acme/api", `"action":"opened","issue":`+hookedIssue(70, 7))
	secret := func() (string, error) { return testSecret, nil }
	empty := func() (string, error) { return "", nil }
	good := "sha256=" + signed(sha256.New, testSecret, body)
	for name, test := range map[string]struct {
		secret func() (string, error)
		header map[string]string
		body   string
		fits   bool
	}{
		"right":                     {secret, map[string]string{"X-Hub-Signature-256": good}, body, true},
		"in capitals":               {secret, map[string]string{"X-Hub-Signature-256": "sha256=" + strings.ToUpper(good[7:])}, body, true},
		"none":                      {secret, nil, body, false},
		"empty":                     {secret, map[string]string{"X-Hub-Signature-256": ""}, body, false},
		"only the prefix":           {secret, map[string]string{"X-Hub-Signature-256": "sha256="}, body, false},
		"cut short":                 {secret, map[string]string{"X-Hub-Signature-256": good[:len(good)-2]}, body, false},
		"not hexadecimal":           {secret, map[string]string{"X-Hub-Signature-256": "sha256=" + strings.Repeat("z", 64)}, body, false},
		"another secret":            {secret, map[string]string{"X-Hub-Signature-256": "sha256=" + signed(sha256.New, "other", body)}, body, false},
		"another body":              {secret, map[string]string{"X-Hub-Signature-256": good}, body + " ", false},
		"SHA-1 alone":               {secret, map[string]string{"X-Hub-Signature": "sha1=" + signed(sha1.New, testSecret, body)}, body, false},
		"SHA-1 where SHA-256 goes":  {secret, map[string]string{"X-Hub-Signature-256": "sha1=" + signed(sha1.New, testSecret, body)}, body, false},
		"SHA-256 in the old header": {secret, map[string]string{"X-Hub-Signature": good}, body, false},
		"no secret configured":      {nil, map[string]string{"X-Hub-Signature-256": good}, body, false},
		"an empty secret":           {empty, map[string]string{"X-Hub-Signature-256": "sha256=" + signed(sha256.New, "", body)}, body, false},
	} {
		s, _ := talk(t, http.NotFoundHandler(), func(c *Config) { c.WebhookSecret = test.secret })
		h := http.Header{"X-Github-Event": {"issues"}}
		for key, value := range test.header {
			h.Set(key, value)
		}
		notice, err := s.Receive(t.Context(), h, []byte(test.body))
		if test.fits != (err == nil) || !test.fits && !errors.Is(err, connector.ErrSignature) || test.fits != (len(notice.Items) == 1) {
			t.Errorf("%s: got %+v, %v", name, notice, err)
		}
		noPeople(t, name, err)
	}
	broken, _ := talk(t, http.NotFoundHandler(), func(c *Config) { c.WebhookSecret = func() (string, error) { return "", errTest } })
	if _, err := broken.Receive(t.Context(), http.Header{}, nil); !errors.Is(err, errTest) {
		t.Errorf("a secret that cannot be read gives %v", err)
	}
}

func TestDeliveriesThatCannotBeRead(t *testing.T) {
	s, _ := talk(t, http.NotFoundHandler())
	for _, event := range []string{"issues", "sub_issues", "pull_request", "pull_request_review", "label", "projects_v2_item"} {
		for _, body := range []string{
			"", "{", "<html>", `[]`, `"text"`, `7`, `{"action":7}`, `{"issue":"` + testPerson + `"}`, `{"issue":{"id":"` + testPerson + `"}}`, "\xff\xfe",
		} {
			h, text := hooked(event, body)
			notice, err := s.Receive(t.Context(), h, text)
			if !errors.Is(err, connector.ErrDelivery) {
				t.Errorf("%s %q: got %+v, %v", event, body, notice, err)
			}
			noPeople(t, event, err)
		}
	}
}

// A webhook may be set up to send forms.
func TestDeliveryAsForm(t *testing.T) {
	s, _ := talk(t, http.NotFoundHandler())
	h, body := hooked("issues", url.Values{"payload": {payload("acme/api", `"action":"opened","issue":`+hookedIssue(70, 7))}}.Encode())
	h.Set("Content-Type", "application/x-www-form-urlencoded")
	notice, err := s.Receive(t.Context(), h, body)
	if diff := cmp.Diff([]string{"acme/api#7"}, notice.Items); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for _, bad := range []string{"payload=%zz", "other=1", ""} {
		h, body := hooked("issues", bad)
		h.Set("Content-Type", "application/x-www-form-urlencoded")
		if _, err := s.Receive(t.Context(), h, body); !errors.Is(err, connector.ErrDelivery) {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

// receive delivers what has happened and returns the changes it is taken for.
func receive(t testing.TB, s *Source, deliveries []FakeDelivery) (changes []flow.Change) {
	t.Helper()
	for _, d := range deliveries {
		notice, err := s.Receive(t.Context(), d.Header, d.Body)
		if err != nil {
			t.Fatal(err)
		}
		noPeople(t, "delivery", notice)
		changes = append(changes, notice.Changes...)
	}
	return changes
}

func TestMovesOnTheBoard(t *testing.T) {
	f, api, _, other := boardWorld(FakeOptions{WebhookSecret: testSecret})
	f.SetStatus(fakeDay(2), api, "Todo", false)
	f.SetStatus(fakeDay(3), api, "Doing", false)
	f.SetStatusOn(fakeDay(3), 4, api, "Elsewhere", false)
	f.SetStatus(fakeDay(3), other, "Doing", false)
	f.SetStatus(fakeDay(4), api, "", false)
	s, d := talk(t, f)
	deliveries := f.Deliveries()
	changes := receive(t, s, deliveries)
	valid(t, changes)
	want := []string{"acme/api#1 03-02T09:00:00 STATUS >Todo", "acme/api#1 03-03T09:00:00 STATUS Todo>Doing", "acme/api#1 03-04T09:00:00 STATUS Doing>"}
	if diff := cmp.Diff(want, lines(changes)); diff != "" {
		t.Error(diff)
	}
	card := f.boards[0].cards[0].node()
	doing := optionID(f, "Doing")
	if c := changes[1]; c.ID != fmt.Sprintf("%s:%s:%s:%d", api, card, doing, fakeDay(3).UnixMilli()) || c.Item != api || c.Approximate ||
		c.Fields[0].To.ID != doing || c.Fields[0].From.ID != optionID(f, "Todo") {
		t.Errorf("the second change is %+v", c)
	}
	if id := changes[2].ID; id != fmt.Sprintf("%s:%s:none:%d", api, card, fakeDay(4).UnixMilli()) {
		t.Errorf("the id of clearing is %s", id)
	}
	if n := d.count("ContentOf"); n != 2 {
		t.Errorf("asked %d times what two issues are", n)
	}
	if diff := cmp.Diff(changes, receive(t, s, deliveries)); diff != "" {
		t.Error("a replay differs", diff)
	}
	if n := d.count("ContentOf"); n != 0 {
		t.Errorf("asked %d times what is known", n)
	}
}

// What older sites deliver, and what is told of items otherwise.
func TestOtherDeliveriesAboutItems(t *testing.T) {
	f, api, _, _ := boardWorld(FakeOptions{WebhookSecret: testSecret})
	f.SetStatus(fakeDay(2), api, "Doing", false)
	card := f.boards[0].cards[0]
	item := func(action, changes string, edits ...string) string {
		text := fmt.Sprintf(`{"action":%q,"projects_v2_item":{"id":1,"node_id":%q,"project_node_id":%q,"content_node_id":%q,"content_type":"Issue",
			"creator":{"login":%q},"created_at":"2026-03-02T09:00:00Z","updated_at":"2026-03-05T09:00:00Z","archived_at":null}%s,
			"organization":{"login":"Acme"},"sender":{"login":%q}}`,
			action, card.node(), f.boards[0].node(), f.Node(api), testPerson, changes, testPerson)
		for k := 0; k < len(edits); k += 2 {
			text = strings.ReplaceAll(text, edits[k], edits[k+1])
		}
		return text
	}
	field := func(parts string) string { return `,"changes":{"field_value":{` + parts + `}}` }
	ours := `"field_node_id":"` + f.boards[0].fieldNode() + `","field_type":"single_select"`
	full := ours + `,"field_name":"Status","project_number":3,"from":null,"to":{"id":"x1","name":"Review"}`
	seen := "acme/api#1 03-02T09:00:00 STATUS >Doing"
	tests := []struct {
		name, body string
		want       []string
	}{
		{"edited", item("edited", field(full)), []string{"acme/api#1 03-05T09:00:00 STATUS >Review"}},
		{"edited, as texts", item("edited", field(ours+`,"field_name":"Status","project_number":3,"from":"Todo","to":"Review"`)), []string{"acme/api#1 03-05T09:00:00 STATUS Todo>Review"}},
		{"edited, without the number of the board", item("edited", field(ours+`,"field_name":"Status","from":null,"to":{"id":"x1","name":"Review"}`)), []string{"acme/api#1 03-05T09:00:00 STATUS >Review"}},
		{"edited, without saying how", item("edited", field(ours)), []string{seen}},
		{"another field", item("edited", field(`"field_node_id":"PVTSSF_x","field_type":"single_select"`)), nil},
		{"another field by name", item("edited", field(strings.Replace(full, `"Status"`, `"Priority"`, 1))), nil},
		{"a number", item("edited", field(`"field_node_id":"PVTF_x","field_type":"number","field_name":"Status","project_number":3,"from":1,"to":2`)), nil},
		{"the body of a draft", item("edited", `,"changes":{"body":{"from":"a","to":"b"}}`), nil},
		{"another board's number", item("edited", field(strings.Replace(full, `:3`, `:4`, 1))), nil},
		{"another organisation", item("edited", field(full), `"Acme"`, `"umbrella"`), nil},
		{"another board", item("edited", field(ours), f.boards[0].node(), f.boards[1].node()), nil},
		{"a pull request", item("edited", field(full), `"content_type":"Issue"`, `"content_type":"PullRequest"`), nil},
		{"a draft", item("edited", field(full), `"content_type":"Issue"`, `"content_type":"DraftIssue"`), nil},
		{"an issue that is not there", item("edited", field(full), f.Node(api), "I_none"), nil},
		{"a strange id", item("edited", field(full), card.node(), "a b"), nil},
		{"created", item("created", ""), nil},
		{"archived", item("archived", `,"changes":{"archived_at":{"from":null,"to":"2026-03-05T09:00:00Z"}}`), nil},
		{"restored", item("restored", `,"changes":{"archived_at":{"from":"2026-03-05T09:00:00Z","to":null}}`), nil},
		{"reordered", item("reordered", ""), nil},
		{"converted", item("converted", `,"changes":{"content_type":{"from":"DraftIssue","to":"Issue"}}`), []string{seen}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, _ := talk(t, f)
			h, body := hooked("projects_v2_item", test.body)
			notice, err := s.Receive(t.Context(), h, body)
			if err != nil {
				t.Fatal(err)
			}
			valid(t, notice.Changes)
			noPeople(t, test.name, notice)
			if diff := cmp.Diff(test.want, lines(notice.Changes)); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("present status", func(t *testing.T) {
		s, _ := talk(t, f)
		h, body := hooked("projects_v2_item", item("converted", ""))
		notice, err := s.Receive(t.Context(), h, body)
		want := fmt.Sprintf("%s:observed:%s:%d", api, optionID(f, "Doing"), fakeDay(2).UnixMilli())
		if err != nil || len(notice.Changes) != 1 || notice.Changes[0].ID != want || !notice.Changes[0].Approximate {
			t.Errorf("got %+v, %v", notice, err)
		}
	})
	t.Run("deleted", func(t *testing.T) {
		s, _ := talk(t, f)
		h, body := hooked("projects_v2_item", item("deleted", ""))
		before := time.Now().Add(-time.Second)
		notice, err := s.Receive(t.Context(), h, body)
		if err != nil || len(notice.Changes) != 1 {
			t.Fatal(notice, err)
		}
		valid(t, notice.Changes)
		c := notice.Changes[0]
		if c.ID != api+":"+card.node()+":deleted" || !c.Approximate || c.At.Before(before) || c.Fields[0] != (flow.FieldChange{Field: flow.FieldStatus}) {
			t.Errorf("got %+v", c)
		}
	})
	t.Run("GitHub does not answer", func(t *testing.T) {
		s, _ := talk(t, says(502, "text/html", "<html>"))
		h, body := hooked("projects_v2_item", item("edited", field(full)))
		if notice, err := s.Receive(t.Context(), h, body); err == nil || len(notice.Changes) > 0 {
			t.Errorf("got %+v, %v", notice, err)
		}
	})
}

// A move that the webhook has told of is not told again by the timeline, and the
// other way round.
func TestWebhookAndTimelineTellAMoveOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, api, web, _ := boardWorld(FakeOptions{WebhookSecret: testSecret})
		s, _ := talk(t, f)
		f.SetStatus(time.Now(), api, "Todo", true)
		f.SetStatus(time.Now(), web, "Todo", true)
		time.Sleep(time.Hour)
		f.SetStatus(time.Now(), api, "Doing", true)
		history := func(id string) []flow.Change {
			t.Helper()
			changes, err := s.boardHistory(t.Context(), nodesOf(f, id))
			if err != nil {
				t.Fatal(err)
			}
			return changes
		}
		deliveries := f.Deliveries()
		if n := len(history(web)); n != 1 {
			t.Errorf("the timeline tells %d moves first", n)
		}
		if changes := receive(t, s, deliveries); len(changes) != 2 || changes[0].Item != api || changes[1].Item != api {
			t.Errorf("the webhook tells %v", lines(changes))
		}
		if n := len(history(api)); n != 0 {
			t.Errorf("the timeline tells %d moves that are known", n)
		}
		time.Sleep(time.Hour)
		f.SetStatus(time.Now(), api, "Done", true) // its delivery is lost
		if changes := history(api); len(changes) != 1 || changes[0].Fields[0].To.Name != "Done" {
			t.Errorf("the timeline tells %v", lines(changes))
		}
		time.Sleep(25 * time.Hour)
		if n := len(history(api)); n != 3 {
			t.Errorf("what is long ago is told %d times", n)
		}
	})
}

// What a snapshot has shown, the Runner has put into the log, if it knows the issue.
func TestSnapshotAndTimelineTellAMoveOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _, _, _ := boardWorld(FakeOptions{WebhookSecret: testSecret})
		old := f.Create(time.Now(), "acme/api", "Old", CreateOptions{})
		time.Sleep(time.Hour)
		young := f.Create(time.Now(), "acme/api", "Young", CreateOptions{})
		f.Deliveries()
		s, _ := talk(t, f)
		f.SetStatus(time.Now(), old, "Todo", true)
		f.SetStatus(time.Now(), young, "Todo", true)
		if seen := observe(t, s); len(seen) != 2 {
			t.Fatalf("saw %v", seen)
		}
		if changes, err := s.boardHistory(t.Context(), nodesOf(f, old, young)); err != nil || len(changes) != 1 || changes[0].Item != young {
			t.Errorf("the timeline tells %v, %v", lines(changes), err)
		}
		if changes := receive(t, s, f.Deliveries()); len(changes) > 0 {
			t.Errorf("the webhook tells %v", lines(changes))
		}
	})
}

func TestRefetch(t *testing.T) {
	f, api, web, _ := boardWorld(FakeOptions{})
	f.Close(fakeDay(2), api, "completed")
	pull := f.OpenPull(fakeDay(3), "acme/web", []string{web}, nil)
	gone := f.Create(fakeDay(3), "acme/api", "Gone", CreateOptions{})
	goneKey := f.Key(gone)
	f.Delete(fakeDay(4), gone)
	s, _ := talk(t, f)
	items := []string{
		f.Key(api), goneKey, "acme/api#99", "acme/other#1", "acme/api#x", "acme/api", "acme/web!" + f.pull(pull).node(), "acme/web!PR_none", f.Key(pull),
	}
	var changes []flow.Change
	batches := 0
	err := s.Refetch(t.Context(), items, func(b connector.Batch) error {
		batches++
		if b.Cursor != nil {
			t.Error("a batch has a cursor")
		}
		changes = append(changes, b.Changes...)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	valid(t, changes)
	want := []string{"acme/api#1 03-01T09:00:00 STATE >open", "acme/api#1 03-02T09:00:00 STATE open>closed", "acme/web#1 03-03T09:00:00 PULL_REQUEST >opened"}
	if diff := cmp.Diff(want, lines(changes)); diff != "" || batches != 2 {
		t.Errorf("%d batches %s", batches, diff)
	}
	calls := 0
	if err := s.Refetch(t.Context(), items, func(connector.Batch) error { calls++; return errTest }); !errors.Is(err, errTest) || calls != 1 {
		t.Errorf("a failing emit was called %d times and gave %v", calls, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Refetch(ctx, items, func(connector.Batch) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of the context: %v", err)
	}
}

// A webhook and a poll give one fact one id.
func TestPollAndWebhookAgree(t *testing.T) {
	f, api, web, _ := boardWorld(FakeOptions{WebhookSecret: testSecret})
	pull := f.OpenPull(fakeDay(2), "acme/api", []string{api, web}, nil)
	f.RequestReview(fakeDay(3), pull)
	f.Assign(fakeDay(3), web, fakeReader)
	f.MergePull(fakeDay(4), pull)
	s, _ := talk(t, f, func(c *Config) { c.Project = connector.Project{} })
	var polled []flow.Change
	take := func(into *[]flow.Change) func(connector.Batch) error {
		return func(b connector.Batch) error {
			*into = append(*into, b.Changes...)
			return nil
		}
	}
	if err := s.Poll(t.Context(), nil, take(&polled)); err != nil {
		t.Fatal(err)
	}
	byID := map[string]flow.Change{}
	for _, c := range polled {
		byID[c.ID] = c
	}
	var hinted []flow.Change
	for _, d := range f.Deliveries() {
		notice, err := s.Receive(t.Context(), d.Header, d.Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Refetch(t.Context(), notice.Items, take(&hinted)); err != nil {
			t.Fatal(err)
		}
	}
	if len(hinted) == 0 {
		t.Fatal("the webhooks led to nothing")
	}
	for _, c := range hinted {
		if diff := cmp.Diff(byID[c.ID], c); diff != "" {
			t.Errorf("%s: %s", c.ID, diff)
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(byID)), slices.Compact(slices.Sorted(slices.Values(ids(hinted))))); diff != "" {
		t.Error(diff)
	}
}

// A repository that was renamed is known by both names.
func TestRenamedRepository(t *testing.T) {
	f, api, _, _ := boardWorld(FakeOptions{WebhookSecret: testSecret})
	f.RenameRepo("acme/api", "umbrella/core")
	s, _ := talk(t, f, func(c *Config) { c.Repos = []string{"acme/api"} })
	if err := s.Poll(t.Context(), nil, func(connector.Batch) error { return nil }); err != nil {
		t.Fatal(err)
	}
	f.Deliveries()
	pull := f.OpenPull(fakeDay(2), "umbrella/core", []string{api}, nil)
	f.SetStatus(fakeDay(3), api, "Todo", false)
	var hints []string
	var changes []flow.Change
	for _, d := range f.Deliveries() {
		notice, err := s.Receive(t.Context(), d.Header, d.Body)
		if err != nil {
			t.Fatal(err)
		}
		hints, changes = append(hints, notice.Items...), append(changes, notice.Changes...)
	}
	if diff := cmp.Diff([]string{"acme/api!" + f.pull(pull).node()}, hints); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"acme/api#1 03-03T09:00:00 STATUS >Todo"}, lines(changes)); diff != "" {
		t.Error(diff)
	}
	evidence, _, _, err := s.evidence(t.Context(), pullNodes(f, pull))
	if diff := cmp.Diff([]string{"acme/api#1 03-02T09:00:00 PULL_REQUEST >opened"}, lines(evidence)); err != nil || diff != "" {
		t.Error(err, diff)
	}
}

// Deliveries come while the source polls and observes.
func TestDeliveriesDuringPolls(t *testing.T) {
	f, api, web, _ := boardWorld(FakeOptions{WebhookSecret: testSecret})
	f.AddLabel("acme/api", "bug")
	for day := 2; day < 20; day++ {
		f.SetStatus(fakeDay(day), api, []string{"Todo", "Doing", "Done"}[day%3], true)
		f.SetStatus(fakeDay(day), web, []string{"Doing", "Done", "Todo"}[day%3], true)
	}
	f.RenameLabel("acme/api", "bug", "defect")
	pull := f.OpenPull(fakeDay(20), "acme/api", []string{api}, nil)
	f.MergePull(fakeDay(21), pull)
	s, _ := talk(t, f)
	deliveries := f.Deliveries()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for _, d := range deliveries {
				if _, err := s.Receive(t.Context(), d.Header, d.Body); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var cursor connector.Cursor
	for range 4 {
		if err := s.Poll(t.Context(), cursor, func(b connector.Batch) error { cursor = b.Cursor; return nil }); err != nil {
			t.Error(err)
		}
		observe(t, s)
	}
	group.Wait()
}

func FuzzReceive(f *testing.F) {
	fake, api, _, _ := boardWorld(FakeOptions{WebhookSecret: testSecret})
	fake.SetStatus(fakeDay(2), api, "Todo", false)
	fake.Transfer(fakeDay(3), api, "acme/web")
	for _, d := range fake.Deliveries() {
		f.Add(d.Header.Get("X-GitHub-Event"), "application/json", d.Body)
	}
	f.Add("issues", "application/x-www-form-urlencoded", []byte("payload=%7B%7D"))
	f.Add("projects_v2_item", "", []byte(`{"action":"edited","changes":{"field_value":{"from":"","to":[]}}}`))
	s, _ := talk(f, fake)
	f.Fuzz(func(t *testing.T, event, contentType string, body []byte) {
		h, _ := hooked(event, string(body))
		h.Set("Content-Type", contentType)
		notice, err := s.Receive(t.Context(), h, body)
		if err != nil && !errors.Is(err, connector.ErrDelivery) {
			t.Error(err)
		}
		for _, c := range notice.Changes {
			c.Source = "github-main"
			if err := c.Validate(); err != nil && !c.At.IsZero() {
				t.Errorf("%+v: %v", c, err)
			}
		}
		for _, item := range notice.Items {
			if item == "" || len(item) > 400 || strings.ContainsFunc(item, func(r rune) bool { return r < 0x21 || r == 0x7f }) {
				t.Errorf("the hint %q", item)
			}
		}
	})
}
