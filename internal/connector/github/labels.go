package github

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const (
	// labelsFor is how long the names of a repository's labels are good for.
	labelsFor = time.Hour
	// maxLabelPages bounds the list of labels.
	maxLabelPages = 100
)

// labels are the labels of a repository: a renamed one has its new name in the
// timelines at once, also in what is long past, so that nothing but the list
// tells of it.
type labels struct {
	names  map[int64]string // nil: not listed by this program yet
	listed time.Time        // when; zero: never
}

// refreshLabels lists the labels of a repository where it is time to, and emits
// what the renamed ones mean for the issues that have them.
func (p *poll) refreshLabels(ctx context.Context, repo string, sc *scan, pos *position) error {
	edited := p.relabelled(repo)
	if !edited && !sc.labels.listed.IsZero() && time.Since(sc.labels.listed) < labelsFor {
		return nil
	}
	now := time.Now()
	names, err := p.listLabels(ctx, repo)
	if gone(err) || statusOf(err) == http.StatusForbidden && !isLimit(err) {
		sc.labels.listed = now // what these credentials do not see is not asked for each time
		return nil
	}
	if err == nil {
		err = p.renameLabels(ctx, repo, names, cmpLabels(sc.labels.names, pos.Labels))
	}
	if err != nil {
		if edited {
			p.labelsChanged(repo)
		}
		return p.aboutRepo(repo, err)
	}
	before := pos.Labels
	pos.Labels = fitting(names, maxNames-p.cursor.namesBut(pos))
	if !maps.Equal(before, pos.Labels) {
		batch := connector.Batch{Cursor: p.cursor.encode()}
		if !p.cursor.filled() {
			batch.Progress = p.cursor.progress(now)
		}
		if err := p.emit(batch); err != nil {
			return err
		}
	}
	sc.labels = labels{names: names, listed: now}
	return nil
}

func isLimit(err error) bool {
	_, ok := errors.AsType[*connector.RateLimitError](err)
	return ok
}

// cmpLabels returns what is known of the names before: by this program, or else
// by the cursor.
func cmpLabels(listed, stored map[int64]string) map[int64]string {
	if listed != nil {
		return listed
	}
	return stored
}

// relabelled reports whether labels of a repository were edited, once.
func (s *Source) relabelled(repo string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	edited := s.relabel[repo]
	delete(s.relabel, repo)
	return edited
}

func (s *Source) listLabels(ctx context.Context, repo string) (map[int64]string, error) {
	names := make(map[int64]string)
	target := s.pathOf(repo) + "/labels?per_page=100"
	for range maxLabelPages {
		var p page[label]
		r, err := s.client.get(ctx, target, &p)
		if err != nil {
			return nil, err
		}
		for _, l := range p.entries {
			if l.ID != 0 && l.Name != "" {
				names[l.ID] = l.Name
			}
		}
		if target = r.next; target == "" {
			return names, nil
		}
	}
	return nil, fmt.Errorf("list of labels has more than %d pages", maxLabelPages)
}

// renameLabels emits a change for each issue with a label that has another name
// than before.
func (p *poll) renameLabels(ctx context.Context, repo string, names, before map[int64]string) error {
	for _, id := range slices.Sorted(maps.Keys(names)) {
		if was, known := before[id]; known && was != names[id] {
			p.logger.Info("label was renamed", "repository", repo, "from", was, "to", names[id])
			if err := p.renameLabel(ctx, repo, id, was, names[id]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *poll) renameLabel(ctx context.Context, repo string, id int64, from, to string) error {
	query := url.Values{"state": {"all"}, "labels": {to}, "sort": {"created"}, "direction": {"asc"}, "per_page": {strconv.Itoa(p.pageSize)}}
	target := p.pathOf(repo) + "/issues?" + query.Encode()
	for range maxPages {
		l, err := p.listURL(ctx, repo, target)
		if err != nil {
			return err
		}
		var batch connector.Batch
		for k := range l.entries {
			is := &l.entries[k]
			if is.PullRequest != nil {
				continue
			}
			batch.Changes = append(batch.Changes, flow.Change{
				ID: renameID(is.item(), id, from, to), Container: repo, Item: is.item(), Key: is.key(), At: l.reply.received,
				Kind: flow.Updated, Approximate: true,
				Fields: []flow.FieldChange{
					{Field: flow.FieldLabel, From: flow.Value{ID: decimal(id), Name: from}},
					{Field: flow.FieldLabel, To: flow.Value{ID: decimal(id), Name: to}},
				},
			})
		}
		if len(batch.Changes) > 0 {
			if err := p.emit(batch); err != nil {
				return err
			}
		}
		if target = l.reply.next; target == "" {
			return nil
		}
	}
	return fmt.Errorf("list of issues with a label has more than %d pages", maxPages)
}

// renameID names the fact that an issue's label was renamed.
func renameID(item string, label int64, from, to string) string {
	what := from + ":" + to
	if len(what) > 100 || connector.CleanText(what, len(what)) != what {
		whole := sha256.Sum256([]byte(what))
		what = hex.EncodeToString(whole[:16])
	}
	return item + ":label:" + decimal(label) + ":" + what
}

// namesBut returns the room that names take in the cursor, but for one position.
func (c *cursor) namesBut(but *position) int {
	size := 0
	for _, p := range c.Repos {
		if p == but {
			continue
		}
		for id, name := range p.Labels {
			size += nameSize(id, name)
		}
	}
	return size
}

// nameSize is the room that a name takes in a cursor, in bytes.
func nameSize(id int64, name string) int {
	text, err := json.Marshal(name)
	if err != nil {
		panic(err) // texts always encode
	}
	return len(decimal(id)) + len(text) + len(`"":,`)
}

// fitting returns those names that a cursor has room for, the oldest labels
// first.
func fitting(names map[int64]string, room int) map[int64]string {
	fit := make(map[int64]string, len(names))
	for _, id := range slices.Sorted(maps.Keys(names)) {
		if room -= nameSize(id, names[id]); room < 0 {
			break
		}
		fit[id] = names[id]
	}
	return fit
}
