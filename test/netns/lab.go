package netns

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Addresses of the lab: one node with its pods behind a bridge, a router, and the servers behind it.
const (
	ClusterDNS4 = "10.96.0.10" // the cluster DNS Service, which pods ask and the agent takes
	Upstream4   = "10.96.0.99" // a second Service for the same servers, which the agent asks
	LinkLocal4  = "169.254.20.10"
	ClusterDNS6 = "fd00:96::10"
	Upstream6   = "fd00:96::99"
	LinkLocal6  = "fd00:169:254:20::10" // stands for a link-local one: glibc takes no zone in resolv.conf
)

// binaryVariable names the program under test.
const binaryVariable = "GODWIT_BINARY"

// Lab is a node with pods, and the cluster's DNS servers elsewhere.
type Lab struct {
	T       testing.TB
	Node    *Namespace
	Router  *Namespace
	Pods    []*Pod
	Servers []*Server
	dir     string
	binary  string
	undo    func() // takes kube-proxy's rules away
}

// Pod is a namespace with an address of each family.
type Pod struct {
	*Namespace
	Addr4, Addr6 netip.Addr
}

// NewLab builds a lab with some pods and two servers, and kube-proxy's rules for both Services.
func NewLab(t testing.TB, pods int) *Lab {
	t.Helper()
	dir, err := os.MkdirTemp("", "netns") // the testing package's is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := &Lab{T: t, dir: dir, binary: os.Getenv(binaryVariable)}
	id := newName("")
	l.Node, l.Router = newNamespace(t, id+"node"), newNamespace(t, id+"net")
	l.wire()
	for i := range pods {
		l.addPod(id, i)
	}
	for i := range 2 {
		l.Servers = append(l.Servers, l.addServer(id, i))
	}
	l.KubeProxy("iptables")
	l.settle()
	return l
}

// settle asks once from each pod with each family, so that no later test pays for finding neighbours.
func (l *Lab) settle() {
	l.T.Helper()
	var asks sync.WaitGroup
	for _, p := range l.Pods {
		for _, server := range []string{ClusterDNS4, ClusterDNS6} {
			asks.Go(func() {
				if _, _, err := p.Ask(server, "settle.none.", dns.TypeA, 5*time.Second); err != nil {
					l.T.Errorf("the lab itself does not answer: %v", err)
				}
			})
		}
	}
	asks.Wait()
}

// wire connects the node with the router and gives both what a node has: forwarding, a bridge for pods, routes.
func (l *Lab) wire() {
	l.Node.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "node", "netns", l.Router.Name)
	for _, n := range []*Namespace{l.Node, l.Router} {
		n.Set("net/ipv4/ip_forward", "1")
		n.Set("net/ipv6/conf/all/forwarding", "1")
	}
	for dev, n := range map[string]*Namespace{"eth0": l.Node, "node": l.Router} {
		host := map[string]int{"eth0": 2, "node": 1}[dev]
		n.Run("ip", "addr", "add", fmt.Sprintf("192.168.77.%d/24", host), "dev", dev)
		n.Run("ip", "addr", "add", fmt.Sprintf("fd00:77::%d/64", host), "dev", dev, "nodad")
		n.Run("ip", "link", "set", dev, "up")
	}
	l.bridge(l.Node, "cni0", 1)
	l.bridge(l.Router, "far0", 2)
	l.Node.Run("ip", "route", "add", "default", "via", "192.168.77.1")
	l.Node.Run("ip", "-6", "route", "add", "default", "via", "fd00:77::1")
	l.Router.Run("ip", "route", "add", "10.244.1.0/24", "via", "192.168.77.2")
	l.Router.Run("ip", "-6", "route", "add", "fd00:244:1::/64", "via", "fd00:77::2")
}

func (l *Lab) bridge(n *Namespace, name string, net int) {
	n.Run("ip", "link", "add", name, "type", "bridge", "mcast_snooping", "0") // which would hold up the first packets to new neighbours
	n.Run("ip", "addr", "add", fmt.Sprintf("10.244.%d.1/24", net), "dev", name)
	n.Run("ip", "addr", "add", fmt.Sprintf("fd00:244:%d::1/64", net), "dev", name, "nodad")
	n.Run("ip", "link", "set", name, "up")
}

// attach makes a namespace with its eth0 at a bridge.
func (l *Lab) attach(at *Namespace, bridge, name, port string, net, host int) *Pod {
	n := newNamespace(l.T, name)
	at.Run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
	at.Run("ip", "link", "set", port, "master", bridge, "up")
	p := &Pod{n, parse(fmt.Sprintf("10.244.%d.%d", net, host)), parse(fmt.Sprintf("fd00:244:%d::%x", net, host))}
	n.Run("ip", "addr", "add", p.Addr4.String()+"/24", "dev", "eth0")
	n.Run("ip", "addr", "add", p.Addr6.String()+"/64", "dev", "eth0", "nodad")
	n.Run("ip", "link", "set", "eth0", "up")
	n.Run("ip", "route", "add", "default", "via", fmt.Sprintf("10.244.%d.1", net))
	n.Run("ip", "-6", "route", "add", "default", "via", fmt.Sprintf("fd00:244:%d::1", net))
	return p
}

func (l *Lab) addPod(id string, i int) {
	l.Pods = append(l.Pods, l.attach(l.Node, "cni0", fmt.Sprintf("%spod%d", id, i), fmt.Sprintf("veth%d", i), 1, 10+i))
}

// parse reads an address that the lab made up.
func parse(ip string) netip.Addr { return netip.MustParseAddr(ip) }
