package upstream

import (
	"time"

	"golang.org/x/sys/unix"
)

// watchPeer makes the kernel end a connection whose peer has vanished within seconds (tcp(7)). A kernel that takes an option
// not ends it later.
func watchPeer(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	for option, value := range map[int]time.Duration{
		unix.TCP_KEEPIDLE: aliveIdle / time.Second, unix.TCP_KEEPINTVL: aliveInterval / time.Second, unix.TCP_KEEPCNT: aliveProbes,
		unix.TCP_USER_TIMEOUT: unheardFor / time.Millisecond,
	} {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, option, int(value))
	}
}
