package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// peerCommand is a server of PEER's.
type peerCommand struct{ name, command string }

func parsePeers(text string) ([]peerCommand, error) {
	var all []peerCommand
	for _, one := range strings.Split(text, ";") {
		if strings.TrimSpace(one) == "" {
			continue
		}
		name, command, ok := strings.Cut(strings.TrimSpace(one), "=")
		if !ok || name == "" || strings.ContainsAny(name, "/ ") || strings.TrimSpace(command) == "" {
			return nil, fmt.Errorf("PEER: %q is not name=command", one)
		}
		all = append(all, peerCommand{name, command})
	}
	return all, nil
}

// scene is what the subjects of a work have in common.
type scene struct {
	corefile string            // with {PORT}, {METRICS}, {HEALTH}, {READY} and {UPSTREAM}
	upstream string            // address:port of the upstream; empty where the work has none
	zone     string            // path of a master file; empty where the work has none
	origin   string            // its zone
	cores    string            // empty is the server's core
	fill     map[string]string // more placeholders of the Corefile
}

// run gives the path of the program for a configuration, which Debian may keep out of PATH.
func program(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return exec.LookPath(filepath.Join("/usr/sbin", name))
}

func writeFile(dir, name, text string) (string, error) {
	path := filepath.Join(dir, name)
	return path, os.WriteFile(path, []byte(text), 0o644)
}

// corefileOf fills in the work's Corefile for one server and gives its path and the address of its metrics.
func (sc scene) corefileOf(dir string, port int) (path, metrics string, err error) {
	at := "127.0.0.1:" + strconv.Itoa(freePort())
	text := strings.NewReplacer("{PORT}", strconv.Itoa(port), "{METRICS}", at, "{HEALTH}", "127.0.0.1:"+strconv.Itoa(freePort()),
		"{READY}", "127.0.0.1:"+strconv.Itoa(freePort()), "{UPSTREAM}", sc.upstream, "{ZONE}", sc.zone).Replace(sc.corefile)
	for key, value := range sc.fill {
		text = strings.ReplaceAll(text, key, value)
	}
	path, err = writeFile(dir, "Corefile", text)
	return path, "http://" + at + "/metrics", err
}

func (r *rig) subjectGodwit(sc scene) subject {
	return subject{"godwit", func(dir string, port int) (launch, error) {
		path, metrics, err := sc.corefileOf(dir, port)
		return launch{argv: []string{r.godwit, "-conf", path}, metrics: metrics}, err
	}}
}

func (r *rig) subjectEcho() subject {
	return subject{"echo", func(dir string, port int) (launch, error) {
		path := filepath.Join(dir, "tally")
		t, err := mapTally(path)
		return launch{argv: []string{r.self, "echo", "127.0.0.1:" + strconv.Itoa(port), path}, tally: t}, err
	}}
}

// upstream starts the server behind the forwarders and puts its address into the scene.
func (r *rig) upstream(sc *scene, ttl int) error {
	dir, err := r.folder("upstream")
	if err != nil {
		return err
	}
	s := &server{name: "upstream", dir: dir, port: freePort()}
	sc.upstream = s.addr()
	s.argv = []string{r.self, "upstream", s.addr(), strconv.Itoa(ttl)}
	if s.child, err = startChild(clientCore, filepath.Join(dir, "log"), nil, s.argv...); err == nil {
		r.running = append(r.running, s)
	}
	return err
}

// others gives the servers of PEER that have all they name in this scene. A command is split at blanks.
func (r *rig) others(sc scene) []subject {
	var all []subject
	for _, p := range r.opt.peers {
		if !r.opt.measures(p.name) || strings.Contains(p.command, "{COREFILE}") && sc.corefile == "" ||
			strings.Contains(p.command, "{ZONE}") && sc.zone == "" || strings.Contains(p.command, "{UPSTREAM}") && sc.upstream == "" {
			continue
		}
		all = append(all, subject{p.name, func(dir string, port int) (launch, error) {
			path, _, err := sc.corefileOf(dir, port)
			argv := strings.Fields(p.command)
			for i := range argv {
				argv[i] = strings.NewReplacer("{PORT}", strconv.Itoa(port), "{DIR}", dir, "{COREFILE}", path, "{ZONE}", sc.zone,
					"{UPSTREAM}", sc.upstream).Replace(argv[i])
			}
			return launch{argv: argv}, err
		}})
	}
	return all
}

// peer makes a subject of a program that reads one configuration file; it is left out when the program is not there.
func (r *rig) peer(all []subject, name, prog string, config func(dir string, port int) string, argv func(path, dir string) []string) []subject {
	path, err := program(prog)
	if err != nil {
		r.say("%s is not installed: left out (test/deps.sh bench)", name)
		return all
	}
	return append(all, subject{name, func(dir string, port int) (launch, error) {
		conf, err := writeFile(dir, name+".conf", config(dir, port))
		return launch{argv: append([]string{path}, argv(conf, dir)...)}, err
	}})
}

// zonePeers are the authoritative servers, for the scene's zone.
func (r *rig) zonePeers(sc scene) []subject {
	all := r.peer(nil, "knot", "knotd", func(dir string, port int) string {
		return fmt.Sprintf(`server:
    listen: 127.0.0.1@%d
    rundir: %[2]s
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
log:
  - target: stderr
    any: warning
database:
    storage: %[2]s
zone:
  - domain: %[3]s
    file: %[4]s
    zonefile-sync: -1
`, port, dir, sc.origin, sc.zone)
	}, func(conf, _ string) []string { return []string{"-c", conf} })
	return r.peer(all, "nsd", "nsd", func(dir string, port int) string {
		return fmt.Sprintf(`server:
    ip-address: 127.0.0.1@%d
    server-count: 1
    username: ""
    zonesdir: "%[2]s"
    database: ""
    pidfile: "%[2]s/pid"
    xfrdfile: "%[2]s/xfrd"
    zonelistfile: "%[2]s/zones"
    rrl-ratelimit: 0
    rrl-whitelist-ratelimit: 0
    minimal-responses: yes
remote-control:
    control-enable: no
zone:
    name: "%[3]s"
    zonefile: "%[4]s"
`, port, dir, sc.origin, sc.zone)
	}, func(conf, _ string) []string { return []string{"-d", "-c", conf} })
}

// cachePeers are the servers that forward to the scene's upstream, with or without keeping what it says.
func (r *rig) cachePeers(sc scene, keep bool) []subject {
	host, up, _ := strings.Cut(sc.upstream, ":")
	all := r.peer(nil, "unbound", "unbound", func(dir string, port int) string { return unboundConf(dir, port, sc.upstream, keep) },
		func(conf, _ string) []string { return []string{"-d", "-c", conf} })
	all = r.peer(all, "dnsdist", "dnsdist", func(dir string, port int) string {
		text := fmt.Sprintf("setLocal('127.0.0.1:%d')\nsetSecurityPollSuffix('')\nsetMaxUDPOutstanding(65535)\n"+
			"newServer({address='%s', healthCheckMode='up', sockets=4})\n", port, sc.upstream)
		if keep {
			text += "getPool(''):setCache(newPacketCache(100000))\n"
		}
		return text
	}, func(conf, _ string) []string { return []string{"--supervised", "--disable-syslog", "-C", conf} })
	all = r.peer(all, "dnsmasq", "dnsmasq", func(dir string, port int) string {
		size := 0
		if keep {
			size = 10000
		}
		return fmt.Sprintf("port=%d\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nserver=%s#%s\ncache-size=%d\n"+
			"dns-forward-max=10000\nuser=root\npid-file=%s/pid\nlog-facility=-\n", port, host, up, size, dir)
	}, func(conf, _ string) []string { return []string{"-k", "-C", conf} })
	return r.peer(all, "knot-resolver", "kresd", func(dir string, port int) string {
		ask := fmt.Sprintf("policy.add(policy.all(policy.STUB('%s@%s')))\n", host, up)
		if !keep {
			ask = "policy.add(policy.all(policy.FLAGS('NO_CACHE')))\n" + ask // and goes on to the next rule
		}
		return fmt.Sprintf("net.listen('127.0.0.1', %d, {kind='dns'})\nmodules.unload('ta_update')\ntrust_anchors.remove('.')\n"+
			"%scache.open(64*MB, 'lmdb://%s')\n", port, ask, dir)
	}, func(conf, dir string) []string { return []string{"-n", "-c", conf, dir} })
}

func unboundConf(dir string, port int, upstream string, keep bool) string {
	text := fmt.Sprintf(`server:
    interface: 127.0.0.1@%d
    do-ip6: no
    do-daemonize: no
    use-syslog: no
    username: ""
    chroot: ""
    directory: "%s"
    pidfile: ""
    num-threads: 1
    module-config: "iterator"
    do-not-query-localhost: no
    access-control: 127.0.0.0/8 allow
    so-rcvbuf: 4m
    outgoing-range: 8192
    num-queries-per-thread: 4096
    incoming-num-tcp: 64
    msg-cache-size: 64m
    rrset-cache-size: 64m
    minimal-responses: yes
`, port, dir)
	if !keep {
		text += "    cache-max-ttl: 0\n"
	}
	return text + fmt.Sprintf("remote-control:\n    control-enable: no\nforward-zone:\n    name: \".\"\n    forward-addr: %s\n",
		strings.Replace(upstream, ":", "@", 1))
}
