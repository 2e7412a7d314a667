//go:build !portable

package server

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// queue tells of a socket whether its queue is half full or more, as far as the kernel has looked after it (what was taken out
// lately, up to a quarter, may still count), and how many datagrams it has dropped, modulo 2^32: for want of room or by a filter.
func queue(fd int) (crowded bool, dropped uint32) {
	const allocated, limit, drops = 0, 1, 8 // linux/sock_diag.h, SK_MEMINFO_RMEM_ALLOC, _RCVBUF and _DROPS
	var info [9]uint32
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	return errno == 0 && info[allocated] >= info[limit]/2, info[drops]
}

// Where a classic filter finds what it looks at (linux/filter.h): offsets in the network header, and what the kernel knows.
const (
	fromNetwork = 0xfff00000 // SKF_NET_OFF
	protocol    = 0xfffff000 // SKF_AD_OFF + SKF_AD_PROTOCOL
	random      = 0xfffff038 // SKF_AD_OFF + SKF_AD_RANDOM
	keepAll     = 0xffffffff
	source4     = fromNetwork + 12 // RFC 791, 3.1
	source6     = fromNetwork + 8  // RFC 8200, 3
)

// setFilter gives a socket a filter that lets datagrams of the clients pass by chance, and all others; with none that is
// not being tried it takes the filter away.
func setFilter(fd int, clients []thinned) error {
	code := filter(clients)
	if len(code) == 1 {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
		if err == unix.ENOENT { // there is none
			err = nil
		}
		return err
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
}

// filter writes the program: for each client comparisons that skip to the next one's, and behind them the throw.
func filter(clients []thinned) []unix.SockFilter {
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	give := func(octets uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: octets}
	}
	var code []unix.SockFilter
	for _, c := range clients {
		if c.try {
			continue
		}
		at := source(c.client)
		for i, m := range at {
			next := 2*(len(at)-i-1) + 4
			code = append(code, load(m.at),
				unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: m.is, Jf: uint8(next)})
		}
		code = append(code, load(random),
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: c.pass, Jf: 1}, give(0), give(keepAll))
	}
	return append(code, give(keepAll))
}

// word is four octets of a datagram.
type word struct{ at, is uint32 }

// source is what all datagrams of a client have. The family comes first: a socket may have those of both.
func source(c client) []word {
	if c.is4() {
		return []word{{protocol, unix.ETH_P_IP}, {source4, uint32(c.lo)}}
	}
	return []word{{protocol, unix.ETH_P_IPV6}, {source6 + 12, uint32(c.lo)}, {source6 + 8, uint32(c.lo >> 32)},
		{source6 + 4, uint32(c.hi)}, {source6, uint32(c.hi >> 32)}}
}
