"""The carrier's side of the protocol (hotfire.load.carrier): lines from the parent and to it, without ever blocking."""

import base64
import json
import os
import zlib
from collections import deque
from pathlib import Path
from typing import Any

import gevent  # type: ignore[import-untyped]
from locust.env import Environment

from hotfire.errors import HarnessError
from hotfire.load.selfcheck import BEAT
from hotfire.load.target import CA

ORPHANED = 70  # exit code
Message = dict[str, Any]


class Lines:
    """What a carrier needs. fd: to be watched for what comes, -1 where a greenlet brings it; environment: of a locust worker,
    whose User another starts."""

    fd = -1
    environment: Environment | None = None

    def __init__(self) -> None:
        self._lines: deque[Message] = deque()

    def say(self, message: Message) -> None:
        raise NotImplementedError

    def push(self) -> None:
        """Send what found no room yet."""

    def _take(self) -> None:
        """Take in what has come."""

    @property
    def lost(self) -> bool:
        """Whether nobody leads any more."""
        return False

    @property
    def waiting(self) -> bool:
        """Lines that are still to be heard."""
        return bool(self._lines)

    def heard(self) -> list[Message]:
        """Whole lines that have come."""
        self._take()
        found, self._lines = list(self._lines), deque()
        return found

    def next(self, *keys: str) -> Message:
        """Wait for the next line, which has one of these keys; what comes with it stays to be heard."""
        while not (found := self.heard()):
            self._pause()
        self._lines.extend(found[1:])
        if not any(key in found[0] for key in keys):
            raise HarnessError(f"{' or '.join(keys)} was expected, not {list(found[0])}")
        return found[0]

    def until(self, key: str) -> None:
        """Wait for a line with this key, whatever comes before it."""
        while not any(key in line for line in self.heard()):
            self._pause()

    def _pause(self) -> None:
        self.push()
        if self.lost:
            os._exit(ORPHANED)
        gevent.sleep(BEAT)

    def received(self, into: Path) -> tuple[Path, str]:
        """The plan that comes first, and certificates with it: its file in `into`, its digest."""
        first, file = self.next("plan"), into / "plan.jsonl"
        into.mkdir(parents=True, exist_ok=True)
        file.write_bytes(zlib.decompress(base64.b64decode(first["plan"])))
        (into / CA).write_text(first["ca"], encoding="ascii")
        return file, first["digest"]


class Pipe(Lines):
    """By standard input and output; a tick that finds no room is replaced by the next."""

    fd = 0

    def __init__(self) -> None:
        super().__init__()
        os.set_blocking(0, False)
        os.set_blocking(1, False)
        self._in, self._out = b"", b""

    def say(self, message: Message) -> None:
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

    def _take(self) -> None:
        """The parent's end closes the pipe, and this process."""
        try:
            while True:
                data = os.read(0, 65536)
                if not data:
                    os._exit(ORPHANED)
                self._in += data
        except BlockingIOError:
            *lines, self._in = self._in.split(b"\n")
        self._lines += [json.loads(line) for line in lines if line.strip()]
