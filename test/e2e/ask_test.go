package e2e_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// question is a query as text, "NAME TYPE [tcp] [nord]", or for a reverse name
// "ADDRESS PTR".
type question string

// message makes the query.
func (q question) message() (m *dns.Msg, network string) {
	words := strings.Fields(string(q))
	name := dns.Fqdn(words[0])
	if net.ParseIP(words[0]) != nil {
		name, _ = dns.ReverseAddr(words[0])
	}
	m = new(dns.Msg)
	m.SetQuestion(name, dns.StringToType[words[1]])
	m.SetEdns0(4096, false)
	network = "udp"
	if slices.Contains(words[2:], "tcp") {
		network = "tcp"
	}
	return m, network
}

// dialer opens a connection to a server; tests in a namespace have their own.
type dialer func(network, address string) (net.Conn, error)

func dial(network, address string) (net.Conn, error) {
	return net.DialTimeout(network, address, 2*time.Second)
}

// exchange asks once, and waits two seconds.
func exchange(open dialer, server string, q question) (*dns.Msg, error) {
	m, network := q.message()
	raw, err := open(network, server)
	if err != nil {
		return nil, err
	}
	conn := &dns.Conn{Conn: raw, UDPSize: 4096}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return nil, err
	}
	if err := conn.WriteMsg(m); err != nil {
		return nil, err
	}
	reply, err := conn.ReadMsg()
	if err != nil {
		return nil, err
	}
	if reply.Id != m.Id || len(reply.Question) != 1 || reply.Question[0] != m.Question[0] {
		return reply, fmt.Errorf("a reply to something else: %v", reply)
	}
	return reply, nil
}

// summary is a reply in a line that tests can be compared with:
//
//	NOERROR 10.96.0.1 10.96.0.2       the data of the answers, sorted
//	NOERROR CNAME:a.example. 192.0.2.1    a CNAME among them
//	NOERROR 0 50 80 a. / a. A 192.0.2.1   with additional records
//	NODATA, NXDOMAIN                  with the SOA record that these need
//	SERVFAIL, REFUSED, ...
func summary(m *dns.Msg) string {
	if m.Truncated {
		return "TRUNCATED"
	}
	text := dns.RcodeToString[m.Rcode]
	if m.Rcode == dns.RcodeSuccess && len(m.Answer) == 0 {
		text = "NODATA"
	}
	if (text == "NODATA" || text == "NXDOMAIN") && !hasSOA(m) {
		text += " without SOA"
	}
	text = joined(text, " ", records(m.Answer, func(rr dns.RR) string {
		if rr.Header().Rrtype == dns.TypeCNAME && m.Question[0].Qtype != dns.TypeCNAME {
			return "CNAME:" + data(rr)
		}
		return data(rr)
	}))
	return joined(text, " / ", records(m.Extra, func(rr dns.RR) string {
		return rr.Header().Name + " " + dns.TypeToString[rr.Header().Rrtype] + " " + data(rr)
	}))
}

func hasSOA(m *dns.Msg) bool {
	return slices.ContainsFunc(m.Ns, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeSOA })
}

func joined(text, separator string, more []string) string {
	if len(more) == 0 {
		return text
	}
	return text + separator + strings.Join(more, " ")
}

func records(list []dns.RR, show func(dns.RR) string) []string {
	var all []string
	for _, rr := range list {
		if rr.Header().Rrtype != dns.TypeOPT {
			all = append(all, show(rr))
		}
	}
	slices.Sort(all)
	return all
}

// data is a record's RDATA as text.
func data(rr dns.RR) string { return strings.TrimPrefix(rr.String(), rr.Header().String()) }

// ask gives the summary of a reply, or the error in its place.
func (g *godwit) ask(q question) string { return askAt(g.open, g.dns, q) }

func askAt(open dialer, server string, q question) string {
	m, err := exchange(open, server, q)
	if err != nil {
		return "error: " + err.Error()
	}
	return summary(m)
}

// answers are questions and the summaries of their replies.
type answers [][2]string

// check asks once and compares.
func (g *godwit) check(t *testing.T, want answers) {
	t.Helper()
	for _, w := range want {
		if got := g.ask(question(w[0])); got != w[1] {
			t.Errorf("%s:\n\t%s, want\n\t%s", w[0], got, w[1])
		}
	}
}

// becomes asks until every answer is as wanted, within five seconds, and
// returns how long it took.
func (g *godwit) becomes(t *testing.T, want answers) time.Duration {
	t.Helper()
	begin := time.Now()
	for _, w := range want {
		for got := g.ask(question(w[0])); got != w[1]; got = g.ask(question(w[0])) {
			if time.Since(begin) > 5*time.Second {
				t.Errorf("%s:\n\t%s, want\n\t%s", w[0], got, w[1])
				break
			}
			time.Sleep(2 * time.Millisecond)
		}
	}
	return time.Since(begin)
}
