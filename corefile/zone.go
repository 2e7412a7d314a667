package corefile

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"unicode/utf8"
)

// splitZone splits ZONE[:PORT]. A zone in CIDR notation becomes the reverse zones that cover it. The zones are as
// written otherwise: neither lower-case nor qualified.
func splitZone(s string) (zones []string, port string, err error) {
	colon := strings.LastIndexByte(s, ':')
	if colon == len(s)-1 { // also true of the empty string
		if s == "" {
			return nil, "", errors.New("it is empty")
		}
		return nil, "", errors.New("no port follows the last colon")
	}
	if colon >= 0 {
		if n, err := strconv.Atoi(s[colon+1:]); err == nil {
			s, port = s[:colon], strconv.Itoa(n)
		}
	}
	if len(s) > 255 {
		return nil, "", fmt.Errorf("%d characters are more than a name may have (255)", len(s))
	}
	if !validName(s) {
		return nil, "", errors.New("it is not a valid domain name")
	}
	_, network, err := net.ParseCIDR(s)
	if err != nil {
		return []string{s}, port, nil
	}
	if strings.Contains(s, ":") && (s[0] == ':' || s[0] == '0') {
		return nil, "", fmt.Errorf("the network %s begins with zeros, which CoreDNS refuses", s)
	}
	return reverseZones(network), port, nil
}

// reverseZones returns the zones below in-addr.arpa (RFC 1035 §3.5) or ip6.arpa (RFC 3596 §2.5) that cover network, each
// at a label boundary: at most 128 for IPv4, 8 for IPv6.
func reverseZones(network *net.IPNet) []string {
	ip, digit, suffix := network.IP.To4(), 8, "in-addr.arpa."
	if ip == nil {
		ip, digit, suffix = network.IP.To16(), 4, "ip6.arpa."
	}
	ones, _ := network.Mask.Size()
	labels := (ones + digit - 1) / digit
	free := labels*digit - ones // bits of the last label that the network leaves open
	zones := make([]string, 1<<free)
	for i := range zones {
		var b strings.Builder
		for label := labels - 1; label >= 0; label-- {
			value := int(ip[label*digit/8])
			if digit == 4 {
				value = value >> (4 * (1 - label%2)) & 15
			}
			if label == labels-1 {
				value += i // the open bits are zero in a network's own address
			}
			if digit == 4 {
				b.WriteString(strconv.FormatInt(int64(value), 16))
			} else {
				b.WriteString(strconv.Itoa(value))
			}
			b.WriteByte('.')
		}
		zones[i] = b.String() + suffix
	}
	return zones
}

// normal returns name lower-case and fully qualified.
func normal(name string) string { return strings.ToLower(fqdn(name)) }

// fqdn ends name in a dot that no backslash escapes (RFC 1035 §5.1). Like CoreDNS it counts the bytes of the character
// before the backslashes with them, so a non-ASCII one may turn the verdict.
func fqdn(name string) string {
	bare, dotted := strings.CutSuffix(name, ".")
	if !dotted {
		return name + "."
	}
	if !strings.HasSuffix(bare, `\`) {
		return name
	}
	before := strings.TrimRight(bare, `\`)
	_, width := utf8.DecodeLastRuneInString(before)
	if (len(bare)-len(before)+max(width, 1))%2 == 1 {
		return name
	}
	return name + "."
}

// validName reports whether name can be a zone: labels of at most 63 bytes (RFC 1035 §2.3.4), escapes as in §5.1, and as
// in CoreDNS any byte in a label. The caller has bounded the whole length.
func validName(name string) bool {
	if name == "" {
		return false
	}
	name = fqdn(name)
	if name == "." {
		return true
	}
	label := 0
	escaped := false // by an odd number of escapes in a row, which is how CoreDNS notices that one took the final dot
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '.':
			if label == 0 || label > 63 {
				return false
			}
			label, escaped = 0, false
			continue
		case '\\':
			escaped = !escaped
			if isDecimal(name[i+1:]) {
				i += 3
			} else {
				i++
			}
		default:
			escaped = false
		}
		label++
	}
	return !escaped
}

// isDecimal reports whether s begins with three digits, the \DDD of a zone file.
func isDecimal(s string) bool {
	if len(s) < 3 {
		return false
	}
	for i := range 3 {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}
