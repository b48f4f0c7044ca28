package jira

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Delivery returns the headers and the body of what a webhook of the site sends
// about an issue, signed with a secret. The event is one such as
// "jira:issue_updated"; a deletion is asked for before [Fake.Delete]. An update
// comes with the newest entry of the history.
func (f *Fake) Delivery(secret, event, id string, at time.Time) (http.Header, []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.issue(id)
	body := object{
		"timestamp": at.UnixMilli(), "webhookEvent": event, "issue_event_type_name": "issue_generic",
		"user":  object{"accountId": "user-1", "displayName": "user-1"},
		"issue": f.show(i, url.Values{"fields": {"*all"}}),
	}
	if n := len(i.histories); event == "jira:issue_updated" && n > 0 {
		shown := f.showHistories(i.histories[n-1:], false)[0]
		body["changelog"] = object{"id": shown["id"], "items": shown["items"]}
	}
	text, err := json.Marshal(body)
	if err != nil {
		panic(err) // plain data always can be encoded
	}
	return http.Header{
		"Content-Type":  {"application/json; charset=UTF-8"},
		signatureHeader: {"sha256=" + signature(secret, text)},
	}, text
}

// signature returns the HMAC of a body in hexadecimal.
func signature(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
