package config

import (
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
	_ "time/tzdata" // the same zones on every machine, also where the system has none

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// MaxSize bounds a configuration file, in bytes.
const MaxSize = 1 << 20

// A Config is a valid configuration file. It is immutable once made.
type Config struct {
	Sources []Source
	NATS    NATS
	Web     Web
	policy  *flow.Policy
}

// Policy returns the configured meaning of the trackers' words: the value
// streams, their workflows and the windows.
func (c *Config) Policy() *flow.Policy { return c.policy }

// Source returns the source of a name, or nil.
func (c *Config) Source(name string) *Source {
	for i := range c.Sources {
		if c.Sources[i].Name == name {
			return &c.Sources[i]
		}
	}
	return nil
}

// The types of sources.
const (
	Jira    = "jira"
	GitHub  = "github"
	Redmine = "redmine"
	File    = "file"
)

// DefaultPollInterval is the time between two polls of a source that sets none.
const DefaultPollInterval = time.Minute

// A Source is one configured tracker. Which fields are set depends on its type.
type Source struct {
	Name          string
	Type          string   // Jira, GitHub, Redmine or File
	URL           string   // http or https, without user information, query or trailing slash
	Projects      []string // jira, redmine: keys; none means every project in sight
	Repos         []string // github: owner/name
	Project       Project  // github: the board whose Status is the state; zero: none
	Email         string   // jira: basic authentication; empty: bearer token
	Token         Secret
	App           App // github: instead of a token
	WebhookSecret Secret
	PollInterval  time.Duration
	Titles        bool   // keep item titles
	Path          string // file: the changes file
}

// A Project is a GitHub Projects v2 board.
type Project struct {
	Owner  string
	Number int64
}

// An App is a GitHub App installation.
type App struct {
	ID, Installation int64
	PrivateKey       Secret
}

// NATS says where the event log is kept. Without a URL it is an embedded
// server.
type NATS struct {
	URL       string // one or more, separated by commas
	CredsFile string
	User      string
	Password  Secret
	TLS       TLS
	// SyncInterval is how often an embedded server writes to the disk what it
	// has acknowledged; 0: always before it acknowledges.
	SyncInterval time.Duration
	MaxBytes     int64 // limit of the log
	Replicas     int
}

// TLS names the PEM files of a connection.
type TLS struct{ CAFile, CertFile, KeyFile string }

// Web configures the HTTP server.
type Web struct {
	IngestToken Secret // of POST /api/v1/changes; unset: refused
}

// Load reads a configuration file. An error that concerns what is in the file
// is an [Errors].
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, data)
}

// Parse reads a configuration from the bytes of a file. The name is that of
// the file: errors quote it, and relative paths are relative to its folder. An
// error is an [Errors].
func Parse(name string, data []byte) (*Config, error) {
	d := &decoder{file: name, dir: filepath.Dir(name)}
	c := d.config(data)
	if err := d.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// sourceNames returns the sources that an include may name, nil for any: where
// changes come from elsewhere too, their sources are known to nobody here.
func (c *Config) sourceNames() []string {
	if c.NATS.URL != "" || c.Web.IngestToken.IsSet() {
		return nil // other programs publish or post
	}
	var names []string
	for i := range c.Sources {
		if c.Sources[i].Type == File {
			return nil // the lines of a changes file name their source themselves
		}
		names = append(names, c.Sources[i].Name)
	}
	return names
}

//go:embed example.yaml
var example []byte

// Example returns a complete example of a configuration file.
func Example() []byte { return append([]byte(nil), example...) }

func (d *decoder) config(data []byte) *Config {
	c := &Config{NATS: defaultNATS()}
	root, ok := d.parse(data)
	if !ok {
		return c
	}
	// The value streams refer to the other sections, wherever they stand.
	var streams, workflows, windows value
	seen := root.mapping(keys{
		"sources":       func(v value) { c.Sources = d.sources(v) },
		"workflows":     func(v value) { workflows = v },
		"value_streams": func(v value) { streams = v },
		"windows":       func(v value) { windows = v },
		"nats":          func(v value) { d.nats(v, &c.NATS) },
		"web":           func(v value) { d.web(v, &c.Web) },
	})
	if root.isMap() && !seen.has("sources") && !seen.has("value_streams") {
		root.problem("found neither sources nor value_streams, want at least one of them")
	}
	c.policy = &flow.Policy{Windows: flow.DefaultWindows()}
	if seen.has("windows") {
		c.policy.Windows = d.windows(windows)
	}
	known := c.sourceNames()
	var flows []*flow.Workflow
	if seen.has("workflows") {
		flows = d.workflows(workflows)
	}
	if seen.has("value_streams") {
		c.policy.ValueStreams = d.valueStreams(streams, flows, known)
	}
	return c
}
