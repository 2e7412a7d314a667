package hostnet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What x/sys has not, from the kernel's linux/netfilter/nf_tables.h.
const (
	tableOwner = 0x2 // NFT_TABLE_F_OWNER, Linux 5.12: the table goes with the socket that made it

	attrTableOwner   = 7 // NFTA_TABLE_OWNER: that socket's port
	dynsetDelete     = 2 // NFT_DYNSET_OP_DELETE
	commentUserdata  = 0 // of a rule, as the nft program reads it
	mostUserdataText = 200

	ctUntracked = 1 << 6 // NF_CT_STATE_UNTRACKED_BIT, of the machine's order

	nfDrop   = 0 // verdicts and policies
	nfAccept = 1
)

// nfTables is the netlink side of nf_tables.
type nfTables struct{ t transport }

func nfMessage(kind, flags uint16, family byte, parts ...[]byte) message {
	head := []byte{family, 0, 0, 0}
	return message{unix.NFNL_SUBSYS_NFTABLES<<8 | kind, flags, append(head, slices.Concat(parts...)...)}
}

func nfFrame(kind uint16) message {
	return message{kind, 0, append([]byte{unix.AF_UNSPEC, 0}, be16(unix.NFNL_SUBSYS_NFTABLES)...)}
}

// transaction is what the kernel does whole or not at all. Each message in it is acknowledged.
type transaction []message

func (t *transaction) add(kind, flags uint16, family byte, parts ...[]byte) {
	*t = append(*t, nfMessage(kind, flags|unix.NLM_F_ACK, family, parts...))
}

// commit carries a transaction out.
func (n nfTables) commit(t transaction) error {
	if len(t) == 0 {
		return nil
	}
	_, err := n.t.talk(slices.Concat([]message{nfFrame(unix.NFNL_MSG_BATCH_BEGIN)}, t, []message{nfFrame(unix.NFNL_MSG_BATCH_END)})...)
	return err
}

// try has the kernel check a transaction without carrying it out: one that is not ended is undone.
func (n nfTables) try(t transaction) error {
	_, err := n.t.talk(slices.Concat([]message{nfFrame(unix.NFNL_MSG_BATCH_BEGIN)}, t)...)
	return err
}

func (t *transaction) table(family byte, name string, flags uint32) {
	t.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, family, str(unix.NFTA_TABLE_NAME, name), attr(unix.NFTA_TABLE_FLAGS, be32(flags)))
}

func (t *transaction) dropTable(family byte, name string) {
	t.add(unix.NFT_MSG_DELTABLE, 0, family, str(unix.NFTA_TABLE_NAME, name))
}

// hook is where a base chain stands: its type, the netfilter hook and the priority there.
type hook struct {
	kind     string
	hook     uint32
	priority int32
}

func (t *transaction) chain(table, name string, h *hook) {
	parts := [][]byte{str(unix.NFTA_CHAIN_TABLE, table), str(unix.NFTA_CHAIN_NAME, name)}
	if h != nil {
		parts = append(parts, str(unix.NFTA_CHAIN_TYPE, h.kind), attr(unix.NFTA_CHAIN_POLICY, be32(nfAccept)),
			nest(unix.NFTA_CHAIN_HOOK, attr(unix.NFTA_HOOK_HOOKNUM, be32(h.hook)), attr(unix.NFTA_HOOK_PRIORITY, be32(uint32(h.priority)))))
	}
	t.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, unix.NFPROTO_INET, parts...)
}

// set is a named set, or a map. Elements of one with a lifetime are added by packets.
type set struct {
	name     string
	key      uint32 // what the nft program prints elements as
	keyLen   uint32 // octets
	data     uint32 // the same for what a map has for them; 0: it is no map
	dataLen  uint32
	lifetime time.Duration
	size     uint32
}

func (t *transaction) set(table string, s set, elements ...[]byte) {
	id := attr(unix.NFTA_SET_ID, be32(uint32(len(*t))))
	parts := [][]byte{str(unix.NFTA_SET_TABLE, table), str(unix.NFTA_SET_NAME, s.name), id,
		attr(unix.NFTA_SET_KEY_TYPE, be32(s.key)), attr(unix.NFTA_SET_KEY_LEN, be32(s.keyLen))}
	var flags uint32
	if s.lifetime > 0 {
		flags = unix.NFT_SET_EVAL | unix.NFT_SET_TIMEOUT
		parts = append(parts, attr(unix.NFTA_SET_TIMEOUT, be64(uint64(s.lifetime.Milliseconds()))),
			nest(unix.NFTA_SET_DESC, attr(unix.NFTA_SET_DESC_SIZE, be32(s.size))))
	}
	if s.data != 0 {
		flags |= unix.NFT_SET_MAP
		parts = append(parts, attr(unix.NFTA_SET_DATA_TYPE, be32(s.data)), attr(unix.NFTA_SET_DATA_LEN, be32(s.dataLen)))
	}
	parts = append(parts, attr(unix.NFTA_SET_FLAGS, be32(flags)))
	t.add(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, unix.NFPROTO_INET, parts...)
	if len(elements) > 0 {
		t.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, table, s.name, elements...)
	}
}

func (t *transaction) elements(kind, flags uint16, table, set string, elements ...[]byte) {
	parts := [][]byte{str(unix.NFTA_SET_ELEM_LIST_TABLE, table), str(unix.NFTA_SET_ELEM_LIST_SET, set)}
	var list [][]byte
	for _, e := range elements {
		list = append(list, nest(unix.NFTA_LIST_ELEM, nest(unix.NFTA_SET_ELEM_KEY, attr(unix.NFTA_DATA_VALUE, e))))
	}
	if len(list) > 0 {
		parts = append(parts, nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, list...))
	}
	t.add(kind, flags, unix.NFPROTO_INET, parts...)
}

// emptySet takes every element out.
func (t *transaction) emptySet(table, set string) {
	t.elements(unix.NFT_MSG_DELSETELEM, 0, table, set)
}

// emptyChain deletes a chain's rules.
func (t *transaction) emptyChain(table, chain string) {
	t.add(unix.NFT_MSG_DELRULE, 0, unix.NFPROTO_INET, str(unix.NFTA_RULE_TABLE, table), str(unix.NFTA_RULE_CHAIN, chain))
}

// rule adds a rule at a chain's end.
func (t *transaction) rule(table, chain string, expressions ...[]byte) {
	t.ruleIn(unix.NFPROTO_INET, unix.NLM_F_APPEND, table, chain, "", expressions...)
}

// ruleIn adds a rule to any table: at the chain's head, or with NLM_F_APPEND at its end. The comment is what we know it by.
func (t *transaction) ruleIn(family byte, flags uint16, table, chain, comment string, expressions ...[]byte) {
	parts := [][]byte{str(unix.NFTA_RULE_TABLE, table), str(unix.NFTA_RULE_CHAIN, chain), nest(unix.NFTA_RULE_EXPRESSIONS, expressions...)}
	if comment != "" {
		comment = comment[:min(len(comment), mostUserdataText)]
		parts = append(parts, attr(unix.NFTA_RULE_USERDATA, []byte{commentUserdata, byte(len(comment) + 1)}, []byte(comment), []byte{0}))
	}
	t.add(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|flags, family, parts...)
}

func (t *transaction) dropRule(r nfRule) {
	t.add(unix.NFT_MSG_DELRULE, 0, r.family, str(unix.NFTA_RULE_TABLE, r.table), str(unix.NFTA_RULE_CHAIN, r.chain), attr(unix.NFTA_RULE_HANDLE, be64(r.handle)))
}

// nfTable is a table that is there.
type nfTable struct {
	family byte
	name   string
	owned  bool // by some program's socket; nobody else can change it
}

func (n nfTables) tables() (list []nfTable, err error) {
	answers, err := n.dump(nfMessage(unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP, unix.NFPROTO_UNSPEC))
	for _, a := range answers {
		all := attrs(a.body[4:])
		list = append(list, nfTable{a.body[0], text(all[unix.NFTA_TABLE_NAME]),
			number(all[unix.NFTA_TABLE_FLAGS])&tableOwner != 0 || all[attrTableOwner] != nil})
	}
	return list, err
}

// nfChain is a base chain that is there.
type nfChain struct {
	family      byte
	table, name string
	kind        string
	hook        uint32
	policy      uint32
}

// baseChains lists the chains that stand at a hook.
func (n nfTables) baseChains() (list []nfChain, err error) {
	answers, err := n.dump(nfMessage(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, unix.NFPROTO_UNSPEC))
	for _, a := range answers {
		all := attrs(a.body[4:])
		if all[unix.NFTA_CHAIN_HOOK] == nil {
			continue
		}
		list = append(list, nfChain{a.body[0], text(all[unix.NFTA_CHAIN_TABLE]), text(all[unix.NFTA_CHAIN_NAME]), text(all[unix.NFTA_CHAIN_TYPE]),
			uint32(number(attrs(all[unix.NFTA_CHAIN_HOOK])[unix.NFTA_HOOK_HOOKNUM])), uint32(number(all[unix.NFTA_CHAIN_POLICY]))})
	}
	return list, err
}

// nfRule is a rule that is there.
type nfRule struct {
	family       byte
	table, chain string
	handle       uint64
	comment      string // the nft program's; empty for rules of iptables
	whole        []byte // all its attributes, to look for a text that iptables keeps in an expression
	expressions  []nfExpression
}

// nfExpression is one expression of a rule: its name and its attributes.
type nfExpression struct {
	name string
	data map[uint16][]byte
}

// rules lists the rules of a table, or of one chain of it. A table that is not there has none.
func (n nfTables) rules(family byte, table, chain string) (list []nfRule, err error) {
	parts := [][]byte{str(unix.NFTA_RULE_TABLE, table)}
	if chain != "" {
		parts = append(parts, str(unix.NFTA_RULE_CHAIN, chain))
	}
	answers, err := n.dump(nfMessage(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, family, parts...))
	for _, a := range answers {
		all := attrs(a.body[4:])
		r := nfRule{family: a.body[0], table: text(all[unix.NFTA_RULE_TABLE]), chain: text(all[unix.NFTA_RULE_CHAIN]),
			handle: number(all[unix.NFTA_RULE_HANDLE]), whole: a.body}
		if r.table != table || chain != "" && r.chain != chain {
			continue // kernels before 4.5 list all
		}
		if u := all[unix.NFTA_RULE_USERDATA]; len(u) > 2 && u[0] == commentUserdata && int(u[1])+2 <= len(u) {
			r.comment = text(u[2 : 2+u[1]])
		}
		for _, e := range eachAttr(all[unix.NFTA_RULE_EXPRESSIONS]) {
			parts := attrs(e)
			r.expressions = append(r.expressions, nfExpression{text(parts[unix.NFTA_EXPR_NAME]), attrs(parts[unix.NFTA_EXPR_DATA])})
		}
		list = append(list, r)
	}
	return list, err
}

// absent is a kernel without nf_tables.
type absent struct{ socket transport } // nil: it has not even netfilter's netlink

func (absent) talk(...message) ([]message, error) { return nil, unix.EOPNOTSUPP }

func (a absent) close() error {
	if a.socket == nil {
		return nil
	}
	return a.socket.close()
}

// hasChain reports whether a chain of IPv4 or IPv6, so one of iptables-nft, has a name that begins so.
func (n nfTables) hasChain(prefix string) (bool, error) {
	answers, err := n.dump(nfMessage(unix.NFT_MSG_GETCHAIN, unix.NLM_F_DUMP, unix.NFPROTO_UNSPEC))
	return slices.ContainsFunc(answers, func(a message) bool {
		ip := a.body[0] == unix.NFPROTO_IPV4 || a.body[0] == unix.NFPROTO_IPV6
		return ip && strings.HasPrefix(text(attrs(a.body[4:])[unix.NFTA_CHAIN_NAME]), prefix)
	}), err
}

// dump asks for a list. Where there is nothing of the kind, or no nf_tables, it is empty.
func (n nfTables) dump(m message) ([]message, error) {
	answers, err := n.t.talk(m)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the nftables rules of the node: %w", err)
	}
	return slices.DeleteFunc(answers, func(a message) bool { return len(a.body) < 4 }), nil
}

// held lists the keys that are in a set of ours now. A set that is not there is empty.
func (n nfTables) held(table, set string) (keys [][]byte, err error) {
	answers, err := n.dump(nfMessage(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, unix.NFPROTO_INET,
		str(unix.NFTA_SET_ELEM_LIST_TABLE, table), str(unix.NFTA_SET_ELEM_LIST_SET, set)))
	for _, a := range answers {
		for _, e := range eachAttr(attrs(a.body[4:])[unix.NFTA_SET_ELEM_LIST_ELEMENTS]) {
			all := attrs(e)
			if left := all[unix.NFTA_SET_ELEM_EXPIRATION]; left != nil && number(left) == 0 {
				continue // over, and not yet swept
			}
			keys = append(keys, attrs(all[unix.NFTA_SET_ELEM_KEY])[unix.NFTA_DATA_VALUE])
		}
	}
	return keys, err
}

// changer reads which program made a new generation of the rules, from the notice of it.
func changer(m message) (name string, ok bool) {
	if m.kind != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN || len(m.body) < 4 {
		return "", false
	}
	return text(attrs(m.body[4:])[unix.NFTA_GEN_PROC_NAME]), true
}
