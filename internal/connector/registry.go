package connector

import (
	"fmt"
	"log/slog"
	"maps"
	"net/http"
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
	Project  Project
	App      App
	// Token returns the secret. It is asked for each time that the secret is
	// needed, so that a rotated one is found; nil where none is configured.
	Token func() (string, error)
	// WebhookSecret returns what deliveries are signed with, asked for at each;
	// nil: webhooks are refused.
	WebhookSecret func() (string, error)
	Transport     http.RoundTripper // nil: http.DefaultTransport
	Logger        *slog.Logger
}

// A Project names a GitHub project (a board); the zero Project is none.
type Project struct {
	Owner  string // organisation or user
	Number int
}

// An App is how a source signs in as an installed GitHub App; the zero App is none.
type App struct {
	ID, Installation int64
	PrivateKey       func() (string, error) // PEM
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
		return nil, fmt.Errorf("source %s: type %q is not built in, want one of %s", spec.Name, typeName, strings.Join(r.Types(), ", "))
	}
	source, err := factory(spec)
	if err != nil {
		return nil, fmt.Errorf("make source %s: %w", spec.Name, err)
	}
	return source, nil
}

// Types returns the names of the types, sorted.
func (r Registry) Types() []string { return slices.Sorted(maps.Keys(r)) }
