package handover

import (
	"bytes"
	"net/netip"
	"testing"
)

// The protocol is frozen: these octets are in agents that run somewhere.
func TestFrozenFrames(t *testing.T) {
	nonce := []byte("0123456789abcdef")
	for name, c := range map[string]struct{ got, want []byte }{
		"hello": {appendHello(nil, "0000aaaa", nonce), []byte("\x01\x01\x00\x01\x01\x02\x00\x080000aaaa\x03\x00\x100123456789abcdef")},
		"listener": {listenerFrame(Listener{Key: "k", Network: "udp", Addr: netip.MustParseAddrPort("[fd00::a]:53")}),
			[]byte("\x03\x04\x00\x01k\x05\x00\x03udp\x06\x00\x0C[fd00::a]:53")},
		"cache":     {appendCacheHead(nil), []byte("\x06\x08\x00\x00")},
		"ready":     {[]byte{byte(kindReady)}, []byte{5}},
		"cache end": {[]byte{byte(kindCacheEnd)}, []byte{7}},
		"owned":     {[]byte{byte(kindOwned)}, []byte{8}},
		"left":      {[]byte{byte(kindLeft)}, []byte{9}},
		"refused":   {appendField([]byte{byte(kindRefused)}, tagText, "no"), []byte("\x0A\x09\x00\x02no")},
		"alias":     {[]byte(proven(aliasText("0000aaaa", "godwit-00"), nonce)), []byte("godwit/1 0000aaaa godwit-00 30313233343536373839616263646566")},
	} {
		if !bytes.Equal(c.got, c.want) {
			t.Errorf("%s is %q, not %q", name, c.got, c.want)
		}
	}
}

func TestLaterFieldsAreSkipped(t *testing.T) {
	b := appendHello(nil, newID, newNonce())
	b = appendField(b, tagsEnd, "something new")
	b = appendField(b, 255, "")
	b = appendField(b, 255, "twice")
	f, err := parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if id, _, err := f.hello(); err != nil || id != newID {
		t.Errorf("%q, %v", id, err)
	}
	b[4] = 9 // a later version speaks this one too
	if f, err = parse(b); err != nil {
		t.Fatal(err)
	}
	if _, _, err = f.hello(); err != nil {
		t.Error(err)
	}
}

// What parses is what was there: written again, the known fields give the same frame.
func FuzzParse(f *testing.F) {
	f.Add(appendHello(nil, oldID, make([]byte, nonceSize)))
	f.Add([]byte{0})
	f.Add([]byte{byte(kindCache), tagData, 0, 5, 1})
	f.Add(appendField(appendField([]byte{200}, 77, "x"), tagText, "why"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parse(b)
		if err != nil {
			return
		}
		again := []byte{byte(got.kind)}
		for tag := range got.fields {
			if got.fields[tag] != nil {
				again = appendField(again, byte(tag), got.fields[tag])
			}
		}
		if len(again) > len(b) {
			t.Fatalf("%d octets became %d", len(b), len(again))
		}
		second, err := parse(again)
		if err != nil || second.kind != got.kind {
			t.Fatalf("%x: %v", again, err)
		}
		for tag := range got.fields {
			if !bytes.Equal(second.fields[tag], got.fields[tag]) {
				t.Errorf("field %d is %x, was %x", tag, second.fields[tag], got.fields[tag])
			}
		}
		_, _, _ = got.hello()
	})
}

// No alias that anybody writes makes an agent connect to what is not a name of one, and what is taken is stable.
func FuzzAlias(f *testing.F) {
	f.Add(aliasText(oldID, "godwit-00"))
	f.Add(proven(aliasText(oldID, "godwit-00"), make([]byte, nonceSize)))
	f.Add("godwit/1  0000aaaa x")
	f.Fuzz(func(t *testing.T, text string) {
		base, id, socket, ok := parseAlias(text)
		if !ok {
			return
		}
		if base != aliasText(id, socket) || !validID(id) || !validSocket(socket) {
			t.Errorf("%q: %q %q %q", text, base, id, socket)
		}
		if again, _, _, ok := parseAlias(proven(base, newNonce())); !ok || again != base {
			t.Errorf("%q with a nonce names %q", base, again)
		}
	})
}
