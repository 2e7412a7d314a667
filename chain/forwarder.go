package chain

import "github.com/godwit-dns/godwit/wire"

// Forwarder is a handler that asks other servers: the loop directive looks for it among its neighbours when everything
// is built. Its methods may be called from any goroutine.
type Forwarder interface {
	// Forwards reports whether queries for name go to other servers.
	Forwards(name wire.Name) bool
	// Suspend stops forwarding, but for HINFO queries for probe; nil starts it again. Queries that are not forwarded
	// are SERVFAIL. Probe must not be changed afterwards.
	Suspend(probe wire.Name)
}
