package config

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// sourceKeys are the keys that a type of source has besides those that all
// have.
var sourceKeys = map[string][]string{
	Jira:    {"url", "projects", "email", "token_env", "token_file", "webhook_secret_env", "webhook_secret_file"},
	GitHub:  {"url", "repos", "project", "token_env", "token_file", "app", "webhook_secret_env", "webhook_secret_file"},
	Redmine: {"url", "projects", "token_env", "token_file"}, // it calls nobody
	File:    {"path"},
}

var commonKeys = []string{"name", "type", "poll_interval", "titles"}

func (d *decoder) sources(v value) []Source {
	var sources []Source
	unique := uniqueNames{}
	for _, x := range v.list() {
		if s := d.source(x, unique); s.Name != "" {
			sources = append(sources, s)
		}
	}
	return sources
}

func (d *decoder) source(v value, unique uniqueNames) Source {
	s := Source{PollInterval: DefaultPollInterval, Titles: true}
	known := keys{
		"name": func(x value) {
			s.Name = unique.add(x)
			if strings.Contains(s.Name, "/") { // it is a part of the path of its webhook
				x.want("a name without a slash")
			}
		},
		"type":          func(x value) { s.Type = x.choice(Jira, GitHub, Redmine, File) },
		"url":           func(x value) { s.URL = x.httpURL() },
		"projects":      func(x value) { s.Projects = x.texts() },
		"repos":         func(x value) { s.Repos = x.repos() },
		"project":       func(x value) { s.Project = d.project(x) },
		"email":         func(x value) { s.Email, _ = x.text(maxText) },
		"app":           func(x value) { s.App = d.app(x) },
		"poll_interval": func(x value) { s.PollInterval = x.duration(time.Second) },
		"titles":        func(x value) { s.Titles = x.boolean() },
		"path":          func(x value) { s.Path = x.file() },
	}
	s.Token.keys("token", known)
	s.WebhookSecret.keys("webhook_secret", known)
	seen := v.mapping(known)

	if !seen.has("name") {
		v.missing("name", "the source's name")
	}
	if !seen.has("type") {
		v.missing("type", "jira, github, redmine or file")
	}
	if s.Type == "" {
		return s
	}
	for key, x := range seen {
		if !slices.Contains(commonKeys, key) && !slices.Contains(sourceKeys[s.Type], key) {
			x.problem("a source of type %s has no such key, want %s", s.Type, oneOf(sourceKeys[s.Type]))
		}
	}
	switch s.Type {
	case Jira, Redmine:
		if !seen.has("url") {
			v.missing("url", "the tracker's address, such as https://jira.example.com")
		}
	case GitHub:
		if !seen.has("url") {
			s.URL = GitHubURL
		}
		if !seen.has("repos") {
			v.missing("repos", "a list of repositories as owner/name")
		}
		if seen.has("app") && s.Token.IsSet() {
			seen["app"].problem("found an app and a token, want one of them")
		}
		if x, ok := seen["project"]; ok && !seen.has("app") && !s.Token.IsSet() {
			x.problem("found without credentials, want token_env, token_file or an app with it: nobody sees a board anonymously")
		}
	case File:
		if !seen.has("path") {
			v.missing("path", "the path of a changes file")
		}
	}
	return s
}

func (v value) httpURL() string {
	s, ok := v.text(maxText)
	if !ok {
		return ""
	}
	return v.address(s, "http", "https")
}

var repoForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9._-]+$`)

// IsRepository reports whether a text has the form of a repository, OWNER/NAME.
func IsRepository(s string) bool { return repoForm.MatchString(s) }

func (v value) repos() []string {
	repos := v.texts(func(x value, s string) {
		if !IsRepository(s) {
			x.want("a repository as owner/name")
		}
	})
	if v.isList() && len(v.list()) == 0 {
		v.problem("found an empty list, want at least one repository as owner/name")
	}
	return repos
}

func (d *decoder) project(v value) Project {
	var p Project
	seen := v.mapping(keys{
		"owner":  func(x value) { p.Owner = x.name() },
		"number": func(x value) { p.Number = x.integer(1 << 31) },
	})
	if !seen.has("owner") {
		v.missing("owner", "the organisation or user that owns the project")
	}
	if !seen.has("number") {
		v.missing("number", "the project's number")
	}
	return p
}

func (d *decoder) app(v value) App {
	var a App
	known := keys{
		"id":           func(x value) { a.ID = x.integer(1 << 53) },
		"installation": func(x value) { a.Installation = x.integer(1 << 53) },
	}
	a.PrivateKey.keys("private_key", known)
	seen := v.mapping(known)
	for _, key := range []string{"id", "installation"} {
		if !seen.has(key) {
			v.missing(key, "a number")
		}
	}
	if !seen.has("private_key_file") && !seen.has("private_key_env") {
		v.missing("private_key_file", "the path of the app's private key")
	}
	return a
}

func defaultNATS() NATS { return NATS{MaxBytes: 10e9, Replicas: 1} }

func (d *decoder) nats(v value, n *NATS) {
	known := keys{
		"url":        func(x value) { n.URL = x.natsURL() },
		"creds_file": func(x value) { n.CredsFile = x.file() },
		"user":       func(x value) { n.User, _ = x.text(maxText) },
		"tls": func(x value) {
			x.mapping(keys{
				"ca_file":   func(y value) { n.TLS.CAFile = y.file() },
				"cert_file": func(y value) { n.TLS.CertFile = y.file() },
				"key_file":  func(y value) { n.TLS.KeyFile = y.file() },
			})
			if (n.TLS.CertFile == "") != (n.TLS.KeyFile == "") {
				x.problem("found one of cert_file and key_file, want both or neither")
			}
		},
		"sync": func(x value) {
			if s, _ := x.text(maxName); s != "always" {
				n.SyncInterval = x.duration(time.Second)
			}
		},
		"max_bytes": func(x value) { n.MaxBytes = x.size() },
		"replicas":  func(x value) { n.Replicas = int(x.integer(5)) },
	}
	n.Password.keys("password", known)
	seen := v.mapping(known)
	for _, key := range []string{"creds_file", "user", "password_env", "password_file", "tls", "replicas"} {
		if x, ok := seen[key]; ok && !seen.has("url") && (key != "replicas" || n.Replicas > 1) {
			x.problem("found without url, want the url of an external server with it")
		}
	}
	if x, ok := seen["sync"]; ok && seen.has("url") {
		x.problem("found together with url, want one of them: sync is of the embedded server")
	}
	if x, ok := seen["user"]; ok && (n.CredsFile != "" || !n.Password.IsSet()) {
		x.problem("want a user with password_env or password_file, and without creds_file")
	}
	if n.Password.IsSet() && !seen.has("user") {
		v.missing("user", "the user that the password is for")
	}
}

func (v value) natsURL() string {
	s, ok := v.text(maxText)
	if !ok {
		return ""
	}
	var urls []string
	for part := range strings.SplitSeq(s, ",") {
		one := v.address(strings.TrimSpace(part), "nats", "tls", "ws", "wss")
		if one == "" {
			return ""
		}
		urls = append(urls, one)
	}
	return strings.Join(urls, ",")
}

func (d *decoder) web(v value, w *Web) {
	known := keys{}
	w.IngestToken.keys("ingest_token", known)
	v.mapping(known)
}
