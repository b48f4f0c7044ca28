package connector

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Signed reports whether a header such as X-Hub-Signature-256 signs a body with
// a secret: "sha256=" and the HMAC in hexadecimal. It takes the same time for
// any wrong signature; no header fits an empty secret.
func Signed(secret string, body []byte, header string) bool {
	text, ok := strings.CutPrefix(header, "sha256=")
	if !ok || secret == "" {
		return false
	}
	got, err := hex.DecodeString(text)
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return hmac.Equal(got, mac.Sum(nil))
}

// The bounds of deliveries.
const (
	// maxDelivery is the size of a delivery, in bytes: trackers send no larger ones.
	maxDelivery = 25 << 20
	// largeDelivery is the size from which on few are taken at once.
	largeDelivery  = 1 << 20
	maxDeliveries  = 16              // at once, of the usual size
	maxLarge       = 2               // at once, of a large or an unknown size
	receiveTimeout = 9 * time.Second // trackers wait for ten
)

// The results of deliveries, as they are counted.
const (
	resultTaken        = "taken"
	resultIgnored      = "ignored"
	resultUnauthorized = "unauthorized"
	resultTooLarge     = "too_large"
	resultInvalid      = "invalid"
	resultFailed       = "failed"
)

// Webhooks is the [http.Handler] of POST /webhooks/{source}: it hands each
// delivery to the [Runner] of the source and answers
//
//   - 202 once what only the delivery tells is durable and what it names is queued;
//   - 204 for an event that does not matter;
//   - 400 for one that cannot be read, 401 for one that is not signed with the
//     source's secret or where none is configured, 413 for more than 25 MiB;
//   - 404 for a source that is not configured or has no webhooks;
//   - 503 where it could not be taken now, so that the tracker sends it again.
//
// It takes a bounded number at once. Its methods are safe for concurrent use.
type Webhooks struct {
	runners      map[string]*Runner
	log          *slog.Logger
	usual, large chan struct{}

	mu     sync.Mutex
	counts map[string]map[string]uint64
}

// NewWebhooks returns the handler for the sources of some runners.
func NewWebhooks(log *slog.Logger, runners ...*Runner) *Webhooks {
	w := &Webhooks{
		runners: map[string]*Runner{}, log: log,
		usual: make(chan struct{}, maxDeliveries), large: make(chan struct{}, maxLarge),
		counts: map[string]map[string]uint64{},
	}
	for _, r := range runners {
		if _, able := r.cfg.Source.(Receiver); able {
			w.runners[r.cfg.Name] = r
			w.counts[r.cfg.Name] = map[string]uint64{
				resultTaken: 0, resultIgnored: 0, resultUnauthorized: 0, resultTooLarge: 0, resultInvalid: 0, resultFailed: 0,
			}
		}
	}
	return w
}

// Counts returns how many deliveries there were since the start, by source and
// result; each result is there.
func (w *Webhooks) Counts() map[string]map[string]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := make(map[string]map[string]uint64, len(w.counts))
	for source, results := range w.counts {
		counts[source] = maps.Clone(results)
	}
	return counts
}

// ServeHTTP implements [http.Handler]. The request has the path value "source".
func (w *Webhooks) ServeHTTP(rw http.ResponseWriter, req *http.Request) {
	runner, ok := w.runners[req.PathValue("source")]
	if !ok {
		http.Error(rw, "no source of this name takes webhooks", http.StatusNotFound)
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), receiveTimeout)
	defer cancel()
	result, err := w.take(ctx, runner, rw, req)
	w.mu.Lock()
	w.counts[runner.cfg.Name][result]++
	w.mu.Unlock()
	switch result {
	case resultTaken:
		rw.WriteHeader(http.StatusAccepted)
	case resultIgnored:
		rw.WriteHeader(http.StatusNoContent)
	case resultUnauthorized:
		http.Error(rw, "the signature is missing or wrong, or the source has no webhook secret", http.StatusUnauthorized)
	case resultTooLarge:
		http.Error(rw, "the delivery is too large", http.StatusRequestEntityTooLarge)
	case resultInvalid:
		http.Error(rw, "the delivery cannot be read", http.StatusBadRequest)
	default:
		w.log.Warn("webhook delivery was not taken", append([]any{"source", runner.cfg.Name}, failure(err)...)...)
		rw.Header().Set("Retry-After", "5")
		http.Error(rw, "the delivery cannot be taken now", http.StatusServiceUnavailable)
	}
}

// take reads a delivery and hands it over.
func (w *Webhooks) take(ctx context.Context, runner *Runner, rw http.ResponseWriter, req *http.Request) (result string, err error) {
	if req.ContentLength > maxDelivery {
		return resultTooLarge, nil
	}
	gate := w.usual
	if req.ContentLength < 0 || req.ContentLength > largeDelivery {
		gate = w.large
	}
	select {
	case gate <- struct{}{}:
		defer func() { <-gate }()
	case <-ctx.Done():
		return resultFailed, errors.New("too many deliveries at once")
	}
	// A sender that dawdles must not keep others out. Where the deadline cannot be
	// set, the server's own holds.
	_ = http.NewResponseController(rw).SetReadDeadline(time.Now().Add(receiveTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(rw, req.Body, maxDelivery))
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		return resultTooLarge, nil
	}
	if err != nil {
		return resultInvalid, nil
	}
	outcome, err := runner.Receive(ctx, req.Header, body)
	switch {
	case errors.Is(err, ErrSignature):
		return resultUnauthorized, nil
	case errors.Is(err, ErrDelivery):
		return resultInvalid, nil
	case err != nil:
		return resultFailed, err
	case outcome == Taken:
		return resultTaken, nil
	}
	return resultIgnored, nil
}
