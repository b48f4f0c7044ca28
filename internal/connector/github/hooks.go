package github

import (
	"context"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func (s *Source) pullEvidence(context.Context, []issue) (changes []flow.Change, supported bool, err error) {
	return nil, false, nil
}

func (s *Source) boardHistory(context.Context, []issue) ([]flow.Change, error) { return nil, nil }

func (s *Source) checkProject(context.Context) error { return nil }

func (s *Source) projectStatuses(context.Context) ([]flow.Value, error) { return nil, nil }
