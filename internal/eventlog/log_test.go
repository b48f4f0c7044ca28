package eventlog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

func TestReopen(t *testing.T) {
	cfg := Config{DataDir: t.TempDir()}
	want := testChanges("jira-main", "PAY", 0, 120)
	want[7] = fullChange()
	l := openLog(t, cfg)
	publish(t, l, "jira-main", want)
	revision, err := l.StoreCursor(t.Context(), "jira-main", []byte("here"), 0)
	if err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	closeLog(t, l) // again

	l = openLog(t, cfg)
	if diff := cmp.Diff(want, stored(t, l, "")); diff != "" {
		t.Error(diff)
	}
	cursor, again, err := l.LoadCursor(t.Context(), "jira-main")
	if string(cursor) != "here" || again != revision || err != nil {
		t.Errorf("cursor %q, revision %d, %v, want revision %d", cursor, again, err, revision)
	}
	stats, err := l.Stats(t.Context())
	if stats.Messages != 3 || stats.LastPosition != 3 || stats.Bytes == 0 || err != nil {
		t.Errorf("Stats = %+v, %v", stats, err)
	}
}

func TestInUse(t *testing.T) {
	cfg := Config{DataDir: t.TempDir()}
	l := openLog(t, cfg)
	if _, err := Open(t.Context(), cfg, testLogger(t)); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), cfg.DataDir) {
		t.Errorf("second Open: %v, want ErrInUse and the directory", err)
	}
	closeLog(t, l)
	openLog(t, cfg)
}

func TestOpenErrors(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{DataDir: file + "/below"}, testLogger(t)); err == nil {
		t.Error("a data directory below a file is taken")
	}
	if _, err := Open(t.Context(), Config{DataDir: t.TempDir(), Sync: "often"}, testLogger(t)); err == nil {
		t.Error("a wrong configuration is taken")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cfg := Config{DataDir: t.TempDir()}
	if _, err := Open(ctx, cfg, testLogger(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("Open after the end of its context: %v", err)
	}
	openLog(t, cfg) // nothing is left of the failed one
}

func TestClosed(t *testing.T) {
	l := openLog(t, Config{DataDir: t.TempDir()})
	publish(t, l, "s", testChanges("s", "c", 0, 1))
	got, stop := follow(t, l, 0)
	receive(t, got)
	closeLog(t, l) // ends the reader
	for range got {
		t.Error("a delivery after Close")
	}
	if err := stop(); !errors.Is(err, ErrClosed) {
		t.Errorf("Follow: %v", err)
	}
	if err := l.Follow(t.Context(), 0, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Follow after Close: %v", err)
	}
	if err := l.Publish(t.Context(), "s", testChanges("s", "c", 1, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("Publish after Close: %v", err)
	}
	if _, err := l.Stats(t.Context()); err == nil {
		t.Error("Stats after Close gives none")
	}
}

func TestConfig(t *testing.T) {
	tls := TLS{CertFile: "c.pem"}
	for _, tt := range []struct {
		name string
		cfg  Config
		want string // in the error; empty: it is right
	}{
		{"zero", Config{}, ""},
		{"sync", Config{Sync: "2m"}, ""},
		{"external", Config{URL: "nats://a:4222, tls://b:4222", User: "u", Password: password("p"), Replicas: 3}, ""},
		{"credentials in the URL", Config{URL: "nats://u:p@a:4222"}, "url: holds credentials"},
		{"scheme", Config{URL: "http://a:4222"}, "url: want nats://"},
		{"no URL", Config{URL: "nats://%zz"}, "url: not a URL"},
		{"wrong sync", Config{Sync: "1ms"}, "sync: want always"},
		{"small", Config{MaxBytes: 5}, "max_bytes:"},
		{"even replicas", Config{URL: "nats://a", Replicas: 2}, "replicas: want 1, 3 or 5"},
		{"replicas of one", Config{Replicas: 3}, "replicas: the server inside"},
		{"credentials for nobody", Config{User: "u", Password: password("p")}, "url: is required"},
		{"no user", Config{URL: "nats://a", Password: password("p")}, "user: "},
		{"no password", Config{URL: "nats://a", User: "u"}, "user: "},
		{"two logins", Config{URL: "nats://a", User: "u", Password: password("p"), CredsFile: "c"}, "creds_file: "},
		{"half a pair", Config{URL: "nats://a", TLS: tls}, "tls.cert_file: "},
	} {
		err := tt.cfg.Validate()
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

const childDir = "EVENTLOG_TEST_CHILD"

// publishForever publishes one batch after another and says so of each that is
// durable, until it is killed.
func publishForever(dir string) {
	l, err := Open(context.Background(), Config{DataDir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := 0; ; i += 10 {
		if err := l.Publish(context.Background(), "s", testChanges("s", "c", i, 10)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		if _, err := fmt.Println(i + 10); err != nil {
			os.Exit(1) // the parent is gone
		}
	}
}

// What was acknowledged is there after the process was killed, and the log goes
// on.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childDir+"="+dir)
	child.Stderr = os.Stderr
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	durable := 0
	lines := bufio.NewScanner(out)
	for durable < 200 && lines.Scan() {
		if n, err := fmt.Sscan(lines.Text(), &durable); n != 1 {
			t.Errorf("child: %s (%v)", lines.Text(), err)
			break
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // what it said before it died
		_, _ = fmt.Sscan(lines.Text(), &durable)
	}
	_, _ = io.Copy(io.Discard, out)
	if err := child.Wait(); err == nil {
		t.Error("the child was not killed")
	}
	if durable < 200 {
		t.Fatalf("only %d changes", durable)
	}

	l := openLog(t, Config{DataDir: dir})
	got := stored(t, l, "")
	if len(got) < durable || len(got) > durable+10 {
		t.Fatalf("%d changes, %d were durable", len(got), durable)
	}
	if diff := cmp.Diff(testChanges("s", "c", 0, len(got)), got); diff != "" {
		t.Error(diff)
	}
	publish(t, l, "s", []flow.Change{testChanges("s", "c", len(got), 1)[0]})
	if n := len(stored(t, l, "")); n != len(got)+1 {
		t.Errorf("%d changes after one more", n)
	}
}
