package github

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// object is a JSON object of an answer.
type object = map[string]any

// The following show things as the REST API and webhooks do. base is the
// address of the REST API.

func fakeTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// fakeTimeOrNull shows the zero time as null.
func fakeTimeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return fakeTime(t)
}

// fakeNull shows an empty text as null.
func fakeNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

// fakeSite returns the address of the pages that go with an address of the API.
func fakeSite(base string) string {
	return strings.Replace(strings.TrimSuffix(base, "/api/v3"), "://api.", "://", 1)
}

func (r *fakeRepo) url(base string) string { return base + "/repos/" + r.full() }

func showUser(base, login string) object {
	id := int64(1000)
	for _, c := range []byte(login) {
		id = id*31%1_000_003 + int64(c)
	}
	kind := "User"
	if strings.HasSuffix(login, "[bot]") {
		kind = "Bot"
	}
	u := base + "/users/" + url.PathEscape(login)
	return object{
		"login": login, "id": id, "node_id": fakeNodeID("U", id), "type": kind, "site_admin": false, "gravatar_id": "",
		"avatar_url": fakeSite(base) + "/avatars/u/" + strconv.FormatInt(id, 10), "html_url": fakeSite(base) + "/" + url.PathEscape(login), "url": u,
		"followers_url": u + "/followers", "following_url": u + "/following{/other_user}", "gists_url": u + "/gists{/gist_id}",
		"starred_url": u + "/starred{/owner}{/repo}", "subscriptions_url": u + "/subscriptions", "organizations_url": u + "/orgs",
		"repos_url": u + "/repos", "events_url": u + "/events{/privacy}", "received_events_url": u + "/received_events",
	}
}

func showOrganization(base, login string) object {
	o := showUser(base, login)
	u := base + "/orgs/" + login
	return object{
		"login": login, "id": o["id"], "node_id": o["node_id"], "avatar_url": o["avatar_url"], "description": "", "url": u,
		"repos_url": u + "/repos", "events_url": u + "/events", "hooks_url": u + "/hooks", "issues_url": u + "/issues",
		"members_url": u + "/members{/member}", "public_members_url": u + "/public_members{/member}",
	}
}

// fakeRepoLinks are the addresses that a repository shows of its parts.
var fakeRepoLinks = map[string]string{
	"archive_url": "/{archive_format}{/ref}", "assignees_url": "/assignees{/user}", "blobs_url": "/git/blobs{/sha}",
	"branches_url": "/branches{/branch}", "collaborators_url": "/collaborators{/collaborator}", "comments_url": "/comments{/number}",
	"commits_url": "/commits{/sha}", "compare_url": "/compare/{base}...{head}", "contents_url": "/contents/{+path}",
	"contributors_url": "/contributors", "deployments_url": "/deployments", "downloads_url": "/downloads", "events_url": "/events",
	"forks_url": "/forks", "git_commits_url": "/git/commits{/sha}", "git_refs_url": "/git/refs{/sha}", "git_tags_url": "/git/tags{/sha}",
	"hooks_url": "/hooks", "issue_comment_url": "/issues/comments{/number}", "issue_events_url": "/issues/events{/number}",
	"issues_url": "/issues{/number}", "keys_url": "/keys{/key_id}", "labels_url": "/labels{/name}", "languages_url": "/languages",
	"merges_url": "/merges", "milestones_url": "/milestones{/number}", "notifications_url": "/notifications{?since,all,participating}",
	"pulls_url": "/pulls{/number}", "releases_url": "/releases{/id}", "stargazers_url": "/stargazers", "statuses_url": "/statuses/{sha}",
	"subscribers_url": "/subscribers", "subscription_url": "/subscription", "tags_url": "/tags", "teams_url": "/teams", "trees_url": "/git/trees{/sha}",
}

func showRepo(base string, r *fakeRepo) object {
	page, born := fakeSite(base)+"/"+r.full(), fakeTime(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
	o := object{
		"id": r.id, "node_id": fakeNodeID("R", r.id), "name": r.name, "full_name": r.full(), "owner": showUser(base, r.owner),
		"private": false, "visibility": "public", "fork": false, "archived": false, "disabled": false, "description": nil,
		"url": r.url(base), "html_url": page, "clone_url": page + ".git", "git_url": page + ".git", "svn_url": page, "ssh_url": page + ".git",
		"mirror_url": nil, "homepage": nil, "language": nil, "license": nil, "default_branch": "main", "topics": []string{}, "size": 1,
		"has_issues": true, "has_projects": true, "has_wiki": false, "has_pages": false, "has_downloads": false, "has_discussions": true,
		"is_template": false, "allow_forking": true, "web_commit_signoff_required": false,
		"forks": 0, "forks_count": 0, "stargazers_count": 0, "watchers": 0, "watchers_count": 0, "network_count": 0, "subscribers_count": 0,
		"open_issues": r.open, "open_issues_count": r.open, "pushed_at": born, "created_at": born, "updated_at": born,
	}
	for name, path := range fakeRepoLinks {
		o[name] = r.url(base) + path
	}
	return o
}

func showLabel(base string, r *fakeRepo, l *fakeLabel) object {
	return object{
		"id": l.id, "node_id": fakeNodeID("LA", l.id), "url": r.url(base) + "/labels/" + url.PathEscape(l.name),
		"name": l.name, "description": nil, "color": "ededed", "default": false,
	}
}

func showLabels(base string, r *fakeRepo, labels []*fakeLabel) []object {
	shown := []object{}
	for _, l := range labels {
		shown = append(shown, showLabel(base, r, l))
	}
	return shown
}

// showType shows an issue type; none is null.
func showType(t *fakeType) any {
	if t == nil {
		return nil
	}
	return object{
		"id": t.id, "node_id": fakeNodeID("IT", t.id), "name": t.name, "description": nil, "color": "gray", "is_enabled": true,
		"created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z",
	}
}

func showReactions(of string) object {
	return object{
		"url": of + "/reactions", "total_count": 0, "+1": 0, "-1": 0, "laugh": 0, "hooray": 0, "confused": 0, "heart": 0, "rocket": 0, "eyes": 0,
	}
}

func showIssue(base string, i *fakeIssue) object {
	u, page := fmt.Sprintf("%s/issues/%d", i.repo.url(base), i.number), i.page(base)
	assignees := []object{}
	for _, login := range i.assignees {
		assignees = append(assignees, showUser(base, login))
	}
	o := object{
		"id": i.id, "node_id": i.node(), "number": i.number, "title": i.title, "body": "Reported by " + fakeReader + ".",
		"url": u, "repository_url": i.repo.url(base), "labels_url": u + "/labels{/name}", "comments_url": u + "/comments",
		"events_url": u + "/events", "timeline_url": u + "/timeline", "html_url": page,
		"user": showUser(base, fakeReader), "author_association": "MEMBER", "assignee": nil, "assignees": assignees, "milestone": nil,
		"labels": showLabels(base, i.repo, i.labels), "state": i.state(), "state_reason": fakeNull(i.reason),
		"locked": i.locked, "active_lock_reason": nil, "comments": i.comments, "type": showType(i.typ),
		"created_at": fakeTime(i.created), "updated_at": fakeTime(i.updated), "closed_at": fakeTimeOrNull(i.closed), "closed_by": nil,
		"performed_via_github_app": nil, "reactions": showReactions(u),
		"sub_issues_summary": object{"total": 0, "completed": 0, "percent_completed": 0},
	}
	if len(assignees) > 0 {
		o["assignee"] = assignees[0]
	}
	if !i.closed.IsZero() {
		o["closed_by"] = showUser(base, fakeMaintainer)
	}
	if i.parent != nil {
		o["parent_issue_url"] = fmt.Sprintf("%s/issues/%d", i.parent.repo.url(base), i.parent.number)
	}
	if i.pull != nil {
		o["draft"] = false
		delete(o, "type")
		o["pull_request"] = object{
			"url": fmt.Sprintf("%s/pulls/%d", i.repo.url(base), i.number), "html_url": page, "diff_url": page + ".diff",
			"patch_url": page + ".patch", "merged_at": fakeTimeOrNull(i.pull.merged),
		}
	}
	return o
}

// page returns the address of the issue's page.
func (i *fakeIssue) page(base string) string {
	kind := "issues"
	if i.pull != nil {
		kind = "pull"
	}
	return fmt.Sprintf("%s/%s/%s/%d", fakeSite(base), i.repo.full(), kind, i.number)
}

// showReference shows what events tell of another issue, which has no id.
func showReference(base string, i *fakeIssue) object {
	return object{
		"number": i.number, "title": i.title, "state": i.state(), "state_reason": fakeNull(i.reason),
		"repository": showRepo(base, i.repo), "issue_type": showType(i.typ),
	}
}

// fakeEventNodes are the first parts of the node ids of events.
var fakeEventNodes = map[string]string{
	"closed": "CE", "reopened": "REE", "labeled": "LE", "unlabeled": "UNLE", "assigned": "AE", "unassigned": "UNAE", "merged": "ME",
	"review_requested": "RRE", "reviewed": "PRR", "commented": "IC", "project_v2_item_status_changed": "PVTISC", "added_to_project_v2": "ATPVTE",
}

func (e *fakeEvent) node() string {
	kind := fakeEventNodes[e.kind]
	if kind == "" {
		kind = "EV"
	}
	return fakeNodeID(kind, e.id)
}

// showEvent shows an entry of the timeline of an issue.
func showEvent(base string, i *fakeIssue, e *fakeEvent) object {
	at, actor := fakeTime(e.at), showUser(base, e.actor)
	issueURL := fmt.Sprintf("%s/issues/%d", i.repo.url(base), i.number)
	sha := fmt.Sprintf("%040x", e.id)
	switch e.kind {
	case "cross-referenced":
		source := showIssue(base, e.issue)
		source["repository"] = showRepo(base, e.issue.repo)
		return object{
			"event": e.kind, "actor": actor, "created_at": at, "updated_at": at, "source": object{"type": "issue", "issue": source},
		}
	case "commented":
		u := fmt.Sprintf("%s/issues/comments/%d", i.repo.url(base), e.id)
		return object{
			"event": e.kind, "id": e.id, "node_id": e.node(), "url": u, "html_url": fmt.Sprintf("%s#issuecomment-%d", i.page(base), e.id),
			"issue_url": issueURL, "user": actor, "actor": actor, "author_association": "MEMBER", "body": e.from,
			"created_at": at, "updated_at": at, "performed_via_github_app": nil, "reactions": showReactions(u),
		}
	case "committed":
		who := object{"name": e.actor, "email": e.actor + "@example.com", "date": at}
		u, page := i.repo.url(base)+"/git/commits/"+sha, fakeSite(base)+"/"+i.repo.full()+"/commit/"+sha
		return object{
			"event": e.kind, "sha": sha, "node_id": e.node(), "url": u, "html_url": page, "author": who, "committer": who, "message": "Change",
			"tree": object{"sha": sha, "url": i.repo.url(base) + "/git/trees/" + sha}, "parents": []object{{"sha": sha, "url": u, "html_url": page}},
			"verification": object{"verified": false, "reason": "unsigned", "signature": nil, "payload": nil, "verified_at": nil},
		}
	case "commit-commented":
		return object{"event": e.kind, "node_id": e.node(), "commit_id": sha, "comments": []object{}}
	case "reviewed":
		u := fmt.Sprintf("%s/pulls/%d", i.repo.url(base), i.number)
		page := fmt.Sprintf("%s#pullrequestreview-%d", i.page(base), e.id)
		return object{
			"event": e.kind, "id": e.id, "node_id": e.node(), "user": actor, "body": "", "state": e.reason, "commit_id": sha, "html_url": page,
			"pull_request_url": u, "_links": object{"html": object{"href": page}, "pull_request": object{"href": u}},
			"submitted_at": at, "updated_at": at, "author_association": "MEMBER",
		}
	}
	o := object{
		"id": e.id, "node_id": e.node(), "url": fmt.Sprintf("%s/issues/events/%d", i.repo.url(base), e.id), "actor": actor, "event": e.kind,
		"commit_id": nil, "commit_url": nil, "created_at": at, "performed_via_github_app": nil,
	}
	switch e.kind {
	case "closed", "reopened":
		o["state_reason"] = fakeNull(e.reason)
	case "labeled", "unlabeled":
		o["label"] = object{"name": e.label.name, "color": "ededed"}
	case "assigned", "unassigned":
		o["assignee"] = showUser(base, e.who)
	case "review_requested":
		o["review_requester"], o["requested_reviewer"] = actor, showUser(base, e.who)
	case "issue_type_added", "issue_type_removed", "issue_type_changed":
		if e.typ != nil {
			o["issue_type"] = object{"id": e.typ.id, "name": e.typ.name, "color": "gray"}
		}
		if e.was != nil {
			o["prev_issue_type"] = object{"id": e.was.id, "name": e.was.name, "color": "gray"}
		}
	case "parent_issue_added", "parent_issue_removed":
		o["parent_issue"] = showReference(base, e.issue)
	case "sub_issue_added", "sub_issue_removed":
		o["sub_issue"] = showReference(base, e.issue)
	case "renamed":
		o["rename"] = object{"from": e.from, "to": e.to}
	case "milestoned":
		o["milestone"] = object{"title": "Next"}
	case "locked":
		o["lock_reason"] = nil
	case "referenced", "merged":
		o["commit_id"], o["commit_url"] = sha, i.repo.url(base)+"/commits/"+sha
	}
	return o
}

// showPull shows a pull request itself, whose id is not that of its issue.
func showPull(base string, i *fakeIssue, at time.Time) object {
	o := showIssue(base, i)
	for _, name := range []string{"pull_request", "repository_url", "labels_url", "events_url", "timeline_url", "state_reason", "reactions", "sub_issues_summary"} {
		delete(o, name)
	}
	u, page := fmt.Sprintf("%s/pulls/%d", i.repo.url(base), i.number), i.page(base)
	issueURL, sha := fmt.Sprintf("%s/issues/%d", i.repo.url(base), i.number), fmt.Sprintf("%040x", i.pull.id)
	side := object{"label": i.repo.owner + ":main", "ref": "main", "sha": sha, "user": showUser(base, i.repo.owner), "repo": showRepo(base, i.repo)}
	reviewers := []object{}
	if slices.ContainsFunc(i.events, func(e *fakeEvent) bool { return e.kind == "review_requested" }) {
		reviewers = append(reviewers, showUser(base, fakeReviewer))
	}
	merged, mergedBy := !i.pull.merged.IsZero(), any(nil)
	if merged {
		mergedBy = showUser(base, fakeMaintainer)
	}
	for name, value := range (object{
		"id": i.pull.id, "url": u, "updated_at": fakeTime(at), "issue_url": issueURL, "diff_url": page + ".diff", "patch_url": page + ".patch",
		"commits_url": u + "/commits", "review_comments_url": u + "/comments", "review_comment_url": i.repo.url(base) + "/pulls/comments{/number}",
		"statuses_url": i.repo.url(base) + "/statuses/" + sha, "merge_commit_sha": sha, "head": side, "base": side,
		"_links": object{
			"self": object{"href": u}, "html": object{"href": page}, "issue": object{"href": issueURL}, "comments": object{"href": issueURL + "/comments"},
			"review_comments": object{"href": u + "/comments"}, "review_comment": object{"href": i.repo.url(base) + "/pulls/comments{/number}"},
			"commits": object{"href": u + "/commits"}, "statuses": object{"href": i.repo.url(base) + "/statuses/" + sha},
		},
		"requested_reviewers": reviewers, "requested_teams": []object{}, "auto_merge": nil,
		"merged": merged, "merged_at": fakeTimeOrNull(i.pull.merged), "merged_by": mergedBy, "mergeable": nil, "mergeable_state": "unknown", "rebaseable": nil,
		"additions": 1, "deletions": 0, "changed_files": 1, "commits": 1, "review_comments": 0, "maintainer_can_modify": false,
	}) {
		o[name] = value
	}
	return o
}
