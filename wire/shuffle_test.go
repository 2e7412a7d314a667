package wire

import (
	"math"
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

// TestDeckDrawsEveryOrder draws all addresses of a list, and some.
func TestDeckDrawsEveryOrder(t *testing.T) {
	for _, c := range []struct{ size, n, all, orders int }{{4, 1, 1, 1}, {4, 2, 6, 30}, {4, 5, 5, 120}, {16, 2, 4, 12}, {16, 3, 3, 6}, {4, 0, 4, 1}} {
		data := make([]byte, c.all*c.size)
		for i := range c.all {
			data[(i+1)*c.size-1], data[i*c.size] = byte(i), byte(i)
		}
		head := []byte("owner type \x00")
		head[ownHead-1] = byte(c.size)
		var d Deck
		const each = 1000
		seen := map[string]int{}
		out := []byte("before")
		for range each * c.orders {
			out = d.Append(out[:6], head, data, c.n)
			if len(out) != 6+c.n*(ownHead+c.size) || string(out[:6]) != "before" {
				t.Fatalf("%q", out)
			}
			order, mask := "", 0
			for one := out[6:]; len(one) > 0; one = one[ownHead+c.size:] {
				if string(one[:ownHead]) != string(head) || one[ownHead] != one[ownHead+c.size-1] || mask&(1<<one[ownHead]) != 0 {
					t.Fatalf("%q", out)
				}
				mask |= 1 << one[ownHead]
				order += string('0' + rune(one[ownHead]))
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
