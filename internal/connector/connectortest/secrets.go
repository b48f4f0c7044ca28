package connectortest

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// secrets lets the tracker repeat what it was sent, in every way it can, and
// looks for the credentials in what the source says.
func (k *kit) secrets() {
	k.pages()
	var mu sync.Mutex
	var sent []string // parts of headers that carry the token
	s := k.source(k.few())
	k.wire.before = func(_ int, r *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, k.carrying(r)...)
		return nil, nil
	}
	all := k.ok(k.poll(s, nil))
	requests := k.wire.count()
	if len(sent) == 0 {
		k.Fatal("no request carries Harness.Token: Tracker.New must make the source sign in with it")
	}
	forbidden := append([]string{k.h.Token}, k.h.Private...)
	forbidden = append(forbidden, sent...)
	look := func(where, text string) {
		for _, secret := range forbidden {
			if secret != "" && strings.Contains(text, secret) {
				k.fail("%s holds %q, which must never be told: %s", where, secret, text)
			}
		}
	}
	for _, cursor := range all.cursors {
		look("a cursor", string(cursor))
	}
	repeats := map[string]func(*http.Request) (*http.Response, error){
		"a text": func(r *http.Request) (*http.Response, error) {
			return answer(r, http.StatusInternalServerError, http.Header{"Content-Type": {"text/plain"}}, echo(r)), nil
		},
		"half an answer": func(r *http.Request) (*http.Response, error) {
			text := echo(r)
			return answer(r, http.StatusOK, nil, text[:len(text)-1]), nil
		},
		"a failed connection": func(r *http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("dial %s: connection refused", r.URL)
		},
	}
	for _, status := range []int{400, 401, 403, 404, 429, 500} {
		repeats[strconv.Itoa(status)] = func(r *http.Request) (*http.Response, error) { return answer(r, status, nil, echo(r)), nil }
	}
	for name, repeat := range repeats {
		for n := 1; n <= min(requests, 4); n++ {
			var log bytes.Buffer
			o := k.few()
			o.Logger = slog.New(slog.NewTextHandler(&lockedWriter{w: &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
			s := k.source(o)
			k.wire.before = func(request int, r *http.Request) (*http.Response, error) {
				if request < n {
					return nil, nil
				}
				return repeat(r)
			}
			if r := k.poll(s, nil); r.err != nil {
				look("the error of a poll ("+name+")", r.err.Error())
			}
			if c, ok := s.(connector.Checker); ok {
				if err := c.Check(k.Context()); err != nil {
					look("the error of Check ("+name+")", err.Error())
				}
			}
			if c, ok := s.(connector.Censor); ok {
				if err := c.Census(k.Context(), func(connector.Item) {}); err != nil {
					look("the error of Census ("+name+")", err.Error())
				}
			}
			look("the log ("+name+")", log.String())
		}
	}
}

// carrying returns the parts of a request that hold the token.
func (k *kit) carrying(r *http.Request) (parts []string) {
	for _, values := range r.Header {
		for _, v := range values {
			for part := range strings.FieldsSeq(v) {
				plain, _ := base64.StdEncoding.DecodeString(part)
				if strings.Contains(part, k.h.Token) || bytes.Contains(plain, []byte(k.h.Token)) {
					parts = append(parts, part)
				}
			}
		}
	}
	if strings.Contains(r.URL.String(), k.h.Token) {
		parts = append(parts, k.h.Token)
	}
	return parts
}

// echo repeats a request in the words of several trackers.
func echo(r *http.Request) string {
	text := fmt.Sprintf("not accepted: %s %s %v", r.Method, r.URL, r.Header)
	body, err := json.Marshal(map[string]any{"message": text, "errorMessages": []string{text}, "errors": []string{text}})
	if err != nil {
		panic(err) // texts always encode
	}
	return string(body)
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// foreignHost lets the answers lead to another host.
func (k *kit) foreignHost() {
	const foreign = "foreign.example.org"
	k.pages()
	requests := k.wire.count()
	var mu sync.Mutex
	var strayed []string
	watch := func(r *http.Request) *http.Response {
		if r.URL.Host != foreign {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		text := r.Method + " " + r.URL.String()
		if k.h.Token != "" && len(k.carrying(r)) > 0 {
			text += " with the credentials"
		}
		strayed = append(strayed, text)
		return answer(r, http.StatusOK, nil, "[]")
	}
	home := func(r *http.Request) string { return r.URL.Scheme + "://" + r.URL.Host }
	const redirect, links = "a redirect", "links in the answers"
	for _, way := range []string{redirect, links} {
		for n := 1; n <= min(requests, 6); n++ {
			s := k.source(k.few())
			k.wire.before = func(request int, r *http.Request) (*http.Response, error) {
				if resp := watch(r); resp != nil {
					return resp, nil
				}
				if way == redirect && request >= n {
					to := "https://" + foreign + r.URL.RequestURI()
					return answer(r, http.StatusTemporaryRedirect, http.Header{"Location": {to}}, ""), nil
				}
				return nil, nil
			}
			k.wire.after = func(request int, r *http.Request, resp *http.Response) error {
				if way == redirect || request < n {
					return nil
				}
				for key, values := range resp.Header {
					for i := range values {
						resp.Header[key][i] = strings.ReplaceAll(values[i], home(r), "https://"+foreign)
					}
				}
				return rewrite(resp, func(body []byte) io.Reader {
					return bytes.NewReader(bytes.ReplaceAll(body, []byte(home(r)), []byte("https://"+foreign)))
				})
			}
			r := k.poll(s, nil)
			if len(strayed) > 0 {
				k.fail("%s to another host after request %d: want no request to go there, got %s", way, n, strayed[0])
			}
			if problems := k.compare(r.changes); r.err == nil && len(problems) > 0 {
				k.fail("%s to another host after request %d: want an error, got a success with %d facts", way, n, len(r.changes))
			}
		}
	}
}
