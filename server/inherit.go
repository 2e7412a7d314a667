package server

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/loop"
)

// Inherited is a listening descriptor that one process gives to its successor.
type Inherited struct {
	Key     string // ListenSpec.Key, or what the owner of another kind of listener calls it
	Network string // "udp" or "tcp"
	Addr    netip.AddrPort
	FD      int
}

// inherit takes the descriptors for a listener's address out of those that are left. All of them are read from then on:
// closing one would drop what is queued in it and send the clients of the others elsewhere.
func (s *Server) inherit(key, network string, addr netip.AddrPort) []int {
	var fds []int
	left := s.inherited[:0]
	for _, in := range s.inherited {
		if in.Key == key && in.Network == network && in.Addr == addr {
			fds = append(fds, in.FD)
		} else {
			left = append(left, in)
		}
	}
	s.inherited = left
	return fds
}

// closeInherited closes the descriptors that the first configuration does not want.
func (s *Server) closeInherited() {
	for _, in := range s.inherited {
		unix.Close(in.FD)
	}
	s.inherited = nil
}

// Export gives a duplicate of every listening descriptor. The caller closes them; their flags are those of the originals
// and must not be changed.
func (s *Server) Export() ([]Inherited, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Inherited
	add := func(key, network string, addr netip.AddrPort, fd int) error {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("duplicate the listener %s %s: %w", network, addr, err)
		}
		all = append(all, Inherited{key, network, addr, dup})
		return nil
	}
	for key, l := range s.listeners {
		if err := l.each(func(network string, addr netip.AddrPort, fd int) error { return add(key, network, addr, fd) }); err != nil {
			for _, in := range all {
				unix.Close(in.FD)
			}
			return nil, err
		}
	}
	return all, nil
}

// each calls f for every socket of the listener.
func (l *Listener) each(f func(network string, addr netip.AddrPort, fd int) error) error {
	for i := range l.udp {
		for _, u := range l.udp[i] {
			if err := f("udp", u.local, u.fd); err != nil {
				return err
			}
		}
		for _, t := range l.tcp[i] {
			if err := f("tcp", t.local, t.fd); err != nil {
				return err
			}
		}
	}
	for _, ln := range l.secure {
		if err := WithFD(ln, func(fd int) error { return f("tcp", addrPort(ln.Addr()), fd) }); err != nil {
			return err
		}
	}
	return nil
}

// WithFD calls f with the descriptor of one of package net's listeners, without the change of mode that its File has.
func WithFD(ln net.Listener, f func(fd int) error) error {
	conn, ok := ln.(syscall.Conn)
	if !ok {
		return fmt.Errorf("the listener %s has no descriptor", ln.Addr())
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := raw.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// InheritListener makes one of package net's listeners of a descriptor, which it takes over.
func InheritListener(fd int) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), "inherited")
	defer f.Close() // the listener has a duplicate of its own
	return net.FileListener(f)
}

// Pause stops taking queries and connections; sockets stay open, and what is in flight is answered. It returns when no
// loop reads a listening socket any more.
func (s *Server) Pause() { s.pause(true) }

// Continue takes queries and connections again after Pause.
func (s *Server) Continue() { s.pause(false) }

func (s *Server) pause(stop bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.listeners {
		for _, ln := range l.secure {
			if t, ok := ln.(*net.TCPListener); ok {
				until := time.Time{}
				if stop {
					until = time.Unix(1, 0) // accepting fails with a timeout, over and over
				}
				_ = t.SetDeadline(until)
			}
		}
		for i, w := range s.workers {
			_ = w.RunOn(s.ctx, func(cw *chain.Worker) { l.pauseOn(cw.Loop, i, stop) })
		}
	}
}

// pauseOn takes one loop's sockets of a listener out of what it waits for, or puts them back. Other processes may have the
// same sockets, so they can't be told apart by closing them.
func (l *Listener) pauseOn(on *loop.Loop, i int, stop bool) {
	if l.paused[i] == stop {
		return
	}
	l.paused[i] = stop
	again := func(fd int, s loop.Source) {
		if stop {
			on.Remove(fd)
		} else if err := on.Add(fd, s, false); err != nil {
			l.s.opt.Log.Error("cannot watch a socket again", "address", l.spec.Addr, "error", err)
		}
	}
	for _, u := range l.udp[i] {
		again(u.fd, u)
		if stop {
			u.spill.leave(u.fd)
			u.fair.thin.clear()
		} else {
			u.spill.begin(u.fd, on.Now())
		}
	}
	for _, t := range l.tcp[i] {
		on.Stop(&t.rest)
		again(t.fd, t)
	}
}
