package main

import (
	"bytes"
	"encoding/json"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// root is that of the repository.
const root = "../../.."

// made returns a directory with the connector of a name, laid out like the
// repository.
func made(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	table, err := os.ReadFile(filepath.Join(root, importTable))
	if err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string][]byte{importTable: table, connectors + "/taken/a.go": []byte("package taken\n")} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(dir, name); err != nil {
		t.Fatal(err)
	}
	return dir
}

// overlay lets the go tool see what is in a directory as if it were in the
// repository, where nothing is written.
func overlay(t *testing.T, dir, name string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, connectors, name, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	repository, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	for _, f := range files {
		replace[filepath.Join(repository, connectors, name, filepath.Base(f))] = f
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// run builds the test of the connector and runs it.
func run(t *testing.T, dir, name string) (string, error) {
	t.Helper()
	binary := filepath.Join(dir, "kit.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-o", binary, "-overlay="+overlay(t, dir, name), "./"+connectors+"/"+name)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("the connector does not build: %v\n%s", err, out)
	}
	out, err := exec.CommandContext(t.Context(), binary, "-test.timeout=60s").CombinedOutput()
	return string(out), err
}

// TestSkeleton writes a connector, builds it, and reads what its test says to
// do next.
func TestSkeleton(t *testing.T) {
	const name = "redbook"
	dir := made(t, name)
	lines := 0
	files, err := os.ReadDir(filepath.Join(dir, connectors, name))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, connectors, name, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		lines += bytes.Count(text, []byte("\n"))
		if formatted, err := format.Source(text); err != nil || !bytes.Equal(formatted, text) {
			t.Errorf("%s is not formatted: %v", f.Name(), err)
		}
		if bytes.Contains(text, []byte(placeholder)) {
			t.Errorf("%s still has the placeholder", f.Name())
		}
	}
	if lines >= 220 {
		t.Errorf("the skeleton has %d lines, want under 250", lines)
	}
	table, err := os.ReadFile(filepath.Join(dir, importTable))
	if err != nil {
		t.Fatal(err)
	}
	if line := `"` + connectors + "/" + name + `": `; strings.Count(string(table), line) != 1 {
		t.Errorf("the import table has no line for the connector")
	}

	out, err := run(t, dir, name)
	if err == nil {
		t.Fatalf("the kit passes on a skeleton:\n%s", out)
	}
	for _, want := range []string{
		"TestKit/harness", "step 1: let ServeHTTP in kit_test.go answer /items?limit=100&start=0 as redbook does",
		"want the first poll of a tracker without items to succeed, got GET /items: ",
		`the ability "relocate" is missing without a reason: set Tracker.Relocate, or say in Harness.Without`,
		`the ability "webhooks" is missing`, `comes first: the `,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the test does not say %q:\n%s", want, out)
		}
	}
	if _, err := os.Stat(filepath.Join(root, connectors, name)); err == nil {
		t.Error("something was left behind")
	}
}

// TestNextStep does the first steps and reads what comes after them.
func TestNextStep(t *testing.T) {
	const name = "redbook"
	dir := made(t, name)
	path := filepath.Join(dir, connectors, name, "kit_test.go")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range [][2]string{
		{`f.Errorf("step 1: let ServeHTTP in kit_test.go answer %s as redbook does", r.URL)`, ``},
		{`http.NotFound(w, r)`, `w.Write([]byte("[]"))`},
		{`map[connectortest.Ability]string{}`, `map[connectortest.Ability]string{"relocate": "x", "rename": "x", "delete": "x", "zones": "x", "people": "x", "webhooks": "x"}`},
	} {
		if !strings.Contains(string(text), step[0]) {
			t.Fatalf("the skeleton has no %q", step[0])
		}
		text = []byte(strings.Replace(string(text), step[0], step[1], 1))
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, dir, name)
	if err == nil || strings.Contains(out, "FAIL: TestKit/harness") || !strings.Contains(out, "step 4: let Create in kit_test.go make an item") {
		t.Errorf("want the test to pass the case harness and to ask for step 4, got %v:\n%s", err, out)
	}
}

// TestLastStep has a skeleton whose fake is complete: its source keeps every
// promise that it makes.
func TestLastStep(t *testing.T) {
	const name = "redbook"
	dir := made(t, name)
	text, err := os.ReadFile("testdata/kit_test.go.txt")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, connectors, name, "kit_test.go"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, dir, name); err != nil {
		t.Errorf("the skeleton does not pass the kit: %v\n%s", err, out)
	}
}

// TestRefused writes nothing for names that are bad or taken.
func TestRefused(t *testing.T) {
	dir := made(t, "redbook")
	before, err := os.ReadFile(filepath.Join(dir, importTable))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"": "NAME is missing", "Redbook": "lower-case", "red-book": "lower-case", "../x": "lower-case", "x": "lower-case", "r/s": "lower-case",
		"1st": "lower-case", "func": "another meaning", "util": "another meaning", "testdata": "another meaning",
		"redbook": "is there already", "taken": "is there already",
	} {
		if err := write(dir, name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", name, err, want)
		}
	}
	after, err := os.ReadFile(filepath.Join(dir, importTable))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(before, after) {
		t.Error("the import table has changed")
	}
	entries, err := os.ReadDir(filepath.Join(dir, connectors))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("%d packages, want those that were there", len(entries))
	}
	if err := write(t.TempDir(), "redbook"); err == nil || !strings.Contains(err.Error(), "at the root of the repository") {
		t.Errorf("elsewhere: %v", err)
	}
}
