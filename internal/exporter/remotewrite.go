package exporter

import (
	"iter"

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
		n := 0
		send := func() bool {
			body, err := request.Marshal()
			if err != nil {
				panic("exporter: a write request cannot be encoded: " + err.Error()) // plain data always can
			}
			sent := n
			request.Timeseries, n = request.Timeseries[:0], 0
			return yield(snappy.Encode(nil, body), sent)
		}
		next := make([]int, len(p.series)) // chunk of each series
		for batch := range p.batches {
			for i := range p.series {
				s := &p.series[i]
				if next[i] == len(s.chunks) || s.chunks[next[i]].batch != batch {
					continue
				}
				fresh := true
				for at, v := range samplesOf(s.chunks[next[i]]) {
					if fresh {
						request.Timeseries = append(request.Timeseries, prompb.TimeSeries{Labels: named[i]})
						fresh = false
					}
					last := &request.Timeseries[len(request.Timeseries)-1]
					last.Samples = append(last.Samples, prompb.Sample{Timestamp: at, Value: v})
					if n++; n == limit {
						if !send() {
							return
						}
						fresh = true
					}
				}
				next[i]++
			}
		}
		if n > 0 {
			send()
		}
	}
}
