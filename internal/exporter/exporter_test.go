package exporter

import (
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
)

// rebuilt is the ordinary way to export the same numbers: a collector of const
// metrics in a registry.
type rebuilt struct{ gather func() []*dto.MetricFamily }

func (rebuilt) Describe(chan<- *prometheus.Desc) {} // unchecked

func (r rebuilt) Collect(out chan<- prometheus.Metric) {
	for _, f := range r.gather() {
		for _, m := range f.GetMetric() {
			var names, values []string
			for _, l := range m.GetLabel() {
				names, values = append(names, l.GetName()), append(values, l.GetValue())
			}
			desc := prometheus.NewDesc(f.GetName(), f.GetHelp(), names, nil)
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				out <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, m.GetCounter().GetValue(), values...)
			case dto.MetricType_HISTOGRAM:
				h, buckets := m.GetHistogram(), map[float64]uint64{}
				for _, b := range h.GetBucket() {
					buckets[b.GetUpperBound()] = b.GetCumulativeCount()
				}
				out <- prometheus.MustNewConstHistogram(desc, h.GetSampleCount(), h.GetSampleSum(), buckets, values...)
			default:
				out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, m.GetGauge().GetValue(), values...)
			}
		}
	}
}

// withoutRuntime returns an exporter whose page does not change by itself.
func withoutRuntime() *Exporter {
	e := New(build, service)
	e.runtime = prometheus.NewRegistry()
	return e
}

func get(t *testing.T, h http.Handler, header http.Header) (*http.Response, []byte) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header = header
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	resp := w.Result()
	body := w.Body.Bytes()
	if n := resp.Header.Get("Content-Length"); n != "" && n != strconv.Itoa(len(body)) {
		t.Errorf("Content-Length %s of %d bytes", n, len(body))
	}
	if resp.Header.Get("Content-Encoding") == "gzip" {
		buffer := bytes.NewReader(body)
		z, err := gzip.NewReader(buffer)
		if err != nil {
			t.Fatal(err)
		}
		z.Multistream(false) // some clients read one stream only
		if body, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
		if buffer.Len() != 0 {
			t.Errorf("%d bytes after the gzip stream", buffer.Len())
		}
	}
	return resp, body
}

// TestSameAsPromhttp: for every format and compression, the page is that of
// promhttp over an ordinary registry with the same metrics: the same
// headers, the same families with the same lines about them, the same samples.
func TestSameAsPromhttp(t *testing.T) {
	e := withoutRuntime()
	s := snapshot(payments(), idle(), saturated("platform"))
	e.Update(s)
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(rebuilt{func() []*dto.MetricFamily {
		own, err := e.own()
		if err != nil {
			t.Error(err)
		}
		return append(gather(flowFamilies, s), own...)
	}})
	reference := promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})

	for name, accept := range map[string]string{
		"none":             "",
		"any":              "*/*",
		"text":             "text/plain;version=0.0.4",
		"openmetrics":      "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
		"openmetrics 0":    "application/openmetrics-text",
		"openmetrics utf8": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.4",
		"protobuf":         "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,text/plain;q=0.3",
		"unknown":          "image/png",
	} {
		for _, encoding := range []string{"", "gzip", "br, gzip;q=0.5", "gzip;q=0", "identity"} {
			t.Run(name+" "+encoding, func(t *testing.T) {
				header := http.Header{"Accept": {accept}, "Accept-Encoding": {encoding}}
				wantResp, want := get(t, reference, header)
				gotResp, got := get(t, e, header)
				for _, h := range []string{"Content-Type", "Content-Encoding", "Vary"} {
					if w, g := wantResp.Header.Values(h), gotResp.Header.Values(h); !cmp.Equal(w, g) {
						t.Errorf("%s is %q, want %q", h, g, w)
					}
				}
				if strings.HasPrefix(gotResp.Header.Get("Content-Type"), "application/vnd") {
					families := protobuf(t, got)
					for _, m := range families["flow_time_seconds"].Metric {
						// A constant histogram of the client has classic or native
						// buckets, not both: see TestNativeBuckets for these.
						h := m.Histogram
						h.Schema, h.ZeroThreshold, h.ZeroCount, h.PositiveSpan, h.PositiveDelta = nil, nil, nil, nil, nil
					}
					compareFamilies(t, protobuf(t, want), families)
					return
				}
				compareText(t, want, got)
				if strings.HasPrefix(gotResp.Header.Get("Content-Type"), "text/plain") {
					compareFamilies(t, parse(t, want), parse(t, got))
				}
			})
		}
	}
}

// compareText compares the families' lines, those of one family in any order:
// each family must be in one piece.
func compareText(t *testing.T, want, got []byte) {
	t.Helper()
	byFamily := func(page []byte) map[string][]string {
		families := map[string][]string{}
		name := ""
		for line := range strings.Lines(string(page)) {
			if rest, ok := strings.CutPrefix(line, "# HELP "); ok {
				name, _, _ = strings.Cut(rest, " ")
				if families[name] != nil {
					t.Errorf("family %s is in two pieces", name)
				}
			}
			families[name] = append(families[name], line)
		}
		for _, lines := range families {
			slices.Sort(lines[min(2, len(lines)):]) // after HELP and TYPE
		}
		return families
	}
	end := []byte("# EOF\n")
	if bytes.HasSuffix(want, end) {
		if bytes.Count(got, end) != 1 || !bytes.HasSuffix(got, end) {
			t.Error("# EOF is not once and at the end")
		}
		want, got = bytes.TrimSuffix(want, end), bytes.TrimSuffix(got, end)
	}
	w, g := byFamily(want), byFamily(got)
	if !maps.EqualFunc(w, g, slices.Equal) { // far faster than a difference
		t.Errorf("page (-promhttp +exporter):\n%s", cmp.Diff(w, g))
	}
}

func parse(t *testing.T, page []byte) map[string]*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func protobuf(t *testing.T, page []byte) map[string]*dto.MetricFamily {
	t.Helper()
	families := map[string]*dto.MetricFamily{}
	d := expfmt.NewDecoder(bytes.NewReader(page), expfmt.FmtProtoDelim)
	for {
		f := &dto.MetricFamily{}
		if err := d.Decode(f); err == io.EOF {
			return families
		} else if err != nil {
			t.Fatal(err)
		}
		if families[f.GetName()] != nil {
			t.Errorf("family %s twice", f.GetName())
		}
		families[f.GetName()] = f
	}
}

func compareFamilies(t *testing.T, want, got map[string]*dto.MetricFamily) {
	t.Helper()
	if len(want) == 0 {
		t.Fatal("no families")
	}
	for _, families := range []map[string]*dto.MetricFamily{want, got} {
		for _, f := range families {
			slices.SortFunc(f.Metric, func(a, b *dto.Metric) int {
				return slices.CompareFunc(a.Label, b.Label, func(x, y *dto.LabelPair) int {
					return strings.Compare(x.GetValue(), y.GetValue())
				})
			})
		}
	}
	equal := func(a, b *dto.MetricFamily) bool { return proto.Equal(a, b) }
	if !maps.EqualFunc(want, got, equal) { // far faster than a difference
		t.Errorf("families (-promhttp +exporter):\n%s", cmp.Diff(want, got, protocmp.Transform()))
	}
}

// TestGzipEnd: texts of any length follow a deflated page.
func TestGzipEnd(t *testing.T) {
	page := bytes.Repeat([]byte("flow "), 1000)
	before, err := deflate(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, maxStored, maxStored + 1, 3 * maxStored} {
		text := bytes.Repeat([]byte("x"), n)
		z, err := gzip.NewReader(bytes.NewReader(slices.Concat(gzipHeader, before.data, gzipEnd(before, text))))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(z) // checks length and checksum
		if err != nil || !bytes.Equal(got, slices.Concat(page, text)) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestMethods(t *testing.T) {
	e := New(build, service)
	e.Update(snapshot(payments()))
	for method, want := range map[string]int{http.MethodHead: 200, http.MethodPost: 405} {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, httptest.NewRequest(method, "/metrics", nil))
		if w.Code != want {
			t.Errorf("%s: %d, want %d", method, w.Code, want)
		}
		if method == http.MethodHead && (w.Body.Len() != 0 || w.Header().Get("Content-Length") == "") {
			t.Errorf("HEAD: %d bytes, %v", w.Body.Len(), w.Header())
		}
	}
}

// TestRuntime: the page has the process' own metrics, and before the first
// snapshot only what is not of a snapshot.
func TestRuntime(t *testing.T) {
	e := New(build, service)
	_, body := get(t, e, nil)
	families := parse(t, body)
	for name, want := range map[string]bool{
		"go_goroutines": true, "flowmetrics_build_info": true, "flow_load_items": false, "flowmetrics_items": false,
	} {
		if (families[name] != nil) != want {
			t.Errorf("%s: %v before the first snapshot", name, families[name])
		}
	}
	e.Update(snapshot(payments()))
	_, body = get(t, e, nil)
	if parse(t, body)["flow_load_items"] == nil {
		t.Error("no flow_load_items after it")
	}
}

// TestConcurrent: every page is of one snapshot, whatever is updated meanwhile.
func TestConcurrent(t *testing.T) {
	e := withoutRuntime()
	pages := []int{1, 2, 3}
	update := func(n int) {
		m := idle()
		m.Load.Neglected = n
		for i := range m.Windows {
			m.Windows[i].Discarded = n
		}
		e.Update(snapshot(m))
	}
	update(pages[0])
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for i := range 20 {
				update(pages[i%len(pages)])
			}
		})
	}
	for _, encoding := range []string{"", "gzip"} {
		wg.Go(func() {
			for range 20 {
				_, body := get(t, e, http.Header{"Accept-Encoding": {encoding}})
				families := parse(t, body)
				n := families["flow_load_neglected_items"].GetMetric()[0].GetGauge().GetValue()
				for _, m := range families["flow_discarded_items"].GetMetric() {
					if m.GetGauge().GetValue() != n {
						t.Errorf("discarded %v beside neglected %v", m.GetGauge().GetValue(), n)
					}
				}
			}
		})
	}
	wg.Wait()
}

// TestEncodedOnce: scrapes of one snapshot share one encoding, and Update makes
// those that were asked for before it is served.
func TestEncodedOnce(t *testing.T) {
	e := New(build, service)
	e.Update(snapshot(payments()))
	first, err := e.page.Load().encoded[textPlain]()
	if err != nil {
		t.Fatal(err)
	}
	body, err := e.body(expfmt.FmtText, false)
	if err != nil || &body[1][0] != &first.data[0] {
		t.Errorf("encoded anew: %v", err)
	}
	if !e.asked[textPlain].Load() || e.asked[textPlain+1].Load() || e.asked[openMetricsPlain].Load() {
		t.Error("asked for something else")
	}
}
