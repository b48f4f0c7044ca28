package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/exporter"
)

const (
	requestSamples = 10_000 // in a request, at most
	requestTimeout = time.Minute
	requestTries   = 8 // of one request, over about two minutes
	firstPause     = time.Second
	longestPause   = 30 * time.Second
	longestAsked   = 5 * time.Minute // that a server's Retry-After is heeded for
	stateEvery     = time.Second     // how long what was sent may be unknown to the state
)

// The environment variables that hold the credentials.
const (
	passwordVariable = "FLOWMETRICS_REMOTE_WRITE_PASSWORD"
	tokenVariable    = "FLOWMETRICS_REMOTE_WRITE_TOKEN"
)

// A remoteWriter sends requests to a receiver of Prometheus' remote write 1.0.
type remoteWriter struct {
	client   *http.Client
	address  *url.URL
	username string
	secret   string    // the password, or the bearer token where there is no user
	from     time.Time // of the history
	out      *historyProgress
}

// sender returns the writer that the flags ask for.
func (c *historyCmd) sender() (*remoteWriter, error) {
	u, err := url.Parse(c.RemoteWrite)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https"):
		return nil, errors.New("--remote-write: not an address, want http://HOST:PORT/api/v1/write") // what was given may hold a password
	case u.User != nil:
		return nil, fmt.Errorf("--remote-write: other users of the machine see what is on a command line: give the user as --username and the password in %s", passwordVariable)
	}
	w := &remoteWriter{
		address: u, username: c.Username,
		// A redirect is not followed: the credentials are for nobody else.
		client: &http.Client{Timeout: requestTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}
	var secret config.Secret
	switch {
	case c.PasswordFile != "":
		secret = config.SecretFile(c.PasswordFile)
	case c.Username != "":
		secret = config.SecretEnv(passwordVariable)
	case c.TokenFile != "":
		secret = config.SecretFile(c.TokenFile)
	case os.Getenv(tokenVariable) != "":
		secret = config.SecretEnv(tokenVariable)
	default:
		return w, nil
	}
	w.secret, err = secret.Read()
	return w, err
}

// sendPart sends what the journal does not know to be sent of a part that has so
// many instants, and notes how far it has come also where it fails.
func (w *remoteWriter) sendPart(ctx context.Context, p *exporter.Part, instants int, j *historyJournal) error {
	before, _ := j.of(p.Range)
	part := finished(p, "")
	noted, samples, shown := time.Now(), 0, 0
	for body, n := range p.WriteRequests(requestSamples) {
		var err error
		if part.Requests >= before.Requests {
			err = w.send(ctx, body)
		}
		if err == nil {
			part.Requests++
			samples += n
			w.out.advance(instants*samples/p.Samples() - shown)
			shown = instants * samples / p.Samples()
		}
		if part.Requests > 0 && (err != nil || time.Since(noted) > stateEvery) {
			noted = time.Now()
			err = errors.Join(err, j.add(part))
		}
		if err != nil {
			return err
		}
	}
	w.out.advance(instants - shown) // of a part without samples
	part.Requests = 0
	return j.add(part)
}

// send sends a request until it is taken. What may pass, a server that is busy or
// away, is tried again for about two minutes; everything else is an error at once.
func (w *remoteWriter) send(ctx context.Context, body []byte) error {
	pause := firstPause
	for try := 1; ; try++ {
		wait, err := w.try(ctx, body)
		if err == nil {
			return nil
		}
		if wait < 0 || try == requestTries {
			return fmt.Errorf("remote write: %w", err)
		}
		wait = max(wait, pause)
		pause = min(2*pause, longestPause)
		fmt.Fprintf(w.out, "remote write: %v; trying again in %s\n", err, wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// try sends a request once. Where it fails, wait is how long the server wants to
// be left alone, and below 0 where another try would fail as well.
func (w *remoteWriter) try(ctx context.Context, body []byte) (wait time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.address.String(), bytes.NewReader(body))
	if err != nil {
		return -1, fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("User-Agent", "flowmetrics/"+Version)
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	switch {
	case w.username != "":
		req.SetBasicAuth(w.username, w.secret)
	case w.secret != "":
		req.Header.Set("Authorization", "Bearer "+w.secret)
	}
	resp, err := w.client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return -1, ctx.Err()
		}
		return 0, err
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // whatever it says of a failure
	_ = resp.Body.Close()                                  // it was read
	if resp.StatusCode/100 == 2 {
		return 0, nil
	}
	said, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	err = fmt.Errorf("%s answers %s: %s", w.address.Host, resp.Status, strings.ToValidUTF8(said, "?"))
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode/100 == 5 {
		return retryAfter(resp.Header), err
	}
	if hint := w.advice(resp.StatusCode, said); hint != "" {
		err = fmt.Errorf("%w\n%s", err, hint)
	}
	return -1, err
}

// retryAfter returns how long a server wants to be left alone.
func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
		return min(time.Duration(min(seconds, math.MaxInt32))*time.Second, longestAsked)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(0, time.Until(at)), longestAsked)
	}
	return 0
}

// advice says what to do about a refusal that has one well-known reason.
func (w *remoteWriter) advice(status int, said string) string {
	said = strings.ToLower(said)
	for _, old := range []string{"out of bounds", "out of order", "out-of-order", "too old", "too far in the past"} {
		if strings.Contains(said, old) {
			days := int(time.Since(w.from).Hours()/24) + 2
			return fmt.Sprintf("Prometheus takes samples of the past only while its configuration says so:\n"+
				"  storage:\n    tsdb:\n      out_of_order_time_window: %dd\n"+
				"Set that, let it reload, and run the same command again.", days)
		}
	}
	switch {
	case strings.Contains(said, "remote-write-receiver") || status == http.StatusNotFound:
		return "Prometheus receives with the flag --web.enable-remote-write-receiver, at the path /api/v1/write."
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return "It wants other credentials: --username with " + passwordVariable + " or --password-file, or a token in " + tokenVariable + " or --token-file."
	}
	return ""
}
