package node

import (
	"bytes"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// The variables of a template.
const (
	varLocal      = "__PILLAR__LOCAL__DNS__"
	varServer     = "__PILLAR__DNS__SERVER__"
	varCluster    = "__PILLAR__CLUSTER__DNS__"
	varUpstream   = "__PILLAR__UPSTREAM__SERVERS__"
	varDomain     = "__PILLAR__DNS__DOMAIN__"
	varPrometheus = "__PROMETHEUS__ENDPOINT__"
)

// variable is one of them, with the port that may follow an address.
var variable = regexp.MustCompile("(" + strings.Join([]string{varLocal, varServer, varCluster, varUpstream, varDomain, varPrometheus}, "|") + ")(:[0-9]+)?")

// tcpUpstream is a forward line to the upstream servers with a block that says force_tcp and nothing else.
var tcpUpstream = regexp.MustCompile(`(forward[ \t]+\.[ \t]+` + varUpstream + `)[ \t]*\{[ \t]*\r?\n[ \t]*force_tcp[ \t]*\r?\n[ \t]*\}`)

// resolvConf is where the upstream servers stand when the kube-dns ConfigMap names none.
const resolvConf = "/etc/resolv.conf"

// values are what a template is filled with.
type values struct {
	local      []netip.Addr
	port       uint16
	cluster    netip.Addr // invalid: clusterErr says why
	clusterErr error      // met only by templates that need the address
	domain     string
	prometheus string
	dns        dnsConfig
}

// fill makes a Corefile of a template. Its lines keep their numbers, so that errors in it can be found in the template;
// the stub domains' blocks follow them.
func fill(name string, template []byte, v *values) ([]byte, error) {
	if len(v.dns.Upstream) > 0 {
		// Servers of one's own choice are asked over UDP, as in node-cache: they may not speak TCP.
		template = tcpUpstream.ReplaceAllFunc(template, func(m []byte) []byte {
			head := tcpUpstream.FindSubmatch(m)[1]
			return append(slices.Clone(head), bytes.Repeat([]byte("\n"), bytes.Count(m, []byte("\n")))...)
		})
	}
	var out bytes.Buffer
	at := 0
	for _, m := range variable.FindAllSubmatchIndex(template, -1) {
		out.Write(template[at:m[0]])
		word, port := string(template[m[2]:m[3]]), ""
		if m[4] >= 0 {
			port = string(template[m[4]:m[5]])
		}
		value, err := v.of(word, port)
		if err != nil && !inComment(template[:m[0]]) {
			line, column := place(template[:m[0]])
			return nil, fmt.Errorf("%s:%d:%d: %s: %w", name, line, column, word, err)
		}
		out.WriteString(value)
		at = m[1]
	}
	out.Write(template[at:])
	v.stubs(&out)
	return out.Bytes(), nil
}

// of gives a variable's value and what follows it. A port makes it one address, an IPv6 one in brackets: of several to
// serve it is the first, since a directive with a port (health) takes one.
func (v *values) of(word, port string) (string, error) {
	switch word {
	case varLocal:
		if port != "" {
			return hostPort(v.local[0], port), nil
		}
		return join(v.local), nil
	case varServer: // the addresses of varLocal are all there are
		return port, nil
	case varCluster:
		if v.clusterErr != nil {
			return "", v.clusterErr
		}
		if port != "" {
			return hostPort(v.cluster, port), nil
		}
		return v.cluster.String(), nil
	case varUpstream:
		if len(v.dns.Upstream) > 0 {
			return strings.Join(v.dns.Upstream, " ") + port, nil
		}
		return resolvConf + port, nil
	case varDomain:
		return v.domain + port, nil
	}
	return v.prometheus + port, nil
}

func hostPort(a netip.Addr, port string) string {
	if a.Is6() {
		return "[" + a.String() + "]" + port
	}
	return a.String() + port
}

func join(addrs []netip.Addr) string {
	words := make([]string, len(addrs))
	for i, a := range addrs {
		words[i] = a.String()
	}
	return strings.Join(words, " ")
}

// inComment reports whether what follows before stands behind a # of its line, where nothing has to be right.
func inComment(before []byte) bool {
	return bytes.IndexByte(before[bytes.LastIndexByte(before, '\n')+1:], '#') >= 0
}

// place gives line and column of what follows before, both from 1.
func place(before []byte) (line, column int) {
	return bytes.Count(before, []byte("\n")) + 1, len(before) - bytes.LastIndexByte(before, '\n')
}

// stubs appends a block for each stub domain, in the order of their names.
func (v *values) stubs(out *bytes.Buffer) {
	domains := make([]string, 0, len(v.dns.Stubs))
	for d := range v.dns.Stubs {
		domains = append(domains, d)
	}
	slices.Sort(domains)
	for _, d := range domains {
		fmt.Fprintf(out, "\n%s:%d {\n    errors\n    cache 30\n    bind %s\n    forward . %s\n}\n",
			d, v.port, join(v.local), strings.Join(v.dns.Stubs[d], " "))
	}
}

// clusterAddress finds a Service's address in the environment that kubelet gives to pods of the Service's namespace.
func clusterAddress(service string, env func(string) (string, bool)) (netip.Addr, error) {
	name := strings.ToUpper(strings.ReplaceAll(service, "-", "_")) + "_SERVICE_HOST"
	text, ok := env(name)
	if !ok || text == "" {
		return netip.Addr{}, fmt.Errorf("the address of the Service %q is not known: the variable %s is not set. "+
			"kubelet sets it in pods that are made after the Service, in the Service's namespace, unless enableServiceLinks is false: "+
			"create the Service there and delete this pod, or name another Service with -upstreamsvc", service, name)
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("the variable %s is %q, and that is no IP address: the Service %q must have a cluster IP", name, text, service)
	}
	return a.Unmap(), nil
}
