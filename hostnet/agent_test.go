package hostnet

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/metrics"
)

// agentVariable has the settings of an agent when the test program is to be one.
const agentVariable = "GODWIT_HOSTNET_AGENT"

// agentSpec is what a test says of an agent.
type agentSpec struct {
	ID         string
	Mode       Mode
	Addresses  []netip.Addr
	Fallback   []netip.Addr
	Alone      []netip.Addr
	HealthPort uint16
	Probe      uint16
	NoAdmin    bool // drop NET_ADMIN first
}

func (s agentSpec) config(registry *metrics.Registry) Config {
	return Config{ID: s.ID, Mode: s.Mode, Addresses: s.Addresses, Fallback: s.Fallback, Alone: s.Alone, HealthPort: s.HealthPort,
		ProbePort4: s.Probe, ProbePort6: s.Probe, ManageInterface: true, ManageRules: true,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Metrics: registry}
}

// agentMain serves like an agent: every query gets its bytes back with QR set and the word "agent" and the id behind them.
// Its standard input has a command a line, and each is answered by a line.
func agentMain(spec string) int {
	var s agentSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if s.NoAdmin {
		runtime.LockOSThread()
		dropAdmin()
	}
	registry := metrics.New(0)
	h, err := Open(s.config(registry))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if _, err := serve(s.Addresses, "agent "+s.ID); err != nil {
		fmt.Println(err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); h.Run(ctx) }()
	var probing atomic.Bool
	probing.Store(true)
	for _, ip := range s.Addresses {
		go probe(ip, s.Probe, &probing)
	}
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		word, rest, _ := strings.Cut(lines.Text(), " ")
		answer := "ok"
		var err error
		switch word {
		case "adopt":
			err = h.Adopt(ctx)
		case "up":
			err = h.Up(ctx)
		case "probe":
			probing.Store(rest == "on")
		case "giveup":
			err = h.GiveUp(ctx)
		case "down":
			cancel()
			<-ended
			err = h.Down(context.Background(), rest == "keep")
		case "leave":
			cancel()
			<-ended
			err = h.Leave()
		case "alias":
			answer, err = h.Alias()
		case "setalias":
			err = h.SetAlias(rest)
		case "mode":
			answer = h.Mode().String()
		case "lapses":
			answer = fmt.Sprint(h.Lapses())
		case "fallback":
			err = h.SetFallback(ctx, []netip.Addr{netip.MustParseAddr(rest)})
		case "repairs":
			answer = fmt.Sprint(h.repairs[rest].Value())
		default:
			err = fmt.Errorf("no command %s", word)
		}
		if err != nil {
			answer = "error: " + err.Error()
		}
		fmt.Println(answer)
	}
	cancel()
	<-ended
	return 0
}

func dropAdmin() {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		panic(err)
	}
	data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	data[0].Permitted &^= 1 << unix.CAP_NET_ADMIN
	data[0].Inheritable &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&header, &data[0]); err != nil {
		panic(err)
	}
}

// freebind lets a socket be bound before its address is there.
func freebind(_, _ string, c syscall.RawConn) (err error) {
	also := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
		if err == nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		}
	})
	if err == nil {
		err = also
	}
	return err
}

// serve answers DNS on the addresses, UDP and TCP, until the sockets are closed.
func serve(addresses []netip.Addr, word string) (sockets []io.Closer, err error) {
	listen := net.ListenConfig{Control: freebind}
	for _, ip := range addresses {
		at := netip.AddrPortFrom(ip, 53).String()
		udp, err := listen.ListenPacket(context.Background(), "udp", at)
		if err != nil {
			return sockets, err
		}
		tcp, err := listen.Listen(context.Background(), "tcp", at)
		if err != nil {
			return sockets, err
		}
		go serveUDP(udp, word)
		go serveTCP(tcp, word)
		sockets = append(sockets, udp, tcp)
	}
	return sockets, nil
}

func answerTo(query []byte, word string) []byte {
	answer := append([]byte(nil), query...)
	answer[2] |= 0x80
	return append(answer, word...)
}

func serveUDP(c net.PacketConn, word string) {
	buf := make([]byte, 512)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		if n >= queryLen {
			c.WriteTo(answerTo(buf[:queryLen], word), from)
		}
	}
}

func serveTCP(l net.Listener, word string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			for {
				q, err := readFrame(c)
				if err != nil || writeFrame(c, answerTo(q, word)) != nil {
					return
				}
			}
		}()
	}
}

// queryLen is the length of the tests' queries: a header and the root.
const queryLen = 12 + 5

func query() []byte {
	q := make([]byte, queryLen)
	binary.BigEndian.PutUint16(q[4:], 1)
	return q
}

func writeFrame(w io.Writer, m []byte) error {
	_, err := w.Write(append(be16(uint16(len(m))), m...))
	return err
}

func readFrame(r io.Reader) ([]byte, error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	m := make([]byte, binary.BigEndian.Uint16(head))
	_, err := io.ReadFull(r, m)
	return m, err
}

// probe asks one address again and again, from the probe port.
func probe(ip netip.Addr, port uint16, on *atomic.Bool) {
	for ; ; time.Sleep(300 * time.Millisecond) {
		if !on.Load() {
			continue
		}
		dialer := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, port)), Control: freebind}
		c, err := dialer.Dial("udp", netip.AddrPortFrom(ip, 53).String())
		if err != nil {
			continue // the address is not there yet
		}
		c.SetDeadline(time.Now().Add(300 * time.Millisecond))
		c.Write(query())
		c.Read(make([]byte, 512))
		c.Close()
	}
}
