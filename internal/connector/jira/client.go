package jira

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// client makes single requests to one site.
type client struct {
	*connector.Client
	anonymous bool
}

func newClient(c Config) (*client, error) {
	config := connector.ClientConfig{URL: c.URL, Token: c.Token, Transport: c.Transport, Judge: judge}
	if c.Email != "" {
		config.Sign = func(h http.Header, token string) {
			h.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(c.Email+":"+token)))
		}
	}
	config.Words = func(body []byte) string {
		words := wordsOf(body)
		if c.Email != "" {
			words = strings.ReplaceAll(words, c.Email, "[redacted]")
		}
		return words
	}
	cl, err := connector.NewClient(config)
	return &client{cl, c.Token == nil}, err
}

// missing reports whether the site does not have what was asked for.
func missing(err error) bool {
	switch connector.StatusOf(err) {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusGone, http.StatusNotImplemented:
		return true
	}
	return false
}

// unavailable is missing, or closed to this user; not closed for a while.
func unavailable(err error) bool {
	_, limited := errors.AsType[*connector.RateLimitError](err)
	return missing(err) || connector.StatusOf(err) == http.StatusForbidden && !limited
}

// forgotten reports whether an error may mean that the site does not know a
// page token any more.
func forgotten(err error) bool {
	return missing(err) || connector.StatusOf(err) == http.StatusBadRequest
}

// judge tells what an answer means to Jira where that is not what it means
// elsewhere.
func judge(resp *http.Response, err error) error {
	limit, limited := errors.AsType[*connector.RateLimitError](err)
	refused, isRefused := errors.AsType[*connector.AuthError](err)
	absent, isAbsent := errors.AsType[*connector.ConfigError](err)
	login := resp.Header.Get("X-Seraph-LoginReason")
	switch {
	case limited && limit.Until.IsZero():
		limit.Until = resetAt(resp.Header, time.Now())
	case isRefused && resp.StatusCode == http.StatusForbidden && resp.Header.Get("RateLimit-Reason") != "":
		return &connector.RateLimitError{Until: resetAt(resp.Header, time.Now()), Err: refused.Err}
	case !limited && !isRefused && (strings.Contains(login, "AUTHENTICATED_FAILED") || strings.Contains(login, "AUTHENTICATION_DENIED")):
		// Jira goes on as nobody and shows what is public: maybe nothing.
		return &connector.AuthError{Err: errors.New("the login failed, and the answer is the one for anonymous users")}
	case isAbsent: // an interface that this kind of site does not have, or an issue that has gone
		return absent.Err
	}
	return err
}

// resetAt reads when the site wants the next request where it has no
// Retry-After; zero: it did not say.
func resetAt(h http.Header, now time.Time) time.Time {
	// A moment: ISO 8601 on Cloud, elsewhere seconds of the epoch.
	if reset := parseTime(h.Get("X-RateLimit-Reset")); !reset.IsZero() {
		return reset
	}
	return connector.RetryAfter(h.Get("X-RateLimit-Interval-Seconds"), now)
}

// wordsOf returns the site's own words in an answer, if any.
func wordsOf(text []byte) string {
	var answer struct {
		Messages []string          `json:"errorMessages"`
		Errors   map[string]string `json:"errors"`
		Message  string            `json:"message"`
	}
	// A body of another shape has no message; nothing depends on it.
	_ = json.Unmarshal(text, &answer)
	parts := answer.Messages
	for _, field := range sortedKeys(answer.Errors) {
		parts = append(parts, field+": "+answer.Errors[field])
	}
	return cmp.Or(strings.Join(parts, " "), answer.Message)
}
