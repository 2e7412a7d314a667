package log

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// Formats that have a name of their own; common is the default.
const (
	common   = `{remote}:{port} - {>id} "{type} {class} {name} {proto} {size} {>do} {>bufsize}" {rcode} {>rflags} {rsize} {duration}`
	combined = common + ` "{>opcode}"`
)

// empty stands for a value that there is not.
const empty = "-"

// entry is one query to be logged.
type entry struct {
	q       *chain.Query
	out     chain.Outcome
	elapsed time.Duration
	kind    wire.Kind
	class   Class

	line   []byte
	packet []byte
	fitter *wire.Fitter // made when a reply is first larger than its client takes
}

// replied reports whether there is a reply to speak of: one that was made, or will be made of a failure.
func (e *entry) replied() bool { return e.out != chain.Dropped }

// field is one part of a format: text as it stands, or a value.
type field struct {
	literal string
	value   func(b []byte, e *entry) []byte // nil for a literal
}

func (f *field) append(b []byte, e *entry) []byte {
	if f.value == nil {
		return append(b, f.literal...)
	}
	return f.value(b, e)
}

// values are the placeholders.
func values(name string) func(b []byte, e *entry) []byte {
	switch name {
	case "{type}":
		return func(b []byte, e *entry) []byte { return append(b, e.q.Type.String()...) }
	case "{name}":
		return appendName
	case "{class}":
		return func(b []byte, e *entry) []byte { return append(b, e.q.Class.String()...) }
	case "{proto}":
		return func(b []byte, e *entry) []byte { return append(b, e.q.Proto.String()...) }
	case "{size}":
		return func(b []byte, e *entry) []byte {
			renamed := len(e.q.Name()) - len(e.q.OriginalName())
			return strconv.AppendInt(b, int64(e.q.Length+renamed), 10)
		}
	case "{remote}":
		return func(b []byte, e *entry) []byte { return appendAddr(b, e.q.Client.Addr()) }
	case "{port}":
		return func(b []byte, e *entry) []byte { return strconv.AppendInt(b, int64(e.q.Client.Port()), 10) }
	case "{local}":
		return func(b []byte, e *entry) []byte { return appendAddr(b, e.q.Local.Addr()) }
	case "{>id}":
		return func(b []byte, e *entry) []byte { return strconv.AppendInt(b, int64(e.q.ID), 10) }
	case "{>opcode}":
		return func(b []byte, e *entry) []byte { return strconv.AppendInt(b, int64(e.q.Opcode()), 10) }
	case "{>do}":
		return func(b []byte, e *entry) []byte { return strconv.AppendBool(b, e.q.DO()) }
	case "{>bufsize}":
		return appendBufsize
	case "{rcode}":
		return appendRcode
	case "{rsize}":
		return appendReplySize
	case "{duration}":
		return func(b []byte, e *entry) []byte {
			return append(strconv.AppendFloat(b, e.elapsed.Seconds(), 'f', -1, 64), 's')
		}
	case "{>rflags}":
		return appendFlags
	}
	return nil
}

func appendName(b []byte, e *entry) []byte {
	var name [wire.MaxName]byte
	return wire.Name(wire.Lower(name[:0], e.q.OriginalName())).AppendText(b)
}

func appendAddr(b []byte, a netip.Addr) []byte {
	switch {
	case !a.IsValid():
		return append(b, empty...)
	case a.Is4():
		return a.AppendTo(b)
	}
	return append(a.AppendTo(append(b, '[')), ']')
}

// appendBufsize writes what the client says it takes, which may be more than a datagram holds.
func appendBufsize(b []byte, e *entry) []byte {
	if e.q.Proto != chain.UDP {
		return strconv.AppendInt(b, wire.MaxMessage, 10)
	}
	return strconv.AppendInt(b, int64(max(wire.MinUDP, e.q.EDNS.Size)), 10)
}

func appendRcode(b []byte, e *entry) []byte {
	if !e.replied() {
		return append(b, empty...)
	}
	return append(b, e.q.ResponseCode(e.out).Label()...)
}

// appendReplySize counts the reply without compression. A failure has none yet: it will be header and question.
func appendReplySize(b []byte, e *entry) []byte {
	n := 0
	switch e.out {
	case chain.Answered:
		n = e.q.Reply.PlainLen()
		if e.q.Reply.OwnOPT {
			n += 11 + len(e.q.Reply.Options)
		}
	case chain.Failed:
		n = wire.HeaderSize + len(e.q.Name()) + 4
	}
	return strconv.AppendInt(b, int64(n), 10)
}

// appendFlags writes the names of the reply's header bits.
func appendFlags(b []byte, e *entry) []byte {
	if !e.replied() {
		return append(b, empty...)
	}
	flags := e.flags()
	start := len(b)
	for _, f := range [...]struct {
		bit  uint16
		name string
	}{{wire.FlagQR, "qr,"}, {wire.FlagAA, "aa,"}, {wire.FlagTC, "tc,"}, {wire.FlagRD, "rd,"},
		{wire.FlagRA, "ra,"}, {wire.FlagZ, "z,"}, {wire.FlagAD, "ad,"}, {wire.FlagCD, "cd,"}} {
		if flags&f.bit != 0 {
			b = append(b, f.name...)
		}
	}
	if len(b) > start {
		b = b[:len(b)-1]
	}
	return b
}

func (e *entry) flags() uint16 {
	switch e.out {
	case chain.Answered:
		flags := e.q.Reply.Flags()
		if len(e.q.Reply.Bytes())+e.room() > e.q.Limit() && e.cut() {
			flags |= wire.FlagTC
		}
		return flags
	case chain.Streamed:
		return wire.FlagQR | wire.FlagAA | e.q.Flags&wire.FlagRD
	}
	flags := wire.FlagQR
	if e.q.Opcode() == wire.OpQuery {
		flags |= e.q.Flags & (wire.FlagRD | wire.FlagCD)
	}
	return flags
}

// room is about what the reply's OPT takes; more than it does is harmless here.
func (e *entry) room() int {
	if !e.q.EDNS.Present {
		return 0
	}
	return 11 + len(e.q.EDNS.Options) + len(e.q.Reply.Options)
}

// cut finds out whether the reply will lose records on its way to the client, by fitting it as the server will.
func (e *entry) cut() bool {
	if e.fitter == nil {
		e.fitter = new(wire.Fitter)
	}
	e.packet = e.fitter.Append(e.packet[:0], &e.q.Reply, &e.q.Request, e.q.Limit(), 0)
	return e.packet[2]&byte(wire.FlagTC>>8) != 0
}

// parse takes a format apart. A brace that begins no placeholder is text; lookup gives the reader of metadata.
func parse(s string, lookup func(name string) func(b []byte, e *entry) []byte) []field {
	var fields []field
	text := func(t string) {
		if t != "" {
			fields = append(fields, field{literal: t})
		}
	}
	for {
		end := strings.IndexByte(s, '}')
		if end < 0 {
			text(s)
			return fields
		}
		start := strings.LastIndexByte(s[:end], '{')
		if start < 0 {
			text(s[:end+1])
			s = s[end+1:]
			continue
		}
		word := s[start : end+1]
		value := values(word)
		if value == nil && strings.HasPrefix(word, "{/") {
			value = lookup(word[2 : len(word)-1])
		}
		if value == nil {
			text(s[:end+1])
		} else {
			text(s[:start])
			fields = append(fields, field{value: value})
		}
		s = s[end+1:]
	}
}
