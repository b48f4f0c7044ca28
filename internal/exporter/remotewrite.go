package exporter

import (
	"iter"
	"slices"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
)

// WriteRequests yields the part as bodies of remote write requests of version 1
// (prompb.WriteRequest in snappy's block format), each with its number of
// samples: limit, which is above 0, and in the last one the rest. Sent in this
// order, the samples of each series are in the order of time, and all series go
// forward together, chunkSamples instants at a time. A body belongs to the
// caller.
func (p *Part) WriteRequests(limit int) iter.Seq2[[]byte, int] {
	return func(yield func([]byte, int) bool) {
		named := make([][]prompb.Label, len(p.series))
		for i := range p.series {
			p.series[i].labels.Range(func(l labels.Label) {
				named[i] = append(named[i], prompb.Label{Name: l.Name, Value: l.Value})
			})
		}
		var request prompb.WriteRequest
		var encoded []byte
		samples := make([]prompb.Sample, 0, min(limit, p.samples)) // of all series in the request
		begun := 0                                                 // the current series' first one
		// end completes the series, if it has samples in the request.
		end := func(i int) {
			if begun < len(samples) {
				request.Timeseries = append(request.Timeseries, prompb.TimeSeries{Labels: named[i], Samples: samples[begun:]})
			}
			begun = len(samples)
		}
		send := func() bool {
			encoded = slices.Grow(encoded[:0], request.Size())[:request.Size()]
			if _, err := request.MarshalToSizedBuffer(encoded); err != nil {
				panic("exporter: a write request cannot be encoded: " + err.Error()) // plain data always can
			}
			n := len(samples)
			request.Timeseries, samples, begun = request.Timeseries[:0], samples[:0], 0
			return yield(snappy.Encode(nil, encoded), n)
		}
		next := make([]int, len(p.series)) // chunk of each series
		for batch := range p.batches {
			for i := range p.series {
				s := &p.series[i]
				if next[i] == len(s.chunks) || s.chunks[next[i]].batch != batch {
					continue
				}
				for at, v := range samplesOf(s.chunks[next[i]]) {
					samples = append(samples, prompb.Sample{Timestamp: at, Value: v})
					if len(samples) == limit {
						end(i)
						if !send() {
							return
						}
					}
				}
				end(i)
				next[i]++
			}
		}
		if len(samples) > 0 {
			send()
		}
	}
}
