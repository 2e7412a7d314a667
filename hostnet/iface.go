package hostnet

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// keepLink makes the interface and its addresses right and says what was not, as counted by godwit_node_repairs_total.
// With renew it begins the addresses' lifetime anew. ifaceMu is held.
func (h *Host) keepLink(renew bool) (repaired []string, err error) {
	l, err := h.route.find(h.cfg.Interface)
	if err != nil {
		return nil, err
	}
	if l == nil {
		if l, err = h.makeLink(); err != nil {
			return nil, err
		}
		repaired = append(repaired, repairLink)
	}
	if err := h.adoptable(l); err != nil {
		return repaired, err
	}
	if !l.up {
		if err := h.route.raise(l.index); err != nil {
			return repaired, err
		}
		repaired = append(repaired, repairLink)
	}
	if l.alias == "" {
		if err := h.route.setAlias(l.index, h.alias); err != nil {
			return repaired, fmt.Errorf("writing the alias of %s: %w", h.cfg.Interface, err)
		}
	}
	have, err := h.route.addresses(l.index)
	if err != nil {
		return repaired, err
	}
	for _, ip := range h.cfg.Addresses {
		at := slices.IndexFunc(have, func(x address) bool { return x.addr.Addr() == ip })
		if at >= 0 && !have[at].ours() { // node-cache's
			if err := h.route.drop(l.index, have[at].addr); err != nil {
				return repaired, err
			}
			at = -1
		}
		if at >= 0 && !renew {
			continue
		}
		if err := h.route.put(l.index, ip, h.cfg.Lifetime); err != nil {
			return repaired, err
		}
		if at < 0 {
			repaired = append(repaired, repairAddress)
		}
	}
	return repaired, nil
}

func (h *Host) makeLink() (*link, error) {
	kind, err := h.route.create(h.cfg.Interface)
	if err != nil {
		return nil, err
	}
	if kind != linkKinds[0] {
		h.cfg.Log.Info("the kernel has no dummy interfaces", "interface", h.cfg.Interface, "type", kind)
	}
	l, err := h.route.find(h.cfg.Interface)
	if err != nil || l == nil {
		return nil, errors.Join(fmt.Errorf("interface %s is gone as soon as it was made", h.cfg.Interface), err)
	}
	if err := h.route.setAlias(l.index, h.alias); err != nil {
		return nil, fmt.Errorf("writing the alias of %s: %w", h.cfg.Interface, err)
	}
	l.alias = h.alias
	return l, nil
}

// adoptable refuses an interface that somebody else may need: Down deletes it. node-cache's is a dummy; of other types an
// agent knows its own by the alias.
func (h *Host) adoptable(l *link) error {
	if l.kind == linkKinds[0] && !l.master || slices.Contains(linkKinds[:], l.kind) && strings.HasPrefix(l.alias, aliasMark) {
		return nil
	}
	kind := "a network card"
	if l.kind != "" {
		kind = "of type " + l.kind
	}
	return fmt.Errorf("interface %s is %s and was not made by an agent: give another name with -interfacename, or delete it with `ip link del %[1]s`", h.cfg.Interface, kind)
}

// removeLink takes the addresses off, then the interface; with keep it makes the addresses permanent instead. ifaceMu is
// held.
func (h *Host) removeLink(keep bool) error {
	l, err := h.route.find(h.cfg.Interface)
	if err != nil || l == nil {
		return err
	}
	if h.adoptable(l) != nil {
		return nil // ours has been replaced by somebody's
	}
	for _, ip := range h.cfg.Addresses {
		if keep {
			err = errors.Join(err, h.route.put(l.index, ip, 0))
		} else {
			err = errors.Join(err, h.route.drop(l.index, netip.PrefixFrom(ip, ip.BitLen())))
		}
	}
	if keep {
		return err
	}
	return errors.Join(err, h.route.remove(l.index))
}

// dropStale takes addresses off the interface that this agent does not have: of a dead one, or of node-cache.
func (h *Host) dropStale() error {
	h.ifaceMu.Lock()
	defer h.ifaceMu.Unlock()
	l, err := h.route.find(h.cfg.Interface)
	if err != nil || l == nil {
		return err
	}
	if err := h.adoptable(l); err != nil {
		return err
	}
	have, err := h.route.addresses(l.index)
	if err != nil {
		return err
	}
	for _, x := range have {
		ip := x.addr.Addr()
		if slices.Contains(h.cfg.Addresses, ip) || ip.Is6() && ip.IsLinkLocalUnicast() {
			continue // the latter is the kernel's own
		}
		h.cfg.Log.Info("taking an address off the interface that another agent left there", "interface", h.cfg.Interface, "address", ip)
		if err := h.route.drop(l.index, x.addr); err != nil {
			return err
		}
	}
	return nil
}
