package forward

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/run"
	"github.com/godwit-dns/godwit/upstream"
	"github.com/godwit-dns/godwit/wire"
)

// build builds the configuration of a Corefile and gives its forward handlers.
func build(t *testing.T, text string, specs ...chain.Spec) ([]*Forward, []corefile.Warning, error) {
	t.Helper()
	env := &chain.Env{Log: slog.New(slog.DiscardHandler), Metrics: metrics.New(1), Loops: 1, Clock: loop.System(),
		Wall: time.Now, Files: corefile.OS(), Env: func(string) (string, bool) { return "", false }}
	built, err := run.Build(env, append(specs, Spec, Proxy), "53", "Corefile", []byte(text), nil)
	if err != nil {
		return nil, nil, err
	}
	var all []*Forward
	for _, block := range built.Config.Blocks {
		block.Chain().Handlers(func(_ string, h chain.Handler) bool {
			all = append(all, h.(*Forward))
			return true
		})
	}
	t.Cleanup(func() {
		for _, f := range built.Config.Stops {
			f(true)
		}
	})
	return all, built.Config.Warnings, nil
}

func servers(f *Forward) string {
	var words []string
	for _, s := range f.group.Servers() {
		words = append(words, s.Text)
	}
	return strings.Join(words, " ")
}

func TestSetupAccepts(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "resolv.conf")
	write(t, conf, "nameserver 192.0.2.7\n; nameserver 192.0.2.8\nnameserver 2001:db8::7 # that one\nnameserver fe80::1%lo\n")
	for text, want := range map[string]string{
		"forward . 127.0.0.1":                            "127.0.0.1:53",
		"forward . 127.0.0.1:8053 ::1 [::1]:8053 [::2]":  "127.0.0.1:8053 [::1]:53 [::1]:8053 [::2]:53",
		"forward . dns://127.0.0.1 127.0.0.1 127.0.0.2":  "127.0.0.1:53 127.0.0.2:53",
		"forward . tls://9.9.9.9 tls://[::1]:8853":       "9.9.9.9:853 [::1]:8853",
		"forward . tls://9.9.9.9%dns.quad9.net:10853":    "9.9.9.9:10853",
		"forward . tls://[2001:db8::1%dns.example]:8853": "[2001:db8::1]:8853",
		"forward . " + conf + " 192.0.2.7":               "192.0.2.7:53 [2001:db8::7]:53 [fe80::1]:53",
		"forward . localhost:5353":                       "",
		"forward . 127.0.0.1:domain 127.0.0.1:99999":     "127.0.0.1:53 127.0.0.1:99999",
		"forward . 127.0.0.1 {\nexcept a.org b.org 10.0.0.0/9\nforce_tcp\nprefer_udp\nexpire 20s\nmax_age 1m\nmax_idle_conns 3\n" +
			"read_timeout 3s\nmax_fails 0\nmax_connect_attempts 0\ndoh_method GET\ntls\ntls_servername dns\npolicy round_robin\n" +
			"health_check 0.5s no_rec domain example.org\nmax_concurrent 1000\nnext nxdomain SERVFAIL\nnext_on_nodata\n" +
			"failfast_all_unhealthy_upstreams\nfailover SERVFAIL\nresolver 127.0.0.1 [::1]:5353\nsource_address 127.0.0.2\n}": "127.0.0.1:53",
	} {
		all, _, err := build(t, ".:53 {\n"+text+"\n}\n")
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := servers(all[0]); got != want && want != "" {
			t.Errorf("%s: servers %s, want %s", text, got, want)
		}
		if !strings.Contains(servers(all[0]), ":") {
			t.Errorf("%s: no server", text)
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestSetupRefuses(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.conf")
	write(t, empty, "options ndots:5\n")
	for text, want := range map[string]string{
		"forward":                                                  "takes at least 2",
		"forward .":                                                "takes at least 2",
		"forward . /does/not/exist":                                "Corefile:2:11",
		"forward . " + empty:                                       "none of the files names a server",
		"forward . https://127.0.0.1":                              "not served yet",
		"forward . grpc://127.0.0.1":                               "forward does not ask over grpc",
		"forward . quic://127.0.0.1":                               "forward does not ask over quic",
		"forward . unix://127.0.0.1":                               "forward does not ask over unix",
		"forward . tls://":                                         "has no address",
		"forward a..b 127.0.0.1":                                   "is no zone",
		"forward . 127.0.0.1 {\nforce_tcp yes\n}":                  "force_tcp",
		"forward . 127.0.0.1 {\nforce_tpc\n}":                      `did you mean "force_tcp"`,
		"forward . 127.0.0.1 {\nexcept\n}":                         "except",
		"forward . 127.0.0.1 {\npolicy least\n}":                   "random, round_robin or sequential",
		"forward . 127.0.0.1 {\nexpire -1s\n}":                     "out of range",
		"forward . 127.0.0.1 {\nexpire 10\n}":                      "write 10s",
		"forward . 127.0.0.1 {\nmax_age 1s\n}":                     "max_age (1s) must not be less than expire (10s)",
		"forward . 127.0.0.1 {\nread_timeout 0s\n}":                "out of range",
		"forward . 127.0.0.1 {\nmax_fails -1\n}":                   "out of range",
		"forward . 127.0.0.1 {\nmax_concurrent x\n}":               "not a number",
		"forward . 127.0.0.1 {\nmax_idle_conns -1\n}":              "out of range",
		"forward . 127.0.0.1 {\nhealth_check 1s rec\n}":            "no option",
		"forward . 127.0.0.1 {\nhealth_check 1s domain\n}":         "not followed by a name",
		"forward . 127.0.0.1 {\nhealth_check 1s domain a..b\n}":    "not a domain name",
		"forward . 127.0.0.1 {\nnext NOTACODE\n}":                  "not a response code",
		"forward . 127.0.0.1 {\nfailover NOERROR\n}":               "NOERROR",
		"forward . 127.0.0.1 {\ndoh_method PUT\n}":                 "GET or POST",
		"forward . 127.0.0.1 {\nresolver dns.example\n}":           "neither IP nor IP:PORT",
		"forward . 127.0.0.1 {\nsource_address eth0\n}":            "not an IP address",
		"forward . 127.0.0.1 {\ntls a b c d\n}":                    "tls has 4 arguments",
		"forward . 127.0.0.1 {\ntls /does/not/exist.pem\n}":        "Corefile:3:5",
		"forward . tls://9.9.9.9%a.net {\ntls_servername b.net\n}": "name two servers",
		"forward . 1.1.1.1 1.1.1.2 1.1.1.3 1.1.1.4 1.1.1.5 1.1.1.6 1.1.1.7 1.1.1.8 1.1.1.9 1.1.1.10 1.1.1.11 1.1.1.12 1.1.1.13 1.1.1.14 1.1.1.15 1.1.1.16": "16 TOs",
	} {
		if _, _, err := build(t, ".:53 {\n"+text+"\n}\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

func TestSeveralZonesOfFROM(t *testing.T) {
	all, warnings, err := build(t, ".:53 {\nforward 10.9.3.0/18 127.0.0.1\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := all[0].from.String(); got != "0.9.10.in-addr.arpa." || len(warnings) != 1 {
		t.Errorf("from %s, warnings %v", got, warnings)
	}
}

func TestTLSFilesAndNames(t *testing.T) {
	dir := t.TempDir()
	certificate(t, dir)
	all, _, err := build(t, ".:53 {\nroot "+dir+"\nforward . tls://9.9.9.9 tls://9.9.9.10%other.example {\ntls cert.pem key.pem cert.pem\n}\n}\n",
		chain.Spec{Name: "root", New: func(s *chain.Setup) error { s.Block.Root = s.Lines[0].Args[0].Text; return nil }})
	if err != nil {
		t.Fatal(err)
	}
	list := all[0].group.Servers()
	one, two := list[0].TLS, list[1].TLS
	if one.ServerName != "" || two.ServerName != "other.example" {
		t.Errorf("server names %q and %q", one.ServerName, two.ServerName)
	}
	if len(one.Certificates) != 1 || one.RootCAs == nil || one.ClientSessionCache == nil || one.MinVersion == 0 {
		t.Error("files of the tls line were not used")
	}
}

func certificate(t *testing.T, dir string) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		var b bytes.Buffer
		if err := pem.Encode(&b, block); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), b.String())
	}
}

func TestHostnamesAreResolvedByTheGivenResolver(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(r)
		text := map[uint16]string{dns.TypeA: "dns.example. 60 IN A 192.0.2.53", dns.TypeAAAA: "dns.example. 60 IN AAAA 2001:db8::53"}
		if rr, err := dns.NewRR(text[r.Question[0].Qtype]); err == nil && r.Question[0].Name == "dns.example." {
			m.Answer = []dns.RR{rr}
		}
		_ = w.WriteMsg(m)
	})}
	go func() { _ = server.ActivateAndServe() }() // ends with Shutdown
	defer func() { _ = server.Shutdown() }()
	options := " {\nresolver " + refused(t) + " " + pc.LocalAddr().String() + "\n}\n}\n"
	all, _, err := build(t, ".:53 {\nforward . 192.0.2.1 tls://dns.example%sni.example:8853"+options)
	if err != nil {
		t.Fatal(err)
	}
	if got := servers(all[0]); got != "192.0.2.1:53 192.0.2.53:8853 [2001:db8::53]:8853" {
		t.Errorf("servers %s", got)
	}
	if name := all[0].group.Servers()[1].TLS.ServerName; name != "sni.example" {
		t.Errorf("server name %q", name)
	}
	if _, _, err = build(t, ".:53 {\nforward . other.example"+options); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("error %v: it does not say what failed", err)
	}
}

func refused(t *testing.T) string {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	return pc.LocalAddr().String()
}

func TestOptionRowsStandInTheREADME(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(Spec.Options().Usage()) {
		if !strings.Contains(string(text), line) {
			t.Errorf("README.md lacks the line %q", line)
		}
	}
}

func TestForwards(t *testing.T) {
	all, _, err := build(t, ".:53 {\nforward example.org 127.0.0.1 {\nexcept a.example.org example.org\n}\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	var taken []string
	for _, name := range []string{"example.org.", "b.example.org.", "a.example.org.", "x.a.example.org.", "example.net.", "notexample.org."} {
		if all[0].Forwards(wire.MustName(name)) {
			taken = append(taken, name)
		}
	}
	if !slices.Equal(taken, []string{"example.org."}) {
		t.Errorf("forwards %v", taken)
	}
}

func TestProxyReadsAsForward(t *testing.T) {
	all, warnings, err := build(t, ".:53 {\nproxy example.org 127.0.0.1 127.0.0.2:8053 {\npolicy first\nfail_timeout 5s\nmax_fails 3\n"+
		"health_check /health:8080\nexcept a.example.org\nspray\nprotocol dns force_tcp\n}\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	if got := servers(all[0]); got != "127.0.0.1:53 127.0.0.2:8053" || all[0].Forwards(wire.MustName("a.example.org.")) {
		t.Errorf("servers %s", got)
	}
	want := "forward example.org 127.0.0.1 127.0.0.2:8053 { policy sequential; max_fails 3; except a.example.org; force_tcp }"
	if len(warnings) != 1 || !strings.Contains(warnings[0].Text, want) {
		t.Errorf("warnings %v, want %s", warnings, want)
	}
	for text, want := range map[string]string{
		"proxy . 127.0.0.1 {\nprotocol grpc\n}":  "does not ask over grpc",
		"proxy . 127.0.0.1 {\nfrobnicate\n}":     "no option",
		"proxy . 127.0.0.1 {\npolicy dancing\n}": "dancing",
	} {
		if _, _, err := build(t, ".:53 {\n"+text+"\n}\n"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", text, err, want)
		}
	}
}

// What a node's agent does otherwise, the Corefile may say.
func TestNodeDefaults(t *testing.T) {
	for text, want := range map[string]upstream.Config{
		"":                       {MaxAge: nodeMaxAge, ReadTimeout: 2 * time.Second, MaxAttempts: -1},
		"expire 1m":              {MaxAge: time.Minute, ReadTimeout: 2 * time.Second, MaxAttempts: -1},
		"max_age 5m":             {MaxAge: 5 * time.Minute, ReadTimeout: 2 * time.Second, MaxAttempts: -1},
		"read_timeout 8s":        {MaxAge: nodeMaxAge, ReadTimeout: 8 * time.Second, MaxAttempts: -1},
		"max_connect_attempts 1": {MaxAge: nodeMaxAge, ReadTimeout: 2 * time.Second, MaxAttempts: 1},
	} {
		for _, node := range []bool{true, false} {
			var got upstream.Config
			env := &chain.Env{Metrics: metrics.New(1), Loops: 1, Node: node, Files: corefile.OS(), Env: func(string) (string, bool) { return "", false }}
			reads := chain.Spec{Name: "forward", New: func(s *chain.Setup) error {
				c := newConfig(s)
				_, err := c.options().Read(&s.Lines[0])
				got = c.group()
				return err
			}}
			if _, err := run.Build(env, []chain.Spec{reads}, "53", "Corefile", []byte(".:53 {\nforward . 192.0.2.1 {\n"+text+"\n}\n}"), nil); err != nil {
				t.Fatal(err)
			}
			if !node && (got.Service || got.Total != 0 || text == "" && got.MaxAge != 0) {
				t.Errorf("%q elsewhere than on a node: %+v", text, got)
			}
			if node && (!got.Service || got.Total != nodeTotal || got.MaxAge != want.MaxAge || got.ReadTimeout != want.ReadTimeout || got.MaxAttempts != want.MaxAttempts) {
				t.Errorf("%q on a node: %+v, want %+v", text, got, want)
			}
		}
	}
}
