package deploy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const alertmanagerFile = "alertmanager/alertmanager.yaml"

// An alertmanager is a running server.
type alertmanager struct {
	*process
	URL string // without a slash at the end
}

// startAlertmanager starts a server with a configuration and waits until it is
// ready.
func startAlertmanager(t *testing.T, config string) *alertmanager {
	t.Helper()
	config, err := filepath.Abs(config)
	if err != nil {
		t.Fatal(err)
	}
	path := tool(t, "FLOWMETRICS_ALERTMANAGER")
	cmd := exec.Command(path, "--config.file="+config, "--storage.path="+t.TempDir(), "--cluster.listen-address=", "--web.listen-address=127.0.0.1:0")
	cmd.Dir = filepath.Dir(path) // where it finds its templates, if it is not installed
	a := &alertmanager{process: start(t, cmd)}
	a.URL = "http://" + a.await(t, `msg="?Listening on"? address=(127\.0\.0\.1:\d+)`)
	a.awaitReady(t, a.URL+"/-/ready")
	return a
}

// A notice is an alert as Prometheus sends it.
type notice struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations,omitempty"`
	EndsAt      time.Time         `json:"endsAt"`
}

// send sends alerts, which are over at once where they are not firing.
func (a *alertmanager) send(t *testing.T, firing bool, notices []notice) {
	t.Helper()
	ends := time.Now().Add(-time.Second)
	if firing {
		ends = time.Now().Add(time.Hour)
	}
	for i := range notices {
		notices[i].EndsAt = ends
	}
	body, err := json.Marshal(notices)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.Post(a.URL+"/api/v2/alerts", "application/json", bytes.NewReader(body)) //nolint:noctx // a test's own child
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close() //nolint:errcheck // not read
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("POST alerts: %s", answer.Status)
	}
}

// state returns the firing alerts by name and what they are of, and whether they
// are inhibited.
func (a *alertmanager) state(ctx context.Context) (map[string]bool, error) {
	_, body, err := get(ctx, a.URL+"/api/v2/alerts")
	if err != nil {
		return nil, err
	}
	var alerts []struct {
		Labels map[string]string
		Status struct{ InhibitedBy []string }
	}
	if err := json.Unmarshal(body, &alerts); err != nil {
		return nil, err
	}
	state := map[string]bool{}
	for _, alert := range alerts {
		state[title(alert.Labels)] = len(alert.Status.InhibitedBy) > 0
	}
	return state, nil
}

// groups returns what is told of together: the firing alerts by the labels that they
// are grouped by.
func (a *alertmanager) groups(ctx context.Context) (map[string][]string, error) {
	_, body, err := get(ctx, a.URL+"/api/v2/alerts/groups")
	if err != nil {
		return nil, err
	}
	var groups []struct {
		Labels map[string]string
		Alerts []struct{ Labels map[string]string }
	}
	if err := json.Unmarshal(body, &groups); err != nil {
		return nil, err
	}
	by := map[string][]string{}
	for _, g := range groups {
		of := title(g.Labels)
		for _, alert := range g.Alerts {
			by[of] = append(by[of], title(alert.Labels))
		}
		slices.Sort(by[of])
	}
	return by, nil
}

// title names an alert with what it is of.
func title(labels map[string]string) string {
	name := labels["alertname"]
	for _, of := range []string{"value_stream", "source", "reason"} {
		if labels[of] != "" {
			name += " " + labels[of]
		}
	}
	return name
}

// noticesOf returns an alert as its rule labels it, once for each value that one
// further label has, or once without one.
func noticesOf(r *rule, label string, values ...string) (notices []notice) {
	if label == "" {
		values = []string{""}
	}
	for _, value := range values {
		labels := maps.Clone(r.Labels)
		labels["alertname"] = r.Alert
		if label != "" {
			labels[label] = value
		}
		notices = append(notices, notice{Labels: labels})
	}
	return notices
}

func amtool(t *testing.T, args ...string) string {
	t.Helper()
	var said, complaints strings.Builder
	cmd := exec.CommandContext(t.Context(), tool(t, "FLOWMETRICS_AMTOOL"), args...)
	cmd.Stdout, cmd.Stderr = &said, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("amtool %s: %v\n%s%s", strings.Join(args, " "), err, said.String(), complaints.String())
	}
	return strings.TrimSpace(said.String())
}

func TestAlertmanagerConfigIsValid(t *testing.T) { amtool(t, "check-config", alertmanagerFile) }

func TestRoutes(t *testing.T) {
	receivers := map[string]string{"page": "on-call", "ticket": "tickets", "review": "weekly-review"}
	route := func(labels map[string]string) string {
		args := []string{"config", "routes", "test", "--config.file=" + alertmanagerFile}
		for _, name := range slices.Sorted(maps.Keys(labels)) {
			args = append(args, name+"="+labels[name])
		}
		return amtool(t, args...)
	}
	for _, r := range readRules(t, alertsFile) {
		labels := noticesOf(&r, "value_stream", "payments")[0].Labels
		if have, want := route(labels), receivers[labels["severity"]]; have != want || want == "" {
			t.Errorf("%s goes to %q, want %q", r.Alert, have, want)
		}
	}
	if have := route(map[string]string{"alertname": "SomethingElse"}); have != "tickets" {
		t.Errorf("what has no severity goes to %q", have)
	}
}

// TestTickets sees on a real Alertmanager which tickets there are while all alerts of
// two value streams fire: the load alerts of one are one ticket, of the others each is.
func TestTickets(t *testing.T) {
	t.Parallel()
	a := startAlertmanager(t, alertmanagerFile)
	var firing []notice
	want := map[string][]string{} // by what the ticket is grouped by
	for _, r := range readRules(t, alertsFile) {
		if r.Labels["severity"] != "ticket" || r.Labels["audience"] != "reviewer" {
			continue
		}
		for _, n := range noticesOf(&r, "value_stream", "payments", "platform") {
			firing = append(firing, n)
			group := title(n.Labels)
			if slices.Contains(loadAlerts, r.Alert) {
				group = " " + n.Labels["value_stream"]
			}
			want[group] = append(want[group], title(n.Labels))
		}
	}
	if want := 2 * (len(loadAlerts) + 1); len(firing) != want {
		t.Fatalf("%d tickets fire, want %d", len(firing), want)
	}
	a.send(t, true, firing)
	var have map[string][]string
	await(t, func() string { return fmt.Sprintf("have the tickets %v, want %v", have, want) }, func() bool {
		var err error
		if have, err = a.groups(t.Context()); err != nil {
			t.Fatal(err)
		}
		return maps.EqualFunc(have, want, slices.Equal)
	})
}

// TestInhibition sees on a real Alertmanager what holds back what, as the reasons
// come and go. All other alerts fire all the time.
func TestInhibition(t *testing.T) {
	t.Parallel()
	a := startAlertmanager(t, alertmanagerFile)
	reasons := map[string][]notice{}
	var always []notice
	reviewed := map[string][]string{} // by value stream
	for _, r := range readRules(t, alertsFile) {
		switch r.Alert {
		case "FlowDataStale":
			reasons["a source is stale"] = noticesOf(&r, "source", "jira")
			reasons["the snapshot is stale"] = noticesOf(&r, "")
		case "FlowMetricsAbsent":
			reasons["metrics are absent"] = noticesOf(&r, "")
		case "LittleIdentityBroken":
			reasons["an identity is broken"] = noticesOf(&r, "value_stream", "payments")
		case "UnmappedStatus", "FlowConnectorStalled":
			always = append(always, noticesOf(&r, "source", "jira", "github")...)
		case "FlowChangesRejected":
			always = append(always, noticesOf(&r, "reason", "bad_time")...)
		default:
			if r.Labels["audience"] != "reviewer" {
				t.Fatalf("nothing is said here of %s", r.Alert)
			}
			always = append(always, noticesOf(&r, "value_stream", "payments", "platform")...)
			for _, value := range []string{"payments", "platform"} {
				reviewed[value] = append(reviewed[value], r.Alert+" "+value)
			}
		}
	}
	if len(reasons) != 4 || len(reviewed["payments"]) != 8 {
		t.Fatalf("alerts are missing: %v, %v", reasons, reviewed)
	}
	a.send(t, true, always)

	everything := slices.Concat(reviewed["payments"], reviewed["platform"], []string{"UnmappedStatus jira", "UnmappedStatus github"})
	for _, c := range []struct {
		name    string
		reasons []string
		want    []string // what is held back
	}{
		{"nothing is wrong", nil, nil},
		{"a source is stale", []string{"a source is stale"}, append([]string{"FlowConnectorStalled jira"}, everything...)},
		{"it is read again", nil, nil},
		{"the snapshot is stale", []string{"the snapshot is stale"}, everything},
		{"the identity is broken as well", []string{"the snapshot is stale", "an identity is broken"}, everything},
		{"an identity is broken", []string{"an identity is broken"}, reviewed["payments"]},
		{"metrics are absent", []string{"metrics are absent", "a source is stale", "the snapshot is stale"}, append([]string{
			"FlowConnectorStalled jira", "FlowConnectorStalled github", "FlowDataStale", "FlowDataStale jira",
		}, everything...)},
		{"all is well again", nil, nil},
	} {
		want := map[string]bool{}
		for _, n := range always {
			want[title(n.Labels)] = slices.Contains(c.want, title(n.Labels))
		}
		for reason, notices := range reasons {
			firing := slices.Contains(c.reasons, reason)
			a.send(t, firing, notices)
			if firing {
				want[title(notices[0].Labels)] = slices.Contains(c.want, title(notices[0].Labels))
			}
		}
		var have map[string]bool
		await(t, func() string { return fmt.Sprintf("%s: have %v, want %v", c.name, have, want) }, func() bool {
			var err error
			if have, err = a.state(t.Context()); err != nil {
				t.Fatal(err)
			}
			return maps.Equal(have, want)
		})
	}
}
