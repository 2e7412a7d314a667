package hostnet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// message is a netlink message without its header: a family's fixed header and attributes.
type message struct {
	kind, flags uint16
	body        []byte
}

// transport carries messages to the kernel; tests put a recorder in its place.
type transport interface {
	// talk sends the messages in one write and gives what came back apart from acknowledgements. Messages that have
	// NLM_F_ACK or ask for a list are waited for. The error is the kernel's answer to the first message that failed.
	talk(msgs ...message) ([]message, error)
	close() error
}

// kernelError is the kernel's refusal of a message.
type kernelError struct {
	errno unix.Errno
	text  string // what the kernel says beyond the number; often empty
}

// Error gives the number's text and the kernel's own words.
func (e *kernelError) Error() string {
	if e.text == "" {
		return e.errno.Error()
	}
	return e.errno.Error() + " (" + e.text + ")"
}

// Unwrap lets errors.Is find the number.
func (e *kernelError) Unwrap() error { return e.errno }

// answerWait bounds the wait for an answer, which is ready when the write returns: only a kernel in trouble is later.
const answerWait = 10 // seconds

// nlSocket is a netlink socket for requests. A table with the owner flag lives exactly as long as the one that made it.
type nlSocket struct {
	mu  sync.Mutex // one exchange at a time
	fd  int
	seq uint32
	buf []byte
}

func dial(protocol int) (*nlSocket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket: %w", err)
	}
	wait := unix.Timeval{Sec: answerWait}
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1),
		unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("setting up a netlink socket: %w", err)
	}
	return &nlSocket{fd: fd, buf: make([]byte, 64<<10)}, nil
}

func (s *nlSocket) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return nil
	}
	err := unix.Close(s.fd)
	s.fd = -1
	return err
}

// retries is how often a list is asked for again that changed while it was read.
const retries = 10

func (s *nlSocket) talk(msgs ...message) ([]message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fd < 0 {
		return nil, unix.EBADF
	}
	var answers []message
	var err error
	for range retries {
		answers, err = s.once(msgs)
		if !errors.Is(err, errInterrupted) {
			break
		}
	}
	return answers, err
}

var errInterrupted = errors.New("the kernel's list changed while it was read")

func (s *nlSocket) once(msgs []message) ([]message, error) {
	first := s.seq + 1
	waiting := map[uint32]bool{}
	var out []byte
	for _, m := range msgs {
		s.seq++
		if m.flags&(unix.NLM_F_ACK|unix.NLM_F_DUMP) != 0 {
			waiting[s.seq] = true
		}
		out = appendMessage(out, m, s.seq)
	}
	if err := unix.Sendto(s.fd, out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, err
	}
	var answers []message
	var failed error
	for len(waiting) > 0 {
		n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("waiting for the kernel's answer: %w", err)
		}
		for h, body := range messages(s.buf[:n]) {
			if h.Seq-first > s.seq-first {
				continue // left over from an exchange that ended early
			}
			if h.Flags&unix.NLM_F_DUMP_INTR != 0 {
				failed = errInterrupted
			}
			switch h.Type {
			case unix.NLMSG_ERROR, unix.NLMSG_DONE:
				if err := readError(h, body); err != nil {
					if failed == nil {
						failed = err
					}
					if !waiting[h.Seq] { // the frame of a transaction: nothing was looked at
						return nil, err
					}
				}
				delete(waiting, h.Seq)
			default:
				answers = append(answers, message{h.Type, h.Flags, bytes.Clone(body)})
			}
		}
	}
	return answers, failed
}

func appendMessage(out []byte, m message, seq uint32) []byte {
	out = binary.NativeEndian.AppendUint32(out, uint32(unix.NLMSG_HDRLEN+len(m.body)))
	out = binary.NativeEndian.AppendUint16(out, m.kind)
	out = binary.NativeEndian.AppendUint16(out, m.flags|unix.NLM_F_REQUEST)
	out = binary.NativeEndian.AppendUint32(out, seq)
	out = binary.NativeEndian.AppendUint32(out, 0)
	return pad(append(out, m.body...))
}

func pad(b []byte) []byte {
	for len(b)%unix.NLMSG_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

// messages reads what one receive call gave. Bodies are parts of b.
func messages(b []byte) func(yield func(unix.NlMsghdr, []byte) bool) {
	return func(yield func(unix.NlMsghdr, []byte) bool) {
		for len(b) >= unix.NLMSG_HDRLEN {
			h := unix.NlMsghdr{
				Len:   binary.NativeEndian.Uint32(b),
				Type:  binary.NativeEndian.Uint16(b[4:]),
				Flags: binary.NativeEndian.Uint16(b[6:]),
				Seq:   binary.NativeEndian.Uint32(b[8:]),
				Pid:   binary.NativeEndian.Uint32(b[12:]),
			}
			if h.Len < unix.NLMSG_HDRLEN || int(h.Len) > len(b) {
				return
			}
			if !yield(h, b[unix.NLMSG_HDRLEN:h.Len]) {
				return
			}
			b = b[min(len(b), int(h.Len+3)&^3):]
		}
	}
}

// readError reads NLMSG_ERROR and NLMSG_DONE: a negative error number, and with NLM_F_ACK_TLVS the kernel's text.
func readError(h unix.NlMsghdr, body []byte) error {
	if len(body) < 4 {
		return nil
	}
	code := int32(binary.NativeEndian.Uint32(body))
	if code == 0 {
		return nil
	}
	e := &kernelError{errno: unix.Errno(-code)}
	const echoed = 4 + unix.NLMSG_HDRLEN
	if h.Type == unix.NLMSG_ERROR && h.Flags&unix.NLM_F_ACK_TLVS != 0 && len(body) > echoed {
		e.text = text(attrs(body[echoed:])[unix.NLMSGERR_ATTR_MSG])
	}
	return e
}

// attrs reads attributes; of several of one kind the last stays. Values are parts of b.
func attrs(b []byte) map[uint16][]byte {
	all := map[uint16][]byte{}
	for kind, v := range eachAttr(b) {
		all[kind] = v
	}
	return all
}

func eachAttr(b []byte) func(yield func(uint16, []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			n := int(binary.NativeEndian.Uint16(b))
			kind := binary.NativeEndian.Uint16(b[2:]) & attrKind
			if n < unix.SizeofNlAttr || n > len(b) || !yield(kind, b[unix.SizeofNlAttr:n]) {
				return
			}
			b = b[min(len(b), (n+3)&^3):]
		}
	}
}

// attrKind takes the flags for nesting and byte order off an attribute's type.
const attrKind = 1<<14 - 1

func text(v []byte) string { return string(bytes.TrimRight(v, "\x00")) }

// The attributes' makers. nf_tables counts in network order, rtnetlink in the machine's.

func attr(kind uint16, parts ...[]byte) []byte {
	value := slices.Concat(parts...)
	b := binary.NativeEndian.AppendUint16(make([]byte, 0, unix.SizeofNlAttr+len(value)+3), uint16(unix.SizeofNlAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	return pad(append(b, value...))
}

func nest(kind uint16, parts ...[]byte) []byte { return attr(kind|unix.NLA_F_NESTED, parts...) }

func str(kind uint16, s string) []byte { return attr(kind, append([]byte(s), 0)) }

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func be64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// number reads a value in network order, zero when it is not there.
func number(v []byte) (n uint64) {
	for _, b := range v {
		n = n<<8 | uint64(b)
	}
	return n
}
