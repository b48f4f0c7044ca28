// Package app wires the service together and is the only package that knows
// every adapter: the event log, the connectors, the processor, the exporter and
// the HTTP server. Programs and tests make an [App] with [New] and let it [App.Run].
//
//	trackers ─► connector.Runner ─► eventlog ─► processor ─► exporter, web
//
// The parts stop in the order of the data: connectors first, the log last.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/eventlog"
	"github.com/flowmetrics/flowmetrics/internal/exporter"
	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/flowmetrics/flowmetrics/internal/processor"
	"github.com/flowmetrics/flowmetrics/internal/web"
)

// Options are what an App is made of.
type Options struct {
	Config        *config.Config
	DataDir       string // of the event log inside the process
	Listen        string // host:port, empty is web.DefaultListen
	WebConfigFile string // TLS and basic authentication, see exporter-toolkit
	Debug         bool   // profiling at /debug/pprof
	Version       string
	Revision      string
	Logger        *slog.Logger
	Progress      connector.Reporter // of backfills, may be nil
	// CensusInterval is how often the live items of a tracker are compared with
	// those of the log; 0: once in sixty polls, a minute to a day apart.
	CensusInterval time.Duration
}

// An App is the whole service in one process.
type App struct {
	opts      Options
	log       *eventlog.Log
	processor *processor.Processor
	exporter  *exporter.Exporter
	runners   []*connector.Runner
	webhooks  *connector.Webhooks
	server    *web.Server
	refused   *refused
	logBytes  atomic.Uint64 // read now and then: a scrape does no I/O (I5)
	goal      atomic.Uint64 // of the first reading, see settled; 0: not known yet
}

// LogConfig returns the event log's part of a configuration.
func LogConfig(c *config.Config, dataDir string) eventlog.Config {
	out := eventlog.Config{DataDir: dataDir, Sync: eventlog.DefaultSync}
	if c == nil {
		return out
	}
	n := c.NATS
	if n.Password.IsSet() {
		out.Password = n.Password.Read
	}
	out.URL, out.CredsFile, out.User, out.MaxBytes, out.Replicas = n.URL, n.CredsFile, n.User, n.MaxBytes, n.Replicas
	out.TLS = eventlog.TLS{CAFile: n.TLS.CAFile, CertFile: n.TLS.CertFile, KeyFile: n.TLS.KeyFile}
	if n.SyncInterval > 0 {
		out.Sync = n.SyncInterval.String()
	}
	return out
}

// New opens the log, binds the listener and wires everything; it reads no
// tracker so far. On an error nothing is left open.
func New(ctx context.Context, opts Options) (*App, error) {
	a := &App{opts: opts}
	log, err := eventlog.Open(ctx, LogConfig(opts.Config, opts.DataDir), opts.Logger)
	if err != nil {
		return nil, fmt.Errorf("open event log: %w", err)
	}
	a.log = log
	if err := a.wire(ctx); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return a, nil
}

func (a *App) wire(ctx context.Context) error {
	cfg := a.opts.Config
	a.exporter = exporter.New(exporter.Build{Version: a.opts.Version, Revision: a.opts.Revision}, a.service)
	a.processor = processor.New(processor.Config{
		Policy: cfg.Policy(), Log: a.log, Logger: a.opts.Logger, OnSnapshot: a.exporter.Update,
	})
	a.refused = &refused{log: a.log}
	if err := a.refused.load(ctx); err != nil {
		return err
	}
	for i := range cfg.Sources {
		s := &cfg.Sources[i]
		source, err := NewSource(s, a.opts.Logger)
		if err == nil {
			err = checkWebhookSecret(s)
		}
		if err != nil {
			return err
		}
		a.runners = append(a.runners, connector.NewRunner(connector.Config{
			Name: s.Name, Source: source, PollInterval: s.PollInterval, CensusInterval: cmp.Or(a.opts.CensusInterval, censusInterval(s.PollInterval)),
			Overlaps:  s.Type != config.File, // a file holds what somebody wrote into it, repeats included
			Publisher: a.log, Cursors: cursors{a.log}, Facts: known{a.processor}, Rejections: a.refused,
			Progress: a.opts.Progress, Logger: a.opts.Logger,
		}))
	}
	a.webhooks = connector.NewWebhooks(a.opts.Logger, a.runners...)
	var token func() (string, error)
	if cfg.Web.IngestToken.IsSet() {
		token = cfg.Web.IngestToken.Read
	}
	server, err := web.New(web.Options{
		Listen: a.opts.Listen, ConfigFile: a.opts.WebConfigFile,
		Snapshots: a.processor, Log: a.log, Publisher: a.log, Health: a, Metrics: a.exporter,
		Webhooks: a.webhooks, Rejections: a.refused, IngestToken: token, Debug: a.opts.Debug, Logger: a.opts.Logger,
	})
	if err != nil {
		return err
	}
	a.server = server
	return server.Listen(ctx)
}

// Addr returns the address that the service listens on.
func (a *App) Addr() net.Addr { return a.server.Addr() }

// URL returns the address of the page; it ends in a slash.
func (a *App) URL() string { return a.server.URL() }

// Run works until ctx ends, then stops every part and returns nil. Any other
// return is the error of the part that failed first. It is called once.
func (a *App) Run(ctx context.Context) error {
	a.opts.Logger.Info("listening", "page", a.URL(), "metrics", a.URL()+"metrics")
	group, running := errgroup.WithContext(ctx)
	// The connectors stop first, so that what they published is still taken.
	reading, stopReading := context.WithCancel(running)
	serving, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopReading()
	defer stopServing()
	group.Go(func() error { defer stopServing(); return a.readTrackers(reading) })
	group.Go(func() error { defer stopReading(); return a.processor.Run(serving) })
	group.Go(func() error { defer stopReading(); return a.server.Serve(serving) })
	group.Go(func() error { a.watchLog(serving); return nil })
	err := errors.Join(group.Wait(), a.log.Close())
	a.opts.Logger.Info("stopped")
	return err
}

// readTrackers runs the connectors once the log has been replayed: before that
// nobody knows which facts it holds.
func (a *App) readTrackers(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-a.processor.CaughtUp():
	}
	var group errgroup.Group
	for _, r := range a.runners {
		group.Go(func() error { return r.Run(ctx) })
	}
	err := group.Wait()
	<-ctx.Done() // also where there are no sources, or none is left
	return err
}

// watchLog keeps the size of the log at hand.
func (a *App) watchLog(ctx context.Context) {
	tick := time.NewTicker(30 * time.Second)
	defer tick.Stop()
	for {
		if stats, err := a.log.Stats(ctx); err == nil {
			a.logBytes.Store(stats.Bytes)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Ready reports whether the numbers can be relied upon: the log was replayed,
// every source has been polled once or has failed, and the latest snapshot holds
// all that was read by then.
func (a *App) Ready() (ok bool, reasons []string) {
	status := a.processor.Status()
	switch {
	case !status.CaughtUp:
		reasons = append(reasons, fmt.Sprintf("replaying the log: %d messages to go", status.Pending))
	case status.SnapshotAt.IsZero():
		reasons = append(reasons, "computing the first snapshot")
	}
	for _, r := range a.runners {
		if s := r.Status(); !s.Polled {
			reasons = append(reasons, fmt.Sprintf("source %s: first poll under way, %.0f %% read", s.Name, 100*s.Backfill))
		}
	}
	if len(reasons) == 0 && !a.settled(status.Measured) {
		reasons = append(reasons, "measuring what was read")
	}
	return len(reasons) == 0, reasons
}

// settled reports whether a snapshot up to a position holds all that was in the
// log when every source had been polled.
func (a *App) settled(measured uint64) bool {
	if a.goal.Load() == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		last, err := a.log.LastPosition(ctx)
		if err != nil {
			return false // the next question may find the log better
		}
		a.goal.CompareAndSwap(0, last+1)
	}
	return measured+1 >= a.goal.Load()
}

// service gathers what the exporter shows about the service itself.
func (a *App) service() exporter.Service {
	status := a.processor.Status()
	out := exporter.Service{
		Webhooks: a.webhooks.Counts(),

		Log: exporter.Log{Counting: !status.CaughtUp, Changes: status.Changes, Rejected: status.Rejected, Bytes: a.logBytes.Load()},
		Processor: exporter.Processor{
			Pending: status.Pending, SnapshotAt: status.SnapshotAt, SnapshotDuration: status.SnapshotDuration,
		},
	}
	a.refused.addTo(out.Log.Rejected)
	for i, r := range a.runners { // one for each source, in order
		s := r.Status()
		source := exporter.SourceStatus{
			Name: s.Name, LastSuccess: s.LastSuccess, Lag: &s.Lag, PollInterval: a.opts.Config.Sources[i].PollInterval,
			Requests: s.Requests, Backfill: s.Backfill,
		}
		if s.RateLimitKnown {
			source.RateLimitRemaining = &s.RateLimitRemaining
		}
		out.Sources = append(out.Sources, source)
	}
	return out
}

// known gives the processor the method names of the connectors' contract.
type known struct{ *processor.Processor }

func (k known) Status(source, item string) (status flow.Value, at time.Time, ok bool) {
	return k.ItemStatus(source, item)
}

// cursors gives the event log's cursors the errors of the connectors' contract.
type cursors struct{ *eventlog.Log }

func (c cursors) StoreCursor(ctx context.Context, source string, cursor []byte, revision uint64) (uint64, error) {
	next, err := c.Log.StoreCursor(ctx, source, cursor, revision)
	if errors.Is(err, eventlog.ErrStale) {
		return 0, fmt.Errorf("%w: %w", connector.ErrStale, err)
	}
	return next, err
}
