"""Several pods that share a plan, on locust's own distributed mode: a master that relays lines, workers that carry.

The master measures nothing. It gives each worker its slice, says which of them said what (`from`), lets locust spawn the one
User of each, and says so when one goes missing. Workers end when their master does.
"""

import time
from typing import Any

import gevent  # type: ignore[import-untyped]
from locust.env import Environment
from locust.runners import STATE_MISSING

from hotfire.load.carrier import CRASHED, Carrier
from hotfire.load.lines import Lines, Message
from hotfire.load.selfcheck import BEAT

SILENT_S = 5.0  # without a sign of its master a worker ends
FLUSH_S = 0.5


class Relay(Lines):
    """A worker's lines, by its master."""

    def __init__(self, master: str, port: int, url: str) -> None:
        super().__init__()
        self.environment = Environment(user_classes=[Carrier], host=url, events=None)
        self._runner = self.environment.create_worker_runner(master, port)
        self._runner.register_message("told", self._told)
        self.say({"here": True})

    def _told(self, environment: Environment, msg: Any) -> None:
        self._lines.append(msg.data)

    def say(self, message: Message) -> None:
        self._runner.send_message("said", message)

    @property
    def lost(self) -> bool:
        last = self._runner.last_heartbeat_timestamp
        return last is not None and time.time() - last > SILENT_S


def lead(parent: Lines, port: int, workers: int) -> int:
    """Until the parent says `bye`, or a worker is lost. Returns the exit code."""
    environment = Environment(user_classes=[Carrier], events=None)
    runner = environment.create_master_runner("*", port)
    crew: list[str] = []

    def said(environment: Environment, msg: Any) -> None:
        if "here" in msg.data:
            crew.append(msg.node_id)
        else:
            parent.say({**msg.data, "from": crew.index(msg.node_id)})

    runner.register_message("said", said)
    early: list[Message] = []
    while True:
        early += parent.heard()
        lines, early = (early, []) if len(crew) == workers else ([], early)
        for line in lines:
            for k, worker in enumerate(crew):
                runner.send_message("told", {**line, "slice": [k, workers]} if "headers" in line else line, worker)
            if "begin" in line:
                gevent.spawn(runner.start, workers, workers)
            if "bye" in line:
                gevent.sleep(FLUSH_S)
                return 0
        for k, worker in enumerate(crew):
            node = runner.clients.get(worker)
            if node is None or node.state == STATE_MISSING:
                parent.say({"crash": "its pod's silence", "from": k})
                parent.until("bye")
                return CRASHED
        parent.push()
        gevent.sleep(BEAT)
