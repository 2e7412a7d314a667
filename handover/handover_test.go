package handover

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestHandover(t *testing.T) {
	cache := make([]byte, 5*maxFrame/2) // two frames and a part
	rand.NewChaCha8([32]byte{}).Read(cache)
	r := newRig(t, func(_ *Old, s *fakeSide) { s.cache = cache })
	taken, err := r.take()
	if err != nil {
		t.Fatal(err)
	}
	if len(taken.Listeners) != 2 {
		t.Fatalf("%d listeners", len(taken.Listeners))
	}
	for i, l := range taken.Listeners {
		want := r.side.list[i]
		if l.Key != want.Key || l.Network != want.Network || l.Addr != want.Addr {
			t.Errorf("listener %+v, want %+v", l, want)
		}
		flags, err := unix.FcntlInt(uintptr(l.FD), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s would be inherited by children: %v", l.Network, err)
		}
	}
	var got []byte
	if err = taken.Ready(t.Context(), func(from io.Reader) { got, err = io.ReadAll(from) }); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, cache) {
		t.Errorf("%d octets of cache came, %d were sent", len(got), len(cache))
	}
	if err = taken.Own(t.Context(), aliasText(newID, "mine")); err != nil {
		t.Fatal(err)
	}
	if !<-r.result {
		t.Error("the old agent does not know that it was succeeded")
	}
	r.result <- true
	if asked, wentOn := r.side.held(); asked != 1 || wentOn != 0 {
		t.Errorf("listeners asked for %d times, let go %d times", asked, wentOn)
	}
	if _, stopped, resumed := r.side.counts(); stopped != 1 || resumed != 0 {
		t.Errorf("stopped reading %d times, went on %d times", stopped, resumed)
	}
	if id, ok := Owner(r.side.text); !ok || id != newID {
		t.Errorf("the alias is %q", r.side.text)
	}
	for _, l := range append(r.side.list, taken.Listeners...) {
		if flags, err := unix.FcntlInt(uintptr(l.FD), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("%s %d lost O_NONBLOCK: %v", l.Network, l.FD, err)
		}
	}
}

// The cache may end anywhere: because the time is over, because the reader has enough, because the writer fails.
func TestCacheIsCut(t *testing.T) {
	r := newRig(t, func(_ *Old, s *fakeSide) { s.cache = make([]byte, 8<<20) })
	taken, err := r.take()
	if err != nil {
		t.Fatal(err)
	}
	if err = taken.Ready(t.Context(), func(from io.Reader) {
		_, _ = io.ReadFull(from, make([]byte, 100001))
		time.Sleep(2 * protocolLimits().cache)
	}); err != nil {
		t.Fatal(err)
	}
	if err = taken.Own(t.Context(), aliasText(newID, "mine")); err != nil {
		t.Error(err)
	}
	if !r.end() {
		t.Error("not handed over")
	}
	if r.side.saved == nil {
		t.Error("the writer was not told that the time is over")
	}
}

func TestSuccessorLeavesEarly(t *testing.T) {
	for _, step := range []string{"listeners", "ready", "own"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			taken, err := r.take()
			if err != nil {
				t.Fatal(err)
			}
			if step != "listeners" {
				if err = taken.Ready(t.Context(), discard); err != nil {
					t.Fatal(err)
				}
			}
			if step == "own" { // its rules are in, its name in the alias, and it dies
				_ = r.side.SetAlias(aliasText(newID, "mine"))
			}
			taken.Close()
			r.untouched()
			again, err := r.take()
			if err != nil {
				t.Fatal(err)
			}
			if err = errors.Join(again.Ready(t.Context(), discard), again.Own(t.Context(), aliasText(newID, "mine"))); err != nil {
				t.Error(err)
			}
			if !r.end() {
				t.Error("the second successor was not served")
			}
		})
	}
}

// A successor that is proven and says nothing has as long as the protocol gives it.
func TestSlowSuccessor(t *testing.T) {
	for _, step := range []string{"listeners", "ready"} {
		t.Run(step, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(o *Old, _ *fakeSide) {
				if step == "ready" {
					o.limits.own = 200 * time.Millisecond
				} else {
					o.limits.ready = 200 * time.Millisecond
				}
			})
			taken, err := r.take()
			if err != nil {
				t.Fatal(err)
			}
			if step == "ready" {
				if err = taken.Ready(t.Context(), discard); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(400 * time.Millisecond)
			r.untouched()
			if step == "ready" {
				err = taken.Own(t.Context(), r.old.Alias())
			} else {
				err = taken.Ready(t.Context(), discard)
			}
			if !errors.Is(err, ErrKept) {
				t.Errorf("a successor that came too late was told %v", err)
			}
			if r.end() {
				t.Error("handed over")
			}
		})
	}
}

// An old agent that hangs keeps what it has: its successor leaves.
func TestOldHangs(t *testing.T) {
	alias := &memoryAlias{}
	l, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.file.Close()
	alias.text = aliasText(oldID, l.name)
	limits := protocolLimits()
	limits.list, limits.own = 500*time.Millisecond, 500*time.Millisecond
	for _, until := range []kind{kindListeners, kindReady, kindCacheEnd, kindOwned} {
		t.Run(until.String(), func(t *testing.T) {
			_ = alias.SetAlias(aliasText(oldID, l.name))
			played := make(chan struct{})
			go func() { defer close(played); playOld(t, l, alias, until) }()
			taken, err := take(t.Context(), newID, alias, debugLog(io.Discard), limits)
			if err == nil {
				if err = taken.Ready(t.Context(), discard); err == nil {
					err = taken.Own(t.Context(), aliasText(newID, "mine"))
				}
			}
			if !errors.Is(err, ErrKept) {
				t.Errorf("%v", err)
			}
			<-played
		})
	}
	alias.text = aliasText(oldID, l.name)
	if _, err = take(t.Context(), newID, alias, debugLog(io.Discard), limits); !errors.Is(err, ErrNobody) {
		t.Errorf("a silent agent: %v", err)
	}
}

// playOld is an old agent that proves itself and stops saying anything from a step on.
func playOld(t *testing.T, l *listener, alias *memoryAlias, until kind) {
	fd, err := nextThatSpeaks(l)
	if err != nil {
		t.Error(err)
		return
	}
	defer fd.close()
	nonce := newNonce()
	f, _, err := fd.expect(kindHello)
	if err != nil {
		t.Error(err)
		return
	}
	_, theirs, _ := f.hello()
	_ = fd.send(appendHello(nil, oldID, nonce), -1)
	_, _, _ = fd.expect(kindProof)
	text, _ := alias.Alias()
	_ = alias.SetAlias(proven(text, theirs))
	_ = fd.say(kindProof)
	defer func() { discardPackets(fd) }()
	if until == kindListeners {
		return
	}
	_ = fd.send(appendField([]byte{byte(kindListeners)}, tagCount, []byte{0, 0}), -1)
	if until == kindReady {
		return
	}
	_, _, _ = fd.expect(kindReady)
	if until == kindCacheEnd {
		return
	}
	_ = fd.say(kindCacheEnd)
}

// nextThatSpeaks accepts past connections that were made only to see whether somebody accepts.
func nextThatSpeaks(l *listener) (*conn, error) {
	for {
		fd, err := l.accept()
		if err != nil {
			return nil, err
		}
		if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000); n == 1 {
			peek := make([]byte, 1)
			if n, _, _ := unix.Recvfrom(fd, peek, unix.MSG_PEEK); n == 1 {
				c, err := newConn(fd, false)
				if err == nil {
					c.within(10 * time.Second)
				}
				return c, err
			}
		}
		unix.Close(fd)
	}
}

func discardPackets(c *conn) {
	for {
		if _, _, err := c.receive(); err != nil {
			return
		}
	}
}

// A SIGTERM in the middle of a handover finishes it.
func TestEndDuringHandover(t *testing.T) {
	r := newRig(t, nil)
	taken, err := r.take()
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	if err = errors.Join(taken.Ready(t.Context(), discard), taken.Own(t.Context(), aliasText(newID, "mine"))); err != nil {
		t.Error(err)
	}
	if !r.end() {
		t.Error("the handover was not finished")
	}
}

func TestSecondSuccessorIsRefused(t *testing.T) {
	r := newRig(t, nil)
	first, err := r.take()
	if err != nil {
		t.Fatal(err)
	}
	before, _ := r.side.Alias()
	if _, err = r.take(); !errors.Is(err, ErrNobody) || !strings.Contains(err.Error(), errBusy.Error()) {
		t.Errorf("the second was told %v", err)
	}
	if now, _ := r.side.Alias(); now != before {
		t.Errorf("the second changed the alias to %q", now)
	}
	if err = errors.Join(first.Ready(t.Context(), discard), first.Own(t.Context(), aliasText(newID, "mine"))); err != nil {
		t.Error(err)
	}
	if !r.end() {
		t.Error("the first was disturbed")
	}
}

func TestTakeIsCancelled(t *testing.T) {
	alias := &memoryAlias{}
	l, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.file.Close()
	alias.text = aliasText(oldID, l.name)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	limits := protocolLimits()
	limits.step = time.Hour // so that the test ends only if the cancellation is seen
	if _, err = take(ctx, newID, alias, debugLog(io.Discard), limits); err == nil {
		t.Error("taken over from an agent that says nothing")
	}
}

func TestNobody(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "other": "eth0 uplink", "later version": "godwit/2 0000aaaa godwit-00", "no id": "godwit/1 x godwit-00",
		"socket with odd letters": "godwit/1 0000aaaa ../x", "dead": aliasText(oldID, "godwit-0123456789abcdef0123456789abcdef"),
		"no socket": "godwit/1 0000aaaa", "long": aliasText(oldID, strings.Repeat("a", 200)),
	} {
		alias := &memoryAlias{text: text}
		if _, err := Take(t.Context(), newID, alias, debugLog(io.Discard)); !errors.Is(err, ErrNobody) {
			t.Errorf("%s: %v", name, err)
		}
		if alias.text != text {
			t.Errorf("%s: the alias was changed to %q", name, alias.text)
		}
	}
}
