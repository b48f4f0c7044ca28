// Package connectortest is the conformance kit of connectors: [Run] holds a
// [connector.Source] against a tracker that the test drives, in the manner of
// testing/fstest.
//
// A connector's own test fills in a [Harness]: how to make the source, and how
// to make things happen in the tracker, which may be a fake or a real server.
// The kit writes the script, reads what the source tells of it, from everywhere
// and under every failure, and compares. A failure says what was wanted, what
// came, and what the usual cause is.
//
//   - connectortest.go: the harness and the list of cases;
//   - script.go: making things happen, and what is to be told of them;
//   - reading.go: one poll and what it told;
//   - wire.go: failures between a source and its tracker;
//   - history.go, resume.go, failures.go, secrets.go, webhooks.go: the cases.
package connectortest

import (
	"log/slog"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A Harness is a kind of tracker that can be driven, with the source that reads
// it.
type Harness struct {
	// Start returns a tracker without items: a new fake, or a new project of a
	// server that other cases use as well, where ids need not begin at 1. It is
	// called once or more for each case and cleans up with t.Cleanup.
	// The zone is that of the user whom the tracker shows times to, if it can.
	Start func(t testing.TB, zone *time.Location) *Tracker

	// Statuses are at least two statuses as the source tells them, with id and
	// category where it tells those: the first not started, the last done.
	Statuses []flow.Value
	// Field is what a status is to this tracker; 0: [flow.FieldStatus].
	Field flow.Field

	// Live says that the tracker dates what happens by its own clock, as a real
	// server does. Otherwise it takes the instants that it is given.
	Live bool
	// Precision is that of the tracker's times, at most a second; 0: exact.
	Precision time.Duration
	// PageSize is the smallest page that the source can be made to read; 0: 1.
	PageSize int

	// Token is what the sources sign in with. It must never be told.
	Token string
	// Private is what must not be told either: the webhook secret, and the names
	// and addresses of the people whom the tracker shows.
	Private []string
	// OldCursors are cursors that earlier versions of the connector stored.
	OldCursors []connector.Cursor

	// Without says why an ability is missing. Nothing is left out in silence.
	Without map[Ability]string

	patience time.Duration // for a poll; 0: [patience]
}

// An Ability is something that not every tracker, or driver, has.
type Ability string

// The abilities that may be missing, with a reason in [Harness.Without].
const (
	HTTP     Ability = "http"     // the source speaks HTTP and sends its requests through [Options.Wrap]
	Token    Ability = "token"    // the source signs in: [Harness.Token]
	Births   Ability = "births"   // an item can begin in any status, not only in the first
	Relocate Ability = "relocate" // items move between containers: [Tracker.Relocate]
	Rename   Ability = "rename"   // statuses can be renamed: [Tracker.RenameStatus]
	Delete   Ability = "delete"   // items can be deleted, and a census shows it: [Tracker.Delete]
	Zones    Ability = "zones"    // times are shown in the user's zone: [Tracker.Zone]
	People   Ability = "people"   // the tracker's answers show people: [Harness.Private]
	Webhooks Ability = "webhooks" // the tracker calls: [Tracker.Deliver], [Tracker.Sign], [Tracker.Ignored]
)

// A Tracker is one tracker with a driver. Its functions end the test where they
// fail. The instants are of whole seconds and never go back. A fake that tells the
// time in its answers (Date) tells the newest of them: nothing happens long ago.
type Tracker struct {
	// New returns a source that remembers nothing, as after a restart.
	New func(o Options) connector.Source
	// Zone is what times are shown in: the one that Start was given.
	Zone *time.Location

	// Create makes an item and returns the id that the source is to tell.
	Create func(at time.Time, status flow.Value) (item string)
	// Move gives an item another status.
	Move func(at time.Time, item string, status flow.Value)
	// Relocate moves an item to another container and returns both.
	Relocate func(at time.Time, item string) (from, to string)
	// RenameStatus renames a status, which keeps its id, and returns it as it is
	// told from then on. It is called once for a tracker.
	RenameStatus func(status flow.Value) flow.Value
	// Delete removes an item. The tracker may keep its history, as event feeds do.
	Delete func(at time.Time, item string)

	// Deliver returns what the tracker sends about the newest thing that happened
	// to an item.
	Deliver func(item string) Delivery
	// Sign returns a delivery of any body under the right secret, of an event that
	// the source reads where a header names the event.
	Sign func(body []byte) Delivery
	// Ignored returns a delivery of an event that does not matter to the source.
	Ignored func() Delivery
}

// A Delivery is one call of a webhook.
type Delivery struct {
	Header http.Header
	Body   []byte
}

// Options are what the kit wants of a source.
type Options struct {
	// PageSize is how many items, and where possible histories, to ask for at a
	// time; 0: as many as the source likes. Where the source has no setting for
	// it, a transport of the test can write it into the requests instead, as
	// query.Set("limit", ...).
	PageSize int
	// Wrap puts the kit between the source and the tracker. It is never nil: a
	// harness writes Transport: o.Wrap(http.DefaultTransport).
	Wrap func(http.RoundTripper) http.RoundTripper
	// Logger is for sources that log.
	Logger *slog.Logger
}

// A promise is one that all connectors make, tried by a case of its own.
type promise struct {
	name  string
	cause string    // why it is usually broken
	needs []Ability // it is left out where one of these is missing
	run   func(*kit)
}

var cases = []promise{
	{name: "harness", run: (*kit).harness, cause: "the harness is not complete yet: read the documentation of connectortest.Harness"},
	{name: "backfill", run: (*kit).backfill, cause: "Poll does not read every item with its complete history, or the translation of a history entry is wrong"},
	{name: "empty", run: (*kit).empty, cause: "an empty list was taken for a failure, or its end is not seen"},
	{name: "reread", run: (*kit).reread, cause: "ids or contents are made of the time of reading, of a counter or of the order of reading; make them of the tracker's own ids"},
	{name: "increment", run: (*kit).increment, cause: "the cursor was moved beyond what was read: to the time of the poll, say, and not to the newest update that was seen"},
	{name: "idle", run: (*kit).idle, cause: "what an overlap lists again is read again item by item although its time of update has not changed, or emit is called with nothing to tell: note in the cursor what was read, and call emit only for new facts or another cursor"},
	{name: "resume", run: (*kit).resume, cause: "a batch carries a cursor that stands for more than the batches so far"},
	{name: "emit error", run: (*kit).emitError, cause: "the error of emit is not returned at once"},
	{name: "cancel", run: (*kit).cancel, cause: "a request is made without the context of Poll, an error of the context is taken for another, or a goroutine is not waited for"},
	{name: "one second", run: (*kit).oneSecond, cause: "Sequence is not set to the tracker's own order: the number of the history entry, or its place in a history that only grows"},
	{name: "change while paging", run: (*kit).changeWhilePaging, cause: "rows move up while pages are counted: go on from the newest update seen, with an overlap, and not by row number"},
	{name: "page size one", run: (*kit).pageSizeOne, cause: "the last row of a page, or a page with a single row, is dropped"},
	{name: "long history", run: (*kit).longHistory, cause: "histories come in pages as well, and only the first or the newest page was read"},
	{name: "rate limit", run: (*kit).rateLimit, needs: []Ability{HTTP}, cause: "429, and 403 or 503 with Retry-After, must become a *connector.RateLimitError with Until at once: Poll never waits and never retries"},
	{name: "tight limit", run: (*kit).tightLimit, needs: []Ability{HTTP}, cause: "what was read of a page is lost with the error that ends it: emit it first, with a cursor that stands for that, or keep it in the source for the next call"},
	{name: "credentials", run: (*kit).credentials, needs: []Ability{HTTP}, cause: "401 must become a *connector.AuthError, without another try"},
	{name: "broken answers", run: (*kit).brokenAnswers, needs: []Ability{HTTP}, cause: "an answer is used without a look at its status, type, end or shape"},
	{name: "webhook", run: (*kit).webhook, needs: []Ability{Webhooks}, cause: "a notice must name the item, so that it is read again like in a poll and gets the same ids"},
	{name: "webhook signature", run: (*kit).signature, needs: []Ability{Webhooks}, cause: "the signature must be compared over the raw body, by connector.Signed, before anything else is done"},
	{name: "webhook repeated or unknown", run: (*kit).strangeDeliveries, needs: []Ability{Webhooks}, cause: "an event that does not matter is a zero Notice without an error, what cannot be read is an error that wraps connector.ErrDelivery, and an id never depends on the delivery"},
	{name: "moved item", run: (*kit).moved, needs: []Ability{Relocate}, cause: "a move is one fact with the field CONTAINER, the item keeps its id, and CREATED names the first container"},
	{name: "renamed status", run: (*kit).renamed, needs: []Ability{Rename}, cause: "ids or the comparison of statuses depend on names"},
	{name: "deleted item", run: (*kit).deleted, needs: []Ability{Delete}, cause: "the census does not page to its end, lists closed items not at all, or lists what is gone"},
	{name: "zones", run: (*kit).zones, needs: []Ability{Zones}, cause: "a time without an offset was written or read in another zone than the tracker's"},
	{name: "cursors", run: (*kit).cursors, cause: "Poll must return an error that wraps connector.ErrCursor where a cursor is not one of its own version"},
	{name: "secrets", run: (*kit).secrets, needs: []Ability{HTTP, Token}, cause: "an error repeats an answer, a URL or a header: redact it first"},
	{name: "people", needs: []Ability{People}, run: (*kit).people, cause: "a person's name or address was translated; nothing about people enters a change"},
	{name: "foreign host", run: (*kit).foreignHost, needs: []Ability{HTTP}, cause: "a link or redirect from an answer is followed without comparing its scheme and host to the configured ones (http.Client.CheckRedirect, for one)"},
}

// basics is how many of the cases the others build upon.
const basics = 2

// Run tries a source against all promises of the contract, each in a subtest of
// its own. Where one of the first does not hold, the others are not tried: they
// would say the same.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for n, c := range cases {
		if !t.Run(c.name, func(t *testing.T) { c.try(t, &h) }) && n < basics {
			t.Errorf("the case %q comes first: the %d cases after it are tried once it passes", c.name, len(cases)-n-1)
			return
		}
	}
}

// try runs the case, or says why not.
func (c promise) try(t testing.TB, h *Harness) {
	t.Helper()
	for _, a := range c.needs {
		if reason := h.Without[a]; reason != "" {
			t.Logf("without %s: %s", a, reason)
			return
		}
	}
	if h.Start == nil || len(h.Statuses) < 2 {
		t.Fatal("Harness.Start and at least two Harness.Statuses are needed: without them nothing can be driven")
	}
	c.run(&kit{TB: t, h: h, cause: c.cause})
}

// harness checks that nothing is left out without a reason.
func (k *kit) harness() {
	k.start(time.UTC)
	source := k.source(Options{})
	_, receiver := source.(connector.Receiver)
	_, censor := source.(connector.Censor)
	r := k.poll(source, nil)
	if r.err != nil {
		k.Errorf("want the first poll of a tracker without items to succeed, got %v: let the fake, or the server, answer what the source asks for", r.err)
	}
	for _, x := range []struct {
		ability Ability
		has     bool
		todo    string
	}{
		{HTTP, k.wire.count() > 0, "send the source's requests through Options.Wrap"},
		{People, len(k.h.Private) > 0, "set Harness.Private to the names and addresses that the tracker shows"},
		{Token, k.h.Token != "", "set Harness.Token to what the sources sign in with"},
		{Zones, k.tracker.Zone == time.UTC, "set Tracker.Zone and show times in it"},
		{Relocate, k.tracker.Relocate != nil, "set Tracker.Relocate"},
		{Rename, k.tracker.RenameStatus != nil, "set Tracker.RenameStatus"},
		{Delete, k.tracker.Delete != nil && censor, "set Tracker.Delete and let the source implement connector.Censor"},
		{Webhooks, k.tracker.Deliver != nil && k.tracker.Sign != nil && k.tracker.Ignored != nil && receiver,
			"set Tracker.Deliver, Sign and Ignored and let the source implement connector.Receiver"},
	} {
		reason := k.h.Without[x.ability]
		if !x.has && reason == "" {
			k.Errorf("the ability %q is missing without a reason: %s, or say in Harness.Without why there is none", x.ability, x.todo)
		}
		if x.has && reason != "" {
			k.Errorf("the ability %q is there, so that Harness.Without must not give a reason (%q)", x.ability, reason)
		}
	}
	for a := range k.h.Without {
		if !slices.Contains([]Ability{HTTP, Token, Births, Relocate, Rename, Delete, Zones, People, Webhooks}, a) {
			k.Errorf("Harness.Without names %q, which is no ability", a)
		}
	}
}

func (h *Harness) pageSize() int { return max(1, h.PageSize) }

func (h *Harness) field() flow.Field {
	if h.Field == flow.FieldUnknown {
		return flow.FieldStatus
	}
	return h.Field
}
