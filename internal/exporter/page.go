package exporter

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// The encodings of a page: each format plain and, next to it, deflated.
const (
	textPlain = 2 * iota
	openMetricsPlain
	protobufPlain
	numEncodings
)

// encodingOf returns the index of an encoding.
func encodingOf(format expfmt.Format, deflated bool) int {
	i := textPlain
	switch format.FormatType() {
	case expfmt.TypeOpenMetrics:
		i = openMetricsPlain
	case expfmt.TypeProtoDelim:
		i = protobufPlain
	}
	if deflated {
		i++
	}
	return i
}

// A page is one snapshot with its encodings, each made when it is first asked
// for.
type page struct {
	snapshot *flow.Snapshot
	encoded  [numEncodings]func() (encoded, error)
}

// encoded is a snapshot's families in one encoding. A deflated one ends on a
// byte boundary and lacks its end, so that more may follow.
type encoded struct {
	data []byte
	crc  uint32 // of the plain data
	size int    // of the plain data
}

func newPage(s *flow.Snapshot) *page {
	p := &page{snapshot: s}
	for i, format := range map[int]expfmt.Format{
		textPlain: expfmt.FmtText, openMetricsPlain: expfmt.FmtOpenMetrics_1_0_0, protobufPlain: expfmt.FmtProtoDelim,
	} {
		p.encoded[i] = sync.OnceValues(func() (encoded, error) {
			var b bytes.Buffer
			err := encode(&b, format, gather(flowFamilies, s), false)
			return encoded{data: b.Bytes(), size: b.Len()}, err
		})
		p.encoded[i+1] = sync.OnceValues(func() (encoded, error) {
			plain, err := p.encoded[i]()
			if err != nil {
				return encoded{}, err
			}
			return deflate(plain.data)
		})
	}
	return p
}

// encode writes families in a format; last says that nothing follows them.
func encode(w io.Writer, format expfmt.Format, families []*dto.MetricFamily, last bool) error {
	encoder := expfmt.NewEncoder(w, format)
	for _, f := range families {
		if err := encoder.Encode(f); err != nil {
			return err
		}
	}
	if closer, ok := encoder.(expfmt.Closer); ok && last {
		return closer.Close() // writes OpenMetrics' # EOF
	}
	return nil
}

func deflate(plain []byte) (encoded, error) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		return encoded{}, err
	}
	if _, err := w.Write(plain); err != nil {
		return encoded{}, err
	}
	err = w.Flush()
	return encoded{b.Bytes(), crc32.ChecksumIEEE(plain), len(plain)}, err
}

// gzipHeader begins a gzip stream without a name or a time.
var gzipHeader = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}

// maxStored is the length of the longest stored block.
const maxStored = 1<<16 - 1

// gzipEnd completes the one gzip stream that consists of gzipHeader, a deflated
// page and the text after it. The text is small and is stored as it is, which
// costs the client less than compressing it would cost here. Two streams in a
// row would be valid as well, but not every client reads the second.
func gzipEnd(before encoded, text []byte) []byte {
	end := make([]byte, 0, len(text)+5*(len(text)/maxStored+1)+8)
	for rest, last := text, false; !last; {
		block := rest[:min(len(rest), maxStored)]
		rest = rest[len(block):]
		last = len(rest) == 0
		var final byte
		if last {
			final = 1
		}
		end = append(end, final)
		end = binary.LittleEndian.AppendUint16(end, uint16(len(block)))
		end = binary.LittleEndian.AppendUint16(end, ^uint16(len(block)))
		end = append(end, block...)
	}
	end = binary.LittleEndian.AppendUint32(end, crc32.Update(before.crc, crc32.IEEETable, text))
	return binary.LittleEndian.AppendUint32(end, uint32(before.size+len(text)))
}
