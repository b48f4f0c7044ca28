package cli

import (
	"errors"

	"github.com/flowmetrics/flowmetrics/internal/app"
	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/connector"
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
