"""PID 1 of a node. Run as a file with nothing but the standard library; killing it is a power-off.

Makes the node's private view of /run, /var/lib and /var/log, then keeps containerd, kubelet, kube-proxy and the device
plugin running as an init system would: what ends is started again after a second.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

TICK = 0.05
BACKOFF = 1.0


def mount(*arguments: str) -> None:
    """mount(8); its failure ends the node."""
    subprocess.run(["mount", *arguments], check=True)


def furnish(config: Mapping[str, Any]) -> None:
    """Private folders over the host's, private copies over host-wide sysctls."""
    os.environ.update(config["env"])
    for name, value in config["sysctls"].items():
        Path("/proc/sys", name).write_text(value)
    for where, source in config["binds"].items():
        for kept in config["keep"]:
            if kept.startswith(f"{where}/"):
                inner = Path(source, kept[len(where) + 1 :])
                inner.mkdir(parents=True, exist_ok=True)
                mount("--rbind", kept, str(inner))
        mount("--rbind", source, where)
    for where, source in config["shadows"].items():
        if Path(where).exists():
            mount("--bind", source, where)
    socket.sethostname(config["hostname"])


def wait_for(probe: Callable[[], bool]) -> None:
    """Wait without end: whoever starts the node has the deadline, and ends it by ending this process."""
    while not probe():
        signal.sigtimedwait({signal.SIGCHLD}, TICK)


def listens(path: str) -> bool:
    """True when something accepts on the unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


class Services:
    """The node's daemons, restarted when they end; orphans of containers are reaped on the way."""

    def __init__(self, hostname: str, logs: Path) -> None:
        self._hostname, self._logs = hostname, logs
        self._commands: dict[str, Sequence[str]] = {}
        self._running: dict[int, str] = {}

    def start(self, name: str, argv: Sequence[str]) -> None:
        """Start a daemon with a log file of its own."""
        self._commands[name] = argv
        with (self._logs / f"{self._hostname}-{name}.log").open("ab") as log:
            self._running[subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log).pid] = name

    def keep(self) -> None:
        """Reap and restart, for ever."""
        while True:
            pid, _ = os.wait()
            if name := self._running.pop(pid, ""):
                signal.sigtimedwait({signal.SIGHUP}, BACKOFF)  # a crash loop must not eat the CPU
                self.start(name, self._commands[name])


def main() -> None:
    """Read the configuration named on the command line and be the node."""
    config = json.loads(Path(sys.argv[1]).read_text())
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGHUP})
    furnish(config)
    services = Services(config["hostname"], Path(config["logs"]))
    services.start("containerd", config["containerd"])
    wait_for(lambda: listens(config["socket"]))
    subprocess.run(config["import"], check=True)
    wait_for(Path(config["go"]).exists)
    for name, argv in config["services"].items():
        services.start(name, argv)
    services.keep()


if __name__ == "__main__":
    main()
