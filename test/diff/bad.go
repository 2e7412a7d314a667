package main

import (
	"strings"

	"github.com/miekg/dns"
)

// odd: odd-KIND, a reply that parses and that one would not write.
func (a *answer) odd(args []string) {
	a.plain(a.name, 300)
	switch strings.Join(args, "") {
	case "unrelated": // an answer of another name
		a.reply.Answer = []dns.RR{record4("other.test.", 300, dns.ClassINET, "A 192.0.2.9")}
	case "type": // of another type
		a.reply.Answer = []dns.RR{record4(a.name, 300, dns.ClassINET, `TXT "not asked for"`)}
	case "dup":
		a.reply.Answer = append(a.reply.Answer, dns.Copy(a.reply.Answer[0]))
	case "rcode": // a name error with records
		a.reply.Rcode = dns.RcodeNameError
	case "ttl": // the sign bit of a TTL
		a.reply.Answer[0].Header().Ttl = 1<<31 + 5
	case "twosoa":
		a.reply.Answer = nil
		a.denied(300)
		a.denied(20)
	case "class":
		a.reply.Answer[0].Header().Class = dns.ClassCHAOS
	case "empty": // no records, and no SOA, in a reply without error
		a.reply.Answer = nil
	case "badvers":
		a.reply.Answer = nil
		a.reply.SetEdns0(1232, false)
		a.reply.Rcode = dns.RcodeBadVers
	case "name": // all octets in labels
		a.reply.Answer = []dns.RR{record4(a.name, 300, dns.ClassINET, `CNAME a\.b\000\255\032c.up.test.`)}
	case "longtxt":
		a.reply.Answer = []dns.RR{record4(a.name, 300, dns.ClassINET, "TXT \""+strings.Repeat("y", 255)+"\" \"\" \"\\\"q\\\\\"")}
	}
}

// bad: bad-KIND, a reply that is wrong. Where the right one follows it, the end is -then.
func (a *answer) bad(args []string) {
	a.plain(a.name, 300)
	right, err := a.reply.Pack()
	if err != nil {
		panic(err) // the runner's own mistake
	}
	wrong := a.reply.Copy()
	kind := ""
	if len(args) > 0 {
		kind = args[0]
	}
	switch kind {
	case "id":
		wrong.Id++
	case "name":
		wrong.Question[0].Name = "wrong.test."
	case "type":
		wrong.Question[0].Qtype = dns.TypeMX
	case "class":
		wrong.Question[0].Qclass = dns.ClassCHAOS
	case "case":
		wrong.Question[0].Name = strings.ToUpper(wrong.Question[0].Name)
	case "noquestion":
		wrong.Question = nil
	case "query":
		wrong.Response = false
	case "opcode":
		wrong.Opcode = dns.OpcodeStatus
	case "twice":
		a.extra = 1
	}
	b, err := wrong.Pack()
	if err != nil {
		panic(err) // the runner's own mistake
	}
	switch kind {
	case "short":
		b = b[:7]
	case "header":
		b = b[:12]
	case "cut":
		b = b[:len(b)-3]
	case "tail":
		b = append(b, 1, 2, 3)
	case "count":
		b[7] = 9
	case "pointer":
		b[len(b)-16], b[len(b)-15] = 0xC0, 0xFF
	}
	a.raw = b
	if len(args) > 1 && args[1] == "then" {
		a.then = right
	}
}
