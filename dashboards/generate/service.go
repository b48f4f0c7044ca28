package main

import (
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// service is the dashboard of the service itself.
func service() page {
	f := frame{uid: "flow-service", from: "now-24h", window: "30d", description: `For operators of flowmetrics: is everything read, kept, computed and archived, and how good are the data. ` +
		`From left to right along the data path: connectors, log, processor, archive; then what makes the numbers of value streams less certain. ` +
		`These metrics exist since the service is scraped; no history is loaded for them. Red is the threshold of an alert. Times are those of the browser.`}
	f.rows = []row{
		panels(7, firing(8, ""), sources(), running()),
		heading("Connectors"),
		panels(7, stale().titled("Data age by source"), behind(), backfill()),
		panels(7, requests(), limits(), webhooks()),
		heading("Log and archive"),
		panels(7, growth().wide(6), rejected().titled("Rejected changes, last hour").wide(6), size().wide(6), archive().wide(6)),
		heading("Processor"),
		panels(7, pending(), snapshotAge(), snapshotDuration()),
		heading("Data quality"),
		panels(8, quality(), coverage(), unmapped().titled("Unmapped items by source")),
	}
	return f.build()
}

// titled names a panel that is on another dashboard under the name of its alert.
func (p *panel) titled(title string) *panel {
	p.Title = &title
	return p
}

// left is what each tracker still allows, -1 where it does not say.
const left = `min by (source) (flowmetrics_connector_rate_limit_remaining) or 0 * max by (source) (flowmetrics_connector_backfill_progress_ratio) - 1`

func notTold() property {
	return mapped(map[string]dashboard.ValueMappingResult{"-1": shown("not told", grey, 0)})
}

// sources is the state of each connector now.
func sources() *panel {
	return tabular("Sources", number,
		`Each source: when it was last read to its end, how often it is polled, how far the tracker is ahead, how much of its history the first read has covered, and the requests that the tracker still allows ("not told" where it does not say). Red: over 30 minutes, the alert FlowDataStale, unless it is polled so seldom that this is less than two and a half times the pause.`,
		[]column{
			{field: "source", title: "Source"},
			{field: value("age"), title: "Read", unit: seconds, as: []property{{"thresholds", thresholds(green, step{900, amber}, step{1800, red})}, {"custom.displayMode", "color-text"}}},
			{field: value("interval"), title: "Polled every", unit: seconds},
			{field: value("lag"), title: "Behind", unit: seconds},
			{field: value("backfill"), title: "History", unit: share},
			{field: value("left"), title: "Requests left", as: []property{notTold()}},
		},
		cells("age", `time() - max by (source) (flowmetrics_connector_last_success_timestamp_seconds)`),
		cells("interval", `max by (source) (flowmetrics_connector_poll_interval_seconds)`),
		cells("lag", `max by (source) (flowmetrics_connector_lag_seconds) or 0 * max by (source) (flowmetrics_connector_last_success_timestamp_seconds)`),
		cells("backfill", `max by (source) (flowmetrics_connector_backfill_progress_ratio)`),
		cells("left", left),
	).wide(10).decimals(0)
}

// running is the version that runs.
func running() *panel {
	return numbers("Version", "suffix:processes",
		`The versions that run, and in how many processes. Two for long after a release: one process was forgotten.`,
		now("{{version}}", `count by (version) (flowmetrics_build_info)`)).text(common.BigValueTextModeValueAndName).wide(6).decimals(0)
}

// behind is the lag of each connector.
func behind() *panel {
	return lines("Behind the tracker", seconds,
		`How far the newest change in each tracker is ahead of what has been read. 0 between polls is normal; over 15 minutes for 10 minutes the alert FlowConnectorStalled fires (red); of a source that is polled seldom, over two and a half poll intervals.`,
		q("{{source}}", `max by (source) (max_over_time(flowmetrics_connector_lag_seconds[5m])) or 0 * max by (source) (flowmetrics_connector_last_success_timestamp_seconds)`)).
		wide(8).steps(green, step{900, red}).decimals(0)
}

// backfill is the progress of the first read.
func backfill() *panel {
	return lines("First read of the history", share,
		`Share of each source's history that the first read has covered. Until it is 100 %, load and velocity of the past are too low and signals mean nothing. Flat below 100 %: see the requests for errors.`,
		q("{{source}}", `max by (source) (flowmetrics_connector_backfill_progress_ratio)`)).
		wide(8).decimals(0).most(1)
}

// requests is the rate of requests by status code.
func requests() *panel {
	return lines("Requests to trackers", "reqps",
		`Requests to each tracker by status code, or error where there was no answer. 401 and 403: the token; 429: the tracker's limit, the service waits by itself; 5xx and error: the tracker or the network.`,
		q("{{source}} {{code}}", `sum by (source, code) (rate(flowmetrics_connector_requests_total[$__rate_interval])) or on (source) 0 * sum by (source) (flowmetrics_connector_backfill_progress_ratio)`)).
		wide(8).like(` (4..|5..|error)$`, colour(red))
}

// limits is what the trackers allow.
func limits() *panel {
	return lines("Requests that trackers still allow", "suffix:requests",
		`Requests left in the tracker's current period, where the tracker says so (-1: it does not). Near 0 the service waits for the next period, and data age grows: poll less often, or use a token with a higher limit.`,
		q("{{source}}", left)).
		wide(8).decimals(0).like(".*", notTold())
}

// webhooks is the rate of deliveries by result.
func webhooks() *panel {
	return lines("Webhook deliveries", "reqps",
		`Deliveries by result. Unauthorized: the secrets differ. Invalid: not of this tracker. Failed: the log did not take it, the tracker sends it again. None at all is no fault: what a webhook misses the next poll finds.`,
		q("{{source}} {{result}}", `sum by (source, result) (rate(flowmetrics_webhook_requests_total[$__rate_interval])) or on (source) 0 * sum by (source) (flowmetrics_connector_backfill_progress_ratio)`)).
		wide(8).like(` (unauthorized|too_large|invalid|failed)$`, colour(red))
}

// growth is the rate of changes into the log.
func growth() *panel {
	return lines("Changes into the log", "suffix:changes/min",
		`Changes that came into the event log each minute. A step at a first read or an import is normal; none for long while the trackers are used is not.`,
		q("changes", `60 * max by () (rate(flowmetrics_log_changes_total[$__rate_interval]))`))
}

// size is the size of the log.
func size() *panel {
	return lines("Size of the log", "bytes",
		`Size of the event log on disk. It only grows: it is the history that everything is computed from. Compare it with the configured maximum (nats.max_bytes): when that is reached, nothing new is taken.`,
		q("log", `max by () (flowmetrics_log_bytes)`))
}

// archive is the lag of the archive.
func archive() *panel {
	return lines("Archive", "suffix:messages",
		`Messages of the log that the archive does not have yet, and its rows on the right. Both are 0 without an archive. Growing for long: the database does not keep up or cannot be reached; nothing is lost, the log keeps it.`,
		q("behind", `max by () (flowmetrics_archive_lag_messages)`), q("rows", `max by () (max_over_time(flowmetrics_archive_rows_total[5m]))`)).
		decimals(0).named("rows", right(grey, "suffix:rows")...).named("behind", colour(blue))
}

// pending is what the processor has not taken.
func pending() *panel {
	return lines("Messages that the processor has not taken", "suffix:messages",
		`Messages in the log that are not in the numbers yet. High after a start, then near 0; growing means that computing does not keep up.`,
		q("pending", `max by () (flowmetrics_processor_pending_messages)`)).wide(8).decimals(0)
}

// snapshotAge is the age of the numbers of each process.
func snapshotAge() *panel {
	return lines("Age of the numbers", seconds,
		`Time since the numbers were computed, of the process where they are oldest. Over 30 minutes for 15 minutes the alert FlowDataStale fires (red).`,
		q("oldest", `time() - min by () (flowmetrics_processor_snapshot_timestamp_seconds)`)).wide(8).steps(green, step{1800, red}).decimals(0)
}

// snapshotDuration is how long it takes to compute the numbers.
func snapshotDuration() *panel {
	return lines("Time to compute the numbers", seconds,
		`How long the last computation of all numbers took. It grows with items and value streams; when it comes near the time between two scrapes, numbers lag behind.`,
		q("slowest", `max by () (flowmetrics_processor_snapshot_duration_seconds)`)).wide(8)
}

// quality is the items that make the numbers less certain.
func quality() *panel {
	return lines("Items that make numbers less certain", items,
		`born_done: created as done, counted nowhere else; left_censored: already in flow when the history begins; completed_without_start: no start status seen; never_active: completed without ever being active. The last two grow where people skip statuses: map the statuses they use.`,
		q("{{value_stream}} {{quality}}", fact("flowmetrics_items by quality"))).wide(8).decimals(0)
}

// coverage is the share of completed items that are timed.
func coverage() *panel {
	return lines("Coverage", share,
		`Share of the items completed in the window whose start is known, by value stream. Below the upper line (90 %) ask why, below the lower one (70 %) do not decide by flow time.`,
		q("{{value_stream}}", fmt.Sprintf("%s / (%s > 0)", added("flow_time_items", inWindow), added("flow_velocity_items", inWindow)))).
		wide(8).steps(red, step{0.7, amber}, step{0.9, green}).decimals(0).most(1)
}
