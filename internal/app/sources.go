package app

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/file"
	"github.com/flowmetrics/flowmetrics/internal/connector/github"
	"github.com/flowmetrics/flowmetrics/internal/connector/jira"
	"github.com/flowmetrics/flowmetrics/internal/connector/redmine"
)

// Registry lists the connectors that the program is built with.
func Registry() connector.Registry {
	return connector.Registry{
		config.Jira: func(s connector.Spec) (connector.Source, error) {
			return jira.New(jira.Config{
				URL: s.URL, Projects: s.Projects, Email: s.Email, Token: s.Token, Titles: s.Titles,
				WebhookSecret: s.WebhookSecret, Transport: s.Transport,
			})
		},
		config.GitHub: func(s connector.Spec) (connector.Source, error) {
			return github.New(github.Config{
				Name: s.Name, URL: s.URL, Repos: s.Repos, Project: s.Project, Token: s.Token, App: s.App, Titles: s.Titles,
				WebhookSecret: s.WebhookSecret, Transport: s.Transport, Logger: s.Logger,
			})
		},
		config.Redmine: redmine.New,
		config.File: func(s connector.Spec) (connector.Source, error) {
			return file.New(s.Name, s.Path, s.Logger), nil
		},
	}
}

// NewSource makes the source that a configuration describes.
func NewSource(s *config.Source, logger *slog.Logger) (connector.Source, error) {
	spec := connector.Spec{
		Name: s.Name, URL: s.URL, Projects: s.Projects, Repos: s.Repos, Email: s.Email, Path: s.Path, Titles: s.Titles,
		Project: connector.Project{Owner: s.Project.Owner, Number: int(s.Project.Number)},
		App:     connector.App{ID: s.App.ID, Installation: s.App.Installation},
		Logger:  logger.With("source", s.Name),
	}
	if s.Token.IsSet() {
		spec.Token = s.Token.Read
	}
	if s.App.PrivateKey.IsSet() {
		spec.App.PrivateKey = s.App.PrivateKey.Read
	}
	if s.WebhookSecret.IsSet() {
		spec.WebhookSecret = s.WebhookSecret.Read
	}
	return Registry().New(s.Type, spec)
}

// checkWebhookSecret refuses a configured secret that cannot be read or is
// empty: with it every delivery would be refused, and nobody would know why.
func checkWebhookSecret(s *config.Source) error {
	if !s.WebhookSecret.IsSet() {
		return nil
	}
	if _, err := s.WebhookSecret.Read(); err != nil {
		return fmt.Errorf("webhook secret of source %s: %w", s.Name, err)
	}
	return nil
}

// censusInterval is the time between two censuses of a source: a census costs as
// much as many polls.
func censusInterval(poll time.Duration) time.Duration {
	return min(max(60*poll, time.Minute), 24*time.Hour)
}
