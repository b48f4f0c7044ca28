package connector

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
)

// A Spec is what a source may need from the configuration. A field that its
// type does not know is empty.
type Spec struct {
	Name     string
	URL      string
	Projects []string
	Repos    []string
	Email    string
	Path     string
	Titles   bool // keep item titles
	// Token returns the secret. It is asked for each time that the secret is
	// needed, so that a rotated one is found; nil where none is configured.
	Token     func() (string, error)
	Transport http.RoundTripper // nil: http.DefaultTransport
	Logger    *slog.Logger
}

// A Factory makes a source of one type. It starts nothing and reads nothing;
// the error says what is wrong with the configuration.
type Factory func(Spec) (Source, error)

// A Registry lists the types of sources by the name used in the configuration.
type Registry map[string]Factory

// New makes a source of a type.
func (r Registry) New(typeName string, spec Spec) (Source, error) {
	factory, ok := r[typeName]
	if !ok {
		return nil, fmt.Errorf("source type %q is unknown, want one of %s", typeName, strings.Join(r.Types(), ", "))
	}
	source, err := factory(spec)
	if err != nil {
		return nil, fmt.Errorf("make source %s: %w", spec.Name, err)
	}
	return source, nil
}

// Types returns the names of the types, sorted.
func (r Registry) Types() []string { return slices.Sorted(maps.Keys(r)) }

// maxSecret bounds a secret's file, in bytes.
const maxSecret = 64 << 10

// TokenFrom returns a function that reads a secret from an environment variable
// or else from a file, anew at each call and without the white space around it.
// It is nil where neither is named. Its errors name the variable or the file
// and never hold the secret.
func TokenFrom(env, file string) func() (string, error) {
	switch {
	case env != "":
		return func() (string, error) {
			token := strings.TrimSpace(os.Getenv(env))
			if token == "" {
				return "", fmt.Errorf("environment variable %s is empty or not set", env)
			}
			return token, nil
		}
	case file != "":
		return func() (string, error) { return readSecret(file) }
	}
	return nil
}

func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	if len(text) > maxSecret {
		return "", fmt.Errorf("read secret: %s is over %d bytes", path, maxSecret)
	}
	token := bytes.TrimSpace(text)
	if len(token) == 0 {
		return "", fmt.Errorf("read secret: %s is empty", path)
	}
	return string(token), nil
}
