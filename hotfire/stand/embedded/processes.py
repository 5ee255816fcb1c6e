"""Starting and recognising the stand's host processes."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hotfire.errors import HarnessError
from hotfire.stand.embedded import cgroups

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The shell enters the cgroups before the program exists, so that a launcher killed at any instant leaves no stray,
# and it exits at once, so that the program is nobody's zombie.
LAUNCH = 'log=$1; shift; while [ "$1" != -- ]; do echo $$ >"$1"; shift; done; shift; setsid "$@" >>"$log" 2>&1 & echo $!'


@dataclass(frozen=True)
class Process:
    """A process by pid and start time (clock ticks since boot), so that a reused pid is never mistaken for it."""

    pid: int
    start: str

    @classmethod
    def of(cls, pid: int) -> "Process":
        """The living process `pid`; its start is empty when it is gone or a zombie."""
        return cls(pid, start_time(pid))

    @property
    def alive(self) -> bool:
        """True while exactly this process runs."""
        return bool(self.start) and start_time(self.pid) == self.start


def start_time(pid: int) -> str:
    """Field 22 of /proc/PID/stat, empty for none or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def resident_mb(pid: int) -> float:
    """Resident memory in MB, 0 for none."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except (OSError, IndexError):
        return 0.0


def launch(name: str, argv: Sequence[str], pids: Path, logs: Path, env: Mapping[str, str] | None = None) -> Process:
    """Start `argv` in the stand's cgroups, log to `logs/NAME.log`, note it in `pids/NAME`."""
    entries = [str(e) for e in cgroups.entries()]
    done = subprocess.run(
        ["/bin/sh", "-c", LAUNCH, "launch", str(logs / f"{name}.log"), *entries, "--", *argv],
        env={"PATH": PATH, "HOME": "/nonexistent", **(env or {})}, cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode or not done.stdout.strip().isdigit():
        raise HarnessError(f"cannot start {name}: {done.stderr.strip() or done.returncode}")
    process = Process.of(int(done.stdout))
    (pids / name).write_text(f"{process.pid} {process.start}")
    return process


def recorded(pids: Path) -> Mapping[str, Process]:
    """Every process noted in the folder, alive or not."""
    found = {}
    for file in sorted(pids.glob("*")) if pids.is_dir() else ():
        pid, _, start = file.read_text().partition(" ")
        if pid.isdigit():
            found[file.name] = Process(int(pid), start)
    return found


def command(*argv: str, stdin: str | None = None, check: bool = True, within: float = 60) -> str:
    """Run a short command, its stdout; HarnessError with its stderr when it fails or takes more than `within` seconds."""
    program = shutil.which(argv[0], path=PATH)
    if program is None:
        raise HarnessError(f"{argv[0]} is not installed")
    try:
        done = subprocess.run([program, *argv[1:]], input=stdin, capture_output=True, text=True, check=False, timeout=within)
    except subprocess.TimeoutExpired:
        raise HarnessError(f"{' '.join(argv)}: not done in {within:g} s") from None
    if check and done.returncode:
        raise HarnessError(f"{' '.join(argv)}: {done.stderr.strip() or done.returncode}")
    return done.stdout
