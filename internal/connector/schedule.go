package connector

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// The bounds of the pauses between polls.
const (
	minPause      = time.Second      // between any two polls
	maxBackoff    = 5 * time.Minute  // after temporary errors
	refusedPause  = 15 * time.Second // after refused credentials or configuration, at first
	maxRefused    = 5 * time.Minute  // and at most
	shortPause    = 15 * time.Second // up to which a limit is a part of the poll
	maxLimitPause = time.Hour        // whatever the tracker says
	maxPauses     = 20               // short ones in a row, without advancing
)

// A pause is the wait for the next poll. One that stands is ended by nothing: the
// tracker asked for it, or has failed, so that no webhook hurries it.
type pause struct {
	length time.Duration
	stands bool
}

// pause returns how long to wait after a poll.
func (r *Runner) pause(err error) pause {
	if err == nil || partial(err) {
		return pause{spread(r.cfg.PollInterval, 10), false}
	}
	return pause{max(minPause, r.delay(err, r.failures)), true}
}

// heed lengthens a pause where an error of something else than the poll says
// that the tracker wants no request.
func (p *pause) heed(r *Runner, err error) {
	if _, limited := errors.AsType[*RateLimitError](err); limited {
		*p = pause{max(p.length, r.delay(err, r.failures)), true}
	}
}

// delay returns how long to wait after an error, the last of so many in a row.
func (r *Runner) delay(err error, failures int) time.Duration {
	if limit, ok := errors.AsType[*RateLimitError](err); ok {
		switch wait := time.Until(limit.Until); {
		case limit.Until.IsZero():
			return backoff(failures + 2) // from 4s up: it does not say how long
		case wait > 0:
			return min(wait, maxLimitPause)
		}
		return backoff(failures) // the instant has passed, so it is no guide
	}
	_, auth := errors.AsType[*AuthError](err)
	_, config := errors.AsType[*ConfigError](err)
	if auth || config {
		return refusal(failures)
	}
	return backoff(failures)
}

// partial reports whether an error is about a part of the source alone.
func partial(err error) bool {
	_, ok := errors.AsType[*PartialError](err)
	return ok
}

// refusal returns the pause after so many refusals in a row: 15s, 1m, 4m and then
// five minutes, and up to a quarter more. A proxy or a site under maintenance refuses for a moment; a token
// that has expired does so until somebody comes.
func refusal(failures int) time.Duration {
	d := refusedPause
	for i := 1; i < failures && d < maxRefused; i++ {
		d *= 4
	}
	return spread(min(d, maxRefused), 4)
}

// paused reports whether an error is a short pause that the tracker asked for,
// after which the poll goes on. One that gets nowhere for long has failed.
func (r *Runner) paused(err error) bool {
	_, limited := errors.AsType[*RateLimitError](err)
	return limited && r.delay(err, r.failures) < shortPause && r.failures <= maxPauses
}

// backoff returns the pause after so many failures in a row: 1s, 2s, 4s up to
// five minutes, and up to a quarter more.
func backoff(failures int) time.Duration {
	d := minPause
	for i := 1; i < failures && d < maxBackoff; i++ {
		d *= 2
	}
	return spread(min(d, maxBackoff), 4)
}

// spread lengthens d at random by up to one part of so many, so that sources
// that began together do not stay in step.
func spread(d time.Duration, parts int64) time.Duration {
	return d + rand.N(d/time.Duration(parts)+1)
}

// sleep waits for d and reports whether ctx still lasts.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
