#!/bin/sh
# Builds the image of deploy/Dockerfile without a registry, as an OCI archive.
#
#   build.sh ARCHIVE.tar
#
# GODWIT_BINARY names a static program to put in; otherwise cmd/godwit is built.
# Needs root, buildah, setcap and the host's CA certificates: test/deps.sh
# installs them.
set -eu

archive=${1:?usage: build.sh ARCHIVE.tar}
root=$(cd "$(dirname "$0")/../.." && pwd)
authorities=/etc/ssl/certs/ca-certificates.crt

for tool in buildah setcap; do
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

if [ -n "${GODWIT_BINARY:-}" ]; then
	cp "$GODWIT_BINARY" "$work/context/coredns"
else
	(cd "$root" && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$work/context/coredns" ./cmd/godwit)
fi
chmod 0755 "$work/context/coredns"
# buildah copies the capability with the file, into the image's layer too.
setcap cap_net_bind_service=+ep "$work/context/coredns"
cp "$authorities" "$work/context/ca-certificates.crt"

# chroot and vfs work where there are neither user namespaces nor overlayfs.
in_store() {
	buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs "$@"
}
in_store build --quiet --isolation chroot --target coredns --tag localhost/godwit/coredns \
	--file "$root/deploy/Dockerfile" "$work/context" >/dev/null
rm -f "$archive" # buildah refuses to write over one
in_store push --quiet localhost/godwit/coredns "oci-archive:$archive"
