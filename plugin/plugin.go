// Package plugin is the ordered list of directives: what can stand in a Corefile, and in which order its handlers are
// asked. Start reading here.
package plugin

import (
	"github.com/godwit-dns/godwit/chain"
	"github.com/godwit-dns/godwit/plugin/bind"
	"github.com/godwit-dns/godwit/plugin/bufsize"
	"github.com/godwit-dns/godwit/plugin/cache"
	"github.com/godwit-dns/godwit/plugin/debug"
	"github.com/godwit-dns/godwit/plugin/dns64"
	"github.com/godwit-dns/godwit/plugin/errors"
	"github.com/godwit-dns/godwit/plugin/file"
	"github.com/godwit-dns/godwit/plugin/forward"
	"github.com/godwit-dns/godwit/plugin/health"
	"github.com/godwit-dns/godwit/plugin/hosts"
	"github.com/godwit-dns/godwit/plugin/kubernetes"
	"github.com/godwit-dns/godwit/plugin/loadbalance"
	"github.com/godwit-dns/godwit/plugin/local"
	"github.com/godwit-dns/godwit/plugin/log"
	"github.com/godwit-dns/godwit/plugin/loop"
	"github.com/godwit-dns/godwit/plugin/metadata"
	"github.com/godwit-dns/godwit/plugin/minimal"
	"github.com/godwit-dns/godwit/plugin/multisocket"
	"github.com/godwit-dns/godwit/plugin/pprof"
	"github.com/godwit-dns/godwit/plugin/prometheus"
	"github.com/godwit-dns/godwit/plugin/ready"
	"github.com/godwit-dns/godwit/plugin/reload"
	"github.com/godwit-dns/godwit/plugin/rewrite"
	"github.com/godwit-dns/godwit/plugin/root"
	"github.com/godwit-dns/godwit/plugin/searchpath"
	"github.com/godwit-dns/godwit/plugin/template"
	"github.com/godwit-dns/godwit/plugin/timeouts"
	"github.com/godwit-dns/godwit/plugin/tls"
	"github.com/godwit-dns/godwit/plugin/trace"
	"github.com/godwit-dns/godwit/plugin/transfer"
	"github.com/godwit-dns/godwit/plugin/whoami"
)

// All lists every directive in the order of the chain. The order is CoreDNS's, and with it what a Corefile means: the
// order of lines in a Corefile plays no part.
func All() []chain.Spec {
	return []chain.Spec{
		root.Spec,
		metadata.Spec,
		timeouts.Spec,
		multisocket.Spec,
		reload.Spec,
		bufsize.Spec,
		bind.Spec,
		debug.Spec,
		trace.Spec,
		ready.Spec,
		health.Spec,
		pprof.Spec,
		prometheus.Spec,
		errors.Spec,
		log.Spec,
		local.Spec,
		dns64.Spec,
		loadbalance.Spec,
		rewrite.Spec,
		searchpath.Spec, // Godwit's own, where autopath stands
		cache.Spec,
		tls.Spec,
		minimal.Spec,
		template.Spec,
		transfer.Spec,
		hosts.Spec,
		kubernetes.Spec,
		file.Spec,
		loop.Spec,
		forward.Spec,
		forward.Proxy,
		whoami.Spec,
	}
}
