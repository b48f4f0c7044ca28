package web

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const bearer = "Bearer " + token

func TestIngestTakesAll(t *testing.T) {
	for name, tc := range map[string]struct {
		body      string
		accepted  int
		published []string
	}{
		"empty":         {"", 0, nil},
		"blank":         {"\n \r\n\t\n", 0, nil},
		"one":           {line("1", "a"), 1, []string{"a: 1"}},
		"no newline":    {strings.TrimSpace(line("1", "a")), 1, []string{"a: 1"}},
		"CRLF and mark": {"\ufeff" + strings.ReplaceAll(line("1", "a")+line("2", "a"), "\n", "\r\n"), 2, []string{"a: 1 2"}},
		"blank between": {line("1", "a") + "\n\n" + line("2", "a"), 2, []string{"a: 1 2"}},
		"sources":       {line("2", "b") + line("1", "a") + line("1", "b") + line("3", "a"), 4, []string{"b: 2 1", "a: 1 3"}},
		"unknown key":   {strings.Replace(line("1", "a"), `{`, `{"new":1,`, 1), 1, []string{"a: 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			w := f.do("POST", "/api/v1/changes", tc.body, "Authorization", bearer, "Content-Type", "text/whatever")
			wantStatus(t, w, http.StatusAccepted)
			wantBody(t, w, fmt.Sprintf(`{"accepted":%d}`+"\n", tc.accepted))
			if diff := cmp.Diff(tc.published, f.log.published); diff != "" {
				t.Errorf("published (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIngestRefusesAll(t *testing.T) {
	ahead := strings.Replace(line("1", "a"), "1999-06-01", "2199-06-01", 1)
	for name, tc := range map[string]struct {
		bad    string
		reason flow.Reason
		text   string
	}{
		"malformed": {"{]", flow.ReasonMalformed, "not a change"},
		"no id":     {line("", "a"), flow.ReasonMissing, "id: is required"},
		"kind":      {strings.Replace(line("1", "a"), "CREATED", "BORN", 1), flow.ReasonUnknownKind, "kind: want CREATED"},
		"year":      {strings.Replace(line("1", "a"), "1999", "1969", 1), flow.ReasonTime, "at: 1969"},
		"future":    {ahead, flow.ReasonFuture, "after it was received"},
		"long":      {strings.Repeat(" ", MaxLine) + line("1", "a"), flow.ReasonTooLarge, "more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			body := line("0", "a") + "\n" + tc.bad + "\n" + line("2", "a")
			w := f.do("POST", "/api/v1/changes", body, "Authorization", bearer)
			wantStatus(t, w, http.StatusBadRequest)
			var got failure
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			if got.Line != 3 || got.Reason != string(tc.reason) || !strings.HasPrefix(got.Error, "line 3: ") || !strings.Contains(got.Error, tc.text) {
				t.Errorf("got %+v", got)
			}
			if len(f.log.published) > 0 {
				t.Errorf("published %q", f.log.published)
			}
		})
	}
}

func TestIngestNeedsItsToken(t *testing.T) {
	for name, tc := range map[string]struct {
		token     func() (string, error)
		header    []string
		status    int
		challenge string
		text      string
	}{
		"not configured": {nil, []string{"Authorization", bearer}, 403, "", "refused: set web.ingest_token_env"},
		"unreadable": {func() (string, error) { return "", errors.New("no such file") },
			[]string{"Authorization", bearer}, 503, "", "cannot be read"},
		"empty":       {func() (string, error) { return "", nil }, nil, 503, "", "cannot be read"},
		"empty twice": {func() (string, error) { return "", nil }, []string{"Authorization", "Bearer "}, 503, "", "cannot be read"},
		"missing":     {fixed, nil, 401, `Bearer realm="flowmetrics"`, "is missing"},
		"basic":       {fixed, []string{"Authorization", "Basic " + token}, 401, `Bearer realm="flowmetrics"`, "is missing"},
		"wrong":       {fixed, []string{"Authorization", bearer + "x"}, 401, `Bearer realm="flowmetrics", error="invalid_token"`, "is wrong"},
		"prefix":      {fixed, []string{"Authorization", bearer[:len(bearer)-1]}, 401, `Bearer realm="flowmetrics", error="invalid_token"`, "is wrong"},
		"right":       {fixed, []string{"Authorization", bearer}, 202, "", "accepted"},
		"lower case":  {fixed, []string{"Authorization", "bearer " + token}, 202, "", "accepted"},
		"own header":  {fixed, []string{"Authorization", "Basic eDp5", TokenHeader, token}, 202, "", "accepted"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, func(o *Options) { o.IngestToken = tc.token })
			w := f.do("POST", "/api/v1/changes", line("1", "a"), tc.header...)
			wantStatus(t, w, tc.status)
			if got := w.Header().Get("WWW-Authenticate"); got != tc.challenge {
				t.Errorf("challenge %q, want %q", got, tc.challenge)
			}
			if !json.Valid(w.Body.Bytes()) || !strings.Contains(w.Body.String(), tc.text) {
				t.Errorf("body %q has no %q", w.Body, tc.text)
			}
			if taken := len(f.log.published) > 0; taken != (tc.status == 202) {
				t.Errorf("published %q", f.log.published)
			}
			if strings.Contains(f.logged.String()+w.Body.String(), token) {
				t.Error("the token is in the log or the answer")
			}
		})
	}
}

func fixed() (string, error) { return token, nil }

func TestIngestAnswersOnlyOnceDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		durable := make(chan struct{})
		f.log.before = func() { <-durable }
		answered := make(chan *httptest.ResponseRecorder, 1)
		go func() { answered <- f.do("POST", "/api/v1/changes", line("1", "a"), "Authorization", bearer) }()
		synctest.Wait()
		if len(answered) > 0 {
			t.Error("answered before the change was durable")
		}
		close(durable)
		wantStatus(t, <-answered, http.StatusAccepted)
	})
}

func TestIngestPublishFails(t *testing.T) {
	f := newFixture(t)
	f.log.publishErr = errors.New("no space left")
	w := f.do("POST", "/api/v1/changes", line("1", "a"), "Authorization", bearer)
	wantStatus(t, w, http.StatusServiceUnavailable)
	if !strings.Contains(f.logged.String(), "publish 1 changes of source a: no space left") {
		t.Errorf("log: %s", f.logged)
	}
	if w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "no space") {
		t.Errorf("headers %v, body %s", w.Header(), w.Body)
	}
}

func TestIngestWaitsItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		for range maxTaking {
			f.taking <- struct{}{}
		}
		start := time.Now()
		wantStatus(t, f.do("POST", "/api/v1/changes", line("1", "a"), "Authorization", bearer), http.StatusServiceUnavailable)
		if waited := time.Since(start); waited != takingTimeout {
			t.Errorf("waited %s, want %s", waited, takingTimeout)
		}
		time.AfterFunc(time.Second, func() { <-f.taking })
		for range 2 { // the first leaves its place to the second
			wantStatus(t, f.do("POST", "/api/v1/changes", line("1", "a"), "Authorization", bearer), http.StatusAccepted)
		}
	})
}

// unsized hides the length of a body, so that it is sent in chunks.
type unsized struct{ io.Reader }

func TestIngestTooLarge(t *testing.T) {
	f := newFixture(t)
	server := httptest.NewServer(f.Handler())
	defer server.Close()
	one := strings.Repeat(" ", MaxLine/2) + line("1", "a")
	fits := []byte(strings.Repeat(one, MaxBody/len(one)))
	over := append(bytes.Clone(fits), one...)
	for name, tc := range map[string]struct {
		body   io.Reader
		status int
	}{
		"sized over":   {bytes.NewReader(over), http.StatusRequestEntityTooLarge},
		"sized bad":    {strings.NewReader("{]\n" + string(over)), http.StatusRequestEntityTooLarge},
		"chunked over": {unsized{bytes.NewReader(over)}, http.StatusRequestEntityTooLarge},
		"chunked fits": {unsized{bytes.NewReader(fits)}, http.StatusAccepted},
	} {
		t.Run(name, func(t *testing.T) {
			f.log.published = nil
			r, err := http.NewRequest("POST", server.URL+"/api/v1/changes", tc.body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", bearer)
			res, err := server.Client().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != tc.status || !json.Valid(body) {
				t.Errorf("status %d, body %s, error %v", res.StatusCode, body, err)
			}
			if taken := len(f.log.published) > 0; taken != (tc.status == http.StatusAccepted) {
				t.Error("published although refused, or the other way round")
			}
		})
	}
}

// TestIngestTooLargeIsHeard sends a body as a simple client does: all of it,
// then it listens.
func TestIngestTooLargeIsHeard(t *testing.T) {
	server := httptest.NewServer(newFixture(t).Handler())
	defer server.Close()
	body := []byte(strings.Repeat(strings.Repeat(" ", MaxLine/2)+"\n", 2*MaxBody/(MaxLine/2)))
	for name, prepare := range map[string]func(*http.Request){
		"sized":   func(r *http.Request) { r.ContentLength = int64(len(body)) },
		"chunked": func(r *http.Request) { r.ContentLength = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequest("POST", server.URL+"/api/v1/changes", io.NopCloser(bytes.NewReader(body)))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", bearer)
			prepare(r)
			c, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := r.Write(c); err != nil {
				t.Fatalf("the connection broke while sending: %v", err)
			}
			res, err := http.ReadResponse(bufio.NewReader(c), r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("status %d", res.StatusCode)
			}
		})
	}
}

// torn is a body whose connection breaks.
type torn struct{ rest io.Reader }

func (b *torn) Read(p []byte) (int, error) {
	n, err := b.rest.Read(p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func TestIngestTornBody(t *testing.T) {
	for _, body := range []string{line("1", "a"), line("1", "a") + line("2", "a")[:20]} {
		if c, err := decodeChanges(&torn{strings.NewReader(body)}, time.Now()); !errors.Is(err, io.ErrUnexpectedEOF) || c != nil {
			t.Errorf("%q: took %d changes, error %v", body, len(c), err)
		}
	}
}

func FuzzDecodeChanges(f *testing.F) {
	f.Add([]byte(line("1", "a") + "\n" + line("2", "b")))
	f.Add([]byte("\ufeff{}\r\n"))
	f.Add([]byte(`{"id":"1","source":"s","item":"i","at":"2026-06-01T00:00:00.1+02:00","kind":"UPDATED","fields":[{"field":"LABEL","to":{"name":"x"}}]}`))
	f.Add([]byte("null\n[]\n\"\"\n\xff\xfe"))
	received := time.Date(2026, 6, 29, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body []byte) {
		lines := bytes.Count(body, []byte("\n")) + 1
		changes, err := decodeChanges(bytes.NewReader(body), received)
		if err != nil {
			var bad *lineError
			if !errors.As(err, &bad) || bad.line < 1 || bad.line > lines || bad.reason == "" || changes != nil {
				t.Fatalf("error %#v with %d changes of %d lines", err, len(changes), lines)
			}
			return
		}
		if len(changes) > lines {
			t.Fatalf("%d changes of %d lines", len(changes), lines)
		}
		var again bytes.Buffer
		for i := range changes {
			if err := changes[i].ValidateAt(received); err != nil {
				t.Fatalf("took an invalid change: %v", err)
			}
			if err := json.NewEncoder(&again).Encode(&changes[i]); err != nil {
				t.Fatal(err)
			}
		}
		same, err := decodeChanges(&again, received)
		if err != nil {
			t.Fatalf("what was taken is not taken again: %v", err)
		}
		if diff := cmp.Diff(changes, same, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("taken again (-first +second):\n%s", diff)
		}
	})
}
