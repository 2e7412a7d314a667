package zone

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/wire"
)

// ErrUnchanged says that the file's SOA has the serial that the caller knows.
var ErrUnchanged = errors.New("no change in SOA serial")

// Source is a master file to parse (RFC 1035, 5).
type Source struct {
	Text   io.Reader
	Origin wire.Name // lower case; names that are not absolute are relative to it
	File   string    // its path, for errors and for $INCLUDE
	// Files is where $INCLUDE finds files, by absolute path or relative to the including file; nil forbids it.
	Files fs.FS
	// Known, when not nil, is a serial: ErrUnchanged is returned as soon as the first SOA has it.
	Known *uint32
}

// Parse reads a whole zone. It fails on the first line that is wrong, with "file:line:column: what", on NSEC3 records
// and when there is no SOA.
func Parse(s Source) (*Zone, error) {
	origin := s.Origin.String()
	p := dns.NewZoneParser(s.Text, origin, s.File)
	if s.Files != nil {
		p.SetIncludeAllowed(true)
		p.SetIncludeFS(includes{s.Files, strings.HasPrefix(s.File, "/")})
	}
	b := builder{zone: &Zone{origin: slices.Clone(s.Origin)}, scratch: make([]byte, 1<<17)}
	for rr, ok := p.Next(); ok; rr, ok = p.Next() {
		if soa, ok := rr.(*dns.SOA); ok && b.zone.soa == nil && s.Known != nil && soa.Serial == *s.Known {
			return nil, ErrUnchanged
		}
		if err := b.add(rr); err != nil {
			return nil, fmt.Errorf("%s: %w", s.File, err)
		}
	}
	if err := p.Err(); err != nil {
		return nil, placed(err)
	}
	if b.zone.soa == nil {
		return nil, fmt.Errorf("%s: the zone %s has no SOA record", s.File, origin)
	}
	return b.finish()
}

// placed turns the parser's error, "file: dns: what at line: 7:3", into "file:7:3: what".
func placed(err error) error {
	text := err.Error()
	at := strings.LastIndex(text, " at line: ")
	file, what, ok := strings.Cut(text, ": dns: ")
	if at < 0 || !ok || at < len(file)+len(": dns: ") {
		return err
	}
	return fmt.Errorf("%s:%s: %s", file, text[at+len(" at line: "):], what[:at-len(file)-len(": dns: ")])
}

// includes undoes what the parser does to the paths of $INCLUDE: it takes the first slash off.
type includes struct {
	fs.FS
	absolute bool // the zone's own path is absolute, so every path that is joined to it was
}

// Open opens an included file.
func (f includes) Open(name string) (fs.File, error) {
	if f.absolute {
		return f.FS.Open("/" + name)
	}
	file, err := f.FS.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return f.FS.Open("/" + name)
	}
	return file, err
}

// builder gathers records in wire form, sorts them and writes the tables.
type builder struct {
	zone    *Zone
	raw     []byte   // records as they stand in an uncompressed message
	starts  []uint32 // where each begins in raw
	scratch []byte
}

func (b *builder) add(rr dns.RR) error {
	n, err := dns.PackRR(rr, b.scratch, 0, nil, false)
	if err == nil { // the parser lets records pass that lack some of their data
		_, _, err = dns.UnpackRR(b.scratch[:n], 0)
	}
	if err != nil {
		return fmt.Errorf("the %s record of %q is not whole: %v", wire.Type(rr.Header().Rrtype), rr.Header().Name, err)
	}
	owner, typ, class, ttl, data := split(b.scratch[:n])
	if len(data) == 0 && !mayBeEmpty(rr) {
		return fmt.Errorf("the %s record of %s has no data", typ, owner)
	}
	wire.ToLower(owner)
	lowerTargets(typ, data)
	z := b.zone
	z.count++
	switch typ {
	case wire.TypeNSEC3, wire.Type(dns.TypeNSEC3PARAM):
		return fmt.Errorf("%s has an %s record: zones signed with NSEC3 are not supported", owner, typ)
	case wire.TypeSOA:
		z.soaOwner, z.soa = slices.Clone(owner), set(nil).add(ttl, class, data) // the last one counts
		z.serial = binary.BigEndian.Uint32(data[len(data)-20:])
		return nil
	case wire.TypeNS:
		if wire.Equal(owner, z.origin) {
			z.apex = z.apex.add(ttl, class, data)
			return nil
		}
	case wire.TypeRRSIG:
		covered := wire.Type(binary.BigEndian.Uint16(data))
		if covered == wire.TypeSOA {
			z.soaSigs = z.soaSigs.add(ttl, class, data)
			return nil
		}
		if covered == wire.TypeNS && wire.Equal(owner, z.origin) {
			z.nsSigs = z.nsSigs.add(ttl, class, data)
			return nil
		}
		z.signed = z.signed || covered == wire.TypeNSEC
	case wire.TypeNSEC:
		z.signed = true
	}
	if len(b.raw)+n > math.MaxUint32 {
		return errTooLarge
	}
	b.starts = append(b.starts, uint32(len(b.raw)))
	b.raw = append(b.raw, b.scratch[:n]...)
	return nil
}

// mayBeEmpty reports whether a record of this type is whole without data.
func mayBeEmpty(rr dns.RR) bool {
	switch rr.(type) {
	case *dns.RFC3597, *dns.APL, *dns.NULL:
		return true
	}
	return false
}

// split takes a record in uncompressed wire form apart.
func split(b []byte) (owner wire.Name, t wire.Type, class wire.Class, ttl uint32, data []byte) {
	n := 0
	for b[n] != 0 {
		n += 1 + int(b[n])
	}
	n++
	end := n + 10 + int(binary.BigEndian.Uint16(b[n+8:]))
	return wire.Name(b[:n]), wire.Type(binary.BigEndian.Uint16(b[n:])), wire.Class(binary.BigEndian.Uint16(b[n+2:])),
		binary.BigEndian.Uint32(b[n+4:]), b[n+10 : end]
}

// lowerTargets lowers the names in the data of the types whose names CoreDNS lowers; others keep the file's spelling.
func lowerTargets(t wire.Type, data []byte) {
	switch t {
	case wire.TypeNS, wire.TypeCNAME:
		wire.ToLower(data)
	case wire.TypeSOA:
		wire.ToLower(data[:len(data)-20])
	case wire.TypeMX:
		wire.ToLower(data[2:])
	case wire.TypeSVCB, wire.TypeHTTPS:
		end := 2
		for data[end] != 0 {
			end += 1 + int(data[end])
		}
		wire.ToLower(data[2:end])
	}
}

// finish sorts what was gathered and writes the tables.
func (b *builder) finish() (*Zone, error) {
	slices.SortFunc(b.starts, func(x, y uint32) int {
		xo, xt, _, _, _ := split(b.raw[x:])
		yo, yt, _, _, _ := split(b.raw[y:])
		if c := compare(xo, yo); c != 0 {
			return c
		}
		if xt != yt {
			return int(xt) - int(yt)
		}
		return int(int64(x) - int64(y)) // the order of the file within a set
	})
	z := b.zone
	z.names.block = make([]byte, 0, len(b.raw))
	var previous wire.Name
	var head int // where the current set's head stands
	typ := wire.TypeNone
	for _, at := range b.starts {
		owner, t, class, ttl, data := split(b.raw[at:])
		if previous == nil || !wire.Equal(owner, previous) {
			if err := z.enter(owner, previous); err != nil {
				return nil, err
			}
			previous, typ = owner, wire.TypeNone
		}
		if t != typ {
			typ, head = t, len(z.names.block)
			z.names.block = append(z.names.block, byte(t>>8), byte(t), 0, 0, 0, 0)
			z.cuts = z.cuts || t == wire.TypeNS || t == wire.TypeDNAME
		}
		if err := z.names.room(len(data) + recordHead + setHead); err != nil {
			return nil, err
		}
		z.names.block = set(z.names.block).add(ttl, class, data)
		binary.BigEndian.PutUint32(z.names.block[head+2:], uint32(len(z.names.block)-head-setHead))
	}
	z.names.close()
	z.names.index()
	if wire.Equal(z.soaOwner, z.origin) {
		z.soaAbove = z.above(wire.TypeSOA, z.soa)
	}
	z.nsAbove = z.above(wire.TypeNS, z.apex)
	return z, nil
}

// maxAbove is how many records of the apex are kept as replies have them: more than zones have servers.
const maxAbove = 64

// above gives a set of the apex as replies have it. The root's has no pointer for an owner.
func (z *Zone) above(t wire.Type, s set) (p wire.Above) {
	for len(s) > 0 && len(z.origin) > 1 && p.Len() < maxAbove {
		ttl, class, data, rest := s.next()
		p.Add(z.origin, t, class, ttl, data)
		s = rest
	}
	if len(s) > 0 {
		return wire.Above{}
	}
	return p
}

// enter adds an owner, and before it the empty non-terminals above it. The names that sort between an ancestor and the
// owner are all below that ancestor, so an ancestor that the previous owner is not below is not there yet.
func (z *Zone) enter(owner, previous wire.Name) error {
	var at [maxLabels]uint8
	count := labelsOf(&at, owner)
	if owner.Under(z.origin) {
		for i := count - z.origin.Labels(); i > 0; i-- {
			ancestor := owner[len(owner)-1:]
			if i < count {
				ancestor = owner[at[i]:]
			}
			if previous != nil && previous.Under(ancestor) {
				continue
			}
			if err := z.append(ancestor); err != nil {
				return err
			}
		}
	}
	return z.append(owner)
}

func (z *Zone) append(n wire.Name) error {
	z.wild = z.wild || n[0] == 1 && n[1] == '*'
	z.names.close()
	return z.names.enter(n)
}
