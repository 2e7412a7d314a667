package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/test/kube"
)

// The cluster of the works: 10,000 Services, of which 200 are headless, with 150,000 endpoints; and headless ones of 5
// and of 500 endpoints to ask for.
const (
	services  = 10000
	endpoints = 150000
)

const kubeCorefile = `.:{PORT} {
    bind 127.0.0.1
    errors
    health {HEALTH} {
       lameduck 5s
    }
    ready {READY}
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       kubeconfig {KUBECONFIG}
       pods {PODS}
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus {METRICS}
    forward . {UPSTREAM} {
       max_concurrent 1000
    }
    cache 30 {
       disable success cluster.local
       disable denial cluster.local
    }
    loop
    reload
    loadbalance
}
`

// plane starts a control plane with the cluster's objects, and gives a kubeconfig of the account that kubeadm makes.
func (r *rig) plane(ctx context.Context, streaming bool) (*kube.Plane, string, error) {
	p, err := kube.Start(ctx, kube.Options{Streaming: streaming, Progress: os.Stdout})
	if err != nil {
		return nil, "", err
	}
	total, ends := r.clusterSize()
	r.say("loading %d Services with %d endpoints", total, ends)
	err = p.Load(ctx, kube.LoadSpec{Services: total, Headless: total / 50, Endpoints: ends})
	if err == nil {
		err = p.Load(ctx, kube.LoadSpec{Prefix: "five", Namespaces: 1, Services: 100, Headless: 100, Endpoints: 500,
			FirstAddress: netip.MustParseAddr("10.132.0.1")})
	}
	if err == nil {
		err = p.Load(ctx, kube.LoadSpec{Prefix: "wide", Namespaces: 1, Services: 4, Headless: 4, Endpoints: 2000,
			FirstAddress: netip.MustParseAddr("10.133.0.1")})
	}
	if err == nil {
		err = p.InstallDNSAccount(ctx)
	}
	config := ""
	if err == nil {
		config, err = p.Kubeconfig(ctx, kube.DNSAccount)
	}
	if err != nil {
		_ = p.Stop()
		return nil, "", err
	}
	return p, config, nil
}

// clusterScene is a cluster's Corefile with a way out for other names.
func (r *rig) clusterScene(config, pods string) (scene, error) {
	sc := scene{corefile: kubeCorefile, fill: map[string]string{"{KUBECONFIG}": config, "{PODS}": pods}}
	return sc, r.upstream(&sc, 3600)
}

// spread makes n questions of names that f gives for numbers below total.
func spread(n, total int, typ uint16, f func(i int) string) []question {
	random := rand.New(rand.NewPCG(3, uint64(typ)))
	all := make([]question, n)
	for i := range all {
		all[i] = question{f(random.IntN(total)), typ}
	}
	return all
}

// workKube: the names that pods ask for.
func workKube(ctx context.Context, r *rig, out *Result) error {
	p, config, err := r.plane(ctx, true)
	if err != nil {
		return err
	}
	defer p.Stop() // an error of removing a temporary folder
	sc, err := r.clusterScene(config, "insecure")
	if err != nil {
		return err
	}
	total := services
	if r.opt.short {
		total /= 10
	}
	all, err := r.clusterSeries(total)
	if err != nil {
		return err
	}
	subs := append([]subject{r.subjectGodwit(sc)}, r.others(sc)...)
	g, err := r.bring(ctx, out, sc, clusterName(total-1, total), subs...)
	if err != nil {
		return err
	}
	if ptr, err := r.reverseSeries(ctx, g.named("godwit"), total); err != nil {
		return err
	} else {
		all = append(all, ptr)
	}
	p.KillAPI() // answers do not need it, and its own work would be on the server's core
	if err := g.prepare(ctx, all); err != nil {
		return err
	}
	return g.measure(ctx, out, all, r.opt.loads, r.opt.seconds)
}

// clusterSize is the number of Services and endpoints of the works.
func (r *rig) clusterSize() (total, ends int) {
	if r.opt.short {
		return services / 10, endpoints / 10
	}
	return services, endpoints
}

// clusterName is the name of a Service of the load.
func clusterName(i, total int) string {
	return fmt.Sprintf("service-%d.load-%d.svc.cluster.local.", i, i%((total+99)/100))
}

// cutAt is what dnsperf says that it takes in EDNS: answers of 500 addresses are nearly as long.
const cutAt = 4096

func (r *rig) clusterSeries(total int) ([]series, error) {
	first := total / 50 // those before are headless
	clusterIP := func(i int) string { return clusterName(first+i, total) }
	search := func(i int) string { return fmt.Sprintf("www.example%d.com.load-%d.svc.cluster.local.", i, i%100) }
	kinds := []struct {
		name      string
		questions []question
		limit     float64
		edns      bool
		octets    int
	}{
		{"ClusterIP, A", spread(5000, total-first, dns.TypeA, clusterIP), 1.25, false, 0},
		{"ClusterIP, AAAA", spread(5000, total-first, dns.TypeAAAA, clusterIP), 1.25, false, 0},
		{"search path, NXDOMAIN", spread(5000, 5000, dns.TypeA, search), 1.25, false, 0},
		{"headless of 5, A", spread(1000, 100, dns.TypeA, func(i int) string { return fmt.Sprintf("service-%d.five-0.svc.cluster.local.", i) }), 1.25, true, 0},
		{"headless of 500, A (cut at 4,096 octets)", spread(100, 4, dns.TypeA, func(i int) string { return fmt.Sprintf("service-%d.wide-0.svc.cluster.local.", i) }), 1.25, true, cutAt},
		{"SRV", spread(5000, total-first, dns.TypeSRV, func(i int) string { return "_http._tcp." + clusterIP(i) }), 1.25, false, 0},
	}
	var all []series
	for i, k := range kinds {
		t, err := r.writeQuestions(fmt.Sprintf("kube-%d", i), k.questions)
		if err != nil {
			return nil, err
		}
		t.edns = k.edns
		all = append(all, series{name: k.name, traffic: t, limit: k.limit, octets: k.octets})
	}
	return all, nil
}

// reverseSeries asks Godwit for addresses of Services, and then for their names.
func (r *rig) reverseSeries(ctx context.Context, s *server, total int) (series, error) {
	var list []question
	for _, q := range spread(500, total-total/50, dns.TypeA, func(i int) string { return clusterName(total/50+i, total) }) {
		reply, err := s.ask(ctx, "udp", q, false)
		if err != nil {
			return series{}, err
		}
		for _, rr := range reply.Answer {
			a, ok := rr.(*dns.A)
			if !ok {
				continue
			}
			name, err := dns.ReverseAddr(a.A.String())
			if err != nil {
				return series{}, err
			}
			list = append(list, question{name, dns.TypePTR})
		}
	}
	t, err := r.writeQuestions("kube-ptr", list)
	return series{name: "PTR", traffic: t, limit: 1.25}, err
}

// workMemory: what the process holds at rest, while everything is listed again, and how long until it is ready; by
// streaming lists or by LIST, and with the pods themselves.
func workMemory(streaming, verified bool) func(ctx context.Context, r *rig, out *Result) error {
	return func(ctx context.Context, r *rig, out *Result) error {
		p, config, err := r.plane(ctx, streaming)
		if err != nil {
			return err
		}
		defer p.Stop() // a temporary folder
		if !verified {
			return r.memoryOf(ctx, out, p, config, "insecure", 64, 96)
		}
		if err := r.loadPods(ctx, p); err != nil {
			return err
		}
		return r.memoryOf(ctx, out, p, config, "verified", 96, 0)
	}
}

// memoryOf measures Godwit and the peers that take its Corefile. Godwit must not be ready later than any of them.
func (r *rig) memoryOf(ctx context.Context, out *Result, p *kube.Plane, config, pods string, rest, peak float64) error {
	sc, err := r.clusterScene(config, pods)
	if err != nil {
		return err
	}
	subs := append([]subject{r.subjectGodwit(sc)}, r.others(sc)...)
	ready := map[string][]float64{}
	for round := range readyRounds {
		for _, sub := range subs {
			s, took, err := r.startTimed(ctx, sub)
			if err != nil {
				return err
			}
			ready[sub.name] = append(ready[sub.name], took)
			if round == readyRounds-1 {
				limitRest, limitPeak := rest, peak
				if sub.name != "godwit" {
					limitRest, limitPeak = 0, 0
				}
				if err := r.held(ctx, out, p, s, limitRest, limitPeak); err != nil {
					return fmt.Errorf("%s: %w", sub.name, err)
				}
			}
			s.child.stop()
		}
	}
	soonest := 0.0
	for _, sub := range subs[1:] {
		if t := median(ready[sub.name]).Median; soonest == 0 || t < soonest {
			soonest = t
		}
	}
	for i, sub := range subs {
		limit := 0.0
		if i == 0 {
			limit = soonest
		}
		out.figure(sub.name, "first answer after", median(ready[sub.name]).Median, "ms", limit, fmt.Sprintf("median of %d", readyRounds))
	}
	r.stopAll()
	return nil
}

// readyRounds is how often each server is started to see how soon it is ready, in turns.
const readyRounds = 3

// startTimed starts a server and gives the milliseconds until it answers for the last Service of the load: all of them wait
// with answers until everything has been read.
func (r *rig) startTimed(ctx context.Context, sub subject) (*server, float64, error) {
	total, _ := r.clusterSize()
	began := time.Now()
	s, err := r.start(ctx, sub, serverCore, clusterName(total-1, total))
	return s, float64(time.Since(began).Microseconds()) / 1000, err
}

// held measures what a server that has just started holds at rest and while everything is listed again.
func (r *rig) held(ctx context.Context, out *Result, p *kube.Plane, s *server, rest, peak float64) error {
	if err := sleep(ctx, 20*time.Second); err != nil { // what the start needed has been given back by then
		return err
	}
	now, most, err := resident(s.child.pid())
	if err != nil {
		return err
	}
	out.figure(s.name, "resident at rest", now, "MiB", rest, fmt.Sprintf("%.0f at most since the start", most))
	before, err := s.relists(ctx)
	if err != nil {
		return err
	}
	if most, err = r.relist(ctx, p, s); err != nil {
		return err
	}
	after, err := s.relists(ctx)
	if err != nil {
		return err
	}
	note := "the API server was away and its history compacted"
	if s.metrics != "" {
		if after < before+3 {
			return fmt.Errorf("%.0f resources were listed again after the API server's history was gone; namespaces, services and endpointslices had to be", after-before)
		}
		note += fmt.Sprintf("; %.0f resources were listed again", after-before)
	}
	out.figure(s.name, "most resident while listing again", most, "MiB", peak, note)
	return nil
}

// relists gives how many complete lists Godwit has begun to read; 0 for other servers.
func (s *server) relists(ctx context.Context) (sum float64, err error) {
	if s.metrics == "" {
		return 0, nil
	}
	all, err := scrape(ctx, s.metrics)
	for name, v := range all {
		if strings.HasPrefix(name, "godwit_kubernetes_relists{") {
			sum += v
		}
	}
	return sum, err
}

// relist takes the API server away, throws its history away and gives it back, so that all that watched has to list, and
// gives the most memory that the server had until it answered for a Service made afterwards, and 10 s more.
func (r *rig) relist(ctx context.Context, p *kube.Plane, s *server) (float64, error) {
	if err := resetPeak(s.child.pid()); err != nil {
		return 0, err
	}
	p.KillAPI()
	if err := p.Compact(ctx); err != nil { // what a watch could go on from is gone
		return 0, err
	}
	if err := p.StartAPI(ctx); err != nil {
		return 0, err
	}
	name, err := newService(ctx, p)
	if err != nil {
		return 0, err
	}
	if err := s.answers(ctx, name, time.Minute); err != nil {
		return 0, err
	}
	if err := sleep(ctx, 10*time.Second); err != nil {
		return 0, err
	}
	_, most, err := resident(s.child.pid())
	return most, err
}

// newService makes a Service with a name of its own and gives the DNS name.
func newService(ctx context.Context, p *kube.Plane) (string, error) {
	name := fmt.Sprintf("made-%d", time.Now().UnixNano())
	err := p.Apply(ctx, fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: load-0}\nspec:\n  ports: [{name: http, port: 80}]\n", name))
	return name + ".load-0.svc.cluster.local.", err
}

// workRestart: the API server is killed and started; from when it is ready, how long until a Service made then is
// answered.
func workRestart(ctx context.Context, r *rig, out *Result) error {
	p, config, err := r.plane(ctx, true)
	if err != nil {
		return err
	}
	defer p.Stop() // a temporary folder
	sc, err := r.clusterScene(config, "insecure")
	if err != nil {
		return err
	}
	total := services
	if r.opt.short {
		total /= 10
	}
	for _, sub := range append([]subject{r.subjectGodwit(sc)}, r.others(sc)...) {
		s, err := r.start(ctx, sub, serverCore, clusterName(total-1, total))
		if err != nil {
			return err
		}
		var took []float64
		for range r.opt.rounds {
			p.KillAPI()
			if err := sleep(ctx, 5*time.Second); err != nil {
				return err
			}
			if err := p.StartAPI(ctx); err != nil {
				return err
			}
			ready := time.Now()
			name, err := newService(ctx, p)
			if err != nil {
				return err
			}
			if err := s.answers(ctx, name, time.Minute); err != nil {
				if sub.name == "godwit" || s.child.ended() || ctx.Err() != nil {
					return err
				}
				out.note("%s did not answer within a minute of one restart, which counts as a minute.", sub.name)
			}
			took = append(took, float64(time.Since(ready).Milliseconds()))
		}
		limit := 0.0
		if sub.name == "godwit" {
			limit = 1000
		}
		out.figure(sub.name, "API server ready to new Service answered", median(took).Median, "ms", limit,
			fmt.Sprintf("median of %d; %.0f at most; the server had been away for 5 s and its start", len(took), maxOf(took)))
		s.child.stop()
	}
	return nil
}

func maxOf(list []float64) float64 {
	most := list[0]
	for _, v := range list {
		most = max(most, v)
	}
	return most
}

// loadPods makes as many pods as there are endpoints.
func (r *rig) loadPods(ctx context.Context, p *kube.Plane) error {
	count, namespaces := endpoints, services/100
	if r.opt.short {
		count, namespaces = count/10, namespaces/10
	}
	r.say("loading %d pods", count)
	return p.LoadPods(ctx, count, namespaces, netip.MustParseAddr("10.128.0.1"))
}
