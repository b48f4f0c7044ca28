package connector_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

func TestRegistry(t *testing.T) {
	var got connector.Spec
	r := connector.Registry{
		"one": func(s connector.Spec) (connector.Source, error) { got = s; return sourceFunc(none), nil },
		"two": func(connector.Spec) (connector.Source, error) { return nil, errBroken },
	}
	if source, err := r.New("one", connector.Spec{Name: "a", Path: "p"}); err != nil || source == nil || got.Name != "a" || got.Path != "p" {
		t.Errorf("New = %v, %v with %+v", source, err, got)
	}
	if _, err := r.New("two", connector.Spec{Name: "b"}); !errors.Is(err, errBroken) || err.Error() != "make source b: broken" {
		t.Errorf("error %v", err)
	}
	if _, err := r.New("three", connector.Spec{}); err == nil || err.Error() != `source type "three" is unknown, want one of one, two` {
		t.Errorf("error %v", err)
	}
}

func TestTokenFrom(t *testing.T) {
	if connector.TokenFrom("", "") != nil {
		t.Error("a token without a place to read it from")
	}
	path := filepath.Join(t.TempDir(), "token")
	for name, c := range map[string]struct {
		token func() (string, error)
		set   func(string)
		where string
	}{
		"env": {connector.TokenFrom("FLOWMETRICS_TEST_TOKEN", ""), func(s string) { t.Setenv("FLOWMETRICS_TEST_TOKEN", s) }, "FLOWMETRICS_TEST_TOKEN"},
		"file": {connector.TokenFrom("", path), func(s string) {
			if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
				t.Fatal(err)
			}
		}, path},
	} {
		if _, err := c.token(); err == nil || !strings.Contains(err.Error(), c.where) {
			t.Errorf("%s: nothing there: error %v does not name %s", name, err, c.where)
		}
		for _, secret := range []string{"first", "second"} { // rotated
			c.set(secret + "\n")
			if got, err := c.token(); err != nil || got != secret {
				t.Errorf("%s: got %q, %v, want %q", name, got, err, secret)
			}
		}
		c.set("  \n")
		if _, err := c.token(); err == nil || !strings.Contains(err.Error(), c.where) {
			t.Errorf("%s: empty: error %v does not name %s", name, err, c.where)
		}
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("geheim", 20_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := connector.TokenFrom("", path)(); err == nil || strings.Contains(err.Error(), "geheim") {
		t.Errorf("large file: error %.200v", err)
	}
}
