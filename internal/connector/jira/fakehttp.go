package jira

import (
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// object is a JSON object of an answer.
type object = map[string]any

// routes lists the endpoints. Those of the other flavour are missing, as they
// are on a real site.
func (f *Fake) routes() *http.ServeMux {
	mux := http.NewServeMux()
	versions := []string{"/rest/api/2", "/rest/api/3"}
	if f.opts.DataCenter {
		versions = versions[:1]
	}
	for _, api := range versions {
		handle := func(method, path string, h func(*http.Request) (int, any)) {
			mux.HandleFunc(method+" "+api+path, func(w http.ResponseWriter, r *http.Request) {
				status, answer := f.locked(h, r)
				writeJSON(w, status, answer)
			})
		}
		handle("GET", "/serverInfo", f.serverInfo)
		handle("GET", "/myself", f.myself)
		handle("GET", "/status", f.listStatuses)
		handle("GET", "/issuetype", f.listTypes)
		handle("GET", "/project/{project}", f.getProject)
		handle("GET", "/issue/{issue}", f.getIssue)
		if f.opts.DataCenter {
			handle("GET", "/search", f.searchDataCenter)
			handle("POST", "/search", f.searchDataCenter)
			continue
		}
		handle("GET", "/search", gone)
		handle("POST", "/search", gone)
		handle("GET", "/search/jql", f.searchCloud)
		handle("POST", "/search/jql", f.searchCloud)
		handle("POST", "/search/approximate-count", f.count)
		handle("GET", "/issue/{issue}/changelog", f.changelog)
		if !f.opts.NoBulkFetch {
			handle("POST", "/changelog/bulkfetch", f.bulkFetch)
		}
	}
	return mux
}

func (f *Fake) locked(h func(*http.Request) (int, any), r *http.Request) (int, any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return h(r)
}

// ServeHTTP answers as the site.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests++
	limited := f.opts.LimitEvery > 0 && f.requests%f.opts.LimitEvery == 0
	f.mu.Unlock()
	switch {
	case limited:
		seconds := (f.opts.RetryAfter + time.Second - 1) / time.Second
		w.Header().Set("Retry-After", strconv.Itoa(int(seconds)))
		w.Header().Set("X-RateLimit-Remaining", "0")
		writeJSON(w, http.StatusTooManyRequests, messages("Rate limit exceeded."))
	case !f.authorized(r):
		w.Header().Set("WWW-Authenticate", "Basic realm=\"fake\"")
		writeJSON(w, http.StatusUnauthorized, messages("Client must be authenticated to access this resource."))
	default:
		f.mux.ServeHTTP(w, r)
	}
}

func (f *Fake) authorized(r *http.Request) bool {
	if f.opts.Token == "" {
		return true
	}
	want := "Bearer " + f.opts.Token
	if !f.opts.DataCenter && f.opts.Email != "" {
		want = "Basic " + base64.StdEncoding.EncodeToString([]byte(f.opts.Email+":"+f.opts.Token))
	}
	return subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte(want)) == 1
}

func writeJSON(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	w.WriteHeader(status)
	// A client that went away is no concern of the site.
	_ = json.NewEncoder(w).Encode(answer)
}

func messages(text string) object { return object{"errorMessages": []string{text}, "errors": object{}} }

func gone(*http.Request) (int, any) {
	return http.StatusGone, messages("The requested API has been removed. Please migrate to the /rest/api/3/search/jql API.")
}

func (f *Fake) serverInfo(*http.Request) (int, any) {
	deployment := "Cloud"
	if f.opts.DataCenter {
		deployment = "Server"
	}
	return http.StatusOK, object{"deploymentType": deployment, "serverTime": f.stamp(f.opts.Now()), "serverTitle": "Fake Jira"}
}

func (f *Fake) myself(*http.Request) (int, any) {
	return http.StatusOK, object{"accountId": "user-1", "displayName": "user-1", "active": true, "timeZone": f.opts.Location.String()}
}

func (f *Fake) listStatuses(*http.Request) (int, any) {
	list := []object{}
	for _, s := range f.statuses {
		list = append(list, showStatus(s))
	}
	return http.StatusOK, list
}

func (f *Fake) listTypes(*http.Request) (int, any) {
	list := []object{}
	for _, t := range f.types {
		list = append(list, object{"id": t.id, "name": t.name, "subtask": false})
	}
	return http.StatusOK, list
}

func (f *Fake) getProject(r *http.Request) (int, any) {
	for _, p := range f.projects {
		if name := r.PathValue("project"); name == p.key || name == p.id {
			return http.StatusOK, object{"id": p.id, "key": p.key, "name": p.name}
		}
	}
	return http.StatusNotFound, messages("No project could be found with that key or id.")
}

// find looks an issue up by id or by key, also a former one.
func (f *Fake) find(name string) *fakeIssue {
	id, err := strconv.Atoi(name)
	if err != nil {
		id = f.keys[name]
	}
	return f.issues[id]
}

var fakeNoIssue = messages("Issue does not exist or you do not have permission to see it.")

func (f *Fake) getIssue(r *http.Request) (int, any) {
	i := f.find(r.PathValue("issue"))
	if i == nil {
		return http.StatusNotFound, fakeNoIssue
	}
	q := r.URL.Query()
	if !q.Has("fields") {
		q.Set("fields", "*all")
	}
	return http.StatusOK, f.show(i, q)
}

// params returns the parameters of a query or of a JSON body.
func params(r *http.Request) (url.Values, bool) {
	if r.Method == http.MethodGet {
		return r.URL.Query(), true
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return nil, false
	}
	var in map[string]any
	if json.Unmarshal(body, &in) != nil {
		return nil, false
	}
	q := make(url.Values)
	for name, value := range in {
		switch v := value.(type) {
		case string:
			q.Set(name, v)
		case float64:
			q.Set(name, strconv.FormatFloat(v, 'f', -1, 64))
		case []any:
			var texts []string
			for _, e := range v {
				text, ok := e.(string)
				if !ok {
					return nil, false
				}
				texts = append(texts, text)
			}
			q.Set(name, strings.Join(texts, ","))
		}
	}
	return q, true
}

// limit returns how many results a page holds at the most.
func (f *Fake) limit(q url.Values, most int) int {
	asked, err := strconv.Atoi(q.Get("maxResults"))
	if err != nil || asked <= 0 {
		asked = 50
	}
	return min(asked, f.opts.PageSize, most)
}

var fakeBadBody = messages("Invalid request payload. Refer to the REST API documentation and try again.")

func (f *Fake) searchCloud(r *http.Request) (int, any) {
	in, ok := params(r)
	if !ok {
		return http.StatusBadRequest, fakeBadBody
	}
	q, err := f.parseJQL(in.Get("jql"))
	if err != nil {
		return http.StatusBadRequest, messages(err.Error())
	}
	if !q.restricted {
		return http.StatusBadRequest, messages("Unbounded JQL queries are not allowed here. Please add a search restriction to your query.")
	}
	found := f.matches(q)
	read := 0
	if token := in.Get("nextPageToken"); token != "" {
		var after place
		if f.opts.PositionTokens && !decodeToken(token, &read) || !f.opts.PositionTokens && !decodeToken(token, &after) {
			return http.StatusBadRequest, messages("The provided next page token is invalid or has expired.")
		}
		k := slices.IndexFunc(found, func(i *fakeIssue) bool { return q.compare(q.place(i), after) > 0 })
		if k < 0 {
			k = len(found)
		}
		if f.opts.PositionTokens {
			k = min(max(read, 0), len(found))
		}
		found = found[k:]
	}
	n := min(f.limit(in, 5000), len(found))
	answer := object{"issues": f.showAll(found[:n], in), "isLast": n == len(found)}
	switch {
	case n == len(found):
	case f.opts.PositionTokens:
		answer["nextPageToken"] = encodeToken(read + n)
	default:
		answer["nextPageToken"] = encodeToken(q.place(found[n-1]))
	}
	return http.StatusOK, answer
}

func encodeToken(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // numbers always encode
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func decodeToken(token string, v any) bool {
	text, err := base64.RawURLEncoding.DecodeString(token)
	return err == nil && json.Unmarshal(text, v) == nil
}

func (f *Fake) searchDataCenter(r *http.Request) (int, any) {
	in, ok := params(r)
	if !ok {
		return http.StatusBadRequest, fakeBadBody
	}
	q, err := f.parseJQL(in.Get("jql"))
	if err != nil {
		return http.StatusBadRequest, messages(err.Error())
	}
	found := f.matches(q)
	start, _ := strconv.Atoi(in.Get("startAt"))
	start = min(max(start, 0), len(found))
	limit := f.limit(in, 1000)
	end := min(start+limit, len(found))
	if !in.Has("fields") {
		in.Set("fields", "*all")
	}
	return http.StatusOK, object{
		"startAt": start, "maxResults": limit, "total": len(found), "issues": f.showAll(found[start:end], in),
	}
}

func (f *Fake) count(r *http.Request) (int, any) {
	in, ok := params(r)
	if !ok {
		return http.StatusBadRequest, fakeBadBody
	}
	q, err := f.parseJQL(in.Get("jql"))
	if err != nil {
		return http.StatusBadRequest, messages(err.Error())
	}
	return http.StatusOK, object{"count": len(f.matches(q))}
}

func (f *Fake) changelog(r *http.Request) (int, any) {
	i := f.find(r.PathValue("issue"))
	if i == nil {
		return http.StatusNotFound, fakeNoIssue
	}
	q := r.URL.Query()
	start, _ := strconv.Atoi(q.Get("startAt"))
	start = min(max(start, 0), len(i.histories))
	limit := f.limit(q, 100)
	end := min(start+limit, len(i.histories))
	return http.StatusOK, object{
		"startAt": start, "maxResults": limit, "total": len(i.histories), "isLast": end == len(i.histories),
		"values": f.showHistories(i.histories[start:end], false),
	}
}

func (f *Fake) bulkFetch(r *http.Request) (int, any) {
	in, ok := params(r)
	names := strings.Split(in.Get("issueIdsOrKeys"), ",")
	if !ok || in.Get("issueIdsOrKeys") == "" || len(names) > 1000 {
		return http.StatusBadRequest, fakeBadBody
	}
	start := 0
	if token := in.Get("nextPageToken"); token != "" && !decodeToken(token, &start) {
		return http.StatusBadRequest, messages("The provided next page token is invalid or has expired.")
	}
	limit, err := strconv.Atoi(in.Get("maxResults"))
	if err != nil || limit <= 0 {
		limit = 1000
	}
	limit = min(limit, 10000, f.opts.BulkSize)
	logs, seen, left := []object{}, 0, false
	for _, name := range names {
		i := f.find(name)
		if i == nil {
			continue
		}
		from := min(max(start-seen, 0), len(i.histories))
		to := min(max(start+limit-seen, 0), len(i.histories))
		seen += len(i.histories)
		left = left || to < len(i.histories)
		if from < to {
			logs = append(logs, object{
				"issueId": strconv.Itoa(i.id), "changeHistories": f.showHistories(i.histories[from:to], f.opts.EpochCreated),
			})
		}
	}
	answer := object{"issueChangeLogs": logs}
	if left {
		answer["nextPageToken"] = encodeToken(start + limit)
	}
	return http.StatusOK, answer
}

// stamp shows a time as Jira does: in the caller's zone, with milliseconds and
// an offset without a colon.
func (f *Fake) stamp(t time.Time) string {
	return t.In(f.opts.Location).Format("2006-01-02T15:04:05.000-0700")
}

func showStatus(s *fakeStatus) object {
	return object{"id": s.id, "name": s.name, "statusCategory": object{"key": s.category}}
}

func (f *Fake) showAll(issues []*fakeIssue, q url.Values) []object {
	shown := []object{}
	for _, i := range issues {
		shown = append(shown, f.show(i, q))
	}
	return shown
}

// show renders the fields asked for, and the changelog if it is.
func (f *Fake) show(i *fakeIssue, q url.Values) object {
	all := object{
		"created": f.stamp(i.created), "updated": f.stamp(i.updated), "summary": i.summary,
		"status":    showStatus(i.status),
		"issuetype": object{"id": i.typ.id, "name": i.typ.name, "subtask": false},
		"project":   object{"id": i.project.id, "key": i.project.key, "name": i.project.name},
		"labels":    append([]string{}, i.labels...), "resolution": nil, "resolutiondate": nil, "assignee": nil,
	}
	if i.resolution != nil {
		all["resolution"] = object{"id": i.resolution.id, "name": i.resolution.name}
	}
	if !i.resolvedAt.IsZero() {
		all["resolutiondate"] = f.stamp(i.resolvedAt)
	}
	if i.assigned {
		all["assignee"] = object{"accountId": "user-1", "displayName": "user-1"}
	}
	if i.parent != "" {
		all["parent"] = object{"id": i.parent, "key": f.keyOf(i.parent)}
	}
	shown := object{"id": strconv.Itoa(i.id), "key": i.key}
	fields := object{}
	for name := range strings.SplitSeq(q.Get("fields"), ",") {
		if value, ok := all[name]; ok {
			fields[name] = value
		} else if name == "*all" {
			fields = all
			break
		}
	}
	if len(fields) > 0 {
		shown["fields"] = fields
	}
	if slices.Contains(strings.Split(q.Get("expand"), ","), "changelog") {
		shown["changelog"] = f.showChangelog(i)
	}
	return shown
}

// showChangelog renders the inline changelog: complete on Data Center, the
// newest entries only, and these first, on Cloud.
func (f *Fake) showChangelog(i *fakeIssue) object {
	histories := slices.Clone(i.histories)
	if !f.opts.DataCenter {
		slices.Reverse(histories)
		if n := f.opts.InlineHistories; n > 0 && n < len(histories) {
			histories = histories[:n]
		}
	}
	return object{
		"startAt": 0, "maxResults": len(histories), "total": len(i.histories),
		"histories": f.showHistories(histories, false),
	}
}

func (f *Fake) showHistories(histories []fakeHistory, epoch bool) []object {
	shown := []object{}
	for _, h := range histories {
		items := []object{}
		for _, it := range h.items {
			item := object{
				"field": it.field, "fieldtype": "jira",
				"from": null(it.from), "fromString": null(it.fromText), "to": null(it.to), "toString": null(it.toText),
			}
			if it.fieldID != "" {
				item["fieldId"] = it.fieldID
			}
			items = append(items, item)
		}
		entry := object{"id": strconv.Itoa(h.id), "author": object{"accountId": "user-1"}, "created": f.stamp(h.at), "items": items}
		if epoch {
			entry["created"] = h.at.UnixMilli()
		}
		shown = append(shown, entry)
	}
	return shown
}

// null shows an empty text as null.
func null(text string) any {
	if text == "" {
		return nil
	}
	return text
}
