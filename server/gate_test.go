package server

import (
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

const plainQuestion = "0161000001" + "0001"

// gateTable holds packets that are no queries and the answers to them, in hex: those of CoreDNS 1.14.7 where the comment
// of the second part does not say otherwise.
var gateTable = []struct{ what, packet, answer string }{
	{"eleven octets", "0001010000010000000000", ""},
	{"nothing but an ID", "0001", ""},
	{"a response", "000181000001000000000000" + plainQuestion, ""},
	{"update", "000129100001000000000000" + "0161000006" + "0001", "0001a9140000000000000000"},
	{"status with all flags", "000117ff0001000000000000" + plainQuestion, "000193b40000000000000000"},
	{"opcode 15 without a question", "000178000000000000000000", "0001f8040000000000000000"},
	{"no question", "000101000000000000000000", "000181010000000000000000"},
	{"no question, all flags", "000107ff0000000000000000", "000183b10000000000000000"},
	{"two questions", "000101000002000000000000" + plainQuestion + plainQuestion, "000181010000000000000000"},
	{"two answers", "000101000001000200000000" + plainQuestion, "000181010000000000000000"},
	{"two authorities", "000101000001000000020000" + plainQuestion, "000181010000000000000000"},
	{"three additional", "000101000001000000000003" + plainQuestion, "000181010000000000000000"},
	{"half a type", "000101000001000000000000" + "01610000", "000181010000000000000000"},
	{"cut label", "000101000001000000000000" + "0561", "000181010000000000000000"},
	{"pointer to itself", "000101000001000000000000" + "c00c00010001", "000181010000000000000000"},
	{"label of 64", "000101000001000000000000" + "40" + strings.Repeat("61", 64) + "0000010001", "000181010000000000000000"},
	{"long name", "000101000001000000000000" + strings.Repeat("3f"+strings.Repeat("61", 63), 4) + "0000010001", "000181010000000000000000"},
	{"cut OPT", "000101000001000000000001" + plainQuestion + "000029100000000000", "00018101000100000000000001610000010001"},
	{"bad options", "000107ff0001000000000001" + plainQuestion + "0000291000000000000003000a00", "000183b1000100000000000001610000010001"},
	{"EDNS 1", "000101100001000000000001" + plainQuestion + "0000291000000100000000", "000181100001000000000001016100000100010000290000010000000000"},
	{"EDNS 1, all flags", "000107ff0001000000000001" + plainQuestion + "0000291000000180000000", "000181100001000000000001016100000100010000290000010000000000"},
	{"EDNS 1 in a NOTIFY", "000125100001000000000001" + "0161000006" + "0001" + "0000291000000180000000", "0001a0000001000000000001016100000600010000290000010000000000"},
	{"EDNS 1 with a cookie", "000101100001000000000001" + plainQuestion + "000029100000010000000c" + "000a00080011223344556677", "000181100001000000000001016100000100010000290000010000000000"},

	// What CoreDNS reads although it breaks off or lies about itself is FORMERR here.
	{"a header alone", "000101000001000000000000", "000181010000000000000000"},
	{"a name alone", "000101000001000000000000" + "016100", "000181010000000000000000"},
	{"no class", "000101000001000000000000" + "0161000001", "000181010000000000000000"},
	{"pointer into the header", "000101000001000000000000" + "c00400010001", "000181010000000000000000"},
	{"a record that is not there", "000101000001000000000001" + plainQuestion, "00018101000100000000000001610000010001"},
	{"two OPT", "000101000001000000000002" + plainQuestion + "0000291000000000000000" + "0000291000000000000000", "00018101000100000000000001610000010001"},
	{"longer than any query", "000101000001000000000000" + plainQuestion + strings.Repeat("00", 4000), "000181010000000000000000"},
}

func TestGateOverUDP(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	c := r.dial("udp", "127.0.0.1")
	for _, g := range gateTable {
		packet, err := hex.DecodeString(g.packet)
		if err != nil {
			t.Fatal(err)
		}
		wait := 5 * time.Second
		if g.answer == "" {
			wait = 50 * time.Millisecond
		}
		if got := hex.EncodeToString(exchange(t, c, packet, wait)); got != g.answer {
			t.Errorf("%s: %s, want %s", g.what, got, g.answer)
		}
	}
	if refused := r.s.workers[0].malformed.Load() + r.s.workers[1].malformed.Load(); int(refused) != len(gateTable) {
		t.Errorf("%d packets were counted as refused, want %d", refused, len(gateTable))
	}
}

func TestGateOverTCP(t *testing.T) {
	r := newRig(t, "127.0.0.1")
	c := r.dial("tcp", "127.0.0.1")
	for _, g := range gateTable {
		packet, err := hex.DecodeString(g.packet)
		if err != nil {
			t.Fatal(err)
		}
		if len(packet) > maxQuery {
			continue
		}
		write(t, c, frame(packet))
		if g.answer == "" { // the next answer must be another's
			write(t, c, frame(query("after", 77, 0)))
			if m := read(t, c); m.Id != 77 {
				t.Errorf("%s was answered: %v", g.what, m)
			}
			continue
		}
		b := make([]byte, 2+len(g.answer)/2)
		if _, err := readFull(c, b); err != nil || hex.EncodeToString(b[2:]) != g.answer || int(b[1]) != len(b)-2 {
			t.Errorf("%s: %x (%v), want %s", g.what, b, err, g.answer)
		}
	}
}
