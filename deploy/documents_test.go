package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestDocumentedHistory types in what the documents say about history: the
// examples of the command's help, and the commands of the section History of
// README.md. Each block of commands has to leave Prometheus with the history.
func TestDocumentedHistory(t *testing.T) {
	t.Parallel()
	help := flowmetrics(t, "history", "--help")
	_, examples, _ := strings.Cut(help, "\nExamples:\n")
	examples, _, _ = strings.Cut(examples, "\nFlags:\n")
	var blocks []string
	for line := range strings.Lines(examples) {
		if line = strings.TrimSpace(line); line != "" {
			blocks = append(blocks, line)
		}
	}
	if len(blocks) < 3 {
		t.Fatalf("the help has the examples %q", blocks)
	}
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := indented(section(string(readme), "History"))
	if strings.Contains(string(readme), "flowmetrics history") && len(shown) == 0 {
		t.Error("README.md has flowmetrics history outside of a section History")
	}
	for _, block := range append(blocks, shown...) {
		t.Run("", func(t *testing.T) { follow(t, block) })
	}
}

// section returns what stands below a heading, up to the next of its level or above.
func section(document, title string) string {
	found := regexp.MustCompile(`(?m)^(##+) ` + title + `$`).FindStringSubmatchIndex(document)
	if found == nil {
		return ""
	}
	rest := document[found[1]:]
	level := found[3] - found[2]
	if end := regexp.MustCompile(fmt.Sprintf(`(?m)^#{2,%d} `, level)).FindStringIndex(rest); end != nil {
		rest = rest[:end[0]]
	}
	return rest
}

// indented returns the blocks of indented lines, which are those of commands.
func indented(text string) (blocks []string) {
	inside := false
	for line := range strings.Lines(text) {
		command, is := strings.CutPrefix(line, "    ")
		switch {
		case is && inside:
			blocks[len(blocks)-1] += command
		case is:
			blocks = append(blocks, command)
		}
		inside = is
	}
	return blocks
}

// follow types commands in where their files are, beside a service and a
// Prometheus, and sees that they have loaded some history, or can be.
func follow(t *testing.T, commands string) {
	p := makePast(t, 6*24*time.Hour)
	dir := filepath.Dir(p.config)
	for _, folder := range []string{"bin", "prometheus/metrics2"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, file := range map[string]string{"flowmetrics": program(t), "promtool": tool(t, "FLOWMETRICS_PROMTOOL")} {
		if err := os.Symlink(file, filepath.Join(dir, "bin", name)); err != nil {
			t.Fatal(err)
		}
	}
	live := serve(t, "serve", "--config", p.config, "--data-dir", filepath.Join(dir, "flowmetrics-data"))
	data, remote := filepath.Join(dir, "prometheus", "metrics2"), strings.Contains(commands, "127.0.0.1:9090")
	typed := strings.NewReplacer("127.0.0.1:9797", live.Address, "/var/lib/prometheus/", filepath.Dir(data)+"/", "sudo ", "",
		"2026-01-01", p.to.AddDate(0, 0, -4).Format(time.DateOnly)).Replace(commands)
	if strings.Contains(typed, "--data-dir ") {
		live.stop(t) // it has the folder for itself
	}
	var server *prometheus
	if remote {
		server = startPrometheus(t, data, "storage: {tsdb: {out_of_order_time_window: 400d}}\n", "--web.enable-remote-write-receiver")
		typed = strings.ReplaceAll(typed, "http://127.0.0.1:9090", server.URL)
	}
	shell := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", typed)
	shell.Dir = dir
	shell.Env = append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	said, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, typed, said)
	}
	if strings.Contains(typed, "--out -") {
		if !strings.Contains(string(said), "\nflow_load_items{") || !strings.Contains(string(said), "\n# EOF\n") {
			t.Errorf("%s: no OpenMetrics: %.500s", typed, said)
		}
		return
	}
	if !remote {
		// What the command says last is how to load what it has written.
		if load := advised(string(said)); !strings.Contains(typed, data) && load != "" {
			load = regexp.MustCompile(`(?m)^DATA=\S+.*$`).ReplaceAllString(load, "DATA="+data)
			shell := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", load)
			shell.Dir, shell.Env = dir, append(os.Environ(), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
			if said, err := shell.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s\n%s", err, load, said)
			}
		}
		server = startPrometheus(t, data, "")
	}
	at := time.Now().Add(-5 * time.Hour)
	n, _ := server.value(t, `count(count by (value_stream) (flow_load_items))`, at)
	days, _ := server.value(t, `count_over_time((count(flow_load_items))[3d:1d])`, at)
	if n != 2 || days != 3 {
		t.Errorf("%s: history of %v value streams, on %v of 3 days: %s", typed, n, days, said)
	}
}

// advised returns the commands that a command says last.
func advised(said string) string {
	_, advice, found := strings.Cut(said, "\nto load ")
	if !found {
		return ""
	}
	var commands strings.Builder
	for line := range strings.Lines(advice) {
		if command, is := strings.CutPrefix(line, "  "); is {
			commands.WriteString(command)
		}
	}
	return commands.String()
}
