//go:build !linux || portable

package upstream

import (
	"golang.org/x/sys/unix"

	"github.com/godwit-dns/godwit/loop"
)

// The portable twin of batch_linux.go: one datagram a call.

// vector is datagrams of a connected socket.
type vector struct {
	at [batch][]byte
	n  [batch]int
}

func (v *vector) init() {}

// put makes b, which must not be empty, the i-th datagram or the room for it.
func (v *vector) put(i int, b []byte) { v.at[i] = b }

// size is the length of the i-th datagram that was received, or of what there was room for.
func (v *vector) size(i int) int { return v.n[i] }

// send sends the first datagram.
func (v *vector) send(fd, _ int) (int, unix.Errno) {
	_, errno := loop.Write(fd, v.at[0])
	return 1, errno
}

// receive fills the first place.
func (v *vector) receive(fd, _ int) (int, unix.Errno) {
	n, errno := loop.Read(fd, v.at[0])
	v.n[0] = n
	return 1, errno
}
