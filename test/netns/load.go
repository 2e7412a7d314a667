package netns

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// patience is how long a client usually waits for an answer before it counts as lost: what resolv.conf's default is, five
// seconds, would only make a failing test longer.
const patience = 2 * time.Second

// Load is queries from pods. Each lookup asks for A and AAAA from one socket of its own at once, as glibc and musl do.
type Load struct {
	Pods    []*Pod
	Servers []string           // the addresses that are asked: pod i asks one of them
	Rate    int                // UDP queries a second of all pods together
	TCPRate int                // the same over TCP, one connection a pod, kept for as long as it is
	Name    func(n int) string // name of lookup n; nil: one of a hundred cluster names
	Wait    time.Duration      // before an answer over UDP counts as lost; 0: patience
	Race    bool               // both questions of a lookup leave from threads of their own
}

func (o *Load) server(pod int) string { return net.JoinHostPort(o.Servers[pod%len(o.Servers)], "53") }

// Report is what came of a load.
type Report struct {
	Began                       time.Time
	Sent, Lost, Refused, Failed int // Refused: the kernel said that nobody is there. Failed: SERVFAIL and its like
	SentTCP, LostTCP, Resets    int // Resets: connections that ended while an answer was due; the query is asked once more
	Times                       []time.Duration
	Losses                      []time.Time // when the lost ones were asked
}

// LastLoss is how long after an instant the last lost query was asked.
func (r *Report) LastLoss(since time.Time) (last time.Duration) {
	for _, at := range r.Losses {
		last = max(last, at.Sub(since))
	}
	return last
}

// Gaps says when queries were lost, for a message.
func (r *Report) Gaps() []time.Duration {
	all := make([]time.Duration, 0, len(r.Losses))
	for _, at := range r.Losses {
		all = append(all, at.Sub(r.Began).Round(time.Millisecond))
	}
	slices.Sort(all)
	return all[:min(len(all), 100)]
}

// String is one line for a test's log.
func (r *Report) String() string {
	return fmt.Sprintf("UDP %d sent, %d lost, %d refused, %d failed; TCP %d sent, %d lost, %d resets; median %v, 99 %% %v, longest %v",
		r.Sent, r.Lost, r.Refused, r.Failed, r.SentTCP, r.LostTCP, r.Resets, r.Quantile(0.5), r.Quantile(0.99), r.Quantile(1))
}

// Quantile gives a time of the answers, sorted.
func (r *Report) Quantile(q float64) time.Duration {
	if len(r.Times) == 0 {
		return 0
	}
	slices.Sort(r.Times)
	return r.Times[min(len(r.Times)-1, int(q*float64(len(r.Times))))].Round(10 * time.Microsecond)
}

// generator is a load at work.
type generator struct {
	Load
	mu   sync.Mutex
	r    Report // guarded by mu
	asks sync.WaitGroup
}

// Run asks until ctx is done and gives the report when the last answer is in or lost.
func (o Load) Run(ctx context.Context) *Report {
	if o.Name == nil {
		o.Name = func(n int) string { return fmt.Sprintf("svc-%d.default.svc.cluster.local.", n%100) }
	}
	g := &generator{Load: o, r: Report{Began: time.Now()}}
	var pods sync.WaitGroup
	for i, p := range o.Pods {
		if o.Rate > 0 {
			pods.Go(func() { g.note(p.Do(func() error { return g.udp(ctx, i) })) })
		}
		if o.TCPRate > 0 {
			pods.Go(func() { g.note(p.Do(func() error { return g.tcp(ctx, i) })) })
		}
	}
	pods.Wait()
	g.asks.Wait()
	return &g.r
}

// note counts an error of the generator itself as a loss: it must not look like success.
func (g *generator) note(err error) {
	if err != nil {
		g.count(func(r *Report) { r.Sent++; r.Lost++ })
		fmt.Fprintln(os.Stderr, "load:", err)
	}
}

func (g *generator) count(f func(r *Report)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f(&g.r)
}

// paced calls f for each lookup of pod i when it is due, whatever has become of those before.
func (g *generator) paced(ctx context.Context, rate, i int, f func(n int) error) error {
	every := time.Duration(len(g.Pods)) * 2 * time.Second / time.Duration(rate)
	due := time.Now().Add(every * time.Duration(i) / time.Duration(len(g.Pods)))
	for n := i; ; n += len(g.Pods) {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Until(due)):
		}
		due = due.Add(every)
		if err := f(n); err != nil {
			return err
		}
	}
}

func (g *generator) udp(ctx context.Context, i int) error {
	return g.paced(ctx, g.Rate, i, func(n int) error {
		c, err := net.Dial("udp", g.server(i))
		if err != nil { // no route: as good as refused
			g.count(func(r *Report) { r.Sent += 2; r.Lost += 2; r.Refused += 2; r.Losses = append(r.Losses, time.Now()) })
			return nil
		}
		g.asks.Go(func() { g.lookup(c, g.Name(n)) })
		return nil
	})
}

// pack makes the two queries of a lookup.
func pack(name string, id uint16) (pair [2][]byte) {
	for i, typ := range []uint16{dns.TypeA, dns.TypeAAAA} {
		m := new(dns.Msg).SetQuestion(name, typ)
		m.Id = id + uint16(i)
		b, err := m.Pack()
		if err != nil {
			panic(err) // a name that the test made up
		}
		pair[i] = b
	}
	return pair
}

// lookup asks both questions and waits for both answers.
func (g *generator) lookup(c net.Conn, name string) {
	defer c.Close()
	id := dns.Id() &^ 1
	pair := pack(name, id)
	sent := time.Now()
	got, refused := [2]bool{}, g.ask(c, pair)
	_ = c.SetReadDeadline(sent.Add(cmp.Or(g.Wait, patience))) // a socket takes any
	buf := make([]byte, 4096)
	for !got[0] || !got[1] {
		n, err := c.Read(buf)
		if errors.Is(err, syscall.ECONNREFUSED) {
			refused = true
			break // a stub gives up at once
		}
		if err != nil {
			break
		}
		if n < 12 || binary.BigEndian.Uint16(buf)&^1 != id {
			continue
		}
		got[buf[1]&1] = true
		took, rcode := time.Since(sent), buf[3]&15
		g.count(func(r *Report) {
			r.Times = append(r.Times, took)
			if rcode != dns.RcodeSuccess && rcode != dns.RcodeNameError {
				r.Failed++
			}
		})
	}
	g.count(func(r *Report) {
		for _, ok := range got {
			r.Sent++
			if !ok {
				r.Lost++
				r.Losses = append(r.Losses, sent)
				if refused {
					r.Refused++
				}
			}
		}
	})
}

// ask sends both questions and reports whether one was refused.
func (g *generator) ask(c net.Conn, pair [2][]byte) bool {
	var refused atomic.Bool
	send := func(b []byte) {
		if _, err := c.Write(b); errors.Is(err, syscall.ECONNREFUSED) {
			refused.Store(true)
		}
	}
	if g.Race {
		var other sync.WaitGroup
		other.Go(func() { send(pair[1]) })
		send(pair[0])
		other.Wait()
		return refused.Load()
	}
	send(pair[0])
	send(pair[1])
	return refused.Load()
}

// tcp asks over one connection, which is opened again when the server has closed it.
func (g *generator) tcp(ctx context.Context, i int) error {
	var c net.Conn
	defer func() {
		if c != nil {
			c.Close()
		}
	}()
	return g.paced(ctx, g.TCPRate, i, func(n int) error {
		for _, b := range pack(g.Name(n), dns.Id()&^1) {
			sent, ok := time.Now(), false
			for try := 0; try < 2 && !ok; try++ {
				if c == nil {
					d := net.Dialer{Timeout: patience}
					var err error
					if c, err = d.Dial("tcp", g.server(i)); err != nil {
						c = nil
						continue
					}
				}
				if ok = exchange(c, b); !ok {
					c.Close()
					c = nil
					g.count(func(r *Report) { r.Resets++ })
				}
			}
			took := time.Since(sent)
			g.count(func(r *Report) {
				r.SentTCP++
				if ok {
					r.Times = append(r.Times, took)
				} else {
					r.LostTCP++
					r.Losses = append(r.Losses, sent)
				}
			})
		}
		return nil
	})
}

// exchange asks one question over a stream.
func exchange(c net.Conn, q []byte) bool {
	_ = c.SetDeadline(time.Now().Add(patience)) // a socket takes any
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(q))), q...)); err != nil {
		return false
	}
	size := make([]byte, 2)
	if _, err := io.ReadFull(c, size); err != nil {
		return false
	}
	reply := make([]byte, binary.BigEndian.Uint16(size))
	_, err := io.ReadFull(c, reply)
	return err == nil && len(reply) > 12 && reply[0] == q[0] && reply[1] == q[1]
}

// Ask asks one question over UDP from a pod and gives the reply, or how long nothing came.
func (p *Pod) Ask(server, name string, typ uint16, limit time.Duration) (*dns.Msg, time.Duration, error) {
	began := time.Now()
	var m *dns.Msg
	err := p.Do(func() error {
		q := new(dns.Msg).SetQuestion(name, typ)
		q.SetEdns0(1232, false)
		c := &dns.Client{Timeout: limit}
		var err error
		m, _, err = c.Exchange(q, net.JoinHostPort(server, "53"))
		return err
	})
	return m, time.Since(began), err
}

// dial opens a socket in the pod.
func (p *Pod) dial(ctx context.Context, network, server string) (c net.Conn, err error) {
	err = p.Do(func() error {
		d := net.Dialer{Timeout: patience}
		c, err = d.DialContext(ctx, network, net.JoinHostPort(server, "53"))
		return err
	})
	return c, err
}
