package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/loop"
)

// ListenSpec is one listener that a configuration wants.
type ListenSpec struct {
	Transport string // "dns" or "tls"
	Addr      string // host:port, host empty for all addresses
	Pos       corefile.Pos
	TLS       *tls.Config // nil: no encryption, also for "tls"
	Timeout   chain.Timeouts
}

// Key names the listener: specs with the same key share sockets, also across a reload.
func (s ListenSpec) Key() string {
	kind := s.Transport
	if s.TLS != nil {
		kind += "+"
	}
	return kind + "://" + s.Addr
}

// Listener is the sockets of one address on all loops, and the table that its queries are routed by.
type Listener struct {
	s       *Server
	spec    ListenSpec
	addrs   []netip.AddrPort
	table   atomic.Pointer[Table]
	timeout atomic.Pointer[chain.Timeouts]
	tls     atomic.Pointer[tls.Config]

	udp     [][]*udpSocket // by loop
	tcp     [][]*tcpListener
	secure  []net.Listener
	paused  []bool // by loop, and its own: see Server.Pause
	started bool
	stop    context.CancelFunc
	wait    sync.WaitGroup
}

// Bind opens the listeners that do not exist yet. They are not read before Publish, and Discard closes them again.
func (s *Server) Bind(specs []ListenSpec) (opened []*Listener, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[string]bool{}
	for _, spec := range specs {
		key := spec.Key()
		if s.listeners[key] != nil || seen[key] {
			continue
		}
		seen[key] = true
		l, err := s.open(spec, opened)
		if err != nil {
			for _, o := range opened {
				o.closeUnstarted()
			}
			return nil, corefile.Errorf(spec.Pos, "%v", err)
		}
		opened = append(opened, l)
	}
	return opened, nil
}

// Discard closes listeners that Bind opened and that will not be used.
func (s *Server) Discard(opened []*Listener) {
	for _, l := range opened {
		l.closeUnstarted()
	}
}

// Publish makes tables, by listener key, the ones that queries are routed by: listeners without a table are closed,
// opened ones join.
func (s *Server) Publish(opened []*Listener, specs []ListenSpec, tables map[string]*Table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range opened {
		s.listeners[l.spec.Key()] = l
	}
	for _, spec := range specs {
		l := s.listeners[spec.Key()]
		l.table.Store(tables[spec.Key()])
		l.timeout.Store(&spec.Timeout)
		l.tls.Store(spec.TLS)
		l.start()
		l.forget()
	}
	for key, l := range s.listeners {
		if tables[key] == nil {
			l.close()
			delete(s.listeners, key)
		}
	}
	s.closeInherited()
}

// resolve gives the addresses to bind: for all addresses one socket of each family.
func resolve(addr string) ([]netip.AddrPort, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	if a.IP == nil {
		return []netip.AddrPort{
			netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(a.Port)),
			netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(a.Port)),
		}, nil
	}
	ip, _ := netip.AddrFromSlice(a.IP)
	return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap().WithZone(a.Zone), uint16(a.Port))}, nil
}

func (s *Server) open(spec ListenSpec, opened []*Listener) (*Listener, error) {
	addrs, err := resolve(spec.Addr)
	if err != nil {
		return nil, err
	}
	l := &Listener{s: s, spec: spec, udp: make([][]*udpSocket, len(s.workers)),
		tcp: make([][]*tcpListener, len(s.workers)), paused: make([]bool, len(s.workers))}
	for _, addr := range addrs {
		err := l.openAddr(addr, s.holds(addr, opened))
		if err != nil && len(addrs) > 1 && addr.Addr().Is6() && noIPv6(err) {
			continue // a host without IPv6 serves all the addresses it has
		}
		if err != nil {
			l.closeUnstarted()
			return nil, err
		}
		l.addrs = append(l.addrs, addr)
	}
	return l, nil
}

func noIPv6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// holds reports whether a listener of this process already has the address, so that probing it would find ourselves.
func (s *Server) holds(addr netip.AddrPort, opened []*Listener) bool {
	for _, l := range append(slices.Collect(maps.Values(s.listeners)), opened...) {
		for _, a := range l.addrs {
			if a.Port() == addr.Port() && (a.Addr() == addr.Addr() || a.Addr().IsUnspecified() || addr.Addr().IsUnspecified()) {
				return true
			}
		}
	}
	return false
}

func (l *Listener) openAddr(addr netip.AddrPort, held bool) error {
	udp, freebind := l.spec.Transport == "dns", l.s.opt.Freebind
	streams := l.s.inherit(l.spec.Key(), "tcp", addr)
	datagrams := l.s.inherit(l.spec.Key(), "udp", addr)
	if !held && len(streams) == 0 {
		if udp {
			if err := probe(addr, unix.SOCK_DGRAM, freebind); err != nil {
				return bindError("udp", addr, err)
			}
		}
		if err := probe(addr, unix.SOCK_STREAM, freebind); err != nil {
			return bindError("tcp", addr, err)
		}
	}
	if l.spec.TLS != nil {
		return l.openSecure(addr, streams)
	}
	group := l.s.newSpill()
	for i := range max(len(l.s.workers), len(streams), len(datagrams)) {
		if udp {
			if err := l.openUDP(i, addr, datagrams, group); err != nil {
				return bindError("udp", addr, err)
			}
		}
		if err := l.openTCP(i, addr, streams); err != nil {
			return bindError("tcp", addr, err)
		}
	}
	return nil
}

// openUDP makes the address's socket i, which may be an inherited one. With more inherited than there are loops some loops
// have several.
func (l *Listener) openUDP(i int, addr netip.AddrPort, inherited []int, group *spill) (err error) {
	on, fd := i%len(l.s.workers), -1
	switch {
	case i < len(inherited):
		fd = inherited[i]
		_ = setFilter(fd, nil) // of a predecessor that was killed
	case i >= len(l.s.workers):
		return nil
	default:
		if fd, err = socket(addr, unix.SOCK_DGRAM, true, l.s.opt.Freebind); err != nil {
			return err
		}
	}
	w := l.s.workers[on]
	u := &udpSocket{w: w, fd: fd, local: addr, wild: addr.Addr().IsUnspecified(), table: &l.table, repeats: w.newRepeats(w.repeated)}
	u.out.begin(fd, addr.Addr(), &w.dropped)
	u.spill.spill = group
	l.udp[on] = append(l.udp[on], u)
	return nil
}

// openTCP is openUDP for listening sockets.
func (l *Listener) openTCP(i int, addr netip.AddrPort, inherited []int) (err error) {
	on, fd := i%len(l.s.workers), -1
	switch {
	case i < len(inherited):
		fd = inherited[i]
	case i >= len(l.s.workers):
		return nil
	default:
		if fd, err = socket(addr, unix.SOCK_STREAM, true, l.s.opt.Freebind); err != nil {
			return err
		}
		if err = unix.Listen(fd, backlog); err != nil {
			unix.Close(fd)
			return err
		}
	}
	w := l.s.workers[on]
	l.tcp[on] = append(l.tcp[on], &tcpListener{w: w, l: l, fd: fd, local: addr, repeats: w.newRepeats(w.repeatedTCP)})
	return nil
}

// start hands the sockets to their loops.
func (l *Listener) start() {
	if l.started {
		return
	}
	l.started = true
	for i, w := range l.s.workers {
		_ = w.RunOn(l.s.ctx, func(*chain.Worker) {
			for _, u := range l.udp[i] {
				if err := w.Loop.Add(u.fd, u, false); err != nil {
					l.s.opt.Log.Error("cannot watch a socket", "address", u.local.String(), "error", err)
				}
				w.Loop.OnFlush(u)
				u.spill.begin(u.fd, w.Loop.Now())
			}
			for _, t := range l.tcp[i] {
				if err := w.Loop.Add(t.fd, t, false); err != nil {
					l.s.opt.Log.Error("cannot watch a socket", "address", l.spec.Addr, "error", err)
				}
			}
		})
	}
	var ctx context.Context
	ctx, l.stop = context.WithCancel(l.s.ctx)
	for _, ln := range l.secure {
		l.wait.Go(func() { l.acceptSecure(ctx, ln) })
	}
}

// forget has the loops let go of what answered by an earlier table, also where no query comes any more.
func (l *Listener) forget() {
	for i, w := range l.s.workers {
		w.Loop.Post(loop.TaskFunc(func(*loop.Loop) {
			for _, u := range l.udp[i] {
				u.repeats.begin(u.table.Load())
			}
			for _, t := range l.tcp[i] {
				t.repeats.begin(l.table.Load())
			}
		}))
	}
}

// close takes the sockets from their loops. Connections go on until their queries are answered.
func (l *Listener) close() {
	if !l.started {
		l.closeUnstarted()
		return
	}
	l.stop()
	for _, ln := range l.secure {
		ln.Close()
	}
	for i, w := range l.s.workers {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		err := w.RunOn(ctx, func(*chain.Worker) {
			for _, u := range l.udp[i] {
				u.close()
			}
			for _, t := range l.tcp[i] {
				t.close()
			}
		})
		cancel()
		if err != nil {
			l.s.opt.Log.Error("a loop did not close its sockets in time", "loop", i, "error", fmt.Sprint(err))
		}
	}
	l.wait.Wait()
}

func (l *Listener) closeUnstarted() {
	for i := range l.s.workers {
		for _, u := range l.udp[i] {
			unix.Close(u.fd)
		}
		for _, t := range l.tcp[i] {
			unix.Close(t.fd)
		}
	}
	for _, ln := range l.secure {
		ln.Close()
	}
}
