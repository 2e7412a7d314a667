package metadata

import (
	"testing"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/wire"
)

// teller provides a piece of metadata and notes what is read of it.
func teller(read *[]string) chain.Spec {
	return chain.Spec{Name: "teller", New: func(s *chain.Setup) error {
		s.Provide("teller/name", func(q *chain.Query) string { return q.Name().String() })
		h := &tell{read: read}
		s.OnBuilt(func() error {
			h.value = s.Block.Metadata("teller/name")
			if s.Block.Metadata("teller/nothing") != nil {
				panic("nobody provides it")
			}
			return nil
		})
		s.Handler(h)
		return nil
	}}
}

type tell struct {
	value func(q *chain.Query) string
	read  *[]string
}

func (h *tell) Serve(q *chain.Query) chain.Outcome {
	if h.value == nil {
		*h.read = append(*h.read, "none")
	} else {
		*h.read = append(*h.read, h.value(q))
	}
	return q.Fail(wire.Refused, nil)
}

func TestMetadata(t *testing.T) {
	for _, c := range []struct{ block, name, want string }{
		{". {\nteller\n}", "a.", "none"},
		{". {\nmetadata\nteller\n}", "a.", "a."},
		{"example.org {\nmetadata\nteller\n}", "a.example.org.", "a.example.org."},
		{". {\nmetadata Example.ORG b\nteller\n}", "a.example.org.", "a.example.org."},
		{". {\nmetadata example.org b\nteller\n}", "a.example.net.", ""},
		{". {\nmetadata example.org b\nteller\n}", "b.", "b."},
	} {
		var read []string
		b := chaintest.New(t, c.block, chaintest.Options{Specs: []chain.Spec{Spec, teller(&read)}})
		b.Ask(c.name, dns.TypeA)
		if len(read) != 1 || read[0] != c.want {
			t.Errorf("%q: %q, want %q", c.block, read, c.want)
		}
	}
	opt := chaintest.Options{Specs: []chain.Spec{Spec}}
	for _, text := range []string{"metadata\nmetadata", "metadata {\nzones a\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", opt); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
}
