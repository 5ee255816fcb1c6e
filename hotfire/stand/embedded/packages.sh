#!/bin/sh
# Installs what the stand takes from Debian, and nothing when all of it is there or the machine cannot run the stand.
set -eu
here="$(dirname "$0")"
sh "$here/machine.sh"
missing=""
for package in $(cat "$here/packages.txt"); do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "^install ok installed" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
command -v apt-get >/dev/null || exec sh "$here/machine.sh" "Debian packages$missing (there is no apt-get)"
echo "packages:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
# shellcheck disable=SC2086
apt-get -qq -y --no-install-recommends install $missing >/dev/null
