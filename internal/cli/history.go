package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

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

// What a sample takes where it is not text, in bytes, as BenchmarkHistory measures
// it: most values repeat the one before.
const (
	blockSampleBytes   = 1.5
	requestSampleBytes = 4
)

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
		return nil
	}
	from, to := c.From.Time, c.To.Time
	now := time.Now()
	switch {
	case journal.begun():
		from, to = journal.From, journal.To
	case to.IsZero() && sender != nil:
		to = now
	case to.IsZero():
		to = safeEnd(now)
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
		return fmt.Errorf("there is no multiple of %s from %s to %s", c.Step, stamp(from), stamp(to))
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

// A historyRun writes the parts of a history that are not written yet.
type historyRun struct {
	env      *environment
	history  *exporter.History
	step     time.Duration
	journal  *historyJournal
	from, to time.Time
	ranges   []exporter.Range // all of them
	todo     []exporter.Range
	progress *historyProgress
	began    time.Time
}

// workers is how many parts are evaluated at a time, and in memory.
func workers() int { return runtime.GOMAXPROCS(0) }

// plan finds out what there is to do, says it, and fails where there is no room
// for it.
func (r *historyRun) plan(format string, sent bool, folder *historyFolder) error {
	instants := 0
	for _, part := range r.ranges {
		if !r.journal.has(part) {
			r.todo = append(r.todo, part)
			instants += r.instants(part)
		}
	}
	// The last instant has about as many series as any other.
	last, err := r.history.Evaluate(r.env.ctx, exporter.Range{From: r.to.Add(-r.step), To: r.to}, nil)
	if err != nil {
		return err
	}
	samples := float64(last.Samples()) * float64(instants)
	fmt.Fprintf(r.env.Err, "history from %s to %s, a sample every %s: %s instants in %s",
		stamp(r.from), stamp(r.to), r.step, grouped(r.instants(exporter.Range{From: r.from, To: r.to})), plural(len(r.ranges), "part"))
	if len(r.todo) < len(r.ranges) {
		fmt.Fprintf(r.env.Err, ", of which %d are to do", len(r.todo))
	}
	space, kind := samples*blockSampleBytes, "blocks"
	switch {
	case sent:
		space, kind = samples*requestSampleBytes, "requests"
	case format == "openmetrics":
		perInstant, err := textBytes(last)
		if err != nil {
			return err
		}
		space, kind = perInstant*float64(instants), "OpenMetrics"
	}
	fmt.Fprintf(r.env.Err, "\nabout %s series, at most about %s samples and %s of %s\n",
		grouped(last.Series()), grouped(int(samples)), size(space), kind)
	if folder == nil {
		return nil
	}
	free, err := folder.free()
	if err != nil {
		return err
	}
	if space <= free {
		return nil
	}
	less := "--metrics and --value-stream pick some, a later --from has less"
	if format != "blocks" {
		less = fmt.Sprintf("--format blocks takes about %s, ", size(samples*blockSampleBytes)) + less
	}
	return fmt.Errorf("%s has %s free, which is too little: %s", folder.dir, size(free), less)
}

// textBytes returns how much text the samples of a part are, without what is there
// once for a family.
func textBytes(p *exporter.Part) (n float64, err error) {
	var text bytes.Buffer
	if err := p.WriteOpenMetrics(&text); err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text.Bytes()) {
		if line[0] != '#' {
			n += float64(len(line))
		}
	}
	return n, nil
}

func (r *historyRun) instants(part exporter.Range) int { return int(part.To.Sub(part.From) / r.step) }

func (r *historyRun) start() {
	total := 0
	for _, part := range r.todo {
		total += r.instants(part)
	}
	r.progress = newHistoryProgress(r.env, total, len(r.todo))
	r.began = time.Now()
}

// evaluate computes a part.
func (r *historyRun) evaluate(ctx context.Context, part exporter.Range) (*exporter.Part, error) {
	return r.history.Evaluate(ctx, part, r.progress.advance)
}

// files writes all parts into a folder, as many at a time as there are
// processors.
func (r *historyRun) files(folder *historyFolder, format string) error {
	g, ctx := errgroup.WithContext(r.env.ctx)
	g.SetLimit(workers())
	for _, part := range r.todo {
		g.Go(func() error {
			p, err := r.evaluate(ctx, part)
			if err != nil {
				return err
			}
			name, err := folder.write(ctx, p, format, r.journal)
			if err != nil {
				return err
			}
			r.progress.finish(p, name)
			return nil
		})
	}
	return g.Wait()
}

// print writes the only part to the standard output.
func (r *historyRun) print() error {
	p, err := r.evaluate(r.env.ctx, r.ranges[0])
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(interruptibleWriter{r.env.ctx, r.env.Out}, 256<<10)
	if err := errors.Join(p.WriteOpenMetrics(out), out.Flush()); err != nil {
		return err
	}
	r.progress.finish(p, "the document")
	return r.journal.add(finished(p, ""))
}

// send sends all parts in the order of time, while the next ones are evaluated.
func (r *historyRun) send(to *remoteWriter) error {
	g, ctx := errgroup.WithContext(r.env.ctx)
	slots := make(chan struct{}, workers())
	parts := make([]chan *exporter.Part, len(r.todo))
	for i := range parts {
		parts[i] = make(chan *exporter.Part, 1)
	}
	g.Go(func() error {
		for i, part := range r.todo {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			g.Go(func() error {
				p, err := r.history.Evaluate(ctx, part, nil) // the bar shows what is sent
				parts[i] <- p
				return err
			})
		}
		return nil
	})
	g.Go(func() error {
		for i := range parts {
			select {
			case p := <-parts[i]:
				if p == nil {
					return ctx.Err() // it could not be evaluated
				}
				if err := to.sendPart(ctx, p, r.instants(p.Range), r.journal); err != nil {
					return err
				}
				r.progress.finish(p, "sent")
			case <-ctx.Done():
				return ctx.Err()
			}
			<-slots
		}
		return nil
	})
	return g.Wait()
}

// end says what was written and what is to be done next.
func (r *historyRun) end(err error, next string) error {
	if closing := r.progress.close(); err == nil {
		err = closing
	}
	if err != nil {
		if r.journal.path != "" {
			fmt.Fprintf(r.env.Err, "%d of %s finished; the same command goes on from there\n", r.journal.finished(), plural(len(r.ranges), "part"))
		}
		return err
	}
	took := time.Since(r.began)
	p := r.progress
	fmt.Fprintf(r.env.Err, "%s samples of %s series in %s, in %.1f s\n",
		grouped(p.samples), grouped(p.series), plural(p.parts, "part"), took.Seconds())
	if whole := r.journal.samples(); whole > p.samples {
		fmt.Fprintf(r.env.Err, "with what was there before: %s samples in %s\n", grouped(whole), plural(r.journal.finished(), "part"))
	}
	_, err = io.WriteString(r.env.Err, next)
	return err
}

// interruptibleWriter fails once ctx has ended.
type interruptibleWriter struct {
	ctx context.Context
	io.Writer
}

// Write implements [io.Writer].
func (w interruptibleWriter) Write(text []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, w.ctx.Err()
	}
	return w.Writer.Write(text)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// grouped writes a number with a comma between each three digits.
func grouped(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// size writes a number of bytes with two digits or three.
func size(bytes float64) string {
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if bytes < 999.5 {
			return strconv.FormatFloat(bytes, 'f', precision(bytes), 64) + " " + unit
		}
		bytes /= 1000
	}
	return strconv.FormatFloat(bytes, 'f', precision(bytes), 64) + " TB"
}

// precision is 1 for a number that has one digit before the point and something
// behind it.
func precision(v float64) int {
	if v < 9.95 && v != math.Trunc(v) {
		return 1
	}
	return 0
}

// shellQuote quotes a path for a shell where it needs it.
func shellQuote(path string) string {
	if regexp.MustCompile(`^[\w./+@%:,-]+$`).MatchString(path) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
