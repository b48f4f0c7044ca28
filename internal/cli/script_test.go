package cli_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/flowmetrics/flowmetrics/internal/cli"
	"github.com/flowmetrics/flowmetrics/internal/connector/github"
	"github.com/flowmetrics/flowmetrics/internal/connector/jira"
	"github.com/flowmetrics/flowmetrics/internal/eventlog"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

var update = flag.Bool("update", false, "rewrite the golden files in the scripts")

// patience bounds the waiting for something that a program does by itself.
const patience = 30 * time.Second

// TestMain makes the test binary the program too: a script that says
// "exec flowmetrics" runs it again as a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"flowmetrics": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(cli.Main(ctx, os.Args[1:], cli.IO{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
	}})
}

// TestScripts uses the program as its users do. Beside the usual commands a
// script has
//
//	exits CODE COMMAND...      run a command that has to end with the code
//	await FILE|URL REGEXP [NAME]   wait until a file, or an answer, matches; NAME becomes what the parentheses hold
//	get [-wait] URL            print the answer; ! wants another status than 2xx; -wait tries until it is 2xx
//	jira                       start a simulated Jira with four issues and the token "good-token" at $JIRA_URL
//	github [-public]           start a simulated GitHub with acme/api and acme/web and the token "good-token" at $GITHUB_URL;
//	                           -public: and without any
//	reject DIR N               have N rejections in the log of a folder
//	within DURATION            fail if more time has passed since the previous within
//
// and in each folder the golden histories as $GOLDEN.
func TestScripts(t *testing.T) {
	golden, err := filepath.Abs("../flow/testdata/golden.changes.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		UpdateScripts:      *update,
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("GOLDEN", golden)
			env.Setenv("GORACE", "atexit_sleep_ms=10") // not a second for each run of the program
			env.Values[since{}] = new(time.Now())
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":  exits,
			"await":  await,
			"get":    get,
			"jira":   simulateJira,
			"github": simulateGitHub,
			"reject": reject,
			"within": within,
		},
	})
}

// until calls f again and again until it returns true.
func until(ts *testscript.TestScript, what string, f func() bool) {
	end := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-end:
			ts.Fatalf("gave up after %s: %s", patience, what)
		}
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Check(err)
		}
		code = exit.ExitCode()
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d", code)
	}
}

func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || len(args) > 3 {
		ts.Fatalf("usage: await FILE REGEXP [NAME]")
	}
	pattern, err := regexp.Compile(args[1])
	ts.Check(err)
	var text string
	defer func() { ts.Logf("[%s]\n%s", args[0], text) }()
	until(ts, "waiting for "+args[1], func() bool {
		if strings.HasPrefix(args[0], "http://") {
			_, text = ask(ts, args[0])
		} else {
			data, err := os.ReadFile(ts.MkAbs(args[0]))
			if err != nil && !os.IsNotExist(err) {
				ts.Check(err)
			}
			text = string(data)
		}
		found := pattern.FindStringSubmatch(text)
		if found != nil && len(args) == 3 {
			ts.Setenv(args[2], found[1])
		}
		return found != nil
	})
}

func get(ts *testscript.TestScript, neg bool, args []string) {
	wait := len(args) > 0 && args[0] == "-wait"
	if wait {
		args = args[1:]
	}
	if len(args) != 1 {
		ts.Fatalf("usage: get [-wait] URL")
	}
	var status int
	var body string
	good := func() bool {
		status, body = ask(ts, args[0])
		return status/100 == 2
	}
	if wait {
		until(ts, "waiting for "+args[0], good)
	} else if good() == neg {
		ts.Fatalf("status %d: %s", status, body)
	}
	fmt.Fprint(ts.Stdout(), body)
}

// ask sends a GET request.
func ask(ts *testscript.TestScript, url string) (status int, body string) {
	resp, err := http.Get(url)
	ts.Check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	return resp.StatusCode, string(text)
}

// simulateJira starts a Jira whose project has a status and a type that no rule of
// the scripts maps.
func simulateJira(ts *testscript.TestScript, neg bool, args []string) {
	site := jira.NewFake(jira.FakeOptions{Email: "flow@example.com", Token: "good-token"})
	site.AddProject("PAY", "Payments")
	for _, s := range [...][3]string{
		{"1", "Backlog", "new"}, {"2", "In Progress", "indeterminate"}, {"3", "Done", "done"},
		{"4", "QA", "indeterminate"}, {"5", "Parked", "undefined"},
	} {
		site.AddStatus(s[0], s[1], s[2])
	}
	site.AddType("101", "Story")
	site.AddType("102", "Spike")
	site.AddType("103", "Bug")
	born := time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC)
	for _, issue := range [...][2]string{{"Story", "Backlog"}, {"Story", "QA"}, {"Bug", "QA"}, {"Spike", "Parked"}} {
		site.Edit(born, site.Create(born, "PAY", issue[0], issue[1], "one"), jira.SetLabels("urgent"))
	}
	server := httptest.NewServer(site)
	ts.Defer(server.Close)
	ts.Setenv("JIRA_URL", server.URL)
}

// simulateGitHub starts a GitHub whose token has no scope for the board of the
// organisation, or one that anybody may read.
func simulateGitHub(ts *testscript.TestScript, neg bool, args []string) {
	options := github.FakeOptions{Token: "good-token", Scopes: "repo"}
	if len(args) > 0 && args[0] == "-public" {
		options = github.FakeOptions{}
	}
	site := github.NewFake(options)
	site.AddType("Bug")
	site.AddProject("acme", 1, "Todo", "Done")
	for _, repo := range []string{"acme/api", "acme/web"} {
		site.AddRepo(repo)
		for _, label := range []string{"blocked", "in progress", "enhancement", "java", "p1"} {
			site.AddLabel(repo, label)
		}
	}
	at := func(day int) time.Time { return time.Date(2026, 6, day, 9, 0, 0, 0, time.UTC) }
	slow := site.Create(at(1), "acme/api", "one", github.CreateOptions{Type: "Bug"})
	site.Label(at(2), slow, "in progress")
	site.Label(at(4), slow, "blocked")
	site.Unlabel(at(5), slow, "blocked")
	site.Close(at(10), slow, "completed")
	pulled := site.Create(at(1), "acme/api", "two", github.CreateOptions{Labels: []string{"enhancement", "java"}})
	pull := site.OpenPull(at(3), "acme/api", []string{pulled}, nil)
	site.RequestReview(at(5), pull)
	site.MergePull(at(7), pull)
	site.Close(at(3), site.Create(at(1), "acme/api", "three", github.CreateOptions{}), "not_planned")
	site.Assign(at(8), site.Create(at(8), "acme/web", "four", github.CreateOptions{Labels: []string{"p1", "enhancement"}}), "engineer")
	server := httptest.NewServer(site)
	ts.Defer(server.Close)
	ts.Setenv("GITHUB_URL", server.URL)
}

func reject(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	log, err := eventlog.Open(context.Background(), eventlog.Config{DataDir: ts.MkAbs(args[0]), Sync: "2m"}, slog.New(slog.DiscardHandler))
	ts.Check(err)
	rejections := make([]flow.Rejection, n)
	for i := range rejections {
		rejections[i] = flow.Rejection{
			Position: uint64(i + 1), Index: -1, Received: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC),
			Subject: "flow.v1.changes.producer.PAY", Source: "producer", Reason: flow.ReasonMalformed, Detail: "not a batch",
		}
	}
	ts.Check(log.Reject(context.Background(), rejections))
	ts.Check(log.Close())
}

type since struct{}

func within(ts *testscript.TestScript, neg bool, args []string) {
	limit, err := time.ParseDuration(strings.Join(args, " "))
	ts.Check(err)
	last := ts.Value(since{}).(*time.Time)
	if took := time.Since(*last); took > limit {
		ts.Fatalf("took %s, more than %s", took, limit)
	}
	*last = time.Now()
}

// TestTokenGoesNowhereElse sees that a redirect does not take the ingest token
// to another place.
func TestTokenGoesNowhereElse(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("asked elsewhere, with %v", r.Header)
	}))
	defer other.Close()
	first := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer first.Close()
	t.Setenv("FLOWMETRICS_TOKEN", "good-token")
	var stdout, stderr strings.Builder
	line := `{"id":"1","source":"a","container":"PAY","item":"1","at":"2026-06-20T00:00:00Z","kind":"CREATED"}`
	code := cli.Main(t.Context(), []string{"import", "--url", first.URL, "-"}, cli.IO{In: strings.NewReader(line), Out: &stdout, Err: &stderr})
	if code != 1 || !strings.Contains(stderr.String(), "307 Temporary Redirect") || strings.Contains(stderr.String(), "good-token") {
		t.Errorf("exit code %d, %s%s", code, &stdout, &stderr)
	}
}
