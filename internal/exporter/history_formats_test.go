package exporter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// somePart is a part of a busy world over more than one batch of chunks.
func somePart(t testing.TB) *Part {
	t.Helper()
	h := newHistory(t, HistoryConfig{Policy: worldPolicy(2), Ledger: world(11, 2, 3, 4), Step: 20 * time.Minute})
	return evaluate(t, h, Range{worldEnd.Add(-60 * hour), worldEnd})
}

func openMetrics(t testing.TB, p *Part) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := p.WriteOpenMetrics(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// parsed reads OpenMetrics with timestamps.
func parsed(t testing.TB, text []byte) content {
	t.Helper()
	c := content{}
	families := map[string]bool{}
	parser := textparse.NewOpenMetricsParser(text, labels.NewSymbolTable())
	for family := ""; ; {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return c
		}
		if err != nil {
			t.Fatal(err)
		}
		switch entry {
		case textparse.EntryType:
			name, _ := parser.Type()
			if string(name) <= family || families[string(name)] {
				t.Errorf("family %s after %s", name, family)
			}
			family = string(name)
			families[family] = true
		case textparse.EntrySeries:
			series, at, v := parser.Series()
			if at == nil || !strings.HasPrefix(string(series), family) {
				t.Fatalf("%s of %s at %v", series, family, at)
			}
			var ls labels.Labels
			parser.Labels(&ls)
			c.add(ls.String(), *at, v)
		}
	}
}

func TestOpenMetrics(t *testing.T) {
	p := somePart(t)
	text := openMetrics(t, p)
	compare(t, contentOf(t, p), parsed(t, text))
	// The samples of a series are together.
	seen := map[string]bool{}
	last := ""
	for line := range strings.Lines(string(text)) {
		if line[0] == '#' {
			continue
		}
		series := line[:strings.LastIndexByte(line, '}')]
		if series != last && seen[series] {
			t.Fatalf("%s is in two pieces", series)
		}
		last, seen[series] = series, true
	}
}

// TestOpenMetricsGolden is the text of a world that can be read at a glance: an
// item is started, and done a day later.
func TestOpenMetricsGolden(t *testing.T) {
	l := flow.NewLedger()
	for i, c := range []flow.Change{
		{At: worldEnd.Add(-36 * hour), Kind: flow.Created, Fields: []flow.FieldChange{
			{Field: flow.FieldStatus, To: flow.Value{Name: "In Progress", Category: "indeterminate"}}, {Field: flow.FieldType, To: flow.Value{Name: "Story"}},
		}},
		{At: worldEnd.Add(-12 * hour), Kind: flow.Updated, Fields: []flow.FieldChange{{Field: flow.FieldStatus, To: flow.Value{Name: "Done", Category: "done"}}}},
	} {
		c.Source, c.Container, c.Item, c.ID = "jira", "P0", "1", strconv.Itoa(i)
		l.Add(&c)
	}
	h := newHistory(t, HistoryConfig{
		Policy: worldPolicy(1), Ledger: l, Step: day,
		Metrics: regexp.MustCompile("^(flow_(time_p50_seconds|time_seconds|load_items|load_oldest.*|load_average.*|items_completed_total|value_stream_info)|flowmetrics_unmapped.*)$"),
	})
	golden(t, "testdata/history.om", openMetrics(t, evaluate(t, h, Range{worldEnd.Add(-day), worldEnd.Add(time.Second)})))
}

// failing fails after so many bytes.
type failing struct{ left int }

var errFull = errors.New("disk full")

func (f *failing) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, errFull
	}
	return len(b), nil
}

func TestOpenMetricsFails(t *testing.T) {
	p := somePart(t)
	n := len(openMetrics(t, p))
	for _, left := range []int{0, writeSize, n - 1} {
		if err := p.WriteOpenMetrics(&failing{left}); !errors.Is(err, errFull) {
			t.Errorf("%d of %d bytes: %v", left, n, err)
		}
	}
	if err := p.WriteOpenMetrics(&failing{n}); err != nil {
		t.Error(err)
	}
}

// readBlock reads a block's series as Prometheus does.
func readBlock(t testing.TB, dir string) content {
	t.Helper()
	ix, err := index.NewFileReader(filepath.Join(dir, "index"), index.DecodePostingsRaw)
	if err != nil {
		t.Fatal(err)
	}
	defer ix.Close()
	data, err := chunks.NewDirReader(filepath.Join(dir, "chunks"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	name, value := index.AllPostingsKey()
	postings, err := ix.Postings(context.Background(), name, value)
	if err != nil {
		t.Fatal(err)
	}
	c := content{}
	var last labels.Labels
	for postings.Next() {
		var builder labels.ScratchBuilder
		var metas []chunks.Meta
		if err := ix.Series(postings.At(), &builder, &metas); err != nil {
			t.Fatal(err)
		}
		ls := builder.Labels()
		if labels.Compare(last, ls) >= 0 {
			t.Fatalf("%s after %s", ls, last)
		}
		last = ls
		for _, m := range metas {
			xor, _, err := data.ChunkOrIterable(m)
			if err != nil {
				t.Fatal(err)
			}
			if n := xor.NumSamples(); n > chunkSamples {
				t.Errorf("a chunk of %d samples", n)
			}
			for it := xor.Iterator(nil); it.Next() == chunkenc.ValFloat; {
				at, v := it.At()
				if at < m.MinTime || at > m.MaxTime {
					t.Fatalf("%d is not in [%d, %d]", at, m.MinTime, m.MaxTime)
				}
				c.add(ls.String(), at, v)
			}
		}
	}
	if err := postings.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBlock(t *testing.T) {
	p := somePart(t)
	dir := t.TempDir()
	name, err := p.WriteBlock(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := contentOf(t, p)
	compare(t, want, readBlock(t, filepath.Join(dir, name)))
	raw, err := os.ReadFile(filepath.Join(dir, name, "meta.json"))
	if err != nil {
		t.Fatal(err)
	}
	var meta blockMeta
	if err := json.Unmarshal(raw, &meta); err != nil {
		t.Fatal(err)
	}
	first, last := p.Range.From.UnixMilli(), p.Range.To.Add(-20*time.Minute).UnixMilli()
	if meta.ULID.String() != name || meta.MinTime != first || meta.MaxTime != last+1 || meta.Version != 1 || meta.Compaction.Level != 1 ||
		len(meta.Compaction.Sources) != 1 || meta.Compaction.Sources[0] != meta.ULID ||
		meta.Stats.Samples != p.Samples() || meta.Stats.Series != p.Series() || meta.Stats.Chunks == 0 {
		t.Errorf("meta.json: %s", raw)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("beside the block: %v %v", entries, err)
	}
	if files, err := os.ReadDir(filepath.Join(dir, name, "chunks")); err != nil || len(files) != 1 {
		t.Errorf("chunks in %v: %v", files, err)
	}
}

// TestBlockFails: what cannot be written leaves nothing behind.
func TestBlockFails(t *testing.T) {
	p := somePart(t)
	dir := filepath.Join(t.TempDir(), "absent")
	if name, err := p.WriteBlock(dir); name != "" || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%q: %v", name, err)
	}
	empty := evaluate(t, newHistory(t, HistoryConfig{Policy: worldPolicy(1), Ledger: world(1, 1, 1, 1)}), Range{worldEnd, worldEnd})
	dir = t.TempDir()
	name, err := empty.WriteBlock(dir)
	if entries, _ := os.ReadDir(dir); name != "" || err != nil || len(entries) != 0 {
		t.Errorf("a block %q of nothing: %v, %v", name, err, entries)
	}
	if text := openMetrics(t, empty); string(text) != "# EOF\n" {
		t.Errorf("text of nothing: %s", text)
	}
	for range empty.WriteRequests(10) {
		t.Error("a request of nothing")
	}
}

func promtool(t testing.TB, args ...string) string {
	t.Helper()
	tool := os.Getenv("FLOWMETRICS_PROMTOOL")
	if tool == "" {
		t.Fatal("FLOWMETRICS_PROMTOOL is not set: it has to name promtool; `make tools` fetches it and `make test` sets it")
	}
	out, err := exec.CommandContext(t.Context(), tool, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("promtool %s: %v\n%s", strings.Join(args, " "), err, head(string(out)))
	}
	return string(out)
}

// dumped reads what promtool says of a directory with blocks.
func dumped(t testing.TB, dir string) []string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(promtool(t, "tsdb", "dump", dir)), "\n")
	slices.Sort(lines)
	return lines
}

// TestPromtool: promtool accepts the block, and makes of the text a block with
// the same samples.
func TestPromtool(t *testing.T) {
	p := somePart(t)
	direct, converted := t.TempDir(), t.TempDir()
	for _, dir := range []string{direct, converted} {
		if err := os.Mkdir(filepath.Join(dir, "wal"), 0o700); err != nil { // promtool expects one, as a server has
			t.Fatal(err)
		}
	}
	name, err := p.WriteBlock(direct)
	if err != nil {
		t.Fatal(err)
	}
	if out := promtool(t, "tsdb", "list", direct); !strings.Contains(out, name) {
		t.Errorf("list: %s", out)
	}
	if out := promtool(t, "tsdb", "analyze", direct, name); !strings.Contains(out, "Highest cardinality") {
		t.Errorf("analyze: %s", out)
	}
	file := filepath.Join(t.TempDir(), "part.om")
	if err := os.WriteFile(file, openMetrics(t, p), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "tsdb", "create-blocks-from", "--max-block-duration=486h", "openmetrics", "-q", file, converted)
	want := dumped(t, direct)
	if len(want) != p.Samples() {
		t.Errorf("%d samples in the block, want %d", len(want), p.Samples())
	}
	if got := dumped(t, converted); !slices.Equal(want, got) {
		t.Errorf("%d samples by way of the text, %d directly", len(got), len(want))
	}
}

// TestWriteRequests: the requests have every sample once, those of a series in
// order, and no more than asked for.
func TestWriteRequests(t *testing.T) {
	p := somePart(t)
	want := contentOf(t, p)
	for range p.WriteRequests(1) {
		break // a consumer may stop
	}
	for _, limit := range []int{50, 1000, 1 << 30} {
		got := content{}
		last := map[string]int64{}
		total := 0
		for body, n := range p.WriteRequests(limit) {
			raw, err := snappy.Decode(nil, body)
			if err != nil {
				t.Fatal(err)
			}
			var request prompb.WriteRequest
			if err := request.Unmarshal(raw); err != nil {
				t.Fatal(err)
			}
			in := 0
			for _, s := range request.Timeseries {
				b := labels.NewScratchBuilder(len(s.Labels))
				for _, l := range s.Labels {
					b.Add(l.Name, l.Value)
				}
				if !slices.IsSortedFunc(s.Labels, func(a, b prompb.Label) int { return strings.Compare(a.Name, b.Name) }) {
					t.Errorf("labels %v", s.Labels)
				}
				series := b.Labels().String()
				for _, sample := range s.Samples {
					if sample.Timestamp <= last[series] {
						t.Fatalf("%s: %d after %d", series, sample.Timestamp, last[series])
					}
					last[series] = sample.Timestamp
					got.add(series, sample.Timestamp, sample.Value)
					in++
				}
			}
			if total += n; in != n || n > limit || n < limit && total != p.Samples() {
				t.Errorf("%d samples, said to be %d, limit %d", in, n, limit)
			}
		}
		compare(t, want, got)
	}
}
