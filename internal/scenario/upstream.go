package scenario

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// upstream is a server on the loopback, over UDP and TCP, that answers from a list of records.
type upstream struct {
	addr    string
	records []dns.RR
	mode    atomic.Value // string
	asked   atomic.Int64
	servers []*dns.Server
}

func newUpstream(t *testing.T, text string) *upstream {
	u := &upstream{}
	u.mode.Store("answer")
	z := dns.NewZoneParser(strings.NewReader(text), ".", "upstream")
	for rr, ok := z.Next(); ok; rr, ok = z.Next() {
		u.records = append(u.records, rr)
	}
	if err := z.Err(); err != nil {
		t.Fatal(err)
	}
	pc, ln := listenBoth(t)
	u.addr = pc.LocalAddr().String()
	handler := dns.HandlerFunc(u.answer)
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: ln, Handler: handler}} {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		u.servers = append(u.servers, s)
		go func() { _ = s.ActivateAndServe() }() // ends with Shutdown
		<-started
	}
	return u
}

// listenBoth finds a port that is free for UDP and for TCP: others test on this machine too.
func listenBoth(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	var last error
	for range 100 {
		pc, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen("tcp", pc.LocalAddr().String())
		if err == nil {
			return pc, ln
		}
		pc.Close()
		last = err
	}
	t.Fatal(last)
	return nil, nil
}

func (u *upstream) close() {
	for _, s := range u.servers {
		_ = s.Shutdown()
	}
}

func (u *upstream) answer(w dns.ResponseWriter, r *dns.Msg) {
	u.asked.Add(1)
	m := new(dns.Msg)
	m.SetReply(r)
	m.RecursionAvailable = true
	switch u.mode.Load().(string) {
	case "silent":
		return
	case "servfail":
		m.Rcode = dns.RcodeServerFailure
	case "refused":
		m.Rcode = dns.RcodeRefused
	case "nxdomain":
		m.Rcode = dns.RcodeNameError
		u.soa(m)
	case "empty":
		u.soa(m)
	default:
		u.lookup(m)
	}
	_ = w.WriteMsg(m)
}

// lookup answers from the records, following aliases; a name without any is NXDOMAIN.
func (u *upstream) lookup(m *dns.Msg) {
	name, exists := m.Question[0].Name, false
	for range 8 {
		next := ""
		for _, rr := range u.records {
			h := rr.Header()
			if !strings.EqualFold(h.Name, name) {
				continue
			}
			exists = true
			switch c, alias := rr.(*dns.CNAME); {
			case h.Rrtype == m.Question[0].Qtype:
				m.Answer = append(m.Answer, rr)
			case alias:
				m.Answer = append(m.Answer, rr)
				next = c.Target
			}
		}
		if next == "" {
			break
		}
		name = next
	}
	if len(m.Answer) == 0 {
		if !exists {
			m.Rcode = dns.RcodeNameError
		}
		u.soa(m)
	}
}

func (u *upstream) soa(m *dns.Msg) {
	for _, rr := range u.records {
		if rr.Header().Rrtype == dns.TypeSOA {
			m.Ns = append(m.Ns, rr)
		}
	}
}
