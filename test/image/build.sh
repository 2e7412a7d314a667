#!/bin/sh
# Builds an image of deploy/Dockerfile without a registry, as an OCI archive.
#
#   build.sh ARCHIVE.tar [coredns|node-cache]
#
# GODWIT_BINARY names a static program to put in; otherwise cmd/godwit is built.
# Needs root, buildah, setcap, the host's CA certificates, and for node-cache
# Debian's iptables: test/deps.sh installs them.
set -eu

archive=${1:?usage: build.sh ARCHIVE.tar [coredns|node-cache]}
target=${2:-coredns}
root=$(cd "$(dirname "$0")/../.." && pwd)
authorities=/etc/ssl/certs/ca-certificates.crt

case $target in
coredns | node-cache) ;;
*)
	echo "build.sh: $target is none of coredns, node-cache" >&2
	exit 2
	;;
esac
for tool in buildah setcap dpkg-query iptables-nft iptables-legacy; do
	if ! command -v "$tool" >/dev/null; then
		echo "build.sh: $tool is missing; run test/deps.sh" >&2
		exit 1
	fi
done
if [ ! -s "$authorities" ]; then
	echo "build.sh: $authorities is missing; run test/deps.sh" >&2
	exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir "$work/context"

# with_programs DIR makes a tree of the iptables programs of both backends and
# all that they load: shared libraries, the loader, their own extensions.
with_programs() {
	tree=$1
	mkdir -p "$tree/usr/sbin" "$tree/run" "$tree/tmp"
	chmod 1777 "$tree/tmp"
	packages=iptables
	for backend in nft legacy; do
		program=$(readlink -f "$(command -v "iptables-$backend")")
		cp "$program" "$tree/usr/sbin/"
		for family in iptables ip6tables; do
			for action in '' -save -restore; do
				ln -s "$(basename "$program")" "$tree/usr/sbin/$family-$backend$action"
			done
		done
		for library in $(ldd "$program" | grep -o '/[^ ]*'); do
			mkdir -p "$tree$(dirname "$library")"
			cp -L "$library" "$tree$library"
			file=$(readlink -f "$library")
			owner=$(dpkg-query -S "$file" 2>/dev/null || dpkg-query -S "${file#/usr}")
			packages="$packages ${owner%%:*}"
		done
	done
	for family in iptables ip6tables; do
		for action in '' -save -restore; do
			ln -s "$family-nft$action" "$tree/usr/sbin/$family$action"
		done
	done
	extensions=$(dirname "$(dpkg-query -L iptables | grep '/libxt_comment\.so$')")
	mkdir -p "$tree$extensions"
	cp -a "$extensions"/libxt_* "$extensions"/libipt_* "$extensions"/libip6t_* "$tree$extensions/"
	for package in $(printf '%s\n' $packages | sort -u); do
		mkdir -p "$tree/usr/share/doc/$package"
		cp -L "/usr/share/doc/$package/copyright" "$tree/usr/share/doc/$package/"
	done
}

if [ -n "${GODWIT_BINARY:-}" ]; then
	cp "$GODWIT_BINARY" "$work/context/$target"
else
	(cd "$root" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/context/$target" ./cmd/godwit)
fi
chmod 0755 "$work/context/$target"
if [ "$target" = coredns ]; then
	# buildah copies the capability with the file, into the image's layer too.
	setcap cap_net_bind_service=+ep "$work/context/$target"
else
	with_programs "$work/context/programs"
fi
cp "$authorities" "$work/context/ca-certificates.crt"

# chroot and vfs work where there are neither user namespaces nor overlayfs.
in_store() {
	buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs "$@"
}
in_store build --quiet --isolation chroot --target "$target" --tag "localhost/godwit/$target" \
	--file "$root/deploy/Dockerfile" "$work/context" >/dev/null
rm -f "$archive" # buildah refuses to write over one
in_store push --quiet "localhost/godwit/$target" "oci-archive:$archive"
