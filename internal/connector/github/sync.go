package github

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

const (
	// overlap is how far a scan goes back behind the newest update that the one
	// before saw, in seconds: lists are not consistent at once.
	overlap = 120
	// settled is how long after an update, in seconds, a timeline has all of it:
	// GitHub's times are whole seconds.
	settled = 2
	// readers is how many timelines are asked for at once.
	readers = 4
)

// A scan is what is known of a repository besides what the cursor tells.
type scan struct {
	walk    walk
	seen    memory
	reading *reading // the page at hand
	labels  labels
}

// A reading is a page and what has been read for it so far. It outlives an
// error, so that a tight rate limit slows the scan down and cannot stop it.
type reading struct {
	from int64
	next string
	*listing
	fresh     []*issue              // issues that are new or changed
	pulls     []issue               // pull requests, likewise
	histories map[int64]*history    // of the fresh ones, by id
	trouble   map[int64]int         // how often one of them could not be read, by id
	parts     map[int64]*unfinished // likewise
	evidence  []flow.Change         // from pull requests
	board     []flow.Change         // from the project
	moving    []string              // node ids of issues that may have been transferred
	moved     map[string]transfers
	evident   bool // evidence is complete
	boarded   bool // board is complete
	traced    bool // moved is complete
}

// Poll implements [connector.Source]. It reads one repository after the other
// and emits one batch for each page of the list of its issues. What cannot be
// read does not keep the rest from it, be it a repository, the project or an
// issue: in the end a [*connector.PartialError] tells of it, as long as it lasts.
// It is asked for again at least every five minutes and at most every 15 seconds,
// or sooner where the site failed and did not refuse.
func (s *Source) Poll(ctx context.Context, from connector.Cursor, emit func(connector.Batch) error) error {
	at, err := s.start(from)
	if err != nil {
		return err
	}
	if string(from) != s.reached {
		clear(s.scans) // they are of another way
		s.reached = string(from)
	}
	var refused error // by emit
	p := &poll{Source: s, cursor: at, emit: func(b connector.Batch) error {
		refused = emit(b)
		if refused == nil && b.Cursor != nil {
			s.reached = string(b.Cursor)
		}
		return refused
	}}
	p.seeBoard(ctx)
	var broken []error
	var read []string // repositories
	first, all := s.turn, s.allRest()
	for k := range s.repos {
		turn := (first + k) % len(s.repos)
		repo := s.repos[turn]
		out := s.outageOf(repo)
		if out.rests() && !all {
			broken = append(broken, out.err)
			continue
		}
		p.came = false
		err := p.read(ctx, repo)
		switch {
		case refused != nil:
			return refused
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			*out = outage{}
			read = append(read, repo)
			continue
		case general(err):
			s.turn = turn // so that each has its turn, however tight a limit is
			return err
		}
		if p.came {
			*out = outage{} // it fails now and then, and the rest is read soon
		}
		out.failed(err, firstWait(err))
		broken = append(broken, err)
	}
	if len(read) == 0 {
		return errors.Join(broken...)
	}
	if err := p.retryMissing(ctx, read); err != nil {
		return cmp.Or(refused, ctx.Err(), err)
	}
	if err := errors.Join(append(broken, p.stillMissing(), s.board.outage.err)...); err != nil {
		return &connector.PartialError{Err: err}
	}
	return nil
}

// general reports whether an error is about more than one repository.
func general(err error) bool {
	_, limited := errors.AsType[*connector.RateLimitError](err)
	_, refused := errors.AsType[*connector.AuthError](err)
	return limited || refused && statusOf(err) != http.StatusForbidden || errors.Is(err, errNoAnswer)
}

// poll is one call of [Source.Poll].
type poll struct {
	*Source
	cursor *cursor
	emit   func(connector.Batch) error
	came   bool // further, since the repository at hand was begun
}

// read reads what is new in a repository.
func (p *poll) read(ctx context.Context, repo string) error {
	pos := p.cursor.Repos[repoID(repo)]
	sc := p.scans[repo]
	if sc == nil {
		sc = &scan{seen: newMemory(pos), walk: walk{from: pos.from(), next: pos.Next}}
		p.scans[repo] = sc
	}
	if err := p.refreshLabels(ctx, repo, sc, pos); err != nil {
		return err
	}
	for range maxPages {
		r, err := p.prepare(ctx, repo, sc, pos)
		if err != nil {
			return err
		}
		if end, err := p.finish(repo, sc, pos, r); end || err != nil {
			return err
		}
	}
	return fmt.Errorf("repository %s: its list has more than %d pages", repo, maxPages)
}

// prepare returns the page at the scan's place with everything that belongs to it.
func (p *poll) prepare(ctx context.Context, repo string, sc *scan, pos *position) (*reading, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r := sc.reading
	if r == nil || r.from != sc.walk.from || r.next != sc.walk.next {
		l, err := p.list(ctx, repo, &sc.walk)
		if err != nil {
			return nil, err
		}
		r = &reading{
			from: sc.walk.from, next: sc.walk.next, listing: l,
			histories: make(map[int64]*history), trouble: make(map[int64]int), parts: make(map[int64]*unfinished),
		}
		for k := range l.entries {
			e := &l.entries[k]
			if _, known := sc.seen[e.sum()]; known {
				continue
			}
			if e.PullRequest != nil {
				r.pulls = append(r.pulls, *e)
			} else {
				r.fresh = append(r.fresh, e)
			}
		}
		sc.reading = r
	}
	err := p.readTimelines(ctx, r, p.pathOf(repo), pos)
	if err == nil && !r.evident {
		r.evidence, r.moving, err = p.readEvidence(ctx, r.pulls, r.histories)
		r.evident = err == nil
		for _, is := range r.fresh {
			if r.histories[is.ID].transferred() {
				r.moving = append(r.moving, is.NodeID)
			}
		}
	}
	if err == nil && !r.traced {
		r.moved, err = p.askTransfers(ctx, r.moving)
		r.traced = err == nil
	}
	if err == nil && !r.boarded && p.hasBoard() && p.board.outage.err == nil && len(r.fresh) > 0 {
		r.board, err = p.boardHistory(ctx, deref(r.fresh))
		if r.boarded = err == nil; outOfSight(err) {
			p.forgetProject() // the next poll sees whether it is out of sight
		}
	}
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", repo, err)
	}
	return r, nil
}

func deref(list []*issue) []issue {
	all := make([]issue, len(list))
	for k, is := range list {
		all[k] = *is
	}
	return all
}

// readTimelines reads those timelines of a page that have not been read yet. One
// that fails again and again is noted as missing.
func (p *poll) readTimelines(ctx context.Context, r *reading, path string, pos *position) error {
	todo := slices.DeleteFunc(slices.Clone(r.fresh), func(is *issue) bool { return r.histories[is.ID] != nil })
	var (
		mu     sync.Mutex
		next   int
		group  sync.WaitGroup
		failed error // of any kind
		stop   bool
		tries  int // that failed
	)
	room := maxMissing - p.cursor.missing()
	for _, h := range r.histories {
		if h.missing {
			room--
		}
	}
	take := func() *issue {
		mu.Lock()
		defer mu.Unlock()
		if stop || tries >= maxTrouble || next == len(todo) {
			return nil
		}
		next++
		return todo[next-1]
	}
	// GitHub gives up on what takes it ten seconds: it is asked for less then.
	size := func(is *issue) int {
		mu.Lock()
		defer mu.Unlock()
		return max(maxPageSize>>r.trouble[is.ID], smallestPage)
	}
	for range min(readers, len(todo)) {
		group.Go(func() {
			for is := take(); is != nil; is = take() {
				mu.Lock()
				part := r.parts[is.ID]
				mu.Unlock()
				h, rest, err := p.readTimeline(ctx, path, is.Number, size(is), part)
				mu.Lock()
				r.parts[is.ID] = rest
				switch {
				case err == nil:
					r.histories[is.ID], p.came = h, true
				case !ofOne(ctx, err):
					failed, stop = err, true
				case rest != nil && (part == nil || rest.url != part.url):
					// It goes on from there.
					p.came = true
					if tries++; failed == nil {
						failed = aboutIssue(is.key(), err)
					}
				default:
					r.parts[is.ID] = nil // to be asked for less from the beginning
					r.trouble[is.ID]++
					known := slices.Contains(pos.Missing, is.Number)
					enough := r.trouble[is.ID] >= patience || statusOf(err) == http.StatusNotFound
					if known || enough && room > 0 {
						if r.histories[is.ID] = (&history{missing: true}); !known {
							room--
						}
					} else if tries++; failed == nil {
						failed = aboutIssue(is.key(), err)
					}
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return failed
}

// readEvidence returns what pull requests tell. Where the site has no better way
// to say it, the mentions in timelines are the evidence; which it is shows with
// the first pull request. It returns the node ids of the issues that they close as
// well.
func (s *Source) readEvidence(ctx context.Context, pulls []issue, histories map[int64]*history) (changes []flow.Change, closed []string, err error) {
	if len(pulls) == 0 && !s.evidenceKnown {
		for _, h := range histories {
			if pr := h.mentioned(); pr != nil {
				pulls = []issue{*pr}
				break
			}
		}
	}
	if len(pulls) == 0 {
		return nil, nil, nil
	}
	changes, closed, supported, err := s.pullEvidence(ctx, pulls)
	if err != nil {
		return nil, nil, err
	}
	if !supported && !s.mentions {
		s.logger.Info("pull requests are known from mentions only, for GraphQL does not tell of them")
	}
	s.evidenceKnown, s.mentions = true, !supported
	return changes, closed, nil
}

// finish turns a page into changes, emits them and takes the scan on. It reports
// whether that was the end.
func (p *poll) finish(repo string, sc *scan, pos *position, r *reading) (end bool, err error) {
	filled := p.cursor.filled()
	// The page counts as read only once the batch is taken: until then all that
	// changes is a copy.
	after, walk, seen := *pos, sc.walk.clone(), maps.Clone(sc.seen)
	batch := p.translate(repo, r, seen, &after)
	end = walk.advance(r.listing)
	room := max(maxSeen/len(p.repos), 4)
	after.advance(r, &walk, seen, end, min(p.pageSize/2, room))
	after.Seen = seen.encode(room)
	if next, err := p.client.base.Parse(after.Next); err != nil || !sameSite(next, p.client.base) {
		after.Next = "" // it is refused when it is followed, and no cursor holds it
	}
	p.cursor.Repos[repoID(repo)] = &after
	after.NoBoard = after.NoBoard || p.hasBoard() && !r.boarded && len(r.fresh) > 0
	batch.Cursor = p.cursor.encode()
	if !filled {
		batch.Progress = p.cursor.progress(r.reply.received)
	}
	if len(batch.Changes) > 0 || len(batch.Rejected) > 0 || string(batch.Cursor) != p.reached {
		if err := p.emit(batch); err != nil {
			return false, err
		}
	}
	p.countRejected(len(batch.Rejected))
	p.came = true
	*pos = after
	p.cursor.Repos[repoID(repo)] = pos
	sc.walk, sc.seen, sc.reading = walk, seen, nil
	return end, nil
}

// translate returns what a page tells and notes in seen which entries do not
// have to be read again.
func (p *poll) translate(repo string, r *reading, seen memory, pos *position) (batch connector.Batch) {
	for k := range r.entries {
		if _, known := seen[r.entries[k].sum()]; known {
			seen[r.entries[k].sum()] = r.entries[k].updated()
		}
	}
	note := func(is *issue, read time.Time) {
		if updated := is.updated(); read.Unix() > updated+settled {
			seen[is.sum()] = updated
		} else if pos.Unsure == 0 || updated < pos.Unsure {
			pos.Unsure = updated
		}
	}
	t := translator{titles: p.titles, pulls: p.mentions}
	for _, is := range r.fresh {
		h := r.histories[is.ID]
		if h.missing {
			pos.miss(is.Number)
			seen[is.sum()] = is.updated()
			continue
		}
		if pos.found(is.Number); h.gone {
			continue
		}
		h.nameFormer(r.moved[is.item()])
		batch.Changes = append(batch.Changes, t.changes(is, h.events)...)
		for _, bad := range h.refused {
			batch.Rejected = append(batch.Rejected, bad.rejection(is.key()))
		}
		note(is, h.read)
	}
	for k := range r.pulls {
		note(&r.pulls[k], r.reply.received)
	}
	for _, bad := range r.refused {
		if _, known := seen[bad.sum]; !known {
			batch.Rejected = append(batch.Rejected, bad.rejection(repo))
			seen[bad.sum] = max(r.newest(), r.from)
		}
	}
	settle(r.evidence, r.moved)
	settle(r.board, r.moved)
	batch.Changes = append(append(batch.Changes, r.evidence...), r.board...)
	return batch
}

// advance moves the position behind a page. The next scan lists at most so many
// entries again that were read already.
func (p *position) advance(r *reading, w *walk, seen memory, end bool, most int) {
	if !p.Filled {
		p.count(r)
	}
	if !end {
		p.At, p.Next = w.from, ""
		if len(w.next) <= maxLink {
			p.Next = w.next
		}
		seen.forget(w.from-overlap, false)
		return
	}
	now := r.reply.received.Unix()
	// A time ahead of the clock must not hide what comes before it.
	newest := min(w.from, now)
	since := newest - overlap
	if p.Unsure != 0 {
		since = min(since, p.Unsure)
	} else if now > newest+overlap {
		since = seen.uncrowded(since, newest, most)
	}
	p.Since, p.At, p.Next, p.Unsure, p.First = max(p.Since, since), 0, "", 0, 0
	p.Filled, p.Total = true, p.Done
	seen.forget(p.Since, true)
	*w = walk{from: p.Since}
}

// count notes how far the first scan has come.
func (p *position) count(r *reading) {
	news := len(r.fresh) + len(r.pulls)
	switch {
	case r.next != "":
	case r.reply.last > 0:
		p.Total = p.Done + r.reply.last*max(len(r.entries), 1) - (len(r.entries) - news)
	case r.reply.next == "":
		p.Total = p.Done + news
	default:
		p.Total = 0
	}
	p.Done += news
	if p.Total != 0 {
		p.Total = max(p.Total, p.Done)
	}
	if p.First == 0 && len(r.entries) > 0 {
		p.First = r.entries[0].updated()
	}
}

// filled reports whether the first scans of all repositories are complete.
func (c *cursor) filled() bool {
	for _, p := range c.Repos {
		if !p.Filled {
			return false
		}
	}
	return true
}

// progress tells how far the first scans have come: by numbers where the site
// told how many entries there are, pull requests among them, and else by time.
func (c *cursor) progress(now time.Time) connector.Progress {
	var all connector.Progress
	told := true
	for _, p := range c.Repos {
		all.Done += p.Done
		all.Total += p.Total
		switch {
		case p.Filled:
			all.Ratio++
		case p.Total > 0:
			all.Ratio += float64(p.Done) / float64(p.Total)
		default:
			told = false
			if span := now.Unix() - p.First; p.First > 0 && span > 0 {
				all.Ratio += float64(min(max(p.from()-p.First, 0), span)) / float64(span)
			}
		}
	}
	if told {
		all.Ratio = 0
		return all
	}
	all.Total = 0
	all.Ratio /= float64(len(c.Repos))
	return all
}
