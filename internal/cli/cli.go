// Package cli is the command line of flowmetrics: [Main] parses the arguments,
// runs one command and returns its exit code.
//
// Exit codes: 0 all went well; 1 the command failed, the reason is on the
// standard error; 2 the arguments cannot be used.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"golang.org/x/term"

	"github.com/flowmetrics/flowmetrics/internal/config"
)

// IO is where a command reads and writes.
type IO struct {
	In       io.Reader
	Out, Err io.Writer
}

// terminal reports whether the standard error is a terminal, and how wide.
func (s IO) terminal() (width func() int, ok bool) {
	f, ok := s.Err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, false
	}
	return func() int {
		w, _, err := term.GetSize(int(f.Fd()))
		if err != nil || w < 20 {
			return 80
		}
		return w
	}, true
}

// commands is the grammar of the command line.
type commands struct {
	LogLevel  string `name:"log.level" group:"Logging, on the standard error:" enum:"debug,info,warn,error" default:"info" placeholder:"LEVEL" help:"Least level that is logged: debug, info, warn or error. Default: ${default}."`
	LogFormat string `name:"log.format" group:"Logging, on the standard error:" enum:"text,json" default:"text" placeholder:"FORMAT" help:"Format of the log: text or json. Default: ${default}."`

	Serve   serveCmd   `cmd:"" help:"Read the trackers, measure, and serve metrics, page and API."`
	Demo    demoCmd    `cmd:"" help:"Serve a simulated organisation: the whole path, nothing to install."`
	Measure measureCmd `cmd:"" help:"Measure changes files offline, as of any instant."`
	Changes changesCmd `cmd:"" help:"Print the log as JSON Lines, in log order."`
	History historyCmd `cmd:"" help:"Write the metrics of the past for Prometheus, from the log."`
	Import  importCmd  `cmd:"" help:"Append changes files to the log."`
	Check   checkCmd   `cmd:"" help:"Check configuration, credentials, and what no rule maps."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// environment is what every command gets besides its own flags.
type environment struct {
	IO
	ctx  context.Context // of the command
	args *commands
}

// logger returns the logger that the flags ask for, writing to w.
func (e *environment) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(e.args.LogLevel)) // one of the enum, which it knows
	opts := &slog.HandlerOptions{Level: level}
	if e.args.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// An exitError ends a command with a code after it said itself what is wrong.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Main runs a command until it is done or ctx ends, and returns the exit code.
func Main(ctx context.Context, args []string, streams IO) int {
	var grammar commands
	code := -1
	parser, err := kong.New(&grammar,
		kong.Name("flowmetrics"),
		kong.Description("Flow metrics of value streams: flow time, flow efficiency, flow load, flow distribution and flow velocity."),
		kong.Writers(streams.Out, streams.Err),
		kong.Exit(func(c int) { code = c }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
	if err != nil {
		panic("cli: the grammar is wrong: " + err.Error()) // a mistake in this package, found by any test
	}
	parser.Model.HelpFlag.Help = "Show this help."
	if len(args) > 0 && args[0] == "help" { // as many expect of a command
		args = append(slices.Clone(args[1:]), "--help")
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if code >= 0 { // help was asked for
		return code
	}
	if err != nil {
		name, problem := "flowmetrics", err.Error()
		if parse, ok := errors.AsType[*kong.ParseError](err); ok && parse.Context.Selected() != nil {
			name = parse.Context.Selected().FullPath()
			problem = strings.TrimPrefix(problem, parse.Context.Selected().Name+": ") // as a command's own checks begin
		}
		fmt.Fprintf(streams.Err, "%s: %s\nRun \"%[1]s --help\" for what is possible.\n", name, problem)
		return 2
	}
	err = command.Run(&environment{ctx: ctx, IO: streams, args: &grammar})
	if exit, ok := errors.AsType[exitError](err); ok {
		return int(exit)
	}
	if err != nil {
		fmt.Fprintf(streams.Err, "flowmetrics %s: %v\n", command.Selected().Name, explain(ctx, err, streams.Err))
		return 1
	}
	return 0
}

// explain returns what to say of the error that ended a command. Several
// problems of a configuration are listed on w, a line each.
func explain(ctx context.Context, err error, w io.Writer) error {
	if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))) {
		return errors.New("interrupted")
	}
	if bad, ok := errors.AsType[*config.Errors](err); ok && len(bad.Problems) > 1 {
		fmt.Fprintln(w, bad)
		return fmt.Errorf("%s has %d problems, listed above", bad.Problems[0].File, len(bad.Problems)+bad.More)
	}
	return err
}

// plural counts things in words, such as "1 source" and "2 sources".
func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// example formats the examples at the end of a command's help.
func example(lines ...string) string {
	return "Examples:\n\n  " + strings.Join(lines, "\n  ")
}
