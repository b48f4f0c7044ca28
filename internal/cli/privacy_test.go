package cli_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flowmetrics/flowmetrics/internal/cli"
)

// Whatever a tracker answers, check prints neither credentials nor names of people.
func TestCheckPrivacy(t *testing.T) {
	const token, mail, person = "planted-token", "planted.login@example.com", "planted-person"
	t.Setenv("CLI_TEST_TOKEN", token)
	for name, answer := range map[string]struct {
		status int
		kind   string
		body   string // %[1]q is what was sent and who it was
	}{
		"unauthorized": {401, "application/json", `{"message":%[1]q,"errorMessages":[%[1]q]}`},
		"forbidden":    {403, "application/json", `{"message":%[1]q,"errorMessages":[%[1]q],"errors":{"x":%[1]q}}`},
		"limited":      {429, "application/json", `{"message":%[1]q,"errorMessages":[%[1]q]}`},
		"broken":       {500, "application/json", `{"message":%[1]q,"errorMessages":[%[1]q]}`},
		"page":         {200, "text/html", `<html>%[1]q</html>`},
		"odd":          {200, "application/json", `{"private":%[1]q,"errors":[{"message":%[1]q}],"data":null}`},
		"list":         {200, "application/json", `[{"id":%[1]q,"login":%[1]q}]`},
		"cut":          {200, "application/json", `[{"user":{"login":%[1]q`},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				echo := r.Header.Get("Authorization") + " of " + person + ", " + mail
				w.Header().Set("Content-Type", answer.kind)
				w.Header().Set("X-OAuth-Scopes", echo)
				w.WriteHeader(answer.status)
				_, _ = fmt.Fprintf(w, answer.body, echo)
			}))
			defer server.Close()
			path := filepath.Join(t.TempDir(), "flow.yaml")
			text := fmt.Sprintf(`
sources:
  - {name: hub, type: github, url: %q, repos: [acme/api], project: {owner: acme, number: 3}, token_env: CLI_TEST_TOKEN}
  - {name: cloud, type: jira, url: %[1]q, projects: [PAY], email: planted.login@example.com, token_env: CLI_TEST_TOKEN}
  - {name: centre, type: jira, url: %[1]q, projects: [PAY], token_env: CLI_TEST_TOKEN}
workflows:
  - name: default
value_streams:
  - {name: payments, workflow: default, timezone: UTC, include: [{source: hub}, {source: cloud}, {source: centre}]}
`, server.URL)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, format := range []string{"text", "json"} {
				var out strings.Builder
				code := cli.Main(t.Context(), []string{"check", "--config", path, "--format", format}, cli.IO{Out: &out, Err: &out})
				if code != 1 || !strings.Contains(out.String(), "hub") || !strings.Contains(out.String(), "centre") {
					t.Errorf("exit code %d: %s", code, &out)
				}
				for _, planted := range []string{token, mail, person, base64.StdEncoding.EncodeToString([]byte(mail + ":" + token))} {
					if strings.Contains(out.String(), planted) {
						t.Errorf("check tells %q: %s", planted, &out)
					}
				}
			}
		})
	}
}
