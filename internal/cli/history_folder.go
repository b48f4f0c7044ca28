package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/exporter"
)

// A historyJournal is the file that says which parts of a history are finished,
// so that the next run goes on from there. Without a path it is kept nowhere.
type historyJournal struct {
	path string
	mu   sync.Mutex

	Parameters map[string]string `json:"parameters"`
	From       time.Time         `json:"from"`
	To         time.Time         `json:"to"`
	Facts      int               `json:"facts"` // of the log, before To
	Of         int               `json:"of"`    // parts in all
	Parts      []finishedPart    `json:"parts"` // in the order in which they were finished
}

// A finishedPart is a part that is complete under its name, or, while Requests is
// above 0, one of which so many requests were sent.
type finishedPart struct {
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Name     string    `json:"name,omitempty"` // of the file or block; none for a part without samples
	Samples  int       `json:"samples"`
	Series   int       `json:"series"`
	Requests int       `json:"requests_sent,omitempty"`
}

func finished(p *exporter.Part, name string) finishedPart {
	return finishedPart{From: p.Range.From, To: p.Range.To, Name: name, Samples: p.Samples(), Series: p.Series()}
}

// openJournal reads a journal where there is one, and sees that it is of a history
// of the same parameters. A zero instant is any.
func openJournal(path string, parameters map[string]string, from, to time.Time) (*historyJournal, error) {
	j := &historyJournal{path: path}
	if path != "" {
		text, err := os.ReadFile(path)
		if err == nil {
			if err = json.Unmarshal(text, j); err == nil && len(j.Parameters) == 0 {
				err = errors.New("it is none")
			}
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read journal of a history: %s: %w", path, err)
		}
	}
	if j.begun() {
		// Instants are multiples of the step: the first and the last are not what was asked for.
		step, err := time.ParseDuration(j.Parameters["step"])
		if err != nil {
			return nil, fmt.Errorf("read journal of a history: %s: %w", path, err)
		}
		for _, name := range slices.Sorted(maps.Keys(parameters)) {
			if was, is := j.Parameters[name], parameters[name]; was != is {
				return nil, fmt.Errorf("%s is of a history of another %s, %q and not %q: choose another place, or remove it and what it names", path, name, was, is)
			}
		}
		for _, b := range []struct {
			flag     string
			was, now time.Time
		}{{"--from", j.From, from}, {"--to", j.To, to}} {
			if d := b.was.Sub(b.now); !b.now.IsZero() && (d < 0 || d >= step) {
				return nil, fmt.Errorf("%s is of the history from %s to %s, which is another %s: choose another place, or remove it and what it names",
					path, stamp(j.From), stamp(j.To), b.flag)
			}
		}
	}
	j.Parameters = parameters
	return j, nil
}

// begun tells whether there was a run before.
func (j *historyJournal) begun() bool { return j.Of > 0 }

// begin makes the journal that of a history, before its first part.
func (j *historyJournal) begin(from, to time.Time, parts, facts int) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.begun() {
		j.Facts = facts
	}
	j.From, j.To, j.Of = from, to, parts
	return j.save()
}

// add notes a part, in place of what was noted of it.
func (j *historyJournal) add(part finishedPart) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.Parts = slices.DeleteFunc(j.Parts, func(p finishedPart) bool { return p.From.Equal(part.From) })
	j.Parts = append(j.Parts, part)
	return j.save()
}

// save writes the journal: after a crash it is the old one or the new one.
func (j *historyJournal) save() error {
	if j.path == "" {
		return nil
	}
	text, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return fmt.Errorf("encode journal of a history: %w", err)
	}
	err = writeFile(j.path+".new", func(f *os.File) error { _, err := f.Write(append(text, '\n')); return err })
	if err == nil {
		err = os.Rename(j.path+".new", j.path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(j.path))
	}
	if err != nil {
		return fmt.Errorf("write journal of a history: %w", err)
	}
	return nil
}

// of returns what is noted of a part.
func (j *historyJournal) of(r exporter.Range) (part finishedPart, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := slices.IndexFunc(j.Parts, func(p finishedPart) bool { return p.From.Equal(r.From) && p.To.Equal(r.To) })
	if i < 0 {
		return finishedPart{}, false
	}
	return j.Parts[i], true
}

// has tells whether a part is finished.
func (j *historyJournal) has(r exporter.Range) bool {
	part, ok := j.of(r)
	return ok && part.Requests == 0
}

// finished returns how many parts are finished.
func (j *historyJournal) finished() (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, p := range j.Parts {
		if p.Requests == 0 {
			n++
		}
	}
	return n
}

func (j *historyJournal) complete() bool { return j.finished() == j.Of }

// samples returns how many samples the finished parts have.
func (j *historyJournal) samples() (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, p := range j.Parts {
		n += p.Samples
	}
	return n
}

// A historyFolder is where the files or blocks of a history come to be. A part is
// made in a folder inside it, noted in the journal, and then moved to its name:
// whatever happens, each part is there once and complete, or not at all.
type historyFolder struct {
	dir  string
	work *os.File // the folder inside, locked
}

// openFolder makes the folder where it is missing, and takes it for this process.
func openFolder(dir string) (*historyFolder, error) {
	f := &historyFolder{dir: dir}
	if err := os.MkdirAll(f.unfinished(), 0o777); err != nil { // as much as the user's mask allows: others may have to read it
		return nil, fmt.Errorf("make folder of a history: %w", err)
	}
	var err error
	if f.work, err = os.Open(f.unfinished()); err != nil {
		return nil, fmt.Errorf("open folder of a history: %w", err)
	}
	if err = syscall.Flock(int(f.work.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.work.Close() // nothing was written
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another flowmetrics history is writing to %s", dir)
		}
		return nil, fmt.Errorf("lock folder of a history: %w", err)
	}
	return f, nil
}

func (f *historyFolder) unfinished() string  { return filepath.Join(f.dir, ".flowmetrics-history") }
func (f *historyFolder) journalPath() string { return filepath.Join(f.dir, "flowmetrics-history.json") }

// recover finishes what the run before has noted and not moved, and removes what
// it has not finished.
func (f *historyFolder) recover(j *historyJournal) error {
	for _, part := range j.Parts {
		if part.Name == "" {
			continue
		}
		err := os.Rename(filepath.Join(f.unfinished(), part.Name), filepath.Join(f.dir, part.Name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it was moved, and perhaps loaded since
			return fmt.Errorf("finish part of a history: %w", err)
		}
	}
	left, err := os.ReadDir(f.unfinished())
	for _, e := range left {
		err = errors.Join(err, os.RemoveAll(filepath.Join(f.unfinished(), e.Name())))
	}
	if err != nil {
		return fmt.Errorf("clear folder of a history: %w", err)
	}
	return nil
}

// gone returns how many finished parts are not in the folder: what is loaded is
// moved away, and nothing tells that from what was lost.
func (f *historyFolder) gone(j *historyJournal) (n int) {
	for _, part := range j.Parts {
		if _, err := os.Stat(filepath.Join(f.dir, part.Name)); err != nil { // of a part without samples it is the folder
			n++
		}
	}
	return n
}

// write writes a part under its name, which it returns. It is safe for concurrent
// use.
func (f *historyFolder) write(ctx context.Context, p *exporter.Part, format string, j *historyJournal) (name string, err error) {
	if p.Samples() == 0 {
		return "nothing", j.add(finished(p, ""))
	}
	if format == "blocks" {
		name, err = p.WriteBlock(f.unfinished())
	} else {
		const layout = "20060102T150405Z"
		name = "history-" + p.Range.From.UTC().Format(layout) + "-" + p.Range.To.UTC().Format(layout) + ".om"
		err = writeFile(filepath.Join(f.unfinished(), name), func(file *os.File) error {
			out := bufio.NewWriterSize(interruptibleWriter{ctx, file}, 256<<10)
			return errors.Join(p.WriteOpenMetrics(out), out.Flush())
		})
	}
	if err != nil {
		return "", fmt.Errorf("write part of a history: %w", err)
	}
	if err := j.add(finished(p, name)); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(f.unfinished(), name), filepath.Join(f.dir, name)); err != nil {
		return "", fmt.Errorf("finish part of a history: %w", err)
	}
	return name, nil
}

// free returns how many bytes the folder's file system has for us.
func (f *historyFolder) free() (float64, error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(f.dir, &s); err != nil {
		return 0, fmt.Errorf("see what is free in %s: %w", f.dir, err)
	}
	return float64(s.Bavail) * float64(s.Bsize), nil
}

// close leaves nothing behind but parts and journal, unless there is something for
// the next run to recover.
func (f *historyFolder) close() {
	_ = os.Remove(f.unfinished()) // fails where it is not empty
	_ = f.work.Close()            // ends the lock
}

// writeFile writes a file and sees that it is on the disk.
func writeFile(path string, write func(*os.File) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// syncFolder sees that what was renamed in a folder is on the disk.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
