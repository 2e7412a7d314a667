package bufsize

import (
	"testing"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/wire"
)

var large = chain.Spec{Name: "large", New: func(s *chain.Setup) error {
	s.Handler(answer{})
	return nil
}}

type answer struct{}

func (answer) Serve(q *chain.Query) chain.Outcome {
	q.Reply.Begin(&q.Request, wire.NoError, 0)
	q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 5, make([]byte, 4*200), 4)
	return chain.Answered
}

func TestBufsize(t *testing.T) {
	opt := chaintest.Options{Specs: []chain.Spec{Spec, large}}
	for _, c := range []struct {
		line string
		asks uint16 // 0 is without EDNS
		want uint16
	}{
		{"bufsize", 4096, 1232}, {"bufsize", 1232, 1232}, {"bufsize", 600, 600}, {"bufsize 700", 4096, 700},
		{"bufsize 512", 65535, 512}, {"bufsize 4096", 4096, 4096}, {"bufsize", 0, 0}, {"bufsize 600\nbufsize 700 800", 4096, 600},
	} {
		b := chaintest.New(t, ". {\n"+c.line+"\nlarge\n}", opt)
		m := new(dns.Msg).SetQuestion("a.", dns.TypeA)
		limit := 512
		if c.asks > 0 {
			m.SetEdns0(c.asks, false)
			limit = int(c.want)
		}
		reply := b.Do(chaintest.Query{Msg: m})
		reply.Compress = true
		if n := reply.Len(); n > limit || reply.Truncated != (limit < 3300) {
			t.Errorf("%s, asked for %d: %d octets, truncated %v", c.line, c.asks, n, reply.Truncated)
		}
		if o := reply.IsEdns0(); (o != nil) != (c.asks > 0) || o != nil && o.UDPSize() != c.want {
			t.Errorf("%s, asked for %d: OPT %v, want size %d", c.line, c.asks, o, c.want)
		}
	}
	for _, text := range []string{"bufsize 511", "bufsize 4097", "bufsize x", "bufsize 600 700"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
}
