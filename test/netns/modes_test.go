package netns

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mode is one way of an agent beside one of kube-proxy.
type mode struct {
	rules, programs string // of the agent; programs: which of the iptables programs are in its PATH, "" for none
	proxy           string
	death           time.Duration // what a SIGKILL may take
}

var modes = map[string]mode{
	"nftables beside iptables-nft":        {"nftables", "nft", "iptables", afterDeath},
	"nftables beside nftables":            {"nftables", "", "nftables", afterDeath},
	"nftables beside iptables-legacy":     {"nftables", "legacy", "iptables-legacy", afterDeath},
	"iptables-nft beside iptables-nft":    {"iptables", "nft", "iptables", afterHang},
	"iptables-nft beside nftables":        {"iptables", "nft", "nftables", afterHang},
	"iptables-legacy beside its own kind": {"iptables", "legacy", "iptables-legacy", afterHang},
}

// TestModes upgrades with an overlap and kills the agent in each mode, with addresses of both families.
func TestModes(t *testing.T) {
	t.Parallel()
	for name, m := range modes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := NewLab(t, 4)
			l.KubeProxy(m.proxy)
			o := l.both(m)
			a := l.Agent(o).Ready()
			l.wantMode(t, m, a)
			load := Load{Pods: l.Pods, Servers: []string{ClusterDNS4, ClusterDNS6, LinkLocal4, LinkLocal6}, Rate: 400, TCPRate: 4}
			udp := l.askedUDP()
			wantNoLoss(t, l.under(load, func() {
				next := l.Agent(o).Ready()
				a.End()
				a = next
			}))
			if past := l.askedUDP() - udp; past > 0 && m.rules == "nftables" { // two agents can't change iptables' rules in one step
				t.Errorf("%d queries went to the servers past the agents", past)
			}
			load.TCPRate = 0
			var at time.Time
			r := l.under(load, func() {
				at = time.Now()
				a.Signal(syscall.SIGKILL)
				time.Sleep(m.death + slack()) // and it goes on for a second
			})
			if last := r.LastLoss(at); last > m.death+slack() || r.Sent-r.Lost < r.Sent/3 {
				t.Errorf("lost for %v after SIGKILL, promised within %v: %v, at %v", last, m.death, r, r.Gaps())
			}
			a.Wait(5 * time.Second)
			l.Agent(o).Ready().End()
			l.wantClean(t)
		})
	}
}

// both makes options for an agent of this mode with addresses of both families.
func (l *Lab) both(m mode) AgentOptions {
	return AgentOptions{
		Local: strings.Join([]string{ClusterDNS4, ClusterDNS6, LinkLocal4, LinkLocal6}, ","),
		Args:  append(toService(), "-rules", m.rules),
		Env:   []string{"PATH=" + l.programs(m.programs)},
	}
}

// programs makes a folder in which the iptables programs are those of one backend.
func (l *Lab) programs(backend string) string {
	l.T.Helper()
	dir, err := os.MkdirTemp(l.dir, "programs")
	if err != nil {
		l.T.Fatal(err)
	}
	if backend == "" {
		return dir
	}
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		plain, action, _ := strings.Cut(name, "-")
		path, err := exec.LookPath(strings.TrimSuffix(plain+"-"+backend+"-"+action, "-"))
		if err == nil {
			path, err = filepath.EvalSymlinks(path)
		}
		if err == nil {
			err = os.Symlink(path, filepath.Join(dir, name))
		}
		if err != nil {
			l.T.Fatal(err)
		}
	}
	return dir
}

// wantMode looks whether the rules are where the mode has them.
func (l *Lab) wantMode(t *testing.T, m mode, a *Agent) {
	t.Helper()
	state := l.state()
	if owned := strings.Contains(state["table"], "godwit_"); owned != (m.rules == "nftables") {
		t.Errorf("a table of its own: %v; %v", owned, state)
	}
	if m.rules == "iptables" {
		names := l.Node.Run("cat", "/proc/net/ip_tables_names")
		if legacy := strings.Contains(names, "raw"); legacy != (m.programs == "legacy") || !strings.Contains(state["iptables"], "NOTRACK") && !strings.Contains(state["iptables"], "CT --notrack") {
			t.Errorf("rules in the tables of iptables-legacy: %v; %v", legacy, state)
		}
	}
	if m.rules == "nftables" && !strings.Contains(a.Metrics(9353), `godwit_node_mode{mode="nftables"} 1`) {
		t.Error("the metric does not say nftables")
	}
}
