package server

import (
	"runtime"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// selfText asks over network who answers behind the address.
func (r *rig) selfText(network, host string) string {
	r.t.Helper()
	m := new(dns.Msg)
	m.Question = []dns.Question{{Name: SelfName, Qtype: dns.TypeTXT, Qclass: dns.ClassCHAOS}}
	m.Id = 1
	c := &dns.Conn{Conn: r.dial(network, host)}
	if err := c.WriteMsg(m); err != nil {
		r.t.Fatal(err)
	}
	reply, err := c.ReadMsg()
	if err != nil {
		r.t.Fatal(err)
	}
	if len(reply.Answer) == 0 {
		return ""
	}
	return reply.Answer[0].(*dns.TXT).Txt[0]
}

// named makes the rig's listeners answer for themselves.
func (r *rig) named(text string, hosts ...string) {
	r.t.Helper()
	r.self = NewSelf(text)
	r.listen(hosts...)
}

func TestSelf(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	if got := r.selfText("udp", "127.0.0.1"); got != "" {
		t.Errorf("a server without a text says %q", got)
	}
	r.named("0123abcd", "127.0.0.1")
	for _, network := range []string{"udp", "tcp"} {
		if got := r.selfText(network, "127.0.0.1"); got != "0123abcd" {
			t.Errorf("over %s: %q", network, got)
		}
	}
}

// TestSuccession gives a server's sockets to another with other numbers of loops. No query is lost at any point of it: both
// read at first, then the new one alone, then the old one again, then it ends.
func TestSuccession(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8)) // up to five loops keep their processors while they wait
	for _, loops := range []int{1, 2, 3} {
		hosts := []string{"127.0.0.1", "::1"}
		for _, host := range hosts {
			old := newRig(t, host)
			old.named("old", host)
			inherited, err := old.s.Export()
			if err != nil {
				t.Fatal(err)
			}
			if len(inherited) != 4 { // two loops, UDP and TCP
				t.Fatalf("%d sockets", len(inherited))
			}
			next := startRig(t, old.port, Options{Loops: loops, Inherited: inherited})
			next.named("next", host)
			next.ask(t, host)

			old.s.Pause()
			for range 20 { // whichever socket the kernel chooses
				if u, s := next.selfText("udp", host), next.selfText("tcp", host); u != "next" || s != "next" {
					t.Fatalf("%d loops: with the old one paused %q and %q answer", loops, u, s)
				}
			}
			if loops > 2 { // then the new one has a socket of its own besides
				old.stop()
				next.ask(t, host)
				next.stop()
				continue
			}
			next.s.Pause()
			old.s.Continue()
			for range 20 {
				if u, s := old.selfText("udp", host), old.selfText("tcp", host); u != "old" || s != "old" {
					t.Fatalf("%d loops: with the new one paused %q and %q answer", loops, u, s)
				}
			}
			next.s.Continue()
			old.stop()
			next.ask(t, host)
			next.stop()
		}
	}
}

// ask asks twenty times over each transport from new sockets, each of which must be answered.
func (r *rig) ask(t *testing.T, host string) {
	t.Helper()
	for range 20 {
		if u, s := r.selfText("udp", host), r.selfText("tcp", host); u == "" || s == "" {
			t.Fatalf("answers %q, %q", u, s)
		}
	}
}

// TestSuccessorWithoutUse closes what the successor's configuration does not want.
func TestSuccessorWithoutUse(t *testing.T) {
	old := newRig(t, "127.0.0.2")
	inherited, err := old.s.Export()
	if err != nil {
		t.Fatal(err)
	}
	next := startRig(t, freePort(t), Options{Loops: 2, Inherited: inherited}, "127.0.0.3")
	for _, in := range inherited {
		if _, err := unix.FcntlInt(uintptr(in.FD), unix.F_GETFD, 0); err == nil {
			t.Errorf("descriptor %d (%s) is still open", in.FD, in.Network)
		}
	}
	next.stop()
	old.stop()
}

// TestFreebind binds an address that no interface has.
func TestFreebind(t *testing.T) {
	r := startRig(t, freePort(t), Options{Loops: 1, Freebind: true}, "192.0.2.53", "2001:db8::53")
	if err := startErr(t, r.port, "192.0.2.54"); err == nil {
		t.Error("bound without being asked to")
	}
}

func startErr(t *testing.T, port int, host string) error {
	t.Helper()
	r := startRig(t, port, Options{Loops: 1})
	return r.publish(r.spec(host))
}
