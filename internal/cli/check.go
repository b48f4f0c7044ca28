package cli

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/app"
	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

type checkCmd struct {
	Config  string        `required:"" placeholder:"FILE" help:"Configuration file."`
	Offline bool          `help:"Check the file alone, ask no tracker."`
	Timeout time.Duration `default:"30s" help:"Longest wait for a tracker. Default: ${default}."`
}

func (checkCmd) Help() string {
	return "Tells of each source whether its credentials work, and which statuses and types no rule maps:\n" +
		"a status without a rule falls back to the tracker's category, a type without one is unclassified.\n\n" + example(
		"JIRA_TOKEN=... flowmetrics check --config flow.yaml",
		"flowmetrics check --config flow.yaml --offline")
}

func (c *checkCmd) Run(env *environment) error {
	cfg, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	policy := cfg.Policy()
	fmt.Fprintf(env.Out, "%s: valid, %s, %s, policy %s\n", c.Config,
		plural(len(cfg.Sources), "source"), plural(len(policy.ValueStreams), "value stream"), policy.Hash())
	if c.Offline {
		return nil
	}
	failed := 0
	for i := range cfg.Sources {
		s := &cfg.Sources[i]
		if err := c.source(env, policy, s); err != nil {
			failed++
			fmt.Fprintf(env.Out, "source %s: FAILED: %v\n", s.Name, err)
		}
	}
	if failed > 0 {
		fmt.Fprintf(env.Err, "flowmetrics check: %d of %s failed\n", failed, plural(len(cfg.Sources), "source"))
		return exitError(1)
	}
	return nil
}

// source checks one source and prints what it found.
func (c *checkCmd) source(env *environment, policy *flow.Policy, s *config.Source) error {
	ctx, cancel := context.WithTimeout(env.ctx, c.Timeout)
	defer cancel()
	source, err := app.NewSource(s, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if checker, ok := source.(connector.Checker); ok {
		if err := checker.Check(ctx); err != nil {
			return err
		}
		how := ""
		if s.Token.IsSet() {
			how = ", the credentials work"
		}
		fmt.Fprintf(env.Out, "source %s: %s can be read%s\n", s.Name, cmp.Or(s.URL, s.Path), how)
	}
	var statuses, types []flow.Value
	if lister, ok := source.(connector.StatusLister); ok {
		if statuses, err = lister.Statuses(ctx); err != nil {
			return fmt.Errorf("list statuses: %w", err)
		}
	}
	if lister, ok := source.(connector.TypeLister); ok {
		if types, err = lister.Types(ctx); err != nil {
			return fmt.Errorf("list types: %w", err)
		}
	}
	workflows := workflowsOf(policy, s.Name)
	if len(workflows) == 0 {
		fmt.Fprintf(env.Out, "source %s: in no value stream, nothing of it is measured\n", s.Name)
	}
	for _, w := range workflows {
		unmapped(env, s.Name, w, statuses, types)
	}
	return nil
}

// workflowsOf returns the workflows of the value streams that include a source.
func workflowsOf(p *flow.Policy, source string) []*flow.Workflow {
	var workflows []*flow.Workflow
	for _, v := range p.ValueStreams {
		includes := slices.ContainsFunc(v.Include, func(in flow.Include) bool { return in.Source == "" || in.Source == source })
		if includes && !slices.Contains(workflows, v.Workflow) {
			workflows = append(workflows, v.Workflow)
		}
	}
	return workflows
}

// unmapped prints the statuses and types that a workflow has no rule for.
func unmapped(env *environment, source string, w *flow.Workflow, statuses, types []flow.Value) {
	var held, fallen, unclassified []string
	for _, v := range statuses {
		without := v
		without.Category = ""
		if _, ok := w.StateOf(without); ok {
			continue
		}
		if state, ok := w.StateOf(v); ok {
			fallen = append(fallen, fmt.Sprintf("%s → %s", label(v), state))
		} else {
			held = append(held, label(v))
		}
	}
	for _, v := range types {
		if w.TypeOf(v, nil) == flow.Unclassified {
			unclassified = append(unclassified, label(v))
		}
	}
	report := func(what string, names []string) {
		if len(names) > 0 {
			slices.Sort(names)
			fmt.Fprintf(env.Out, "source %s, workflow %s: %s: %s\n", source, w.Name, what, strings.Join(slices.Compact(names), ", "))
		}
	}
	report("statuses without a rule, by the tracker's category", fallen)
	report("UNMAPPED statuses, items in them keep their previous state", held)
	report("types without a rule, shown as unclassified", unclassified)
	if len(statuses) > 0 && len(fallen)+len(held)+len(unclassified) == 0 {
		fmt.Fprintf(env.Out, "source %s, workflow %s: every status and type has a rule\n", source, w.Name)
	}
}

// label names a status or type as a rule would.
func label(v flow.Value) string {
	if v.ID == "" {
		return v.Name
	}
	return fmt.Sprintf("%s (id:%s)", cmp.Or(v.Name, "?"), v.ID)
}
