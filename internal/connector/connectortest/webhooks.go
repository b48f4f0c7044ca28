package connectortest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"sync"
	"time"

	diff "github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// webhook compares what deliveries lead to with what polls tell.
func (k *kit) webhook() {
	k.start(time.UTC)
	k.create(0)
	s := k.source(Options{})
	receiver := s.(connector.Receiver)
	before := k.ok(k.poll(s, nil))
	hooked := &reading{facts: map[string]flow.Change{}}
	add := func(changes []flow.Change) {
		for _, p := range hooked.add(connector.Batch{Changes: changes}) {
			k.fail("%s", p)
		}
	}
	take := func(item string) {
		d := k.tracker.Deliver(item)
		notice, err := receiver.Receive(k.Context(), d.Header, d.Body)
		if err != nil {
			k.Fatalf("want Receive to accept what the tracker has signed, got %v", err)
		}
		if len(notice.Items)+len(notice.Changes) == 0 {
			k.fail("a delivery about item %s tells nothing: want its Notice to name the item or to hold the change", item)
		}
		add(notice.Changes)
		r := k.ok(k.read(k.Context(), nil, func(int) error { return nil }, func(ctx context.Context, emit func(connector.Batch) error) error {
			return receiver.Refetch(ctx, notice.Items, emit)
		}))
		for _, c := range r.cursors {
			if len(c) > 0 {
				k.fail("Refetch emits cursor %q: want batches without one, for it has read single items", c)
			}
		}
		add(r.changes)
	}
	item := k.create(0)
	take(item)
	for range 3 {
		k.move(item)
		take(item)
	}
	k.expect(k.union(before, hooked))
	k.expect(k.union(before, hooked, k.ok(k.poll(s, before.cursor)))) // with the same ids, or facts are told twice
	k.expect(k.union(k.all(Options{}), hooked))

	// A delivery may come at any time.
	d := k.tracker.Deliver(item)
	var group sync.WaitGroup
	group.Go(func() {
		for range 20 {
			if _, err := receiver.Receive(k.Context(), d.Header, d.Body); err != nil {
				k.Errorf("want Receive to succeed during a poll, got %v", err)
			}
		}
	})
	k.ok(k.poll(s, nil))
	group.Wait()
}

var digest = regexp.MustCompile(`^(?:sha256=)?[0-9a-f]{64}$`)

func (k *kit) signature() {
	k.start(time.UTC)
	item := k.create(0)
	k.move(item)
	receiver := k.source(Options{}).(connector.Receiver)
	good := k.tracker.Deliver(item)
	wrong := map[string]Delivery{
		"without headers":              {http.Header{}, good.Body},
		"with another body":            {good.Header, append(bytes.Clone(good.Body), ' ')},
		"without a body":               {good.Header, nil},
		"of a large body":              {good.Header, bytes.Repeat([]byte(" "), 4<<20)},
		"under another body's headers": {k.tracker.Sign([]byte("{}")).Header, good.Body},
		"without a signature":          {unsigned(good.Header), good.Body},
	}
	for key, values := range good.Header {
		for n, v := range values {
			if !digest.MatchString(v) {
				continue
			}
			for name, secret := range map[string]string{"the empty secret": "", "another secret": "another"} {
				mac := hmac.New(sha256.New, []byte(secret))
				mac.Write(good.Body)
				h := good.Header.Clone()
				h[key][n] = v[:len(v)-64] + hex.EncodeToString(mac.Sum(nil))
				wrong["signed with "+name] = Delivery{h, good.Body}
			}
			h := good.Header.Clone()
			h[key][n] = v[:len(v)-64]
			wrong["with an empty signature"] = Delivery{h, good.Body}
		}
	}
	for name, d := range wrong {
		notice, err := receiver.Receive(k.Context(), d.Header.Clone(), d.Body)
		if !errors.Is(err, connector.ErrSignature) || len(notice.Items)+len(notice.Changes) > 0 {
			k.fail("a delivery %s: want connector.ErrSignature and nothing else, got %+v and %v", name, notice, err)
		}
	}
}

// unsigned returns headers without those that hold a signature.
func unsigned(h http.Header) http.Header {
	left := h.Clone()
	for key, values := range h {
		if slices.ContainsFunc(values, digest.MatchString) {
			left.Del(key)
		}
	}
	return left
}

func (k *kit) strangeDeliveries() {
	k.start(time.UTC)
	item := k.create(0)
	k.move(item)
	receiver := k.source(Options{}).(connector.Receiver)
	receive := func(d Delivery) (connector.Notice, error) {
		return receiver.Receive(k.Context(), d.Header.Clone(), bytes.Clone(d.Body))
	}
	twice := func(what string) {
		d := k.tracker.Deliver(item)
		first, err := receive(d)
		second, again := receive(d)
		for _, n := range []connector.Notice{first, second} {
			for i := range n.Changes {
				c := &n.Changes[i]
				if c.ObservedAt = (time.Time{}); c.Approximate { // dated by its detection
					c.At = time.Time{}
				}
			}
		}
		if d := diff.Diff(first, second); d != "" || err != nil || again != nil {
			k.fail("a delivery about an item that was %s came twice: want the same notice, got %v and %v (-first +second):\n%s", what, err, again, d)
		}
	}
	twice("moved")
	if notice, err := receive(k.tracker.Ignored()); err != nil || len(notice.Items)+len(notice.Changes) > 0 {
		k.fail("a signed delivery of an event that does not matter: want a zero Notice and no error, got %+v and %v", notice, err)
	}
	for _, body := range []string{"", "{", "\x00", "null", "[]", "{}", `{"issue":7,"action":{}}`} {
		notice, err := receive(k.tracker.Sign([]byte(body)))
		if len(notice.Items)+len(notice.Changes) > 0 || err != nil && !errors.Is(err, connector.ErrDelivery) || err == nil && !json.Valid([]byte(body)) {
			k.fail("a signed delivery of %q: want connector.ErrDelivery and nothing else, got %+v and %v", body, notice, err)
		}
	}
	if k.has(Delete) {
		k.delete(item)
		twice("deleted")
	}
}
