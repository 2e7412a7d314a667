package cluster

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// resource is one collection of the API.
type resource struct {
	kind           kind
	path           string
	labels, fields string // selectors
	json           bool   // the server has it as JSON only
}

const (
	// maxSilence is how long a stream may bring nothing: bookmarks come about once a minute, changes or none.
	maxSilence = 150 * time.Second
	// maxFrame bounds one object. etcd takes 1.5 MiB by default.
	maxFrame = 16 << 20
	// keepFrame is how large a frame buffer may stay between two frames.
	keepFrame  = 256 << 10
	readBuffer = 32 << 10
)

// reader keeps the store equal to one resource: it reads a complete list, then what changes, over one connection at a
// time, and begins again when that ends.
type reader struct {
	c       *Cluster
	res     resource
	into    sink
	proto   func(o *object, b []byte) error // decodes one object
	json    func(o *object, b []byte) error
	obj     object
	frame   []byte
	arrived time.Time // when the connection last gave something
	version string    // to go on from; empty for "the most recent"
	listed  bool      // a complete list was read, the watch goes on from version
	never   bool      // lists are not to be streamed: client-go's switch says so
	noList  bool      // the server does not stream lists
	backoff backoff
	lost    bool // the API server was lost and has not answered since
	silence time.Duration

	synced    atomic.Bool
	streaming atomic.Bool
	lastFrame atomic.Int64 // Unix nanoseconds
	events    atomic.Uint64
	relists   atomic.Uint64
	restarts  atomic.Uint64
	forbidden atomic.Uint64
	away      atomic.Int64     // Unix nanoseconds at which the last connection ended; 0 while there is one
	refused   func(e *refusal) // told when the API server forbids; nil for nobody
}

// sink is what a reader keeps equal to its resource: the store.
type sink interface {
	// begin opens a complete list; a fresh one replaces what is held, whatever the versions say.
	begin(k kind, fresh bool)
	// end closes it: what it did not name is gone.
	end(k kind)
	upsert(o *object)
	remove(o *object)
}

func newReader(c *Cluster, res resource) *reader {
	// client-go's switch for streaming lists is honoured.
	on, err := strconv.ParseBool(os.Getenv("KUBE_FEATURE_WatchListClient"))
	return &reader{c: c, res: res, into: c.store, proto: decodeProto, json: decodeJSON, silence: maxSilence, never: err == nil && !on}
}

func (r *reader) stats() ResourceStats {
	s := ResourceStats{
		Name: r.res.kind.String(), Synced: r.synced.Load(), Streaming: r.streaming.Load(), Events: r.events.Load(),
		Relists: r.relists.Load(), Restarts: r.restarts.Load(), Forbidden: r.forbidden.Load(),
	}
	if at := r.lastFrame.Load(); at > 0 {
		s.Staleness = r.c.cfg.Wall().Sub(time.Unix(0, at))
	}
	return s
}

// run reads until ctx ends.
func (r *reader) run(ctx context.Context) {
	for ctx.Err() == nil {
		begin := time.Now()
		err := r.session(ctx)
		if ctx.Err() != nil {
			return
		}
		r.restarts.Add(1)
		r.away.CompareAndSwap(0, r.c.cfg.Wall().UnixNano())
		delay := r.after(err, time.Since(begin))
		if delay > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(delay):
			}
		}
	}
}

// session reads over one connection, or two when a list comes before the watch.
func (r *reader) session(ctx context.Context) error {
	if r.listed {
		return r.watch(ctx, false)
	}
	r.relists.Add(1)
	if !r.noList && !r.never {
		err := r.watch(ctx, true)
		var refused *refusal
		if !errors.As(err, &refused) || r.listed || !refused.unsupported() {
			return err
		}
		r.noList = true
		r.c.log.Info("the API server does not stream lists, reading them whole", "resource", r.res.kind.String(), "reason", refused.Error())
	}
	if err := r.list(ctx); err != nil {
		return err
	}
	return r.watch(ctx, false)
}

// refusal is a Status of the API server instead of what was asked for.
type refusal struct {
	status
	event bool // it came inside a stream
}

func (e *refusal) Error() string {
	s := strconv.Itoa(e.code)
	if e.reason != "" {
		s += " " + e.reason
	}
	if e.message != "" {
		s += ": " + e.message
	}
	return s
}

// expired reports whether the version to go on from is too old.
func (e *refusal) expired() bool {
	return e.code == http.StatusGone || e.reason == "Expired" || e.reason == "Gone"
}

// ahead reports whether the version is newer than what the server has.
func (e *refusal) ahead() bool {
	return e.tooLarge || strings.Contains(e.message, "Too large resource version")
}

// unsupported reports whether a streaming list was refused for good. Servers without it answer 4xx, or 200 and an ERROR
// event before anything else.
func (e *refusal) unsupported() bool {
	switch {
	case e.expired(), e.ahead():
		return false
	case e.event:
		return e.code != http.StatusTooManyRequests && e.code != http.StatusUnauthorized && e.code != http.StatusForbidden
	}
	return e.code >= 400 && e.code < 500 && e.code != http.StatusUnauthorized && e.code != http.StatusForbidden &&
		e.code != http.StatusTooManyRequests
}

// errSilent closes a stream that brought nothing for too long.
var errSilent = errors.New("the stream brought nothing for too long")

// open sends a request and gives a body that ends when it is silent for too long. The stop function must be called.
func (r *reader) open(ctx context.Context, query url.Values) (body *bufio.Reader, json bool, stop func(), err error) {
	if r.res.labels != "" {
		query.Set("labelSelector", r.res.labels)
	}
	if r.res.fields != "" {
		query.Set("fieldSelector", r.res.fields)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(r.silence, func() { cancel(errSilent) })
	stop = func() {
		timer.Stop()
		cancel(nil)
	}
	resp, err := r.c.client.get(ctx, r.res.path, query, r.res.json)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		stop()
		return nil, false, nil, err
	}
	cancelOnly := stop
	stop = func() {
		cancelOnly()
		resp.Body.Close()
	}
	json = !strings.Contains(resp.Header.Get("Content-Type"), "protobuf")
	if resp.StatusCode != http.StatusOK {
		err := refused(resp, json)
		stop()
		return nil, false, nil, err
	}
	if r.lost {
		r.lost, r.backoff.failures = false, 0
		r.c.log.Info("the API server is back", "resource", r.res.kind.String())
	}
	r.away.Store(0)
	alive := &aliveReader{r: resp.Body, ctx: ctx, touch: func() {
		timer.Reset(r.silence)
		r.arrived = r.c.cfg.Wall()
		r.lastFrame.Store(r.arrived.UnixNano())
	}}
	return bufio.NewReaderSize(alive, readBuffer), json, stop, nil
}

// refused makes an error of a response that is not 200.
func refused(resp *http.Response, json bool) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	e := &refusal{}
	if json {
		e.status, _ = statusJSON(b)
	} else if raw, err := unwrap(b); err == nil {
		e.status, _ = decodeStatus(raw)
	}
	e.code = resp.StatusCode
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.retryAfter = s
	}
	return e
}

// aliveReader notes every sign of life, and names the reason when its context ended the stream.
type aliveReader struct {
	r     io.Reader
	ctx   context.Context
	touch func()
}

// Read reads.
func (a *aliveReader) Read(b []byte) (int, error) {
	n, err := a.r.Read(b)
	if n > 0 {
		a.touch()
	}
	if err != nil && err != io.EOF {
		if cause := context.Cause(a.ctx); cause != nil {
			err = cause
		}
	}
	return n, err
}

// completed is called at the end of a complete list.
func (r *reader) completed() {
	r.into.end(r.res.kind)
	r.listed = true
	if !r.synced.Swap(true) {
		r.c.readerSynced()
	}
}

// apply hands one object to the store.
func (r *reader) apply(event string) {
	r.events.Add(1)
	if r.listed {
		r.obj.read = r.arrived
	}
	if event == "DELETED" {
		r.into.remove(&r.obj)
		return
	}
	r.into.upsert(&r.obj)
}

// backoff is client-go's: 0.8 s to 30 s, doubled each time, with full jitter, forgotten after two minutes of health.
type backoff struct {
	step     int
	lost     time.Time // when a connection last failed
	failures int
}

const (
	backoffBase  = 800 * time.Millisecond
	backoffMax   = 30 * time.Second
	healthyAfter = 2 * time.Minute
	// quickFor is how long after a lost connection every failure is tried again quickly: a server that is starting refuses
	// connections first, and for a moment everything else it is asked, too.
	quickFor = time.Minute
	quickMax = 500 * time.Millisecond
)

func (b *backoff) next() time.Duration {
	d := min(backoffBase<<min(b.step, 10), backoffMax)
	b.step++
	return min(d+rand.N(d), backoffMax)
}

// quick is a short pause that replicas do not take all at the same time.
func quick(limit time.Duration) time.Duration { return limit/2 + rand.N(limit/2) }

// after decides what follows the end of a session: what to read next, what to log, how long to wait.
func (r *reader) after(err error, lasted time.Duration) time.Duration {
	if lasted >= healthyAfter {
		r.backoff.step, r.backoff.failures = 0, 0
	}
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, errSilent) {
		if lasted > 5*time.Second || r.backoff.failures == 0 {
			r.backoff.failures++
			return quick(20 * time.Millisecond) // the server ends every watch after some minutes
		}
		if r.backoff.failures++; r.backoff.failures < 5 {
			return quick(quickMax) // one that is going down, perhaps
		}
		return r.backoff.next()
	}
	r.backoff.failures++
	var e *refusal
	switch {
	case errors.As(err, &e):
		return r.afterRefusal(e)
	case lossOf(err):
		return r.afterLoss(err)
	}
	r.c.log.Error("reading from the API server failed", "resource", r.res.kind.String(), "reason", err.Error())
	return r.backoff.next()
}

// afterRefusal is after for what the API server says.
func (r *reader) afterRefusal(e *refusal) time.Duration {
	if e.expired() {
		r.version, r.listed = "", false
		r.c.log.Info("the watch is too old to go on, reading everything again", "resource", r.res.kind.String(), "reason", e.Error())
		return quick(100 * time.Millisecond)
	}
	starting := time.Since(r.backoff.lost) < quickFor
	switch {
	case e.code == http.StatusForbidden:
		r.forbidden.Add(1)
		if r.refused != nil {
			r.refused(e)
		}
		if starting && r.backoff.failures < 20 {
			break // it does not know its roles yet
		}
		r.c.log.Error("the API server forbids reading a resource; grant list and watch on it to this ServiceAccount",
			"resource", r.res.kind.String(), "path", r.res.path, "reason", e.Error())
	default:
		r.c.log.Warn("reading from the API server failed", "resource", r.res.kind.String(), "reason", e.Error())
	}
	switch {
	case e.retryAfter > 0:
		return min(time.Duration(e.retryAfter)*time.Second, backoffMax)
	case starting && e.code != http.StatusNotFound:
		return quick(quickMax)
	}
	return r.backoff.next()
}

// lossOf reports whether an error says that there is no server at the other end, or no longer.
func lossOf(err error) bool {
	var netError net.Error
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.As(err, &netError) && !untrusted(nil, err)
}

// afterLoss is after for connections that failed. They cost a server that is away nothing, and it is to be found soon
// when it is back.
func (r *reader) afterLoss(err error) time.Duration {
	now := time.Now()
	first := now.Sub(r.backoff.lost) > quickFor
	r.backoff.lost = now
	r.lost = true
	r.noList = false // another server, or a newer one, may be there next time
	if first {
		r.c.log.Warn("lost the API server, trying again", "resource", r.res.kind.String(), "reason", err.Error())
	}
	if r.backoff.failures < 100 {
		return quick(quickMax)
	}
	return quick(2 * quickMax)
}
