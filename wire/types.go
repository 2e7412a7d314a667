package wire

import "strconv"

// HeaderSize is the length of a message's header (RFC 1035, 4.1.1).
const HeaderSize = 12

// Type is a record or question type.
type Type uint16

// Class is a record or question class.
type Class uint16

// Rcode is a response code; values above 15 need EDNS (RFC 6891, 6.1.3).
type Rcode uint16

// Opcode is the kind of a message (RFC 1035, 4.1.1).
type Opcode uint8

// Types that the program names.
const (
	TypeNone   Type = 0
	TypeA      Type = 1
	TypeNS     Type = 2
	TypeMD     Type = 3
	TypeMF     Type = 4
	TypeCNAME  Type = 5
	TypeSOA    Type = 6
	TypeMB     Type = 7
	TypeMG     Type = 8
	TypeMR     Type = 9
	TypeNULL   Type = 10
	TypePTR    Type = 12
	TypeHINFO  Type = 13
	TypeMINFO  Type = 14
	TypeMX     Type = 15
	TypeTXT    Type = 16
	TypeRP     Type = 17
	TypeAFSDB  Type = 18
	TypeRT     Type = 21
	TypeSIG    Type = 24
	TypeKEY    Type = 25
	TypePX     Type = 26
	TypeAAAA   Type = 28
	TypeNXT    Type = 30
	TypeSRV    Type = 33
	TypeNAPTR  Type = 35
	TypeKX     Type = 36
	TypeDNAME  Type = 39
	TypeOPT    Type = 41
	TypeDS     Type = 43
	TypeRRSIG  Type = 46
	TypeNSEC   Type = 47
	TypeDNSKEY Type = 48
	TypeNSEC3  Type = 50
	TypeSVCB   Type = 64
	TypeHTTPS  Type = 65
	TypeSPF    Type = 99
	TypeTSIG   Type = 250
	TypeIXFR   Type = 251
	TypeAXFR   Type = 252
	TypeANY    Type = 255
	TypeCAA    Type = 257
)

// Classes.
const (
	ClassIN   Class = 1
	ClassCH   Class = 3
	ClassHS   Class = 4
	ClassNONE Class = 254
	ClassANY  Class = 255
)

// Response codes (RFC 1035, 4.1.1; RFC 2136; RFC 6891; RFC 8945; RFC 7873).
const (
	NoError   Rcode = 0
	FormErr   Rcode = 1
	ServFail  Rcode = 2
	NXDomain  Rcode = 3
	NotImp    Rcode = 4
	Refused   Rcode = 5
	YXDomain  Rcode = 6
	YXRRSet   Rcode = 7
	NXRRSet   Rcode = 8
	NotAuth   Rcode = 9
	NotZone   Rcode = 10
	BadVers   Rcode = 16
	BadCookie Rcode = 23
)

// Opcodes.
const (
	OpQuery  Opcode = 0
	OpIQuery Opcode = 1
	OpStatus Opcode = 2
	OpNotify Opcode = 4
	OpUpdate Opcode = 5
)

// Header bits of the second 16-bit word.
const (
	FlagQR uint16 = 1 << 15
	FlagAA uint16 = 1 << 10
	FlagTC uint16 = 1 << 9
	FlagRD uint16 = 1 << 8
	FlagRA uint16 = 1 << 7
	FlagZ  uint16 = 1 << 6
	FlagAD uint16 = 1 << 5
	FlagCD uint16 = 1 << 4
)

// Section is one of the three record sections of a message.
type Section uint8

// The sections in the order of the message.
const (
	Answer Section = iota
	Authority
	Additional
)

var rcodeNames = map[Rcode]string{
	0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED", 6: "YXDOMAIN", 7: "YXRRSET",
	8: "NXRRSET", 9: "NOTAUTH", 10: "NOTZONE", 11: "DSOTYPENI", 16: "BADVERS", 17: "BADKEY", 18: "BADTIME",
	19: "BADMODE", 20: "BADNAME", 21: "BADALG", 22: "BADTRUNC", 23: "BADCOOKIE",
}

// String gives the mnemonic as in dig's output, "RCODE12345" for a code without one.
func (r Rcode) String() string {
	if s, ok := rcodeNames[r]; ok {
		return s
	}
	return "RCODE" + strconv.Itoa(int(r))
}

// String gives the mnemonic, "CLASS12345" (RFC 3597, 5) for a class without one of its own: ANY is a type as well.
func (c Class) String() string {
	switch c {
	case ClassIN:
		return "IN"
	case 2:
		return "CS"
	case ClassCH:
		return "CH"
	case ClassHS:
		return "HS"
	case ClassNONE:
		return "NONE"
	}
	return "CLASS" + strconv.Itoa(int(c))
}

// typeNames holds the types with a mnemonic, as IANA's registry of RR types has them.
var typeNames = map[Type]string{
	0: "None", 1: "A", 2: "NS", 3: "MD", 4: "MF", 5: "CNAME", 6: "SOA", 7: "MB", 8: "MG", 9: "MR", 10: "NULL", 12: "PTR",
	13: "HINFO", 14: "MINFO", 15: "MX", 16: "TXT", 17: "RP", 18: "AFSDB", 19: "X25", 20: "ISDN", 21: "RT", 23: "NSAP-PTR",
	24: "SIG", 25: "KEY", 26: "PX", 27: "GPOS", 28: "AAAA", 29: "LOC", 30: "NXT", 31: "EID", 32: "NIMLOC", 33: "SRV",
	34: "ATMA", 35: "NAPTR", 36: "KX", 37: "CERT", 39: "DNAME", 41: "OPT", 42: "APL", 43: "DS", 44: "SSHFP", 45: "IPSECKEY",
	46: "RRSIG", 47: "NSEC", 48: "DNSKEY", 49: "DHCID", 50: "NSEC3", 51: "NSEC3PARAM", 52: "TLSA", 53: "SMIMEA", 55: "HIP",
	56: "NINFO", 57: "RKEY", 58: "TALINK", 59: "CDS", 60: "CDNSKEY", 61: "OPENPGPKEY", 62: "CSYNC", 63: "ZONEMD", 64: "SVCB",
	65: "HTTPS", 99: "SPF", 100: "UINFO", 101: "UID", 102: "GID", 103: "UNSPEC", 104: "NID", 105: "L32", 106: "L64", 107: "LP",
	108: "EUI48", 109: "EUI64", 128: "NXNAME", 249: "TKEY", 250: "TSIG", 251: "IXFR", 252: "AXFR", 253: "MAILB", 254: "MAILA",
	255: "ANY", 256: "URI", 257: "CAA", 258: "AVC", 260: "AMTRELAY", 261: "RESINFO", 32768: "TA", 32769: "DLV",
	65535: "Reserved",
}

// String gives the mnemonic, "TYPE12345" (RFC 3597, 5) for a type without one.
func (t Type) String() string {
	if s, ok := typeNames[t]; ok {
		return s
	}
	return "TYPE" + strconv.Itoa(int(t))
}

// ParseType reads a type's mnemonic in capitals, or TYPE12345.
func ParseType(s string) (Type, bool) {
	for t, name := range typeNames {
		if name == s {
			return t, true
		}
	}
	if len(s) > 4 && s[:4] == "TYPE" {
		if v, err := strconv.ParseUint(s[4:], 10, 16); err == nil {
			return Type(v), true
		}
	}
	return 0, false
}

// ParseClass reads a class's mnemonic in capitals.
func ParseClass(s string) (Class, bool) {
	if s == "ANY" {
		return ClassANY, true
	}
	for _, c := range []Class{ClassIN, 2, ClassCH, ClassHS, ClassNONE} {
		if c.String() == s {
			return c, true
		}
	}
	return 0, false
}

// ParseRcode reads a response code's mnemonic in capitals.
func ParseRcode(s string) (Rcode, bool) {
	for r, name := range rcodeNames {
		if name == s {
			return r, true
		}
	}
	return 0, false
}

// Label is the mnemonic as metrics and logs have it: the bare number for a code without one.
func (r Rcode) Label() string {
	if r == BadVers {
		return "BADSIG" // TSIG's name for the same number (RFC 8945, 3), which is what CoreDNS counts under
	}
	if s, ok := rcodeNames[r]; ok {
		return s
	}
	return strconv.Itoa(int(r))
}
