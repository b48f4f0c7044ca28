package exporter

import (
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
)

// writeSize is how much text is written at once.
const writeSize = 1 << 18

// WriteOpenMetrics writes the part as OpenMetrics text with timestamps: the
// families by name, each with its series sorted, the samples of a series together
// in the order of time. promtool makes blocks of it ("tsdb create-blocks-from
// openmetrics"). It makes large writes, and fails as the writer fails.
func (p *Part) WriteOpenMetrics(w io.Writer) error {
	var text, prefix []byte
	var about *samples
	for i := range p.series {
		s := &p.series[i]
		if f := s.metric.family; f != about {
			about = f
			text = appendFamily(text, f)
		}
		prefix = appendSeries(prefix[:0], s.labels)
		var value []byte
		bits := uint64(missing)
		for at, v := range samplesOf(s.chunks...) {
			if b := math.Float64bits(v); b != bits { // most values repeat the one before
				bits, value = b, appendFloat(value[:0], v)
			}
			text = append(text, prefix...)
			text = append(text, value...)
			text = appendSeconds(append(text, ' '), at)
			text = append(text, '\n')
			if len(text) >= writeSize {
				if _, err := w.Write(text); err != nil {
					return err
				}
				text = text[:0]
			}
		}
	}
	_, err := w.Write(append(text, "# EOF\n"...))
	return err
}

// appendFamily appends the lines about a family. A counter's family has not the
// end of its series' name.
func appendFamily(text []byte, f *samples) []byte {
	name := f.name
	if f.kind == counter {
		name = strings.TrimSuffix(name, "_total")
	}
	text = append(append(append(text, "# HELP "...), name...), ' ')
	text = append(appendEscaped(text, f.help), '\n')
	text = append(append(append(text, "# TYPE "...), name...), ' ')
	return append(append(text, typeName(f.kind)...), '\n')
}

// appendSeries appends a series' name and labels and the space after them.
func appendSeries(text []byte, ls labels.Labels) []byte {
	text = append(text, ls.Get(labels.MetricName)...)
	separator := byte('{')
	ls.Range(func(l labels.Label) {
		if l.Name == labels.MetricName {
			return
		}
		text = append(append(append(text, separator), l.Name...), `="`...)
		text = append(appendEscaped(text, l.Value), '"')
		separator = ','
	})
	if separator == ',' {
		text = append(text, '}')
	}
	return append(text, ' ')
}

func appendEscaped(text []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; c {
		case '\\', '"':
			text = append(text, '\\', c)
		case '\n':
			text = append(text, '\\', 'n')
		default:
			text = append(text, c)
		}
	}
	return text
}

// appendFloat appends the shortest text that reads as the same value, without an
// exponent where people would not write one.
func appendFloat(text []byte, v float64) []byte {
	if abs := math.Abs(v); abs >= 1e15 || abs < 1e-6 && abs > 0 {
		return strconv.AppendFloat(text, v, 'g', -1, 64)
	}
	return strconv.AppendFloat(text, v, 'f', -1, 64)
}

// appendSeconds appends milliseconds as seconds.
func appendSeconds(text []byte, ms int64) []byte {
	if ms%1000 == 0 {
		return strconv.AppendInt(text, ms/1000, 10)
	}
	return strconv.AppendFloat(text, float64(ms)/1000, 'f', 3, 64)
}

// openMetricsFloat returns a value as OpenMetrics writes those of labels: never
// without a point or an exponent.
func openMetricsFloat(v float64) string {
	if math.IsInf(v, 1) {
		return "+Inf"
	}
	text := strconv.FormatFloat(v, 'g', -1, 64)
	if !strings.ContainsAny(text, "e.") {
		text += ".0"
	}
	return text
}
