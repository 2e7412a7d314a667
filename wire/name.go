// Package wire reads and writes DNS messages as bytes (RFC 1035): names, header, question, EDNS, a cursor over records,
// the reply builder and Transcribe, which is the only way to rewrite a reply.
//
// It does no I/O, reads no clock and starts no goroutine. Nothing in it allocates unless its comment says so.
package wire

import (
	"errors"
	"hash/maphash"
)

// MaxName is the longest name in octets, the root's zero included (RFC 1035, 2.3.4).
const MaxName = 255

// MaxLabel is the longest label in octets (RFC 1035, 2.3.4).
const MaxLabel = 63

// Name is a domain name in uncompressed wire form: length octets, labels, and the root's zero at the end.
// A nil Name is no name. Unless said otherwise a Name is lower case.
type Name []byte

// Root is the name of the root zone.
var Root = Name{0}

// Errors of ParseName and ReadName.
var (
	ErrName    = errors.New("not a domain name")
	ErrPointer = errors.New("compression pointer does not point backwards")
	ErrShort   = errors.New("message ends in the middle of a field")
)

// ParseName reads presentation form (RFC 1035, 5.1: dots, \DDD and \X escapes), relative names as if they ended with a
// dot, and keeps the case. It allocates.
func ParseName(s string) (Name, error) {
	return AppendName(make(Name, 0, len(s)+2), s)
}

// MustName is ParseName for names written in the program; it panics when s is no name.
func MustName(s string) Name {
	n, err := ParseName(s)
	if err != nil {
		panic("wire: " + s + ": " + err.Error())
	}
	return n
}

// AppendName appends the wire form of the presentation form s to dst.
func AppendName(dst []byte, s string) ([]byte, error) {
	start := len(dst)
	if s == "." || s == "" {
		return append(dst, 0), nil
	}
	length := len(dst) // where the current label's length octet stands
	dst = append(dst, 0)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '.':
			n := len(dst) - length - 1
			if n == 0 || n > MaxLabel {
				return dst[:start], ErrName
			}
			dst[length] = byte(n)
			length = len(dst)
			dst = append(dst, 0)
			continue
		case c == '\\' && i+3 < len(s) && isDigit(s[i+1]) && isDigit(s[i+2]) && isDigit(s[i+3]):
			v := int(s[i+1]-'0')*100 + int(s[i+2]-'0')*10 + int(s[i+3]-'0')
			if v > 255 {
				return dst[:start], ErrName
			}
			c = byte(v)
			i += 3
		case c == '\\':
			if i+1 == len(s) {
				return dst[:start], ErrName
			}
			i++
			c = s[i]
		}
		dst = append(dst, c)
	}
	if n := len(dst) - length - 1; n > 0 { // no dot at the end
		if n > MaxLabel {
			return dst[:start], ErrName
		}
		dst[length] = byte(n)
		dst = append(dst, 0)
	}
	if len(dst)-start > MaxName {
		return dst[:start], ErrName
	}
	return dst, nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// AppendText appends the presentation form, with a dot at the end: bytes that are not printable become \DDD, and the
// characters that zone files give a meaning to (RFC 1035, 5.1) are escaped by a backslash.
func (n Name) AppendText(dst []byte) []byte {
	if len(n) <= 1 {
		return append(dst, '.')
	}
	for i := 0; i < len(n) && n[i] != 0; {
		l := int(n[i])
		for _, c := range n[i+1 : i+1+l] {
			switch {
			case c == '.' || c == ' ' || c == '\'' || c == '@' || c == ';' || c == '(' || c == ')' || c == '"' || c == '\\':
				dst = append(dst, '\\', c)
			case c < ' ' || c > '~':
				dst = append(dst, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
			default:
				dst = append(dst, c)
			}
		}
		dst = append(dst, '.')
		i += 1 + l
	}
	return dst
}

// String gives the presentation form. It allocates.
func (n Name) String() string { return string(n.AppendText(nil)) }

// Labels counts the labels, without the root's.
func (n Name) Labels() int {
	count := 0
	for i := 0; i < len(n) && n[i] != 0; i += 1 + int(n[i]) {
		count++
	}
	return count
}

// Parent gives the name without its first label; the root's parent is the root.
func (n Name) Parent() Name {
	if len(n) <= 1 {
		return n
	}
	return n[1+int(n[0]):]
}

// Label gives the first label without its length octet; empty for the root.
func (n Name) Label() []byte {
	if len(n) <= 1 {
		return nil
	}
	return n[1 : 1+int(n[0])]
}

// Equal compares two names without regard to ASCII case (RFC 4343).
func Equal(a, b Name) bool {
	if string(a) == string(b) { // nearly all that are equal
		return true
	}
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] && lower[a[i]] != lower[b[i]] {
			return false
		}
	}
	return true
}

// Under reports whether n is zone or a name below it, label by label and without regard to case. It is the one routine
// for every suffix decision in the program: routing, fallthrough, acl, transfer, cache.
func (n Name) Under(zone Name) bool {
	cut := len(n) - len(zone)
	if len(zone) == 1 || cut < 0 { // everything is under the root
		return cut >= 0
	}
	if !Equal(n[cut:], zone) { // before the labels are walked, because most names are not
		return false
	}
	i := 0
	for i < cut {
		i += 1 + int(n[i])
	}
	return i == cut
}

// Lower appends n in lower case to dst. Length octets are below 64 and so never touched.
func Lower(dst []byte, n Name) []byte {
	for _, c := range n {
		dst = append(dst, lower[c])
	}
	return dst
}

// ToLower lowers b in place.
func ToLower(b []byte) {
	for i, c := range b {
		b[i] = lower[c]
	}
}

// lower maps ASCII capitals to small letters and everything else to itself.
var lower = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
		if 'A' <= i && i <= 'Z' {
			t[i] += 'a' - 'A'
		}
	}
	return t
}()

// Hash is a seeded hash of a lower-case name.
func (n Name) Hash(seed maphash.Seed) uint64 { return maphash.Bytes(seed, n) }

// ReadName appends the name that stands at off in msg, decompressed and in its own case, to dst, and gives the offset
// behind it. Pointers must point to an earlier place than the one they were reached from, so it always ends.
func ReadName(dst []byte, msg []byte, off int) ([]byte, int, error) {
	start, end, floor := len(dst), 0, off
	for {
		if off >= len(msg) {
			return dst[:start], 0, ErrShort
		}
		c := int(msg[off])
		switch {
		case c == 0:
			if len(dst)-start+1 > MaxName {
				return dst[:start], 0, ErrName
			}
			if end == 0 {
				end = off + 1
			}
			return append(dst, 0), end, nil
		case c < 0x40:
			if off+1+c > len(msg) {
				return dst[:start], 0, ErrShort
			}
			if len(dst)-start+1+c >= MaxName {
				return dst[:start], 0, ErrName
			}
			dst = append(dst, msg[off:off+1+c]...)
			off += 1 + c
		case c >= 0xC0:
			if off+2 > len(msg) {
				return dst[:start], 0, ErrShort
			}
			to := (c&0x3F)<<8 | int(msg[off+1])
			if end == 0 {
				end = off + 2
			}
			if to >= floor || to < HeaderSize {
				return dst[:start], 0, ErrPointer
			}
			off, floor = to, to
		default: // 0x40 and 0x80 are not assigned (RFC 6891, 5)
			return dst[:start], 0, ErrName
		}
	}
}

// skipName gives the offset behind the name at off without following pointers.
func skipName(msg []byte, off int) (int, error) {
	for {
		if off >= len(msg) {
			return 0, ErrShort
		}
		c := int(msg[off])
		switch {
		case c == 0:
			return off + 1, nil
		case c < 0x40:
			off += 1 + c
		case c >= 0xC0:
			if off+2 > len(msg) {
				return 0, ErrShort
			}
			return off + 2, nil
		default:
			return 0, ErrName
		}
	}
}
