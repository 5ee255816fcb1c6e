"""What a stand could leave on a machine, looked at without any record of the stand's own.

Two snapshots, one before `up` and one after `down`, must be equal but for what the machine does by itself.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hotfire.stand.embedded import cgroups, plan
from hotfire.stand.embedded.processes import command

KEYS = ("processes", "mounts", "namespaces", "interfaces", "routes", "iptables", "cgroups", "sysctls", "folders")
# change by themselves, or with the load of the moment
MOVING = re.compile(
    r"kernel[./](random|ns_last_pid|pty|perf_event_max_sample_rate|sched_domain)|fs[./](dentry-state|file-nr|inode-|aio-nr|quota)"
    r"|nf_conntrack_count|net[./]ipv4[./]tcp_fastopen_key|fs[./]binfmt_misc|net[./]netfilter[./]nf_log"
)

COUNTERS = re.compile(r"\[\d+:\d+\]")  # packets and bytes


@dataclass(frozen=True)
class Machine:
    """Each key of KEYS -> the set of what is there, as lines."""

    seen: Mapping[str, frozenset[str]]

    @classmethod
    def look(cls) -> "Machine":
        """Look at the whole machine, now."""
        return cls(
            {
                "processes": frozenset(_processes()),
                "mounts": frozenset(_mounts()),
                "namespaces": frozenset(_names(Path("/run/netns")) | _names(Path("/var/run/netns"))),
                "interfaces": frozenset(_interfaces()),
                "routes": frozenset(_lines("ip", "route", "show", "table", "all")),
                "iptables": frozenset(_rules()),
                "cgroups": frozenset(_cgroups()),
                "sysctls": frozenset(_sysctls()),
                "folders": frozenset(_folders()),
            }
        )

    def changes(self, later: "Machine") -> list[str]:
        """`key: + line` for what is new, `key: - line` for what is gone; processes and mounts only new ones of ours."""
        found = []
        for key in KEYS:
            new, gone = later.seen[key] - self.seen[key], self.seen[key] - later.seen[key]
            found += [f"{key}: + {line}" for line in sorted(new)]
            found += [f"{key}: - {line}" for line in sorted(gone) if key not in ("processes", "cgroups")]
        return found


def _processes() -> Iterator[str]:
    """Processes that run the stand's programs, or live in namespaces other than ours. pid, start time and command."""
    home = {kind: Path(f"/proc/self/ns/{kind}").readlink() for kind in ("net", "mnt", "pid")}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            elsewhere = any((folder / "ns" / kind).readlink() != link for kind, link in home.items())
            start = (folder / "stat").read_text().rpartition(")")[2].split()[19]
        except OSError:
            continue
        if argv and (elsewhere or str(plan.RUN) in argv or str(plan.cache() / "bin") in argv):
            yield f"{folder.name} {start} {argv[:120]}"


def _mounts() -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        yield f"{left.split()[4]} {right.split()[0]}"


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _interfaces() -> Iterator[str]:
    for link in json.loads(command("ip", "-j", "addr")):
        addresses = sorted(f"{a['local']}/{a['prefixlen']}" for a in link.get("addr_info", []))
        yield f"{link['ifname']} {' '.join(addresses)} {','.join(sorted(link['flags']))}"


def _lines(*argv: str) -> list[str]:
    return [line.strip() for line in command(*argv, check=False).splitlines() if line.strip()]


def _rules() -> Iterator[str]:
    for program in ("iptables-save", "ip6tables-save"):
        for line in _lines(program):
            if not line.startswith("#"):
                yield f"{program}: {COUNTERS.sub('', line)}"


def _cgroups() -> Iterator[str]:
    for root, _ in cgroups.hierarchies():
        yield from (str(path.parent) for path in root.rglob("cgroup.procs"))


def _sysctls() -> Iterator[str]:
    for file in Path("/proc/sys").rglob("*"):
        name = str(file.relative_to("/proc/sys"))
        if file.is_file() and not MOVING.search(name):
            try:
                yield f"{name} = {file.read_text().strip()}"
            except (OSError, UnicodeDecodeError):  # write-only or refused
                continue


def _folders() -> Iterator[str]:
    """Folders on the host that Kubernetes and containerd use by default, and the stand's own."""
    usual = ("/var/lib/kubelet", "/var/lib/cni", "/var/lib/containerd", "/var/log/pods", "/var/log/containers")
    other = ("/etc/cni", "/opt/cni", "/opt/containerd", "/etc/nri", "/opt/nri", "/run/containerd", "/run/netns")
    for folder in map(Path, (*usual, *other)):
        if folder.is_dir():
            yield from (str(folder), *(str(path) for path in folder.iterdir()))
    for folder in (plan.RUN, plan.cache() / "stands"):
        if folder.is_dir():
            yield from (str(path) for path in folder.iterdir() if path.is_dir())
