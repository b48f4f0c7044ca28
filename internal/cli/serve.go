package cli

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

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
		bar = connector.NewBar(env.Err, "reading history", width)
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
	Config      string   `xor:"what" placeholder:"FILE" help:"Configuration file; this or --github."`
	GitHub      []string `name:"github" xor:"what" sep:"none" placeholder:"OWNER/REPO" help:"Measure a repository of GitHub without a configuration file, with the token in GITHUB_TOKEN; may be repeated, all are one value stream."`
	GitHubURL   string   `name:"github-url" env:"GITHUB_API_URL" default:"https://api.github.com" placeholder:"URL" help:"Address of GitHub's interface for --github, of an own server: https://HOST/api/v3. Default: ${default}."`
	PrintConfig bool     `help:"Print the configuration that --github stands for, and serve nothing."`
	DataDir     string   `default:"flowmetrics-data" placeholder:"DIR" help:"Folder of the event log, made where it is missing. Default: ${default}."`
	serveFlags
}

func (serveCmd) Help() string {
	return "Ctrl-C or SIGTERM stops cleanly; killed at any moment, nothing that was acknowledged is lost.\n\n" + example(
		"GITHUB_TOKEN=... flowmetrics serve --github acme/api",
		"flowmetrics serve --github acme/api --github acme/web --print-config >flow.yaml",
		"JIRA_TOKEN=... flowmetrics serve --config flow.yaml",
		"flowmetrics serve --config flow.yaml --data-dir /var/lib/flowmetrics --listen 127.0.0.1:9797",
		"curl http://127.0.0.1:9797/metrics")
}

// Validate sees whether the arguments can be used.
func (c *serveCmd) Validate() error {
	if c.Config == "" && len(c.GitHub) == 0 {
		return errors.New("missing flags: --config=FILE or --github=OWNER/REPO")
	}
	for i, r := range c.GitHub {
		if !config.IsRepository(r) {
			return fmt.Errorf("--github: %q is no repository, want OWNER/REPO such as acme/api", r)
		}
		if slices.Contains(c.GitHub[:i], r) {
			return fmt.Errorf("--github: %s is named twice", r)
		}
	}
	if c.PrintConfig && len(c.GitHub) == 0 {
		return errors.New("--print-config is for --github")
	}
	return nil
}

func (c *serveCmd) Run(env *environment) error {
	if len(c.GitHub) == 0 {
		cfg, err := config.Load(c.Config)
		if err != nil {
			return err
		}
		return c.run(env, cfg, c.DataDir, func(*app.App) {})
	}
	token := strings.TrimSpace(os.Getenv(config.GitHubTokenEnv)) != ""
	text := config.ForGitHub(c.GitHubURL, c.GitHub, token)
	cfg, err := config.Parse("--github", text)
	if err != nil {
		return err
	}
	if !token {
		fmt.Fprintf(env.Err, "flowmetrics serve: %s is not set: anybody may ask GitHub for 60 requests an hour, about as many issues are read in one; "+
			"set it to a token that may read issues\n", config.GitHubTokenEnv)
	}
	if c.PrintConfig {
		_, err := env.Out.Write(text)
		return err
	}
	return c.run(env, cfg, c.DataDir, func(*app.App) {})
}
