package jira

import (
	"cmp"
	"slices"
	"strings"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// translator turns an issue and its complete history into changes.
type translator struct {
	site       string            // URL before "/browse/"
	titles     bool              // keep titles
	categories map[string]string // of the site's statuses, by id
	projects   map[text]string   // keys of former projects, by id, as far as needed
}

// The fields of a history that become fields of changes, by the names that
// [fieldOf] gives them.
const (
	fieldStatus     = "status"
	fieldType       = "issuetype"
	fieldResolution = "resolution"
	fieldLabels     = "labels"
	fieldProject    = "project"
	fieldKey        = "key"
	fieldParent     = "parent"
	fieldAssignee   = "assignee"
	fieldSummary    = "summary"
)

// fieldOf returns which field an item is about, by its id where it has one,
// since names may be in the site's language.
func fieldOf(it *item) string {
	switch name := strings.ToLower(cmp.Or(it.FieldID, it.Field)); name {
	case "issue type":
		return fieldType
	case "issuekey":
		return fieldKey
	case "issueparentassociation":
		return fieldParent
	default:
		if it.Field == "Epic Link" { // a custom field, its id is the site's
			return fieldParent
		}
		return name
	}
}

// changes returns the item's birth and then one change for each history entry,
// oldest first. An entry about nothing that matters is a fact as well: somebody
// touched the item.
func (t *translator) changes(is *issue, histories []history) []flow.Change {
	histories = ordered(histories)
	all := make([]flow.Change, 0, 1+len(histories))
	all = append(all, flow.Change{
		ID: string(is.ID) + ":created", Item: string(is.ID), At: is.Fields.Created.Time, Kind: flow.Created,
		Fields: t.birth(is, histories),
	})
	for k := range histories {
		h := &histories[k]
		c := flow.Change{
			ID: string(h.ID), Item: string(is.ID), At: h.Created.Time, Sequence: h.sequence(), Kind: flow.Updated,
		}
		for n := range h.Items {
			c.Fields = t.appendField(c.Fields, is, &h.Items[n])
		}
		if s := first(h.Items, fieldSummary); t.titles && s != nil {
			c.Title = connector.CleanText(string(s.ToText), flow.MaxTitle)
		}
		all = append(all, c)
	}
	if t.titles {
		title := is.Fields.Summary
		if s := earliest(histories, fieldSummary); s != nil {
			title = string(s.FromText)
		}
		all[0].Title = connector.CleanText(title, flow.MaxTitle)
	}
	t.locate(all, is, histories)
	return all
}

// locate fills in where each change happened and under which key, going back
// from where the item is now.
func (t *translator) locate(all []flow.Change, is *issue, histories []history) {
	key := is.Key
	container := cmp.Or(is.Fields.Project.Key, projectOf(key))
	for k := len(histories) - 1; k >= 0; k-- {
		c := &all[k+1]
		c.Key, c.Container = key, container
		moved := first(histories[k].Items, fieldKey)
		project := first(histories[k].Items, fieldProject)
		if moved == nil && project == nil {
			continue
		}
		c.URL = t.url(key)
		before := container
		if moved != nil && projectOf(string(moved.FromText)) != "" {
			key = string(moved.FromText)
			before = projectOf(key)
		} else if project != nil {
			key, before = "", cmp.Or(t.projects[project.From], string(project.FromText), string(project.From))
		}
		if before != container {
			c.Fields = append(c.Fields, flow.FieldChange{
				Field: flow.FieldContainer, From: flow.Value{Name: before}, To: flow.Value{Name: container},
			})
		}
		c.Container, container = before, before
	}
	all[0].Key, all[0].Container, all[0].URL = key, container, t.url(key)
}

func (t *translator) url(key string) string {
	if key == "" {
		return ""
	}
	return t.site + "/browse/" + key
}

// projectOf returns the project's part of a key.
func projectOf(key string) string {
	if k := strings.LastIndexByte(key, '-'); k > 0 {
		return key[:k]
	}
	return ""
}

// birth returns what the item was like when it was created: of each field what
// its first change came from, or else what it is now.
func (t *translator) birth(is *issue, histories []history) []flow.FieldChange {
	f := &is.Fields
	var born []flow.FieldChange
	set := func(field flow.Field, v flow.Value) {
		if !v.IsZero() {
			born = append(born, flow.FieldChange{Field: field, To: v})
		}
	}
	status := t.status(is, string(f.Status.ID), f.Status.Name)
	if it := earliest(histories, fieldStatus); it != nil {
		status = t.status(is, string(it.From), string(it.FromText))
	}
	set(flow.FieldStatus, status)
	typ := flow.Value{ID: string(f.Type.ID), Name: f.Type.Name}
	if it := earliest(histories, fieldType); it != nil {
		typ = was(it)
	}
	set(flow.FieldType, typ)
	resolution := flow.Value{ID: string(f.Resolution.ID), Name: f.Resolution.Name}
	if it := earliest(histories, fieldResolution); it != nil {
		resolution = was(it)
	}
	set(flow.FieldResolution, resolution)
	labels := f.Labels
	if it := earliest(histories, fieldLabels); it != nil {
		labels = strings.Fields(string(it.FromText))
	}
	for _, l := range labels {
		set(flow.FieldLabel, flow.Value{Name: l})
	}
	parent := f.Parent.ID
	if it := earliest(histories, fieldParent); it != nil {
		parent = it.From
	}
	set(flow.FieldParent, flow.Value{ID: string(parent)})
	return born
}

// appendField translates one item of a history entry.
func (t *translator) appendField(to []flow.FieldChange, is *issue, it *item) []flow.FieldChange {
	switch fieldOf(it) {
	case fieldStatus:
		return append(to, flow.FieldChange{
			Field: flow.FieldStatus,
			From:  t.status(is, string(it.From), string(it.FromText)), To: t.status(is, string(it.To), string(it.ToText)),
		})
	case fieldType:
		return append(to, flow.FieldChange{Field: flow.FieldType, From: was(it), To: became(it)})
	case fieldResolution:
		return append(to, flow.FieldChange{Field: flow.FieldResolution, From: was(it), To: became(it)})
	case fieldLabels:
		before, after := strings.Fields(string(it.FromText)), strings.Fields(string(it.ToText))
		for _, l := range before {
			if !slices.Contains(after, l) {
				to = append(to, flow.FieldChange{Field: flow.FieldLabel, From: flow.Value{Name: l}})
			}
		}
		for _, l := range after {
			if !slices.Contains(before, l) {
				to = append(to, flow.FieldChange{Field: flow.FieldLabel, To: flow.Value{Name: l}})
			}
		}
		return to
	case fieldParent:
		c := flow.FieldChange{Field: flow.FieldParent, From: flow.Value{ID: string(it.From)}, To: flow.Value{ID: string(it.To)}}
		if slices.Contains(to, c) { // an epic link comes twice
			return to
		}
		return append(to, c)
	case fieldAssignee:
		return append(to, flow.FieldChange{Field: flow.FieldAssigned, From: assigned(it.From), To: assigned(it.To)})
	}
	return to // a move is told by locate, the rest does not matter
}

func was(it *item) flow.Value    { return flow.Value{ID: string(it.From), Name: string(it.FromText)} }
func became(it *item) flow.Value { return flow.Value{ID: string(it.To), Name: string(it.ToText)} }

// assigned says whether there is somebody, and never who (invariant I6).
func assigned(who text) flow.Value {
	if who == "" {
		return flow.Value{Name: "false"}
	}
	return flow.Value{Name: "true"}
}

// status adds the category that the site gives the status: that of the item's
// own where it is the same status, else that of the list.
func (t *translator) status(is *issue, id, name string) flow.Value {
	v := flow.Value{ID: id, Name: name}
	if id != "" && id == string(is.Fields.Status.ID) {
		v.Category = is.Fields.Status.category()
	}
	v.Category = cmp.Or(v.Category, t.categories[id])
	return v
}

// first returns the first item about a field, or nil.
func first(items []item, field string) *item {
	for k := range items {
		if fieldOf(&items[k]) == field {
			return &items[k]
		}
	}
	return nil
}

// earliest returns the oldest item about a field, or nil.
func earliest(histories []history, field string) *item {
	for k := range histories {
		if it := first(histories[k].Items, field); it != nil {
			return it
		}
	}
	return nil
}
