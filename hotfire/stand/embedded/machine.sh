#!/bin/sh
# Exit 1 and one line when the stand cannot run here: what it needs and what to use instead. Arguments: further needs, seen
# by the caller. In sh, since `make` asks it before there is any Python.
set -eu
unset OMP_NUM_THREADS OMP_THREAD_LIMIT # nproc would obey them

# The controllers that are there and may be written to; kubelet and runc do not start a pod without four of them.
controllers() {
  while read -r _ where kind options _; do
    [ -w "$where" ] || continue
    case $kind in
      cgroup) echo "$options" ;;
      cgroup2) cat "$where/cgroup.controllers" ;;
    esac
  done </proc/self/mounts
}

system=$(uname -s)
if [ "$system" != Linux ]; then
  set -- "Linux (this is $system)"
elif [ "$(id -u)" != 0 ]; then
  set -- root
else
  there=$(controllers)
  missing=""
  for name in cpu cpuset memory pids; do
    echo "$there" | grep -qw "$name" || missing="$missing, $name"
  done
  if [ -n "$missing" ]; then
    set -- "cgroup controllers ${missing#, }, writable" "$@"
  elif [ "$(nproc)" -lt 2 ]; then
    set -- "2 CPUs" "$@"
  fi
fi
[ $# = 0 ] && exit 0
needs=$1
shift
for need; do
  needs="$needs; $need"
done
echo "the embedded stand cannot run here: needs $needs. Instead, use your own cluster (--kubeconfig) or" \
  "kind, k3d or minikube through pytest-kubernetes (--provider)" >&2
exit 1
