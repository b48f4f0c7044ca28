// Package dashboards holds the Grafana dashboards, which generate writes, and the
// catalogue of metrics. It has no code of its own; its tests hold the dashboards to
// the usual rules and to the metrics that the program serves.
package dashboards
