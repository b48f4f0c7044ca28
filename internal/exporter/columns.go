package exporter

import (
	"encoding/binary"
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

// columns collect the samples of instants at equal distances, by series. The
// values of up to chunkSamples instants wait as they are; then they are encoded.
//
// A snapshot's samples come in the same order as those of the one before, nearly
// always: a metric is found where it was, by a comparison of its labels that
// succeeds. Where it does not, one has come or gone.
type columns struct {
	start, step int64 // milliseconds: instant of the first waiting row, distance
	batch       int   // how many were encoded before

	// rows are the instants that wait and at last the one that is being filled:
	// the bits of the values by series. They are written row by row and read a few
	// series at a time, which is what memory is fast at.
	rows  [][]uint64
	empty []uint64 // a row without any sample

	order []*metric // as they came in the row before, and up to next in this one
	next  int
	byKey map[string]*metric
	key   []byte

	series []column

	xor   chunkenc.XORChunk
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
	c := &columns{start: start, step: step, byKey: map[string]*metric{}, rows: make([][]uint64, 1, chunkSamples)}
	c.xor.Reset(make([]byte, 2, 2048))
	return c
}

func (c *columns) add(s *samples, value float64, labels []string) {
	m := c.metric(s, labels)
	c.rows[len(c.rows)-1][m.first] = math.Float64bits(value)
}

func (c *columns) histogram(s *samples, t *flow.Totals, labels []string) {
	m := c.metric(s, labels)
	lines := c.rows[len(c.rows)-1][m.first:][:histogramLines]
	below := 0
	for i := range flowTimeBounds {
		below += t.FlowTimeBuckets[i]
		lines[i] = math.Float64bits(float64(below))
	}
	lines[histogramInf] = math.Float64bits(float64(t.FlowTimeCount))
	lines[histogramSum] = math.Float64bits(t.FlowTimeSum.Seconds())
	lines[histogramCount] = lines[histogramInf]
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
	row := &c.rows[len(c.rows)-1]
	for line := range lines {
		c.series = append(c.series, column{metric: m, line: line})
		c.empty = append(c.empty, missing)
		*row = append(*row, missing)
	}
	return m
}

// endRow goes on to the next instant. Where that encoded what waited, it returns
// how many instants these were.
func (c *columns) endRow() int {
	c.order, c.next = c.order[:c.next], 0
	if n := len(c.rows); n < chunkSamples {
		c.rows = c.rows[:n+1] // with the memory that the row had before
		c.rows[n] = append(c.rows[n][:0], c.empty...)
		return 0
	}
	return c.encode(chunkSamples)
}

// end encodes the rows that were filled, and returns how many these are.
func (c *columns) end() int { return c.encode(len(c.rows) - 1) }

// encode makes a chunk of each series' values in the first rows, and begins
// with an empty one.
func (c *columns) encode(rows int) int {
	if rows == 0 {
		return 0
	}
	for r := range rows {
		c.rows[r] = append(c.rows[r], c.empty[len(c.rows[r]):]...) // series that came later
	}
	var values [chunkSamples]uint64
	for i := range c.series {
		same := true
		for r, row := range c.rows[:rows] {
			values[r] = row[i]
			same = same && values[r] == values[0]
		}
		s := &c.series[i]
		switch {
		case !same || rows == 1:
			c.append(s, values[:rows])
		case values[0] != missing:
			c.repeat(s, values[0], rows)
		}
	}
	c.rows = c.rows[:1]
	c.rows[0] = append(c.rows[0][:0], c.empty...)
	c.start += int64(rows) * c.step
	c.batch++
	return rows
}

// append adds a chunk with the values of all rows to a series.
func (c *columns) append(s *column, values []uint64) {
	c.xor.Reset(append(c.xor.Bytes()[:0], 0, 0))
	appender, err := c.xor.Appender()
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
	out.data = c.keep(c.xor.Bytes())
	s.chunks = append(s.chunks, out)
	s.samples += n
}

// repeat is append for a value that all of at least two rows have, which is most
// of what there is to encode. After the first instant, the value and the step
// follow bits that say "as before": one for the value of the second sample, one
// for the step and one for the value of each further one. They are all zero.
func (c *columns) repeat(s *column, bits uint64, rows int) {
	data := c.xor.Bytes()[:0]
	data = binary.BigEndian.AppendUint16(data, uint16(rows))
	data = binary.AppendVarint(data, c.start)
	data = binary.BigEndian.AppendUint64(data, bits)
	data = binary.AppendUvarint(data, uint64(c.step))
	data = append(data, make([]byte, (1+2*(rows-2)+7)/8)...)
	c.xor.Reset(data)
	s.chunks = append(s.chunks, chunk{c.batch, c.start, c.start + int64(rows-1)*c.step, c.keep(data)})
	s.samples += rows
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
