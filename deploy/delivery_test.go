package deploy

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// An inbox is what receivers have got, by their name.
type inbox struct {
	mu  sync.Mutex
	got map[string][]string
}

// ServeHTTP implements [http.Handler]: the first part of the path is the receiver.
func (i *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	name := strings.Split(r.URL.Path, "/")[1]
	i.got[name] = append(i.got[name], string(body))
	w.WriteHeader(http.StatusAccepted) // what PagerDuty answers
	_, _ = io.WriteString(w, `{"status": "success"}`)
}

// find returns a message to a receiver that has all of some texts.
func (i *inbox) find(name string, texts ...string) (message string, found bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, m := range i.got[name] {
		found := true
		for _, text := range texts {
			found = found && strings.Contains(m, text)
		}
		if found {
			return m, true
		}
	}
	return "", false
}

// adapted writes a copy of a file with some of its text replaced, each as often
// as it is there, and returns where it is.
func adapted(t *testing.T, dir, file string, change ...string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(change); i += 2 {
		pattern := regexp.MustCompile(change[i])
		if !pattern.Match(text) {
			t.Fatalf("%s has no %s", file, change[i])
		}
		text = pattern.ReplaceAll(text, []byte(change[i+1]))
	}
	path := filepath.Join(dir, filepath.Base(file))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDelivery goes the whole way with the files as they are, only quicker: the
// demo is scraped by a real Prometheus, which computes each rule and tells a real
// Alertmanager, which tells the receivers.
func TestDelivery(t *testing.T) {
	t.Parallel()
	in := &inbox{got: map[string][]string{}}
	receivers := httptest.NewServer(in)
	t.Cleanup(receivers.Close)
	dir := t.TempDir()
	for name, content := range map[string]string{"slack.url": receivers.URL + "/slack", "pagerduty.key": "key"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := startAlertmanager(t, adapted(t, dir, alertmanagerFile,
		`\nroute:\n`, "\nglobal: {pagerduty_url: '"+receivers.URL+"/pagerduty'}\nroute:\n",
		`/etc/alertmanager`, dir, `smtp.example.com:587`, "127.0.0.1:1", `(group_wait|group_interval): \S+`, "$1: 1s", `active_time_intervals: .*`, ""))

	demo := serve(t, "demo")
	adapted(t, dir, recordedFile, `interval: 1m`, "interval: 1s")
	adapted(t, dir, alertsFile, `interval: [15]m`, "interval: 1s", `\n +(for|keep_firing_for): \S+`, "")
	text, err := os.ReadFile(adapted(t, dir, "prometheus/prometheus.yaml",
		`scrape_interval: 30s`, "scrape_interval: 1s", `http://127.0.0.1:3000`, "https://grafana.example.com",
		`127.0.0.1:9093`, strings.TrimPrefix(a.URL, "http://"), `127.0.0.1:9797`, demo.Address,
		`- flowmetrics\.`, "- "+dir+"/flowmetrics."))
	if err != nil {
		t.Fatal(err)
	}
	p := startPrometheus(t, "", string(text))

	var computed struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	eventually(t, "each rule is computed", func() bool {
		p.must(t, "/api/v1/rules", nil, &computed)
		n := 0
		for _, g := range computed.Groups {
			for _, r := range g.Rules {
				if r.LastError != "" {
					t.Fatalf("%s: %s", r.Name, r.LastError)
				}
				if r.Health == "ok" {
					n++
				}
			}
		}
		return n == len(readRules(t, recordedFile))+len(readRules(t, alertsFile))
	})
	for _, r := range readRules(t, recordedFile) {
		eventually(t, r.Record+" has data", func() bool { return len(p.query(t, r.Record, time.Now())) > 0 })
	}

	// What runbooks ask Prometheus has an answer, unless it is about what should not be.
	for _, r := range readRules(t, alertsFile) {
		for _, query := range queriesOf(readPage(t, r.Alert)) {
			if !strings.HasSuffix(query, "> 0") {
				eventually(t, r.Alert+".md: an answer to "+query, func() bool { return len(p.query(t, query, time.Now())) > 0 })
			}
		}
	}

	// A week that was reviewed needs an alert of its own: the demo is as it is.
	for _, r := range readRules(t, alertsFile) {
		if r.Alert == "ThroughputSignal" {
			n := noticesOf(&r, "value_stream", "search")
			n[0].Annotations = map[string]string{"summary": "a slow week", "description": "it was slow", "runbook_url": r.Annotations["runbook_url"]}
			a.send(t, true, n)
		}
	}
	eventually(t, "the weekly review is told", func() bool {
		_, found := in.find("slack", "Weekly operating review: search", "a slow week", "it was slow", runbooks+"ThroughputSignal.md")
		return found
	})

	demo.stop(t)
	var page string
	eventually(t, "who is on call is told that metrics are absent", func() bool {
		var found bool
		page, found = in.find("pagerduty", "There are no flow metrics")
		return found
	})
	var event struct {
		EventAction string `json:"event_action"`
		Payload     struct {
			Summary string
			Details struct{ Alerts string } `json:"custom_details"`
		}
	}
	if err := json.Unmarshal([]byte(page), &event); err != nil {
		t.Fatal(err)
	}
	if event.EventAction != "trigger" || event.Payload.Summary != "There are no flow metrics" {
		t.Errorf("the page is %s", page)
	}
	for _, link := range []string{runbooks + "FlowMetricsAbsent.md", "https://grafana.example.com/d/flow-service"} {
		if !strings.Contains(event.Payload.Details.Alerts, link) {
			t.Errorf("the page has no %s: %s", link, event.Payload.Details.Alerts)
		}
	}
	_, body, err := get(t.Context(), a.URL+"/api/v2/alerts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(body), `"grafana_url":`) {
		t.Errorf("the external label is on the alerts: %s", body)
	}
}
