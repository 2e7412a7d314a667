//go:build !portable

package loop

import (
	"testing"

	"golang.org/x/sys/unix"
)

// A ticket may be used when its loop is gone. The descriptor of the loop's eventfd is somebody else's by then.
func TestPostAfterClose(t *testing.T) {
	p := newPipe(t)
	l, err := New(0, System())
	if err != nil {
		t.Fatal(err)
	}
	event := l.poll.event
	l.Close()
	if err := unix.Dup3(p.w, event, unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(event)
	l.Post(TaskFunc(func(*Loop) {}))
	var b [8]byte
	if n, err := unix.Read(p.r, b[:]); err != unix.EAGAIN {
		t.Errorf("%d octets were written to a file of somebody else (%v)", n, err)
	}
}
