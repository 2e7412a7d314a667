package forward

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/godwit-dns/godwit/wire"
)

// lookupTimeout bounds one question to one resolver.
const lookupTimeout = 2 * time.Second

// startTimeout bounds a lookup through the system's resolver.
const startTimeout = 10 * time.Second

var errNoAddress = errors.New("it has no address")

// resolve gives the addresses of HOST[:PORT], from the resolvers that the resolver option names or else the system's.
func (c *config) resolve(host, port string) ([]netip.AddrPort, error) {
	if h, p, err := net.SplitHostPort(host); err == nil {
		host, port = h, p
	}
	number, err := net.LookupPort("udp", port)
	if err != nil {
		return nil, fmt.Errorf("%q is no port", port)
	}
	name, err := wire.ParseName(host)
	if err != nil || host == "" {
		return nil, errors.New("it is not a domain name")
	}
	var addrs []netip.Addr
	if len(c.resolvers) > 0 {
		addrs, err = lookup(name, c.resolvers)
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	}
	if err == nil && len(addrs) == 0 {
		err = errNoAddress
	}
	if err != nil {
		return nil, err
	}
	all := make([]netip.AddrPort, len(addrs))
	for i, a := range addrs {
		all[i] = netip.AddrPortFrom(a.Unmap(), uint16(number))
	}
	return all, nil
}

// lookup asks one resolver after the other for A and AAAA records until one has some.
func lookup(name wire.Name, resolvers []string) ([]netip.Addr, error) {
	var failures []string
	for _, server := range resolvers {
		v4, err := ask(server, name, wire.TypeA)
		if err != nil {
			failures = append(failures, err.Error())
			continue
		}
		v6, err := ask(server, name, wire.TypeAAAA)
		if all := append(v4, v6...); len(all) > 0 {
			return all, nil
		}
		if err != nil {
			failures = append(failures, err.Error())
		}
	}
	if len(failures) > 0 {
		return nil, errors.New(strings.Join(failures, "; "))
	}
	return nil, errNoAddress
}

// ask puts one question to a server over UDP and gives the addresses of the reply.
func ask(server string, name wire.Name, t wire.Type) ([]netip.Addr, error) {
	conn, err := net.DialTimeout("udp", server, lookupTimeout)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(lookupTimeout)); err != nil {
		return nil, err
	}
	var r wire.Request
	r.SetQuestion(name, t)
	r.EDNS.Present, r.EDNS.Size = true, 1232
	query := r.AppendQuery(nil, randomID(), 1232)
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buf := make([]byte, 65535)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return nil, err
		}
		question := wire.HeaderSize + len(name) + 4
		if n < question || buf[2]&0x80 == 0 || binary.BigEndian.Uint16(buf) != binary.BigEndian.Uint16(query) ||
			!wire.Equal(buf[wire.HeaderSize:question], query[wire.HeaderSize:question]) {
			continue // not the reply
		}
		return addresses(buf[:n], t)
	}
}

// addresses gives the addresses of type t in the answer of msg, aliases or not.
func addresses(msg []byte, t wire.Type) ([]netip.Addr, error) {
	var c wire.Cursor
	var r wire.Record
	if err := c.Open(msg); err != nil {
		return nil, err
	}
	var all []netip.Addr
	for {
		section, more, err := c.Next(&r)
		if err != nil || !more || section != wire.Answer {
			return all, err
		}
		if a, ok := netip.AddrFromSlice(r.RawData()); ok && r.Type == t && r.Class == wire.ClassIN {
			all = append(all, a)
		}
	}
}

// randomID gives a message ID that can't be guessed.
func randomID() uint16 {
	var b [2]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.BigEndian.Uint16(b[:])
}
