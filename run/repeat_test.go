package run

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/freeport"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/plugin"
	"github.com/godwit-dns/godwit/server"
)

// repeatRig is a server on a clock that is moved by hand.
type repeatRig struct {
	t        testing.TB
	s        *server.Server
	env      *chain.Env
	registry *metrics.Registry
	port     int
	network  string
	conn     net.Conn     // made at the first question
	lines    atomic.Int64 // of the log of queries
	buf      [65536]byte
}

func newRepeatRig(t testing.TB, network string, now *atomic.Int64) *repeatRig {
	port, err := freeport.Find()
	if err != nil {
		t.Fatal(err)
	}
	clock := func() time.Duration { return time.Duration(now.Load()) }
	registry := metrics.New(1)
	s, err := server.New(server.Options{Loops: 1, Clock: clock, Log: slog.New(slog.DiscardHandler), Metrics: registry})
	if err != nil {
		t.Fatal(err)
	}
	r := &repeatRig{t: t, s: s, registry: registry, port: port, network: network}
	r.env = &chain.Env{Log: slog.New(slog.DiscardHandler), Metrics: registry, Loops: 1, Clock: clock,
		Wall: func() time.Time { return time.Unix(1e9, now.Load()) }, Env: func(string) (string, bool) { return "", false },
		Loop: s.Worker, Reload: func() {}, Fatal: func(err error) { t.Error(err) }, Print: func(int, []byte) { r.lines.Add(1) }}
	ctx, cancel := context.WithCancel(context.Background())
	var ended sync.WaitGroup
	ended.Go(func() { s.Run(ctx) })
	t.Cleanup(func() {
		if r.conn != nil {
			r.conn.Close()
		}
		cancel()
		ended.Wait()
	})
	return r
}

// publish makes a Corefile what is served. Nothing of it needs tasks.
func (r *repeatRig) publish(text string, files fstest.MapFS) {
	r.t.Helper()
	r.env.Files = files
	b, err := Build(r.env, plugin.All(), fmt.Sprint(r.port), "Corefile", []byte(text), nil)
	if err != nil {
		r.t.Fatal(err)
	}
	opened, err := r.s.Bind(b.Specs)
	if err != nil {
		r.t.Fatal(err)
	}
	r.s.Publish(opened, b.Specs, b.Tables)
}

// ask sends packets, whose IDs count up from 0, and gives the answers by ID.
func (r *repeatRig) ask(packets [][]byte) [][]byte {
	r.t.Helper()
	r.send(packets)
	answers := make([][]byte, len(packets))
	for range packets {
		msg, err := r.read()
		if err != nil {
			r.t.Fatalf("%x: %v", packets, err)
		}
		answers[binary.BigEndian.Uint16(msg)] = bytes.Clone(msg)
	}
	return answers
}

// send sends packets, whose answers are to come within 20 s.
func (r *repeatRig) send(packets [][]byte) {
	r.t.Helper()
	if r.conn == nil {
		var err error
		if r.conn, err = net.Dial(r.network, fmt.Sprintf("127.0.0.1:%d", r.port)); err != nil {
			r.t.Fatal(err)
		}
	}
	for _, p := range packets {
		if r.network == "tcp" {
			p = append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)
		}
		if _, err := r.conn.Write(p); err != nil {
			r.t.Fatal(err)
		}
	}
	_ = r.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
}

// read gives the next answer, until the one after it.
func (r *repeatRig) read() ([]byte, error) {
	if r.network == "udp" {
		n, err := r.conn.Read(r.buf[:])
		return r.buf[:n], err
	}
	if _, err := io.ReadFull(r.conn, r.buf[:2]); err != nil {
		return nil, err
	}
	n, err := io.ReadFull(r.conn, r.buf[:binary.BigEndian.Uint16(r.buf[:])])
	return r.buf[:n], err
}

// counts gives all that queries have counted, by family and labels, with the port taken out.
func (r *repeatRig) counts() map[string]any {
	all := map[string]any{}
	for _, f := range r.registry.Families() {
		if !strings.HasPrefix(f.Name, "coredns_") || strings.HasPrefix(f.Name, "coredns_local_") {
			continue
		}
		for _, s := range f.Series() {
			switch s := s.(type) {
			case *metrics.Counter:
				all[r.name(f.Name, s.Labels)] = s.Value()
			case *metrics.Histogram:
				all[r.name(f.Name, s.Labels)] = s.Read()
				if f.Name == "coredns_dns_request_duration_seconds" { // the clock may have been moved in a batch
					all[r.name(f.Name, s.Labels)] = s.Read().Count
				}
			case *metrics.Gauge:
				all[r.name(f.Name, s.Labels)] = s.Value()
			}
		}
	}
	return all
}

func (r *repeatRig) name(family string, labels []metrics.Label) string {
	return strings.ReplaceAll(fmt.Sprint(family, labels), fmt.Sprint(r.port), "PORT")
}

func (r *repeatRig) repeated() uint64 {
	return r.registry.Counter("godwit_"+r.network+"_repeated_total", "").Value()
}

const repeatZone = `$ORIGIN example.org.
@ 7 IN SOA ns hostmaster 1 7200 3600 86400 9
@ 7 IN NS ns
ns 30 IN A 192.0.2.53
www 9 IN CNAME web
web 12 IN A 192.0.2.1
mail 6 IN MX 10 ns
text 8 IN TXT "a text"
several 10 IN A 192.0.2.2
several 10 IN A 192.0.2.3
several 10 IN A 192.0.2.4
*.wild 11 IN A 192.0.2.5
six 10 IN AAAA 2001:db8::1
six 10 IN AAAA 2001:db8::2
`

const repeatHosts = `192.0.2.7 host.example.org several-hosts.example.org
192.0.2.8 several-hosts.example.org
2001:db8::7 host.example.org
`

// fullZone is repeatZone with a name that has too many addresses for a short answer.
func fullZone() []byte {
	b := []byte(repeatZone)
	for i := range 40 {
		b = fmt.Appendf(b, "full 10 IN A 192.0.3.%d\n", i)
	}
	return b
}

// repeatPackets are queries of all kinds: for what there is and is not, with and without EDNS, in several spellings, and
// some that are refused.
func repeatPackets(random *rand.Rand) [][]byte {
	var all [][]byte
	for _, name := range []string{"www", "web", "mail", "text", "several", "six", "full", "host", "several-hosts", "a.wild", "b.wild", "nothing", "x.y", "ns"} {
		for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeMX, dns.TypeTXT} {
			m := new(dns.Msg).SetQuestion(name+".example.org.", typ)
			m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData = random.IntN(4) > 0, random.IntN(4) == 0, random.IntN(4) == 0
			switch random.IntN(5) {
			case 0:
				m.SetEdns0(512, false)
			case 1:
				m.SetEdns0(1232, true)
			case 2:
				m.SetEdns0(1232, false)
				o := m.IsEdns0()
				o.Option = append(o.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0123456789abcdef"})
			case 3:
				m.Question[0].Name = strings.ToUpper(m.Question[0].Name)
			}
			b, err := m.Pack()
			if err != nil {
				panic(err)
			}
			all = append(all, b)
		}
	}
	for i := range 6 { // other zones, classes, opcodes, counts, and octets behind the end
		b := bytes.Clone(all[i])
		switch i {
		case 0:
			b[13] ^= 1
		case 1:
			b[len(b)-1] = 3
		case 2:
			b[2] |= dns.OpcodeStatus << 3
		case 3:
			b[5] = 2
		case 4:
			b = append(b, 0, 0, 0)
		case 5:
			b = b[:len(b)-3]
		}
		all = append(all, b)
	}
	return all
}

// TestRepeatsAreWalks asks two servers the same. One may give answers again without a walk; the other never does, since one
// of its directives has not said that it may be left out. Answers, and what was counted at the end, must be the same.
func TestRepeatsAreWalks(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4)) // a loop keeps its processor while it waits
	for options, repeats := range map[string]bool{"cache": true, "cache 8": true, "cache {\n keepttl\n}": true,
		"cache {\n serve_stale 5s\n}":                                      true,
		"cache {\n serve_stale 5s\n serve_stale_policy prefer_positive\n}": false, "cache {\n prefetch 2\n}": false, "cache other.example": true,
		"bufsize 600": true, "log": false, "log nothing.example.org\nlog . {\n class error\n}": true} {
		for _, network := range []string{"udp", "tcp"} {
			t.Run(network+" "+options, func(t *testing.T) { compareRepeats(t, network, options, repeats) })
		}
	}
}

func compareRepeats(t *testing.T, network, options string, repeats bool) {
	var now atomic.Int64
	now.Store(int64(time.Hour))
	fast, slow := newRepeatRig(t, network, &now), newRepeatRig(t, network, &now)
	publish := func() { publishBoth(fast, slow, options) }
	publish()
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 1))
	packets := repeatPackets(random)
	for range 300 {
		var batch [][]byte
		for id := range uint16(20) {
			packet := bytes.Clone(packets[min(random.IntN(len(packets)), random.IntN(len(packets)))])
			binary.BigEndian.PutUint16(packet, id)
			batch = append(batch, packet)
		}
		sameAnswers(t, seed, fast, slow, batch)
		if random.IntN(3) == 0 {
			now.Add(int64(random.IntN(3000)) * int64(time.Millisecond))
		}
		if random.IntN(100) == 0 {
			publish() // empty caches
		}
	}
	sameCounts(t, seed, fast, slow)
	if n := fast.repeated(); repeats != (n > 1000) {
		t.Errorf("%d answers without a walk", n)
	}
}

// publishBoth has two servers serve the same, but that the slow one has a directive that keeps it from repeating.
func publishBoth(fast, slow *repeatRig, options string) {
	files := fstest.MapFS{"zone": &fstest.MapFile{Data: fullZone()}, "hosts": &fstest.MapFile{Data: []byte(repeatHosts)}}
	text := ".:%d {\nbind 127.0.0.1\nprometheus 127.0.0.1:0\nerrors\nloadbalance\n" + options + "\n%s\n" +
		"hosts hosts example.org {\nttl 20\nfallthrough\n}\nfile zone example.org {\nreload 0\n}\n}\n"
	fast.publish(fmt.Sprintf(text, fast.port, ""), files)
	slow.publish(fmt.Sprintf(text, slow.port, "local"), files)
}

// sameAnswers asks both and compares.
func sameAnswers(t *testing.T, seed uint64, fast, slow *repeatRig, batch [][]byte) {
	t.Helper()
	got, want := fast.ask(batch), slow.ask(batch)
	for id := range got {
		if !sameAnswer(got[id], want[id]) {
			t.Fatalf("seed %d at %v: %x\n got %x\nwant %x", seed, fast.env.Clock(), batch[id], got[id], want[id])
		}
	}
}

// sameCounts compares the metrics of both in the end, and that the slow one always walked.
func sameCounts(t *testing.T, seed uint64, fast, slow *repeatRig) {
	t.Helper()
	var got, want map[string]any
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) { // the last batch ends
		if got, want = fast.counts(), slow.counts(); reflect.DeepEqual(got, want) {
			break
		}
	}
	for name := range want {
		if !reflect.DeepEqual(got[name], want[name]) {
			t.Errorf("seed %d: %s\n got %v\nwant %v", seed, name, got[name], want[name])
		}
	}
	if len(got) != len(want) || len(want) < 10 {
		t.Errorf("%d metrics, and %d", len(got), len(want))
	}
	if fast.lines.Load() != slow.lines.Load() {
		t.Errorf("seed %d: %d lines of log, and %d", seed, fast.lines.Load(), slow.lines.Load())
	}
	if slow.repeated() > 0 {
		t.Error("the slow server gave answers without a walk")
	}
}

// sameAnswer compares two answers; where loadbalance changes the order of records, as sets of octets. Of those that were
// cut the last octets of addresses, by which the names of these tests have several, may be others.
func sameAnswer(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if len(a) != len(b) || binary.BigEndian.Uint16(a[6:]) < 2 {
		return false
	}
	a, b = bytes.Clone(a), bytes.Clone(b)
	if a[2]&2 != 0 {
		return withoutLast(a) && withoutLast(b) && bytes.Equal(a, b)
	}
	slices.Sort(a)
	slices.Sort(b)
	return bytes.Equal(a, b)
}

// withoutLast takes the last octets of addresses out of an answer, and reports false when one was there twice.
func withoutLast(msg []byte) bool {
	at := 12
	for msg[at] != 0 {
		at += 1 + int(msg[at])
	}
	seen := map[byte]bool{}
	for at += 5; binary.BigEndian.Uint16(msg[6:]) > uint16(len(seen)); {
		at += 12 + int(binary.BigEndian.Uint16(msg[at+10:]))
		if seen[msg[at-1]] {
			return false
		}
		seen[msg[at-1]], msg[at-1] = true, 0
	}
	return true
}
