package minimal

import (
	"testing"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/wire"
)

var answers = chain.Spec{Name: "answers", New: func(s *chain.Setup) error {
	s.Handler(answer{})
	return nil
}}

// answer does what the first label says.
type answer struct{}

func (answer) Serve(q *chain.Query) chain.Outcome {
	soa := &wire.SOA{MName: wire.Root, RName: wire.Root}
	q.Reply.Begin(&q.Request, wire.NoError, wire.FlagAA)
	switch string(q.Name().Label()) {
	case "fail":
		return q.Fail(wire.ServFail, nil)
	case "nodata":
		q.Reply.AppendSOA(wire.Authority, wire.Root, 5, soa)
	case "delegation":
		q.Reply.AppendName(wire.Authority, q.Name(), wire.TypeNS, 5, wire.Root)
	case "nx":
		q.Reply.SetRcode(wire.NXDomain)
		q.Reply.AppendSOA(wire.Authority, wire.Root, 5, soa)
	case "empty":
	default:
		q.Reply.AppendOwnData(wire.Answer, wire.TypeA, 5, []byte{1, 2, 3, 4}, 4)
		q.Reply.AppendName(wire.Authority, q.Name(), wire.TypeNS, 5, q.Name())
	}
	q.Reply.AppendOwnData(wire.Additional, wire.TypeA, 5, []byte{5, 6, 7, 8}, 4)
	q.Reply.SetEDE(22, "x")
	return chain.Answered
}

func TestMinimal(t *testing.T) {
	b := chaintest.New(t, ". {\nminimal\nanswers\n}", chaintest.Options{Specs: []chain.Spec{Spec, answers}})
	const soa = "ns . 5 IN SOA . . 0 0 0 0 0\n"
	for name, want := range map[string]string{
		"a.":          "NOERROR aa\nan a. 5 IN A 1.2.3.4\n",
		"empty.":      "NOERROR aa\n",
		"nodata.":     "NOERROR aa\n" + soa + "ar nodata. 5 IN A 5.6.7.8\nopt 15:001678\n",
		"nx.":         "NXDOMAIN aa\n" + soa + "ar nx. 5 IN A 5.6.7.8\nopt 15:001678\n",
		"delegation.": "NOERROR aa\nns delegation. 5 IN NS .\nar delegation. 5 IN A 5.6.7.8\nopt 15:001678\n",
		"fail.":       "SERVFAIL\n",
	} {
		m := new(dns.Msg).SetQuestion(name, dns.TypeA)
		m.SetEdns0(1232, false)
		reply := b.Do(chaintest.Query{Msg: m})
		if got := chaintest.Text(reply); got != want {
			t.Errorf("%s:\n%swant\n%s", name, got, want)
		}
		cut := name == "a." || name == "empty." || name == "fail."
		if o := reply.IsEdns0(); o == nil || (len(o.Option) == 0) != cut {
			t.Errorf("%s: OPT %v", name, o)
		}
	}
}

func TestTransferIsLeftAlone(t *testing.T) {
	b := chaintest.New(t, ". {\nminimal\nanswers\n}", chaintest.Options{Specs: []chain.Spec{Spec, answers}})
	if m := b.Ask("a.", dns.TypeIXFR); len(m.Ns) != 1 || len(m.Extra) != 1 {
		t.Errorf("got %v", m)
	}
}

func TestRefused(t *testing.T) {
	for _, text := range []string{"minimal responses", "minimal {\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", chaintest.Options{Specs: []chain.Spec{Spec}}); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
}
