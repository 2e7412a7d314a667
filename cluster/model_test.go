package cluster

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/godwit-dns/godwit/wire"
)

// The model answers from plain objects, the slow and obvious way; the store has to agree with it after any history.

type modelPort struct {
	name, protocol string
	port           int32
}

type modelEndpoint struct{ addr, hostname, zone string }

type modelSlice struct {
	service   string
	ports     []modelPort
	endpoints []modelEndpoint
}

type modelService struct {
	kind  Kind
	ips   []string
	ports []modelPort
}

type model struct {
	services map[string]modelService
	slices   map[string]modelSlice
}

func dashedName(addr string) string {
	s := strings.NewReplacer(".", "-", ":", "-").Replace(addr)
	if strings.HasSuffix(s, "-") {
		s += "0"
	}
	return s
}

type modelRecord struct {
	host string // the endpoint's name; empty for the Service's own
	addr string
	port int32
}

func portsOr(ports []modelPort) []modelPort {
	if len(ports) == 0 {
		return []modelPort{{port: -1}}
	}
	return ports
}

// find gives all pairs of address and port that a question means, with repetitions, and whether the name exists.
func (m *model) find(service, endpoint, port, protocol, zone string, prefer bool) (list []modelRecord, ok bool) {
	s, exists := m.services[service]
	if !exists || (zone != "" && s.kind != Headless) {
		return nil, false
	}
	means := func(p modelPort) bool {
		return (port == "" || strings.EqualFold(p.name, port)) && (protocol == "" || strings.EqualFold(p.protocol, protocol))
	}
	if s.kind == ClusterIP && endpoint == "" {
		for _, p := range portsOr(s.ports) {
			if means(p) {
				ok = true
				for _, ip := range s.ips {
					list = append(list, modelRecord{"", ip, p.port})
				}
			}
		}
		return list, ok
	}
	collect := func(zone string) {
		for _, sl := range m.slices {
			if sl.service != service {
				continue
			}
			for _, e := range sl.endpoints {
				host := e.hostname
				if host == "" {
					host = dashedName(e.addr)
				}
				if (zone != "" && e.zone != zone) || (endpoint != "" && !strings.EqualFold(host, endpoint)) {
					continue
				}
				for _, p := range portsOr(sl.ports) {
					if means(p) {
						list = append(list, modelRecord{host, e.addr, p.port})
					}
				}
			}
		}
	}
	collect(zone)
	if len(list) == 0 && prefer {
		collect("")
	}
	return list, len(list) > 0 || zone != ""
}

// answers are what a question gets, as sorted text.
func answers(list []modelRecord, service string) (a, aaaa, srv, glue []string) {
	seenA, seenS, seenG := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, r := range list {
		if strings.Contains(r.addr, ":") {
			seenA["6 "+r.addr] = true
		} else {
			seenA["4 "+r.addr] = true
		}
		if r.port == -1 {
			continue
		}
		target := service + ".ns.svc.cluster.local."
		if r.host != "" {
			target = r.host + "." + target
		}
		seenS[fmt.Sprintf("%d %d %s", Weight(len(list)), r.port, target)] = true
		seenG[target+" "+r.addr] = true
	}
	for k := range seenA {
		if k[0] == '4' {
			a = append(a, k[2:])
		} else {
			aaaa = append(aaaa, k[2:])
		}
	}
	slices.Sort(a)
	slices.Sort(aaaa)
	return a, aaaa, slices.Sorted(maps.Keys(seenS)), slices.Sorted(maps.Keys(seenG))
}

// got reads what the record answers, in the same form.
func got(t *testing.T, set *Set) (a, aaaa, srv, glue []string) {
	t.Helper()
	var buf []byte
	data, buf := set.Addresses(false, buf)
	for ; len(data) > 0; data = data[4:] {
		a = append(a, netip.AddrFrom4([4]byte(data)).String())
	}
	data, _ = set.Addresses(true, buf)
	for ; len(data) > 0; data = data[16:] {
		aaaa = append(aaaa, netip.AddrFrom16([16]byte(data)).String())
	}
	var q wire.Request
	q.SetQuestion(wire.MustName("q.cluster.local."), wire.TypeSRV)
	var m wire.Reply
	m.Begin(&q, wire.NoError, 0)
	set.AppendSRV(&m, q.Name(), wire.MustName("cluster.local."), 5)
	var c wire.Cursor
	var r wire.Record
	if err := c.Open(m.Bytes()); err != nil {
		t.Fatal(err)
	}
	for {
		_, ok, err := c.Next(&r)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		d, _ := r.Data(nil)
		switch r.Type {
		case wire.TypeSRV:
			srv = append(srv, fmt.Sprintf("%d %d %s", int(d[2])<<8|int(d[3]), int(d[4])<<8|int(d[5]), wire.Name(d[6:])))
		default:
			ip, _ := netip.AddrFromSlice(d)
			glue = append(glue, r.Owner().String()+" "+ip.String())
		}
	}
	slices.Sort(a)
	slices.Sort(aaaa)
	slices.Sort(srv)
	slices.Sort(glue)
	return a, aaaa, srv, glue
}

// history drives a store and its model.
type history struct {
	rnd *rand.Rand
	c   *Cluster
	m   model
}

func newTestCluster(p packing) *Cluster {
	return &Cluster{store: newStore(p, Observer{}, time.Now), sync: make(chan struct{})}
}

var (
	testPorts = [][]modelPort{
		nil, {{"", "TCP", 80}}, {{"http", "TCP", 80}}, {{"http", "TCP", 80}, {"dns", "UDP", 53}}, {{"dns", "UDP", 53}, {"dns-tcp", "TCP", 53}},
		{{"http", "TCP", 8080}},
	}
	testAddrs = []string{
		"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.1.5", "fd00::1", "fd00::2", "fd00:1::", "fd00:0:0:1::a",
	}
	testHosts = []string{"", "", "", "pod-0", "pod-1", "POD-2", "10-0-0-2"}
	testZones = []string{"", "a", "b.example"}
	testNames = []string{"one", "two", "three"}
)

func pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

func objectPorts(ports []modelPort) (list []objectPort) {
	for _, p := range ports {
		list = append(list, objectPort{[]byte(p.name), []byte(p.protocol), p.port})
	}
	return list
}

func (h *history) step() {
	var o object
	switch h.rnd.IntN(10) {
	case 0:
		name := pick(h.rnd, testNames)
		o.reset(kindService)
		o.namespace, o.name = []byte("ns"), []byte(name)
		if h.rnd.IntN(3) == 0 {
			delete(h.m.services, name)
			h.c.store.remove(&o)
			return
		}
		s := modelService{kind: Headless, ports: pick(h.rnd, testPorts)}
		if h.rnd.IntN(3) == 0 {
			s.kind, s.ips = ClusterIP, []string{fmt.Sprintf("10.96.0.%d", h.rnd.IntN(250)), "fd96::7"}[:1+h.rnd.IntN(2)]
			for _, ip := range s.ips {
				o.clusterIPs = append(o.clusterIPs, []byte(ip))
			}
		} else {
			o.clusterIPs = [][]byte{[]byte("None")}
		}
		o.ports = objectPorts(s.ports)
		h.m.services[name] = s
		h.c.store.upsert(&o)
	default:
		name := fmt.Sprintf("slice-%d", h.rnd.IntN(8))
		o.reset(kindSlice)
		o.namespace, o.name = []byte("ns"), []byte(name)
		if h.rnd.IntN(4) == 0 {
			delete(h.m.slices, name)
			h.c.store.remove(&o)
			return
		}
		sl := modelSlice{service: pick(h.rnd, testNames), ports: pick(h.rnd, testPorts)}
		if h.rnd.IntN(10) == 0 {
			sl.service = ""
		}
		for range h.rnd.IntN(5) {
			e := modelEndpoint{pick(h.rnd, testAddrs), pick(h.rnd, testHosts), pick(h.rnd, testZones)}
			sl.endpoints = append(sl.endpoints, e)
			o.endpoints = append(o.endpoints, objectEndpoint{address: []byte(e.addr), hostname: []byte(e.hostname), zone: []byte(e.zone)})
			sl.endpoints[len(sl.endpoints)-1].hostname = strings.ToLower(e.hostname)
		}
		o.labels = append(o.labels, pair{[]byte(labelServiceName), []byte(sl.service)})
		o.ports = objectPorts(sl.ports)
		h.m.slices[name] = sl
		h.c.store.upsert(&o)
	}
}

// check compares every question.
func (h *history) check(t *testing.T) {
	t.Helper()
	h.c.store.publishAll()
	for _, name := range testNames {
		s := h.c.Service([]byte("ns"), []byte(name))
		if _, want := h.m.services[name]; (s != nil) != want {
			t.Fatalf("%s: record %v, want %v", name, s != nil, want)
		}
		if s == nil {
			continue
		}
		h.ask(t, s, Match{})
		for _, p := range [][2]string{{"http", "tcp"}, {"dns", "udp"}, {"dns", "tcp"}, {"", "tcp"}, {"http", ""}, {"nope", "tcp"}} {
			h.ask(t, s, Match{Port: []byte(p[0]), Protocol: []byte(p[1])})
		}
		for _, e := range append(slices.Clone(testHosts), "10-0-0-1", "10-0-1-5", "fd00--1", "fd00-1--0", "fd00-0-0-1--a", "none") {
			if e != "" {
				e = strings.ToLower(e)
				h.ask(t, s, Match{Endpoint: append([]byte{byte(len(e))}, e...)})
			}
		}
		for _, z := range []string{"a", "b.example", "c"} {
			h.ask(t, s, Match{Zone: []byte(z)})
			h.ask(t, s, Match{Zone: []byte(z), Prefer: true})
		}
	}
	h.reverse(t)
}

func (h *history) ask(t *testing.T, s *Service, m Match) {
	t.Helper()
	endpoint := ""
	if len(m.Endpoint) > 0 {
		endpoint = string(m.Endpoint[1:])
	}
	list, wantOK := h.m.find(s.Name, endpoint, string(m.Port), string(m.Protocol), string(m.Zone), m.Prefer)
	set, ok := s.Find(&m)
	label := fmt.Sprintf("%s endpoint %q port %q protocol %q zone %q prefer %v", s.Name, endpoint, m.Port, m.Protocol, m.Zone, m.Prefer)
	if ok != wantOK {
		t.Fatalf("%s: found %v, want %v", label, ok, wantOK)
	}
	a, aaaa, srv, glue := got(t, &set)
	wa, waaaa, wsrv, wglue := answers(list, s.Name)
	if !ok {
		return
	}
	for _, c := range []struct {
		what      string
		got, want []string
	}{{"A", a, wa}, {"AAAA", aaaa, waaaa}, {"SRV", srv, wsrv}, {"glue", glue, wglue}} {
		if !slices.Equal(c.got, c.want) {
			t.Fatalf("%s: %s\n got %q\nwant %q", label, c.what, c.got, c.want)
		}
	}
}

func (h *history) reverse(t *testing.T) {
	t.Helper()
	for _, addr := range testAddrs {
		want := map[string]bool{}
		for _, sl := range h.m.slices {
			for _, e := range sl.endpoints {
				if e.addr == addr && sl.service != "" {
					host := e.hostname
					if host == "" {
						host = dashedName(addr)
					}
					want[host+"."+sl.service] = true
				}
			}
		}
		have := map[string]bool{}
		w := h.c.ByEndpointIP(netip.MustParseAddr(addr))
		for sl, i := w.Next(); sl != nil; sl, i = w.Next() {
			have[dotted(sl.AppendLabels(nil, i))+"."+sl.Service] = true
		}
		if !maps.Equal(have, want) {
			t.Fatalf("reverse of %s: got %v, want %v", addr, have, want)
		}
	}
	for name, s := range h.m.services {
		for _, ip := range s.ips {
			w := h.c.ByClusterIP(netip.MustParseAddr(ip))
			found := false
			for r := w.Next(); r != nil; r = w.Next() {
				found = found || r.Name == name
			}
			if !found {
				t.Fatalf("reverse of %s does not give %s", ip, name)
			}
		}
	}
}

func TestRandomHistories(t *testing.T) {
	for seed := range uint64(150) {
		h := &history{
			rnd: rand.New(rand.NewPCG(seed, 1)), c: newTestCluster(packing{zones: true}),
			m: model{services: map[string]modelService{}, slices: map[string]modelSlice{}},
		}
		for range 60 {
			for range 1 + h.rnd.IntN(4) {
				h.step()
			}
			h.check(t)
		}
	}
}
