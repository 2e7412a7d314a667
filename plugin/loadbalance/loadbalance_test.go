package loadbalance

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// records answers with the records of a zone file fragment, those after "--" in the next section.
func records(text string, rcode int) chain.Spec {
	return chain.Spec{Name: "records", New: func(s *chain.Setup) error {
		s.Handler(answer(func(q *chain.Query) chain.Outcome {
			m, _ := q.Message()
			m.Response, m.Rcode = true, rcode
			sections := []*[]dns.RR{&m.Answer, &m.Ns, &m.Extra}
			for line := range strings.SplitSeq(text, "\n") {
				if line == "--" {
					sections = sections[1:]
					continue
				}
				rr, err := dns.NewRR(line)
				if err != nil {
					return q.Fail(wire.ServFail, err)
				}
				*sections[0] = append(*sections[0], rr)
			}
			if err := q.SetReplyMessage(m); err != nil {
				return q.Fail(wire.ServFail, err)
			}
			return chain.Answered
		}))
		return nil
	}}
}

type answer func(q *chain.Query) chain.Outcome

func (a answer) Serve(q *chain.Query) chain.Outcome { return a(q) }

// order gives the data of a reply's records in their order.
func order(m *dns.Msg) string {
	var b strings.Builder
	for i, s := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		if i > 0 && len(s) > 0 {
			b.WriteString("|")
		}
		for _, rr := range s {
			if rr.Header().Rrtype != dns.TypeOPT {
				b.WriteString(" " + strings.TrimPrefix(rr.String(), rr.Header().String()))
			}
		}
	}
	return strings.TrimSpace(b.String())
}

func bench(t testing.TB, line, zone string, rcode int, files fstest.MapFS) *chaintest.Bench {
	opt := chaintest.Options{Specs: []chain.Spec{Spec, records(zone, rcode)}}
	if files != nil {
		opt.Files = files
	}
	return chaintest.New(t, ". {\n"+line+"\nrecords\n}", opt)
}

// seen asks n times and counts the orders.
func seen(b *chaintest.Bench, qtype uint16, n int) map[string]int {
	all := map[string]int{}
	for range n {
		all[order(b.Ask("a.test.", qtype))]++
	}
	return all
}

func TestRoundRobinGivesEveryOrder(t *testing.T) {
	b := bench(t, "loadbalance", "a.test. 5 A 10.0.0.1\na.test. 5 A 10.0.0.2\na.test. 5 A 10.0.0.3", 0, nil)
	const n = 1800
	got := seen(b, dns.TypeA, n)
	if len(got) != 6 {
		t.Fatalf("%d orders, want 6: %v", len(got), got)
	}
	for o, c := range got {
		if math.Abs(float64(c)-n/6) > 5*math.Sqrt(n/6) {
			t.Errorf("%s came %d times of %d", o, c, n)
		}
	}
}

func TestRoundRobinGroups(t *testing.T) {
	zone := `a.test. 5 MX 10 m1.
a.test. 5 A 10.0.0.1
a.test. 5 TXT x
a.test. 5 CNAME b.test.
a.test. 5 MX 10 m2.
b.test. 5 AAAA ::1
--
test. 5 NS n1.
test. 5 NS n2.
--
n1. 5 A 10.1.0.1
n1. 5 A 10.1.0.2`
	got := seen(bench(t, "loadbalance round_robin", zone, 0, nil), dns.TypeA, 300)
	if len(got) != 8 { // addresses, mail exchangers, additional addresses
		t.Errorf("%d orders, want 8", len(got))
	}
	for o := range got {
		if !strings.HasPrefix(o, `b.test. "x" `) || !strings.Contains(o, "| n1. n2.|") {
			t.Errorf("order %s", o)
		}
	}
}

func TestLeftAlone(t *testing.T) {
	zone := "a.test. 5 A 10.0.0.1\na.test. 5 A 10.0.0.2"
	if got := seen(bench(t, "loadbalance", zone, dns.RcodeNameError, nil), dns.TypeA, 50); len(got) != 1 {
		t.Errorf("NXDOMAIN was shuffled: %v", got)
	}
	if got := seen(bench(t, "loadbalance", zone, 0, nil), dns.TypeAXFR, 50); len(got) != 1 {
		t.Errorf("a transfer was shuffled: %v", got)
	}
	if got := seen(bench(t, "loadbalance weighted w", zone, 0, fstest.MapFS{"w": {}}), dns.TypeANY, 50); len(got) != 1 {
		t.Errorf("weights were heeded for ANY: %v", got)
	}
}

func TestPrefer(t *testing.T) {
	zone := "a.test. 5 TXT x\na.test. 5 A 10.0.0.1\na.test. 5 A 192.0.2.1\na.test. 5 AAAA 2001:db8::1\na.test. 5 A 10.0.0.2\na.test. 5 CNAME b."
	got := seen(bench(t, "loadbalance {\nprefer 2001:db8::/32 ::ffff:192.0.2.0/120\n}", zone, 0, nil), dns.TypeA, 100)
	want := map[string]bool{`b. 2001:db8::1 192.0.2.1 10.0.0.1 10.0.0.2 "x"`: true, `b. 2001:db8::1 192.0.2.1 10.0.0.2 10.0.0.1 "x"`: true}
	for o := range got {
		if !want[o] {
			t.Errorf("order %s", o)
		}
	}
	if len(got) != 2 {
		t.Errorf("%d orders, want 2", len(got))
	}
}

func TestWeights(t *testing.T) {
	files := fstest.MapFS{"etc/w": {Data: []byte("# weights\n\nA.test\n10.0.0.1 1\n10.0.0.2 7\nother.test.\n 10.0.0.3 200\n")}}
	b := bench(t, "loadbalance weighted etc/w {\nreload 10s\n}", "a.test. 5 CNAME a.test.\na.test. 5 A 10.0.0.1\na.test. 5 A 10.0.0.2\na.test. 5 A 10.0.0.3", 0, files)
	b.Start()
	const n = 1800
	first := func() map[string]int {
		all := map[string]int{}
		for o, c := range seen(b, dns.TypeA, n) {
			all[strings.Fields(o)[1]] += c
		}
		return all
	}
	check := func(want map[string]int) {
		t.Helper()
		got := first()
		for a, w := range want {
			if math.Abs(float64(got[a]-w)) > 5*math.Sqrt(float64(w)) {
				t.Errorf("%s was first %d times of %d, want about %d", a, got[a], n, w)
			}
		}
	}
	check(map[string]int{"10.0.0.1": n / 9, "10.0.0.2": n / 9 * 7, "10.0.0.3": n / 9})
	files["etc/w"] = &fstest.MapFile{Data: []byte("a.test\n10.0.0.3 x")}
	passes(b, "the complaint", func() bool { return strings.Contains(b.Log.String(), `etc/w:2: the weight`) })
	check(map[string]int{"10.0.0.2": n / 9 * 7})
	files["etc/w"] = &fstest.MapFile{Data: []byte("a.test\n10.0.0.3 2\na.test.\n10.0.0.1 6")}
	passes(b, "the new weights", func() bool { return strings.Count(b.Log.String(), "Successfully reloaded") == 2 })
	check(map[string]int{"10.0.0.1": n / 9 * 6, "10.0.0.2": n / 9, "10.0.0.3": n / 9 * 2})
}

func TestWeightFileComesLate(t *testing.T) {
	files := fstest.MapFS{}
	b := bench(t, "loadbalance weighted w", "a.test. 5 A 10.0.0.1\na.test. 5 A 10.0.0.2", 0, files)
	b.Start()
	if got := seen(b, dns.TypeA, 100); len(got) != 2 {
		t.Errorf("%d orders without a file, want 2", len(got))
	}
	b = bench(t, "loadbalance weighted w {\nreload 0s\n}", "a.test. 5 A 10.0.0.1", 0, files)
	if err := b.Config.Starts[0](t.Context()); err == nil {
		t.Error("a missing file that will not be looked for is accepted")
	}
	files["w"] = &fstest.MapFile{Data: []byte("a b c")}
	b = bench(t, "loadbalance weighted w", "a.test. 5 A 10.0.0.1", 0, files)
	if err := b.Config.Starts[0](t.Context()); err == nil {
		t.Error("a file with a mistake is accepted")
	}
}

func TestWeightFileMistakes(t *testing.T) {
	for _, text := range []string{"10.0.0.1", "10.0.0.1 5", "a\n10.0.0.1 0", "a\n10.0.0.1 256", "a\nb 5", "a\nfe80::1%eth0 5", "a b c", "a..b"} {
		if _, err := parse("w", []byte(text)); err == nil {
			t.Errorf("accepted: %q", text)
		}
	}
}

// passes lets time pass until ok.
func passes(b *chaintest.Bench, what string, ok func() bool) {
	b.Until(what, func() bool {
		b.Advance(time.Second)
		return ok()
	})
}

func TestRefused(t *testing.T) {
	opt := chaintest.Options{Specs: []chain.Spec{Spec}}
	for _, text := range []string{"loadbalance random", "loadbalance round_robin x", "loadbalance weighted", "loadbalance weighted a b",
		"loadbalance weighted a {\nprefer 10.0.0.0/8\n}", "loadbalance {\nreload 5s\n}", "loadbalance weighted a {\nreload\n}",
		"loadbalance weighted a {\nreload 5\n}", "loadbalance {\nprefer 10.0.0.1\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
	chaintest.New(t, ". {\nloadbalance {\nprefer\n}\nloadbalance\n}", opt)
}

func TestNoAllocation(t *testing.T) {
	for _, c := range []struct {
		name, line string
		make       func(q *chain.Query)
	}{
		{"A", "loadbalance", func(q *chain.Query) {
			q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 5, []byte("0123456789abcdef"), 4)
		}},
		{"AAAA", "loadbalance", func(q *chain.Query) {
			q.Reply.AppendOwnData(wire.Answer, wire.TypeAAAA, 5, make([]byte, 160), 16)
		}},
		{"behind a CNAME", "loadbalance {\nprefer 10.0.0.0/8\n}", func(q *chain.Query) {
			target := wire.Name("\x04host\x04test\x00")
			q.Reply.AppendName(wire.Answer, q.Name(), wire.TypeCNAME, 5, target)
			for i := range 5 {
				q.Reply.Append(wire.Answer, target, wire.TypeA, wire.ClassIN, 5, []byte{10, 0, 0, byte(i)})
			}
		}},
		{"weighted", "loadbalance weighted w", func(q *chain.Query) {
			q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 5, []byte("0123456789abcdef"), 4)
		}},
		{"mixed", "loadbalance", func(q *chain.Query) {
			q.Reply.Append(wire.Answer, q.Name(), wire.TypeAAAA, wire.ClassIN, 5, make([]byte, 16))
			q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 5, []byte("0123456789abcdef"), 4)
		}},
	} {
		b := bench(t, c.line, "a.test. 5 A 10.0.0.1", 0, fstest.MapFS{"w": {}})
		var lb *LoadBalance
		for _, h := range b.Config.Blocks[0].Chain().Handlers {
			if h, ok := h.(*LoadBalance); ok {
				lb = h
			}
		}
		q := b.Worker.Get()
		packet, _ := new(dns.Msg).SetQuestion("a.test.", dns.TypeA).Pack()
		q.Parse(packet)
		one := func() {
			q.Reply.Begin(&q.Request, wire.NoError, 0)
			c.make(q)
			if out := lb.Reply(q, chain.Answered); out != chain.Answered {
				t.Fatal(out)
			}
		}
		one()
		if n := testing.AllocsPerRun(100, one); n > 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

func BenchmarkFourAddresses(b *testing.B) {
	bb := bench(b, "loadbalance", "a.test. 5 A 10.0.0.1", 0, nil)
	lb := &LoadBalance{scratch: make([]scratch, 1)}
	q := bb.Worker.Get()
	packet, _ := new(dns.Msg).SetQuestion("a.test.", dns.TypeA).Pack()
	q.Parse(packet)
	q.Reply.Begin(&q.Request, wire.NoError, 0)
	q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 5, []byte("0123456789abcdef"), 4)
	for b.Loop() {
		lb.Reply(q, chain.Answered)
	}
	if q.Reply.Count(wire.Answer) != 4 {
		b.Fatal(fmt.Sprint(q.Reply.Bytes()))
	}
}

// TestEveryAddressIsSent: of an answer that has to be cut each address comes as often as the others, at every place.
func TestEveryAddressIsSent(t *testing.T) {
	b := bench(t, "loadbalance", "a.test. 5 A 10.0.0.1", 0, nil)
	lb := &LoadBalance{scratch: make([]scratch, 1)}
	q := b.Worker.Get()
	packet, _ := new(dns.Msg).SetQuestion("a.test.", dns.TypeA).Pack()
	q.Parse(packet)
	q.Proto = chain.UDP
	const addresses, rounds = 64, 20000
	data := make([]byte, 4*addresses)
	for i := range addresses {
		data[4*i+3] = byte(i)
	}
	var fitter wire.Fitter
	var out []byte
	sent := 0
	var first, any [addresses]int
	for range rounds {
		q.Reply.Begin(&q.Request, wire.NoError, 0)
		q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 5, data, 4)
		lb.Reply(q, chain.Answered)
		var seen [addresses]bool
		for i, list := 0, q.Reply.Bytes()[len(packet):]; i < addresses; i++ {
			if x := list[16*i+15]; seen[x] {
				t.Fatalf("%d twice", x)
			} else {
				seen[x] = true
			}
		}
		out = fitter.Append(out[:0], &q.Reply, &q.Request, q.Limit(), 0)
		sent = int(out[7])
		first[out[len(packet)+15]]++
		for i := range sent {
			any[out[len(packet)+16*i+15]]++
		}
	}
	if sent == 0 || sent >= addresses || out[2]&2 == 0 {
		t.Fatalf("%d addresses sent of %d", sent, addresses)
	}
	for i := range addresses {
		fair(t, fmt.Sprintf("%d is first", i), first[i], rounds, 1.0/addresses)
		fair(t, fmt.Sprintf("%d is sent", i), any[i], rounds, float64(sent)/addresses)
	}
}

// fair allows five standard deviations.
func fair(t *testing.T, what string, got, n int, p float64) {
	t.Helper()
	if want := float64(n) * p; math.Abs(float64(got)-want) > 5*math.Sqrt(want*(1-p)) {
		t.Errorf("%s %d times of %d, want about %.0f", what, got, n, want)
	}
}
