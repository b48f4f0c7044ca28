package dashboards

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// meant are the colours that mean something, by the name or the number of a state.
var meant = map[string]string{
	"on target": "green", "off target": "orange", "far off target": "red", "too little data": "#8e8e8e", "no target": "blue",
	"0": "#8e8e8e", "1": "green", "2": "orange", "3": "red",
}

var (
	ofMeasure = regexp.MustCompile(`flow_health_status\{[^}]*measure="(\w+)"`)
	// measured by is the metric that a measure of health is about.
	measuredBy = map[string]string{"flow_time": "flow_time_p85_seconds", "load": "flow_load_items", "distribution": "flow_distribution_ratio", "attainment": "flow_time_target_attainment_ratio"}
	columnsOf  = map[string]string{"time_health": "flow_time", "load_health": "load", "mix_health": "distribution"}
)

// colours: a state of health has its own colour everywhere, is that of the number it
// colours, and no arrow has one; what is compared with is red or neutral.
func colours(b *board) (problems []string) {
	for _, p := range b.shown() {
		mappings := append([]any{p.FieldConfig.Defaults.Mappings}, nil)
		for _, s := range p.series() {
			own, _ := p.setting(s, "color").(map[string]any)
			colour, _ := own["fixedColor"].(string)
			for state, want := range meant {
				written := strings.Contains(s.of.Expr, `"`+state+`"`)
				if written && (s.name == state || strings.HasSuffix(s.name, ": "+state)) && colour != want {
					problems = append(problems, fmt.Sprintf("%s: %s is %q", p.name(), s.name, colour))
				}
			}
			if compared.MatchString(s.name) && s.name != "over target" && p.Type == "timeseries" && colour != "red" && colour != "text" {
				problems = append(problems, fmt.Sprintf("%s: %s is %q", p.name(), s.name, colour))
			}
			mappings = append(mappings, p.setting(s, "mappings"))
			for _, m := range ofMeasure.FindAllStringSubmatch(s.of.Expr, -1) {
				column, inTable := columnsOf[s.of.RefID]
				if inTable && column != m[1] || !inTable && !strings.Contains(s.of.Expr, measuredBy[m[1]]+"{") {
					problems = append(problems, fmt.Sprintf("%s: %s is coloured by the health of %s", p.name(), s.name, m[1]))
				}
			}
		}
		for _, m := range mappings {
			problems = append(problems, mappedColours(p, m)...)
		}
	}
	return problems
}

// signs are how texts for signals begin.
var signs = map[string]string{"-1": "▼", "0": "–", "1": "▲", "2": "?"}

// mappedColours are the problems of the texts for numbers: those of health have its
// colours, the arrows point where the number does and have none of these.
func mappedColours(p panel, mappings any) (problems []string) {
	list, _ := mappings.([]any)
	for _, m := range list {
		options, _ := m.(map[string]any)["options"].(map[string]any)
		_, arrows := options["-1"]
		for number, result := range options {
			shown, _ := result.(map[string]any)
			text, colour := fmt.Sprint(shown["text"]), fmt.Sprint(shown["color"])
			wrong := !arrows && colour != meant[number] || arrows && slices.Contains([]string{"green", "orange", "red"}, colour)
			if sign, known := signs[number]; arrows && len(options) > 1 && (len(options) != len(signs) || !known || !strings.HasPrefix(text, sign)) {
				wrong = true
			}
			if wrong {
				problems = append(problems, fmt.Sprintf("%s shows %s as %q in %s", p.name(), number, text, colour))
			}
		}
	}
	return problems
}

// shapes: a number is the last one, exits are below the axis, and a panel has the
// range that its title says.
func shapes(b *board) (problems []string) {
	for _, p := range b.shown() {
		if p.Type == "stat" || p.Type == "bargauge" {
			reduce, _ := p.Options["reduceOptions"].(map[string]any)
			if fmt.Sprint(reduce["calcs"]) != "[lastNotNull]" || reduce["values"] != false {
				problems = append(problems, p.name()+" does not show the last number")
			}
		}
		if strings.HasSuffix(p.Title, ", 13 weeks") != (p.TimeFrom == "13w") || p.TimeFrom != "" && p.TimeFrom != "13w" && p.TimeFrom != "24h" {
			problems = append(problems, p.name()+" shows "+p.TimeFrom)
		}
		for _, s := range p.series() {
			if transform := p.setting(s, "custom.transform"); strings.HasPrefix(s.name, "out: ") != (transform == "negative-Y") {
				problems = append(problems, p.name()+": "+s.name+" is on the wrong side of the axis")
			}
		}
	}
	return problems
}
