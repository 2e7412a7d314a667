package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"unicode/utf8"

	"github.com/godwit-dns/godwit/corefile"
)

// defaultKubeDNS is where the kube-dns ConfigMap is mounted unless a flag says otherwise.
const defaultKubeDNS = "/etc/kube-dns"

// dnsConfig is what the kube-dns ConfigMap says.
type dnsConfig struct {
	Stubs    map[string][]string // servers by domain
	Upstream []string
}

const (
	mostUpstreams = 3  // as in node-cache
	mostServers   = 15 // forward takes no more
	// mostConfigMap bounds a key's value; a whole ConfigMap has at most 1 MiB.
	mostConfigMap = 1 << 20
)

// readConfigMap reads the two keys from a mounted ConfigMap's folder. A key that is not there says nothing, and a
// ConfigMap that is wrong anywhere says nothing at all, as in node-cache.
func readConfigMap(folder string) (c dnsConfig, err error) {
	if info, err := os.Stat(folder); err != nil {
		return c, fmt.Errorf("the kube-dns ConfigMap: %w", err)
	} else if !info.IsDir() {
		return c, fmt.Errorf("the kube-dns ConfigMap: %s is no folder", folder)
	}
	if err := readKey(folder, "stubDomains", &c.Stubs); err != nil {
		return dnsConfig{}, err
	}
	if err := readKey(folder, "upstreamNameservers", &c.Upstream); err != nil {
		return dnsConfig{}, err
	}
	if err := c.check(); err != nil {
		return dnsConfig{}, fmt.Errorf("%s: %w", folder, err)
	}
	return c, nil
}

// readKey reads the JSON of one key.
func readKey(folder, key string, into any) error {
	path := filepath.Join(folder, key)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("the kube-dns ConfigMap: %w", err)
	case len(text) > mostConfigMap:
		return fmt.Errorf("%s: more than %d octets", path, mostConfigMap)
	case !utf8.Valid(text):
		return fmt.Errorf("%s: not UTF-8", path)
	}
	if err := json.Unmarshal(text, into); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			line, column := place(text[:max(syntax.Offset-1, 0)])
			return fmt.Errorf("%s:%d:%d: %w", path, line, column, err)
		}
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// subdomain is a name as Kubernetes takes it for a DNS subdomain (RFC 1123, 2.1).
var subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

func (c dnsConfig) check() error {
	for domain, servers := range c.Stubs {
		switch {
		case len(domain) > 253 || !subdomain.MatchString(domain):
			return fmt.Errorf("stubDomains: %q is no domain in small letters, without a dot at the end", domain)
		case len(servers) == 0 || len(servers) > mostServers:
			return fmt.Errorf("stubDomains: %q has %d servers; 1 to %d are possible", domain, len(servers), mostServers)
		}
		for _, s := range servers {
			if !isServer(s) {
				return fmt.Errorf("stubDomains: %q: %q is neither ADDRESS nor ADDRESS:PORT", domain, s)
			}
		}
	}
	if len(c.Upstream) > mostUpstreams {
		return fmt.Errorf("upstreamNameservers has %d entries; at most %d are possible", len(c.Upstream), mostUpstreams)
	}
	for _, s := range c.Upstream {
		if !isServer(s) {
			return fmt.Errorf("upstreamNameservers: %q is neither ADDRESS nor ADDRESS:PORT", s)
		}
	}
	return nil
}

func isServer(text string) bool {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Zone() == ""
	}
	a, err := netip.ParseAddrPort(text)
	return err == nil && a.Port() != 0 && a.Addr().Zone() == ""
}

// without takes out the stub domains that a filled template serves itself: two blocks for one zone would load nowhere.
func (c *dnsConfig) without(taken []string) (left []string) {
	stubs := map[string][]string{}
	for domain, servers := range c.Stubs {
		if slices.Contains(taken, domain+".") {
			left = append(left, domain)
			continue
		}
		stubs[domain] = servers
	}
	c.Stubs = stubs
	slices.Sort(left)
	return left
}

// zonesOn lists the zones that a Corefile serves on a port; nil when it does not parse, which whoever loads it will say.
func zonesOn(files fs.FS, name string, text []byte, port string, env func(string) (string, bool)) (zones []string) {
	file, err := corefile.Parse(files, name, text, env)
	if err != nil {
		return nil
	}
	for _, block := range file.Blocks {
		keys, err := corefile.Keys(block.Keys, port)
		if err != nil {
			return nil
		}
		for _, k := range keys {
			if k.Transport == corefile.TransportDNS && k.Port == port {
				zones = append(zones, k.Zone)
			}
		}
	}
	return zones
}
