package log

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var answers = chain.Spec{Name: "answers", New: func(s *chain.Setup) error {
	s.Provide("answers/colour", func(q *chain.Query) string { return "blue" })
	s.Handler(answer{})
	return nil
}}

var meta = chain.Spec{Name: "metadata", New: func(s *chain.Setup) error {
	s.Block.HasMetadata, s.Block.MetadataZones = true, []wire.Name{wire.MustName("nodata."), wire.MustName("x.")}
	return nil
}}

// answer does what the first label says.
type answer struct{}

func (answer) Serve(q *chain.Query) chain.Outcome {
	soa := &wire.SOA{MName: wire.Root, RName: wire.Root}
	switch string(q.Name().Label()) {
	case "refused":
		return q.Fail(wire.Refused, nil)
	case "dropped":
		return chain.Dropped
	case "nx":
		q.Reply.Begin(&q.Request, wire.NXDomain, wire.FlagAA)
		q.Reply.AppendSOA(wire.Authority, wire.Root, 5, soa)
	case "nodata":
		q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA|wire.FlagRA)
		q.Reply.AppendSOA(wire.Authority, wire.Root, 5, soa)
	case "delegation":
		q.Reply.Begin(&q.Request, wire.NoError, 0)
		q.Reply.AppendName(wire.Authority, q.Name().Parent(), wire.TypeNS, 5, wire.Root)
	case "large":
		q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
		q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 5, make([]byte, 4*100), 4)
	default:
		q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
		q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 5, []byte{1, 2, 3, 4}, 4)
	}
	return chain.Answered
}

func bench(t testing.TB, lines string) *chaintest.Bench {
	return chaintest.New(t, ". {\n"+lines+"\nanswers\n}", chaintest.Options{Specs: []chain.Spec{meta, Spec, answers}})
}

func query(name string, edns uint16, do bool) chaintest.Query {
	m := new(dns.Msg).SetQuestion(name, dns.TypeA)
	m.Id = 4711
	if edns > 0 {
		m.SetEdns0(edns, do)
	}
	return chaintest.Query{Msg: m}
}

func TestCommonFormat(t *testing.T) {
	b := bench(t, "log")
	x := query("Www.Example.ORG.", 0, false)
	b.Do(x)
	b.Do(query("nx.a\\032b.", 1400, true))
	b.Do(query("refused.", 0, false))
	b.Do(query("dropped.", 0, false))
	b.Do(query("large.", 0, false))
	x = query("nodata.", 4096, false)
	x.Client, x.Proto = netip.MustParseAddrPort("[2001:db8::1]:53001"), chain.TCP
	b.Do(x)
	want := []string{
		`[INFO] 10.240.0.1:40212 - 4711 "A IN www.example.org. udp 33 false 512" NOERROR qr,aa,rd 64`,
		`[INFO] 10.240.0.1:40212 - 4711 "A IN nx.a\ b. udp 35 true 1400" NXDOMAIN qr,aa,rd 57`,
		`[INFO] 10.240.0.1:40212 - 4711 "A IN refused. udp 25 false 512" REFUSED qr,rd 25`,
		`[INFO] 10.240.0.1:40212 - 4711 "A IN dropped. udp 25 false 512" - - 0`,
		`[INFO] 10.240.0.1:40212 - 4711 "A IN large. udp 23 false 512" NOERROR qr,aa,tc,rd 2123`,
		`[INFO] [2001:db8::1]:53001 - 4711 "A IN nodata. tcp 35 false 65535" NOERROR qr,aa,rd,ra 57`,
	}
	got := strings.Split(strings.TrimSpace(b.Log.String()), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), b.Log)
	}
	duration := regexp.MustCompile(` [0-9.]+s$`)
	for i := range want {
		if !duration.MatchString(got[i]) || duration.ReplaceAllString(got[i], "") != want[i] {
			t.Errorf("got  %s\nwant %s 0s", got[i], want[i])
		}
	}
}

func TestFormats(t *testing.T) {
	for _, c := range []struct{ line, name, want string }{
		{`log . "{type}{nothing} } { {local} {>opcode}"`, "a.", "A{nothing} } { 127.0.0.1 0"},
		{`log . "{/answers/colour} {/log/type} {/log/class}"`, "a.", "- - -"},
		{"metadata\n" + `log . "{/answers/colour} {/answers/size} {/log/type} {/log/class}"`, "nodata.", "blue - NODATA denial"},
		{"metadata\n" + `log . "{/answers/colour} {/log/type}"`, "nodata.y.", "- NODATA"},
		{"metadata\n" + `log . "{/log/type}"`, "delegation.x.", "DELEGATION"},
		{"log x. \"first {name}\"\nlog . \"second {name}\"", "a.x.", "first a.x."},
		{"log x. \"first {name}\"\nlog . \"second {name}\"", "a.xx.", "second a.xx."},
		{"log y X {\nclass error\n}\nlog", "a.x.", ""},
		{"log x", "a.y.", ""},
	} {
		b := bench(t, c.line)
		b.Do(query(c.name, 0, false))
		want := c.want
		if want != "" {
			want = "[INFO] " + want + "\n"
		}
		if got := b.Log.String(); got != want {
			t.Errorf("%s: got %q, want %q", c.line, got, want)
		}
	}
}

func TestClasses(t *testing.T) {
	for class, logged := range map[string]string{
		"success": "a delegation", "denial": "nx nodata", "error": "refused dropped", "all": "a delegation nx nodata refused dropped",
		"denial error": "nx nodata refused dropped", "success\nclass denial": "a delegation nx nodata",
	} {
		b := bench(t, "log . {name} {\nclass "+class+"\n}")
		for _, name := range strings.Fields("a delegation nx nodata refused dropped") {
			b.Do(query(name+".", 0, false))
		}
		if got := strings.NewReplacer("[INFO] ", "", ".\n", " ").Replace(b.Log.String()); strings.TrimSpace(got) != logged {
			t.Errorf("class %s logs %q, want %q", class, got, logged)
		}
	}
}

func TestRefused(t *testing.T) {
	opt := chaintest.Options{Specs: []chain.Spec{Spec}}
	for _, text := range []string{"log {\nclass\n}", "log {\nclass nothing\n}", "log {\nklass all\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
	if b := chaintest.New(t, ". {\nlog {common}\n}", opt); len(b.Config.Warnings) != 1 {
		t.Errorf("%d warnings for a format without a name, want 1", len(b.Config.Warnings))
	}
}

func TestNoAllocation(t *testing.T) {
	b := bench(t, "log")
	b.Env.Print = func(int, []byte) {}
	packet, _ := query("www.example.org.", 1232, true).Msg.Pack()
	q := b.Worker.Get()
	q.Parse(packet)
	q.Client = netip.MustParseAddrPort("10.0.0.1:1")
	out := answer{}.Serve(q)
	var l *Log
	for name, h := range b.Config.Blocks[0].Chain().Handlers {
		if name == "log" {
			l = h.(*Log)
		}
	}
	l.Reply(q, out)
	if n := testing.AllocsPerRun(100, func() { l.Reply(q, out) }); n > 0 {
		t.Errorf("%v allocations for a line", n)
	}
}

func BenchmarkLine(b *testing.B) {
	bb := bench(b, "log")
	bb.Env.Print = func(int, []byte) {}
	packet, _ := query("www.example.org.", 1232, true).Msg.Pack()
	q := bb.Worker.Get()
	q.Parse(packet)
	q.Client = netip.MustParseAddrPort("10.0.0.1:1")
	out := answer{}.Serve(q)
	var l *Log
	for _, h := range bb.Config.Blocks[0].Chain().Handlers {
		if h, ok := h.(*Log); ok {
			l = h
		}
	}
	for b.Loop() {
		l.Reply(q, out)
	}
}
