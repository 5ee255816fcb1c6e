"""The side of the parent: start a load, follow it look by look, mark moments in it, ask what happened around them.

The carrier is a subprocess, spawned by the main thread, that dies with this process (PR_SET_PDEATHSIG, and the end of its
input). Its lines and its samples are read by a daemon thread; everything waits on a queue, so that a signal is seen.
"""

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from hotfire.errors import HarnessError, Unjudged
from hotfire.kube.wait import SLICE, check_interrupt
from hotfire.load.capacity import WAITS, remember
from hotfire.load.marks import Mark, Window
from hotfire.load.plan import Plan, load
from hotfire.load.samples import Collector, Samples, Tail
from hotfire.load.target import Target
from hotfire.words import Reason

START_WITHIN = 30.0  # seconds for a cold interpreter to import locust on a busy machine
SLACK = 15.0  # seconds granted beyond what the plan and the timeouts explain


@dataclass(frozen=True)
class Progress:
    """A tick of the carrier, once a second. t: seconds from the start; planned: requests to the end of the look."""

    t: float
    sent: int
    done: int
    planned: int
    failed: int
    backlog: int
    in_flight: int
    tokens: int
    ttft_p50_ms: float | None


@dataclass(frozen=True)
class Ended:
    """A load that is over. client: {"sound", "cause", "remedy", "stamps", "figures"}; digest: of the samples file."""

    samples: Path
    digest: str
    rows: int
    sent: int
    backlog: int
    failed: int
    seconds: float
    client: Mapping[str, Any] = field(repr=False)


class LoadRun:
    """One load under way."""

    def __init__(self, plan: Plan, target: Target, out: Path, process: "subprocess.Popen[bytes]") -> None:
        self.plan, self.target, self.out = plan, target, out
        self.look = 1  # up to which requests may be sent
        self.client: Mapping[str, Any] = {}
        self.progress: Progress | None = None
        self.ended: Ended | None = None
        self.marks: list[Mark] = []
        self.t0 = 0.0  # time.monotonic() at the start of the load
        self._process, self._reached = process, 0
        self._heard: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._tail, self._collector = Tail(out / "samples.jsonl.gz"), Collector()
        self._on_tick: Callable[[Progress], None] | None = None
        self._calibration: Mapping[str, Any] = {}
        self._listener: threading.Thread | None = None

    @classmethod
    def start(
        cls,
        plan: Plan,
        target: Target,
        out: Path,
        *,
        headers: Mapping[str, str] | None = None,
        cpu: int | None = None,
        calibrate: bool = False,
        on_tick: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Spawn the carrier and wait until the load began. headers: sent with each request; they travel by pipe alone.

        out: a folder of this load's own, made if missing; calibrate: for 2 s see first what the client can carry, unless
        requests wait for one another. Raises BadInput when the plan file was changed, Unjudged CLIENT when the plan asks for
        more than the client can carry, before a request is sent, HarnessError when the carrier does not come up.
        """
        if threading.current_thread() is not threading.main_thread():
            raise HarnessError("a load is started by the main thread: its death signal is tied to the thread that spawns it")
        load(plan.path, plan.digest)
        out.mkdir(parents=True, exist_ok=True)
        log = (out / "carrier.log").open("wb")
        try:
            command = _command(plan, target, out, cpu, calibrate and not plan.header.waits)
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True, env=_environment()
            )
        finally:
            log.close()
        run = cls(plan, target, out, process)
        run._on_tick = on_tick
        run._calibration = {"skipped": WAITS} if calibrate and plan.header.waits else {}
        run._listener = threading.Thread(target=_listen, args=(process.stdout, run._heard), daemon=True)
        run._listener.start()
        run._tell({"headers": dict(headers or {})})
        try:
            run._until(lambda: run.t0 > 0, START_WITHIN, "began")
        except BaseException:
            run.kill()
            raise
        return run

    # --- looks

    def wait_look(
        self, look: int = 1, within_s: float | None = None, *, enough: Callable[[Samples], bool] = lambda _: False
    ) -> Samples:
        """Wait until every counted request up to this look (from 1) has ended; the samples of its window.

        enough: asked of all samples whenever there are more; once it says so, what there is is returned.
        Raises Unjudged TIMEOUT when it takes longer than the plan and the timeouts explain (or `within_s`), Interrupted by a
        signal, HarnessError when the carrier died.
        """
        stopped, known = False, 0

        def reached() -> bool:
            nonlocal stopped, known
            if self._reached >= look or self.ended is not None:
                return True
            found = self.samples()
            if len(found) > known:
                known, stopped = len(found), enough(found)
            return stopped

        self._until(reached, within_s or self._explained(look), f"reached look {look}")
        window = self.samples().counted(self.plan.header.looks[look - 1])
        if self._reached < look and not stopped:
            raise Unjudged(f"the load ended after {len(window)} requests, before look {look}", reason=Reason.INSUFFICIENT)
        return window

    def extend(self) -> int:
        """Let the load go on to the next look; returns its number. Raises HarnessError at the plan's cap."""
        if self.look >= len(self.plan.header.looks):
            raise HarnessError(f"look {self.look} is the plan's last")
        self.look += 1
        self._tell({"go": self.look})
        return self.look

    def stop(self, drain_s: float = 0.0) -> Ended:
        """Send nothing more; what is still open after drain_s is cancelled and recorded as such. Idempotent."""
        if self.ended is None:
            self._tell({"stop": drain_s})
            self._until(lambda: self.ended is not None, drain_s + SLACK, "ended")
            self._process.wait(SLACK)
            self._close()
        if self.ended is None:
            raise HarnessError("the carrier did not end")
        return self.ended

    def kill(self) -> None:
        """End the carrier at once, whatever is in flight; what it had flushed stays readable."""
        self._process.kill()
        self._process.wait()
        self._close()

    @property
    def alive(self) -> bool:
        """Whether the carrier still runs."""
        return self._process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.alive:
            self.kill()
        self._close()

    # --- what happened

    def poll(self) -> None:
        """Take in what has come, without waiting."""
        while True:
            try:
                self._hear(self._heard.get_nowait())
            except queue.Empty:
                break
        self._collector.extend(self._tail.rows())

    def samples(self) -> Samples:
        """All requests that have ended so far, warm-up too."""
        self.poll()
        return self._collector.samples(self._tail.silences)

    def now(self) -> float:
        """Seconds from the start of the load."""
        return time.monotonic() - self.t0

    def mark(self, name: str) -> Mark:
        """Name this moment."""
        self.marks.append(Mark(name, self.now()))
        return self.marks[-1]

    def since(self, mark: Mark | float) -> Window:
        """What became of the requests due after a mark, or after that many seconds from the start."""
        at = mark.t if isinstance(mark, Mark) else mark
        return Window(self.samples(), at, self.now())

    def around(self, mark: Mark, before_s: float, after_s: float) -> Window:
        """What became of the requests due from before_s before a mark to after_s after it."""
        return Window(self.samples(), mark.t - before_s, mark.t + after_s)

    def wait_success(self, mark: Mark, within_s: float, *, fresh: bool = True) -> float | None:
        """Seconds from the mark to the first token of the first correct answer to a request due after it, None when
        there was none in time. fresh: on a connection that had carried nothing before."""
        deadline = time.monotonic() + within_s
        while True:
            found = self.since(mark).first_success(fresh=fresh)
            if found is not None or time.monotonic() > deadline or self.ended is not None:
                return found if found is None or found <= within_s else None
            self._wait(min(SLICE, max(deadline - time.monotonic(), 0.01)))

    # --- the wire

    def _explained(self, look: int) -> float:
        header = self.plan.header
        count = header.warm_up + header.looks[look - 1]
        if header.waits:
            return count * (header.period_us / 1e6 + self.target.timeout_s) + SLACK
        due = next(item.due_us for item in self.plan.items() if item.index == count - 1) / 1e6
        return max(due - self.now(), 0) + self.target.timeout_s + SLACK

    def _until(self, reached: Callable[[], bool], within_s: float, what: str) -> None:
        deadline = time.monotonic() + within_s
        while not reached():
            self._wait(SLICE)
            if not reached() and time.monotonic() > deadline:
                raise Unjudged(f"the load has not {what} within {within_s:.0f} s", reason=Reason.TIMEOUT)

    def _wait(self, seconds: float) -> None:
        check_interrupt()
        try:
            self._hear(self._heard.get(timeout=seconds))
        except queue.Empty:
            return

    def _hear(self, message: dict[str, Any] | None) -> None:
        if message is not None and "calibrated" in message:
            self._calibrated(message["calibrated"])
        elif message is None or "crash" in message:
            if self.ended is None:
                code, said = self._process.wait(SLACK), (message or {}).get("crash") or self._last_words()
                raise HarnessError(f"the load carrier ended with exit code {code}: {said}")
        elif "started" in message:
            self.t0 = message["started"] / 1e9
        elif "tick" in message:
            self.progress = Progress(message["tick"], *(message[name] for name in list(Progress.__annotations__)[1:]))
            if self._on_tick:
                self._on_tick(self.progress)
        elif "look" in message:
            self._reached, self.client = message["look"], message["client"]
        elif "done" in message:
            said = message["done"]
            self.client = said["client"] | ({"calibration": dict(self._calibration)} if self._calibration else {})
            self.ended = Ended(
                self.out / said["samples"], said["digest"], said["rows"], said["sent"], said["backlog"], said["failed"],
                said["t"], self.client,
            )  # fmt: skip

    def _calibrated(self, told: Mapping[str, Any]) -> None:
        self._calibration = told
        remember(told)
        if told["cause"]:
            details = [str(told["remedy"]), "no request was sent"]
            raise Unjudged(str(told["cause"]), reason=Reason.CLIENT, details=details)

    def _close(self) -> None:
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        if self._listener is not None:
            self._listener.join(SLACK)

    def _last_words(self) -> str:
        lines = (self.out / "carrier.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"

    def _tell(self, message: dict[str, Any]) -> None:
        if self._process.stdin is None:
            raise HarnessError("the carrier has no input")
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return  # it is gone: what it said last is on its way through the queue


def _listen(stdout: IO[bytes], heard: "queue.SimpleQueue[dict[str, Any] | None]") -> None:
    with stdout:
        for line in stdout:
            heard.put(json.loads(line))
    heard.put(None)


def _command(plan: Plan, target: Target, out: Path, cpu: int | None, calibrate: bool) -> list[str]:
    options = {
        "plan": plan.path, "digest": plan.digest, "out": out, "target": target.url, "api": target.api, "model": target.model,
        "timeout": target.timeout_s, "slots": target.slots, "max-age": target.max_age_s, "scale": target.scale_s,
        "served-by": target.served_by, "ca": target.ca, "parent": os.getpid(),
    }  # fmt: skip
    command = [sys.executable, "-m", "hotfire.load"]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    flags = [flag for flag, on in (("--insecure", target.insecure), ("--calibrate", calibrate)) if on]
    return command + flags + ([] if cpu is None else ["--cpu", str(cpu)])


def _environment() -> dict[str, str]:
    """The parent's, without what would change locust's mind or the interpreter's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("LOCUST_", "PYTEST_"))}
