package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A dashboard is what of Grafana's document these tests need.
type dashboard struct {
	file       string
	UID        string
	Time       struct{ From, To string }
	Templating struct{ List []*variable }
	Panels     []panel // those in collapsed rows among them
}

type panel struct {
	ID                 int
	Type, Title        string
	Interval, TimeFrom string
	MaxDataPoints      int
	GridPos            struct{ W int }
	Targets            []target
	Panels             []panel
}

type target struct {
	RefID, Expr, Interval string
	Instant               bool
}

type variable struct {
	Name, Type        string
	Query             json.RawMessage
	Current           struct{ Value json.RawMessage }
	Multi, IncludeAll bool
	AllValue          string
	values            []string // that can be chosen
}

// readDashboards reads all dashboards as they are shipped.
func readDashboards(t testing.TB) []*dashboard {
	t.Helper()
	files, err := filepath.Glob("../dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	var all []*dashboard
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		d, err := parseDashboard(filepath.Base(file), string(text))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func parseDashboard(file, text string) (*dashboard, error) {
	d := &dashboard{file: file}
	if err := json.Unmarshal([]byte(text), d); err != nil {
		return nil, fmt.Errorf("read dashboard %s: %w", file, err)
	}
	var flat []panel
	for _, p := range d.Panels {
		flat = append(append(flat, p), p.Panels...)
	}
	d.Panels = flat
	return d, nil
}

// span returns the range that a panel shows, with the dashboard's default range
// ending now.
func (d *dashboard) span(p panel, now time.Time) (from, to time.Time, err error) {
	if d.Time.To != "now" {
		return from, to, fmt.Errorf("a range to %q", d.Time.To)
	}
	text := strings.TrimPrefix(d.Time.From, "now-")
	if p.TimeFrom != "" {
		text = p.TimeFrom
	}
	parts := regexp.MustCompile(`^(\d+)([mhdwMy])$`).FindStringSubmatch(text)
	if parts == nil {
		return from, to, fmt.Errorf("a range of %q", text)
	}
	n, err := strconv.Atoi(parts[1])
	if err != nil {
		return from, to, err
	}
	switch parts[2] {
	case "M":
		return now.AddDate(0, -n, 0), now, nil
	case "y":
		return now.AddDate(-n, 0, 0), now, nil
	default:
		return now.Add(-time.Duration(n) * units[parts[2]]), now, nil
	}
}

// units are those of Grafana's and Prometheus' durations that are always the same.
var units = map[string]time.Duration{
	"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour,
}

// parseInterval reads a duration such as 4m, 1d or 1w.
func parseInterval(text string) (time.Duration, error) {
	if len(text) > 1 {
		if n, err := strconv.Atoi(text[:len(text)-1]); err == nil && units[text[len(text)-1:]] > 0 {
			return time.Duration(n) * units[text[len(text)-1:]], nil
		}
	}
	return 0, fmt.Errorf("an interval of %q", text)
}

// step returns the distance of the points of a panel: as many as it has pixels,
// but none nearer to each other than the least interval, which is the panel's or
// that of the scrapes.
func step(p panel, t target, length, scrape time.Duration) (time.Duration, error) {
	least := scrape
	for _, text := range []string{p.Interval, t.Interval} {
		if text == "" {
			continue
		}
		var err error
		if least, err = parseInterval(strings.TrimPrefix(text, ">")); err != nil {
			return 0, err
		}
	}
	points := p.MaxDataPoints
	if points == 0 {
		points = max(1, 1600*p.GridPos.W/24)
	}
	return max(least, (length / time.Duration(points)).Truncate(time.Second), time.Second), nil
}

// fill puts values in the places of variables in a query.
func fill(query string, values map[string]string) (string, error) {
	filled := variableAt.ReplaceAllStringFunc(query, func(text string) string {
		name := variableAt.FindStringSubmatch(text)
		value, known := values[name[1]+name[2]]
		if !known {
			return text
		}
		return value
	})
	if left := variableAt.FindString(filled); left != "" {
		return "", fmt.Errorf("%s is no variable", left)
	}
	return filled, nil
}

var variableAt = regexp.MustCompile(`\$(?:(\w+)|\{(\w+)(?::\w+)?\})`)

// builtIn returns Grafana's own variables for a query.
func builtIn(length, step, scrape time.Duration) map[string]string {
	text := func(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) + "s" }
	return map[string]string{
		"__interval": text(step), "__interval_ms": strconv.FormatInt(step.Milliseconds(), 10),
		"__rate_interval": text(max(step+scrape, 4*scrape)),
		"__range":         text(length), "__range_s": strconv.FormatInt(int64(length/time.Second), 10), "__range_ms": strconv.FormatInt(length.Milliseconds(), 10),
	}
}

// load asks for the values that a variable can have.
func (v *variable) load(t testing.TB, p *prometheus, from, to time.Time, others map[string]string) error {
	var query string
	if json.Unmarshal(v.Query, &query) != nil {
		var object struct{ Query string }
		if err := json.Unmarshal(v.Query, &object); err != nil {
			return fmt.Errorf("variable %s: %w", v.Name, err)
		}
		query = object.Query
	}
	switch v.Type {
	case "datasource":
		v.values = []string{"prometheus"}
	case "custom", "interval":
		for value := range strings.SplitSeq(query, ",") {
			v.values = append(v.values, strings.TrimSpace(value))
		}
	case "constant", "textbox":
		v.values = []string{query}
	case "query":
		query, err := fill(query, others)
		if err != nil {
			return fmt.Errorf("variable %s: %w", v.Name, err)
		}
		parts := regexp.MustCompile(`^label_values\((?:(.+),\s*)?(\w+)\)$`).FindStringSubmatch(query)
		if parts == nil {
			return fmt.Errorf("variable %s: a query %q", v.Name, query)
		}
		var selectors []string
		if parts[1] != "" {
			selectors = append(selectors, parts[1])
		}
		v.values = p.labelValues(t, parts[2], from, to, selectors...)
	default:
		return fmt.Errorf("variable %s: a type %q", v.Name, v.Type)
	}
	if len(v.values) == 0 {
		return fmt.Errorf("variable %s: no values", v.Name)
	}
	return nil
}

// chosen returns the value that a variable has when the dashboard is opened: the
// one that is kept in it, else the first or, where that is offered, all.
func (v *variable) chosen() string {
	var one string
	if json.Unmarshal(v.Current.Value, &one) == nil && slices.Contains(v.values, one) {
		return one
	}
	if v.IncludeAll {
		return v.all()
	}
	return v.values[0]
}

// all returns the value that stands for all of them.
func (v *variable) all() string {
	if v.AllValue != "" {
		return v.AllValue
	}
	return "(" + strings.Join(v.values, "|") + ")"
}

// choices returns what a reader sees one after the other: the dashboard as it
// opens, and then with each other value of each variable.
func (d *dashboard) choices() []map[string]string {
	first := map[string]string{}
	for _, v := range d.Templating.List {
		first[v.Name] = v.chosen()
	}
	all := []map[string]string{first}
	for _, v := range d.Templating.List {
		values := v.values
		if v.IncludeAll {
			values = append([]string{v.all()}, values...)
		}
		for _, value := range values {
			if value != first[v.Name] {
				other := maps.Clone(first)
				other[v.Name] = value
				all = append(all, other)
			}
		}
	}
	return all
}
