package web

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"runtime/debug"
	"slices"
	"strings"
)

// How many requests of a kind are worked on at once; the next is told to come
// back, or waits its turn where it brings changes.
const (
	maxComputing = 2
	maxReading   = 16
	maxTaking    = 4
)

// A gate admits as many at once as it has capacity.
type gate chan struct{}

// try enters without waiting; false means full.
func (g gate) try() bool {
	select {
	case g <- struct{}{}:
		return true
	default:
		return false
	}
}

// enter waits for its turn; false means that the context ended first.
func (g gate) enter(ctx context.Context) bool {
	select {
	case g <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (g gate) leave() { <-g }

// Handler returns the server's endpoints without a listener and without what
// the configuration file adds.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, r, http.StatusNotFound, "there is nothing at this address")
	})
	mux.Handle("/{$}", methods{http.MethodGet: s.page})
	mux.Handle("/metrics", methods{http.MethodGet: s.options.Metrics.ServeHTTP})
	mux.Handle("/-/healthy", methods{http.MethodGet: healthy})
	mux.Handle("/-/ready", methods{http.MethodGet: s.ready})
	mux.Handle("/api/v1/value-streams", methods{http.MethodGet: s.valueStreams})
	mux.Handle("/api/v1/value-streams/{name}", methods{http.MethodGet: s.valueStreams})
	mux.Handle("/api/v1/changes", methods{http.MethodGet: s.changes, http.MethodPost: s.ingest})
	mux.Handle("/api/v1/rejected", methods{http.MethodGet: s.rejected})
	if s.options.Webhooks != nil {
		mux.Handle("/webhooks/{source}", methods{http.MethodPost: s.options.Webhooks.ServeHTTP})
	}
	if s.options.Debug {
		mux.Handle("/debug/pprof/", methods{http.MethodGet: pprof.Index})
		mux.Handle("/debug/pprof/cmdline", methods{http.MethodGet: pprof.Cmdline})
		mux.Handle("/debug/pprof/profile", methods{http.MethodGet: pprof.Profile})
		mux.Handle("/debug/pprof/symbol", methods{http.MethodGet: pprof.Symbol, http.MethodPost: pprof.Symbol})
		mux.Handle("/debug/pprof/trace", methods{http.MethodGet: pprof.Trace})
	}
	return s.guard(mux)
}

// methods are the handlers of one path by request method. GET stands for HEAD
// too.
type methods map[string]http.HandlerFunc

func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if h, ok := m[method]; ok {
		h(w, r)
		return
	}
	var allow []string
	for name := range m {
		allow = append(allow, name)
		if name == http.MethodGet {
			allow = append(allow, http.MethodHead)
		}
	}
	slices.Sort(allow)
	w.Header().Set("Allow", strings.Join(allow, ", "))
	writeError(w, r, http.StatusMethodNotAllowed, r.Method+" is not possible here, only "+strings.Join(allow, ", "))
}

// guard sets the security headers and keeps a panic from ending the service.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range map[string]string{
			"Content-Security-Policy": s.policy,
			"Referrer-Policy":         "no-referrer",
			"X-Content-Type-Options":  "nosniff",
			"X-Frame-Options":         "DENY",
		} {
			if w.Header().Get(name) == "" { // the configuration file may have its own
				w.Header().Set(name, value)
			}
		}
		t := &tracker{ResponseWriter: w}
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			if p == http.ErrAbortHandler {
				panic(p)
			}
			s.log.Error("request handler panicked", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
			if t.started {
				panic(http.ErrAbortHandler) // a broken connection, never half an answer that looks whole
			}
			writeError(w, r, http.StatusInternalServerError, "internal error")
		}()
		next.ServeHTTP(t, r)
	})
}

// tracker knows whether an answer has been started.
type tracker struct {
	http.ResponseWriter
	started bool
}

func (t *tracker) WriteHeader(status int) {
	t.started = true
	t.ResponseWriter.WriteHeader(status)
}

func (t *tracker) Write(p []byte) (int, error) {
	t.started = true
	return t.ResponseWriter.Write(p)
}

// Unwrap lets [http.ResponseController] reach the connection.
func (t *tracker) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// failure is the answer of the API to what it cannot do.
type failure struct {
	Error  string `json:"error"`
	Line   int    `json:"line,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// writeError answers with a status and a text: JSON under /api, plain text
// elsewhere.
func writeError(w http.ResponseWriter, r *http.Request, status int, text string) {
	if strings.HasPrefix(r.URL.Path, "/api/") {
		writeJSON(w, status, failure{Error: text})
		return
	}
	http.Error(w, text, status)
}

// writeBusy tells the client to come back.
func writeBusy(w http.ResponseWriter, r *http.Request, text string) {
	w.Header().Set("Retry-After", "5")
	writeError(w, r, http.StatusServiceUnavailable, text)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err) // plain data always can be encoded
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // a client that went away is nobody's error
}

func healthy(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok") }

// ready answers 200 once the numbers can be relied upon, else 503 with one
// reason a line.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	if ok, reasons := s.options.Health.Ready(); !ok {
		writeText(w, http.StatusServiceUnavailable, "not ready\n"+strings.Join(reasons, "\n"))
		return
	}
	writeText(w, http.StatusOK, "ready")
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n")) // as in writeJSON
}
