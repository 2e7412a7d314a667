//go:build !linux || portable

package server

import "golang.org/x/sys/unix"

// queue and setFilter are Linux's alone: elsewhere a turn that leaves something is an overload, and the stage has to do.
func queue(int) (crowded bool, dropped uint32) { return true, 0 }

func setFilter(_ int, clients []thinned) error {
	if len(clients) == 0 {
		return nil
	}
	return unix.EOPNOTSUPP
}
