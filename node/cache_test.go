package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/godwit-dns/godwit/chain"
)

// box is a cache for tests.
type box struct {
	name    string
	entries []string
}

func (b *box) kept() chain.Kept {
	return chain.Kept{Name: b.name,
		Export: func(f func(entry []byte) bool) {
			for _, e := range b.entries {
				if !f([]byte(e)) {
					return
				}
			}
		},
		Import: func(entry []byte) { b.entries = append(b.entries, string(entry)) }}
}

func stream(t testing.TB, boxes ...*box) []byte {
	t.Helper()
	var kept []chain.Kept
	for _, b := range boxes {
		kept = append(kept, b.kept())
	}
	var out bytes.Buffer
	if err := saveCaches(context.Background(), &out, kept); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestCachesGoToThoseOfTheSameName(t *testing.T) {
	text := stream(t, &box{"a", []string{"1", "", "3"}}, &box{"gone", []string{"x"}}, &box{"b", []string{"4"}})
	a, b, fresh := &box{name: "a"}, &box{name: "b"}, &box{name: "new"}
	n, err := loadCaches(bytes.NewReader(text), []chain.Kept{fresh.kept(), b.kept(), a.kept()})
	if n != 4 || err != nil || !slices.Equal(a.entries, []string{"1", "", "3"}) || !slices.Equal(b.entries, []string{"4"}) || fresh.entries != nil {
		t.Errorf("%d, %v, %q %q %q", n, err, a.entries, b.entries, fresh.entries)
	}
}

func TestCachesMayBeCutAnywhere(t *testing.T) {
	whole := []string{"one", "two", "three"}
	text := stream(t, &box{"a", whole})
	for cut := range text {
		a := &box{name: "a"}
		n, err := loadCaches(bytes.NewReader(text[:cut]), []chain.Kept{a.kept()})
		if cut >= len(cacheMagic) && err != nil || n != len(a.entries) || !slices.Equal(a.entries, whole[:n]) {
			t.Errorf("cut at %d: %d, %v, %q", cut, n, err, a.entries)
		}
	}
}

func TestCachesOfAnotherForm(t *testing.T) {
	for _, text := range []string{"", "GWC2xxxxxxxx", "GET / HTTP/1.1\r\n"} {
		if n, err := loadCaches(bytes.NewReader([]byte(text)), nil); n != 0 || err == nil {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
	text := []byte(cacheMagic + "\x07\x00\x00\x00\x02zz" + "\x01\x00\x00\x00\x01a" + "\x02\x00\x00\x00\x01e" + "\x02\xff\xff\xff\xff")
	a := &box{name: "a"}
	if n, err := loadCaches(bytes.NewReader(text), []chain.Kept{a.kept()}); n != 1 || err == nil || a.entries[0] != "e" {
		t.Errorf("%d, %v, %q", n, err, a.entries)
	}
}

// full fails after some octets.
type full int

func (f *full) Write(p []byte) (int, error) {
	if *f -= full(len(p)); *f < 0 {
		return 0, errors.New("full")
	}
	return len(p), nil
}

func TestSavingEnds(t *testing.T) {
	many := &box{name: "a"}
	for i := range 1000 {
		many.entries = append(many.entries, fmt.Sprint(i))
	}
	size := full(len(stream(t, many)))
	for n := full(0); n < size; n += size/10 + 1 {
		w := n
		if err := saveCaches(context.Background(), &w, []chain.Kept{many.kept()}); err == nil {
			t.Errorf("no error after %d octets", n)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := saveCaches(ctx, new(bytes.Buffer), []chain.Kept{many.kept()}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func FuzzLoadCaches(f *testing.F) {
	f.Add(stream(f, &box{"a", []string{"1", "2"}}, &box{"b", []string{"3"}}))
	f.Fuzz(func(t *testing.T, text []byte) {
		a := &box{name: "a"}
		n, _ := loadCaches(bytes.NewReader(text), []chain.Kept{a.kept()})
		if n != len(a.entries) {
			t.Errorf("%d of %d", n, len(a.entries))
		}
	})
}
