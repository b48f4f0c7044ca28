package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/config"
)

type checkCmd struct {
	Config  string        `required:"" placeholder:"FILE" help:"Configuration file."`
	Offline bool          `help:"Check the file alone, ask no tracker."`
	Count   bool          `default:"true" negatable:"" help:"Count how many items have what no rule maps, which lists every item. Default: ${default}."`
	Timeout time.Duration `default:"2m" help:"Longest time for a source, counting included. Default: ${default}."`
	Format  string        `enum:"text,json" default:"text" placeholder:"FORMAT" help:"Output: text or json. Default: ${default}."`
}

func (checkCmd) Help() string {
	return "Tells of each source whether it can be read with these credentials and how many requests it still allows, and which\n" +
		"statuses, types and labels no rule maps: a status without a rule falls back to the tracker's category, a type without\n" +
		"one is unclassified. Ends with a mapping to paste, guessed from the tracker's categories and from well-known names.\n\n" + example(
		"JIRA_TOKEN=... flowmetrics check --config flow.yaml",
		"flowmetrics check --config flow.yaml --no-count",
		"flowmetrics check --config flow.yaml --offline")
}

// checked is all that a check found.
type checked struct {
	Config       string       `json:"config"`
	Policy       string       `json:"policy"`
	ValueStreams int          `json:"value_streams"`
	Sources      []surveyed   `json:"sources"`
	Suggestions  []suggestion `json:"suggestions"`
}

func (c *checkCmd) Run(env *environment) error {
	cfg, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	policy := cfg.Policy()
	all := checked{
		Config: c.Config, Policy: policy.Hash(), ValueStreams: len(policy.ValueStreams), Sources: []surveyed{}, Suggestions: []suggestion{},
	}
	text := env.Out
	if c.Format == "json" {
		text = io.Discard
	}
	fmt.Fprintf(text, "%s: valid, %s, %s, policy %s\n", c.Config,
		plural(len(cfg.Sources), "source"), plural(len(policy.ValueStreams), "value stream"), all.Policy)
	failed := 0
	for i := range cfg.Sources {
		if c.Offline {
			break
		}
		s := c.survey(env, policy, &cfg.Sources[i])
		if env.ctx.Err() != nil {
			return env.ctx.Err()
		}
		if !s.OK {
			failed++
		}
		all.Sources = append(all.Sources, s)
		s.write(text)
	}
	all.suggest()
	for _, s := range all.Suggestions {
		fmt.Fprintf(text, "\nSuggested for workflow %s, to stand in place of these sections of it; what is marked is guessed:\n\n%s", s.Workflow, s.Sections)
	}
	if c.Format == "json" {
		encoder := json.NewEncoder(env.Out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(all); err != nil {
			return err
		}
	}
	if failed > 0 {
		fmt.Fprintf(env.Err, "flowmetrics check: %d of %s failed\n", failed, plural(len(cfg.Sources), "source"))
		return exitError(1)
	}
	return nil
}

// suggest makes one suggestion a workflow, for whatever sources it is of.
func (c *checked) suggest() {
	done := map[string]bool{}
	for i := range c.Sources {
		for _, m := range c.Sources[i].Workflows {
			if done[m.Name] {
				continue
			}
			done[m.Name] = true
			var found []unmapped
			signals := false
			for _, s := range c.Sources[i:] {
				for _, other := range s.Workflows {
					if other.Name == m.Name {
						found, signals = append(found, other.Unmapped...), signals || other.NoFlowTime
					}
				}
			}
			if s, ok := suggest(m.workflow, found, signals); ok {
				c.Suggestions = append(c.Suggestions, s)
			}
		}
	}
}

// write prints a source for people.
func (s *surveyed) write(out io.Writer) {
	line := func(format string, args ...any) {
		fmt.Fprintf(out, "source %s: %s\n", s.Name, fmt.Sprintf(format, args...))
	}
	for _, p := range s.Problems {
		line("FAILED: %s", p)
	}
	if s.OK {
		how := ""
		switch {
		case s.Anonymous && s.Type == config.GitHub:
			how = " without credentials, which GitHub allows 60 requests an hour"
		case !s.Anonymous && s.Type != config.File:
			how = ", the credentials work"
		}
		line("%s can be read%s", s.Address, how)
	}
	if s.RateLimit != nil {
		line("%s left", plural(*s.RateLimit, "request"))
	}
	switch {
	case s.Items != nil:
		line("%s in sight", plural(*s.Items, "item"))
	case s.Uncounted != "":
		line("items are not counted: %s", s.Uncounted)
	}
	if s.OK && len(s.Workflows) == 0 {
		line("in no value stream, nothing of it is measured")
	}
	for i := range s.Workflows {
		s.Workflows[i].write(out, s.Name)
	}
}

// write prints how a workflow fits a source for people.
func (m *mapped) write(out io.Writer, source string) {
	prefix := fmt.Sprintf("source %s, workflow %s:", source, m.Name)
	if m.NoFlowTime {
		fmt.Fprintln(out, prefix, "no flow time, for nothing tells when work begins: it takes a project, start_signals or rules for labels; velocity and distribution are measured")
	}
	rows := table{align: "lllrl"}
	for i := range m.Unmapped {
		rows.row(m.Unmapped[i].cells()...)
	}
	switch {
	case len(rows.rows) > 0:
		fmt.Fprintf(out, "%s without a rule:\n", strings.TrimSuffix(prefix, ":"))
		for text := range strings.Lines(rows.String()) {
			fmt.Fprint(out, "  ", text)
		}
	case m.listed:
		fmt.Fprintln(out, prefix, "every status and type has a rule")
	}
	if m.OtherLabels > 0 {
		fmt.Fprintln(out, prefix, plural(m.OtherLabels, "other label"))
	}
}

// label is what something is called, for people.
func (u *unmapped) label() string {
	switch {
	case u.Name != "" && u.ID != "":
		return fmt.Sprintf("%s (id:%s)", oneLine(u.Name), oneLine(u.ID))
	case u.Name != "":
		return oneLine(u.Name)
	case u.ID != "":
		return "id:" + oneLine(u.ID)
	}
	return "(none)"
}

// cells returns the row of a table: what it is, what it is called, what it counts
// as, how many items have it, and the guess.
func (u *unmapped) cells() []string {
	effect := "changes nothing"
	switch {
	case u.Kind == kindStatus && u.Meaning != "":
		effect = u.Meaning + ", by the tracker's category"
	case u.Kind == kindStatus:
		effect = "UNMAPPED, items in it keep their previous state"
	case u.Kind == kindType:
		effect = "unclassified"
	}
	count, guess := "", ""
	if u.Items != nil {
		count = plural(*u.Items, "item")
	}
	if u.Guess != "" {
		guess = "guess: " + u.Guess
	}
	return []string{u.Kind, u.label(), effect, count, guess}
}
