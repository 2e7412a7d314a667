package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// packed is a reply to a.test. A with records.
func packed(t *testing.T, change func(m *dns.Msg), records ...string) reply {
	t.Helper()
	m := new(dns.Msg).SetQuestion("a.test.", dns.TypeA)
	m.Response = true
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	if change != nil {
		change(m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return reply{messages: [][]byte{b}}
}

func TestEveryDifferenceIsSeen(t *testing.T) {
	one, two := "a.test. 60 IN A 192.0.2.1", "a.test. 60 IN A 192.0.2.2"
	base := packed(t, nil, one, two)
	for name, other := range map[string]reply{
		"flags":      packed(t, func(m *dns.Msg) { m.Authoritative = true }, one, two),
		"tc":         packed(t, func(m *dns.Msg) { m.Truncated = true }, one, two),
		"code":       packed(t, func(m *dns.Msg) { m.Rcode = dns.RcodeNameError }, one, two),
		"opcode":     packed(t, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }, one, two),
		"spelling":   packed(t, func(m *dns.Msg) { m.Question[0].Name = "A.test." }, one, two),
		"owner":      packed(t, nil, "A.test. 60 IN A 192.0.2.1", two),
		"ttl":        packed(t, nil, "a.test. 61 IN A 192.0.2.1", two),
		"data":       packed(t, nil, one, "a.test. 60 IN A 192.0.2.3"),
		"twice":      packed(t, nil, one, one),
		"one less":   packed(t, nil, one),
		"section":    packed(t, func(m *dns.Msg) { m.Answer, m.Extra = m.Answer[:1], m.Answer[1:] }, one, two),
		"opt":        packed(t, func(m *dns.Msg) { m.SetEdns0(1232, false) }, one, two),
		"no reply":   {},
		"closed":     {closed: true},
		"no message": {messages: [][]byte{{0, 1, 2}}},
	} {
		var n norm
		if n.differ(pair[reply]{base, other}) == "" || n.differ(pair[reply]{other, base}) == "" {
			t.Errorf("%s: no difference was seen", name)
		}
		if n.differ(pair[reply]{other, other}) != "" {
			t.Errorf("%s: differs from itself", name)
		}
	}
}

func TestOnlyWhatIsWrittenIsMadeAlike(t *testing.T) {
	one, two := "a.test. 60 IN A 192.0.2.1", "a.test. 60 IN A 192.0.2.2"
	soa := func(serial string) reply {
		return packed(t, nil, "a.test. 60 IN SOA ns.dns.a.test. h.a.test. "+serial+" 1 1 1 1")
	}
	var plain norm
	if text := plain.differ(pair[reply]{packed(t, nil, one, two), packed(t, func(m *dns.Msg) { m.Id = 7 }, two, one)}); text != "" {
		t.Errorf("order and ID differ:\n%s", text)
	}
	if plain.differ(pair[reply]{soa("1"), soa("2")}) == "" {
		t.Error("a serial is compared outside of kubernetes")
	}
	cluster := norm{kubernetes: true}
	if text := cluster.differ(pair[reply]{soa("1"), soa("2")}); text != "" {
		t.Errorf("serials of kubernetes:\n%s", text)
	}
	running := norm{running: true}
	for ttl, alike := range map[string]bool{"59": true, "61": true, "58": false} {
		other := packed(t, nil, strings.Replace(one, " 60 ", " "+ttl+" ", 1), two)
		if got := running.differ(pair[reply]{packed(t, nil, one, two), other}) == ""; got != alike {
			t.Errorf("a running TTL of %s against 60: alike is %v", ttl, got)
		}
	}
	if text := plain.differ(pair[reply]{packed(t, nil, one), packed(t, nil, strings.ToUpper(one))}); !strings.HasPrefix(text, onlyCase) {
		t.Errorf("not marked as a difference of letters alone:\n%s", text)
	}
}

func TestRulesMultiply(t *testing.T) {
	asks, err := questions("{a,b}{1..2}.test ; A AAAA ; udp tcp+do+size=700")
	if err != nil || len(asks) != 16 {
		t.Fatalf("%d questions, %v", len(asks), err)
	}
	var m dns.Msg
	last := asks[len(asks)-1]
	if err := m.Unpack(last.packet); err != nil {
		t.Fatal(err)
	}
	opt := m.IsEdns0()
	if last.proto != "tcp" || m.Question[0].Name != "b2.test." || m.Question[0].Qtype != dns.TypeAAAA || !opt.Do() || opt.UDPSize() != 700 {
		t.Errorf("%s: %v", last.what, &m)
	}
	for _, wrong := range []string{"a.test ; NOTYPE ; udp", "a.test ; A ; sctp", "a.test ; A ; udp+nothing", "a ; A ; udp ; x"} {
		if _, err := questions(wrong); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

func TestCasesAreRead(t *testing.T) {
	files := fstest.MapFS{"more.script": {Data: []byte("b.test ; A\n")}}
	c, err := parseCase(files, "x", []byte("x\n-- Corefile --\n.:53 {\n cache\n}\n-- script --\nset wait 3s\na.test ; A\nfuzz 5 1 a.test A udp\ninclude more.script\nmix 7 1 a.test\n"+
		"-- loads --\ncache \\n errors\n"))
	if err != nil {
		t.Fatal(err)
	}
	var verbs []string
	for _, s := range c.steps {
		verbs = append(verbs, s.verb)
	}
	if !slices.Equal(verbs, []string{"ask", "fuzz", "ask", "mix"}) || c.wait != 3*time.Second || !c.running || len(c.loads) != 1 {
		t.Errorf("%v %v %v %v", verbs, c.wait, c.running, c.loads)
	}
	for _, wrong := range []string{"", "-- Corefile --\n", "-- script --\na ; A\n", "-- Corefile --\n-- script --\nnothing\n", "-- Corefile --\n-- script --\nwait\n"} {
		if _, err := parseCase(files, "x", []byte(wrong)); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

func TestAllCasesParse(t *testing.T) {
	cases, err := readCases("cases", "*")
	if err != nil {
		t.Fatal(err)
	}
	asked, corefiles := 0, 0
	for _, c := range cases {
		corefiles += len(c.loads)
		if len(c.steps) > 0 {
			corefiles++
		}
		for _, s := range c.steps {
			asked += len(s.asks)
		}
	}
	if asked < 5000 || corefiles < 60 {
		t.Errorf("%d questions over %d Corefiles: fewer than 5000 over 60", asked, corefiles)
	}
	if _, err := readKnown("known.txt", "../../docs/compat.md"); err != nil {
		t.Error(err)
	}
}

func TestKnownRowsNeedTheirRow(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	table := write("compat.md", "| X1 | what |\n")
	list, err := readKnown(write("known.txt", "# a comment\nca* | ^a\\.test A | X1 | why\n* | never | X1? | why\n* | never either | X1 | why\n"), table)
	if err != nil {
		t.Fatal(err)
	}
	d := difference{what: "a.test A udp"}
	if list.find("cache", d) == nil || list.find("file", d) != nil || list.find("cache", difference{what: "b.test"}) != nil {
		t.Error("rows match by case and pattern")
	}
	if left := list.unused(); len(left) != 1 || left[0].line != 4 {
		t.Errorf("unused: %v", left)
	}
	for _, wrong := range []string{"* | x | X2 | why\n", "* | ( | X1 | why\n", "* | x | X1\n"} {
		if _, err := readKnown(write("known.txt", wrong), table); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}

func TestMetricsAreReduced(t *testing.T) {
	got := exported(`# HELP coredns_x_total Text.
# TYPE coredns_x_total counter
coredns_x_total{zone=".",a="b"} 3
# TYPE coredns_t_seconds histogram
coredns_t_seconds_bucket{le="1"} 2
coredns_t_seconds_sum 0.5
coredns_t_seconds_count 2
# TYPE coredns_g gauge
coredns_g{v="1"} 9
# TYPE go_threads gauge
go_threads 5
`)
	want := []string{"type coredns_x_total counter", "labels coredns_x_total a,zone", "sample coredns_x_total{a=b,zone=.} 3",
		"type coredns_t_seconds histogram", "labels coredns_t_seconds_bucket le", "labels coredns_t_seconds_sum ", "labels coredns_t_seconds_count ",
		"sample coredns_t_seconds_count{} 2", "type coredns_g gauge", "labels coredns_g v", "sample coredns_g{v=1}", "type go_threads gauge", "labels go_threads "}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// Both servers' parts are played by one upstream each: what they answer comes back, over UDP, TCP and TLS.
func TestUpstreamsAreAsked(t *testing.T) {
	var to pair[netip.AddrPort]
	var up pair[*upstream]
	for i := range up {
		u, err := startUpstream("UP")
		if err != nil {
			t.Fatal(err)
		}
		defer u.close()
		up[i], to[i] = u, netip.MustParseAddrPort("127.0.0.1:"+u.port())
	}
	for _, rule := range []string{"many-3.test nx.test cname-2.test odd-name.test ; A TXT ; udp tcp udp+do", "tc.test ; A ; udp tcp"} {
		asks, err := questions(rule)
		if err != nil {
			t.Fatal(err)
		}
		for i := range asks {
			got, err := ask(&asks[i], to, uint16(i+1), time.Second)
			if err != nil || len(got[0].messages) != 1 || len(got[1].messages) != 1 {
				t.Fatalf("%s: %v %v", asks[i].what, got, err)
			}
			var n norm
			if text := n.differ(got); text != "" {
				t.Errorf("%s\n%s", asks[i].what, text)
			}
		}
	}
	if a, b := up[0].take(), up[1].take(); len(a) != 26 || !slices.Equal(a, b) || len(up[0].take()) != 0 {
		t.Errorf("seen %d and %d questions", len(a), len(b))
	}
}

func TestUpstreamsHoldUntilTheyMayAnswer(t *testing.T) {
	u, err := startUpstream("UP")
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	c, err := dns.Dial("udp", "127.0.0.1:"+u.port())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 { // one that is asked again is held once
		if err := c.WriteMsg(new(dns.Msg).SetQuestion("hold-0.test.", dns.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	if !eventually(func() bool { return u.holds() == 1 }) {
		t.Fatalf("%d names are held", u.holds())
	}
	u.release()
	c.SetReadDeadline(time.Now().Add(patience))
	if m, err := c.ReadMsg(); err != nil || len(m.Answer) != 1 || m.Answer[0].Header().Name != "hold-0.test." {
		t.Errorf("%v %v", m, err)
	}
}

func TestTheClusterIsServed(t *testing.T) {
	manifests, err := os.ReadFile("cases/kubernetes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	a, err := startAPI()
	if err != nil {
		t.Fatal(err)
	}
	defer a.close()
	if err := a.apply(manifests); err != nil {
		t.Fatal(err)
	}
	services := 0
	for _, o := range a.objects {
		if o.kind == "Service" && o.proto != nil && o.namespace != "" {
			services++
		}
	}
	if services < 20 {
		t.Errorf("%d Services", services)
	}
	if a.remove([]byte("{apiVersion: v1, kind: Service, metadata: {name: none, namespace: default}}")) == nil {
		t.Error("what is not there cannot be removed")
	}
}
