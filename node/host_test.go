package node

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// follower is a host that notes its fallback.
type follower struct {
	*hostStub
	mu  sync.Mutex
	got [][]netip.Addr
}

func (f *follower) SetFallback(_ context.Context, targets []netip.Addr) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = append(f.got, slices.Clone(targets))
	return f.step("fallback")
}

// The fallback's servers are known before the rules are made, so that they do not change what a predecessor made.
func TestFallbackIsLookedUpFirst(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.MustParseAddrPort(pc.LocalAddr().String())
	ready, ended := make(chan struct{}), make(chan struct{})
	srv := &dns.Server{PacketConn: pc, NotifyStartedFunc: func() { close(ready) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if q.Question[0].Name == "pods.test." && q.Question[0].Qtype == dns.TypeA {
			for _, ip := range []string{"192.0.2.2", "127.0.0.1", "192.0.2.1", "192.0.2.2"} {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: "pods.test.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.ParseIP(ip)})
			}
		}
		_ = w.WriteMsg(m)
	})}
	go func() {
		_ = srv.ActivateAndServe()
		close(ended)
	}()
	<-ready
	defer func() {
		_ = srv.Shutdown()
		<-ended
	}()

	s := newStage(t, "0000000a", "-fallback pods.test", nil, nil)
	f := &follower{hostStub: s.host}
	s.agent.net = f
	s.o.port = addr.Port() // no Service is known, so the agent's own address is asked
	s.listens(t)
	within(t, 5*time.Second, "repairs begin", func() bool { return strings.Contains(s.host.steps(), "run") })
	s.Leaving(syscall.SIGTERM)
	s.Left()
	if got := s.host.steps(); got != "fallback adopt up run giveup ran down" {
		t.Errorf("%q", got)
	}
	want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")}
	if len(f.got) != 1 || !slices.Equal(f.got[0], want) {
		t.Errorf("fallback %v, want %v", f.got, want)
	}
}

func TestLookUpWithoutAServer(t *testing.T) {
	r := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }}
	if _, err := lookUp(t.Context(), r, "pods.test", nil); err == nil {
		t.Error("no error without a server")
	}
}
