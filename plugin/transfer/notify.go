package transfer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/wire"
)

// attempts is how often a secondary is told before it is given up.
const attempts = 3

// Notify tells the secondaries of a zone that it has changed, all at once, and waits for what they say (RFC 1996).
func (t *Transfer) Notify(ctx context.Context, zone wire.Name) error {
	_, p, ok := t.zones.Find(zone)
	if !ok {
		return nil
	}
	errs := make([]error, len(p.notify))
	var told sync.WaitGroup
	for i, to := range p.notify {
		told.Go(func() { errs[i] = p.tell(ctx, zone.String(), to) })
	}
	told.Wait()
	return errors.Join(errs...)
}

func (p *policy) tell(ctx context.Context, zone, to string) error {
	client := new(dns.Client)
	if p.source.IsValid() {
		client.Dialer = &net.Dialer{LocalAddr: &net.UDPAddr{IP: p.source.AsSlice()}}
	}
	var err error
	for range attempts {
		var reply *dns.Msg
		reply, _, err = client.ExchangeContext(ctx, new(dns.Msg).SetNotify(zone), to)
		if err == nil && reply.Rcode == dns.RcodeSuccess {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("its answer is %s", dns.RcodeToString[reply.Rcode])
		}
		if ctx.Err() != nil {
			break
		}
	}
	return fmt.Errorf("%s did not accept the notify for %s: %w", to, zone, err)
}
