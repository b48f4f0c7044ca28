package redmine

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// An answer is any of Redmine's. Of people only their numbers are decoded.
type answer struct {
	Issue              issue
	Issues             []issue
	Statuses           []entry `json:"issue_statuses"`
	Trackers, Projects []entry
	Total              int `json:"total_count"`
}

type entry struct {
	ref
	Name, Identifier string
	Closed           bool `json:"is_closed"`
}

type issue struct {
	ID                               int
	Subject                          string
	Project, Tracker, Status, Parent ref
	Assigned                         ref       `json:"assigned_to"`
	Created                          time.Time `json:"created_on"`
	Updated                          time.Time `json:"updated_on"`
	Journals                         []journal
}

type ref struct{ ID json.Number }

type journal struct {
	ID      int64
	Created time.Time `json:"created_on"`
	Details []struct {
		Property, Name string
		Old            string `json:"old_value"`
		New            string `json:"new_value"`
	}
}

// attributes are those that matter, with the lists that name their values.
var attributes = []struct {
	name, list string
	field      flow.Field
}{
	{"status_id", "issue_statuses", flow.FieldStatus},
	{"tracker_id", "trackers", flow.FieldType},
	{"project_id", "projects", flow.FieldContainer},
	{"parent_id", "", flow.FieldParent},
	{"assigned_to_id", "", flow.FieldAssigned},
}

// value returns what the number of an attribute means today, and the number
// alone where that was deleted or is out of sight.
func (s *Source) value(attribute, id string) flow.Value {
	if v, ok := s.names[attribute+id]; ok {
		return v
	}
	if attribute == "assigned_to_id" {
		return flow.Value{Name: strconv.FormatBool(id != "")} // never who
	}
	return flow.Value{ID: id}
}

func (s *Source) lookUp(ctx context.Context) error {
	names := map[string]flow.Value{}
	for _, a := range attributes {
		values, err := s.values(ctx, a.list)
		if err != nil {
			return err
		}
		for _, v := range values {
			names[a.name+v.ID] = v
		}
	}
	s.names = names
	return nil
}

// values returns a list. Of an open status nobody but rules knows what it means (R6).
func (s *Source) values(ctx context.Context, list string) (values []flow.Value, err error) {
	for more := list != ""; more && err == nil; {
		var page answer
		page, err = s.get(ctx, list, url.Values{"limit": {"100"}, "offset": {strconv.Itoa(len(values))}})
		for _, o := range slices.Concat(page.Statuses, page.Trackers, page.Projects) {
			v := flow.Value{ID: o.ID.String(), Name: cmp.Or(o.Identifier, o.Name)}
			if o.Closed {
				v.Category = "done"
			}
			values = append(values, v)
		}
		more = len(values) < page.Total
	}
	return values, err
}

// Statuses implements [connector.StatusLister].
func (s *Source) Statuses(ctx context.Context) ([]flow.Value, error) {
	return s.values(ctx, "issue_statuses")
}

// Types implements [connector.TypeLister].
func (s *Source) Types(ctx context.Context) ([]flow.Value, error) { return s.values(ctx, "trackers") }

func (s *Source) item(o issue) connector.Item {
	id := strconv.Itoa(o.ID)
	return connector.Item{
		ID: id, Key: "#" + id, Container: s.value("project_id", o.Project.ID.String()).Text(),
		Status: s.value("status_id", o.Status.ID.String()), Type: s.value("tracker_id", o.Tracker.ID.String()),
	}
}

// history reads what happened to an issue, the oldest first. It goes back from
// what the issue is, undoing each journal, to what it was born as.
func (s *Source) history(ctx context.Context, id int) (history []flow.Change, err error) {
	a, err := s.get(ctx, "issues/"+strconv.Itoa(id), url.Values{"include": {"journals"}})
	if err == nil && a.Issue.ID != id {
		err = fmt.Errorf("read issue %d: got %d", id, a.Issue.ID)
	}
	if err == nil && s.names == nil {
		err = s.lookUp(ctx)
	}
	if err != nil {
		return nil, err
	}
	i := a.Issue
	is := map[string]string{
		"status_id": i.Status.ID.String(), "tracker_id": i.Tracker.ID.String(), "project_id": i.Project.ID.String(),
		"parent_id": i.Parent.ID.String(), "assigned_to_id": i.Assigned.ID.String(), "subject": i.Subject,
	}
	change := func(kind flow.Kind, fact string, at time.Time) flow.Change {
		return flow.Change{
			ID: fmt.Sprint(id, ":", fact), Item: strconv.Itoa(id), Key: "#" + strconv.Itoa(id), At: at.UTC(), Kind: kind,
			Container: s.value("project_id", is["project_id"]).Text(),
		}
	}
	slices.SortFunc(i.Journals, func(a, b journal) int { return cmp.Compare(b.ID, a.ID) })
	for _, j := range i.Journals {
		c := change(flow.Updated, strconv.FormatInt(j.ID, 10), j.Created)
		c.Sequence = j.ID
		for _, d := range j.Details {
			if d.Property != "attr" {
				continue
			}
			for _, f := range attributes {
				if d.Name == f.name {
					c.Fields = append(c.Fields, flow.FieldChange{Field: f.field, From: s.value(f.name, d.Old), To: s.value(f.name, d.New)})
				}
			}
			if is[d.Name] = d.Old; s.spec.Titles && d.Name == "subject" {
				c.Title = d.New
			}
		}
		history = append(history, c)
	}
	born := change(flow.Created, "created", i.Created)
	born.URL = s.spec.URL + "/issues/" + born.Item
	if s.spec.Titles {
		born.Title = is["subject"]
	}
	for _, f := range attributes {
		if v := is[f.name]; v != "" && f.field != flow.FieldContainer {
			born.Fields = append(born.Fields, flow.FieldChange{Field: f.field, To: s.value(f.name, v)})
		}
	}
	history = append(history, born)
	slices.Reverse(history)
	return history, nil
}
