package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// numbered gives the A questions host-0.example. and so on, shuffled, always in the same way.
func numbered(n int, origin string, typ uint16) []question {
	all := make([]question, n)
	for i := range all {
		all[i] = question{fmt.Sprintf("host-%d.%s", i, origin), typ}
	}
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(n, func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

const hitCorefile = `.:{PORT} {
    bind 127.0.0.1
    errors
    prometheus {METRICS}
    cache 3600
    forward . {UPSTREAM}
}
`

// hitScene is the servers of the work on hits and its questions, with EDNS and without.
func (r *rig) hitScene() (scene, []series, error) {
	sc := scene{corefile: hitCorefile}
	if err := r.upstream(&sc, 3600); err != nil {
		return sc, nil, err
	}
	t, err := r.writeQuestions("hit", numbered(1000, "hit.example.", dns.TypeA))
	plain, edns := t, t
	edns.edns = true
	return sc, []series{{name: "A without EDNS", traffic: plain, limit: 1.2}, {name: "A with EDNS", traffic: edns, limit: 1.2}}, err
}

// workHit: A over 1,000 names that every cache holds. Knot has them in a zone: it is the figure to reach.
func workHit(ctx context.Context, r *rig, out *Result) error {
	sc, all, err := r.hitScene()
	if err != nil {
		return err
	}
	subs := append([]subject{r.subjectGodwit(sc)}, r.cachePeers(sc, true)...)
	g, err := r.bring(ctx, out, sc, "host-1.hit.example.", append(subs, r.others(sc)...)...)
	if err != nil {
		return err
	}
	if err := g.prepare(ctx, all); err != nil {
		return err
	}
	zone, err := r.knotWithSameAnswers(ctx, g)
	if err != nil {
		return err
	}
	if zone != nil {
		g.servers = append(g.servers, zone)
	}
	return g.measure(ctx, out, all, r.opt.loads, r.opt.seconds)
}

// knotWithSameAnswers starts Knot with a zone made of what Godwit answers.
func (r *rig) knotWithSameAnswers(ctx context.Context, g *group) (*server, error) {
	path := filepath.Join(r.dir, "hit.zone")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fmt.Fprintf(f, "hit.example. 3600 IN SOA ns.hit.example. admin.hit.example. 1 7200 1800 86400 30\nhit.example. 3600 IN NS ns.hit.example.\nns.hit.example. 3600 IN A 192.0.2.1\n")
	questions := numbered(1000, "hit.example.", dns.TypeA)
	for _, q := range questions {
		reply, err := g.named("godwit").ask(ctx, "udp", q, false)
		if err != nil {
			return nil, err
		}
		for _, rr := range reply.Answer {
			fmt.Fprintln(f, rr)
		}
	}
	subs := r.zonePeers(scene{zone: path, origin: "hit.example."})
	i := slices.IndexFunc(subs, func(s subject) bool { return s.name == "knot" })
	if i < 0 || !r.opt.measures("knot-zone") {
		return nil, nil
	}
	subs[i].name = "knot-zone"
	s, err := r.start(ctx, subs[i], serverCore, "host-1.hit.example.")
	if err != nil {
		return nil, err
	}
	return s, sameAnswers(ctx, []*server{g.named("godwit"), s}, questions)
}

const zoneCorefile = `large.example:{PORT} {
    bind 127.0.0.1
    errors
    prometheus {METRICS}
    file {ZONE} {
        reload 0
    }
}
`

// workZone: a zone of 100,000 names, asked in random order, and a tenth of the questions for names that are not there.
func workZone(ctx context.Context, r *rig, out *Result) error {
	sc := scene{corefile: zoneCorefile, zone: filepath.Join(r.dir, "large.zone"), origin: "large.example."}
	const names = 100000
	if err := writeZone(sc.zone, names); err != nil {
		return err
	}
	there, err := r.writeQuestions("zone", numbered(names, sc.origin, dns.TypeA))
	if err != nil {
		return err
	}
	var missing []question
	for i := range 10000 {
		missing = append(missing, question{fmt.Sprintf("none-%d.%s", i, sc.origin), dns.TypeA})
	}
	gone, err := r.writeQuestions("zone-missing", missing)
	if err != nil {
		return err
	}
	subs := append([]subject{r.subjectGodwit(sc)}, r.zonePeers(sc)...)
	g, err := r.bring(ctx, out, sc, "host-1.large.example.", append(subs, r.others(sc)...)...)
	if err != nil {
		return err
	}
	all := []series{{name: "A", traffic: there}, {name: "NXDOMAIN", traffic: gone}}
	if err := g.prepare(ctx, all); err != nil {
		return err
	}
	if err := g.measure(ctx, out, all, r.opt.loads, r.opt.seconds); err != nil {
		return err
	}
	for _, se := range all {
		out.against(se.name, r.opt.loads, 1, "knot", "nsd")
	}
	return nil
}

// against notes how many times what the cheapest of some servers takes Godwit takes, as far as they took part.
func (out *Result) against(series string, loads []load, limit float64, peers ...string) {
	for _, l := range loads {
		most, name := 0.0, ""
		for _, peer := range peers {
			if times := out.times(series, l.String(), "godwit", peer); times > most {
				most, name = times, peer
			}
		}
		if l > 0 && name != "" {
			out.figure("godwit", series+" at "+l.String()+", of what "+name+" takes", most, "×", limit, "")
		}
	}
}

func writeZone(path string, names int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	fmt.Fprintln(w, "$ORIGIN large.example.\n$TTL 3600\n@ IN SOA ns admin 1 7200 1800 86400 30\n@ IN NS ns\nns IN A 192.0.2.1")
	for i := range names {
		fmt.Fprintf(w, "host-%d IN A 10.%d.%d.%d\n", i, i>>16&255, i>>8&255, i&255)
	}
	return errors.Join(w.Flush(), f.Close())
}

const missCorefile = `.:{PORT} {
    bind 127.0.0.1
    errors
    prometheus {METRICS}
    forward . {UPSTREAM} {OPTIONS}
}
`

// workMiss: questions that no cache has, over UDP and over kept TCP connections to the upstream. The upstream's TTL is
// 0 and there are more names than are in flight at once, so that every question travels.
func workMiss(ctx context.Context, r *rig, out *Result) error {
	t, err := r.writeQuestions("miss", numbered(200000, "miss.example.", dns.TypeA))
	if err != nil {
		return err
	}
	for _, way := range []struct{ name, options string }{{"upstream over UDP", ""}, {"upstream over TCP", "{\n        force_tcp\n    }"}} {
		sc := scene{corefile: missCorefile, fill: map[string]string{"{OPTIONS}": way.options}}
		if err := r.upstream(&sc, 0); err != nil {
			return err
		}
		subs := append([]subject{r.subjectGodwit(sc)}, r.others(sc)...)
		if way.options == "" {
			subs = append(subs, r.cachePeers(sc, false)...)
		} else {
			subs = append(subs, r.tcpForwarders(sc)...)
		}
		g, err := r.bring(ctx, out, sc, "host-1.miss.example.", subs...)
		if err != nil {
			return err
		}
		all := []series{{name: way.name, traffic: t, limit: 3}}
		if err := g.prepare(ctx, all); err != nil {
			return err
		}
		if err := g.measure(ctx, out, all, r.opt.loads, r.opt.seconds); err != nil {
			return err
		}
		out.against(way.name, r.opt.loads, 0.25, "coredns")
		r.stopAll()
	}
	out.note("The upstream answers from the generator's core, which is full before 100,000 queries a second: see what was answered.")
	return nil
}

// tcpForwarders are the peers that keep TCP connections to an upstream.
func (r *rig) tcpForwarders(sc scene) []subject {
	subs := r.peer(nil, "unbound", "unbound", func(dir string, port int) string {
		text := unboundConf(dir, port, sc.upstream, false)
		return text + "server:\n    tcp-upstream: yes\n    outgoing-num-tcp: 32\n    outgoing-tcp-mss: 0\n"
	}, func(conf, _ string) []string { return []string{"-d", "-c", conf} })
	return r.peer(subs, "dnsdist", "dnsdist", func(dir string, port int) string {
		return fmt.Sprintf("setLocal('127.0.0.1:%d')\nsetSecurityPollSuffix('')\n"+
			"newServer({address='%s', healthCheckMode='up', tcpOnly=true, maxInFlight=64})\n", port, sc.upstream)
	}, func(conf, _ string) []string { return []string{"--supervised", "--disable-syslog", "-C", conf} })
}

// workTCP: the hits of workHit over 20 connections, beside the same over UDP.
func workTCP(ctx context.Context, r *rig, out *Result) error {
	sc, all, err := r.hitScene()
	if err != nil {
		return err
	}
	subs := append([]subject{r.subjectGodwit(sc)}, r.cachePeers(sc, true)...)
	subs = slices.DeleteFunc(subs, func(s subject) bool { return s.name == "dnsmasq" })
	g, err := r.bring(ctx, out, sc, "host-1.hit.example.", append(subs, r.others(sc)...)...)
	if err != nil {
		return err
	}
	out.note("dnsmasq makes a process for each connection and is left out. The echo over TCP is one read and one write for each connection that has something; its own ratio is what the kernel leaves to reach.")
	udp, tcp := all[0], all[0]
	udp.name, tcp.name, udp.limit, tcp.limit = "over UDP", "over TCP", 0, 0
	tcp.tcp, tcp.sockets = true, 20
	all = []series{udp, tcp}
	if err := g.prepare(ctx, all); err != nil {
		return err
	}
	if err := g.measureTogether(ctx, out, all, r.opt.loads, r.opt.seconds); err != nil {
		return err
	}
	for _, l := range r.opt.loads {
		for _, of := range []struct {
			name  string
			limit float64
		}{{"godwit", 1}, {"echo", 0}} {
			ratio := median(ratios(out.runs(tcp.name, l.String(), of.name), out.runs(udp.name, l.String(), of.name)))
			out.figure(of.name, "CPU over TCP / over UDP at "+l.String(), ratio.Median, "×", of.limit, "")
		}
	}
	return nil
}

// workUser: the share of user space in a hit, in runs long enough for the tick's samples.
func workUser(ctx context.Context, r *rig, out *Result) error {
	sc, all, err := r.hitScene()
	if err != nil {
		return err
	}
	g, err := r.bring(ctx, out, sc, "host-1.hit.example.", r.subjectGodwit(sc))
	if err != nil {
		return err
	}
	if err := g.prepare(ctx, all); err != nil {
		return err
	}
	length := 30 * time.Second
	if r.opt.short {
		length = 3 * time.Second
	}
	for i := range all {
		all[i].limit, all[i].rounds = 0, 2
	}
	loads := []load{100000, 0}
	if err := g.measure(ctx, out, all, loads, length); err != nil {
		return err
	}
	for _, se := range all {
		for _, l := range loads {
			user := pick(undisturbed(out.runs(se.name, l.String(), "godwit")), func(s Sample) float64 { return s.User })
			out.figure("godwit", "user-space CPU, "+se.name+", at "+l.String(), median(user).Median, "µs", 0.6, "goal 0.4")
		}
	}
	return nil
}
