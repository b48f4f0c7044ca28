package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// maxPayload is the largest message that the server inside the process takes: a
// change at all of its bounds fits.
const maxPayload = 8 << 20

const stopTimeout = 15 * time.Second

// startServer starts a server without a listener and returns when it has
// recovered what is stored.
func startServer(ctx context.Context, cfg Config, log *slog.Logger) (*server.Server, error) {
	interval, err := cfg.syncInterval()
	if err != nil {
		return nil, err
	}
	s, err := server.NewServer(&server.Options{
		ServerName: "flowmetrics",
		DontListen: true,
		JetStream:  true,
		StoreDir:   cfg.DataDir,
		SyncAlways: interval == 0,
		// Zero is the server's default, which SyncAlways overrides.
		SyncInterval: interval,
		// The streams have their own bounds. Without a figure here the server takes
		// three quarters of the disk and refuses a stream that reserves more.
		JetStreamMaxStore:  1 << 50,
		JetStreamMaxMemory: 256 << 20, // consumers only
		MaxPayload:         maxPayload,
		NoSigs:             true,
	})
	if err != nil {
		return nil, fmt.Errorf("start event log: %w", err)
	}
	logger := &serverLogger{log: log}
	s.SetLoggerV2(logger, false, false, false)
	started := make(chan struct{})
	go func() {
		defer close(started)
		s.Start()
	}()
	select {
	case <-started:
		err = logger.fatal()
		if err == nil && !s.ReadyForConnections(10*time.Second) {
			err = errors.New("the server is not ready")
		}
	case <-ctx.Done():
		err = ctx.Err()
		select { // a server that is stopped while it starts makes folders again behind its own back
		case <-started:
		case <-time.After(stopTimeout):
		}
	}
	if err != nil {
		return nil, fmt.Errorf("start event log: %w", errors.Join(err, stopServer(s)))
	}
	return s, nil
}

// stopServer stops the server in good order: it writes its index, so that the
// next start is quick.
func stopServer(s *server.Server) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.Shutdown()
		s.WaitForShutdown()
	}()
	select {
	case <-stopped:
		return nil
	case <-time.After(stopTimeout): // a disk that hangs; what was acknowledged is safe
		return fmt.Errorf("the server did not stop within %s", stopTimeout)
	}
}

// serverLogger passes on what the server warns of. Its notices are of no use
// inside another program.
type serverLogger struct {
	log   *slog.Logger
	mu    sync.Mutex
	first error
}

func (l *serverLogger) Warnf(format string, args ...any) {
	l.log.Warn("nats", "message", fmt.Sprintf(format, args...))
}
func (l *serverLogger) Errorf(format string, args ...any) {
	l.log.Error("nats", "message", fmt.Sprintf(format, args...))
}
func (l *serverLogger) Noticef(string, ...any) {}
func (l *serverLogger) Debugf(string, ...any)  {}
func (l *serverLogger) Tracef(string, ...any)  {}

// Fatalf keeps the reason for which the server gives up its start.
func (l *serverLogger) Fatalf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil {
		l.first = fmt.Errorf(format, args...)
	}
}

func (l *serverLogger) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.first
}
