// Package file reads changes from a file of JSON Lines and follows its growth.
//
// A [Source] reads complete lines from where its cursor says. The cursor holds
// the byte offset, the number of lines before it and a digest of what the file
// holds at its beginning and just before the offset: the file is known by what
// is in it, so a copy or a restored file goes on where the old one was, and a
// file that was truncated or replaced is read from its start.
//
// A line's own source is kept, so that a file may carry the log of several
// sources; a line without one belongs to the configured source. A line that
// cannot be used is skipped, counted by reason and logged with its number; the
// rest goes on.
package file
