package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/server"
	"github.com/godwit-dns/godwit/wire"
)

// pace is how often the prober asks and how long it waits.
type pace struct {
	udp      time.Duration // between two queries to an address: several within the lease of the rules
	tcp      time.Duration // between two connections to it
	retry    time.Duration // after a connection that failed
	patience time.Duration // for a connection and its answer
	holdOff  time.Duration // UDP queries stay away so long from an address where TCP has failed twice
	fresh    time.Duration // an address answers if it has within this time
}

func normalPace() pace {
	return pace{udp: 300 * time.Millisecond, tcp: 5 * time.Second, retry: time.Second, patience: 1500 * time.Millisecond,
		holdOff: 10 * time.Second, fresh: time.Second}
}

const (
	// tcpMisses is how many connections in a row fail before the address is held to be dead: one SYN may be lost.
	tcpMisses = 2
	// udpMisses is how many unanswered queries in a row are worth a line in the log.
	udpMisses = 3
)

// prober asks the agent's own addresses for the agent's id. The rules see its queries answered: that, and nothing else,
// renews their lease, so it ends when the agent hangs. A process that answers with another id is not this agent.
type prober struct {
	id       string
	pace     pace
	log      *slog.Logger
	shard    int
	failures map[string]*metrics.Counter // by protocol
	sockets  []*net.UDPConn              // at most one of each family
	told     chan struct{}               // an answer has come

	mu      sync.Mutex
	targets map[netip.AddrPort]*target // guarded by mu, as all in them
}

// target is one of the addresses.
type target struct {
	addr      netip.AddrPort
	from      *net.UDPConn
	query     uint16 // the ID that is waited for; meaningless when not waiting
	waiting   bool
	missed    int
	seen      time.Time // the last answer
	heldOff   time.Time // no UDP before
	nextTCP   time.Time
	tcpMissed int
}

// newProber binds the sockets that queries leave from: their ports are part of the rules.
func newProber(id string, addrs []netip.Addr, port uint16, log *slog.Logger, registry *metrics.Registry) (*prober, error) {
	p := &prober{id: id, pace: normalPace(), log: log, shard: registry.Shared(), failures: map[string]*metrics.Counter{},
		told: make(chan struct{}, 1), targets: map[netip.AddrPort]*target{}}
	for _, proto := range []string{"udp", "tcp"} {
		p.failures[proto] = registry.Counter("godwit_node_probe_failures_total",
			"Queries of the agent to itself that were not answered in time.", metrics.L("proto", proto)...)
	}
	for _, network := range []string{"udp4", "udp6"} {
		var conn *net.UDPConn
		for _, a := range addrs {
			if a.Is4() != (network == "udp4") {
				continue
			}
			if conn == nil {
				var err error
				if conn, err = net.ListenUDP(network, nil); err != nil {
					p.close()
					return nil, fmt.Errorf("the socket for probing: %w", err)
				}
				p.sockets = append(p.sockets, conn)
			}
			t := &target{addr: netip.AddrPortFrom(a, port), from: conn}
			p.targets[t.addr] = t
			registry.GaugeFunc("godwit_node_answering", "1 while the agent answers its own queries at the address.",
				func() float64 { return p.answering(t) }, metrics.L("address", a.String())...)
		}
	}
	return p, nil
}

func (p *prober) close() {
	for _, c := range p.sockets {
		c.Close()
	}
}

// ports gives the source ports of the queries; 0 for a family without an address.
func (p *prober) ports() (four, six uint16) {
	for _, c := range p.sockets {
		a := c.LocalAddr().(*net.UDPAddr).AddrPort()
		if a.Addr().Unmap().Is4() {
			four = a.Port()
		} else {
			six = a.Port()
		}
	}
	return four, six
}

// run asks until ctx is done.
func (p *prober) run(ctx context.Context) {
	var group sync.WaitGroup
	running, stop := context.WithCancel(ctx)
	for _, c := range p.sockets {
		group.Go(func() { p.read(c) })
	}
	group.Go(func() { p.connect(running) })
	tick := time.NewTicker(p.pace.udp)
	defer tick.Stop()
	for done := false; !done; {
		p.ask()
		select {
		case <-ctx.Done():
			done = true
		case <-tick.C:
		}
	}
	stop()
	for _, c := range p.sockets {
		_ = c.SetReadDeadline(time.Now()) // the readers end; the ports stay taken
	}
	group.Wait()
}

// ask sends a query to each address, and counts those that the last one got no answer from.
func (p *prober) ask() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.targets {
		if t.waiting {
			p.failures["udp"].Inc(p.shard)
			if t.missed++; t.missed == udpMisses {
				p.log.Warn("the agent does not answer its own queries at an address: while that is so nothing is led to it there; "+
					"does the Corefile bind it?", "address", t.addr.String())
			}
		}
		if t.waiting = !time.Now().Before(t.heldOff); !t.waiting {
			continue
		}
		t.query = newQueryID()
		_, _ = t.from.WriteToUDPAddrPort(selfQuery(t.query), t.addr) // without an answer it is counted in any case
	}
}

func newQueryID() uint16 {
	var b [2]byte
	rand.Read(b[:]) // never fails (Go 1.24)
	return binary.BigEndian.Uint16(b[:])
}

// selfQuery is the query for the process itself.
func selfQuery(id uint16) []byte {
	q := binary.BigEndian.AppendUint16(nil, id)
	q = append(q, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
	q = append(q, wire.MustName(server.SelfName)...)
	q = binary.BigEndian.AppendUint16(q, uint16(wire.TypeTXT))
	return binary.BigEndian.AppendUint16(q, uint16(wire.ClassCH))
}

// selfAnswer reads who answered.
func selfAnswer(msg []byte, id uint16) (who string, ok bool) {
	const answer, rcode = 0x80, 0x0f
	if len(msg) < wire.HeaderSize || binary.BigEndian.Uint16(msg) != id || msg[2]&answer == 0 || msg[3]&rcode != 0 {
		return "", false
	}
	var c wire.Cursor
	var r wire.Record
	if c.Open(msg) != nil {
		return "", false
	}
	if _, more, err := c.Next(&r); err != nil || !more || r.Type != wire.TypeTXT || r.Class != wire.ClassCH {
		return "", false
	}
	text := r.RawData()
	if len(text) == 0 || int(text[0]) != len(text)-1 {
		return "", false
	}
	return string(text[1:]), true
}

// read takes answers until the socket's deadline.
func (p *prober) read(c *net.UDPConn) {
	_ = c.SetReadDeadline(time.Time{})
	buf := make([]byte, 512)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		switch {
		case errors.Is(err, net.ErrClosed) || isTimeout(err):
			return
		case err != nil:
			continue // ICMP errors of earlier queries
		}
		p.answered(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), buf[:n])
	}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

func (p *prober) answered(from netip.AddrPort, msg []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.targets[from]
	if t == nil || !t.waiting {
		return
	}
	who, ok := selfAnswer(msg, t.query)
	if !ok || who != p.id {
		return
	}
	if t.missed >= udpMisses {
		p.log.Info("the agent answers its own queries again", "address", t.addr.String())
	}
	t.waiting, t.missed, t.seen = false, 0, time.Now()
	select {
	case p.told <- struct{}{}:
	default:
	}
}

// connect asks over TCP too, where UDP is answered: elsewhere the connection might not be led here.
func (p *prober) connect(ctx context.Context) {
	tick := time.NewTicker(min(p.pace.retry, p.pace.tcp))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, t := range p.dueTCP() {
			err := p.overTCP(ctx, t.addr)
			if ctx.Err() != nil {
				return
			}
			p.triedTCP(t, err)
		}
	}
}

func (p *prober) dueTCP() (due []*target) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for _, t := range p.targets {
		if now.Sub(t.seen) < p.pace.fresh && !now.Before(t.nextTCP) {
			due = append(due, t)
		}
	}
	return due
}

// triedTCP holds UDP queries off where TCP does not work, which ends the lease there: clients that need TCP must not be
// led to an agent that has none. After a while it is tried again.
func (p *prober) triedTCP(t *target, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if err == nil {
		t.tcpMissed, t.nextTCP = 0, now.Add(p.pace.tcp)
		return
	}
	p.failures["tcp"].Inc(p.shard)
	t.nextTCP = now.Add(p.pace.retry)
	if t.tcpMissed++; t.tcpMissed >= tcpMisses {
		p.log.Warn("the agent does not answer over TCP: nothing is led to it at this address for a while",
			"address", t.addr.String(), "reason", err.Error())
		t.heldOff, t.waiting = now.Add(p.pace.holdOff), false
	}
}

// overTCP asks once.
func (p *prober) overTCP(ctx context.Context, addr netip.AddrPort) error {
	d := net.Dialer{Timeout: p.pace.patience}
	conn, err := d.DialContext(ctx, "tcp", addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(p.pace.patience)); err != nil {
		return err
	}
	id := newQueryID()
	q := selfQuery(id)
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
		return err
	}
	var head [2]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return err
	}
	msg := make([]byte, binary.BigEndian.Uint16(head[:]))
	if _, err := io.ReadFull(conn, msg); err != nil {
		return err
	}
	if who, ok := selfAnswer(msg, id); !ok || who != p.id {
		return errors.New("somebody else answered")
	}
	return nil
}

func (p *prober) answering(t *target) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(t.seen) < p.pace.fresh {
		return 1
	}
	return 0
}

// wait returns when the agent has answered since the call: at every address, or at any. It is an error when ctx ends first.
func (p *prober) wait(ctx context.Context, every bool) error {
	began := time.Now()
	for {
		n := 0
		p.mu.Lock()
		for _, t := range p.targets {
			if t.seen.After(began) {
				n++
			}
		}
		all := len(p.targets)
		p.mu.Unlock()
		if n == all || !every && n > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the agent has answered its own queries at %d of %d addresses: %w", n, all, context.Cause(ctx))
		case <-p.told:
		}
	}
}
