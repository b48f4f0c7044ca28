// Package web is the HTTP side of the service: the page for people, the JSON
// API for programs, the log as JSON Lines in both directions, health, profiling
// and the mounting points of the metrics and of webhooks.
//
// It computes nothing: a [Server] reads immutable snapshots and the log through
// the small interfaces in this file and stores nothing of its own. server.go is
// its life, routes.go the table of endpoints, api.go and ingest.go the JSON API,
// page.go the page.
package web

import (
	"context"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net"
	"net/http"
	"os"
	"regexp"
	"time"

	"github.com/prometheus/exporter-toolkit/web"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// DefaultListen is the address that a server listens on unless told otherwise.
const DefaultListen = "127.0.0.1:9797"

// The bounds that keep one slow or greedy client from holding the service.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = time.Minute
	writeTimeout      = 2 * time.Minute // of an answer with an end in sight; the log has a timeout per piece
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	stopTimeout       = 3 * time.Second // for requests in progress when the server stops
)

// Snapshots are the numbers. Implementations are safe for concurrent use.
type Snapshots interface {
	// Latest returns the newest snapshot without blocking, nil before the first.
	Latest() *flow.Snapshot
	// At computes the snapshot as of an instant, with the items where asked for.
	At(ctx context.Context, t time.Time, items bool) (*flow.Snapshot, error)
}

// Log is the event log as its readers see it. Implementations are safe for
// concurrent use.
type Log interface {
	// LastPosition returns the position of the log's last message, 0 while empty.
	LastPosition(ctx context.Context) (uint64, error)
	// Changes calls f for every change behind a position, in log order, up to the
	// log's end at the time of the call; a source other than "" selects. The change is
	// valid during the call of f only. It stops at the first error of f and
	// returns an error that wraps it.
	Changes(ctx context.Context, after uint64, source string, f func(position uint64, c flow.Change) error) error
	// Rejections calls f for the rejections of the messages behind a position, in
	// order. It stops after limit of them, but never between two of one message, so
	// that the last position is where to go on.
	Rejections(ctx context.Context, after uint64, limit int, f func(flow.Rejection) error) error
}

// A Publisher appends changes of one source to the log, in their order. When
// Publish returns nil they are durable; on an error some of them may be.
type Publisher interface {
	Publish(ctx context.Context, source string, changes []flow.Change) error
}

// Rejections records what cannot be used, so that it can be listed.
type Rejections interface {
	// Reject returns nil once the rejections are durable. Position and Received are
	// filled in.
	Reject(ctx context.Context, rejections []flow.Rejection) error
}

// Health says whether the numbers can be relied upon, and if not, why.
type Health interface {
	Ready() (ok bool, reasons []string)
}

// Options are what a [Server] is made of.
type Options struct {
	Listen     string // host:port; empty is DefaultListen, port 0 any free one
	ConfigFile string // TLS and basic auth in exporter-toolkit's format; empty is neither

	Snapshots Snapshots
	Log       Log
	Publisher Publisher
	Health    Health
	Metrics   http.Handler // at /metrics

	// Rejections gets what POST /api/v1/changes refuses; nil: it is answered only.
	Rejections Rejections

	// IngestToken returns the bearer token of POST /api/v1/changes. It is called
	// for each request, so a token may be renewed. Nil refuses every such request.
	IngestToken func() (string, error)
	// Webhooks takes POST /webhooks/{source}, with the path value "source" set. It
	// authenticates and bounds what it reads. Nil answers 404.
	Webhooks http.Handler
	// Debug mounts net/http/pprof at /debug/pprof.
	Debug bool

	Logger *slog.Logger // nil discards
}

// A Server answers HTTP requests. Make one with [New]; then [Server.Listen] and
// [Server.Serve], once each and in this order.
type Server struct {
	options  Options
	log      *slog.Logger
	pages    *template.Template
	style    template.CSS
	policy   string // Content-Security-Policy
	compute  gate   // snapshots computed on demand
	reading  gate   // answers that walk the log
	taking   gate   // bodies of changes in memory
	listener net.Listener
	scheme   string // http or https, known once listening
}

// New returns a server that is not listening yet. It refuses options without
// which an endpoint could not work.
func New(o Options) (*Server, error) {
	for _, part := range [...]struct {
		name   string
		absent bool
	}{
		{"Snapshots", o.Snapshots == nil},
		{"Log", o.Log == nil},
		{"Publisher", o.Publisher == nil},
		{"Health", o.Health == nil},
		{"Metrics", o.Metrics == nil},
	} {
		if part.absent {
			return nil, fmt.Errorf("web: option %s is required", part.name)
		}
	}
	if o.Listen == "" {
		o.Listen = DefaultListen
	}
	if _, _, err := net.SplitHostPort(o.Listen); err != nil {
		return nil, fmt.Errorf("listen address %q: want host:port, such as %s: %w", o.Listen, DefaultListen, err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	pages, style, policy, err := parsePages()
	if err != nil {
		return nil, err
	}
	return &Server{
		options: o,
		log:     o.Logger,
		pages:   pages,
		style:   style,
		policy:  policy,
		compute: make(gate, maxComputing),
		reading: make(gate, maxReading),
		taking:  make(gate, maxTaking),
	}, nil
}

// Listen checks the TLS and authentication file and binds the address, so that
// [Server.Addr] is exact and a mistake is known before anything is served.
func (s *Server) Listen(ctx context.Context) error {
	if err := web.Validate(s.options.ConfigFile); err != nil {
		return fmt.Errorf("read web configuration %s: %w", s.options.ConfigFile, err)
	}
	scheme, err := schemeOf(s.options.ConfigFile)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.options.Listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", s.options.Listen, err)
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() && s.options.ConfigFile == "" {
		s.log.Warn("listening beyond this machine without TLS and authentication", "address", a.String())
	}
	s.listener, s.scheme = l, scheme
	return nil
}

// tlsSection is what a web configuration with TLS has: it is valid, so the
// section names a certificate.
var tlsSection = regexp.MustCompile(`(?m)^["']?tls_server_config["']?\s*:[^#]*\bcert`)

// schemeOf tells what a valid web configuration serves: exporter-toolkit does
// not.
func schemeOf(file string) (string, error) {
	if file == "" {
		return "http", nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read web configuration: %w", err)
	}
	if tlsSection.Match(text) {
		return "https", nil
	}
	return "http", nil
}

// Addr returns the address that the server is bound to, nil before
// [Server.Listen].
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// URL returns the address of the page for a browser, ending in a slash, and ""
// before [Server.Listen].
func (s *Server) URL() string {
	if s.listener == nil {
		return ""
	}
	return s.scheme + "://" + s.listener.Addr().String() + "/"
}

// Close gives the address back where [Server.Serve] will not be called.
func (s *Server) Close() error {
	if s.listener == nil {
		return nil
	}
	return s.listener.Close()
}

// Serve answers requests until the context ends, then gives those in progress
// three seconds and returns nil. Any other end is an error.
func (s *Server) Serve(ctx context.Context) error {
	if s.listener == nil {
		return errors.New("serve HTTP: not listening")
	}
	defer s.listener.Close() // web.Serve leaves it open where the configuration file went bad
	// Requests outlive ctx by stopTimeout, so that one in progress can end well.
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel() // of those that do not
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	ended := make(chan error, 1)
	go func() {
		ended <- web.Serve(s.listener, server, &web.FlagConfig{WebConfigFile: &s.options.ConfigFile}, slog.New(quiet{s.log.Handler()}))
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("serve HTTP on %s: %w", s.listener.Addr(), err)
	case <-ctx.Done():
	}
	bounded, stop := context.WithTimeout(requests, stopTimeout)
	defer stop()
	if err := server.Shutdown(bounded); err != nil {
		s.log.Warn("requests were cut off by the end of the service", "after", stopTimeout.String())
		if err := server.Close(); err != nil {
			return fmt.Errorf("close HTTP server: %w", err)
		}
	}
	<-ended
	return nil
}

// quiet shows information as debugging only: the service itself tells where it
// listens, and exporter-toolkit would say so twice more.
type quiet struct{ slog.Handler }

// Enabled implements [slog.Handler].
func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return q.Handler.Enabled(ctx, quieter(level))
}

// Handle implements [slog.Handler].
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = quieter(r.Level)
	return q.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }

// WithGroup implements [slog.Handler].
func (q quiet) WithGroup(name string) slog.Handler { return quiet{q.Handler.WithGroup(name)} }

func quieter(level slog.Level) slog.Level {
	if level == slog.LevelInfo {
		return slog.LevelDebug
	}
	return level
}
