// Package eventlog keeps the record: every change that any source told, in one
// JetStream stream. Everything else is computed from it.
//
// [Open] starts a NATS server inside the process, without a listener and with
// its files below the data directory, or connects to a NATS system. A [Log]
// appends ([Log.Publish]), replays and tails ([Log.Follow]), reads up to the
// present end ([Log.Changes]), and keeps what could not be used
// ([Log.Reject]) and how far each source was read ([Log.StoreCursor]).
//
// What is stored:
//
//   - stream FLOW_CHANGES, subjects flow.v1.changes.<source>.<container>: one
//     message is one flow.v1.ChangeBatch (proto/README.md) of one container. It
//     has no age limit; at its size limit it refuses new messages and keeps the
//     old. A position in the log is the sequence of this stream, from 1 up.
//   - stream FLOW_REJECTED, subjects flow.v1.rejected.<position>.<index>: one
//     [flow.Rejection] in JSON a message, at most one a subject.
//   - key-value bucket flow_cursors: a source's cursor by its name.
//
// Names become one token of a subject or key by [Token].
package eventlog
