package chaintest

import (
	"encoding/hex"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// Golden asks the questions of a golden file and holds every reply against what stands there: "? NAME TYPE [do]
// [CODE:HEX]...", the last being EDNS options, then what Text makes of the reply, then an empty line. The files were recorded from CoreDNS 1.14.7.
func (b *Bench) Golden(t *testing.T, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(strings.TrimSpace(string(text)), "\n\n")
	for _, part := range parts {
		line, want, _ := strings.Cut(part, "\n")
		got := strings.TrimSpace(Text(b.Do(Query{Msg: question(t, line)})))
		if got != want {
			t.Errorf("%s\ngot  %s\nwant %s", line, strings.ReplaceAll(got, "\n", "\n     "), strings.ReplaceAll(want, "\n", "\n     "))
		}
	}
}

func question(t testing.TB, line string) *dns.Msg {
	t.Helper()
	f := strings.Fields(line)
	if len(f) < 3 || f[0] != "?" {
		t.Fatalf("not a question: %q", line)
	}
	rr, err := dns.NewRR(". 0 IN NSEC . " + f[2]) // reads mnemonics and TYPE12345
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	m := new(dns.Msg).SetQuestion(f[1], rr.(*dns.NSEC).TypeBitMap[0])
	for _, word := range f[3:] {
		if m.IsEdns0() == nil {
			m.SetEdns0(65000, word == "do")
		}
		if code, data, ok := strings.Cut(word, ":"); ok {
			n, err := strconv.ParseUint(code, 10, 16)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			b, err := hex.DecodeString(data)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: uint16(n), Data: b})
		}
	}
	return m
}
