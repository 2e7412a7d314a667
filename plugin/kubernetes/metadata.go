package kubernetes

import (
	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/cluster"
	"github.com/godwit-dns/godwit/wire"
)

// provide makes the metadata available. Each is taken from the name when somebody reads it.
func (k *Kubernetes) provide(s *chain.Setup) {
	of := func(name string, f func(p *question, z *zone) []byte) {
		s.Provide("kubernetes/"+name, func(q *chain.Query) string {
			z := k.zoneOf(q.Name())
			var p question
			if z == nil || !p.parse(q.Name(), z, k.cfg.Zonal) {
				return ""
			}
			return string(f(&p, z))
		})
	}
	of("port-name", func(p *question, _ *zone) []byte { return p.match.Port })
	of("protocol", func(p *question, _ *zone) []byte { return p.match.Protocol })
	of("endpoint", func(p *question, _ *zone) []byte { return firstLabel(p.match.Endpoint) })
	of("service", func(p *question, _ *zone) []byte { return p.service })
	of("namespace", func(p *question, _ *zone) []byte { return p.namespace })
	of("kind", func(p *question, _ *zone) []byte {
		switch p.part {
		case partService:
			return []byte("svc")
		case partPod:
			return []byte("pod")
		}
		return nil
	})
	if len(k.cfg.Multicluster) > 0 {
		of("cluster", func(p *question, z *zone) []byte {
			if e := p.match.Endpoint; z.imported && len(e) > 0 {
				return firstLabel(e[1+e[0]:])
			}
			return nil
		})
	}
	if k.cfg.Zonal {
		of("zone", func(p *question, _ *zone) []byte { return p.match.Zone })
	}
	s.Provide("kubernetes/parse-error", func(q *chain.Query) string {
		var p question
		if z := k.zoneOf(q.Name()); z != nil && !p.parse(q.Name(), z, k.cfg.Zonal) {
			return "invalid query name"
		}
		return ""
	})
	k.provideClient(s)
}

// provideClient makes known which pod asks.
func (k *Kubernetes) provideClient(s *chain.Setup) {
	client := func(name string, f func(p *cluster.Pod) string) {
		s.Provide("kubernetes/"+name, func(q *chain.Query) string {
			if p := k.ClientPod(q); p != nil {
				return f(p)
			}
			return ""
		})
	}
	client("client-namespace", func(p *cluster.Pod) string { return p.Namespace })
	client("client-pod-name", func(p *cluster.Pod) string { return p.Name })
	s.ProvideAll("kubernetes/client-label/", func(q *chain.Query, label string) string {
		p := k.ClientPod(q)
		for i := 0; p != nil && i+1 < len(p.Labels); i += 2 {
			if p.Labels[i] == label {
				return p.Labels[i+1]
			}
		}
		return ""
	})
}

func firstLabel(labels []byte) []byte {
	if len(labels) == 0 {
		return nil
	}
	return labels[1 : 1+labels[0]]
}

// ClientPod is the pod that sent a query; nil when that is not known, as without pods verified.
func (k *Kubernetes) ClientPod(q *chain.Query) *cluster.Pod {
	if k.cfg.Pods != podsVerified || !q.Client.IsValid() {
		return nil
	}
	w := k.cluster.ByPodIP(q.Client.Addr().Unmap().WithZone(""))
	return w.Next()
}

// AutoPath gives the search path of the client's pod within the zone that the query's name is in, without the part that
// comes from the server's own resolv.conf; nil when the name is in no zone or the pod is not known. It allocates.
func (k *Kubernetes) AutoPath(q *chain.Query) []wire.Name {
	z := k.zoneOf(q.Name())
	if z == nil {
		return nil
	}
	p := k.ClientPod(q)
	if p == nil {
		return nil
	}
	svc := append(append(wire.Name(nil), labelSvc...), z.name...)
	own := append(appendLabel(nil, []byte(p.Namespace)), svc...)
	return []wire.Name{own, svc, append(wire.Name(nil), z.name...)}
}
