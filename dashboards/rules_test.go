package dashboards

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

// rules are those of the usual dashboard linter, and what this product wants
// besides.
var rules = []struct {
	name string
	find func(*board) []string
}{
	{"identity", identity},
	{"variables", variables},
	{"data source", dataSource},
	{"title and description", described},
	{"unit and thresholds", measured},
	{"legend and tooltip", explicit},
	{"ids", numbered},
	{"grid", grid},
	{"links", links},
	{"alerts", alerting},
	{"schema of 9.3", schema},
	{"names of fields", fields},
	{"expressions", expressions},
	{"units", units},
	{"sample sizes", samples},
	{"instants", instants},
	{"lines of comparison", comparisons},
	{"colours", colours},
	{"shapes", shapes},
}

// ranges are the default time ranges: what the meeting looks back on.
var ranges = map[string]string{
	"flow-weekly": "now-90d", "flow-monthly": "now-6M", "flow-quarterly": "now-15M", "flow-leading": "now-30d", "flow-service": "now-24h",
}

// identity: a stable name, not editable, refreshed, says for whom it is.
func identity(b *board) (problems []string) {
	for problem, wrong := range map[string]bool{
		"uid is missing or over 40 characters":        b.UID == "" || len(b.UID) > 40,
		"no title":                                    b.Title == "",
		"the description does not say for whom it is": !strings.HasPrefix(b.Description, "For "),
		"the description does not say the time zone":  !strings.Contains(b.Description, "Times are those of the browser"),
		"the time zone is not the browser's":          b.Timezone != "browser",
		"not tagged flowmetrics":                      !slices.Contains(b.Tags, "flowmetrics"),
		"editable":                                    b.Editable == nil || *b.Editable,
		"not refreshed every 5 minutes":               b.Refresh != "5m",
		"not the schema of Grafana 9.3":               b.SchemaVersion != 37,
		"the time range is not that of the review":    b.Time.From != ranges[b.UID] || b.Time.To != "now",
	} {
		if wrong {
			problems = append(problems, problem)
		}
	}
	return problems
}

// variables: data source, value stream and window, read anew when the time range
// changes.
func variables(b *board) (problems []string) {
	by := map[string]variable{}
	for _, v := range b.Templating.List {
		by[v.Name] = v
		if v.Label == "" {
			problems = append(problems, v.Name+" has no label")
		}
		if v.Hide != 0 || v.SkipURLSync {
			problems = append(problems, v.Name+" is hidden or not in links")
		}
		if v.Type == "query" && v.Datasource != (reference{"prometheus", "${datasource}"}) {
			problems = append(problems, v.Name+" is not read from the chosen data source")
		}
		if v.Type == "query" && v.Refresh != 2 {
			problems = append(problems, v.Name+" is not read anew when the time range changes")
		}
	}
	query := func(v variable) any {
		m, _ := v.Query.(map[string]any)
		return m["query"]
	}
	if v := by["datasource"]; v.Type != "datasource" || v.Query != "prometheus" {
		problems = append(problems, "no variable for the data source")
	}
	if v := by["value_stream"]; v.Type != "query" || !v.Multi || !v.IncludeAll || v.AllValue != ".+" || query(v) != "label_values(flow_velocity_items, value_stream)" {
		problems = append(problems, "no variable for several or all value streams")
	}
	if v := by["value_stream"]; (fmt.Sprint(v.Current.Value) == "[$__all]") != (b.UID != "flow-weekly") {
		problems = append(problems, "opens neither with one value stream, for the weekly review, nor with all of them")
	}
	if v := by["window"]; v.Type != "query" || v.Multi || v.IncludeAll || query(v) != "label_values(flow_velocity_items, window)" || !slices.Contains(windows, fmt.Sprint(v.Current.Value)) {
		problems = append(problems, "no variable for one window")
	}
	return problems
}

// shown are the panels but the headings.
func (b *board) shown() (panels []panel) {
	for _, p := range b.Panels {
		if p.Type != "row" {
			panels = append(panels, p)
		}
	}
	return panels
}

func (p *panel) name() string { return fmt.Sprintf("panel %d (%s)", p.ID, p.Title) }

func dataSource(b *board) (problems []string) {
	chosen := reference{"prometheus", "${datasource}"}
	for _, p := range b.shown() {
		if p.Datasource != chosen {
			problems = append(problems, p.name())
		}
		for _, t := range p.Targets {
			if t.Datasource != chosen {
				problems = append(problems, p.name()+" "+t.RefID)
			}
		}
	}
	return problems
}

// described: a title, and a description that is more than the title again.
func described(b *board) (problems []string) {
	for _, p := range b.Panels {
		if p.Repeat != "" && p.Repeat != "value_stream" || b.UID == "flow-weekly" && p.Type == "row" && p.Repeat == "" {
			problems = append(problems, p.name()+" is not repeated for each value stream")
		}
		if p.Title == "" || p.Type != "row" && (len(p.Description) < 80 || !strings.HasSuffix(p.Description, ".")) {
			problems = append(problems, p.name())
		}
	}
	return problems
}

func measured(b *board) (problems []string) {
	for _, p := range b.shown() {
		d := p.FieldConfig.Defaults
		if d.Unit == "" {
			problems = append(problems, p.name()+" has no unit")
		}
		if steps := d.Thresholds.Steps; len(steps) == 0 || steps[0].Value != nil || d.Thresholds.Mode != "absolute" {
			problems = append(problems, p.name()+" has no thresholds")
		} else {
			for i := 2; i < len(steps); i++ {
				if steps[i].Value == nil || *steps[i].Value <= *steps[i-1].Value {
					problems = append(problems, p.name()+" has thresholds out of order")
				}
			}
		}
	}
	return problems
}

// explicit: what the generator's library leaves out of sight unless it is told.
func explicit(b *board) (problems []string) {
	for _, p := range b.shown() {
		if !slices.Contains([]string{"timeseries", "barchart", "state-timeline"}, p.Type) {
			continue
		}
		legend, _ := p.Options["legend"].(map[string]any)
		tooltip, _ := p.Options["tooltip"].(map[string]any)
		if legend["showLegend"] != true || legend["displayMode"] != "list" || legend["placement"] != "bottom" || tooltip["mode"] != "multi" || tooltip["sort"] == "" {
			problems = append(problems, p.name())
		}
	}
	return problems
}

func numbered(b *board) (problems []string) {
	ids := map[int]bool{}
	for _, p := range b.Panels {
		if p.ID < 1 || ids[p.ID] {
			problems = append(problems, p.name()+" has no id of its own")
		}
		ids[p.ID] = true
		if p.Type != "row" && len(p.Targets) == 0 {
			problems = append(problems, p.name()+" has no query")
		}
		refs, asked := map[string]bool{}, map[string]bool{}
		for _, t := range p.Targets {
			if t.RefID == "" || refs[t.RefID] {
				problems = append(problems, p.name()+" has a query without a refId of its own")
			}
			if asked[t.Expr] {
				problems = append(problems, p.name()+" asks "+t.RefID+" twice")
			}
			refs[t.RefID], asked[t.Expr] = true, true
		}
	}
	return problems
}

// grid: 24 columns, neither overlap nor hole, the strip on top and what the
// meeting needs first above the fold.
func grid(b *board) (problems []string) {
	taken, bottom := map[[2]int]string{}, 0
	for _, p := range b.Panels {
		g := p.GridPos
		bottom = max(bottom, g.Y+g.H)
		if g.W < 1 || g.H < 1 || g.X < 0 || g.Y < 0 || g.X+g.W > 24 {
			problems = append(problems, p.name()+" is outside of the grid")
			continue
		}
		if p.Type == "row" && (g.W != 24 || g.H != 1) {
			problems = append(problems, p.name()+" is no heading of 24 columns")
		}
		for x := g.X; x < g.X+g.W; x++ {
			for y := g.Y; y < g.Y+g.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					return append(problems, p.name()+" overlaps "+other)
				}
				taken[[2]int{x, y}] = p.name()
			}
		}
	}
	if len(taken) != 24*bottom {
		problems = append(problems, fmt.Sprintf("%d of %d cells are empty", 24*bottom-len(taken), 24*bottom))
	}
	for i, title := range []string{"Data age", "Coverage", "Unmapped", "Left-censored", "Invariant violations", "Policy"} {
		if len(b.Panels) <= i || b.Panels[i].Title != title || b.Panels[i].GridPos.Y != 0 {
			problems = append(problems, "the data-quality strip lacks "+title)
		}
	}
	return problems
}

var toBoard = regexp.MustCompile(`^/d/([a-z-]+)`)

const runbooks = "https://github.com/flowmetrics/flowmetrics/blob/main/deploy/runbooks/"

// links: to the four others, with time range and variables, and to nothing that is
// not there.
func links(b *board) (problems []string) {
	others := map[string]bool{}
	check := func(l link) string {
		if m := toBoard.FindStringSubmatch(l.URL); m != nil {
			if files[m[1]] == "" {
				problems = append(problems, l.URL+": no such dashboard")
			}
			return m[1]
		}
		if !slices.ContainsFunc(slices.Collect(maps.Values(alerts())), func(a alert) bool { return a.runbook == l.URL }) && l.URL != runbooks+"${__value.text}.md" {
			problems = append(problems, l.URL+": neither a dashboard nor the runbook of an alert")
		}
		return ""
	}
	for _, l := range b.Links {
		if uid := check(l); uid != "" && l.KeepTime && l.IncludeVars {
			others[uid] = true
		}
	}
	for uid := range files {
		if others[uid] == (uid == b.UID) {
			problems = append(problems, "the links to other dashboards are wrong for "+uid)
		}
	}
	for _, p := range b.Panels {
		for _, l := range p.Links {
			check(l)
		}
		for _, o := range p.FieldConfig.Overrides {
			for _, property := range o.Properties {
				if property.ID != "links" {
					continue
				}
				for _, l := range property.Value.([]any) {
					check(link{URL: l.(map[string]any)["url"].(string)})
				}
			}
		}
	}
	return problems
}

var alertRule = regexp.MustCompile(`(?s)- alert: (\w+)\n +expr: (.*?)\n +(?:for|keep_firing_for|labels):.*?runbook_url: (\S+)\n`)

// An alert is what the dashboards have to say of an alert.
type alert struct{ condition, runbook string }

// alerts are the alerts by name.
func alerts() map[string]alert {
	text, err := os.ReadFile("../deploy/prometheus/flowmetrics.alerts.yaml")
	if err != nil {
		panic(err) // a file of this repository
	}
	by := map[string]alert{}
	for _, m := range alertRule.FindAllStringSubmatch(string(text), -1) {
		by[m[1]] = alert{m[2], m[3]}
	}
	return by
}

// alerting: a panel for each alert among the leading indicators, which shows what the
// alert sees and leads to its runbook, and every alert in the tables of alerts.
func alerting(b *board) (problems []string) {
	for name, a := range alerts() {
		if b.UID == "flow-leading" {
			i := slices.IndexFunc(b.Panels, func(p panel) bool {
				return p.Title == name && slices.ContainsFunc(p.Links, func(l link) bool { return l.URL == a.runbook })
			})
			if i < 0 {
				problems = append(problems, "no panel for "+name+" with its runbook")
			} else {
				problems = append(problems, sees(&b.Panels[i], name, a.condition)...)
			}
		}
		for _, p := range b.shown() {
			for _, t := range p.Targets {
				if strings.Contains(t.Expr, "ALERTS{") && !regexp.MustCompile(`[|"]`+name+`[|"]`).MatchString(t.Expr) {
					problems = append(problems, p.name()+" "+t.RefID+" lacks "+name)
				}
			}
		}
	}
	return problems
}
