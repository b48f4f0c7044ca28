package connectortest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A source reads a [fake], and is right where it is not broken.
type source struct {
	broken string
	client *http.Client
	size   int
	log    *slog.Logger
	zone   *time.Location
}

type place struct {
	V     int    `json:"v"`
	After string `json:"after"`          // place of the last item read
	Rows  int    `json:"rows,omitempty"` // for the one that counts
}

type itemAnswer struct {
	ID      int           `json:"id"`
	Project string        `json:"project"`
	Author  string        `json:"author"`
	Status  flow.Value    `json:"status"`
	Created string        `json:"created"`
	Updated int64         `json:"updated"`
	Gone    bool          `json:"gone"`
	Total   int           `json:"total"`
	History []entryAnswer `json:"history"`
}

type entryAnswer struct {
	ID    int        `json:"id"`
	At    string     `json:"at"`
	Field string     `json:"field"`
	From  flow.Value `json:"from"`
	To    flow.Value `json:"to"`
}

// Poll implements [connector.Source].
func (s *source) Poll(ctx context.Context, from connector.Cursor, emit func(connector.Batch) error) error {
	at := place{V: 1}
	if len(from) > 0 {
		at = place{}
		if err := json.Unmarshal(from, &at); (err != nil || at.V != 1) && s.broken != "takes any cursor" {
			return fmt.Errorf("%w: %q", connector.ErrCursor, from)
		}
	}
	if s.broken == "leaves a goroutine" {
		go func() { <-time.After(time.Minute) }()
	}
	if s.broken == "has nothing to tell and tells it" && len(from) > 0 {
		if err := emit(connector.Batch{Cursor: from}); err != nil {
			return err
		}
	}
	if s.broken == "ignores the context" {
		ctx = context.WithoutCancel(ctx)
	}
	next := fmt.Sprintf("%s/items?after=%s&limit=%d", site, at.After, cmp.Or(s.size, 100))
	for next != "" {
		if s.broken == "counts rows" {
			next = fmt.Sprintf("%s/items?offset=%d&limit=%d", site, at.Rows, cmp.Or(s.size, 100))
		}
		var items []itemAnswer
		header, err := s.get(ctx, next, &items)
		if err != nil {
			return err
		}
		if len(items) == 0 && s.broken == "takes an empty list for a failure" {
			return errors.New("the tracker has no items")
		}
		if s.broken == "drops the last row of a page" && len(items) > 0 {
			items = items[:len(items)-1]
		}
		batch, err := s.batch(ctx, items)
		if err != nil {
			return err
		}
		next = nextLink(header)
		if len(items) > 0 {
			last := items[len(items)-1]
			at.After = fmt.Sprintf("%d.%09d", last.Updated, last.ID)
			if next == "" && s.broken == "reads an overlap item by item" {
				at.After = strconv.FormatInt(last.Updated-3600, 10)
			} else if next == "" && s.broken != "takes a second for over" {
				at.After = strconv.FormatInt(last.Updated, 10) // that second again
			}
		}
		if at.Rows += len(items); s.broken == "counts rows" && len(items) < cmp.Or(s.size, 100) {
			next, at.Rows = "", max(0, at.Rows-cmp.Or(s.size, 100))
		}
		switch s.broken {
		case "moves the cursor to now":
			at.After = strconv.FormatInt(time.Now().Unix(), 10)
		case "moves the cursor to the end":
			at.After = "2"
		}
		batch.Cursor, _ = json.Marshal(at)
		if err := emit(batch); err != nil && s.broken != "swallows the error of emit" {
			return err
		} else if err != nil {
			return nil
		}
	}
	return nil
}

// nextLink follows where the tracker leads; whether it may is decided by get.
func nextLink(h http.Header) string {
	link, ok := strings.CutSuffix(strings.TrimPrefix(h.Get("Link"), "<"), `>; rel="next"`)
	if !ok {
		return ""
	}
	return link
}

func (s *source) batch(ctx context.Context, items []itemAnswer) (b connector.Batch, err error) {
	for _, i := range items {
		if s.broken == "reads an overlap item by item" || s.broken == "loses half a page at a limit" {
			if _, err := s.get(ctx, fmt.Sprintf("%s/items/%d", site, i.ID), &i); err != nil {
				return b, err
			}
		}
		changes, err := s.changes(ctx, i)
		if err != nil {
			return b, err
		}
		b.Changes = append(b.Changes, changes...)
	}
	return b, nil
}

func (s *source) changes(ctx context.Context, i itemAnswer) ([]flow.Change, error) {
	if err := s.readZone(ctx); err != nil {
		return nil, err
	}
	history := i.History
	if i.Total > len(history) && s.broken != "reads the newest histories only" {
		history = nil
		for len(history) < i.Total {
			var page []entryAnswer
			if _, err := s.get(ctx, fmt.Sprintf("%s/items/%d/history?offset=%d", site, i.ID, len(history)), &page); err != nil {
				return nil, err
			}
			if len(page) == 0 {
				return nil, errors.New("a history ends early")
			}
			history = append(history, page...)
		}
	}
	status, project := i.Status, i.Project
	for n := len(history) - 1; n >= 0; n-- {
		if e := history[n]; e.Field == "status" && s.broken != "takes the status of now for that of birth" {
			status = e.From
		} else if e.Field == "project" && s.broken != "takes the container of now for that of birth" {
			project = e.From.ID
		}
	}
	item := strconv.Itoa(i.ID)
	birth := flow.Change{
		ID: item + ":created", Item: item, Container: project, At: s.time(i.Created), Kind: flow.Created,
		Fields: []flow.FieldChange{{Field: flow.FieldStatus, To: status}},
	}
	if s.broken == "tells the author" {
		birth.Title = "by " + i.Author
	}
	all := []flow.Change{birth}
	if s.broken == "bears twice" {
		birth.ID = item + ":opened"
		all = append(all, birth)
	}
	for _, e := range history {
		c := flow.Change{
			ID: strconv.Itoa(e.ID), Item: item, Container: i.Project, At: s.time(e.At), Sequence: int64(e.ID), Kind: flow.Updated,
			Fields: []flow.FieldChange{{Field: flow.FieldStatus, From: e.From, To: e.To}},
		}
		if e.Field == "project" {
			c.Fields[0].Field = flow.FieldContainer
		}
		switch s.broken {
		case "makes new ids after a while":
			c.ID += time.Now().Format(".000000000")
		case "makes new ids":
			c.ID = fmt.Sprint(rand.Int64())
		case "loses the order within a second":
			c.ID, c.Sequence = fmt.Sprint(1_000_000-e.ID), 0
		case "makes ids of the names of now":
			c.ID += i.Status.Name
		case "tells no moves":
			if e.Field == "project" {
				continue
			}
		}
		all = append(all, c)
	}
	return all, nil
}

func (s *source) time(text string) time.Time {
	zone := s.zone
	if s.broken == "knows no zone" {
		zone = time.UTC
	}
	t, _ := time.ParseInLocation(naive, text, zone)
	return t.UTC()
}

func (s *source) readZone(ctx context.Context) error {
	if s.zone != nil {
		return nil
	}
	var me struct {
		Zone string `json:"zone"`
	}
	if _, err := s.get(ctx, site+"/me", &me); err != nil {
		return err
	}
	zone, err := time.LoadLocation(me.Zone)
	if err != nil || me.Zone == "" {
		return fmt.Errorf("the user has no zone: %w", err)
	}
	s.zone = zone
	return nil
}

func (s *source) get(ctx context.Context, url string, into any) (http.Header, error) {
	if !strings.HasPrefix(url, site+"/") && s.broken != "follows links anywhere" {
		return nil, errors.New("a link leads to another host")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+testToken)
	client := *s.client
	if s.broken != "follows redirects" {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	wait, limitErr := strconv.Atoi(resp.Header.Get("Retry-After"))
	limited := limitErr == nil && (resp.StatusCode == 429 || resp.StatusCode == 403 || resp.StatusCode == 503)
	failure := fmt.Errorf("GET %s: %s", r.URL.Path, resp.Status)
	switch {
	case limited && s.broken == "waits by itself":
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Duration(wait) * time.Second):
			return s.get(ctx, url, into)
		}
	case limited && s.broken == "tries again at once":
		for range 20 {
			if again, err := client.Do(r.Clone(ctx)); err == nil {
				again.Body.Close()
			}
		}
		fallthrough
	case limited && s.broken != "takes a limit for a failure":
		limit := &connector.RateLimitError{Until: time.Now().Add(time.Duration(wait) * time.Second), Err: failure}
		if s.broken == "does not read how long to wait" {
			limit.Until = time.Time{}
		}
		return nil, limit
	case resp.StatusCode == 401 && s.broken != "takes 401 for a failure":
		return nil, &connector.AuthError{Err: failure}
	case resp.StatusCode != http.StatusOK:
		text, _ := io.ReadAll(resp.Body)
		if s.broken == "repeats the answer in the error" {
			failure = fmt.Errorf("%w: %s", failure, text)
		}
		if s.broken == "logs the answer" {
			s.log.Debug("request failed", "answer", string(text))
		}
		return nil, failure
	}
	text, err := io.ReadAll(resp.Body)
	if s.broken == "panics on a web page" && bytes.HasPrefix(text, []byte("<")) {
		panic("unexpected <")
	}
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if s.broken == "takes half an answer" {
		err = nil
	}
	return resp.Header, err
}

// Check implements [connector.Checker].
func (s *source) Check(ctx context.Context) error { return s.readZone(ctx) }

// Census implements [connector.Censor].
func (s *source) Census(ctx context.Context, live func(connector.Item)) error {
	for next := site + "/items?limit=2"; next != ""; {
		var items []itemAnswer
		header, err := s.get(ctx, next, &items)
		if err != nil {
			return err
		}
		for _, i := range items {
			if !i.Gone && (s.broken != "lists open items only" || i.Status.Name != "Done") {
				live(connector.Item{ID: strconv.Itoa(i.ID), Container: i.Project, Status: i.Status})
			}
		}
		if next = nextLink(header); s.broken == "lists the first page only" {
			return nil
		}
	}
	return nil
}

// Receive implements [connector.Receiver].
func (s *source) Receive(_ context.Context, header http.Header, body []byte) (n connector.Notice, err error) {
	secret := testSecret
	if s.broken == "takes the empty secret as well" && header.Get("X-Signature") == signature("", body) {
		header = header.Clone()
		header.Set("X-Signature", signature(secret, body))
	}
	if !connector.Signed(secret, body, header.Get("X-Signature")) && s.broken != "takes any signature" {
		return n, connector.ErrSignature
	}
	if header.Get("X-Event") != "item" {
		if s.broken == "refuses unknown events" {
			return n, errors.New("unknown event")
		}
		return n, nil
	}
	var event struct {
		Event, Item, Project string
		At                   int64
	}
	if err := json.Unmarshal(body, &event); err != nil && s.broken == "takes a bad delivery for a failure" {
		return n, fmt.Errorf("decode delivery: %w", err)
	} else if err != nil || event.Item == "" {
		return n, fmt.Errorf("decode delivery: %w: %v", connector.ErrDelivery, err)
	}
	if event.Event != "deleted" {
		return connector.Notice{Items: []string{event.Item}}, nil
	}
	gone := flow.Change{
		ID: event.Item + ":deleted", Item: event.Item, Container: event.Project, At: time.Unix(event.At, 0).UTC(), Kind: flow.Deleted,
	}
	if s.broken == "makes ids of deliveries" {
		gone.ID += fmt.Sprint(rand.Int64())
	}
	return connector.Notice{Changes: []flow.Change{gone}}, nil
}

func signature(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// Refetch implements [connector.Receiver].
func (s *source) Refetch(ctx context.Context, items []string, emit func(connector.Batch) error) error {
	for _, id := range items {
		var i itemAnswer
		if _, err := s.get(ctx, site+"/items/"+id, &i); err != nil {
			return err
		}
		b, err := s.batch(ctx, []itemAnswer{i})
		if err != nil {
			return err
		}
		if s.broken == "gives other ids to what is fetched" {
			for n := range b.Changes {
				b.Changes[n].ID += ":hook"
			}
		}
		if err := emit(b); err != nil {
			return err
		}
	}
	return nil
}
