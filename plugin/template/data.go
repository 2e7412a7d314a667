package template

import (
	gotemplate "text/template"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/metrics"
)

// templateData is what templates see. It is valid while its query is. Its name is in the errors of templates that fail, as
// in CoreDNS.
type templateData struct {
	Zone     string            // the zone of the line that the name is in
	Name     string            // the name asked for, in lower case
	Regex    string            // the pattern that matched
	Match    []string          // the whole match and the groups
	Group    map[string]string // the same by number and by name
	Class    string
	Type     string
	Message  *dns.Msg
	Question *dns.Question
	Remote   string         // the client's address
	Var      map[string]any // the line's variables

	block *chain.Block
	query *chain.Query
}

// fill adds what does not come from the pattern.
func (d *templateData) fill(b *chain.Block, q *chain.Query, l *line, zone, name string) {
	m, err := q.Message()
	if err != nil { // an option that the library can't read
		m = new(dns.Msg).SetQuestion(name, uint16(q.Type))
		m.Question[0].Qclass = uint16(q.Class)
	}
	d.Zone, d.Name, d.Message, d.Question = zone, name, m, &m.Question[0]
	d.Remote = q.Client.Addr().Unmap().String()
	d.block, d.query = b, q
	class, qtype := uint16(q.Class), uint16(q.Type)
	if class == dns.ClassANY {
		class = l.class
	}
	if qtype == dns.TypeANY {
		qtype = l.qtype
	}
	d.Class, d.Type = dns.ClassToString[class], dns.TypeToString[qtype]
}

// Meta gives the metadata of a name, "kubernetes/service" for instance; empty when there is none.
func (d *templateData) Meta(name string) string {
	if f := d.block.Metadata(name); f != nil {
		return f(d.query)
	}
	return ""
}

// counters are the directive's metrics. Which labels there will be is known when queries come, so each loop keeps those
// that it has met.
type counters struct {
	env   *chain.Env
	loops []map[labels]*metrics.Counter
}

// labels are those of all three metrics; matches have neither section nor template.
type labels struct{ metric, server, zone, view, class, qtype, section, template string }

func newCounters(env *chain.Env) *counters {
	c := &counters{env: env, loops: make([]map[labels]*metrics.Counter, env.Loops)}
	for i := range c.loops {
		c.loops[i] = map[labels]*metrics.Counter{}
	}
	return c
}

func (c *counters) matched(q *chain.Query, d *templateData) {
	c.inc(q, d, "coredns_template_matches_total", "Counter of template regex matches.", "", "")
}

func (c *counters) failed(q *chain.Query, d *templateData, section string, t *gotemplate.Template) {
	c.inc(q, d, "coredns_template_template_failures_total", "Counter of go template failures.", section, t.Root.String())
}

func (c *counters) wrong(q *chain.Query, d *templateData, section string, t *gotemplate.Template) {
	c.inc(q, d, "coredns_template_rr_failures_total", "Counter of mis-templated RRs.", section, t.Root.String())
}

func (c *counters) inc(q *chain.Query, d *templateData, metric, help, section, template string) {
	l := labels{metric, q.Router().Server(), d.Zone, q.Chain().View, d.Class, d.Type, section, template}
	mine := c.loops[q.Shard()]
	counter := mine[l]
	if counter == nil {
		pairs := metrics.L("server", l.server, "zone", l.zone, "view", l.view, "class", l.class, "type", l.qtype)
		if section != "" {
			pairs = append(pairs, metrics.L("section", section, "template", template)...)
		}
		counter = c.env.Metrics.Counter(metric, help, pairs...)
		mine[l] = counter
	}
	counter.Inc(q.Shard())
}
