package deploy

import (
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/promql/parser"
)

// A checker asks a Prometheus that has history and live scrapes for what panels
// and rules ask for, and collects what they would show nothing for.
type checker struct {
	p        *prometheus
	now      time.Time
	scrape   time.Duration // between two scrapes
	opening  bool          // look at dashboards as they open, without the other choices
	problems []string
	asked    map[string]bool
}

func newChecker(p *prometheus, now time.Time, scrape time.Duration) *checker {
	return &checker{p: p, now: now, scrape: scrape, asked: map[string]bool{}}
}

// unseen are selectors of what the demo does not have, each with the reason.
// Panels with them stand something else in for it.
var unseen = map[string]string{
	`item_type="unclassified"`:           "every item of the demo has a type",
	`flowmetrics_webhook_requests_total`: "no tracker calls it",
	`ALERTS{`:                            "nothing need be wrong",
}

// silent are expressions that may come to nothing with a choice of variables, each
// with the reason.
var silent = map[string]string{
	`"Flow time, p50, p85 and p95" (C) window=7d`: "a week has too few items for a 95th percentile",
}

func (c *checker) report(where, format string, args ...any) {
	c.problems = append(c.problems, where+": "+fmt.Sprintf(format, args...))
}

// dashboard checks every expression of every panel, and every variable, as a
// reader sees them: as the dashboard opens, and with each other choice.
func (c *checker) dashboard(t testing.TB, d *dashboard) {
	t.Helper()
	from, _, err := d.span(panel{}, c.now)
	if err != nil {
		c.report(d.file, "%v", err)
		return
	}
	chosen := map[string]string{}
	for _, v := range d.Templating.List {
		if err := v.load(t, c.p, from, c.now, chosen); err != nil {
			c.report(d.file, "%v", err)
			return
		}
		chosen[v.Name] = v.chosen()
	}
	choices := d.choices()
	if c.opening {
		choices = choices[:1]
	}
	for _, choice := range choices {
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				c.target(t, fmt.Sprintf("%s, %q (%s)", d.file, p.Title, target.RefID), d, p, target, choice)
			}
		}
	}
}

// target checks one expression with one choice of variables.
func (c *checker) target(t testing.TB, where string, d *dashboard, p panel, q target, choice map[string]string) {
	t.Helper()
	from, to, err := d.span(p, c.now)
	if err != nil {
		c.report(where, "%v", err)
		return
	}
	step, err := step(p, q, to.Sub(from), c.scrape)
	if err != nil {
		c.report(where, "%v", err)
		return
	}
	values := builtIn(to.Sub(from), step, c.scrape)
	maps.Copy(values, choice)
	expr, err := fill(q.Expr, values)
	if err != nil {
		c.report(where, "%v", err)
		return
	}
	key := fmt.Sprint(expr, from, step, q.Instant)
	if c.asked[key] {
		return
	}
	c.asked[key] = true
	// The points end now and not at a multiple of the step, for what lives only
	// since the test began.
	from = to.Add(-(to.Sub(from) / step * step))
	var m model.Matrix
	if q.Instant {
		m, err = c.p.evaluate(t.Context(), expr, to)
	} else {
		m, err = c.p.evaluateRange(t.Context(), expr, from, to, step)
	}
	selectors, bad := selectorsOf(expr)
	switch {
	case err != nil:
		c.report(where, "%v: %s", err, expr)
		return
	case bad != nil:
		c.report(where, "%v: %s", bad, expr)
		return
	case !shows(m, to):
		if !excused(where + " window=" + choice["window"]) {
			c.report(where, "no data: %s", expr)
		}
	case !q.Instant && historic(selectors) && !shows(m, from.Add(to.Sub(from)/2)):
		c.report(where, "nothing in the first half of the range: %s", expr)
	}
	c.selectors(t, where, selectors, from, to)
}

func excused(where string) bool {
	for part := range silent {
		if strings.Contains(where, part) {
			return true
		}
	}
	return false
}

// selectors checks that there are series for each, so that no part of an
// expression is silent.
func (c *checker) selectors(t testing.TB, where string, selectors []*parser.VectorSelector, from, to time.Time) {
	t.Helper()
next:
	for _, s := range selectors {
		plain := parser.VectorSelector{Name: s.Name, LabelMatchers: s.LabelMatchers}
		text := plain.String()
		for part := range unseen {
			if strings.Contains(text, part) {
				continue next
			}
		}
		key := fmt.Sprint("series ", text, from)
		if c.asked[key] {
			continue
		}
		c.asked[key] = true
		if len(c.p.series(t, from, to, text)) == 0 {
			c.report(where, "no series: %s", text)
		}
	}
}

// shows reports whether there is a number before or at an instant.
func shows(m model.Matrix, until time.Time) bool {
	for _, s := range m {
		for _, v := range s.Values {
			if x := float64(v.Value); !math.IsNaN(x) && !math.IsInf(x, 0) && !v.Timestamp.Time().After(until) {
				return true
			}
		}
	}
	return false
}

// selectorsOf returns the selectors of an expression.
func selectorsOf(expr string) ([]*parser.VectorSelector, error) {
	tree, err := parser.ParseExpr(expr)
	if err != nil {
		return nil, err
	}
	var all []*parser.VectorSelector
	parser.Inspect(tree, func(n parser.Node, _ []parser.Node) error {
		if s, ok := n.(*parser.VectorSelector); ok {
			all = append(all, s)
		}
		return nil
	})
	return all, nil
}

// historic reports whether all of the metrics are about flow, which history has.
func historic(selectors []*parser.VectorSelector) bool {
	for _, s := range selectors {
		if !strings.HasPrefix(s.Name, "flow_") {
			return false
		}
	}
	return len(selectors) > 0
}
