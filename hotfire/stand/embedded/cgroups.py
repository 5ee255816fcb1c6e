"""The stand's cgroups, on v1, hybrid and v2: membership is what a killed stand is found again by.

Layout in every hierarchy: `hotfire/system` (control plane, kubelets, containerds) and `hotfire/pods/NODE` (each
kubelet's cgroupRoot). The cpuset keeps pods and everything else apart.
"""

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from hotfire.errors import HarnessError
from hotfire.stand.embedded import plan
from hotfire.stand.embedded.patience import until

ENABLED = plan.RUN / "controllers"  # v2: what we switched on in the root, to be switched off again
NEEDED = ("cpu", "cpuset", "memory", "pids")  # kubelet and runc do not start a pod without them


@cache
def hierarchies() -> Sequence[tuple[Path, str]]:
    """(mount point, type) of each cgroup hierarchy; type is cgroup or cgroup2."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind in ("cgroup", "cgroup2"):
            found.append((Path(where), kind))
    return found


def unified() -> bool:
    """True on pure v2."""
    return all(kind == "cgroup2" for _, kind in hierarchies())


def _cpuset() -> Path:
    for root, kind in hierarchies():
        if (root / ("cpuset.cpus.effective" if kind == "cgroup2" else "cpuset.cpus")).exists():
            return root
    raise HarnessError("no cpuset controller")


def _expand(text: str) -> list[int]:
    spans = [part.split("-") for part in text.strip().split(",") if part]
    return [cpu for span in spans for cpu in range(int(span[0]), int(span[-1]) + 1)]


def cpus() -> tuple[Sequence[int], Sequence[int]]:
    """(system, pods): pods get the last CPU of two, the upper half of more; all else, the load client too, the rest."""
    root = _cpuset()
    file = next(f for f in (root / "cpuset.cpus.effective", root / "cpuset.effective_cpus", root / "cpuset.cpus") if f.exists())
    usable = _expand(file.read_text())
    half = (len(usable) + 1) // 2
    return usable[:half], usable[half:]


def ours() -> Iterator[Path]:
    """The stand's own folder in each hierarchy, where it exists."""
    for root, _ in hierarchies():
        if (root / plan.CGROUP).is_dir():
            yield root / plan.CGROUP


def prepare(nodes: Sequence[str]) -> None:
    """Make all folders; a v1 cpuset must be filled before anything can enter it (facts: traps)."""
    for root, kind in hierarchies():
        own = root / plan.CGROUP
        folders = [own, own / "system", own / "pods", *(own / "pods" / n for n in nodes)]
        if kind == "cgroup2" and unified():
            _enable(root, remember=True)
        for folder in folders:
            folder.mkdir(exist_ok=True)
            if kind == "cgroup2" and unified() and folder.name != "system":
                _enable(folder)
            if kind == "cgroup" and (folder / "cpuset.cpus").exists():
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (folder / file).write_text((root / file).read_text())
    _weigh()


def _enable(folder: Path, remember: bool = False) -> None:
    have = set((folder / "cgroup.subtree_control").read_text().split())
    wanted = set((folder / "cgroup.controllers").read_text().split()) & {*NEEDED, "io", "hugetlb"}
    if remember and wanted - have:
        ENABLED.write_text(" ".join(sorted(wanted - have)))
    for controller in sorted(wanted - have):
        try:
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError as error:
            raise HarnessError(f"cgroup controller {controller} cannot be enabled in {folder}: {error.strerror}") from None


def _weigh() -> None:
    # where they do share a CPU, a busy pod must not make a kubelet miss its heartbeat
    for root, _ in hierarchies():
        for file, weight in (("cpu.shares", "4096"), ("cpu.weight", "400")):
            if (target := root / plan.CGROUP / "system" / file).exists():
                target.write_text(weight)


def confine() -> None:
    """Pods to their CPUs, the system to the rest. Called when the stand is up: until then both may use all."""
    own = _cpuset() / plan.CGROUP
    for folder, span in zip((own / "system", own / "pods"), cpus(), strict=True):
        text = ",".join(map(str, span))
        # a v1 parent may not hold fewer CPUs than a child, so the children shrink first
        for target in (*sorted((p for p in folder.rglob("*") if p.is_dir()), key=lambda p: -len(p.parts)), folder):
            file = target / "cpuset.cpus"
            if (not unified() or target == folder) and _expand(file.read_text()) != list(span):
                file.write_text(text)


def entries() -> Sequence[Path]:
    """The cgroup.procs files a process of ours is written into before it is executed."""
    return [own / "system" / "cgroup.procs" for own in ours()]


def members() -> set[int]:
    """Every living process of the stand, pods included."""
    found: set[int] = set()
    for own in ours():
        for file in own.rglob("cgroup.procs"):
            with contextlib.suppress(FileNotFoundError, OSError):
                found.update(int(p) for p in file.read_text().split() if p != "0")
    return {pid for pid in found if not _zombie(pid)}


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _belongs(pid: int) -> bool:
    try:
        return f"/{plan.CGROUP}/" in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


def kill_all(within: float = 10.0) -> None:
    """SIGKILL every member until none is left. The pidfd is taken before membership is read, so a reused pid is safe."""

    def sweep() -> bool:
        for pid in (alive := members()):
            with contextlib.suppress(ProcessLookupError, OSError):
                handle = os.pidfd_open(pid)
                try:
                    if _belongs(pid):
                        signal.pidfd_send_signal(handle, signal.SIGKILL)
                finally:
                    os.close(handle)
        return not alive

    until("the stand's processes are gone", sweep, within, every=0.02)


def reset(node: str) -> None:
    """Remove what the pods of a node that is off left: its next kubelet would try for seconds to read each of them.

    The kubelet's own `kubepods` stays: on v1 a kubelet that makes it anew wants all CPUs for it and is refused.
    """
    for own in ours():
        home = own / "pods" / node
        folders = [p for p in home.rglob("*") if p.is_dir() and any(x.startswith("pod") for x in p.relative_to(home).parts)]
        for folder in sorted(folders, key=lambda p: -len(p.parts)):
            with contextlib.suppress(OSError):
                folder.rmdir()


def remove(within: float = 5.0) -> None:
    """Remove every folder; a v1 memory group stays busy for a moment after its last process."""

    def sweep() -> bool:
        for own in (left := list(ours())):
            for folder in (*sorted((p for p in own.rglob("*") if p.is_dir()), key=lambda p: -len(p.parts)), own):
                with contextlib.suppress(OSError):
                    folder.rmdir()
        return not left

    until("the stand's cgroups are gone", sweep, within)
    if ENABLED.exists():
        root = hierarchies()[0][0]
        for controller in ENABLED.read_text().split():
            with contextlib.suppress(OSError):  # someone else uses it by now
                (root / "cgroup.subtree_control").write_text(f"-{controller}")
        ENABLED.unlink()
