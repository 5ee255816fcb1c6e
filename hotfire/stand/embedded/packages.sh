#!/bin/sh
# Installs what the stand takes from Debian, and nothing when all of it is there.
set -eu
list="$(dirname "$0")/packages.txt"
missing=""
for package in $(cat "$list"); do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "^install ok installed" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
command -v apt-get >/dev/null || { echo "needs$missing; this machine has no apt-get" >&2; exit 1; }
echo "packages:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086
apt-get -qq -y --no-install-recommends install $missing >/dev/null
