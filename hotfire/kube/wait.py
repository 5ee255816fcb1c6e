"""The one sleeper, the stop flag, and the wait by watch.

A watch runs in a daemon thread and feeds a queue on which the main thread waits 200 ms at a time, so that a signal is
seen within 250 ms whatever a socket does. The flag is a plain word, not an Event: a signal handler that sets an Event
while its own thread holds the Event's lock would wait for itself.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hotfire.errors import Interrupted

SLICE = 0.2  # seconds between two looks at the flag


class _Flag:
    up = False
    shields = 0


def interrupt() -> None:
    """Ask the run to stop; safe in a signal handler."""
    _Flag.up = True


def interrupted() -> bool:
    """Whether somebody asked, shielded or not."""
    return _Flag.up


def forget_interrupt() -> None:
    """Lower the flag: a new run in the same process."""
    _Flag.up = False


def check_interrupt() -> None:
    """Raise Interrupted in the main thread, where a run decides; other threads go on until they are told."""
    if _Flag.up and not _Flag.shields and threading.current_thread() is threading.main_thread():
        raise Interrupted("a signal asked the run to stop")


@contextmanager
def shielded() -> Iterator[None]:
    """For the way back: in this block the flag stays up, but nothing raises Interrupted."""
    _Flag.shields += 1
    try:
        yield
    finally:
        _Flag.shields -= 1


def pause(seconds: float) -> None:
    """Sleep; raises Interrupted within 250 ms of the flag (main thread, unshielded)."""
    deadline = time.monotonic() + seconds
    while True:
        check_interrupt()
        left = deadline - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(SLICE, left))
