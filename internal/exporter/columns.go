package exporter

import (
	"math"
	"slices"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// chunkSamples is how many instants a chunk covers: with a sample at each of
// them, as many samples as Prometheus' own chunks.
const chunkSamples = 120

// missing stands where a series has no sample: a NaN that no computation gives.
const missing = 0x7ff0_0000_f10c_f10c

// noSamples are the values of a series that has not been seen.
var noSamples = func() (rows [chunkSamples]uint64) {
	for i := range rows {
		rows[i] = missing
	}
	return rows
}()

// columns collect the samples of instants at equal distances, by series. The
// values of up to chunkSamples instants wait as they are; then they are encoded.
//
// A snapshot's samples come in the same order as those of the one before, nearly
// always: a metric is found where it was, by a comparison of its labels that
// succeeds. Where it does not, one has come or gone.
type columns struct {
	start, step int64 // milliseconds: instant of the first waiting row, distance
	row         int   // that is being filled
	batch       int   // of rows

	order []*metric // as they came in the row before, and up to next in this one
	next  int
	byKey map[string]*metric
	key   []byte

	series []column
	values []uint64 // chunkSamples bit patterns for each series

	chunk chunkenc.XORChunk
	arena []byte // the encoded chunks are cut from it
}

// A metric is one set of labels of a family, with the one series that it has or,
// of a histogram, all of them.
type metric struct {
	family *samples
	stream string
	labels []string // the others
	first  int      // its series' indices begin here
}

// A column has the samples of one series: of a metric, or of one line of it if
// that is a histogram.
type column struct {
	metric  *metric
	line    int
	chunks  []chunk
	samples int
}

// A chunk is encoded by Prometheus' XOR encoding.
type chunk struct {
	batch    int
	from, to int64 // first and last sample, milliseconds
	data     []byte
}

// The lines of a histogram, after those of the buckets with a bound.
var (
	histogramInf   = len(flowTimeBounds)
	histogramSum   = histogramInf + 1
	histogramCount = histogramInf + 2
	histogramLines = histogramInf + 3
)

func newColumns(start, step int64) *columns {
	c := &columns{start: start, step: step, byKey: map[string]*metric{}}
	c.chunk.Reset(make([]byte, 2, 2048))
	return c
}

func (c *columns) add(s *samples, value float64, labels []string) {
	m := c.metric(s, labels)
	c.values[m.first*chunkSamples+c.row] = math.Float64bits(value)
}

func (c *columns) histogram(s *samples, t *flow.Totals, labels []string) {
	m := c.metric(s, labels)
	set := func(line int, value float64) {
		c.values[(m.first+line)*chunkSamples+c.row] = math.Float64bits(value)
	}
	below := 0
	for i := range flowTimeBounds {
		below += t.FlowTimeBuckets[i]
		set(i, float64(below))
	}
	set(histogramInf, float64(t.FlowTimeCount))
	set(histogramSum, t.FlowTimeSum.Seconds())
	set(histogramCount, float64(t.FlowTimeCount))
}

// metric returns the metric of the family with these labels.
func (c *columns) metric(s *samples, labels []string) *metric {
	if c.next < len(c.order) {
		if m := c.order[c.next]; m.is(s, labels) {
			c.next++
			return m
		}
	}
	return c.seek(s, labels)
}

func (m *metric) is(s *samples, labels []string) bool {
	if m.family != s || m.stream != s.stream || len(m.labels) != len(labels) {
		return false
	}
	for i := range labels {
		if m.labels[i] != labels[i] {
			return false
		}
	}
	return true
}

// seek finds a metric that is not where it was expected, and puts the order
// right: what stood before it is not in this row, or it was not in the last.
func (c *columns) seek(s *samples, labels []string) *metric {
	c.key = append(append(append(c.key[:0], s.name...), 0xff), s.stream...)
	for _, label := range labels {
		c.key = append(append(c.key, 0xff), label...)
	}
	m := c.byKey[string(c.key)]
	if m == nil {
		m = c.create(s, labels)
		c.byKey[string(c.key)] = m
	}
	if gone := slices.Index(c.order[c.next:], m); gone >= 0 {
		c.order = slices.Delete(c.order, c.next, c.next+gone)
	} else {
		c.order = slices.Insert(c.order, c.next, m)
	}
	c.next++
	return m
}

func (c *columns) create(s *samples, labels []string) *metric {
	m := &metric{family: s, stream: s.stream, labels: slices.Clone(labels), first: len(c.series)}
	lines := 1
	if s.kind == histogram {
		lines = histogramLines
	}
	for line := range lines {
		c.series = append(c.series, column{metric: m, line: line})
		c.values = append(c.values, noSamples[:]...)
	}
	return m
}

// endRow goes on to the next instant. Where that encoded what waited, it returns
// how many instants these were.
func (c *columns) endRow() int {
	c.order, c.next = c.order[:c.next], 0
	if c.row++; c.row == chunkSamples {
		return c.flush()
	}
	return 0
}

// flush encodes what waits and returns how many instants these are.
func (c *columns) flush() int {
	rows := c.row
	for i := range c.series {
		c.encode(&c.series[i], c.values[i*chunkSamples:][:rows])
	}
	for i := range c.series {
		copy(c.values[i*chunkSamples:][:rows], noSamples[:])
	}
	c.start += int64(rows) * c.step
	c.row = 0
	c.batch++
	return rows
}

// encode appends a chunk with the values to a series.
func (c *columns) encode(s *column, values []uint64) {
	stream := append(c.chunk.Bytes()[:0], 0, 0)
	c.chunk.Reset(stream)
	appender, err := c.chunk.Appender()
	if err != nil {
		panic("exporter: an empty chunk cannot be read: " + err.Error())
	}
	out := chunk{batch: c.batch}
	n := 0
	for row, bits := range values {
		if bits == missing {
			continue
		}
		out.to = c.start + int64(row)*c.step
		if n++; n == 1 {
			out.from = out.to
		}
		appender.Append(out.to, math.Float64frombits(bits))
	}
	if n == 0 {
		return
	}
	out.data = c.keep(c.chunk.Bytes())
	s.chunks = append(s.chunks, out)
	s.samples += n
}

// keep returns a copy of an encoded chunk.
func (c *columns) keep(data []byte) []byte {
	const size = 1 << 20
	if len(c.arena)+len(data) > cap(c.arena) {
		c.arena = make([]byte, 0, size) // no chunk is nearly as long
	}
	c.arena = append(c.arena, data...)
	end := len(c.arena)
	return c.arena[end-len(data) : end : end]
}
