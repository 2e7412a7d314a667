package upstream

import (
	"time"

	"github.com/godwit-dns/godwit/loop"
	"github.com/godwit-dns/godwit/wire"
)

// exchange is one question on its way: the servers it may be put to, the attempts that are running, usually one, and those
// who wait for its end. It is reused.
type exchange struct {
	m       *member
	query   []byte    // the packed question; the ID is put in for each attempt
	key     []byte    // what identical questions have in common
	waiters []waiting // guarded by the table's shard while listed
	order   []uint16  // indices into list, as the policy says
	tries   [maxTries]try
	gen     uint32 // how often it was reused: a function that may end it looks whether it still is the same
	course
}

// course is what an exchange begins anew with when it is reused.
type course struct {
	question int  // where the question ends in the query
	large    bool // asks for replies as large as a slot, or larger (udp.go)
	hash     uint64
	listed   bool      // in the table of flights
	after    *exchange // in its list there; guarded by the table's shard while listed
	probe    *Server   // the server, when this is a health check

	list  []*Server // the servers as they were at the beginning
	at    int       // the next of order
	down  int       // servers found down in this pass over order
	fails int       // attempts that failed
	other int       // replies that made the next server be asked
	via   Via

	deadline time.Duration
	patience time.Duration // when to ask once more beside the attempts that are running
	more     int           // how often that may still be done
	strange  bool          // something that belongs to another question came
	used     int           // how many of tries have been
	err      error         // of the last failure
	timer    loop.Timer
	answer   Answer
	ended    bool
}

// maxTries is how many attempts of a question may run at once.
const maxTries = 1 + serviceHedges

// try is one attempt: the question sent to one server once.
type try struct {
	e       *exchange
	p       *peer
	via     Via
	id      uint16
	live    bool
	moved   bool // came here from a connection that was closed under it
	socket  *socket
	stream  *stream
	begun   time.Duration
	sent    time.Duration
	expires time.Duration
	wrong   int // the socket's wrong messages when it was sent
}

func (e *exchange) reset() {
	e.query, e.key, e.order, e.waiters = e.query[:0], e.key[:0], e.order[:0], e.waiters[:0]
	e.gen++
	e.course = course{}
}

// prepare packs the question. The key is everything that may change the answer, with the name in lower case.
func (e *exchange) prepare(r *wire.Request, via Via) {
	cfg := &e.m.g.cfg
	switch {
	case cfg.ForceTCP:
		via = TCP
	case cfg.PreferUDP:
		via = UDP
	}
	e.via = via
	e.query = r.AppendQuery(e.query[:0], 0, r.EDNS.Size)
	e.large = r.EDNS.Size >= slotSize
	name := wire.HeaderSize + len(r.Name())
	e.question = name + 4
	e.key = append(e.key[:0], byte(via), e.query[2], e.query[3])
	e.key = append(e.key, r.Name()...)
	e.key = append(e.key, e.query[name:]...)
	e.deadline = e.m.now() + max(cfg.Total, cfg.ReadTimeout)
}

// begin orders the servers and asks the first.
func (e *exchange) begin() {
	e.m.budget.ask()
	e.list = e.m.g.Servers()
	e.arrange()
	e.advance()
}

// arrange orders the servers as the policy says.
func (e *exchange) arrange() {
	n := len(e.list)
	for i := range n {
		e.order = append(e.order, uint16(i))
	}
	switch e.m.g.cfg.Policy {
	case Random:
		for i := n - 1; i > 0; i-- {
			j := e.m.below(i + 1)
			e.order[i], e.order[j] = e.order[j], e.order[i]
		}
	case RoundRobin: // the chosen one first, the others in their order
		first := int(e.m.g.robin.Add(1) % uint32(n))
		copy(e.order[1:first+1], e.order[:first])
		e.order[0] = uint16(first)
	case Sequential:
		return
	}
	e.deferSuspects()
}

// deferSuspects moves servers that failed and have not passed a health check since behind the others: until one is down,
// half of all queries would wait for it.
func (e *exchange) deferSuspects() {
	good := 0
	for i, at := range e.order {
		if !e.list[at].checking.Load() {
			copy(e.order[good+1:i+1], e.order[good:i])
			e.order[good] = at
			good++
		}
	}
}

// limit is how many attempts may fail.
func (e *exchange) limit() int {
	switch cfg := &e.m.g.cfg; {
	case cfg.MaxAttempts >= 0:
		return cfg.MaxAttempts
	case cfg.Service:
		return max(serviceAttempts, 2*len(e.list))
	}
	return 2 * len(e.list)
}

// advance asks the next server that is not down; when there is none to ask, the exchange ends.
func (e *exchange) advance() {
	for e.m.now() < e.deadline {
		s := e.next()
		if s == nil {
			break
		}
		e.more = hedges
		if e.m.g.cfg.Service {
			e.more = serviceHedges
		}
		err := e.send(e.slot(), s, e.via)
		if err == nil {
			e.patience = e.m.now() + e.m.peer(s).usual.at
			e.arm()
			return
		}
		if !e.failed(s, err) {
			break
		}
	}
	if e.err == nil {
		e.err = ErrNoHealthy
	}
	e.finish(nil, nil, e.err)
}

// next gives the next server by the policy. When all are down the checks themselves may be at fault, so one is tried at
// random, unless the group fails fast.
func (e *exchange) next() *Server {
	cfg := &e.m.g.cfg
	for {
		if e.at >= len(e.order) {
			e.at, e.down = 0, 0
		}
		s := e.list[e.order[e.at]]
		e.at++
		if !s.Down(cfg.MaxFails) {
			return s
		}
		if e.down++; e.down < len(e.list) {
			continue
		}
		if cfg.Broken != nil {
			cfg.Broken.Inc(e.m.loop.Index())
		}
		if cfg.FailFast {
			return nil
		}
		return e.list[e.m.below(len(e.list))]
	}
}

// failed takes note of a failure when no attempt is left, and reports whether another server may be asked.
func (e *exchange) failed(s *Server, err error) bool {
	e.err = err
	e.answer.Server = s
	if e.probe != nil || e.m.closed {
		return false
	}
	e.checkHealth(s)
	if n := e.limit(); n > 0 {
		if e.fails++; e.fails >= n {
			return false
		}
	}
	return e.down < len(e.list)
}

func (e *exchange) checkHealth(s *Server) {
	if e.m.g.cfg.MaxFails != 0 && e.probe == nil && !e.m.closing {
		e.m.peer(s).check()
	}
}

// send makes t an attempt at s. With an error nothing was sent and t is not live.
func (e *exchange) send(t *try, s *Server, via Via) error {
	now := e.m.now()
	*t = try{e: e, p: e.m.peer(s), via: via, begun: now, sent: now}
	if s.TLS != nil {
		t.via = TCP
	}
	t.expires = min(now+e.m.g.cfg.ReadTimeout, e.deadline)
	t.live = true
	var err error
	if t.via == UDP {
		err = t.p.udp.send(t)
	} else {
		err = t.p.sendStream(t, false)
	}
	if err != nil {
		t.live = false
	}
	return err
}

// arm sets the timer to the next thing to do.
func (e *exchange) arm() {
	at := e.deadline
	for i := range e.tries[:e.used] {
		if t := &e.tries[i]; t.live {
			at = min(at, t.expires)
		}
	}
	if e.more > 0 {
		at = min(at, e.patience)
	}
	e.m.loop.After(&e.timer, max(0, at-e.m.now()), e)
}

// Fire ends attempts whose time is up and asks a second time.
func (e *exchange) Fire(*loop.Loop) {
	now, gen := e.m.now(), e.gen
	for i := range e.tries[:e.used] {
		if t := &e.tries[i]; t.live && now >= t.expires {
			t.expire()
			if e.ended || e.gen != gen {
				return
			}
		}
	}
	if e.more > 0 && now >= e.patience {
		e.hedge()
	}
	if !e.ended && e.gen == gen {
		e.arm()
	}
}

// expire ends an attempt that got no reply in time.
func (t *try) expire() {
	err := t.timeout()
	t.detach(true)
	if t.e.strange && !t.e.running() {
		t.e.finish(nil, t.p.s, ErrMismatch)
		return
	}
	t.fail(err)
}

// slot gives a try that is not in use.
func (e *exchange) slot() *try {
	for i := range e.tries[:e.used] {
		if !e.tries[i].live {
			return &e.tries[i]
		}
	}
	e.used++
	return &e.tries[e.used-1]
}

// running reports whether any attempt may still be answered.
func (e *exchange) running() bool {
	for i := range e.tries[:e.used] {
		if e.tries[i].live {
			return true
		}
	}
	return false
}

// detach takes the attempt off its socket or connection. With late its time was up.
func (t *try) detach(late bool) {
	if !t.live {
		return
	}
	t.live = false
	if t.socket != nil {
		t.socket.forget(t)
	}
	if t.stream != nil {
		t.stream.forget(t, late)
	}
	t.socket, t.stream = nil, nil
}

// fail ends an attempt that is on no socket any more: others go on without it, or the next server is asked.
func (t *try) fail(err error) {
	e := t.e
	t.live, t.socket, t.stream = false, nil, nil
	if e.running() {
		e.err = err
		e.checkHealth(t.p.s)
		if e.m.g.cfg.Service { // the others are late already
			e.patience = e.m.now()
			e.arm()
		} else {
			e.more = 0
		}
		return
	}
	if !e.failed(t.p.s, err) {
		e.finish(nil, nil, err)
		return
	}
	e.advance()
}

// replied takes a message with the attempt's ID. Detached, the attempt has been taken off its connection already.
func (t *try) replied(msg []byte) {
	e := t.e
	verdict := compare(msg, e.query, e.question)
	if e.probe != nil { // whatever answers, lives
		e.finish(msg, t.p.s, nil)
		return
	}
	switch {
	case verdict == torn && t.via == UDP:
		msg = cut(msg, e.question)
	case verdict == torn || verdict == stump && t.via == TCP:
		t.detach(false)
		t.fail(wire.ErrShort)
		return
	case verdict == bare || verdict == foreign && t.via == TCP:
		e.finish(nil, t.p.s, ErrMismatch)
		return
	case verdict == foreign || verdict == stump:
		e.strange = e.strange || verdict == foreign
		t.socket.odd()
		return
	}
	now := e.m.now()
	t.p.usual.add(now - t.sent)
	code := rcodeOf(msg)
	e.m.g.metrics.observe(t.p.s, e.m.loop.Index(), code, now-t.begun)
	cfg := &e.m.g.cfg
	switch {
	case t.via == UDP && msg[2]&byte(wire.FlagTC>>8) != 0 && cfg.PreferUDP && !cfg.ForceTCP:
		t.again(TCP)
	case e.passOver(code):
		t.detach(false)
		e.err, e.answer.Server = nil, t.p.s
		if !e.running() {
			e.advance()
		}
	default:
		e.answer.Via = t.via
		e.answer.Local = t.local()
		e.finish(msg, t.p.s, nil)
	}
}

// passOver reports whether a reply with this code makes the next server be asked.
func (e *exchange) passOver(code wire.Rcode) bool {
	for _, c := range e.m.g.cfg.Failover {
		if c == code {
			e.other++
			return e.other < len(e.list)
		}
	}
	return false
}

// again asks the same server once more over another transport, with the time of a new attempt.
func (t *try) again(via Via) {
	e, s := t.e, t.p.s
	t.detach(false)
	if err := e.send(t, s, via); err != nil {
		t.fail(err)
		return
	}
	e.arm()
}

// finish ends the exchange. Everybody is told at once, or from the mailbox when the end came about inside Ask.
func (e *exchange) finish(msg []byte, s *Server, err error) {
	if e.ended {
		return
	}
	e.ended = true
	e.m.loop.Stop(&e.timer)
	for i := range e.tries[:e.used] {
		e.tries[i].detach(false)
	}
	if s != nil {
		e.answer.Server = s
	}
	e.answer.Msg, e.answer.Err = msg, err
	e.m.g.flights.leave(e)
	if e.probe != nil {
		s, m := e.probe, e.m
		m.put(e)
		m.peer(s).checked(err)
		return
	}
	if e.m.asking > 0 {
		if len(e.m.late) == 0 {
			e.m.loop.Post(e.m)
		}
		e.m.late = append(e.m.late, e)
		return
	}
	e.deliver()
}
