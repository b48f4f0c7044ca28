package web

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed" // the page is part of the program
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

const (
	fewItems   = 5  // below this a number is shown in grey
	mostListed = 20 // unmapped statuses named on the page
	day        = 24 * time.Hour
)

// parsePages returns the templates, the style that they share, and the content
// security policy that allows that style, identified by its hash, and nothing
// else: no script, no request to anywhere.
func parsePages() (pages *template.Template, style template.CSS, policy string, err error) {
	pages, err = template.New("").Parse(pageHTML)
	if err != nil {
		return nil, "", "", fmt.Errorf("parse page: %w", err)
	}
	sum := sha256.Sum256([]byte(pageCSS))
	policy = "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
	return pages, template.CSS(pageCSS), policy, nil //nolint:gosec // our own file
}

// A figure is one cell: a number or a dash, and what a reader should know
// about it.
type figure struct {
	Text string // empty: undefined
	Why  string // it is undefined
	Note string // below the number
	Few  bool   // too few items to mean much
	Over bool   // beyond its limit
}

// A row is one value stream in one window.
type row struct {
	Window                                                string
	Span                                                  string // the window's two ends
	P50, P85, Efficiency, Average, Distribution, Velocity figure
	Sample                                                int // timed items, beside every number made of them (I4)
}

// A group is the rows of one value stream.
type group struct {
	Title, Name, Link string
	Load              figure
	Rows              []row
}

// A fact is one entry of the data quality strip.
type fact struct {
	Name, Meaning string
	Count         int
	Parts         []string // the count by name
}

// numbersPage is what the page's template shows.
type numbersPage struct {
	Style       template.CSS
	At, AtISO   string
	Past        bool
	Waiting     []string // why the numbers cannot be relied upon yet
	API, Policy string
	Groups      []group
	Quality     []fact
}

// messagePage is a page without numbers.
type messagePage struct {
	Style   template.CSS
	Title   string
	Text    string
	Details []string
	Refresh bool
}

// page shows the five metrics of each value stream in a table.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(url.Values{"at": r.URL.Query()["at"]})
	if err != nil {
		s.message(w, http.StatusBadRequest, messagePage{Title: "Not an instant", Text: err.Error()})
		return
	}
	snap, err := s.snapshot(r.Context(), q)
	switch {
	case errors.Is(err, errReplaying):
		_, reasons := s.options.Health.Ready()
		s.message(w, http.StatusOK, messagePage{
			Title: "Replaying the log", Text: "The numbers appear here once the event log has been read. This page looks again by itself.",
			Details: reasons, Refresh: true,
		})
		return
	case errors.Is(err, errBusy):
		w.Header().Set("Retry-After", "5")
		s.message(w, http.StatusServiceUnavailable, messagePage{Title: "Busy", Text: err.Error() + "; try again in a few seconds"})
		return
	case err != nil:
		s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
		s.message(w, http.StatusServiceUnavailable, messagePage{Title: "No numbers", Text: "The numbers cannot be computed now. The service's log says why."})
		return
	}
	numbers := s.numbers(snap, !q.at.IsZero())
	if ok, reasons := s.options.Health.Ready(); !ok {
		numbers.Waiting = reasons
	}
	s.render(w, http.StatusOK, "numbers", numbers)
}

func (s *Server) message(w http.ResponseWriter, status int, m messagePage) {
	m.Style = s.style
	s.render(w, status, "message", m)
}

func (s *Server) render(w http.ResponseWriter, status int, name string, data any) {
	var page bytes.Buffer
	if err := s.pages.ExecuteTemplate(&page, name, data); err != nil {
		panic(err) // the templates are part of the program
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // as in writeJSON
}

// numbers turns a snapshot into what the template shows.
func (s *Server) numbers(snap *flow.Snapshot, past bool) numbersPage {
	at := snap.At.UTC()
	p := numbersPage{
		Style: s.style, At: instant(at), AtISO: at.Format(time.RFC3339Nano), Past: past,
		API: "api/v1/value-streams", Policy: snap.PolicyHash, Quality: quality(snap),
	}
	asOf := ""
	if past {
		asOf = "?at=" + url.QueryEscape(at.Format(time.RFC3339Nano))
	}
	for _, m := range snap.ValueStreams {
		v := m.ValueStream
		g := group{Title: cmp.Or(v.Title, v.Name), Name: v.Name, Link: p.API + "/" + url.PathEscape(v.Name) + asOf, Load: load(m)}
		for i := range m.Windows {
			g.Rows = append(g.Rows, newRow(&m.Windows[i]))
		}
		p.Groups = append(p.Groups, g)
	}
	p.API += asOf
	return p
}

func newRow(w *flow.WindowMeasures) row {
	t := &w.All
	r := row{
		Window: w.Window.Name, Span: instant(w.From.UTC()) + " to " + instant(w.To.UTC()), Sample: t.Timed,
		Average:  figure{Text: strconv.FormatFloat(w.AverageLoad(), 'f', 1, 64)},
		Velocity: figure{Text: strconv.Itoa(t.Completed)},
	}
	few := t.Timed < fewItems
	if t.Timed > 0 {
		r.P50 = figure{Text: days(t.P50), Few: few}
		r.P85 = figure{Text: days(t.P85), Few: few}
	} else {
		r.P50 = figure{Why: "no item with a known start was completed in the window"}
		r.P85 = r.P50
	}
	r.Efficiency = figure{Why: "the items completed in the window spent no measured time in flow"}
	if ratio, ok := t.Efficiency(); ok {
		r.Efficiency = figure{Text: percent(ratio), Few: few}
	}
	if ratio, ok := t.InWindowEfficiency(); ok {
		r.Efficiency.Note = "all items in the window " + percent(ratio)
	}
	r.Distribution = figure{Why: "no item was completed in the window"}
	if t.Completed > 0 {
		r.Distribution = figure{Text: shares(w), Few: t.Completed < fewItems}
	}
	return r
}

// shares lists the completed items' types; a type without items is left out.
func shares(w *flow.WindowMeasures) string {
	var text string
	for i := range w.ByType {
		if n := w.ByType[i].Completed; n > 0 {
			if text != "" {
				text += ", "
			}
			text += flow.ItemType(i).String() + "\u00a0" + percent(float64(n)/float64(w.All.Completed))
		}
	}
	return text
}

func load(m *flow.Measures) figure {
	l, targets := &m.Load, &m.ValueStream.Targets
	f := figure{Text: strconv.Itoa(l.Items)}
	if targets.Load > 0 {
		f.Text += " of " + strconv.Itoa(targets.Load)
		if f.Over = l.Items > targets.Load; f.Over {
			f.Note = "over the limit, "
		}
	}
	if l.Items == 0 {
		f.Note += "nothing in flow"
		return f
	}
	f.Note += "oldest " + days(l.Oldest)
	if targets.FlowTime > 0 && l.OverTarget > 0 {
		f.Note += fmt.Sprintf(", %d older than the target", l.OverTarget)
	}
	if l.Neglected > 0 {
		f.Note += fmt.Sprintf(", %d neglected", l.Neglected)
	}
	return f
}

// quality is the strip that says how far the numbers can be trusted.
func quality(snap *flow.Snapshot) []fact {
	q := &snap.Quality
	violations := 0
	for _, m := range snap.ValueStreams {
		violations += m.LoadMismatch + m.PresenceMismatch
	}
	facts := []fact{
		{Name: "Duplicates", Count: q.Duplicates, Meaning: "facts read again and dropped"},
		{Name: "Unmapped statuses", Meaning: "facts with a status that no rule maps: the item keeps its state", Parts: named(q.UnmappedStatuses)},
		{Name: "Items in an unmapped status", Meaning: "now, by source", Parts: named(q.UnmappedItems)},
		{Name: "Left-censored", Count: q.LeftCensored, Meaning: "start unknown, so no flow time"},
		{Name: "Born done", Count: q.BornDone, Meaning: "created in a done status"},
		{Name: "Completed without start", Count: q.CompletedWithoutStart, Meaning: "counted, without a flow time"},
		{Name: "Completed never active", Count: q.CompletedNeverActive, Meaning: "only ever waited"},
		{Name: "Ignored by type", Count: q.IgnoredByType, Meaning: "in no metric"},
	}
	for _, n := range q.UnmappedStatuses {
		facts[1].Count += n
	}
	for _, n := range q.UnmappedItems {
		facts[2].Count += n
	}
	// What should never happen is shown only when it does.
	for _, f := range []fact{
		{Name: "Conflicts", Count: q.Conflicts, Meaning: "facts with a known id and another content"},
		{Name: "History gaps", Count: q.HistoryGaps, Meaning: "facts that do not follow from the one before"},
		{Name: "Invariant violations", Count: violations, Meaning: "an error in this program: please report it"},
	} {
		if f.Count > 0 {
			facts = append(facts, f)
		}
	}
	return facts
}

// named lists counts by name, the largest first.
func named(counts map[string]int) []string {
	names := make([]string, 0, len(counts))
	for name := range counts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	var parts []string
	for i, name := range names {
		if i == mostListed {
			parts = append(parts, fmt.Sprintf("and %d more", len(names)-mostListed))
			break
		}
		parts = append(parts, fmt.Sprintf("%s\u00a0× %d", name, counts[name]))
	}
	return parts
}

func instant(t time.Time) string { return t.Format("2006-01-02 15:04:05 UTC") }

// days writes a duration as people read it: days with decimals, more of them
// where the number is small.
func days(d time.Duration) string {
	n := float64(d) / float64(day)
	switch {
	case n >= 10:
		return strconv.FormatFloat(n, 'f', 1, 64) + "\u00a0d"
	case n >= 0.01 || d == 0:
		return strconv.FormatFloat(n, 'f', 2, 64) + "\u00a0d"
	}
	return "<\u00a00.01\u00a0d"
}

func percent(ratio float64) string {
	return strconv.FormatFloat(100*ratio, 'f', 1, 64) + "\u00a0%"
}
