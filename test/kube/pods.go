package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"sync"
)

// LoadPods writes running pods straight into etcd: pod-0 to pod-(count-1), in the namespaces that a Load without Prefix
// has made, with addresses from first on. Pods that exist are left as they are. It returns the first error.
func (p *Plane) LoadPods(ctx context.Context, count, namespaces int, first netip.Addr) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan int, 32) // closed here, when all has been sent
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for i := range work {
				if ctx.Err() != nil {
					continue // drained, so that the sender never hangs
				}
				if err := p.storePod(ctx, i, fmt.Sprintf("load-%d", i%namespaces), plus(first, i)); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := range count {
		work <- i
	}
	close(work)
	workers.Wait()
	return context.Cause(ctx)
}

func plus(a netip.Addr, n int) netip.Addr {
	b := a.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	v += uint32(n)
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

func (p *Plane) storePod(ctx context.Context, i int, namespace string, addr netip.Addr) error {
	name := fmt.Sprintf("pod-%d", i)
	meta := identity(namespace, name)
	maps.Copy(meta, map[string]any{"labels": map[string]any{"app": fmt.Sprintf("app-%d", i%1000), "pod-template-hash": "6d4cf56db6"}})
	body, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": meta,
		"spec": map[string]any{
			"nodeName": fmt.Sprintf("node-%d", i%5000), "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
			"containers": []any{map[string]any{"name": "app", "image": "registry.example/app:1", "imagePullPolicy": "IfNotPresent"}},
		},
		"status": map[string]any{
			"phase": "Running", "hostIP": "192.0.2.10", "podIP": addr.String(), "podIPs": []any{map[string]any{"ip": addr.String()}},
		},
	})
	if err != nil {
		return err
	}
	key := "/registry/pods/" + namespace + "/" + name
	_, err = p.askEtcd(ctx, http.MethodPost, "/v3/kv/txn", map[string]any{
		"compare": []any{absent(key)}, "success": []any{put(key, body)},
	})
	return err
}
