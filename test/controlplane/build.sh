#!/bin/sh
# Builds etcd, kube-apiserver and kube-controller-manager at the versions that
# go.mod pins, and prints the folder they are in.
#
#   build.sh [OUTDIR]
#
# OUTDIR defaults to a folder of the user's cache, named after the versions, so
# that a change of go.mod builds anew and everything else builds nothing.
# Needs Go and its module proxy, nothing else. Takes about four minutes on two
# cores the first time.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
hash=$(cat "$here/go.mod" "$here/go.sum" "$here/build.sh" | sha256sum | cut -c1-16)
out=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/godwit/controlplane-$hash}
mkdir -p "$out"
out=$(cd "$out" && pwd)

# Several test packages may ask at the same moment: one builds, the others wait.
exec 9>"$out/.lock"
flock 9

# The stamp holds the hash, so a folder given by hand is also built anew.
if [ "$(cat "$out/.stamp" 2>/dev/null || true)" = "$hash" ]; then
	echo "$out"
	exit 0
fi

cd "$here"
export CGO_ENABLED=0 GOWORK=off
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v1.}
minor=${minor%%.*}
# Without these the server calls itself v0.0.0-master and picks its feature
# gates for that.
v=k8s.io/component-base/version
stamp="-X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=$minor -X $v.gitTreeState=clean"

build() {
	echo "building $1 ($2)" >&2
	go build -p 2 -trimpath -buildvcs=false -ldflags "-s -w $stamp" -o "$out/$1.new" "$2"
	mv "$out/$1.new" "$out/$1"
}
build etcd go.etcd.io/etcd/server/v3
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
build kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager

echo "$hash" >"$out/.stamp"
echo "$out"
