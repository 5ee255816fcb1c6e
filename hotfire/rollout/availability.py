"""Is anybody served while the way back is gone? Questions go on, one every EVERY_S whatever became of the ones before, from
before the first write until the end is proven; beside them the Service's ready endpoints are counted.

The way back has no objective of its own: how many went unanswered and for how long is recorded, not judged.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from types import TracebackType
from typing import Self

from hotfire.errors import HotfireError
from hotfire.kube.client import Cluster
from hotfire.record.events import Served
from hotfire.rollout.population import endpoints

EVERY_S, OPEN, LAST_S = 0.5, 20, 2.0  # seconds between questions / most of them at once / to wait for the last ones


class Availability:
    """ask: raises when it is not answered. Its threads write nothing and end by themselves."""

    def __init__(self, ask: Callable[[], object], cluster: Cluster, namespace: str, services: Sequence[str]) -> None:
        self._ask, self._cluster, self._namespace, self._services = ask, cluster, namespace, services
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._asking: list[threading.Thread] = []
        self._asked = 0
        self._answers: list[float] = []
        self._ready: dict[str, int] = {}
        self._pace = threading.Thread(target=self._go, name="availability", daemon=True)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._pace.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()

    def served(self) -> Served:
        """What was seen until now; nothing is asked any more. What is open LAST_S later counts as failed."""
        self._stop.set()
        self._ended = time.monotonic()
        deadline = self._ended + LAST_S
        for thread in (self._pace, *self._asking):
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            moments = [self._began, *sorted(self._answers), self._ended]
            longest = max(after - before for before, after in pairwise(moments))
            failed = self._asked - len(self._answers)
            return Served(asked=self._asked, failed=failed, longest_s=round(longest, 3), ready=dict(self._ready))

    def _go(self) -> None:
        while not self._stop.is_set():
            self._asking = [one for one in self._asking if one.is_alive()]
            if len(self._asking) < OPEN:
                self._asking.append(threading.Thread(target=self._one, name="asks", daemon=True))
                self._asking[-1].start()
            self._stop.wait(EVERY_S)

    def _one(self) -> None:
        with self._lock:
            self._asked += 1
        with suppress(HotfireError):  # an API server that is away is no Service that is
            self._count()
        with suppress(HotfireError):
            self._ask()
            with self._lock:
                self._answers.append(time.monotonic())

    def _count(self) -> None:
        for service in self._services:
            found = endpoints(self._cluster, self._namespace, service)
            ready = sum((one.get("conditions") or {}).get("ready") is not False for one in found)
            with self._lock:
                self._ready[service] = min(ready, self._ready.get(service, ready))
