package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// difference is one thing that the two servers do not do alike.
type difference struct {
	what   string // the question or step, which rows of known.txt match
	detail string
}

// norm is what is made alike before a comparison. There is nothing else.
type norm struct {
	running    bool                    // TTLs count down
	kubernetes bool                    // the SOA serial of a kubernetes zone is a time
	variables  pair[map[string]string] // the runner's ports: they differ in everything that shows them
}

// record is a record as text without its TTL.
type record struct {
	text string
	ttl  uint32
}

// message is a reply in the form that is compared.
type message struct {
	header   string // all that is not a record
	sections [3][]record
}

// differ compares two replies and gives what a reader needs to see, empty when they are alike.
func (n *norm) differ(got pair[reply]) string {
	var shown pair[string]
	var read pair[[]message]
	for i, r := range got {
		read[i] = n.read(r)
		shown[i] = show(r, read[i])
	}
	if n.alike(got, read) {
		return ""
	}
	text := sideBySide(shown)
	if n.alike(got, pair[[]message]{lowered(read[0]), lowered(read[1])}) {
		text = onlyCase + "\n" + text
	}
	return text
}

// onlyCase stands above a difference that is none to a resolver: names compare without regard to case (RFC 4343, 3).
const onlyCase = "  only the case of letters differs"

// lowered is the messages with all records, but not the questions, in small letters.
func lowered(list []message) []message {
	out := slices.Clone(list)
	for i := range out {
		for s, records := range out[i].sections {
			out[i].sections[s] = slices.Clone(records)
			for k := range records {
				out[i].sections[s][k].text = strings.ToLower(records[k].text)
			}
			sortRecords(out[i].sections[s])
		}
	}
	return out
}

func sortRecords(list []record) {
	slices.SortFunc(list, func(a, b record) int {
		if c := strings.Compare(a.text, b.text); c != 0 {
			return c
		}
		return cmp.Compare(a.ttl, b.ttl)
	})
}

func (n *norm) alike(got pair[reply], read pair[[]message]) bool {
	if got[0].refused != got[1].refused || (got[0].closed != got[1].closed && len(got[0].messages)+len(got[1].messages) == 0) {
		return false
	}
	if len(read[0]) != len(read[1]) {
		return false
	}
	for k := range read[0] {
		a, b := &read[0][k], &read[1][k]
		if a.header != b.header {
			return false
		}
		for s := range a.sections {
			if !slices.EqualFunc(a.sections[s], b.sections[s], n.sameRecord) {
				return false
			}
		}
	}
	return true
}

func (n *norm) sameRecord(a, b record) bool {
	if a.text != b.text {
		return false
	}
	apart := max(a.ttl, b.ttl) - min(a.ttl, b.ttl)
	return apart == 0 || n.running && apart == 1
}

// read brings a reply's messages into the form that is compared. The messages of a zone transfer become one: where they
// are cut is not part of the answer, and the order of a transfer's records is free but for its first and last.
func (n *norm) read(r reply) []message {
	var out []message
	for _, b := range r.messages {
		m := n.message(b)
		if len(out) > 0 && len(r.messages) > 1 {
			last := &out[len(out)-1]
			last.sections[0] = append(last.sections[0], m.sections[0]...)
			continue
		}
		out = append(out, m)
	}
	for i := range out {
		for s := range out[i].sections {
			sortRecords(out[i].sections[s])
		}
	}
	return out
}

func (n *norm) message(b []byte) message {
	var m dns.Msg
	if err := m.Unpack(b); err != nil {
		if len(b) > 2 {
			b = b[2:]
		}
		return message{header: fmt.Sprintf("does not parse (%v): %x", err, b)}
	}
	var out message
	var h strings.Builder
	fmt.Fprintf(&h, "opcode %d rcode %d flags", m.Opcode, m.Rcode)
	for _, f := range []struct {
		set  bool
		name string
	}{{m.Response, "qr"}, {m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionDesired, "rd"}, {m.RecursionAvailable, "ra"},
		{m.Zero, "z"}, {m.AuthenticatedData, "ad"}, {m.CheckingDisabled, "cd"}} {
		if f.set {
			h.WriteString(" " + f.name)
		}
	}
	for _, q := range m.Question {
		fmt.Fprintf(&h, "\n  question %s class %d type %d", q.Name, q.Qclass, q.Qtype)
	}
	for s, list := range [3][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range list {
			if opt, ok := rr.(*dns.OPT); ok {
				h.WriteString("\n  opt " + optText(opt))
				continue
			}
			out.sections[s] = append(out.sections[s], n.record(rr))
		}
	}
	out.header = h.String()
	return out
}

func optText(opt *dns.OPT) string {
	var b strings.Builder
	fmt.Fprintf(&b, "owner %s version %d size %d flags %04x rcode %d", opt.Hdr.Name, opt.Version(), opt.UDPSize(), opt.Hdr.Ttl&0xFFFF,
		opt.Hdr.Ttl>>24)
	var options []string
	for _, o := range opt.Option {
		options = append(options, fmt.Sprintf(" option %d %q", o.Option(), o.String()))
	}
	slices.Sort(options)
	return b.String() + strings.Join(options, "")
}

func (n *norm) record(rr dns.RR) record {
	ttl := rr.Header().Ttl
	if soa, ok := rr.(*dns.SOA); ok && n.kubernetes && strings.HasPrefix(soa.Ns, "ns.dns.") {
		soa.Serial = 0
	}
	rr.Header().Ttl = 0
	return record{text: rr.String(), ttl: ttl}
}

// show makes text of a reply.
func show(r reply, read []message) string {
	switch {
	case r.refused:
		return "connection refused"
	case len(r.messages) == 0 && r.closed:
		return "connection closed"
	case len(r.messages) == 0:
		return "no reply"
	}
	var b strings.Builder
	for _, m := range read {
		b.WriteString(m.header)
		for s, name := range [3]string{"answer", "authority", "additional"} {
			for _, r := range m.sections[s] {
				fmt.Fprintf(&b, "\n  %s ttl %d %s", name, r.ttl, strings.ReplaceAll(r.text, "\t", " "))
			}
		}
		b.WriteByte('\n')
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// sideBySide shows two texts line by line: those of CoreDNS alone with -, those of Godwit alone with +.
func sideBySide(shown pair[string]) string {
	a, b := strings.Split(shown[0], "\n"), strings.Split(shown[1], "\n")
	var out strings.Builder
	for _, l := range a {
		mark := "  - "
		if i := slices.Index(b, l); i >= 0 {
			b = slices.Delete(slices.Clone(b), i, i+1)
			mark = "    "
		}
		out.WriteString(mark + clip(l) + "\n")
	}
	for _, l := range b {
		out.WriteString("  + " + clip(l) + "\n")
	}
	return strings.TrimSuffix(out.String(), "\n")
}

func clip(l string) string {
	if len(l) > 400 {
		return l[:400] + "..."
	}
	return l
}

// plain replaces the ports that the runner gave a server by their variables' names.
func (n *norm) plain(server int, text string) string {
	for name, value := range n.variables[server] {
		text = strings.ReplaceAll(text, ":"+value, ":{$"+name+"}")
	}
	return text
}
