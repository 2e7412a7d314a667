// Package freeport finds ports for tests that start programs.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// The range lies below the one from which the kernel takes ports of its own choice, so that neither a connection nor a
// test that lets the kernel choose takes a port between its being found and its being used.
const (
	first = 10000
	last  = 32000
)

// Find gives a port that is free for UDP and TCP on all addresses at the moment.
func Find() (int, error) {
	var err error
	for range 100 {
		port := first + rand.IntN(last-first)
		if err = free(port); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no free port: %w", err)
}

// Listen opens a port of the loopback for UDP and TCP.
func Listen() (net.PacketConn, net.Listener, error) {
	var err error
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first))
		var udp net.PacketConn
		if udp, err = net.ListenPacket("udp", addr); err != nil {
			continue
		}
		var tcp net.Listener
		if tcp, err = net.Listen("tcp", addr); err == nil {
			return udp, tcp, nil
		}
		udp.Close()
	}
	return nil, nil, fmt.Errorf("no free port: %w", err)
}

func free(port int) error {
	addr := fmt.Sprintf(":%d", port)
	tcp, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	return udp.Close()
}
