package eventlog

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// The defaults of [Config].
const (
	DefaultDataDir  = "flowmetrics-data"
	DefaultSync     = "always"
	DefaultMaxBytes = 64 << 30 // of the server inside the process
)

// Config says where the event log is.
type Config struct {
	// DataDir holds the files of the server inside the process. Unused with URL.
	DataDir string
	// URL of a NATS system with JetStream, such as nats://nats.example.com:4222;
	// several, separated by commas, are servers of one cluster. Empty starts a
	// server inside the process. A URL holds no credentials.
	URL string
	// CredsFile is a NATS credentials file (JWT and seed).
	CredsFile string
	// User logs in with what Password returns, which is called once, by Open.
	User     string
	Password func() (string, error)
	TLS      TLS
	// Sync is how often the server inside the process syncs its files to disk:
	// "always" before it acknowledges, or a duration such as "2m", with which a
	// loss of power loses what came since. A killed process loses nothing either
	// way. A NATS system has its own setting.
	Sync string
	// MaxBytes bounds the log; a full log refuses what is new. Absent, it is
	// DefaultMaxBytes, or with URL what the system's account may store.
	MaxBytes int64
	// Replicas of streams in a cluster: 1, 3 or 5.
	Replicas int
}

// TLS names the files of a TLS connection, all PEM. Each is optional.
type TLS struct {
	CAFile   string // who may have signed the server's certificate; default: the system's authorities
	CertFile string // the client's certificate and key, together
	KeyFile  string
}

// WithDefaults returns the configuration with the defaults where a part is
// absent.
func (c Config) WithDefaults() Config {
	if c.DataDir == "" {
		c.DataDir = DefaultDataDir
	}
	if c.Sync == "" {
		c.Sync = DefaultSync
	}
	if c.MaxBytes == 0 && c.URL == "" {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	return c
}

// Validate reports all that is wrong with the configuration, each error with
// the key that it is about. Absent parts are right.
func (c Config) Validate() error {
	c = c.WithDefaults()
	var errs []error
	wrong := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	for _, s := range c.servers() {
		switch u, err := url.Parse(s); {
		case err != nil:
			wrong("url", "not a URL") // the parser's error repeats the text, which may hold a password
		case u.User != nil:
			wrong("url", "holds credentials; name them with user and password_env, password_file or creds_file")
		case u.Host == "" || (u.Scheme != "nats" && u.Scheme != "tls" && u.Scheme != "ws" && u.Scheme != "wss"):
			wrong("url", "want nats://HOST:PORT, got %q", s)
		}
	}
	if _, err := c.syncInterval(); err != nil {
		errs = append(errs, err)
	}
	if c.MaxBytes != 0 && c.MaxBytes < 1<<20 {
		wrong("max_bytes", "want at least 1 MiB, got %d bytes", c.MaxBytes)
	}
	if c.Replicas != 1 && c.Replicas != 3 && c.Replicas != 5 {
		wrong("replicas", "want 1, 3 or 5, got %d", c.Replicas)
	}
	if c.URL == "" && c.Replicas != 1 {
		wrong("replicas", "the server inside the process keeps 1, got %d", c.Replicas)
	}
	if c.URL == "" && (c.CredsFile != "" || c.User != "" || c.TLS != TLS{}) {
		wrong("url", "is required with creds_file, user or tls")
	}
	if (c.Password != nil) != (c.User != "") {
		wrong("user", "and a password belong together")
	}
	if c.User != "" && c.CredsFile != "" {
		wrong("creds_file", "and user exclude each other")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		wrong("tls.cert_file", "and tls.key_file belong together")
	}
	return errors.Join(errs...)
}

// servers returns the URLs; none means the server inside the process.
func (c Config) servers() []string {
	if c.URL == "" {
		return nil
	}
	servers := strings.Split(c.URL, ",")
	for i := range servers {
		servers[i] = strings.TrimSpace(servers[i])
	}
	return servers
}

// syncInterval returns 0 for always.
func (c Config) syncInterval() (time.Duration, error) {
	if c.Sync == "always" {
		return 0, nil
	}
	d, err := time.ParseDuration(c.Sync)
	if err != nil || d < time.Second || d > time.Hour {
		return 0, fmt.Errorf("sync: want always or a duration from 1s to 1h, got %q", c.Sync)
	}
	return d, nil
}

func (c Config) password() (string, error) {
	password, err := c.Password()
	if err != nil {
		return "", fmt.Errorf("log in to event log as %s: %w", c.User, err)
	}
	return password, nil
}
