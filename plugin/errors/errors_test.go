package errors

import (
	stderrors "errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// failing fails every query below it, but answers those for "ok." with an error beside the answer and lets "next." pass.
var failing = chain.Spec{Name: "failing", New: func(s *chain.Setup) error {
	s.Handler(fail{})
	return nil
}}

type fail struct{}

func (fail) Serve(q *chain.Query) chain.Outcome {
	switch q.Name().String() {
	case "ok.":
		q.Reply.Begin(&q.Request, wire.NoError, 0)
		q.Err = stderrors.New("in vain")
		return chain.Answered
	case "next.":
		return chain.Next
	}
	return q.Fail(wire.ServFail, stderrors.New("broken pipe to "+q.Name().String()))
}

func bench() chaintest.Options {
	return chaintest.Options{Specs: []chain.Spec{Spec, failing}}
}

func TestText(t *testing.T) {
	b := chaintest.New(t, ". {\nerrors\nfailing\n}", bench())
	b.Ask("Example.ORG.", dns.TypeAAAA)
	b.Ask("ok.", dns.TypeA)
	b.Ask("next.", dns.TypeA)
	want := "[ERROR] plugin/errors: 2 example.org. AAAA: broken pipe to example.org.\n" +
		"[ERROR] plugin/errors: 0 ok. A: in vain\n" +
		"[ERROR] plugin/errors: 2 next. A: plugin/failing: no next plugin found\n"
	if got := b.Log.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestConsolidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := chaintest.New(t, `. {
errors {
    consolidate 1m "^broken .* a\.$" warning
    consolidate 10s "^broken .* b\.$" info show_first
}
failing
}`, bench())
		b.Start()
		for range 3 {
			b.Ask("a.", dns.TypeA)
			b.Ask("b.", dns.TypeA)
		}
		b.Ask("c.", dns.TypeA)
		time.Sleep(11 * time.Second)
		b.Ask("b.", dns.TypeA)
		time.Sleep(time.Minute)
		synctest.Wait()
		got := b.Log.String()
		for _, want := range []string{
			"level=WARN msg=\"plugin/errors: 3 errors like '^broken .* a\\\\.$' occurred in last 1m0s\"",
			"level=INFO msg=\"plugin/errors: 3 errors like '^broken .* b\\\\.$' occurred in last 10s\"",
		} {
			if strings.Count(got, want) != 1 {
				t.Errorf("want once %s in\n%s", want, got)
			}
		}
		if n := strings.Count(got, "[INFO] plugin/errors: 2 b. A: broken pipe to b.\n"); n != 2 {
			t.Errorf("the first of each period was shown %d times, want 2:\n%s", n, got)
		}
		if n := strings.Count(got, "\n"); n != 5 {
			t.Errorf("%d lines, want 5:\n%s", n, got)
		}
	})
}

func TestPeriodIsClosedAtTheEnd(t *testing.T) {
	log := &chaintest.Log{}
	t.Run("life", func(t *testing.T) {
		b := chaintest.New(t, ". {\nerrors {\nconsolidate 1h .*\n}\nfailing\n}", bench())
		b.Start()
		b.Ask("a.", dns.TypeA)
		log = b.Log
	})
	if got := log.String(); !strings.Contains(got, "1 errors like '.*' occurred in last 1h0m0s") {
		t.Errorf("log: %q", got)
	}
}

func TestRefused(t *testing.T) {
	for _, text := range []string{
		"errors\nerrors", "errors stderr", "errors a b", "errors {\nstack\n}", "errors {\nconsolidate 1m\n}",
		"errors {\nconsolidate 1x .*\n}", "errors {\nconsolidate 1m (\n}", "errors {\nconsolidate 1m .* loud\n}",
		"errors {\nconsolidate 1m .* show_first info\n}", "errors {\nconsolidate 1m .* info error\n}",
		"errors {\nconsolidate 1m " + strings.Repeat("a", maxRegexp+1) + "\n}",
	} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", bench()); err == nil {
			t.Errorf("accepted: %.60s", text)
		} else if !strings.HasPrefix(err.Error(), "Corefile:") {
			t.Errorf("no place in %q", err)
		}
	}
	for _, text := range []string{"errors stdout", "errors {\nstacktrace\nconsolidate 5m x debug show_first\n}", "errors {\n}"} {
		if _, err := chaintest.Build(t, ". {\n"+text+"\n}", bench()); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
