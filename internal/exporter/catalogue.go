package exporter

import (
	"fmt"
	"strings"

	dto "github.com/prometheus/client_model/go"
)

// A Metric is the declaration of one family.
type Metric struct {
	Name, Type, Help string
	Labels           []string
	// RollUp says that item_type="all" stands beside the types, whose values
	// cannot be added.
	RollUp bool
}

// Catalogue returns every metric of the product, in the order in which they are
// documented.
func Catalogue() []Metric { return append(catalogue(flowFamilies), catalogue(serviceFamilies)...) }

func catalogue[T any](table []family[T]) []Metric {
	var metrics []Metric
	for _, f := range table {
		metrics = append(metrics, Metric{f.name, typeName(f.kind), f.help, append([]string(nil), f.labels...), f.rollUp})
	}
	return metrics
}

func typeName(kind dto.MetricType) string { return strings.ToLower(kind.String()) }

// Markdown returns the catalogue as a document.
func Markdown() []byte {
	var b strings.Builder
	b.WriteString(`# Metrics

<!-- Generated from internal/exporter by "go generate ./internal/exporter"; do not edit. -->

` + "`flow_`" + ` is about the work, ` + "`flowmetrics_`" + ` about the service. Durations are in seconds, ratios from 0 to 1. A number that is
undefined has no sample, never 0 or NaN; a count is always there, zero included. The labels:

| label | values |
| --- | --- |
| ` + "`value_stream`" + ` | the configured value streams |
| ` + "`item_type`" + ` | feature, defect, risk, debt; unclassified where there is such an item. In metrics marked * the types cannot be added, and "all" stands beside them; in all others the sum over the types is right |
| ` + "`window`" + ` | the configured windows, by default 7d, 30d and 90d, ending at the instant of the snapshot |
| ` + "`state`" + ` | active, waiting |
| ` + "`source`" + ` | the configured sources |

The metrics of the Go runtime (` + "`go_`" + `) follow them on the same page.

## Flow, as of the snapshot

`)
	table(&b, catalogue(flowFamilies))
	b.WriteString("\n## Service, as of the scrape\n\n")
	table(&b, catalogue(serviceFamilies))
	return []byte(b.String())
}

func table(b *strings.Builder, metrics []Metric) {
	b.WriteString("| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, m := range metrics {
		star := ""
		if m.RollUp {
			star = " *"
		}
		fmt.Fprintf(b, "| `%s`%s | %s | %s | %s |\n", m.Name, star, m.Type, strings.Join(m.Labels, ", "), m.Help)
	}
}
