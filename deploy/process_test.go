package deploy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take that is bound to happen.
const patience = 30 * time.Second

// A process is a program that a test has started. It is stopped at the end of the
// test at the latest.
type process struct {
	name   string
	cmd    *exec.Cmd
	output output
	ended  chan struct{}
	err    error // how it ended; to be read once it has
}

// start runs a program.
func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: filepath.Base(cmd.Path), cmd: cmd, output: output{grown: make(chan struct{})}, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("what %s said last: %s", p.name, p.output.tail())
		}
	})
	return p
}

// await waits until the process has said something, and returns what the
// parentheses of the pattern hold.
func (p *process) await(t testing.TB, pattern string) string {
	t.Helper()
	wanted := regexp.MustCompile(pattern)
	late := time.After(patience)
	for {
		text, grown := p.output.text()
		if found := wanted.FindSubmatch(text); found != nil {
			return string(found[len(found)-1])
		}
		select {
		case <-grown:
		case <-p.ended:
			t.Fatalf("%s ended (%v) without saying %s: %s", p.name, p.err, pattern, p.output.tail())
		case <-late:
			t.Fatalf("%s does not say %s", p.name, pattern)
		}
	}
}

// awaitReady waits until the process answers well at an address, which has to be
// one that it has said itself to be its own.
func (p *process) awaitReady(t testing.TB, url string) {
	t.Helper()
	eventually(t, p.name+" is ready", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("%s ended (%v): %s", p.name, p.err, p.output.tail())
		default:
		}
		status, _, err := get(t.Context(), url)
		return err == nil && status == http.StatusOK
	})
}

// stop asks the process to end, and waits until it has.
func (p *process) stop(t testing.TB) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("stop %s: %v", p.name, err)
	}
	select {
	case <-p.ended:
	case <-time.After(patience):
		t.Errorf("%s does not end when asked to", p.name)
		_ = p.cmd.Process.Kill() // so that nothing is left running
		<-p.ended
	}
}

// An output keeps what a process says.
type output struct {
	mu    sync.Mutex
	said  bytes.Buffer
	grown chan struct{} // closed, and made anew, when there is more
}

// Write implements [io.Writer].
func (o *output) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.grown)
	o.grown = make(chan struct{})
	return o.said.Write(text)
}

// text returns all of it, and what is closed when there is more.
func (o *output) text() ([]byte, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.said.Bytes()), o.grown
}

// tail returns the end of it.
func (o *output) tail() []byte {
	text, _ := o.text()
	return text[max(0, len(text)-2000):]
}

// eventually asks again and again until the answer is yes.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	await(t, func() string { return "in vain: " + what }, done)
}

// await is eventually with a say in what has gone wrong.
func await(t testing.TB, complaint func() string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(patience); !done(); {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal(complaint())
		}
	}
}

// get returns status and body of an answer.
func get(ctx context.Context, url string) (status int, body []byte, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close() //nolint:errcheck // only read
	body, err = io.ReadAll(answer.Body)
	return answer.StatusCode, body, err
}

// tool returns the path of a program that tests need, which an environment
// variable names.
func tool(t testing.TB, variable string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		t.Fatalf("%s is not set: it has to name the program; `make tools` fetches it and `make test` sets it", variable)
	}
	return path
}
