package github

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A fakeAnswer is what an endpoint says.
type fakeAnswer struct {
	status   int
	body     any
	link     string // header Link
	location string // header Location
}

// routes lists the endpoints of the REST API. A repository has two addresses:
// that of its name, and that of its id, which links use.
func (f *Fake) routes() *http.ServeMux {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(r *http.Request, base string) fakeAnswer) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			base := f.baseOf(r)
			f.mu.Lock()
			a := h(r, base)
			f.mu.Unlock()
			f.write(w, r, a)
		})
	}
	inRepo := func(path string, h func(*http.Request, string, *fakeRepo) fakeAnswer) {
		for _, prefix := range []string{"/repos/{owner}/{repo}", "/repositories/{id}"} {
			handle("GET "+prefix+path, func(r *http.Request, base string) fakeAnswer {
				repo, former := f.findRepo(r)
				if repo == nil {
					return fakeMessage(http.StatusNotFound, "Not Found")
				}
				if former {
					rest := strings.TrimPrefix(r.URL.RequestURI(), "/repos/"+r.PathValue("owner")+"/"+r.PathValue("repo"))
					return fakeMoved(fmt.Sprintf("%s/repositories/%d%s", base, repo.id, rest))
				}
				return h(r, base, repo)
			})
		}
	}
	inIssue := func(path string, h func(*http.Request, string, *fakeIssue) fakeAnswer) {
		inRepo("/issues/{number}"+path, func(r *http.Request, base string, repo *fakeRepo) fakeAnswer {
			n, _ := strconv.Atoi(r.PathValue("number"))
			if to := repo.moved[n]; to != nil {
				return fakeMoved(fmt.Sprintf("%s/repositories/%d/issues/%d%s", base, to.repo.id, to.number, path))
			}
			if repo.gone[n] {
				return fakeMessage(http.StatusGone, "This issue was deleted")
			}
			if i := repo.issues[n]; i != nil {
				return h(r, base, i)
			}
			return fakeMessage(http.StatusNotFound, "Not Found")
		})
	}
	inRepo("", func(_ *http.Request, base string, repo *fakeRepo) fakeAnswer {
		return fakeAnswer{status: http.StatusOK, body: showRepo(base, repo)}
	})
	inRepo("/issues", f.listIssues)
	inRepo("/labels", f.listLabels)
	inIssue("", func(_ *http.Request, base string, i *fakeIssue) fakeAnswer {
		o := showIssue(base, i)
		o["repository"] = showRepo(base, i.repo)
		return fakeAnswer{status: http.StatusOK, body: o}
	})
	inIssue("/timeline", f.timeline)
	handle("GET /orgs/{org}/issue-types", f.listTypes)
	handle("GET /user", f.user)
	handle("GET /rate_limit", f.rateLimit)
	handle("POST /app/installations/{id}/access_tokens", f.installationToken)
	handle("POST /graphql", f.graphql)
	handle("/", func(*http.Request, string) fakeAnswer { return fakeMessage(http.StatusNotFound, "Not Found") })
	return mux
}

const fakeDocs = "https://docs.github.com/rest"

func fakeMessage(status int, text string) fakeAnswer {
	return fakeAnswer{status: status, body: object{"message": text, "documentation_url": fakeDocs, "status": strconv.Itoa(status)}}
}

func fakeMoved(to string) fakeAnswer {
	return fakeAnswer{status: http.StatusMovedPermanently, location: to, body: object{
		"message": "Moved Permanently", "url": to, "documentation_url": fakeDocs,
	}}
}

func fakeInvalid(field string) fakeAnswer {
	return fakeAnswer{status: http.StatusUnprocessableEntity, body: object{
		"message": "Validation Failed", "documentation_url": fakeDocs,
		"errors": []object{{"resource": "Issue", "field": field, "code": "invalid"}},
	}}
}

// baseOf returns the address of the REST API as the client knows it.
func (f *Fake) baseOf(r *http.Request) string {
	// A request that comes by no network still has its whole address.
	scheme, below := cmp.Or(r.URL.Scheme, "http"), ""
	if r.TLS != nil {
		scheme = "https"
	}
	if f.opts.Enterprise {
		below = "/api/v3"
	}
	return scheme + "://" + r.Host + below
}

// ServeHTTP answers as GitHub.
func (f *Fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	now := f.opts.Now()
	f.mu.Lock()
	f.requests++
	n := f.requests
	if hour := now.Truncate(time.Hour); !hour.Equal(f.hour) {
		f.hour, f.used = hour, 0
	}
	f.used++
	used := f.used
	f.mu.Unlock()

	h := w.Header()
	h.Set("Date", now.UTC().Format(http.TimeFormat))
	h.Set("X-GitHub-Request-Id", fmt.Sprintf("FA4E:%X", n))
	h.Set("X-GitHub-Media-Type", "github.v3; format=json")
	if f.opts.Scopes != "" {
		h.Set("X-OAuth-Scopes", f.opts.Scopes)
		h.Set("X-Accepted-OAuth-Scopes", "repo")
	}
	if !f.opts.Enterprise || f.opts.Limit > 0 {
		f.showLimit(h, r, max(f.limit()-used, 1))
	}
	every := func(nth int) bool { return nth > 0 && n%nth == 0 }
	switch {
	case every(f.opts.LimitEvery):
		f.refuse(w, r, now)
		return
	case every(f.opts.FailEvery):
		h.Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusBadGateway)
		fmt.Fprintln(w, "<html><body><h1>502 Bad Gateway</h1></body></html>")
		return
	case !f.authorized(r):
		f.write(w, r, fakeMessage(http.StatusUnauthorized, "Bad credentials"))
		return
	}
	if f.opts.Enterprise {
		r = r.Clone(r.Context())
		path, below := strings.CutPrefix(r.URL.Path, "/api/v3")
		if path == "/api/graphql" {
			path, below = "/graphql", true
		}
		if !below {
			f.write(w, r, fakeMessage(http.StatusNotFound, "Not Found"))
			return
		}
		r.URL.Path, r.URL.RawPath = path, ""
	}
	f.mux.ServeHTTP(w, r)
}

func (f *Fake) limit() int { return cmp.Or(f.opts.Limit, 5000) }

func (f *Fake) showLimit(h http.Header, r *http.Request, remaining int) {
	resource := "core"
	if r.URL.Path == "/graphql" {
		resource = "graphql"
	}
	h.Set("X-RateLimit-Limit", strconv.Itoa(f.limit()))
	h.Set("X-RateLimit-Remaining", strconv.Itoa(remaining))
	h.Set("X-RateLimit-Used", strconv.Itoa(f.limit()-remaining))
	h.Set("X-RateLimit-Reset", strconv.FormatInt(f.opts.Now().Truncate(time.Hour).Add(time.Hour).Unix(), 10))
	h.Set("X-RateLimit-Resource", resource)
}

// refuse answers a request that is one too many.
func (f *Fake) refuse(w http.ResponseWriter, r *http.Request, now time.Time) {
	if f.opts.Secondary {
		w.Header().Set("Retry-After", strconv.Itoa(int((f.opts.LimitFor+time.Second-1)/time.Second)))
		f.write(w, r, fakeMessage(http.StatusForbidden, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."))
		return
	}
	f.showLimit(w.Header(), r, 0)
	reset := now.Add(f.opts.LimitFor + time.Second - 1).Truncate(time.Second)
	w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(reset.Unix(), 10))
	if strings.HasSuffix(r.URL.Path, "/graphql") {
		f.write(w, r, fakeAnswer{status: http.StatusOK, body: object{"errors": []object{{
			"type": "RATE_LIMITED", "message": "API rate limit exceeded",
		}}}})
		return
	}
	f.write(w, r, fakeMessage(http.StatusForbidden, "API rate limit exceeded"))
}

// authorized tells whether the request may go on. The endpoint that makes
// installation tokens has credentials of another kind, which are not checked.
func (f *Fake) authorized(r *http.Request) bool {
	if f.opts.Token == "" || strings.HasSuffix(r.URL.Path, "/access_tokens") {
		return true
	}
	_, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return subtle.ConstantTimeCompare([]byte(token), []byte(f.opts.Token)) == 1
}

// write sends an answer, or that it has not changed. What has not changed is
// free of the limit for whom is known.
func (f *Fake) write(w http.ResponseWriter, r *http.Request, a fakeAnswer) {
	text, h := mustMarshal(a.body), w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	if a.link != "" {
		h.Set("Link", a.link)
	}
	if a.location != "" {
		h.Set("Location", a.location)
	}
	if a.status == http.StatusOK && r.Method == http.MethodGet {
		sum := sha256.Sum256(text)
		tag := `W/"` + hex.EncodeToString(sum[:]) + `"`
		h.Set("ETag", tag)
		h.Set("Cache-Control", "private, max-age=60, s-maxage=60")
		if r.Header.Get("If-None-Match") == tag {
			if r.Header.Get("Authorization") != "" {
				f.mu.Lock()
				f.used--
				f.mu.Unlock()
			}
			h.Del("Content-Type")
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	w.WriteHeader(a.status)
	// A client that went away is no concern of GitHub's.
	_, _ = w.Write(text)
}

// findRepo finds a repository by name, whatever its case, or by id, and tells
// whether it does not have that name any more.
func (f *Fake) findRepo(r *http.Request) (repo *fakeRepo, former bool) {
	full := r.PathValue("owner") + "/" + r.PathValue("repo")
	for _, repo := range f.repos {
		if strings.EqualFold(repo.full(), full) || strconv.FormatInt(repo.id, 10) == r.PathValue("id") {
			return repo, false
		}
	}
	for _, repo := range f.repos {
		if slices.Contains(repo.former, full) {
			return repo, true
		}
	}
	return nil, false
}

// A fakePlace is where an issue stands in a list: what cursors hold.
type fakePlace struct {
	At time.Time `json:"at"`
	ID int64     `json:"id"`
}

func (p fakePlace) compare(o fakePlace) int {
	return cmp.Or(p.At.Compare(o.At), cmp.Compare(p.ID, o.ID))
}

func (f *Fake) listIssues(r *http.Request, base string, repo *fakeRepo) fakeAnswer {
	q := r.URL.Query()
	state, by := cmp.Or(q.Get("state"), "open"), cmp.Or(q.Get("sort"), "created")
	direction := 1
	if cmp.Or(q.Get("direction"), "desc") == "desc" {
		direction = -1
	}
	var since time.Time
	if text := q.Get("since"); text != "" {
		var err error
		if since, err = time.Parse(time.RFC3339, text); err != nil {
			return fakeInvalid("since")
		}
	}
	switch {
	case !slices.Contains([]string{"open", "closed", "all"}, state):
		return fakeInvalid("state")
	case by != "created" && by != "updated":
		return fakeInvalid("sort")
	}
	at := func(i *fakeIssue) fakePlace {
		if by == "updated" {
			return fakePlace{i.updated, i.id}
		}
		return fakePlace{i.created, i.id}
	}
	var found []*fakeIssue
	for _, i := range repo.issues {
		if (state == "all" || state == i.state()) && !i.updated.Before(since) && hasLabels(i, q.Get("labels")) {
			found = append(found, i)
		}
	}
	slices.SortFunc(found, func(a, b *fakeIssue) int { return direction * at(a).compare(at(b)) })

	limit, page, ok := f.paging(q)
	if !ok {
		return fakeInvalid("page")
	}
	start := (page - 1) * limit
	if q.Has("after") {
		var after fakePlace
		if !decodeFakeCursor(q.Get("after"), &after) {
			return fakeInvalid("after")
		}
		start = slices.IndexFunc(found, func(i *fakeIssue) bool { return direction*at(i).compare(after) > 0 })
		if start < 0 {
			start = len(found)
		}
	} else if start >= f.opts.CursorAfter {
		return fakeMessage(http.StatusUnprocessableEntity,
			"Pagination with the page parameter is not supported for large datasets, please use cursor based pagination (after/before)")
	}
	start = min(start, len(found))
	end := min(start+limit, len(found))
	shown := []object{}
	for _, i := range found[start:end] {
		shown = append(shown, showIssue(base, i))
	}
	a := fakeAnswer{status: http.StatusOK, body: shown}
	address := fmt.Sprintf("%s/repositories/%d/issues", base, repo.id)
	switch {
	case !q.Has("after") && (end == len(found) || page*limit < f.opts.CursorAfter):
		a.link = fakeLinks(address, q, page, limit, len(found), f.opts.CursorAfter)
	case end < len(found):
		q.Del("page")
		q.Set("after", encodeFakeCursor(at(found[end-1])))
		a.link = fmt.Sprintf(`<%s?%s>; rel="next"`, address, q.Encode())
	}
	return a
}

func hasLabels(i *fakeIssue, names string) bool {
	if names == "" {
		return true
	}
	for name := range strings.SplitSeq(names, ",") {
		if !slices.ContainsFunc(i.labels, func(l *fakeLabel) bool { return strings.EqualFold(l.name, name) }) {
			return false
		}
	}
	return true
}

// paging returns the size and the number of the page that is asked for.
func (f *Fake) paging(q url.Values) (limit, page int, ok bool) {
	limit, page = 30, 1
	var err error
	if text := q.Get("per_page"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 {
			return 0, 0, false
		}
	}
	if text := q.Get("page"); text != "" {
		if page, err = strconv.Atoi(text); err != nil || page < 1 {
			return 0, 0, false
		}
	}
	return min(limit, f.opts.PageSize), page, true
}

// fakeLinks makes the header Link of a page that has a number. Rows beyond most
// have no number.
func fakeLinks(address string, q url.Values, page, limit, rows, most int) string {
	last := (rows + limit - 1) / limit
	var links []string
	add := func(n int, rel string) {
		q.Set("page", strconv.Itoa(n))
		links = append(links, fmt.Sprintf(`<%s?%s>; rel="%s"`, address, q.Encode(), rel))
	}
	if page > 1 {
		add(page-1, "prev")
	}
	if page < last {
		add(page+1, "next")
		if (last-1)*limit < most {
			add(last, "last")
		}
	}
	if page > 1 {
		add(1, "first")
	}
	return strings.Join(links, ", ")
}

func encodeFakeCursor(p fakePlace) string {
	return base64.RawURLEncoding.EncodeToString(mustMarshal(p))
}

func decodeFakeCursor(text string, p *fakePlace) bool {
	plain, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && json.Unmarshal(plain, p) == nil
}

// paged cuts a list of rows to the page that is asked for.
func (f *Fake) paged(r *http.Request, address string, rows int, show func(k int) any) fakeAnswer {
	q := r.URL.Query()
	limit, page, ok := f.paging(q)
	if !ok {
		return fakeInvalid("page")
	}
	shown := []any{}
	for k := (page - 1) * limit; k < min(page*limit, rows); k++ {
		shown = append(shown, show(k))
	}
	return fakeAnswer{status: http.StatusOK, body: shown, link: fakeLinks(address, q, page, limit, rows, rows)}
}

func (f *Fake) timeline(r *http.Request, base string, i *fakeIssue) fakeAnswer {
	address := fmt.Sprintf("%s/repositories/%d/issues/%d/timeline", base, i.repo.id, i.number)
	return f.paged(r, address, len(i.events), func(k int) any { return showEvent(base, i, i.events[k]) })
}

func (f *Fake) listLabels(r *http.Request, base string, repo *fakeRepo) fakeAnswer {
	address := fmt.Sprintf("%s/repositories/%d/labels", base, repo.id)
	return f.paged(r, address, len(repo.labels), func(k int) any { return showLabel(base, repo, repo.labels[k]) })
}

// listTypes answers for an organisation: an owner that has a repository.
func (f *Fake) listTypes(r *http.Request, _ string) fakeAnswer {
	if !slices.ContainsFunc(f.repos, func(repo *fakeRepo) bool { return strings.EqualFold(repo.owner, r.PathValue("org")) }) {
		return fakeMessage(http.StatusNotFound, "Not Found")
	}
	shown := []any{}
	for _, t := range f.types {
		shown = append(shown, showType(t))
	}
	return fakeAnswer{status: http.StatusOK, body: shown}
}

func (f *Fake) user(r *http.Request, base string) fakeAnswer {
	if r.Header.Get("Authorization") == "" {
		return fakeMessage(http.StatusUnauthorized, "Requires authentication")
	}
	o := showUser(base, fakeMaintainer)
	for _, name := range []string{"name", "company", "location", "email", "hireable", "bio"} {
		o[name] = nil
	}
	for _, name := range []string{"public_repos", "public_gists", "followers", "following"} {
		o[name] = 0
	}
	o["user_view_type"] = "public"
	o["blog"], o["created_at"], o["updated_at"] = "", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"
	return fakeAnswer{status: http.StatusOK, body: o}
}

func (f *Fake) rateLimit(*http.Request, string) fakeAnswer {
	if f.opts.Enterprise && f.opts.Limit == 0 {
		return fakeMessage(http.StatusNotFound, "Rate limiting is not enabled.")
	}
	left := object{"limit": f.limit(), "used": f.used, "remaining": max(f.limit()-f.used, 1), "reset": f.hour.Add(time.Hour).Unix()}
	return fakeAnswer{status: http.StatusOK, body: object{
		"rate": left, "resources": object{"core": left, "graphql": left, "search": left},
	}}
}

// installationToken gives an app its token.
func (f *Fake) installationToken(*http.Request, string) fakeAnswer {
	return fakeAnswer{status: http.StatusCreated, body: object{
		"token": cmp.Or(f.opts.Token, "ghs_fake"), "expires_at": fakeTime(f.opts.Now().Add(time.Hour)),
		"permissions": object{"issues": "read", "metadata": "read"}, "repository_selection": "all",
	}}
}
