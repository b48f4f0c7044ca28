package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// answers is a server that gives one answer after the other, and the last one
// again and again. It keeps what it was asked and when.
type answers struct {
	list  []any // a status, an *http.Response or an error
	asked []*http.Request
	at    []time.Duration
	began time.Time
}

// RoundTrip implements [http.RoundTripper].
func (a *answers) RoundTrip(r *http.Request) (*http.Response, error) {
	a.at = append(a.at, time.Since(a.began))
	a.asked = append(a.asked, r)
	answer := a.list[min(len(a.asked), len(a.list))-1]
	if err, ok := answer.(error); ok {
		return nil, err
	}
	response, ok := answer.(*http.Response)
	if !ok {
		response = &http.Response{StatusCode: answer.(int)}
	}
	response.Status = http.StatusText(response.StatusCode)
	if response.Body == nil {
		response.Body = http.NoBody
	}
	return response, nil
}

func says(status int, text string, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(text))}
}

// TestRemoteWrite sees how long a request is tried, and what is said of it.
func TestRemoteWrite(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		name    string
		answers []any
		at      []time.Duration // of the tries
		err     string          // "" where it is taken
	}{
		{"taken", []any{204}, []time.Duration{0}, ""},
		{"busy and away for a while", []any{503, errors.New("connection refused"), says(500, "no\nwhole page"), 200}, []time.Duration{0, s, 3 * s, 7 * s}, ""},
		{"asks for time", []any{says(429, "", "Retry-After", "20"), says(429, "", "Retry-After", "1"), 204}, []time.Duration{0, 20 * s, 22 * s}, ""},
		{"asks for too much time", []any{says(503, "", "Retry-After", "86400"), 204}, []time.Duration{0, 300 * s}, ""},
		{"asks until an instant", []any{says(503, "", "Retry-After", "Sat, 01 Jan 2000 00:00:40 GMT"), 204}, []time.Duration{0, 40 * s}, ""},
		{"busy for ever", []any{503}, []time.Duration{0, s, 3 * s, 7 * s, 15 * s, 31 * s, 61 * s, 91 * s}, "remote write: receiver answers Service Unavailable: "},
		{
			"old samples", []any{says(400, "out of bounds\nsecond line")}, []time.Duration{0},
			"remote write: receiver answers Bad Request: out of bounds\nPrometheus takes samples of the past only while its configuration says so:\n" +
				"  storage:\n    tsdb:\n      out_of_order_time_window: 367d\nSet that, let it reload, and run the same command again.",
		},
		{
			"no receiver", []any{404}, []time.Duration{0},
			"remote write: receiver answers Not Found: \nPrometheus receives with the flag --web.enable-remote-write-receiver, at the path /api/v1/write.",
		},
		{
			"no credentials", []any{says(401, "Unauthorized")}, []time.Duration{0},
			"remote write: receiver answers Unauthorized: Unauthorized\nIt wants other credentials: --username with FLOWMETRICS_REMOTE_WRITE_PASSWORD or --password-file, " +
				"or a token in FLOWMETRICS_REMOTE_WRITE_TOKEN or --token-file.",
		},
		{"elsewhere", []any{says(302, "", "Location", "http://other")}, []time.Duration{0}, "remote write: receiver answers Found: "},
		{"not understood", []any{says(400, "snappy: \xff corrupt")}, []time.Duration{0}, "remote write: receiver answers Bad Request: snappy: ? corrupt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := &answers{list: c.answers, began: time.Now()}
				w, said := writerTo(server)
				err := w.send(t.Context(), []byte("body"))
				if text := errorText(err); text != c.err {
					t.Errorf("error %q, want %q", text, c.err)
				}
				if len(server.at) != len(c.at) {
					t.Fatalf("tried at %v, want %v: %s", server.at, c.at, said)
				}
				for i := range c.at {
					if server.at[i] != c.at[i] {
						t.Errorf("tried at %v, want %v", server.at, c.at)
					}
				}
				if n := strings.Count(said.String(), "; trying again in "); n != len(c.at)-1 {
					t.Errorf("said %q, want a line for each try but the last", said)
				}
			})
		})
	}
}

// TestRemoteWriteRequest sees what a request says, and that a secret is in the
// request alone.
func TestRemoteWriteRequest(t *testing.T) {
	server := &answers{list: []any{says(403, "no")}}
	w, said := writerTo(server)
	w.username, w.secret = "someone", "fakepassword"
	err := w.send(t.Context(), []byte("body"))
	r := server.asked[0]
	body, _ := io.ReadAll(r.Body)
	if user, password, ok := r.BasicAuth(); !ok || user != "someone" || password != "fakepassword" || string(body) != "body" || r.Method != http.MethodPost {
		t.Errorf("sent %s %v: %q", r.Method, r.Header, body)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "0.1.0",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if strings.Contains(err.Error()+said.String(), "fakepassword") {
		t.Errorf("the secret is in %v, %s", err, said)
	}
	w.username = ""
	_ = w.send(t.Context(), nil)
	if got := server.asked[1].Header.Get("Authorization"); got != "Bearer fakepassword" {
		t.Errorf("Authorization: %s", got)
	}
}

// TestRemoteWriteStops sees that nobody waits for a server after Ctrl-C.
func TestRemoteWriteStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		w, _ := writerTo(&answers{list: []any{503}})
		time.AfterFunc(10*time.Second, cancel)
		began := time.Now()
		if err := w.send(ctx, nil); !errors.Is(err, context.Canceled) || time.Since(began) != 10*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func writerTo(server http.RoundTripper) (w *remoteWriter, said *bytes.Buffer) {
	said = &bytes.Buffer{}
	return &remoteWriter{
		client:  &http.Client{Transport: server, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		address: &url.URL{Scheme: "http", Host: "receiver", Path: "/api/v1/write"},
		from:    time.Now().AddDate(-1, 0, 0), out: &historyProgress{out: said},
	}, said
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
