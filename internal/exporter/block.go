package exporter

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/index"
)

// blockMeta is a block's meta.json.
type blockMeta struct {
	ULID       ulid.ULID       `json:"ulid"`
	MinTime    int64           `json:"minTime"`
	MaxTime    int64           `json:"maxTime"` // the last sample is before it
	Stats      blockStats      `json:"stats"`
	Compaction blockCompaction `json:"compaction"`
	Version    int             `json:"version"`
}

type blockStats struct {
	Samples int `json:"numSamples"`
	Series  int `json:"numSeries"`
	Chunks  int `json:"numChunks"`
}

type blockCompaction struct {
	Level   int         `json:"level"`
	Sources []ulid.ULID `json:"sources"`
}

// noTombstones is a block's file of deletions without any: its magic number, the
// version of the format, and the checksum of nothing.
var noTombstones = []byte{0x01, 0x30, 0xba, 0x30, 1, 0, 0, 0, 0}

// unfinished ends the name of a block that is being written. Prometheus does not
// read it, and removes it at its next start.
const unfinished = ".tmp-for-creation"

// WriteBlock writes the part as a block of Prometheus' database into a directory,
// which may be that of a running server: the block appears there complete and on
// disk, or not at all. It returns the block's name in the directory; a part
// without samples makes no block, and its name is empty. It fails as the file
// system fails.
func (p *Part) WriteBlock(dir string) (name string, err error) {
	if p.samples == 0 {
		return "", nil
	}
	id, err := ulid.New(ulid.Now(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("name block: %w", err)
	}
	name = id.String()
	temporary := filepath.Join(dir, name+unfinished)
	defer func() {
		if err != nil {
			name, err = "", fmt.Errorf("write block: %w", errors.Join(err, os.RemoveAll(temporary)))
		}
	}()
	if err := os.Mkdir(temporary, 0o777); err != nil {
		return "", err
	}
	sorted := make([]*partSeries, len(p.series))
	for i := range p.series {
		sorted[i] = &p.series[i]
	}
	slices.SortFunc(sorted, func(a, b *partSeries) int { return labels.Compare(a.labels, b.labels) })
	metas, err := writeChunks(filepath.Join(temporary, "chunks"), sorted)
	if err != nil {
		return "", err
	}
	if err := writeIndex(filepath.Join(temporary, "index"), sorted, metas); err != nil {
		return "", err
	}
	meta := blockMeta{
		ULID: id, MinTime: metas[0][0].MinTime, MaxTime: metas[0][0].MaxTime, Version: 1,
		Stats:      blockStats{Samples: p.samples, Series: len(p.series)},
		Compaction: blockCompaction{Level: 1, Sources: []ulid.ULID{id}},
	}
	for _, m := range metas {
		meta.MinTime = min(meta.MinTime, m[0].MinTime)
		meta.MaxTime = max(meta.MaxTime, m[len(m)-1].MaxTime+1)
		meta.Stats.Chunks += len(m)
	}
	text, err := json.MarshalIndent(meta, "", "\t")
	if err != nil {
		return "", err
	}
	for file, data := range map[string][]byte{"meta.json": text, "tombstones": noTombstones} {
		if err := writeSynced(filepath.Join(temporary, file), data); err != nil {
			return "", err
		}
	}
	if err := syncDir(temporary); err != nil {
		return "", err
	}
	if err := os.Rename(temporary, filepath.Join(dir, name)); err != nil {
		return "", err
	}
	return name, syncDir(dir)
}

// chunkOverhead is the most that a chunk has on disk besides its data: length,
// encoding and checksum.
const chunkOverhead = chunks.MaxChunkLengthFieldSize + chunks.ChunkEncodingSize + 4

// writeChunks writes the chunks of the series into a new directory and returns
// where they are.
func writeChunks(dir string, sorted []*partSeries) (metas [][]chunks.Meta, err error) {
	size := int64(chunks.SegmentHeaderSize)
	for _, s := range sorted {
		for _, c := range s.chunks {
			size += int64(len(c.data)) + chunkOverhead
		}
	}
	// The file's space is taken at first: no more of it than there will be.
	w, err := chunks.NewWriter(dir, chunks.WithSegmentSize(min(size, chunks.DefaultChunkSegmentSize)))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	metas = make([][]chunks.Meta, len(sorted))
	for i, s := range sorted {
		xors := make([]chunkenc.XORChunk, len(s.chunks))
		metas[i] = make([]chunks.Meta, len(s.chunks))
		for j, c := range s.chunks {
			xors[j].Reset(c.data)
			metas[i][j] = chunks.Meta{Chunk: &xors[j], MinTime: c.from, MaxTime: c.to}
		}
		if err := w.WriteChunks(metas[i]...); err != nil {
			return nil, err
		}
	}
	return metas, nil
}

// writeIndex writes the index of series whose chunks are written.
func writeIndex(file string, sorted []*partSeries, metas [][]chunks.Meta) (err error) {
	w, err := index.NewWriter(context.Background(), file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	symbols := map[string]struct{}{}
	for _, s := range sorted {
		s.labels.Range(func(l labels.Label) { symbols[l.Name], symbols[l.Value] = struct{}{}, struct{}{} })
	}
	for _, symbol := range slices.Sorted(maps.Keys(symbols)) {
		if err := w.AddSymbol(symbol); err != nil {
			return err
		}
	}
	for i, s := range sorted {
		if err := w.AddSeries(storage.SeriesRef(i), s.labels, metas[i]...); err != nil {
			return err
		}
	}
	return nil
}

// writeSynced writes a file that is on disk when it returns.
func writeSynced(name string, data []byte) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// syncDir makes what was created or renamed in a directory stay.
func syncDir(name string) (err error) {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return d.Sync()
}
