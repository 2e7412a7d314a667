package loop

import (
	"context"
	"crypto/rand"
	"errors"
	"math/big"
	"net"
	"sync/atomic"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

// Times of the watch.
const (
	startWindow = 30 * time.Second // how long the first probe is tried: the server may not answer yet
	retryAfter  = time.Second
	comesBack   = 2 * time.Second  // how long a probe may take to come back after its reply
	askTimeout  = 2 * time.Second  // for the reply to a probe
	againAfter  = 10 * time.Second // between probes once a loop has been found
	logEvery    = 6                // probes that find the loop still there, for one log line
)

// watch sends probes. It is one goroutine's, but for the loop and for looping.
type watch struct {
	loop     *Loop
	env      *chain.Env
	zone     wire.Name
	zoneText string
	address  string
	exit     bool
	forwards func(name wire.Name) chain.Forwarder

	looping atomic.Bool
	probes  int // that found the loop since it began
}

// run probes at start, and goes on when there was a loop: it may end by itself, and come back.
func (w *watch) run(ctx context.Context) error {
	w.env.Metrics.GaugeFunc("godwit_forwarding_loop", "1 while queries that are forwarded come back to this server.",
		func() float64 {
			if w.looping.Load() {
				return 1
			}
			return 0
		}, metrics.L("zone", w.zoneText)...)
	defer w.over()
	if !w.first(ctx) {
		return nil
	}
	for w.pause(ctx, againAfter) {
		p, err := w.probe(ctx)
		switch {
		case err != nil:
		case p.looping():
			w.begin(p)
		default:
			w.gone()
		}
	}
	return nil
}

// first probes until a reply comes, and reports whether the probe came back.
func (w *watch) first(ctx context.Context) bool {
	for end := w.env.Clock() + startWindow; w.env.Clock() < end; {
		p, err := w.probe(ctx)
		if p != nil && p.looping() {
			w.begin(p)
			return true
		}
		if err == nil || !w.pause(ctx, retryAfter) {
			return false
		}
	}
	return false
}

// probe sends one probe and waits for its reply, and for the probe to be seen too often.
func (w *watch) probe(ctx context.Context) (*probe, error) {
	name, err := probeName(w.zone)
	if err != nil {
		return nil, err
	}
	p := &probe{name: name, found: make(chan struct{})}
	w.tell(name)
	w.loop.current.Store(p)
	defer w.loop.current.Store(nil)
	if err := w.ask(ctx, name); err != nil {
		return p, err
	}
	c, cancel := context.WithCancel(ctx)
	defer cancel()
	select {
	case <-p.found:
	case <-w.env.Ticks(c, comesBack):
	case <-ctx.Done():
		return p, ctx.Err()
	}
	return p, nil
}

// begin stops forwarding, or the process.
func (w *watch) begin(p *probe) {
	text := p.text(w.address, w.zoneText)
	if w.exit {
		w.env.Fatal(errors.New("plugin/loop: " + text))
		return
	}
	w.looping.Store(true)
	w.tell(p.name)
	if w.probes%logEvery == 0 {
		w.env.Log.Error("plugin/loop: "+text+": names that are forwarded are SERVFAIL until it is gone",
			"fix", "let no upstream of forward, nor a nameserver in the resolv.conf it reads, be this server or ask it")
	}
	w.probes++
}

// gone starts forwarding again.
func (w *watch) gone() {
	if !w.looping.Load() {
		return
	}
	w.over()
	w.env.Log.Info("plugin/loop: the loop for zone " + w.zoneText + " is gone: forwarding again")
}

// over lets everything pass.
func (w *watch) over() {
	w.looping.Store(false)
	w.tell(nil)
	w.probes = 0
}

// tell lets a probe pass the handler that forwards the zone's names; while there is a loop nothing else does.
func (w *watch) tell(name wire.Name) {
	if f := w.forwards(w.zone); f != nil {
		f.Probe(name, w.looping.Load())
	}
}

// pause waits for d of the loops' time and reports whether to go on.
func (w *watch) pause(ctx context.Context, d time.Duration) bool {
	c, cancel := context.WithCancel(ctx)
	defer cancel()
	select {
	case <-w.env.Ticks(c, d):
		return true
	case <-ctx.Done():
		return false
	}
}

// ask sends the question to this server and waits for any reply.
func (w *watch) ask(ctx context.Context, name wire.Name) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", w.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(askTimeout)); err != nil {
		return err
	}
	var r wire.Request
	r.SetQuestion(name, wire.TypeHINFO)
	if _, err := conn.Write(r.AppendQuery(nil, 0, 0)); err != nil {
		return err
	}
	var reply [wire.MinUDP]byte
	_, err = conn.Read(reply[:])
	return err
}

// probeName is two random numbers of 62 bits before the zone; only the second one where the zone leaves no room.
func probeName(zone wire.Name) (wire.Name, error) {
	name := wire.Name{}
	for range 2 {
		n, err := rand.Int(rand.Reader, big.NewInt(1<<62))
		if err != nil {
			return nil, err
		}
		label := n.String()
		if len(name)+1+len(label)+len(zone) > wire.MaxName {
			break
		}
		name = append(append(name, byte(len(label))), label...)
	}
	return append(name, zone...), nil
}
