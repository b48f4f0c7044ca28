package exporter

import (
	"cmp"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/flow"
)

// Service is the state of the service itself at one instant.
type Service struct {
	Sources   []SourceStatus
	Webhooks  map[string]map[string]uint64 // requests by source and result
	Log       Log
	Processor Processor
	Archive   Archive
}

// A SourceStatus is the state of one connector.
type SourceStatus struct {
	Name        string
	LastSuccess time.Time // end of the last poll that caught up; zero: none yet
	// Lag is how far the tracker's newest change is ahead of what has been
	// read; nil: unknown.
	Lag *time.Duration
	// PollInterval is the configured time between two polls; zero: it is not polled.
	PollInterval time.Duration
	// Requests counts the requests to the tracker by status code, or "error"
	// where there was no answer.
	Requests           map[string]int64
	RateLimitRemaining *float64 // requests left; nil: the tracker does not say
	Backfill           float64  // share of the first read that is done, 0 to 1
}

// Log is the state of the event log.
type Log struct {
	// Counting says that the log is still being read from its beginning. There
	// are no samples of the counts until it has been: to a scraper they would be
	// counters that begin anew, and count everything twice.
	Counting bool
	Changes  uint64                 // changes in the log
	Rejected map[flow.Reason]uint64 // rejected changes and batches by reason
	Bytes    uint64                 // size on disk
}

// Processor is the state of the processor.
type Processor struct {
	Pending          uint64        // messages of the log that it has not taken yet
	SnapshotAt       time.Time     // instant of the latest snapshot; zero: none yet
	SnapshotDuration time.Duration // how long it took to compute
}

// Archive is the state of the archive of changes in a database. It is zero
// without one.
type Archive struct {
	Lag  uint64 // messages of the log that it has not taken yet
	Rows uint64 // rows written
}

// Build identifies the program.
type Build struct{ Version, Revision string }

// A scrape is what the service families are made of.
type scrape struct {
	build   Build
	service Service
}

// rejections are the reasons that are always there, zero included.
var rejections = []flow.Reason{
	flow.ReasonMalformed, flow.ReasonMissing, flow.ReasonTime, flow.ReasonFuture, flow.ReasonUnknownKind,
	flow.ReasonUnknownField, flow.ReasonTooLarge, flow.ReasonText,
}

var bySource = []string{"source"}

// serviceFamilies are the metrics of the service itself.
var serviceFamilies = []family[*scrape]{
	{
		name: "flowmetrics_build_info", kind: gauge, labels: []string{"version", "revision", "goversion"},
		help: "Always 1. The labels identify the program.",
		from: func(s *scrape, out *samples) { out.add(1, s.build.Version, s.build.Revision, runtime.Version()) },
	},
	{
		name: "flowmetrics_connector_last_success_timestamp_seconds", kind: gauge, labels: bySource,
		help: "When the source was last read to its end, in seconds since 1970. No sample before the first time.",
		from: eachSource(func(s *SourceStatus, out *samples) {
			out.optional(timestamp(s.LastSuccess), !s.LastSuccess.IsZero(), s.Name)
		}),
	},
	{
		name: "flowmetrics_connector_lag_seconds", kind: gauge, labels: bySource,
		help: "How far the newest change in the tracker is ahead of what has been read, in seconds. No sample while that is unknown.",
		from: eachSource(func(s *SourceStatus, out *samples) {
			if s.Lag != nil {
				out.add(s.Lag.Seconds(), s.Name)
			}
		}),
	},
	{
		name: "flowmetrics_connector_poll_interval_seconds", kind: gauge, labels: bySource,
		help: "Configured time between two polls of the source, in seconds. No sample where it is not polled.",
		from: eachSource(func(s *SourceStatus, out *samples) {
			out.optional(s.PollInterval.Seconds(), s.PollInterval > 0, s.Name)
		}),
	},
	{
		name: "flowmetrics_connector_requests_total", kind: counter, labels: []string{"source", "code"},
		help: "Requests to the tracker by HTTP status code, or \"error\" where there was no answer.",
		from: eachSource(func(s *SourceStatus, out *samples) {
			for _, code := range slices.Sorted(maps.Keys(s.Requests)) {
				out.add(float64(s.Requests[code]), s.Name, code)
			}
		}),
	},
	{
		name: "flowmetrics_connector_rate_limit_remaining", kind: gauge, labels: bySource,
		help: "Requests that the tracker still allows in its current period. No sample where it does not say.",
		from: eachSource(func(s *SourceStatus, out *samples) {
			if s.RateLimitRemaining != nil {
				out.add(*s.RateLimitRemaining, s.Name)
			}
		}),
	},
	{
		name: "flowmetrics_connector_backfill_progress_ratio", kind: gauge, labels: bySource,
		help: "Share of the source's history that the first read has covered, 0 to 1.",
		from: eachSource(func(s *SourceStatus, out *samples) { out.add(s.Backfill, s.Name) }),
	},
	{
		name: "flowmetrics_webhook_requests_total", kind: counter, labels: []string{"source", "result"},
		help: "Webhook deliveries by result: taken, ignored (of no concern), unauthorized, too_large, invalid (cannot be read) or failed (to be sent again).",
		from: func(s *scrape, out *samples) {
			for _, source := range slices.Sorted(maps.Keys(s.service.Webhooks)) {
				results := s.service.Webhooks[source]
				for _, result := range slices.Sorted(maps.Keys(results)) {
					out.add(float64(results[result]), source, result)
				}
			}
		},
	},
	{
		name: "flowmetrics_log_changes_total", kind: counter,
		help: "Changes in the event log. No sample while it is being read after a start.",
		from: func(s *scrape, out *samples) { out.optional(float64(s.service.Log.Changes), !s.service.Log.Counting) },
	},
	{
		name: "flowmetrics_log_rejected_total", kind: counter, labels: []string{"reason"},
		help: "Changes and batches that were rejected as unusable, by reason. No sample while the log is being read after a start.",
		from: func(s *scrape, out *samples) {
			if s.service.Log.Counting {
				return
			}
			counts := maps.Clone(s.service.Log.Rejected)
			if counts == nil {
				counts = map[flow.Reason]uint64{}
			}
			for _, reason := range rejections {
				counts[reason] += 0
			}
			for _, reason := range slices.SortedFunc(maps.Keys(counts), cmp.Compare[flow.Reason]) {
				out.add(float64(counts[reason]), string(reason))
			}
		},
	},
	{
		name: "flowmetrics_log_bytes", kind: gauge,
		help: "Size of the event log on disk, in bytes.",
		from: func(s *scrape, out *samples) { out.add(float64(s.service.Log.Bytes)) },
	},
	{
		name: "flowmetrics_processor_pending_messages", kind: gauge,
		help: "Messages in the event log that the processor has not taken yet.",
		from: func(s *scrape, out *samples) { out.add(float64(s.service.Processor.Pending)) },
	},
	{
		name: "flowmetrics_processor_snapshot_timestamp_seconds", kind: gauge,
		help: "Instant as of which the flow metrics are, in seconds since 1970. No sample before the first snapshot.",
		from: func(s *scrape, out *samples) {
			at := s.service.Processor.SnapshotAt
			out.optional(timestamp(at), !at.IsZero())
		},
	},
	{
		name: "flowmetrics_processor_snapshot_duration_seconds", kind: gauge,
		help: "Time that it took to compute the flow metrics, in seconds. No sample before the first snapshot.",
		from: func(s *scrape, out *samples) {
			p := s.service.Processor
			out.optional(p.SnapshotDuration.Seconds(), !p.SnapshotAt.IsZero())
		},
	},
	{
		name: "flowmetrics_archive_lag_messages", kind: gauge,
		help: "Messages in the event log that the archive has not taken yet. 0 without an archive.",
		from: func(s *scrape, out *samples) { out.add(float64(s.service.Archive.Lag)) },
	},
	{
		name: "flowmetrics_archive_rows_total", kind: counter,
		help: "Rows written to the archive. 0 without an archive.",
		from: func(s *scrape, out *samples) { out.add(float64(s.service.Archive.Rows)) },
	},
}

func eachSource(f func(s *SourceStatus, out *samples)) func(*scrape, *samples) {
	return func(s *scrape, out *samples) {
		for i := range s.service.Sources {
			f(&s.service.Sources[i], out)
		}
	}
}

func timestamp(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }
