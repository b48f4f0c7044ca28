package cli

import (
	"errors"
	"net/http"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A historyLog is what a history is evaluated from.
type historyLog struct {
	ledger *flow.Ledger
	end    time.Time
	first  time.Time // when the first change was
	facts  int       // before end
}

func (l *historyLog) add(c *flow.Change) {
	if l.ledger.Add(c) != flow.Added || !c.At.Before(l.end) {
		return
	}
	l.facts++
	if l.first.IsZero() || c.At.Before(l.first) {
		l.first = c.At
	}
}

// read reads all changes from where the flags say that they are, or from the
// external NATS of the configuration.
func (c *historyCmd) read(env *environment, cfg *config.Config, end time.Time) (*historyLog, error) {
	l := &historyLog{ledger: flow.NewLedger(), end: end}
	switch {
	case len(c.Changes) > 0:
		return l, addChanges(env, c.Changes, l.add)
	case c.URL != "":
		address, err := (&logFlags{URL: c.URL}).endpoint("/api/v1/changes", nil)
		if err != nil {
			return nil, err
		}
		body, err := request(env.ctx, http.MethodGet, address, nil, "")
		if err != nil {
			return nil, err
		}
		err = readLines(env.ctx, "the answer of flowmetrics", body, func(_ int, change flow.Change, err error) error {
			if err == nil {
				l.add(&change)
			}
			return err
		})
		return l, errors.Join(err, body.Close())
	}
	where := logFlags{DataDir: c.DataDir}
	if c.DataDir == "" {
		where.Config = c.Config
	}
	log, err := where.open(env, false)
	if err != nil {
		return nil, err
	}
	err = log.Changes(env.ctx, 0, "", func(_ uint64, change flow.Change) error {
		l.add(&change)
		return nil
	})
	return l, errors.Join(err, log.Close())
}
