package main

import "fmt"

// alerts are the names of all alerts of the product.
const alerts = "FlowLoadOverLimit|FlowLoadRising|PredictedFlowTimeOverSLE|WorkStarving|OverAgeShare|NeglectedWIP|ThroughputSignal|ReopenSpike|UnmappedStatus|FlowDataStale|LittleIdentityBroken|FlowChangesRejected|FlowConnectorStalled|FlowMetricsAbsent"

// runbooks is where the page of each alert is.
const runbooks = "https://github.com/flowmetrics/flowmetrics/blob/main/deploy/runbooks/"

// firing is the table of pending and firing alerts. It has one row that says so
// where there are none, as long as the service is there to tell.
func firing(width uint32, matchers string) *panel {
	is := fmt.Sprintf(`max by (alertname, value_stream, source, severity, alertstate) (ALERTS{alertname=~"%s"%s})`, alerts, matchers)
	none := fmt.Sprintf(`label_replace(sum by () (%s), "alertstate", "none", "", "")`, fact("flow_value_stream_info"))
	p := tabular("Alerts", number,
		`Pending and firing alerts of these rules, from Prometheus. The name leads to the runbook: what it means, what to do, how often it is wrong. FlowDataStale silences the others: repair the data first. The state "none" means that the rules found nothing; no row at all means that the service cannot be seen.`,
		[]column{
			{field: "alertname", title: "Alert", as: []property{{"links", []map[string]any{{"title": "Runbook", "url": runbooks + "${__value.text}.md", "targetBlank": true}}}}},
			{field: "value_stream", title: "Value stream"}, {field: "source", title: "Source"}, {field: "severity", title: "Severity", width: 110},
			{field: "alertstate", title: "State", width: 110},
		},
		cells("A", fmt.Sprintf("%s or (%s unless on () %s)", is, none, is)),
	)
	return p.wide(width).link("Leading indicators", "/d/flow-leading?${__url_time_range}&${__all_variables}")
}
