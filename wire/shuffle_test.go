package wire

import (
	"math"
	"slices"
	"testing"
)

func TestAddresses(t *testing.T) {
	var r Request
	name, other := MustName("www.example.org."), MustName("example.org.")
	r.SetQuestion(name, TypeA)
	for _, c := range []struct {
		name string
		make func(m *Reply)
		want int
	}{
		{"none", func(m *Reply) {}, 0},
		{"A", func(m *Reply) { m.AppendOwnData(Answer, TypeA, 5, []byte("aaaabbbbcccc"), 4) }, 3},
		{"AAAA", func(m *Reply) { m.AppendOwnData(Answer, TypeAAAA, 5, make([]byte, 32), 16) }, 2},
		{"both", func(m *Reply) {
			m.AppendOwnData(Answer, TypeA, 5, []byte("aaaabbbbcccc"), 4)
			m.AppendOwnData(Answer, TypeAAAA, 5, make([]byte, 16), 16)
		}, 0},
		{"two owners", func(m *Reply) {
			m.Append(Answer, name, TypeA, ClassIN, 5, make([]byte, 4))
			m.Append(Answer, other, TypeA, ClassIN, 5, make([]byte, 4))
		}, 0},
		{"a CNAME first", func(m *Reply) {
			m.AppendName(Answer, name, TypeCNAME, 5, other)
			m.Append(Answer, other, TypeA, ClassIN, 5, make([]byte, 4))
		}, 0},
		{"an odd size", func(m *Reply) { m.AppendOwnData(Answer, TypeA, 5, make([]byte, 10), 5) }, 0},
		{"another owner, in full", func(m *Reply) { m.Append(Answer, MustName("x."), TypeA, ClassIN, 5, make([]byte, 4)) }, 0},
	} {
		var m Reply
		m.Begin(&r, NoError, 0)
		c.make(&m)
		if got := m.Addresses().Len(); got != c.want {
			t.Errorf("%s: %d addresses, want %d", c.name, got, c.want)
		}
	}
}

// TestShuffleGivesEveryOrder shuffles whole answers, and answers of which only some records will be sent.
func TestShuffleGivesEveryOrder(t *testing.T) {
	var r Request
	r.SetQuestion(MustName("www.example.org."), TypeA)
	for _, c := range []struct {
		typ          Type
		size, n, all int
		orders       int
	}{{TypeA, 4, 1, 1, 1}, {TypeA, 4, 2, 2, 2}, {TypeA, 4, 5, 5, 120}, {TypeA, 4, 2, 7, 42}, {TypeAAAA, 16, 3, 3, 6}, {TypeAAAA, 16, 1, 6, 6}, {TypeA, 4, 0, 3, 1}} {
		data := make([]byte, c.all*c.size)
		for i := range c.all {
			data[(i+1)*c.size-1], data[i*c.size] = byte(i), byte(i)
		}
		var m Reply
		m.Begin(&r, NoError, 0)
		m.AppendOwnData(Answer, c.typ, 5, data, c.size)
		first := HeaderSize + m.qname + 4
		fixed := [ownHead]byte(m.b[first:])
		var random Random
		const each = 1000
		seen := map[string]int{}
		for range each * c.orders {
			m.Addresses().Shuffle(&random, c.n)
			var order string
			mask := 0
			for i := range c.all {
				one := m.b[first+i*(ownHead+c.size):][:ownHead+c.size]
				if [ownHead]byte(one) != fixed || one[ownHead] != one[len(one)-1] {
					t.Fatalf("a record of %x", one)
				}
				mask |= 1 << one[ownHead]
				if i < c.n {
					order += string('0' + rune(one[ownHead]))
				}
			}
			if mask != 1<<c.all-1 {
				t.Fatalf("not every address is there: %x", m.b[first:])
			}
			seen[order]++
		}
		if len(seen) != c.orders {
			t.Errorf("%d of %d addresses: %d orders, want %d", c.n, c.all, len(seen), c.orders)
		}
		for order, n := range seen {
			if math.Abs(float64(n-each)) > 5*math.Sqrt(each) {
				t.Errorf("%d of %d addresses: %s came %d times, want about %d", c.n, c.all, order, n, each)
			}
		}
	}
}

// deckOf makes a deck of records with the same head.
func deckOf(head, data []byte, r *Random) *Deck {
	var section []byte
	for one := range slices.Chunk(data, int(head[ownHead-1])) {
		section = append(append(section, head...), one...)
	}
	return NewDeck(AddressesIn(section), r)
}

// TestDeckIsFair deals all addresses of a list, and some: each must come as often as the others, at the first place, at the
// second and at any.
func TestDeckIsFair(t *testing.T) {
	for _, c := range []struct{ size, n, all int }{{4, 1, 2}, {4, 2, 2}, {4, 3, 12}, {4, 7, 7}, {4, 60, 100}, {16, 2, 4}, {16, 13, 30}, {4, 0, 4}} {
		data := make([]byte, c.all*c.size)
		for i := range c.all {
			data[(i+1)*c.size-1], data[i*c.size] = byte(i), byte(i)
		}
		head := []byte("owner type \x00")
		head[ownHead-1] = byte(c.size)
		var random Random
		d := deckOf(head, data, &random)
		const rounds = 20000
		places := [3][]int{make([]int, c.all), make([]int, c.all), make([]int, c.all)} // first, second, any
		out := []byte("before")
		for range rounds {
			out = d.Append(out[:6], &random, c.n)
			if len(out) != 6+c.n*(ownHead+c.size) || string(out[:6]) != "before" {
				t.Fatalf("%q", out)
			}
			seen := make([]bool, c.all)
			for i := range c.n {
				one := out[6+i*(ownHead+c.size):][:ownHead+c.size]
				a := one[ownHead]
				if string(one[:ownHead]) != string(head) || a != one[len(one)-1] || seen[a] {
					t.Fatalf("record %d of %q", i, out)
				}
				seen[a] = true
				if i < 2 {
					places[i][a]++
				}
				places[2][a]++
			}
		}
		for place, p := range []float64{min(1, float64(c.n)), max(0, min(1, float64(c.n-1))), float64(c.n)} {
			p /= float64(c.all)
			for a, n := range places[place] {
				if want := rounds * p; math.Abs(float64(n)-want) > 5*math.Sqrt(want*(1-p)) {
					t.Errorf("%d of %d addresses: place %d has address %d %d times, want about %.0f", c.n, c.all, place, a, n, want)
				}
			}
		}
	}
}

// TestDeckForgets holds that what a deal begins with says nothing of the next one, and its first place nothing of the others
// that are drawn anew.
func TestDeckForgets(t *testing.T) {
	const all, rounds = 6, 30000
	var random Random
	d := deckOf([]byte("owner type \x04"), []byte("aaaabbbbccccddddeeeeffff"), &random)
	var before []byte
	var deals, places [all][all]int
	for range rounds {
		out := d.Append(nil, &random, all)
		if before != nil {
			deals[before[12]-'a'][out[12]-'a']++
			places[before[12]-'a'][before[12+16*(anew-1)]-'a']++
		}
		before = out
	}
	for a := range all {
		for b := range all {
			check := func(what string, n int, p float64) {
				if math.Abs(float64(n)-rounds*p) > 5*math.Sqrt(rounds*p*(1-p)) {
					t.Errorf("%s %d is %d: %d times, want about %.0f", what, a, b, n, rounds*p)
				}
			}
			check("after", deals[a][b], 1.0/all/all)
			if a != b {
				check("behind", places[a][b], 1.0/all/(all-1))
			}
		}
	}
}

func benchmarkShuffle(b *testing.B, all, n int) {
	var r Request
	r.SetQuestion(MustName("service-1.load-1.svc.cluster.local."), TypeA)
	var m Reply
	m.Begin(&r, NoError, 0)
	m.AppendOwnData(Answer, TypeA, 5, make([]byte, 4*all), 4)
	var random Random
	for b.Loop() {
		m.Addresses().Shuffle(&random, n)
	}
}

func BenchmarkShuffle5(b *testing.B)   { benchmarkShuffle(b, 5, 5) }
func BenchmarkShuffle500(b *testing.B) { benchmarkShuffle(b, 500, 252) }

// BenchmarkAppendOwnData writes an answer of 500 addresses.
func BenchmarkAppendOwnData(b *testing.B) {
	var r Request
	r.SetQuestion(MustName("service-1.load-1.svc.cluster.local."), TypeA)
	var m Reply
	data := make([]byte, 2000)
	for b.Loop() {
		m.Begin(&r, NoError, 0)
		m.AppendOwnData(Answer, TypeA, 5, data, 4)
	}
}

// BenchmarkDeck writes as many of 500 addresses as 4,096 octets hold.
func BenchmarkDeck(b *testing.B) {
	var random Random
	d := deckOf([]byte("owner type \x04"), make([]byte, 2000), &random)
	out := make([]byte, 0, 4096)
	for b.Loop() {
		out = d.Append(out[:0], &random, 252)
	}
}
