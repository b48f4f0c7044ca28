package web

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// start serves a fixture on a real listener until stop is called.
func start(t *testing.T, f *fixture) (addr string, stop func()) {
	t.Helper()
	if err := f.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Serve(ctx) }()
	return f.Addr().String(), func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
}

func get(t *testing.T, c *http.Client, url string, prepare ...func(*http.Request)) (int, string) {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prepare {
		p(r)
	}
	res, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestListenAndServe(t *testing.T) {
	f := newFixture(t)
	if f.Addr() != nil || f.Serve(t.Context()) == nil || f.Close() != nil {
		t.Error("a server that is not listening serves")
	}
	addr, stop := start(t, f)
	client := &http.Client{Transport: &http.Transport{}}
	if host, port, _ := net.SplitHostPort(addr); host != "127.0.0.1" || port == "0" {
		t.Errorf("address %s is not exact", addr)
	}
	if code, body := get(t, client, "http://"+addr+"/-/healthy"); code != 200 || body != "ok\n" {
		t.Errorf("%d %q", code, body)
	}
	other := newFixture(t, func(o *Options) { o.Listen = addr })
	if err := other.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "listen on "+addr) {
		t.Errorf("a taken address: %v", err)
	}
	client.CloseIdleConnections()
	stop()
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("still listening after the end")
	}
}

func TestListeningBeyondTheMachineIsWarnedOf(t *testing.T) {
	for listen, warned := range map[string]bool{"127.0.0.1:0": false, "0.0.0.0:0": true, "[::1]:0": false} {
		f := newFixture(t, func(o *Options) { o.Listen = listen })
		if err := f.Listen(t.Context()); err != nil {
			if listen == "[::1]:0" {
				continue // a machine without IPv6
			}
			t.Fatal(err)
		}
		if got := strings.Contains(f.logged.String(), "without TLS and authentication"); got != warned {
			t.Errorf("%s: warned %v", listen, got)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSchemeOfConfigurations covers what [web.Validate] lets through.
func TestSchemeOfConfigurations(t *testing.T) {
	for text, want := range map[string]string{
		"": "http",
		"# tls_server_config:\n#  cert_file: a\n":                        "http",
		"tls_server_config: {}\nbasic_auth_users: {}\n":                  "http",
		"tls_server_config:\n  cert_file: a\n  key_file: b\n":            "https",
		"http_server_config:\ntls_server_config: {key: b, cert: a}\n":    "https",
		"\"tls_server_config\" :\n  key_file: b\n  cert_file: a\n":       "https",
		"basic_auth_users: {a: b}\nhttp_server_config: {http2: false}\n": "http",
	} {
		path := filepath.Join(t.TempDir(), "web.yml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := schemeOf(path); got != want || err != nil {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
}

// TestToolkitIsQuiet sees that the service alone tells where it listens.
func TestToolkitIsQuiet(t *testing.T) {
	f := newFixture(t, func(*Options) {})
	_, stop := start(t, f)
	stop()
	if text := f.logged.String(); strings.Contains(text, "Listening on") || strings.Contains(text, "TLS is disabled") {
		t.Errorf("logged %s", text)
	}
}

// writeConfig writes a web configuration file with a fresh certificate, and
// returns its path and the pool that trusts it. The password of the user
// "prometheus" is "fakepassword".
func writeConfig(t *testing.T) (path string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	dir := t.TempDir()
	path = filepath.Join(dir, "web.yml")
	for name, content := range map[string][]byte{
		filepath.Join(dir, "cert.pem"): certPEM,
		filepath.Join(dir, "key.pem"):  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		path: []byte("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n" +
			"basic_auth_users:\n  prometheus: $2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi\n"),
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return path, pool
}

func TestTLSAndBasicAuth(t *testing.T) {
	path, pool := writeConfig(t)
	f := newFixture(t, func(o *Options) { o.ConfigFile = path })
	addr, stop := start(t, f)
	defer stop()
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true,
	}}
	defer client.CloseIdleConnections()
	as := func(password string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth("prometheus", password) }
	}
	if got, want := f.URL(), "https://"+addr+"/"; got != want {
		t.Errorf("the page is at %q, want %q", got, want)
	}
	if code, _ := get(t, client, "https://"+addr+"/metrics"); code != http.StatusUnauthorized {
		t.Errorf("without a password: %d", code)
	}
	if code, _ := get(t, client, "https://"+addr+"/metrics", as("wrong")); code != http.StatusUnauthorized {
		t.Errorf("with a wrong password: %d", code)
	}
	if code, body := get(t, client, "https://"+addr+"/metrics", as("fakepassword")); code != 200 || body != "flow_load_items 1\n" {
		t.Errorf("with the password: %d %q", code, body)
	}
	if code, _ := get(t, client, "http://"+addr+"/metrics", as("fakepassword")); code != http.StatusBadRequest {
		t.Errorf("without TLS: %d", code)
	}
	r, err := http.NewRequest("POST", "https://"+addr+"/api/v1/changes", strings.NewReader(line("1", "a")))
	if err != nil {
		t.Fatal(err)
	}
	as("fakepassword")(r)
	r.Header.Set(TokenHeader, token)
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if res.Body.Close(); res.StatusCode != http.StatusAccepted {
		t.Errorf("changes with both secrets: %d", res.StatusCode)
	}
}

func TestBadConfigurationFile(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(bad, []byte("tls_serverconfig: {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{bad, bad + ".missing"} {
		f := newFixture(t, func(o *Options) { o.ConfigFile = path })
		if err := f.Listen(t.Context()); err == nil || !strings.Contains(err.Error(), "read web configuration "+path) {
			t.Errorf("%s: %v", path, err)
		}
		if f.Addr() != nil {
			t.Error("bound although the configuration is bad")
		}
	}
	path, _ := writeConfig(t)
	f := newFixture(t, func(o *Options) { o.ConfigFile = path })
	if err := f.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil { // between Listen and Serve
		t.Fatal(err)
	}
	if err := f.Serve(t.Context()); err == nil {
		t.Error("served without its configuration")
	}
	if c, err := net.Dial("tcp", f.Addr().String()); err == nil {
		c.Close()
		t.Error("the address is still bound")
	}
}

// pipes is a listener in memory, so that deadlines can be tested with the
// clock of a synctest bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9797} }

// bubble serves a fixture in memory inside a synctest bubble.
func bubble(t *testing.T, f *fixture) (dial func() net.Conn, stop func() time.Duration) {
	p := newPipes()
	f.listener = p
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Serve(ctx) }()
	return p.dial, func() time.Duration {
		begin := time.Now()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		return time.Since(begin)
	}
}

func ask(t *testing.T, c net.Conn, target string) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", target); err != nil {
		t.Error(err)
	}
}

func TestStopLetsARequestFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(o *Options) {
			o.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(2 * time.Second)
				if r.Context().Err() != nil {
					t.Error("the request was cancelled")
				}
				_, _ = io.WriteString(w, "whole\n")
			})
		})
		dial, stop := bubble(t, f)
		c := dial()
		defer c.Close()
		ask(t, c, "/metrics")
		answer := make(chan string, 1)
		go func() {
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Error(err)
				answer <- ""
				return
			}
			body, _ := io.ReadAll(res.Body)
			answer <- string(body)
		}()
		synctest.Wait()
		if took := stop(); took < 2*time.Second || took >= stopTimeout {
			t.Errorf("stopped after %s", took)
		}
		if got := <-answer; got != "whole\n" {
			t.Errorf("answer %q", got)
		}
	})
}

func TestStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan struct{})
		f := newFixture(t, func(o *Options) {
			o.Metrics = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				<-r.Context().Done()
				close(ended)
			})
		})
		dial, stop := bubble(t, f)
		c := dial()
		defer c.Close()
		ask(t, c, "/metrics")
		synctest.Wait()
		if took := stop(); took != stopTimeout {
			t.Errorf("stopped after %s, want %s", took, stopTimeout)
		}
		<-ended // the request's context ended with the service
	})
}

func TestSlowReaderOfTheLogIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		for i := range 5000 {
			f.log.changes = append(f.log.changes, change(fmt.Sprint(i), "a"))
		}
		dial, stop := bubble(t, f)
		c := dial()
		ask(t, c, "/api/v1/changes")
		synctest.Wait()
		if len(f.reading) != 1 {
			t.Fatalf("%d readers", len(f.reading))
		}
		time.Sleep(pieceTimeout + time.Second)
		if len(f.reading) != 0 {
			t.Error("a client that reads nothing holds its place")
		}
		c.Close()
		stop()
	})
}

func TestPatientReaderOfTheLogGetsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		for i := range 20000 {
			f.log.changes = append(f.log.changes, change(fmt.Sprint(i), "a"))
		}
		dial, stop := bubble(t, f)
		c := dial()
		ask(t, c, "/api/v1/changes")
		begin := time.Now()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		lines := 0
		for scan := bufio.NewScanner(res.Body); scan.Scan(); lines++ {
			if lines%100 == 0 {
				time.Sleep(time.Second)
			}
		}
		if took := time.Since(begin); lines != 20000 || took < writeTimeout {
			t.Errorf("%d lines in %s", lines, took)
		}
		c.Close()
		stop()
	})
}

func TestSlowHeaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dial, stop := bubble(t, newFixture(t))
		c := dial()
		defer c.Close()
		begin := time.Now()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\n"); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadAll(c)
		if took := time.Since(begin); took != readHeaderTimeout {
			t.Errorf("cut off after %s, want %s", took, readHeaderTimeout)
		}
		stop()
	})
}

func TestLargeHeaderIsRefused(t *testing.T) {
	f := newFixture(t)
	addr, stop := start(t, f)
	client := &http.Client{Transport: &http.Transport{}}
	code, _ := get(t, client, "http://"+addr+"/", func(r *http.Request) { r.Header.Set("X-Long", strings.Repeat("x", 2*maxHeaderBytes)) })
	if code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d", code)
	}
	client.CloseIdleConnections()
	stop()
}

var (
	_ Snapshots = (*numbers)(nil)
	_ Log       = (*record)(nil)
	_ Publisher = (*record)(nil)
	_ Health    = health(nil)
)
