package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/app"
	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/connector/github"
	"github.com/flowmetrics/flowmetrics/internal/connector/jira"
	"github.com/flowmetrics/flowmetrics/internal/sim"
	"golang.org/x/sync/errgroup"
)

type demoCmd struct {
	Config  string `placeholder:"FILE" help:"Measure the simulated organisation by this configuration: its sources of Jira and GitHub are pointed at the simulation. Default: a built-in one."`
	DataDir string `placeholder:"DIR" help:"Folder of the event log, and of the built-in configuration as demo.yaml; a later demo on it goes on with the same organisation. Default: a temporary one, removed at the end."`
	Seed    uint64 `placeholder:"N" help:"Seed of the simulated organisation, from 1 up: the same seed is the same history. Default: that of the data folder, else 1."`
	serveFlags
}

func (demoCmd) Help() string {
	return "Two value streams, payments and platform, with fifteen months of history that goes on moving in\n" +
		"accelerated time. The real connectors read them from a simulated Jira and a simulated GitHub on loopback.\n\n" + example(
		"flowmetrics demo",
		"flowmetrics demo --listen 127.0.0.1:9898 --seed 7")
}

// demoStep is how often the simulated organisation moves on.
const demoStep = time.Second

func (c *demoCmd) Run(env *environment) (err error) {
	dir := c.DataDir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "flowmetrics-demo-"); err != nil {
			return fmt.Errorf("make data folder: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	origin, err := begin(dir, c.Seed, time.Now().UTC().Truncate(time.Second))
	if err != nil {
		return err
	}
	jiraSite := jira.NewFake(jira.FakeOptions{InlineHistories: 40, PageSize: 50})
	gitHubSite := github.NewFake(github.FakeOptions{Enterprise: true, Limit: 100_000}) // which limits nobody, but tells
	world := sim.New(origin.Seed, origin.Start, jiraSite, gitHubSite)
	world.Advance(time.Now())
	ctx, stop := context.WithCancel(env.ctx)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	// Whatever ends first, nothing is left running.
	defer func() { stop(); err = errors.Join(err, group.Wait()) }()
	at := simulated{token: filepath.Join(dir, "github.token")}
	if at.jira, err = host(ctx, group, "Jira", jiraSite); err != nil {
		return err
	}
	if at.github, err = host(ctx, group, "GitHub", gitHubSite); err != nil {
		return err
	}
	at.github += "/api/v3"
	// The board is shown to nobody without credentials, and to anybody with some.
	if err := os.WriteFile(at.token, []byte("simulated\n"), 0o600); err != nil {
		return fmt.Errorf("keep token of the simulated GitHub: %w", err)
	}
	cfg, err := c.configuration(dir, world, at)
	if err != nil {
		return err
	}
	group.Go(func() error { live(ctx, world); return nil })
	inner := *env
	inner.ctx = ctx
	return c.run(&inner, cfg, dir, func(a *app.App) {
		fmt.Fprintf(env.Out, "The demo runs on %[1]s (metrics: %[1]smetrics). Ctrl-C ends it.\n", a.URL())
	})
}

// simulated says where the simulation is to be found.
type simulated struct {
	jira, github string // URLs
	token        string // file of the token for the latter
}

// host serves a simulated site on loopback until the context ends.
func host(ctx context.Context, group *errgroup.Group, name string, site http.Handler) (url string, err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listen for the simulated %s: %w", name, err)
	}
	server := &http.Server{Handler: site, ReadHeaderTimeout: 10 * time.Second}
	group.Go(func() error {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the simulated %s: %w", name, err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		return server.Close()
	})
	return "http://" + listener.Addr().String(), nil
}

// origin is what makes a simulated organisation: the same origin is the same
// organisation, so that the log of an earlier demo fits a later one.
type origin struct {
	Seed  uint64    `json:"seed"`
	Start time.Time `json:"start"` // where its history ends and its life begins
}

// demoLife bounds how long a demo may be away: its organisation works 240 times
// as fast as the clock, and all of that is caught up on at the start.
const demoLife = 24 * time.Hour

// begin returns the origin of the demo that a data folder is of, which is a new
// one where there was none.
func begin(dir string, seed uint64, now time.Time) (origin, error) {
	path := filepath.Join(dir, "demo.json")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		fresh := origin{Seed: cmp.Or(seed, 1), Start: now}
		return fresh, write(path, fresh)
	}
	if err != nil {
		return origin{}, fmt.Errorf("read origin of the demo: %w", err)
	}
	var old origin
	switch err := json.Unmarshal(text, &old); {
	case err != nil:
		return origin{}, fmt.Errorf("read origin of the demo: %s: %w", path, err)
	case now.Sub(old.Start) > demoLife:
		return origin{}, fmt.Errorf("%s holds a demo of %s, too long ago to go on with: remove it or name another --data-dir", dir, old.Start.Format(time.DateOnly))
	case seed != 0 && seed != old.Seed:
		return origin{}, fmt.Errorf("%s holds the demo of seed %d, not %d: remove it or name another --data-dir", dir, old.Seed, seed)
	}
	return old, nil
}

func write(path string, o origin) error {
	text, err := json.Marshal(o)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path, append(text, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("keep origin of the demo: %w", err)
	}
	return nil
}

// configuration returns the built-in configuration, which it leaves in the data
// folder for other commands, or the given one with its sources of Jira and GitHub
// pointed at the simulation, without their credentials.
func (c *demoCmd) configuration(dir string, world *sim.World, at simulated) (*config.Config, error) {
	if c.Config == "" {
		path := filepath.Join(dir, "demo.yaml")
		if err := os.WriteFile(path, world.Config(at.jira, at.github, filepath.Base(at.token)), 0o644); err != nil {
			return nil, fmt.Errorf("keep configuration of the demo: %w", err)
		}
		return config.Load(path)
	}
	cfg, err := config.Load(c.Config)
	if err != nil {
		return nil, err
	}
	for i := range cfg.Sources {
		switch s := &cfg.Sources[i]; s.Type {
		case config.Jira:
			s.URL, s.Email, s.Token = at.jira, "", config.Secret{}
		case config.GitHub:
			s.URL, s.App, s.Token = at.github, config.App{}, config.SecretFile(at.token)
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
