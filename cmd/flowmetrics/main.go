// Command flowmetrics measures how work flows: it reads issue histories from
// trackers and exports the five flow metrics of each value stream.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/flowmetrics/flowmetrics/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(cli.Main(ctx, os.Args[1:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
