package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/flowmetrics/flowmetrics/internal/eventlog"
	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/flowmetrics/flowmetrics/internal/flowpb"
)

const trackerConfig = `
sources:
  - {name: tracker, type: file, path: changes.jsonl, poll_interval: 1s}
workflows:
  - name: default
    statuses: {new: [Backlog], waiting: [Ready, In Review, Blocked], active: [In Progress], done: [Done], cancelled: ["Won't Do"]}
    types: {feature: [Story], defect: [Bug], risk: [Risk], debt: [Tech Debt], ignored: [Epic]}
value_streams:
  - {name: payments, workflow: default, timezone: UTC, include: [{source: tracker, containers: [PAY]}], targets: {flow_time: 12d}}
  - {name: platform, workflow: default, timezone: UTC, include: [{source: tracker, containers: [PLT]}, {source: github-main, containers: ["acme/*"]}]}
web: {ingest_token_env: APP_TEST_INGEST}
`

// withFile writes the changes file that trackerConfig reads.
func withFile(t testing.TB, dir string, changes ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "changes.jsonl"), []byte(strings.Join(changes, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ready returns the JSON of the fact that an item of PAY was born ready.
func ready(id string) string {
	return fmt.Sprintf(`{"id":%q,"source":"tracker","container":"PAY","item":%[1]q,"at":"2025-06-01T00:00:00Z","kind":"CREATED","fields":[{"field":"STATUS","to":{"name":"Ready"}}]}`, id)
}

// batch returns the protobuf of a batch with the same fact of each id.
func batch(t testing.TB, change func(*flowpb.Change), ids ...string) []byte {
	t.Helper()
	b := &flowpb.ChangeBatch{}
	for _, id := range ids {
		c := &flowpb.Change{
			Id: id, Source: "tracker", Container: "PAY", Item: id, Kind: flowpb.Kind(flow.Created),
			At:     timestamppb.New(time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)),
			Fields: []*flowpb.FieldChange{{Field: flowpb.Field(flow.FieldStatus), To: &flowpb.Value{Name: "Ready"}}},
		}
		if change != nil {
			change(c)
		}
		b.Changes = append(b.Changes, c)
	}
	data, err := proto.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// A broker is a NATS server outside of the service.
type broker struct{ url, config string }

// startBroker starts one that demands the password in APP_TEST_NATS.
func startBroker(t testing.TB) (b broker, stop func()) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
		Username: "flow", Password: "s3cret",
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(patience) {
		t.Fatal("the NATS server is not ready")
	}
	b.url = s.ClientURL()
	b.config = fmt.Sprintf("nats: {url: %q, user: flow, password_env: APP_TEST_NATS}\n", b.url)
	return b, func() { s.Shutdown(); s.WaitForShutdown() }
}

// Whoever can write to the log may write anything. What is good in it is
// measured; the rest is counted and listed, once, also after a restart.
func TestBadInput(t *testing.T) {
	t.Setenv("APP_TEST_INGEST", "open-sesame")
	t.Setenv("APP_TEST_NATS", "s3cret")
	broker, stop := startBroker(t)
	t.Cleanup(stop)
	dir := t.TempDir()
	withFile(t, dir, ready("file-1"), `{"half of`, ready("file-2"))
	text := trackerConfig + broker.config
	s := start(t, dir, text)
	first := uint64(len(readLog(t, s.ok(t, "/api/v1/changes"))))
	if first != 2 {
		t.Fatalf("%d changes of the file, want 2", first)
	}

	nc, err := nats.Connect(broker.url, nats.UserInfo("flow", "s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	var last uint64
	publish := func(subject, contentType string, data []byte) {
		t.Helper()
		msg := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{}}
		if contentType != "" {
			msg.Header.Set("ce-datacontenttype", contentType)
		}
		ack, err := js.PublishMsg(t.Context(), msg)
		if err != nil {
			t.Fatal(err)
		}
		last = ack.Sequence
	}
	type rejected struct {
		Index    int
		Source   string
		ID       string
		Reason   flow.Reason
		position uint64
	}
	var want []rejected
	expect := func(index int, source, id string, reason flow.Reason) {
		want = append(want, rejected{index, source, id, reason, last})
	}
	pay := eventlog.Subject("tracker", "PAY")
	publish(pay, "application/protobuf", batch(t, nil, "good-1", "good-2"))
	publish(pay, "application/protobuf", []byte("\xff\xff\xff not protobuf"))
	expect(-1, "tracker", "", flow.ReasonMalformed)
	publish(pay, "", batch(t, func(c *flowpb.Change) {
		if c.Id == "nameless" {
			c.Id = ""
		}
	}, "good-3", "nameless", "good-4"))
	expect(1, "tracker", "", flow.ReasonMissing)
	publish(pay, "", batch(t, func(c *flowpb.Change) {
		c.At = &timestamppb.Timestamp{Seconds: time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC).UnixMilli()} // taken for seconds: the year 57000
	}, "late"))
	expect(0, "tracker", "late", flow.ReasonTime)
	publish(pay, "application/json", []byte(`{"changes":[`+strings.Replace(ready("year"), "2025-06-01", "58000-06-01", 1)+`,`+ready("good-5")+`,`+
		strings.Replace(ready("kind"), "CREATED", "EXPLODED", 1)+`]}`))
	expect(0, "tracker", "year", flow.ReasonMalformed) // no time in RFC 3339 at all
	expect(2, "tracker", "kind", flow.ReasonUnknownKind)
	publish(pay, "", batch(t, func(c *flowpb.Change) { c.Kind = 99 }, "kind-99"))
	expect(0, "tracker", "kind-99", flow.ReasonUnknownKind)
	publish(pay, "", batch(t, func(c *flowpb.Change) { c.Source = "somebody-else" }, "stolen"))
	expect(0, "somebody-else", "stolen", flow.ReasonMalformed)
	publish(pay, "text/plain", []byte("hello"))
	expect(-1, "tracker", "", flow.ReasonMalformed)
	publish(pay, "", nil)
	expect(-1, "tracker", "", flow.ReasonMissing)
	publish(pay, "", batch(t, func(c *flowpb.Change) { c.At = timestamppb.New(time.Now().Add(30 * 24 * time.Hour)) }, "tomorrow"))
	expect(0, "tracker", "tomorrow", flow.ReasonFuture)
	publish("flow.v1.changes.tracker.PAY.too.long", "", batch(t, nil, "nowhere"))
	expect(-1, "", "", flow.ReasonMalformed)
	publish(pay, "application/json", []byte(`[`+ready("good-6")+`]`))

	// The API refuses at once, names line and reason, and takes nothing. What it
	// refuses, and the bad line of the file, is listed and counted all the same.
	elsewhere := []string{"file 2 malformed"}
	token := []string{"Authorization", "Bearer open-sesame"}
	for _, tt := range []struct {
		line   string
		reason flow.Reason
	}{
		{`{"half of`, flow.ReasonMalformed},
		{strings.Replace(ready("api"), `"id":"api",`, "", 1), flow.ReasonMissing},
		{strings.Replace(ready("api"), "2025-06-01", "9999-06-01", 1), flow.ReasonTime},
		{strings.Replace(ready("api"), "CREATED", "EXPLODED", 1), flow.ReasonUnknownKind},
		{strings.Replace(ready("api"), "STATUS", "WEATHER", 1), flow.ReasonUnknownField},
	} {
		status, body := s.do(t, http.MethodPost, "/api/v1/changes", lines(ready("before"), "", tt.line, ready("behind")), token...)
		type failure struct {
			Error, Reason string
			Line          int
		}
		if f := decode[failure](t, body); status != http.StatusBadRequest || f.Line != 3 || f.Reason != string(tt.reason) || !strings.HasPrefix(f.Error, "line 3: ") {
			t.Errorf("POST of %s: %d: %s", tt.line, status, body)
		}
		elsewhere = append(elsewhere, "POST 3 "+string(tt.reason))
	}
	slices.Sort(elsewhere)

	check := func(s *service) {
		t.Helper()
		const good = 8 // six, and two of the file
		eventually(t, "everything taken", func() bool { return s.processor.Status().Measured >= last })
		eventually(t, "everything listed", func() bool {
			return strings.Count(s.ok(t, "/api/v1/rejected"), "\n") >= len(want)+len(elsewhere)
		})
		type document struct {
			Streams []struct{ Load struct{ Items int } } `json:"value_streams"`
		}
		if d := decode[document](t, s.ok(t, "/api/v1/value-streams/payments")); d.Streams[0].Load.Items != good {
			t.Errorf("load is %d, want all %d good items", d.Streams[0].Load.Items, good)
		}
		s.wantSample(t, "flowmetrics_log_changes_total", good)
		counted := map[flow.Reason]float64{}
		for _, r := range want {
			counted[r.Reason]++
		}
		for _, text := range elsewhere {
			counted[flow.Reason(text[strings.LastIndex(text, " ")+1:])]++
		}
		for reason, n := range counted {
			s.wantSample(t, fmt.Sprintf("flowmetrics_log_rejected_total{reason=%q}", reason), n)
		}
		var got []rejected
		var others []string
		for line := range strings.Lines(s.ok(t, "/api/v1/rejected")) {
			r := decode[flow.Rejection](t, line)
			if r.Detail == "" || r.Received.IsZero() {
				t.Errorf("listed without what a person needs: %s", line)
			}
			switch {
			case strings.HasPrefix(r.Subject, "flow.v1.changes.tracker.PAY"):
				got = append(got, rejected{r.Index, r.Source, r.ID, r.Reason, r.Position})
			case r.Subject == "POST /api/v1/changes":
				others = append(others, fmt.Sprint("POST ", r.Index, " ", r.Reason))
			case strings.HasPrefix(r.Subject, "file:/") && strings.HasSuffix(r.Subject, "/changes.jsonl"):
				others = append(others, fmt.Sprint("file ", r.Index, " ", r.Reason))
			default:
				t.Errorf("rejected from nowhere: %s", line)
			}
		}
		slices.Sort(others)
		if diff := cmp.Diff(elsewhere, others); diff != "" {
			t.Errorf("refused before the log: %s", diff)
		}
		slices.SortStableFunc(got, func(a, b rejected) int { return int(a.position) - int(b.position) })
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(rejected{})); diff != "" {
			t.Errorf("rejected otherwise: %s", diff)
		}
		stream, err := js.Stream(t.Context(), "FLOW_REJECTED")
		if err != nil {
			t.Fatal(err)
		}
		if n := stream.CachedInfo().State.Msgs; n != uint64(len(want)+len(elsewhere)) {
			t.Errorf("%d messages in the stream of rejections, want %d", n, len(want)+len(elsewhere))
		}
	}
	check(s)
	if n := s.runners[0].Status().Dropped[flow.ReasonMalformed]; n != 1 {
		t.Errorf("%d bad lines of the file counted, want 1", n)
	}
	s.end(t)
	check(start(t, dir, text))
}

// The golden histories, a repeated line among them, through the API: the
// numbers are those of a measurement of the same lines.
func TestIngest(t *testing.T) {
	t.Setenv("APP_TEST_INGEST", "open-sesame")
	body, err := os.ReadFile("../flow/testdata/golden.changes.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	body = bytes.ReplaceAll(body, []byte(`"2026-`), []byte(`"2025-`)) // in the past for any clock
	body = bytes.ReplaceAll(body, []byte(`"jira-main"`), []byte(`"tracker"`))
	dir := t.TempDir()
	withFile(t, dir)
	s := start(t, dir, trackerConfig)

	for name, token := range map[string]string{"none": "", "wrong": "Bearer sesame", "empty": "Bearer "} {
		if status, text := s.do(t, http.MethodPost, "/api/v1/changes", bytes.NewReader(body), "Authorization", token); status != http.StatusUnauthorized {
			t.Errorf("POST with token %s: %d: %s", name, status, text)
		}
	}
	if n := len(s.ok(t, "/api/v1/changes")); n > 0 {
		t.Fatalf("%d bytes in the log though every request was refused", n)
	}
	status, text := s.do(t, http.MethodPost, "/api/v1/changes", bytes.NewReader(body), "Authorization", "Bearer open-sesame")
	want := readLog(t, string(body))
	if status != http.StatusAccepted || text != fmt.Sprintf("{\"accepted\":%d}\n", len(want)) {
		t.Fatalf("POST: %d: %s", status, text)
	}
	// 202 is durable: all of it is in the log now.
	got := readLog(t, s.ok(t, "/api/v1/changes"))
	if diff := cmp.Diff(facts(t, want, "-"), facts(t, got, "-")); diff != "" {
		t.Error(diff)
	}
	eventually(t, "measured", func() bool { return s.processor.Status().Changes == uint64(len(want)) })

	ledger := flow.NewLedger()
	for i := range want {
		ledger.Add(&want[i])
	}
	for _, at := range []string{"2025-06-08T00:00:00Z", "2025-06-29T00:00:00Z", "2025-06-29T02:00:00+02:00"} {
		instant, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		measured, err := json.Marshal(flow.Measure(s.opts.Config.Policy(), ledger, instant.UTC(), flow.Options{}))
		if err != nil {
			t.Fatal(err)
		}
		if got := s.ok(t, "/api/v1/value-streams?at="+at); got != string(measured)+"\n" {
			t.Errorf("as of %s: %s", at, cmp.Diff(string(measured), got))
		}
	}
	type document struct {
		Quality struct{ Duplicates int } `json:"data_quality"`
		Streams []struct {
			Name    string
			Windows map[string]struct{ Velocity struct{ Items int } }
		} `json:"value_streams"`
	}
	d := decode[document](t, s.ok(t, "/api/v1/value-streams?at=2025-06-29T00:00:00Z"))
	if d.Quality.Duplicates != 1 || d.Streams[0].Windows["7d"].Velocity.Items == 0 {
		t.Errorf("golden numbers %+v", d)
	}

	// The same again is safe at any time: within two minutes it stores nothing.
	if status, _ := s.do(t, http.MethodPost, "/api/v1/changes", bytes.NewReader(body), "Flowmetrics-Ingest-Token", "open-sesame"); status != http.StatusAccepted {
		t.Errorf("POST again: %d", status)
	}
	if n := len(readLog(t, s.ok(t, "/api/v1/changes"))); n != len(want) {
		t.Errorf("%d changes in the log after the second time, want %d", n, len(want))
	}
}

func TestIngestWithoutToken(t *testing.T) {
	dir := t.TempDir()
	withFile(t, dir)
	s := start(t, dir, strings.Replace(trackerConfig, "web: {ingest_token_env: APP_TEST_INGEST}", "", 1))
	status, text := s.do(t, http.MethodPost, "/api/v1/changes", lines(ready("1")), "Authorization", "Bearer ")
	if status != http.StatusForbidden || !strings.Contains(text, "web.ingest_token_env") {
		t.Errorf("POST: %d: %s", status, text)
	}
	if n := len(s.ok(t, "/api/v1/changes")); n > 0 {
		t.Errorf("%d bytes in the log", n)
	}
}
