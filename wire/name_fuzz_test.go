package wire

import (
	"bytes"
	"regexp"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// above255 finds \DDD escapes of no octet, which miekg wraps around.
var above255 = regexp.MustCompile(`\\(25[6-9]|2[6-9]\d|[3-9]\d\d)`)

// FuzzName holds the text form to miekg's reading of it, and to itself there and back.
func FuzzName(f *testing.F) {
	for _, s := range []string{".", "", "www.example.org.", "no.dot", "a\\.b.c.", "\\000\\255.x.", "..", "a..b", "\\", "\\9", "*.e.", "sp\\ ace.", "\\256."} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := ParseName(s)
		if strings.Contains(s, `\`) && strings.ContainsFunc(s, func(c rune) bool { return c > '~' }) {
			return // Fqdn counts the backslashes wrong
		}
		buf := make([]byte, 1024)
		end, wrong := dns.PackDomainName(dns.Fqdn(s), buf, 0, nil, false)
		if err != nil {
			if wrong == nil && !above255.MatchString(s) && !strings.HasSuffix(s, `\`) { // which Fqdn turns into an escaped dot
				t.Fatalf("%q: %v, but the oracle reads %x", s, err, buf[:end])
			}
			return
		}
		if s != "" && wrong == nil && !bytes.Equal(n, buf[:end]) {
			t.Fatalf("%q: %x, want %x", s, []byte(n), buf[:end])
		}
		again, err := ParseName(n.String())
		if err != nil || !bytes.Equal(again, n) {
			t.Fatalf("%q became %q and then %x (%v), not %x", s, n.String(), []byte(again), err, []byte(n))
		}
		text, _, err := dns.UnpackDomainName(n, 0)
		if err != nil || text != n.String() {
			t.Fatalf("%x is %q, the oracle says %q (%v)", []byte(n), n.String(), text, err)
		}
		if n.Labels() != dns.CountLabel(text) || len(n) > MaxName {
			t.Fatalf("%d labels and %d octets in %q", n.Labels(), len(n), text)
		}
	})
}

// FuzzReadName holds names in messages to miekg's reading. Only pointers that do not point backwards, or into the header,
// are refused here and followed there (RFC 1035, 4.1.4: "a prior occurrence").
func FuzzReadName(f *testing.F) {
	f.Add(append(make([]byte, 12), 3, 'w', 'w', 'w', 0, 1, 'a', 0xC0, 12), uint16(17))
	f.Add(append(make([]byte, 12), 0xC0, 12), uint16(12))
	f.Fuzz(func(t *testing.T, msg []byte, at uint16) {
		off := int(at)
		n, next, err := ReadName(nil, msg, off)
		text, end, wrong := dns.UnpackDomainName(msg, min(off, len(msg)))
		if err != nil {
			if wrong == nil && err != ErrPointer {
				t.Fatalf("%v at %d of %x, but the oracle reads %q", err, off, msg, text)
			}
			return
		}
		if wrong != nil || Name(n).String() != text || next != end {
			t.Fatalf("%q to %d, the oracle says %q to %d (%v)", Name(n).String(), next, text, end, wrong)
		}
		if skipped, err := skipName(msg, off); err != nil || skipped != next {
			t.Fatalf("skipName says %d (%v), ReadName %d", skipped, err, next)
		}
	})
}
