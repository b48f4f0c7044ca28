package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	changesStream  = "FLOW_CHANGES"
	rejectedStream = "FLOW_REJECTED"
	cursorsBucket  = "flow_cursors"

	duplicateWindow = 2 * time.Minute
	closeTimeout    = 3 * time.Second
)

// ErrClosed says that the [Log] was closed.
var ErrClosed = errors.New("event log is closed")

// A Log is an open event log. Its methods may be called from any goroutine.
type Log struct {
	log     *slog.Logger
	lock    *os.File       // nil with an external system
	server  *server.Server // nil with an external system
	nc      *nats.Conn
	closed  chan struct{} // closed with the connection
	js      jetstream.JetStream
	created time.Time // of the stream: who reads a stream of another age reads another log
	cursors jetstream.KeyValue

	mu      sync.Mutex
	done    chan struct{} // closed by Close
	readers sync.WaitGroup
}

// Open opens the event log and creates what is not there yet. With an external
// system that does not answer it tries until ctx ends, so ctx should have a
// deadline; it is not used after Open has returned. The error satisfies
// [ErrInUse] where another process has the data directory open.
func Open(ctx context.Context, cfg Config, log *slog.Logger) (*Log, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("configure event log: %w", err)
	}
	l := &Log{log: log, done: make(chan struct{}), closed: make(chan struct{})}
	if err := l.open(ctx, cfg); err != nil {
		_ = l.Close() // the first error is the one that tells
		return nil, err
	}
	return l, nil
}

func (l *Log) open(ctx context.Context, cfg Config) (err error) {
	if cfg.URL == "" {
		if l.lock, err = lockDir(cfg.DataDir); err != nil {
			return err
		}
		if l.server, err = startServer(ctx, cfg, l.log); err != nil {
			return err
		}
	}
	if l.nc, err = l.connect(ctx, cfg); err != nil {
		return err
	}
	l.js, err = jetstream.New(l.nc,
		jetstream.WithPublishAsyncMaxPending(1<<20), // Publish has a bound of its own
		jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		return fmt.Errorf("open event log: %w", err)
	}
	return l.createStreams(ctx, cfg)
}

func (l *Log) connect(ctx context.Context, cfg Config) (*nats.Conn, error) {
	options := []nats.Option{
		nats.Name("flowmetrics"),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(time.Second),
		// What is published while there is no connection fails at once: whoever
		// publishes tries again, and nothing waits in a buffer that a crash loses.
		nats.ReconnectBufSize(-1),
		nats.ClosedHandler(func(*nats.Conn) { close(l.closed) }), // called once, and for an established connection only
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				l.log.Warn("event log disconnected", "error", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { l.log.Info("event log connected again") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			l.log.Warn("event log connection", "error", err)
		}),
	}
	if l.server != nil {
		nc, err := nats.Connect("", append(options, nats.InProcessServer(l.server))...)
		if err != nil {
			return nil, fmt.Errorf("connect to event log: %w", err)
		}
		return nc, nil
	}
	if cfg.CredsFile != "" {
		options = append(options, nats.UserCredentials(cfg.CredsFile))
	}
	if cfg.User != "" {
		password, err := cfg.password()
		if err != nil {
			return nil, err
		}
		options = append(options, nats.UserInfo(cfg.User, password))
	}
	if cfg.TLS.CAFile != "" {
		options = append(options, nats.RootCAs(cfg.TLS.CAFile))
	}
	if cfg.TLS.CertFile != "" {
		options = append(options, nats.ClientCert(cfg.TLS.CertFile, cfg.TLS.KeyFile))
	}
	for {
		nc, err := nats.Connect(cfg.URL, options...)
		if err == nil {
			return nc, nil
		}
		// A system that is not up yet is worth waiting for; refused credentials, a
		// file that is not there or a certificate that does not hold are not.
		var network *net.OpError
		if !errors.Is(err, nats.ErrNoServers) && !errors.Is(err, nats.ErrTimeout) && !errors.As(err, &network) {
			return nil, fmt.Errorf("connect to event log at %s: %w", cfg.URL, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to event log at %s: %w (%w)", cfg.URL, err, ctx.Err())
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (l *Log) createStreams(ctx context.Context, cfg Config) error {
	stream, err := l.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:        changesStream,
		Description: "What trackers said about work items: the record.",
		Subjects:    []string{ChangesPrefix + ">"},
		Storage:     jetstream.FileStorage,
		Compression: jetstream.S2Compression,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardNew, // history is never dropped to make room
		MaxBytes:    cfg.MaxBytes,         // 0: no bound of its own
		Replicas:    cfg.Replicas,
		Duplicates:  duplicateWindow,
		AllowDirect: true,
	})
	if err != nil {
		return fmt.Errorf("create stream %s: %w", changesStream, err)
	}
	l.created = stream.CachedInfo().Created
	_, err = l.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name:              rejectedStream,
		Description:       "Pointers to messages and changes that cannot be used, with the reason.",
		Subjects:          []string{rejectedPrefix + ">"},
		Storage:           jetstream.FileStorage,
		Retention:         jetstream.LimitsPolicy,
		Discard:           jetstream.DiscardOld,
		MaxMsgs:           maxRejections,
		MaxMsgsPerSubject: 1,
		Replicas:          cfg.Replicas,
	})
	if err != nil {
		return fmt.Errorf("create stream %s: %w", rejectedStream, err)
	}
	l.cursors, err = l.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket:      cursorsBucket,
		Description: "How far each source was read.",
		History:     10,
		Storage:     jetstream.FileStorage,
		Replicas:    cfg.Replicas,
	})
	if err != nil {
		return fmt.Errorf("create bucket %s: %w", cursorsBucket, err)
	}
	return nil
}

// Close ends all reading, waits for what is being sent, and stops the server
// inside the process in good order. It may be called again.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
		return nil
	default:
		close(l.done)
	}
	if l.nc != nil {
		l.disconnect()
	}
	var errs []error
	if l.server != nil {
		errs = append(errs, stopServer(l.server))
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close event log: %w", err)
	}
	return nil
}

// disconnect waits for readers and for what is on its way, but not for ever: a
// reader's function may not return, and a system that is gone answers nothing.
func (l *Log) disconnect() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		l.readers.Wait()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-ctx.Done():
	}
	if l.nc.IsConnected() {
		_ = l.nc.FlushWithContext(ctx) // whoever waits for an acknowledgement learns of a failure by that
	}
	l.nc.Close()
	<-l.closed // its goroutines are about to end
}

// use returns ctx so that it ends when the log is closed, too, and a function
// to call at the end of the use.
func (l *Log) use(ctx context.Context) (context.Context, func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.done:
		return nil, nil, ErrClosed
	default:
	}
	l.readers.Add(1)
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-l.done:
			cancel(ErrClosed)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil); l.readers.Done() }, nil
}

// Stats tells about the stored log.
type Stats struct {
	Bytes        uint64
	Messages     uint64
	LastPosition uint64
}

// Stats returns the size of the log.
func (l *Log) Stats(ctx context.Context) (Stats, error) {
	stream, err := l.js.Stream(ctx, changesStream)
	if err != nil {
		return Stats{}, fmt.Errorf("read log size: %w", err)
	}
	s := stream.CachedInfo().State
	return Stats{Bytes: s.Bytes, Messages: s.Msgs, LastPosition: s.LastSeq}, nil
}

// LastPosition returns the position of the last message of the log, 0 for an
// empty log.
func (l *Log) LastPosition(ctx context.Context) (uint64, error) {
	s, err := l.Stats(ctx)
	return s.LastPosition, err
}
