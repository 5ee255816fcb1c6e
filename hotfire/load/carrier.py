"""The process that carries the load: one locust User, in whose greenlet the engine turns.

Protocol, JSON lines. In: first {"headers": {...}, "hidden": {...}, "slice": [K, N]}, the only place where secrets travel,
after `ready` any number of {"ping": N}, each answered by {"pong": MONOTONIC_NS}, and {"begin": [MONOTONIC_NS of carrier K,
...]} by the clock that it told; then {"go": LOOK} or {"stop": DRAIN_S}. Out: {"calibrated": {...}} where that was asked for,
with a `cause` when the plan asks for more than this process can carry, which is the end; {"ready": true}, {"started":
MONOTONIC_NS}, {"tick": S, ...} once a second, {"look": K, "client": {...}} and {"done": {...}}, or {"crash": TEXT}. End of
the input, or the parent's death, ends the process at once; SIGTERM cancels what is open and says so.
"""

import base64
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent.event  # type: ignore[import-untyped]
from gevent.hub import get_hub  # type: ignore[import-untyped]
from locust import User, constant, task
from locust.env import Environment
from locust.exception import StopUser
from locust.html import get_html_report

from hotfire.load.capacity import Capacity
from hotfire.load.engine import Engine
from hotfire.load.lines import ORPHANED, Lines
from hotfire.load.plan import Plan, Prompt, draw
from hotfire.load.polling import EPOLLIN
from hotfire.load.samples import FILE, Writer, numbered
from hotfire.load.selfcheck import BEAT
from hotfire.load.target import TOKEN, Target

CRASHED, UNABLE = 71, 72  # exit codes, beside lines.ORPHANED
ASKS_ALL = 0.3  # seconds in which it asks for all of its CPU: three periods of a usual quota
REQUESTS, STREAMS, TOKENS = 400, 300, 50  # of a calibration: requests of one token, then streams side by side
CALIBRATION = 1.2  # seconds that each of the two may last


def carry(
    pipe: Lines, plan: Plan, target: Target, out: Path, cpu: int | None, echo: "Echo | None" = None, *, remote: bool = False
) -> int:
    """Run the plan; writes samples.jsonl.gz and locust.html to `out`. Returns the exit code.

    echo: to calibrate with; remote: nobody reads `out`, so the samples are said as well.
    """
    crashes, first = list[str](), pipe.next("headers")
    headers, (k, of) = first["headers"] | _key(), first["slice"]
    if echo is not None:
        told = _calibrated(plan, echo, of)
        echo.end()
        pipe.say({"calibrated": told})
        if told["cause"]:
            return UNABLE
    environment = pipe.environment or Environment(user_classes=[Carrier], host=target.url, events=None)
    runner = environment.runner or environment.create_local_runner()
    say_samples = lambda data: pipe.say({"samples": base64.b64encode(data).decode()})  # noqa: E731
    writer = Writer(out / numbered(FILE, k, of), say_samples if remote else None)
    target = replace(target, slots=-(-target.slots // of))
    path = target.path

    def on_end(micros: int, error: str, tokens: int) -> None:
        environment.events.request.fire(  # type: ignore[no-untyped-call]
            request_type=target.api, name=path, response_time=micros / 1e3, response_length=tokens,
            exception=RuntimeError(error) if error else None, context={},
        )  # fmt: skip

    engine = Engine(plan, target, headers, writer, pipe.say, on_end, cpu, (k, of), first["hidden"])
    if pipe.fd >= 0:
        engine.epoll.register(pipe.fd, EPOLLIN)
    Carrier.engine, Carrier.pipe = engine, pipe
    signal.signal(signal.SIGTERM, lambda *_: engine.stop(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, not the terminal
    crashed = lambda user_instance, exception, tb: crashes.append(repr(exception))  # noqa: E731
    environment.events.user_error.add_listener(crashed)  # type: ignore[no-untyped-call]
    pipe.say({"ready": True})
    while "ping" in (line := pipe.next("ping", "begin")):
        pipe.say({"pong": time.monotonic_ns()})
    Carrier.t0 = at if (at := line["begin"][k]) > time.monotonic_ns() else 0
    Carrier.begun.set()
    heart = gevent.spawn(_beat, engine, pipe)
    if pipe.environment is None:
        runner.start(1, spawn_rate=1)  # a worker's User is spawned by its master
    while not Carrier.ended and not crashes:
        gevent.sleep(BEAT)
    heart.kill()
    if crashes:
        pipe.say({"crash": crashes[0]})
        return CRASHED
    digest, verdict = writer.close(), engine.check.verdict()
    html = get_html_report(environment, show_download_link=False)  # type: ignore[no-untyped-call]
    (out / numbered("locust.html", k, of)).write_text(html, encoding="utf-8")
    pipe.say({"done": {
        "digest": digest, "rows": writer.rows, "sent": engine.counts.sent,
        "backlog": engine.counts.backlog, "failed": engine.counts.failed, "tokens": engine.counts.tokens, "client": verdict,
        "t": round((time.monotonic_ns() - engine.t0) / 1e9, 6),
    }})  # fmt: skip
    if remote:
        pipe.until("bye")  # a pod that ends takes with it what was not yet read
    runner.quit()
    return 0


def _key() -> dict[str, str]:
    """The key that requests carry, where a pod has it from a Secret."""
    token = os.environ.get(TOKEN, "")
    return {"Authorization": f"Bearer {token}"} if token else {}


class Carrier(User):
    """Carries the whole plan: locust's own users are a closed loop, and hide a stall (facts: load 0.1)."""

    wait_time = constant(0)
    engine: Engine
    pipe: Lines
    t0 = 0
    begun = gevent.event.Event()  # a worker's User may be there before the word is
    ended = False

    @task
    def carry(self) -> None:
        self.begun.wait()
        _spin(self.engine, self._listen, self.t0)
        Carrier.ended = True
        raise StopUser

    def _listen(self) -> None:
        for line in self.pipe.heard() if self.engine.asked or self.pipe.waiting else ():
            if "go" in line:
                self.engine.go(line["go"])
            if "stop" in line:
                self.engine.stop(line["stop"])
        self.pipe.push()


def _spin(engine: Engine, between: Callable[[], None], t0: int = 0) -> None:
    hub = get_hub()
    ready, timer = hub.loop.io(engine.epoll.fileno(), 1), hub.loop.io(engine.timer.fd, 1)
    engine.begin(t0)
    while engine.turn():
        between()
        hub.wait(timer if engine.paced else ready)


def _calibrated(plan: Plan, echo: "Echo", of: int) -> dict[str, Any]:
    """What this process can carry beside what the plan needs, in about 2 s; the process's own CPU time is what counts."""
    began, own = time.monotonic(), time.process_time()
    while (spent := time.monotonic() - began) < ASKS_ALL:
        pass
    share = min((time.process_time() - own) / spent, 1.0)
    requests, cpu, _ = _cost(echo, "closed 16", REQUESTS, 1)
    per_request = cpu / max(requests, 1)
    streams, cpu, tokens = _cost(echo, f"closed {STREAMS}", STREAMS, TOKENS)
    capacity = Capacity(1e6 * per_request, 1e6 * max(cpu - streams * per_request, 0.0) / max(tokens, 1), share)
    return capacity.told(capacity.needed(plan, of))


def _cost(echo: "Echo", arrivals: str, requests: int, tokens: int) -> tuple[int, float, int]:
    """(requests, CPU seconds, tokens) of a load against the echo server."""
    with tempfile.TemporaryDirectory() as scratch:
        plan = draw(Path(scratch) / "plan.jsonl", arrivals, [Prompt("p", "Say hello.")], [requests], max_tokens=tokens)
        target = Target(f"http://127.0.0.1:{echo.port}", "chat", "calibration", slots=requests)
        engine = Engine(plan, target, {}, Writer(Path(os.devnull)), lambda _: None, lambda *_: None)
        until, own = time.monotonic() + CALIBRATION, time.process_time()
        _spin(engine, lambda: engine.stop(0) if time.monotonic() > until else None)
        engine.epoll.close()
        return engine.counts.done, time.process_time() - own, engine.counts.tokens


class Echo:
    """The server of the calibration; it is started before this process takes its CPU, and ends with the input it has."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "hotfire.load.echo"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self._process.stdout is None:
            raise OSError("no output of the calibration's server")
        self.port = int(self._process.stdout.readline())

    def end(self) -> None:
        """Gone when this returns."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()


def _beat(engine: Engine, pipe: Lines) -> None:
    while True:
        if pipe.lost:
            os._exit(ORPHANED)
        before = time.monotonic()
        gevent.sleep(BEAT)
        engine.check.loop.add(1e6 * (time.monotonic() - before - BEAT))
