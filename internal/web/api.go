package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// PositionHeader carries the position of the log's last message when
// GET /api/v1/changes began: the ?after= with which a reader goes on.
const PositionHeader = "Flowmetrics-Log-Position"

const (
	computeTimeout   = time.Minute      // for a snapshot computed on demand
	pieceTimeout     = 30 * time.Second // for the client to take the next piece of the log
	pieceSize        = 64 << 10
	defaultRejected  = 1000
	maxRejected      = 10000
	mediaJSON        = "application/json"
	mediaJSONLines   = "application/x-ndjson"
	replayingMessage = "the log is being replayed, there are no numbers yet"
)

var (
	errReplaying = errors.New(replayingMessage)
	errBusy      = errors.New("as many past instants as possible are being computed already")
)

// query is what the numbers are asked for with.
type query struct {
	at    time.Time // zero: the latest
	items bool
}

// parseQuery reads ?at= and ?items=. An empty parameter is an absent one.
func parseQuery(values url.Values) (q query, err error) {
	if text := values.Get("at"); text != "" {
		if q.at, err = parseInstant(text); err != nil {
			return query{}, err
		}
	}
	if text := values.Get("items"); text != "" {
		if q.items, err = strconv.ParseBool(text); err != nil {
			return query{}, fmt.Errorf("parameter items: %q is neither true nor false", text)
		}
	}
	return q, nil
}

// parseInstant reads RFC 3339. The + of an offset that nobody escaped arrives
// as a space and is mended.
func parseInstant(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, strings.ReplaceAll(text, " ", "+"))
	if err != nil {
		return time.Time{}, fmt.Errorf("parameter at: %q is not an instant, want RFC 3339 such as 2026-06-29T00:00:00Z", text)
	}
	if t.Before(flow.MinTime) || !t.Before(flow.MaxTime) {
		return time.Time{}, fmt.Errorf("parameter at: %q is out of range, want RFC 3339 in the years 1970 to 2199", text)
	}
	return t.UTC(), nil
}

// snapshot returns what a query asks for: errReplaying before the first
// snapshot, errBusy where too many are being computed.
func (s *Server) snapshot(ctx context.Context, q query) (*flow.Snapshot, error) {
	latest := s.options.Snapshots.Latest()
	if latest == nil {
		return nil, errReplaying
	}
	if q == (query{}) {
		return latest, nil
	}
	if q.at.IsZero() {
		q.at = latest.At // the same numbers, with the items behind them
	}
	if !s.compute.try() {
		return nil, errBusy
	}
	defer s.compute.leave()
	ctx, cancel := context.WithTimeout(ctx, computeTimeout)
	defer cancel()
	snap, err := s.options.Snapshots.At(ctx, q.at, q.items)
	if err != nil {
		return nil, fmt.Errorf("measure as of %s: %w", q.at.Format(time.RFC3339Nano), err)
	}
	return snap, nil
}

// valueStreams answers with the document of `flowmetrics measure`, whole or
// with one value stream only.
func (s *Server) valueStreams(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.Query())
	if err != nil {
		writeError(w, r, http.StatusBadRequest, err.Error())
		return
	}
	snap, err := s.snapshot(r.Context(), q)
	switch {
	case errors.Is(err, errReplaying), errors.Is(err, errBusy):
		writeBusy(w, r, err.Error())
		return
	case err != nil:
		s.unavailable(w, r, "the numbers cannot be computed now", err)
		return
	}
	if name := r.PathValue("name"); name != "" {
		m := snap.ValueStream(name)
		if m == nil {
			writeError(w, r, http.StatusNotFound, fmt.Sprintf("there is no value stream %q", name))
			return
		}
		one := *snap
		one.ValueStreams = []*flow.Measures{m}
		snap = &one
	}
	body, err := json.Marshal(snap)
	if err != nil {
		s.unavailable(w, r, "the numbers cannot be written", err)
		return
	}
	w.Header().Set("Content-Type", mediaJSON)
	w.Header().Set("Cache-Control", "no-cache") // a cache may keep it, and asks each time
	if q == (query{}) {
		w.Header().Set("ETag", fmt.Sprintf(`"%s-%d"`, snap.PolicyHash, snap.At.UnixNano()))
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(append(body, '\n')))
}

// changes streams the log, oldest first.
func (s *Server) changes(w http.ResponseWriter, r *http.Request) {
	after, err := parseNumber(r.URL.Query(), "after", 0)
	if err != nil {
		writeError(w, r, http.StatusBadRequest, err.Error())
		return
	}
	last, err := s.options.Log.LastPosition(r.Context())
	if err != nil {
		s.unavailable(w, r, "the log cannot be read now", err)
		return
	}
	w.Header().Set(PositionHeader, strconv.FormatUint(last, 10))
	source := r.URL.Query().Get("source")
	s.stream(w, r, func(ctx context.Context, line func(v any) error) error {
		err := s.options.Log.Changes(ctx, after, source, func(position uint64, c flow.Change) error {
			if position > last { // the header names the end of this answer
				return errEnd
			}
			return line(&c)
		})
		if errors.Is(err, errEnd) {
			return nil
		}
		return err
	})
}

var errEnd = errors.New("end of the answer")

// rejected streams what in the log cannot be used, and why.
func (s *Server) rejected(w http.ResponseWriter, r *http.Request) {
	after, err := parseNumber(r.URL.Query(), "after", 0)
	if err != nil {
		writeError(w, r, http.StatusBadRequest, err.Error())
		return
	}
	limit, err := parseNumber(r.URL.Query(), "limit", defaultRejected)
	if err == nil && (limit == 0 || limit > maxRejected) {
		err = fmt.Errorf("parameter limit: %d is out of range, want 1 to %d", limit, maxRejected)
	}
	if err != nil {
		writeError(w, r, http.StatusBadRequest, err.Error())
		return
	}
	s.stream(w, r, func(ctx context.Context, line func(v any) error) error {
		return s.options.Log.Rejections(ctx, after, int(limit), func(j flow.Rejection) error { return line(&j) })
	})
}

func parseNumber(values url.Values, name string, absent uint64) (uint64, error) {
	text := values.Get(name)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parameter %s: %q is not a number, want 0 or a positive integer", name, text)
	}
	return n, nil
}

// stream answers with JSON Lines as walk hands them over. The answer as a whole
// may take as long as it needs, but the client has to take each piece in time.
// An error after the first piece breaks the connection, so that half a log is
// never taken for a whole one.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, walk func(ctx context.Context, line func(v any) error) error) {
	w.Header().Set("Content-Type", mediaJSONLines)
	w.Header().Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	if !s.reading.try() {
		writeBusy(w, r, "the log is being read by as many clients as possible already")
		return
	}
	defer s.reading.leave()
	pieces := &pieceWriter{w: w, control: http.NewResponseController(w)}
	buffer := bufio.NewWriterSize(pieces, pieceSize)
	encoder := json.NewEncoder(buffer)
	encoder.SetEscapeHTML(false)
	err := walk(r.Context(), encoder.Encode)
	if err == nil {
		err = buffer.Flush()
	}
	switch {
	case err == nil:
	case pieces.written:
		if r.Context().Err() == nil && pieces.err == nil {
			s.log.Error("reading the log for a client failed", "path", r.URL.Path, "error", err)
		}
		panic(http.ErrAbortHandler)
	default:
		w.Header().Del(PositionHeader)
		s.unavailable(w, r, "the log cannot be read now", err)
	}
}

// pieceWriter gives the client pieceTimeout for each write.
type pieceWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	written bool
	err     error // of the connection
}

func (p *pieceWriter) Write(b []byte) (int, error) {
	p.written = true
	// A writer without deadlines is not a connection and cannot be slow.
	_ = p.control.SetWriteDeadline(time.Now().Add(pieceTimeout))
	n, err := p.w.Write(b)
	p.err = err
	return n, err
}

// unavailable answers 503 and logs why. Where the client went away there is
// nobody to tell.
func (s *Server) unavailable(w http.ResponseWriter, r *http.Request, text string, err error) {
	if r.Context().Err() == nil {
		s.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	}
	writeBusy(w, r, text)
}
