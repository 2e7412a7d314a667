package e2e_test

import (
	"strings"
	"testing"

	"github.com/godwit-dns/godwit/test/kube"
)

// testAccess reaches the API server by a kubeconfig's token and context, and
// by endpoint and tls; a pod's way is testCorefiles's.
func testAccess(t *testing.T, plane *kube.Plane) {
	apply(t, plane, steady)
	certFile, keyFile, err := plane.ClientCertificate(kube.DNSAccount)
	if err != nil {
		t.Fatal(err)
	}
	config := kubeconfig(t, plane, kube.DNSAccount)
	for what, lines := range map[string]string{
		"kubeconfig": "kubeconfig " + config,
		"context":    "kubeconfig " + config + " test",
		"endpoint":   "endpoint " + plane.URL() + "\ntls " + certFile + " " + keyFile + " " + plane.CAFile(),
		"limits":     "kubeconfig " + config + "\napiserver_qps 50\napiserver_burst 100\napiserver_max_inflight 3",
	} {
		t.Run(what, func(t *testing.T) {
			corefile := strings.Replace(clusterCorefile, "kubeconfig {$KUBECONFIG}", lines, 1)
			corefile = strings.Replace(corefile, "import {$DIR}/options", "", 1)
			serve(t, corefile).check(t, steadyAnswers)
		})
	}
	// Whom the API server does not know it tells nothing.
	t.Run("no credentials", func(t *testing.T) {
		corefile := strings.Replace(clusterCorefile, "kubeconfig {$KUBECONFIG}", "endpoint "+plane.URL()+"\ntls \"\" \"\" "+plane.CAFile(), 1)
		g := serve(t, strings.Replace(corefile, "import {$DIR}/options", "startup_timeout 500ms", 1))
		g.check(t, answers{{"web.steady.svc.cluster.local A", "SERVFAIL"}})
		if !strings.Contains(g.out.String(), "401") {
			t.Error("the refusal is not in the log")
		}
	})
}

// imports is the definition of ServiceImport (sigs.k8s.io/mcs-api), as far as
// an API server needs it to store them, and the right to read them.
const imports = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: serviceimports.multicluster.x-k8s.io
  annotations: {api-approved.kubernetes.io: "https://github.com/kubernetes-sigs/mcs-api"}
spec:
  group: multicluster.x-k8s.io
  scope: Namespaced
  names: {kind: ServiceImport, listKind: ServiceImportList, plural: serviceimports, singular: serviceimport}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: imports}
rules: [{apiGroups: [multicluster.x-k8s.io], resources: [serviceimports], verbs: [list, watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: imports}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: imports}
subjects: [{kind: ServiceAccount, name: coredns, namespace: kube-system}]
`

// imported is a Service of other clusters with an address of its own, and a
// headless one with endpoints in two clusters.
const imported = `
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: shared, namespace: steady}
spec: {type: ClusterSetIP, ips: [10.42.42.42], ports: [{name: http, port: 80, protocol: TCP}]}
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: spread, namespace: steady}
spec: {type: Headless, ports: [{name: peer, port: 5432, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: spread-east
  namespace: steady
  labels: {multicluster.kubernetes.io/service-name: spread, multicluster.kubernetes.io/source-cluster: east}
addressType: IPv4
ports: [{name: peer, port: 5432, protocol: TCP}]
endpoints: [{addresses: [10.200.0.1], hostname: db-0, conditions: {ready: true}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: spread-west
  namespace: steady
  labels: {multicluster.kubernetes.io/service-name: spread, multicluster.kubernetes.io/source-cluster: west}
addressType: IPv4
ports: [{name: peer, port: 5432, protocol: TCP}]
endpoints: [{addresses: [10.201.0.1], hostname: db-0, conditions: {ready: true}}]
`

const importsCorefile = `
.:{$DNS} {
    bind 127.0.0.1
    errors
    prometheus 127.0.0.1:{$METRICS}
    kubernetes cluster.local clusterset.local in-addr.arpa ip6.arpa {
        kubeconfig {$KUBECONFIG}
        multicluster clusterset.local
        startup_timeout 2s
    }
}
`

// testImports serves Services of other clusters beside those of this one.
func testImports(t *testing.T, plane *kube.Plane) {
	apply(t, plane, steady)
	apply(t, plane, imports)
	g := serve(t, importsCorefile, "KUBECONFIG="+kubeconfig(t, plane, kube.DNSAccount))
	background := probe(t, g)
	apply(t, plane, imported)
	g.becomes(t, answers{
		{"shared.steady.svc.clusterset.local A", "NOERROR 10.42.42.42"},
		{"shared.steady.svc.clusterset.local AAAA", "NODATA"},
		{"_http._tcp.shared.steady.svc.clusterset.local SRV", "NOERROR 0 100 80 shared.steady.svc.clusterset.local. / shared.steady.svc.clusterset.local. A 10.42.42.42"},
		{"spread.steady.svc.clusterset.local A", "NOERROR 10.200.0.1 10.201.0.1"},
		{"db-0.east.spread.steady.svc.clusterset.local A", "NOERROR 10.200.0.1"},
		{"db-0.west.spread.steady.svc.clusterset.local A", "NOERROR 10.201.0.1"},
		{"db-0.north.spread.steady.svc.clusterset.local A", "NXDOMAIN"},
		{"web.steady.svc.clusterset.local A", "NXDOMAIN"},
		{"shared.steady.svc.cluster.local A", "NXDOMAIN"},
		{"steady.svc.clusterset.local A", "NODATA"},
		{"clusterset.local A", "NODATA"},
	})
	remove(t, plane, imported)
	g.becomes(t, answers{
		{"shared.steady.svc.clusterset.local A", "NXDOMAIN"},
		{"spread.steady.svc.clusterset.local A", "NXDOMAIN"},
	})
	background.end(t)
}
