package chain

import "github.com/godwit-dns/godwit/wire"

// Forwarder is a handler that asks other servers: the loop directive looks for it among its neighbours when everything
// is built. Its methods may be called from any goroutine.
type Forwarder interface {
	// Forwards reports whether queries for name go to other servers.
	Forwards(name wire.Name) bool
	// Probe says that HINFO queries for name are the loop directive's: each of them is put to a server, whatever is in
	// flight already. With suspend nothing else is: other queries are SERVFAIL. A nil name ends both. The name must not
	// be changed afterwards.
	Probe(name wire.Name, suspend bool)
}
