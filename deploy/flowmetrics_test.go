package deploy

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// built is the program, made once for all tests.
var built struct {
	sync.Once
	dir string
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.dir != "" {
		if err := os.RemoveAll(built.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// program returns the path of flowmetrics, made from this very tree.
func program(t testing.TB) string {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "flowmetrics-deploy-"); built.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", built.dir+"/flowmetrics", "../cmd/flowmetrics").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatalf("build flowmetrics: %v", built.err)
	}
	return filepath.Join(built.dir, "flowmetrics")
}

// flowmetrics runs a command of the program to its end and returns what it
// printed.
func flowmetrics(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program(t), args...)
	out, err := cmd.Output()
	if err != nil {
		said := ""
		if exit, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Output returns it as it is
			said = string(exit.Stderr)
		}
		t.Fatalf("flowmetrics %s: %v: %s%s", args[0], err, out, said)
	}
	return string(out)
}

// A service is flowmetrics serving.
type service struct {
	*process
	Address string // HOST:PORT
	URL     string // of the page, without a slash at the end
}

// serve starts `flowmetrics serve` or `flowmetrics demo`, on a free port unless the
// arguments name one, and waits until it is ready.
func serve(t testing.TB, command string, args ...string) *service {
	t.Helper()
	s := launch(t, command, args...)
	s.awaitReady(t, s.URL+"/-/ready")
	return s
}

// launch is serve without waiting for more than that it listens.
func launch(t testing.TB, command string, args ...string) *service {
	t.Helper()
	if !slices.Contains(args, "--listen") {
		args = append(slices.Clone(args), "--listen", "127.0.0.1:0")
	}
	cmd := exec.Command(program(t), append([]string{command}, args...)...)
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	s := &service{process: start(t, cmd)}
	s.Address = s.await(t, `msg=listening page=http://([^/]+)/`)
	s.URL = "http://" + s.Address
	return s
}

// get returns the body of an answer of the service.
func (s *service) get(t testing.TB, path string) string {
	t.Helper()
	status, body, err := get(t.Context(), s.URL+path)
	if err != nil || status != http.StatusOK {
		t.Fatalf("GET %s: %d, %v: %s", path, status, err, body)
	}
	return string(body)
}
