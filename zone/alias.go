package zone

import "github.com/godwit-dns/godwit/wire"

// maxAliases is how many aliases within the zone are followed after the first; then the answer ends where it is.
const maxAliases = 9

// substitute answers by a DNAME above the name (RFC 6672, 3.2): the DNAME, the CNAME made from it, and what that leads to.
func (l *look) substitute(node int, dname set) Answer {
	owner := l.names.name(node)
	ttl, _, target, _ := dname.next()
	prefix := len(l.Name) - len(owner)
	var buf [2 * wire.MaxName]byte
	n := copy(buf[:], l.Name[:prefix])
	n += copy(buf[n:], target)
	made := wire.Name(buf[:n])
	if wire.Equal(made, l.Name) {
		return Answer{Result: Failure}
	}
	l.appendSet(wire.Answer, owner, wire.TypeDNAME, dname)
	l.appendSigs(wire.Answer, owner, node, wire.TypeDNAME)
	if n > wire.MaxName {
		return Answer{Result: TooLong}
	}
	l.reply.Append(wire.Answer, l.Name, wire.TypeCNAME, wire.ClassIN, ttl, made)
	if l.Type == wire.TypeCNAME {
		l.appendNS(wire.Authority)
		return Answer{Result: Success}
	}
	whole := l.reply.Bytes()
	kept := wire.Name(whole[len(whole)-n:]) // the target outlives this call, and so may not stand in buf
	l.appendSigs(wire.Answer, owner, node, wire.TypeCNAME)
	return l.chase(kept)
}

// follow goes on behind the aliases of a name that are in the answer already.
func (l *look) follow(node int, alias set) Answer {
	l.appendSigs(wire.Answer, l.names.name(node), node, wire.TypeCNAME)
	_, _, target, _ := alias.next()
	return l.chase(target)
}

// chase looks for the target of an alias in the zone, from alias to alias. A target that has no records of its own here,
// though a wildcard may cover it, is asked for through the whole server.
func (l *look) chase(target wire.Name) Answer {
	var buf [wire.MaxName]byte
	for i := 0; ; i++ {
		name := wire.Name(wire.Lower(buf[:0], target))
		node := l.find(name)
		if cut, owner := l.cutAbove(name, node); cut >= 0 {
			l.referral(cut, owner, l.get(cut, wire.TypeNS))
			return Answer{Result: Delegation}
		}
		if node < 0 || l.Type == wire.TypeNS || l.Type == wire.TypeSOA && wire.Equal(name, l.origin) {
			return Answer{Result: External, Target: target}
		}
		if i == maxAliases {
			return l.closeChain()
		}
		alias := l.get(node, wire.TypeCNAME)
		if alias == nil {
			l.appendSet(wire.Answer, name, l.Type, l.get(node, l.Type))
			l.appendSigs(wire.Answer, name, node, l.Type)
			return l.closeChain()
		}
		l.appendSet(wire.Answer, name, wire.TypeCNAME, alias)
		l.appendSigs(wire.Answer, name, node, wire.TypeCNAME)
		_, _, target, _ = alias.next()
	}
}

// cutAbove finds the first cut between the apex and name, name included when it has records; -1 when there is none.
// Labels are counted from the right as if every target ended in the zone's name: one that does not has no records here.
func (l *look) cutAbove(name wire.Name, node int) (int, wire.Name) {
	var at [maxLabels]uint8
	for i := labelsOf(&at, name) - l.origin.Labels() - 1; i >= 0; i-- {
		owner, above := name[at[i]:], node
		if i > 0 {
			above = l.find(owner)
		}
		if above >= 0 && l.get(above, wire.TypeNS) != nil && (i > 0 || l.Type != wire.TypeDS) {
			return above, owner
		}
	}
	return -1, nil
}

// closeChain ends an answer whose aliases all lie in the zone.
func (l *look) closeChain() Answer {
	l.appendNS(wire.Authority)
	l.appendAddresses()
	return Answer{Result: Success}
}

// Finish ends a reply that Lookup left as External, after the records of the target were appended to its answer. Result
// is what became of the target: for NoData and NameError the zone's SOA follows, else its NS records.
func (z *Zone) Finish(q Question, reply *wire.Reply, result Result) {
	l := look{z, q, reply}
	if result == NameError || result == NoData {
		l.appendSOA(wire.Authority)
	} else {
		l.appendNS(wire.Authority)
	}
	l.appendAddresses()
}

// appendGlue adds the addresses of the name servers in ns that are at owner or below it.
func (l *look) appendGlue(owner wire.Name, ns set) {
	for len(ns) > 0 {
		_, _, target, rest := ns.next()
		if name := wire.Name(target); name.Under(owner) {
			if node := l.find(name); node >= 0 {
				for _, t := range addressTypes {
					l.appendSet(wire.Additional, name, t, l.get(node, t))
					l.appendSigs(wire.Additional, name, node, t)
				}
			}
		}
		ns = rest
	}
}

var addressTypes = [...]wire.Type{wire.TypeA, wire.TypeAAAA}

// appendAddresses adds the addresses of the hosts that SRV, MX, SVCB and HTTPS records of the answer name, each host
// once (RFC 1035, 3.3.9; RFC 2782; RFC 9460, 4.1). An alias at such a name is not followed.
func (l *look) appendAddresses() {
	switch l.Type {
	case wire.TypeSRV, wire.TypeMX, wire.TypeSVCB, wire.TypeHTTPS:
	default:
		return
	}
	var c wire.Cursor
	var r wire.Record
	if c.Open(l.reply.Bytes()) != nil {
		return
	}
	var first [32]int
	seen := first[:0]
	var buf [wire.MaxName]byte
	for {
		s, ok, err := c.Next(&r)
		if err != nil || !ok || s != wire.Answer {
			return
		}
		name, ok := target(&r)
		if !ok || !name.Under(l.origin) {
			continue
		}
		name = wire.Name(wire.Lower(buf[:0], name))
		node := l.find(name)
		if node < 0 || has(seen, node) {
			continue
		}
		seen = append(seen, node)
		for _, t := range addressTypes {
			if addresses := l.get(node, t); addresses != nil {
				l.appendSet(wire.Additional, name, t, addresses)
				l.appendSigs(wire.Additional, name, node, t)
			}
		}
	}
}

// target gives the host that a record refers to. Names in the records of an answer of ours are not compressed.
func target(r *wire.Record) (wire.Name, bool) {
	at := 2
	switch r.Type {
	case wire.TypeSRV:
		at = 6
	case wire.TypeMX, wire.TypeSVCB, wire.TypeHTTPS:
	default:
		return nil, false
	}
	data := r.RawData()
	for end := at; end < len(data); end += 1 + int(data[end]) {
		if data[end] == 0 {
			return wire.Name(data[at : end+1]), true
		}
	}
	return nil, false
}

func has(list []int, v int) bool {
	for _, w := range list {
		if w == v {
			return true
		}
	}
	return false
}
