package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// upstream is a server for others to ask: UDP and TCP on one port, TLS on another. What it answers is written in the
// question's first label: see README.md.
type upstream struct {
	tag     string
	udp     net.PacketConn
	tcp     net.Listener
	tls     net.Listener
	servers []*dns.Server

	mu    sync.Mutex
	log   []string
	count map[string]int
	free  chan struct{}   // closed when the questions that are held may be answered
	held  map[string]bool // their names
}

// startUpstream opens an upstream on free ports of 127.0.0.1.
func startUpstream(tag string) (*upstream, error) {
	u := &upstream{tag: tag, count: map[string]int{}, free: make(chan struct{}), held: map[string]bool{}}
	var err error
	for range 50 { // UDP and TCP have to be free on one number
		if u.tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, err
		}
		if u.udp, err = net.ListenPacket("udp", u.tcp.Addr().String()); err == nil {
			break
		}
		u.tcp.Close()
	}
	if err != nil {
		return nil, err
	}
	cert, err := certificate()
	if err != nil {
		return nil, err
	}
	if u.tls, err = tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert.pair}}); err != nil {
		return nil, err
	}
	u.servers = []*dns.Server{{PacketConn: u.udp, Handler: u.handler("udp")}, {Listener: u.tcp, Handler: u.handler("tcp")},
		{Listener: u.tls, Handler: u.handler("tls")}}
	for _, s := range u.servers {
		s.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go s.ActivateAndServe() // ended by close
		<-started
	}
	return u, nil
}

func (u *upstream) port() string {
	return strconv.Itoa(u.tcp.Addr().(*net.TCPAddr).Port)
}

func (u *upstream) tlsPort() string {
	return strconv.Itoa(u.tls.Addr().(*net.TCPAddr).Port)
}

func (u *upstream) close() {
	u.release()
	for _, s := range u.servers {
		s.Shutdown()
	}
}

// take gives the lines of what was asked, and begins anew.
func (u *upstream) take() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	log := u.log
	u.log = nil
	return log
}

// heard describes a query as it arrived.
func heard(m *dns.Msg, proto string) string {
	var n norm
	c := m.Copy()
	b, err := c.Pack()
	if err != nil {
		return err.Error()
	}
	return proto + " " + show(reply{messages: [][]byte{b}}, []message{n.message(b)})
}

func (u *upstream) handler(proto string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, m *dns.Msg) {
		if len(m.Question) != 1 {
			return
		}
		q := m.Question[0]
		key := fmt.Sprintf("%s %d", dns.CanonicalName(q.Name), q.Qtype)
		probe := q.Qtype == dns.TypeNS && q.Name == "." || q.Qtype == dns.TypeHINFO
		u.mu.Lock()
		u.count[key]++
		n := u.count[key]
		if !probe { // health checks come when they come
			u.log = append(u.log, u.tag+" "+heard(m, proto))
		}
		u.mu.Unlock()
		a := &answer{query: m, name: q.Name, qtype: q.Qtype, proto: proto, tag: u.tag, count: n, reply: new(dns.Msg).SetReply(m)}
		a.reply.RecursionAvailable = true
		a.fill()
		u.send(w, a)
	}
}

// send writes what the answer became, or something else that its name asks for.
func (u *upstream) send(w dns.ResponseWriter, a *answer) {
	if a.hold {
		u.hold(a.name)
	}
	if a.delay > 0 {
		time.Sleep(a.delay)
	}
	if a.drop {
		return
	}
	if size := a.size(); a.proto == "udp" {
		a.reply.Truncate(size)
	}
	if a.raw != nil {
		w.Write(a.raw)
		return
	}
	b, err := a.reply.Pack()
	if err != nil {
		panic(fmt.Sprintf("the answer to %s does not pack: %v", a.name, err)) // the runner's own mistake
	}
	for range 1 + a.extra {
		w.Write(b)
	}
	if a.then != nil {
		w.Write(slices.Clone(a.then))
	}
}
