package archtest

import (
	"path"
	"strings"
)

const module = "github.com/flowmetrics/flowmetrics"

// allowed says what each package may import beyond the standard library, by
// import path or, ending in "/...", with everything below it. A path that begins
// with "internal" or "cmd" is one of this module. A package that is not listed
// may not exist.
var allowed = map[string][]string{
	"cmd/flowmetrics": {"internal/cli"},

	"internal/flow":        {},
	"internal/flow/oracle": {"internal/flow"},
	"internal/flowpb":      {"google.golang.org/protobuf/..."},

	"internal/connector":               {"internal/flow"},
	"internal/connector/jira":          {"internal/flow", "internal/connector"},
	"internal/connector/file":          {"internal/flow", "internal/connector"},
	"internal/connector/redmine":       {"internal/flow", "internal/connector", "internal/connector/sweep"},
	"internal/connector/sweep":         {"internal/flow", "internal/connector"},
	"internal/connector/github":        {"internal/flow", "internal/connector", "github.com/google/go-github/v60/...", "github.com/bradleyfalzon/ghinstallation/v2"},
	"internal/connector/connectortest": {"internal/flow", "internal/connector", "github.com/google/go-cmp/..."},
	"internal/connector/newconnector":  {},

	"internal/eventlog":  {"internal/flow", "internal/flowpb", "google.golang.org/protobuf/...", "github.com/nats-io/..."},
	"internal/processor": {"internal/flow", "golang.org/x/sync/..."},
	"internal/exporter":  {"internal/flow", "github.com/prometheus/...", "github.com/oklog/ulid/v2", "github.com/klauspost/compress/snappy"},
	"internal/web":       {"internal/flow", "github.com/prometheus/exporter-toolkit/..."},
	"internal/config":    {"internal/flow", "github.com/goccy/go-yaml/..."},
	"internal/sim":       {"internal/flow", "internal/connector", "internal/connector/jira", "internal/connector/github"},

	"internal/app": {"internal/...", "golang.org/x/sync/...", "github.com/prometheus/..."},
	"internal/cli": {"internal/...", "github.com/alecthomas/kong", "golang.org/x/sync/...", "golang.org/x/term"},

	"internal/archtest": {},

	"dashboards": {},
	"deploy":     {"github.com/goccy/go-yaml"},
}

// forTests says what test files may import besides: what is only for tests, and
// whatever of this module is no composition of the whole.
var forTests = []string{
	"github.com/getkin/kin-openapi/...",
	"github.com/goccy/go-yaml/...",
	"github.com/google/go-cmp/...",
	"github.com/klauspost/compress/snappy",
	"github.com/nats-io/...",
	"github.com/prometheus/...",
	"github.com/rogpeppe/go-internal/...",
	"github.com/vektah/gqlparser/v2/...",
	"go.uber.org/goleak",
	"google.golang.org/protobuf/...",
	"pgregory.net/rapid",
	"internal/config",
	"internal/connector/...",
	"internal/eventlog",
	"internal/exporter",
	"internal/flow/...",
	"internal/flowpb",
	"internal/processor",
	"internal/sim",
}

// inFlow says what the domain's own tests may import: nothing that could let a
// decision about the numbers slip out of the domain.
var inFlow = []string{"internal/flow/...", "github.com/google/go-cmp/...", "pgregory.net/rapid"}

// importTable finds imports that the table does not allow, and packages that are
// not in it.
func importTable(t *tree) (problems []string) {
	for _, f := range t.files {
		dir := path.Dir(f.name)
		may, listed := allowed[dir]
		if !listed {
			problems = append(problems, f.name+": package "+dir+" is not in the import table")
			continue
		}
		if f.test && strings.HasPrefix(dir, "internal/flow") && dir != "internal/flowpb" {
			may = append(may[:len(may):len(may)], inFlow...)
		} else if f.test {
			may = append(may[:len(may):len(may)], forTests...)
		}
		for _, imported := range f.imports() {
			if local, ours := strings.CutPrefix(imported, module+"/"); ours {
				imported = local
			} else if host, _, _ := strings.Cut(imported, "/"); !strings.Contains(host, ".") {
				continue // the standard library
			}
			if imported != dir && !matches(may, imported) {
				problems = append(problems, f.name+": "+dir+" may not import "+imported)
			}
		}
	}
	return problems
}

// matches reports whether one of the patterns is the path or, ending in "/...",
// holds it.
func matches(patterns []string, imported string) bool {
	for _, p := range patterns {
		prefix, deep := strings.CutSuffix(p, "/...")
		if imported == prefix || deep && strings.HasPrefix(imported, prefix+"/") {
			return true
		}
	}
	return false
}

// forbiddenImports are never imported, not even by tests: a second YAML library,
// error libraries, assertion libraries and what the standard library replaced.
var forbiddenImports = []string{
	"github.com/pkg/errors", "github.com/stretchr/testify/...", "gopkg.in/yaml.v2", "gopkg.in/yaml.v3",
	"go.yaml.in/...", "sigs.k8s.io/yaml", "golang.org/x/exp/...", "C",
}

// importsForbidden finds imports that no package may have.
func importsForbidden(t *tree) (problems []string) {
	for _, f := range t.files {
		for _, imported := range f.imports() {
			if matches(forbiddenImports, imported) {
				problems = append(problems, f.name+": nothing may import "+imported)
			}
		}
	}
	return problems
}
