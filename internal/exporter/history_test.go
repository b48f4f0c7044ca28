package exporter

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"pgregory.net/rapid"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const step = 4 * time.Minute

func newHistory(t testing.TB, c HistoryConfig) *History {
	t.Helper()
	if c.Step == 0 {
		c.Step = step
	}
	c.Job, c.Instance = "flowmetrics", "flow.example:8080"
	h, err := NewHistory(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func evaluate(t testing.TB, h *History, r Range) *Part {
	t.Helper()
	p, err := h.Evaluate(t.Context(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// content are the values of each series by instant.
type content map[string]map[int64]float64

func (c content) add(series string, at int64, v float64) {
	if c[series] == nil {
		c[series] = map[int64]float64{}
	}
	c[series][at] = v
}

func (c content) samples() (n int) {
	for _, values := range c {
		n += len(values)
	}
	return n
}

// at returns the values of one instant.
func (c content) at(t time.Time) map[string]float64 {
	values := map[string]float64{}
	for series, of := range c {
		if v, ok := of[t.UnixMilli()]; ok {
			values[series] = v
		}
	}
	return values
}

// compare tells where two contents differ. It is far faster than a difference.
func compare(t testing.TB, want, got content) {
	t.Helper()
	if len(want) == 0 {
		t.Error("nothing to compare")
	}
	equal := func(a, b map[int64]float64) bool { return maps.Equal(a, b) }
	if !maps.EqualFunc(want, got, equal) {
		t.Errorf("%d samples of %d series, want %d of %d (-want +got):\n%s", got.samples(), len(got), want.samples(), len(want), head(cmp.Diff(want, got)))
	}
}

func contentOf(t testing.TB, p *Part) content {
	t.Helper()
	c := content{}
	for i := range p.series {
		last := int64(math.MinInt64)
		for at, v := range samplesOf(p.series[i].chunks...) {
			if at <= last {
				t.Fatalf("%s: %d after %d", p.series[i].labels, at, last)
			}
			last = at
			c.add(p.series[i].labels.String(), at, v)
		}
	}
	if c.samples() != p.Samples() || len(c) != p.Series() {
		t.Errorf("%d samples of %d series, said to be %d of %d", c.samples(), len(c), p.Samples(), p.Series())
	}
	return c
}

// scraped returns what Prometheus stores of the page: the flow families, with the
// labels of the target.
func scraped(t *testing.T, s *flow.Snapshot) map[string]float64 {
	t.Helper()
	names := map[string]bool{}
	for _, f := range flowFamilies {
		names[strings.TrimSuffix(f.name, "_total")] = true
	}
	e := New(build, service)
	e.Update(s)
	_, page := get(t, e, http.Header{"Accept": {"application/openmetrics-text;version=1.0.0"}})
	values := map[string]float64{}
	parser := textparse.NewOpenMetricsParser(page, labels.NewSymbolTable())
	for ours := false; ; {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return values
		}
		if err != nil {
			t.Fatal(err)
		}
		switch entry {
		case textparse.EntryType:
			name, _ := parser.Type()
			ours = names[string(name)]
		case textparse.EntrySeries:
			if !ours {
				continue
			}
			var ls labels.Labels
			parser.Labels(&ls)
			_, _, v := parser.Series()
			b := labels.NewBuilder(ls).Set("job", "flowmetrics").Set("instance", "flow.example:8080")
			ls.Range(func(l labels.Label) {
				if l.Value == "" {
					b.Del(l.Name)
				}
			})
			values[b.Labels().String()] = v
		}
	}
}

// TestHistoryEqualsScrapes: at each instant of a history, the series and their
// values are those of a scrape of the live service as of that instant.
func TestHistoryEqualsScrapes(t *testing.T) {
	policy := worldPolicy(4)
	for seed := range uint64(12) {
		random := rand.New(rand.NewPCG(seed, 1))
		l := world(seed, 4, random.IntN(7), 1+random.IntN(3))
		h := newHistory(t, HistoryConfig{Policy: policy, Ledger: l, Step: time.Duration(1+random.IntN(40)) * 15 * time.Minute})
		from := worldEnd.Add(-time.Duration(random.IntN(50)) * day)
		r := Range{from, from.Add(h.config.Step * time.Duration(1+random.IntN(200)))}
		got := contentOf(t, evaluate(t, h, r))
		var instants []time.Time
		for at := h.align(r.From); at < h.align(r.To); at += h.config.Step.Milliseconds() {
			instants = append(instants, time.UnixMilli(at).UTC())
		}
		seen := map[int64]bool{}
		for _, values := range got {
			for at := range values {
				seen[at] = true
			}
		}
		if len(seen) != len(instants) {
			t.Errorf("%d instants, want %d", len(seen), len(instants))
		}
		for range 3 {
			at := instants[random.IntN(len(instants))]
			want := scraped(t, flow.Measure(policy, l, at, flow.Options{}))
			if now := got.at(at); !maps.Equal(want, now) {
				t.Fatalf("seed %d as of %v (-scrape +history):\n%s", seed, at, head(cmp.Diff(want, now)))
			}
		}
	}
}

func head(text string) string {
	const most = 2000
	return text[:min(len(text), most)]
}

// TestHistoryOrder: from the second instant on, a series is found where it was
// in the one before, without a search and without memory for a sample, until the
// set of series changes.
func TestHistoryOrder(t *testing.T) {
	h := newHistory(t, HistoryConfig{Policy: worldPolicy(1), Ledger: flow.NewLedger()})
	rec := h.recorder(worldEnd)
	more, less := snapshot(payments(), saturated("platform")), snapshot(idle(), saturated("platform"))
	for _, s := range []*flow.Snapshot{more, less, more, less} {
		rec.record(s)
		series, known := len(rec.series), rec.byKey
		rec.byKey = map[string]*metric{} // a search would find nothing and make a new one
		allocs := testing.AllocsPerRun(3, func() { rec.record(s) })
		if rec.byKey = known; len(rec.series) != series {
			t.Errorf("%d of %d series were searched for", len(rec.series)-series, series)
		}
		if allocs > 20 {
			t.Errorf("%v allocations for an instant", allocs)
		}
	}
}

// TestHistoryParts: a history that is cut has every sample of one that is not,
// once.
func TestHistoryParts(t *testing.T) {
	h := newHistory(t, HistoryConfig{Policy: worldPolicy(2), Ledger: world(7, 2, 12, 3), Step: 7 * time.Hour})
	from, to := worldEnd.Add(-70*day+time.Second), worldEnd.Add(-time.Minute)
	ranges := h.Cut(from, to)
	if len(ranges) != 4 {
		t.Fatalf("%d parts: %v", len(ranges), ranges)
	}
	want := contentOf(t, evaluate(t, h, Range{from, to}))
	parts := make([]*Part, len(ranges))
	var group sync.WaitGroup
	for i, r := range ranges { // at once, over the same facts
		group.Go(func() { parts[i], _ = h.Evaluate(t.Context(), r, nil) })
	}
	group.Wait()
	got := content{}
	n := 0
	for i, r := range ranges {
		if i > 0 && !r.From.Equal(ranges[i-1].To) {
			t.Errorf("%v after %v", r, ranges[i-1])
		}
		block := r.From.UnixMilli() / BlockRange.Milliseconds()
		p := parts[i]
		n += p.Samples()
		for series, values := range contentOf(t, p) {
			for at, v := range values {
				if at/BlockRange.Milliseconds() != block {
					t.Fatalf("%d is of another block than %v", at, r)
				}
				got.add(series, at, v)
			}
		}
	}
	if n != want.samples() {
		t.Errorf("%d samples in parts, %d in one", n, want.samples())
	}
	compare(t, want, got)
}

// TestHistoryProgress: all instants are told of, and between them a history can
// be cancelled.
func TestHistoryProgress(t *testing.T) {
	h := newHistory(t, HistoryConfig{Policy: worldPolicy(1), Ledger: world(5, 1, 1, 1)})
	r := Range{worldEnd.Add(-20 * hour), worldEnd.Add(time.Second)}
	told := 0
	if _, err := h.Evaluate(t.Context(), r, func(n int) { told += n }); err != nil || told != 301 {
		t.Errorf("%d instants told: %v", told, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	calls := 0
	p, err := h.Evaluate(ctx, r, func(int) {
		calls++
		cancel(stopped)
	})
	if p != nil || !errors.Is(err, stopped) || calls != 1 {
		t.Errorf("cancelled: %v, %v after %d calls", p, err, calls)
	}
}

func TestNewHistoryFails(t *testing.T) {
	for want, c := range map[string]HistoryConfig{
		"step":           {Step: 0},
		"milliseconds":   {Step: time.Millisecond + 1},
		`"no such one"`:  {Step: step, ValueStreams: []string{"stream-00", "no such one"}},
		"no metric":      {Step: step, Metrics: regexp.MustCompile("^go_")},
		"no metric has ": {Step: step, ValueStreams: []string{"stream-00"}, Metrics: regexp.MustCompile("unmapped")},
	} {
		c.Policy, c.Ledger = worldPolicy(1), flow.NewLedger()
		if h, err := NewHistory(c); h != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", want, err)
		}
	}
}

// TestCut: every instant is in exactly one range, whatever the step.
func TestCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &History{config: HistoryConfig{Step: time.Duration(rapid.Int64Range(1, 1e9).Draw(t, "step")) * time.Millisecond}}
		from := time.Unix(rapid.Int64Range(-2e9, 2e9).Draw(t, "from"), rapid.Int64Range(0, 1e9-1).Draw(t, "ns"))
		to := from.Add(time.Duration(rapid.Int64Range(-1e6, 1e7).Draw(t, "seconds")) * time.Second)
		step, block := h.config.Step.Milliseconds(), BlockRange.Milliseconds()
		at := h.align(from)
		for _, r := range h.Cut(from, to) {
			first, last := r.From.UnixMilli(), r.To.UnixMilli()-step
			if first != at || first > last || mod(first, step) != 0 || mod(last, step) != 0 {
				t.Fatalf("%v begins at %d, want %d", r, first, at)
			}
			if first-mod(first, block) != last-mod(last, block) {
				t.Fatalf("%v is in two blocks", r)
			}
			at = last + step
		}
		if end := h.align(to); at != max(end, h.align(from)) {
			t.Fatalf("ends at %d, want %d", at, end)
		}
	})
}

// TestHistorySelection: a choice of value streams and metrics takes these out of
// the whole.
func TestHistorySelection(t *testing.T) {
	policy, l := worldPolicy(3), world(3, 3, 4, 3)
	r := Range{worldEnd.Add(-6 * hour), worldEnd}
	all := evaluate(t, newHistory(t, HistoryConfig{Policy: policy, Ledger: l}), r)
	whole := contentOf(t, all)
	for name, test := range map[string]struct {
		config HistoryConfig
		admit  func(labels.Labels) bool
	}{
		"value streams": {
			HistoryConfig{ValueStreams: []string{"stream-02", "stream-00", "stream-02"}},
			func(ls labels.Labels) bool { v := ls.Get("value_stream"); return v == "stream-00" || v == "stream-02" },
		},
		"metrics": {
			HistoryConfig{Metrics: regexp.MustCompile(`^flow_load_|unmapped`)},
			func(ls labels.Labels) bool {
				name := ls.Get(labels.MetricName)
				return strings.HasPrefix(name, "flow_load_") || strings.Contains(name, "unmapped")
			},
		},
		"both": {
			HistoryConfig{ValueStreams: []string{"stream-01"}, Metrics: regexp.MustCompile("_seconds$")},
			func(ls labels.Labels) bool {
				return ls.Get("value_stream") == "stream-01" && regexp.MustCompile("_seconds(_bucket|_sum|_count)?$").MatchString(ls.Get(labels.MetricName))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			test.config.Policy, test.config.Ledger = policy, l
			want := maps.Clone(whole)
			for i := range all.series {
				if ls := all.series[i].labels; !test.admit(ls) {
					delete(want, ls.String())
				}
			}
			p := evaluate(t, newHistory(t, test.config), r)
			compare(t, want, contentOf(t, p))
		})
	}
}

// TestRepeat: a chunk of one value is what Prometheus' encoder makes of it.
func TestRepeat(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := rapid.Int64Range(-1e13, 1e13).Draw(t, "start")
		rows := rapid.IntRange(2, chunkSamples).Draw(t, "rows")
		bits := math.Float64bits(rapid.Float64().Draw(t, "value"))
		step := rapid.Int64Range(1, 1e10).Draw(t, "step")
		var made [2][]byte
		for i, encode := range []func(c *columns, s *column){
			func(c *columns, s *column) { c.append(s, slices.Repeat([]uint64{bits}, rows)) },
			func(c *columns, s *column) { c.repeat(s, bits, rows) },
		} {
			c := newColumns(start, step)
			var s column
			encode(c, &s)
			made[i] = s.chunks[0].data
			if last := start + int64(rows-1)*c.step; s.samples != rows || s.chunks[0].from != start || s.chunks[0].to != last {
				t.Fatalf("%d samples: %v", s.samples, s.chunks)
			}
		}
		if !bytes.Equal(made[0], made[1]) {
			t.Fatalf("got %x, want %x", made[1], made[0])
		}
	})
}
