package netns

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// What docs/node.md promises after a signal: the time until pods are answered again.
const (
	afterDeath = 100 * time.Millisecond // the kernel takes the rules with the process
	afterHang  = 2 * time.Second        // the lease ends; also after a death in iptables mode
)

// silence is a way for an agent to fall silent, and who asks it.
type silence struct {
	name    string
	servers []string
	signal  syscall.Signal
	agent   AgentOptions
	pods    bool // the fallback leads to the server pods
	ipvs    bool
}

// toService sends queries to addresses that no Service has to one of the cluster's servers while the agent is silent. For
// IPv4 alone the agent knows it without.
func toService() []string {
	return []string{"-fallback", Upstream4 + "," + Upstream6, "-fallback-for", LinkLocal4 + "," + LinkLocal6}
}

// toPods sends them to the server pods.
func (l *Lab) toPods() []string {
	var all []string
	for _, s := range l.Servers {
		all = append(all, s.Addr4.String(), s.Addr6.String())
	}
	return []string{"-fallback", strings.Join(all, ","), "-fallback-for", LinkLocal4 + "," + LinkLocal6}
}

// TestSilence kills and stops the agent: the promises of docs/node.md, for the cluster DNS address, for the link-local one,
// and for the link-local one where IPVS has the cluster's.
func TestSilence(t *testing.T) {
	t.Parallel()
	cluster, local := []string{ClusterDNS4, ClusterDNS6}, []string{LinkLocal4, LinkLocal6}
	all, alone := strings.Join(append(cluster, local...), ","), strings.Join(local, ",")
	for _, test := range []silence{
		{name: "death", servers: cluster, signal: syscall.SIGKILL, agent: AgentOptions{Local: all, Args: toService()}},
		{name: "hang", servers: cluster, signal: syscall.SIGSTOP, agent: AgentOptions{Local: all, Args: toService()}},
		{name: "link-local death", servers: local, signal: syscall.SIGKILL, agent: AgentOptions{Local: all, Args: toService()}},
		{name: "link-local hang", servers: local, signal: syscall.SIGSTOP, agent: AgentOptions{Local: all, Args: toService()}},
		{name: "link-local death, no flags", servers: local[:1], signal: syscall.SIGKILL},
		{name: "link-local hang, no flags", servers: local[:1], signal: syscall.SIGSTOP},
		{name: "link-local death, to pods", servers: local, signal: syscall.SIGKILL, agent: AgentOptions{Local: all}, pods: true},
		{name: "IPVS death", servers: local, signal: syscall.SIGKILL, agent: AgentOptions{Local: alone, Args: toService()}, ipvs: true},
		{name: "IPVS hang", servers: local, signal: syscall.SIGSTOP, agent: AgentOptions{Local: alone, Args: toService()}, ipvs: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := NewLab(t, 4)
			if test.pods {
				test.agent.Args = l.toPods()
			}
			if test.ipvs {
				l.IPVS()
			}
			l.fallSilent(t, test)
		})
	}
}

// within is what docs/node.md promises.
func (s silence) within() time.Duration {
	if s.signal == syscall.SIGKILL {
		return afterDeath
	}
	return afterHang
}

// fallSilent sends the signal under load and holds the losses to the promise; then another agent starts and ends.
func (l *Lab) fallSilent(t *testing.T, test silence) {
	t.Helper()
	load := Load{Pods: l.Pods, Servers: test.servers, Rate: 400}
	a := l.Agent(test.agent).Ready()
	var at time.Time
	r := l.under(load, func() {
		at = time.Now()
		a.Signal(test.signal)
		time.Sleep(test.within() + slack()) // and it goes on for a second
	})
	if r.Sent-r.Lost < r.Sent/3 {
		t.Fatalf("hardly anything was answered: %v", r)
	}
	if last := r.LastLoss(at); last > test.within()+slack() {
		t.Errorf("still lost %v after the signal, promised within %v: %v, at %v", last, test.within(), r, r.Gaps())
	}
	a.Signal(syscall.SIGKILL)
	a.Signal(syscall.SIGCONT)
	a.Wait(5 * time.Second)
	l.wantOnly(t)
	next := l.Agent(test.agent).Ready()
	wantNoLoss(t, l.under(load, func() {}))
	next.End()
	l.wantClean(t)
}

// IPVS stands for kube-proxy's mode of that name: the Services' addresses are the node's own, on an interface of their
// own, so that what is sent to them is delivered here, where servers answer in the place of IPVS.
func (l *Lab) IPVS() {
	l.T.Helper()
	l.KubeProxy("none")
	l.Node.Run("ip", "link", "add", "kube-ipvs0", "type", "bridge")
	for _, s := range services {
		l.Node.Run("ip", "addr", "add", s.v4+"/32", "dev", "kube-ipvs0")
		l.Node.Run("ip", "addr", "add", s.v6+"/128", "dev", "kube-ipvs0", "nodad")
	}
	l.Node.Run("ip", "link", "set", "kube-ipvs0", "up")
	for _, s := range services {
		l.Servers = append(l.Servers, l.Serve(&Pod{l.Node, parse(s.v4), parse(s.v6)}))
	}
}

// TestRestartLinkLocal upgrades in place with -skipteardown, which leaves the fallback to answer in between.
func TestRestartLinkLocal(t *testing.T) {
	t.Parallel()
	l := NewLab(t, 4)
	local := []string{LinkLocal4, LinkLocal6}
	o := AgentOptions{Local: strings.Join(local, ","), Args: append(toService(), "-skipteardown")}
	a := l.Agent(o).Ready()
	wantNoLoss(t, l.under(Load{Pods: l.Pods, Servers: local, Rate: 400, TCPRate: 20}, func() {
		for range rounds(2, 30) {
			a.End()
			time.Sleep(300 * time.Millisecond)
			a = l.Agent(o).Ready()
		}
	}))
	a.End()
}
