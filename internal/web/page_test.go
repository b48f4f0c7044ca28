package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	f := newFixture(t, func(o *Options) { o.Health = health{"source github-main has not been polled"} })
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

// TestMeasuredNumbers goes the whole way from changes to both views of them.
func TestMeasuredNumbers(t *testing.T) {
	workflow := &flow.Workflow{
		Name:         "default",
		StatusByName: map[string]flow.State{"Backlog": flow.New, "Ready": flow.Waiting, "Doing": flow.Active, "Done": flow.Done},
		Types:        []flow.TypeRule{{Match: "Story", Type: flow.Feature}},
	}
	policy := &flow.Policy{
		Windows: flow.DefaultWindows(),
		ValueStreams: []*flow.ValueStream{{
			Name: "payments", Title: "Payments", Workflow: workflow, Timezone: "UTC", Location: time.UTC,
			Include: []flow.Include{{Source: "jira", Containers: []string{"PAY"}}}, NeglectAfter: flow.DefaultNeglectAfter,
		}},
	}
	ledger := flow.NewLedger()
	for i, step := range []struct {
		item, day, status string
	}{
		{"1", "01", "Backlog"}, {"1", "05", "Ready"}, {"1", "08", "Doing"}, {"1", "24", "Done"},
		{"2", "20", "Doing"},
	} {
		c, err := flow.DecodeJSON(fmt.Appendf(nil, `{"id":"%d","source":"jira","container":"PAY","item":%q,"at":"2026-06-%sT00:00:00Z","kind":%q,`+
			`"fields":[{"field":"STATUS","to":{"name":%q}},{"field":"TYPE","to":{"name":"Story"}}]}`,
			i, step.item, step.day, map[bool]string{true: "CREATED", false: "UPDATED"}[i == 0 || i == 4], step.status))
		if err != nil {
			t.Fatal(err)
		}
		ledger.Add(&c)
	}
	f := newFixture(t)
	f.numbers.latest.Store(flow.Measure(policy, ledger, time.Date(2026, 6, 29, 0, 0, 0, 0, time.UTC), flow.Options{}))

	var doc struct {
		ValueStreams []struct {
			Name    string
			Windows map[string]struct {
				FlowTime struct {
					P85 float64 `json:"p85_seconds"`
				} `json:"flow_time"`
			}
		} `json:"value_streams"`
	}
	if err := json.Unmarshal(f.do("GET", "/api/v1/value-streams/payments", "").Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.ValueStreams) != 1 || doc.ValueStreams[0].Windows["7d"].FlowTime.P85 != (19*day).Seconds() {
		t.Errorf("JSON: %+v", doc)
	}
	page := strings.ReplaceAll(f.do("GET", "/", "").Body.String(), "\u00a0", " ")
	for _, want := range []string{
		">19.0 d<", ">84.2 %<", // 16 of 19 days active
		"<span>1</span><small>oldest 9.00 d</small>", ">feature 100.0 %<",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("page has no %s", want)
		}
	}
}
