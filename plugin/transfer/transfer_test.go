package transfer_test

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/plugin/transfer"
	"github.com/godwit-dns/godwit/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source has one zone of that many records besides two SOAs.
type source struct {
	zone    string
	serial  uint32
	records int
	err     error
}

func (source) Serve(q *chain.Query) chain.Outcome { return q.Fail(wire.NotImp, nil) }

func (s source) Transfer(zone wire.Name, serial uint32) (iter.Seq[chain.RR], error) {
	if zone.String() != s.zone {
		return nil, chain.ErrNotAuthoritative
	}
	if s.err != nil {
		return nil, s.err
	}
	soa := wire.SOA{MName: wire.MustName("ns." + s.zone), RName: wire.MustName("host." + s.zone), Serial: s.serial}
	first := chain.RR{Owner: zone, Type: wire.TypeSOA, Class: wire.ClassIN, TTL: 60, Data: soa.AppendData(nil)}
	return func(yield func(chain.RR) bool) {
		if !yield(first) || serial == s.serial {
			return
		}
		owner := wire.MustName("www." + s.zone)
		for range s.records {
			if !yield(chain.RR{Owner: owner, Type: wire.TypeTXT, Class: wire.ClassIN, TTL: 60, Data: append([]byte{99}, make([]byte, 99)...)}) {
				return
			}
		}
		yield(first)
	}, nil
}

func specs(sources ...source) []chain.Spec {
	list := []chain.Spec{transfer.Spec}
	for _, s := range sources {
		list = append(list, chain.Spec{Name: "source" + s.zone, New: func(setup *chain.Setup) error {
			setup.Handler(s)
			return nil
		}})
	}
	return list
}

// stream is a connection that can carry several messages.
type stream struct {
	messages []*dns.Msg
	sizes    []int
	breakAt  int // the message that the client does not take; 0 for none
	err      error
}

func (s *stream) Stream(f func(w chain.MessageWriter) error) { s.err = f(s) }

var errGone = errors.New("gone")

func (s *stream) WriteMessage(b []byte) error {
	if len(s.messages)+1 == s.breakAt {
		return errGone
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		return err
	}
	s.messages, s.sizes = append(s.messages, m), append(s.sizes, len(b))
	return nil
}

func axfr(name string) *dns.Msg {
	m := new(dns.Msg).SetAxfr(name)
	m.Id = 77
	return m
}

func ixfr(name string, serial uint32) *dns.Msg {
	return new(dns.Msg).SetIxfr(name, serial, "ns.", "host.")
}

func TestWholeZone(t *testing.T) {
	b := chaintest.New(t, ". {\ntransfer {\nto *\n}\nsourceexample.org.\n}\n", chaintest.Options{Specs: specs(source{"example.org.", 5, 1500, nil})})
	s := &stream{}
	if m := b.Do(chaintest.Query{Msg: axfr("Example.org."), Proto: chain.TCP, Socket: s}); m != nil || s.err != nil {
		t.Fatalf("reply %v, error %v", m, s.err)
	}
	records := 0
	for i, m := range s.messages {
		if m.Id != 77 || !m.Authoritative || !m.Response || m.Rcode != 0 || len(m.Question) != 1 || m.Question[0].Name != "Example.org." {
			t.Errorf("message %d is\n%s", i, m)
		}
		records += len(m.Answer)
	}
	last := s.messages[len(s.messages)-1].Answer
	if _, ok := last[len(last)-1].(*dns.SOA); !ok || records != 1502 || len(s.messages) < 2 {
		t.Errorf("%d records in %d messages of %v octets, the last is %s", records, len(s.messages), s.sizes, last[len(last)-1])
	}
	s = &stream{breakAt: 2}
	if b.Do(chaintest.Query{Msg: axfr("example.org."), Proto: chain.TCP, Socket: s}); !errors.Is(s.err, errGone) {
		t.Errorf("a client that goes away: %v", s.err)
	}
}

// stuck is a connection whose client does not read: its transfers do not end.
type stuck struct {
	started []func(w chain.MessageWriter) error
}

func (s *stuck) Stream(f func(w chain.MessageWriter) error) { s.started = append(s.started, f) }

func TestTooMany(t *testing.T) {
	b := chaintest.New(t, ". {\ntransfer {\nto *\n}\nsourceexample.org.\n}\n", chaintest.Options{Specs: specs(source{"example.org.", 5, 3, nil})})
	slow := &stuck{}
	var m *dns.Msg
	for m == nil && len(slow.started) < 1000 {
		m = b.Do(chaintest.Query{Msg: axfr("example.org."), Proto: chain.TCP, Socket: slow})
	}
	if m == nil || m.Rcode != dns.RcodeServerFailure {
		t.Fatalf("%d transfers at once, then\n%s", len(slow.started), m)
	}
	if err := slow.started[0](&stream{}); err != nil {
		t.Fatal(err)
	}
	if m := b.Do(chaintest.Query{Msg: axfr("example.org."), Proto: chain.TCP, Socket: &stream{}}); m != nil {
		t.Errorf("a transfer has ended, and the next gets\n%s", m)
	}
}

func TestIXFR(t *testing.T) {
	b := chaintest.New(t, ". {\ntransfer {\nto *\n}\nsourceexample.org.\n}\n", chaintest.Options{Specs: specs(source{"example.org.", 5, 3, nil})})
	m := b.Do(chaintest.Query{Msg: ixfr("example.org.", 5), Proto: chain.TCP, Socket: &stream{}})
	if m == nil || len(m.Answer) != 1 || m.Authoritative || m.Answer[0].(*dns.SOA).Serial != 5 {
		t.Errorf("an up to date secondary gets\n%s", m)
	}
	s := &stream{}
	if m := b.Do(chaintest.Query{Msg: ixfr("example.org.", 4), Proto: chain.TCP, Socket: s}); m != nil || len(s.messages) != 1 || len(s.messages[0].Answer) != 5 {
		t.Errorf("an old secondary gets %v and %v", m, s.messages)
	}
	if m := b.Do(chaintest.Query{Msg: new(dns.Msg).SetQuestion("example.org.", dns.TypeIXFR), Proto: chain.TCP, Socket: &stream{}}); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("IXFR without an SOA is\n%s", m)
	}
}

func TestWho(t *testing.T) {
	const text = `. {
transfer example.org {
	to 192.0.2.1 192.0.2.2:5353 2001:db8::1 [2001:db8::2]:53
}
transfer sub.example.org example.org {
	to *
}
sourceexample.org.
sourcesub.example.org.
sourcebroken.sub.example.org.
}
`
	b := chaintest.New(t, text, chaintest.Options{Specs: specs(source{"example.org.", 1, 1, nil}, source{"sub.example.org.", 1, 1, nil},
		source{"broken.sub.example.org.", 1, 1, errGone})})
	for _, c := range []struct {
		name, client string
		proto        chain.Proto
		socket       any
		want         int // -1 is a transfer
	}{
		{"example.org.", "192.0.2.1:1000", chain.TCP, &stream{}, -1},
		{"example.org.", "192.0.2.2:1000", chain.TCP, &stream{}, -1},
		{"example.org.", "[::ffff:192.0.2.2]:1000", chain.TCP, &stream{}, -1},
		{"example.org.", "[2001:db8::2]:1000", chain.TLS, &stream{}, -1},
		{"example.org.", "192.0.2.3:1000", chain.TCP, &stream{}, dns.RcodeRefused},
		{"example.org.", "192.0.2.1:1000", chain.UDP, nil, dns.RcodeRefused},
		{"elsewhere.test.", "192.0.2.1:1000", chain.UDP, nil, dns.RcodeRefused},
		{"example.org.", "192.0.2.1:1000", chain.HTTPS, nil, dns.RcodeRefused},
		{"sub.example.org.", "192.0.2.99:1000", chain.TCP, &stream{}, -1},
		{"a.sub.example.org.", "192.0.2.99:1000", chain.TCP, &stream{}, dns.RcodeNotImplemented}, // nobody has it: the next directive
		{"elsewhere.test.", "192.0.2.1:1000", chain.TCP, &stream{}, dns.RcodeNotImplemented},
		{"broken.sub.example.org.", "192.0.2.1:1000", chain.TCP, &stream{}, dns.RcodeServerFailure},
	} {
		m := b.Do(chaintest.Query{Msg: axfr(c.name), Client: netip.MustParseAddrPort(c.client), Proto: c.proto, Socket: c.socket})
		got := -1
		if m != nil {
			got = m.Rcode
		}
		if got != c.want {
			t.Errorf("%s from %s: %d, want %d", c.name, c.client, got, c.want)
		}
	}
}

func TestSetup(t *testing.T) {
	for text, want := range map[string]string{
		"transfer {\nto *\n}": "",
		"transfer a b {\nto 192.0.2.1 *\nsource 192.0.2.9\n}":     "",
		"transfer {\nto 192.0.2.1\nto ::1\n}":                     "",
		"transfer":                                                "names nobody",
		"transfer {\n}":                                           "names nobody",
		"transfer {\nto\n}":                                       "takes at least 1",
		"transfer {\nto example.org\n}":                           `"example.org" is no IP address`,
		"transfer {\nto *\nsource\n}":                             "takes 1",
		"transfer {\nto *\nsource x\n}":                           "no IP address to send from",
		"transfer {\nto *\nsource 192.0.2.1\nsource 192.0.2.2\n}": "source stands twice",
		"transfer {\nfrom *\n}":                                   `no option "from"`,
	} {
		_, err := chaintest.Build(t, ". {\n"+text+"\n}\n", chaintest.Options{Specs: specs()})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: error is %v, want %q", text, err, want)
		}
	}
}

// secondary counts the notifies it gets and answers with a code.
func secondary(t *testing.T, rcode int, seen *atomic.Int32) string {
	t.Helper()
	ready := make(chan string)
	s := &dns.Server{Addr: "127.0.0.1:0", Net: "udp", MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }}
	s.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		if m.Opcode == dns.OpcodeNotify && m.Question[0].Name == "example.org." && m.Question[0].Qtype == dns.TypeSOA {
			seen.Add(1)
		}
		if err := w.WriteMsg(new(dns.Msg).SetRcode(m, rcode)); err != nil {
			t.Error(err)
		}
	})
	s.NotifyStartedFunc = func() { ready <- s.PacketConn.LocalAddr().String() }
	done := make(chan error)
	go func() { done <- s.ListenAndServe() }()
	t.Cleanup(func() {
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return <-ready
}

func TestNotify(t *testing.T) {
	var good, bad atomic.Int32
	a, r := secondary(t, dns.RcodeSuccess, &good), secondary(t, dns.RcodeRefused, &bad)
	b := chaintest.New(t, "example.org {\ntransfer {\nto * "+a+" "+r+"\nsource 127.0.0.1\n}\n}\n", chaintest.Options{Specs: specs()})
	var notifier chain.Notifier
	b.Config.Blocks[0].Chain().Handlers(func(_ string, h chain.Handler) bool {
		notifier, _ = h.(chain.Notifier)
		return true
	})
	err := notifier.Notify(context.Background(), wire.MustName("example.org."))
	if err == nil || !strings.Contains(err.Error(), r+" did not accept the notify for example.org.: its answer is REFUSED") || strings.Contains(err.Error(), a) {
		t.Errorf("error is %v", err)
	}
	if good.Load() != 1 || bad.Load() != 3 {
		t.Errorf("the good secondary was told %d times, the bad one %d times", good.Load(), bad.Load())
	}
	if err := notifier.Notify(context.Background(), wire.MustName("elsewhere.test.")); err != nil {
		t.Errorf("a zone without secondaries: %v", err)
	}
}
