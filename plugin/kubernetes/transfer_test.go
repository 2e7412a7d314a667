package kubernetes

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/internal/chaintest"
	"github.com/godwit-dns/godwit/wire"
)

// text writes a record as zone text, with a serial of 1.
func text(t *testing.T, r chain.RR) string {
	t.Helper()
	b := append([]byte(nil), r.Owner...)
	b = append(b, byte(r.Type>>8), byte(r.Type), byte(r.Class>>8), byte(r.Class), byte(r.TTL>>24), byte(r.TTL>>16), byte(r.TTL>>8), byte(r.TTL))
	b = append(b, byte(len(r.Data)>>8), byte(len(r.Data)))
	b = append(b, r.Data...)
	rr, _, err := dns.UnpackRR(b, 0)
	if err != nil {
		t.Fatalf("%v in %x", err, b)
	}
	return rrText(rr)
}

func rrText(rr dns.RR) string {
	if soa, ok := rr.(*dns.SOA); ok {
		soa.Serial = 1
	}
	return strings.Join(strings.Fields(rr.String()), " ")
}

func transferred(t *testing.T, k *Kubernetes, zone string, serial uint32) (list []string) {
	t.Helper()
	seq, err := k.Transfer(wire.MustName(zone), serial)
	if err != nil {
		t.Fatal(err)
	}
	for r := range seq {
		list = append(list, text(t, r))
	}
	return list
}

// compareTransfer asks CoreDNS for whole zones.
func compareTransfer(t *testing.T, binary, config string) {
	port := freePort(t)
	directive := strings.TrimSuffix(goldenDirective, "\n") + "\n kubeconfig " + config + "\n}"
	path := filepath.Join(t.TempDir(), "Corefile")
	text := ".:" + port + " {\n bind 127.0.0.1\n transfer {\n to *\n }\n" + directive + "\n}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, "-conf", path)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	b := chaintest.New(t, ".:"+port+" {\n"+directive+"\n}\n", chaintest.Options{Specs: []chain.Spec{Spec}})
	b.Start()
	k := handlerOf(b)
	b.Until("sync", k.cluster.Synced)
	k.local = noAddrs
	waitFor(t, &dns.Client{Net: "tcp"}, "127.0.0.1:"+port, "web.default.svc.cluster.local.", &out)
	for _, zone := range []string{"cluster.local.", "clusterset.local."} {
		m := new(dns.Msg)
		m.SetAxfr(zone)
		ch, err := new(dns.Transfer).In(m, "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		var theirs []string
		for e := range ch {
			if e.Error != nil {
				t.Fatal(e.Error)
			}
			for _, rr := range e.RR {
				theirs = append(theirs, rrText(rr))
			}
		}
		ours := transferred(t, k, zone, 0)
		if theirs[0] != ours[0] || theirs[len(theirs)-1] != ours[len(ours)-1] {
			t.Errorf("%s: first and last are not the SOA: %q and %q", zone, ours[0], ours[len(ours)-1])
		}
		slices.Sort(theirs)
		slices.Sort(ours)
		if !slices.Equal(theirs, ours) {
			t.Errorf("%s\ncoredns %s\ngodwit  %s", zone, strings.Join(theirs, "\n"), strings.Join(ours, "\n"))
		}
	}
}
