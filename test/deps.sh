#!/bin/sh
# Installs the Debian packages that the tests use, where it may; where it may
# not, prints those that are missing and fails. Says nothing when all are there.
#
#   deps.sh          what `go test ./...` uses
#   deps.sh bench    and the servers that `make bench` compares with
set -eu

# ask, build and look into images, run them, network namespaces and their rules
packages="bind9-dnsutils knot-dnsutils dnsperf ca-certificates
	buildah runc libcap2-bin
	iproute2 procps util-linux curl nftables iptables ipset conntrack"
case "${1:-}" in
'') ;;
bench) packages="$packages unbound knot knot-resolver nsd dnsmasq dnsdist" ;;
*)
	echo "usage: deps.sh [bench]" >&2
	exit 2
	;;
esac

missing() {
	for package in $packages; do
		status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
		[ "$status" = installed ] || printf ' %s' "$package"
	done
}

if ! command -v dpkg-query >/dev/null; then
	echo "deps.sh: this is no Debian; the tests use the programs of:" $packages >&2
	exit 1
fi
wanted=$(missing)
[ -n "$wanted" ] || exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "deps.sh: missing; as root: apt-get install$wanted" >&2
	exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# At run level 1 no package starts its service: a name server of the system's
# would hold port 53.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
if ! { apt-get update && apt-get install -y --no-install-recommends $wanted; } >"$log" 2>&1; then
	cat "$log" >&2
	echo "deps.sh: could not install$wanted" >&2
	exit 1
fi
echo "deps.sh: installed$wanted"
