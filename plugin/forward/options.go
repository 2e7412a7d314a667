package forward

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/upstream"
	"github.com/godwit-dns/godwit/wire"
)

// maxDuration is as long as a duration can be.
const maxDuration = time.Duration(math.MaxInt64)

// options are the rows of a line's block.
func (c *config) options() corefile.Options {
	return corefile.Options{
		{Name: "except", Usage: "IGNORED_NAMES...", Min: 1, Max: -1, Read: c.names},
		corefile.Flag("force_tcp", &c.ask.ForceTCP),
		corefile.Flag("prefer_udp", &c.ask.PreferUDP),
		corefile.Duration("expire", "DURATION", &c.expire, 0, maxDuration),
		corefile.Duration("max_age", "DURATION", &c.maxAge, 0, maxDuration),
		corefile.Int("max_idle_conns", "INTEGER", &c.ask.MaxIdle, 0, math.MaxInt),
		corefile.Duration("read_timeout", "DURATION", &c.ask.ReadTimeout, 1, maxDuration),
		{Name: "max_fails", Usage: "INTEGER", Min: 1, Max: 1, Read: func(l *corefile.Line) error {
			n, err := corefile.ParseInt(l.Args[0], 0, math.MaxUint32)
			c.ask.MaxFails = uint32(n)
			return err
		}},
		corefile.Int("max_connect_attempts", "INTEGER", &c.attempts, 0, math.MaxUint32),
		{Name: "doh_method", Usage: "GET|POST", Min: 1, Max: 1, Read: dohMethod},
		{Name: "tls", Usage: "[CERT KEY] [CA]", Max: 3, Read: c.readTLS},
		corefile.Text("tls_servername", "NAME", &c.tlsName),
		{Name: "policy", Usage: "random|round_robin|sequential", Min: 1, Max: 1, Read: c.policy},
		{Name: "health_check", Usage: "DURATION [no_rec] [domain FQDN]", Min: 1, Max: -1, Read: c.healthCheck},
		corefile.Int("max_concurrent", "MAX", &c.limit, 0, math.MaxInt),
		{Name: "next", Usage: "RCODE...", Min: 1, Max: -1, Read: func(l *corefile.Line) error { return rcodes(l, &c.next) }},
		corefile.Flag("next_on_nodata", &c.noData),
		corefile.Flag("failfast_all_unhealthy_upstreams", &c.ask.FailFast),
		{Name: "failover", Usage: "RCODE...", Min: 1, Max: -1, Read: c.failover},
		{Name: "resolver", Usage: "IP[:PORT]...", Min: 1, Max: -1, Read: c.readResolvers},
		{Name: "source_address", Usage: "IP", Min: 1, Max: 1, Read: c.readSource},
	}
}

// errHTTPS is what an upstream over HTTPS gets.
func errHTTPS(w corefile.Word) error {
	return &corefile.Error{Pos: w.Pos, Text: "upstreams over HTTPS are not served yet",
		Hint: "write tls://ADDRESS with tls_servername NAME: the same servers answer over TLS"}
}

// dohMethod reads a word that means nothing while there are no upstreams over HTTPS.
func dohMethod(l *corefile.Line) error {
	if w := l.Args[0]; w.Text != "GET" && w.Text != "POST" {
		return corefile.Errorf(w.Pos, "doh_method is GET or POST, not %q", w.Text)
	}
	return nil
}

func (c *config) policy(l *corefile.Line) error {
	for _, p := range []upstream.Policy{upstream.Random, upstream.RoundRobin, upstream.Sequential} {
		if l.Args[0].Text == p.String() {
			c.ask.Policy = p
			return nil
		}
	}
	e := corefile.Errorf(l.Args[0].Pos, "%q is no policy", l.Args[0].Text)
	e.Hint = "write random, round_robin or sequential"
	return e
}

// healthCheck reads DURATION [no_rec] [domain FQDN]; the words may come in any order.
func (c *config) healthCheck(l *corefile.Line) error {
	d, err := corefile.ParseDurationIn(l.Args[0], 0, maxDuration)
	if err != nil {
		return err
	}
	c.ask.Health.Interval, c.ask.Health.Domain = d, wire.Root
	for i := 1; i < len(l.Args); i++ {
		switch w := l.Args[i]; w.Text {
		case "no_rec":
			c.ask.Health.NoRecursion = true
		case "domain":
			i++
			if i == len(l.Args) {
				return corefile.Errorf(w.Pos, "domain is not followed by a name")
			}
			if c.ask.Health.Domain, err = parseName(l.Args[i].Text); err != nil {
				return corefile.Errorf(l.Args[i].Pos, "%q is not a domain name", l.Args[i].Text)
			}
		default:
			return &corefile.Error{Pos: w.Pos, Text: fmt.Sprintf("health_check has no option %q", w.Text),
				Hint: "write: health_check DURATION [no_rec] [domain FQDN]"}
		}
	}
	return nil
}

// rcodes reads response codes by name, in capitals or not.
func rcodes(l *corefile.Line, dst *[]wire.Rcode) error {
	for _, w := range l.Args {
		code, ok := wire.ParseRcode(strings.ToUpper(w.Text))
		if !ok && strings.EqualFold(w.Text, "BADSIG") { // another name for BADVERS
			code, ok = wire.BadVers, true
		}
		if !ok {
			return corefile.Errorf(w.Pos, "%q is not a response code", w.Text)
		}
		*dst = append(*dst, code)
	}
	return nil
}

func (c *config) failover(l *corefile.Line) error {
	for _, w := range l.Args {
		if strings.EqualFold(w.Text, "NOERROR") {
			return corefile.Errorf(w.Pos, "failover does not take NOERROR: it would ask every upstream every time")
		}
	}
	return rcodes(l, &c.ask.Failover)
}

func (c *config) readResolvers(l *corefile.Line) error {
	c.resolvers = nil
	for _, w := range l.Args {
		at, err := addrPort(w.Text, "53")
		if err != nil {
			return corefile.Errorf(w.Pos, "%q is neither IP nor IP:PORT", w.Text)
		}
		c.resolvers = append(c.resolvers, at.String())
	}
	return nil
}

func (c *config) readSource(l *corefile.Line) error {
	a, err := netip.ParseAddr(l.Args[0].Text)
	if err != nil || a.Zone() != "" {
		return corefile.Errorf(l.Args[0].Pos, "%q is not an IP address", l.Args[0].Text)
	}
	c.source = a.Unmap()
	return nil
}

// readTLS reads no file, CA, CERT KEY, or CERT KEY CA. Without CA the system's authorities are trusted.
func (c *config) readTLS(l *corefile.Line) error {
	files := make([][]byte, len(l.Args))
	for i, w := range l.Args {
		var err error
		if files[i], err = fs.ReadFile(c.setup.Env.Files, c.absolute(w.Text)); err != nil {
			return corefile.Errorf(w.Pos, "tls: %v", err)
		}
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(files) >= 2 {
		cert, err := tls.X509KeyPair(files[0], files[1])
		if err != nil {
			return corefile.Errorf(l.Args[0].Pos, "tls: %s and %s are no certificate with its key: %v", l.Args[0].Text, l.Args[1].Text, err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	if len(files)%2 == 1 {
		ca := l.Args[len(files)-1]
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(files[len(files)-1]) {
			return corefile.Errorf(ca.Pos, "tls: %s has no certificate in PEM form", ca.Text)
		}
	}
	c.tls = cfg
	return nil
}
