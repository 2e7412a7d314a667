package handover

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Side is what the old agent does in a handover. Its methods are called from one goroutine at a time, and never after
// Serve has returned.
type Side interface {
	Alias
	// Listeners gives duplicates of all listening descriptors: DNS, health, ready, metrics. Serve closes them. They stay
	// all there are until GoOn.
	Listeners() ([]Listener, error)
	// StopReading is called when the successor answers on the sockets: nothing new is taken from them when it returns, what
	// is in flight goes on.
	StopReading()
	// ReadOn undoes StopReading: the successor was lost before it took over.
	ReadOn()
	// GoOn is called after Listeners when the successor was lost before it took over: they may change again.
	GoOn()
	// SaveCache writes the cache, newest entries first, until w fails or ctx ends. Nothing is lost but time when it is cut.
	SaveCache(ctx context.Context, w io.Writer) error
}

// limits are how long a side waits for the other.
type limits struct {
	step  time.Duration // hello, proof
	list  time.Duration // all listeners, and to take what is left of the cache
	ready time.Duration // for the successor to load its configuration and answer
	cache time.Duration // for the whole cache
	own   time.Duration // for the successor's rules; for the old agent to stop reading, and to consent
}

func protocolLimits() limits {
	return limits{step: time.Second, list: 2 * time.Second, ready: 15 * time.Second, cache: 200 * time.Millisecond,
		own: 5 * time.Second}
}

// atOnce is how many connections may be unproven at a time. More wait in the kernel, first come first served, so that a
// stranger that says nothing delays a successor, by a second for so many connections of his, and no more.
const atOnce = 16

// Old is the side of the running agent: it waits for a successor.
type Old struct {
	id       string
	log      *slog.Logger
	limits   limits
	uid      int
	listener *listener
	turn     chan struct{} // has an element while a successor is proven
}

// Listen opens the socket that a successor will connect to, under a name drawn at random. Id is the agent's own, 8 hex
// digits. Nothing is accepted before Serve. The log gets every step at its debug level, and what failed as a warning.
func Listen(id string, log *slog.Logger) (*Old, error) {
	if !validID(id) {
		return nil, fmt.Errorf("handover: %q is no id of 8 hex digits", id)
	}
	l, err := listen()
	if err != nil {
		return nil, err
	}
	return &Old{id: id, log: log, limits: protocolLimits(), uid: os.Geteuid(), listener: l,
		turn: make(chan struct{}, 1)}, nil
}

// Alias is the text that makes this agent the owner once it stands in the interface's alias.
func (o *Old) Alias() string { return aliasText(o.id, o.listener.name) }

// Close gives the name up.
func (o *Old) Close() { o.listener.file.Close() }

// Serve waits for successors until one has taken over, which it reports, or ctx ends. A handover whose successor is proven
// when ctx ends is finished first: at most 25 seconds more. When it reports true this agent owns nothing any more: it
// drains, removes its own rules and exits, and leaves interface, addresses and alias alone.
func (o *Old) Serve(ctx context.Context, side Side) (handed bool) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(ctx, func() { _ = o.listener.file.SetReadDeadline(time.Now()) })()
	var done atomic.Bool
	var group sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for ctx.Err() == nil {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		fd, err := o.listener.accept()
		if err == nil {
			var c *conn
			if c, err = newConn(fd, false); err == nil {
				group.Go(func() {
					defer func() { <-places }()
					defer c.close()
					if o.attempt(ctx, c, side) {
						done.Store(true)
						stop()
					}
				})
				continue
			}
		}
		<-places
		if ctx.Err() == nil {
			o.log.Warn("handover: cannot accept a successor", "error", err)
			_ = pause(ctx, 100*time.Millisecond) // out of descriptors, which passes
		}
	}
	group.Wait()
	return done.Load()
}

// attempt is one connection, from its first octet to its end.
func (o *Old) attempt(ctx context.Context, c *conn, side Side) (handed bool) {
	unproven := context.AfterFunc(ctx, c.close)
	successor, err := o.prove(c, side)
	if err != nil {
		c.refuse(err)
		o.log.Warn("handover: a connection did not prove to be a successor", "error", err)
		return false
	}
	defer o.release()
	log := o.log.With("successor", successor)
	if !unproven() {
		o.restore(side)
		log.Info("handover: a successor came too late, this agent ends")
		return false
	}
	log.Info("handover: begins")
	if err = o.pass(c, side, log); err == nil {
		log.Info("handover: the successor owns the sockets")
		return true
	}
	c.refuse(err)
	log.Warn("handover: failed, this agent goes on", "error", err)
	return false
}

var errBusy = errors.New("another successor is being served")

// prove finds out whether the peer can write the alias, and shows it that this side can. Without an error the turn is
// this connection's.
func (o *Old) prove(c *conn, side Side) (successor string, err error) {
	c.within(o.limits.step)
	uid, err := c.peerUID()
	if err != nil || uid != o.uid {
		return "", errors.Join(err, fmt.Errorf("its uid is %d, not %d", uid, o.uid))
	}
	f, _, err := c.expect(kindHello)
	if err != nil {
		return "", err
	}
	successor, theirs, err := f.hello()
	if err != nil {
		return "", err
	}
	o.log.Debug("handover", "step", "hello", "successor", successor)
	// Before it writes over what the other one and this side have to read in the alias. One that has failed may be about
	// to leave.
	if !o.claim(o.limits.step / 4) {
		return "", errBusy
	}
	o.release()
	ours := newNonce()
	if err = c.send(appendHello(nil, o.id, ours), -1); err != nil {
		return "", err
	}
	c.within(o.limits.step)
	if _, _, err = c.expect(kindProof); err != nil {
		if text, _ := side.Alias(); text == proven(o.Alias(), ours) { // it died just then
			o.restore(side)
		}
		return "", err
	}
	if !o.claim(0) {
		return "", errBusy
	}
	if err = o.exchange(c, side, ours, theirs); err != nil {
		o.release()
	}
	return successor, err
}

// claim makes it this connection's turn, and reports whether it is within d.
func (o *Old) claim(d time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	select {
	case o.turn <- struct{}{}:
		return true
	default:
	}
	select {
	case o.turn <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (o *Old) release() { <-o.turn }

// exchange reads the successor's proof and writes this side's.
func (o *Old) exchange(c *conn, side Side, ours, theirs []byte) error {
	text, err := side.Alias()
	if err != nil {
		return err
	}
	if text != proven(o.Alias(), ours) {
		if base, _, _, _ := parseAlias(text); base != o.Alias() {
			o.restore(side) // somebody wrote over it: the next successor has to find this agent
		}
		return errors.New("it did not write its nonce into the interface's alias")
	}
	o.log.Debug("handover", "step", "proven")
	if err = side.SetAlias(proven(text, theirs)); err == nil {
		err = c.say(kindProof)
	}
	if err != nil {
		o.restore(side)
	}
	return err
}

func (o *Old) restore(side Side) {
	if err := side.SetAlias(o.Alias()); err != nil {
		o.log.Error("handover: cannot write the interface's alias, so no successor will find this agent", "error", err)
	}
}

// pass hands everything over. On an error this side is as it was before.
func (o *Old) pass(c *conn, side Side, log *slog.Logger) (err error) {
	stopped := false
	defer func() {
		if err == nil {
			return
		}
		if stopped {
			side.ReadOn()
		}
		side.GoOn()
		o.restore(side)
	}()
	if err = o.sendListeners(c, side); err != nil {
		return err
	}
	log.Debug("handover", "step", "listeners")
	c.within(o.limits.ready)
	if _, _, err = c.expect(kindReady); err != nil {
		return err
	}
	log.Debug("handover", "step", "ready")
	stopped = true
	side.StopReading()
	log.Debug("handover", "step", "stopped")
	if err = o.sendCache(c, side, log); err != nil {
		return err
	}
	log.Debug("handover", "step", "cache")
	c.within(o.limits.own)
	if _, _, err = c.expect(kindOwned); err != nil {
		return err
	}
	log.Debug("handover", "step", "owned")
	// From here on the successor is the owner, whether it hears of this or not.
	c.within(o.limits.step)
	_ = c.say(kindLeft)
	log.Debug("handover", "step", "left")
	return nil
}

func (o *Old) sendListeners(c *conn, side Side) error {
	list, err := side.Listeners()
	defer closeAll(list)
	if err != nil {
		return err
	}
	if len(list) > maxListeners {
		return fmt.Errorf("%d listeners, more than %d", len(list), maxListeners)
	}
	c.within(o.limits.list)
	for _, l := range list {
		if len(l.Key) > maxKey {
			return fmt.Errorf("a listener's key has %d octets, more than %d", len(l.Key), maxKey)
		}
		b := appendField([]byte{byte(kindListener)}, tagKey, l.Key)
		b = appendField(b, tagNetwork, l.Network)
		b = appendField(b, tagAddress, l.Addr.String())
		if err := c.send(b, l.FD); err != nil {
			return fmt.Errorf("sending %s %s: %w", l.Network, l.Addr, err)
		}
	}
	count := binary.BigEndian.AppendUint16(nil, uint16(len(list)))
	return c.send(appendField([]byte{byte(kindListeners)}, tagCount, count), -1)
}

const (
	maxListeners = 4096
	maxKey       = 8192
)

// sendCache sends what there is time for. A cache that can't be written is not a reason to stay.
func (o *Old) sendCache(c *conn, side Side, log *slog.Logger) error {
	c.within(o.limits.cache)
	ctx, cancel := context.WithTimeout(context.Background(), o.limits.cache)
	defer cancel()
	w := &cacheWriter{c: c, b: appendCacheHead(nil)}
	err := side.SaveCache(ctx, w)
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		log.Debug("handover", "step", "cut", "error", err)
	}
	c.within(o.limits.list)
	return c.say(kindCacheEnd)
}

// cacheWriter makes frames of a stream of octets. It fails for good when the time is over.
type cacheWriter struct {
	c   *conn
	b   []byte // the frame that is being filled
	err error
}

const cacheHead = 1 + fieldHead

// appendCacheHead begins a frame; the length of its one field is filled in when it is sent.
func appendCacheHead(b []byte) []byte { return append(b, byte(kindCache), tagData, 0, 0) }

// Write takes all of p, or fails.
func (w *cacheWriter) Write(p []byte) (n int, err error) {
	for w.err == nil && len(p) > 0 {
		k := min(len(p), maxFrame-len(w.b))
		w.b = append(w.b, p[:k]...)
		p, n = p[k:], n+k
		if len(w.b) == maxFrame {
			w.err = w.flush()
		}
	}
	return n, w.err
}

func (w *cacheWriter) flush() error {
	if w.err != nil || len(w.b) == cacheHead {
		return w.err
	}
	binary.BigEndian.PutUint16(w.b[2:], uint16(len(w.b)-cacheHead))
	err := w.c.send(w.b, -1)
	w.b = w.b[:cacheHead]
	return err
}
