package web

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func TestPageGolden(t *testing.T) {
	w := newFixture(t).do("GET", "/", "")
	wantStatus(t, w, 200)
	wantGolden(t, "page.html", w.Body.Bytes())
	if style := "<style>" + pageCSS + "</style>"; !strings.Contains(w.Body.String(), style) {
		t.Error("the style is not, byte for byte, the one whose hash the policy allows")
	}
}

func TestPastPageGolden(t *testing.T) {
	f := newFixture(t)
	f.numbers.at = func(_ context.Context, at time.Time, items bool) (*flow.Snapshot, error) {
		if want := time.Date(2026, 6, 9, 22, 0, 0, 0, time.UTC); !at.Equal(want) || items {
			t.Errorf("asked as of %s, items %v", at, items)
		}
		s := sample()
		s.At = at
		s.ValueStreams = s.ValueStreams[1:]
		s.Quality = flow.Quality{}
		return s, nil
	}
	w := f.do("GET", "/?at=2026-06-10T00:00:00+02:00&items=true", "")
	wantStatus(t, w, 200)
	wantGolden(t, "past.html", w.Body.Bytes())
}

func TestReplayingPageGolden(t *testing.T) {
	f := newFixture(t, func(o *Options) {
		o.Health = health{"replaying the log: 40 % of 5000 messages", "source <jira> not polled"}
	})
	f.numbers.latest.Store(nil)
	w := f.do("GET", "/", "")
	wantStatus(t, w, 200)
	wantGolden(t, "replaying.html", w.Body.Bytes())
}

func TestPageIsSelfContainedAndEscaped(t *testing.T) {
	body := newFixture(t).do("GET", "/", "").Body.String()
	for _, pattern := range []string{`<script`, `https?://`, `src=`, `@import`, `url\(`, `<b>Odd`, `\son[a-z]+=`} {
		if found := regexp.MustCompile(pattern).FindString(body); found != "" {
			t.Errorf("page has %q", found)
		}
	}
}

func TestPageWithoutValueStreams(t *testing.T) {
	f := newFixture(t)
	f.numbers.latest.Store(&flow.Snapshot{At: time.Unix(0, 0)})
	w := f.do("GET", "/", "")
	wantStatus(t, w, 200)
	if !strings.Contains(w.Body.String(), "No value stream is configured.") {
		t.Errorf("page does not say why it is empty: %s", w.Body)
	}
}

func TestPageWithoutAnAnswer(t *testing.T) {
	f := newFixture(t)
	f.numbers.at = func(context.Context, time.Time, bool) (*flow.Snapshot, error) { return nil, errors.New("disk on fire") }
	w := f.do("GET", "/?at=2026-06-10T00:00:00Z", "")
	wantStatus(t, w, 503)
	if strings.Contains(w.Body.String(), "disk on fire") || !strings.Contains(f.logged.String(), "disk on fire") {
		t.Errorf("the cause belongs in the log, not on the page:\n%s\n%s", f.logged, w.Body)
	}
}

func TestPageShowsBrokenInvariants(t *testing.T) {
	f := newFixture(t)
	if strings.Contains(f.do("GET", "/", "").Body.String(), "Invariant violations") {
		t.Error("violations are shown although there is none")
	}
	s := sample()
	s.ValueStreams[0].LoadMismatch, s.ValueStreams[1].PresenceMismatch = 2, 1
	f.numbers.latest.Store(s)
	if !strings.Contains(f.do("GET", "/", "").Body.String(), "<dt>Invariant violations</dt><dd><b>3</b>") {
		t.Error("violations are not shown")
	}
}

func TestDays(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0:                      "0.00 d",
		time.Minute:            "< 0.01 d",
		15 * time.Minute:       "0.01 d",
		36 * time.Hour:         "1.50 d",
		19*day + 12*time.Hour:  "19.5 d",
		1000*day + 2*time.Hour: "1000.1 d",
	} {
		if got := strings.ReplaceAll(days(d), "\u00a0", " "); got != want {
			t.Errorf("%s: %q, want %q", d, got, want)
		}
	}
}

func TestNamedIsBounded(t *testing.T) {
	counts := map[string]int{}
	for i := range mostListed + 5 {
		counts[string(rune('a'+i))] = i
	}
	parts := named(counts)
	if len(parts) != mostListed+1 || parts[0] != "y\u00a0× 24" || parts[mostListed] != "and 5 more" {
		t.Errorf("%q", parts)
	}
}
