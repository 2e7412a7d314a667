package wire

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// mixed makes a reply with CNAMEs, addresses of two owners, mail exchangers and more.
func mixed(r *Request, names []Name, addresses int) *Reply {
	var m Reply
	m.Begin(r, NoError, FlagAA)
	m.AppendName(Answer, names[0], TypeCNAME, 7, names[1])
	for i := range addresses {
		m.Append(Answer, names[1], TypeA, ClassIN, uint32(i), []byte{10, 0, 0, byte(i)})
	}
	m.Append(Answer, names[0], TypeAAAA, ClassIN, 9, make([]byte, 16))
	m.Append(Answer, names[1], TypeMX, ClassIN, 9, append([]byte{0, 10}, names[0]...))
	m.AppendName(Authority, names[1].Parent(), TypeNS, 3, names[0])
	m.Append(Additional, names[2], TypeA, ClassIN, 1, []byte{1, 1, 1, 1})
	m.Append(Additional, names[2], TypeA, ClassIN, 2, []byte{2, 2, 2, 2})
	return &m
}

// texts gives the records of a section as text.
func texts(t *testing.T, m *Reply, want Section) (all []string) {
	t.Helper()
	var c Cursor
	var r Record
	if err := c.Open(m.Bytes()); err != nil {
		t.Fatal(err)
	}
	for {
		s, ok, err := c.Next(&r)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return all
		}
		if s == want {
			data, err := r.Data(nil)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprintf("%s %d %s %x", r.Owner(), r.TTL, r.Type, data))
		}
	}
}

func TestPermutation(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	names := []Name{MustName("www.example.org."), MustName("w.cdn.example.net."), MustName("ns.example.com.")}
	var r Request
	r.SetQuestion(names[0], TypeA)
	var p Permutation
	inPlace := 0
	for round := range 400 {
		m := mixed(&r, names, rnd.IntN(8))
		if err := p.Open(m); err != nil {
			t.Fatal(err)
		}
		plain, want := m.PlainLen(), [3][]string{}
		for s := range want {
			before := texts(t, m, Section(s))
			items := p.Items(Section(s))
			order := make([]int, len(items))
			for i := range order {
				order[i] = i
			}
			lo, hi := 0, len(items)
			if s == int(Answer) && round%2 == 0 { // the addresses alone
				lo, hi = 1, len(items)-2
			}
			rnd.Shuffle(hi-lo, func(i, j int) {
				items[lo+i], items[lo+j] = items[lo+j], items[lo+i]
				order[lo+i], order[lo+j] = order[lo+j], order[lo+i]
			})
			for _, i := range order {
				want[s] = append(want[s], before[i])
			}
		}
		got := m
		if p.InPlace() {
			inPlace++
		} else {
			got = new(Reply)
			if err := p.Write(got); err != nil {
				t.Fatal(err)
			}
		}
		for s := range want {
			if a, b := fmt.Sprint(texts(t, got, Section(s))), fmt.Sprint(want[s]); a != b {
				t.Fatalf("section %d: got %s, want %s", s, a, b)
			}
		}
		if got.PlainLen() != plain || got.Rcode != m.Rcode {
			t.Fatalf("length %d, was %d", got.PlainLen(), plain)
		}
	}
	if inPlace < 150 {
		t.Errorf("only %d of 400 in place", inPlace)
	}
}

func TestPermutationLeavesOddSizesAlone(t *testing.T) {
	var r Request
	r.SetQuestion(MustName("a."), TypeA)
	var m Reply
	m.Begin(&r, NoError, 0)
	for i := range 2 {
		m.Append(Answer, r.Name(), TypeA, ClassIN, 1, append(make([]byte, 99), byte(i))) // no address, whatever it says
	}
	var p Permutation
	if err := p.Open(&m); err != nil {
		t.Fatal(err)
	}
	items := p.Items(Answer)
	items[0], items[1] = items[1], items[0]
	if p.InPlace() {
		t.Error("records that are no addresses changed places")
	}
}

func TestPermutationDoesNotAllocate(t *testing.T) {
	var r Request
	r.SetQuestion(MustName("a."), TypeA)
	var m Reply
	m.Begin(&r, NoError, 0)
	m.AppendOwnData(Answer, TypeA, 5, make([]byte, 4*20), 4)
	var p Permutation
	shuffle := func() {
		if p.Open(&m) != nil {
			t.Fatal("broken")
		}
		items := p.Items(Answer)
		items[0], items[5], items[7] = items[7], items[0], items[5]
		if !p.InPlace() {
			t.Fatal("not in place")
		}
	}
	shuffle()
	if n := testing.AllocsPerRun(100, shuffle); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
