package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestBadFiles compares the error of each testdata/*.yaml with the .txt beside
// it.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no test files: %v", err)
	}
	for _, path := range files {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Parse(filepath.Base(path), data)
			if err == nil {
				t.Fatal("no error")
			}
			got := err.Error() + "\n"
			if strings.Contains(got, "hunter2") {
				t.Errorf("the error shows a secret:\n%s", got)
			}
			golden := strings.TrimSuffix(path, ".yaml") + ".txt"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("error differs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestExample(t *testing.T) {
	c, err := Parse("/etc/flow/flow.yaml", Example())
	if err != nil {
		t.Fatal(err)
	}
	wantSources := []Source{
		{
			Name: "jira-main", Type: Jira, URL: "https://example.atlassian.net", Projects: []string{"PAY", "PLAT"},
			Email: "flow@example.com", Token: SecretEnv("JIRA_TOKEN"), WebhookSecret: SecretEnv("JIRA_HOOK"),
			PollInterval: time.Minute, Titles: true,
		},
		{
			Name: "github-main", Type: GitHub, URL: "https://api.github.com", Repos: []string{"acme/api"},
			Project: Project{"acme", 3}, Token: SecretEnv("GITHUB_TOKEN"), WebhookSecret: SecretEnv("GITHUB_HOOK"),
			PollInterval: time.Minute, Titles: true,
		},
		{
			Name: "tasks", Type: Redmine, URL: "https://redmine.example.com", Projects: []string{"ops"},
			Token: SecretFile("/etc/flow/redmine.token"), PollInterval: time.Minute, Titles: true,
		},
		{Name: "events", Type: File, Path: "/etc/flow/changes.jsonl", PollInterval: time.Minute, Titles: true},
	}
	secrets := cmp.AllowUnexported(Secret{})
	if diff := cmp.Diff(wantSources, c.Sources, secrets); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(NATS{MaxBytes: 10e9, Replicas: 1}, c.NATS, secrets); diff != "" {
		t.Errorf("nats (-want +got):\n%s", diff)
	}
	if c.Web.IngestToken != SecretEnv("INGEST_TOKEN") {
		t.Errorf("ingest token = %v", c.Web.IngestToken)
	}
	if c.Source("tasks") != &c.Sources[2] || c.Source("nothing") != nil {
		t.Error("Source does not find by name")
	}

	const day = 24 * time.Hour
	byDefault := &flow.Workflow{
		Name:       "default",
		StatusByID: map[string]flow.State{},
		StatusByName: map[string]flow.State{
			"Backlog": flow.New, "Ready": flow.Waiting, "In Review": flow.Waiting, "Blocked": flow.Waiting,
			"In Progress": flow.Active, "Done": flow.Done, "Won't Do": flow.Cancelled,
		},
		CancelledResolutions: []string{"Won't Do", "Duplicate"},
		Types: []flow.TypeRule{
			{Match: "Story", Type: flow.Feature},
			{Match: "Bug", Type: flow.Defect},
			{Match: "bug", Label: true, Type: flow.Defect},
			{Match: "Risk", Type: flow.Risk},
			{Match: "Tech Debt", Type: flow.Debt},
			{Match: "Epic", Type: flow.Ignored},
		},
	}
	byLabel := &flow.Workflow{
		Name: "labels", StatusByID: map[string]flow.State{}, StatusByName: map[string]flow.State{},
		Labels: []flow.LabelRule{{Label: "blocked", State: flow.Waiting}, {Label: "in-progress", State: flow.Active}},
		Types: []flow.TypeRule{
			{Match: "enhancement", Label: true, Type: flow.Feature}, {Match: "bug", Label: true, Type: flow.Defect},
		},
		StartSignals: []string{"assigned", "pull_request", "label:started"},
		ReopenGrace:  5 * time.Minute, BacklogReturnWaits: true,
	}
	want := &flow.Policy{
		Windows: flow.DefaultWindows(),
		ValueStreams: []*flow.ValueStream{
			{
				Name: "payments", Title: "Payments", Workflow: byDefault, Timezone: "UTC", Location: time.UTC,
				Include: []flow.Include{{Source: "jira-main", Containers: []string{"PAY"}}},
				Targets: flow.Targets{
					FlowTime: 12 * day, Percentile: 85, Load: 20,
					Distribution: map[flow.ItemType]float64{flow.Feature: 0.5, flow.Defect: 0.2, flow.Risk: 0.1, flow.Debt: 0.2},
				},
				NeglectAfter: 14 * day,
			},
			{
				Name: "platform", Title: "Platform", Workflow: byLabel, Timezone: "Europe/Berlin",
				Include:      []flow.Include{{Source: "github-main", Containers: []string{"acme/*"}, Labels: []string{"platform"}}},
				Targets:      flow.Targets{Percentile: 85},
				NeglectAfter: 14 * day,
			},
		},
	}
	got := c.Policy()
	if zone := got.ValueStreams[1].Location.String(); zone != "Europe/Berlin" {
		t.Errorf("location = %s", zone)
	}
	ignoreZone := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Location" }, cmp.Ignore())
	if diff := cmp.Diff(want, got, ignoreZone); diff != "" {
		t.Errorf("policy (-want +got):\n%s", diff)
	}
}

// TestDefaults holds what a file need not say.
func TestDefaults(t *testing.T) {
	c, err := Parse("flow.yaml", []byte(`
sources:
  - {name: gh, type: github, repos: [acme/api], poll_interval: 1s, titles: false}
workflows:
  - name: only
    statuses: {active: ["id:10002", Doing, 2024]}
value_streams:
  - {name: a, include: [{}]}
  - name: b
    include: [{source: gh}]
    neglect_after: 1d12h
    targets: {percentile: 99.5, load: 3}
windows: [14d, 1d12h]
nats: {url: "nats://n1:4222, tls://n2", user: u, password_file: pw, max_bytes: 4GiB, replicas: 3, tls: {ca_file: /ca.pem}}
`))
	if err != nil {
		t.Fatal(err)
	}
	if s := c.Sources[0]; s.URL != "https://api.github.com" || s.PollInterval != time.Second || s.Titles || s.Token.IsSet() {
		t.Errorf("source = %+v", s)
	}
	wantNATS := NATS{
		URL: "nats://n1:4222,tls://n2", User: "u", Password: SecretFile("pw"), MaxBytes: 4 << 30, Replicas: 3,
		TLS: TLS{CAFile: "/ca.pem"},
	}
	if diff := cmp.Diff(wantNATS, c.NATS, cmp.AllowUnexported(Secret{})); diff != "" {
		t.Errorf("nats (-want +got):\n%s", diff)
	}
	p := c.Policy()
	a, b := p.ValueStream("a"), p.ValueStream("b")
	if a.Workflow == nil || a.Workflow != b.Workflow || a.Title != "a" || a.Timezone != "UTC" || a.NeglectAfter != flow.DefaultNeglectAfter {
		t.Errorf("a = %+v", a)
	}
	if b.NeglectAfter != 36*time.Hour || b.Targets.Percentile != 99.5 || b.Targets.Load != 3 {
		t.Errorf("b = %+v", b)
	}
	if w := a.Workflow; w.StatusByID["10002"] != flow.Active || w.StatusByName["2024"] != flow.Active || len(w.StatusByName) != 2 {
		t.Errorf("statuses = %v %v", w.StatusByID, w.StatusByName)
	}
	if diff := cmp.Diff([]flow.Window{{Name: "14d", Length: 14 * 24 * time.Hour}, {Name: "1d12h", Length: 36 * time.Hour}}, p.Windows); diff != "" {
		t.Error(diff)
	}
}

// TestNoSources: a policy alone is enough to measure a changes file, so an
// include may name any source; sources alone are enough to fill the log.
func TestNoSources(t *testing.T) {
	for _, file := range []string{
		"workflows: [{name: w}]\nvalue_streams: [{name: a, include: [{source: elsewhere}]}]\n",
		"sources: [{name: f, type: file, path: c.jsonl}]\n",
		"\ufeff---\r\nsources:\r\n- name: f\r\n  type: file\r\n  path: c.jsonl\r\n...\r\n", // as some editors write it
	} {
		c, err := Parse("flow.yaml", []byte(file))
		if err != nil || c.Policy() == nil || len(c.Policy().Windows) != 3 {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestErrors(t *testing.T) {
	var b strings.Builder
	b.WriteString("sources:\n")
	for range maxProblems + 7 {
		b.WriteString("  - {name: [], type: file, path: x}\n")
	}
	_, err := Parse("flow.yaml", []byte(b.String()))
	var all *Errors
	if !errors.As(err, &all) || len(all.Problems) != maxProblems || all.More != 7 {
		t.Fatalf("err = %v", err)
	}
	if !strings.HasSuffix(err.Error(), "\nand 7 more") {
		t.Errorf("err = %v", err)
	}
	var one Problem
	if !errors.As(err, &one) || one.Line != 2 || one.Path != "sources[0].name" {
		t.Errorf("problem = %+v", one)
	}
}

func TestBounds(t *testing.T) {
	for name, data := range map[string]string{
		"size":    "# " + strings.Repeat("x", MaxSize),
		"utf8":    "a: \xff",
		"flow":    strings.Repeat("[", 100_000),
		"entries": strings.Repeat("- ", 100_000),
		"aliases": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
		"empty":   "",
	} {
		start := time.Now()
		if _, err := Parse("flow.yaml", []byte(data)); err == nil {
			t.Errorf("%s: no error", name)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "flow.yaml")
	if _, err := Load(path); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("absent file: %v", err)
	}
	if err := os.WriteFile(path, Example(), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Source("events").Path, filepath.Join(dir, "changes.jsonl"); got != want {
		t.Errorf("path = %s, want %s", got, want)
	}
}

func TestSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte("  hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FLOW_TEST_TOKEN", "hunter2 ")
	t.Setenv("FLOW_TEST_EMPTY", "")
	for _, s := range []Secret{SecretFile(path), SecretEnv("FLOW_TEST_TOKEN")} {
		if got, err := s.Read(); err != nil || got != "hunter2" {
			t.Errorf("%v: %q, %v", s, got, err)
		}
		if text := fmt.Sprintf("%v %+v %#v %s", s, s, s, s.LogValue()); strings.Contains(text, "hunter2") {
			t.Errorf("printed as %s", text)
		}
	}
	for want, s := range map[string]Secret{
		"FLOW_TEST_EMPTY": SecretEnv("FLOW_TEST_EMPTY"),
		"FLOW_TEST_UNSET": SecretEnv("FLOW_TEST_UNSET"),
		"/no/such/file":   SecretFile("/no/such/file"),
		"none":            {},
	} {
		if _, err := s.Read(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: err = %v", s, err)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0s": 0, "60s": time.Minute, "90m": 90 * time.Minute, "12h": 12 * time.Hour, "14d": 336 * time.Hour,
		"1d12h": 36 * time.Hour, "1d2h3m4s": 26*time.Hour + 3*time.Minute + 4*time.Second,
	} {
		if got, ok := ParseDuration(text); !ok || got != want {
			t.Errorf("%s = %v, %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "1", "d", "1w", "-1d", "1.5h", "12h1d", "1d1d", "1d ", "1ms", "106752d", "99999999999999999999s", "106751d24h"} {
		if got, ok := ParseDuration(text); ok {
			t.Errorf("%q is taken as %v", text, got)
		}
	}
	if got := FormatDuration(36*time.Hour + time.Second); got != "1d12h1s" {
		t.Errorf("formatted as %s", got)
	}
}

// FuzzParse: no input makes Parse panic, and every problem says where it is.
func FuzzParse(f *testing.F) {
	f.Add(Example())
	files, _ := filepath.Glob("testdata/*.yaml")
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("flow.yaml", data)
		if err == nil {
			c.Policy().Hash() // encodable
			for _, v := range c.Policy().ValueStreams {
				if v.Name == "" || v.Workflow == nil || v.Location == nil || v.NeglectAfter <= 0 || len(v.Include) == 0 {
					t.Fatalf("incomplete value stream %+v", v)
				}
			}
			return
		}
		var all *Errors
		if !errors.As(err, &all) || len(all.Problems) == 0 || len(all.Problems) > maxProblems {
			t.Fatalf("not an Errors: %v", err)
		}
		for _, p := range all.Problems {
			if p.Line < 1 || p.Column < 1 || p.Message == "" || strings.ContainsAny(p.Message, "\n\r\x1b") {
				t.Fatalf("problem %+v", p)
			}
		}
	})
}
