package eventlog

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
)

// startExternal starts a NATS server on a loopback port and returns its URL.
func startExternal(t testing.TB, opts server.Options) (*server.Server, string) {
	t.Helper()
	opts.Host, opts.JetStream, opts.NoLog, opts.NoSigs = "127.0.0.1", true, true, true
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	if opts.StoreDir == "" {
		opts.StoreDir = t.TempDir()
	}
	s, err := server.NewServer(&opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { stopExternal(t, s) })
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the external server is not ready")
	}
	return s, s.ClientURL()
}

func stopExternal(t testing.TB, s *server.Server) {
	t.Helper()
	if err := stopServer(s); err != nil {
		t.Error(err)
	}
}

// certificate makes a certificate for 127.0.0.1 that signs itself, and returns
// the files of it and of its key.
func certificate(t testing.TB) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyBytes, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, bytes []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	return write("cert.pem", "CERTIFICATE", cert), write("key.pem", "PRIVATE KEY", keyBytes)
}

func TestExternalWithPasswordAndTLS(t *testing.T) {
	certFile, keyFile := certificate(t)
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(must(x509.ParseCertificate(pair.Certificate[0])))
	_, url := startExternal(t, server.Options{
		Username: "flow", Password: "s3cret-word", TLS: true, TLSTimeout: 5,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12},
	})
	url = strings.Replace(url, "nats://", "tls://", 1)
	files := TLS{CAFile: certFile, CertFile: certFile, KeyFile: keyFile}
	cfg := Config{URL: url, User: "flow", Password: password("s3cret-word"), TLS: files}

	want := testChanges("s", "c", 0, 120)
	l := openLog(t, cfg)
	publish(t, l, "s", want)
	closeLog(t, l)
	l = openLog(t, cfg)
	if diff := cmp.Diff(want, stored(t, l, "s")); diff != "" {
		t.Error(diff)
	}

	for name, cfg := range map[string]Config{
		"wrong password":    {URL: url, User: "flow", Password: password("wr0ng-word"), TLS: files},
		"no password":       {URL: url, User: "flow", Password: func() (string, error) { return "", errors.New("not set") }, TLS: files},
		"unknown authority": {URL: url, User: "flow", Password: password("s3cret-word"), TLS: TLS{CertFile: certFile, KeyFile: keyFile}},
		"no CA file":        {URL: url, User: "flow", Password: password("s3cret-word"), TLS: TLS{CAFile: certFile + "x"}},
		"no credentials":    {URL: url, CredsFile: certFile + "x", TLS: files},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		_, err := Open(ctx, cfg, testLogger(t))
		if err == nil || ctx.Err() != nil {
			t.Errorf("%s: %v, want an error at once", name, err)
		} else if strings.Contains(err.Error(), "word") && strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "wr0ng") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
		cancel()
	}
}

func password(word string) func() (string, error) {
	return func() (string, error) { return word, nil }
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// While the system is away, publishing fails at once and reading waits; when it
// is back, both go on, and nothing is lost or comes twice.
func TestExternalRestart(t *testing.T) {
	dir := t.TempDir()
	s, url := startExternal(t, server.Options{StoreDir: dir})
	l := openLog(t, Config{URL: url})
	publish(t, l, "s", testChanges("s", "c", 0, 1))
	got, stop := follow(t, l, 0)
	receive(t, got)

	port := s.Addr().(*net.TCPAddr).Port
	stopExternal(t, s)
	for l.nc.IsConnected() {
		time.Sleep(time.Millisecond)
	}
	if err := l.Publish(t.Context(), "s", testChanges("s", "c", 1, 1)); !errors.Is(err, ErrDisconnected) {
		t.Errorf("Publish without a connection: %v", err)
	}
	if _, err := l.StoreCursor(t.Context(), "s", nil, 0); !errors.Is(err, ErrDisconnected) {
		t.Errorf("StoreCursor without a connection: %v", err)
	}

	startExternal(t, server.Options{StoreDir: dir, Port: port})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for l.Publish(ctx, "s", testChanges("s", "c", 1, 1)) != nil {
		if ctx.Err() != nil {
			t.Fatal("no connection again")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if d := receive(t, got); d.Position != 2 || d.IDs[0] != "c-1" {
		t.Errorf("delivery %+v, want position 2", d)
	}
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("Follow: %v", err)
	}
}

// Everything ends within its context or at Close, though nobody answers.
func TestExternalAway(t *testing.T) {
	s, url := startExternal(t, server.Options{})
	l := openLog(t, Config{URL: url})
	_, stop := follow(t, l, 0)
	publish(t, l, "s", testChanges("s", "c", 0, 1))
	stopExternal(t, s)
	for l.nc.IsConnected() {
		time.Sleep(time.Millisecond)
	}
	start := time.Now()
	if err := stop(); !errors.Is(err, context.Canceled) {
		t.Errorf("Follow: %v", err)
	}
	_, stop = follow(t, l, 1)
	closeLog(t, l)
	if err := stop(); !errors.Is(err, ErrClosed) {
		t.Errorf("Follow: %v", err)
	}
	if passed := time.Since(start); passed > 5*time.Second {
		t.Errorf("stopping took %s", passed)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := Open(ctx, Config{URL: url}, slog.New(slog.DiscardHandler))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), url) {
		t.Errorf("Open with nobody there: %v", err)
	}
}

// Open waits for a system that comes up later.
func TestExternalLate(t *testing.T) {
	s, url := startExternal(t, server.Options{})
	port := s.Addr().(*net.TCPAddr).Port
	stopExternal(t, s)
	opened := make(chan *Log, 1)
	go func() {
		l, err := Open(t.Context(), Config{URL: url}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Error(err)
		}
		opened <- l
	}()
	startExternal(t, server.Options{Port: port})
	if l := <-opened; l != nil {
		closeLog(t, l)
	}
}
