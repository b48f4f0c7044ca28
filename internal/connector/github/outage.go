package github

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// The bounds of the time until a part that cannot be read is asked for again.
const (
	afterFailure = time.Second      // at first, where the site failed
	afterRefusal = 15 * time.Second // at first, where it refused
	maxOutage    = 5 * time.Minute
)

// An outage is a part of what a source reads, such as one of its repositories,
// that cannot be read at present. It is asked for less and less often, so that
// everything else can be polled as usual. The zero outage is none.
type outage struct {
	err  error // why it could not be read; nil: it can
	wait time.Duration
	next time.Time // when to ask again
}

func (o *outage) rests() bool { return o.err != nil && time.Now().Before(o.next) }

// failed notes another failure; first is how long to wait after the first one.
func (o *outage) failed(err error, first time.Duration) {
	if o.err == nil {
		o.wait = first
	} else {
		o.wait = min(max(2*o.wait, first), maxOutage)
	}
	o.err, o.next = err, time.Now().Add(o.wait)
}

// firstWait returns how long to wait after the first failure of its kind.
func firstWait(err error) time.Duration {
	_, denied := errors.AsType[*connector.AuthError](err)
	_, wrong := errors.AsType[*connector.ConfigError](err)
	if denied || wrong {
		return afterRefusal
	}
	return afterFailure
}

// outageOf returns that of a repository.
func (s *Source) outageOf(repo string) *outage {
	if s.outages == nil {
		s.outages = make(map[string]*outage)
	}
	o := s.outages[repo]
	if o == nil {
		o = &outage{}
		s.outages[repo] = o
	}
	return o
}

// allRest reports whether no repository is to be asked for: then all failed, and
// the Runner has waited for them.
func (s *Source) allRest() bool {
	return !slices.ContainsFunc(s.repos, func(repo string) bool { return !s.outageOf(repo).rests() })
}

// The bounds of going on without issues that cannot be read.
const (
	patience     = 3  // failures in a row of one issue
	maxMissing   = 50 // issues, over all repositories
	maxTrouble   = 8  // failures in one reading of a page
	triesAtOnce  = 4  // of the missing issues that fail, in one poll
	smallestPage = 10 // entries of a timeline to ask for
	absences     = 6  // of a missing issue, one after the other, until it counts as gone
)

// miss notes that an issue is yet to be read.
func (p *position) miss(number int) {
	if !slices.Contains(p.Missing, number) {
		p.Missing = append(slices.Clone(p.Missing), number)
	}
}

// found notes that an issue was read, or is not there any more.
func (p *position) found(number int) {
	if slices.Contains(p.Missing, number) {
		p.Missing = slices.DeleteFunc(slices.Clone(p.Missing), func(n int) bool { return n == number })
	}
}

// missing returns how many issues are yet to be read.
func (c *cursor) missing() int {
	n := 0
	for _, p := range c.Repos {
		n += len(p.Missing)
	}
	return n
}

// ofOne reports whether an error may be about one issue alone.
func ofOne(ctx context.Context, err error) bool { return ctx.Err() == nil && !general(err) }

// aboutIssue returns the error of one issue. That it is refused says nothing
// about the credentials.
func aboutIssue(key string, err error) error {
	if refused, ok := errors.AsType[*connector.AuthError](err); ok {
		err = refused.Err
	}
	return fmt.Errorf("issue %s: %w", key, err)
}

// retryMissing reads again what the scans of some repositories went on without,
// now and then and some at a time. The error is about more than that.
func (p *poll) retryMissing(ctx context.Context, repos []string) error {
	type place struct {
		repo   string
		number int
	}
	var todo []place
	for _, repo := range repos {
		for _, number := range p.cursor.Repos[repoID(repo)].Missing {
			todo = append(todo, place{repo, number})
		}
	}
	if len(todo) == 0 || p.missing.rests() {
		return nil
	}
	var first error
	failures := 0
	for k := 0; k < len(todo) && failures < triesAtOnce; k++ {
		at := todo[(p.retried+k)%len(todo)]
		key := issueKey(at.repo, at.number)
		changes, err := p.readIssue(ctx, at.repo, at.number, smallestPage)
		if err == nil && len(changes) == 0 && p.stillExpected(key) {
			err = errAbsent
		}
		switch {
		case err == nil:
			if err := p.takeMissing(at.repo, at.number, changes); err != nil {
				return err
			}
			p.missing = outage{}
			delete(p.absent, key)
			continue
		case !ofOne(ctx, err):
			return err
		}
		if failures++; first == nil {
			first = aboutIssue(key, err)
		}
	}
	p.retried = (p.retried + failures) % len(todo)
	if first == nil {
		p.missing = outage{}
	} else {
		p.missing.failed(first, afterRefusal)
	}
	return nil
}

// errAbsent says that an issue is not there which a list has told of.
var errAbsent = errors.New("it was listed and is not there")

// stillExpected reports whether an issue that is not there may turn up yet: GitHub
// answers from copies that lag behind, and credentials lose sight for a moment.
func (s *Source) stillExpected(key string) bool {
	if s.absent == nil {
		s.absent = make(map[string]int)
	}
	if s.absent[key]++; s.absent[key] < absences {
		return true
	}
	delete(s.absent, key)
	return false
}

// takeMissing emits what an issue tells that was missing.
func (p *poll) takeMissing(repo string, number int, changes []flow.Change) error {
	pos := p.cursor.Repos[repoID(repo)]
	before := *pos
	pos.found(number)
	batch := connector.Batch{Changes: changes, Cursor: p.cursor.encode()}
	if !p.cursor.filled() {
		batch.Progress = p.cursor.progress(time.Now())
	}
	if err := p.emit(batch); err != nil {
		*pos = before
		return err
	}
	return nil
}

// stillMissing says that there are issues that could not be read, if there are.
func (p *poll) stillMissing() error {
	switch n := p.cursor.missing(); {
	case n == 0 || p.missing.err == nil:
		return nil
	case n == 1:
		return fmt.Errorf("1 issue could not be read: %w", p.missing.err)
	default:
		return fmt.Errorf("%d issues could not be read: %w", n, p.missing.err)
	}
}

// seeBoard finds out whether the project can be seen, where that is not known.
// What was read without its moves while it could not is read again once it can.
func (p *poll) seeBoard(ctx context.Context) {
	b := &p.board
	if !p.hasBoard() || b.outage.rests() {
		return
	}
	age := boardFor
	if b.outage.err != nil {
		age = 0
	}
	_, err := p.loadProject(ctx, age)
	switch {
	case err == nil:
		b.outage = outage{}
		for _, repo := range p.repos {
			if pos := p.cursor.Repos[repoID(repo)]; pos.NoBoard {
				*pos = position{Labels: pos.Labels, Missing: pos.Missing}
				delete(p.scans, repo)
			}
		}
	case outOfSight(err):
		b.outage.failed(err, afterRefusal)
	}
	// Anything else shows again where the project is needed.
}

// outOfSight reports whether an error says that these credentials do not see
// the project, or that there is none.
func outOfSight(err error) bool {
	_, denied := errors.AsType[*connector.AuthError](err)
	_, wrong := errors.AsType[*connector.ConfigError](err)
	return wrong || denied && statusOf(err) != http.StatusUnauthorized
}
