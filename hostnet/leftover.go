package hostnet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// What rules in the iptables tables are known by: node-cache's comments, and ours.
const (
	nodeCacheMark = "NodeLocal DNS Cache: "
	iptablesMark  = "Godwit DNS"
)

// Adopt removes what dead agents and a dead node-cache left behind and this agent would not use: rules that still divert,
// tables, addresses. What it would use stays and is taken over by Up. Nothing of a live agent is touched.
func (h *Host) Adopt(ctx context.Context) error {
	others, err := h.others()
	if err != nil {
		return err
	}
	if h.cfg.ownInterface() && len(others) == 0 {
		if err := h.dropStale(); err != nil {
			return err
		}
	}
	if !h.cfg.rules() {
		return nil
	}
	h.ruleMu.Lock()
	defer h.ruleMu.Unlock()
	alone := len(others) == 0
	var marked error
	if h.cfg.Mode == NFTables || h.ipt.legacy() { // else Up replaces them in one step
		marked = h.dropMarked(alone)
	}
	return errors.Join(marked, h.ipt.dropLegacyLeftovers(ctx, others))
}

// others lists the ids of other agents that live: their tables are there, or the interface's alias names them and the
// socket that it names is open.
func (h *Host) others() (ids []string, err error) {
	if h.cfg.rules() {
		tables, err := h.nft.tables()
		if err != nil {
			return nil, err
		}
		for _, t := range tables {
			if id, ours := strings.CutPrefix(t.name, tablePrefix); ours && t.owned && validID(id) && id != h.cfg.ID {
				ids = append(ids, id)
			}
		}
	}
	id, socket, err := h.aliasOwner()
	if err != nil || id == "" || slices.Contains(ids, id) {
		return ids, err
	}
	open, err := h.socketOpen(socket)
	if open {
		ids = append(ids, id)
	}
	return ids, err
}

// aliasOwner reads which other agent the interface's alias names, and its socket; empty when it names none.
func (h *Host) aliasOwner() (id, socket string, err error) {
	alias, err := h.Alias()
	if word := strings.Fields(alias); len(word) >= 3 && strings.HasPrefix(word[0], aliasMark) && word[1] != h.cfg.ID {
		return word[1], word[2], err
	}
	return "", "", err
}

// succeeded reports whether the alias names another agent that lives: what agents share is then its to keep.
func (h *Host) succeeded() (bool, error) {
	id, _, err := h.aliasOwner()
	if err != nil || id == "" {
		return false, err
	}
	others, err := h.others()
	return slices.Contains(others, id), err
}

// socketOpen reports whether an abstract Unix socket of this name is there.
func (h *Host) socketOpen(name string) (bool, error) {
	f, err := os.Open(filepath.Join(h.proc, "net/unix"))
	if err != nil {
		return false, fmt.Errorf("looking for another agent: %w", err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if word := strings.Fields(lines.Text()); len(word) == 8 && strings.TrimPrefix(word[7], "@") == strings.TrimPrefix(name, "@") {
			return true, nil
		}
	}
	return false, nil
}

// iptablesChains are where node-cache and our iptables mode have rules.
var iptablesChains = []struct{ table, chain string }{
	{"raw", "PREROUTING"}, {"raw", "OUTPUT"}, {"filter", "INPUT"}, {"filter", "OUTPUT"},
}

// dropMarked deletes node-cache's rules in the tables of iptables-nft, and with alone ours, by netlink: that needs no
// program.
func (h *Host) dropMarked(ours bool) error {
	var t transaction
	for _, family := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
		for _, at := range iptablesChains {
			rules, err := h.nft.rules(family, at.table, at.chain)
			if err != nil {
				return err
			}
			for _, r := range rules {
				if bytes.Contains(r.whole, []byte(nodeCacheMark)) || ours && bytes.Contains(r.whole, []byte(iptablesMark)) {
					t.dropRule(r)
				}
			}
		}
	}
	if len(t) > 0 {
		h.cfg.Log.Info("removing agents' rules from the tables of iptables", "rules", len(t))
	}
	if err := h.nft.commit(t); err != nil {
		return fmt.Errorf("removing leftover iptables rules: %w", err)
	}
	return nil
}
