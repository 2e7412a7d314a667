package cluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/util/flowcontrol"
)

// client sends requests to the API server with client-go's credentials.
type client struct {
	http    *http.Client
	base    *url.URL
	agent   string
	limiter flowcontrol.RateLimiter
	slots   chan struct{} // bounds requests without a response; nil for no bound
	observe Observer
}

func newClient(cfg Config) (*client, error) {
	rc, err := restConfig(cfg)
	if err != nil {
		return nil, err
	}
	rc.UserAgent = cfg.UserAgent
	// HTTP/1.1, so that a decoder that falls behind is felt by the server after a few hundred kilobytes of kernel buffers
	// instead of the 4 MiB a stream that Go's HTTP/2 client buffers.
	rc.NextProtos = []string{"http/1.1"}
	rc.DisableCompression = true
	// A node that vanished is noticed by keep-alives, not by the next frame that never comes.
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	rc.Dial = dialer.DialContext
	rc.Timeout = 0
	hc, err := rest.HTTPClientFor(rc)
	if err != nil {
		return nil, err
	}
	base, _, err := rest.DefaultServerUrlFor(withGroupVersion(rc))
	if err != nil {
		return nil, err
	}
	c := &client{http: hc, base: base, agent: cfg.UserAgent, observe: cfg.Observe}
	qps, burst := rest.DefaultQPS, rest.DefaultBurst
	if cfg.QPS > 0 {
		qps = cfg.QPS
	}
	if cfg.Burst > 0 {
		burst = cfg.Burst
	}
	c.limiter = flowcontrol.NewTokenBucketRateLimiter(qps, burst)
	if cfg.MaxInFlight > 0 {
		c.slots = make(chan struct{}, cfg.MaxInFlight)
	}
	return c, nil
}

// withGroupVersion satisfies DefaultServerUrlFor, which wants one to make a path of; only the host part is used.
func withGroupVersion(rc *rest.Config) *rest.Config {
	d := *rc
	d.GroupVersion = &schema.GroupVersion{Version: "v1"}
	return &d
}

func restConfig(cfg Config) (*rest.Config, error) {
	switch {
	case cfg.Kubeconfig != "":
		rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: cfg.Kubeconfig}
		overrides := &clientcmd.ConfigOverrides{CurrentContext: cfg.Context}
		return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
	case cfg.Endpoint != "":
		overrides := &clientcmd.ConfigOverrides{
			ClusterInfo: clientcmdapi.Cluster{Server: cfg.Endpoint, CertificateAuthority: cfg.CAFile},
			AuthInfo:    clientcmdapi.AuthInfo{ClientCertificate: cfg.CertFile, ClientKey: cfg.KeyFile},
		}
		return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(&clientcmd.ClientConfigLoadingRules{}, overrides).ClientConfig()
	}
	rc, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("%w (outside a pod, name the cluster with kubeconfig, endpoint or manifests)", err)
	}
	return rc, nil
}

// checkSelectors refuses label selectors that do not parse.
func checkSelectors(cfg Config) error {
	for _, s := range []string{cfg.Selector, cfg.NamespaceSelector} {
		if _, err := labels.Parse(s); err != nil {
			return fmt.Errorf("label selector %q: %w", s, err)
		}
	}
	return nil
}

const (
	acceptProto = "application/vnd.kubernetes.protobuf,application/json"
	acceptJSON  = "application/json"
)

// get sends one request and gives its response, whatever its status. The body is the caller's to close.
func (c *client) get(ctx context.Context, path string, query url.Values, json bool) (*http.Response, error) {
	begin := time.Now()
	if err := c.limiter.Wait(ctx); err != nil {
		return nil, err
	}
	if c.slots != nil {
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	u := *c.base
	u.Path = joinPath(u.Path, path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", acceptProto)
	if json {
		req.Header.Set("Accept", acceptJSON)
	}
	if c.agent != "" {
		req.Header.Set("User-Agent", c.agent)
	}
	sent := time.Now()
	resp, err := c.http.Do(req)
	if c.observe.Request != nil {
		code := "<error>"
		if err == nil {
			code = strconv.Itoa(resp.StatusCode)
		}
		c.observe.Request(http.MethodGet, code, u.Host, sent.Sub(begin), time.Since(sent))
	}
	return resp, err
}

func joinPath(base, path string) string {
	for len(base) > 0 && base[len(base)-1] == '/' {
		base = base[:len(base)-1]
	}
	return base + path
}

// ParseSelector checks a label selector as kubectl takes it and gives its canonical form.
func ParseSelector(s string) (string, error) {
	sel, err := labels.Parse(s)
	if err != nil {
		return "", err
	}
	return sel.String(), nil
}
