// Package controlplane pins the versions of etcd, kube-apiserver and
// kube-controller-manager that the end-to-end tests run against.
//
// It is a module of its own so that none of the requirements reach the
// product's go.mod. build.sh builds the three programs from it; package
// test/kube of the main module runs them.
package controlplane
