#!/bin/sh
# The Debian packages of the embedded stand. Installs what is missing; says in one line why it cannot.
set -eu
wanted="runc iptables conntrack iproute2 util-linux catatonit mmdebstrap python3-venv"
missing=""
for package in $wanted; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "install ok" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
[ "$(id -u)" = 0 ] || { echo "the embedded stand needs$missing: install them, or use your own kubeconfig, kind, k3d or minikube" >&2; exit 1; }
echo "Debian packages:$missing"
# shellcheck disable=SC2086
{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >/dev/null
