package web

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// The bounds of POST /api/v1/changes.
const (
	MaxBody = 16 << 20 // bytes of a body of changes
	MaxLine = 1 << 20  // bytes of one change in it
)

// TokenHeader may carry the ingest token instead of "Authorization: Bearer",
// which is taken where the service has basic auth.
const TokenHeader = "Flowmetrics-Ingest-Token"

const (
	takingTimeout  = 10 * time.Second // for a turn
	publishTimeout = time.Minute
	drainTimeout   = 5 * time.Second
	drainBytes     = 4 * MaxBody
)

// A lineError is the first line of a body that cannot be taken.
type lineError struct {
	line   int
	reason flow.Reason
	err    error
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %v", e.line, e.err) }
func (e *lineError) Unwrap() error { return e.err }

// ingest takes changes: all of the body or none of it.
func (s *Server) ingest(w http.ResponseWriter, r *http.Request) {
	if !s.authorised(w, r) {
		return
	}
	if r.ContentLength > MaxBody {
		s.tooLarge(w, r)
		return
	}
	turn, cancel := context.WithTimeout(r.Context(), takingTimeout)
	defer cancel()
	if !s.taking.enter(turn) {
		writeBusy(w, r, "changes of as many clients as possible are being taken already")
		return
	}
	defer s.taking.leave()
	body := r.Body
	r.Body = http.MaxBytesReader(w, body, MaxBody)
	changes, err := decodeChanges(r.Body, time.Now())
	var bad *lineError
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		r.Body = body
		s.tooLarge(w, r)
		return
	case errors.As(err, &bad):
		s.reject(r, bad)
		writeJSON(w, http.StatusBadRequest, failure{Error: bad.Error(), Line: bad.line, Reason: string(bad.reason)})
		return
	case err != nil:
		writeError(w, r, http.StatusBadRequest, "the body cannot be read to its end: "+err.Error())
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(publishTimeout + pieceTimeout)) // as in pieceWriter
	ctx, cancel := context.WithTimeout(r.Context(), publishTimeout)
	defer cancel()
	if err := s.publish(ctx, changes); err != nil {
		s.unavailable(w, r, "the log cannot take changes now; some may have been taken, and sending all of them again is safe", err)
		return
	}
	writeJSON(w, http.StatusAccepted, struct {
		Accepted int `json:"accepted"`
	}{len(changes)})
}

// reject records a line that was refused. The client has its answer either way.
func (s *Server) reject(r *http.Request, bad *lineError) {
	if s.options.Rejections == nil {
		return
	}
	rejection := flow.Rejection{Index: bad.line, Subject: "POST " + r.URL.Path, Reason: bad.reason, Detail: bad.err.Error()}
	if err := s.options.Rejections.Reject(r.Context(), []flow.Rejection{rejection}); err != nil {
		s.log.Error("rejection not recorded", "error", err)
	}
}

// authorised reports whether the request carries the ingest token, and answers
// it where it does not.
func (s *Server) authorised(w http.ResponseWriter, r *http.Request) bool {
	if s.options.IngestToken == nil {
		writeError(w, r, http.StatusForbidden, "refused: set web.ingest_token_env")
		return false
	}
	want, err := s.options.IngestToken()
	if err == nil && want == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		s.unavailable(w, r, "refused: the ingest token cannot be read", fmt.Errorf("read ingest token: %w", err))
		return false
	}
	got := r.Header.Get(TokenHeader)
	if scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		got = strings.TrimSpace(token)
	}
	// Hashes have one length, so the comparison tells nothing about the token's.
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
	if subtle.ConstantTimeCompare(a[:], b[:]) == 1 {
		return true
	}
	text, challenge := "the ingest token is missing: send Authorization: Bearer TOKEN", `Bearer realm="flowmetrics"`
	if got != "" {
		text, challenge = "the ingest token is wrong", challenge+`, error="invalid_token"`
	}
	w.Header().Set("WWW-Authenticate", challenge)
	writeError(w, r, http.StatusUnauthorized, text)
	return false
}

// tooLarge answers 413. It first reads on for a while, because a client that
// is still sending would see a broken connection and not the answer.
func (s *Server) tooLarge(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTimeout)) // as in pieceWriter
	_, _ = io.CopyN(io.Discard, r.Body, drainBytes)
	writeError(w, r, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes; send it in parts", MaxBody))
}

// publish hands the changes over source by source, each in the order of the
// body.
func (s *Server) publish(ctx context.Context, changes []flow.Change) error {
	var sources []string
	bySource := map[string][]flow.Change{}
	for _, c := range changes {
		if _, ok := bySource[c.Source]; !ok {
			sources = append(sources, c.Source)
		}
		bySource[c.Source] = append(bySource[c.Source], c)
	}
	for _, source := range sources {
		if err := s.options.Publisher.Publish(ctx, source, bySource[source]); err != nil {
			return fmt.Errorf("publish %d changes of source %s: %w", len(bySource[source]), source, err)
		}
	}
	return nil
}

// decodeChanges reads JSON Lines, one change a line, blank lines ignored. It
// returns every change of the body or a *lineError for the first one that is
// not valid at the instant of its reception; other errors are the reader's.
func decodeChanges(body io.Reader, received time.Time) ([]flow.Change, error) {
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, pieceSize), MaxLine)
	var changes []flow.Change
	n := 0
	for lines.Scan() {
		n++
		line := lines.Bytes()
		if n == 1 {
			line = bytes.TrimPrefix(line, []byte("\ufeff")) // the mark that some editors put first
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		c, err := flow.DecodeJSON(line)
		if err == nil {
			err = c.ValidateAt(received)
		}
		if err != nil && lines.Err() != nil {
			break // the line may be bad only because reading stopped in it
		}
		if err != nil {
			bad := &lineError{line: n, reason: flow.ReasonMalformed, err: err}
			var invalid *flow.InvalidError
			if errors.As(err, &invalid) {
				bad.reason = invalid.Reason
			}
			return nil, bad
		}
		changes = append(changes, c)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, &lineError{line: n + 1, reason: flow.ReasonTooLarge, err: fmt.Errorf("more than %d bytes", MaxLine)}
	} else if err != nil {
		return nil, err
	}
	return changes, nil
}
