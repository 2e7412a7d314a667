package hosts

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"net/netip"
	"strings"

	"github.com/godwit-dns/godwit/wire"
	"github.com/godwit-dns/godwit/zone"
)

// table is the content of one file, or of the Corefile's lines. It is immutable once built and packed: a name takes its
// own length and about 24 octets beside its addresses.
type table struct {
	names   zone.Names
	offset  []uint32 // where each name's IPv4 and its IPv6 addresses begin in data, two a name; one more at the end
	data    []byte
	reverse map[netip.Addr][]uint32 // numbers of the names that an address was given to
	entries int                     // addresses and names of addresses, as coredns_hosts_entries counts them
}

var errTooLarge = errors.New("more than 4 GiB of addresses")

// builder reads lines into a table.
type builder struct {
	*table
	zones   zone.List // names outside of them are passed over
	reverse bool      // addresses answer with their names
	pairs   []pair
}

// pair is a name with an address, as they stand in a line.
type pair struct {
	name uint32
	addr netip.Addr
}

// parse reads a hosts file. Lines and names that are none are passed over, as everywhere where such files are read.
func parse(r io.Reader, zones zone.List, reverse bool) (*table, error) {
	b := builder{&table{reverse: map[netip.Addr][]uint32{}}, zones, reverse, nil}
	lines := bufio.NewReader(r)
	for {
		line, end := lines.ReadBytes('\n')
		if end != nil && end != io.EOF {
			return nil, end
		}
		if err := b.line(line); err != nil {
			return nil, err
		}
		if end == io.EOF {
			return b.table, b.pack()
		}
	}
}

// line takes in one line: an address, the names it is given to, and a comment.
func (b *builder) line(line []byte) error {
	line, _, _ = bytes.Cut(line, []byte{'#'})
	fields := bytes.Fields(line)
	if len(fields) < 2 {
		return nil
	}
	addr, ok := address(string(fields[0]))
	if !ok {
		return nil
	}
	for _, f := range fields[1:] {
		name, err := wire.ParseName(string(f))
		if err != nil {
			continue
		}
		wire.ToLower(name)
		if !b.zones.Has(name) {
			continue
		}
		i, _, err := b.names.Add(name)
		if err != nil {
			return err
		}
		b.pairs = append(b.pairs, pair{uint32(i), addr})
		b.entries++
		if b.reverse && !isWildcard(name) {
			b.table.reverse[addr] = append(b.table.reverse[addr], uint32(i))
			b.entries++
		}
	}
	return nil
}

func isWildcard(n wire.Name) bool { return string(n.Label()) == "*" }

// address reads an address without its zone. An IPv4 address in the form of IPv6 is an IPv4 address.
func address(s string) (netip.Addr, bool) {
	s, _, _ = strings.Cut(s, "%")
	addr, err := netip.ParseAddr(s)
	return addr.Unmap(), err == nil
}

// pack puts the addresses of each name together, in the order of the file.
func (b *builder) pack() error {
	size := 0
	next := make([]uint32, 2*b.names.Len()) // the length of each list, then where its next address goes
	for _, p := range b.pairs {
		n := p.addr.BitLen() / 8
		next[p.list()] += uint32(n)
		size += n
	}
	if size > math.MaxUint32 {
		return errTooLarge
	}
	b.offset = make([]uint32, len(next)+1)
	at := uint32(0)
	for i, n := range next {
		b.offset[i], next[i] = at, at
		at += n
	}
	b.offset[len(next)] = at
	b.data = make([]byte, size)
	for _, p := range b.pairs {
		i := p.list()
		next[i] += uint32(copy(b.data[next[i]:], p.addr.AsSlice()))
	}
	return nil
}

// list numbers the lists of addresses: a name's IPv4 addresses, then its IPv6 addresses.
func (p pair) list() int {
	if p.addr.Is4() {
		return 2 * int(p.name)
	}
	return 2*int(p.name) + 1
}

// addresses gives the packed addresses of a name, each size octets long: its own, or else those of the wildcard in its
// place. It is empty when there are none.
func (t *table) addresses(n wire.Name, size int) []byte {
	if a := t.exact(n, size); len(a) > 0 {
		return a
	}
	var buf [wire.MaxName + 1]byte
	if w := zone.Wildcard(&buf, n); w != nil {
		return t.exact(w, size)
	}
	return nil
}

func (t *table) exact(n wire.Name, size int) []byte {
	i := t.names.Find(n)
	if i < 0 {
		return nil
	}
	i *= 2
	if size == 16 {
		i++
	}
	return t.data[t.offset[i]:t.offset[i+1]]
}

// has reports whether a name, or the wildcard in its place, has an address.
func (t *table) has(n wire.Name) bool {
	return len(t.addresses(n, 4)) > 0 || len(t.addresses(n, 16)) > 0
}
