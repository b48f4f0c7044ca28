package archtest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// topLevel are the only entries at the root of the repository.
var topLevel = []string{
	".ci", ".git", ".gitignore", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md",
	"cmd", "dashboards", "deploy", "go.mod", "go.sum", "internal", "proto",
}

// noPackage are names that say nothing about what a package holds.
var noPackage = []string{"util", "utils", "common", "helper", "helpers", "shared", "misc", "base", "lib"}

// unwanted are marks of unfinished work and things that hide failures. They are
// written in two parts because this file is searched too.
var unwanted = []string{
	"TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK", "not " + "implemented", "for " + "now", ".Sk" + "ip(", ".Sk" + "ipNow(", ".Sk" + "ipf(",
}

const (
	maxLines     = 700 // of any Go file
	maxMainLines = 100 // of cmd/flowmetrics/main.go, which only parses flags and signals
)

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// topLevelEntries finds entries at the root that have no place there.
func topLevelEntries(t *tree) (problems []string) {
	ignored, err := t.ignored()
	if err != nil {
		return []string{err.Error()}
	}
	entries, err := fs.ReadDir(t.fs, ".")
	if err != nil {
		return []string{err.Error()}
	}
	for _, e := range entries {
		if !slices.Contains(topLevel, e.Name()) && !ignored[e.Name()] {
			problems = append(problems, e.Name()+": not among the top-level entries")
		}
	}
	return problems
}

// fileSizes finds files that are too long to be read in one go.
func fileSizes(t *tree) (problems []string) {
	for _, f := range t.files {
		limit := maxLines
		if f.name == "cmd/flowmetrics/main.go" {
			limit = maxMainLines
		}
		if n := strings.Count(f.text, "\n"); n > limit && !f.generated {
			problems = append(problems, fmt.Sprintf("%s: %d lines, the limit is %d", f.name, n, limit))
		}
	}
	return problems
}

// packageNames finds packages whose name says nothing.
func packageNames(t *tree) (problems []string) {
	for _, f := range t.files {
		dir := path.Base(path.Dir(f.name))
		name := strings.TrimSuffix(f.syntax.Name.Name, "_test")
		if slices.Contains(noPackage, dir) || slices.Contains(noPackage, name) {
			problems = append(problems, f.name+": name a package for what it holds")
		}
		if name != dir && name != "main" {
			problems = append(problems, f.name+": package "+name+" is in directory "+dir)
		}
	}
	return problems
}

// unwantedWords finds marks of unfinished work and skipped tests.
func unwantedWords(t *tree) (problems []string) {
	for _, f := range t.files {
		for i, line := range strings.Split(f.text, "\n") {
			for _, word := range unwanted {
				if strings.Contains(line, word) && !f.generated {
					problems = append(problems, fmt.Sprintf("%s:%d: %q", f.name, i+1, word))
				}
			}
		}
	}
	return problems
}

var (
	moduleLine  = regexp.MustCompile(`(?m)^module (\S+)$`)
	replaceLine = regexp.MustCompile(`(?m)^\s*(replace\b.*|.+=>.*)$`)
	yamlLine    = regexp.MustCompile(`(?mi)^\s*(?:require )?(\S*yaml\S*) v\S+$`) // a direct requirement has no comment after it
)

// goMod finds a wrong module path, replaced modules and a second YAML library.
func goMod(t *tree) (problems []string) {
	text, err := t.read("go.mod")
	if err != nil {
		return []string{err.Error()}
	}
	if m := moduleLine.FindStringSubmatch(text); m == nil || m[1] != module {
		problems = append(problems, "go.mod: the module is "+module)
	}
	for _, m := range replaceLine.FindAllStringSubmatch(text, -1) {
		problems = append(problems, "go.mod: a replaced module cannot be installed by others: "+m[1])
	}
	var libraries []string
	for _, m := range yamlLine.FindAllStringSubmatch(text, -1) {
		libraries = append(libraries, m[1])
	}
	if !slices.Equal(libraries, []string{"github.com/goccy/go-yaml"}) {
		problems = append(problems, fmt.Sprintf("go.mod: want github.com/goccy/go-yaml as the one YAML library, have %q", libraries))
	}
	return problems
}

var (
	target     = regexp.MustCompile(`(?m)^([a-z][a-z-]*):(.*)$`)
	mentioned  = regexp.MustCompile("(?m)(?:`|^    |^)make ([a-z][a-z-]*)")
	wantTarget = []string{"help", "run", "test", "check", "lint", "fmt", "generate", "verify", "bench", "fuzz"}
)

// makeTargets finds targets that the documentation names and the Makefile lacks,
// and targets without a line of help.
func makeTargets(t *tree) (problems []string) {
	makefile, err := t.read("Makefile")
	if err != nil {
		return []string{err.Error()}
	}
	targets := map[string]bool{}
	for _, m := range target.FindAllStringSubmatch(makefile, -1) {
		targets[m[1]] = true
		if !strings.Contains(m[2], "## ") {
			problems = append(problems, "Makefile: "+m[1]+" has no line of help")
		}
	}
	for _, name := range wantTarget {
		if !targets[name] {
			problems = append(problems, "Makefile: no target "+name)
		}
	}
	for _, doc := range []string{"README.md", "CONTRIBUTING.md", "ARCHITECTURE.md"} {
		text, err := t.read(doc)
		if err != nil {
			return []string{err.Error()}
		}
		for _, m := range mentioned.FindAllStringSubmatch(text, -1) {
			if !targets[m[1]] {
				problems = append(problems, doc+": make "+m[1]+" does not exist")
			}
		}
	}
	return problems
}
