package jira

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// call makes a request to a fake and decodes its answer.
func call(t testing.TB, f *Fake, method, path, body string) (int, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	f.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	var answer map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil && w.Code < 400 {
		t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
	}
	return w.Code, answer
}

func searchPath(api, jql, rest string) string {
	return "/rest/api/" + api + "?jql=" + url.QueryEscape(jql) + rest
}

// TestFakeFlavours checks which endpoints each kind of site has.
func TestFakeFlavours(t *testing.T) {
	cloud, server := world(NewFake(FakeOptions{})), world(NewFake(FakeOptions{DataCenter: true}))
	for _, c := range []struct {
		path          string
		cloud, server int
	}{
		{"/rest/api/2/serverInfo", 200, 200},
		{"/rest/api/3/serverInfo", 200, 404},
		{"/rest/api/2/myself", 200, 200},
		{"/rest/api/3/search?jql=project=PAY", 410, 404},
		{"/rest/api/2/search?jql=project=PAY", 410, 200},
		{"/rest/api/3/search/jql?jql=project=PAY", 200, 404},
		{"/rest/api/3/search/jql?jql=ORDER+BY+updated", 400, 404},
		{"/rest/api/2/search?jql=ORDER+BY+updated", 410, 200},
		{"/rest/api/3/search/jql?jql=project=NOPE", 400, 404},
		{"/rest/api/3/search/jql?jql=assignee=me", 400, 404},
		{"/rest/api/3/search/jql?jql=project=PAY&nextPageToken=x!", 400, 404},
		{"/rest/api/2/issue/PAY-1", 200, 200},
		{"/rest/api/2/issue/PAY-99", 404, 404},
		{"/rest/api/3/issue/PAY-1/changelog", 200, 404},
		{"/rest/api/2/issue/PLAT-1", 200, 200}, // a former key
		{"/rest/api/2/project/PAY", 200, 200},
		{"/rest/api/2/project/NOPE", 404, 404},
	} {
		if code, _ := call(t, cloud, "GET", c.path, ""); code != c.cloud {
			t.Errorf("cloud: %s: %d, want %d", c.path, code, c.cloud)
		}
		if code, _ := call(t, server, "GET", c.path, ""); code != c.server {
			t.Errorf("data center: %s: %d, want %d", c.path, code, c.server)
		}
	}
	if code, _ := call(t, cloud, "POST", "/rest/api/3/changelog/bulkfetch", `{"issueIdsOrKeys":["PAY-1"]}`); code != 200 {
		t.Errorf("bulk: %d", code)
	}
	for _, body := range []string{`{"issueIdsOrKeys":[]}`, `{`, `{"issueIdsOrKeys":[1]}`} {
		if code, _ := call(t, cloud, "POST", "/rest/api/3/changelog/bulkfetch", body); code != 400 {
			t.Errorf("bulk %s: %d, want 400", body, code)
		}
	}
}

// TestFakeZones checks that a bare time in JQL, and each time shown, is one of
// the caller's zone, and that a number is not.
func TestFakeZones(t *testing.T) {
	// The newest update of the world is on 8 March 2026 at 09:00 UTC.
	for name, want := range map[string]struct {
		bare  string
		shown string
	}{
		"UTC":              {"2026-03-08 09:00", "2026-03-08T09:00:00.000+0000"},
		"Asia/Kolkata":     {"2026-03-08 14:30", "2026-03-08T14:30:00.000+0530"},
		"America/St_Johns": {"2026-03-08 06:30", "2026-03-08T06:30:00.000-0230"}, // the day of the change to summer time
	} {
		f := world(NewFake(FakeOptions{Location: zone(t, name)}))
		for _, bound := range []string{`"` + want.bare + `"`, fmt.Sprint(day(6).UnixMilli())} {
			_, answer := call(t, f, "GET", searchPath("3/search/jql", "updated >= "+bound+" ORDER BY updated ASC", "&fields=updated"), "")
			issues := answer["issues"].([]any)
			if len(issues) != 8 {
				t.Fatalf("%s: %d issues since %s, want 8", name, len(issues), bound)
			}
			if got := issues[0].(map[string]any)["fields"].(map[string]any)["updated"]; got != want.shown {
				t.Errorf("%s: shown %v, want %s", name, got, want.shown)
			}
		}
		_, answer := call(t, f, "GET", searchPath("3/search/jql", fmt.Sprintf("updated >= %d", day(6).UnixMilli()+1), ""), "")
		if n := len(answer["issues"].([]any)); n != 0 {
			t.Errorf("%s: %d issues after the last update", name, n)
		}
	}
}

// TestFakeChangelogs checks that Cloud cuts off the oldest entries, shows the
// newest first and splits the bulk changelog inside of an issue.
func TestFakeChangelogs(t *testing.T) {
	f := world(NewFake(FakeOptions{InlineHistories: 2, BulkSize: 3}))
	_, is := call(t, f, "GET", "/rest/api/3/issue/PAY-1?expand=changelog", "")
	log := is["changelog"].(map[string]any)
	inline := log["histories"].([]any)
	if log["total"] != 4.0 || len(inline) != 2 {
		t.Fatalf("%d of %v histories inline", len(inline), log["total"])
	}
	_, page := call(t, f, "GET", "/rest/api/3/issue/PAY-1/changelog?startAt=2", "")
	values := page["values"].([]any)
	id := func(v any) string { return v.(map[string]any)["id"].(string) }
	if len(values) != 2 || id(values[1]) != id(inline[0]) || id(values[0]) != id(inline[1]) {
		t.Errorf("inline %v, paged %v", inline, values)
	}
	body := `{"issueIdsOrKeys":["PAY-1","PAY-2"]}`
	pages, entries := 0, 0
	for token := ""; ; pages++ {
		if token != "" {
			body = `{"issueIdsOrKeys":["PAY-1","PAY-2"],"nextPageToken":"` + token + `"}`
		}
		_, answer := call(t, f, "POST", "/rest/api/3/changelog/bulkfetch", body)
		for _, l := range answer["issueChangeLogs"].([]any) {
			entries += len(l.(map[string]any)["changeHistories"].([]any))
		}
		next, more := answer["nextPageToken"].(string)
		if !more {
			break
		}
		token = next
	}
	if pages != 2 || entries != 9 {
		t.Errorf("%d full pages with %d entries", pages, entries)
	}
}

// TestFakeResolution checks that the date of resolution is the start of the
// last stay in done.
func TestFakeResolution(t *testing.T) {
	f := world(NewFake(FakeOptions{}))
	_, is := call(t, f, "GET", "/rest/api/3/issue/PAY-2", "")
	fields := is["fields"].(map[string]any)
	if got := fields["resolutiondate"]; got != "2026-03-07T09:00:00.000+0000" {
		t.Errorf("resolved %v", got)
	}
	if got := fields["updated"]; got != "2026-03-07T09:00:00.000+0000" {
		t.Errorf("updated %v: a migration moves it", got)
	}
	_, is = call(t, f, "GET", "/rest/api/3/issue/PAY-3", "")
	if got := is["fields"].(map[string]any)["resolutiondate"]; got != nil {
		t.Errorf("an open issue was resolved %v", got)
	}
}

func TestFakeMistakes(t *testing.T) {
	f := world(NewFake(FakeOptions{}))
	for name, do := range map[string]func(){
		"project":    func() { f.Create(day(0), "NOPE", "Story", "Backlog", "") },
		"type":       func() { f.Create(day(0), "PAY", "Nope", "Backlog", "") },
		"status":     func() { f.Create(day(0), "PAY", "Story", "Nope", "") },
		"issue":      func() { f.Edit(day(0), "1") },
		"renaming":   func() { f.RenameStatus("nope", "x") },
		"status id ": func() { f.Create(day(0), "PAY", "Story", "id:nope", "") },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			do()
		})
	}
	// The site goes on after a mistake.
	if code, _ := call(t, f, "GET", "/rest/api/3/issue/PAY-1", ""); code != 200 {
		t.Errorf("answer %d", code)
	}
}

// TestFakeConcurrently edits while several clients read; the race detector
// watches.
func TestFakeConcurrently(t *testing.T) {
	f := world(NewFake(FakeOptions{PageSize: 5}))
	site := httptest.NewServer(f)
	defer site.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := range 100 {
			id := f.Create(day(7), "PAY", "Bug", "Backlog", "New")
			f.Edit(day(8).Add(time.Duration(n)*time.Second), id, SetStatus("In Review"), SetLabels("x"))
			if n%3 == 0 {
				f.Delete(id)
			}
		}
	})
	for range 3 {
		wg.Go(func() {
			s, err := New(Config{URL: site.URL, Projects: []string{"PAY"}})
			if err != nil {
				t.Error(err)
				return
			}
			if _, _, err := poll(s, nil); err != nil {
				t.Error(err)
			}
			_, _ = s.Requests(), f.Requests()
		})
	}
	wg.Wait()
}

// BenchmarkBackfill reads 2,000 issues with 8 changes each over the loopback;
// "bare" only fetches the same pages.
func BenchmarkBackfill(b *testing.B) {
	f := world(NewFake(FakeOptions{PageSize: 100}))
	for n := range 2000 {
		id := f.Create(day(float64(n)/100), "PAY", "Story", "Backlog", "Item")
		for k := range 8 {
			f.Edit(day(float64(n)/100+float64(k)/10), id, SetStatus([]string{"In Progress", "In Review"}[k%2]))
		}
	}
	// The pages are made beforehand: the fake's own work is not measured.
	pages := map[string][]byte{}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page, ok := pages[r.URL.String()]
		if !ok {
			rec := httptest.NewRecorder()
			f.ServeHTTP(rec, r)
			page = rec.Body.Bytes()
			pages[r.URL.String()] = page
		}
		w.Write(page)
	}))
	defer site.Close()
	var paths []string
	source := func() *Source {
		s, err := New(Config{URL: site.URL, Projects: []string{"PAY", "PLAT"}, Titles: true, Transport: recorder{&paths}})
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	if _, _, err := poll(source(), nil); err != nil {
		b.Fatal(err)
	}
	gets := append([]string(nil), paths...)
	b.Run("source", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := poll(source(), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("bare", func(b *testing.B) {
		for b.Loop() {
			for _, p := range gets {
				resp, err := http.Get(p)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
		}
	})
}

// recorder notes the URLs that are asked for.
type recorder struct{ urls *[]string }

func (r recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	*r.urls = append(*r.urls, req.URL.String())
	return http.DefaultTransport.RoundTrip(req)
}
