package searchpath

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"time"

	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/cluster"
	"github.com/godwit-dns/godwit/corefile"
	"github.com/godwit-dns/godwit/metrics"
	"github.com/godwit-dns/godwit/wire"
)

const usage = `searchpath [CLUSTER_DOMAIN] {
    node NAME
    resolv_conf FILE
    kubeconfig KUBECONFIG [CONTEXT]
    endpoint URL
    tls CERT KEY CACERT
    manifests PATH
}`

// Spec is the directive.
var Spec = chain.Spec{
	Name:    "searchpath",
	Usage:   usage,
	Options: func() corefile.Options { return new(settings).rows() },
	New:     setup,
}

// settings are the line as it is written. Blocks with equal ones share what is known of the pods.
type settings struct {
	domain  string // without dots at its ends, lower case
	node    string
	resolv  string
	cluster cluster.Config
}

// firstWord is how long the start waits for the API server to say whether pods may be read. A node's DNS does not wait for
// a control plane that is away.
const firstWord = 2 * time.Second

func setup(s *chain.Setup) error {
	if len(s.Lines) > 1 {
		return corefile.Errorf(s.Lines[1].Name.Pos, "searchpath can stand only once in a server block")
	}
	line := &s.Lines[0]
	o := settings{resolv: "/etc/resolv.conf"}
	if err := o.domainOf(line, s.Block); err != nil {
		return err
	}
	warnings, err := o.rows().Read(line)
	s.Warn(warnings...)
	if err != nil {
		return err
	}
	if o.node == "" {
		o.node, _ = s.Env.Env("NODE_NAME")
	}
	c, err := o.core(s)
	if err != nil {
		return err
	}
	h := &SearchPath{core: c, slot: chain.NewSlot[*walk](s), loops: make([]perLoop, s.Env.Loops)}
	s.OnBuilt(func() error { return reached(s, c) })
	s.Handler(h)
	return nil
}

// domainOf reads the argument. Without one it is the block's zone, or cluster.local in a block for everything.
func (o *settings) domainOf(line *corefile.Line, b *chain.Block) error {
	if len(line.Args) > 1 {
		return corefile.Errorf(line.Args[1].Pos, "searchpath takes one cluster domain at most")
	}
	o.domain = "cluster.local"
	for _, z := range b.Zones {
		if z != "." && !strings.HasSuffix(z, ".arpa.") {
			o.domain = strings.TrimSuffix(z, ".")
			break
		}
	}
	if len(line.Args) == 1 {
		name, err := wire.ParseName(line.Args[0].Text)
		if err != nil || len(name) == 1 {
			return corefile.Errorf(line.Args[0].Pos, "%q is no cluster domain", line.Args[0].Text)
		}
		o.domain = strings.TrimSuffix(strings.ToLower(line.Args[0].Text), ".")
	}
	return nil
}

// core opens what equal lines share.
func (o *settings) core(s *chain.Setup) (*core, error) {
	type opened struct {
		core *core
		err  error
	}
	key := fmt.Sprintf("searchpath %+v", *o)
	shared := s.Shared(key, func() any {
		c, err := newCore(s, *o)
		return &opened{c, err}
	}).(*opened)
	return shared.core, shared.err
}

func newCore(s *chain.Setup, o settings) (*core, error) {
	c := &core{domain: wire.MustName(o.domain), svc: wire.MustName("svc." + o.domain), seen: newSeen()}
	c.lists = lists{domain: o.domain, seed: maphash.MakeSeed(), clock: s.Env.Clock, wall: s.Env.Wall}
	o.cluster.Log, o.cluster.Wall, o.cluster.UserAgent = s.Env.Log, s.Env.Wall, "godwit (searchpath)"
	var err error
	c.pods, err = cluster.OpenNodePods(o.cluster, o.node, func(pods []*cluster.NodePod) { c.table.set(&c.lists, pods) })
	if err != nil {
		return nil, corefile.Errorf(s.Pos(), "%v", err)
	}
	if o.node == "" && o.cluster.Manifests == "" {
		e := corefile.Errorf(s.Pos(), "searchpath does not know which node it is on")
		e.Hint = "write node NAME in its block, or set NODE_NAME in the pod's manifest: " +
			"env: [{name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]"
		return nil, e
	}
	if c.lists.node, err = readSearch(s.Env.Files, o.resolv, o.domain); err != nil {
		return nil, corefile.Errorf(s.Pos(), "searchpath: %v", err)
	}
	c.count(s.Env)
	s.Go(c.pods.Run)
	s.OnStart(func(ctx context.Context) error { return c.start(ctx, s) })
	return c, nil
}

// count makes the metrics.
func (c *core) count(env *chain.Env) {
	c.completed = env.Metrics.Counter("godwit_searchpath_completed_total", "Counter of answers that finished a pod's walk over its search list.")
	for r := range c.alone {
		if r := reason(r); r != completable {
			c.alone[r] = env.Metrics.Counter("godwit_searchpath_left_alone_total",
				"Counter of answers that may have begun a walk over a search list and were left as they are, by reason.", metrics.L("reason", r.label())...)
		}
	}
}

// start refuses the configuration when the pods may not be read, and says how they may.
func (c *core) start(ctx context.Context, s *chain.Setup) error {
	s.Env.Metrics.GaugeFunc("godwit_searchpath_addresses", "Addresses of pods of this node that are known.", func() float64 {
		if m := c.table.clients.Load(); m != nil {
			return float64(len(*m))
		}
		return 0
	})
	ctx, cancel := context.WithTimeout(ctx, firstWord)
	defer cancel()
	err := c.pods.WaitSynced(ctx)
	var forbidden *cluster.ForbiddenError
	switch {
	case err == nil:
	case errors.As(err, &forbidden):
		e := corefile.Errorf(s.Pos(), "searchpath must list and watch pods, and the API server does not let it: %s", forbidden.Message)
		e.Hint = "remove the line, or apply this with kubectl:\n" + role(forbidden.User)
		return e
	default:
		s.Env.Log.Warn("searchpath: the pods of this node have not been read yet, nothing is completed until they are")
	}
	return nil
}

// role is the manifest that lets a user read pods.
func role(user string) string {
	subject := "- kind: ServiceAccount\n  name: node-local-dns\n  namespace: kube-system\n"
	if namespace, name, ok := strings.Cut(strings.TrimPrefix(user, "system:serviceaccount:"), ":"); ok && strings.HasPrefix(user, "system:serviceaccount:") {
		subject = fmt.Sprintf("- kind: ServiceAccount\n  name: %s\n  namespace: %s\n", name, namespace)
	} else if user != "" {
		subject = fmt.Sprintf("- kind: User\n  apiGroup: rbac.authorization.k8s.io\n  name: %q\n", user)
	}
	return `apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: godwit-searchpath
rules:
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: godwit-searchpath
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: godwit-searchpath
subjects:
` + subject
}

// reached refuses a line that would never see what it is for, because names in the cluster are another block's.
func reached(s *chain.Setup, c *core) error {
	best, at := wire.Name(nil), s.Block
	for _, b := range s.Block.Config.Blocks {
		for i, zone := range b.Names {
			if c.svc.Under(zone) && len(zone) > len(best) && samePort(s.Block, b) {
				best, at = b.Names[i], b
			}
		}
	}
	for _, own := range s.Block.Names { // the same zone may be there several times, by views
		if best != nil && wire.Equal(best, own) {
			return nil
		}
	}
	e := corefile.Errorf(s.Pos(), "searchpath stands in a block that gets no query for svc.%s", c.lists.domain)
	e.Hint = "move the line to the block for that domain"
	if at != s.Block {
		e.Hint += ", which begins at " + at.Pos.String()
	}
	return e
}

func samePort(a, b *chain.Block) bool {
	for _, x := range a.Keys {
		for _, y := range b.Keys {
			if x.Port == y.Port {
				return true
			}
		}
	}
	return false
}

// rows are the options.
func (o *settings) rows() corefile.Options {
	c := &o.cluster
	return corefile.Options{
		corefile.Text("node", "NAME", &o.node),
		corefile.Text("resolv_conf", "FILE", &o.resolv),
		{Name: "kubeconfig", Usage: "KUBECONFIG [CONTEXT]", Min: 1, Max: 2, Read: func(l *corefile.Line) error {
			c.Kubeconfig, c.Context = l.Args[0].Text, ""
			if len(l.Args) == 2 {
				c.Context = l.Args[1].Text
			}
			return nil
		}},
		corefile.Text("endpoint", "URL", &c.Endpoint),
		{Name: "tls", Usage: "CERT KEY CACERT", Min: 3, Max: 3, Read: func(l *corefile.Line) error {
			c.CertFile, c.KeyFile, c.CAFile = l.Args[0].Text, l.Args[1].Text, l.Args[2].Text
			return nil
		}},
		corefile.Text("manifests", "PATH", &c.Manifests),
	}
}
