package run

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/freeport"
)

func says(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}

func certificate(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"a.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// freePort gives an address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	port, err := freeport.Find()
	if err != nil {
		t.Fatal(err)
	}
	return "127.0.0.1:" + strconv.Itoa(port)
}

func get(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	resp, err := client.Get(url)
	if err != nil {
		return "error"
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "error"
	}
	return string(body)
}

func TestEndpointsAcrossReloads(t *testing.T) {
	e := &endpoints{log: slog.New(slog.DiscardHandler), live: map[string]*endpoint{}}
	defer e.closeAll()
	addr := freePort(t)
	load := func(want ...chain.Endpoint) {
		t.Helper()
		o, err := e.open(want)
		if err != nil {
			t.Fatal(err)
		}
		e.publish(o)
	}
	load(chain.Endpoint{Addr: addr, Path: "/a", Handler: says("one")}, chain.Endpoint{Addr: addr, Path: "/b", Handler: says("two")})
	if a, b := get(t, "http://"+addr+"/a"), get(t, "http://"+addr+"/b"); a != "one" || b != "two" {
		t.Errorf("got %q and %q", a, b)
	}
	load(chain.Endpoint{Addr: addr, Path: "/a", Handler: says("three"), TLS: certificate(t)})
	if a, b := get(t, "https://"+addr+"/a"), get(t, "https://"+addr+"/b"); a != "three" || !strings.Contains(b, "404") {
		t.Errorf("with TLS: got %q and %q", a, b)
	}
	load(chain.Endpoint{Addr: addr, Path: "/a", Handler: says("four")})
	if a := get(t, "http://"+addr+"/a"); a != "four" {
		t.Errorf("without TLS again: got %q", a)
	}
	load()
	if a := get(t, "http://"+addr+"/a"); a != "error" {
		t.Errorf("an endpoint that nobody wants says %q", a)
	}
}

func TestEndpointsThatCannotBeHad(t *testing.T) {
	e := &endpoints{log: slog.New(slog.DiscardHandler), live: map[string]*endpoint{}}
	defer e.closeAll()
	addr := freePort(t)
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.open([]chain.Endpoint{{Addr: addr, Path: "/a", Handler: says("")}, {Addr: addr, Path: "/a", Handler: says("")}}); err == nil {
		t.Error("two handlers for one path are accepted")
	}
	if _, err := e.open([]chain.Endpoint{{Addr: addr, Path: "/a", Handler: says("")}, {Addr: "192.0.2.1:80", Path: "/a", Handler: says("")}}); err == nil {
		t.Error("an address of another host is accepted")
	}
	if ln, err := net.Listen("tcp", addr); err != nil { // without SO_REUSEPORT: nobody else may have it
		t.Errorf("a failed configuration kept its address: %v", err)
	} else {
		ln.Close()
	}
	o, err := e.open([]chain.Endpoint{{Addr: addr, Path: "/a", Handler: says("one")}, {Addr: ":" + port, Path: "/a", Handler: says("all")}})
	if err != nil {
		t.Fatalf("an address and the wildcard cannot share a port: %v", err)
	}
	e.publish(o)
	if got := get(t, "http://"+addr+"/a"); got != "one" {
		t.Errorf("the address says %q", got)
	}
}
