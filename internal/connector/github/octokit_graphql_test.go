package github

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/formatter"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/rules"
)

// unpublished is what GitHub's API has and its published schema does not.
const unpublished = `
# Moves of an item on a board. In use since 2025, in no published schema so far;
# the fields are those that the web site and other tools ask for.
type ProjectV2ItemStatusChangedEvent implements Node {
  id: ID!
  createdAt: DateTime!
  previousStatus: String!
  status: String!
  project: ProjectV2
}

# The event is one of an issue's timeline,
extend union IssueTimelineItems = ProjectV2ItemStatusChangedEvent

# and can be asked for alone.
extend enum IssueTimelineItemsItemType { PROJECT_V2_ITEM_STATUS_CHANGED_EVENT }
`

// graphqlSchema reads GitHub's schema, completed by what it lacks.
func graphqlSchema(t testing.TB) *ast.Schema {
	t.Helper()
	doc, err := parser.ParseSchemas(validator.Prelude,
		&ast.Source{Name: "schema.graphql", Input: string(octokitFile(t, "schema.graphql"))}, &ast.Source{Name: "unpublished", Input: unpublished})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range doc.Definitions {
		// The published schema defines fields of this type twice, in equal words.
		if d.Name == "EnterpriseOwnerInfo" {
			seen := make(map[string]bool)
			d.Fields = slices.DeleteFunc(d.Fields, func(f *ast.FieldDefinition) bool {
				again := seen[f.Name]
				seen[f.Name] = true
				return again
			})
		}
	}
	schema, err := validator.ValidateSchemaDocument(doc)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// checkQuery parses a query and returns what the schema has against it.
func checkQuery(schema *ast.Schema, text string) (*ast.QueryDocument, gqlerror.List) {
	doc, err := parser.ParseQuery(&ast.Source{Input: text})
	if err != nil {
		return nil, gqlerror.List{gqlerror.Wrap(err)}
	}
	return doc, validator.ValidateWithRules(schema, doc, rules.NewDefaultRules())
}

// graphqlQueries returns the connector's queries by name.
func graphqlQueries(t testing.TB) map[string]string {
	t.Helper()
	files, err := filepath.Glob("queries/*.graphql")
	if err != nil || len(files) == 0 {
		t.Fatalf("no queries (%v)", err)
	}
	queries := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		queries[strings.TrimSuffix(filepath.Base(file), ".graphql")] = string(text)
	}
	return queries
}

// TestOctokitQueries checks each query of the connector against GitHub's schema.
func TestOctokitQueries(t *testing.T) {
	schema := graphqlSchema(t)
	for name, text := range graphqlQueries(t) {
		doc, errs := checkQuery(schema, text)
		if errs != nil {
			t.Errorf("%s: %v", name, errs)
			continue
		}
		if len(doc.Operations) != 1 || doc.Operations[0].Name != name {
			t.Errorf("%s is not the name of its only operation", name)
		}
		// What does not fit the schema is found, wherever it is.
		for _, field := range []string{"id", "number", "createdAt", "hasNextPage", "name"} {
			if broken := strings.Replace(text, "  "+field+"\n", "  "+field+"s\n", 1); broken != text {
				if _, errs := checkQuery(schema, broken); errs == nil {
					t.Errorf("%s with a misspelt %s is not refused", name, field)
				}
			}
		}
	}
}

// TestOctokitAnswers asks the connector's queries of the simulated GitHub and
// checks the answers against the queries and GitHub's schema: each selected
// field and no other, of its type.
func TestOctokitAnswers(t *testing.T) {
	schema := graphqlSchema(t)
	for name, opts := range map[string]FakeOptions{"whole": {}, "short pages": {PageSize: 1}} {
		f := NewFake(opts)
		issue, pull := fakeWorld(f)
		bare := f.Create(fakeDay(12), "acme/api", "Later", CreateOptions{})
		f.SetStatus(fakeDay(12), bare, "", false)
		f.AddRepo("acme/old")
		twice := f.Transfer(fakeDay(14), f.Transfer(fakeDay(13), f.Create(fakeDay(12), "acme/old", "Moved", CreateOptions{}), "acme/api"), "acme/web")
		n, _ := strconv.ParseInt(pull, 10, 64)
		variables := map[string][]object{
			"BoardHistory":    {{"ids": []string{f.Node(issue), f.Node(bare)}}, {"ids": []string{"I_none"}}},
			"ContentOf":       {{"id": f.Node(issue)}, {"id": f.boards[0].cards[0].node()}, {"id": f.boards[0].cards[1].node()}, {"id": "PVTI_none"}},
			"ProjectItems":    {{"owner": "acme", "number": 3}, {"owner": "acme", "number": 9}, {"owner": "none", "number": 3}},
			"ProjectStatuses": {{"owner": "acme", "number": 3}},
			"Transfers":       {{"ids": []string{f.Node(twice), f.Node(issue)}}, {"ids": []string{"I_none"}}},
			"PullEvidence":    {{"ids": []string{f.pulls[n].node(), f.Node(issue)}}},
		}
		for query, text := range graphqlQueries(t) {
			doc, errs := checkQuery(schema, text)
			if errs != nil {
				t.Fatalf("%s: %v", query, errs)
			}
			// With the types in the answer it is known what a fragment selects.
			nameTypes(doc.Operations[0].SelectionSet)
			var typed strings.Builder
			formatter.NewFormatter(&typed).FormatQueryDocument(doc)
			doc, errs = checkQuery(schema, typed.String())
			if errs != nil {
				t.Fatalf("%s: %v", query, errs)
			}
			if len(variables[query]) == 0 {
				t.Errorf("%s: no variables to ask it with", query)
			}
			for _, v := range variables[query] {
				data, errors := fakeQuery(t, f, typed.String(), v)
				var answered any
				if err := json.Unmarshal([]byte(data), &answered); err != nil || errors != "" && !strings.Contains(errors, "NOT_FOUND") {
					t.Fatalf("%s, %s: %s %s", name, query, data, errors)
				}
				for _, problem := range checkSelection(schema, schema.Query, doc.Operations[0].SelectionSet, answered, query) {
					t.Errorf("%s: %s: %s", name, problem, data)
				}
			}
		}
	}
}

// nameTypes adds __typename to the selections of all objects.
func nameTypes(set ast.SelectionSet) {
	for _, s := range set {
		switch s := s.(type) {
		case *ast.Field:
			if len(s.SelectionSet) > 0 {
				nameTypes(s.SelectionSet)
				s.SelectionSet = append(s.SelectionSet, &ast.Field{Name: "__typename", Alias: "__typename"})
			}
		case *ast.InlineFragment:
			nameTypes(s.SelectionSet)
		}
	}
}

// checkSelection compares an object of an answer with what is selected of it.
func checkSelection(schema *ast.Schema, def *ast.Definition, set ast.SelectionSet, got any, path string) (problems []string) {
	object, ok := got.(map[string]any)
	if !ok {
		return []string{fmt.Sprintf("%s: %v is no object", path, got)}
	}
	if name, ok := object["__typename"].(string); ok {
		concrete := schema.Types[name]
		if concrete == nil || !slices.Contains(schema.GetPossibleTypes(def), concrete) {
			return []string{fmt.Sprintf("%s: %q is no %s", path, name, def.Name)}
		}
		def = concrete
	}
	wanted := make(map[string]*ast.Field)
	var collect func(set ast.SelectionSet)
	collect = func(set ast.SelectionSet) {
		for _, s := range set {
			switch s := s.(type) {
			case *ast.Field:
				wanted[s.Alias] = s
			case *ast.InlineFragment:
				if slices.Contains(schema.GetPossibleTypes(schema.Types[s.TypeCondition]), def) {
					collect(s.SelectionSet)
				}
			}
		}
	}
	collect(set)
	for key := range object {
		if wanted[key] == nil {
			problems = append(problems, fmt.Sprintf("%s.%s is answered and was not asked for", path, key))
		}
	}
	for key, field := range wanted {
		value, present := object[key]
		switch {
		case !present:
			problems = append(problems, fmt.Sprintf("%s.%s is missing", path, key))
		case field.Name != "__typename":
			problems = append(problems, checkValue(schema, field.Definition.Type, field.SelectionSet, value, path+"."+key)...)
		}
	}
	return problems
}

// checkValue compares a value of an answer with its type.
func checkValue(schema *ast.Schema, typ *ast.Type, set ast.SelectionSet, got any, path string) (problems []string) {
	if got == nil {
		if typ.NonNull {
			return []string{path + " may not be null"}
		}
		return nil
	}
	if typ.Elem != nil {
		list, ok := got.([]any)
		if !ok {
			return []string{path + " is no list"}
		}
		for k, e := range list {
			problems = append(problems, checkValue(schema, typ.Elem, set, e, fmt.Sprintf("%s[%d]", path, k))...)
		}
		return problems
	}
	def := schema.Types[typ.NamedType]
	if len(set) > 0 {
		return checkSelection(schema, def, set, got, path)
	}
	text, isText := got.(string)
	ok := isText
	switch {
	case def.Kind == ast.Enum:
		ok = def.EnumValues.ForName(text) != nil
	case def.Name == "Int":
		_, ok = got.(float64)
	case def.Name == "Boolean":
		_, ok = got.(bool)
	case def.Name == "DateTime":
		_, err := time.Parse(time.RFC3339, text)
		ok = err == nil
	case def.Name == "BigInt":
		_, err := strconv.ParseInt(text, 10, 64)
		ok = err == nil
	}
	if !ok {
		return []string{fmt.Sprintf("%s: %v is no %s", path, got, def.Name)}
	}
	return nil
}
