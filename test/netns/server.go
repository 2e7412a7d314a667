package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Mood is how a server treats queries.
type Mood int32

// The moods. Gone closes the sockets, so that the kernel refuses; Silent keeps them and says nothing.
const (
	Well Mood = iota
	Silent
	ServFail
	Slow
	Gone
)

// slowFor is what a slow server takes.
const slowFor = 700 * time.Millisecond

// Server is a cluster DNS server in a pod on another node: sockets in its namespace, served by the test's process. It
// answers A and AAAA of every name but those with a label "none", which do not exist.
type Server struct {
	*Pod
	mood  atomic.Int32
	TTL   atomic.Uint32 // of every record, in seconds; 30 at first
	UDP   atomic.Int64  // queries
	TCP   atomic.Int64
	mu    sync.Mutex
	names map[string]int // queries by name and type; guarded by mu
	stop  func()         // nil when the sockets are closed
}

func (l *Lab) addServer(id string, i int) *Server {
	l.T.Helper()
	return l.Serve(l.attach(l.Router, "far0", fmt.Sprintf("%ssrv%d", id, i), fmt.Sprintf("srv%d", i), 2, 11+i))
}

// Serve puts a server on port 53 of a pod's addresses.
func (l *Lab) Serve(p *Pod) *Server {
	l.T.Helper()
	s := &Server{Pod: p, names: map[string]int{}}
	s.TTL.Store(30)
	if err := s.open(); err != nil {
		l.T.Fatal(err)
	}
	l.T.Cleanup(s.close)
	return s
}

func (s *Server) open() error {
	var servers []*dns.Server
	for _, addr := range []netip.Addr{s.Addr4, s.Addr6} {
		at := net.JoinHostPort(addr.String(), "53")
		err := s.Do(func() error {
			pc, err := net.ListenPacket("udp", at)
			if err != nil {
				return err
			}
			ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", at)
			servers = append(servers, &dns.Server{PacketConn: pc, Handler: s}, &dns.Server{Listener: ln, Handler: s})
			return err
		})
		if err != nil {
			return err
		}
	}
	var running sync.WaitGroup
	for _, srv := range servers {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		running.Go(func() { _ = srv.ActivateAndServe() }) // ends when it is shut down
		<-started
	}
	s.stop = func() {
		for _, srv := range servers {
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			_ = srv.ShutdownContext(ctx) // connections that stay open are closed below
			cancel()
		}
		running.Wait()
	}
	return nil
}

func (s *Server) close() {
	if s.stop != nil {
		s.stop()
		s.stop = nil
	}
}

// Set changes the mood.
func (s *Server) Set(t interface{ Fatal(...any) }, m Mood) {
	old := Mood(s.mood.Swap(int32(m)))
	switch {
	case m == Gone:
		s.close()
	case old == Gone:
		if err := s.open(); err != nil {
			t.Fatal(err)
		}
	}
}

// ServeDNS answers by the mood.
func (s *Server) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	if w.LocalAddr().Network() == "udp" {
		s.UDP.Add(1)
	} else {
		s.TCP.Add(1)
	}
	m := new(dns.Msg).SetReply(r)
	m.Authoritative = true
	q := r.Question[0]
	s.mu.Lock()
	s.names[strings.ToLower(q.Name)+" "+dns.TypeToString[q.Qtype]]++
	s.mu.Unlock()
	switch Mood(s.mood.Load()) {
	case Silent, Gone:
		return
	case ServFail:
		m.Rcode = dns.RcodeServerFailure
	case Slow:
		time.Sleep(slowFor)
		s.answer(m, q)
	default:
		s.answer(m, q)
	}
	_ = w.WriteMsg(m) // the client may be gone
}

// answer fills in the records: an address made of the server's number and nothing of the name.
func (s *Server) answer(m *dns.Msg, q dns.Question) {
	ttl := s.TTL.Load()
	head := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: ttl}
	switch {
	case strings.Contains(q.Name, "none."):
		m.Rcode = dns.RcodeNameError
		m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: "cluster.local.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
			Ns: "ns.dns.cluster.local.", Mbox: "hostmaster.cluster.local.", Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, Minttl: ttl}}
	case q.Qtype == dns.TypeA:
		m.Answer = []dns.RR{&dns.A{Hdr: head, A: s.Addr4.AsSlice()}}
	case q.Qtype == dns.TypeAAAA:
		m.Answer = []dns.RR{&dns.AAAA{Hdr: head, AAAA: s.Addr6.AsSlice()}}
	}
}

// Asked gives how often a name and type have been asked, and forgets nothing.
func (s *Server) Asked(name string, typ uint16) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.names[strings.ToLower(name)+" "+dns.TypeToString[typ]]
}
