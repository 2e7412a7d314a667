// Package template makes answers from Go templates.
//
//	template CLASS TYPE [ZONE...] {
//	    match REGEX...
//	    var NAME EXPRESSION
//	    expr EXPRESSION
//	    answer RR...
//	    additional RR...
//	    authority RR...
//	    rcode CODE
//	    ederror CODE [REASON]
//	    fallthrough [ZONE...]
//	}
//
// RFC 1035, 5 has the form of the records, RFC 8914 the extended errors.
package template

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	gotemplate "text/template"

	"github.com/expr-lang/expr/vm"
	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
	"github.com/godwit-dns/godwit/zone"
)

// Template is the handler: all lines of a block, tried in their order.
type Template struct {
	block  *chain.Block
	lines  []*line
	count  *counters
	answer *chain.Slot[answer]
}

var (
	_ chain.Handler = (*Template)(nil)
	_ chain.Resumer = (*Template)(nil)
)

// line is one template directive.
type line struct {
	zones                         zone.Index[string] // the zones' names as text
	class                         uint16
	qtype                         uint16
	match                         []*regexp.Regexp
	answer, additional, authority []*gotemplate.Template
	rcode                         int
	ede                           *dns.EDNS0_EDE
	fall                          zone.List
	scope                         map[string]any // what expressions may name, for compiling them
	vars                          []variable
	conditions                    []*vm.Program
}

// answer is a reply under construction: it has to wait for the targets of aliases.
type answer struct {
	line *line
	data *templateData
	msg  *dns.Msg
	next int // the answer template that comes next
}

// Serve answers with the first line that is for the query.
func (t *Template) Serve(q *chain.Query) chain.Outcome {
	name := q.Name().String()
	for _, l := range t.lines {
		text, ok := l.covers(q)
		if !ok {
			continue
		}
		d := l.find(name)
		if d != nil {
			d.fill(t.block, q, l, text, name)
			holds, err := l.judge(d)
			if err != nil {
				return q.Fail(wire.ServFail, err)
			}
			if !holds {
				d = nil
			}
		}
		if d == nil {
			if l.fall.Has(q.Name()) {
				continue
			}
			return q.Fail(wire.ServFail, nil)
		}
		t.count.matched(q, d)
		if l.rcode == dns.RcodeServerFailure {
			return q.Fail(wire.ServFail, nil)
		}
		a := t.answer.Of(q)
		*a = answer{line: l, data: d, msg: new(dns.Msg).SetReply(d.Message)}
		a.msg.Authoritative, a.msg.Rcode = true, l.rcode
		return t.answers(q, a)
	}
	return chain.Next
}

// covers reports whether a line is for the query's zone, class and type, and gives the zone.
func (l *line) covers(q *chain.Query) (string, bool) {
	_, text, ok := l.zones.Find(q.Name())
	if !ok ||
		l.class != dns.ClassANY && q.Class != dns.ClassANY && uint16(q.Class) != l.class ||
		l.qtype != dns.TypeANY && q.Type != wire.TypeANY && uint16(q.Type) != l.qtype {
		return "", false
	}
	return text, true
}

// find gives what the first pattern that matches found in the name; nil when none does.
func (l *line) find(name string) *templateData {
	for _, re := range l.match {
		groups := re.FindStringSubmatch(name)
		if groups == nil {
			continue
		}
		d := &templateData{Regex: re.String(), Match: groups, Group: map[string]string{}}
		for i, g := range groups {
			d.Group[strconv.Itoa(i)] = g
		}
		for i, n := range re.SubexpNames() {
			if n != "" {
				d.Group[n] = groups[i]
			}
		}
		return d
	}
	return nil
}

// answers makes the records of the answer section from where it stopped. A CNAME record's target is asked for when
// addresses are wanted.
func (t *Template) answers(q *chain.Query, a *answer) chain.Outcome {
	for a.next < len(a.line.answer) {
		rr, err := t.execute(q, "answer", a.line.answer[a.next], a.data)
		if err != nil {
			return q.Fail(wire.ServFail, err)
		}
		a.next++
		a.msg.Answer = append(a.msg.Answer, rr)
		alias, ok := rr.(*dns.CNAME)
		if !ok || q.Type != wire.TypeA && q.Type != wire.TypeAAAA {
			continue
		}
		target, err := wire.ParseName(alias.Target)
		if err != nil {
			continue
		}
		if q.Ask(target, q.Type) == chain.Parked {
			return chain.Parked
		}
	}
	return t.finish(q, a)
}

// Resume takes what the server answers for the target of an alias.
func (t *Template) Resume(q *chain.Query, ev chain.Event) chain.Outcome {
	a := t.answer.Of(q)
	a.msg.Truncated = false
	if ev.Outcome == chain.Answered {
		m, err := ev.Child.ReplyMessage()
		if err != nil {
			return q.Fail(wire.ServFail, fmt.Errorf("the answer for the target of an alias: %w", err))
		}
		a.msg.Truncated = m.Truncated
		a.msg.Answer = append(a.msg.Answer, m.Answer...)
	}
	return t.answers(q, a)
}

// finish makes the other sections and the reply.
func (t *Template) finish(q *chain.Query, a *answer) chain.Outcome {
	for _, s := range []struct {
		name string
		from []*gotemplate.Template
		to   *[]dns.RR
	}{{"additional", a.line.additional, &a.msg.Extra}, {"authority", a.line.authority, &a.msg.Ns}} {
		for _, text := range s.from {
			rr, err := t.execute(q, s.name, text, a.data)
			if err != nil {
				return q.Fail(wire.ServFail, err)
			}
			*s.to = append(*s.to, rr)
		}
	}
	if a.line.ede != nil {
		a.msg.SetEdns0(4096, true)
		opt := a.msg.IsEdns0()
		opt.Option = append(opt.Option, a.line.ede)
	}
	if err := q.SetReplyMessage(a.msg); err != nil {
		return q.Fail(wire.ServFail, fmt.Errorf("cannot send what the template made: %w", err))
	}
	return chain.Answered
}

// execute makes one record.
func (t *Template) execute(q *chain.Query, section string, text *gotemplate.Template, d *templateData) (dns.RR, error) {
	var b bytes.Buffer
	if err := text.Execute(&b, d); err != nil {
		t.count.failed(q, d, section, text)
		return nil, err
	}
	rr, err := dns.NewRR(b.String())
	if err == nil && rr == nil {
		err = fmt.Errorf("%q is no record", b.String())
	}
	if err != nil {
		t.count.wrong(q, d, section, text)
		return nil, err
	}
	return rr, nil
}
