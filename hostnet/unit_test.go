package hostnet

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// recorder is a kernel that takes everything down and has dummy interfaces, which the machines that run these tests may
// not have.
type recorder struct {
	said  []string
	kinds []string // types of interfaces that it has
	made  string   // type of the interface there is
	up    bool
	alias string
	on    []netip.Addr
}

func (r *recorder) close() error { return nil }

func (r *recorder) talk(msgs ...message) (answers []message, err error) {
	for _, m := range msgs {
		switch m.kind {
		case unix.RTM_GETLINK:
			if r.made == "" {
				return nil, &kernelError{errno: unix.ENODEV}
			}
			flags := uint32(0)
			if r.up {
				flags = unix.IFF_UP
			}
			answers = append(answers, message{kind: unix.RTM_NEWLINK, body: slices.Concat(ifinfo(7, flags, 0), str(unix.IFLA_IFNAME, "nodelocaldns"),
				str(unix.IFLA_IFALIAS, r.alias), nest(unix.IFLA_LINKINFO, str(unix.IFLA_INFO_KIND, r.made)))})
		case unix.RTM_GETADDR:
			for _, ip := range r.on {
				m := addressMessage(unix.RTM_NEWADDR, 0, 7, netip.PrefixFrom(ip, ip.BitLen()))
				answers = append(answers, m)
			}
		case unix.RTM_NEWLINK:
			err = r.newLink(m)
		case unix.RTM_DELLINK:
			r.say("remove link")
		case unix.RTM_NEWADDR, unix.RTM_DELADDR:
			r.address(m)
		default:
			r.say(fmt.Sprintf("message %d", m.kind))
		}
		if err != nil {
			return nil, err
		}
	}
	return answers, nil
}

func (r *recorder) say(s string) { r.said = append(r.said, s) }

func (r *recorder) newLink(m message) error {
	all := attrs(m.body[unix.SizeofIfInfomsg:])
	switch kind := text(attrs(all[unix.IFLA_LINKINFO])[unix.IFLA_INFO_KIND]); {
	case kind != "":
		r.say("make " + kind + " " + text(all[unix.IFLA_IFNAME]))
		if !slices.Contains(r.kinds, kind) {
			return &kernelError{errno: unix.EOPNOTSUPP}
		}
		r.made = kind
	case all[unix.IFLA_AF_SPEC] != nil:
		r.say("no addresses of its own")
	case all[unix.IFLA_IFALIAS] != nil:
		r.alias = text(all[unix.IFLA_IFALIAS])
		r.say("alias " + r.alias)
	default:
		r.up = true
		r.say("up")
	}
	return nil
}

func (r *recorder) address(m message) {
	_, x, _ := readAddress(m)
	if m.kind == unix.RTM_DELADDR {
		r.say("take " + x.addr.String())
		return
	}
	all := attrs(m.body[unix.SizeofIfAddrmsg:])
	info := all[unix.IFA_CACHEINFO]
	r.on = append(r.on, x.addr.Addr())
	r.say(fmt.Sprintf("put %s scope %d preferred %x valid %x flags %x", x.addr, m.body[3], info[:4], info[4:8], all[unix.IFA_FLAGS]))
}

func recorded(t *testing.T, kinds ...string) (*Host, *recorder) {
	t.Helper()
	cfg := spec(Addresses).config(nil)
	cfg.setDefaults()
	r := &recorder{kinds: kinds}
	h := newHost(cfg, r, absent{})
	h.proc = t.TempDir()
	return h, r
}

func TestInterfaceIsDummy(t *testing.T) {
	h, r := recorded(t, "dummy", "bridge")
	if err := h.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := h.Down(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"make dummy nodelocaldns", "alias godwit", "no addresses of its own", "up",
		"put 169.254.20.10/32 scope 200 preferred 00000000 valid 0f000000 flags 02020000",
		"put 10.96.0.10/32 scope 200 preferred 00000000 valid 0f000000 flags 02020000",
		"put fd96::10/128 scope 0 preferred 00000000 valid 0f000000 flags 02020000",
		"take 169.254.20.10/32", "take 10.96.0.10/32", "take fd96::10/128", "remove link",
	}
	if !slices.Equal(r.said, want) {
		t.Errorf("the kernel was told\n%s\nnot\n%s", strings.Join(r.said, "\n"), strings.Join(want, "\n"))
	}
}

// node-cache's interface is taken as it is: up, with an address, without an alias.
func TestDummyIsAdopted(t *testing.T) {
	h, r := recorded(t)
	r.made, r.up, r.on = "dummy", true, []netip.Addr{serviceIP[0]}
	if err := h.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(r.said) != 4 || r.said[0] != "alias godwit" {
		t.Errorf("the kernel was told\n%s", strings.Join(r.said, "\n"))
	}
	r.said = nil
	if repaired, err := h.keepLink(false); err != nil || len(repaired) > 0 || len(r.said) > 0 {
		t.Errorf("what is right is %v, %v, and the kernel was told %v", repaired, err, r.said)
	}
}

func TestNoInterfaceType(t *testing.T) {
	h, r := recorded(t)
	if err := h.Up(t.Context()); !errors.Is(err, unix.EOPNOTSUPP) {
		t.Errorf("without any type: %v", err)
	}
	if want := []string{"make dummy nodelocaldns", "make bridge nodelocaldns", "make ifb nodelocaldns"}; !slices.Equal(r.said, want) {
		t.Errorf("tried %v", r.said)
	}
}

func TestConfig(t *testing.T) {
	good := func() Config {
		c := spec(NFTables).config(nil)
		c.setDefaults()
		return c
	}
	c := good()
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	if c.Interface != "nodelocaldns" || c.Port != 53 || c.Lease != 1500*time.Millisecond || !slices.Equal(c.Alone, []netip.Addr{aloneIP}) {
		t.Errorf("defaults: %+v", c)
	}
	for what, spoil := range map[string]func(c *Config){
		"id":             func(c *Config) { c.ID = "agent" },
		"interface name": func(c *Config) { c.Interface = "sixteen-letters-" },
		"lifetime":       func(c *Config) { c.Lifetime = 1500 * time.Millisecond },
		"lease 10ms":     func(c *Config) { c.Lease = 10 * time.Millisecond },
		"iptables 1s":    func(c *Config) { c.Mode, c.Lease = IPTables, 900*time.Millisecond },
		"no local":       func(c *Config) { c.Addresses = nil },
		"without naming": func(c *Config) { c.Addresses = append(c.Addresses, netip.MustParseAddr("fe80::1")) },
		"local address":  func(c *Config) { c.Addresses = append(c.Addresses, netip.MustParseAddr("127.0.0.1")) },
		"no probe port":  func(c *Config) { c.ProbePort6 = 0 },
		"to fall back":   func(c *Config) { c.Alone = serverIP[:1] },
		"fallback":       func(c *Config) { c.Fallback = serviceIP[:1] },
		"there is no":    func(c *Config) { c.Mode = 9 },
	} {
		c := good()
		spoil(&c)
		if err := c.check(); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for m := NFTables; m <= Nothing; m++ {
		if got, err := ParseMode(m.String()); err != nil || got != m {
			t.Errorf("%v is read as %v, %v", m, got, err)
		}
	}
	if _, err := ParseMode("ipvs"); err == nil {
		t.Error("there is no mode ipvs")
	}
}

func TestRecent(t *testing.T) {
	now := time.Now()
	line := func(stamp int) string {
		return fmt.Sprintf("src=fd96:0000:0000:0000:0000:0000:0000:0010 ttl: 64 last_seen: %d oldest_pkt: 1 %[1]d", stamp)
	}
	r := newRecent(1500 * time.Millisecond)
	for i, step := range []struct {
		stamp int
		after time.Duration
		holds bool
	}{
		{1, 0, false},                      // of unknown age
		{1, 500 * time.Millisecond, false}, //
		{2, 1000 * time.Millisecond, true},
		{2, 1900 * time.Millisecond, true},
		{2, 2000 * time.Millisecond, false}, // seconds are whole
		{3, 2100 * time.Millisecond, true},
	} {
		ip, holds := r.note(line(step.stamp), now.Add(step.after))
		if ip != serviceIP[1] || holds != step.holds {
			t.Errorf("step %d: %v holds: %v", i, ip, holds)
		}
	}
	r.looked = true
	if ip, holds := r.note("src=10.96.0.10 ttl: 64 last_seen: 5 oldest_pkt: 1 5", now); ip != serviceIP[0] || !holds {
		t.Errorf("an address that was not there before: %v holds: %v", ip, holds)
	}
	for _, bad := range []string{"", "src=x ttl: 64 last_seen: 5", "something else"} {
		if ip, holds := r.note(bad, now); ip.IsValid() || holds {
			t.Errorf("%q is read as %v, %v", bad, ip, holds)
		}
	}
}

func TestComments(t *testing.T) {
	own := ipRule{table: "raw", chain: "OUTPUT", spec: "-s 10.0.0.1 -j NOTRACK", what: "probe", id: "00c0ffee"}
	shared := own
	shared.id = ""
	for _, r := range []ipRule{own, shared} {
		comment, ok := savedComment("-A " + r.words())
		if !ok || comment != r.comment() || ownerOf(comment) != r.id {
			t.Errorf("%s: comment %q of %q", r.words(), comment, ownerOf(comment))
		}
	}
	if !strings.HasSuffix(own.words(), `" -j NOTRACK`) {
		t.Errorf("the target has to come last: %s", own.words())
	}
	other := shared
	other.spec = "-s 10.0.0.2 -j NOTRACK"
	if other.comment() == shared.comment() {
		t.Error("two rules have one comment")
	}
	for _, line := range []string{`-A INPUT -j ACCEPT`, `-A INPUT -m comment --comment "kubernetes" -j ACCEPT`} {
		if c, ok := savedComment(line); ok {
			t.Errorf("%s has our comment %q", line, c)
		}
	}
	if c, ok := savedComment(`-A INPUT -m comment --comment "NodeLocal DNS Cache: allow DNS traffic" -j ACCEPT`); !ok || ownerOf(c) != "" {
		t.Errorf("node-cache's comment is %q, %v", c, ok)
	}
}

// Whatever the kernel sends, reading it ends and stays inside.
func FuzzNetlink(f *testing.F) {
	f.Add(appendMessage(nil, nfMessage(unix.NFT_MSG_NEWTABLE, 0, 1, str(unix.NFTA_TABLE_NAME, "x")), 1))
	for _, m := range ownRules(&Config{ID: "00c0ffee", Addresses: both(), Port: 53, HealthPort: 8080, ProbePort4: 1, ProbePort6: 2})[:20] {
		f.Add(appendMessage(nil, m, 7))
	}
	f.Add(appendMessage(nil, addressMessage(unix.RTM_NEWADDR, 0, 1, netip.PrefixFrom(aloneIP, 32)), 3))
	f.Fuzz(func(t *testing.T, b []byte) {
		for h, body := range messages(b) {
			m := message{h.Type, h.Flags, body}
			again := appendMessage(nil, message{m.kind, m.flags &^ unix.NLM_F_REQUEST, body}, h.Seq)
			if h.Flags&unix.NLM_F_REQUEST != 0 && h.Pid == 0 && !bytes.HasPrefix(pad(bytes.Clone(again)), again) {
				t.Error("a message does not survive being written")
			}
			readLink(m)
			readAddress(m)
			changer(m)
			_ = readError(h, body)
			k := &canned{answers: []message{m}}
			n := nfTables{k}
			n.tables()
			n.baseChains()
			if rules, err := n.rules(m.kindFamily(), "filter", ""); err == nil {
				for _, r := range rules {
					r.drops()
				}
			}
			n.held("x", "y")
		}
	})
}

func (m message) kindFamily() byte {
	if len(m.body) == 0 {
		return 0
	}
	return m.body[0]
}

// canned says the same to everything.
type canned struct {
	answers []message
	refusal error
}

func (c *canned) talk(...message) ([]message, error) { return c.answers, c.refusal }
func (c *canned) close() error                       { return nil }

// A kernel without nf_tables, or before the owner flag, gets iptables; a kernel that lets nothing be changed an error.
func TestOlderKernel(t *testing.T) {
	open := func(refusal error) (*Host, error) {
		cfg := spec(NFTables).config(nil)
		cfg.setDefaults()
		h := newHost(cfg, &recorder{}, nil)
		h.nft = nfTables{&canned{refusal: refusal}}
		h.proc = t.TempDir()
		return h, h.probeKernel()
	}
	for _, refusal := range []unix.Errno{unix.EOPNOTSUPP, unix.EINVAL} {
		h, err := open(&kernelError{errno: refusal})
		if err != nil || h.Mode() != IPTables {
			t.Errorf("after %v: mode %v, %v", refusal, h.Mode(), err)
		}
	}
	if h, err := open(nil); err != nil || h.Mode() != NFTables {
		t.Errorf("with a new kernel: mode %v, %v", h.Mode(), err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := open(&kernelError{errno: unix.EOPNOTSUPP}); err == nil || !strings.Contains(err.Error(), "5.12") || !strings.Contains(err.Error(), "iptables-save") {
		t.Errorf("with neither: %v", err)
	}
}
