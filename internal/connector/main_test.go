package connector_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// golden compares got with a file of testdata, or rewrites that.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", path, got, want)
	}
}

// change returns the n-th fact of a source in a test.
func change(n int) flow.Change {
	return flow.Change{
		ID:        strconv.Itoa(n),
		Container: "PAY",
		Item:      fmt.Sprintf("item-%d", n%7),
		At:        time.Date(2026, 6, 1, 0, 0, n, 0, time.UTC),
		Kind:      flow.Updated,
	}
}

// changes returns the facts from up to, not including, to.
func changes(from, to int) []flow.Change {
	var cs []flow.Change
	for n := from; n < to; n++ {
		cs = append(cs, change(n))
	}
	return cs
}

// sourceFunc is a Source made of a function.
type sourceFunc func(ctx context.Context, from connector.Cursor, emit func(connector.Batch) error) error

func (f sourceFunc) Poll(ctx context.Context, from connector.Cursor, emit func(connector.Batch) error) error {
	return f(ctx, from, emit)
}

// memory is a log, its facts and the cursors, all in memory. A hook that is set
// may fail a call, before or after it takes effect.
type memory struct {
	mu        sync.Mutex
	published []flow.Change
	sources   []string // of each call of Publish
	known     map[string]bool
	cursors   map[string][]byte
	revisions map[string]uint64
	present   map[string]string
	absent    map[string]string
	statuses  map[string]known

	onPublish func(changes []flow.Change) (durable int, err error)
	onStore   func(cursor []byte) error
	onLoad    func() error
}

// known is the status that the log knows of an item, and since when.
type known struct {
	status flow.Value
	at     time.Time
}

func newMemory() *memory {
	return &memory{
		known: map[string]bool{}, cursors: map[string][]byte{}, revisions: map[string]uint64{},
		present: map[string]string{}, absent: map[string]string{}, statuses: map[string]known{},
	}
}

func (m *memory) Publish(ctx context.Context, source string, cs []flow.Change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	durable, err := len(cs), error(nil)
	if m.onPublish != nil {
		durable, err = m.onPublish(cs)
	}
	m.sources = append(m.sources, source)
	m.published = append(m.published, slices.Clone(cs[:durable])...)
	if err == nil {
		err = ctx.Err()
	}
	return err
}

func (m *memory) LoadCursor(ctx context.Context, source string) ([]byte, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.onLoad != nil {
		if err := m.onLoad(); err != nil {
			return nil, 0, err
		}
	}
	return m.cursors[source], m.revisions[source], ctx.Err()
}

func (m *memory) StoreCursor(_ context.Context, source string, cursor []byte, revision uint64) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.revisions[source] != revision {
		return 0, fmt.Errorf("revision %d: %w", revision, connector.ErrStale)
	}
	if m.onStore != nil {
		if err := m.onStore(cursor); err != nil {
			return 0, err
		}
	}
	m.cursors[source] = slices.Clone(cursor)
	m.revisions[source]++
	return m.revisions[source], nil
}

func (m *memory) Known(source, id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[source+"/"+id]
}

func (m *memory) Present(_ string, f func(item, key, container string) bool) { each(m.present, f) }
func (m *memory) Absent(_ string, f func(item, key, container string) bool)  { each(m.absent, f) }

// Status returns what a test has said of an item; others have none.
func (m *memory) Status(_, item string) (flow.Value, time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.statuses[item]
	return s.status, s.at, ok
}

// each tells of items whose keys are their ids behind a mark.
func each(items map[string]string, f func(item, key, container string) bool) {
	for item, container := range items {
		if !f(item, "#"+item, container) {
			return
		}
	}
}

// ids returns the ids of what was published, in order.
func (m *memory) ids() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []string
	for _, c := range m.published {
		ids = append(ids, c.ID)
	}
	return ids
}

// config returns a configuration on the memory.
func (m *memory) config(source connector.Source) connector.Config {
	return connector.Config{Name: "tracker", Source: source, PollInterval: time.Minute, Publisher: m, Cursors: m, Facts: m}
}

// run runs a Runner inside a bubble for a time.
func run(t *testing.T, r *connector.Runner, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := r.Run(ctx); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// textLog returns a logger whose lines have no time.
func textLog(w *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && len(groups) == 0 {
			return slog.Attr{}
		}
		return a
	}}))
}

var errBroken = errors.New("broken")
