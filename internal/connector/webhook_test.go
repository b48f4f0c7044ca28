package connector_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func TestSigned(t *testing.T) {
	body := []byte("body")
	sign := func(secret string) string {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		return hex.EncodeToString(mac.Sum(nil))
	}
	for _, test := range []struct {
		secret, header string
		want           bool
	}{
		{"s3cret", "sha256=" + sign("s3cret"), true},
		{"s3cret", "sha256=" + strings.ToUpper(sign("s3cret")), true},
		{"s3cret", "sha256=" + sign("another"), false},
		{"s3cret", "sha256=" + sign("s3cret")[:62], false},
		{"s3cret", "sha256=" + sign("s3cret") + "00", false},
		{"s3cret", sign("s3cret"), false},
		{"s3cret", "sha1=" + sign("s3cret"), false},
		{"s3cret", "sha256=zz", false},
		{"s3cret", "sha256=", false},
		{"s3cret", "", false},
		{"", "sha256=" + sign(""), false},
		{"", "", false},
	} {
		if got := connector.Signed(test.secret, body, test.header); got != test.want {
			t.Errorf("secret %q, header %q: %v", test.secret, test.header, got)
		}
	}
	if connector.Signed("s3cret", []byte("other"), "sha256="+sign("s3cret")) {
		t.Error("another body fits")
	}
}

// post sends a delivery to a source and returns the answer.
func post(h http.Handler, source string, body io.Reader, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodPost, "/webhooks/"+source, body)
	req.SetPathValue("source", source)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

// endless is a body of a length that is not told.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := min(len(p), e.left)
	e.left -= n
	return n, nil
}

// cut is a body that breaks off.
type cut struct{}

func (cut) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestWebhooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		m.onPublish = func(cs []flow.Change) (int, error) {
			if cs[0].Item == "9" {
				return 0, errBroken
			}
			return len(cs), nil
		}
		plain := m.config(sourceFunc(none))
		plain.Name = "plain"
		cfg := m.config(hooked{none, nil})
		cfg.Overlaps = true
		var log bytes.Buffer
		h := connector.NewWebhooks(textLog(&log), connector.NewRunner(cfg), connector.NewRunner(plain))
		const limit = 25 << 20
		for _, test := range []struct {
			name, source string
			body         io.Reader
			event        string
			want         int
		}{
			{"hint", "tracker", strings.NewReader("1 2"), "items", 202},
			{"fact", "tracker", strings.NewReader("1 2"), "deleted", 202},
			{"fact again", "tracker", strings.NewReader("1 2"), "deleted", 202},
			{"other event", "tracker", strings.NewReader("1"), "ping", 204},
			{"unknown source", "nobody", strings.NewReader("1"), "items", 404},
			{"source without webhooks", "plain", strings.NewReader("1"), "items", 404},
			{"unreadable", "tracker", strings.NewReader("1"), "unreadable", 400},
			{"cut off", "tracker", cut{}, "items", 400},
			{"failing source", "tracker", strings.NewReader("1"), "broken", 503},
			{"panic", "tracker", strings.NewReader("1"), "panic", 503},
			{"failing log", "tracker", strings.NewReader("9"), "deleted", 503},
			{"large", "tracker", bytes.NewReader(make([]byte, limit)), "ping", 204},
			{"too large", "tracker", bytes.NewReader(make([]byte, limit+1)), "ping", 413},
			{"too large, as it turns out", "tracker", &endless{limit + 1}, "ping", 413},
		} {
			if rec := post(h, test.source, test.body, "X-Event", test.event); rec.Code != test.want || rec.Code < 300 && rec.Body.Len() > 0 {
				t.Errorf("%s: %d %q, want %d", test.name, rec.Code, rec.Body, test.want)
			}
		}
		rec := post(h, "tracker", strings.NewReader("1"), "X-Event", "items", "X-Secret", "wrong")
		if rec.Code != 401 || !strings.Contains(rec.Body.String(), "signature is missing or wrong, or the source has no webhook secret") {
			t.Errorf("bad signature: %d %q", rec.Code, rec.Body)
		}
		req := httptest.NewRequest(http.MethodPost, "/webhooks/tracker", cut{}) // is not read
		req.SetPathValue("source", "tracker")
		req.ContentLength = limit + 1
		rec = httptest.NewRecorder()
		if h.ServeHTTP(rec, req); rec.Code != 413 {
			t.Errorf("too large, as is told before: %d %q", rec.Code, rec.Body)
		}
		want := map[string]map[string]uint64{"tracker": {
			"taken": 3, "ignored": 2, "invalid": 2, "failed": 3, "too_large": 3, "unauthorized": 1,
		}}
		if diff := cmp.Diff(want, h.Counts()); diff != "" {
			t.Errorf("counts (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"1:deleted", "2:deleted"}, m.ids()); diff != "" {
			t.Errorf("published (-want +got):\n%s", diff)
		}
		if n := strings.Count(log.String(), "webhook delivery was not taken"); n != 3 {
			t.Errorf("%d lines, want one for each that failed:\n%s", n, &log)
		}
	})
}

// waiting is a source whose Receive waits for the end of its context, or of all.
type waiting struct {
	hooked
	open chan struct{}
}

func (w waiting) Receive(ctx context.Context, _ http.Header, _ []byte) (connector.Notice, error) {
	select {
	case <-ctx.Done():
		return connector.Notice{}, errors.New("the tracker does not answer")
	case <-w.open:
		return connector.Notice{}, nil
	}
}

// So many are taken at once; the next waits, and is told to come back before the
// tracker gives up.
func TestWebhooksAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := waiting{hooked{none, nil}, make(chan struct{})}
		h := connector.NewWebhooks(slog.New(slog.DiscardHandler), connector.NewRunner(newMemory().config(source)))
		codes := make(chan int, 100)
		send := func(n int, body func() io.Reader) {
			for range n {
				go func() { codes <- post(h, "tracker", body()).Code }()
			}
		}
		usual := func() io.Reader { return strings.NewReader("{}") }
		large := func() io.Reader { return &endless{10} }
		send(3, large)
		synctest.Wait()
		send(16, usual) // large ones do not keep these out
		time.Sleep(5 * time.Second)
		close(source.open)
		synctest.Wait()
		for range 19 {
			if code := <-codes; code != 204 {
				t.Errorf("answer %d", code)
			}
		}
		source.open = nil
		h = connector.NewWebhooks(slog.New(slog.DiscardHandler), connector.NewRunner(newMemory().config(source)))
		start := time.Now()
		send(17, usual)
		for range 17 {
			if code := <-codes; code != 503 {
				t.Errorf("answer %d", code)
			}
		}
		if took := time.Since(start); took >= 10*time.Second || took < 8*time.Second {
			t.Errorf("answered after %s", took)
		}
		if n := h.Counts()["tracker"]; n["failed"] != 17 || len(n) != 6 {
			t.Errorf("counts %v", n)
		}
	})
}
