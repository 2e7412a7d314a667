package upstream

import (
	"bytes"
	"testing"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/wire"
)

// FuzzCompare: whatever a server sends, looking at it must not fail, and what is taken as the reply must be one that
// miekg/dns reads as a response to the same question, or can't read at all.
func FuzzCompare(f *testing.F) {
	r := question("www.example.org.")
	query := r.AppendQuery(nil, 7, 0)
	end := wire.HeaderSize + len(r.Name()) + 4
	m := new(dns.Msg)
	if err := m.Unpack(query); err != nil {
		f.Fatal(err)
	}
	good := pack(echo(m, "192.0.2.1"))
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(good[:end])
	f.Add(good[:7])
	m.SetEdns0(1232, true)
	m.Response = true
	f.Add(pack(m))
	f.Fuzz(func(t *testing.T, msg []byte) {
		msg = bytes.Clone(msg)
		switch compare(msg, query, end) {
		case belongs:
			rcodeOf(msg)
		case torn:
			msg = cut(msg, end)
			if compare(msg, query, end) != belongs {
				t.Fatalf("%x is still torn", msg)
			}
		default:
			return
		}
		got := new(dns.Msg)
		if got.Unpack(msg) != nil {
			return
		}
		if !got.Response || len(got.Question) != 1 || dns.CanonicalName(got.Question[0].Name) != "www.example.org." ||
			got.Question[0].Qtype != dns.TypeA || got.Question[0].Qclass != dns.ClassINET {
			t.Fatalf("%x was taken as the reply: %v", msg, got)
		}
	})
}
