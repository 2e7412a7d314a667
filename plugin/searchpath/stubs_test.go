package searchpath_test

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// What stub resolvers make of a resolv.conf with a search list and ndots, written down from their sources: glibc's
// resolv/res_query.c, musl's src/network/lookup_name.c, Go's net/dnsclient_unix.go.

// conf is a pod's resolv.conf.
type conf struct {
	search []string // without dots at their ends
	ndots  int
}

// reply is what a server says: the code, the number of records in the answer, the addresses among them.
type reply struct {
	rcode   int
	answers int
	addrs   []string
}

// asker asks the server.
type asker func(name string, t uint16) reply

// outcome is what a program gets: addresses, or why there are none.
type outcome struct {
	addrs []string
	err   string
}

const (
	noName = "no such name"
	noData = "no address"
	again  = "temporary failure"
	fatal  = "failure"
)

var (
	both   = []uint16{dns.TypeA, dns.TypeAAAA}
	onlyV4 = []uint16{dns.TypeA}
	onlyV6 = []uint16{dns.TypeAAAA}
)

// glibc goes on after a name that does not exist and after one without data for all types that it wants, and after a
// SERVFAIL; a reply with any record in its answer ends the walk.
func glibc(name string, types []uint16, c conf, ask asker) outcome {
	try := func(full string) (outcome, bool) {
		var all []reply
		for _, t := range types {
			all = append(all, ask(full+".", t))
		}
		var o outcome
		found := false
		for _, r := range all {
			if r.rcode == dns.RcodeSuccess && r.answers > 0 {
				found = true
				o.addrs = append(o.addrs, r.addrs...)
			}
		}
		if found {
			if len(o.addrs) == 0 {
				o.err = noData
			}
			return o, true
		}
		code := all[0].rcode
		if code == dns.RcodeSuccess {
			code = all[len(all)-1].rcode
		}
		switch code {
		case dns.RcodeSuccess:
			o.err = noData
		case dns.RcodeNameError:
			o.err = noName
		case dns.RcodeServerFailure:
			o.err = again
		default:
			o.err = fatal
		}
		return o, false
	}
	bare, rooted := strings.CutSuffix(name, ".")
	asItIs := outcome{}
	if rooted || strings.Count(bare, ".") >= c.ndots {
		o, found := try(bare)
		if found || rooted {
			return o
		}
		asItIs = o
	}
	sawNoData, sawFailure := false, false
	last := outcome{err: noName}
search:
	for _, s := range c.search {
		o, found := try(bare + "." + s)
		if found {
			return o
		}
		last = o
		switch o.err {
		case noData:
			sawNoData = true
		case again:
			sawFailure = true
		case fatal:
			break search
		}
	}
	if asItIs.err == "" {
		o, found := try(bare)
		if found {
			return o
		}
		last = o
	}
	switch {
	case asItIs.err != "":
		return asItIs
	case sawNoData:
		return outcome{err: noData}
	case sawFailure:
		return outcome{err: again}
	}
	return last
}

// musl goes on only when one of the types says that the name does not exist, and never searches for a name with ndots dots.
func musl(name string, types []uint16, c conf, ask asker) outcome {
	try := func(full string) (outcome, bool) {
		var o outcome
		var all []reply
		for _, t := range types {
			all = append(all, ask(full+".", t))
		}
		for _, r := range all {
			switch r.rcode {
			case dns.RcodeSuccess:
				o.addrs = append(o.addrs, r.addrs...)
			case dns.RcodeNameError:
				return outcome{err: noName}, false
			case dns.RcodeServerFailure:
				return outcome{err: again}, true
			default:
				return outcome{err: fatal}, true
			}
		}
		if len(o.addrs) == 0 {
			o.err = noData
		}
		return o, true
	}
	bare, rooted := strings.CutSuffix(name, ".")
	if !rooted && strings.Count(bare, ".") < c.ndots {
		for _, s := range c.search {
			if o, done := try(bare + "." + s); done {
				return o
			}
		}
	}
	o, _ := try(bare)
	return o
}

// golang goes on until there is an address.
func golang(name string, types []uint16, c conf, ask asker) outcome {
	bare, rooted := strings.CutSuffix(name, ".")
	var names []string
	enough := strings.Count(bare, ".") >= c.ndots
	if rooted || enough {
		names = append(names, bare)
	}
	if !rooted {
		for _, s := range c.search {
			names = append(names, bare+"."+s)
		}
		if !enough {
			names = append(names, bare)
		}
	}
	err := noName
	for _, n := range names {
		var o outcome
		for _, t := range types {
			switch r := ask(n+".", t); r.rcode {
			case dns.RcodeSuccess:
				o.addrs = append(o.addrs, r.addrs...)
			case dns.RcodeNameError:
			default:
				err = again
			}
		}
		if len(o.addrs) > 0 {
			return o
		}
	}
	return outcome{err: err}
}

func (o outcome) equal(p outcome) bool {
	a, b := slices.Sorted(slices.Values(o.addrs)), slices.Sorted(slices.Values(p.addrs))
	return o.err == p.err && slices.Equal(a, b)
}
