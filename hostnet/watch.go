package hostnet

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// legacyLook is how often rules are looked at that changes are not told of, those of iptables-legacy, and rules that
	// could not be put right the last time.
	legacyLook = 10 * time.Second
	// pauseShare bounds what looking at the rules costs on a node whose rules change all the time: after each look there is
	// a pause of that many times what it took, and at least pauseLeast.
	pauseShare = 20
	pauseLeast = 100 * time.Millisecond
	noticeRoom = 1 << 20 // octets of notices that may wait
)

// Run keeps what Up set: it renews the addresses, undoes what other programs change, and watches the lease. It returns
// when ctx is done and everything that it started has ended. It may begin before Up.
func (h *Host) Run(ctx context.Context) {
	var all sync.WaitGroup
	if h.cfg.ownInterface() {
		changed := make(chan struct{}, 1)
		all.Go(func() { h.listen(ctx, unix.NETLINK_ROUTE, linkGroups(), nil, changed, h.aboutUs) })
		all.Go(func() { h.linkKeeper(ctx, changed) })
	}
	if h.cfg.rules() {
		changed := make(chan struct{}, 1)
		all.Go(func() {
			h.listen(ctx, unix.NETLINK_NETFILTER, []int{unix.NFNLGRP_NFTABLES}, onlyGenerations(), changed, h.newRules)
		})
		all.Go(func() { h.ruleKeeper(ctx, changed) })
		all.Go(func() { h.leaseWatcher(ctx) })
	}
	all.Wait()
}

func linkGroups() []int {
	return []int{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR}
}

// wait sleeps, and reports whether to go on.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// linkKeeper keeps the interface and its addresses.
func (h *Host) linkKeeper(ctx context.Context, changed <-chan struct{}) {
	tick := time.NewTicker(h.cfg.Lifetime / 3)
	defer tick.Stop()
	for {
		renew := false
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
			renew = true
		}
		h.ifaceMu.Lock()
		var repaired []string
		var err error
		if h.onLink {
			repaired, err = h.keepLink(renew)
		}
		h.ifaceMu.Unlock()
		h.count(repaired, "another program changed the agent's interface; keep NetworkManager, systemd-networkd and the like from managing it", "interface", h.cfg.Interface)
		if err != nil {
			h.cfg.Log.Error("the agent's interface can't be kept", "interface", h.cfg.Interface, "error", err)
			h.cfg.Failed(false, err)
			if !wait(ctx, pauseLeast) {
				return
			}
		}
	}
}

// ruleKeeper keeps the rules that no socket owns.
func (h *Host) ruleKeeper(ctx context.Context, changed <-chan struct{}) {
	next := time.NewTimer(h.nextLook(nil))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-next.C:
		}
		start, by := time.Now(), ""
		if name := h.changer.Load(); name != nil {
			by = *name
		}
		over, err := h.succeeded()
		var repaired []string
		if err == nil && !over {
			h.ruleMu.Lock()
			repaired, err = h.keepRules(ctx)
			h.ruleMu.Unlock()
		}
		if ctx.Err() != nil {
			return
		}
		h.count(repaired, "another program changed the agent's rules", "last change by", by)
		if err != nil {
			h.cfg.Log.Error("the agent's rules can't be kept", "error", err)
			h.cfg.Failed(true, err)
		}
		next.Reset(h.nextLook(err))
		if !wait(ctx, max(pauseLeast, pauseShare*time.Since(start))) {
			return
		}
	}
}

// nextLook is how long after a look that ended with err the rules are looked at without notice.
func (h *Host) nextLook(err error) time.Duration {
	if err != nil || h.legacyTables() {
		return min(h.cfg.Check, legacyLook)
	}
	return h.cfg.Check
}

func (h *Host) count(repaired []string, what string, args ...any) {
	for _, r := range repaired {
		h.repairs[r].Inc(h.cfg.Metrics.Shared())
	}
	if len(repaired) > 0 {
		h.cfg.Log.Warn(what, append(args, "repaired", slices.Compact(repaired))...)
	}
}

// aboutUs picks the notices after which the interface is looked at.
func (h *Host) aboutUs(m message) bool {
	if l, ok := readLink(m); ok {
		return l.name == h.cfg.Interface
	}
	_, gone, ok := readAddress(m)
	return ok && m.kind == unix.RTM_DELADDR && slices.Contains(h.cfg.Addresses, gone.addr.Addr())
}

// newRules picks the ends of changes to the rules, and notes who made the last one.
func (h *Host) newRules(m message) bool {
	name, ok := changer(m)
	if ok {
		h.changer.Store(&name)
	}
	return ok
}

// onlyGenerations is a filter in front of the socket: of all that nf_tables tells of a change, the one notice at its end.
func onlyGenerations() []unix.SockFilter {
	kind := uint32(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN)
	swapped := kind>>8 | kind&0xff<<8 // loads are in network order, netlink headers in the machine's
	const typeAt = 4
	return []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: typeAt},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: swapped, Jt: 1},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: kind, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
}

// listen tells changed of every notice that is of interest, and of notices that were lost.
func (h *Host) listen(ctx context.Context, protocol int, groups []int, filter []unix.SockFilter, changed chan<- struct{}, interest func(message) bool) {
	for ctx.Err() == nil {
		err := h.listenOnce(ctx, protocol, groups, filter, func() {
			select {
			case changed <- struct{}{}:
			default: // there is one waiting
			}
		}, interest)
		if ctx.Err() != nil {
			return
		}
		h.cfg.Log.Error("the kernel's notices of changes can't be read", "error", err)
		if !wait(ctx, time.Second) {
			return
		}
	}
}

func (h *Host) listenOnce(ctx context.Context, protocol int, groups []int, filter []unix.SockFilter, tell func(), interest func(message) bool) error {
	f, err := subscribe(protocol, groups, filter)
	if err != nil {
		return err
	}
	defer f.Close()
	defer context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Unix(1, 0)) })()
	tell() // of what changed before we listened
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if errors.Is(err, unix.ENOBUFS) {
			tell()
			continue
		}
		if err != nil {
			return err
		}
		for head, body := range messages(buf[:n]) {
			if interest(message{head.Type, head.Flags, body}) {
				tell()
				break
			}
		}
	}
}

// subscribe opens a socket for notices; reading it waits in Go's poller, so a deadline ends it.
func subscribe(protocol int, groups []int, filter []unix.SockFilter) (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, fmt.Errorf("opening a netlink socket for notices: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, noticeRoom)
	if len(filter) > 0 {
		prog := unix.SockFprog{Len: uint16(len(filter)), Filter: unsafe.SliceData(filter)}
		err = errors.Join(err, unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog))
	}
	err = errors.Join(err, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
	for _, g := range groups {
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g))
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("asking for the kernel's notices: %w", err)
	}
	return os.NewFile(uintptr(fd), "netlink notices"), nil
}
