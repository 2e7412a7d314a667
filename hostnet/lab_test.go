package hostnet

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// nodeVariable names the test that this process is to run, in namespaces that are its own.
const nodeVariable = "GODWIT_HOSTNET_NODE"

// node runs the calling test again, alone, in new network and mount namespaces, and reports whether this is that run. The
// caller returns if it is not. Nothing of the machine's own network is seen or changed.
func node(t *testing.T) bool {
	t.Helper()
	if os.Getenv(nodeVariable) == t.Name() {
		run(t, "mount --make-rprivate /", "mount -t tmpfs none /run", "ip link set lo up")
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("namespaces take root")
	}
	t.Parallel() // mostly they wait
	cmd := exec.Command(os.Args[0], "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), nodeVariable+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("in its own namespaces: %v\n%s", err, out)
	}
	return false
}

// run runs commands with a shell and gives the last one's output.
func run(t *testing.T, commands ...string) string {
	t.Helper()
	var last string
	for _, c := range commands {
		out, err := exec.Command("sh", "-c", c).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", c, err, out)
		}
		last = string(out)
	}
	return last
}

// The lab's addresses: index 0 is IPv4, 1 IPv6. A pod asks the cluster's DNS Service; kube-proxy's rules send it to a server.
// A second Service, the agents' upstream, has the same one. No Service has the last two.
var (
	podIP      = [2]netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd01::2")}
	serverIP   = [2]netip.Addr{netip.MustParseAddr("10.2.0.2"), netip.MustParseAddr("fd02::2")}
	serviceIP  = [2]netip.Addr{netip.MustParseAddr("10.96.0.10"), netip.MustParseAddr("fd96::10")}
	upstreamIP = [2]netip.Addr{netip.MustParseAddr("10.96.0.99"), netip.MustParseAddr("fd96::99")}
	aloneIP    = netip.MustParseAddr("169.254.20.10")
	alone6IP   = netip.MustParseAddr("fd00:169:254:20::10") // stands for a link-local one
)

// lab builds a node with a pod and, behind it, a cluster DNS server that answers "server".
func lab(t *testing.T) {
	t.Helper()
	labWith(t, "nftables")
}

// labWith is lab with a kind of kube-proxy's rules.
func labWith(t *testing.T, kind string) {
	t.Helper()
	run(t, "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	for i, name := range []string{"pod", "server"} {
		subnet := i + 1
		inside := "ip -n " + name + " "
		run(t, "ip netns add "+name,
			fmt.Sprintf("ip link add v%s type veth peer name eth0 netns %[1]s", name),
			fmt.Sprintf("ip addr add 10.%d.0.1/24 dev v%s", subnet, name),
			fmt.Sprintf("ip addr add fd0%d::1/64 dev v%s nodad", subnet, name),
			"ip link set v"+name+" up",
			inside+"link set lo up",
			fmt.Sprintf("%saddr add 10.%d.0.2/24 dev eth0", inside, subnet),
			fmt.Sprintf("%saddr add fd0%d::2/64 dev eth0 nodad", inside, subnet),
			inside+"link set eth0 up",
			fmt.Sprintf("%sroute add default via 10.%d.0.1", inside, subnet),
			fmt.Sprintf("%s-6 route add default via fd0%d::1", inside, subnet))
	}
	proxy(t, kind)
	// A route to it, so that what no rule takes comes to nothing instead of being refused at once.
	run(t, "ip route add default via 10.2.0.2", "ip -6 route add default via fd02::2")
	inside(t, "server", func() { serveHere(t, "server", serverIP[:]...) })
}

// proxy puts kube-proxy's rules for the lab's Services into the node. Those of iptables do not masquerade, as where
// kube-proxy does not know the cluster's addresses.
func proxy(t *testing.T, kind string) {
	t.Helper()
	if backend, ok := strings.CutPrefix(kind, "iptables-"); ok {
		for i, program := range []string{"iptables", "ip6tables"} {
			for _, service := range []netip.Addr{serviceIP[i], upstreamIP[i]} {
				for _, at := range []string{"udp PREROUTING", "tcp PREROUTING", "udp OUTPUT", "tcp OUTPUT"} {
					proto, chain, _ := strings.Cut(at, " ")
					run(t, fmt.Sprintf("%s-%s -t nat -A %s -d %s -p %s --dport 53 -j DNAT --to-destination %s", program, backend, chain, service, proto, serverIP[i]))
				}
			}
		}
		return
	}
	rules := `table inet kubeproxy {
	chain services {
		ip daddr { 10.96.0.10, 10.96.0.99 } meta l4proto {tcp, udp} th dport 53 dnat ip to 10.2.0.2
		ip6 daddr { fd96::10, fd96::99 } meta l4proto {tcp, udp} th dport 53 dnat ip6 to fd02::2
	}
	chain pre { type nat hook prerouting priority dstnat; jump services; }
	chain out { type nat hook output priority -100; jump services; }
	chain post { type nat hook postrouting priority srcnat; ct status dnat ip saddr != 10.1.0.0/24 masquerade; ct status dnat ip6 saddr != fd01::/64 masquerade; }
}`
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules)
	if out, err := nft.CombinedOutput(); err != nil {
		t.Fatalf("kube-proxy's rules: %v\n%s", err, out)
	}
}

// inside runs f in a namespace; sockets that it opens stay there.
func inside(t *testing.T, name string, f func()) {
	t.Helper()
	if name == "" {
		f()
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
	if err != nil {
		t.Fatal(err)
	}
	defer home.Close()
	there, err := os.Open(filepath.Join("/run/netns", name))
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err)
		}
	}()
	f()
}

// open connects a client in a namespace ("" is the node itself).
func open(t *testing.T, where, network string, ip netip.Addr, timeout time.Duration) (c net.Conn, err error) {
	t.Helper()
	inside(t, where, func() { c, err = net.DialTimeout(network, netip.AddrPortFrom(ip, 53).String(), timeout) })
	return c, err
}

// exchange asks once on a connection and gives the answering side's word.
func exchange(c net.Conn, network string, timeout time.Duration) (string, error) {
	c.SetDeadline(time.Now().Add(timeout))
	if network == "tcp" {
		if err := writeFrame(c, query()); err != nil {
			return "", err
		}
		m, err := readFrame(c)
		return string(m[min(len(m), queryLen):]), err
	}
	if _, err := c.Write(query()); err != nil {
		return "", err
	}
	buf := make([]byte, 512)
	n, err := c.Read(buf)
	return string(buf[min(n, queryLen):n]), err
}

// ask makes a new client ask once.
func ask(t *testing.T, where, network string, ip netip.Addr) (string, error) {
	t.Helper()
	return askFor(t, where, network, ip, 250*time.Millisecond)
}

// askFor is ask with a client of so much patience.
func askFor(t *testing.T, where, network string, ip netip.Addr, patience time.Duration) (string, error) {
	t.Helper()
	c, err := open(t, where, network, ip, patience)
	if err != nil {
		return "", err
	}
	defer c.Close()
	return exchange(c, network, patience)
}

// slack is added to every promised time: tests run beside builds. test/netns holds the promises themselves.
const slack = 3 * time.Second

// eventually asks until the word begins so, and fails when it takes longer.
func eventually(t *testing.T, where, network string, ip netip.Addr, word string, within time.Duration) {
	t.Helper()
	start := time.Now()
	for {
		got, err := ask(t, where, network, ip)
		took := time.Since(start)
		if err == nil && strings.HasPrefix(got, word) {
			t.Logf("%s to %s from %q: %s after %v", network, ip, where, word, took.Round(time.Millisecond))
			if took > within+slack {
				t.Errorf("%s to %s from %q: %s answers after %v, at most %v", network, ip, where, word, took, within)
			}
			return
		}
		if took > within+2*slack {
			t.Fatalf("%s to %s from %q: %q %v and not %s after %v", network, ip, where, got, err, word, took)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// agent is a running agent process.
type agent struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Scanner
}

// launch starts an agent and waits until it serves; its rules are not up yet.
func launch(t *testing.T, s agentSpec) *agent {
	t.Helper()
	a := begin(t, s)
	if got := a.line(); got != "ready" {
		t.Fatalf("the agent says %q", got)
	}
	return a
}

// begin starts an agent.
func begin(t *testing.T, s agentSpec) *agent {
	t.Helper()
	a := &agent{t: t, cmd: exec.Command(os.Args[0])}
	spec, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	a.cmd.Env = append(os.Environ(), agentVariable+"="+string(spec))
	a.cmd.Stderr = os.Stderr
	a.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := a.cmd.StdinPipe()
	out, also := a.cmd.StdoutPipe()
	if err := errors.Join(err, also, a.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	a.in, a.out = in, bufio.NewScanner(out)
	t.Cleanup(func() {
		a.cmd.Process.Kill()
		a.cmd.Wait()
	})
	return a
}

func (a *agent) line() string {
	a.t.Helper()
	if !a.out.Scan() {
		a.t.Fatal("the agent is gone")
	}
	return a.out.Text()
}

// tell gives a command and returns what the agent answers.
func (a *agent) tell(command string) string {
	a.t.Helper()
	fmt.Fprintln(a.in, command)
	return a.line()
}

// must gives commands that have to succeed.
func (a *agent) must(commands ...string) {
	a.t.Helper()
	for _, c := range commands {
		if got := a.tell(c); got != "ok" {
			a.t.Fatalf("%s: %s", c, got)
		}
	}
}

func (a *agent) kill() {
	a.cmd.Process.Kill()
	a.cmd.Wait()
}

// waitFor waits until a condition holds.
func waitFor(t *testing.T, what string, within time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// leftovers gives all of the node's rules and interfaces that have to do with agents.
func leftovers(t *testing.T) string {
	t.Helper()
	var found strings.Builder
	for line := range strings.Lines(run(t, "nft list ruleset; ip -o link; ip -o addr; iptables-legacy-save; ip6tables-legacy-save; iptables-nft-save; ip6tables-nft-save")) {
		low := strings.ToLower(line)
		if strings.Contains(low, "godwit") || strings.Contains(low, "nodelocal") {
			found.WriteString(line)
		}
	}
	return found.String()
}
