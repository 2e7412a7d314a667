package server

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

func readFull(c net.Conn, b []byte) (int, error) { return io.ReadFull(c, b) }

// ask sends a question over UDP and gives the answer.
func ask(t *testing.T, c net.Conn, name string, edns uint16) *dns.Msg {
	t.Helper()
	b := exchange(t, c, query(name, 99, edns), 5*time.Second)
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil || m.Id != 99 {
		t.Fatalf("%s: %v: %x", name, err, b)
	}
	return m
}

func TestUDPOnBoundAndWildcardAddresses(t *testing.T) {
	for listen, hosts := range map[string][]string{"": {"127.0.0.1", "127.0.0.9", "::1"}, "127.0.0.7": {"127.0.0.7"}, "::1": {"::1"}} {
		r := newRig(t, listen)
		for _, host := range hosts {
			c := r.dial("udp", host) // a connected socket takes answers from that address alone
			if m := ask(t, c, "a.example", 0); !m.Authoritative || len(m.Answer) != 1 {
				t.Errorf("%v", m)
			}
			want := netip.AddrPortFrom(netip.MustParseAddr(host), uint16(r.port))
			r.mu.Lock()
			if r.local != want || r.client != netip.MustParseAddrPort(c.LocalAddr().String()) {
				t.Errorf("from %v to %v, want %v to %v", r.client, r.local, c.LocalAddr(), want)
			}
			r.mu.Unlock()
		}
		if listen == "127.0.0.7" {
			if b := exchangeOrRefused(r, "127.0.0.8"); b != nil {
				t.Errorf("an address that is not bound answered %x", b)
			}
		}
		r.stop()
	}
}

func exchangeOrRefused(r *rig, host string) []byte {
	c := r.dial("udp", host)
	if _, err := c.Write(query("a", 1, 0)); err != nil {
		return nil
	}
	_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	b := make([]byte, 512)
	n, err := c.Read(b)
	if err != nil {
		return nil
	}
	return b[:n]
}

func TestUDPBatches(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	c := r.dial("udp", "127.0.0.1")
	const n = 4 * batch // as many as the client's socket holds
	for i := range n {
		name := fmt.Sprintf("q%d.example", i)
		if i%7 == 0 {
			name = "drop.example"
		}
		write(t, c, query(name, uint16(i), 1232))
	}
	seen := map[uint16]bool{}
	b := make([]byte, 2048)
	for range n - (n+6)/7 {
		k, err := c.Read(b)
		if err != nil {
			t.Fatalf("%v after %d answers", err, len(seen))
		}
		m := new(dns.Msg)
		if err := m.Unpack(b[:k]); err != nil || m.Question[0].Name != fmt.Sprintf("q%d.example.", m.Id) || seen[m.Id] {
			t.Fatalf("%v %v", err, m)
		}
		seen[m.Id] = true
	}
}

func TestUDPParkedAndManyClients(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	const n = 3 * batch
	var clients []net.Conn
	for i := range n {
		c := r.dial("udp", "127.0.0.1")
		write(t, c, query("park.example", uint16(i), 0))
		clients = append(clients, c)
	}
	r.release("park", n)
	for i, c := range clients {
		b := make([]byte, 512)
		k, err := c.Read(b)
		m := new(dns.Msg)
		if err != nil || m.Unpack(b[:k]) != nil || int(m.Id) != i || len(m.Answer) != 1 {
			t.Fatalf("client %d: %v %v", i, err, m)
		}
	}
}

func TestTruncationAndEDNS(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	c := r.dial("udp", "127.0.0.1")
	for _, q := range []struct {
		name    string
		edns    uint16
		records int
		tc      bool
		most    int
	}{
		{"big10", 0, 10, false, 512},
		{"big20x100", 0, 4, true, 512},
		{"big20x100", 100, 4, true, 512}, // less than 512 counts as 512 (RFC 6891, 6.2.3)
		{"big20x100", 1232, 10, true, 1232},
		{"big20x100", 4096, 20, false, 4096},
		{"big400x160", 65535, 0, true, 65507}, // no datagram holds more
	} {
		m := ask(t, c, q.name+".example", q.edns)
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if m.Truncated != q.tc || q.records > 0 && len(m.Answer) != q.records || len(m.Answer) == 0 {
			t.Errorf("%s with %d: TC %v, %d records in %d octets", q.name, q.edns, m.Truncated, len(m.Answer), len(b))
		}
		if opt := m.IsEdns0(); (opt != nil) != (q.edns != 0) || opt != nil && opt.UDPSize() != q.edns {
			t.Errorf("%s with %d: %v", q.name, q.edns, opt)
		}
	}
	over := r.dial("tcp", "127.0.0.1")
	write(t, over, frame(query("big400x100.example", 5, 0)))
	if m := read(t, over); m.Truncated || len(m.Answer) != 400 {
		t.Errorf("over TCP %d records, TC %v", len(m.Answer), m.Truncated)
	}
	write(t, over, frame(query("big800x100.example", 6, 0)))
	if m := read(t, over); !m.Truncated || len(m.Answer) < 500 {
		t.Errorf("over TCP %d records, TC %v, of what no message holds", len(m.Answer), m.Truncated)
	}
}

func TestSpellingAndFailures(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	c := r.dial("udp", "127.0.0.1")
	if m := ask(t, c, "wWw.ExAmPle", 0); m.Question[0].Name != "wWw.ExAmPle." || m.Answer[0].Header().Name != "wWw.ExAmPle." {
		t.Errorf("%v", m)
	}
	if m := ask(t, c, "Renamed.ExAmPle", 0); m.Question[0].Name != "Renamed.ExAmPle." || len(m.Answer) != 1 {
		t.Errorf("%v", m)
	}
	for _, name := range []string{"fail.example", "panic.example"} {
		if m := ask(t, c, name, 1232); m.Rcode != dns.RcodeServerFailure || m.IsEdns0() == nil || m.Question[0].Name != name+"." {
			t.Errorf("%v", m)
		}
	}
	for _, name := range []string{"drop.example", "empty.example"} {
		if b := exchange(t, c, query(name, 1, 0), 100*time.Millisecond); b != nil {
			t.Errorf("%s was answered %x", name, b)
		}
	}
	if m := ask(t, c, "stream.example", 0); m.Rcode != dns.RcodeRefused {
		t.Errorf("%v", m)
	}
}

func TestNoBlockForAQuery(t *testing.T) {
	r := newRig(t)
	spec := r.spec("127.0.0.1")
	var b chain.Builder
	b.Add("rig", r)
	told := make(chan string, 10)
	table := &Table{Label: "x", Dropped: func(q *chain.Query) { told <- q.Name().String() }}
	table.Add(wire.MustName("example."), b.Chain())
	table.Add(wire.MustName("empty."), new(chain.Builder).Chain())
	opened, err := r.s.Bind([]ListenSpec{spec})
	if err != nil {
		t.Fatal(err)
	}
	r.s.Publish(opened, []ListenSpec{spec}, map[string]*Table{spec.Key(): table})
	c := r.dial("udp", "127.0.0.1")
	for _, name := range []string{"other.", "x.empty."} {
		if m := ask(t, c, name, 0); m.Rcode != dns.RcodeRefused || <-told != name {
			t.Errorf("%v", m)
		}
	}
	chaos := new(dns.Msg).SetQuestion("a.example.", dns.TypeA)
	chaos.Question[0].Qclass = dns.ClassCHAOS
	packet, err := chaos.Pack()
	if err != nil {
		t.Fatal(err)
	}
	got := new(dns.Msg)
	if err := got.Unpack(exchange(t, c, packet, 5*time.Second)); err != nil || got.Rcode != dns.RcodeRefused {
		t.Errorf("%v %v", got, err)
	}
}

type fast struct{}

func (fast) Serve(q *chain.Query) chain.Outcome {
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
	q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 5, []byte{192, 0, 2, 1}, 4)
	return chain.Answered
}
