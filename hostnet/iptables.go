package hostnet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// programWait bounds a run of an iptables program, lockWait its wait for another one's lock, in seconds.
const (
	programWait = 20 * time.Second
	lockWait    = "5"
)

// table is the family's word in the nft program and in Filter.
func (f family) table() string {
	if f.proto == unix.NFPROTO_IPV4 {
		return "ip"
	}
	return "ip6"
}

// program is the first part of the names of the family's programs.
func (f family) program() string { return f.table() + "tables" }

// ipProgram is one family's iptables-save and iptables-restore, of one backend.
type ipProgram struct {
	family        family
	legacy        bool
	saver, writer string // paths
}

// findProgram looks for the programs of a backend: by their own names, else behind the plain ones.
func findProgram(f family, legacy bool) (ipProgram, bool) {
	suffix := "-nft"
	if legacy {
		suffix = "-legacy"
	}
	p := ipProgram{family: f, legacy: legacy}
	for _, name := range []string{f.program() + suffix, f.program()} {
		var err, also error
		p.saver, err = exec.LookPath(name + "-save")
		p.writer, also = exec.LookPath(name + "-restore")
		if err != nil || also != nil {
			continue
		}
		if name != f.program() {
			return p, true
		}
		version, err := exec.Command(p.writer, "--version").Output() // iptables before 1.8 knows no backend: it is legacy
		return p, err == nil && legacy != strings.Contains(string(version), "nf_tables")
	}
	return p, false
}

// legacyPrograms are those of iptables-legacy for families that have the table.
func legacyPrograms(proc, table string) (list []ipProgram) {
	for _, f := range bothFamilies() {
		names, err := os.ReadFile(filepath.Join(proc, "net", f.table()+"_tables_names"))
		if err != nil || !slices.Contains(strings.Fields(string(names)), table) {
			continue
		}
		if p, ok := findProgram(f, true); ok {
			list = append(list, p)
		}
	}
	return list
}

func (p ipProgram) run(ctx context.Context, path, input string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, programWait)
	defer cancel()
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &complaint
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(path), strings.Join(args, " "), err, strings.TrimSpace(complaint.String()))
	}
	return out.String(), nil
}

func (p ipProgram) save(ctx context.Context, table string) (string, error) {
	return p.run(ctx, p.saver, "", "-t", table)
}

// ipRule is one rule in iptables' words.
type ipRule struct {
	family       family
	table, chain string
	spec         string
	what         string // for the comment
	id           string // of the agent that alone needs it; empty: all do
}

// comment tells the rule from every other one.
func (r ipRule) comment() string {
	h := fnv.New32a()
	fmt.Fprint(h, r.table, r.chain, r.spec)
	mark := iptablesMark
	if r.id != "" {
		mark += " " + r.id
	}
	return fmt.Sprintf("%s: %s %08x", mark, r.what, h.Sum32())
}

func (r ipRule) words() string {
	match, target, _ := strings.Cut(r.spec, "-j ")
	if target != "" {
		target = " -j " + target
	}
	return fmt.Sprintf("%s %s -m comment --comment %q%s", r.chain, strings.TrimSpace(match), r.comment(), target)
}

// savedComment finds a comment of ours or of node-cache in a line of iptables-save.
func savedComment(line string) (comment string, ok bool) {
	m := regexp.MustCompile(`--comment "((?:` + iptablesMark + `|` + nodeCacheMark + `)[^"]*)"`).FindStringSubmatch(line)
	if m == nil {
		return "", false
	}
	return m[1], true
}

// ownerOf is the id of the agent that a comment names; empty for rules that all share.
func ownerOf(comment string) string {
	rest, _ := strings.CutPrefix(comment, iptablesMark+" ")
	if id, _, ok := strings.Cut(rest, ":"); ok && validID(id) {
		return id
	}
	return ""
}

// sync makes a table hold each wanted rule once, and of ours and node-cache's nothing else but what keep says. One
// transaction, at the chains' heads; none when all is right.
func (p ipProgram) sync(ctx context.Context, table string, want []ipRule, keep func(comment string) bool) (changed bool, err error) {
	saved, err := p.save(ctx, table)
	if err != nil {
		return false, err
	}
	missing := map[string]bool{}
	for _, r := range want {
		missing[r.comment()] = true
	}
	var input strings.Builder
	for line := range strings.Lines(saved) {
		comment, ours := savedComment(line)
		rest, appended := strings.CutPrefix(line, "-A ")
		switch {
		case !ours || !appended || keep(comment):
		case missing[comment]:
			missing[comment] = false
		default:
			input.WriteString("-D " + strings.TrimSpace(rest) + "\n")
		}
	}
	for _, r := range slices.Backward(want) {
		if missing[r.comment()] {
			input.WriteString("-I " + r.words() + "\n")
		}
	}
	if input.Len() == 0 {
		return false, nil
	}
	_, err = p.run(ctx, p.writer, "*"+table+"\n"+input.String()+"COMMIT\n", "-w", lockWait, "--noflush")
	return true, err
}

// iptables is the mode of that name, and the accept rules and leftovers in its tables in the other.
type iptables struct {
	host     *Host
	chosen   []ipProgram // of the families that the agent has addresses of, of the backend that the node uses
	families int         // how many those are
}

// findIPTables chooses the backend that kube-proxy or anyone else uses on this node.
func findIPTables(h *Host) *iptables {
	t := &iptables{host: h}
	legacy := h.legacyInUse()
	for _, f := range bothFamilies() {
		if len(ofFamily(h.cfg.Addresses, f)) == 0 {
			continue
		}
		t.families++
		p, ok := findProgram(f, legacy)
		if !ok {
			p, ok = findProgram(f, !legacy)
		}
		if ok {
			t.chosen = append(t.chosen, p)
		}
	}
	return t
}

// legacyInUse reports whether the node's iptables rules are those of iptables-legacy: kubelet's and kube-proxy's chains
// decide, then whether there are such tables at all.
func (h *Host) legacyInUse() bool {
	if kube, err := h.nft.hasChain("KUBE-"); err == nil && kube {
		return false
	}
	return h.legacyTables()
}

// legacyTables reports whether there are tables of iptables-legacy.
func (h *Host) legacyTables() bool {
	for _, f := range bothFamilies() {
		if names, err := os.ReadFile(filepath.Join(h.proc, "net", f.table()+"_tables_names")); err == nil && len(names) > 0 {
			return true
		}
	}
	return false
}

func (t *iptables) usable() error {
	if len(t.chosen) < t.families {
		return errors.New("iptables-save and iptables-restore, and ip6tables' for IPv6, are not in PATH: use an image that has them, or nftables")
	}
	return nil
}

// legacy reports whether the chosen programs are those of iptables-legacy.
func (t *iptables) legacy() bool { return len(t.chosen) > 0 && t.chosen[0].legacy }

// has reports whether there is a program for the filter's table.
func (t *iptables) has(f Filter) bool {
	_, ok := t.programFor(f)
	return ok
}

func (t *iptables) programFor(f Filter) (ipProgram, bool) {
	for _, fam := range bothFamilies() {
		if fam.table() == f.Family {
			return findProgram(fam, f.Legacy)
		}
	}
	return ipProgram{}, false
}

// ensure makes the tables of the chosen backend right.
func (t *iptables) ensure(ctx context.Context, want []ipRule) (changed bool, err error) {
	others, err := t.host.others()
	if err != nil {
		return false, err
	}
	keep := func(comment string) bool { return slices.Contains(others, ownerOf(comment)) }
	for _, p := range t.chosen {
		for _, table := range []string{"raw", "filter"} {
			here := slices.DeleteFunc(slices.Clone(want), func(r ipRule) bool { return r.family != p.family || r.table != table })
			if there, err := t.exists(p, table); err != nil {
				return changed, err
			} else if len(here) == 0 && !there {
				continue // only looking at it would make it
			}
			did, err := p.sync(ctx, table, here, keep)
			if err != nil {
				return changed, err
			}
			changed = changed || did
		}
	}
	return changed, nil
}

// exists reports whether the node has a table.
func (t *iptables) exists(p ipProgram, table string) (bool, error) {
	if p.legacy {
		return slices.ContainsFunc(legacyPrograms(t.host.proc, table), func(q ipProgram) bool { return q.family == p.family }), nil
	}
	tables, err := t.host.nft.tables()
	return slices.ContainsFunc(tables, func(x nfTable) bool { return x.family == p.family.proto && x.name == table }), err
}

// ensureAccepts lets DNS pass filters of iptables.
func (t *iptables) ensureAccepts(ctx context.Context, cfg *Config, filters []Filter) (changed bool, err error) {
	others, err := t.host.others()
	if err != nil {
		return false, err
	}
	keep := func(comment string) bool { return slices.Contains(others, ownerOf(comment)) }
	for len(filters) > 0 {
		first := filters[0]
		same := func(f Filter) bool {
			return f.Family == first.Family && f.Table == first.Table && f.Legacy == first.Legacy
		}
		p, ok := t.programFor(first)
		if ok {
			var want []ipRule
			for _, f := range filters {
				if same(f) {
					want = append(want, ipAccepts(cfg, p.family, f.Table, f.Chain)...)
				}
			}
			did, err := p.sync(ctx, first.Table, want, keep)
			if err != nil {
				return changed, err
			}
			changed = changed || did
		}
		filters = slices.DeleteFunc(filters, same)
	}
	return changed, nil
}

// removeOwn takes away what carries this agent's id.
func (t *iptables) removeOwn(ctx context.Context) (err error) {
	mine := func(comment string) bool { return ownerOf(comment) != t.host.cfg.ID }
	for _, p := range t.chosen {
		_, also := p.sync(ctx, "raw", nil, mine)
		err = errors.Join(err, also)
	}
	return err
}

// dropLegacyLeftovers takes away, in tables of iptables-legacy that this agent does not use, all of node-cache and of
// agents that do not live.
func (t *iptables) dropLegacyLeftovers(ctx context.Context, others []string) (err error) {
	if t.host.cfg.Mode == IPTables && t.legacy() {
		return nil // Up replaces them in one step
	}
	return t.removeLegacy(ctx, t.host.proc, func(comment string) bool {
		return len(others) > 0 && strings.HasPrefix(comment, iptablesMark)
	})
}

func (t *iptables) removeLegacy(ctx context.Context, proc string, keep func(comment string) bool) (err error) {
	for _, table := range []string{"raw", "filter"} {
		for _, p := range legacyPrograms(proc, table) {
			_, also := p.sync(ctx, table, nil, keep)
			err = errors.Join(err, also)
		}
	}
	return err
}

// removeAll takes away all of ours in both backends.
func (t *iptables) removeAll(ctx context.Context, proc string) error {
	return errors.Join(t.host.dropMarked(true), t.removeLegacy(ctx, proc, func(string) bool { return false }))
}
