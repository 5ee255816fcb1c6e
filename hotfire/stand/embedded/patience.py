"""The stand's one bounded wait."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from hotfire.errors import HarnessError

T = TypeVar("T")


def until(what: str, probe: Callable[[], T | None], within: float, every: float = 0.05) -> T:
    """The first truthy answer of `probe`, asked each `every` seconds; HarnessError naming `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise HarnessError(f"{what}: not within {within:g} s")
        threading.Event().wait(every)
    return found
