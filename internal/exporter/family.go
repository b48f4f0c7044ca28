package exporter

import (
	"cmp"
	"slices"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	dto "github.com/prometheus/client_model/go"
)

// A family declares one metric with samples out of a T.
type family[T any] struct {
	name   string
	kind   dto.MetricType
	labels []string
	// rollUp says that item_type="all" stands beside the types, because the
	// types' values cannot be added.
	rollUp bool
	help   string
	from   func(from T, out *samples)
}

const (
	gauge     = dto.MetricType_GAUGE
	counter   = dto.MetricType_COUNTER
	histogram = dto.MetricType_HISTOGRAM
)

// samples takes the samples of one family, one call for each: into a family of
// the live page or into a history. It is the only way from the table to both.
type samples struct {
	name    string
	help    string
	kind    dto.MetricType
	labels  []string
	order   []int  // the labels by name, in which order they are written
	stream  string // value of the first label, where it is set
	family  *dto.MetricFamily
	history *columns // instead of family
}

// samples returns where the family's samples go to. The caller says where that
// is.
func (f *family[T]) samples() *samples {
	s := &samples{name: f.name, help: f.help, kind: f.kind, labels: f.labels, order: make([]int, len(f.labels))}
	for i := range s.order {
		s.order[i] = i
	}
	slices.SortFunc(s.order, func(a, b int) int { return cmp.Compare(f.labels[a], f.labels[b]) })
	return s
}

// add appends a sample. The values are those of the labels in their order,
// without the value stream inside of eachStream.
func (s *samples) add(value float64, values ...string) {
	if s.history != nil {
		s.history.add(s, value, values) // keeps nothing, so that a sample costs no memory
	} else {
		s.show(value, values)
	}
}

// show appends a sample to the family of the live page.
func (s *samples) show(value float64, values []string) {
	m := s.metric(values)
	if s.kind == counter {
		m.Counter = &dto.Counter{Value: &value}
	} else {
		m.Gauge = &dto.Gauge{Value: &value}
	}
}

func (s *samples) count(n int, values ...string) { s.add(float64(n), values...) }

// optional appends a sample where the value is defined: an undefined number has
// none.
func (s *samples) optional(value float64, defined bool, values ...string) {
	if defined {
		s.add(value, values...)
	}
}

// metric appends a metric with labels and without a value.
func (s *samples) metric(values []string) *dto.Metric {
	every := s.allValues(values)
	pairs := make([]dto.LabelPair, len(every))
	m := &dto.Metric{Label: make([]*dto.LabelPair, len(every))}
	for i, label := range s.order {
		pairs[i].Name, pairs[i].Value = &s.labels[label], &every[label]
		m.Label[i] = &pairs[i]
	}
	s.family.Metric = append(s.family.Metric, m)
	return m
}

// allValues returns a copy of the values with that of the value stream.
func (s *samples) allValues(values []string) []string {
	every := make([]string, 0, len(s.labels))
	if s.stream != "" {
		every = append(every, s.stream)
	}
	every = append(every, values...)
	if len(every) != len(s.labels) {
		panic("exporter: " + s.name + " has another number of labels")
	}
	return every
}

// gather returns the families that have samples, in the order of their names.
func gather[T any](table []family[T], from T) []*dto.MetricFamily {
	families := make([]*dto.MetricFamily, 0, len(table))
	for i := range table {
		f := &table[i]
		out := f.samples()
		out.family = &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: &f.kind}
		f.from(from, out)
		if len(out.family.Metric) > 0 {
			families = append(families, out.family)
		}
	}
	sortByName(families)
	return families
}

func sortByName(families []*dto.MetricFamily) {
	slices.SortFunc(families, func(a, b *dto.MetricFamily) int { return cmp.Compare(a.GetName(), b.GetName()) })
}

// eachStream takes the samples of one value stream after the other. The family's
// first label is value_stream.
func eachStream(f func(m *flow.Measures, out *samples)) func(*flow.Snapshot, *samples) {
	return func(s *flow.Snapshot, out *samples) {
		for _, m := range s.ValueStreams {
			out.stream = m.ValueStream.Name
			f(m, out)
		}
		out.stream = ""
	}
}

// eachType takes the samples of the item types of each value stream.
func eachType(f func(m *flow.Measures, t flow.ItemType, out *samples)) func(*flow.Snapshot, *samples) {
	return eachStream(func(m *flow.Measures, out *samples) {
		for _, t := range types(m) {
			f(m, t, out)
		}
	})
}

// eachWindow takes the samples of each window of each value stream.
func eachWindow(f func(m *flow.Measures, w *flow.WindowMeasures, out *samples)) func(*flow.Snapshot, *samples) {
	return eachStream(func(m *flow.Measures, out *samples) {
		for i := range m.Windows {
			f(m, &m.Windows[i], out)
		}
	})
}

// additive takes one sample of each type in each window.
func additive(value func(t *flow.TypeMeasures) float64) func(*flow.Snapshot, *samples) {
	return eachType(func(m *flow.Measures, t flow.ItemType, out *samples) {
		for i := range m.Windows {
			w := &m.Windows[i]
			out.add(value(&w.ByType[t]), t.String(), w.Window.Name)
		}
	})
}

// all is the roll-up over the item types where their values cannot be added.
const all = "all"

// rolledUp takes one sample of each type and of all types in each window, where
// it is defined.
func rolledUp(value func(t *flow.TypeMeasures) (float64, bool)) func(*flow.Snapshot, *samples) {
	return eachStream(func(m *flow.Measures, out *samples) {
		for _, t := range types(m) {
			for i := range m.Windows {
				w := &m.Windows[i]
				v, defined := value(&w.ByType[t])
				out.optional(v, defined, t.String(), w.Window.Name)
			}
		}
		for i := range m.Windows {
			w := &m.Windows[i]
			v, defined := value(&w.All)
			out.optional(v, defined, all, w.Window.Name)
		}
	})
}

// types returns the item types that a value stream shows: the four, and
// unclassified only where it has or had an item without a type, for it is no
// part of a well configured value stream and a fifth of its series.
func types(m *flow.Measures) []flow.ItemType {
	const u = flow.Unclassified
	totals := &m.Totals[u]
	seen := totals.Entered+totals.Completed+totals.Reopened+totals.Cancelled > 0 || m.Load.ByType[u] != flow.TypeLoad{}
	for i := range m.Windows {
		seen = seen || m.Windows[i].ByType[u] != flow.TypeMeasures{}
	}
	if seen {
		return shownTypes
	}
	return shownTypes[:u]
}

// shownTypes are all types that may be shown, unclassified last.
var shownTypes = []flow.ItemType{flow.Feature, flow.Defect, flow.Risk, flow.Debt, flow.Unclassified}
