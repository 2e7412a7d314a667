package netns

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// strangerRole makes the test's own program a process of a pod with hostNetwork: root, but without NET_ADMIN.
const strangerRole = "GODWIT_STRANGER"

// Kinds and tags of package handover's protocol that a stranger needs; see its documentation.
const (
	kindHello, kindProof, kindListener, kindListeners, kindCache, kindCacheEnd = 1, 2, 3, 4, 6, 7

	tagVersion, tagID, tagNonce, tagKey, tagNetwork, tagAddress, tagCount, tagData = 1, 2, 3, 4, 5, 6, 7, 8
)

// stranger is such a process. What it finds out it prints, a line each.
func stranger(role string, args []string) int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	_, effective, _ := strings.Cut(string(status), "CapEff:")
	caps, err := strconv.ParseUint(strings.Fields(effective)[0], 16, 64)
	fmt.Println("net_admin", caps>>unix.CAP_NET_ADMIN&1, err)
	switch role {
	case "asks":
		err = strangerAsks(args[0])
	case "answers":
		err = strangerAnswers(args[0])
	}
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	return 0
}

// strangerAsks connects to an agent's socket and behaves as a successor as far as it can.
func strangerAsks(socket string) error {
	out, err := exec.Command("ip", "link", "set", "dev", "nodelocaldns", "alias", "godwit/1 00000000 mine").CombinedOutput()
	fmt.Printf("alias %v %s\n", err, bytes.TrimSpace(out))
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	fmt.Println("name", unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + socket}))
	if err = unix.Connect(fd, &unix.SockaddrUnix{Name: "@" + socket}); err != nil {
		return err
	}
	p := &peer{fd}
	p.say(kindHello, field(tagVersion, []byte{1}), field(tagID, []byte("00000000")), field(tagNonce, make([]byte, 16)))
	p.hear() // its hello
	p.say(kindProof)
	for p.hear() {
	}
	return nil
}

// strangerAnswers takes the name of a dead agent, and offers whoever comes a socket and a cache.
func strangerAnswers(socket string) error {
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(s, &unix.SockaddrUnix{Name: "@" + socket})
	}
	if err == nil {
		err = unix.Listen(s, 8)
	}
	if err != nil {
		return err
	}
	own, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Bind(own, &unix.SockaddrInet4{Port: 5399, Addr: [4]byte{127, 0, 0, 1}})
	}
	if err != nil {
		return err
	}
	fmt.Println("waiting")
	fd, _, err := unix.Accept(s)
	if err != nil {
		return err
	}
	p := &peer{fd}
	p.hear()
	p.say(kindHello, field(tagVersion, []byte{1}), field(tagID, []byte("00000000")), field(tagNonce, make([]byte, 16)))
	p.hear()
	p.say(kindProof)
	p.give(own, kindListener, field(tagKey, []byte("dns://127.0.0.1:5399")), field(tagNetwork, []byte("udp")), field(tagAddress, []byte("127.0.0.1:5399")))
	p.say(kindListeners, field(tagCount, []byte{0, 1}))
	p.say(kindCache, field(tagData, make([]byte, 64)))
	p.say(kindCacheEnd)
	for p.hear() {
	}
	return nil
}

// peer is the other end of a stranger's connection.
type peer struct{ fd int }

func field(tag byte, value []byte) []byte {
	return append(binary.BigEndian.AppendUint16([]byte{tag}, uint16(len(value))), value...)
}

func (p *peer) say(kind byte, fields ...[]byte) { p.send(nil, kind, fields) }

func (p *peer) give(fd int, kind byte, fields ...[]byte) { p.send(unix.UnixRights(fd), kind, fields) }

func (p *peer) send(rights []byte, kind byte, fields [][]byte) {
	if err := unix.Sendmsg(p.fd, append([]byte{kind}, bytes.Join(fields, nil)...), rights, nil, unix.MSG_NOSIGNAL); err != nil {
		fmt.Println("sending", kind, err)
	}
}

// hear prints what has come; false at the connection's end.
func (p *peer) hear() bool {
	limit := unix.NsecToTimeval(int64(10 * time.Second))
	if err := unix.SetsockoptTimeval(p.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		fmt.Println("error", err)
		return false
	}
	b, rights := make([]byte, 64<<10), make([]byte, 256)
	n, r, _, _, err := unix.Recvmsg(p.fd, b, rights, 0)
	if err != nil || n <= 0 {
		fmt.Println("end", err)
		return false
	}
	fmt.Println("heard", b[0], "rights", r)
	return true
}

// stranger starts such a process in the node's network namespace, with what a container has by default.
func (l *Lab) stranger(role, socket string) *exec.Cmd {
	cmd := l.Node.Command("setpriv", "--bounding-set", "-all,+chown,+dac_override,+kill,+setgid,+setuid,+net_bind_service,+net_raw", "--inh-caps", "-all", os.Args[0], socket)
	cmd.Env = append(os.Environ(), strangerRole+"="+role)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// socketOf reads the name that stands in the interface's alias, as everybody can.
func (l *Lab) socketOf() string {
	l.T.Helper()
	_, alias, _ := strings.Cut(l.Node.Run("cat", "/sys/class/net/nodelocaldns/ifalias"), "godwit/1 ")
	word := strings.Fields(alias)
	if len(word) != 2 {
		l.T.Fatalf("the interface's alias is %q", alias)
	}
	return word[1]
}

// TestStranger lets a process without NET_ADMIN, of the agent's own user and in its network namespace, try to become the
// successor of one that lives, and the predecessor of the next.
func TestStranger(t *testing.T) {
	t.Parallel()
	l := NewLab(t, 2)
	a := l.Agent(AgentOptions{}).Ready()
	socket := l.socketOf()
	load := Load{Pods: l.Pods, Servers: []string{ClusterDNS4}, Rate: 100}
	wantNoLoss(t, l.under(load, func() {
		out, err := l.stranger("asks", socket).CombinedOutput()
		said := string(out)
		if err != nil || !strings.Contains(said, "net_admin 0 <nil>") || !strings.Contains(said, "heard 1 rights 0") {
			t.Fatalf("the stranger did not get as far as it should: %v\n%s", err, said)
		}
		if !strings.Contains(said, "Operation not permitted") || !strings.Contains(said, "name address already in use") || strings.Contains(said, "heard 3") || strings.Count(said, "rights 0") != strings.Count(said, "heard") {
			t.Errorf("the stranger got more than a refusal:\n%s", said)
		}
	}))
	if _, err := a.Probe(); err != nil || l.socketOf() != socket {
		t.Errorf("the agent does not own its sockets any more: %v", err)
	}
	a.Signal(syscall.SIGKILL)
	a.Wait(5 * time.Second)
	l.impostor(t, socket)
}

// impostor has the stranger answer at a dead agent's name.
func (l *Lab) impostor(t *testing.T, socket string) {
	t.Helper()
	cmd := l.stranger("answers", socket)
	pipe, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(pipe)
	var said strings.Builder
	for lines.Scan() && lines.Text() != "waiting" {
		fmt.Fprintln(&said, lines.Text())
	}
	next := l.Agent(AgentOptions{}).Ready()
	for lines.Scan() {
		fmt.Fprintln(&said, lines.Text())
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(said.String(), "net_admin 0 <nil>") || !strings.Contains(said.String(), "heard 2") {
		t.Fatalf("the stranger did not get as far as it should: %v\n%s", err, said.String())
	}
	if strings.Contains(said.String(), "heard 5") || !strings.Contains(next.Output(), "did not prove") {
		t.Errorf("the new agent believed the stranger:\n%s\n%s", said.String(), next.Output())
	}
	for _, p := range l.Pods {
		if r, _, err := p.Ask(ClusterDNS4, "svc-1.default.svc.cluster.local.", dns.TypeA, time.Second); err != nil || r.Rcode != dns.RcodeSuccess {
			t.Errorf("not answered: %v", err)
		}
	}
	wantNoLoss(t, l.under(Load{Pods: l.Pods, Servers: []string{ClusterDNS4}, Rate: 100}, func() {}))
	next.End()
	l.wantClean(t)
}
