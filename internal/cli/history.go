package cli

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/exporter"
)

type historyCmd struct {
	Config string `required:"" placeholder:"FILE" help:"Configuration file: its value streams, workflows and windows are used, and its external NATS (nats.url) where none of the next three is given."`

	DataDir string   `group:"Where the changes are, one of:" placeholder:"DIR" help:"Folder of the event log, while no flowmetrics runs on it."`
	URL     string   `group:"Where the changes are, one of:" placeholder:"URL" help:"A running flowmetrics, such as http://127.0.0.1:9797."`
	Changes []string `group:"Where the changes are, one of:" sep:"none" placeholder:"FILE" help:"Changes file, JSON Lines; - is the standard input. May be repeated."`

	From        instant       `group:"What is written:" placeholder:"TIME" help:"First instant, RFC 3339 or a date for midnight UTC. Default: a year before --to, but not before the first change."`
	To          instant       `group:"What is written:" placeholder:"TIME" help:"End, which is no instant itself, and not in the future. Default: now with --remote-write, else the last even hour (UTC) that is three hours ago."`
	Step        time.Duration `group:"What is written:" default:"4m" placeholder:"DURATION" help:"Distance of the instants. Prometheus looks for a sample within 5 minutes, so panels have gaps above 4m30s. Default: ${default}."`
	Job         string        `group:"What is written:" default:"flowmetrics" placeholder:"NAME" help:"Label job, as scraped. Default: ${default}."`
	Instance    string        `group:"What is written:" default:"127.0.0.1:9797" placeholder:"HOST:PORT" help:"Label instance, as scraped. Default: ${default}."`
	ValueStream []string      `group:"What is written:" sep:"none" placeholder:"NAME" help:"Only this value stream; may be repeated. Default: all, and what is about none."`
	Metrics     string        `group:"What is written:" placeholder:"REGEX" help:"Only the metrics whose whole name matches, such as flow_load_.* for the load."`

	Out          string `group:"Where it goes, one of --out and --remote-write:" placeholder:"DIR" help:"Folder for the files, made where it is missing; - is one OpenMetrics document on the standard output."`
	Format       string `group:"Where it goes, one of --out and --remote-write:" enum:"openmetrics,blocks" default:"openmetrics" placeholder:"FORMAT" help:"With --out: openmetrics, text for promtool, or blocks, which Prometheus' data folder takes as they are. Default: ${default}."`
	RemoteWrite  string `group:"Where it goes, one of --out and --remote-write:" placeholder:"URL" help:"Send to a remote write receiver, such as http://127.0.0.1:9090/api/v1/write."`
	State        string `group:"Where it goes, one of --out and --remote-write:" default:"flowmetrics-history.json" placeholder:"FILE" help:"With --remote-write: file that says how far it has come. Default: ${default}, in the working directory."`
	Username     string `group:"Where it goes, one of --out and --remote-write:" placeholder:"NAME" help:"With --remote-write: user of basic authentication; the password is in the environment variable FLOWMETRICS_REMOTE_WRITE_PASSWORD or in a file."`
	PasswordFile string `group:"Where it goes, one of --out and --remote-write:" placeholder:"FILE" help:"File that holds the password."`
	TokenFile    string `group:"Where it goes, one of --out and --remote-write:" placeholder:"FILE" help:"File that holds a bearer token, which may be in the environment variable FLOWMETRICS_REMOTE_WRITE_TOKEN as well."`
}

func (historyCmd) Help() string {
	return "Evaluates the metrics about flow at past instants, each from the facts before it, so that panels and alerts have\n" +
		"history that was never scraped. Labels, names and values are those that a scrape would have had.\n\n" +
		"What is interrupted goes on with the same command: finished parts are kept, and what is not finished is not\n" +
		"there. It ends with the command that loads the files.\n\n" +
		"Prometheus keeps its latest three hours or so in memory. Blocks must not reach into them, or its next start\n" +
		"loses what it has scraped since: the default of --to is safe. Only for a Prometheus that was never started\n" +
		"may --to be later. A remote write may reach up to now, and wants out_of_order_time_window set in Prometheus.\n\n" + example(
		"flowmetrics history --config flow.yaml --url http://127.0.0.1:9797 --out history --format blocks",
		"flowmetrics history --config flow.yaml --data-dir flowmetrics-data --from 2026-01-01 --out history",
		"flowmetrics history --config flow.yaml --url http://127.0.0.1:9797 --remote-write http://127.0.0.1:9090/api/v1/write",
		"flowmetrics history --config flow.yaml --changes changes.jsonl --metrics flow_load_items --out -")
}

// longestStep is the longest step at which a range query finds a sample within
// Prometheus' five minutes, whatever its own step.
const longestStep = 4*time.Minute + 30*time.Second

// Validate sees whether the arguments can be used.
func (c *historyCmd) Validate() error {
	given := 0
	for _, is := range []bool{c.DataDir != "", c.URL != "", len(c.Changes) > 0} {
		if is {
			given++
		}
	}
	_, bad := c.metrics()
	switch {
	case given > 1:
		return errors.New("--data-dir, --url and --changes can't be used together")
	case (c.Out == "") == (c.RemoteWrite == ""):
		return errors.New("want one of --out=DIR and --remote-write=URL")
	case c.Out == "-" && c.Format != "openmetrics":
		return errors.New("--format: blocks are folders and need a folder as --out")
	case c.RemoteWrite == "" && (c.Username != "" || c.PasswordFile != "" || c.TokenFile != ""):
		return errors.New("--username, --password-file and --token-file are for --remote-write")
	case c.Username == "" && c.PasswordFile != "":
		return errors.New("--password-file needs --username")
	case c.Username != "" && c.TokenFile != "":
		return errors.New("--username and --token-file can't be used together")
	case c.Step < time.Second || c.Step%time.Second != 0:
		return errors.New("--step: want whole seconds, at least one")
	case bad != nil:
		return fmt.Errorf("--metrics: %w", bad)
	case c.To.After(time.Now()):
		return errors.New("--to is in the future, which has no numbers")
	case !c.From.IsZero() && !c.To.IsZero() && !c.From.Before(c.To.Time):
		return errors.New("--from is not before --to")
	}
	return nil
}

// metrics returns the expression that a metric's whole name has to match, or nil
// for all.
func (c *historyCmd) metrics() (*regexp.Regexp, error) {
	if c.Metrics == "" {
		return nil, nil
	}
	return regexp.Compile("^(?:" + c.Metrics + ")$")
}

// safeEnd returns the end of the latest blocks that a Prometheus that runs can be
// given. Its head begins at an even hour once it has written a block, and is at
// most three hours old then; at a start it drops what it had scraped before the
// end of the latest block.
func safeEnd(now time.Time) time.Time { return now.Add(-3 * time.Hour).Truncate(2 * time.Hour) }

// end returns the end that was asked for, or the latest that is safe.
func (c *historyCmd) end(now time.Time) time.Time {
	switch {
	case !c.To.IsZero():
		return c.To.Time
	case c.RemoteWrite != "":
		return now
	}
	return safeEnd(now)
}

func (c *historyCmd) Run(env *environment) error {
	cfg, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	if c.DataDir == "" && c.URL == "" && len(c.Changes) == 0 && cfg.NATS.URL == "" {
		return errors.New("want one of --data-dir=DIR, --url=URL and --changes=FILE")
	}
	var (
		folder *historyFolder
		sender *remoteWriter
		where  string // of the journal
	)
	switch {
	case c.RemoteWrite != "":
		if sender, err = c.sender(); err != nil {
			return err
		}
		where = c.State
	case c.Out != "-":
		if folder, err = openFolder(c.Out); err != nil {
			return err
		}
		defer folder.close()
		where = folder.journalPath()
	}
	journal, err := openJournal(where, c.parameters(cfg.Policy().Hash()), c.From.Time, c.To.Time)
	if err != nil {
		return err
	}
	if folder != nil {
		if err := folder.recover(journal); err != nil {
			return err
		}
	}
	if journal.begun() && journal.complete() {
		fmt.Fprintf(env.Err, "all of %s to %s is written already, as %s says; without that file it is written again\n",
			stamp(journal.From), stamp(journal.To), where)
		if folder != nil {
			if n := folder.gone(journal); n > 0 {
				fmt.Fprintf(env.Err, "no longer in %s: %s, moved to where Prometheus has its data or removed\n", c.Out, plural(n, "part"))
			}
		}
		return nil
	}
	now := time.Now()
	from, to := c.From.Time, c.end(now)
	if journal.begun() {
		from, to = journal.From, journal.To
	}
	if !from.IsZero() && !from.Before(to) {
		return fmt.Errorf("--from is %s, which is not before --to, by default %s", stamp(from), stamp(to))
	}
	asked := to
	// Where the last step ends, so that a later run looks at the same facts.
	if over := time.Duration(to.UnixNano() % int64(c.Step)); over > 0 {
		to = to.Add(c.Step - over)
	}
	log, err := c.read(env, cfg, to)
	if err != nil {
		return err
	}
	if log.facts == 0 {
		return fmt.Errorf("there is no change before %s, so there is no history", stamp(to))
	}
	if from.IsZero() {
		from = log.first
		if year := to.AddDate(-1, 0, 0); year.After(from) {
			from = year
		}
	}
	metrics, err := c.metrics()
	if err != nil {
		return err
	}
	history, err := exporter.NewHistory(exporter.HistoryConfig{
		Policy: cfg.Policy(), Ledger: log.ledger, Step: c.Step, Job: c.Job, Instance: c.Instance,
		ValueStreams: c.ValueStream, Metrics: metrics,
	})
	if err != nil {
		return err
	}
	ranges := history.Cut(from, to)
	if len(ranges) == 0 {
		return fmt.Errorf("there is no multiple of %s from %s to %s", c.Step, stamp(from), stamp(asked))
	}
	run := &historyRun{
		env: env, history: history, step: c.Step, journal: journal,
		from: ranges[0].From, to: ranges[len(ranges)-1].To, ranges: ranges,
	}
	if c.Out == "-" { // families are contiguous in one document, so it is one part
		run.ranges = []exporter.Range{{From: run.from, To: run.to}}
	}
	if journal.begun() && journal.Facts != log.facts {
		fmt.Fprintf(env.Err, "attention: the log has %d facts before %s and had %d when this began: parts that are written already are as of then\n",
			log.facts, stamp(to), journal.Facts)
	}
	if c.Step > longestStep {
		fmt.Fprintf(env.Err, "attention: with a step above %s panels have gaps, because Prometheus looks for a sample within 5 minutes\n", longestStep)
	}
	if safe := safeEnd(now); sender == nil && to.After(safe) {
		fmt.Fprintf(env.Err, "attention: only a Prometheus that was never started may be given more than what ends at %s; "+
			"another may lose what it has scraped since\n", stamp(safe))
	}
	if err := run.plan(c.Format, sender != nil, folder); err != nil {
		return err
	}
	if err := journal.begin(run.from, run.to, len(ranges), log.facts); err != nil {
		return err
	}
	run.start()
	switch {
	case sender != nil:
		sender.out, sender.from = run.progress, run.from
		err = run.send(sender)
	case folder == nil:
		err = run.print()
	default:
		err = run.files(folder, c.Format)
	}
	return run.end(err, c.next(sender != nil))
}

// parameters are what the parts of one history have in common. A journal holds
// them, and what was begun with others does not go on.
func (c *historyCmd) parameters(policy string) map[string]string {
	p := map[string]string{
		"configuration": policy, "step": c.Step.String(), "job": c.Job, "instance": c.Instance,
		"value streams": strings.Join(c.ValueStream, ", "), "metrics": c.Metrics, "format": c.Format,
		"version of flowmetrics": Version,
	}
	if c.RemoteWrite != "" {
		p["format"] = "remote write, " + strconv.Itoa(requestSamples) + " samples a request"
		p["remote write"] = c.RemoteWrite
	}
	return p
}

// next says what is to be done with what was written.
func (c *historyCmd) next(sent bool) string {
	const data = "\n  DATA=/var/lib/prometheus/metrics2  # Prometheus' --storage.tsdb.path, here that of Debian\n"
	switch {
	case sent || c.Out == "-":
		return ""
	case c.Format == "blocks":
		return "to load it, as the user that Prometheus runs as, with its --storage.tsdb.retention.time longer than the history:" + data +
			"  mv " + shellQuote(c.Out) + "/0*/ \"$DATA\"\n"
	default:
		return "to load it, as the user that Prometheus runs as, with its --storage.tsdb.retention.time longer than the history:" + data +
			"  for f in " + shellQuote(c.Out) + "/history-*.om; do promtool tsdb create-blocks-from --max-block-duration=486h openmetrics -q \"$f\" \"$DATA\" || break; done\n"
	}
}
