package prometheus

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"

	"golang.org/x/crypto/bcrypt"
	"sigs.k8s.io/yaml"
)

// webConfig is the file that Prometheus's exporters take for TLS and passwords of their HTTP endpoint.
type webConfig struct {
	TLS struct {
		Cert             string   `json:"cert"`
		Key              string   `json:"key"`
		CertFile         string   `json:"cert_file"`
		KeyFile          string   `json:"key_file"`
		ClientAuth       string   `json:"client_auth_type"`
		ClientCA         string   `json:"client_ca"`
		ClientCAFile     string   `json:"client_ca_file"`
		ClientSANs       []string `json:"client_allowed_sans"`
		MinVersion       string   `json:"min_version"`
		MaxVersion       string   `json:"max_version"`
		CipherSuites     []string `json:"cipher_suites"`
		CurvePreferences []string `json:"curve_preferences"`
		PreferServer     *bool    `json:"prefer_server_cipher_suites"` // Go has not heeded it since 1.18
	} `json:"tls_server_config"`
	HTTP struct {
		HTTP2   *bool             `json:"http2"` // HTTP/1.1 is always spoken
		Headers map[string]string `json:"headers"`
	} `json:"http_server_config"`
	Users map[string]string `json:"basic_auth_users"` // bcrypt hashes by name

	nobody []byte // compared with for unknown users, so that a guess takes as long as for a known one
}

func readWebConfig(files fs.FS, name string) (*webConfig, error) {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, fmt.Errorf("read the web configuration: %w", err)
	}
	c := new(webConfig)
	if err := yaml.UnmarshalStrict(text, c); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	cost := 0
	for user, hash := range c.Users {
		n, err := bcrypt.Cost([]byte(hash))
		if err != nil {
			return nil, fmt.Errorf("%s: the password of %s is no bcrypt hash", name, user)
		}
		cost = n
	}
	if cost > 0 {
		c.nobody, err = bcrypt.GenerateFromPassword([]byte(name), cost)
	}
	return c, err
}

// tlsConfig gives the TLS that the file asks for, nil for none. Certificates are read again for every handshake, so that
// renewed ones need no reload; from is the file's own name, which other names are relative to.
func (c *webConfig) tlsConfig(files fs.FS, from string) (*tls.Config, error) {
	t := &c.TLS
	if t.Cert == "" && t.CertFile == "" && t.Key == "" && t.KeyFile == "" {
		if t.ClientAuth != "" || t.ClientCA != "" || t.ClientCAFile != "" {
			return nil, errors.New("tls_server_config has no certificate: add cert_file and key_file")
		}
		return nil, nil
	}
	read := func(inline, name string) ([]byte, error) {
		switch {
		case inline != "" && name != "":
			return nil, fmt.Errorf("both the text and the file %s are given", name)
		case inline != "":
			return []byte(inline), nil
		case !path.IsAbs(name):
			name = path.Join(path.Dir(from), name)
		}
		return fs.ReadFile(files, name)
	}
	load := func() (*tls.Certificate, error) {
		cert, err := read(t.Cert, t.CertFile)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		key, err := read(t.Key, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		return &pair, err
	}
	if _, err := load(); err != nil {
		return nil, err
	}
	out := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load() }}
	return out, errors.Join(c.versions(out), c.suites(out), c.clients(out, read))
}

func (c *webConfig) versions(out *tls.Config) error {
	known := map[string]uint16{"TLS13": tls.VersionTLS13, "TLS12": tls.VersionTLS12, "TLS11": tls.VersionTLS11, "TLS10": tls.VersionTLS10, "": 0}
	lowest, ok1 := known[c.TLS.MinVersion]
	highest, ok2 := known[c.TLS.MaxVersion]
	if !ok1 || !ok2 {
		return errors.New("min_version and max_version are one of TLS10, TLS11, TLS12, TLS13")
	}
	if lowest == 0 {
		lowest = tls.VersionTLS12
	}
	out.MinVersion, out.MaxVersion = lowest, highest
	return nil
}

func (c *webConfig) suites(out *tls.Config) error {
	for _, name := range c.TLS.CipherSuites {
		i := slices.IndexFunc(tls.CipherSuites(), func(s *tls.CipherSuite) bool { return s.Name == name })
		if i < 0 {
			return fmt.Errorf("cipher_suites: unknown suite %q", name)
		}
		out.CipherSuites = append(out.CipherSuites, tls.CipherSuites()[i].ID)
	}
	curves := map[string]tls.CurveID{"CurveP256": tls.CurveP256, "CurveP384": tls.CurveP384, "CurveP521": tls.CurveP521,
		"X25519": tls.X25519, "X25519MLKEM768": tls.X25519MLKEM768}
	for _, name := range c.TLS.CurvePreferences {
		id, ok := curves[name]
		if !ok {
			return fmt.Errorf("curve_preferences: unknown curve %q", name)
		}
		out.CurvePreferences = append(out.CurvePreferences, id)
	}
	return nil
}

func (c *webConfig) clients(out *tls.Config, read func(inline, name string) ([]byte, error)) error {
	kinds := map[string]tls.ClientAuthType{"": tls.NoClientCert, "NoClientCert": tls.NoClientCert,
		"RequestClientCert": tls.RequestClientCert, "RequireClientCert": tls.RequireAnyClientCert, "RequireAnyClientCert": tls.RequireAnyClientCert,
		"VerifyClientCertIfGiven": tls.VerifyClientCertIfGiven, "RequireAndVerifyClientCert": tls.RequireAndVerifyClientCert}
	kind, ok := kinds[c.TLS.ClientAuth]
	if !ok {
		return fmt.Errorf("client_auth_type: unknown type %q", c.TLS.ClientAuth)
	}
	out.ClientAuth = kind
	if c.TLS.ClientCA != "" || c.TLS.ClientCAFile != "" {
		pem, err := read(c.TLS.ClientCA, c.TLS.ClientCAFile)
		if err != nil {
			return fmt.Errorf("client CA: %w", err)
		}
		out.ClientCAs = x509.NewCertPool()
		if !out.ClientCAs.AppendCertsFromPEM(pem) {
			return errors.New("client CA: there is no certificate in it")
		}
		if kind == tls.NoClientCert {
			return errors.New("a client CA needs a client_auth_type, RequireAndVerifyClientCert for instance")
		}
	}
	if len(c.TLS.ClientSANs) > 0 {
		out.VerifyPeerCertificate = c.allowed
	}
	return nil
}

// allowed refuses client certificates none of whose names is in the list.
func (c *webConfig) allowed(_ [][]byte, chains [][]*x509.Certificate) error {
	for _, chain := range chains {
		for _, name := range namesOf(chain[0]) {
			if slices.Contains(c.TLS.ClientSANs, name) {
				return nil
			}
		}
	}
	return errors.New("the client's certificate has no name that client_allowed_sans lists")
}

func namesOf(cert *x509.Certificate) []string {
	names := append(slices.Clone(cert.DNSNames), cert.EmailAddresses...)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	for _, uri := range cert.URIs {
		names = append(names, uri.String())
	}
	return names
}

// protect asks for a password where there are users, and adds the headers.
func (c *webConfig) protect(h http.Handler) http.Handler {
	if len(c.Users) == 0 && len(c.HTTP.Headers) == 0 {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for name, value := range c.HTTP.Headers {
			w.Header().Set(name, value)
		}
		if len(c.Users) > 0 && !c.known(r) {
			w.Header().Set("WWW-Authenticate", "Basic")
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

func (c *webConfig) known(r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	if !ok {
		return false
	}
	hash, found := []byte(nil), false
	if text, ok := c.Users[user]; ok {
		hash, found = []byte(text), true
	} else {
		hash = c.nobody
	}
	return bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil && found
}
