package exporter

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// TestNativeBuckets compares the native buckets of measured flow times with
// those that Prometheus' own client makes of the same values.
func TestNativeBuckets(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	tests := map[string][]time.Duration{"none": nil, "powers of two": {time.Second, 2 * time.Second, 4 * time.Second, 1 << 40}}
	for range 500 {
		tests["many"] = append(tests["many"], time.Duration(random.ExpFloat64()*float64(5*24*time.Hour)).Truncate(time.Second))
	}
	for name, took := range tests {
		t.Run(name, func(t *testing.T) {
			client := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "h", NativeHistogramBucketFactor: 1.1})
			for _, d := range took {
				client.Observe(d.Seconds())
			}
			var want dto.Metric
			if err := client.Write(&want); err != nil {
				t.Fatal(err)
			}
			totals := measured(t, took)
			got := &dto.Histogram{}
			native(got, &totals)
			w := want.Histogram
			if got.GetSchema() != w.GetSchema() || got.GetZeroThreshold() != w.GetZeroThreshold() || got.GetZeroCount() != w.GetZeroCount() {
				t.Errorf("got schema %d, zero threshold %g, zeros %d, want %d, %g, %d", got.GetSchema(), got.GetZeroThreshold(),
					got.GetZeroCount(), w.GetSchema(), w.GetZeroThreshold(), w.GetZeroCount())
			}
			if diff := cmp.Diff(buckets(w), buckets(got)); diff != "" {
				t.Errorf("buckets (-client +got):\n%s", diff)
			}
		})
	}
}

// measured folds one item for each flow time, all completed by the same day.
func measured(t *testing.T, took []time.Duration) flow.Totals {
	t.Helper()
	w := &flow.Workflow{Types: []flow.TypeRule{{Match: "Story", Type: flow.Feature}}}
	policy := &flow.Policy{Windows: flow.DefaultWindows(), ValueStreams: []*flow.ValueStream{{Name: "v", Workflow: w, Include: []flow.Include{{}}}}}
	end := time.Date(2026, 6, 29, 0, 0, 0, 0, time.UTC)
	status := func(category string) flow.FieldChange {
		return flow.FieldChange{Field: flow.FieldStatus, To: flow.Value{Name: category, Category: category}}
	}
	l := flow.NewLedger()
	for i, d := range took {
		item := string(rune('a'+i%26)) + time.Duration(i).String()
		steps := []flow.Change{
			{ID: item + "1", At: end.Add(-d), Kind: flow.Created, Fields: []flow.FieldChange{status("indeterminate"), {Field: flow.FieldType, To: flow.Value{Name: "Story"}}}},
			{ID: item + "2", At: end, Kind: flow.Updated, Fields: []flow.FieldChange{status("done")}},
		}
		for _, c := range steps {
			c.Source, c.Item = "s", item
			l.Add(&c)
		}
	}
	return flow.Measure(policy, l, end.Add(time.Hour), flow.Options{}).ValueStreams[0].Totals[flow.Feature]
}

// TestNativeZero: what is counted and in no bucket is in that of zero.
func TestNativeZero(t *testing.T) {
	h := &dto.Histogram{}
	native(h, &flow.Totals{FlowTimeCount: 3, FlowTimeFine: map[int]int{5: 2}})
	if h.GetZeroCount() != 1 || len(buckets(h)) != 1 || buckets(h)[5] != 2 {
		t.Errorf("%d zeros, buckets %v", h.GetZeroCount(), buckets(h))
	}
}

// buckets gives the count of each bucket that is not empty.
func buckets(h *dto.Histogram) map[int32]int64 {
	counts := map[int32]int64{}
	index, n, next := int32(0), int64(0), 0
	for _, span := range h.PositiveSpan {
		index += span.GetOffset()
		for range span.GetLength() {
			n += h.PositiveDelta[next]
			next++
			if n != 0 {
				counts[index] = n
			}
			index++
		}
	}
	return counts
}
