package searchpath_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/plugin/cache"
	"github.com/godwit-dns/godwit/plugin/searchpath"
	"github.com/godwit-dns/godwit/wire"
)

// truth is the world behind the server: what every name is, for A and for AAAA. It stands in the chains as a directive of
// its own and counts what it is asked.
type truth struct {
	names map[string][2]fact
	asked int
}

type fact uint8

const (
	nothing fact = iota // NXDOMAIN
	noRecord
	address
	alias // that leads nowhere
	failure
)

func (w *truth) fact(name string, t uint16) fact {
	f := w.names[strings.ToLower(name)]
	if t == dns.TypeAAAA {
		return f[1]
	}
	return f[0]
}

// direct is the world as a stub sees it without any server in between.
func (w *truth) direct(name string, t uint16) reply {
	switch w.fact(name, t) {
	case nothing:
		return reply{rcode: dns.RcodeNameError}
	case noRecord:
		return reply{}
	case alias:
		return reply{answers: 1}
	case failure:
		return reply{rcode: dns.RcodeServerFailure}
	}
	return reply{answers: 1, addrs: []string{addressOf(name, t)}}
}

// addressOf is the one address of a name: it tells which name an answer comes from.
func addressOf(name string, t uint16) string {
	var h uint32 = 2166136261
	for _, c := range []byte(strings.ToLower(name)) {
		h = (h ^ uint32(c)) * 16777619
	}
	if t == dns.TypeAAAA {
		return fmt.Sprintf("2001:db8::%x:%x", h>>16|1, h&0xFFFF|1)
	}
	return netip.AddrFrom4([4]byte{byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)}).String()
}

func (w *truth) spec() chain.Spec {
	return chain.Spec{Name: "truth", Usage: "truth", New: func(s *chain.Setup) error { s.Handler(w); return nil }}
}

var soa = &wire.SOA{MName: wire.MustName("ns."), RName: wire.MustName("h."), Minimum: 5}

// Serve answers as the world is.
func (w *truth) Serve(q *chain.Query) chain.Outcome {
	w.asked++
	name := q.Name().String()
	f := w.fact(name, uint16(q.Type))
	zone := wire.MustName(".")
	if strings.HasSuffix(name, ".cluster.local.") {
		zone = wire.MustName("cluster.local.")
	}
	switch f {
	case failure:
		return q.Fail(wire.ServFail, nil)
	case nothing:
		q.Reply.Begin(&q.Request, wire.NXDomain, 0)
		q.Reply.AppendSOA(wire.Authority, zone, 5, soa)
		return chain.Answered
	}
	q.Reply.Begin(&q.Request, wire.NoError, 0)
	switch f {
	case alias:
		q.Reply.AppendName(wire.Answer, q.Name(), wire.TypeCNAME, 30, wire.MustName("nowhere.invalid."))
	case address:
		data := netip.MustParseAddr(addressOf(name, uint16(q.Type))).AsSlice()
		q.Reply.Append(wire.Answer, q.Name(), q.Type, wire.ClassIN, 30, data)
	default:
		q.Reply.AppendSOA(wire.Authority, zone, 5, soa)
	}
	return chain.Answered
}

// pod is a client of the server, and who runs in it.
type pod struct {
	addr netip.AddrPort
	conf conf
}

// node is a server with its pods, over a world.
type node struct {
	*chaintest.Bench
	t     testing.TB
	asked int // by the pods
}

// lineFor gives the directive for a node with these pods.
func lineFor(t testing.TB, pods []pod) string {
	t.Helper()
	dir := t.TempDir()
	var m strings.Builder
	for i, p := range pods {
		var own []string
		for _, s := range p.conf.search[3:] {
			if s != "corp.example" {
				own = append(own, s)
			}
		}
		fmt.Fprintf(&m, `---
kind: Pod
metadata: {name: p%d, namespace: %s, uid: u%d}
spec: {dnsPolicy: ClusterFirst, dnsConfig: {searches: [%s], options: [{name: ndots, value: "%d"}]}}
status: {phase: Running, podIP: %s, startTime: "2020-01-01T00:00:00Z"}
`, i, strings.Split(p.conf.search[0], ".")[0], i, strings.Join(own, ", "), p.conf.ndots, p.addr.Addr())
	}
	for name, text := range map[string]string{"pods.yaml": m.String(), "resolv.conf": "search corp.example\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("searchpath {\n manifests %s/pods.yaml\n resolv_conf %s/resolv.conf\n}", dir, dir)
}

// newNode starts a server whose blocks have the given lines besides truth's.
func newNode(t *testing.T, w *truth, pods []pod, cluster, outside string) *node {
	line := strings.ReplaceAll(cluster, "searchpath", lineFor(t, pods))
	n := &node{t: t, Bench: chaintest.New(t, "cluster.local {\n"+line+"\ntruth\n}\n. {\n"+outside+"\ntruth\n}\n",
		chaintest.Options{Specs: []chain.Spec{searchpath.Spec, cache.Spec, w.spec()}})}
	n.Start()
	return n
}

// from gives a way to ask the server from a pod.
func (n *node) from(p pod) asker {
	return func(name string, t uint16) reply {
		n.asked++
		m := n.Do(chaintest.Query{Msg: new(dns.Msg).SetQuestion(name, t), Client: p.addr})
		r := reply{rcode: m.Rcode, answers: len(m.Answer)}
		owner := strings.ToLower(name)
		for _, rr := range m.Answer {
			if !strings.EqualFold(rr.Header().Name, owner) {
				n.t.Fatalf("%s: a record that belongs to nothing: %v", name, m.Answer)
			}
			switch rr := rr.(type) {
			case *dns.CNAME:
				owner = rr.Target
			case *dns.A:
				r.addrs = append(r.addrs, rr.A.String())
			case *dns.AAAA:
				r.addrs = append(r.addrs, rr.AAAA.String())
			}
		}
		return r
	}
}

func pods(r *rand.Rand) []pod {
	var list []pod
	for i := range 12 {
		ns := []string{"shop", "pay", "web"}[r.IntN(3)]
		c := conf{search: []string{ns + ".svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"}, ndots: []int{5, 5, 5, 1, 2, 3, 6}[r.IntN(7)]}
		for _, own := range []string{"one.example", "two"}[:r.IntN(3)] {
			c.search = append(c.search, own)
		}
		list = append(list, pod{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, 0, byte(i + 1)}), 40000), c})
	}
	return list
}

var bases = []string{"db", "api.pay", "www.example", "a.b.c", "a.b.c.d.e", "db.shop.svc.cluster.local", "db.pay.svc", "x.web", "pay", "nope"}

// shuffle changes what some names are. Whatever the suffix, a name may be anything.
func (w *truth) shuffle(r *rand.Rand, all []pod, part int) {
	for _, p := range all {
		for _, base := range append(bases, "fq", "fq.pay") {
			for _, s := range append([]string{""}, p.conf.search...) {
				if r.IntN(100) >= part {
					continue
				}
				name := strings.TrimSuffix(base+"."+s, ".") + "."
				w.names[name] = [2]fact{}
				if s != "" && r.IntN(10) < 7 {
					continue // as most names are
				}
				w.names[name] = [][2]fact{
					{nothing, nothing}, {nothing, nothing}, {nothing, nothing}, {nothing, nothing}, {nothing, nothing}, {nothing, nothing},
					{address, noRecord}, {address, address}, {noRecord, address}, {noRecord, noRecord}, {address, nothing}, {nothing, address},
					{address, alias}, {alias, alias}, {failure, failure}, {address, failure}, {failure, nothing},
				}[r.IntN(17)]
				// In the cluster's own zone NXDOMAIN to A is true for all types.
				if f := w.names[name]; strings.HasSuffix(name, ".cluster.local.") && f[0] == nothing {
					w.names[name] = [2]fact{}
				}
			}
		}
	}
}

// TestSameAnswersAsTheStubsOwnWalk: whoever asks, however the world is and changes, a program gets what it would have got
// by the walk of its own stub.
func TestSameAnswersAsTheStubsOwnWalk(t *testing.T) {
	stubs := map[string]func(string, []uint16, conf, asker) outcome{"glibc": glibc, "musl": musl, "go": golang}
	names := []string{"glibc", "musl", "go"}
	lookups, helped := 0, 0
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		w := &truth{names: map[string][2]fact{}}
		all := pods(r)
		w.shuffle(r, all, 100)
		n := newNode(t, w, all, "searchpath", "")
		for range 600 {
			p := all[r.IntN(4)] // few, so that walks are seen more than once
			stub, types := names[r.IntN(3)], [][]uint16{both, both, both, onlyV4, onlyV6}[r.IntN(5)]
			name := bases[r.IntN(len(bases))]
			switch r.IntN(10) {
			case 0: // spelled out
				name = []string{"fq", "fq.pay"}[r.IntN(2)] + "." + p.conf.search[0] + "."
			case 1:
				w.shuffle(r, all[:4], 5)
				n.Advance(2 * time.Second) // A and AAAA may share what is a second old
			case 2:
				n.Advance(time.Duration(r.IntN(40)) * time.Second)
			}
			if strings.HasSuffix(name, "."+p.conf.search[0]) && strings.Count(name, ".") >= p.conf.ndots {
				continue // a name in full, asked first as it is: the pod also walks for its short form, which nobody can tell apart
			}
			want := stubs[stub](name, types, p.conf, w.direct)
			alone := 0
			stubs[stub](name, types, p.conf, func(name string, t uint16) reply { alone++; return w.direct(name, t) })
			before := n.asked
			got := stubs[stub](name, types, p.conf, n.from(p))
			if !got.equal(want) {
				t.Fatalf("seed %d: %s %v of %s in %v (ndots %d):\ngot  %v\nwant %v", seed, stub, types, name, p.conf.search, p.conf.ndots, got, want)
			}
			lookups++
			if n.asked-before < alone {
				helped++
			}
		}
	}
	t.Logf("%d of %d lookups took fewer questions", helped, lookups)
	if helped < lookups/50 {
		t.Errorf("only %d of %d lookups took fewer questions: the comparison shows nothing", helped, lookups)
	}
}

// TestFewerQuestions counts what programs ask and what reaches the servers behind the node, for programs that look the
// same names up again and again, with and without the line, both with the node's cache.
func TestFewerQuestions(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	all := pods(r)
	for i := range all {
		all[i].conf.ndots = 5
	}
	count := func(cluster string) (asked, upstream int) {
		w := &truth{names: map[string][2]fact{"db.pay.svc.cluster.local.": {address, noRecord}}}
		var names []string
		for i := range 20 {
			name := fmt.Sprintf("host-%d.example.org", i)
			names = append(names, name)
			w.names[name+"."] = [2]fact{address, address}
		}
		n := newNode(t, w, all, cluster, "cache 30")
		for range 20 {
			for _, p := range all {
				for _, name := range append(names, "db.pay") {
					if o := glibc(name, both, p.conf, n.from(p)); len(o.addrs) == 0 {
						t.Fatalf("%s: %v", name, o)
					}
				}
			}
			n.Advance(7 * time.Second)
		}
		return n.asked, w.asked
	}
	asked, upstream := count("cache 30")
	lessAsked, lessUpstream := count("searchpath\ncache 30")
	t.Logf("%d lookups: pods ask %d, with the line %d; upstream hears %d, with the line %d", 20*12*21, asked, lessAsked, upstream, lessUpstream)
	if lessAsked*3 > asked {
		t.Errorf("pods ask %d with the line and %d without", lessAsked, asked)
	}
	if lessUpstream >= upstream {
		t.Errorf("upstream hears %d with the line and %d without", lessUpstream, upstream)
	}
}
