package upstream

import (
	"net"
	"syscall"
	"time"
)

// How soon a connection to a server that has vanished ends: one with questions on it when nothing of them was acknowledged
// for unheardFor, an idle one before a question meets it.
const (
	unheardFor    = 2 * time.Second
	aliveIdle     = 3 * time.Second
	aliveInterval = time.Second
	aliveProbes   = 2
)

// watchDial does for a dialer what watchPeer does for a socket.
func watchDial(d *net.Dialer) {
	d.KeepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: aliveIdle, Interval: aliveInterval, Count: aliveProbes}
	d.Control = func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { watchPeer(int(fd)) })
	}
}
