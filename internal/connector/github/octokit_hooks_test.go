package github

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// deliverySchema returns the name of the schema of a delivery.
func deliverySchema(event, action string) string {
	name := "webhook-" + event
	if action != "" {
		name += "-" + action
	}
	return strings.ReplaceAll(name, "_", "-")
}

// madeDeliveries returns what the simulated GitHub delivers, by schema.
func madeDeliveries(t testing.TB) map[string][]object {
	t.Helper()
	made := make(map[string][]object)
	for _, d := range fakeScript(NewFake(FakeOptions{WebhookSecret: testSecret})) {
		var body object
		if err := json.Unmarshal(d.Body, &body); err != nil {
			t.Fatal(err)
		}
		action, _ := body["action"].(string)
		name := deliverySchema(d.Header.Get("X-GitHub-Event"), action)
		made[name] = append(made[name], body)
	}
	return made
}

// checkDeliveries holds the deliveries to their schemas.
func checkDeliveries(t *testing.T, r *rest, made map[string][]object) {
	for name, bodies := range made {
		for _, body := range bodies {
			schema := r.doc.Components.Schemas[name].Value
			if err := schema.VisitJSON(body, openapi3.MultiErrors(), openapi3.EnableFormatValidation(), openapi3.DisableSchemaErrorDetails()); err != nil {
				t.Errorf("%s: %.1200s", name, err)
			}
		}
	}
	for _, name := range []string{
		"issues-opened", "issues-closed", "issues-reopened", "issues-typed", "issues-untyped", "issues-labeled", "issues-unlabeled", "issues-assigned",
		"issues-unassigned", "issues-edited", "issues-transferred", "issues-deleted", "sub-issues-parent-issue-added", "label-edited", "ping",
		"projects-v2-item-created", "projects-v2-item-edited", "projects-v2-item-deleted", "pull-request-opened", "pull-request-closed",
		"pull-request-review-requested", "pull-request-review-submitted",
	} {
		if len(made["webhook-"+name]) == 0 {
			t.Errorf("no delivery of %s", name)
		}
	}
}
