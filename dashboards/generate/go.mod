module github.com/flowmetrics/flowmetrics/dashboards/generate

go 1.26

require github.com/grafana/grafana-foundation-sdk/go v0.0.18
