package node

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/godwit-dns/godwit/handover"
)

// options are the flags, read and checked.
type options struct {
	localIPs       []netip.Addr // what to serve, in the order given
	port           uint16       // of DNS
	healthPort     uint16       // of the health directive, let through beside DNS; 0 is none
	setupInterface bool
	setupRules     bool
	rules          string // auto, nftables, iptables, none
	interfaceName  string
	syncInterval   time.Duration // between two looks at what another program may have changed
	metricsAddr    string        // of the agent's own metrics; empty: nowhere
	prometheusAddr string        // what __PROMETHEUS__ENDPOINT__ becomes
	base           string        // the template
	conf           string        // where the filled template is written; empty: nowhere
	kubeDNS        string        // folder of the kube-dns ConfigMap; empty: the default folder, where it exists
	upstreamSvc    string
	clusterDomain  string
	fallback       []netip.Addr // where the addresses of alone are led while the agent does not answer; nil: the upstream Service
	fallbackName   string       // or a name that has them
	alone          []netip.Addr // addresses that no Service has; nil: the link-local ones
	skipTeardown   bool
	pidFile        string
	runDir         string // folder of the admin socket; empty: handover's own choice
	afterHandover  string // wait, exit
	quiet          bool
	listPlugins    bool
	showVersion    bool
}

// errFlags says that the flag package has already printed what is wrong.
var errFlags = errors.New("flags")

// What a rules flag can say.
const (
	rulesAuto     = "auto"
	rulesNFTables = "nftables"
	rulesIPTables = "iptables"
	rulesNone     = "none"
)

// What an agent does when another has taken over from it.
const (
	afterWait = "wait"
	afterExit = "exit"
)

// raw are flags that need a second look.
type raw struct {
	localIP, port, healthPort, fallback, fallbackFor, coreFile string
	reloadWithSignal                                           bool
}

// parseFlags reads the command line. Names and defaults are node-cache's; what it has not stands at the end.
func parseFlags(args []string, name string, out io.Writer) (*options, error) {
	o, r := &options{syncInterval: time.Minute}, &raw{}
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(out)
	f.Usage = func() {
		fmt.Fprintf(out, "Usage of %s:\nServes DNS to the pods of this node, at addresses that it sets up.\n\n", name)
		f.PrintDefaults()
	}
	f.StringVar(&r.localIP, "localip", "", "addresses to serve, comma-separated, of either family or both; needed")
	f.BoolVar(&o.setupInterface, "setupinterface", true, "put the addresses on an interface")
	f.StringVar(&o.interfaceName, "interfacename", "nodelocaldns", "name of the interface")
	f.Var((*seconds)(&o.syncInterval), "syncinterval", "time between two checks of interface and rules, in seconds or as a duration; changes that the kernel tells of are repaired at once")
	f.StringVar(&o.metricsAddr, "metrics-listen-address", "0.0.0.0:9353", "where to serve the agent's metrics; empty: nowhere")
	f.StringVar(&o.prometheusAddr, "prometheus-listen-address", ":9253", "what __PROMETHEUS__ENDPOINT__ in the template becomes")
	f.BoolVar(&o.setupRules, "setupiptables", true, "set up packet filter rules, of the kind that -rules says")
	f.StringVar(&o.base, "basecorefile", "/etc/coredns/Corefile.base", "template of the Corefile")
	f.StringVar(&r.coreFile, "corefile", "/etc/Corefile", "has no effect, as in node-cache: use -conf")
	f.StringVar(&o.conf, "conf", "", "file to write the filled template to; it is served from memory, so the file may be read-only")
	f.StringVar(&o.kubeDNS, "kubednscm", "", "folder of the kube-dns ConfigMap (default \""+defaultKubeDNS+"\" where it exists)")
	f.StringVar(&o.upstreamSvc, "upstreamsvc", "kube-dns", "Service whose address __PILLAR__CLUSTER__DNS__ becomes")
	f.StringVar(&r.healthPort, "health-port", "8080", "port of the health directive")
	f.BoolVar(&o.skipTeardown, "skipteardown", false, "leave the interface and what rules can stay when the agent ends")
	f.BoolVar(&r.reloadWithSignal, "reloadwithsignal", false, "has no effect: changed ConfigMaps are always taken in at once")
	f.StringVar(&o.pidFile, "pidfile", "", "file to write the process number to")
	f.StringVar(&r.port, "dns.port", "53", "port of DNS")
	f.StringVar(&r.port, "p", "53", "port of DNS")
	f.BoolVar(&o.listPlugins, "plugins", false, "list the directives and end")
	f.BoolVar(&o.quiet, "quiet", false, "do not print the version and the zones at start")
	f.BoolVar(&o.showVersion, "version", false, "print the version and end")
	f.StringVar(&o.rules, "rules", rulesAuto, "kind of rules: nftables, iptables, none, or auto: nftables where the kernel can, else iptables")
	f.StringVar(&r.fallback, "fallback", "", "a cluster DNS Service or servers for the addresses that no Service has, while the agent does not answer: addresses, or a name that has them (default: the Service of -upstreamsvc)")
	f.StringVar(&r.fallbackFor, "fallback-for", "", "those of -localip that no Service has (default: the link-local ones)")
	f.StringVar(&o.clusterDomain, "cluster-domain", "cluster.local", "what __PILLAR__DNS__DOMAIN__ in the template becomes")
	f.StringVar(&o.runDir, "run-dir", "", "folder of the socket that \"probe\" asks (default: the first of "+strings.Join(handover.Folders(), ", ")+" that can have it)")
	f.StringVar(&o.afterHandover, "after-handover", afterWait, "what to do when a successor has taken over: wait for SIGTERM, so that kubelet does not start the container again, or exit")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, errFlags
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("extra command line arguments: %s", f.Args())
	}
	if o.showVersion || o.listPlugins {
		return o, nil
	}
	set := map[string]bool{}
	f.Visit(func(x *flag.Flag) { set[x.Name] = true })
	return o, o.check(r, set)
}

// check reads what the flag package can't, and refuses what does not go together. Set are the flags that were given.
func (o *options) check(r *raw, set map[string]bool) (err error) {
	if o.localIPs, err = addresses("localip", r.localIP, o.setupInterface); err != nil {
		return err
	}
	if o.port, err = portNumber("dns.port", r.port, 1); err != nil {
		return err
	}
	if o.healthPort, err = portNumber("health-port", r.healthPort, 0); err != nil {
		return err
	}
	if err := o.readFallback(r); err != nil {
		return err
	}
	if n := o.interfaceName; n == "" || len(n) > 15 || strings.ContainsAny(n, "/ \t\n:") || n == "." || n == ".." {
		return fmt.Errorf("-interfacename %q: a name has 1 to 15 letters, and no blank, slash or colon among them", n)
	}
	if _, _, err := net.SplitHostPort(o.metricsAddr); o.metricsAddr != "" && err != nil {
		return fmt.Errorf("-metrics-listen-address %q: %v; write ADDRESS:PORT", o.metricsAddr, err)
	}
	switch {
	case o.conf == "stdin":
		return errors.New("-conf stdin: the Corefile is made of -basecorefile; -conf is where it is written to")
	case !slices.Contains([]string{afterWait, afterExit}, o.afterHandover):
		return fmt.Errorf("-after-handover %q: wait or exit", o.afterHandover)
	case !slices.Contains([]string{rulesAuto, rulesNFTables, rulesIPTables, rulesNone}, o.rules):
		return fmt.Errorf("-rules %q: auto, nftables, iptables or none", o.rules)
	case set["rules"] && o.rules == rulesNone && set["setupiptables"] && o.setupRules:
		return errors.New("-rules none and -setupiptables=true contradict each other: give one of them")
	case set["rules"] && o.rules != rulesNone && !o.setupRules:
		return fmt.Errorf("-rules %s and -setupiptables=false contradict each other: give one of them", o.rules)
	case (set["fallback"] || set["fallback-for"]) && (!o.setupRules || o.rules == rulesNone):
		return errors.New("-fallback and -fallback-for are about rules, and rules are off: take them out, or -setupiptables=false or -rules none")
	}
	o.setupRules = o.setupRules && o.rules != rulesNone
	return nil
}

// readFallback reads the two flags of the fallback.
func (o *options) readFallback(r *raw) (err error) {
	if r.fallbackFor != "" {
		if o.alone, err = addresses("fallback-for", r.fallbackFor, false); err != nil {
			return err
		}
		for _, a := range o.alone {
			if !slices.Contains(o.localIPs, a) {
				return fmt.Errorf("-fallback-for %s: it is not one of -localip", a)
			}
		}
	}
	switch {
	case r.fallback == "":
		return nil
	case subdomain.MatchString(strings.TrimSuffix(r.fallback, ".")) && strings.ContainsAny(r.fallback, "abcdefghijklmnopqrstuvwxyz"):
		o.fallbackName = r.fallback
		return nil
	}
	if o.fallback, err = addresses("fallback", r.fallback, false); err != nil {
		return err
	}
	for _, a := range o.fallback {
		if slices.Contains(o.localIPs, a) || a.IsUnspecified() || a.IsLoopback() {
			return fmt.Errorf("-fallback %s: it is this host's, and silent when the agent is", a)
		}
	}
	return nil
}

// setsUp reports whether anything of the host is the agent's to set up. Where nothing is the addresses may be another
// machine's, as far as the agent knows.
func (o *options) setsUp() bool { return o.setupInterface || o.setupRules }

// adminFolders are where the socket may be that "probe" asks.
func (o *options) adminFolders() []string {
	if o.runDir != "" {
		return []string{o.runDir}
	}
	return handover.Folders()
}

// addresses reads a list of addresses. Those to be set up can't be such as no interface may have.
func addresses(name, text string, setUp bool) (list []netip.Addr, err error) {
	if text == "" {
		return nil, fmt.Errorf("-%s is missing: give the addresses to serve, 169.254.20.10,10.96.0.10 for instance", name)
	}
	for _, word := range strings.Split(text, ",") {
		a, err := netip.ParseAddr(strings.TrimSpace(word))
		a = a.Unmap()
		switch {
		case word == "":
			return nil, fmt.Errorf("-%s %q: an address is missing beside a comma", name, text)
		case err != nil || a.Zone() != "":
			return nil, fmt.Errorf("-%s %q: %q is no IP address", name, text, word)
		case a.Is6() && a.IsLinkLocalUnicast():
			return nil, fmt.Errorf("-%s %q: pods can't reach an IPv6 link-local address without naming a link: choose one of fd00::/8", name, text)
		case a.IsMulticast() || setUp && (a.IsLoopback() || a.IsUnspecified()):
			return nil, fmt.Errorf("-%s %q: %s can't be an interface's address", name, text, a)
		}
		if !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list, nil
}

func portNumber(name, text string, least uint64) (uint16, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n < least {
		return 0, fmt.Errorf("-%s %q: a port is a number from %d to 65535", name, text, least)
	}
	return uint16(n), nil
}

// seconds is a duration that a plain number gives in seconds. node-cache's own flag takes durations and multiplies them by
// a second, so that its help text's "60" is refused and "30s" does not work; manifests have either.
type seconds time.Duration

// String and Set make it a flag.Value.
func (s *seconds) String() string {
	if s == nil {
		return "0s"
	}
	return time.Duration(*s).String()
}

// Set reads "60" and "60s".
func (s *seconds) Set(text string) error {
	d, err := time.ParseDuration(text)
	if n, e := strconv.ParseUint(text, 10, 31); e == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil {
		return errors.New("write seconds, 60, or a duration, 1m")
	}
	if d < time.Second || d > 24*time.Hour {
		return errors.New("between a second and a day")
	}
	*s = seconds(d)
	return nil
}
