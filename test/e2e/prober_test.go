package e2e_test

import (
	"fmt"
	"testing"
	"time"
)

// steady is what the prober asks for: nothing that a test does may touch it.
const steady = `
apiVersion: v1
kind: Namespace
metadata: {name: steady}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: steady}
spec: {clusterIP: 10.96.0.200, clusterIPs: [10.96.0.200], ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: steady}
spec: {clusterIP: None, ports: [{name: peer, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: steady, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: peer, port: 5432, protocol: TCP}]
endpoints: [{addresses: [10.128.200.1], hostname: db-0, conditions: {ready: true}}]
`

var steadyAnswers = answers{
	{"web.steady.svc.cluster.local A", "NOERROR 10.96.0.200"},
	{"web.steady.svc.cluster.local AAAA", "NODATA"},
	{"db.steady.svc.cluster.local A", "NOERROR 10.128.200.1"},
	{"db-0.db.steady.svc.cluster.local A tcp", "NOERROR 10.128.200.1"},
	{"_peer._tcp.db.steady.svc.cluster.local SRV", "NOERROR 0 100 5432 db-0.db.steady.svc.cluster.local. / db-0.db.steady.svc.cluster.local. A 10.128.200.1"},
	{"10.96.0.200 PTR", "NOERROR web.steady.svc.cluster.local."},
	{"10.128.200.1 PTR", "NOERROR db-0.db.steady.svc.cluster.local."},
	{"nobody.steady.svc.cluster.local A", "NXDOMAIN"},
}

// prober asks the steady names in the background, from when they are there.
type prober struct {
	stop   chan struct{}
	done   chan struct{}
	asked  int      // read after done
	failed []string // read after done
}

// probe starts a prober, which ends with the test. Every query that it sends
// has to be answered right.
func probe(t *testing.T, g *godwit) *prober {
	t.Helper()
	g.becomes(t, steadyAnswers)
	p := &prober{stop: make(chan struct{}), done: make(chan struct{})}
	go p.run(g)
	t.Cleanup(func() { p.end(t) })
	return p
}

func (p *prober) run(g *godwit) {
	defer close(p.done)
	for {
		for _, w := range steadyAnswers {
			select {
			case <-p.stop:
				return
			case <-time.After(2 * time.Millisecond):
			}
			p.asked++
			if got := g.ask(question(w[0])); got != w[1] {
				p.failed = append(p.failed, fmt.Sprintf("%s %s: %s", time.Now().Format("15:04:05.000"), w[0], got))
			}
		}
	}
}

// end stops the prober and judges. It may be called more than once.
func (p *prober) end(t *testing.T) {
	t.Helper()
	select {
	case <-p.stop:
		return
	default:
	}
	close(p.stop)
	<-p.done
	if p.asked == 0 {
		t.Error("the prober asked nothing")
	}
	for i, f := range p.failed {
		if i == 10 {
			break
		}
		t.Error("meanwhile,", f)
	}
	t.Logf("%d queries in the background, %d answered wrong", p.asked, len(p.failed))
}
