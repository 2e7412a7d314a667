package e2e_test

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const garbageCorefile = `
.:{$DNS} {
    bind 127.0.0.1
    errors
    log
    metadata
    rewrite name suffix .rewritten.test .shop.svc.cluster.local answer auto
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        manifests {$TESTDATA}/../../../examples/quickstart/cluster.yaml
        pods verified
        fallthrough
    }
    hosts {
        192.0.2.1 known.test
        fallthrough
    }
    template IN ANY template.test {
        answer "{{ .Name }} 60 IN TXT \"{{ .Type }}\""
    }
    file {$TESTDATA}/db.outside outside.test
    cache
    loadbalance
    minimal
    prometheus 127.0.0.1:{$METRICS}
}
`

var garbageAnswers = answers{
	{"known.test A", "NOERROR 192.0.2.1"},
	{"known.test A tcp", "NOERROR 192.0.2.1"},
	{"web.shop.svc.cluster.local A", "NOERROR 10.96.0.80"},
	{"web.rewritten.test A tcp", "NOERROR 10.96.0.80"},
}

// TestGarbage sends what no client sends. The program may answer or not; it
// goes on, and others get their answers meanwhile.
func TestGarbage(t *testing.T) {
	g := serve(t, garbageCorefile)
	g.check(t, garbageAnswers)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	conn, err := g.open("udp", g.dns)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range 20000 {
		if _, err := conn.Write(mangled(random)); err != nil {
			t.Fatal(err)
		}
		if i%500 == 0 {
			g.check(t, garbageAnswers)
		}
	}
	for range 300 {
		g.pour(t, random)
	}
	g.check(t, garbageAnswers)
	if !g.running() {
		t.Error("the program has ended")
	}
}

// mangled is a query with some octets changed, cut off or added.
func mangled(random *rand.Rand) []byte {
	names := []string{"web.shop.svc.cluster.local.", "_peer._tcp.db.shop.svc.cluster.local.", "known.test.", "80.0.96.10.in-addr.arpa.",
		"payments.shop.svc.cluster.local.", "www.outside.test.", "a.template.test.", "x.rewritten.test.", "10-244-1-10.shop.pod.cluster.local.", "."}
	m := new(dns.Msg)
	m.SetQuestion(names[random.IntN(len(names))], uint16(random.IntN(300)))
	if random.IntN(2) == 0 {
		m.SetEdns0(uint16(random.IntN(65536)), random.IntN(2) == 0)
	}
	b, err := m.Pack()
	if err != nil {
		panic(err) // the names above are fine
	}
	for range random.IntN(6) {
		b[random.IntN(len(b))] = byte(random.IntN(256))
	}
	switch random.IntN(6) {
	case 0:
		b = b[:random.IntN(len(b))]
	case 1:
		for range random.IntN(600) {
			b = append(b, byte(random.IntN(256)))
		}
	}
	return b
}

// pour sends mangled messages over a connection, some with a length that is
// not theirs, and reads what comes until the server or its own patience ends
// it.
func (g *godwit) pour(t *testing.T, random *rand.Rand) {
	t.Helper()
	conn, err := g.open("tcp", g.dns)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for range random.IntN(8) {
		m := mangled(random)
		size := len(m)
		if random.IntN(4) == 0 {
			size = random.IntN(65536)
		}
		b := append(binary.BigEndian.AppendUint16(nil, uint16(size)), m...)
		if _, err := conn.Write(b[:1+random.IntN(len(b))]); err != nil {
			return // the server has enough
		}
	}
	if random.IntN(2) == 0 {
		_ = conn.(*net.TCPConn).CloseWrite() // may be closed already
	}
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, conn) // it ends by the deadline or the server
}
