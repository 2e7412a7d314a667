package handover

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// backlog is how many successors the kernel lets wait for accept.
const backlog = 32

func newSocket() (int, error) {
	return unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// abstract is the address of a name in the network namespace's own space: no file, and gone with its owner.
func abstract(name string) unix.Sockaddr { return &unix.SockaddrUnix{Name: "@" + name} }

// listener is a bound abstract socket.
type listener struct {
	name string
	file *os.File
	raw  syscall.RawConn
}

func listen() (*listener, error) {
	fd, err := newSocket()
	if err != nil {
		return nil, fmt.Errorf("handover: socket: %w", err)
	}
	name := "godwit-" + hex.EncodeToString(newNonce())
	if err = unix.Bind(fd, abstract(name)); err == nil {
		err = unix.Listen(fd, backlog)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("handover: listen on @%s: %w", name, err)
	}
	f, raw, err := watch(fd, "@"+name)
	if err != nil {
		return nil, fmt.Errorf("handover: %w", err)
	}
	return &listener{name: name, file: f, raw: raw}, nil
}

// accept waits for a connection. It fails with os.ErrDeadlineExceeded when the file's deadline has passed.
func (l *listener) accept() (fd int, err error) {
	rerr := l.raw.Read(func(s uintptr) bool {
		for {
			fd, _, err = unix.Accept4(int(s), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if err != unix.EINTR && err != unix.ECONNABORTED {
				return err != unix.EAGAIN
			}
		}
	})
	if rerr != nil {
		return -1, rerr
	}
	return fd, err
}

// dial connects to an abstract name. While its owner has more connections than it takes, it is tried again until ctx ends.
func dial(ctx context.Context, name string) (fd int, err error) {
	fd, err = newSocket()
	if err != nil {
		return -1, err
	}
	for {
		err = unix.Connect(fd, abstract(name))
		if err == nil {
			return fd, nil
		}
		if errors.Is(err, unix.EAGAIN) {
			if err = pause(ctx, 10*time.Millisecond); err == nil {
				continue
			}
		}
		unix.Close(fd)
		return -1, fmt.Errorf("connect to @%s: %w", name, err)
	}
}

// pause waits for d, or for ctx's end and gives its error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Listener is a listening socket on its way from one agent to the other.
type Listener struct {
	Key     string         // the program's name for what the socket is for; at most 8,192 octets
	Network string         // "udp" or "tcp"
	Addr    netip.AddrPort // the address it is bound to
	FD      int            // owned by who has the Listener; its flags are shared with the other process: leave those of TCP alone
}

// verify holds a received descriptor against what was said about it.
func (l *Listener) verify() error {
	kind, err := unix.GetsockoptInt(l.FD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return err
	}
	sa, err := unix.Getsockname(l.FD)
	if err != nil {
		return err
	}
	var local netip.AddrPort
	switch a := sa.(type) {
	case *unix.SockaddrInet4:
		local = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		local = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	want := netip.AddrPortFrom(l.Addr.Addr().WithZone(""), l.Addr.Port())
	if local != want || kind != map[string]int{"udp": unix.SOCK_DGRAM, "tcp": unix.SOCK_STREAM}[l.Network] {
		return fmt.Errorf("the descriptor for %s %s %s is a socket of type %d bound to %s", l.Key, l.Network, l.Addr, kind, local)
	}
	if l.Network == "tcp" {
		if n, err := unix.GetsockoptInt(l.FD, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || n == 0 {
			return fmt.Errorf("the descriptor for %s %s %s does not listen", l.Key, l.Network, l.Addr)
		}
	}
	return nil
}

// closeAll closes the descriptors of listeners that nobody takes.
func closeAll(list []Listener) {
	for _, l := range list {
		unix.Close(l.FD)
	}
}
