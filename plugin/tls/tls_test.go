package tls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair makes a certificate that is its own authority, and its key, as PEM.
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

func files(t *testing.T, name string) fstest.MapFS {
	cert, key := pair(t, name)
	return fstest.MapFS{"c.pem": {Data: cert}, "k.pem": {Data: key}}
}

func opt(f fstest.MapFS) chaintest.Options {
	return chaintest.Options{Specs: []chain.Spec{Spec}, Files: f}
}

// shake does a handshake with a configuration and gives the server's name, or the error of either side.
func shake(t *testing.T, server *tls.Config, client *tls.Config) (string, error) {
	t.Helper()
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	failed := make(chan error, 1)
	go func() { failed <- tls.Server(a, server).Handshake() }()
	client.InsecureSkipVerify = true
	c := tls.Client(b, client)
	err := c.Handshake()
	if err != nil {
		b.Close()
		<-failed
		return "", err
	}
	go func() { _, _ = c.Read(make([]byte, 1)) }() // TLS 1.3: the server's verdict comes after the client's handshake
	if err := <-failed; err != nil {
		return "", err
	}
	return c.ConnectionState().PeerCertificates[0].DNSNames[0], nil
}

func TestCertificateIsReadAgain(t *testing.T) {
	f := files(t, "one.test")
	b := chaintest.New(t, "tls://. {\ntls c.pem k.pem\n}", opt(f))
	b.Start()
	config := b.Config.Blocks[0].TLS
	see := func(want string) {
		t.Helper()
		if got, err := shake(t, config, &tls.Config{}); got != want || err != nil {
			t.Errorf("certificate of %q (%v), want %s", got, err, want)
		}
	}
	see("one.test")
	next := files(t, "two.test")
	f["c.pem"] = next["c.pem"]
	passes(b, "the complaint", func() bool { return strings.Contains(b.Log.String(), "the old one goes on") })
	see("one.test")
	f["k.pem"] = next["k.pem"]
	passes(b, "the new certificate", func() bool { return strings.Contains(b.Log.String(), "c.pem loaded again") })
	see("two.test")
	delete(f, "k.pem")
	b.Advance(11 * time.Second)
	see("two.test")
}

func TestChangedAuthorityReloads(t *testing.T) {
	f := files(t, "one.test")
	f["ca.pem"] = f["c.pem"]
	b := chaintest.New(t, "tls://. {\ntls c.pem k.pem ca.pem\n}", opt(f))
	reloads := make(chan bool, 4)
	b.Env.Reload = func() { reloads <- true }
	b.Start()
	f["ca.pem"] = files(t, "ca.test")["c.pem"]
	passes(b, "the reload", func() bool { return len(reloads) == 1 })
	b.Advance(11 * time.Second)
	if len(reloads) != 1 {
		t.Error("the same file reloads again")
	}
}

func TestClientAuthentication(t *testing.T) {
	f := files(t, "one.test")
	caCert, caKey := pair(t, "client.test")
	f["ca.pem"] = &fstest.MapFile{Data: caCert}
	known, err := tls.X509KeyPair(caCert, caKey)
	if err != nil {
		t.Fatal(err)
	}
	otherCert, otherKey := pair(t, "other.test")
	other, err := tls.X509KeyPair(otherCert, otherKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		auth                 string
		known, unknown, none bool
	}{
		{"", true, true, true},
		{"client_auth nocert", true, true, true},
		{"client_auth request", true, true, true},
		{"client_auth require", true, true, false},
		{"client_auth verify_if_given", true, false, true},
		{"client_auth require_and_verify", true, false, false},
	} {
		b := chaintest.New(t, "tls://. {\ntls c.pem k.pem ca.pem {\n"+c.auth+"\n}\n}", opt(f))
		for _, client := range []struct {
			name string
			cert *tls.Certificate
			want bool
		}{{"known", &known, c.known}, {"unknown", &other, c.unknown}, {"none", &tls.Certificate{}, c.none}} {
			_, err := shake(t, b.Config.Blocks[0].TLS, &tls.Config{
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return client.cert, nil }})
			if (err == nil) != client.want {
				t.Errorf("%q, client %s: %v", c.auth, client.name, err)
			}
		}
	}
	b := chaintest.New(t, "tls://. {\ntls c.pem k.pem\n}", opt(f))
	if _, err := shake(t, b.Config.Blocks[0].TLS, &tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}

func TestKeylog(t *testing.T) {
	name := filepath.Join(t.TempDir(), "keys")
	t.Run("life", func(t *testing.T) {
		b := chaintest.New(t, "tls://. {\ntls c.pem k.pem {\nkeylog "+name+"\n}\n}", opt(files(t, "one.test")))
		if _, err := os.Stat(name); err == nil || len(b.Config.Warnings) != 1 {
			t.Errorf("before the start: %v, warnings %v", err, b.Config.Warnings)
		}
		b.Start()
		if _, err := shake(t, b.Config.Blocks[0].TLS, &tls.Config{}); err != nil {
			t.Error(err)
		}
	})
	text, err := os.ReadFile(name)
	if err != nil || !strings.Contains(string(text), "CLIENT_TRAFFIC_SECRET_0 ") {
		t.Errorf("%v: %q", err, text)
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v: mode %v", err, info.Mode())
	}
}

// passes lets time pass until ok.
func passes(b *chaintest.Bench, what string, ok func() bool) {
	b.Until(what, func() bool {
		b.Advance(time.Second)
		return ok()
	})
}

func TestRefused(t *testing.T) {
	f := files(t, "one.test")
	for _, text := range []string{"tls", "tls {\nacme example.org\n}", "tls c.pem", "tls c.pem k.pem k.pem", "tls c.pem k.pem ca.pem x", "tls c.pem gone.pem",
		"tls k.pem c.pem", "tls c.pem k.pem {\nclient_auth maybe\n}", "tls c.pem k.pem {\nclient_auth\n}", "tls c.pem k.pem {\nkeylog\n}",
		"tls c.pem k.pem {\nciphers\n}"} {
		_, err := chaintest.Build(t, "tls://. {\n"+text+"\n}", opt(f))
		if err == nil {
			t.Errorf("accepted: %s", text)
		} else if !strings.HasPrefix(err.Error(), "Corefile:") {
			t.Errorf("no place: %v", err)
		}
	}
}
