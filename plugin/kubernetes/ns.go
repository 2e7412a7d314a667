package kubernetes

import (
	"net"
	"net/netip"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/cluster"
	"github.com/godwit-dns/godwit/wire"
)

// isNS reports whether a name is that of the zone's name server when no Service is found to have that part.
func isNS(name wire.Name, z *zone) bool { return len(name) == len(z.ns) && wire.Equal(name, z.ns) }

// server is an address of this server with a name for it.
type server struct {
	name wire.Name
	addr netip.Addr
}

// servers gives names and addresses of this server: those of the Services whose endpoint it is, or else its own
// addresses under ns.dns. Names end in zone. It allocates; few ask.
func (k *Kubernetes) servers(zone wire.Name) []server {
	var list []server
	found := false
	for _, local := range k.local() {
		for w := k.cluster.ByEndpointIP(local); ; {
			sl, i := w.Next()
			if sl == nil {
				break
			}
			if i > 0 && sl.Addr(i-1) == local {
				continue // a slice counts once
			}
			found = true
			r := k.cluster.Service([]byte(sl.Namespace), []byte(sl.Service))
			if r == nil {
				continue
			}
			if r.Kind == cluster.Headless {
				for j := range sl.Len() {
					list = append(list, server{appendEndpointName(nil, sl, j, zone), sl.Addr(j)})
				}
				continue
			}
			name := append(append(wire.Name(nil), r.Base()...), zone...)
			for _, a := range r.ClusterIPs() {
				list = append(list, server{name, a})
			}
		}
	}
	if !found {
		name := append(append(wire.Name(nil), labelsNS...), zone...)
		for _, a := range k.local() {
			list = append(list, server{name, a})
		}
	}
	return once(list)
}

// once drops repetitions and names that are too long.
func once(list []server) []server {
	kept := list[:0]
next:
	for _, s := range list {
		if len(s.name) > wire.MaxName {
			continue
		}
		for _, have := range kept {
			if have.addr == s.addr && wire.Equal(have.name, s.name) {
				continue next
			}
		}
		kept = append(kept, s)
	}
	return kept
}

// serveNS answers the zone's name servers with their addresses.
func (k *Kubernetes) serveNS(q *chain.Query, z *zone) chain.Outcome {
	k.begin(q)
	owner := spelled(q, z)
	list := k.servers(owner)
	for i, s := range list {
		if !named(list[:i], s.name) {
			q.Reply.AppendName(wire.Answer, owner, wire.TypeNS, k.cfg.TTL, s.name)
		}
	}
	for _, s := range list {
		q.Reply.Append(wire.Additional, s.name, addrType(s.addr), wire.ClassIN, k.cfg.TTL, appendAddr(nil, s.addr))
	}
	return k.end(q, z)
}

func named(list []server, name wire.Name) bool {
	for _, s := range list {
		if wire.Equal(s.name, name) {
			return true
		}
	}
	return false
}

func addrType(a netip.Addr) wire.Type {
	if a.Is6() {
		return wire.TypeAAAA
	}
	return wire.TypeA
}

// serveNSAddress answers A and AAAA at ns.dns: the addresses of all name servers.
func (k *Kubernetes) serveNSAddress(q *chain.Query, z *zone) chain.Outcome {
	k.begin(q)
	if data := k.nsData(q, z); len(data) > 0 {
		size := 4
		if q.Type == wire.TypeAAAA {
			size = 16
		}
		q.Reply.AppendOwnData(wire.Answer, q.Type, k.cfg.TTL, data, size)
	}
	return k.end(q, z)
}

// nsData gives the addresses of all name servers of the type asked for, each once.
func (k *Kubernetes) nsData(q *chain.Query, z *zone) []byte {
	var data []byte
	seen := map[netip.Addr]bool{}
	for _, s := range k.servers(z.name) {
		if s.addr.Is6() == (q.Type == wire.TypeAAAA) && !seen[s.addr] {
			seen[s.addr] = true
			data = appendAddr(data, s.addr)
		}
	}
	return data
}

// localAddrs gives the addresses that this machine has, loopback left out. A block that binds to addresses of its own has
// none: its name servers are unknown, as in CoreDNS.
func localAddrs(bound []chain.Bound) []netip.Addr {
	if len(bound) > 0 && bound[0].Addr != "" {
		return nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var list []netip.Addr
	for _, a := range addrs {
		p, err := netip.ParsePrefix(a.String())
		if err != nil || p.Addr().IsLoopback() {
			continue
		}
		list = append(list, p.Addr().Unmap().WithZone(""))
	}
	return list
}
