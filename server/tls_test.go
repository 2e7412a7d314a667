package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
)

func certificate(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"dns.example"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// newTLSRig starts a server with a TLS listener.
func newTLSRig(t *testing.T, timeouts chain.Timeouts) *rig {
	r := newRig(t)
	spec := r.spec("127.0.0.1")
	spec.Transport, spec.TLS, spec.Timeout = "tls", certificate(t), timeouts
	if err := r.publish(spec); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) dialTLS() *tls.Conn {
	r.t.Helper()
	c := tls.Client(r.dial("tcp", "127.0.0.1"), &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func TestTLSPipelines(t *testing.T) {
	r := newTLSRig(t, chain.Timeouts{})
	c := r.dialTLS()
	all := frame(query("park.example", 5000, 0))
	const n = 300
	for i := range n {
		all = append(all, frame(query("a.example", uint16(i), 0))...)
	}
	write(t, c, all)
	for i := range n {
		if m := read(t, c); int(m.Id) != i {
			t.Fatalf("answer %d is %d", i, m.Id)
		}
	}
	r.release("park", 1)
	if m := read(t, c); m.Id != 5000 {
		t.Errorf("%v", m)
	}
	write(t, c, frame(query("drop.example", 1, 0), []byte("no query"), query("a.example", 2, 0)))
	if m := read(t, c); m.Id != 2 {
		t.Errorf("%v", m)
	}
	write(t, c, frame(query("stream.example", 3, 0)))
	for range 20 {
		if m := read(t, c); m.Id != 3 {
			t.Errorf("%v", m)
		}
	}
	write(t, c, frame(query("big800x60.example", 4, 0)))
	if m := read(t, c); m.Id != 4 || len(m.Answer) != 800 {
		t.Errorf("%d records", len(m.Answer))
	}
	write(t, c, append(frame(query("a.example", 6, 0)), 0xFF, 0xFF))
	if m := read(t, c); m.Id != 6 {
		t.Errorf("%v", m)
	}
	ended(t, c)
}

func TestTLSTimeouts(t *testing.T) {
	const limit = 300 * time.Millisecond
	r := newTLSRig(t, chain.Timeouts{Read: limit, Idle: limit})
	within := func(what string, start, end time.Time) {
		t.Helper()
		if took := end.Sub(start); took < limit-50*time.Millisecond || took > 3*limit {
			t.Errorf("%s: closed after %v", what, took)
		}
	}
	c, start := r.dialTLS(), time.Now()
	within("nothing asked", start, ended(t, c))
	c = r.dialTLS()
	write(t, c, frame(query("a.example", 1, 0)))
	read(t, c)
	within("idle", time.Now(), ended(t, c))
	c, start = r.dialTLS(), time.Now()
	for _, b := range frame(query("a-name-that-takes-its-time.example", 1, 0))[:4] {
		write(t, c, []byte{b})
		time.Sleep(limit / 6)
	}
	within("an octet now and then", start, ended(t, c))
}

func TestTLSHandshakeMayNotTakeForEver(t *testing.T) {
	r := newTLSRig(t, chain.Timeouts{})
	plain := r.dial("tcp", "127.0.0.1")
	write(t, plain, frame(query("a.example", 1, 0))) // a client that speaks no TLS
	b := make([]byte, 64)
	for { // an alert, and the end
		if _, err := plain.Read(b); err != nil {
			break
		}
	}
	start := time.Now()
	silent := r.dial("tcp", "127.0.0.1")
	if took := ended(t, silent).Sub(start); took < handshakeLimit-time.Second || took > handshakeLimit+5*time.Second {
		t.Errorf("closed after %v", took)
	}
}

func TestTLSClientsWithMiekg(t *testing.T) {
	r := newTLSRig(t, chain.Timeouts{})
	c := &dns.Client{Net: "tcp-tls", TLSConfig: &tls.Config{InsecureSkipVerify: true}, Timeout: 10 * time.Second}
	m, _, err := c.Exchange(new(dns.Msg).SetQuestion("a.example.", dns.TypeA), net.JoinHostPort("127.0.0.1", fmt.Sprint(r.port)))
	if err != nil || len(m.Answer) != 1 {
		t.Errorf("%v %v", m, err)
	}
}

func TestServerEndsBesideQueriesThatDoNot(t *testing.T) {
	r := newTLSRig(t, chain.Timeouts{})
	c := r.dialTLS()
	write(t, c, frame(query("park.example", 1, 0)))
	r.until("it is parked", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.parked["park"]) == 1 })
	start := time.Now()
	r.stop()
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("ended after %v", took)
	}
	ended(t, c)
}

func TestTLSCertificateIsRenewedInPlace(t *testing.T) {
	r := newTLSRig(t, chain.Timeouts{})
	first := r.dialTLS()
	before := first.ConnectionState().PeerCertificates[0].PublicKey.(*ecdsa.PublicKey)
	spec := r.spec("127.0.0.1")
	spec.Transport, spec.TLS = "tls", certificate(t)
	if err := r.publish(spec); err != nil {
		t.Fatal(err)
	}
	if after := r.dialTLS().ConnectionState().PeerCertificates[0].PublicKey.(*ecdsa.PublicKey); after.Equal(before) {
		t.Error("a new connection sees the old certificate")
	}
	write(t, first, frame(query("a.example", 1, 0)))
	if m := read(t, first); m.Id != 1 {
		t.Errorf("%v", m)
	}
}
