package wire

import (
	"hash/maphash"
	"testing"
)

// benchQuery is an A query of usual length, with EDNS.
func benchQuery() []byte {
	r := Request{Flags: FlagRD}
	r.SetQuestion(MustName("Service-1.load-1.svc.cluster.local."), TypeA)
	r.EDNS = EDNS{Present: true, Size: 1232}
	return r.AppendQuery(nil, 1, 1232)
}

func BenchmarkParse(b *testing.B) {
	packet, r := benchQuery(), new(Request)
	b.ReportAllocs()
	for b.Loop() {
		if r.Parse(packet) != Accepted {
			b.Fatal("not accepted")
		}
	}
}

func BenchmarkHash(b *testing.B) {
	name, seed := MustName("service-1.load-1.svc.cluster.local."), maphash.MakeSeed()
	for b.Loop() {
		name.Hash(seed)
	}
}

func BenchmarkUnder(b *testing.B) {
	name, zone := MustName("service-1.load-1.svc.cluster.local."), MustName("cluster.local.")
	for b.Loop() {
		name.Under(zone)
	}
}

// BenchmarkReply makes a reply of one address and fits it to its client.
func BenchmarkReply(b *testing.B) {
	var r Request
	r.Parse(benchQuery())
	var m Reply
	m.Attach(make([]byte, 0, 4096))
	var f Fitter
	out := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		m.Begin(&r, NoError, FlagAA)
		m.AppendOwnData(Answer, TypeA, 30, []byte{192, 0, 2, 1}, 4)
		out = f.Append(out[:0], &m, &r, 1232, 0)
	}
}

// BenchmarkLoad takes a stored reply of two addresses, sets its TTL and fits it: a cache's hit.
func BenchmarkLoad(b *testing.B) {
	var r Request
	r.Parse(benchQuery())
	var m Reply
	m.Attach(make([]byte, 0, 4096))
	m.Begin(&r, NoError, FlagAA)
	m.AppendOwnData(Answer, TypeA, 30, []byte{192, 0, 2, 1, 192, 0, 2, 2}, 4)
	stored, plain := append([]byte(nil), m.Bytes()...), m.PlainLen()
	var f Fitter
	out, ttl := make([]byte, 0, 4096), uint32(0)
	b.ReportAllocs()
	for b.Loop() {
		m.Load(stored, plain, &r)
		ttl++
		m.SetTTL(ttl)
		out = f.Append(out[:0], &m, &r, 1232, 0)
	}
}

// BenchmarkAdopt takes a reply of another server's.
func BenchmarkAdopt(b *testing.B) {
	var r Request
	r.Parse(benchQuery())
	var m Reply
	m.Attach(make([]byte, 0, 4096))
	m.Begin(&r, NoError, 0)
	m.AppendOwnData(Answer, TypeA, 30, []byte{192, 0, 2, 1, 192, 0, 2, 2}, 4)
	msg := new(Fitter).Append(nil, &m, &r, 1232, 0)
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Adopt(msg, &r); err != nil {
			b.Fatal(err)
		}
	}
}

// benchWide is a reply of 500 addresses.
func benchWide(m *Reply, r *Request) {
	r.Parse(benchQuery())
	m.Attach(make([]byte, 0, 16<<10))
	m.Begin(r, NoError, FlagAA)
	m.AppendOwnData(Answer, TypeA, 30, make([]byte, 2000), 4)
}

// BenchmarkCut fits 500 addresses into 1,232 octets.
func BenchmarkCut(b *testing.B) {
	var r Request
	var m Reply
	benchWide(&m, &r)
	var f Fitter
	out := make([]byte, 0, 4096)
	for b.Loop() {
		out = f.Append(out[:0], &m, &r, 1232, 0)
	}
}

// BenchmarkTranscribe writes 500 records again, as a change of each would.
func BenchmarkTranscribe(b *testing.B) {
	var r Request
	var m, dst Reply
	benchWide(&m, &r)
	dst.Attach(make([]byte, 0, 16<<10))
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Rewrite(&dst, nil); err != nil {
			b.Fatal(err)
		}
	}
}
