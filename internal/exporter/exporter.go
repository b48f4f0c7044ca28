package exporter

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// formats are the formats of /metrics in the order in which they are preferred
// to each other.
var formats = []expfmt.Format{
	expfmt.FmtOpenMetrics_1_0_0,
	expfmt.FmtOpenMetrics_0_0_1,
	expfmt.FmtProtoDelim,
	expfmt.FmtText,
}

// An Exporter serves the latest snapshot and the state of the service to
// Prometheus. All its methods may be called concurrently.
type Exporter struct {
	build   Build
	service func() Service
	runtime prometheus.Gatherer
	page    atomic.Pointer[page]
	// asked are the encodings that somebody has asked for. Update makes them
	// ahead of the next scrape; one that nobody reads costs nothing.
	asked [numEncodings]atomic.Bool
}

var (
	_ http.Handler        = (*Exporter)(nil)
	_ prometheus.Gatherer = (*Exporter)(nil)
)

// New returns an exporter without a snapshot. The function gives the state of
// the service at each scrape: it must be safe for concurrent use, return at
// once and do no I/O (I5).
func New(build Build, service func() Service) *Exporter {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector()) // no process collector: it reads files (I5)
	e := &Exporter{build: build, service: service, runtime: registry}
	e.page.Store(newPage(&flow.Snapshot{}))
	return e
}

// Update replaces the snapshot that is served. It returns when the snapshot is
// encoded in every form that has been asked for so far, which takes in the
// order of a hundred milliseconds for 200 value streams; scrapes go on with the
// snapshot before until then. The snapshot must not be changed any more.
func (e *Exporter) Update(s *flow.Snapshot) {
	p := newPage(s)
	for i := range p.encoded {
		if e.asked[i].Load() {
			p.encoded[i]()
		}
	}
	e.page.Store(p)
}

// Gather returns all families as of now, in the order of their names, for
// whoever wants them without the format.
func (e *Exporter) Gather() ([]*dto.MetricFamily, error) {
	families := gather(flowFamilies, e.page.Load().snapshot)
	own, err := e.own()
	families = append(families, own...)
	sortByName(families)
	return families, err
}

// own returns the families that are encoded for each scrape.
func (e *Exporter) own() ([]*dto.MetricFamily, error) {
	families := gather(serviceFamilies, &scrape{e.build, e.service()})
	more, err := e.runtime.Gather()
	return append(families, more...), err
}

// ServeHTTP answers a scrape in the format and compression that the request
// asks for: Prometheus text, OpenMetrics or delimited protobuf, plain or gzip.
func (e *Exporter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	// All names are plain ASCII, so that every escaping scheme that a client may
	// ask for is the same bytes.
	format := expfmt.NegotiateAccept(r.Header, formats...)
	gzipped := acceptsGzip(r.Header.Get("Accept-Encoding"))
	body, err := e.body(format, gzipped)
	if err != nil {
		http.Error(w, "metrics cannot be encoded: "+err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Add("Vary", "Accept")
	h.Add("Vary", "Accept-Encoding")
	h.Set("Content-Type", string(format))
	h.Set("Content-Length", strconv.Itoa(len(body[0])+len(body[1])+len(body[2])))
	if gzipped {
		h.Set("Content-Encoding", "gzip")
	}
	if r.Method == http.MethodHead {
		return
	}
	for _, part := range body {
		if _, err := w.Write(part); err != nil {
			return // the client has gone
		}
	}
}

// body returns the parts of an answer: what stands before the snapshot's
// families, these, and the service's own.
func (e *Exporter) body(format expfmt.Format, gzipped bool) (parts [3][]byte, err error) {
	own, err := e.own()
	if err != nil && len(own) == 0 {
		return parts, err
	}
	var tail bytes.Buffer
	if err := encode(&tail, format, own, true); err != nil {
		return parts, err
	}
	i := encodingOf(format, gzipped)
	e.asked[i].Store(true)
	flows, err := e.page.Load().encoded[i]()
	if err != nil {
		return parts, err
	}
	if !gzipped {
		return [3][]byte{nil, flows.data, tail.Bytes()}, nil
	}
	return [3][]byte{gzipHeader, flows.data, gzipEnd(flows, tail.Bytes())}, nil
}

// acceptsGzip reports whether an Accept-Encoding header allows gzip.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
			continue
		}
		q, weighed := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		weight, err := strconv.ParseFloat(q, 64)
		return !weighed || err == nil && weight > 0
	}
	return false
}
