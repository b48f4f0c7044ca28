package deploy

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// provisioned is what the tests look at of the files for Grafana's provisioning.
type provisioned struct {
	APIVersion  int `yaml:"apiVersion"`
	Datasources []struct {
		Name, UID, Type, Access, URL string
		Editable                     *bool
		JSONData                     struct {
			TimeInterval string `yaml:"timeInterval"`
			HTTPMethod   string `yaml:"httpMethod"`
			ManageAlerts bool   `yaml:"manageAlerts"`
		} `yaml:"jsonData"`
	}
	Providers []struct {
		Name, Type, Folder    string
		OrgID                 int    `yaml:"orgId"`
		FolderUID             string `yaml:"folderUid"`
		AllowUIUpdates        *bool  `yaml:"allowUiUpdates"`
		DisableDeletion       bool   `yaml:"disableDeletion"`
		UpdateIntervalSeconds int    `yaml:"updateIntervalSeconds"`
		Options               struct{ Path string }
	}
	ContactPoints []struct {
		OrgID     int `yaml:"orgId"`
		Name      string
		Receivers []struct {
			UID, Type             string
			DisableResolveMessage bool `yaml:"disableResolveMessage"`
			Settings              struct{ URL string }
		}
	} `yaml:"contactPoints"`
	Policies []struct {
		OrgID          int `yaml:"orgId"`
		Receiver       string
		GroupBy        []string `yaml:"group_by"`
		GroupWait      string   `yaml:"group_wait"`
		GroupInterval  string   `yaml:"group_interval"`
		RepeatInterval string   `yaml:"repeat_interval"`
	}
}

// provisioning reads the one file for a part of Grafana. A key that Grafana does not
// know, of those above, is an error.
func provisioning(t *testing.T, part string) provisioned {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("grafana/provisioning", part, "flowmetrics.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var p provisioned
	if err := yaml.UnmarshalWithOptions(text, &p, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	if p.APIVersion != 1 {
		t.Errorf("apiVersion %d, Grafana reads 1", p.APIVersion)
	}
	return p
}

// TestGrafanaDatasource holds the data source to the Prometheus of the example.
func TestGrafanaDatasource(t *testing.T) {
	p := provisioning(t, "datasources")
	if len(p.Datasources) != 1 {
		t.Fatalf("%d data sources, want 1", len(p.Datasources))
	}
	d := p.Datasources[0]
	if d.Type != "prometheus" || d.Access != "proxy" || d.URL != "$FLOWMETRICS_PROMETHEUS_URL" || d.UID == "" || len(d.UID) > 40 || d.Editable == nil || *d.Editable {
		t.Errorf("data source %+v", d)
	}
	text, err := os.ReadFile("prometheus/prometheus.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var scraped struct {
		Global struct {
			ScrapeInterval string `yaml:"scrape_interval"`
		}
		ScrapeConfigs []struct {
			JobName        string `yaml:"job_name"`
			ScrapeInterval string `yaml:"scrape_interval"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(text, &scraped); err != nil {
		t.Fatal(err)
	}
	interval := scraped.Global.ScrapeInterval
	for _, c := range scraped.ScrapeConfigs {
		if c.JobName == "flowmetrics" && c.ScrapeInterval != "" {
			interval = c.ScrapeInterval
		}
	}
	if interval == "" || d.JSONData.TimeInterval != interval {
		t.Errorf("timeInterval %q, Prometheus scrapes every %q", d.JSONData.TimeInterval, interval)
	}
}

// TestGrafanaDashboards holds the provider to the dashboards that are there.
func TestGrafanaDashboards(t *testing.T) {
	p := provisioning(t, "dashboards")
	if len(p.Providers) != 1 {
		t.Fatalf("%d providers, want 1", len(p.Providers))
	}
	d := p.Providers[0]
	if d.Type != "file" || d.Folder == "" || d.FolderUID == "" || d.AllowUIUpdates == nil || *d.AllowUIUpdates || d.Options.Path != "$FLOWMETRICS_DASHBOARDS" || d.UpdateIntervalSeconds < 10 {
		t.Errorf("provider %+v", d)
	}
	// What Grafana finds below the path are the JSON files, at any depth, and each
	// has to be a dashboard with a uid of its own.
	uids := map[string]string{}
	err := filepath.WalkDir("../dashboards", func(file string, e fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(file) != ".json" {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var one struct{ UID, Title string }
		if err := json.Unmarshal(text, &one); err != nil || one.UID == "" || one.Title == "" {
			t.Errorf("%s is no dashboard: %v", file, err)
		}
		if other := uids[one.UID]; other != "" {
			t.Errorf("%s and %s have the uid %s", file, other, one.UID)
		}
		uids[one.UID] = file
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(uids) == 0 {
		t.Fatal("no dashboards")
	}
	readme, alerts := string(readFile(t, "grafana/README.md")), string(readFile(t, "prometheus/flowmetrics.alerts.yaml"))
	for uid := range uids {
		if !strings.Contains(readme, "`"+uid+"`") {
			t.Errorf("README.md does not name %s", uid)
		}
	}
	linked := regexp.MustCompile(`/d/([a-z-]+)`).FindAllStringSubmatch(alerts, -1)
	if len(linked) == 0 {
		t.Error("no alert links to a dashboard")
	}
	for _, m := range linked {
		if uids[m[1]] == "" {
			t.Errorf("an alert links to %s, which is no dashboard", m[1])
		}
	}
}

// TestGrafanaAlerting holds the policy of the example to its contact point.
func TestGrafanaAlerting(t *testing.T) {
	p := provisioning(t, "alerting")
	var names []string
	for _, c := range p.ContactPoints {
		names = append(names, c.Name)
		for _, r := range c.Receivers {
			if r.UID == "" || len(r.UID) > 40 || r.Type != "prometheus-alertmanager" || r.Settings.URL != "$FLOWMETRICS_ALERTMANAGER_URL" {
				t.Errorf("receiver %+v", r)
			}
		}
	}
	for _, policy := range p.Policies {
		if !slices.Contains(names, policy.Receiver) {
			t.Errorf("a policy for %q, the contact points are %q", policy.Receiver, names)
		}
		if len(policy.GroupBy) == 0 || policy.GroupWait == "" || policy.GroupInterval == "" || policy.RepeatInterval == "" {
			t.Errorf("policy %+v", policy)
		}
	}
	if len(p.Policies) != 1 {
		t.Errorf("%d policies, an organisation has 1", len(p.Policies))
	}
}

// TestGrafanaReadme holds the instructions to what is there: paths, and variables.
func TestGrafanaReadme(t *testing.T) {
	readme := string(readFile(t, "grafana/README.md"))
	for _, m := range regexp.MustCompile("(?m)(?:^\\| `|[ /\"])((?:\\.\\./\\.\\./|deploy/grafana/)?(?:provisioning|dashboards)/[a-z/.]*)").FindAllStringSubmatch(readme, -1) {
		path := strings.TrimSuffix(m[1], ".")
		if rest, fromRoot := strings.CutPrefix(path, "deploy/grafana/"); fromRoot {
			path = rest
		}
		if strings.HasPrefix(path, "dashboards/") {
			path = "../../" + path
		}
		if _, err := os.Stat(filepath.Join("grafana", path)); err != nil {
			t.Errorf("README.md names %s: %v", m[1], err)
		}
	}
	variable := regexp.MustCompile(`\$(FLOWMETRICS_\w+)`)
	for _, part := range []string{"datasources", "dashboards", "alerting"} {
		text := readFile(t, filepath.Join("grafana/provisioning", part, "flowmetrics.yaml"))
		for _, m := range variable.FindAllSubmatch(text, -1) {
			if !strings.Contains(readme, "| `"+string(m[1])+"` |") {
				t.Errorf("README.md does not explain %s", m[1])
			}
		}
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
