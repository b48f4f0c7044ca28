package app

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const (
	examplesDir = "../../proto/examples"
	// examplesConfig is a configuration for them, without any source.
	examplesConfig = `
web: {ingest_token_env: APP_TEST_INGEST}
workflows:
  - {name: default, statuses: {new: [Backlog], active: [In Progress], done: [Done]}}
value_streams:
  - {name: payments, workflow: default, include: [{source: tickets, containers: [PAY]}]}
`
)

// TestExamples sends the same history with each of the documented programs: the
// service takes it, and takes it once.
func TestExamples(t *testing.T) {
	for _, command := range [][]string{{"python3", "send.py"}, {"sh", "send.sh"}} {
		t.Run(command[1], func(t *testing.T) {
			for _, needed := range []string{command[0], "curl", "awk"} {
				if _, err := exec.LookPath(needed); err != nil {
					t.Fatalf("%s is needed for this test, install it: %v", needed, err)
				}
			}
			t.Setenv("APP_TEST_INGEST", "open-sesame")
			s := start(t, t.TempDir(), examplesConfig)
			send := func(token string) (string, error) {
				csv, err := os.Open(examplesDir + "/tickets.csv")
				if err != nil {
					t.Fatal(err)
				}
				defer csv.Close() //nolint:errcheck // only read
				cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
				cmd.Dir, cmd.Stdin = examplesDir, csv
				cmd.Env = append(os.Environ(), "FLOW_URL="+strings.TrimSuffix(s.URL(), "/"), "FLOW_INGEST_TOKEN="+token, "NO_PROXY=127.0.0.1", "no_proxy=127.0.0.1")
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			if out, err := send("wrong"); err == nil || !strings.Contains(out, "401") {
				t.Errorf("with a wrong token: %v: %s", err, out)
			}
			for range 2 {
				out, err := send("open-sesame")
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				if got := decode[struct{ Accepted int }](t, out); got.Accepted != 5 {
					t.Errorf("accepted %d changes, want 5: %s", got.Accepted, out)
				}
			}
			changes := readLog(t, s.ok(t, "/api/v1/changes"))
			seen := map[string]string{}
			for _, c := range changes {
				seen[c.ID] = fmt.Sprint(c.Kind, c.Item, c.Fields[0].From.Name, c.Fields[0].To.Name)
			}
			if len(seen) != 5 || seen["1"] != "CREATEDT-1Backlog" || seen["4"] != "UPDATEDT-1In ProgressDone" {
				t.Errorf("the log holds %v", seen)
			}
			type document struct {
				Streams []struct{ Load struct{ Items int } } `json:"value_streams"`
			}
			eventually(t, "one item is in flow", func() bool {
				d := decode[document](t, s.ok(t, "/api/v1/value-streams/payments"))
				return len(d.Streams) == 1 && d.Streams[0].Load.Items == 1
			})
		})
	}
}

// TestExamplesAreInTheDocumentation compares the programs with what
// CONTRIBUTING.md shows.
func TestExamplesAreInTheDocumentation(t *testing.T) {
	text, err := os.ReadFile("../../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, language := range map[string]string{"send.py": "python", "send.sh": "sh", "tickets.csv": "csv"} {
		code, err := os.ReadFile(examplesDir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "```"+language+"\n"+string(code)+"```\n") {
			t.Errorf("CONTRIBUTING.md does not show proto/examples/%s as it is", name)
		}
	}
}
