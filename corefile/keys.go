package corefile

import (
	"strconv"
	"strings"
)

// The transports a key may name. Key.Transport is one of them.
const (
	TransportDNS    = "dns"    // UDP and TCP
	TransportTLS    = "tls"    // RFC 7858
	TransportHTTPS  = "https"  // RFC 8484
	TransportHTTPS3 = "https3" // RFC 8484 over HTTP/3
	TransportGRPC   = "grpc"
	TransportQUIC   = "quic" // RFC 9250
	// TransportUnix is accepted before a key, as CoreDNS does, and means that nothing listens for it.
	TransportUnix = "unix"
)

// transports pairs each transport with its port; no name is a prefix of another once "://" follows.
var transports = [...]struct{ name, port string }{
	{TransportDNS, ""}, {TransportTLS, "853"}, {TransportQUIC, "853"}, {TransportGRPC, "443"},
	{TransportHTTPS, "443"}, {TransportHTTPS3, "443"}, {TransportUnix, ""},
}

// Key is one zone that a server block answers for, on one port.
type Key struct {
	Transport string // TransportDNS and its kin
	Zone      string // lower-case and fully qualified
	Port      string // decimal, or the default port as it was given
	Pos       Pos
	Text      string // as written
}

// String gives the key as CoreDNS names it, in its start-up lines for instance: "dns://example.org.:53".
func (k Key) String() string { return k.Transport + "://" + k.Zone + ":" + k.Port }

// SplitTransport takes a scheme such as "tls://" off s. Without one the transport is TransportDNS; a scheme that is no
// transport stays part of the rest.
func SplitTransport(s string) (transport, rest string) {
	for _, t := range transports {
		if rest, ok := strings.CutPrefix(s, t.name+"://"); ok {
			return t.name, rest
		}
	}
	return TransportDNS, s
}

// Keys reads the keys of a server block: [SCHEME://]ZONE[:PORT], ZONE being a domain name or a network in CIDR notation.
// A network off the octet (IPv6: nibble) boundary becomes several keys. A DNS key without a port gets defaultPort, the
// others the port of their transport. Errors are of type *Error.
func Keys(words []Word, defaultPort string) ([]Key, error) {
	keys := make([]Key, 0, len(words))
	for _, w := range words {
		transport, rest := SplitTransport(w.Text)
		zones, port, err := splitZone(rest)
		if err != nil {
			return nil, Errorf(w.Pos, "%s is no zone to serve: %v", quote(w.Text), err)
		}
		if port == "" {
			port = portOf(transport, defaultPort)
		} else if n, _ := strconv.Atoi(port); n < 0 || n > 65535 {
			return nil, Errorf(w.Pos, "%s has port %s; ports go from 0 to 65535", quote(w.Text), port)
		}
		for _, z := range zones {
			if _, _, err := splitZone(fqdn(z)); err != nil { // the final dot may be one byte too many
				return nil, Errorf(w.Pos, "%s is no zone to serve: %v", quote(w.Text), err)
			}
			keys = append(keys, Key{Transport: transport, Zone: normal(z), Port: port, Pos: w.Pos, Text: w.Text})
		}
	}
	return keys, nil
}

func portOf(transport, defaultPort string) string {
	for _, t := range transports {
		if t.name == transport && t.port != "" {
			return t.port
		}
	}
	if transport == TransportUnix {
		return ""
	}
	return defaultPort
}

// Host reads one zone argument as CoreDNS's Host.NormalizeExact does: scheme and port are dropped, a network becomes
// its reverse zones, names are lower-case and fully qualified. It returns nil when s is no zone.
func Host(s string) []string {
	_, rest := SplitTransport(s)
	zones, _, err := splitZone(rest)
	if err != nil {
		return nil
	}
	for i, z := range zones {
		zones[i] = normal(z)
	}
	return zones
}

// Zones returns the zones that a directive's arguments name, or those of its server block when there are no arguments.
// Arguments that are no zones are skipped with a warning, as CoreDNS skips them without one: the result may be empty.
// Fallback is not changed, and the result shares nothing with it.
func Zones(args []Word, fallback []string) ([]string, []Warning) {
	if len(args) == 0 {
		zones := make([]string, 0, len(fallback))
		for _, s := range fallback {
			if z := Host(s); len(z) > 0 {
				s = z[0] // a key was expanded when its block was read
			}
			zones = append(zones, s)
		}
		return zones, nil
	}
	zones := make([]string, 0, len(args))
	var skipped []Warning
	for _, w := range args {
		z := Host(w.Text)
		if len(z) == 0 {
			skipped = append(skipped, Warning{Pos: w.Pos, Text: quote(w.Text) + " is no zone and is left out"})
		}
		zones = append(zones, z...)
	}
	return zones, skipped
}
