package config

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

// maxSecret bounds a secret, in bytes: a PEM key is below it.
const maxSecret = 64 << 10

// A Secret is a reference to a secret: the name of an environment variable or
// the path of a file. It never holds the value, so it may be printed. The zero
// Secret refers to nothing.
type Secret struct{ env, file string }

// SecretEnv refers to an environment variable.
func SecretEnv(name string) Secret { return Secret{env: name} }

// SecretFile refers to a file.
func SecretFile(path string) Secret { return Secret{file: path} }

// IsSet reports whether the secret refers to anything.
func (s Secret) IsSet() bool { return s != Secret{} }

// String names the variable or file.
func (s Secret) String() string {
	switch {
	case s.env != "":
		return "environment variable " + s.env
	case s.file != "":
		return "file " + s.file
	}
	return "no secret"
}

// LogValue names the variable or file.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Read returns the secret's value now, without the white space around it; it
// is never empty. An error names the variable or file. It is safe for
// concurrent use; a file that changed is read anew.
func (s Secret) Read() (string, error) {
	var text string
	switch {
	case s.env != "":
		text = os.Getenv(s.env)
	case s.file != "":
		f, err := os.Open(s.file)
		if err != nil {
			return "", fmt.Errorf("read secret: %w", err) // names the path
		}
		defer f.Close() //nolint:errcheck // only read
		data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
		if err != nil {
			return "", fmt.Errorf("read secret: %w", err)
		}
		text = string(data)
	default:
		return "", fmt.Errorf("read secret: none is configured")
	}
	if len(text) > maxSecret {
		return "", fmt.Errorf("read secret: %s has more than %d bytes", s, maxSecret)
	}
	if text = strings.TrimSpace(text); text == "" {
		return "", fmt.Errorf("read secret: %s is not set or empty", s)
	}
	return text, nil
}
