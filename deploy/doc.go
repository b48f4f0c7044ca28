// Package deploy holds what an installation of flowmetrics is made of besides the
// program: rules, alerts and runbooks for Prometheus and Alertmanager, and the
// provisioning of Grafana. It has no code of its own; its tests prove the files on
// the real programs.
package deploy
