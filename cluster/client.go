package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/client-go/transport"
	"k8s.io/client-go/util/flowcontrol"
)

// client sends requests to the API server with client-go's credentials.
type client struct {
	cfg     Config
	limiter flowcontrol.RateLimiter // nil unless the configuration asks for one: the reader's own pauses bound its requests
	slots   chan struct{}           // bounds requests without a response; nil for no bound

	mu     sync.Mutex
	target *target
	loaded time.Time
}

// target is the API server with the credentials as they were when it was made.
type target struct {
	http *http.Client
	base *url.URL
}

func newClient(cfg Config) (*client, error) {
	t, err := newTarget(cfg)
	if err != nil {
		return nil, err
	}
	c := &client{cfg: cfg, target: t, loaded: time.Now()}
	qps, burst := rest.DefaultQPS, rest.DefaultBurst
	if cfg.QPS > 0 {
		qps = cfg.QPS
	}
	if cfg.Burst > 0 {
		burst = cfg.Burst
	}
	if cfg.QPS > 0 || cfg.Burst > 0 {
		c.limiter = flowcontrol.NewTokenBucketRateLimiter(qps, burst)
	}
	if cfg.MaxInFlight > 0 {
		c.slots = make(chan struct{}, cfg.MaxInFlight)
	}
	return c, nil
}

// newTarget reads the credentials. The transport is our own: client-go's is shared by the process and watches files from
// goroutines that never end.
func newTarget(cfg Config) (*target, error) {
	rc, err := restConfig(cfg)
	if err != nil {
		return nil, err
	}
	if err := rest.LoadTLSFiles(rc); err != nil {
		return nil, err
	}
	rc.CertFile, rc.KeyFile, rc.CAFile = "", "", ""
	base, _, err := rest.DefaultServerUrlFor(withGroupVersion(rc))
	if err != nil {
		return nil, err
	}
	tc, err := rc.TransportConfig()
	if err != nil {
		return nil, err
	}
	tlsConfig, err := transport.TLSConfigFor(tc)
	if err != nil {
		return nil, err
	}
	if tlsConfig != nil {
		tlsConfig.NextProtos = []string{"http/1.1"}
	}
	rt, err := transport.HTTPWrappersForConfig(tc, newTransport(rc, tlsConfig))
	if err != nil {
		return nil, err
	}
	return &target{http: &http.Client{Transport: rt}, base: base}, nil
}

// newTransport speaks HTTP/1.1, so that a decoder that falls behind is felt by the server after a few hundred kilobytes
// of kernel buffers instead of the 4 MiB a stream that Go's HTTP/2 client buffers. A server that vanished is noticed by
// keep-alives, not by the next frame that never comes.
func newTransport(rc *rest.Config, tlsConfig *tls.Config) *http.Transport {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	proxy := rc.Proxy
	if proxy == nil {
		proxy = http.ProxyFromEnvironment
	}
	return &http.Transport{
		Proxy: proxy, DialContext: dialer.DialContext, TLSClientConfig: tlsConfig, DisableCompression: true,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 60 * time.Second, IdleConnTimeout: 90 * time.Second,
		MaxIdleConnsPerHost: 8, ReadBufferSize: 32 << 10, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
	}
}

// current is the target to send to.
func (c *client) current() *target {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.target
}

// reload reads the credentials anew, at most every few seconds: certificates and authorities are replaced in place.
func (c *client) reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.loaded) < 5*time.Second {
		return
	}
	c.loaded = time.Now()
	t, err := newTarget(c.cfg)
	if err != nil {
		c.cfg.Log.Warn("the credentials for the API server cannot be read, keeping the old ones", "reason", err.Error())
		return
	}
	c.target.http.CloseIdleConnections()
	c.target = t
}

// close drops the connections that are not in use.
func (c *client) close() { c.current().http.CloseIdleConnections() }

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
	if c.limiter != nil {
		if err := c.limiter.Wait(ctx); err != nil {
			return nil, err
		}
	}
	if c.slots != nil {
		select {
		case c.slots <- struct{}{}:
			defer func() { <-c.slots }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	t := c.current()
	u := *t.base
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
	if c.cfg.UserAgent != "" {
		req.Header.Set("User-Agent", c.cfg.UserAgent)
	}
	sent := time.Now()
	resp, err := t.http.Do(req)
	if untrusted(resp, err) {
		c.reload()
	}
	if c.cfg.Observe.Request != nil {
		code := "<error>"
		if err == nil {
			code = strconv.Itoa(resp.StatusCode)
		}
		c.cfg.Observe.Request(http.MethodGet, code, u.Host, sent.Sub(begin), time.Since(sent))
	}
	return resp, err
}

// untrusted reports whether one side does not accept the other's credentials, which may have been replaced on disk.
func untrusted(resp *http.Response, err error) bool {
	if err == nil {
		return resp.StatusCode == http.StatusUnauthorized
	}
	var verify *tls.CertificateVerificationError
	return errors.As(err, &verify) || strings.Contains(err.Error(), "remote error: tls: ")
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
