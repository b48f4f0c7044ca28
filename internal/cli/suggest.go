package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// Words that well-known names are made of, as beginnings of words; a space at the
// end means the whole word. The first entry that fits decides.
var (
	stateWords = []struct {
		state flow.State
		stems []string
	}{
		{flow.New, []string{"not started "}},
		{flow.Cancelled, []string{"wont ", "wontfix ", "reject", "cancel", "duplicate", "declin", "invalid", "not planned "}},
		{flow.Done, []string{"done ", "closed ", "resolved ", "released ", "completed ", "complete ", "finished ", "shipped "}},
		{flow.Waiting, []string{"review", "wait", "await", "blocked ", "hold ", "ready ", "queue", "pending ", "parked ", "paused "}},
		{flow.Active, []string{"progress", "doing ", "develop", "wip ", "implement"}},
		{flow.New, []string{"backlog", "open ", "to do ", "todo ", "new ", "triage"}},
	}
	typeWords = []struct {
		itemType flow.ItemType
		stems    []string
	}{
		{flow.Ignored, []string{"epic", "sub task", "subtask"}},
		{flow.Defect, []string{"bug", "defect", "incident"}},
		{flow.Risk, []string{"risk", "security ", "vulnerabilit", "compliance "}},
		{flow.Debt, []string{"debt ", "refactor", "chore", "maintenance "}},
		{flow.Feature, []string{"feature", "story ", "stories ", "enhancement"}},
	}
)

// spaced returns the words of a name in lower case, each between two spaces.
func spaced(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r == '\'' || r == '’':
			return -1
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return ' '
	}, name)
	return " " + strings.Join(strings.Fields(name), " ") + " "
}

func hasAny(words string, stems []string) bool {
	return slices.ContainsFunc(stems, func(stem string) bool { return strings.Contains(words, " "+stem) })
}

// guessState guesses the state that a status means, within what the tracker's
// category leaves open.
func guessState(name, category string) (flow.State, bool) {
	words := spaced(name)
	var allowed []flow.State // besides the last, which the category gives by itself
	switch category {
	case "new":
		allowed = []flow.State{flow.Waiting, flow.New}
	case "indeterminate":
		allowed = []flow.State{flow.Waiting, flow.Active}
	case "done":
		allowed = []flow.State{flow.Cancelled, flow.Done}
	}
	for _, g := range stateWords {
		if hasAny(words, g.stems) && (allowed == nil || slices.Contains(allowed, g.state)) {
			return g.state, true
		}
	}
	if allowed != nil {
		return allowed[1], true
	}
	return flow.New, false
}

// guessType guesses the item type that a tracker's type means.
func guessType(name string) (flow.ItemType, bool) {
	words := spaced(name)
	for _, g := range typeWords {
		if hasAny(words, g.stems) {
			return g.itemType, true
		}
	}
	return flow.Unclassified, false
}

// labelWords is how many words a label may have that is taken for a state or type,
// unless it says by its first word that it is one: a longer one rather tells what
// the item is about.
const labelWords = 3

// guessLabel guesses whether a label means a state or a type, and which.
func guessLabel(label string) (kind string, state flow.State, itemType flow.ItemType) {
	words := spaced(label)
	first, rest, _ := strings.Cut(strings.TrimPrefix(words, " "), " ")
	rest = " " + rest
	switch {
	case slices.Contains([]string{"status", "state", "stage", "workflow"}, first):
		if s, ok := guessState(rest, ""); ok {
			return kindLabelState, s, 0
		}
		return "", 0, 0
	case slices.Contains([]string{"type", "kind"}, first):
		if t, ok := guessType(rest); ok {
			return kindLabelType, 0, t
		}
		return "", 0, 0
	case strings.Count(words, " ")-1 > labelWords:
		return "", 0, 0
	}
	if t, ok := guessType(label); ok {
		return kindLabelType, 0, t
	}
	s, ok := guessState(label, "")
	// "open source" and "new api" are no states: these words have to stand alone.
	if !ok || (s == flow.New || s == flow.Done) && strings.Count(words, " ") > 2 && words != " to do " && words != " not started " {
		return "", 0, 0
	}
	return kindLabelState, s, 0
}

// A suggestion is some sections of a workflow, complete, with guesses for what
// has no rule.
type suggestion struct {
	Workflow string `json:"workflow"`
	Sections string `json:"sections"` // YAML, to stand in place of those of the workflow
}

// suggest writes the sections of a workflow that lack a rule for something. They
// keep every rule that is there. A status that items are in and nothing can be
// guessed of is named in a comment. ok is false where there is nothing to say.
func suggest(w *flow.Workflow, found []unmapped, signals bool) (s suggestion, ok bool) {
	var b strings.Builder
	var statuses, types, labels []unmapped
	given := map[string]string{} // what each rule is to give
	for _, u := range found {
		if u.Guess == "" {
			if u.Kind == kindStatus && u.Meaning == "" && u.Items != nil && *u.Items > 0 {
				fmt.Fprintf(&b, "    # no guess for the status %s, %s: it belongs to a state of statuses\n", u.label(), plural(*u.Items, "item"))
			}
			continue
		}
		for _, rule := range rulesOf(&u) {
			guess, taken := given[u.Kind+rule]
			if !taken {
				u.rule, given[u.Kind+rule] = rule, u.Guess
			}
			if !taken || guess == u.Guess {
				break
			}
		}
		if u.rule == "" {
			continue
		}
		switch u.Kind {
		case kindStatus:
			statuses = append(statuses, u)
		case kindLabelState:
			labels = append(labels, u)
		default:
			types = append(types, u)
		}
	}
	if len(statuses) > 0 {
		b.WriteString("    statuses:\n")
		for state := flow.New; state <= flow.Cancelled; state++ {
			var rules []string
			for _, name := range slices.Sorted(maps.Keys(w.StatusByName)) {
				if w.StatusByName[name] == state {
					rules = append(rules, name)
				}
			}
			for _, id := range slices.Sorted(maps.Keys(w.StatusByID)) {
				if w.StatusByID[id] == state {
					rules = append(rules, "id:"+id)
				}
			}
			writeRules(&b, state.String(), rules, statuses)
		}
	}
	if len(labels) > 0 {
		b.WriteString("    labels:\n")
		for _, line := range labelRules(w.Labels, labels) {
			b.WriteString(line)
		}
	}
	if len(types) > 0 {
		b.WriteString("    types:\n")
		for _, t := range []flow.ItemType{flow.Feature, flow.Defect, flow.Risk, flow.Debt, flow.Ignored} {
			var rules []string
			for _, r := range w.Types {
				if r.Type == t && r.Label {
					rules = append(rules, "label:"+r.Match)
				} else if r.Type == t {
					rules = append(rules, r.Match)
				}
			}
			writeRules(&b, t.String(), rules, types)
		}
	}
	if signals {
		b.WriteString("    start_signals: [assigned, pull_request] # a guess\n")
	}
	return suggestion{Workflow: w.Name, Sections: b.String()}, b.Len() > 0
}

// rulesOf returns how a rule may name something, the best way first.
func rulesOf(u *unmapped) (rules []string) {
	usable := u.Name != "" && strings.TrimSpace(u.Name) == u.Name && !strings.ContainsFunc(u.Name, unicode.IsControl)
	switch u.Kind {
	case kindLabelType:
		if usable {
			return []string{"label:" + u.Name}
		}
	case kindLabelState:
		if usable {
			return []string{u.Name}
		}
	default:
		if usable && !strings.HasPrefix(u.Name, "id:") && !(u.Kind == kindType && strings.HasPrefix(u.Name, "label:")) {
			rules = append(rules, u.Name)
		}
		if u.ID != "" {
			rules = append(rules, "id:"+u.ID)
		}
	}
	return rules
}

// writeRules writes the rules of one word, and below them the guesses for it.
func writeRules(b *strings.Builder, word string, rules []string, guesses []unmapped) {
	guesses = slices.DeleteFunc(slices.Clone(guesses), func(u unmapped) bool { return u.Guess != word })
	switch {
	case len(guesses) > 0:
		fmt.Fprintf(b, "      %s:\n", word)
		for _, r := range rules {
			fmt.Fprintf(b, "        - %s\n", config.Text(r))
		}
		for _, u := range guesses {
			fmt.Fprintf(b, "        - %s # a guess%s\n", config.Text(u.rule), u.because())
		}
	case len(rules) > 0:
		fmt.Fprintf(b, "      %s: %s\n", word, config.Texts(rules))
	}
}

// precedence is the order in which labels that mean these states decide: what is
// blocked while in progress waits.
var precedence = []flow.State{flow.Cancelled, flow.Done, flow.Waiting, flow.Active, flow.New}

// labelRules returns the lines of the rules with the guesses among them, each
// before the rules of states that it takes precedence over.
func labelRules(rules []flow.LabelRule, guesses []unmapped) []string {
	type line struct {
		rank int
		text string
	}
	var lines []line
	rank := func(state string) int {
		return slices.IndexFunc(precedence, func(s flow.State) bool { return s.String() == state })
	}
	write := func(label, state, note string) line {
		return line{rank(state), fmt.Sprintf("      - {label: %s, state: %s}%s\n", config.Text(label), state, note)}
	}
	for _, r := range rules {
		lines = append(lines, write(r.Label, r.State.String(), ""))
	}
	for _, u := range guesses {
		l := write(u.rule, u.Guess, " # a guess"+u.because())
		at := slices.IndexFunc(lines, func(other line) bool { return other.rank > l.rank })
		if at < 0 {
			at = len(lines)
		}
		lines = slices.Insert(lines, at, l)
	}
	texts := make([]string, len(lines))
	for i, l := range lines {
		texts[i] = l.text
	}
	return texts
}

// because says in a comment what speaks for a guess and how much depends on it.
func (u *unmapped) because() string {
	note := ""
	if u.rule == "id:"+u.ID && u.Name != "" {
		note += ", " + oneLine(u.Name)
	}
	if u.Category != "" {
		note += ", category " + oneLine(u.Category)
	}
	if u.Items != nil {
		note += ", " + plural(*u.Items, "item")
	}
	return note
}

// oneLine returns a tracker's text without what would do something to a terminal
// or to a file of lines.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }), " ")
}

// byImportance orders what was found: by kind, the most items first.
func byImportance(a, b unmapped) int {
	items := func(u unmapped) int {
		if u.Items == nil {
			return 0
		}
		return *u.Items
	}
	kinds := []string{kindStatus, kindLabelState, kindType, kindLabelType}
	return cmp.Or(cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), -cmp.Compare(items(a), items(b)),
		strings.Compare(a.Name, b.Name), strings.Compare(a.ID, b.ID))
}
