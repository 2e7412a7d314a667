package forward

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/upstream"
)

// to is a line's TO words, in order.
type to struct {
	files   fs.FS
	entries []entry
}

// entry is one TO word: the servers it stands for.
type entry struct {
	file    string // like /etc/resolv.conf; empty for others
	servers []upstream.Target
}

// upstreams reads the TO words. Names are resolved here, once; files are read again while the configuration lives.
func (c *config) upstreams(words []corefile.Word) (*to, error) {
	t := &to{files: c.setup.Env.Files}
	shared := map[string]*tls.Config{}
	for _, w := range words {
		e, err := c.entry(w, shared)
		if err != nil {
			return nil, err
		}
		t.entries = append(t.entries, e)
	}
	return t, nil
}

// entry reads [SCHEME://]ADDRESS[%NAME][:PORT], a file, or [SCHEME://]HOST[:PORT].
func (c *config) entry(w corefile.Word, shared map[string]*tls.Config) (entry, error) {
	transport, host := corefile.SplitTransport(w.Text)
	port := "53"
	switch transport {
	case corefile.TransportDNS:
	case corefile.TransportTLS:
		port = "853"
	case corefile.TransportHTTPS:
		return entry{}, errHTTPS(w)
	default:
		return entry{}, corefile.Errorf(w.Pos, "forward does not ask over %s; it does over UDP, TCP and tls://", transport)
	}
	if host == "" {
		return entry{}, corefile.Errorf(w.Pos, "%q has no address", w.Text)
	}
	bare, name := splitServerName(host)
	at, err := addrPort(bare, port)
	if err == errPort { // CoreDNS starts with it too, and fails each query
		c.setup.Warn(corefile.Warning{Pos: w.Pos, Text: fmt.Sprintf("%q has no valid port: nobody can be asked there", w.Text)})
	}
	if err == nil || err == errPort {
		target, failed := c.target(w, transport, at, name, shared)
		if err == errPort {
			target.Text = bare
		}
		return entry{servers: []upstream.Target{target}}, failed
	}
	servers, err := readResolvConf(c.setup.Env.Files, host)
	if err == nil {
		if len(servers) == 0 {
			c.setup.Warn(corefile.Warning{Pos: w.Pos, Text: fmt.Sprintf("%s names no server", host)})
		}
		return entry{file: host, servers: servers}, nil
	}
	if strings.Contains(host, "/") {
		return entry{}, corefile.Errorf(w.Pos, "%q is not an IP address, and as a file: %v", w.Text, err)
	}
	addrs, err := c.resolve(bare, port)
	if err != nil {
		return entry{}, corefile.Errorf(w.Pos, "%q is neither an IP address nor a file, and as a name: %v", w.Text, err)
	}
	var e entry
	for _, at := range addrs {
		target, err := c.target(w, transport, at, name, shared)
		if err != nil {
			return entry{}, err
		}
		e.servers = append(e.servers, target)
	}
	return e, nil
}

// target makes a server of an address. The name behind a percent sign is the TLS server name for tls://, and the
// interface for a link-local address.
func (c *config) target(w corefile.Word, transport string, at netip.AddrPort, name string, shared map[string]*tls.Config) (upstream.Target, error) {
	t := upstream.Target{Addr: at, Text: at.String()}
	switch {
	case transport == corefile.TransportTLS && name != "" && c.tlsName != "":
		return t, &corefile.Error{Pos: w.Pos, Text: fmt.Sprintf("%s and tls_servername %s name two servers", w.Text, c.tlsName),
			Hint: "leave one of them out"}
	case transport == corefile.TransportTLS:
		t.TLS = c.serverTLS(shared, name)
	case at.Addr().IsLinkLocalUnicast() && at.Addr().Is6():
		t.Addr = netip.AddrPortFrom(at.Addr().WithZone(name), at.Port())
	}
	return t, nil
}

// splitServerName takes the name between a percent sign and the port, or the closing bracket, out of an address.
func splitServerName(host string) (bare, name string) {
	at := strings.LastIndexByte(host, '%')
	if at < 0 {
		return host, ""
	}
	bare, name = host[:at], host[at+1:]
	port := ""
	if colon := strings.LastIndexByte(name, ':'); colon >= 0 {
		name, port = name[:colon], name[colon:]
	}
	if strings.HasPrefix(bare, "[") {
		bare, name = bare+"]", strings.TrimSuffix(name, "]")
	}
	return bare + port, name
}

// addrPort reads IP, [IP] or IP:PORT, PORT being a number or a service's name.
func addrPort(s, port string) (netip.AddrPort, error) {
	host := s
	if h, p, err := net.SplitHostPort(s); err == nil {
		host, port = h, p
	} else {
		host = strings.Trim(host, "[]")
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	n, err := net.LookupPort("udp", port)
	at := netip.AddrPortFrom(a.Unmap().WithZone(""), uint16(n))
	if err != nil {
		return at, errPort
	}
	return at, nil
}

// errPort says that the address is one, but its port is none.
var errPort = errors.New("no such port")

// readResolvConf reads the nameserver lines of a file as resolv.conf(5) has them. Lines that name no address are left
// out.
func readResolvConf(files fs.FS, name string) ([]upstream.Target, error) {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, err
	}
	var servers []upstream.Target
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		bare, zone := splitServerName(words[1])
		a, err := netip.ParseAddr(bare)
		if err != nil {
			continue
		}
		at := netip.AddrPortFrom(a.Unmap(), 53)
		t := upstream.Target{Addr: at, Text: at.String()}
		if a.Is6() && a.IsLinkLocalUnicast() {
			t.Addr = netip.AddrPortFrom(a.WithZone(zone), 53)
		}
		servers = append(servers, t)
	}
	return servers, nil
}

// targets gives all servers, each address once.
func (t *to) targets() []upstream.Target {
	var all []upstream.Target
	for _, e := range t.entries {
		for _, s := range e.servers {
			if !slices.ContainsFunc(all, func(o upstream.Target) bool { return o.Text == s.Text }) {
				all = append(all, s)
			}
		}
	}
	return all
}

// watched reports whether a TO is a file.
func (t *to) watched() bool {
	return slices.ContainsFunc(t.entries, func(e entry) bool { return e.file != "" })
}

// watchEvery is how often files are looked at.
const watchEvery = 5 * time.Second

// watch reads the files again and again: a node's resolv.conf changes under a running server. A file that names nobody,
// or that can't be read, changes nothing.
func (t *to) watch(ctx context.Context, env *chain.Env, group *upstream.Group) error {
	ticks := env.Ticks(ctx, watchEvery)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
			if t.reread(env) {
				group.SetTargets(t.targets())
			}
		}
	}
}

// reread reads the files and reports whether the servers changed.
func (t *to) reread(env *chain.Env) bool {
	changed := false
	for i := range t.entries {
		e := &t.entries[i]
		if e.file == "" {
			continue
		}
		servers, err := readResolvConf(t.files, e.file)
		if err != nil || len(servers) == 0 || slices.Equal(servers, e.servers) {
			continue
		}
		e.servers, changed = servers, true
		words := make([]string, len(servers))
		for i, s := range servers {
			words[i] = s.Text
		}
		env.Log.Info("plugin/forward: "+e.file+" changed", "servers", strings.Join(words, " "))
	}
	return changed
}
