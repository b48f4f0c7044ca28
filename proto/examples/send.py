"""Sends what tickets.csv, on standard input, tells to flowmetrics."""

import csv, json, os, sys, urllib.request

lines = []
for row in csv.DictReader(sys.stdin):
    field = {"field": "STATUS", "from": {"name": row["was"]}, "to": {"name": row["status"]}}
    change = {
        "id": row["id"],  # the same fact has the same id, however often it is sent
        "source": "tickets",
        "container": row["project"],
        "item": row["ticket"],
        "at": row["at"],
        "sequence": int(row["id"]),  # the order of what has the same time
        "kind": "UPDATED" if row["was"] else "CREATED",
        "fields": [field],
    }
    lines.append(json.dumps(change) + "\n")

request = urllib.request.Request(
    os.environ["FLOW_URL"] + "/api/v1/changes",
    data="".join(lines).encode(),
    headers={"Authorization": "Bearer " + os.environ["FLOW_INGEST_TOKEN"]},
)
with urllib.request.urlopen(request) as answer:  # an error where it is not 202: send it all again
    print(answer.read().decode().strip())
