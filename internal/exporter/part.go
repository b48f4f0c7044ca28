package exporter

import (
	"cmp"
	"iter"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// A Part holds the samples of one range. It does not change any more; all its
// methods may be called concurrently.
type Part struct {
	// Range is what the part was evaluated for.
	Range Range

	series  []partSeries // by family, labels and lines of a histogram
	samples int
	batches int // of chunks: each series has at most one in each
}

// partSeries is a series with its labels, sorted by name.
type partSeries struct {
	column
	labels labels.Labels
}

func newPart(r Range, c *columns, job, instance string) *Part {
	p := &Part{Range: r, batches: c.batch}
	builder := labels.NewScratchBuilder(8)
	for i := range c.series {
		s := &c.series[i]
		if s.samples == 0 {
			continue
		}
		builder.Reset()
		builder.Add(labels.MetricName, s.name())
		for _, l := range s.pairs() {
			builder.Add(l.Name, l.Value)
		}
		for _, l := range []labels.Label{{Name: "job", Value: job}, {Name: "instance", Value: instance}} {
			if l.Value != "" {
				builder.Add(l.Name, l.Value)
			}
		}
		builder.Sort()
		p.series = append(p.series, partSeries{*s, builder.Labels()})
		p.samples += s.samples
	}
	slices.SortFunc(p.series, func(a, b partSeries) int {
		return cmp.Or(
			cmp.Compare(a.metric.family.name, b.metric.family.name),
			cmp.Compare(a.metric.stream, b.metric.stream),
			slices.Compare(a.metric.labels, b.metric.labels),
			cmp.Compare(a.line, b.line),
		)
	})
	return p
}

// Samples returns how many samples the part has.
func (p *Part) Samples() int { return p.samples }

// Series returns how many series the part has.
func (p *Part) Series() int { return len(p.series) }

// name returns the series' name, which the line of a histogram ends.
func (s *column) name() string {
	f := s.metric.family
	switch {
	case f.kind != histogram:
		return f.name
	case s.line == histogramSum:
		return f.name + "_sum"
	case s.line == histogramCount:
		return f.name + "_count"
	default:
		return f.name + "_bucket"
	}
}

// pairs returns the labels that the service itself gives to the series. An empty
// one is no label to Prometheus.
func (s *column) pairs() []labels.Label {
	var pairs []labels.Label
	add := func(name, value string) {
		if value != "" {
			pairs = append(pairs, labels.Label{Name: name, Value: value})
		}
	}
	names := s.metric.family.labels
	if s.metric.stream != "" {
		add(names[0], s.metric.stream)
		names = names[1:]
	}
	for i, name := range names {
		add(name, s.metric.labels[i])
	}
	if s.metric.family.kind == histogram && s.line <= histogramInf {
		add("le", bucketBounds[s.line])
	}
	return pairs
}

// bucketBounds are the buckets' bounds as OpenMetrics writes them.
var bucketBounds = func() []string {
	var bounds []string
	for _, bound := range append(flowTimeBounds[:len(flowTimeBounds):len(flowTimeBounds)], math.Inf(1)) {
		bounds = append(bounds, openMetricsFloat(bound))
	}
	return bounds
}()

// samplesOf yields the samples of chunks in the order of time: the instant in
// milliseconds and the value.
func samplesOf(chunks ...chunk) iter.Seq2[int64, float64] {
	return func(yield func(int64, float64) bool) {
		var xor chunkenc.XORChunk
		var it chunkenc.Iterator
		for _, c := range chunks {
			xor.Reset(c.data)
			it = xor.Iterator(it)
			for it.Next() == chunkenc.ValFloat {
				if !yield(it.At()) {
					return
				}
			}
		}
	}
}
