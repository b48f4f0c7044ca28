// Package exporter writes the numbers for Prometheus.
//
// An [Exporter] is an [http.Handler]. [Exporter.Update] gives it the latest
// snapshot; a scrape serves that snapshot's families, which are encoded once
// for all scrapes, followed by the families of the service itself, which are
// small, change all the time and are encoded for each scrape. Neither waits for
// anything or does I/O (I5).
//
// Two tables, flowFamilies and serviceFamilies, declare every metric: name,
// help, type, labels and where its samples come from. The output, its order and
// the catalogue in dashboards/METRICS.md all follow from them. The number of
// series is bounded by configuration, never by items (I7).
//
// A [History] takes the same samples of past instants: [History.Evaluate] has the
// snapshot of each, one after the other, emit its families into columns instead
// of a page, and a [Part] of them is written as OpenMetrics, as a block of
// Prometheus' database or as remote write requests.
package exporter

//go:generate go test . -run TestCatalogue -update
