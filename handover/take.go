package handover

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Errors of the successor's side, to be found with errors.Is. They say who is left.
var (
	// ErrNobody: the alias names no agent that lives, proves itself and has time. Start without a predecessor; binding
	// decides whether one is there all the same. (Were a refusal of an unproven peer believed, a stranger could keep the
	// node's agent from starting.)
	ErrNobody = errors.New("no agent to take over from")
	// ErrGone: the predecessor has died since. Its sockets are this agent's, and so is the rest of the way.
	ErrGone = errors.New("the predecessor is gone")
	// ErrKept: the predecessor lives and goes on. Remove what was set up, leave the sockets, exit, and try again later.
	ErrKept = errors.New("the predecessor goes on")
)

// Taken is the successor's side of a handover under way. It is for one goroutine.
type Taken struct {
	Listeners []Listener // what was received; descriptors are the caller's

	predecessor string
	socket      string
	c           *conn
	alias       Alias
	log         *slog.Logger
	limits      limits
}

// Take finds the running agent by the alias, proves to it that this process may succeed it, lets it prove itself, and
// receives its listeners. Nothing has changed yet for the predecessor: call Ready within 15 seconds, then Own; or Close,
// after which the predecessor goes on as before. Errors are ErrNobody, or ErrKept with the reason.
func Take(ctx context.Context, id string, alias Alias, log *slog.Logger) (*Taken, error) {
	return take(ctx, id, alias, log, protocolLimits())
}

func take(ctx context.Context, id string, alias Alias, log *slog.Logger, limits limits) (*Taken, error) {
	text, err := alias.Alias()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNobody, err)
	}
	base, predecessor, socket, ok := parseAlias(text)
	if !ok {
		return nil, fmt.Errorf("%w: the interface's alias is %q", ErrNobody, text)
	}
	dialCtx, cancel := context.WithTimeout(ctx, limits.list)
	fd, err := dial(dialCtx, socket)
	cancel()
	if err != nil {
		return nil, fmt.Errorf("%w: %s %w", ErrNobody, predecessor, err)
	}
	c, err := newConn(fd, true)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNobody, err)
	}
	t := &Taken{predecessor: predecessor, socket: socket, c: c, alias: alias, limits: limits, log: log.With("predecessor", predecessor)}
	defer context.AfterFunc(ctx, c.close)()
	t.log.Debug("handover", "step", "connected")
	if err = t.prove(id, base); err != nil {
		c.close()
		return nil, fmt.Errorf("%w: %s did not prove to be the agent that the alias names: %w", ErrNobody, predecessor, err)
	}
	t.log.Debug("handover", "step", "proven")
	if err = t.receiveListeners(); err != nil {
		closeAll(t.Listeners)
		if err = t.lost(err); errors.Is(err, ErrGone) {
			return nil, fmt.Errorf("%w: %w", ErrNobody, err)
		}
		return nil, err
	}
	t.log.Debug("handover", "step", "listeners")
	return t, nil
}

// prove writes the predecessor's nonce into the alias, and looks there for its own.
func (t *Taken) prove(id, base string) error {
	t.c.within(t.limits.step)
	uid, err := t.c.peerUID()
	if err != nil || uid != os.Geteuid() {
		return errors.Join(err, fmt.Errorf("its uid is %d, not %d", uid, os.Geteuid()))
	}
	ours := newNonce()
	if err = t.c.send(appendHello(nil, id, ours), -1); err != nil {
		return err
	}
	t.log.Debug("handover", "step", "hello")
	f, _, err := t.c.expect(kindHello)
	if err != nil {
		return err
	}
	_, theirs, err := f.hello()
	if err != nil {
		return err
	}
	text := proven(base, theirs)
	if err = t.alias.SetAlias(text); err != nil {
		return err
	}
	t.log.Debug("handover", "step", "proof")
	t.c.within(t.limits.step)
	if err = t.c.say(kindProof); err != nil {
		return err
	}
	if _, _, err = t.c.expect(kindProof); err != nil {
		return err
	}
	if now, err := t.alias.Alias(); err != nil || now != proven(text, ours) {
		return errors.Join(err, errors.New("it did not write the nonce into the interface's alias"))
	}
	return nil
}

func (t *Taken) receiveListeners() error {
	t.c.within(t.limits.list)
	for {
		f, fd, err := t.c.expect(kindListener, kindListeners)
		if err != nil {
			return err
		}
		if f.kind == kindListeners {
			if n := f.fields[tagCount]; len(n) != 2 || int(binary.BigEndian.Uint16(n)) != len(t.Listeners) {
				return fmt.Errorf("%d listeners came of %x", len(t.Listeners), n)
			}
			return nil
		}
		if len(t.Listeners) == maxListeners {
			unix.Close(fd)
			return fmt.Errorf("more than %d listeners", maxListeners)
		}
		l := Listener{Key: f.text(tagKey), Network: f.text(tagNetwork), FD: fd}
		l.Addr, err = netip.ParseAddrPort(f.text(tagAddress))
		if err == nil {
			err = l.verify()
		}
		if err != nil {
			unix.Close(fd)
			return err
		}
		t.Listeners = append(t.Listeners, l)
	}
}

// Ready tells the predecessor that the listeners are read and answered here, upon which it stops reading them and sends its
// cache. Load reads it, to its end or as far as it likes; what it makes of it is its own affair. Errors are ErrGone and
// ErrKept; the end of ctx is the latter.
func (t *Taken) Ready(ctx context.Context, load func(r io.Reader)) error {
	defer context.AfterFunc(ctx, t.c.close)()
	t.c.within(t.limits.list)
	if err := t.c.say(kindReady); err != nil {
		return t.lost(err)
	}
	t.log.Debug("handover", "step", "ready")
	r := &cacheReader{t: t, ctx: ctx}
	load(r)
	if _, err := io.Copy(io.Discard, r); err != nil {
		return t.lost(err)
	}
	t.log.Debug("handover", "step", "cache")
	return nil
}

// cacheReader is the stream of octets that came in frames.
type cacheReader struct {
	t    *Taken
	ctx  context.Context
	left []byte
	err  error
}

// Read gives io.EOF at the stream's end, and any other error when the predecessor was lost.
func (r *cacheReader) Read(p []byte) (int, error) {
	for len(r.left) == 0 && r.err == nil {
		if r.err = r.ctx.Err(); r.err != nil {
			break
		}
		r.t.c.within(r.t.limits.own)
		f, _, err := r.t.c.expect(kindCache, kindCacheEnd)
		switch {
		case err != nil:
			r.err = err
		case f.kind == kindCacheEnd:
			r.err = io.EOF
		default:
			r.left = f.fields[tagData]
		}
	}
	if len(r.left) == 0 {
		return 0, r.err
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	return n, nil
}

// Own makes this agent the owner: mine, the text of its own Old, goes into the alias, then the predecessor is told and its
// consent awaited. Call it when this agent's rules are in. The connection is closed when it returns. Errors are ErrGone and
// ErrKept; the end of ctx is the latter.
func (t *Taken) Own(ctx context.Context, mine string) error {
	defer t.Close()
	defer context.AfterFunc(ctx, t.c.close)()
	// Before the predecessor leaves, so that there is no moment in which the alias names one that has left.
	if err := t.alias.SetAlias(mine); err != nil {
		t.c.refuse(err)
		return fmt.Errorf("%w: %w", ErrKept, err)
	}
	t.log.Debug("handover", "step", "alias")
	t.c.within(t.limits.own)
	if err := t.c.say(kindOwned); err != nil {
		return t.lost(err)
	}
	t.log.Debug("handover", "step", "owned")
	if _, _, err := t.c.expect(kindLeft); err != nil {
		return t.lost(err)
	}
	t.log.Debug("handover", "step", "left")
	return nil
}

// Close ends the connection. Before Own has succeeded that makes the predecessor go on. The listeners stay open.
func (t *Taken) Close() { t.c.close() }

// lost finds out who is left after the connection failed, and closes it.
func (t *Taken) lost(cause error) error {
	t.c.close()
	if _, refused := errors.AsType[*refusal](cause); refused {
		return fmt.Errorf("%w: %w", ErrKept, cause)
	}
	// A dying process closes one file after the other, so its socket may take connections for a moment yet.
	ctx, cancel := context.WithTimeout(context.Background(), t.limits.step)
	defer cancel()
	for ctx.Err() == nil {
		fd, err := dial(ctx, t.socket)
		if errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("%w: %w", ErrGone, cause)
		}
		if err == nil {
			unix.Close(fd)
		}
		_ = pause(ctx, 50*time.Millisecond)
	}
	return fmt.Errorf("%w: %w", ErrKept, cause)
}
