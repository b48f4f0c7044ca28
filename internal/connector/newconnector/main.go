// Command newconnector writes the skeleton of a connector: a package that builds,
// with a test that says what to do next. It is run from the root of the
// repository, by make new-connector NAME=redbook.
package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"go/format"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed skeleton
var skeleton embed.FS

// placeholder is the name of the package in the skeleton.
const placeholder = "TRACKER"

const (
	connectors  = "internal/connector"
	importTable = "internal/archtest/imports_test.go"
	// anchor is the line of the import table that the new one goes behind.
	anchor = `"internal/connector/connectortest":`
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: make new-connector NAME=redbook")
		os.Exit(2)
	}
	if err := write(".", os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "new-connector:", err)
		os.Exit(1)
	}
	fmt.Printf(`wrote %[1]s/%[2]s and a line in %[3]s. Next:

    go test ./%[1]s/%[2]s

says what to do first, and then what to do next. CONTRIBUTING.md, "Add a tracker connector", has the whole way.
`, connectors, os.Args[1], importTable)
}

var form = regexp.MustCompile(`^[a-z][a-z0-9]{1,30}$`)

// reserved are names that Go, or the rules of the repository, give a meaning.
var reserved = []string{
	"internal", "testdata", "vendor", "main", "connector", "flow", "util", "utils", "common", "helper", "helpers", "shared", "misc", "base", "lib",
}

// write adds the connector of a name to the repository at root, or nothing.
func write(root, name string) error {
	switch {
	case name == "":
		return errors.New("NAME is missing: make new-connector NAME=redbook")
	case !form.MatchString(name):
		return fmt.Errorf("NAME=%s: want the tracker's name as a Go package, 2 to 31 lower-case letters and digits such as redbook", name)
	case token.IsKeyword(name) || slices.Contains(reserved, name):
		return fmt.Errorf("NAME=%s: the name has another meaning, want that of the tracker", name)
	}
	table, err := addLine(filepath.Join(root, filepath.FromSlash(importTable)), name)
	if err != nil {
		return err
	}
	dir := filepath.Join(root, filepath.FromSlash(connectors), name)
	if err := os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("NAME=%s: %s is there already", name, dir)
	} else if err != nil {
		return fmt.Errorf("make package: %w", err)
	}
	if err := errors.Join(fill(dir, name), os.WriteFile(filepath.Join(root, filepath.FromSlash(importTable)), table, 0o644)); err != nil {
		return errors.Join(fmt.Errorf("write package: %w", err), os.RemoveAll(dir))
	}
	return nil
}

// addLine returns the import table with a line for the connector.
func addLine(path, name string) ([]byte, error) {
	table, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read import table (run this at the root of the repository): %w", err)
	}
	before, after, ok := bytes.Cut(table, []byte(anchor))
	if !ok {
		return nil, fmt.Errorf("%s has no line %s", path, anchor)
	}
	line := fmt.Sprintf("%q: {\"internal/flow\", \"internal/connector\"},\n\t", connectors+"/"+name)
	formatted, err := format.Source(slices.Concat(before, []byte(line), []byte(anchor), after))
	if err != nil {
		return nil, fmt.Errorf("format import table: %w", err)
	}
	return formatted, nil
}

// fill writes the files of the skeleton into a directory.
func fill(dir, name string) error {
	return fs.WalkDir(skeleton, "skeleton", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := skeleton.ReadFile(path)
		if err != nil {
			return err
		}
		file := strings.TrimSuffix(filepath.Base(path), ".txt")
		return os.WriteFile(filepath.Join(dir, file), bytes.ReplaceAll(text, []byte(placeholder), []byte(name)), 0o644)
	})
}
