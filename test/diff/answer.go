package main

import (
	"fmt"
	"hash/fnv"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// answer is a reply of an upstream under construction.
type answer struct {
	query, reply *dns.Msg
	name         string
	qtype        uint16
	proto, tag   string
	count        int // how often this question came

	hold  bool // until the script says so
	delay time.Duration
	drop  bool
	raw   []byte // written instead
	then  []byte // written behind it
	extra int    // how many times more it is written
}

// size is what the query's sender takes over UDP.
func (a *answer) size() int {
	if opt := a.query.IsEdns0(); opt != nil {
		return max(512, int(opt.UDPSize()))
	}
	return 512
}

func (a *answer) number(args []string, i, otherwise int) int {
	if i < len(args) {
		if n, err := strconv.Atoi(args[i]); err == nil {
			return n
		}
	}
	return otherwise
}

// fill answers as the first label says: a word and its arguments, with dashes between them.
func (a *answer) fill() {
	first, _, _ := strings.Cut(strings.ToLower(a.name), ".")
	args := strings.Split(first, "-")
	kinds := map[string]func(args []string){
		"nx": a.nxdomain, "nodata": a.noData, "rcode": a.rcode, "many": a.many, "big": a.big, "cname": a.cname, "dname": a.dname,
		"slow": a.slow, "drop": a.dropped, "bad": a.bad, "seen": a.seen, "count": a.counted, "tag": a.tagged, "opt": a.opt,
		"glue": a.glue, "flags": a.flags, "ttl": a.ttls, "mixed": a.mixed, "tc": a.truncated, "odd": a.odd, "servfail": a.failing,
		"referral": a.referral, "signed": a.signed, "extra": a.authority,
		"hold": a.held,
	}
	if f := kinds[args[0]]; f != nil {
		f(args[1:])
		return
	}
	a.plain(a.name, 300)
}

// add appends a record to the answer section, from its text behind owner, TTL and class.
func (a *answer) add(owner string, ttl int, text string) {
	a.reply.Answer = append(a.reply.Answer, record4(owner, ttl, a.query.Question[0].Qclass, text))
}

func record4(owner string, ttl int, class uint16, text string) dns.RR {
	rr, err := dns.NewRR(fmt.Sprintf("%s %d IN %s", owner, ttl, text))
	if err != nil {
		panic(fmt.Sprintf("%s: %v", text, err)) // the runner's own mistake
	}
	rr.Header().Class = class
	return rr
}

func hash(s string) int {
	h := fnv.New32a()
	h.Write([]byte(strings.ToLower(s)))
	return int(h.Sum32() % 250)
}

// plain answers with a record of the asked type, whatever it is.
func (a *answer) plain(owner string, ttl int) {
	n := hash(owner)
	texts := map[uint16]string{
		dns.TypeA: fmt.Sprintf("A 192.0.2.%d", n), dns.TypeAAAA: fmt.Sprintf("AAAA 2001:db8::%x", n+1),
		dns.TypeTXT: fmt.Sprintf("TXT \"text of\" \"%d\"", n), dns.TypeMX: "MX 10 mail.up.test.", dns.TypeNS: "NS ns.up.test.",
		dns.TypeSRV: "SRV 1 2 443 target.up.test.", dns.TypePTR: "PTR host.up.test.", dns.TypeCAA: `CAA 0 issue "ca.test"`,
		dns.TypeSOA:   "SOA ns.up.test. host.up.test. 7 3600 600 86400 60",
		dns.TypeNAPTR: `NAPTR 10 20 "s" "SIP+D2U" "" _sip._udp.up.test.`, dns.TypeHTTPS: `HTTPS 1 . alpn="h2,h3" ipv4hint="192.0.2.1"`,
		dns.TypeSVCB: "SVCB 1 svc.up.test. port=53", dns.TypeDS: "DS 60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118",
		dns.TypeTLSA: "TLSA 3 1 1 0123456789abcdef", dns.TypeSSHFP: "SSHFP 2 1 123456789abcdef67890123456789abcdef67890",
		dns.TypeHINFO: `HINFO "cpu" "os"`, dns.TypeLOC: "LOC 52 22 23.000 N 4 53 32.000 E -2.00m 0.00m 10000m 10m",
		dns.TypeURI: `URI 10 1 "https://up.test/"`, dns.TypeSPF: `SPF "v=spf1 -all"`,
	}
	switch text, ok := texts[a.qtype]; {
	case ok:
		a.add(owner, ttl, text)
	case a.qtype == dns.TypeANY:
		a.add(owner, ttl, texts[dns.TypeA])
		a.add(owner, ttl+1, texts[dns.TypeTXT])
	case a.qtype >= 65280:
		a.reply.Answer = append(a.reply.Answer, &dns.RFC3597{Rdata: "c0ffee", Hdr: dns.RR_Header{Name: owner, Rrtype: a.qtype,
			Class: a.query.Question[0].Qclass, Ttl: uint32(ttl)}})
	default:
		a.denied(300)
	}
}

// denied puts the SOA of a denial into the authority section.
func (a *answer) denied(ttl int) {
	a.reply.Ns = append(a.reply.Ns, record4("up.test.", ttl, dns.ClassINET, "SOA ns.up.test. host.up.test. 7 3600 600 86400 60"))
}

// nxdomain: nx, nx-TTL, nx-nosoa.
func (a *answer) nxdomain(args []string) {
	a.reply.Rcode = dns.RcodeNameError
	if len(args) == 0 || args[0] != "nosoa" {
		a.denied(a.number(args, 0, 300))
	}
}

// noData: nodata, nodata-TTL, nodata-nosoa.
func (a *answer) noData(args []string) {
	if len(args) == 0 || args[0] != "nosoa" {
		a.denied(a.number(args, 0, 300))
	}
}

func (a *answer) rcode(args []string) { a.reply.SetRcode(a.query, a.number(args, 0, 2)) }

// failing: servfail, or servfail-N for the first N questions only.
func (a *answer) failing(args []string) {
	if a.count <= a.number(args, 0, 1<<30) {
		a.reply.Rcode = dns.RcodeServerFailure
		return
	}
	a.plain(a.name, 300)
}

// many: many-N records of the asked type.
func (a *answer) many(args []string) {
	for i := range a.number(args, 0, 3) {
		switch a.qtype {
		case dns.TypeA:
			a.add(a.name, 300, fmt.Sprintf("A 198.51.100.%d", i))
		case dns.TypeAAAA:
			a.add(a.name, 300, fmt.Sprintf("AAAA 2001:db8:1::%x", i))
		case dns.TypeSRV:
			a.add(a.name, 300, fmt.Sprintf("SRV %d 2 443 t%d.up.test.", i, i))
			a.reply.Extra = append(a.reply.Extra, record4(fmt.Sprintf("t%d.up.test.", i), 60, dns.ClassINET, fmt.Sprintf("A 198.51.100.%d", i)))
		default:
			a.add(a.name, 300, fmt.Sprintf("TXT \"%d\"", i))
		}
	}
}

// big: big-N texts of 100 octets.
func (a *answer) big(args []string) {
	for i := range a.number(args, 0, 20) {
		a.add(a.name, 300, fmt.Sprintf("TXT \"%03d%s\"", i, strings.Repeat("x", 97)))
	}
}

// cname: cname-N aliases in a row with the records at the end; cname-nx, cname-nodata, cname-only, cname-loop.
func (a *answer) cname(args []string) {
	owner := a.name
	for i := range a.number(args, 0, 1) {
		next := fmt.Sprintf("c%d.up.test.", i)
		a.add(owner, 100+i, "CNAME "+next)
		owner = next
	}
	kind := "" // a number is a chain that ends in records
	if len(args) > 0 {
		kind = args[0]
	}
	switch kind {
	case "nx":
		a.reply.Rcode = dns.RcodeNameError
		a.denied(300)
	case "nodata":
		a.denied(300)
	case "only":
	case "loop":
		a.add(owner, 100, "CNAME "+a.name)
	default:
		if a.qtype != dns.TypeCNAME {
			a.plain(owner, 300)
		}
	}
}

func (a *answer) dname([]string) {
	a.add("up.test.", 300, "DNAME down.test.")
	target := strings.TrimSuffix(a.name, "up.test.") + "down.test."
	a.add(a.name, 300, "CNAME "+target)
	a.plain(target, 300)
}

// slow: slow-MS.
func (a *answer) slow(args []string) {
	a.delay = time.Duration(a.number(args, 0, 300)) * time.Millisecond
	a.plain(a.name, 300)
}

func (a *answer) held([]string) {
	a.hold = true
	a.plain(a.name, 300)
}

// dropped: drop, or drop-N for the first N questions only.
func (a *answer) dropped(args []string) {
	a.drop = a.count <= a.number(args, 0, 1<<30)
	a.plain(a.name, 300)
}

// counted tells how often it was asked.
func (a *answer) counted(args []string) {
	a.reply.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: a.name, Rrtype: dns.TypeTXT, Class: dns.ClassINET,
		Ttl: uint32(a.number(args, 0, 300))}, Txt: []string{strconv.Itoa(a.count)}}}
}

// tagged tells which upstream was asked.
func (a *answer) tagged([]string) { a.add(a.name, 300, fmt.Sprintf("TXT %q", a.tag)) }

// seen tells how the query arrived.
func (a *answer) seen([]string) {
	lines := strings.Split(heard(a.query, a.proto), "\n")
	for _, l := range lines {
		a.reply.Answer = append(a.reply.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: a.name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 300},
			Txt: []string{strings.NewReplacer("\\", "/", `"`, "'").Replace(l)}})
	}
}

// glue: a reply with all sections filled.
func (a *answer) glue([]string) {
	a.plain(a.name, 300)
	a.authority(nil)
	a.reply.Extra = append(a.reply.Extra, record4("ns.up.test.", 120, dns.ClassINET, "A 203.0.113.1"),
		record4("ns.up.test.", 120, dns.ClassINET, "AAAA 2001:db8::53"))
}

func (a *answer) authority([]string) {
	if len(a.reply.Answer) == 0 {
		a.plain(a.name, 300)
	}
	a.reply.Ns = append(a.reply.Ns, record4("up.test.", 200, dns.ClassINET, "NS ns.up.test."), record4("up.test.", 200, dns.ClassINET, "NS ns2.up.test."))
}

func (a *answer) referral([]string) {
	a.reply.Ns = append(a.reply.Ns, record4("up.test.", 200, dns.ClassINET, "NS ns.other.test."))
	a.reply.Extra = append(a.reply.Extra, record4("ns.other.test.", 200, dns.ClassINET, "A 203.0.113.2"))
}

// flags: flags-X sets the header bits that X names: a AA, d AD, z Z, r no RA, c CD, n no RD.
func (a *answer) flags(args []string) {
	a.plain(a.name, 300)
	for _, c := range strings.Join(args, "") {
		switch c {
		case 'a':
			a.reply.Authoritative = true
		case 'd':
			a.reply.AuthenticatedData = true
		case 'z':
			a.reply.Zero = true
		case 'r':
			a.reply.RecursionAvailable = false
		case 'c':
			a.reply.CheckingDisabled = true
		case 'n':
			a.reply.RecursionDesired = false
		}
	}
}

// ttls: ttl-N-M...: one record with each TTL.
func (a *answer) ttls(args []string) {
	for i := range args {
		a.add(a.name, a.number(args, i, 0), fmt.Sprintf("%s %s", map[bool]string{true: "A", false: "TXT"}[a.qtype == dns.TypeA],
			map[bool]string{true: fmt.Sprintf("198.51.100.%d", i), false: strconv.Itoa(i)}[a.qtype == dns.TypeA]))
	}
}

// mixed writes its names in capitals and small letters.
func (a *answer) mixed([]string) {
	a.add(strings.ToUpper(a.name), 300, "CNAME TarGet.uP.test.")
	a.add("taRget.Up.test.", 300, "A 192.0.2.77")
}

// truncated: tc over UDP; the whole over TCP.
func (a *answer) truncated(args []string) {
	if a.proto != "udp" {
		a.plain(a.name, 300)
		return
	}
	if len(args) > 0 {
		a.many([]string{args[0]})
	}
	a.reply.Truncated = true
	b, _ := a.reply.Pack()
	a.raw = b
}

// opt answers with an OPT of its own: an option of each of many kinds.
func (a *answer) opt([]string) {
	a.plain(a.name, 300)
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 1400}}
	opt.SetDo(a.query.IsEdns0() != nil && a.query.IsEdns0().Do())
	opt.Option = []dns.EDNS0{&dns.EDNS0_NSID{Code: dns.EDNS0NSID, Nsid: "6e616d65"}, &dns.EDNS0_EDE{InfoCode: 15, ExtraText: "blocked"},
		&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "010203040506070811121314"},
		&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, SourceScope: 16, Address: net.IPv4(192, 0, 2, 0).To4()},
		&dns.EDNS0_LOCAL{Code: 65002, Data: []byte{1, 2}}}
	a.reply.Extra = append(a.reply.Extra, opt)
}

// signed: records with a signature, which is not a true one.
func (a *answer) signed([]string) {
	a.plain(a.name, 300)
	a.reply.AuthenticatedData = true
	a.add(a.name, 300, "RRSIG A 8 3 300 20300101000000 20200101000000 1 up.test. dGhpcyBpcyBub3QgYSBzaWduYXR1cmU=")
}
