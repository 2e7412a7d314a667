package hostnet

import (
	"context"
	"errors"
	"slices"
)

// keepRules makes right what another program can change, and says what was not. The agent's own table is not among it:
// its owner alone can. ruleMu is held.
func (h *Host) keepRules(ctx context.Context) (repaired []string, err error) {
	if !h.ruled {
		return nil, nil
	}
	if h.takesFallback {
		var changed bool
		if changed, err = h.nft.ensureFallback(h.fallbackRules()); changed {
			repaired = append(repaired, repairFallback)
		}
	}
	if h.cfg.Mode == IPTables {
		changed, also := h.ipt.ensure(ctx, h.ipRules(h.stage))
		if changed {
			repaired = append(repaired, repairRules)
		}
		return repaired, errors.Join(err, also)
	}
	accepted, also := h.keepAccepts(ctx)
	if accepted {
		repaired = append(repaired, repairFilter)
	}
	return repaired, errors.Join(err, also)
}

// keepAccepts lets DNS pass where the node filters. ruleMu is held.
func (h *Host) keepAccepts(ctx context.Context) (changed bool, err error) {
	filters, err := h.nft.filters()
	if err != nil {
		return false, err
	}
	legacy, err := legacyFilters(ctx, h.proc)
	if err != nil {
		return false, err
	}
	filters = append(filters, legacy...)
	h.sayFiltered(filters)
	n, err := h.nft.ensureAccepts(&h.cfg, filters)
	if err != nil {
		return n > 0, err
	}
	byPrograms := slices.DeleteFunc(filters, func(f Filter) bool { return !f.iptables() })
	also, err := h.ipt.ensureAccepts(ctx, &h.cfg, byPrograms)
	return n > 0 || also, err
}

// sayFiltered warns of each filter when it is seen for the first time. ruleMu is held.
func (h *Host) sayFiltered(filters []Filter) {
	for _, f := range filters {
		if h.filtersSaid[f.String()] {
			continue
		}
		h.filtersSaid[f.String()] = true
		switch {
		case f.Owned:
			h.cfg.Log.Warn("the node filters and a program holds the table, so DNS must be let pass there: with firewalld add the service dns to the pods' zone, or set NftablesTableOwner=no", "filter", f.String(), "output", f.Output)
		case f.iptables() && !h.ipt.has(f):
			h.cfg.Log.Warn("the node filters with iptables, whose programs are missing here: use an image that has them, or let DNS to the local addresses pass", "filter", f.String(), "output", f.Output)
		default:
			h.cfg.Log.Warn("the node filters: rules that let DNS pass are kept there", "filter", f.String(), "output", f.Output)
		}
	}
}

// removeRules takes away what Up has set and no socket owns. ruleMu is held.
func (h *Host) removeRules(ctx context.Context) error {
	_, err := h.nft.ensureFallback(nil)
	var also error
	if h.cfg.Mode == NFTables {
		_, also = h.nft.ensureAccepts(&h.cfg, nil)
	}
	return errors.Join(err, also, h.ipt.removeAll(ctx, h.proc))
}
