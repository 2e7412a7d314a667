// Package local answers questions about the local host (RFC 6761, 6.3; RFC 1912, 4.1).
//
//	local {
//	    localhost_prefix on|off
//	}
package local

import (
	"bytes"
	"context"
	"log/slog"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

// Spec is the local directive.
var Spec = chain.Spec{
	Name: "local",
	Usage: `local {
    localhost_prefix on|off
}`,
	Options: func() corefile.Options { return options(new(string)) },
	New:     setup,
}

// ttl of all its answers, a week in seconds.
const ttl = 604800

// Local is the handler.
type Local struct {
	env       *chain.Env
	names     names
	prefix    bool // names that begin with localhost are answered like those that end with it
	localhost *metrics.Counter
}

// names are the zones it answers for, and what its records hold.
type names struct {
	localhost, rootMail, loopback wire.Name
	zones                         []wire.Name
}

var _ chain.Handler = (*Local)(nil)

func setup(s *chain.Setup) error {
	prefix := "on"
	for i := range s.Lines {
		if err := corefile.ArgCount(&s.Lines[i], 0, 0, ""); err != nil {
			return err
		}
		warnings, err := options(&prefix).Read(&s.Lines[i])
		s.Warn(warnings...)
		if err != nil {
			return err
		}
	}
	localhost := wire.MustName("localhost.")
	s.Handler(&Local{
		env: s.Env, prefix: prefix == "on",
		names: names{
			localhost: localhost, rootMail: wire.MustName("root.localhost."), loopback: wire.MustName("1.0.0.127.in-addr.arpa."),
			zones: []wire.Name{localhost, wire.MustName("0.in-addr.arpa."), wire.MustName("127.in-addr.arpa."), wire.MustName("255.in-addr.arpa.")},
		},
		localhost: s.Env.Metrics.Counter("coredns_local_localhost_requests_total", "Queries for names below localhost."),
	})
	return nil
}

func options(prefix *string) corefile.Options {
	return corefile.Options{corefile.Enum("localhost_prefix", prefix, "on", "off")}
}

// Serve answers for names in its zones and passes the others on.
func (l *Local) Serve(q *chain.Query) chain.Outcome {
	name := q.Name()
	if l.isLocalhost(name) {
		l.localhost.Inc(q.Shard())
		if l.env.Log.Enabled(context.Background(), slog.LevelDebug) {
			l.env.Log.Debug("plugin/local: Intercepting localhost query for \"" + name.String() + "\" " + q.Type.String() + ", from " + q.Client.Addr().String())
		}
		q.Reply.Begin(&q.Request, wire.NoError, 0)
		if !l.address(q) {
			l.soa(q, wire.Authority, q.Name())
		}
		return chain.Answered
	}
	for _, zone := range l.names.zones {
		if name.Under(zone) {
			l.answer(q, zone)
			return chain.Answered
		}
	}
	return chain.Next
}

// isLocalhost finds names below localhost, and those that begin with the label and go on: what a search list makes of it.
func (l *Local) isLocalhost(name wire.Name) bool {
	if len(name) <= len(l.names.localhost) {
		return false
	}
	return name.Under(l.names.localhost) || l.prefix && bytes.HasPrefix(name, l.names.localhost[:len(l.names.localhost)-1])
}

func (l *Local) answer(q *chain.Query, zone wire.Name) {
	name := q.Name()
	q.Reply.Begin(&q.Request, wire.NoError, 0)
	switch {
	case len(name) == len(zone):
		l.apex(q, wire.Equal(zone, l.names.localhost))
	case wire.Equal(name, l.names.loopback):
		if q.Type == wire.TypePTR {
			q.Reply.AppendName(wire.Answer, q.Name(), wire.TypePTR, ttl, l.names.localhost)
			return
		}
		l.soa(q, wire.Authority, zone)
	default:
		q.Reply.SetRcode(wire.NXDomain)
		l.soa(q, wire.Authority, zone)
	}
}

// apex answers for one of the zones' own names. Only localhost has addresses.
func (l *Local) apex(q *chain.Query, localhost bool) {
	switch {
	case localhost && l.address(q):
	case q.Type == wire.TypeSOA:
		l.soa(q, wire.Answer, q.Name())
	case q.Type == wire.TypeNS:
		q.Reply.AppendName(wire.Answer, q.Name(), wire.TypeNS, ttl, l.names.localhost)
	default:
		l.soa(q, wire.Authority, q.Name())
	}
}

// address adds the loopback address that was asked for and reports whether one was.
func (l *Local) address(q *chain.Query) bool {
	switch q.Type {
	case wire.TypeA:
		q.Reply.Append(wire.Answer, q.Name(), wire.TypeA, wire.ClassIN, ttl, []byte{127, 0, 0, 1})
	case wire.TypeAAAA:
		q.Reply.Append(wire.Answer, q.Name(), wire.TypeAAAA, wire.ClassIN, ttl, []byte{15: 1})
	default:
		return false
	}
	return true
}

func (l *Local) soa(q *chain.Query, s wire.Section, owner wire.Name) {
	q.Reply.AppendSOA(s, owner, ttl, &wire.SOA{MName: l.names.localhost, RName: l.names.rootMail, Serial: 1, Minimum: ttl})
}
