package redmine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/connector"
	"github.com/flowmetrics/flowmetrics/internal/connector/sweep"
	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// A page is one of a list: of issues, or of what the numbers in issues mean.
type page struct {
	Issues             []issue
	Statuses           []entry `json:"issue_statuses"`
	Trackers, Projects []entry
	Total              int `json:"total_count"`
}

// A ref is to another object. Its name is not decoded, as it may be a person's.
type ref struct{ ID json.Number }

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

type journal struct {
	ID      int64
	Created time.Time `json:"created_on"`
	Details []struct {
		Property, Name string
		Old            string `json:"old_value"`
		New            string `json:"new_value"`
	}
}

// An attribute has a name in journals, and perhaps a list that names its values.
type attribute struct {
	name, list string
	field      flow.Field
}

var (
	status   = attribute{"status_id", "issue_statuses", flow.FieldStatus}
	tracker  = attribute{"tracker_id", "trackers", flow.FieldType}
	project  = attribute{"project_id", "projects", flow.FieldContainer}
	parent   = attribute{"parent_id", "", flow.FieldParent}
	assigned = attribute{"assigned_to_id", "", flow.FieldAssigned}
	all      = []attribute{status, tracker, project, parent, assigned}
)

// value returns what a number means today, the number alone where nothing tells.
func (s *Source) value(a attribute, id string) flow.Value {
	if a == assigned {
		return flow.Value{Name: strconv.FormatBool(id != "")} // never who
	}
	return cmp.Or(s.names[a.list+id], flow.Value{ID: id})
}

// values returns and notes a list of values. Redmine tells of a status only
// whether it is closed; what else it means, rules say (R6).
func (s *Source) values(ctx context.Context, list string) (values []flow.Value, err error) {
	for more := true; more; {
		var p page
		if err := s.Get(ctx, "/"+list+".json", url.Values{"limit": {"100"}, "offset": {strconv.Itoa(len(values))}}, &p); err != nil {
			return nil, err
		}
		for _, e := range slices.Concat(p.Statuses, p.Trackers, p.Projects) {
			v := flow.Value{ID: e.ID.String(), Name: cmp.Or(e.Identifier, e.Name)}
			if e.Closed {
				v.Category = "done"
			}
			values, s.names[list+v.ID] = append(values, v), v
		}
		more = len(p.Projects) > 0 && len(values) < p.Total
	}
	return values, nil
}

// Statuses implements [connector.StatusLister].
func (s *Source) Statuses(ctx context.Context) ([]flow.Value, error) {
	return s.values(ctx, status.list)
}

// Types implements [connector.TypeLister].
func (s *Source) Types(ctx context.Context) ([]flow.Value, error) { return s.values(ctx, tracker.list) }

func (s *Source) lookUp(ctx context.Context) error {
	_, first := s.values(ctx, status.list)
	_, second := s.values(ctx, tracker.list)
	_, third := s.values(ctx, project.list)
	return errors.Join(first, second, third)
}

func (s *Source) item(i issue) connector.Item {
	id := strconv.Itoa(i.ID)
	return connector.Item{
		ID: id, Key: "#" + id, Container: s.value(project, i.Project.ID.String()).Text(),
		Status: s.value(status, i.Status.ID.String()), Type: s.value(tracker, i.Tracker.ID.String()),
	}
}

// Read implements [sweep.Tracker]: back from what the issue is to its birth, undoing each journal.
func (s *Source) Read(ctx context.Context, number int) (history []flow.Change, err error) {
	var full struct{ Issue issue }
	err = s.Get(ctx, fmt.Sprintf("/issues/%d.json", number), url.Values{"include": {"journals"}}, &full)
	if connector.StatusOf(err) == http.StatusNotFound {
		err = sweep.ErrGone
	} else if err == nil && len(s.names) == 0 {
		err = s.lookUp(ctx)
	}
	i, item := full.Issue, s.item(full.Issue)
	is := map[string]string{
		status.name: i.Status.ID.String(), tracker.name: i.Tracker.ID.String(), project.name: i.Project.ID.String(),
		parent.name: i.Parent.ID.String(), assigned.name: i.Assigned.ID.String(), "subject": i.Subject,
	}
	slices.SortFunc(i.Journals, func(a, b journal) int { return cmp.Compare(b.ID, a.ID) })
	for _, j := range append(i.Journals, journal{Created: i.Created}) { // the last for its birth
		c := flow.Change{
			ID: fmt.Sprint(item.ID, ":", j.ID), Kind: flow.Updated, At: j.Created.UTC(), Sequence: j.ID, Item: item.ID, Key: item.Key,
			Container: s.value(project, is[project.name]).Text(), URL: s.URL("/issues/" + item.ID),
		}
		if s.spec.Titles {
			c.Title = is["subject"]
		}
		for _, a := range all {
			if v := is[a.name]; j.ID == 0 && v != "" && a != project {
				c.Fields = append(c.Fields, flow.FieldChange{Field: a.field, To: s.value(a, v)})
			}
		}
		for _, d := range j.Details {
			for _, a := range all {
				if d.Property == "attr" && d.Name == a.name {
					c.Fields = append(c.Fields, flow.FieldChange{Field: a.field, From: s.value(a, d.Old), To: s.value(a, d.New)})
				}
			}
			is[d.Name] = d.Old
		}
		if j.ID == 0 {
			c.ID, c.Kind = item.ID+":created", flow.Created
		}
		history = append(history, c)
	}
	slices.Reverse(history)
	return history, err
}
