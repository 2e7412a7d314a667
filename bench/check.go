package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// question is what is asked: a name and a type.
type question struct {
	name string
	typ  uint16
}

// ask sends one question and gives the reply.
func (s *server) ask(ctx context.Context, network string, q question, edns bool) (*dns.Msg, error) {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(q.name), q.typ)
	if edns {
		m.SetEdns0(4096, false)
	}
	c := dns.Client{Net: network, Timeout: 2 * time.Second, UDPSize: 4096}
	reply, _, err := c.ExchangeContext(ctx, m, s.addr())
	return reply, err
}

// sameAnswers asks all servers some of the questions and fails unless their answers are the same records, in any order
// and whatever their TTLs. The echo has none, and stands aside.
func sameAnswers(ctx context.Context, servers []*server, questions []question) error {
	const sample = 200
	picked := slices.Clone(questions)
	rand.Shuffle(len(picked), func(i, j int) { picked[i], picked[j] = picked[j], picked[i] })
	for i, q := range picked[:min(len(picked), sample)] {
		want, from := "", ""
		for _, s := range servers {
			if s.tally != nil {
				continue
			}
			reply, err := s.ask(ctx, "udp", q, i%2 == 0)
			if err == nil && reply.Truncated {
				reply, err = s.ask(ctx, "tcp", q, i%2 == 0)
			}
			if err != nil {
				return fmt.Errorf("%s: %s %s: %w", s.name, q.name, dns.TypeToString[q.typ], err)
			}
			got := answerText(reply)
			if from == "" {
				want, from = got, s.name
			}
			if got != want {
				return fmt.Errorf("unequal work: %s %s is %q from %s and %q from %s", q.name, dns.TypeToString[q.typ], want, from, got, s.name)
			}
		}
	}
	return nil
}

// answerText is what two servers must agree on.
func answerText(m *dns.Msg) string {
	var records []string
	for _, rr := range m.Answer {
		h := *rr.Header()
		records = append(records, strings.ToLower(fmt.Sprint(h.Name, " ", dns.TypeToString[h.Rrtype], " ", strings.TrimPrefix(rr.String(), h.String()))))
	}
	slices.Sort(records)
	return dns.RcodeToString[m.Rcode] + " " + strings.Join(records, "; ")
}
