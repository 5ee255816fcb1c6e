"""Was the client itself the bottleneck? Its own lateness, its share of the CPU and what the host took from it.

Every bound is about the client alone: a target that stalls delays no dispatch, since nothing here waits for it.

- Dispatch lag (of requests that had a slot) and loop lag: at most LATE_SHARE of the tightest latency that is judged, and
  never under LEAST_BOUND. Latency counts from the intended start, so a late dispatch makes a figure worse by as much; 5 %
  of the limit cannot turn a verdict that has any headroom. One request in a hundred may be later, and always one.
- Kernel-to-user delay: the same bound. With kernel stamps it shifts no figure but merges tokens into one read; without
  them it cannot be seen, and the loop lag stands for it.
- Reading: in more than BEHIND_SHARE of the load's time behind with it, without a break, for longer than the bound. A target
  that sends in bursts, and a host's hiccups, make 1 % of it at 1,200 streams; at 2,000, which one core cannot read, it is
  44 %. After a silence of the target it is excused for as long as that has lasted: what comes then comes at once.
- CPU: above CPU_SHARE of what its CPU gave for the whole load, it may have been slow anywhere. Steal: above STEAL_SHARE
  the host, not the target, made the time.
"""

import math
import os
import time
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

LATE_SHARE = 0.05
LEAST_BOUND = 0.005  # seconds: what two shared cores do to a process that has nothing to do
CPU_SHARE = 0.95
BEHIND_SHARE = 0.03
STEAL_SHARE = 0.25
BEAT = 0.01  # seconds between two heartbeats of the loop


class Histogram:
    """Counts by powers of 2 ** (1/4): 19 % wide, enough for a bound, constant in memory. Values are microseconds."""

    def __init__(self) -> None:
        self._counts = array("Q", bytes(8 * 128))
        self.total, self.most = 0, 0.0

    def add(self, value: float) -> None:
        self._counts[min(int(4 * math.log2(value)) if value > 1 else 0, 127)] += 1
        self.total += 1
        if value > self.most:
            self.most = value

    def percentile(self, q: float, spare: int = 0) -> float:
        """The upper edge of the bin of rank ceil(q n), of the rank that leaves `spare` above at least; 0 when empty."""
        rank = min(math.ceil(q * self.total), self.total - spare)
        if rank < 1:
            return 0.0
        seen = 0
        for i, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return float(min(2 ** ((i + 1) / 4), self.most))
        return self.most


class ClientCheck:
    """Watches the process it lives in. Times in microseconds, but for the bound."""

    def __init__(self, scale_s: float, cpu: int | None, kernel_stamps: bool) -> None:
        self.bound_us = 1e6 * max(LEAST_BOUND, LATE_SHARE * scale_s)
        self.cpu, self.kernel_stamps = cpu, kernel_stamps
        self.behind_us = self._behind_to = 0  # how long reading was behind; up to when that is counted
        self.dispatch, self.loop, self.reading = Histogram(), Histogram(), Histogram()
        self.restart()

    def reads(self, since: int, now: int, excused_to: int) -> None:
        """Reading has been behind since then, and now; us of the load. excused_to: until when that is the target's doing."""
        late = max(since + round(self.bound_us), excused_to, self._behind_to)  # before that nothing had waited for longer
        if now > late:
            self.behind_us, self._behind_to = self.behind_us + now - late, now

    def restart(self) -> None:
        """The load begins now: what came before was getting ready."""
        self.behind_us = self._behind_to = 0
        self._wall, self._own, self._host = time.monotonic(), _own_cpu(), _host_times(self.cpu)
        self.dispatch, self.loop, self.reading = Histogram(), Histogram(), Histogram()

    def verdict(self) -> dict[str, Any]:
        """{"sound": bool, "cause": str, "remedy": str, "figures": {...}}; lateness in ms, shares as 0..1."""
        wall = max(time.monotonic() - self._wall, 1e-3)
        own = (_own_cpu() - self._own) / wall
        steal, idle = _shares(self._host, _host_times(self.cpu))
        bound, behind = self.bound_us, self.behind_us / 1e6 / wall
        late = self.dispatch.percentile(0.99, 1)
        lag, reading = self.loop.percentile(0.99, 1), self.reading.percentile(0.99, 1)
        causes: Sequence[tuple[bool, str]] = (
            (late > bound, f"requests were sent {late / 1e3:.1f} ms late (p99), {bound / 1e3:.1f} ms is the bound"),
            (lag > bound, f"its loop was {lag / 1e3:.1f} ms late (p99), {bound / 1e3:.1f} ms is the bound"),
            (
                self.kernel_stamps and reading > bound,
                f"bytes waited {reading / 1e3:.1f} ms in the kernel (p99), {bound / 1e3:.1f} ms is the bound",
            ),
            (
                behind > BEHIND_SHARE,
                f"it was {bound / 1e3:.1f} ms and more behind with reading for {behind:.1%} of the load, "
                f"{BEHIND_SHARE:.0%} is the bound",
            ),
            (own > CPU_SHARE, f"it used {own:.0%} of its CPU, {CPU_SHARE:.0%} is the bound"),
            (steal > STEAL_SHARE, f"the host stole {steal:.0%} of its CPU, {STEAL_SHARE:.0%} is the bound"),
        )
        wrong = [text for over, text in causes if over]
        figures = {
            "dispatch_p50_ms": self.dispatch.percentile(0.5) / 1e3, "dispatch_p99_ms": late / 1e3,
            "dispatch_max_ms": self.dispatch.most / 1e3, "loop_p99_ms": lag / 1e3, "loop_max_ms": self.loop.most / 1e3,
            "reading_p99_ms": reading / 1e3, "behind": behind, "bound_ms": bound / 1e3, "cpu": own, "steal": steal,
            "cpu_idle": idle, "seconds": wall,
        }  # fmt: skip
        return {
            "sound": not wrong,
            "cause": "; ".join(wrong),
            "remedy": _remedy(own, steal, idle) if wrong else "",
            "stamps": "kernel" if self.kernel_stamps else "user space",
            "figures": {name: round(value, 4) for name, value in figures.items()},
        }


def together(verdicts: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """One verdict of several carriers: sound when all are, each figure the worst of them."""
    if len(verdicts) == 1:
        return verdicts[0]
    of = len(verdicts)
    wrong = [(k, one) for k, one in enumerate(verdicts, 1) if not one["sound"]]
    least = ("cpu_idle",)
    names = verdicts[0]["figures"]
    return {
        "sound": not wrong,
        "cause": "; ".join(f"process {k} of {of}: {one['cause']}" for k, one in wrong),
        "remedy": wrong[0][1]["remedy"] if wrong else "",
        "stamps": ", ".join(sorted({one["stamps"] for one in verdicts})),
        "figures": {name: (min if name in least else max)(one["figures"][name] for one in verdicts) for name in names},
        "processes": of,
    }


def _remedy(own: float, steal: float, idle: float) -> str:
    if steal > 0.05:
        return "the host takes CPU time away: give the client a CPU of its own, or another machine"
    if own > 0.7:
        return "the client has too much to do: lower the rate, or spread it over more client processes"
    return "something else uses its CPU, or a quota holds it: pin the client to a free one, raise the quota"


def _own_cpu() -> float:
    times = os.times()
    return times.user + times.system


def _host_times(cpu: int | None) -> list[int]:
    """The line of /proc/stat of this CPU, or of all; empty where there is none."""
    name = "cpu" if cpu is None else f"cpu{cpu}"
    try:
        with open("/proc/stat", encoding="ascii") as stat:
            line = next((line for line in stat if line.split()[0] == name), "")
    except OSError:
        line = ""
    return [int(value) for value in line.split()[1:9]]


def _shares(before: Sequence[int], after: Sequence[int]) -> tuple[float, float]:
    """(steal, idle) of the time between two readings."""
    spent = [new - old for old, new in zip(before, after, strict=False)]
    total = sum(spent)
    return (spent[7] / total, (spent[3] + spent[4]) / total) if len(spent) == 8 and total > 0 else (0.0, 0.0)
