package github

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/bradleyfalzon/ghinstallation/v2"

	"github.com/flowmetrics/flowmetrics/internal/connector"
)

// A signer adds the credentials to requests to the site, and sends no other
// request at all.
type signer struct {
	base  *url.URL
	token func() (string, error) // nil: anonymous, or an App
	app   connector.App
	next  http.RoundTripper

	mu           sync.Mutex
	key          string                    // that installation was made with
	installation *ghinstallation.Transport // nil: not made yet
}

func newSigner(base *url.URL, c Config, next http.RoundTripper) *signer {
	return &signer{base: base, token: c.Token, app: c.App, next: next}
}

func (s *signer) RoundTrip(r *http.Request) (*http.Response, error) {
	signed, err := s.sign(r)
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	return signed.next.RoundTrip(signed.request)
}

type signedRequest struct {
	request *http.Request
	next    http.RoundTripper
}

// sign returns a request with its credentials and what sends it.
func (s *signer) sign(r *http.Request) (signedRequest, error) {
	switch {
	case !sameSite(r.URL, s.base):
		return signedRequest{}, fmt.Errorf("request %w", errForeign)
	case s.app.PrivateKey != nil:
		t, err := s.transport()
		return signedRequest{r, t}, err
	case s.token == nil:
		return signedRequest{r, s.next}, nil
	}
	token, err := s.token()
	if err != nil {
		return signedRequest{}, &connector.ConfigError{Err: fmt.Errorf("read token: %w", err)}
	}
	signed := r.Clone(r.Context())
	signed.Header.Set("Authorization", "Bearer "+token)
	return signedRequest{signed, s.next}, nil
}

// transport returns what signs as the App's installation. It is made anew when
// the private key is another one.
func (s *signer) transport() (http.RoundTripper, error) {
	key, err := s.app.PrivateKey()
	if err != nil {
		return nil, &connector.ConfigError{Err: fmt.Errorf("read private key of the App: %w", err)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.installation == nil || s.key != key {
		t, err := ghinstallation.New(s.next, s.app.ID, s.app.Installation, []byte(key))
		if err != nil {
			return nil, &connector.ConfigError{Err: errors.New("private key of the App: want an RSA key in PEM")}
		}
		t.BaseURL = strings.TrimSuffix(s.base.String(), "/")
		s.key, s.installation = key, t
	}
	return s.installation, nil
}
