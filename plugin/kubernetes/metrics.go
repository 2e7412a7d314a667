package kubernetes

import (
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/cluster"
	"github.com/godwit-dns/godwit/metrics"
)

// Buckets as CoreDNS has them: client_golang's default ones for requests, 1 ms doubled 20 times for programming. What is
// Godwit's own work takes less.
var (
	requestBuckets     = []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	programmingBuckets = doubled(0.001, 20)
	publishBuckets     = doubled(0.00001, 20)
)

func doubled(first float64, n int) []float64 {
	list := make([]float64, n)
	for i := range list {
		list[i] = first
		first *= 2
	}
	return list
}

// observer counts what a Cluster reports. Series come into being with their first observation, as in CoreDNS.
func observer(env *chain.Env) cluster.Observer {
	m := env.Metrics
	published := m.Histogram("godwit_kubernetes_publish_duration_seconds",
		"Time from reading a change of a Service or of its endpoints to serving it.", publishBuckets)
	return cluster.Observer{
		Request: func(method, code, host string, waited, took time.Duration) {
			labels := metrics.L("verb", method, "host", host)
			m.Counter("coredns_kubernetes_rest_client_requests_total",
				"Number of HTTP requests, partitioned by status code, method, and host.",
				metrics.L("code", code, "method", method, "host", host)...).Inc(m.Shared())
			m.Histogram("coredns_kubernetes_rest_client_request_duration_seconds",
				"Request latency in seconds. Broken down by verb and host.", requestBuckets, labels...).Observe(m.Shared(), took.Seconds())
			m.Histogram("coredns_kubernetes_rest_client_rate_limiter_duration_seconds",
				"Client side rate limiter latency in seconds. Broken down by verb and host.", requestBuckets, labels...).
				Observe(m.Shared(), waited.Seconds())
		},
		Published: func(took time.Duration) { published.Observe(m.Shared(), took.Seconds()) },
		Programming: func(kind string, took time.Duration) {
			m.Histogram("coredns_kubernetes_dns_programming_duration_seconds",
				"Histogram of the time (in seconds) it took to program a dns instance.", programmingBuckets,
				metrics.L("service_kind", kind)...).Observe(m.Shared(), took.Seconds())
		},
	}
}

// gauges exposes the state of a Cluster's readers.
func gauges(env *chain.Env, c *cluster.Cluster) {
	for _, r := range c.Stats().Resources {
		name := r.Name
		of := func(metric, help string, f func(r cluster.ResourceStats) float64) {
			env.Metrics.GaugeFunc(metric, help, func() float64 {
				for _, r := range c.Stats().Resources {
					if r.Name == name {
						return f(r)
					}
				}
				return 0
			}, metrics.L("resource", name)...)
		}
		of("godwit_kubernetes_staleness_seconds", "Time since the API server last said anything about a resource.",
			func(r cluster.ResourceStats) float64 { return r.Staleness.Seconds() })
		of("godwit_kubernetes_synced", "Whether a complete list of a resource has been read.",
			func(r cluster.ResourceStats) float64 { return number(r.Synced) })
		of("godwit_kubernetes_forbidden", "How often the API server forbade reading a resource.",
			func(r cluster.ResourceStats) float64 { return float64(r.Forbidden) })
		of("godwit_kubernetes_relists", "How often a complete list of a resource was asked for.",
			func(r cluster.ResourceStats) float64 { return float64(r.Relists) })
	}
	env.Metrics.GaugeFunc("godwit_kubernetes_from_snapshot", "Whether answers come from the snapshot on disk.",
		func() float64 { return number(c.Stats().FromSnapshot) })
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
