package searchpath

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/godwit-dns/godwit/cluster"
	"github.com/godwit-dns/godwit/wire"
)

// client is a pod as its queries are seen. It never changes.
type client struct {
	off    reason // why its walks are never finished; completable where they are
	id     uint64
	search []wire.Name   // the suffixes in order; the first three are in the cluster
	labels [3]int        // of those three
	ndots  int           // names with fewer dots are looked for in the suffixes first
	ready  time.Duration // from then on, by the loops' clock
}

func (c *client) reason() reason {
	if c == nil {
		return unknownClient
	}
	return c.off
}

// table holds the clients by address. What it points to is replaced whole.
type table struct {
	clients atomic.Pointer[map[netip.Addr]*client]
}

// lists makes the search lists as the kubelet does for pods with the policy ClusterFirst.
type lists struct {
	domain string   // without dots at its ends
	node   []string // the node's own search list, without names in the domain
	seed   maphash.Seed
	clock  func() time.Duration
	wall   func() time.Time
}

// Stubs know only so much of a resolv.conf: glibc before 2.26 six suffixes in 256 octets, musl a line of 255.
const (
	maxSuffixes = 6
	maxLine     = 255
	maxNdots    = 15 // both take a larger one for this
)

// ambiguous stands for an address that several pods have, or whose pod cannot be told from another.
var ambiguous = client{off: unknownClient}

// set replaces the table by one of these pods. Those in the node's own network have its address, which says nothing.
func (t *table) set(l *lists, pods []*cluster.NodePod) {
	m := make(map[netip.Addr]*client, len(pods))
	for _, p := range pods {
		if p.HostNetwork {
			continue
		}
		c := l.client(p)
		for _, a := range p.Addrs {
			if m[a] != nil {
				m[a] = &ambiguous
				continue
			}
			m[a] = c
		}
	}
	for _, p := range pods {
		for _, a := range p.Addrs {
			if p.HostNetwork && m[a] != nil {
				m[a] = &ambiguous
			}
		}
	}
	t.clients.Store(&m)
}

// client makes what is kept of a pod.
func (l *lists) client(p *cluster.NodePod) *client {
	c := &client{id: maphash.String(l.seed, p.UID+"\x00"+p.Namespace+"/"+p.Name), ndots: 5}
	c.ready = l.clock() + youngest - l.wall().Sub(p.Since)
	if p.DNSPolicy != "" && p.DNSPolicy != "ClusterFirst" || p.Nameservers > 0 || !c.options(p.Options) || !c.suffixes(l.search(p)) {
		return &client{off: podPolicy}
	}
	return c
}

// options reads a pod's own; false when one may change the walk in a way that is not known here.
func (c *client) options(options []cluster.PodOption) bool {
	for _, o := range options {
		switch o.Name {
		case "ndots":
			n, err := strconv.Atoi(o.Value)
			if err != nil || n < 0 {
				return false
			}
			c.ndots = min(n, maxNdots)
		case "timeout", "attempts", "rotate", "single-request", "single-request-reopen", "edns0", "use-vc", "trust-ad", "no-reload",
			"no-aaaa", "no-check-names", "debug":
		default:
			return false
		}
	}
	return true
}

// search is the pod's list: three suffixes of the cluster, the node's, its own, each once.
func (l *lists) search(p *cluster.NodePod) []string {
	svc := "svc." + l.domain
	all := append([]string{p.Namespace + "." + svc, svc, l.domain}, l.node...)
	all = append(all, p.Searches...)
	have := map[string]bool{}
	list := all[:0]
	for _, s := range all {
		if s = strings.TrimSuffix(strings.ToLower(s), "."); !have[s] {
			have[s] = true
			list = append(list, s)
		}
	}
	return list
}

// suffixes takes the list; false when stubs would not all take it in whole, or not in this order.
func (c *client) suffixes(list []string) bool {
	if len(list) > maxSuffixes || len("search "+strings.Join(list, " ")+"\n") > maxLine {
		return false
	}
	for i, s := range list {
		name, err := wire.ParseName(s)
		if err != nil || len(name) == 1 {
			return false
		}
		if i < len(c.labels) {
			c.labels[i] = name.Labels()
		}
		c.search = append(c.search, name)
	}
	return true
}

// readSearch gives the node's search list from a file like /etc/resolv.conf: the last such line counts. What the kubelet
// put in front for this pod itself is left out.
func readSearch(files fs.FS, name, domain string) ([]string, error) {
	b, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, fmt.Errorf("%w; the file says which search list the node hands on to its pods: name it with resolv_conf", err)
	}
	var list []string
	for line := range bytes.Lines(b) {
		words := strings.Fields(string(line))
		if len(words) == 0 || words[0] != "search" {
			continue
		}
		list = nil
		for _, w := range words[1:] {
			w = strings.ToLower(strings.TrimSuffix(w, "."))
			if w != "" && w != domain && !strings.HasSuffix(w, "."+domain) {
				list = append(list, w)
			}
		}
	}
	return list, nil
}
