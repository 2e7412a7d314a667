package main

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/miekg/dns"
)

// question is one packet and how it is sent.
type question struct {
	what   string // how reports call it
	packet []byte
	proto  string     // udp, tcp, tls
	port   string     // the variable with the port, PORT
	at     netip.Addr // the server's address
	silent bool       // no reply is the likely outcome: waiting for it ends early
	raw    bool       // the reply is not bound to the packet's ID
	stream bool       // several messages may come
}

// questions reads a rule, "NAMES ; TYPES ; MODES", and gives every combination.
func questions(rule string) ([]question, error) {
	parts := strings.Split(rule, " ; ")
	if len(parts) == 2 {
		parts = append(parts, "udp")
	}
	if len(parts) != 3 {
		return nil, fmt.Errorf("a rule is NAMES ; TYPES ; MODES: %s", rule)
	}
	var all []question
	for _, name := range expand(parts[0]) {
		for _, t := range expand(parts[1]) {
			for _, mode := range expand(parts[2]) {
				q, err := newQuestion(name, t, mode)
				if err != nil {
					return nil, err
				}
				all = append(all, q)
			}
		}
	}
	return all, nil
}

// groups are short words for many.
var groups = map[string]string{
	"@common": "A AAAA SRV TXT MX NS SOA PTR CNAME",
	"@types":  "A AAAA SRV TXT MX NS SOA PTR CNAME CAA NAPTR DNAME HTTPS SVCB DS DNSKEY RRSIG NSEC NSEC3 TLSA SSHFP HINFO SPF LOC URI ANY TYPE65280 TYPE0",
	"@modes":  "udp udp+edns udp+do tcp",
	"@edns": "udp udp+edns udp+do udp+cd udp+ad udp+nord udp+size=512 udp+size=1232 udp+size=4096 udp+size=65535 udp+size=0 " +
		"udp+cookie udp+nsid udp+ecs udp+pad udp+keepalive udp+expire udp+ede udp+opt=65001 udp+cookie+nsid+pad udp+do+cd+ad tcp tcp+do tcp+size=512 tcp+cookie tcp+keepalive tcp+pad",
}

var brace = regexp.MustCompile(`^(.*?)\{([^{}]*)\}(.*)$`)
var numbers = regexp.MustCompile(`^(\d+)\.\.(\d+)$`)

// expand replaces groups and braces, {a,b} or {1..9}, in each word.
func expand(list string) []string {
	var out []string
	for _, word := range strings.Fields(list) {
		if g, ok := groups[word]; ok {
			out = append(out, strings.Fields(g)...)
			continue
		}
		out = append(out, expandWord(word)...)
	}
	return out
}

func expandWord(word string) []string {
	m := brace.FindStringSubmatch(word)
	if m == nil {
		return []string{word}
	}
	choices := strings.Split(m[2], ",")
	if n := numbers.FindStringSubmatch(m[2]); n != nil {
		from, _ := strconv.Atoi(n[1])
		to, _ := strconv.Atoi(n[2])
		choices = nil
		for i := from; i <= to; i++ {
			choices = append(choices, strconv.Itoa(i))
		}
	}
	var out []string
	for _, c := range choices {
		out = append(out, expandWord(m[1]+c+m[3])...)
	}
	return out
}

func newQuestion(name, typ, mode string) (question, error) {
	q := question{what: name + " " + typ + " " + mode, port: "PORT", at: loopback}
	m := new(dns.Msg)
	t, ok := dns.StringToType[typ]
	if !ok {
		n, err := strconv.ParseUint(strings.TrimPrefix(typ, "TYPE"), 10, 16)
		if err != nil {
			return q, fmt.Errorf("no type %q", typ)
		}
		t = uint16(n)
	}
	m.RecursionDesired = true
	m.Question = []dns.Question{{Name: dns.Fqdn(name), Qtype: t, Qclass: dns.ClassINET}}
	if t == dns.TypeAXFR || t == dns.TypeIXFR {
		q.stream = true
	}
	words := strings.Split(mode, "+")
	q.proto = words[0]
	if q.proto != "udp" && q.proto != "tcp" && q.proto != "tls" {
		return q, fmt.Errorf("no transport %q in %q", words[0], mode)
	}
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		if err := q.mode(m, key, value); err != nil {
			return q, err
		}
	}
	var err error
	q.packet, err = m.Pack()
	return q, err
}

// mode applies one word of a mode: a flag of the header, of the OPT, an option or a way to send.
func (q *question) mode(m *dns.Msg, key, value string) error {
	switch key {
	case "nord":
		m.RecursionDesired = false
	case "cd":
		m.CheckingDisabled = true
	case "ad":
		m.AuthenticatedData = true
	case "aa":
		m.Authoritative = true
	case "ra":
		m.RecursionAvailable = true
	case "z":
		m.Zero = true
	case "tc":
		m.Truncated = true
	case "qr":
		m.Response = true
		q.silent = true
	case "silent":
		q.silent = true
	case "at":
		addr, err := netip.ParseAddr(value)
		q.at = addr
		return err
	case "port":
		q.port = value
	case "opcode", "class", "rcode":
		n, err := strconv.ParseUint(value, 10, 16)
		switch key {
		case "opcode":
			m.Opcode = int(n)
		case "rcode":
			m.Rcode = int(n)
		default:
			m.Question[0].Qclass = uint16(n)
		}
		return err
	case "ixfr":
		n, err := strconv.ParseUint(value, 10, 32)
		m.Ns = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeSOA, Class: 1},
			Ns: ".", Mbox: ".", Serial: uint32(n)}}
		return err
	default:
		return ednsMode(m, key, value)
	}
	return nil
}

func ednsMode(m *dns.Msg, key, value string) error {
	opt := m.IsEdns0()
	if opt == nil {
		opt = &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 4096}}
		m.Extra = append(m.Extra, opt)
	}
	n := uint64(0)
	if value != "" && key != "ecs" {
		var err error
		if n, err = strconv.ParseUint(value, 10, 32); err != nil {
			return err
		}
	}
	option := func(code uint16, data string) {
		b, _ := hex.DecodeString(data)
		opt.Option = append(opt.Option, &dns.EDNS0_LOCAL{Code: code, Data: b})
	}
	switch key {
	case "edns":
	case "do":
		opt.SetDo()
	case "size":
		opt.SetUDPSize(uint16(n))
	case "version":
		opt.SetVersion(uint8(n))
	case "ednsz": // the reserved flags of the OPT, and the extended rcode, which a query does not use
		opt.Hdr.Ttl |= uint32(n)
	case "cookie":
		option(dns.EDNS0COOKIE, "0102030405060708")
	case "fullcookie":
		option(dns.EDNS0COOKIE, "01020304050607081112131415161718")
	case "nsid":
		option(dns.EDNS0NSID, "")
	case "ecs":
		option(dns.EDNS0SUBNET, "00011800c00002")
	case "pad":
		option(dns.EDNS0PADDING, strings.Repeat("00", 24))
	case "keepalive":
		option(dns.EDNS0TCPKEEPALIVE, "")
	case "expire":
		option(dns.EDNS0EXPIRE, "")
	case "ede":
		option(dns.EDNS0EDE, "000f")
	case "opt":
		option(uint16(n), "cafe")
	default:
		return fmt.Errorf("no mode %q", key)
	}
	return nil
}
