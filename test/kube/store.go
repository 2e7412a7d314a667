package kube

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"time"
)

// storeService writes a Service of type ClusterIP and the IPAddress object
// that holds its address, both or neither. A Service that exists is left as it
// is; an address that is taken is passed over.
func (p *Plane) storeService(ctx context.Context, w write) error {
	serviceKey := "/registry/services/specs/" + w.namespace + "/" + w.name
	for {
		n := p.addresses.Add(1)
		if n > 0xfe00 {
			return fmt.Errorf("%s: no Service addresses are left in %s", serviceKey, ServiceCIDRs)
		}
		// The first 256 addresses are for those whom somebody gives a fixed one.
		n += 0xff
		address := fmt.Sprintf("10.96.%d.%d", n>>8, n&0xff)
		service, err := json.Marshal(w.stored(address))
		if err != nil {
			return err
		}
		holder, err := json.Marshal(w.holder(address))
		if err != nil {
			return err
		}
		addressKey := "/registry/ipaddresses/" + address
		answer, err := p.askEtcd(ctx, http.MethodPost, "/v3/kv/txn", map[string]any{
			"compare": []any{absent(serviceKey), absent(addressKey)},
			"success": []any{put(serviceKey, service), put(addressKey, holder)},
			"failure": []any{map[string]any{"requestRange": map[string]any{"key": bytes64(serviceKey), "countOnly": true}}},
		})
		if err != nil {
			return err
		}
		done, err := stored(answer)
		if err != nil || done {
			return err
		}
	}
}

// stored reads a transaction's outcome: true when the Service is there, false
// when only its address was taken.
func stored(answer []byte) (bool, error) {
	var outcome struct {
		Succeeded bool `json:"succeeded"`
		Responses []struct {
			Range struct {
				Count string `json:"count"`
			} `json:"response_range"`
		} `json:"responses"`
	}
	if err := json.Unmarshal(answer, &outcome); err != nil {
		return false, fmt.Errorf("etcd's answer to a transaction: %w", err)
	}
	if outcome.Succeeded {
		return true, nil
	}
	if len(outcome.Responses) != 1 {
		return false, fmt.Errorf("etcd's answer to a transaction: %s", answer)
	}
	return outcome.Responses[0].Range.Count == "1", nil
}

func absent(key string) map[string]any {
	return map[string]any{"key": bytes64(key), "target": "CREATE", "result": "EQUAL", "createRevision": "0"}
}

func put(key string, value []byte) map[string]any {
	return map[string]any{"requestPut": map[string]any{"key": bytes64(key), "value": value}}
}

// stored is the Service as the API server would have stored it: with an
// identity, an address and every default.
func (w write) stored(address string) map[string]any {
	spec := maps.Clone(w.body["spec"].(map[string]any))
	maps.Copy(spec, map[string]any{
		"type":                  "ClusterIP",
		"clusterIP":             address,
		"clusterIPs":            []string{address},
		"ipFamilies":            []string{"IPv4"},
		"ipFamilyPolicy":        "SingleStack",
		"internalTrafficPolicy": "Cluster",
		"sessionAffinity":       "None",
	})
	return map[string]any{
		"apiVersion": "v1",
		"kind":       "Service",
		"metadata":   identity(w.namespace, w.name),
		"spec":       spec,
		"status":     map[string]any{"loadBalancer": map[string]any{}},
	}
}

// holder is the IPAddress object that keeps the address from being given out
// twice and is deleted with the Service.
func (w write) holder(address string) map[string]any {
	meta := identity("", address)
	meta["labels"] = map[string]any{
		"ipaddress.kubernetes.io/ip-family":  "IPv4",
		"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
	}
	return map[string]any{
		"apiVersion": "networking.k8s.io/v1",
		"kind":       "IPAddress",
		"metadata":   meta,
		"spec": map[string]any{"parentRef": map[string]any{
			"resource": "services", "namespace": w.namespace, "name": w.name,
		}},
	}
}

// identity is the metadata that the API server gives each new object.
func identity(namespace, name string) map[string]any {
	var id [16]byte
	_, _ = rand.Read(id[:])   // never fails, says its documentation
	id[6] = id[6]&0x0f | 4<<4 // version 4 (RFC 9562 section 5.4)
	id[8] = id[8]&0x3f | 2<<6 // and its variant
	meta := map[string]any{
		"name":              name,
		"uid":               fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]),
		"creationTimestamp": time.Now().UTC().Format(time.RFC3339),
	}
	if namespace != "" {
		meta["namespace"] = namespace
	}
	return meta
}
