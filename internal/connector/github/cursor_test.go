package github

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

func TestGarbageCursors(t *testing.T) {
	b := newBench(t, FakeOptions{})
	b.world("acme/api", 5)
	s, r := b.source(), newRecord()
	b.poll(s, r)
	good := string(r.cursor)
	future := time.Now().Add(48 * time.Hour).Unix()
	position := func(text string) string {
		return fmt.Sprintf(`{"v":1,"scope":%q,"repos":{%q:%s}}`, s.scope(), repoID("acme/api"), text)
	}
	for name, text := range map[string]string{
		"not JSON":       "x",
		"text":           `"v"`,
		"list":           `[]`,
		"nothing":        `{}`,
		"older":          strings.Replace(good, `"v":1`, `"v":0`, 1),
		"newer":          strings.Replace(good, `"v":1`, `"v":2`, 1),
		"unknown field":  strings.Replace(good, `"v":1`, `"v":1,"x":1`, 1),
		"cut":            good[:len(good)-3],
		"two":            good + good,
		"future":         position(fmt.Sprintf(`{"s":%d}`, future)),
		"future, within": position(fmt.Sprintf(`{"a":%d}`, future)),
		"negative":       position(`{"s":-1}`),
		"no position":    position(`null`),
		"half a sum":     position(`{"h":"AAA="}`),
		"foreign link":   position(`{"s":1,"n":"https://evil.test/issues"}`),
		"strange link":   position(`{"s":1,"n":"http://[::1/"}`),
		"negative done":  position(`{"d":-5}`),
		"label":          position(`{"l":{"x":"y"}}`),
		"too long":       position(`{"n":"` + strings.Repeat("x", connector.MaxCursor) + `"}`),
	} {
		asked := 0
		b.direct.requests()
		err := s.Poll(t.Context(), connector.Cursor(text), func(connector.Batch) error { asked++; return nil })
		if asked += b.direct.requests(); !errors.Is(err, connector.ErrCursor) || asked != 0 {
			t.Errorf("%s: got %v after %d batches and requests, want a refusal at once", name, err, asked)
		}
	}
	// And goes on from the good one.
	told := r.told
	b.poll(s, r)
	b.poll(b.source(), r)
	if r.told != told {
		t.Errorf("%d changes were told again", r.told-told)
	}
}

// TestOtherScope: the cursor of another site or project is of no use, and no
// mistake either.
func TestOtherScope(t *testing.T) {
	b := newBench(t, FakeOptions{})
	b.world("acme/api", 5)
	r := newRecord()
	b.poll(b.source(), r)
	b.config.URL = "http://other.test"
	again := newRecord()
	again.cursor = r.cursor
	b.poll(b.source(), again)
	b.want(again)
}

// TestCursorIsBounded: whatever a cursor would have to hold.
func TestCursorIsBounded(t *testing.T) {
	seen := make(memory)
	for k := range int64(3000) {
		seen[sumOf(k, k)] = 1_700_000_000 + k
	}
	rapid.Check(t, func(t *rapid.T) {
		c := cursor{Version: cursorVersion, Scope: "12345678", Repos: map[string]*position{}}
		repos := rapid.IntRange(1, maxRepos).Draw(t, "repos")
		names := make(map[int64]string)
		name := strings.Repeat(rapid.SampledFrom([]string{"x", "<", "\u2028", "\u00e4"}).Draw(t, "letter"), rapid.IntRange(1, 50).Draw(t, "length"))
		for k := range int64(rapid.IntRange(0, 600).Draw(t, "names")) {
			names[4_000_000_000+k] = name
		}
		next := strings.Repeat("&", rapid.IntRange(0, maxLink).Draw(t, "link"))
		sums := seen.encode(max(maxSeen/repos, 4))
		for k := range repos {
			p := &position{
				Since: 1_700_000_000, At: 1_700_000_001, Unsure: 1_700_000_000, Filled: true, First: 1_700_000_000, Done: 99999, Total: 99999,
				Seen: sums, Next: next,
			}
			p.Labels = fitting(names, maxNames-c.namesBut(p))
			c.Repos[repoID(fmt.Sprint(k))] = p
		}
		if n := len(c.encode()); n > connector.MaxCursor {
			t.Fatalf("cursor of %d bytes", n)
		}
	})
}

func TestUncrowded(t *testing.T) {
	m := make(memory)
	for k := range int64(10) {
		m[sumOf(k, 0)] = 100 + k
	}
	for k := range int64(10) {
		m[sumOf(k, 1)] = 200
	}
	for _, tt := range []struct {
		since, newest int64
		most          int
		want          int64
	}{
		{100, 200, 20, 100}, {100, 200, 19, 101}, {100, 200, 10, 110}, {100, 200, 9, 201}, {150, 200, 10, 150}, {0, 200, 15, 105},
	} {
		if got := m.uncrowded(tt.since, tt.newest, tt.most); got != tt.want {
			t.Errorf("uncrowded(%d, %d, %d) = %d, want %d", tt.since, tt.newest, tt.most, got, tt.want)
		}
	}
}

func FuzzCursor(f *testing.F) {
	s := site(f, serveTexts(nil))
	f.Add([]byte(`{"v":1,"scope":"x","repos":{"a":{"s":1,"h":"AAAAAAA="}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if c, err := s.start(text); err == nil {
			if again, err := s.start(c.encode()); err != nil || string(again.encode()) != string(c.encode()) {
				t.Errorf("%s is not read as it was written: %v", c.encode(), err)
			}
		} else if !errors.Is(err, connector.ErrCursor) {
			t.Errorf("got %v", err)
		}
	})
}
