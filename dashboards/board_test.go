package dashboards

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// files are the dashboards by uid.
var files = map[string]string{
	"flow-weekly":    "weekly-operating-review.json",
	"flow-monthly":   "monthly-portfolio-review.json",
	"flow-quarterly": "quarterly-review.json",
	"flow-leading":   "leading-indicators.json",
	"flow-service":   "service-health.json",
}

// A board is what the rules look at of a dashboard.
type board struct {
	UID, Title, Description, Timezone, Refresh string
	Editable                                   *bool
	SchemaVersion                              int
	Tags                                       []string
	Time                                       struct{ From, To string }
	Templating                                 struct{ List []variable }
	Panels                                     []panel
	Links                                      []link
}

type variable struct {
	Name, Type       string
	Query            any
	Multi            bool
	IncludeAll       bool
	AllValue         string
	Refresh          int
	Datasource       reference
	Current          struct{ Value any }
	Label, Regex     string
	Hide             int
	SkipURLSync      bool
	Definition, Sort any
}

type reference struct{ Type, UID string }

type link struct {
	Title, URL  string
	KeepTime    bool
	IncludeVars bool
}

type panel struct {
	ID                       int
	Type, Title, Description string
	Repeat                   string
	Interval, TimeFrom       string
	GridPos                  struct{ X, Y, W, H int }
	Datasource               reference
	Targets                  []target
	Links                    []link
	Options                  map[string]any
	FieldConfig              struct {
		Defaults struct {
			Unit       string
			Thresholds struct {
				Mode  string
				Steps []struct{ Value *float64 }
			}
			Custom   map[string]any
			Mappings any
		}
		Overrides []struct {
			Matcher    struct{ ID, Options string }
			Properties []struct {
				ID    string
				Value any
			}
		}
	}
	Transformations []struct {
		ID      string
		Options struct {
			RenameByName map[string]string
			IndexByName  map[string]int
		}
	}
}

type target struct {
	RefID, Expr, LegendFormat, Format string
	Datasource                        reference
	Instant, Range                    bool
}

// read returns the text of a dashboard.
func read(t *testing.T, uid string) []byte {
	t.Helper()
	text, err := os.ReadFile(files[uid])
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func parse(t *testing.T, text []byte) *board {
	t.Helper()
	b := &board{}
	if err := json.Unmarshal(text, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestDashboards holds every dashboard to every rule.
func TestDashboards(t *testing.T) {
	there, err := filepath.Glob("*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(there) != len(files) {
		t.Errorf("the folder has %q, the tests know %d dashboards", there, len(files))
	}
	for uid, file := range files {
		t.Run(file, func(t *testing.T) {
			b := parse(t, read(t, uid))
			if b.UID != uid {
				t.Errorf("uid %q, want %q", b.UID, uid)
			}
			for _, r := range rules {
				for _, problem := range r.find(b) {
					t.Errorf("%s: %s", r.name, problem)
				}
			}
		})
	}
}

// TestBroken breaks a dashboard in one way after another, and wants exactly the
// rule that is named to find it.
func TestBroken(t *testing.T) {
	unused := map[string]bool{}
	for _, r := range rules {
		unused[r.name] = true
	}
	for _, c := range broken {
		t.Run(c.name, func(t *testing.T) {
			raw := map[string]any{}
			if err := json.Unmarshal(read(t, c.uid), &raw); err != nil {
				t.Fatal(err)
			}
			c.mutate(raw)
			text, err := json.Marshal(raw)
			if err != nil {
				t.Fatal(err)
			}
			b, found := parse(t, text), false
			for _, r := range rules {
				if problems := r.find(b); len(problems) > 0 && r.name == c.rule {
					found = true
				} else if len(problems) > 0 && !c.more {
					t.Errorf("%s finds %q too", r.name, problems)
				}
			}
			if !found {
				t.Errorf("%s finds nothing", c.rule)
			}
			delete(unused, c.rule)
		})
	}
	for name := range unused {
		t.Errorf("no broken dashboard shows that the rule %q finds anything", name)
	}
}
