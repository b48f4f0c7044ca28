package github

import (
	"context"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// A scan is what is known of a repository besides what the cursor tells.
type scan struct {
	path string // below the site's URL, such as repos/acme/api
}

// pathOf returns the path of a repository below the site's URL.
func (s *Source) pathOf(repo string) string {
	if sc := s.scans[repo]; sc != nil && sc.path != "" {
		return sc.path
	}
	return "repos/" + repo
}

// Poll implements [connector.Source].
func (s *Source) Poll(ctx context.Context, from connector.Cursor, emit func(connector.Batch) error) error {
	return nil
}
