package rewrite

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// What a rule does with an option.
const (
	actReplace = "replace" // when it is there
	actSet     = "set"     // whether or not it is there
	actAppend  = "append"  // beside those that are there
	actUnset   = "unset"   // take it away
)

// optionRule changes one EDNS option of queries. Data gives what to put into it, false when the rule can't be applied.
type optionRule struct {
	action string
	code   uint16
	data   func(q *chain.Query) ([]byte, bool)
	// seen says that an option of this code that is there counts as such; CoreDNS does not find the options that it has
	// a type of its own for when a rule treats them as local ones.
	seen   bool
	once   bool // append does nothing when the option is there
	revert bool
}

func (r *optionRule) apply(q *chain.Query, s *state) (bool, error) {
	var data []byte
	if r.action != actUnset {
		var ok bool
		if data, ok = r.data(q); !ok {
			return false, nil
		}
	}
	if !q.EDNS.Present { // as in CoreDNS the client then gets an OPT record, too
		q.EDNS = wire.EDNS{Present: true, Size: 4096}
	}
	list := slices.Clone(q.EDNS.Options)
	if r.action == actUnset {
		q.SetOptions(without(list, func(code uint16, _ int) bool { return code == r.code }))
		return true, nil
	}
	if r.seen {
		if old, ok := wire.Option(list, r.code); ok {
			if r.action == actReplace || r.action == actSet {
				if r.revert {
					s.later(&optionBack{code: r.code, data: slices.Clone(old)})
				}
				q.SetOptions(replaced(list, r.code, data))
				return true, nil
			}
			if r.once {
				return false, nil
			}
		}
	}
	if r.action == actReplace {
		return false, nil
	}
	q.SetOptions(wire.AppendOption(list, r.code, data))
	if r.revert {
		s.later(&optionBack{code: r.code, gone: true})
	}
	return true, nil
}

// optionBack puts an option of the reply back as the client sent it, or takes away the one that a rule added.
type optionBack struct {
	code uint16
	data []byte
	gone bool
}

func (*optionBack) record(*reversal, *wire.Record) {}

func (u *optionBack) options(list []byte) []byte {
	if !u.gone {
		return replaced(list, u.code, u.data)
	}
	last := -1 // the rule put its own behind the client's
	for at := list; len(at) > 0; {
		code, _, rest := wire.NextOption(at)
		if code == u.code {
			last = len(list) - len(at)
		}
		at = rest
	}
	return without(list, func(_ uint16, at int) bool { return at == last })
}

// without gives a list without the options that drop says, by their code and where they stand in the list.
func without(list []byte, drop func(code uint16, at int) bool) []byte {
	var out []byte
	for at := list; len(at) > 0; {
		code, data, rest := wire.NextOption(at)
		if !drop(code, len(list)-len(at)) {
			out = wire.AppendOption(out, code, data)
		}
		at = rest
	}
	return out
}

// replaced gives a list with other data in the first option of a code.
func replaced(list []byte, code uint16, with []byte) []byte {
	var out []byte
	for done := false; len(list) > 0; {
		c, data, rest := wire.NextOption(list)
		if c == code && !done {
			data, done = with, true
		}
		out = wire.AppendOption(out, c, data)
		list = rest
	}
	return out
}

// newEDNS0 reads: local|nsid|subnet append|replace|set|unset [ARGUMENT...] [revert]
func newEDNS0(s *chain.Setup, args []string) (rule, error) {
	if len(args) < 2 {
		return nil, fmt.Errorf("too few arguments for an EDNS0 rule")
	}
	kind, action := strings.ToLower(args[0]), strings.ToLower(args[1])
	r := &optionRule{action: action}
	switch action {
	case actAppend, actReplace, actSet:
		if args[len(args)-1] == "revert" {
			r.revert = true
			args = args[:len(args)-1]
		}
	case actUnset:
	default:
		return nil, fmt.Errorf("invalid action: %q", action)
	}
	args = args[2:]
	switch kind {
	case "local":
		return newLocal(s, r, args)
	case "nsid":
		if len(args) != 0 {
			return nil, fmt.Errorf("EDNS0 nsid rules take no value")
		}
		r.code, r.seen = wire.OptionNSID, true
		r.data = func(*chain.Query) ([]byte, bool) { return nil, true } // empty in queries (RFC 5001, 2.1)
		return r, nil
	case "subnet":
		return newSubnet(r, args)
	}
	return nil, fmt.Errorf("invalid rule type %q", kind)
}

// newLocal reads CODE DATA, CODE 0xHEX or CODE {VARIABLE}; CODE alone for unset.
func newLocal(s *chain.Setup, r *optionRule, args []string) (rule, error) {
	want := 2
	if r.action == actUnset {
		want = 1
	}
	if len(args) != want {
		return nil, fmt.Errorf("EDNS0 local %s rules take %d arguments, not %d", r.action, want, len(args))
	}
	code, err := strconv.ParseUint(args[0], 0, 16)
	if err != nil {
		return nil, fmt.Errorf("%q is no option code from 0 to 65535", args[0])
	}
	r.code, r.seen = uint16(code), isLocal(uint16(code))
	s.EchoOption(r.code)
	if r.action == actUnset {
		return r, nil
	}
	text := args[1]
	if strings.HasPrefix(text, "{") && strings.HasSuffix(text, "}") {
		r.once = true
		r.data, err = newVariable(s, text)
		return r, err
	}
	data := []byte(text)
	if digits, ok := strings.CutPrefix(text, "0x"); ok {
		if data, err = hex.DecodeString(digits); err != nil {
			return nil, fmt.Errorf("%q is not hexadecimal", text)
		}
	}
	r.data = func(*chain.Query) ([]byte, bool) { return data, true }
	return r, nil
}

// isLocal reports whether CoreDNS has no type of its own for an option.
func isLocal(code uint16) bool {
	switch {
	case code >= 1 && code <= 12, code == 15, code == 18, code == 19: // those of IANA's registry that its library names
		return false
	}
	return true
}

// newVariable reads {qname} and its kin, or {NAME/LABEL} for metadata.
func newVariable(s *chain.Setup, text string) (func(q *chain.Query) ([]byte, bool), error) {
	switch name := text[1 : len(text)-1]; name {
	case "qname":
		return func(q *chain.Query) ([]byte, bool) {
			if q.Renamed() {
				return q.Name().AppendText(nil), true
			}
			return q.OriginalName().AppendText(nil), true
		}, nil
	case "qtype":
		return func(q *chain.Query) ([]byte, bool) { return binary.BigEndian.AppendUint16(nil, uint16(q.Type)), true }, nil
	case "client_ip":
		return func(q *chain.Query) ([]byte, bool) { return q.Client.Addr().Unmap().AsSlice(), q.Client.IsValid() }, nil
	case "server_ip":
		return func(q *chain.Query) ([]byte, bool) { return q.Local.Addr().Unmap().AsSlice(), q.Local.IsValid() }, nil
	case "client_port":
		return func(q *chain.Query) ([]byte, bool) { return binary.BigEndian.AppendUint16(nil, q.Client.Port()), true }, nil
	case "server_port":
		return func(q *chain.Query) ([]byte, bool) { return binary.BigEndian.AppendUint16(nil, q.Local.Port()), true }, nil
	case "protocol":
		return func(q *chain.Query) ([]byte, bool) { return []byte(q.Proto.String()), true }, nil
	default:
		if slash := strings.Index(name, "/"); slash <= 0 || slash == len(name)-1 {
			return nil, fmt.Errorf("unsupported variable name %q", text)
		}
		return metadata(s, name), nil
	}
}

// metadata reads what another directive of the block provides; who does is known when the block has been set up.
func metadata(s *chain.Setup, name string) func(q *chain.Query) ([]byte, bool) {
	var read func(q *chain.Query) string
	s.OnBuilt(func() error {
		read = s.Block.Metadata(name)
		return nil
	})
	return func(q *chain.Query) ([]byte, bool) {
		if read == nil {
			return nil, false
		}
		v := read(q)
		return []byte(v), v != ""
	}
}

// newSubnet reads V4BITS V6BITS, nothing for unset (RFC 7871, 6).
func newSubnet(r *optionRule, args []string) (rule, error) {
	r.code, r.seen, r.once = wire.OptionECS, true, true
	if r.action == actUnset {
		if len(args) != 0 {
			return nil, fmt.Errorf("EDNS0 subnet unset rules take no value")
		}
		return r, nil
	}
	if len(args) != 2 {
		return nil, fmt.Errorf("EDNS0 subnet rules take two prefix lengths")
	}
	v4, err := strconv.ParseUint(args[0], 0, 16)
	if err != nil || v4 > 32 {
		return nil, fmt.Errorf("invalid IPv4 bit mask length %s", args[0])
	}
	v6, err := strconv.ParseUint(args[1], 0, 16)
	if err != nil || v6 > 128 {
		return nil, fmt.Errorf("invalid IPv6 bit mask length %s", args[1])
	}
	r.data = func(q *chain.Query) ([]byte, bool) {
		addr := q.Client.Addr().Unmap().WithZone("")
		if addr.Is4() {
			return subnet(addr, 1, int(v4)), true
		}
		return subnet(addr, 2, int(v6)), addr.IsValid()
	}
	return r, nil
}

// subnet makes the data of a client subnet option: as many octets of the address as the prefix needs.
func subnet(addr netip.Addr, family byte, bits int) []byte {
	p, err := addr.Prefix(bits)
	if err != nil {
		return nil
	}
	return append([]byte{0, family, byte(bits), 0}, p.Addr().AsSlice()[:(bits+7)/8]...)
}
