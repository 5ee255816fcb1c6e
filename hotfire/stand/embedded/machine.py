"""What the machine must offer, and who holds it: only one stand can run on it at a time."""

import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from hotfire.errors import BadInput, HarnessError, Refused
from hotfire.stand.embedded import cgroups, network, plan
from hotfire.stand.embedded.patience import until
from hotfire.stand.embedded.plan import Stand
from hotfire.stand.embedded.processes import PATH, Process, recorded

CHECK = Path(__file__).parent / "machine.sh"
DEBIAN_PACKAGES = tuple((Path(__file__).parent / "packages.txt").read_text().split())
PROGRAMS = {
    "ip": "iproute2", "iptables": "iptables", "runc": "runc", "catatonit": "catatonit", "nsenter": "util-linux",
    "unshare": "util-linux", "mount": "mount", "conntrack": "conntrack",
}  # fmt: skip
OWNER, LOCK = plan.RUN / "owner.json", plan.RUN / "lock"
Phase = Literal["starting", "up", "stopping"]


def check() -> None:
    """BadInput in one line, with everything that is missing and what to use instead."""
    told = subprocess.run(["sh", str(CHECK), *_lacking()], capture_output=True, text=True, check=False)
    if told.returncode:
        raise BadInput(told.stderr.strip())


def _lacking() -> Iterator[str]:
    """What machine.sh does not look for, since it is asked before Debian's packages are there."""
    if packages := sorted({package for program, package in PROGRAMS.items() if not shutil.which(program, path=PATH)}):
        yield f"Debian packages {' '.join(packages)} (`make packages`)"
        return
    isolate = ["unshare", "--net", "--mount", "--pid", "--fork", "ip", "link", "add", "hf0", "type", "bridge"]
    if subprocess.run(isolate, env={"PATH": PATH}, capture_output=True, check=False).returncode:
        yield "the right to make network, mount and PID namespaces and a bridge"


class Owner(BaseModel):
    """Who holds the machine. pid and start: the command that starts or stops the stand; once up, its API server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    phase: Phase
    pid: int
    start: str
    since: str

    @property
    def alive(self) -> bool:
        """True while the command is at work, or the stand it started still has its API server and its etcd."""
        if self.phase != "up":
            return Process(self.pid, self.start).alive
        there = recorded(plan.RUN / self.name / "pids")
        return all(part in there and there[part].alive for part in ("etcd", "apiserver"))

    def __str__(self) -> str:
        doing = {"up": "runs", "starting": "is being started", "stopping": "is being taken down"}[self.phase]
        return f"stand {self.name!r} {doing} on this machine (pid {self.pid}, since {self.since})"


def owner() -> Owner | None:
    """The record as it is, dead or alive; None for none or an unreadable one."""
    try:
        return Owner.model_validate_json(OWNER.read_text())
    except (OSError, ValueError):
        return None


def declare(stand: Stand, phase: Phase) -> None:
    """Record that `stand` holds the machine now; replaced in one step, so a reader never sees half of it."""
    who = recorded(stand.state / "pids")["apiserver"] if phase == "up" else Process.of(os.getpid())
    record = Owner(name=stand.name, phase=phase, pid=who.pid, start=who.start, since=time.strftime("%Y-%m-%d %H:%M:%S"))
    fresh = OWNER.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps(record.model_dump()))
    fresh.replace(OWNER)


def remains() -> bool:
    """True when anything of an earlier stand is left on the machine."""
    return bool(OWNER.exists() or list(cgroups.ours()) or network.links() or network.namespaces())


@contextmanager
def held(stand: Stand, wait_s: float = 0, say: Callable[[str], None] = lambda _: None) -> Iterator[Owner | None]:
    """Hold the machine's lock for as long as `stand` is started or taken down; yields the living owner, if any.

    wait_s: how long to wait for another stand to go. Refused, naming the holder, when it does not.
    """
    plan.RUN.mkdir(mode=0o755, parents=True, exist_ok=True)
    with LOCK.open("a") as lock:
        told: list[str] = []

        def free() -> bool:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            holder = owner()
            if holder is None or not holder.alive or holder.name == stand.name:
                return True
            fcntl.flock(lock, fcntl.LOCK_UN)
            if wait_s and not told:
                told.append(str(holder))
                say(f"waiting: {holder}")
            return False

        try:
            until("the machine is free", free, wait_s, every=0.2)
        except HarnessError:
            holder = owner()
            way = f"`hotfire stand down --name {holder.name}`" if holder else "its end"
            raise Refused(f"{holder or 'another command'} and only one can; wait for it (--wait) or for {way}") from None
        found = owner()
        yield found if found and found.alive else None
