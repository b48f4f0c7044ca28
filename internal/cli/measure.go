package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// instant is a flag with a point in time.
type instant struct{ time.Time }

// UnmarshalText reads RFC 3339, or a date for midnight UTC.
func (i *instant) UnmarshalText(text []byte) error {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		t, err := time.Parse(layout, string(text))
		if err != nil {
			continue
		}
		if t.Before(flow.MinTime) || !t.Before(flow.MaxTime) {
			return fmt.Errorf("%q is out of range, want the years 1970 to 2199", text)
		}
		i.Time = t.UTC()
		return nil
	}
	return fmt.Errorf("%q is not a time, want RFC 3339 such as 2026-06-29T00:00:00Z, or a date", text)
}

type measureCmd struct {
	Config  string   `required:"" placeholder:"FILE" help:"Configuration file: its value streams, workflows and windows are used."`
	Changes []string `required:"" placeholder:"FILE" sep:"none" help:"Changes file, JSON Lines; - is the standard input. May be repeated."`
	At      instant  `placeholder:"TIME" help:"Measure as of this instant, RFC 3339 or a date for midnight UTC: only facts before it are seen. Default: now."`
	Format  string   `enum:"json,table" default:"json" placeholder:"FORMAT" help:"Output format: json or table. Default: ${default}."`
	Items   bool     `help:"List the items of each value stream too."`
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
	if err := addChanges(env, c.Changes, func(change *flow.Change) { ledger.Add(change) }); err != nil {
		return err
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

// addChanges calls add for each change of changes files. Lines that cannot be used
// are named on the standard error and left out.
func addChanges(env *environment, files []string, add func(*flow.Change)) error {
	rejected := 0
	for _, name := range files {
		err := readChanges(env, name, func(line int, change flow.Change, err error) error {
			if err != nil {
				rejected++
				fmt.Fprintf(env.Err, "%s:%d: rejected: %v\n", name, line, err)
				return nil
			}
			add(&change)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if rejected > 0 {
		fmt.Fprintf(env.Err, "%s rejected, the others measured\n", plural(rejected, "line"))
	}
	return nil
}

// maxLine bounds a line of a changes file, in bytes.
const maxLine = 1 << 20

// readChanges calls f for each line of a changes file, with the change or with
// what is wrong with it. Blank lines are skipped.
func readChanges(env *environment, name string, f func(line int, c flow.Change, err error) error) error {
	var in io.Reader
	if name == "-" {
		in = interruptible(env.ctx, env.In)
	} else {
		file, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("read changes: %w", err)
		}
		defer file.Close() //nolint:errcheck // only read
		in = file
	}
	return readLines(env.ctx, name, in, f)
}

// readLines calls f for each line that a reader of the given name has, until ctx
// ends.
func readLines(ctx context.Context, name string, in io.Reader, f func(line int, c flow.Change, err error) error) error {
	reader := bufio.NewReaderSize(in, 64<<10)
	for line := 1; ; line++ {
		text, long, err := readLine(reader)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read changes: %s, line %d: %w", name, line, err)
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
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// interruptible returns a reader that fails once ctx ends, also while r has
// nothing to give: a terminal, or a program that is still busy. What it started
// then waits for r until the process ends.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	out, in := io.Pipe()
	context.AfterFunc(ctx, func() { in.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.Copy(in, r)
		in.CloseWithError(err)
	}()
	return out
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
