#!/bin/sh
# Serves this folder's cluster on 127.0.0.1:1053 until it is interrupted.
#   run.sh PATH-OF-GODWIT
set -eu
godwit=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")"
cat <<TXT
Serving the cluster of examples/quickstart/cluster.yaml (zone cluster.local) on 127.0.0.1:1053, without any cluster.
Change the file and ask again. In another terminal, for instance:

  dig @127.0.0.1 -p 1053 web.shop.svc.cluster.local A
  dig @127.0.0.1 -p 1053 _peer._tcp.db.shop.svc.cluster.local SRV
  dig @127.0.0.1 -p 1053 -x 10.96.0.80

TXT
exec "$godwit" -conf Corefile
