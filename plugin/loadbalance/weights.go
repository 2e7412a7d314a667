package loadbalance

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/wire"
)

// weights say how often each address of a name is to be the first.
type weights struct {
	env    *chain.Env
	file   string
	reload time.Duration
	table  atomic.Pointer[table]

	mu    sync.Mutex // one reader of the file at a time
	known []byte     // the file as it was read last; guarded by mu
}

// table is one reading of the file, by name in lower-case wire form. It is immutable.
type table map[string][]weight

type weight struct {
	address netip.Addr
	value   uint8
}

// order draws the address that is to be first in a section; a section without addresses stays as it is.
func (w *weights) order(q *chain.Query, p *wire.Permutation, s wire.Section) {
	items := p.Items(s)
	if len(items) < 2 {
		return
	}
	addresses := false
	for i := range items {
		addresses = addresses || group(items[i].Type) == 2
	}
	if !addresses {
		return
	}
	list, _ := groups(items)
	t := *w.table.Load()
	sum := 0
	for i := range list {
		sum += t.of(p, &list[i])
	}
	draw := q.Worker().Rand.IntN(sum)
	for i := range list {
		if draw -= t.of(p, &list[i]); draw < 0 {
			list[0], list[i] = list[i], list[0]
			return
		}
	}
}

// of gives the weight of an address at its name, 1 when the file has none.
func (t table) of(p *wire.Permutation, i *wire.Item) int {
	var name [wire.MaxName]byte
	owner := p.Owner(name[:0], i)
	wire.ToLower(owner)
	a := address(p.Data(i))
	for _, w := range t[string(owner)] {
		if w.address == a {
			return int(w.value)
		}
	}
	return 1
}

// start reads the file for the first time. One that is not there yet may come, unless it will not be looked for.
func (w *weights) start(context.Context) error {
	err := w.load()
	if errors.Is(err, fs.ErrNotExist) && w.reload > 0 {
		w.env.Log.Warn("plugin/loadbalance: Failed to open weight file: " + err.Error() + ". Will try again in " + w.reload.String())
		return nil
	}
	return err
}

// run reads the file again and again.
func (w *weights) run(ctx context.Context) error {
	ticks := w.env.Ticks(ctx, w.reload)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticks:
			if err := w.load(); err != nil {
				w.env.Log.Error("plugin/loadbalance: " + err.Error())
			}
		}
	}
}

// load reads the file, if it has changed. A file with a mistake changes nothing.
func (w *weights) load() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	text, err := fs.ReadFile(w.env.Files, w.file)
	if err != nil {
		return fmt.Errorf("weight file: %w", err)
	}
	if w.known != nil && bytes.Equal(text, w.known) {
		return nil
	}
	t, err := parse(w.file, text)
	if err != nil {
		return err
	}
	w.known = text
	w.table.Store(&t)
	w.env.Log.Info("plugin/loadbalance: Successfully reloaded weight file " + w.file)
	return nil
}

// parse reads lines of a name, each followed by lines of an address and its weight. Empty lines and those that begin with
// # say nothing.
func parse(file string, text []byte) (table, error) {
	t := table{}
	owner := ""
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		f := strings.Fields(lines.Text())
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		var err error
		switch len(f) {
		case 1:
			owner, err = readName(f[0])
		case 2:
			if owner == "" {
				err = errors.New("a name has to come before addresses")
				break
			}
			var w weight
			if w, err = readWeight(f[0], f[1]); err == nil {
				t[owner] = append(t[owner], w)
			}
		default:
			err = errors.New("a line is a name, or an address and its weight")
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return t, nil
}

func readName(s string) (string, error) {
	if _, err := netip.ParseAddr(s); err == nil {
		return "", fmt.Errorf("the address %s has no weight", s)
	}
	n, err := wire.ParseName(s)
	if err != nil {
		return "", fmt.Errorf("%q: %w", s, err)
	}
	wire.ToLower(n)
	return string(n), nil
}

func readWeight(ip, value string) (weight, error) {
	a, err := netip.ParseAddr(ip)
	if err != nil || a.Zone() != "" {
		return weight{}, fmt.Errorf("%q is no address", ip)
	}
	v, err := strconv.ParseUint(value, 10, 8)
	if err != nil || v == 0 {
		return weight{}, fmt.Errorf("the weight %q is no number from 1 to 255", value)
	}
	return weight{a.Unmap(), uint8(v)}, nil
}
