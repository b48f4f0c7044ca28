package deploy

import (
	"context"
	"fmt"
	"math"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/exporter"
	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/goccy/go-yaml"
	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/util/annotations"
)

// A shippedAlert is an alert of the rule file as Prometheus understands it.
type shippedAlert struct {
	name      string
	expr      string
	hold      time.Duration // for
	keep      time.Duration // keep_firing_for
	severity  string
	selectors []string // names of the metrics that the expression selects
}

// reviewerAlerts reads the alerts about value streams from the shipped file. They
// use exported metrics alone, so that no recording rule has to be evaluated
// first: one that does not is an error.
func reviewerAlerts(t testing.TB) []shippedAlert {
	t.Helper()
	text, err := os.ReadFile("prometheus/flowmetrics.alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	alerts, err := readAlerts(text)
	if err != nil {
		t.Fatal(err)
	}
	return alerts
}

func readAlerts(text []byte) (alerts []shippedAlert, err error) {
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr, For string
				KeepFiringFor    string `yaml:"keep_firing_for"`
				Labels           map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	exported := map[string]bool{}
	for _, m := range exporter.Catalogue() {
		exported[m.Name] = true
	}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Labels["audience"] != "reviewer" {
				continue
			}
			a := shippedAlert{name: r.Alert, expr: r.Expr, severity: r.Labels["severity"]}
			var err error
			if a.hold, err = optionalDuration(r.For); err != nil {
				return nil, fmt.Errorf("read alert %s: %w", r.Alert, err)
			}
			if a.keep, err = optionalDuration(r.KeepFiringFor); err != nil {
				return nil, fmt.Errorf("read alert %s: %w", r.Alert, err)
			}
			expr, err := parser.ParseExpr(r.Expr)
			if err != nil {
				return nil, fmt.Errorf("read alert %s: %w", r.Alert, err)
			}
			for _, matchers := range parser.ExtractSelectors(expr) {
				for _, m := range matchers {
					if m.Name == labels.MetricName {
						a.selectors = append(a.selectors, m.Value)
					}
				}
			}
			for _, name := range a.selectors {
				if !exported[name] {
					return nil, fmt.Errorf("alert %s selects %s, which flowmetrics does not export", r.Alert, name)
				}
			}
			alerts = append(alerts, a)
		}
	}
	return alerts, nil
}

// optionalDuration reads a duration of Prometheus; "" is none.
func optionalDuration(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := model.ParseDuration(text)
	return time.Duration(d), err
}

// A ruleEngine evaluates alerts over history as Prometheus does over scrapes. It
// may be used by several goroutines.
type ruleEngine struct {
	engine  *promql.Engine
	alerts  []shippedAlert
	metrics *regexp.Regexp // that the alerts select
	step    time.Duration
}

// newRuleEngine returns an engine that looks once in a step.
func newRuleEngine(alerts []shippedAlert, step time.Duration) *ruleEngine {
	var names []string
	for _, a := range alerts {
		names = append(names, a.selectors...)
	}
	return &ruleEngine{
		engine:  promql.NewEngine(promql.EngineOpts{MaxSamples: math.MaxInt, Timeout: time.Hour}),
		alerts:  alerts,
		metrics: regexp.MustCompile("^(" + strings.Join(names, "|") + ")$"),
		step:    step,
	}
}

// An episode is the time in which one alert fires: what Alertmanager makes a
// ticket of.
type episode struct {
	alert    string
	from, to time.Time // to is the end of what was looked at where it still fires then
}

// episodes returns when the alerts fire in [from, to), in the order of time: it
// lets the board of the policy step through the facts, and gives the samples that
// the exporter makes of its snapshots to the alerts' expressions.
func (e *ruleEngine) episodes(p *flow.Policy, l *flow.Ledger, from, to time.Time) ([]episode, error) {
	history, err := exporter.NewHistory(exporter.HistoryConfig{
		Policy: p, Ledger: l, Step: e.step, Job: "flowmetrics", Instance: "simulation", Metrics: e.metrics,
	})
	if err != nil {
		return nil, err
	}
	part, err := history.Evaluate(context.Background(), exporter.Range{From: from, To: to}, nil)
	if err != nil {
		return nil, err
	}
	samples, err := newMemory(part)
	if err != nil {
		return nil, err
	}
	var all []episode
	for _, a := range e.alerts {
		q, err := e.engine.NewRangeQuery(context.Background(), samples, nil, a.expr, from, to.Add(-e.step), e.step)
		if err != nil {
			return nil, fmt.Errorf("evaluate %s: %w", a.name, err)
		}
		matrix, err := q.Exec(context.Background()).Matrix()
		if err != nil {
			return nil, fmt.Errorf("evaluate %s: %w", a.name, err)
		}
		for _, series := range matrix {
			all = append(all, a.episodes(series.Floats, e.step, to)...)
		}
		q.Close()
	}
	slices.SortStableFunc(all, func(a, b episode) int { return a.from.Compare(b.from) })
	return all, nil
}

// episodes returns when an alert fires whose condition holds at the points of one
// series and at no others: from the time on for which it has held throughout
// (for), until it has not held for as long as keep_firing_for says.
func (a *shippedAlert) episodes(points []promql.FPoint, step time.Duration, end time.Time) (all []episode) {
	var since, last time.Time // the condition holds without a gap
	firing := false
	for i, p := range points {
		now := time.UnixMilli(p.T).UTC()
		if gap := i == 0 || now.Sub(last) > step; gap {
			since = now
			// Absent for the first time one step after it held last.
			if resolved := last.Add(step + a.keep); firing && now.After(resolved) {
				all[len(all)-1].to, firing = resolved, false
			}
		}
		last = now
		if !firing && now.Sub(since) >= a.hold {
			all, firing = append(all, episode{alert: a.name, from: now, to: end}), true
		}
	}
	if resolved := last.Add(step + a.keep); firing && resolved.Before(end) {
		all[len(all)-1].to = resolved
	}
	return all
}

// memory is a storage that holds a part of history, by metric.
type memory map[string][]storage.Series

func newMemory(p *exporter.Part) (*storage.MockQueryable, error) {
	columns := map[string]*column{}
	builder := labels.NewScratchBuilder(8)
	for body := range p.WriteRequests(10_000) {
		plain, err := snappy.Decode(nil, body)
		if err != nil {
			return nil, fmt.Errorf("read samples: %w", err)
		}
		var request prompb.WriteRequest
		if err := request.Unmarshal(plain); err != nil {
			return nil, fmt.Errorf("read samples: %w", err)
		}
		for _, series := range request.Timeseries {
			set := series.ToLabels(&builder, nil)
			c := columns[set.String()]
			if c == nil {
				c = &column{labels: set, chunk: chunkenc.NewXORChunk()}
				columns[set.String()] = c
				if c.appender, err = c.chunk.Appender(); err != nil {
					return nil, fmt.Errorf("keep samples: %w", err)
				}
			}
			if c.chunk.NumSamples()+len(series.Samples) > math.MaxUint16 {
				return nil, fmt.Errorf("keep samples: more than %d for %v", math.MaxUint16, set)
			}
			for _, s := range series.Samples {
				c.appender.Append(s.Timestamp, s.Value)
			}
		}
	}
	m := memory{}
	for _, c := range columns {
		name := c.labels.Get(labels.MetricName)
		m[name] = append(m[name], c)
	}
	return &storage.MockQueryable{MockQuerier: &storage.MockQuerier{SelectMockFunction: m.selects}}, nil
}

// selects returns the series that match, one of the matchers being for the name.
func (m memory) selects(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	var set seriesSet
	for _, name := range matchers {
		if name.Name == labels.MetricName && name.Type == labels.MatchEqual {
			set.rest = slices.DeleteFunc(slices.Clone(m[name.Value]), func(s storage.Series) bool {
				return slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(s.Labels().Get(m.Name)) })
			})
		}
	}
	return &set
}

// A column is one series in memory.
type column struct {
	labels   labels.Labels
	chunk    *chunkenc.XORChunk
	appender chunkenc.Appender
}

func (c *column) Labels() labels.Labels                           { return c.labels }
func (c *column) Iterator(it chunkenc.Iterator) chunkenc.Iterator { return c.chunk.Iterator(it) }

// A seriesSet goes through series.
type seriesSet struct {
	current storage.Series
	rest    []storage.Series
}

func (s *seriesSet) Next() bool {
	if len(s.rest) == 0 {
		return false
	}
	s.current, s.rest = s.rest[0], s.rest[1:]
	return true
}

func (s *seriesSet) At() storage.Series                { return s.current }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// TestEpisodes: an alert fires from the moment on for which its condition has held
// for the time of `for`, and until it has not held for that of keep_firing_for.
func TestEpisodes(t *testing.T) {
	const h = time.Hour
	hour := func(n int) time.Time { return time.Unix(0, 0).UTC().Add(time.Duration(n) * h) }
	for name, test := range map[string]struct {
		hold, keep time.Duration
		holds      []int // hours
		want       [][2]int
	}{
		"never":                      {3 * h, h, nil, nil},
		"not long enough":            {3 * h, h, []int{1, 2, 3}, nil},
		"long enough":                {3 * h, h, []int{1, 2, 3, 4}, [][2]int{{4, 6}}},
		"a gap begins for anew":      {3 * h, h, []int{1, 2, 3, 5, 6, 7}, nil},
		"a gap while firing is kept": {h, 3 * h, []int{1, 2, 6, 7}, [][2]int{{2, 11}}},
		"too long a gap":             {h, 3 * h, []int{1, 2, 7, 8}, [][2]int{{2, 6}, {8, 12}}},
		"at once":                    {0, 0, []int{1, 3}, [][2]int{{1, 2}, {3, 4}}},
		"to the end":                 {h, 3 * h, []int{17, 18, 19}, [][2]int{{18, 20}}},
	} {
		t.Run(name, func(t *testing.T) {
			a := shippedAlert{name: name, hold: test.hold, keep: test.keep}
			var points []promql.FPoint
			for _, n := range test.holds {
				points = append(points, promql.FPoint{T: hour(n).UnixMilli(), F: 1})
			}
			var want []episode
			for _, w := range test.want {
				want = append(want, episode{name, hour(w[0]), hour(w[1])})
			}
			if got := a.episodes(points, h, hour(20)); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// TestReadAlerts: a rule that the engine here could not evaluate is an error, not
// an alert that never fires.
func TestReadAlerts(t *testing.T) {
	for name, text := range map[string]string{
		"no YAML":      "groups: [",
		"no PromQL":    `groups: [{rules: [{alert: A, expr: "1 >", labels: {audience: reviewer}}]}]`,
		"no duration":  `groups: [{rules: [{alert: A, expr: "flow_load_items > 1", for: soon, labels: {audience: reviewer}}]}]`,
		"not exported": `groups: [{rules: [{alert: A, expr: "flow_lode_items > 1", labels: {audience: reviewer}}]}]`,
	} {
		if alerts, err := readAlerts([]byte(text)); err == nil {
			t.Errorf("%s: no error but %v", name, alerts)
		}
	}
	alerts, err := readAlerts([]byte(`groups: [{rules: [
		{alert: A, expr: "flow_load_items > 1", for: 1d, keep_firing_for: 1d, labels: {audience: reviewer, severity: ticket}},
		{alert: B, expr: "flow_load_items > 1", labels: {audience: operator}}]}]`))
	want := shippedAlert{"A", "flow_load_items > 1", 24 * time.Hour, 24 * time.Hour, "ticket", []string{"flow_load_items"}}
	if err != nil || len(alerts) != 1 || !reflect.DeepEqual(alerts[0], want) {
		t.Errorf("got %v, %v, want %v", alerts, err, want)
	}
	names := map[string]bool{}
	for _, a := range reviewerAlerts(t) {
		names[a.name] = true
	}
	for _, name := range loadAlerts {
		if !names[name] {
			t.Errorf("the shipped file has no alert %s for reviewers", name)
		}
	}
}
