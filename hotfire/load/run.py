"""The side of the parent: start a load, follow it look by look, mark moments in it, ask what happened around them.

The carrier is a subprocess, spawned by the main thread, that dies with this process (PR_SET_PDEATHSIG, and the end of its
input). Its lines and its samples are read by a daemon thread; everything waits on a queue, so that a signal is seen.
"""

import base64
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from hotfire.errors import HarnessError, Unjudged
from hotfire.kube.wait import SLICE, check_interrupt
from hotfire.load.capacity import WAITS, remember
from hotfire.load.marks import Mark, Window
from hotfire.load.plan import Plan, digest_of, load
from hotfire.load.samples import FILE, Collector, Samples, Tail, merge, numbered
from hotfire.load.selfcheck import together
from hotfire.load.target import Target
from hotfire.load.wire import Message, Process, Wire
from hotfire.words import Reason

START_WITHIN = 30.0  # seconds for a cold interpreter to import locust on a busy machine
SLACK = 15.0  # seconds granted beyond what the plan and the timeouts explain
GLANCE = 0.2  # seconds between two looks at all samples, which cost as much as there are
TOGETHER_NS = 100_000_000  # several carriers begin at one moment, so long after they are told
RELAYED_NS = 3_000_000_000  # where the word has to go by another, who spawns them
PINGS, UNSURE_NS, APART_S = 8, 500_000_000, 1.0  # exchanges of clocks, how sure they must make us, starts at most apart
LOST = ("its part of the plan was not carried", "give the client more memory, or a place where it is not evicted")
SUMMED = ("sent", "done", "failed", "backlog", "in_flight", "tokens")


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

    def __str__(self) -> str:
        """`load: 300 of 1,200 requests done, 30 s, 10.0/s, first token p50 18 ms, 2 failed, about 90 s to go`."""
        rate = self.done / self.t if self.t > 0 else 0.0
        first = "" if self.ttft_p50_ms is None else f", first token p50 {self.ttft_p50_ms:.0f} ms"
        left = f", about {(self.planned - self.done) / rate:.0f} s to go" if rate else ""
        done = f"load: {self.done:,} of {self.planned:,} requests done, {self.t:.0f} s, {rate:.1f}/s"
        return f"{done}{first}, {self.failed:,} failed{left}"


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


@dataclass(eq=False)
class Carrier:
    """What is known of one carrier, which has a slice of the plan. samples: the file its rows come in; ahead_ns: its
    CLOCK_MONOTONIC less this process's, right to unsure_ns; pong: (its clock, when this one heard it)."""

    wire: Wire
    samples: Path
    tail: Tail = field(init=False)
    ready: bool = False
    t0: float = 0.0
    ahead_ns: int = 0
    unsure_ns: int = 0
    pong: tuple[int, int] | None = None
    reached: int = 0
    tick: Message = field(default_factory=dict)
    done: Message = field(default_factory=dict)
    client: Mapping[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tail = Tail(self.samples)


class LoadRun:
    """One load under way, carried by one process or by several that share its plan."""

    def __init__(self, plan: Plan, target: Target, out: Path, carriers: Sequence[Carrier]) -> None:
        self.plan, self.target, self.out, self.carriers = plan, target, out, carriers
        self.look = 1  # up to which requests may be sent
        self.client: Mapping[str, Any] = {}
        self.progress: Progress | None = None
        self.ended: Ended | None = None
        self.marks: list[Mark] = []
        self.t0 = 0.0  # time.monotonic() at the start of the load
        self._wires = list(dict.fromkeys(one.wire for one in carriers))
        self._heard: queue.SimpleQueue[tuple[Wire, Message | None]] = queue.SimpleQueue()
        self._collector, self._taken = Collector(), 0  # rows
        self._on_tick: Callable[[Progress], None] | None = None
        self._skipped = ""
        self._silences: list[tuple[int, int]] = []
        self._listeners: list[threading.Thread] = []

    @classmethod
    def start(
        cls,
        plan: Plan,
        target: Target,
        out: Path,
        *,
        headers: Mapping[str, str] | None = None,
        hidden: Mapping[str, str] | None = None,
        cpu: int | None = None,
        processes: int = 1,
        calibrate: bool = False,
        on_tick: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Spawn the carriers and wait until the load began. headers: sent with each request; hidden: other secrets' forms, by
        what is written where the target says them; both travel by pipe alone.

        out: a folder of this load's own, made if missing; processes: carriers, each with its slice of the plan; calibrate:
        for 2 s see first what the client can carry, unless requests wait for one another. Raises BadInput when the plan file
        was changed, Unjudged CLIENT when the plan asks for more than the client can carry, before a request is sent,
        HarnessError when a carrier does not come up.
        """
        if threading.current_thread() is not threading.main_thread():
            raise HarnessError("a load is started by the main thread: its death signal is tied to the thread that spawns it")
        load(plan.path, plan.digest)
        out.mkdir(parents=True, exist_ok=True)
        flags = ["--calibrate"] * (calibrate and not plan.header.waits)
        options = target.options() | {"plan": plan.path, "digest": plan.digest, "out": out}
        options |= {"cpu": cpu} if cpu is not None else {}
        carriers = [
            Carrier(Process(options, flags, out / numbered("carrier.log", k, processes)), out / numbered(FILE, k, processes))
            for k in range(processes)
        ]
        return cls.follow(plan, target, out, carriers, headers=headers, hidden=hidden, calibrate=calibrate, on_tick=on_tick)

    @classmethod
    def follow(
        cls,
        plan: Plan,
        target: Target,
        out: Path,
        carriers: Sequence[Carrier],
        *,
        headers: Mapping[str, str] | None = None,
        hidden: Mapping[str, str] | None = None,
        calibrate: bool = False,
        on_tick: Callable[[Progress], None] | None = None,
    ) -> Self:
        """The same with carriers that are there already, wherever they run; those that share a wire are told once, and
        nothing that is hidden: a crew speaks among itself in plain text."""
        run = cls(plan, target, out, carriers)
        run._on_tick = on_tick
        run._skipped = WAITS if calibrate and plan.header.waits else ""
        run._listeners = [threading.Thread(target=run._listen, args=(wire,), daemon=True) for wire in run._wires]
        for listener in run._listeners:
            listener.start()
        try:
            for k, one in enumerate(carriers):
                if one.wire not in [earlier.wire for earlier in carriers[:k]]:
                    alone = len(run._wires) == len(carriers)
                    one.wire.tell({"headers": dict(headers or {}), "hidden": dict(hidden or {}) if alone else {},
                                   "slice": [k, len(carriers)]})  # fmt: skip
            run._until(lambda: all(one.ready for one in carriers), START_WITHIN, "come up")
            run._compare_clocks()
            at = time.monotonic_ns() + run._together_ns()
            run._tell({"begin": [at + one.ahead_ns for one in carriers]})
            run._until(lambda: all(one.t0 for one in carriers), START_WITHIN, "began")
            if (apart := max(one.t0 for one in carriers) - min(one.t0 for one in carriers)) > APART_S:
                text = f"its processes began {apart:.1f} s apart, {APART_S:.0f} s is the bound"
                raise Unjudged(text, reason=Reason.CLIENT, details=["give each of them a CPU that is free"])
        except BaseException:
            run.kill()
            raise
        run.t0 = min(one.t0 for one in carriers)
        return run

    def _compare_clocks(self) -> None:
        """See what the clocks of carriers on other machines show: the quickest of some exchanges is off by half its time."""
        far = [one for one in self.carriers if not one.wire.here]
        for number in range(PINGS if far else 0):
            for one in far:
                one.pong = None
            sent = time.monotonic_ns()
            for wire in dict.fromkeys(one.wire for one in far):
                wire.tell({"ping": number})
            self._until(lambda: all(one.pong for one in far), START_WITHIN, "told its clock")
            for one in far:
                clock, heard = one.pong or (0, 0)
                half = (heard - sent) // 2
                if not number or half < one.unsure_ns:
                    one.ahead_ns, one.unsure_ns = clock - sent - half, half
        if (unsure := max(one.unsure_ns for one in self.carriers)) > UNSURE_NS:
            text = f"the client's clock is known to {unsure / 1e9:.1f} s only, {UNSURE_NS / 1e9:.1f} s is the bound"
            raise Unjudged(text, reason=Reason.CLIENT, details=["the way to the load's pod is slow: its node, the API server"])

    def _together_ns(self) -> int:
        """From being told to the common beginning."""
        return 0 if len(self.carriers) == 1 else TOGETHER_NS if len(self._wires) > 1 else RELAYED_NS

    @property
    def pids(self) -> list[int]:
        """Of the carriers that are processes of this machine."""
        return [wire.pid for wire in self._wires if isinstance(wire, Process)]

    # --- looks

    def wait_look(
        self, look: int = 1, within_s: float | None = None, *, enough: Callable[[Samples], bool] | None = None
    ) -> Samples:
        """Wait until every counted request up to this look (from 1) has ended; the samples of its window.

        enough: asked of all samples when there are more, every GLANCE at most; once it says so, what there is is returned.
        Raises Unjudged TIMEOUT when it takes longer than the plan and the timeouts explain (or `within_s`), Interrupted by a
        signal or CLIENT when a carrier died.
        """
        stopped, known, glanced = False, 0, 0.0

        def reached() -> bool:
            nonlocal stopped, known, glanced
            if self._reached() >= look or self.ended is not None:
                return True
            if enough is not None and time.monotonic() - glanced >= GLANCE:
                self.poll()
                glanced = time.monotonic()
                if self._taken > known:
                    known, stopped = self._taken, enough(self.samples())
            return stopped

        self._until(reached, within_s or self._explained(look), f"reached look {look}")
        window = self.samples().counted(self.plan.header.looks[look - 1])
        if self._reached() < look and not stopped:
            text = f"the load carrier ended with a signal after {len(window)} requests, before look {look}"
            raise Unjudged(text, reason=Reason.CLIENT, details=LOST)
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
            self._close()
        if self.ended is None:
            raise HarnessError("the carrier did not end")
        return self.ended

    def kill(self) -> None:
        """End every carrier at once, whatever is in flight; what they had flushed stays readable."""
        for wire in self._wires:
            wire.kill()
        self._close()

    @property
    def alive(self) -> bool:
        """Whether a carrier still runs."""
        return any(wire.alive for wire in self._wires)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.alive:
            self.kill()
        self._close()

    # --- what happened

    def poll(self) -> None:
        """Take in what has come, without waiting."""
        self._drain()
        for one in self.carriers:
            self._collector.extend(self._counting(one.tail.rows()))

    def _counting(self, rows: Iterator[list[Any]]) -> Iterator[list[Any]]:
        for row in rows:
            self._taken += 1
            yield row

    def samples(self) -> Samples:
        """All requests that have ended so far, warm-up too."""
        self.poll()
        if len(self.carriers) == 1:
            return self._collector.samples(self.carriers[0].tail.silences)
        return self._collector.samples(self._silences if self.ended else ())  # no carrier alone knows of a silence

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
            again = min(time.monotonic() + GLANCE, deadline)
            while self.ended is None and (left := again - time.monotonic()) > 0:
                self._wait(left)

    @property
    def sent(self) -> int:
        """Requests, to within a second of what was heard last."""
        return self.ended.sent if self.ended else self.progress.sent if self.progress else 0

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
            if time.monotonic() > deadline:
                raise Unjudged(f"the load has not {what} within {within_s:.0f} s", reason=Reason.TIMEOUT)
            self._wait(SLICE)

    def _wait(self, seconds: float) -> None:
        check_interrupt()
        try:
            self._hear(*self._heard.get(timeout=seconds))
        except queue.Empty:
            return
        self._drain()

    def _drain(self) -> None:
        while not self._heard.empty():
            self._hear(*self._heard.get_nowait())

    def _reached(self) -> int:
        return min(one.reached for one in self.carriers)

    def _hear(self, wire: Wire, message: Message | None) -> None:
        mine = [one for one in self.carriers if one.wire is wire]
        one = mine[(message or {}).get("from", 0)]
        if message is None or "crash" in message:
            self._lost(wire, [one] if message else mine, (message or {}).get("crash", ""))
            return
        if "samples" in message:  # of a carrier that has no file here
            with one.samples.open("ab") as file:
                file.write(base64.b64decode(message["samples"]))
        elif "calibrated" in message:
            self._calibrated(one, message["calibrated"])
        elif "ready" in message:
            one.ready = True
        elif "started" in message:
            one.t0 = (message["started"] - one.ahead_ns) / 1e9
        elif "pong" in message:
            one.pong = message["pong"], time.monotonic_ns()
        elif "tick" in message:
            one.tick = message
            self._ticked(one)
        elif "look" in message:
            one.reached, one.client = message["look"], message["client"]
            self.client = together([other.client for other in self.carriers if other.client])
        elif "done" in message:
            one.done = message["done"]
            if all(other.done for other in self.carriers):
                self._end()

    def _ticked(self, by: Carrier) -> None:
        ticks = [one.tick for one in self.carriers if one.tick]
        looks = self.plan.header.looks
        sums = {name: sum(tick[name] for tick in ticks) for name in SUMMED}
        first = sorted(tick["ttft_p50_ms"] for tick in ticks if tick["ttft_p50_ms"] is not None)
        self.progress = Progress(
            t=max(tick["tick"] for tick in ticks), planned=self.plan.header.warm_up + looks[min(self.look, len(looks)) - 1],
            ttft_p50_ms=first[len(first) // 2] if first else None, **sums,
        )  # fmt: skip
        if self._on_tick and by is self.carriers[0] and len(ticks) == len(self.carriers):  # one line a second for all
            self._on_tick(self.progress)

    def _end(self) -> None:
        """All have said what became of their slice: one set of samples, one client check."""
        self._tell({"bye": True})
        done = [one.done for one in self.carriers]
        self.client = together([said["client"] for said in done])
        told = [one.calibration for one in self.carriers if one.calibration]
        if told or self._skipped:
            calibration = {"skipped": self._skipped} if self._skipped else dict(max(told, key=lambda one: one["needs"]))
            self.client = {**self.client, "calibration": calibration}
        if unsure := max(one.unsure_ns for one in self.carriers):  # of another machine's clock: marks are right to this
            self.client = {**self.client, "clock_unsure_ms": round(unsure / 1e6, 3)}
        digests = [said["digest"] for said in done]
        for one, said in zip(self.carriers, done, strict=True):
            if (found := digest_of(one.samples)) != said["digest"]:
                raise HarnessError(f"{one.samples.name} is not what its carrier wrote: {found[:12]}, {said['digest'][:12]}")
        if len(done) > 1:
            later = {one.samples: round(1e6 * (one.t0 - self.t0)) for one in self.carriers}
            digest, self._silences = merge(later, self.out / FILE)
            digests = [digest]
        rows, sent, backlog, failed = (sum(said[name] for said in done) for name in ("rows", "sent", "backlog", "failed"))
        seconds = max(said["t"] for said in done)
        self.ended = Ended(self.out / FILE, digests[0], rows, sent, backlog, failed, seconds, self.client)

    def _lost(self, wire: Wire, mine: Sequence[Carrier], said: str) -> None:
        """A carrier is gone. Before its end that makes the load the client's: what it had to send was never sent."""
        if self.ended is not None or all(one.done for one in mine):
            return
        how = "" if said else wire.ending(SLACK)
        number = f"{self.carriers.index(mine[0]) + 1} of {len(self.carriers)}" if len(self.carriers) > 1 else ""
        text = f"the load carrier {number} ended with {said or how}".replace("  ", " ")
        if not all(one.t0 for one in mine):
            raise HarnessError(text)
        raise Unjudged(text, reason=Reason.CLIENT, details=LOST)

    def _calibrated(self, one: Carrier, told: Mapping[str, Any]) -> None:
        one.calibration = told
        if isinstance(one.wire, Process):
            remember(told)
        if told["cause"]:
            details = [str(told["remedy"]), "no request was sent"]
            raise Unjudged(str(told["cause"]), reason=Reason.CLIENT, details=details)

    def _close(self) -> None:
        for wire in self._wires:
            wire.close()
        for listener in self._listeners:
            listener.join(SLACK)

    def _tell(self, message: Mapping[str, Any]) -> None:
        for wire in self._wires:
            wire.tell(message)

    def _listen(self, wire: Wire) -> None:
        for message in wire.lines():
            self._heard.put((wire, message))
        self._heard.put((wire, None))
