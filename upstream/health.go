package upstream

import (
	"time"

	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/wire"
)

// minHealthInterval keeps "health_check 0s" from asking without a pause.
const minHealthInterval = 10 * time.Millisecond

// checkTimeout is how long a server has to answer a health check.
const checkTimeout = time.Second

// check starts the server's health checks, unless some loop runs them already. They go on until one succeeds.
func (p *peer) check() {
	if p.s.checking.CompareAndSwap(false, true) {
		p.Fire(p.m.loop)
	}
}

// Fire sends one health check. Servers that are asked no more are not checked any more.
func (p *peer) Fire(*loop.Loop) {
	m := p.m
	if m.closing || !p.current() {
		p.s.checking.Store(false)
		return
	}
	h := &m.g.cfg.Health
	var r wire.Request
	r.SetQuestion(h.Domain, wire.TypeNS)
	if h.NoRecursion {
		r.Flags &^= wire.FlagRD
	}
	e := m.get()
	e.prepare(&r, UDP)
	if !m.g.cfg.ForceTCP {
		e.via = UDP
	}
	e.probe = p.s
	e.deadline = m.now() + checkTimeout
	t := e.slot()
	if err := e.send(t, p.s, e.via); err != nil {
		e.finish(nil, p.s, err)
		return
	}
	t.expires = e.deadline
	e.arm()
}

// checked takes the end of a health check.
func (p *peer) checked(err error) {
	if err == nil {
		p.s.fails.Store(0)
		p.s.checking.Store(false)
		return
	}
	p.m.g.metrics.checkFailed(p.s, p.m.loop.Index())
	if n := p.s.fails.Load(); n+1 != 0 { // only the checker writes it, and it does not wrap
		p.s.fails.Store(n + 1)
	}
	if p.m.closing {
		p.s.checking.Store(false)
		return
	}
	p.m.loop.After(&p.probe, p.m.g.cfg.Health.Interval, p)
}
