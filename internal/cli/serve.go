package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/flowmetrics/flowmetrics/internal/app"
	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/jira"
	"github.com/flowmetrics/flowmetrics/internal/sim"
)

// serveFlags are the flags of serve and demo.
type serveFlags struct {
	Listen        string `default:"127.0.0.1:9797" placeholder:"HOST:PORT" help:"Address of metrics, page and API. Default: ${default}."`
	WebConfigFile string `name:"web.config.file" placeholder:"FILE" help:"TLS and basic authentication, in the format of Prometheus' exporter-toolkit."`
	Pprof         bool   `name:"debug.pprof" help:"Serve profiles at /debug/pprof."`
}

// run serves a configuration until the context ends.
func (f *serveFlags) run(env *environment, cfg *config.Config, dataDir string, started func(*app.App)) error {
	var reporter connector.Reporter
	out := env.Err
	width, terminal := env.terminal()
	var bar *connector.Bar
	if terminal && env.args.LogFormat == "text" {
		bar = connector.NewBar(env.Err, width)
		reporter, out = bar, bar // log lines go through the bar, which redraws itself below them
	}
	logger := env.logger(out)
	if bar == nil {
		reporter = connector.NewLogProgress(logger)
	}
	a, err := app.New(env.ctx, app.Options{
		Config: cfg, DataDir: dataDir, Listen: f.Listen, WebConfigFile: f.WebConfigFile, Debug: f.Pprof,
		Version: Version, Revision: revision(), Logger: logger, Progress: reporter,
	})
	if err != nil {
		return err
	}
	started(a)
	err = a.Run(env.ctx)
	if bar != nil {
		err = errors.Join(err, bar.Close())
	}
	return err
}

type serveCmd struct {
	Config  string `required:"" placeholder:"FILE" help:"Configuration file."`
	DataDir string `default:"flowmetrics-data" placeholder:"DIR" help:"Folder of the event log, made where it is missing. Default: ${default}."`
	serveFlags
}

func (serveCmd) Help() string {
	return "Ctrl-C or SIGTERM stops cleanly; killed at any moment, nothing that was acknowledged is lost.\n\n" + example(
		"JIRA_TOKEN=... flowmetrics serve --config flow.yaml",
		"flowmetrics serve --config flow.yaml --data-dir /var/lib/flowmetrics --listen 127.0.0.1:9797",
		"curl http://127.0.0.1:9797/metrics")
}

func (c *serveCmd) Run(env *environment) error {
	cfg, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	return c.run(env, cfg, c.DataDir, func(*app.App) {})
}

type demoCmd struct {
	Config  string `placeholder:"FILE" help:"Measure the simulated organisation by this configuration: its Jira sources are pointed at the simulation. Default: a built-in one."`
	DataDir string `placeholder:"DIR" help:"Folder of the event log. Default: a temporary one, removed at the end."`
	Seed    uint64 `default:"1" help:"Seed of the simulated organisation: the same seed is the same history. Default: ${default}."`
	serveFlags
}

func (demoCmd) Help() string {
	return "Two value streams, payments and platform, with six months of history that goes on moving in\n" +
		"accelerated time. The real connector reads them from a simulated Jira on loopback.\n\n" + example(
		"flowmetrics demo",
		"flowmetrics demo --listen 127.0.0.1:9898 --seed 7")
}

// demoStep is how often the simulated organisation moves on.
const demoStep = time.Second

func (c *demoCmd) Run(env *environment) (err error) {
	site := jira.NewFake(jira.FakeOptions{InlineHistories: 40, PageSize: 50})
	world := sim.New(c.Seed, time.Now(), site)
	listener, err := new(net.ListenConfig).Listen(env.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen for the simulated Jira: %w", err)
	}
	server := &http.Server{Handler: site, ReadHeaderTimeout: 10 * time.Second}
	url := "http://" + listener.Addr().String()
	cfg, err := c.configuration(world, url)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	dir := c.DataDir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "flowmetrics-demo-"); err != nil {
			return errors.Join(fmt.Errorf("make data folder: %w", err), listener.Close())
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	ctx, stop := context.WithCancel(env.ctx)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the simulated Jira: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		live(ctx, world)
		return server.Close()
	})
	group.Go(func() error {
		defer stop()
		inner := *env
		inner.ctx = ctx
		return c.run(&inner, cfg, dir, func(a *app.App) {
			fmt.Fprintf(env.Out, "The demo runs on %[1]s (metrics: %[1]smetrics). Ctrl-C ends it.\n", a.URL())
		})
	})
	return group.Wait()
}

// configuration returns the built-in configuration, or the given one with its
// Jira sources pointed at the simulation, without their credentials.
func (c *demoCmd) configuration(world *sim.World, url string) (*config.Config, error) {
	if c.Config == "" {
		return config.Parse(filepath.Join(os.TempDir(), "demo.yaml"), world.Config(url))
	}
	cfg, err := config.Load(c.Config)
	if err != nil {
		return nil, err
	}
	for i := range cfg.Sources {
		if s := &cfg.Sources[i]; s.Type == config.Jira {
			s.URL, s.Email, s.Token = url, "", config.Secret{}
		}
	}
	return cfg, nil
}

// live moves the simulated organisation on until the context ends.
func live(ctx context.Context, world *sim.World) {
	tick := time.NewTicker(demoStep)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			world.Advance(now)
		}
	}
}
