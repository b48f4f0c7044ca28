package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// instant is an RFC 3339 flag.
type instant struct{ time.Time }

// UnmarshalText reads RFC 3339, or a date for midnight UTC.
func (i *instant) UnmarshalText(text []byte) error {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, string(text)); err == nil {
			i.Time = t.UTC()
			return nil
		}
	}
	return fmt.Errorf("%q is not a time, want RFC 3339 such as 2026-06-29T00:00:00Z", text)
}

type measureCmd struct {
	Config  string   `required:"" placeholder:"FILE" help:"Configuration file: its value streams, workflows and windows are used."`
	Changes []string `required:"" placeholder:"FILE" sep:"none" help:"Changes file, JSON Lines; - is the standard input. May be repeated."`
	At      instant  `placeholder:"TIME" help:"Measure as of this instant (RFC 3339); only facts before it are seen. Default: now."`
	Format  string   `enum:"json,table" default:"json" help:"Output format: ${enum}."`
	Items   bool     `help:"List the items of each value stream."`
}

func (measureCmd) Help() string {
	return "No server, network, data directory or secret is needed. Lines that cannot be used are named on the\n" +
		"standard error and left out.\n\n" + example(
		"flowmetrics measure --config flow.yaml --changes changes.jsonl --at 2026-06-29T00:00:00Z",
		"flowmetrics changes | flowmetrics measure --config flow.yaml --changes - --format table")
}

func (c *measureCmd) Run(env *environment) error {
	cfg, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	if c.At.IsZero() {
		c.At.Time = time.Now().UTC()
	}
	ledger := flow.NewLedger()
	rejected := 0
	for _, name := range c.Changes {
		err := readChanges(env, name, func(line int, change flow.Change, err error) error {
			if err != nil {
				rejected++
				fmt.Fprintf(env.Err, "%s:%d: rejected: %v\n", name, line, err)
				return nil
			}
			ledger.Add(&change)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if rejected > 0 {
		fmt.Fprintf(env.Err, "%d lines rejected, the others measured\n", rejected)
	}
	snapshot := flow.Measure(cfg.Policy(), ledger, c.At.Time, flow.Options{Items: c.Items})
	if c.Format == "table" {
		return writeTable(env.Out, snapshot)
	}
	out, err := json.MarshalIndent(snapshot, "", "  ")
	if err != nil {
		return fmt.Errorf("encode numbers: %w", err)
	}
	_, err = fmt.Fprintf(env.Out, "%s\n", out)
	return err
}

// maxLine bounds a line of a changes file, in bytes.
const maxLine = 1 << 20

// readChanges calls f for each line of a changes file, with the change or with
// what is wrong with it. Blank lines are skipped.
func readChanges(env *environment, name string, f func(line int, c flow.Change, err error) error) error {
	in := env.In
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("read changes: %w", err)
		}
		defer file.Close() //nolint:errcheck // only read
		in = file
	}
	reader := bufio.NewReaderSize(in, 64<<10)
	for line := 1; ; line++ {
		text, long, err := readLine(reader)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read changes: %s:%d: %w", name, line, err)
		}
		if text = bytes.TrimSpace(bytes.TrimPrefix(text, []byte("\ufeff"))); len(text) > 0 || long {
			var change flow.Change
			bad := error(&flow.InvalidError{Reason: flow.ReasonTooLarge, Detail: fmt.Sprintf("line over %d bytes", maxLine)})
			if !long {
				change, bad = flow.DecodeJSON(text)
			}
			if err := f(line, change, bad); err != nil {
				return err
			}
		}
		if err != nil {
			return nil
		}
		if env.ctx.Err() != nil {
			return env.ctx.Err()
		}
	}
}

// readLine reads a line; of one that is too long it keeps nothing.
func readLine(r *bufio.Reader) (line []byte, long bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			line, long = nil, true
		}
		if !long {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, long, err
		}
	}
}

// writeTable prints the five flow metrics for people.
func writeTable(out io.Writer, s *flow.Snapshot) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "as of %s\n\n", s.At.Format(time.RFC3339))
	fmt.Fprintln(w, "VALUE STREAM\tWINDOW\tFLOW TIME p50\tp85\tn\tEFFICIENCY\tLOAD\tVELOCITY\tDISTRIBUTION")
	for _, m := range s.ValueStreams {
		for i := range m.Windows {
			win := &m.Windows[i]
			p50, p85 := "–", "–"
			if win.All.Timed > 0 {
				p50, p85 = days(win.All.P50), days(win.All.P85)
			}
			efficiency := "–"
			if e, ok := win.All.Efficiency(); ok {
				efficiency = fmt.Sprintf("%.0f %%", 100*e)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%s\t%d\t%d\t%s\n", m.ValueStream.Name, win.Window.Name,
				p50, p85, win.All.Timed, efficiency, m.Load.Items, win.All.Completed, distribution(win))
		}
	}
	for _, m := range s.ValueStreams {
		for i := range m.Items {
			if i == 0 {
				fmt.Fprintf(w, "\n%s\tTYPE\tSTATE\tSTARTED\tFINISHED\tACTIVE\tWAITING\tFLOW TIME\tAGE\n", strings.ToUpper(m.ValueStream.Name))
			}
			row := &m.Items[i]
			flowTime, age := "–", "–"
			if row.HasFlowTime {
				flowTime = days(row.FlowTime)
			}
			if row.InFlow {
				age = days(row.Age)
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", cmp.Or(row.Key, row.Item), row.Type, row.State,
				date(row.StartedAt), date(row.FinishedAt), days(row.Active), days(row.Waiting), flowTime, age)
		}
	}
	return w.Flush()
}

func days(d time.Duration) string { return fmt.Sprintf("%.1f d", d.Hours()/24) }

func date(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.Format(time.DateOnly)
}

func distribution(w *flow.WindowMeasures) string {
	var parts []string
	for t := range w.ByType {
		if n := w.ByType[t].Completed; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %.0f %%", flow.ItemType(t), 100*float64(n)/float64(w.All.Completed)))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "–")
}
