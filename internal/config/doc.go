// Package config reads the configuration file: strict YAML in, a typed
// [Config] and an immutable [flow.Policy] out.
//
// [Load] reads a file, [Parse] its bytes. Nothing is guessed and nothing is
// ignored: an unknown key, a key that the source's type has no use for, a key
// given twice or a value of another kind is a [Problem] that names the file,
// line, column and YAML path, what was found and what was expected. All
// problems of a file are reported together, as an [Errors].
//
// The file is plain data: no anchors, aliases, merge keys or tags, one
// document, at most [MaxSize] bytes. Secrets are never in it: they are named,
// by environment variable or file, and read when they are needed, with
// [Secret.Read]. An unset variable is therefore no error here (R26).
//
// The sections sources, workflows, value_streams and windows are described by
// the example file, see [Example]. Two more may follow:
//
//	nats:                          # default: an embedded server
//	  url: nats://n1:4222,nats://n2:4222
//	  creds_file: flow.creds       # or user with password_env or password_file
//	  user: flow
//	  password_env: NATS_PASSWORD
//	  tls: {ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}
//	  sync: always                 # embedded: when writes reach the disk; or an interval such as 2m
//	  max_bytes: 10GB              # limit of the log; B, kB, MB, GB, TB, KiB, MiB, GiB, TiB
//	  replicas: 1                  # 1 to 5; more than one needs a url
//	web:
//	  ingest_token_env: INGEST     # or ingest_token_file; without one, POST /api/v1/changes is refused
//
// Paths are relative to the folder of the configuration file. Durations are
// numbers with the units d, h, m and s, the larger before the smaller: 90m,
// 14d, 1d12h.
package config
