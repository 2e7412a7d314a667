package server

import "golang.org/x/sys/unix"

// gather has the kernel give all datagrams of an address to the first socket of its group, or to one chosen by the client.
// It reports whether the kernel agreed.
func gather(fd int, alone bool) bool {
	if alone {
		return choose(fd, 0)
	}
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
	if err == nil || err == unix.ENOENT { // nobody had chosen
		return true
	}
	return choose(fd, ^uint32(0)) // before Linux 5.3: no socket has that number, and without one the client decides
}

// choose makes a socket of the group, counted in the order of binding, the one that gets everything.
func choose(fd int, socket uint32) bool {
	program := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: socket}}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: 1, Filter: &program[0]}) == nil
}
