package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/flowmetrics/flowmetrics/internal/app"
	"github.com/flowmetrics/flowmetrics/internal/config"
	"github.com/flowmetrics/flowmetrics/internal/eventlog"
	"github.com/flowmetrics/flowmetrics/internal/flow"
	"github.com/flowmetrics/flowmetrics/internal/web"
)

// logFlags say where the log is.
type logFlags struct {
	DataDir string `xor:"dir" placeholder:"DIR" help:"Folder of the event log, while no flowmetrics runs on it. Default: flowmetrics-data."`
	URL     string `xor:"dir,config" placeholder:"URL" help:"A running flowmetrics instead, such as http://127.0.0.1:9797."`
	Config  string `xor:"config" placeholder:"FILE" help:"Configuration file, for a log in an external NATS (nats.url)."`
}

// open opens the log itself. Unless it is to be written to, an embedded one
// has to be there.
func (f *logFlags) open(env *environment, write bool) (*eventlog.Log, error) {
	var cfg *config.Config
	if f.Config != "" {
		var err error
		if cfg, err = config.Load(f.Config); err != nil {
			return nil, err
		}
	}
	where := app.LogConfig(cfg, cmp.Or(f.DataDir, "flowmetrics-data"))
	if where.URL == "" && !write {
		if _, err := os.Stat(where.DataDir); err != nil {
			return nil, fmt.Errorf("open event log: %w (--data-dir or --url says where it is)", err)
		}
	}
	log, err := eventlog.Open(env.ctx, where, env.logger(env.Err))
	if err != nil {
		return nil, fmt.Errorf("open event log: %w", err)
	}
	return log, nil
}

// endpoint returns the address of an endpoint of the running flowmetrics.
func (f *logFlags) endpoint(path string, query url.Values) (string, error) {
	u, err := url.Parse(f.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return "", errors.New("--url: not an address, want http://HOST:PORT") // what was given may hold a password
	}
	u = u.JoinPath(path)
	u.RawQuery = query.Encode()
	return u.String(), nil
}

type changesCmd struct {
	logFlags
	Source   string `placeholder:"NAME" help:"Only the changes of this source."`
	After    uint64 `placeholder:"POSITION" help:"Only what is behind this position of the log."`
	Rejected bool   `help:"List what was rejected instead, with its place and reason."`
}

func (changesCmd) Help() string {
	return example(
		"flowmetrics changes > log.jsonl",
		"flowmetrics changes --url http://127.0.0.1:9797 --source jira-main",
		"flowmetrics changes --rejected")
}

func (c *changesCmd) Run(env *environment) error {
	out := bufio.NewWriterSize(env.Out, 64<<10)
	err := c.print(env, out)
	return errors.Join(err, out.Flush())
}

func (c *changesCmd) print(env *environment, out io.Writer) error {
	switch {
	case c.URL != "" && c.Rejected:
		return c.fetchRejected(env, out)
	case c.URL != "":
		body, err := c.get(env, "/api/v1/changes", c.After)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, body)
		return errors.Join(err, body.Close())
	}
	log, err := c.open(env, false)
	if err != nil {
		return err
	}
	enc := lines(out)
	if c.Rejected {
		err = log.Rejections(env.ctx, c.After, 0, func(r flow.Rejection) error {
			if c.Source != "" && r.Source != c.Source {
				return nil
			}
			return enc.Encode(r)
		})
	} else {
		err = log.Changes(env.ctx, c.After, c.Source, func(_ uint64, change flow.Change) error { return enc.Encode(change) })
	}
	return errors.Join(err, log.Close())
}

// rejectedPage is how many rejections are asked for at a time.
const rejectedPage = 10_000

// fetchRejected prints the rejections that a running flowmetrics has kept.
func (c *changesCmd) fetchRejected(env *environment, out io.Writer) error {
	enc, after := lines(out), c.After
	for {
		body, err := c.get(env, "/api/v1/rejected", after)
		if err != nil {
			return err
		}
		n := 0
		for in := json.NewDecoder(body); ; n++ {
			var r flow.Rejection
			if err = in.Decode(&r); err != nil {
				break
			}
			after = r.Position
			if c.Source == "" || r.Source == c.Source {
				if err = enc.Encode(r); err != nil {
					break
				}
			}
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if err = errors.Join(err, body.Close()); err != nil || n < rejectedPage {
			return err
		}
	}
}

// get asks a running flowmetrics for what is behind a position of the log.
func (c *changesCmd) get(env *environment, path string, after uint64) (io.ReadCloser, error) {
	query := url.Values{"after": {fmt.Sprint(after)}}
	if c.Rejected {
		query.Set("limit", fmt.Sprint(rejectedPage))
	} else if c.Source != "" {
		query.Set("source", c.Source)
	}
	address, err := c.endpoint(path, query)
	if err != nil {
		return nil, err
	}
	return request(env.ctx, http.MethodGet, address, nil, "")
}

// lines returns an encoder of JSON Lines.
func lines(out io.Writer) *json.Encoder {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return enc
}

// request sends a request and returns the answer's body if it is a success.
func request(ctx context.Context, method, address string, body io.Reader, token string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if token != "" {
		req.Header.Set(web.TokenHeader, token) // leaves Authorization to the user in the address
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-ndjson")
	}
	// A redirect is not followed: the token is for nobody else.
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask flowmetrics: %w", err)
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // whatever it says of the failure
	var answer struct{ Error string }
	if json.Unmarshal(text, &answer) == nil && answer.Error != "" {
		text = []byte(answer.Error)
	}
	err = fmt.Errorf("%s %s: %s: %s", method, req.URL.Redacted(), resp.Status, bytes.TrimSpace(text))
	return nil, errors.Join(err, resp.Body.Close())
}

type importCmd struct {
	logFlags
	Files       []string `arg:"" name:"file" help:"Changes files, JSON Lines; - is the standard input."`
	TokenEnv    string   `default:"FLOWMETRICS_TOKEN" placeholder:"NAME" help:"With --url: environment variable that holds the ingest token. Default: ${default}."`
	SkipInvalid bool     `help:"Leave out lines that cannot be used instead of importing nothing."`
}

func (importCmd) Help() string {
	return "All files are read first: a line that cannot be used is named, and then nothing is imported.\n" +
		"A change that the log holds already does no harm, it counts as a duplicate.\n\n" + example(
		"flowmetrics import changes.jsonl",
		"FLOWMETRICS_TOKEN=... flowmetrics import --url http://127.0.0.1:9797 changes.jsonl",
		"generate | flowmetrics import -")
}

// importChunk is how many changes are made durable, or posted, at a time.
const importChunk = 500

func (c *importCmd) Run(env *environment) error {
	publish, done, err := c.publisher(env)
	if err != nil {
		return err
	}
	chunks, total, err := c.read(env)
	taken, shown := 0, time.Now()
	for _, chunk := range chunks {
		if err = publish(chunk); err != nil {
			break
		}
		taken += len(chunk)
		if time.Since(shown) > time.Second {
			shown = time.Now()
			fmt.Fprintf(env.Err, "%d of %d changes imported\n", taken, total)
		}
	}
	if err = errors.Join(err, done()); err != nil {
		if total > 0 {
			fmt.Fprintf(env.Err, "%d of %d changes imported, and it is safe to import all of them again\n", taken, total)
		}
		return err
	}
	_, err = fmt.Fprintf(env.Out, "%s imported\n", plural(taken, "change"))
	return err
}

// read reads all files before anything is taken, so that a bad line can stop
// the import. A chunk holds changes of one source, in their order.
func (c *importCmd) read(env *environment) (chunks [][]flow.Change, total int, err error) {
	bad := 0
	now := time.Now()
	filling := map[string]int{} // the chunk of each source that is not full
	for _, name := range c.Files {
		err := readChanges(env, name, func(line int, change flow.Change, err error) error {
			if err == nil {
				err = change.ValidateAt(now)
			}
			if err != nil {
				bad++
				fmt.Fprintf(env.Err, "%s:%d: rejected: %v\n", name, line, err)
				return nil
			}
			i, ok := filling[change.Source]
			if !ok || len(chunks[i]) >= importChunk {
				i = len(chunks)
				filling[change.Source] = i
				chunks = append(chunks, nil)
			}
			chunks[i] = append(chunks[i], change)
			total++
			return nil
		})
		if err != nil {
			return nil, 0, err
		}
	}
	if bad > 0 && !c.SkipInvalid {
		return nil, 0, fmt.Errorf("%s cannot be used, nothing was imported (--skip-invalid imports the others)", plural(bad, "line"))
	}
	return chunks, total, nil
}

// publisher returns how to publish a chunk, and what ends the import.
func (c *importCmd) publisher(env *environment) (publish func([]flow.Change) error, done func() error, err error) {
	if c.URL == "" {
		log, err := c.open(env, true)
		if err != nil {
			return nil, nil, err
		}
		return func(chunk []flow.Change) error { return log.Publish(env.ctx, chunk[0].Source, chunk) }, log.Close, nil
	}
	address, err := c.endpoint("/api/v1/changes", nil)
	if err != nil {
		return nil, nil, err
	}
	token, err := config.SecretEnv(c.TokenEnv).Read()
	if err != nil {
		return nil, nil, fmt.Errorf("read ingest token: %w", err)
	}
	return func(chunk []flow.Change) error {
		var body bytes.Buffer
		enc := lines(&body)
		for i := range chunk {
			if err := enc.Encode(&chunk[i]); err != nil {
				return fmt.Errorf("encode change: %w", err)
			}
			if body.Len() < web.MaxBody/2 && i < len(chunk)-1 {
				continue
			}
			answer, err := request(env.ctx, http.MethodPost, address, &body, token)
			if err != nil {
				return err
			}
			if err := answer.Close(); err != nil {
				return fmt.Errorf("read answer: %w", err)
			}
		}
		return nil
	}, func() error { return nil }, nil
}
