package handover

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// conn is a connection between two agents. Its socket is watched by Go's netpoller, so that its calls have deadlines; the
// calls themselves are raw, because a frame may carry a descriptor.
type conn struct {
	file *os.File
	raw  syscall.RawConn
	// takes says that frames with a descriptor are expected: the old agent expects none, and the kernel drops what comes.
	takes bool
	in    [maxFrame]byte
	out   []byte
}

var (
	errOversized   = errors.New("a frame of more than 32768 octets")
	errDescriptors = errors.New("descriptors where none belong")
)

// refusal is what the peer says when it ends a handover.
type refusal struct{ text string }

// Error gives the peer's reason.
func (r *refusal) Error() string { return "refused by the other agent: " + r.text }

// watch gives a non-blocking socket to the netpoller. The file owns it, also on an error.
func watch(fd int, name string) (*os.File, syscall.RawConn, error) {
	f := os.NewFile(uintptr(fd), name)
	raw, err := f.SyscallConn()
	if err == nil {
		err = f.SetDeadline(time.Time{}) // fails for a file that the poller does not watch
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, raw, nil
}

func newConn(fd int, takes bool) (*conn, error) {
	f, raw, err := watch(fd, "handover")
	if err != nil {
		return nil, err
	}
	return &conn{file: f, raw: raw, takes: takes}, nil
}

func (c *conn) close() { c.file.Close() }

// within limits everything until the next call of it.
func (c *conn) within(d time.Duration) { _ = c.file.SetDeadline(time.Now().Add(d)) }

// peerUID gives the uid of the process at the other end, as it was when that connected or began to listen.
func (c *conn) peerUID() (uid int, err error) {
	uid = -1
	cerr := c.raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			uid = int(cred.Uid)
		}
	})
	return uid, errors.Join(cerr, err)
}

// send sends one frame, with a descriptor unless fd is negative.
func (c *conn) send(b []byte, fd int) error {
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	var err error
	werr := c.raw.Write(func(s uintptr) bool {
		for {
			_, err = unix.SendmsgN(int(s), b, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if werr != nil {
		return werr
	}
	return err
}

// say sends a frame without fields.
func (c *conn) say(k kind) error { return c.send([]byte{byte(k)}, -1) }

// refuse tells the peer why this is the end. A peer that does not listen is not waited for.
func (c *conn) refuse(reason error) {
	text := reason.Error()
	c.within(100 * time.Millisecond)
	_ = c.send(appendField([]byte{byte(kindRefused)}, tagText, text[:min(len(text), maxText)]), -1)
}

// receive waits for one packet. The octets are valid until the next call; the descriptor, -1 for none, is the caller's.
func (c *conn) receive() (b []byte, fd int, err error) {
	var control []byte
	if c.takes {
		control = make([]byte, unix.CmsgSpace(4))
	}
	var n, size, flags int
	rerr := c.raw.Read(func(s uintptr) bool {
		for {
			n, size, flags, _, err = unix.Recvmsg(int(s), c.in[:], control, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if rerr != nil {
		err = rerr
	}
	if err != nil {
		return nil, -1, err
	}
	fds, err := descriptors(control[:size])
	switch {
	case err != nil:
	case flags&unix.MSG_CTRUNC != 0 || len(fds) > 1:
		err = errDescriptors
	case flags&unix.MSG_TRUNC != 0:
		err = errOversized
	case n == 0: // an empty packet says as little as none
		err = io.EOF
	case len(fds) == 1:
		return c.in[:n], fds[0], nil
	default:
		return c.in[:n], -1, nil
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	return nil, -1, err
}

func descriptors(control []byte) (fds []int, err error) {
	if len(control) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		if m := &messages[i]; m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SCM_RIGHTS {
			got, err := unix.ParseUnixRights(m)
			fds = append(fds, got...)
			if err != nil {
				return fds, err
			}
		}
	}
	return fds, nil
}

// expect waits for a frame of one of the kinds, past those that this version does not know. A refusal is an error. The
// descriptor is -1 unless the frame is a listener's.
func (c *conn) expect(kinds ...kind) (f frame, fd int, err error) {
	for {
		b, fd, err := c.receive()
		if err != nil {
			return f, -1, fmt.Errorf("waiting for %v: %w", kinds, err)
		}
		f, err = parse(b)
		switch {
		case err != nil:
		case (fd >= 0) != (f.kind == kindListener):
			err = errDescriptors
		case f.kind == kindRefused:
			err = &refusal{f.text(tagText)}
		case f.kind == 0 || f.kind >= kindsEnd:
			continue
		case !slices.Contains(kinds, f.kind):
			err = fmt.Errorf("%v out of turn", f.kind)
		default:
			return f, fd, nil
		}
		if fd >= 0 {
			unix.Close(fd)
		}
		return f, -1, fmt.Errorf("waiting for %v: %w", kinds, err)
	}
}
