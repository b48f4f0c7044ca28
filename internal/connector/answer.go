package connector

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	maxWords = 300 // bytes of the tracker's own words in an error
	maxWait  = 30 * 24 * time.Hour
)

// A StatusError is an answer other than success.
type StatusError struct {
	Status  int
	Message string // the tracker's own words, shortened and without the secret
}

func (e *StatusError) Error() string {
	text := strconv.Itoa(e.Status) + " " + http.StatusText(e.Status)
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// StatusOf returns the status of the answer that an error is about, or 0.
func StatusOf(err error) int {
	if e, ok := errors.AsType[*StatusError](err); ok {
		return e.Status
	}
	return 0
}

var errWebPage = errors.New("answered with a web page instead of JSON: a login page or a proxy is in the way, or the URL is not the one of the tracker")

// judge turns an answer that cannot be used into the error that it means.
func (c *Client) judge(resp *http.Response, text []byte, secrets []string) error {
	page := strings.Contains(resp.Header.Get("Content-Type"), "html") || bytes.HasPrefix(bytes.TrimSpace(text), []byte("<"))
	if status := resp.StatusCode; status < 200 || status > 299 {
		failure := &StatusError{Status: status}
		if c.config.Words != nil && !page && aboutRequest(status) {
			failure.Message = redact(c.config.Words(text), secrets)
		}
		after := resp.Header.Get("Retry-After")
		switch {
		case status == http.StatusTooManyRequests, after != "" && (status == http.StatusForbidden || status > 499),
			status == http.StatusForbidden && resp.Header.Get("X-RateLimit-Remaining") == "0":
			return &RateLimitError{Until: RetryAfter(after, time.Now()), Err: failure}
		case status == http.StatusUnauthorized, status == http.StatusForbidden:
			return &AuthError{Err: failure}
		case status == http.StatusNotFound:
			return &ConfigError{Err: failure}
		}
		return failure
	}
	if page {
		return errWebPage
	}
	if int64(len(text)) > c.limit {
		return fmt.Errorf("answer is over %d bytes", c.limit)
	}
	return nil
}

// aboutRequest reports whether the words of an answer are about what was asked
// for, such as a project that does not exist. Where the tracker refuses the
// credentials, limits or breaks, its words tell little that the status does not,
// but for who it was.
func aboutRequest(status int) bool {
	return status < 500 && status != http.StatusUnauthorized && status != http.StatusForbidden && status != http.StatusTooManyRequests
}

// RetryAfter reads the value of such a header, seconds or a date, as the instant
// from which on the tracker wants requests; zero: it does not say.
func RetryAfter(text string, now time.Time) time.Time {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds >= 0 {
		// A tracker that says 0 sets the pace itself: it gets the shortest pause, and
		// not the growing ones of one whose clock is wrong.
		return now.Add(time.Duration(min(max(seconds, 1), maxWait.Seconds()) * float64(time.Second)))
	}
	at, _ := http.ParseTime(text) // zero, or a date
	return at
}

// redact makes the tracker's words fit for an error: short, on one line, and
// without the secret, should the tracker repeat it.
func redact(text string, secrets []string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[redacted]")
		}
	}
	return CleanText(text, maxWords)
}
