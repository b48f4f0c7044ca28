package exporter

import (
	"cmp"
	"maps"
	"slices"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	dto "github.com/prometheus/client_model/go"
)

// maxStatuses bounds the statuses of a value stream in one family (I7): a
// tracker may have hundreds.
const maxStatuses = 20

// otherStatuses stands for the statuses beyond maxStatuses.
const otherStatuses = "other"

// A statusState is a tracker status with the state that it had.
type statusState struct {
	status string
	state  flow.State
}

// largest returns the statuses of the largest weights, at most maxStatuses.
func largest(weights map[statusState]float64) map[statusState]bool {
	order := slices.SortedFunc(maps.Keys(weights), func(a, b statusState) int {
		return cmp.Or(cmp.Compare(weights[b], weights[a]), cmp.Compare(a.status, b.status), cmp.Compare(a.state, b.state))
	})
	kept := map[statusState]bool{}
	for _, s := range order[:min(len(order), maxStatuses)] {
		kept[s] = true
	}
	return kept
}

// bounded adds up what is not kept as other statuses of the same state.
func bounded(values map[statusState]float64, kept map[statusState]bool) map[statusState]float64 {
	out := make(map[statusState]float64, len(kept)+1)
	for s, v := range values {
		if !kept[s] {
			s.status = otherStatuses
		}
		out[s] += v
	}
	return out
}

// sorted returns the statuses by name, then state.
func sorted(values map[statusState]float64) []statusState {
	return slices.SortedFunc(maps.Keys(values), func(a, b statusState) int {
		return cmp.Or(cmp.Compare(a.status, b.status), cmp.Compare(a.state, b.state))
	})
}

var statusLoad = eachStream(func(m *flow.Measures, out *samples) {
	if len(m.Load.ByStatus) <= maxStatuses {
		for i := range m.Load.ByStatus {
			s := &m.Load.ByStatus[i]
			out.count(s.Items, s.Status, s.State.String())
		}
		return
	}
	items := map[statusState]float64{}
	for _, s := range m.Load.ByStatus {
		items[statusState{s.Status, s.State}] += float64(s.Items)
	}
	items = bounded(items, largest(items))
	for _, s := range sorted(items) {
		out.add(items[s], s.status, s.state.String())
	}
})

// statusTimes shows the same statuses in each window: the largest by the time
// in all windows together.
var statusTimes = eachStream(func(m *flow.Measures, out *samples) {
	if fewStatuses(m.Windows) {
		for i := range m.Windows {
			w := &m.Windows[i]
			for j := range w.Status {
				s := &w.Status[j]
				out.add(s.Time.Seconds(), s.Status, s.State.String(), w.Window.Name)
			}
		}
		return
	}
	weights := map[statusState]float64{}
	windows := make([]map[statusState]float64, len(m.Windows))
	for i := range m.Windows {
		windows[i] = map[statusState]float64{}
		for _, s := range m.Windows[i].Status {
			seconds := s.Time.Seconds()
			weights[statusState{s.Status, s.State}] += seconds
			windows[i][statusState{s.Status, s.State}] += seconds
		}
	}
	kept := largest(weights)
	for i := range windows {
		times := bounded(windows[i], kept)
		for _, s := range sorted(times) {
			out.add(times[s], s.status, s.state.String(), m.Windows[i].Window.Name)
		}
	}
})

// fewStatuses reports whether all windows together have no more statuses than
// are shown, as nearly always.
func fewStatuses(windows []flow.WindowMeasures) bool {
	n := 0
	for i := range windows {
		for j := range windows[i].Status {
			s := &windows[i].Status[j]
			known := false
			for k := range i {
				known = known || slices.ContainsFunc(windows[k].Status, func(t flow.StatusTime) bool {
					return t.Status == s.Status && t.State == s.State
				})
			}
			if known {
				continue
			}
			if n++; n > maxStatuses {
				return false
			}
		}
	}
	return true
}

var flowTimeBounds = func() []float64 {
	var bounds []float64
	for _, b := range flow.FlowTimeBounds() {
		bounds = append(bounds, b.Seconds())
	}
	return bounds
}()

// histogram appends the flow times at the completions of one item type.
func (s *samples) histogram(t *flow.Totals, values ...string) {
	if s.history != nil {
		s.history.histogram(s, t, values)
		return
	}
	h := &dto.Histogram{}
	below := uint64(0)
	for i := range flowTimeBounds {
		below += uint64(t.FlowTimeBuckets[i])
		cumulative := below
		h.Bucket = append(h.Bucket, &dto.Bucket{UpperBound: &flowTimeBounds[i], CumulativeCount: &cumulative})
	}
	n, sum := uint64(t.FlowTimeCount), t.FlowTimeSum.Seconds()
	h.SampleCount, h.SampleSum = &n, &sum
	native(h, t)
	s.metric(values).Histogram = h
}

// zeroThreshold is the width of the zero bucket that Prometheus' own clients
// use; flow times are whole nanoseconds, so it holds zeros alone.
const zeroThreshold = 2.938735877055719e-39 // 2^-128

// native fills in the native buckets, which only the protobuf format carries.
func native(h *dto.Histogram, t *flow.Totals) {
	h.Schema, h.ZeroThreshold = new(int32(flow.FlowTimeSchema)), new(float64(zeroThreshold))
	zeros := t.FlowTimeCount
	var last, previous int
	for i, bucket := range slices.Sorted(maps.Keys(t.FlowTimeFine)) {
		n := t.FlowTimeFine[bucket]
		zeros -= n
		if i == 0 || bucket != last+1 {
			offset := bucket // of the first span from bucket 0, of the others from the end of the span before
			if i > 0 {
				offset = bucket - last - 1
			}
			h.PositiveSpan = append(h.PositiveSpan, &dto.BucketSpan{Offset: new(int32(offset)), Length: new(uint32(0))})
		}
		*h.PositiveSpan[len(h.PositiveSpan)-1].Length++
		h.PositiveDelta = append(h.PositiveDelta, int64(n-previous))
		last, previous = bucket, n
	}
	h.ZeroCount = new(uint64(zeros))
	if len(h.PositiveSpan) == 0 {
		// Without any span it would be taken for a histogram without native buckets.
		h.PositiveSpan = []*dto.BucketSpan{{Offset: new(int32(0)), Length: new(uint32(0))}}
	}
}

// sources returns the sources that the value streams name or that have
// unmapped statuses, sorted.
func sources(s *flow.Snapshot) []string {
	names := map[string]bool{}
	for source := range s.Quality.UnmappedItems {
		names[source] = true
	}
	for _, m := range s.ValueStreams {
		for _, in := range m.ValueStream.Include {
			if in.Source != "" {
				names[in.Source] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}
