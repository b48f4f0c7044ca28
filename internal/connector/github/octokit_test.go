package github

import (
	"cmp"
	"os"
	"path/filepath"
	"testing"
)

// octokitFile reads a file of what GitHub publishes about its own interface.
func octokitFile(t testing.TB, name string) []byte {
	t.Helper()
	folder := cmp.Or(os.Getenv("FLOWMETRICS_OCTOKIT"), filepath.Join("..", "..", "..", ".cache", "octokit"))
	text, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatalf("what GitHub publishes about its interface is missing; make octokit fetches it (%v)", err)
	}
	return text
}
