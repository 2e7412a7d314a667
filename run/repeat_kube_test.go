package run

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/plugin"
)

// countReads counts the lines of the log that say that manifests were read.
type countReads struct {
	slog.Handler
	t testing.TB
	n atomic.Int64
}

func (c *countReads) Enabled(context.Context, slog.Level) bool { return true }

func (c *countReads) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "manifests read" {
		c.n.Add(1)
	} else if r.Level >= slog.LevelWarn {
		r.Attrs(func(a slog.Attr) bool {
			c.t.Error(r.Message, a)
			return true
		})
	}
	return nil
}

// follow serves a Corefile whose directives have tasks and starts.
func (r *repeatRig) follow(text string) *countReads {
	r.t.Helper()
	reads := &countReads{Handler: slog.DiscardHandler, t: r.t}
	r.env.Log = slog.New(reads)
	b, err := Build(r.env, plugin.All(), fmt.Sprint(r.port), "Corefile", []byte(text), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	for _, task := range b.Config.Tasks {
		ended.Go(func() { _ = task(ctx) })
	}
	r.t.Cleanup(func() {
		cancel()
		ended.Wait()
	})
	for _, f := range b.Config.Starts {
		if err := f(ctx); err != nil {
			r.t.Fatal(err)
		}
	}
	opened, err := r.s.Bind(b.Specs)
	if err != nil {
		r.t.Fatal(err)
	}
	r.s.Publish(opened, b.Specs, b.Tables)
	return reads
}

// someCluster is a small cluster of chance, but for the name stays.always, which is always the same.
func someCluster(random *rand.Rand) string {
	all := []string{"kind: Namespace\nmetadata: {name: always}",
		"kind: Service\nmetadata: {name: stays, namespace: always}\nspec: {clusterIP: 10.96.9.9, clusterIPs: [10.96.9.9], ports: [{name: http, port: 80, protocol: TCP}]}",
		"kind: EndpointSlice\nmetadata: {name: stays, namespace: always, labels: {kubernetes.io/service-name: stays}}\naddressType: IPv4\n" +
			"ports: [{name: http, port: 80, protocol: TCP}]\nendpoints: [{addresses: [10.1.9.9], conditions: {ready: true}}]"}
	// Headless ones of few and of many addresses: as many, but others, or more of them each time.
	for name, most := range map[string]int{"few": 6, "many": 200} {
		slice := fmt.Sprintf("kind: EndpointSlice\nmetadata: {name: %s, namespace: always, labels: {kubernetes.io/service-name: %s}}\naddressType: IPv4\n"+
			"ports: [{name: http, port: 80, protocol: TCP}]\nendpoints:\n", name, name)
		net := random.IntN(2)
		for i := range []int{most, most / 2, 2}[random.IntN(3)] {
			slice += fmt.Sprintf("- {addresses: [10.2.%d.%d], conditions: {ready: true}}\n", net, i)
		}
		all = append(all, fmt.Sprintf("kind: Service\nmetadata: {name: %s, namespace: always}\nspec: {clusterIP: None, clusterIPs: [None]}", name), slice)
	}
	own := 0 // an address is one Service's: which of two would have its PTR is no more than order
	for _, ns := range []string{"one", "two"} {
		if random.IntN(5) > 0 {
			all = append(all, fmt.Sprintf("kind: Namespace\nmetadata: {name: %s}", ns))
		}
		for _, name := range []string{"a", "b"} {
			head, ip := fmt.Sprintf("kind: Service\nmetadata: {name: %s, namespace: %s}\nspec: ", name, ns), fmt.Sprintf("10.96.0.%d", own+random.IntN(2))
			own += 2
			switch random.IntN(5) {
			case 0:
			case 1:
				all = append(all, head+"{type: ExternalName, externalName: "+[]string{"stays.always.svc.cluster.local", "a.one.svc.cluster.local"}[random.IntN(2)]+"}")
			case 2:
				all = append(all, head+"{clusterIP: None, clusterIPs: [None]}")
			default:
				all = append(all, head+fmt.Sprintf("{clusterIP: %s, clusterIPs: [%s], ports: [{name: http, port: %d, protocol: TCP}]}", ip, ip, 80+random.IntN(2)))
			}
			if random.IntN(3) > 0 {
				all = append(all, fmt.Sprintf("kind: EndpointSlice\nmetadata: {name: %s, namespace: %s, labels: {kubernetes.io/service-name: %s}}\naddressType: IPv4\n"+
					"ports: [{name: http, port: 80, protocol: TCP}]\nendpoints: [{addresses: [10.1.0.%d], conditions: {ready: true}}]", name, ns, name, random.IntN(3)))
			}
			if random.IntN(3) > 0 {
				all = append(all, fmt.Sprintf("kind: Pod\nmetadata: {name: %s, namespace: %s}\nstatus: {phase: Running, podIP: 10.1.0.%d}", name, ns, random.IntN(3)))
			}
		}
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return strings.Join(all, "\n---\n")
}

func clusterPackets() (all [][]byte) {
	names := []string{"cluster.local.", "svc.cluster.local.", "one.svc.cluster.local.", "www.example.org.cluster.local.", "dns-version.cluster.local.", "ns.dns.cluster.local.",
		"stays.always.svc.cluster.local.", "9.9.96.10.in-addr.arpa.", "96.10.in-addr.arpa."}
	for i := range 8 {
		names = append(names, fmt.Sprintf("%d.0.96.10.in-addr.arpa.", i), fmt.Sprintf("%d.0.1.10.in-addr.arpa.", i), fmt.Sprintf("10-1-0-%d.one.pod.cluster.local.", i))
	}
	for _, service := range []string{"a.one", "a.two", "b.one", "none.two"} {
		names = append(names, service+".svc.cluster.local.", "_http._tcp."+service+".svc.cluster.local.", "10-1-0-1."+service+".svc.cluster.local.", "www."+service+".svc.cluster.local.")
	}
	for _, name := range names {
		for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeCNAME, dns.TypeSOA, dns.TypeNS, dns.TypeMX} {
			b, err := new(dns.Msg).SetQuestion(name, typ).Pack()
			if err != nil {
				panic(err)
			}
			all = append(all, b)
		}
	}
	for _, name := range []string{"few", "_http._tcp.few", "FEW", "many", "_http._tcp.many", "MANY"} {
		for _, size := range []uint16{0, 512, 1232, 4096} {
			m := new(dns.Msg).SetQuestion(name+".always.svc.cluster.local.", dns.TypeA)
			if size > 0 {
				m.SetEdns0(size, false)
			}
			b, err := m.Pack()
			if err != nil {
				panic(err)
			}
			all = append(all, b)
		}
	}
	return all
}

// TestRepeatsFollowTheCluster is TestRepeatsAreWalks for a cluster that changes all the time, also while it is asked.
func TestRepeatsFollowTheCluster(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	for options, network := range map[string]string{"pods verified": "udp", "pods insecure\nfallthrough in-addr.arpa": "udp",
		"namespaces one always": "tcp", "ignore empty_service\nzonal": "udp"} {
		t.Run(network+" "+options, func(t *testing.T) {
			var now atomic.Int64
			now.Store(int64(time.Hour))
			seed := rand.Uint64()
			random := rand.New(rand.NewPCG(seed, 1))
			folder := t.TempDir()
			write := func() {
				temporary := filepath.Join(folder, ".next")
				if err := os.WriteFile(temporary, []byte(someCluster(random)), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(temporary, filepath.Join(folder, "all.yaml")); err != nil {
					t.Fatal(err)
				}
			}
			write()
			fast, slow := newRepeatRig(t, network, &now), newRepeatRig(t, network, &now)
			text := ".:%d {\nbind 127.0.0.1\nprometheus 127.0.0.1:0\nerrors\nloadbalance\ncache\n%s\n" +
				"kubernetes cluster.local 10.in-addr.arpa {\nmanifests " + folder + "\n" + options + "\n}\n}\n"
			fastReads, slowReads := fast.follow(fmt.Sprintf(text, fast.port, "")), slow.follow(fmt.Sprintf(text, slow.port, "local"))
			packets := clusterPackets()
			stays, err := new(dns.Msg).SetQuestion("stays.always.svc.cluster.local.", dns.TypeA).Pack()
			if err != nil {
				t.Fatal(err)
			}
			compare := func(from [][]byte, twice int) {
				var batch [][]byte
				for id := range uint16(30) {
					packet := bytes.Clone(from[random.IntN(min(len(from), twice))])
					binary.BigEndian.PutUint16(packet, id)
					batch = append(batch, packet)
				}
				sameAnswers(t, seed, fast, slow, batch)
			}
			for round := range 25 {
				for range 10 { // few of them, so that they are asked again
					random.Shuffle(len(packets), func(i, j int) { packets[i], packets[j] = packets[j], packets[i] })
					for range 3 {
						compare(packets, 40)
					}
					now.Add(int64(random.IntN(500)) * int64(time.Millisecond))
				}
				write()
				for end := time.Now().Add(20 * time.Second); fastReads.n.Load() < int64(round)+2 || slowReads.n.Load() < int64(round)+2; {
					compare([][]byte{stays}, 1)
					if time.Now().After(end) {
						t.Fatalf("seed %d, round %d: the manifests were read %d and %d times", seed, round, fastReads.n.Load(), slowReads.n.Load())
					}
				}
			}
			sameCounts(t, seed, fast, slow)
			if n := fast.repeated(); n < 5000 {
				t.Errorf("%d answers without a walk", n)
			}
		})
	}
}
