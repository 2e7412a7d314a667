package wire

import "testing"

func TestKind(t *testing.T) {
	var r Request
	name := MustName("a.example.")
	soa := &SOA{MName: name, RName: name}
	const now = 1_000_000
	sig := make([]byte, 18, 19)
	put := func(at int, v uint32) {
		sig[at], sig[at+1], sig[at+2], sig[at+3] = byte(v>>24), byte(v>>16), byte(v>>8), byte(v)
	}
	put(8, now-1)
	put(12, now-100)
	sig = append(sig, 0)
	for _, c := range []struct {
		name string
		typ  Type
		make func(m *Reply)
		want Kind
	}{
		{"empty NOERROR", TypeA, func(m *Reply) {}, KindAnswer},
		{"answer", TypeA, func(m *Reply) { m.Append(Answer, name, TypeA, ClassIN, 1, []byte{1, 2, 3, 4}) }, KindAnswer},
		{"no data", TypeA, func(m *Reply) { m.AppendSOA(Authority, name, 1, soa) }, KindNoData},
		{"delegation", TypeA, func(m *Reply) { m.AppendName(Authority, name, TypeNS, 1, name) }, KindDelegation},
		{"no such name", TypeA, func(m *Reply) { m.SetRcode(NXDomain); m.AppendSOA(Authority, name, 1, soa) }, KindNXDomain},
		{"NXDOMAIN behind a CNAME", TypeA, func(m *Reply) { m.SetRcode(NXDomain); m.AppendName(Answer, name, TypeCNAME, 1, name) }, KindOther},
		{"SERVFAIL", TypeA, func(m *Reply) { m.SetRcode(ServFail) }, KindServerError},
		{"NOTIMP", TypeA, func(m *Reply) { m.SetRcode(NotImp) }, KindServerError},
		{"REFUSED", TypeA, func(m *Reply) { m.SetRcode(Refused) }, KindOther},
		{"transfer", TypeAXFR, func(m *Reply) { m.AppendSOA(Answer, name, 1, soa) }, KindMeta},
		{"expired, not for a validator", TypeA, func(m *Reply) { m.Append(Answer, name, TypeRRSIG, ClassIN, 1, sig) }, KindAnswer},
		{"expired, for a validator", TypeA, func(m *Reply) {
			m.OwnOPT, m.OwnFlags = true, 0x8000
			m.Append(Answer, name, TypeRRSIG, ClassIN, 1, sig)
		}, KindOther},
	} {
		r.SetQuestion(name, c.typ)
		var m Reply
		if got := m.Kind(now); got != KindNone {
			t.Errorf("%s: kind of nothing is %d", c.name, got)
		}
		m.Begin(&r, NoError, 0)
		c.make(&m)
		if got := m.Kind(now); got != c.want {
			t.Errorf("%s: kind %d, want %d", c.name, got, c.want)
		}
	}
}
