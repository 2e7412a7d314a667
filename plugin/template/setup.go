package template

import (
	"fmt"
	"regexp"
	"strconv"
	gotemplate "text/template"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/wire"
	"github.com/godwit-dns/godwit/zone"
)

// Spec is the template directive.
var Spec = chain.Spec{
	Name:    "template",
	Usage:   "template CLASS TYPE [ZONE...]",
	Options: func() corefile.Options { return new(line).rows() },
	New:     setup,
}

// maxRegexp bounds the length of a regular expression, whose program may be far longer.
const maxRegexp = 10000

func (l *line) rows() corefile.Options {
	return corefile.Options{
		{Name: "match", Usage: "REGEX...", Min: 1, Max: -1, Read: l.readMatch},
		{Name: "var", Usage: "NAME EXPRESSION", Min: 2, Max: -1, Read: l.readVar},
		{Name: "expr", Usage: "EXPRESSION", Min: 1, Max: -1, Read: l.readExpr},
		records("answer", &l.answer),
		records("additional", &l.additional),
		records("authority", &l.authority),
		{Name: "rcode", Usage: "CODE", Min: 1, Max: 1, Read: func(o *corefile.Line) error {
			code, ok := dns.StringToRcode[o.Args[0].Text]
			if !ok {
				return corefile.Errorf(o.Args[0].Pos, "unknown rcode %s", o.Args[0].Text)
			}
			l.rcode = code
			return nil
		}},
		{Name: "ederror", Usage: "CODE [REASON]", Min: 1, Max: 2, Read: func(o *corefile.Line) error {
			code, err := strconv.ParseUint(o.Args[0].Text, 10, 16)
			if err != nil {
				return corefile.Errorf(o.Args[0].Pos, "%q is no extended error code from 0 to 65535", o.Args[0].Text)
			}
			l.ede = &dns.EDNS0_EDE{InfoCode: uint16(code)}
			if len(o.Args) == 2 {
				l.ede.ExtraText = o.Args[1].Text
			}
			return nil
		}},
		{Name: "fallthrough", Usage: "[ZONE...]", Max: -1, Read: func(o *corefile.Line) (err error) {
			zones, _ := corefile.Zones(o.Args, []string{"."})
			l.fall, err = zone.ParseList(zones)
			return err
		}},
		{Name: "upstream", Max: -1, Obsolete: "upstream is obsolete and ignored: targets of aliases are always asked for"},
	}
}

func (l *line) readMatch(o *corefile.Line) error {
	for _, w := range o.Args {
		if len(w.Text) > maxRegexp {
			return corefile.Errorf(w.Pos, "regex pattern too long: %d > %d", len(w.Text), maxRegexp)
		}
		re, err := regexp.Compile(w.Text)
		if err != nil {
			return corefile.Errorf(w.Pos, "could not parse regex: %v", err)
		}
		l.match = append(l.match, re)
	}
	return nil
}

// records is an option with templates of records.
func records(section string, to *[]*gotemplate.Template) corefile.Row {
	return corefile.Row{Name: section, Usage: "RR...", Min: 1, Max: -1, Read: func(o *corefile.Line) error {
		for _, w := range o.Args {
			t, err := gotemplate.New(section).Funcs(gotemplate.FuncMap{"parseInt": strconv.ParseUint}).Parse(w.Text)
			if err != nil {
				return corefile.Errorf(w.Pos, "could not compile template: %v", err)
			}
			*to = append(*to, t)
		}
		return nil
	}}
}

func setup(s *chain.Setup) error {
	t := &Template{block: s.Block, count: newCounters(s.Env), answer: chain.NewSlot[answer](s)}
	for i := range s.Lines {
		l, err := read(s, &s.Lines[i])
		if err != nil {
			return err
		}
		t.lines = append(t.lines, l)
	}
	s.Handler(t)
	return nil
}

func read(s *chain.Setup, o *corefile.Line) (*line, error) {
	if err := corefile.ArgCount(o, 2, -1, "CLASS TYPE [ZONE...]"); err != nil {
		return nil, err
	}
	l := &line{scope: newScope(nil, nil)}
	var ok bool
	if l.class, ok = dns.StringToClass[o.Args[0].Text]; !ok {
		return nil, corefile.Errorf(o.Args[0].Pos, "invalid query class %s", o.Args[0].Text)
	}
	if l.qtype, ok = dns.StringToType[o.Args[1].Text]; !ok {
		return nil, corefile.Errorf(o.Args[1].Pos, "invalid RR type %s", o.Args[1].Text)
	}
	warnings, err := l.rows().Read(o)
	s.Warn(warnings...)
	if err != nil {
		return nil, err
	}
	zones, skipped := corefile.Zones(o.Args[2:], s.Block.Zones)
	s.Warn(skipped...)
	for _, text := range zones {
		n, err := wire.ParseName(text)
		if err != nil {
			return nil, fmt.Errorf("%q is no zone: %w", text, err)
		}
		wire.ToLower(n)
		l.zones.Set(n, text)
	}
	if len(l.match) == 0 {
		l.match = []*regexp.Regexp{regexp.MustCompile(".*")}
	}
	return l, nil
}
