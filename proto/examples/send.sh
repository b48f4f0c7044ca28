#!/bin/sh
# Sends what tickets.csv, on standard input, tells to flowmetrics.
set -eu

awk -F, 'NR > 1 {
	kind = $5 == "" ? "CREATED" : "UPDATED"
	printf "{\"id\":\"%s\",\"source\":\"tickets\",\"container\":\"%s\",\"item\":\"%s\",\"at\":\"%s\",\"sequence\":%s,\"kind\":\"%s\",", $1, $3, $2, $4, $1, kind
	printf "\"fields\":[{\"field\":\"STATUS\",\"from\":{\"name\":\"%s\"},\"to\":{\"name\":\"%s\"}}]}\n", $5, $6
}' | curl --silent --show-error --fail-with-body --data-binary @- \
	-H "Authorization: Bearer $FLOW_INGEST_TOKEN" "$FLOW_URL/api/v1/changes"
