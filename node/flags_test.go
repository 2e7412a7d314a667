package node

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// nodeCacheFlags are node-cache's flags with their defaults, and what it takes from CoreDNS.
var nodeCacheFlags = map[string]string{
	"localip": "", "setupinterface": "true", "interfacename": "nodelocaldns", "syncinterval": "1m0s",
	"metrics-listen-address": "0.0.0.0:9353", "prometheus-listen-address": ":9253", "setupiptables": "true",
	"basecorefile": "/etc/coredns/Corefile.base", "corefile": "/etc/Corefile", "conf": "", "kubednscm": "",
	"upstreamsvc": "kube-dns", "health-port": "8080", "skipteardown": "false", "reloadwithsignal": "false",
	"pidfile": "", "dns.port": "53", "p": "53", "plugins": "false", "quiet": "false", "version": "false",
}

func TestHelpNamesEveryFlag(t *testing.T) {
	var out bytes.Buffer
	if _, err := parseFlags([]string{"-help"}, "node-cache", &out); !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	for name := range nodeCacheFlags {
		if !strings.Contains(out.String(), "  -"+name) {
			t.Errorf("-%s is not in the help text", name)
		}
	}
	if !strings.HasPrefix(out.String(), "Usage of node-cache:\n") {
		t.Errorf("the help text begins %.40q", &out)
	}
}

func TestDefaults(t *testing.T) {
	o := parse(t, "-localip 169.254.20.10")
	got := map[string]string{
		"setupinterface": fmt.Sprint(o.setupInterface), "interfacename": o.interfaceName, "syncinterval": o.syncInterval.String(),
		"metrics-listen-address": o.metricsAddr, "prometheus-listen-address": o.prometheusAddr, "setupiptables": fmt.Sprint(o.setupRules),
		"basecorefile": o.base, "conf": o.conf, "kubednscm": o.kubeDNS, "upstreamsvc": o.upstreamSvc,
		"health-port": fmt.Sprint(o.healthPort), "skipteardown": fmt.Sprint(o.skipTeardown), "pidfile": o.pidFile,
		"dns.port": fmt.Sprint(o.port), "p": fmt.Sprint(o.port), "plugins": fmt.Sprint(o.listPlugins), "quiet": fmt.Sprint(o.quiet), "version": fmt.Sprint(o.showVersion),
	}
	for name, value := range got {
		if value != nodeCacheFlags[name] {
			t.Errorf("-%s is %q, want %q", name, value, nodeCacheFlags[name])
		}
	}
	if o.rules != rulesAuto || o.clusterDomain != "cluster.local" || o.afterHandover != afterWait || o.fallback != nil || o.alone != nil {
		t.Errorf("%+v", o)
	}
}

func TestFlagsAreTaken(t *testing.T) {
	addr := netip.MustParseAddr
	for line, right := range map[string]func(o *options) bool{
		"-localip 169.254.20.10,10.96.0.10": func(o *options) bool {
			return slices.Equal(o.localIPs, []netip.Addr{addr("169.254.20.10"), addr("10.96.0.10")})
		},
		"--localip=169.254.20.10,fd00::10,169.254.20.10": func(o *options) bool {
			return slices.Equal(o.localIPs, []netip.Addr{addr("169.254.20.10"), addr("fd00::10")})
		},
		"-localip ::ffff:10.0.0.1":                                        func(o *options) bool { return o.localIPs[0] == addr("10.0.0.1") },
		"-localip 127.0.0.1 -setupinterface=false":                        func(o *options) bool { return !o.setupInterface && o.setupRules },
		"-localip 0.0.0.0 -setupinterface=false -setupiptables=false":     func(o *options) bool { return !o.setsUp() },
		"-localip 10.0.0.1 -syncinterval 60":                              func(o *options) bool { return o.syncInterval == time.Minute },
		"-localip 10.0.0.1 -syncinterval 30s":                             func(o *options) bool { return o.syncInterval == 30*time.Second },
		"-localip 10.0.0.1 -syncinterval 2m":                              func(o *options) bool { return o.syncInterval == 2*time.Minute },
		"-localip 10.0.0.1 -p 1053":                                       func(o *options) bool { return o.port == 1053 },
		"-localip 10.0.0.1 -dns.port 1054":                                func(o *options) bool { return o.port == 1054 },
		"-localip 10.0.0.1 -rules none":                                   func(o *options) bool { return !o.setupRules },
		"-localip 10.0.0.1 -setupiptables=false -rules none":              func(o *options) bool { return !o.setupRules },
		"-localip 10.0.0.1 -rules iptables -setupiptables":                func(o *options) bool { return o.setupRules && o.rules == rulesIPTables },
		"-localip 10.0.0.1 -metrics-listen-address=":                      func(o *options) bool { return o.metricsAddr == "" },
		"-localip 10.0.0.1 -corefile /x -reloadwithsignal":                func(o *options) bool { return o.conf == "" },
		"-localip 10.0.0.1 -fallback 10.96.0.10,fd00:96::a":               func(o *options) bool { return len(o.fallback) == 2 && o.fallbackName == "" },
		"-localip 10.0.0.1 -fallback pods.kube-system.svc.cluster.local.": func(o *options) bool { return o.fallbackName != "" && o.fallback == nil },
		"-localip 10.0.0.1,fd00::1 -fallback-for fd00::1":                 func(o *options) bool { return slices.Equal(o.alone, []netip.Addr{addr("fd00::1")}) },
		"-localip 10.0.0.1 -health-port 0":                                func(o *options) bool { return o.healthPort == 0 },
		"-version":                                                        func(o *options) bool { return o.showVersion },
		"-plugins":                                                        func(o *options) bool { return o.listPlugins },
	} {
		if o := parse(t, line); !right(o) {
			t.Errorf("%s: %+v", line, o)
		}
	}
}

func TestFlagsAreRefused(t *testing.T) {
	const ok = "-localip 10.0.0.1 "
	for line, want := range map[string]string{
		"":                        "-localip is missing",
		"-localip x":              `"x" is no IP address`,
		"-localip 10.0.0.1,":      "missing beside a comma",
		"-localip ,10.0.0.1":      "missing beside a comma",
		"-localip 10.0.0.1/32":    "is no IP address",
		"-localip fe80::1":        "choose one of fd00::/8",
		"-localip fe80::1%eth0":   "is no IP address",
		"-localip 0.0.0.0":        "can't be an interface's address",
		"-localip 127.0.0.1":      "can't be an interface's address",
		"-localip ff02::1":        "can't be an interface's address",
		ok + "-p 0":               `-dns.port "0"`,
		ok + "-dns.port dns":      `-dns.port "dns"`,
		ok + "-health-port 65536": `-health-port "65536"`,
		ok + "-interfacename a-name-that-is-long":   "-interfacename",
		ok + "-interfacename a/b":                   "-interfacename",
		ok + "-interfacename=":                      "-interfacename",
		ok + "-conf stdin":                          "-conf stdin",
		ok + "-rules ebtables":                      "auto, nftables, iptables or none",
		ok + "-rules nftables -setupiptables=false": "contradict",
		ok + "-rules none -setupiptables=true":      "contradict",
		ok + "-rules none -fallback 10.96.0.10":     "take them out",
		ok + "-fallback 10.0.0.1":                   "silent when the agent is",
		ok + "-fallback 0.0.0.0":                    "silent when the agent is",
		ok + "-fallback x_y":                        "is no IP address",
		ok + "-fallback-for 10.0.0.2":               "not one of -localip",
		ok + "-after-handover stay":                 "wait or exit",
		ok + "-metrics-listen-address 9353":         "write ADDRESS:PORT",
		ok + "x y":                                  "extra command line arguments: [x y]",
	} {
		_, err := parseFlags(strings.Fields(line), "node", io.Discard)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", line, err, want)
		}
	}
	for _, line := range []string{"-nonsense", ok + "-syncinterval soon", ok + "-syncinterval 0", ok + "-syncinterval 60ms", ok + "-setupinterface=perhaps"} {
		var out bytes.Buffer
		if _, err := parseFlags(strings.Fields(line), "node", &out); !errors.Is(err, errFlags) || out.Len() == 0 {
			t.Errorf("%q: %v", line, err)
		}
	}
}
