package prometheus

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// pair makes a certificate of its own authority, and its key, as PEM.
func pair(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}

func serve(t *testing.T, files fstest.MapFS) *httptest.Server {
	t.Helper()
	c, err := readWebConfig(files, "etc/web.yml")
	if err != nil {
		t.Fatal(err)
	}
	config, err := c.tlsConfig(files, "etc/web.yml")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(c.protect(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if config != nil {
		s.Listener = tls.NewListener(s.Listener, config)
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func TestCertificatesAreReadAgain(t *testing.T) {
	cert, key := pair(t, "one.test")
	files := fstest.MapFS{"etc/web.yml": {Data: []byte("tls_server_config:\n  cert_file: c.pem\n  key_file: k.pem\n")},
		"etc/c.pem": {Data: cert}, "etc/k.pem": {Data: key}}
	s := serve(t, files)
	name := func() string {
		conn, err := tls.Dial("tcp", s.Listener.Addr().String(), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].DNSNames[0]
	}
	if got := name(); got != "one.test" {
		t.Errorf("certificate of %s", got)
	}
	cert, key = pair(t, "two.test")
	files["etc/c.pem"], files["etc/k.pem"] = &fstest.MapFile{Data: cert}, &fstest.MapFile{Data: key}
	if got := name(); got != "two.test" {
		t.Errorf("after the renewal: certificate of %s", got)
	}
}

func TestClientCertificates(t *testing.T) {
	cert, key := pair(t, "server.test")
	good, goodKey := pair(t, "prometheus.test")
	other, otherKey := pair(t, "other.test")
	files := fstest.MapFS{"etc/web.yml": {Data: []byte(`tls_server_config:
  cert_file: c.pem
  key_file: k.pem
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.pem
  client_allowed_sans: [prometheus.test]
  min_version: TLS13
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]
`)}, "etc/c.pem": {Data: cert}, "etc/k.pem": {Data: key}, "etc/ca.pem": {Data: append(bytes.Clone(good), other...)}}
	s := serve(t, files)
	get := func(cert, key []byte) error {
		c, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{c}}}}
		resp, err := client.Get("https://" + s.Listener.Addr().String())
		if err == nil {
			resp.Body.Close()
		}
		return err
	}
	if err := get(good, goodKey); err != nil {
		t.Errorf("a listed client: %v", err)
	}
	if get(other, otherKey) == nil {
		t.Error("a client that is not listed got in")
	}
}

func TestPasswords(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t, fstest.MapFS{"etc/web.yml": {Data: []byte("basic_auth_users:\n  ann: " + string(hash) + "\nhttp_server_config:\n  headers:\n    X-Frame-Options: deny\n")}})
	for _, c := range []struct {
		user, password string
		want           int
	}{{"ann", "secret", 200}, {"ann", "guess", 401}, {"bob", "secret", 401}, {"", "", 401}} {
		req, _ := http.NewRequest("GET", s.URL, nil)
		if c.user != "" {
			req.SetBasicAuth(c.user, c.password)
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want || resp.Header.Get("X-Frame-Options") != "deny" {
			t.Errorf("%s: %d, want %d", c.user, resp.StatusCode, c.want)
		}
	}
}

func TestWebConfigRefused(t *testing.T) {
	cert, key := pair(t, "a.test")
	base := fstest.MapFS{"c.pem": {Data: cert}, "k.pem": {Data: key}}
	const certs = "tls_server_config:\n  cert_file: c.pem\n  key_file: k.pem\n"
	for _, text := range []string{
		"tls_server_config:\n  cert_fle: c.pem\n", "basic_auth_users:\n  ann: secret\n", "tls_server_config:\n  cert_file: c.pem\n",
		"tls_server_config:\n  cert_file: c.pem\n  key_file: gone.pem\n", certs + "  min_version: SSL3\n", certs + "  cipher_suites: [ROT13]\n",
		certs + "  curve_preferences: [P1]\n", certs + "  client_auth_type: Maybe\n", certs + "  client_ca_file: c.pem\n",
		certs + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: k.pem\n", "tls_server_config:\n  client_ca_file: c.pem\n",
	} {
		base["web.yml"] = &fstest.MapFile{Data: []byte(text)}
		c, err := readWebConfig(base, "web.yml")
		if err == nil {
			_, err = c.tlsConfig(base, "web.yml")
		}
		if err == nil {
			t.Errorf("accepted:\n%s", text)
		}
	}
}
