"""The process that carries the load: one locust User, in whose greenlet the engine turns.

Protocol, JSON lines. In: first {"headers": {...}}, the only place where a secret travels, then {"go": LOOK} or
{"stop": DRAIN_S}. Out: {"started": MONOTONIC_NS}, {"tick": S, ...} once a second, {"look": K, "client": {...}} and
{"done": {...}}, or {"crash": TEXT}. End of the input, or the parent's death, ends the process at once; SIGTERM cancels
what is open and says so.
"""

import json
import os
import signal
import time
from collections import deque
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
from gevent.hub import get_hub  # type: ignore[import-untyped]
from locust import User, constant, task
from locust.env import Environment
from locust.exception import StopUser
from locust.html import get_html_report

from hotfire.load.engine import Engine
from hotfire.load.plan import Plan
from hotfire.load.polling import EPOLLIN
from hotfire.load.samples import Writer
from hotfire.load.selfcheck import BEAT
from hotfire.load.target import Target

ORPHANED, CRASHED = 70, 71  # exit codes


class Pipe:
    """Lines to and from the parent; never blocks, a tick that finds no room is replaced by the next."""

    def __init__(self) -> None:
        os.set_blocking(0, False)
        os.set_blocking(1, False)
        self._in, self._out = b"", b""
        self._lines: deque[dict[str, Any]] = deque()

    def say(self, message: dict[str, Any]) -> None:
        if self._out and "tick" in message:
            return
        self._out += json.dumps(message, separators=(",", ":")).encode() + b"\n"
        self.push()

    def push(self) -> None:
        try:
            while self._out:
                self._out = self._out[os.write(1, self._out) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            os._exit(ORPHANED)

    def heard(self) -> list[dict[str, Any]]:
        """Whole lines that have come. The parent's end closes the pipe, and this process."""
        try:
            while True:
                data = os.read(0, 65536)
                if not data:
                    os._exit(ORPHANED)
                self._in += data
        except BlockingIOError:
            *lines, self._in = self._in.split(b"\n")
        return [json.loads(line) for line in lines if line.strip()]


def carry(plan: Plan, target: Target, out: Path, cpu: int | None) -> int:
    """Run the plan; writes samples.jsonl.gz and locust.html to `out`. Returns the exit code."""
    pipe, crashes = Pipe(), list[str]()
    headers = _first(pipe)["headers"]
    environment = Environment(user_classes=[Carrier], host=target.url, events=None)
    runner = environment.create_local_runner()
    writer = Writer(out / "samples.jsonl.gz")

    def on_end(micros: int, error: str, tokens: int) -> None:
        environment.events.request.fire(  # type: ignore[no-untyped-call]
            request_type=target.api, name=target.path, response_time=micros / 1e3, response_length=tokens,
            exception=RuntimeError(error) if error else None, context={},
        )  # fmt: skip

    engine = Engine(plan, target, headers, writer, pipe.say, on_end, cpu)
    engine.epoll.register(0, EPOLLIN)
    Carrier.engine, Carrier.pipe = engine, pipe
    signal.signal(signal.SIGTERM, lambda *_: engine.stop(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, not the terminal
    crashed = lambda user_instance, exception, tb: crashes.append(repr(exception))  # noqa: E731
    environment.events.user_error.add_listener(crashed)  # type: ignore[no-untyped-call]
    heart = gevent.spawn(_beat, engine)
    runner.start(1, spawn_rate=1)
    while not Carrier.ended and not crashes:
        gevent.sleep(BEAT)
    heart.kill()
    if crashes:
        pipe.say({"crash": crashes[0]})
        return CRASHED
    digest, verdict = writer.close(), engine.check.verdict()
    html = get_html_report(environment, show_download_link=False)  # type: ignore[no-untyped-call]
    (out / "locust.html").write_text(html, encoding="utf-8")
    pipe.say({"done": {
        "samples": "samples.jsonl.gz", "digest": digest, "rows": writer.rows, "sent": engine.counts.sent,
        "backlog": engine.counts.backlog, "failed": engine.counts.failed, "tokens": engine.counts.tokens, "client": verdict,
        "t": round((time.monotonic_ns() - engine.t0) / 1e9, 6),
    }})  # fmt: skip
    runner.quit()
    return 0


class Carrier(User):
    """Carries the whole plan: locust's own users are a closed loop, and hide a stall (facts: load 0.1)."""

    wait_time = constant(0)
    engine: Engine
    pipe: Pipe
    ended = False

    @task
    def carry(self) -> None:
        engine, hub = self.engine, get_hub()
        ready, timer = hub.loop.io(engine.epoll.fileno(), 1), hub.loop.io(engine.timer.fd, 1)
        engine.begin()
        while engine.turn():
            for line in self.pipe.heard() if engine.asked else ():
                if "go" in line:
                    engine.go(line["go"])
                if "stop" in line:
                    engine.stop(line["stop"])
            self.pipe.push()
            hub.wait(timer if engine.paced else ready)
        Carrier.ended = True
        raise StopUser


def _first(pipe: Pipe) -> dict[str, Any]:
    while not (lines := pipe.heard()):
        gevent.sleep(BEAT)
    return lines[0]


def _beat(engine: Engine) -> None:
    while True:
        before = time.monotonic()
        gevent.sleep(BEAT)
        engine.check.loop.add(1e6 * (time.monotonic() - before - BEAT))
