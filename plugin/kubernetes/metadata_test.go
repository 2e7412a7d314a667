package kubernetes

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
)

// reader reads metadata before the directive answers.
type reader struct {
	names []string
	read  []func(q *chain.Query) string
	got   []string
}

func (r *reader) Serve(q *chain.Query) chain.Outcome {
	r.got = r.got[:0]
	for _, f := range r.read {
		r.got = append(r.got, f(q))
	}
	return chain.Next
}

// TestClientMetadata reads what is known of the pod that asks.
func TestClientMetadata(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/cluster.yaml", `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web, tier: front}}
status: {phase: Running, podIP: 10.1.2.3, podIPs: [{ip: 10.1.2.3}]}
`)
	r := &reader{names: []string{"kubernetes/client-namespace", "kubernetes/client-pod-name",
		"kubernetes/client-label/app", "kubernetes/client-label/tier", "kubernetes/client-label/none"}}
	specs := []chain.Spec{{Name: "reader", New: func(s *chain.Setup) error {
		s.Block.HasMetadata = true
		s.OnBuilt(func() error {
			for _, n := range r.names {
				r.read = append(r.read, s.Block.Metadata(n))
			}
			return nil
		})
		s.Handler(r)
		return nil
	}}, Spec}
	b := chaintest.New(t, ".:53 {\n reader\n kubernetes cluster.local {\n  manifests "+dir+"\n  pods verified\n }\n}\n", chaintest.Options{Specs: specs})
	b.Start()
	b.Until("sync", handlerOf(b).cluster.Synced)
	for client, want := range map[string][]string{
		"10.1.2.3:1000": {"shop", "web-1", "web", "front", ""},
		"10.1.2.4:1000": {"", "", "", "", ""},
	} {
		b.Do(chaintest.Query{Msg: new(dns.Msg).SetQuestion("a.cluster.local.", dns.TypeA), Client: netip.MustParseAddrPort(client)})
		for i, n := range r.names {
			if r.got[i] != want[i] {
				t.Errorf("%s of %s is %q, want %q", n, client, r.got[i], want[i])
			}
		}
	}
}
