package cli

import (
	"fmt"
	"io"
	"sync"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/exporter"
)

// A historyProgress shows how far a history has come: a bar on a terminal, else a
// line for each part that is finished. It is safe for concurrent use, and an
// [io.Writer] for what else there is to say meanwhile.
type historyProgress struct {
	out io.Writer
	bar *connector.Bar // nil without a terminal

	mu          sync.Mutex
	total, done int // instants
	of, parts   int
	samples     int
	series      int // of the part that has the most
}

// instantsName is what the bar says that it counts.
const instantsName = "instants"

func newHistoryProgress(env *environment, instants, parts int) *historyProgress {
	p := &historyProgress{out: env.Err, total: instants, of: parts}
	if width, terminal := env.terminal(); terminal && env.args.LogFormat == "text" {
		p.bar = connector.NewBar(env.Err, "writing history", width)
		p.out = p.bar
	}
	return p
}

// Write implements [io.Writer].
func (p *historyProgress) Write(text []byte) (int, error) { return p.out.Write(text) }

// advance tells of instants that are done since the last call.
func (p *historyProgress) advance(instants int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += instants
	if p.bar != nil {
		p.bar.Advance(instantsName, connector.Progress{Done: p.done, Total: p.total}, int64(p.done))
	}
}

// finish tells of a part that is finished.
func (p *historyProgress) finish(part *exporter.Part, what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parts++
	p.samples += part.Samples()
	p.series = max(p.series, part.Series())
	if p.bar == nil {
		fmt.Fprintf(p.out, "part %d of %d: %s samples from %s on, %s\n", p.parts, p.of, grouped(part.Samples()), stamp(part.Range.From), what)
	}
}

// close ends the bar.
func (p *historyProgress) close() error {
	if p.bar == nil {
		return nil
	}
	if p.parts == p.of {
		p.bar.Finish(instantsName)
	}
	return p.bar.Close()
}
